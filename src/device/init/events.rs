//! What the helping threads of PID 1 tell its main loop. They may wait for a disk or a cable; the loop never does.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::device::slot::BootVerdict;

/// A part of the machine that can be in trouble by itself; the word before the colon in `reasons`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Loop,
    Config,
    Root,
    Modules,
    Data,
    Network,
    Slots,
}

impl Part {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Loop => "loop",
            Part::Config => "config",
            Part::Root => "root",
            Part::Modules => "modules",
            Part::Data => "data",
            Part::Network => "network",
            Part::Slots => "slots",
        }
    }
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    Log(String),
    /// A part is in trouble, or with `None` no longer.
    Problem(Part, Option<String>),
    /// Why the machine restarted, newest first, as the data partition remembers.
    Resets(Vec<String>),
    /// Which slot was booted, and what that means.
    Booted(BootVerdict),
    /// The trial slot is the committed one now.
    Committed(String),
    PowerButton,
}

/// The sending end: never waits, and wakes the loop.
#[derive(Clone, Debug)]
pub struct Reporter {
    events: Sender<Event>,
    wake: Arc<EventFd>,
}

impl Reporter {
    pub fn send(&self, event: Event) {
        // A main loop that has gone takes the process along.
        let _ = self.events.send(event);
        let _ = self.wake.write(1);
    }

    pub fn log(&self, line: impl Into<String>) {
        self.send(Event::Log(line.into()));
    }

    pub fn problem(&self, part: Part, problem: Option<String>) {
        self.send(Event::Problem(part, problem));
    }

    /// Runs `work` on a thread of its own. Without one its part is in trouble, and the device sees all the same.
    pub fn spawn(&self, name: &str, part: Part, work: impl FnOnce(&Reporter) + Send + 'static) {
        let reporter = self.clone();
        let thread = crate::thread::spawn(name, move || work(&reporter));
        if let Err(error) = thread {
            self.problem(part, Some(format!("no thread for {name}: {error}")));
        }
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct Events {
    events: Receiver<Event>,
    wake: Arc<EventFd>,
}

impl Events {
    /// What has happened since the last call; bounded by what the few threads send between two turns.
    pub fn take(&self) -> Vec<Event> {
        // Non-blocking: clears the wake-up.
        let _ = self.wake.read();
        self.events.try_iter().collect()
    }

    /// Readable when there is something to take.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Both ends.
///
/// # Errors
/// The system gives no descriptor.
pub fn channel() -> nix::Result<(Reporter, Events)> {
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    let (sender, receiver) = mpsc::channel();
    Ok((Reporter { events: sender, wake: Arc::clone(&wake) }, Events { events: receiver, wake }))
}
