//! Two slots, A and B: one is committed, the other takes updates and is tried once before it is trusted.
//!
//! The state is in the [`environment`] block of the [`disk`], which the boot loader reads too:
//!
//! | before | what happens | after |
//! |---|---|---|
//! | idle slot of any content | an update begins | idle slot `writing`, no trial |
//! | `writing` | the update is complete, read back and compared | `ready:VERSION` |
//! | `writing` | anything else: an error, a power cut | `writing`; `try` refuses it |
//! | `ready:`, not committed | `try` | `trial=` that slot, `tried=0`, `why=` |
//! | trial armed, `tried=0` | U-Boot sets `tried=1` and starts it; a Pi is rebooted with `0 tryboot` | the trial boots |
//! | the trial boots | [`SlotState::at_boot`]: [`BootVerdict::OnTrial`] | `tried=1`, if the loader has not set it |
//! | on trial | health is good: `commit` | `slot=` the trial, `trial=`, `tried=0`, `why=` |
//! | on trial | health is bad, or `revert`: `why` is noted, reboot | `why=…`; the loader starts `slot` |
//! | on trial | a crash, a hang, a power cut | unchanged; the loader starts `slot`, as `tried=1` |
//! | committed boots, `tried=1` | [`BootVerdict::TrialFailed`] | `trial=`, `tried=0`, `why` kept |
//! | committed boots, armed, `tried=0` | [`BootVerdict::TrialNeverStarted`] | `trial=`, `tried=0`, `why` kept |
//! | committed runs, armed | `revert` | `trial=`, `tried=0` |
//! | the other boots, not armed | [`BootVerdict::Unexpected`] | unchanged; nothing is committed and no slot is idle |
//!
//! The committed slot is never written. A firmware with a choice of its own (a Pi's `autoboot.txt`) is changed first and
//! the block after it: a power cut between the two starts a slot that the block still has on trial, which is judged once
//! more, instead of one that the block does not know.
//!
//! May not know: what health is, and who reboots.

pub mod disk;
pub mod environment;
mod mbr;
mod running;
mod state;
#[cfg(test)]
pub(in crate::device) mod testing;
pub mod tryboot;

use std::path::{Path, PathBuf};

pub use disk::{Access, Disk, find_disk};
pub use mbr::{LABEL_ID, Region};
pub use running::{Running, running_slot};
pub use state::{BootVerdict, Content, Refusal, Reverted, SlotName, SlotState, is_version};

/// What can go wrong with slots.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: cannot be {doing}: {cause}", path = .path.display())]
    Io { path: PathBuf, doing: &'static str, cause: std::io::Error },
    #[error("{path}: somebody else is changing it, an update perhaps; try again when that is done", path = .path.display())]
    Busy { path: PathBuf },
    #[error("{path}: not a disk of ours: {why}", path = .path.display())]
    NotOurs { path: PathBuf, why: String },
    #[error(
        "no disk with MBR label-id {LABEL_ID:#010x} among {root}sys/block: {seen}; `--disk` names an image or a device",
        root = .root.display()
    )]
    NoDisk { root: PathBuf, seen: String },
    #[error(transparent)]
    TooLong(#[from] environment::TooLong),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("this board starts its slots by `{mechanism}`; use that system's own tool")]
    NotByUs { mechanism: &'static str },
    #[error("a Pi's firmware has its own choice of slot: mount the first partition and name its autoboot.txt")]
    NoAutoboot,
}

/// Who decides which slot is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub enum Mechanism {
    /// A boot script that reads the environment block.
    #[serde(rename = "u-boot")]
    UBoot,
    /// A Raspberry Pi's firmware, by `autoboot.txt`.
    #[serde(rename = "tryboot")]
    Tryboot,
    /// A system that we are a guest of: L4T's `nvbootctrl`, RAUC.
    #[serde(rename = "external")]
    External,
    /// One system, no slots.
    #[serde(rename = "none")]
    None,
}

/// The mechanism, and the file that it needs.
#[derive(Clone, Copy, Debug)]
pub struct Firmware<'a> {
    pub mechanism: Mechanism,
    /// `autoboot.txt` on the mounted first partition; only [`Mechanism::Tryboot`] has one.
    pub autoboot: Option<&'a Path>,
}

/// What the reboot into a trial must carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebootArgument {
    Plain,
    /// As the argument of `reboot(2)` with `LINUX_REBOOT_CMD_RESTART2`.
    Tryboot,
}

impl RebootArgument {
    #[must_use]
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Tryboot => tryboot::REBOOT_ARGUMENT.to_str().ok(),
        }
    }
}

impl Firmware<'_> {
    /// What the reboot into a trial must carry.
    ///
    /// # Errors
    /// Slots are not ours on this board.
    pub fn reboot_argument(&self) -> Result<RebootArgument, Error> {
        match self.mechanism {
            Mechanism::UBoot => Ok(RebootArgument::Plain),
            Mechanism::Tryboot => Ok(RebootArgument::Tryboot),
            Mechanism::External => Err(Error::NotByUs { mechanism: "external" }),
            Mechanism::None => Err(Error::NotByUs { mechanism: "none" }),
        }
    }

    /// Makes the firmware's own choice that of the block.
    ///
    /// # Errors
    /// Slots are not ours on this board, or `autoboot.txt` is not named or cannot be written.
    pub fn follow(&self, committed: SlotName) -> Result<(), Error> {
        match (self.reboot_argument()?, self.autoboot) {
            (RebootArgument::Plain, _) => Ok(()),
            (RebootArgument::Tryboot, Some(path)) => tryboot::follow(path, committed),
            (RebootArgument::Tryboot, None) => Err(Error::NoAutoboot),
        }
    }
}

/// Arms a slot: the next reboot, with this argument, starts it once.
///
/// # Errors
/// The slot is refused (see [`SlotState::try_`]), or something cannot be written.
pub fn try_slot(disk: &Disk, slot: SlotName, firmware: &Firmware<'_>) -> Result<RebootArgument, Error> {
    let state = disk.state()?.try_(slot)?;
    firmware.follow(state.committed)?;
    disk.set_state(&state)?;
    firmware.reboot_argument()
}

/// Commits the running trial.
///
/// # Errors
/// The running slot is not on trial, or something cannot be written; ask again, it is safe.
pub fn commit(disk: &Disk, running: SlotName, firmware: &Firmware<'_>) -> Result<(), Error> {
    let state = disk.state()?.commit(running)?;
    firmware.follow(state.committed)?;
    disk.set_state(&state)
}

/// Forgets an armed trial, or prepares the reboot from a running one into the committed slot. The firmware follows in
/// either case, so that a commit which was cut short is undone as well.
///
/// # Errors
/// The running slot is neither committed nor on trial, or something cannot be written.
pub fn revert(disk: &Disk, running: SlotName, firmware: &Firmware<'_>) -> Result<Reverted, Error> {
    let reverted = disk.state()?.revert(running)?;
    if let Reverted::Disarmed(state) | Reverted::Reboot(state) = &reverted {
        disk.set_state(state)?;
        firmware.follow(state.committed)?;
    }
    Ok(reverted)
}

/// Notes why the running trial gives up; reboot after this.
///
/// # Errors
/// The running slot is not on trial, or something cannot be written.
pub fn fail_trial(disk: &Disk, running: SlotName, why: &str, firmware: &Firmware<'_>) -> Result<(), Error> {
    let state = disk.state()?.fail_trial(running, why)?;
    disk.set_state(&state)?;
    firmware.follow(state.committed)
}

#[cfg(test)]
mod tests {
    use super::SlotName::{A, B};
    use super::*;

    const U_BOOT: Firmware<'static> = Firmware { mechanism: Mechanism::UBoot, autoboot: None };

    fn disk() -> Disk {
        let disk = Disk::over(Box::new(testing::PowerCut::new(testing::disk_bytes())), Path::new("disk")).unwrap();
        let ready = |version: &str| Content::Ready(version.into());
        disk.set_state(&SlotState { a: ready("1"), b: ready("2"), ..SlotState::default() }).unwrap();
        disk
    }

    #[test]
    fn u_boot_needs_the_block_alone() {
        let disk = disk();
        assert_eq!(try_slot(&disk, B, &U_BOOT).unwrap().as_str(), None);
        assert_eq!(disk.state().unwrap().trial, Some(B));
        assert!(matches!(commit(&disk, A, &U_BOOT), Err(Error::Refused(Refusal::NotOnTrial { .. }))));
        commit(&disk, B, &U_BOOT).unwrap();
        let state = disk.state().unwrap();
        assert_eq!((state.committed, state.trial, state.b), (B, None, Content::Ready("2".into())));
    }

    #[test]
    fn a_pi_is_told_by_its_file_and_by_the_reboot() {
        let disk = disk();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("autoboot.txt");
        std::fs::write(&path, tryboot::autoboot(A)).unwrap();
        let pi = Firmware { mechanism: Mechanism::Tryboot, autoboot: Some(&path) };
        let file = || std::fs::read(&path).unwrap();
        assert_eq!(try_slot(&disk, B, &pi).unwrap().as_str(), Some("0 tryboot"));
        assert_eq!(file(), tryboot::autoboot(A), "armed, not committed");
        commit(&disk, B, &pi).unwrap();
        assert_eq!((disk.state().unwrap().committed, file()), (B, tryboot::autoboot(B).to_vec()));

        // A power cut after the file and before the block: the block still has the slot on trial.
        try_slot(&disk, A, &pi).unwrap();
        tryboot::follow(&path, A).unwrap();
        let (verdict, change) = disk.state().unwrap().at_boot(A, false);
        assert_eq!(verdict, BootVerdict::OnTrial { slot: A });
        disk.set_state(&change.unwrap()).unwrap();
        fail_trial(&disk, A, "no camera", &pi).unwrap();
        assert_eq!(file(), tryboot::autoboot(B), "back to the committed slot");
        assert!(matches!(disk.state().unwrap().at_boot(B, false).0, BootVerdict::TrialFailed { slot: A, .. }));
    }

    #[test]
    fn without_its_file_a_pi_is_not_half_committed() {
        let disk = disk();
        try_slot(&disk, B, &U_BOOT).unwrap();
        let pi = Firmware { mechanism: Mechanism::Tryboot, autoboot: None };
        assert!(matches!(commit(&disk, B, &pi), Err(Error::NoAutoboot)));
        assert_eq!(disk.state().unwrap().committed, A);
    }

    #[test]
    fn revert_disarms_or_asks_for_a_reboot() {
        let disk = disk();
        assert_eq!(revert(&disk, A, &U_BOOT).unwrap(), Reverted::Nothing);
        try_slot(&disk, B, &U_BOOT).unwrap();
        assert!(matches!(revert(&disk, A, &U_BOOT).unwrap(), Reverted::Disarmed(_)));
        assert_eq!(disk.state().unwrap().trial, None);
        try_slot(&disk, B, &U_BOOT).unwrap();
        assert!(matches!(revert(&disk, B, &U_BOOT).unwrap(), Reverted::Reboot(_)));
        assert_eq!(disk.state().unwrap().why, "reverted by hand");
    }

    #[test]
    fn where_slots_are_not_ours_nothing_is_written() {
        let disk = disk();
        let before = disk.state().unwrap();
        for mechanism in [Mechanism::External, Mechanism::None] {
            let firmware = Firmware { mechanism, autoboot: None };
            assert!(matches!(try_slot(&disk, B, &firmware), Err(Error::NotByUs { .. })));
        }
        assert_eq!(disk.state().unwrap(), before);
    }
}
