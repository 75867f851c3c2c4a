//! `firstlight slot`: which of the two slots runs, which is committed, and trying the other.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Error, print_line};
use crate::device::slot::{
    self, Access, Content, Disk, Firmware, Mechanism, Reverted, Running, SlotName, find_disk, running_slot,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    target: Target,
    /// One JSON object instead of words
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::Subcommand)]
enum Action {
    /// Show what lies in each slot, which runs, which is committed and how the last trial ended
    Status,
    /// Arm the slot that is not committed: the next reboot starts it, once
    Try,
    /// Make the running trial the slot that is started from now on
    Commit,
    /// Forget an armed trial, or prepare the reboot from a running one into the committed slot
    Revert,
}

/// The disk that a command is about; shared with `update`.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// Disk image or block device [default: this device's own disk, found by its label]
    #[arg(long, global = true, value_name = "PATH")]
    disk: Option<PathBuf>,
    /// On a Raspberry Pi: autoboot.txt on the mounted first partition of the disk
    #[arg(long, global = true, value_name = "FILE")]
    autoboot: Option<PathBuf>,
}

/// An opened disk and who starts its slots.
#[derive(Debug)]
pub(super) struct Opened {
    pub disk: Disk,
    pub running: Running,
    autoboot: Option<PathBuf>,
}

impl Target {
    /// Opens the disk. Of an image, and of the disk of another device, the slot that would run is the committed one.
    pub(super) fn open(&self, access: Access) -> Result<Opened, Error> {
        let root = Path::new("/");
        let here = running_slot(root);
        let (disk, running) = match &self.disk {
            Some(path) => {
                let disk = Disk::open(path, access)?;
                let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
                let slot = disk.state()?.committed;
                let image = Running { slot, trial: false, mechanism: Mechanism::UBoot };
                (disk, here.filter(|_| !is_file).unwrap_or(image))
            }
            None => {
                let path = find_disk(root, &[])?;
                let told =
                    "neither firstlight.slot= on the kernel command line nor the device tree says which slot runs";
                let running = here.ok_or_else(|| Error::Failed(format!("{}: {told}", path.display())))?;
                (Disk::open(&path, access)?, running)
            }
        };
        Ok(Opened { disk, running, autoboot: self.autoboot.clone() })
    }
}

impl Opened {
    pub(super) fn firmware(&self) -> Firmware<'_> {
        Firmware { mechanism: self.running.mechanism, autoboot: self.autoboot.as_deref() }
    }

    /// Arms a slot; what the reboot must carry.
    pub(super) fn try_slot(&self, slot: SlotName) -> Result<Option<&'static str>, Error> {
        Ok(slot::try_slot(&self.disk, slot, &self.firmware())?.as_str())
    }
}

pub fn run(args: &Args) -> Result<(), Error> {
    let Args { action, target, json } = args;
    let access = if matches!(action, Action::Status) { Access::Read } else { Access::Change };
    let opened = target.open(access)?;
    let Opened { disk, running, .. } = &opened;
    match action {
        Action::Status => status(&opened, *json),
        Action::Try => {
            let slot = disk.state()?.committed.other();
            let argument = opened.try_slot(slot)?;
            say(*json, &json!({"armed": slot, "reboot_argument": argument}), &armed(slot, argument))
        }
        Action::Commit => {
            let slot = running.slot;
            slot::commit(disk, slot, &opened.firmware())?;
            say(*json, &json!({"committed": slot}), &format!("slot {slot} is committed"))
        }
        Action::Revert => {
            let (done, words) = match slot::revert(disk, running.slot, &opened.firmware())? {
                Reverted::Nothing => ("nothing", "no trial was armed".into()),
                Reverted::Disarmed(_) => ("disarmed", "the armed trial is forgotten".into()),
                Reverted::Reboot(state) => ("reboot", format!("reboot to return to slot {}", state.committed)),
            };
            say(*json, &json!({"reverted": done}), &words)
        }
    }
}

/// What to do next, for a person.
pub(super) fn armed(slot: SlotName, argument: Option<&str>) -> String {
    let how = argument.map_or_else(String::new, |argument| format!(", with the argument \"{argument}\""));
    format!("slot {slot} is armed: reboot{how} to try it")
}

/// One machine line, or words for a person.
fn say(json: bool, line: &Value, words: &str) -> Result<(), Error> {
    if json {
        return print_line(&line.to_string());
    }
    eprintln!("{words}");
    Ok(())
}

fn status(opened: &Opened, json: bool) -> Result<(), Error> {
    let state = opened.disk.state()?;
    let running = opened.running;
    let on_trial = state.trial == Some(running.slot) && running.slot != state.committed;
    if json {
        let content = |content: &Content| match content {
            Content::Empty => json!({"state": "empty", "version": null}),
            Content::Writing => json!({"state": "writing", "version": null}),
            Content::Ready(version) => json!({"state": "ready", "version": version}),
        };
        let document = json!({
            "disk": opened.disk.path(), "running": running.slot, "on_trial": on_trial, "committed": state.committed,
            "trial": state.trial, "tried": state.tried, "why": state.why,
            "slots": {"A": content(&state.a), "B": content(&state.b)},
        });
        return print_line(&document.to_string());
    }
    for slot in [SlotName::A, SlotName::B] {
        let is = |yes: bool, word: &'static str| yes.then_some(word);
        let marks = [
            is(slot == state.committed, "committed"),
            is(slot == running.slot, "running"),
            is(state.trial == Some(slot) && on_trial, "on trial"),
            is(state.trial == Some(slot) && !on_trial, "armed"),
        ];
        let marks: Vec<&str> = marks.into_iter().flatten().collect();
        print_line(format!("{slot}  {}  {}", state.content(slot), marks.join(", ")).trim_end())?;
    }
    if !state.why.is_empty() {
        print_line(&format!("last trial: {}", state.why))?;
    }
    Ok(())
}
