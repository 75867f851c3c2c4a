//! Runs code that may panic or take for ever, and answers with an error instead.
//!
//! This is why the release profile unwinds: with `panic = "abort"` a file that makes tract panic would end the device.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::{Once, mpsc};
use std::time::Duration;

/// Stack of the thread that loads: graph passes recurse over deep networks.
const LOAD_STACK_BYTES: usize = 16 << 20;

#[derive(Debug)]
pub enum Failure {
    Timeout,
    Error(String),
}

thread_local! {
    static FENCED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic becomes an error and is not printed.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !FENCED.get() {
                previous(info);
            }
        }));
    });
    FENCED.set(true);
    let result = std::panic::catch_unwind(AssertUnwindSafe(work));
    FENCED.set(false);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        super::one_line(&format!("internal error: {text}"))
    })
}

/// Runs `work` on a thread of its own and waits at most `limit`. A thread that is given up runs on by itself until its
/// work ends; nothing waits for it.
pub fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Failure> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let work = move || {
        let _ = sender.send(catch(work).and_then(|result| result));
    };
    let thread = std::thread::Builder::new().name("load".into()).stack_size(LOAD_STACK_BYTES);
    crate::thread::start(thread, Box::new(work))
        .map_err(|error| Failure::Error(format!("no thread to load in: {error}")))?;
    match receiver.recv_timeout(limit) {
        Ok(result) => result.map_err(Failure::Error),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Failure::Timeout),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(Failure::Error("the load thread died".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        let error = within(Duration::from_secs(5), || -> Result<(), String> { panic!("shape {}", 7) }).unwrap_err();
        assert!(matches!(error, Failure::Error(why) if why == "internal error: shape 7"));
    }

    #[test]
    fn a_load_that_hangs_is_given_up() {
        let slow = || {
            std::thread::sleep(Duration::from_secs(2));
            Ok(())
        };
        assert!(matches!(within(Duration::from_millis(20), slow), Err(Failure::Timeout)));
    }
}
