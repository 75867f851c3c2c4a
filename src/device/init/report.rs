//! What PID 1 shows: status lines, and answers to what is typed on the console; and its last acts before the end.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::child::Child;
use super::data::resets;
use super::events::Part;
use super::power::End;
use super::supervisor::Supervisor;
use crate::config;
use crate::device::prompt::{self, Command};
use crate::device::serial::{LOG_LINES, PREFIX, selftest};
use crate::device::watchdog::Watchdog;
use crate::pipeline::status::{RENDERED_BYTES_MAX, State};

/// How long the loop process may take to end the frame in hand.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How long the last notes may take to reach the disk.
const NOTE_MAX: Duration = Duration::from_secs(3);

impl Supervisor {
    /// The status document: the loop's own while it lives, else that of its stand-in, which says why.
    fn document(&self) -> (State, String) {
        if let Some(message) = self.child.as_ref().map(|child| &child.message)
            && let (Some(state), Some(document)) = (message.state, &message.document)
        {
            return (state, document.clone());
        }
        let mut buffer = [0; RENDERED_BYTES_MAX];
        let status = self.stand_in.status();
        (status.state, String::from_utf8_lossy(status.render(&mut buffer)).into_owned())
    }

    /// A status line every few seconds, and at once when the state changes.
    pub(super) fn show_status(&mut self, now: Instant) {
        let (state, document) = self.document();
        if Some(state) == self.shown && now < self.status_due {
            return;
        }
        self.shown = Some(state);
        self.status_due = now + config::seconds(self.config.serial.interval_s);
        self.console.say(&format!("{PREFIX}{document}"), now);
    }

    /// Answers what was typed since the last turn.
    pub(super) fn answer_console(&mut self) {
        self.console.flush();
        let commands = self.console.read(Instant::now());
        for command in commands {
            for line in self.answer(&command) {
                self.console.push(&line);
            }
            self.console.show_prompt();
        }
    }

    fn answer(&mut self, command: &Command) -> Vec<String> {
        match command {
            Command::Status => prompt::summary(&self.document().1),
            Command::Log => self.log.tail(LOG_LINES).map(str::to_owned).collect(),
            Command::Slot => vec![self.slot_words()],
            Command::Selftest if self.selftest.is_some() => vec!["selftest: one is running".into()],
            Command::Selftest => match Child::start(&mut selftest()) {
                Ok(child) => {
                    self.selftest = Some(child);
                    vec!["selftest: running beside the loop, on one thread".into()]
                }
                Err(error) => vec![format!("selftest: cannot be started: {error}")],
            },
            Command::Reboot => {
                self.end(End::Restart, "asked on the serial line".into());
                vec!["restarting".into()]
            }
            Command::Help => vec![prompt::HELP.into()],
            Command::Unknown(word) => vec![format!("`{word}`? {}", prompt::HELP)],
        }
    }

    /// Leaves a note for the next boot of why this one ends, or takes it back.
    pub(super) fn note_ending(&self, why: Option<&str>) {
        let (boot_id, why) = (self.boot_id.clone(), why.map(str::to_owned));
        let resets = self.remembered();
        self.reporter.spawn("note", Part::Data, move |reporter| {
            resets::note_ending(reporter, &boot_id, why.as_deref(), &resets);
        });
    }

    /// Why the machine restarted, newest first.
    fn remembered(&self) -> Vec<String> {
        self.facts.resets.iter().map(|reset| reset.as_str().to_owned()).collect()
    }

    /// The last acts: the loop ends its frame, notes reach the disk, and the machine ends.
    pub fn finish(&mut self, end: &End, why: &str) {
        self.finishing = true;
        self.say(&format!("the machine ends ({end:?}): {why}"));
        if let Some(child) = &self.child {
            child.signal(Signal::SIGTERM);
        }
        self.wait_for(STOP_MAX, |supervisor| supervisor.child.is_none());
        if let Some(child) = &self.child {
            child.signal(Signal::SIGKILL);
        }
        let booted = self.booted.clone().filter(|_| self.on_trial);
        let (boot_id, note) = (self.boot_id.clone(), why.to_owned());
        let resets = self.remembered();
        let (done, noted) = std::sync::mpsc::channel();
        self.reporter.spawn("note", Part::Data, move |reporter| {
            if let Some(Err(error)) = booted.map(|booted| booted.fail(&note)) {
                reporter.log(format!("slots: {error}"));
            }
            resets::note_ending(reporter, &boot_id, Some(&note), &resets);
            let _ = done.send(());
        });
        self.wait_for(NOTE_MAX, |_| noted.try_recv().is_ok());
        if let Some(mut watchdog) = self.watchdog.take() {
            // A restart that hangs is what the watchdog is for, so it stays armed; a machine that is off must stay off.
            let _ = watchdog.feed();
            if *end == End::PowerOff && !watchdog.disarm() {
                self.console.push("the watchdog has no way out: it will start the machine again");
            }
        }
    }

    /// Goes on for at most `limit`, feeding the watchdog, until `done`.
    fn wait_for(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + limit;
        while !done(self) && Instant::now() < deadline {
            let _ = self.watchdog.as_mut().map(Watchdog::feed);
            self.turn();
        }
    }
}
