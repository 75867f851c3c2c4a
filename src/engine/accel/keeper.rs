//! The thread that makes a network ready in a worker, beside a loop that runs on: the first time where that takes minutes,
//! and again whenever a worker was lost, with pauses that grow.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::kit::{Kit, Refusal};
use super::remote::Remote;
use crate::log;

/// The pause after the first loss, doubled with each that follows.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest pause between quick attempts.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Losses in a row after which it is tried only now and then.
const QUICK_MAX: u32 = 8;
/// How often it is tried then: a driver may have been restarted, or a leak been freed.
const NOW_AND_THEN: Duration = Duration::from_secs(10 * 60);
/// A worker that has lasted so long is a good one, and its loss the first again: longer than any start takes, so that one
/// that dies of its first frames is not started for ever without a pause.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// What the keeper is about.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// A worker runs, or one is ready to be taken.
    Ready,
    /// An engine is being built since then.
    Building(Instant),
    /// A worker was lost, for that reason, and another is being started.
    Lost(String),
    /// There will be none: it has never been right.
    Rejected(String),
}

/// A worker that is ready, and why it is trusted.
pub struct Fresh {
    pub remote: Remote,
    pub told: String,
}

/// The end that the session holds.
#[derive(Debug)]
pub struct Keeper {
    losses: Sender<String>,
    fresh: Receiver<Fresh>,
    state: Shown,
}

/// What the keeper is about, for both its ends.
#[derive(Clone, Debug)]
struct Shown(Arc<Mutex<State>>);

impl Shown {
    fn get(&self) -> State {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fresh({})", self.told)
    }
}

impl Keeper {
    /// For a network that is ready already, or that is to be made so now.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(kit: Kit, ready: bool) -> std::io::Result<Self> {
        let (losses, lost) = channel();
        let (freshly, fresh) = channel();
        let state = if ready { State::Ready } else { State::Building(Instant::now()) };
        let state = Shown(Arc::new(Mutex::new(state)));
        let keeping = Keeping { kit, lost, freshly, state: state.clone() };
        crate::thread::spawn("keeper", move || keeping.run(ready))?;
        Ok(Self { losses, fresh, state })
    }

    /// Says that the worker was lost.
    pub fn lost(&self, why: &str) {
        self.state.set(State::Lost(why.into()));
        // It has ended only where it gave up for good.
        let _ = self.losses.send(why.into());
    }

    /// A worker that is ready, if one has become so.
    pub fn fresh(&self) -> Option<Fresh> {
        self.fresh.try_recv().ok()
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.state.get()
    }
}

/// What the thread works with.
struct Keeping {
    kit: Kit,
    lost: Receiver<String>,
    freshly: Sender<Fresh>,
    state: Shown,
}

impl Keeping {
    fn run(&self, ready: bool) {
        let mut losses = 0;
        let mut since = Instant::now();
        // The session drops its end when it ends.
        let mut wanted = !ready || self.lost.recv().is_ok();
        let mut first = !ready;
        let mut was_right = ready;
        while wanted {
            if !std::mem::take(&mut first) {
                losses = if since.elapsed() >= GOOD_AFTER { 1 } else { losses + 1 };
                if !self.pause(pause(losses)) {
                    return;
                }
            }
            match self.kit.start() {
                Ok((remote, referee)) => {
                    let worst = referee.worst().unwrap_or_default();
                    let told = format!("within {worst:.1e} of tract (bound {:.0e})", referee.bound);
                    self.state.set(State::Ready);
                    if self.freshly.send(Fresh { remote, told }).is_err() {
                        return;
                    }
                    was_right = true;
                    since = Instant::now();
                    wanted = self.lost.recv().is_ok();
                }
                Err(Refusal::Lost(why)) => {
                    log::say(&format!("engine {}: not ready again: {why}", self.kit.provider.name()));
                    self.state.set(State::Lost(why));
                    since = Instant::now();
                }
                Err(Refusal::Rejected(why)) => {
                    log::say(&format!("engine {}: rejected: {why}", self.kit.provider.name()));
                    if !was_right {
                        self.state.set(State::Rejected(why));
                        return;
                    }
                    // It has been right: what ails it, another program's use of the GPU perhaps, may end.
                    self.state.set(State::Lost(why));
                    losses = QUICK_MAX;
                    since = Instant::now();
                }
            }
        }
    }

    /// Waits; false when the session has ended meanwhile. Another loss cannot come while none runs.
    fn pause(&self, pause: Duration) -> bool {
        !matches!(self.lost.recv_timeout(pause), Err(RecvTimeoutError::Disconnected))
    }
}

/// The pause after so many losses in a row.
fn pause(losses: u32) -> Duration {
    match losses {
        0 => Duration::ZERO,
        1..=QUICK_MAX => (PAUSE_MIN * (1 << (losses - 1))).min(PAUSE_MAX),
        _ => NOW_AND_THEN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_then_it_is_tried_now_and_then() {
        assert_eq!(pause(1), PAUSE_MIN);
        assert_eq!(pause(2), 2 * PAUSE_MIN);
        assert_eq!(pause(QUICK_MAX), PAUSE_MAX);
        assert_eq!(pause(QUICK_MAX + 1), NOW_AND_THEN);
        assert!((1..=QUICK_MAX).all(|losses| pause(losses) <= pause(losses + 1)));
    }
}
