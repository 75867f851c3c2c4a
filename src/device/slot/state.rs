//! What is known of the two slots, and how it changes. Pure: the table is in the module's page, [`super`].
//!
//! May not know: where the state is kept.

use std::fmt;
use std::str::FromStr;

/// Longest `why`, bytes: with two versions at their longest, the block still has room for 100 bytes of others' keys.
pub const WHY_BYTES_MAX: usize = 160;
/// Longest version, bytes.
pub const VERSION_BYTES_MAX: usize = 64;

/// One of the two places that a system lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum SlotName {
    A,
    B,
}

impl SlotName {
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Number of the MBR partition with the kernel.
    #[must_use]
    pub fn boot_partition(self) -> u8 {
        match self {
            Self::A => 2,
            Self::B => 3,
        }
    }

    /// Number of the MBR partition with the root file system.
    #[must_use]
    pub fn root_partition(self) -> u8 {
        match self {
            Self::A => 5,
            Self::B => 6,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SlotName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "A" | "a" => Ok(Self::A),
            "B" | "b" => Ok(Self::B),
            _ => Err(format!("`{text}`: a slot is A or B")),
        }
    }
}

/// What lies in a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Content {
    #[default]
    Empty,
    /// An update began and did not end: the bytes are of nobody.
    Writing,
    /// A whole system of this version, read back and compared.
    Ready(String),
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty"),
            Self::Writing => f.write_str("writing"),
            Self::Ready(version) => write!(f, "ready:{version}"),
        }
    }
}

/// Whether a text may be a version: 1 to 64 letters, digits and `.`, `_`, `+`, `~`, `-`.
#[must_use]
pub fn is_version(text: &str) -> bool {
    let fits = (1..=VERSION_BYTES_MAX).contains(&text.len());
    fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+~-".contains(&byte))
}

/// What the environment block says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// Started when nothing else is said.
    pub committed: SlotName,
    /// To be started once.
    pub trial: Option<SlotName>,
    /// The trial was started.
    pub tried: bool,
    /// What the last trial wrote before it gave up, or what was found of it; at most [`WHY_BYTES_MAX`] bytes.
    pub why: String,
    pub a: Content,
    pub b: Content,
}

impl Default for SlotState {
    fn default() -> Self {
        let (a, b) = (Content::Empty, Content::Empty);
        Self { committed: SlotName::A, trial: None, tried: false, why: String::new(), a, b }
    }
}

/// What the block says of this boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootVerdict {
    /// The committed slot runs and nothing is open.
    Committed,
    /// The trial runs: it must be committed, or fail and reboot.
    OnTrial { slot: SlotName },
    /// The trial was started and the committed slot runs again.
    TrialFailed { slot: SlotName, why: String },
    /// A trial was armed, but the committed slot was started: a reboot without the firmware's argument, a power cut
    /// before the reboot, or (on a Pi) a trial that ended before its init ran.
    TrialNeverStarted { slot: SlotName },
    /// The loader started a slot that the block names in no way. `once`: it says that the next boot is another.
    Unexpected { slot: SlotName, once: bool },
}

/// Why a step is not taken; the state is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("slot {slot} is {content}: only a slot that is `ready:` can be tried; install an update into it first")]
    NotReady { slot: SlotName, content: Content },
    #[error("slot {slot} is the committed one already; there is nothing to try")]
    IsCommitted { slot: SlotName },
    #[error("slot {running} runs, and it is not on trial (committed: {committed}); only a running trial is committed")]
    NotOnTrial { running: SlotName, committed: SlotName },
    #[error(
        "slot {running} runs, slot {committed} is committed: no slot is idle; commit or revert the trial, then update"
    )]
    NoIdleSlot { running: SlotName, committed: SlotName },
    #[error("slot {slot} is {content}; no update into it was begun")]
    NotBegun { slot: SlotName, content: Content },
}

/// What going back comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reverted {
    /// The committed slot runs and nothing was armed.
    Nothing,
    /// The armed trial is forgotten, once this is written.
    Disarmed(SlotState),
    /// The running trial goes back to the committed slot, once this is written and the device reboots.
    Reboot(SlotState),
}

impl SlotState {
    #[must_use]
    pub fn content(&self, slot: SlotName) -> &Content {
        match slot {
            SlotName::A => &self.a,
            SlotName::B => &self.b,
        }
    }

    fn with_content(mut self, slot: SlotName, content: Content) -> Self {
        match slot {
            SlotName::A => self.a = content,
            SlotName::B => self.b = content,
        }
        self
    }

    fn without_trial(&self) -> Self {
        Self { trial: None, tried: false, ..self.clone() }
    }

    /// What this boot is, from the slot that was started and whether the loader calls it a trial; and the state to
    /// write now, if it changes. Asked once a boot.
    ///
    /// The loader's flag does not make a trial of a slot that the block does not name: only [`Self::try_`] arms one.
    /// Nor does its absence end one: a commit that a power cut interrupted may have changed the firmware's default
    /// already, and judging a good slot twice costs nothing.
    #[must_use]
    pub fn at_boot(&self, booted: SlotName, trial_flag: bool) -> (BootVerdict, Option<Self>) {
        match self.trial {
            Some(slot) if slot == booted && booted != self.committed => {
                let change = (!self.tried).then(|| Self { tried: true, ..self.clone() });
                (BootVerdict::OnTrial { slot }, change)
            }
            _ if booted != self.committed => (BootVerdict::Unexpected { slot: booted, once: trial_flag }, None),
            Some(slot) if slot == self.committed => (BootVerdict::Committed, Some(self.without_trial())),
            Some(slot) if self.tried => {
                let why = self.why_or("it ended without a word: a crash, a hang or a power cut");
                let change = Self { why: why.clone(), ..self.without_trial() };
                (BootVerdict::TrialFailed { slot, why }, Some(change))
            }
            Some(slot) => {
                let why = self.why_or("the trial was not started, or ended before its init ran");
                (BootVerdict::TrialNeverStarted { slot }, Some(Self { why, ..self.without_trial() }))
            }
            None => (BootVerdict::Committed, None),
        }
    }

    fn why_or(&self, found: &str) -> String {
        if self.why.is_empty() { found.into() } else { self.why.clone() }
    }

    /// Arms a slot for one boot.
    ///
    /// # Errors
    /// The slot is the committed one, or not `ready:`.
    pub fn try_(&self, slot: SlotName) -> Result<Self, Refusal> {
        if slot == self.committed {
            return Err(Refusal::IsCommitted { slot });
        }
        match self.content(slot) {
            Content::Ready(_) => Ok(Self { trial: Some(slot), tried: false, why: String::new(), ..self.clone() }),
            content => Err(Refusal::NotReady { slot, content: content.clone() }),
        }
    }

    /// Makes the running trial the slot that is started from now on.
    ///
    /// # Errors
    /// The running slot is not on trial.
    pub fn commit(&self, running: SlotName) -> Result<Self, Refusal> {
        self.must_be_on_trial(running)?;
        Ok(Self { committed: running, why: String::new(), ..self.without_trial() })
    }

    /// Goes back to the committed slot, or forgets that another was armed.
    ///
    /// # Errors
    /// The running slot is neither committed nor on trial.
    pub fn revert(&self, running: SlotName) -> Result<Reverted, Refusal> {
        match self.trial {
            None if running == self.committed => Ok(Reverted::Nothing),
            Some(_) if running == self.committed => Ok(Reverted::Disarmed(self.without_trial())),
            _ => self.fail_trial(running, "reverted by hand").map(Reverted::Reboot),
        }
    }

    /// Notes why the running trial gives up; the next boot is of the committed slot, which reads it.
    ///
    /// # Errors
    /// The running slot is not on trial.
    pub fn fail_trial(&self, running: SlotName, why: &str) -> Result<Self, Refusal> {
        self.must_be_on_trial(running)?;
        // `tried` was set when the trial began; without it the loader would start the trial again.
        Ok(Self { tried: true, why: bounded(why), ..self.clone() })
    }

    fn must_be_on_trial(&self, running: SlotName) -> Result<(), Refusal> {
        if self.trial == Some(running) && running != self.committed {
            return Ok(());
        }
        Err(Refusal::NotOnTrial { running, committed: self.committed })
    }

    /// The slot that an update may write: neither running nor committed.
    ///
    /// # Errors
    /// The running slot is not the committed one.
    pub fn idle(&self, running: SlotName) -> Result<SlotName, Refusal> {
        if running == self.committed {
            return Ok(running.other());
        }
        Err(Refusal::NoIdleSlot { running, committed: self.committed })
    }

    /// Before the first byte of an update: the slot's old system is forgotten, and with it a trial armed for it.
    ///
    /// # Errors
    /// The slot is the committed one.
    pub fn begin_update(&self, idle: SlotName) -> Result<Self, Refusal> {
        if idle == self.committed {
            return Err(Refusal::NoIdleSlot { running: idle, committed: idle });
        }
        Ok(self.without_trial().with_content(idle, Content::Writing))
    }

    /// After the last byte of an update is on the disk, read back and compared.
    ///
    /// # Errors
    /// No update into this slot was begun.
    pub fn finish_update(&self, idle: SlotName, version: &str) -> Result<Self, Refusal> {
        match self.content(idle) {
            Content::Writing => Ok(self.clone().with_content(idle, Content::Ready(version.into()))),
            content => Err(Refusal::NotBegun { slot: idle, content: content.clone() }),
        }
    }
}

/// The first [`WHY_BYTES_MAX`] bytes, on one line: a NUL would end the value, a newline would break a log.
fn bounded(why: &str) -> String {
    let mut text: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.truncate(text.floor_char_boundary(WHY_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::SlotName::{A, B};
    use super::*;

    /// A committed, B ready.
    fn updated() -> SlotState {
        SlotState { a: Content::Ready("1".into()), b: Content::Ready("2".into()), ..SlotState::default() }
    }

    #[test]
    fn a_good_update_is_written_tried_and_committed() {
        let old = SlotState { a: Content::Ready("1".into()), ..SlotState::default() };
        let writing = old.begin_update(old.idle(A).unwrap()).unwrap();
        assert_eq!((writing.committed, &writing.b), (A, &Content::Writing));
        assert_eq!(writing.try_(B), Err(Refusal::NotReady { slot: B, content: Content::Writing }));
        let ready = writing.finish_update(B, "2").unwrap();
        assert_eq!(ready, updated());
        let armed = ready.try_(B).unwrap();
        assert_eq!((armed.trial, armed.tried, armed.committed), (Some(B), false, A));
        // A Pi's firmware does not set `tried`; U-Boot has.
        let (verdict, change) = armed.at_boot(B, true);
        assert_eq!(verdict, BootVerdict::OnTrial { slot: B });
        let trying = change.unwrap();
        assert!(trying.tried);
        assert_eq!(trying.at_boot(B, true), (BootVerdict::OnTrial { slot: B }, None));
        let committed = trying.commit(B).unwrap();
        assert_eq!((committed.committed, committed.trial, committed.tried), (B, None, false));
        assert_eq!(committed.at_boot(B, false), (BootVerdict::Committed, None));
        assert_eq!(committed.idle(B), Ok(A));
    }

    #[test]
    fn a_trial_that_gives_up_says_why_in_the_slot_that_runs_next() {
        let trying = updated().try_(B).unwrap().at_boot(B, true).1.unwrap();
        let failed = trying.fail_trial(B, "no frame\nin 30 s\0").unwrap();
        let (verdict, change) = failed.at_boot(A, false);
        assert_eq!(verdict, BootVerdict::TrialFailed { slot: B, why: "no frame in 30 s ".into() });
        let after = change.unwrap();
        assert_eq!((after.trial, after.tried, after.why.as_str()), (None, false, "no frame in 30 s "));
        assert_eq!(after.at_boot(A, false), (BootVerdict::Committed, None));
        // It can be tried again, with a clean sheet.
        assert_eq!(after.try_(B).unwrap().why, "");
    }

    #[test]
    fn a_trial_that_ends_without_a_word_has_failed_as_well() {
        let trying = SlotState { tried: true, ..updated().try_(B).unwrap() };
        let (verdict, change) = trying.at_boot(A, false);
        let BootVerdict::TrialFailed { slot: B, why } = verdict else { panic!("{verdict:?}") };
        assert!(why.contains("without a word"), "{why}");
        assert_eq!(change.unwrap().trial, None);
    }

    #[test]
    fn an_armed_trial_that_was_not_started_is_forgotten_once() {
        let (verdict, change) = updated().try_(B).unwrap().at_boot(A, false);
        assert_eq!(verdict, BootVerdict::TrialNeverStarted { slot: B });
        let after = change.unwrap();
        assert_eq!(after.trial, None);
        assert_eq!(after.at_boot(A, false), (BootVerdict::Committed, None));
    }

    #[test]
    fn a_slot_that_nobody_armed_is_no_trial_whatever_the_loader_says() {
        for once in [false, true] {
            assert_eq!(updated().at_boot(B, once), (BootVerdict::Unexpected { slot: B, once }, None));
        }
        assert_eq!(updated().commit(B), Err(Refusal::NotOnTrial { running: B, committed: A }));
        assert_eq!(updated().revert(B), Err(Refusal::NotOnTrial { running: B, committed: A }));
        // A block that a person edited.
        let odd = SlotState { trial: Some(A), ..updated() };
        assert_eq!(odd.at_boot(A, false), (BootVerdict::Committed, Some(updated())));
        assert!(odd.commit(A).is_err());
    }

    #[test]
    fn revert_forgets_an_armed_trial_and_reboots_a_running_one() {
        assert_eq!(updated().revert(A), Ok(Reverted::Nothing));
        let armed = updated().try_(B).unwrap();
        assert_eq!(armed.revert(A), Ok(Reverted::Disarmed(updated())));
        let Ok(Reverted::Reboot(state)) = armed.revert(B) else { panic!() };
        assert_eq!((state.committed, state.tried, state.why.as_str()), (A, true, "reverted by hand"));
    }

    #[test]
    fn an_update_never_gets_the_running_or_the_committed_slot() {
        assert_eq!(updated().idle(A), Ok(B));
        assert_eq!(updated().idle(B), Err(Refusal::NoIdleSlot { running: B, committed: A }));
        assert!(updated().begin_update(A).is_err());
        assert!(updated().finish_update(B, "3").is_err(), "not begun");
        // What was armed is about to be overwritten.
        assert_eq!(updated().try_(B).unwrap().begin_update(B).unwrap().trial, None);
        assert_eq!(updated().try_(A), Err(Refusal::IsCommitted { slot: A }));
        let empty = SlotState::default().try_(B);
        assert_eq!(empty, Err(Refusal::NotReady { slot: B, content: Content::Empty }));
    }

    #[test]
    fn why_is_cut_between_characters_and_versions_are_plain() {
        let long = bounded(&"é".repeat(100));
        assert_eq!(long, "é".repeat(80));
        assert_eq!(bounded(&"x".repeat(161)).len(), 160);
        assert!(is_version("1.2.0-rc1+git~5") && is_version(&"1".repeat(64)));
        for odd in ["", "1 2", "1:2", "1\0", "é", &"1".repeat(65)] {
            assert!(!is_version(odd), "{odd:?}");
        }
    }
}
