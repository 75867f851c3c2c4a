//! The thread that starts workers, and buries them.
//!
//! A worker asks the kernel to be killed when its parent dies, and the kernel takes the thread that started it for the
//! parent: so one thread that never ends starts them all. It also waits for those that were killed, which can take long
//! where a driver holds them, so that nobody else has to.

use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

/// How often those that were killed are looked at: soon enough that a restart does not meet its predecessor's memory.
const LOOK: Duration = Duration::from_millis(50);

enum Errand {
    Start(Box<Command>, SyncSender<io::Result<Child>>),
    Bury(Child),
}

static NURSERY: OnceLock<Result<Sender<Errand>, String>> = OnceLock::new();

fn nursery() -> io::Result<&'static Sender<Errand>> {
    let start = || {
        let (sender, receiver) = channel();
        crate::thread::spawn("workers", move || run(&receiver)).map_err(|error| error.to_string())?;
        Ok(sender)
    };
    NURSERY.get_or_init(start).as_ref().map_err(|why| io::Error::other(why.clone()))
}

/// Starts a program.
///
/// # Errors
/// It cannot be started.
pub fn start(command: Command) -> io::Result<Child> {
    let (answer, answered) = sync_channel(1);
    let gone = || io::Error::other("the thread that starts workers is gone");
    nursery()?.send(Errand::Start(Box::new(command), answer)).map_err(|_| gone())?;
    answered.recv().map_err(|_| gone())?
}

/// Kills a program; returns at once.
pub fn bury(mut child: Child) {
    // It may have ended by itself.
    let _ = child.kill();
    if let Ok(nursery) = nursery() {
        let _ = nursery.send(Errand::Bury(child));
    }
}

fn run(errands: &Receiver<Errand>) {
    let mut dying: Vec<Child> = Vec::new();
    loop {
        let errand = if dying.is_empty() {
            errands.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            errands.recv_timeout(LOOK)
        };
        match errand {
            Ok(Errand::Start(mut command, answer)) => {
                // Nobody waits any more: then it must not live.
                if let Err(unheard) = answer.send(command.spawn())
                    && let Ok(mut child) = unheard.0
                {
                    let _ = child.kill();
                    dying.push(child);
                }
            }
            Ok(Errand::Bury(child)) => dying.push(child),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        dying.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}
