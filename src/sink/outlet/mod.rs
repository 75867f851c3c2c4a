//! Lines to somewhere that may be absent, slow or gone: a bounded queue, and a thread that connects, sends and tries again.
//!
//! May not know: what is in a line.

mod backlog;
#[cfg(test)]
mod tests;
mod wire;

use std::io::ErrorKind;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Gauge;
use crate::thread::wait_for_end;
use backlog::Backlog;
use wire::{Kind, Wire};

pub use backlog::BYTES_MAX;
pub use wire::Place;

/// First and longest pause before another try: soon for a program that restarts, calm for one that is gone.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// Most bytes that wait for what wants no old lines: less than a second of a serial line at 115,200 baud.
const FRESH_BYTES_MAX: usize = 8 * 1024;
/// How long a frame of a source that can wait, waits for room.
const ROOM_MAX: Duration = Duration::from_secs(1);
/// How long the end waits for what is still to be sent.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// What is wrong with a receiver that does not read.
const SLOW: &str = "nobody takes what is written";

/// A queue with its thread; ends when dropped, with what can be sent until then.
#[derive(Debug)]
pub struct Outlet {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    gauge: Arc<Gauge>,
}

#[derive(Debug)]
struct State {
    backlog: Backlog,
    /// Whether the thread holds a line that has not gone yet.
    in_hand: bool,
    /// Until when what waits may still be sent, once it is to end.
    stop_at: Option<Instant>,
    /// What is wrong, for whoever pushes.
    trouble: Option<String>,
}

impl Outlet {
    /// Starts the thread. Nothing need be there yet.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(place: Place) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { backlog: Backlog::new(), in_hand: false, stop_at: None, trouble: None }),
            changed: Condvar::new(),
            gauge: Arc::default(),
        });
        let sender = Sender { shared: Arc::clone(&shared), place, wire: None };
        let thread = crate::thread::spawn("lines", move || sender.run())?;
        Ok(Self { shared, thread })
    }

    /// Queues a line; `patient`, it waits a bounded time for room and then until the line has gone, while there is no
    /// trouble. Returns what is wrong.
    pub fn push(&self, line: &[u8], patient: bool) -> Option<String> {
        let mut state = self.shared.lock();
        if self.thread.is_finished() {
            return Some("its thread died of an internal error".into());
        }
        if line.len() > BYTES_MAX {
            self.give_up();
            return Some(format!("a line of {} bytes; at most {BYTES_MAX} are kept", line.len()));
        }
        let until = Instant::now() + ROOM_MAX;
        while patient && state.trouble.is_none() && !state.backlog.has_room(line.len()) && Instant::now() < until {
            state = self.shared.wait(state, until.saturating_duration_since(Instant::now()));
        }
        let gave_way = state.backlog.push(line);
        self.shared.note(&state);
        if gave_way > 0 {
            self.shared.gauge.dropped.fetch_add(gave_way, Relaxed);
            state.trouble.get_or_insert_with(|| "it does not keep up; the oldest lines are dropped".into());
        }
        let until = Instant::now() + ROOM_MAX;
        while patient && state.trouble.is_none() && (state.in_hand || !state.backlog.is_empty()) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some(SLOW.into());
            }
            state = self.shared.wait(state, left);
        }
        state.trouble.clone()
    }

    /// Counts a line that cannot even be queued.
    pub fn give_up(&self) {
        self.shared.gauge.dropped.fetch_add(1, Relaxed);
    }

    pub fn gauge(&self) -> Arc<Gauge> {
        Arc::clone(&self.shared.gauge)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.shared.lock().stop_at = Some(Instant::now() + DRAIN_MAX);
        self.shared.changed.notify_all();
        // A look-up of a name may take longer than anybody wants to wait; the thread is left behind then.
        wait_for_end(&self.thread, 2 * DRAIN_MAX);
    }
}

impl Shared {
    /// A thread that panicked while holding the lock left the queue whole enough: at worst a line is short.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Keeps the gauge true and wakes whoever waits for a change.
    fn note(&self, state: &State) {
        self.gauge.waiting.store(state.backlog.lines() as u64, Relaxed);
        self.changed.notify_all();
    }

    /// The oldest line, as soon as there is one; false when there will be none.
    fn next(&self, line: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        loop {
            let over = state.stop_at.is_some_and(|until| state.backlog.is_empty() || Instant::now() >= until);
            if over {
                return false;
            }
            if state.backlog.pop(line) {
                state.in_hand = true;
                self.note(&state);
                return true;
            }
            // A push or the end wakes; a minute only bounds the wait.
            state = self.wait(state, Duration::from_secs(60));
        }
    }

    /// Waits for `pause`; false when it is time to stop.
    fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        while state.stop_at.is_none() && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            state = self.wait(state, left);
        }
        state.stop_at.is_none()
    }
}

/// The thread that sends.
struct Sender {
    shared: Arc<Shared>,
    place: Place,
    wire: Option<Wire>,
}

impl Sender {
    fn run(mut self) {
        let mut line = Vec::new();
        while self.shared.next(&mut line) {
            if !self.bring(&line) {
                // What is in hand and what waits is lost.
                let waiting = self.shared.lock().backlog.lines() as u64;
                self.shared.gauge.dropped.fetch_add(1 + waiting, Relaxed);
                return;
            }
        }
    }

    /// Sends a line, however long that takes; false when it was not done before the end.
    fn bring(&mut self, line: &[u8]) -> bool {
        if self.wire.as_mut().is_some_and(|wire| wire.has_moved(&self.place)) {
            self.wire = None;
        }
        let (mut left, mut pause) = (line, RETRY_FIRST);
        while let Err(error) = self.try_once(&mut left) {
            let slow = error.kind() == ErrorKind::TimedOut;
            let mut state = self.shared.lock();
            state.trouble = Some(if slow { SLOW.into() } else { error.to_string() });
            let stopping = state.stop_at.is_some();
            state.in_hand = !left.is_empty();
            self.shared.note(&state);
            drop(state);
            if left.is_empty() {
                self.shared.gauge.dropped.fetch_add(1, Relaxed);
                return true;
            }
            if stopping {
                return false;
            }
            // Whoever is only slow has been waited for.
            if !slow {
                // A full disk has what it took of the line; anything else may be another when it comes back.
                let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
                if !(full && self.wire.as_ref().is_some_and(|wire| wire.kind() == Kind::File)) {
                    (self.wire, left) = (None, line);
                }
                if !self.shared.pause(pause) {
                    return false;
                }
                pause = (pause * 2).min(RETRY_LONGEST);
            }
        }
        self.shared.gauge.delivered.fetch_add(1, Relaxed);
        let mut state = self.shared.lock();
        state.in_hand = false;
        if state.backlog.is_short() {
            state.trouble = None;
        }
        self.shared.note(&state);
        true
    }

    fn try_once(&mut self, left: &mut &[u8]) -> std::io::Result<()> {
        if self.wire.is_none() {
            let wire = Wire::open(&self.place)?;
            if matches!(wire.kind(), Kind::Serial | Kind::Datagrams) {
                self.shared.lock().backlog.limit(FRESH_BYTES_MAX);
            }
            self.wire = Some(wire);
        }
        self.wire.as_mut().expect("opened above").send(left)
    }
}
