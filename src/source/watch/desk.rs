//! What is being answered, and the thread that moves it when it is: a disk that is slow or full must not hold up the
//! loop, whose other sources know nothing of it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::place::Place;
use crate::source::{Fate, Receipts};

/// How long whoever delivers waits for the move, so that after a `kill -9` one answer is repeated and not several.
/// Healthy disks rename in microseconds; once one has not, nobody waits for it until it has caught up.
const SETTLE_MAX: Duration = Duration::from_millis(200);
/// Pause before a move that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How long an attempt that was asked for is waited for.
const RETRY_MAX: Duration = Duration::from_millis(500);
/// Longest time until a move is safe from a power cut. More often would wear out a card.
const SYNC_AFTER: Duration = Duration::from_secs(1);
/// How long the end waits for the last moves.
const STOP_MAX: Duration = Duration::from_secs(1);

/// The desk, shared by the source, whoever delivers, and the thread.
#[derive(Debug)]
pub struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

/// All of it is bounded by the frames that the loop has in hand: while something is wrong no more are given out.
#[derive(Debug, Default)]
struct State {
    /// Given out, in the order of their frame ids.
    given: VecDeque<(u64, OsString)>,
    /// Answered and not moved yet, with why it failed.
    answered: VecDeque<(OsString, Option<String>)>,
    /// Given out, and come to nothing.
    again: Vec<OsString>,
    /// Why the first of the answered cannot be moved.
    trouble: Option<String>,
    /// To be tried at once.
    retry: bool,
    stop: bool,
    stopped: bool,
}

/// One of those who use the desk; with the last of them the thread ends.
#[derive(Debug)]
pub struct Hold(Arc<Desk>);

impl Deref for Hold {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.lock();
        state.stop = true;
        self.changed.notify_all();
        let _ = self.changed.wait_timeout_while(state, STOP_MAX, |state| !state.stopped);
    }
}

impl Receipts for Arc<Hold> {
    fn settle(&mut self, frame_id: u64, fate: Fate<'_>) {
        Desk::settle(self, frame_id, fate);
    }
}

impl Desk {
    /// Starts the thread.
    pub fn start(place: Arc<Place>) -> io::Result<Hold> {
        let desk = Arc::new(Self { state: Mutex::default(), changed: Condvar::new() });
        let hold = Hold(Arc::clone(&desk));
        crate::thread::spawn("watch-settle", move || desk.work(&place))?;
        Ok(hold)
    }

    /// Notes that an image is given out.
    pub fn take(&self, frame_id: u64, name: &OsStr) {
        self.lock().given.push_back((frame_id, name.to_owned()));
    }

    /// Whether an image of this name is being answered or moved.
    pub fn holds(&self, name: &OsStr) -> bool {
        let state = self.lock();
        let given = state.given.iter().any(|(_, given)| given == name);
        given || state.answered.iter().any(|(answered, _)| answered == name) || state.again.iter().any(|a| a == name)
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        let state = self.lock();
        state.given.is_empty() && state.answered.is_empty() && state.again.is_empty()
    }

    /// What was given out and is to be given out again.
    pub fn again(&self) -> Vec<OsString> {
        std::mem::take(&mut self.lock().again)
    }

    /// Why what was answered cannot be moved, if that is so.
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// Has the move that failed tried at once.
    pub fn retry(&self) -> Result<(), String> {
        let mut state = self.lock();
        if state.trouble.is_some() {
            state.retry = true;
            self.changed.notify_all();
            (state, _) = self
                .changed
                .wait_timeout_while(state, RETRY_MAX, |state| state.retry)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.trouble.clone().map_or(Ok(()), Err)
    }

    /// Notes what became of a frame, and waits until it is moved, a short time. Frames are settled in their order: one
    /// that was passed over on the way was dropped.
    fn settle(&self, frame_id: u64, fate: Fate<'_>) {
        let mut state = self.lock();
        while let Some((_, dropped)) = state.given.pop_front_if(|(id, _)| *id < frame_id) {
            state.again.push(dropped);
        }
        let Some((_, name)) = state.given.pop_front_if(|(id, _)| *id == frame_id) else { return };
        match fate {
            Fate::Answered => state.answered.push_back((name, None)),
            Fate::Failed(why) => state.answered.push_back((name, Some(why.into()))),
            Fate::NotTaken => return state.again.push(name),
        }
        self.changed.notify_all();
        if state.answered.len() == 1 && state.trouble.is_none() {
            let moving = |state: &mut State| !state.answered.is_empty() && state.trouble.is_none();
            drop(self.changed.wait_timeout_while(state, SETTLE_MAX, moving));
        }
    }

    /// The thread: moves what is answered, and syncs when a second has passed.
    fn work(&self, place: &Place) {
        let mut synced_at = Instant::now();
        let mut unsynced = false;
        let mut state = self.lock();
        loop {
            if let Some((name, failure)) = state.answered.front().cloned() {
                drop(state);
                let settled = place.settle(&name, failure.as_deref());
                state = self.lock();
                state.retry = false;
                state.trouble = settled.err();
                if state.trouble.is_none() {
                    state.answered.pop_front();
                    unsynced = true;
                }
                self.changed.notify_all();
                if state.trouble.is_none() {
                    continue;
                } else if state.stop {
                    break;
                } else {
                    state = self.wait(state, RETRY, |state| !state.stop && !state.retry);
                }
            } else if unsynced && (state.stop || synced_at.elapsed() >= SYNC_AFTER) {
                drop(state);
                // What the disk does not take now it is asked for with the next; the moves themselves are seen to work.
                let _ = place.sync();
                (unsynced, synced_at) = (false, Instant::now());
                state = self.lock();
            } else if state.stop {
                break;
            } else {
                state = self.wait(state, SYNC_AFTER, |state| !state.stop && state.answered.is_empty());
            }
        }
        state.stopped = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        bound: Duration,
        waiting: impl Fn(&mut State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout_while(state, bound, waiting);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
