//! Threads that may hang in a driver, a disk or a peer: waited for, but not for ever.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Step in which the end is looked for: short beside any end that is worth waiting for.
const LOOK: Duration = Duration::from_millis(2);

/// Waits until a thread that was asked to end has done so, at most `limit`; one that hangs is left behind.
pub fn wait_for_end<T>(thread: &JoinHandle<T>, limit: Duration) {
    let deadline = Instant::now() + limit;
    while !thread.is_finished() && Instant::now() < deadline {
        std::thread::sleep(LOOK);
    }
}
