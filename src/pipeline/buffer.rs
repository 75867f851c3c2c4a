//! The frames of the loop and the queues between its threads: a fixed number of slots that go round.
//!
//! capture → (waiting) → infer → (done) → deliver → (free) → capture. Nothing is allocated once the slots have seen the
//! largest picture, and nothing grows: a full queue makes a file wait and a live source drop its oldest frame.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::frame::Frame;
use crate::model::Predictions;

/// Answers that may wait for delivery: one being written while one waits.
const DONE_MAX: usize = 2;
/// Slots in the hands of the three threads.
const IN_HAND: usize = 3;
/// How long a thread waits before it looks again whether it should stop.
const WAIT: Duration = Duration::from_millis(100);

/// A frame on its way, with what has been found out about it.
#[derive(Debug)]
pub struct Slot {
    pub frame: Frame,
    pub origin: String,
    pub predictions: Predictions,
    /// Why there are no predictions; empty when there are.
    pub error: String,
    pub latency: Duration,
}

impl Slot {
    fn empty() -> Self {
        Self {
            frame: Frame::empty(),
            origin: String::new(),
            predictions: Predictions::default(),
            error: String::new(),
            latency: Duration::ZERO,
        }
    }
}

/// What a thread finds when it asks for work.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "taken apart where it is made; a box would allocate for each frame")]
pub enum Taken {
    Slot(Slot),
    /// Nothing yet; ask again.
    Nothing,
    /// Nothing more will come.
    Closed,
}

/// The queues.
#[derive(Debug)]
pub struct Buffer {
    queues: Mutex<Queues>,
    changed: Condvar,
    waiting_max: usize,
    drop_oldest: bool,
}

#[derive(Debug)]
struct Queues {
    free: Vec<Slot>,
    waiting: VecDeque<Slot>,
    done: VecDeque<Slot>,
    /// The source has ended.
    captured_all: bool,
    /// The last frame has been inferred.
    inferred_all: bool,
    /// Nobody delivers any more.
    undeliverable: bool,
}

impl Buffer {
    /// A buffer in which `waiting_max` frames may wait for the network; with `drop_oldest` the oldest gives way.
    #[must_use]
    pub fn new(waiting_max: usize, drop_oldest: bool) -> Self {
        let slots = waiting_max + DONE_MAX + IN_HAND;
        let queues = Queues {
            free: (0..slots).map(|_| Slot::empty()).collect(),
            waiting: VecDeque::with_capacity(slots),
            done: VecDeque::with_capacity(slots),
            captured_all: false,
            inferred_all: false,
            undeliverable: false,
        };
        Self { queues: Mutex::new(queues), changed: Condvar::new(), waiting_max, drop_oldest }
    }

    /// A slot to capture into. With `drop_oldest` there always is one soon: slots outnumber the queues and the hands.
    pub fn take_free(&self) -> Taken {
        self.take(|queues| {
            if queues.undeliverable {
                return Some(Taken::Closed);
            }
            let room = self.drop_oldest || queues.waiting.len() < self.waiting_max;
            if room { queues.free.pop().map(Taken::Slot) } else { None }
        })
    }

    /// Queues a captured slot. Returns how many older ones were dropped for it.
    pub fn put_captured(&self, slot: Slot) -> u64 {
        let mut queues = self.lock();
        let mut dropped = 0;
        while self.drop_oldest && queues.waiting.len() >= self.waiting_max {
            let Some(oldest) = queues.waiting.pop_front() else { break };
            queues.free.push(oldest);
            dropped += 1;
        }
        queues.waiting.push_back(slot);
        self.changed.notify_all();
        dropped
    }

    /// Says that nothing more will be captured.
    pub fn end_capture(&self) {
        self.lock().captured_all = true;
        self.changed.notify_all();
    }

    /// The oldest captured slot.
    pub fn take_captured(&self) -> Taken {
        self.take(|queues| {
            let ended = queues.captured_all || queues.undeliverable;
            queues.waiting.pop_front().map(Taken::Slot).or_else(|| ended.then_some(Taken::Closed))
        })
    }

    /// Queues an inferred slot for delivery. When delivery is behind, a file waits; a live source's answer is dropped,
    /// so that a sink that hangs never stops the loop. Returns whether the slot was queued.
    pub fn put_done(&self, slot: Slot) -> bool {
        let mut queues = self.lock();
        while queues.done.len() >= DONE_MAX && !queues.undeliverable {
            if self.drop_oldest {
                queues.free.push(slot);
                return false;
            }
            (queues, _) = self.wait(queues);
        }
        queues.done.push_back(slot);
        self.changed.notify_all();
        true
    }

    /// Says that nothing more will be inferred.
    pub fn end_inference(&self) {
        self.lock().inferred_all = true;
        self.changed.notify_all();
    }

    /// The oldest inferred slot.
    pub fn take_done(&self) -> Taken {
        self.take(|queues| {
            let ended = queues.inferred_all;
            queues.done.pop_front().map(Taken::Slot).or_else(|| ended.then_some(Taken::Closed))
        })
    }

    /// Gives a slot back, delivered or not.
    pub fn put_free(&self, slot: Slot) {
        self.lock().free.push(slot);
        self.changed.notify_all();
    }

    /// Says that nobody delivers any more: capture and inference end.
    pub fn end_delivery(&self) {
        self.lock().undeliverable = true;
        self.changed.notify_all();
    }

    /// Waits until `pick` finds something, a bounded time.
    fn take(&self, pick: impl Fn(&mut Queues) -> Option<Taken>) -> Taken {
        let mut queues = self.lock();
        loop {
            if let Some(taken) = pick(&mut queues) {
                self.changed.notify_all();
                return taken;
            }
            let timed_out;
            (queues, timed_out) = self.wait(queues);
            if timed_out {
                return Taken::Nothing;
            }
        }
    }

    /// A thread that panicked while holding the lock left the queues whole: every change to them is one push or pop.
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change; the second value says that none came in time.
    fn wait<'a>(&self, queues: MutexGuard<'a, Queues>) -> (MutexGuard<'a, Queues>, bool) {
        let (queues, timeout) = self.changed.wait_timeout(queues, WAIT).unwrap_or_else(PoisonError::into_inner);
        (queues, timeout.timed_out())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(buffer: &Buffer, id: u64) -> u64 {
        let Taken::Slot(mut slot) = buffer.take_free() else { panic!("no free slot") };
        slot.frame.id = id;
        buffer.put_captured(slot)
    }

    fn next_id(buffer: &Buffer) -> u64 {
        let Taken::Slot(slot) = buffer.take_captured() else { panic!("no captured slot") };
        let id = slot.frame.id;
        buffer.put_free(slot);
        id
    }

    #[test]
    fn a_live_source_drops_its_oldest_frames() {
        let buffer = Buffer::new(2, true);
        assert_eq!((0..10).map(|id| capture(&buffer, id)).sum::<u64>(), 8);
        assert_eq!((next_id(&buffer), next_id(&buffer)), (8, 9));
    }

    #[test]
    fn a_file_waits_for_room() {
        let buffer = Buffer::new(2, false);
        assert_eq!((0..2).map(|id| capture(&buffer, id)).sum::<u64>(), 0);
        assert!(matches!(buffer.take_free(), Taken::Nothing));
        assert_eq!(next_id(&buffer), 0);
        assert_eq!(capture(&buffer, 2), 0);
    }

    #[test]
    fn a_delivery_that_hangs_costs_a_live_source_answers_and_never_the_loop() {
        let buffer = Buffer::new(1, true);
        let mut queued = 0;
        for id in 0..20 {
            capture(&buffer, id);
            let Taken::Slot(slot) = buffer.take_captured() else { panic!("no captured slot") };
            queued += u32::from(buffer.put_done(slot));
        }
        assert_eq!(queued, 2);
    }

    #[test]
    fn ends_are_passed_on() {
        let buffer = Buffer::new(2, false);
        capture(&buffer, 0);
        buffer.end_capture();
        assert_eq!(next_id(&buffer), 0);
        assert!(matches!(buffer.take_captured(), Taken::Closed));
        buffer.end_inference();
        assert!(matches!(buffer.take_done(), Taken::Closed));
        buffer.end_delivery();
        assert!(matches!(buffer.take_free(), Taken::Closed));
    }
}
