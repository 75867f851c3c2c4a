//! Threads: started, and where they may hang in a driver, a disk or a peer waited for, but not for ever.

use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Step in which the end is looked for: short beside any end that is worth waiting for.
const LOOK: Duration = Duration::from_millis(2);

/// Starts a thread of this name, of which the kernel shows the first 15 bytes.
///
/// # Errors
/// The system has no more threads.
pub fn spawn(name: impl Into<String>, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    start(Builder::new().name(name.into()), Box::new(work))
}

/// As [`spawn`], for who wants more than a name.
///
/// # Errors
/// The system has no more threads.
// Boxed and out of line: what std puts around a closure are kilobytes, and there are dozens of closures.
#[inline(never)]
pub fn start(thread: Builder, work: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
    thread.spawn(work)
}

/// Waits until a thread that was asked to end has done so, at most `limit`; one that hangs is left behind.
pub fn wait_for_end<T>(thread: &JoinHandle<T>, limit: Duration) {
    let deadline = Instant::now() + limit;
    while !thread.is_finished() && Instant::now() < deadline {
        std::thread::sleep(LOOK);
    }
}
