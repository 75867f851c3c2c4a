//! The frames of the loop and the queues between its threads: a fixed number of slots that go round.
//!
//! capture → (waiting) → infer → (done) → deliver → (free) → capture. Each source has a lane of its own to wait in, and
//! the lanes have their turns, so that no source can push out another. Nothing is allocated once the slots have seen the
//! largest picture, and nothing grows: what a full lane does is its [`Overflow`].

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{Discipline, Overflow};
use crate::frame::Frame;
use crate::model::Predictions;

/// Answers that may wait for delivery: one being written while one waits.
const DONE_MAX: usize = 2;
/// Slots in hand: one is inferred while another is prepared, one is delivered; every capturing thread has one more.
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
    /// Lane of its source.
    pub lane: usize,
    /// Frames of its source that were dropped because this one is newer.
    pub passed_over: u64,
}

impl Slot {
    fn empty() -> Self {
        Self {
            frame: Frame::empty(),
            origin: String::new(),
            predictions: Predictions::default(),
            error: String::new(),
            latency: Duration::ZERO,
            lane: 0,
            passed_over: 0,
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
    disciplines: Vec<Discipline>,
}

#[derive(Debug)]
struct Queues {
    free: Vec<Slot>,
    lanes: Vec<Lane>,
    /// Whose turn it is.
    turn: usize,
    done: VecDeque<Slot>,
    /// The last frame has been inferred.
    inferred_all: bool,
    /// Nobody delivers any more.
    undeliverable: bool,
}

/// The frames of one source that wait for the network.
#[derive(Debug)]
struct Lane {
    waiting: VecDeque<Slot>,
    /// The source has ended.
    ended: bool,
    /// Frames that were used.
    used: u64,
}

impl Buffer {
    /// A lane a source, in each of which `waiting_max` frames may wait for the network.
    #[must_use]
    pub fn new(waiting_max: usize, disciplines: Vec<Discipline>) -> Self {
        let slots = disciplines.len() * (waiting_max + 1) + DONE_MAX + IN_HAND;
        let lane = |_: &Discipline| Lane { waiting: VecDeque::with_capacity(waiting_max + 1), ended: false, used: 0 };
        let queues = Queues {
            free: (0..slots).map(|_| Slot::empty()).collect(),
            lanes: disciplines.iter().map(lane).collect(),
            turn: 0,
            done: VecDeque::with_capacity(slots),
            inferred_all: false,
            undeliverable: false,
        };
        Self { queues: Mutex::new(queues), changed: Condvar::new(), waiting_max, disciplines }
    }

    /// A slot to capture into. A lane that drops gets one soon: slots outnumber the queues and the hands.
    pub fn take_free(&self, lane: usize) -> Taken {
        let waits = self.disciplines[lane].overflow == Overflow::Wait;
        self.take(WAIT, |queues| {
            if queues.undeliverable {
                return Some(Taken::Closed);
            }
            let room = !waits || queues.lanes[lane].waiting.len() < self.waiting_max;
            let mut slot = if room { queues.free.pop()? } else { return None };
            (slot.lane, slot.passed_over) = (lane, 0);
            Some(Taken::Slot(slot))
        })
    }

    /// Queues a captured slot. Returns how many were dropped for want of room, itself perhaps.
    pub fn put_captured(&self, slot: Slot) -> u64 {
        let mut queues = self.lock();
        let Queues { free, lanes, .. } = &mut *queues;
        let waiting = &mut lanes[slot.lane].waiting;
        let full = waiting.len() >= self.waiting_max;
        let dropped = match self.disciplines[slot.lane].overflow {
            Overflow::DropLatest if full => Some(slot),
            Overflow::DropOldest if full => {
                waiting.push_back(slot);
                waiting.pop_front()
            }
            _ => {
                waiting.push_back(slot);
                None
            }
        };
        let count = u64::from(dropped.is_some());
        free.extend(dropped);
        self.changed.notify_all();
        count
    }

    /// Says that nothing more will be captured from a source.
    pub fn end_capture(&self, lane: usize) {
        self.lock().lanes[lane].ended = true;
        self.changed.notify_all();
    }

    /// The next captured slot of the source whose turn it is: its oldest, or its newest where that is wanted.
    pub fn take_captured(&self) -> Taken {
        self.take_captured_within(WAIT)
    }

    /// As [`Buffer::take_captured`]; waits no longer than this.
    pub fn take_captured_within(&self, limit: Duration) -> Taken {
        self.take(limit, |queues| {
            let count = queues.lanes.len();
            let Some(lane) = (0..count)
                .map(|step| (queues.turn + step) % count)
                .find(|&lane| !queues.lanes[lane].waiting.is_empty())
            else {
                let ended = queues.lanes.iter().all(|lane| lane.ended) || queues.undeliverable;
                return ended.then_some(Taken::Closed);
            };
            queues.turn = (lane + 1) % count;
            let Queues { free, lanes, .. } = queues;
            let Lane { waiting, used, .. } = &mut lanes[lane];
            let mut slot = waiting.pop_front()?;
            while self.disciplines[lane].eager
                && let Some(mut newer) = waiting.pop_front()
            {
                newer.passed_over = slot.passed_over + 1;
                free.push(std::mem::replace(&mut slot, newer));
            }
            *used += 1;
            Some(Taken::Slot(slot))
        })
    }

    /// Frames of a source that were taken to be used.
    #[must_use]
    pub fn used(&self, lane: usize) -> u64 {
        self.lock().lanes[lane].used
    }

    /// Queues an inferred slot for delivery. When delivery is behind, a file waits; an answer of a source that may drop is
    /// dropped, so that a sink that hangs never stops the loop. Returns whether the slot was queued.
    pub fn put_done(&self, slot: Slot) -> bool {
        let may_drop = self.disciplines[slot.lane].overflow != Overflow::Wait;
        let mut queues = self.lock();
        while queues.done.len() >= DONE_MAX && !queues.undeliverable {
            if may_drop {
                queues.free.push(slot);
                return false;
            }
            queues = self.wait(queues);
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
        self.take(WAIT, |queues| {
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
    fn take(&self, limit: Duration, pick: impl Fn(&mut Queues) -> Option<Taken>) -> Taken {
        let deadline = Instant::now() + limit;
        let mut queues = self.lock();
        loop {
            if let Some(taken) = pick(&mut queues) {
                self.changed.notify_all();
                return taken;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Taken::Nothing;
            }
            queues = self.changed.wait_timeout(queues, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A thread that panicked while holding the lock left the queues whole: every change to them is one push or pop.
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, but not for ever.
    fn wait<'a>(&self, queues: MutexGuard<'a, Queues>) -> MutexGuard<'a, Queues> {
        self.changed.wait_timeout(queues, WAIT).unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BufferPolicy, Consumption};

    const FILE: Discipline = Discipline { overflow: Overflow::Wait, adaptive: false, eager: false };
    const LIVE: Discipline = Discipline { overflow: Overflow::DropOldest, adaptive: false, eager: false };

    /// Puts a frame of this id into the buffer; returns how many were dropped for it.
    fn capture(buffer: &Buffer, lane: usize, id: u64) -> u64 {
        let Taken::Slot(mut slot) = buffer.take_free(lane) else { panic!("no free slot") };
        slot.frame.id = id;
        buffer.put_captured(slot)
    }

    fn next(buffer: &Buffer) -> Slot {
        let Taken::Slot(slot) = buffer.take_captured() else { panic!("no captured slot") };
        slot
    }

    fn next_id(buffer: &Buffer) -> u64 {
        let slot = next(buffer);
        let id = slot.frame.id;
        buffer.put_free(slot);
        id
    }

    #[test]
    fn a_live_source_drops_its_oldest_frames() {
        let buffer = Buffer::new(2, vec![LIVE]);
        assert_eq!((0..10).map(|id| capture(&buffer, 0, id)).sum::<u64>(), 8);
        assert_eq!((next_id(&buffer), next_id(&buffer)), (8, 9));
    }

    #[test]
    fn the_first_frames_stay_where_the_latest_is_dropped() {
        let buffer = Buffer::new(2, vec![Discipline { overflow: Overflow::DropLatest, ..LIVE }]);
        assert_eq!((0..10).map(|id| capture(&buffer, 0, id)).sum::<u64>(), 8);
        assert_eq!((next_id(&buffer), next_id(&buffer)), (0, 1));
    }

    #[test]
    fn an_eager_reader_gets_the_newest_and_is_told_what_it_missed() {
        let buffer = Buffer::new(3, vec![Discipline::of(BufferPolicy::Auto, Consumption::Auto, true)]);
        assert_eq!((0..3).map(|id| capture(&buffer, 0, id)).sum::<u64>(), 0);
        let slot = next(&buffer);
        assert_eq!((slot.frame.id, slot.passed_over, buffer.used(0)), (2, 2, 1));
        buffer.put_free(slot);
        capture(&buffer, 0, 3);
        assert_eq!(next(&buffer).passed_over, 0);
    }

    #[test]
    fn a_file_waits_for_room() {
        let buffer = Buffer::new(2, vec![FILE]);
        assert_eq!((0..2).map(|id| capture(&buffer, 0, id)).sum::<u64>(), 0);
        assert!(matches!(buffer.take_free(0), Taken::Nothing));
        assert_eq!(next_id(&buffer), 0);
        assert_eq!(capture(&buffer, 0, 2), 0);
    }

    #[test]
    fn sources_have_their_turns_however_fast_one_is() {
        let buffer = Buffer::new(2, vec![LIVE, FILE, LIVE]);
        let mut used = [0; 3];
        for id in 0..90 {
            for lane in [0, 0, 0, 2] {
                capture(&buffer, lane, id);
            }
            if let Taken::Slot(slot) = buffer.take_free(1) {
                buffer.put_captured(slot);
            }
            let slot = next(&buffer);
            used[slot.lane] += 1;
            buffer.put_free(slot);
        }
        assert_eq!(used, [30, 30, 30]);
        assert_eq!([0, 1, 2].map(|lane| buffer.used(lane)), [30, 30, 30]);
    }

    #[test]
    fn one_source_that_ends_does_not_end_the_others() {
        let buffer = Buffer::new(2, vec![FILE, FILE]);
        buffer.end_capture(0);
        capture(&buffer, 1, 7);
        assert_eq!(next_id(&buffer), 7);
        assert!(matches!(buffer.take_captured(), Taken::Nothing));
        buffer.end_capture(1);
        assert!(matches!(buffer.take_captured(), Taken::Closed));
    }

    #[test]
    fn a_delivery_that_hangs_costs_a_live_source_answers_and_never_the_loop() {
        let buffer = Buffer::new(1, vec![LIVE]);
        let mut queued = 0;
        for id in 0..20 {
            capture(&buffer, 0, id);
            queued += u32::from(buffer.put_done(next(&buffer)));
        }
        assert_eq!(queued, 2);
    }

    #[test]
    fn ends_are_passed_on() {
        let buffer = Buffer::new(2, vec![FILE]);
        capture(&buffer, 0, 0);
        buffer.end_capture(0);
        assert_eq!(next_id(&buffer), 0);
        assert!(matches!(buffer.take_captured(), Taken::Closed));
        buffer.end_inference();
        assert!(matches!(buffer.take_done(), Taken::Closed));
        buffer.end_delivery();
        assert!(matches!(buffer.take_free(0), Taken::Closed));
    }
}
