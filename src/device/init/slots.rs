//! What PID 1 does with the slots, each on a thread of its own: a card may take seconds, the watchdog may not wait.

use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use super::data::partition;
use super::events::{Event, Part, Reporter};
use super::mounts;
use super::power::End;
use crate::device::slot::{
    self, Access, Disk, Error, Firmware, Mechanism, RebootArgument, Running, SlotName, SlotState,
};

/// Where the first partition is mounted while the firmware's own choice is rewritten.
const SELECT: &str = "/run/select";
const AUTOBOOT: &str = "autoboot.txt";

/// The slot that runs, and the disk it was started from.
#[derive(Clone, Debug)]
pub struct Booted {
    pub disk: PathBuf,
    pub running: Running,
}

impl Booted {
    /// Learns what this boot is, and writes down what changes by it.
    pub fn judge(&self, reporter: &Reporter) {
        let judged = Disk::open(&self.disk, Access::Change).and_then(|disk| {
            let (verdict, change) = disk.state()?.at_boot(self.running.slot, self.running.trial);
            if let Some(change) = change {
                disk.set_state(&change)?;
            }
            Ok(verdict)
        });
        match judged {
            Ok(verdict) => reporter.send(Event::Booted(verdict)),
            Err(error) => reporter.problem(Part::Slots, Some(error.to_string())),
        }
    }

    /// Keeps the running trial.
    pub fn commit(&self, reporter: &Reporter) {
        let committed = Disk::open(&self.disk, Access::Change).and_then(|disk| {
            self.with_firmware(|firmware| slot::commit(&disk, self.running.slot, &firmware))?;
            Ok(disk.state()?.content(self.running.slot).to_string())
        });
        match committed {
            Ok(content) => reporter.send(Event::Committed(content)),
            Err(error) => reporter.problem(Part::Slots, Some(format!("the trial cannot be committed: {error}"))),
        }
    }

    /// Notes why the running trial gives up.
    ///
    /// # Errors
    /// The running slot is not on trial, or the note cannot be written; the next boot is the committed slot's anyway.
    pub fn fail(&self, why: &str) -> Result<(), Error> {
        let disk = Disk::open(&self.disk, Access::Change)?;
        self.with_firmware(|firmware| slot::fail_trial(&disk, self.running.slot, why, &firmware))
    }

    /// Arms the other slot for the next boot; how the machine must then be restarted.
    ///
    /// # Errors
    /// The other slot holds nothing that could be started.
    pub fn arm(&self) -> Result<End, Error> {
        let disk = Disk::open(&self.disk, Access::Change)?;
        let argument = self.with_firmware(|firmware| slot::try_slot(&disk, self.running.slot.other(), &firmware))?;
        Ok(match argument {
            RebootArgument::Plain => End::Restart,
            RebootArgument::Tryboot => End::RestartWith(slot::tryboot::REBOOT_ARGUMENT),
        })
    }

    /// The state of the slots, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match Disk::open(&self.disk, Access::Read).and_then(|disk| disk.state()) {
            Ok(state) => words(&state, self.running.slot),
            Err(error) => error.to_string(),
        }
    }

    /// A Pi's firmware reads a file of the first partition, which is mounted for as long as it is looked at.
    fn with_firmware<T>(&self, act: impl FnOnce(Firmware<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let mechanism = self.running.mechanism;
        if mechanism != Mechanism::Tryboot {
            return act(Firmware { mechanism, autoboot: None });
        }
        let first = partition(&self.disk, 1);
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_SYNCHRONOUS;
        mounts::mount_one(&first.to_string_lossy(), Path::new(SELECT), "vfat", flags, "").map_err(|error| {
            let cause = std::io::Error::other(error.to_string());
            Error::Io { path: first.clone(), doing: "mounted", cause }
        })?;
        let result = act(Firmware { mechanism, autoboot: Some(&Path::new(SELECT).join(AUTOBOOT)) });
        let _ = nix::mount::umount(SELECT);
        result
    }
}

fn words(state: &SlotState, running: SlotName) -> String {
    let trial = state.trial.map(|slot| format!(", {slot} armed for one boot")).unwrap_or_default();
    let why = if state.why.is_empty() { String::new() } else { format!("; last trial: {}", state.why) };
    format!("slot {running} runs, {} is committed{trial}; A {}, B {}{why}", state.committed, state.a, state.b)
}
