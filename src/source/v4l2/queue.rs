//! The newest of the filled buffers, its number and its time: what is between a driver's queue and a frame.
//!
//! May not know: devices. The queue may be a test's.

use std::time::{Duration, Instant};

use super::abi::{Buffer, FLAG_ERROR};
use super::camera::Fault;

/// Longest jump in the driver's numbers that is a gap: a camera that gives nothing is lost after seconds, in which even
/// the fastest takes fewer frames. A larger one is a driver that counts in some other way.
const GAP_MAX: u32 = 10_000;
/// Oldest time that is believed of a frame which has just been taken: some cameras' clocks run wild.
const AGE_MAX: Duration = Duration::from_secs(10);

/// A driver's buffers, which go round: filled ones are taken, read and given back.
pub trait Queue {
    /// The oldest filled buffer, if there is one.
    fn take(&mut self) -> Result<Option<Buffer>, Fault>;

    fn give(&mut self, index: u32) -> Result<(), Fault>;
}

/// What [`newest`] found.
#[derive(Debug, Default)]
pub struct Drained {
    /// To be given back after reading.
    pub newest: Option<Buffer>,
    /// How many the driver called damaged.
    pub damaged: u32,
}

/// Takes the newest filled buffer and gives older and damaged ones back: a late loop wants the picture of now.
pub fn newest(queue: &mut impl Queue, buffers: usize) -> Result<Drained, Fault> {
    let mut drained = Drained::default();
    // Twice round: a driver that fills as fast as this gives back must not hold it for ever.
    for _ in 0..buffers * 2 {
        let Some(filled) = queue.take()? else { break };
        if filled.index as usize >= buffers {
            return Err(Fault::Gone(format!("the driver gave buffer {} of {buffers}", filled.index)));
        }
        if filled.flags & FLAG_ERROR != 0 {
            drained.damaged += 1;
            queue.give(filled.index)?;
        } else if let Some(older) = drained.newest.replace(filled) {
            queue.give(older.index)?;
        }
    }
    Ok(drained)
}

/// Numbers frames from 0 by the driver's count, so that a frame that was missed leaves a gap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbering {
    last: Option<u32>,
    next: u64,
}

impl Numbering {
    pub fn number(&mut self, sequence: u32) -> u64 {
        let missed = self.last.map_or(0, |last| sequence.wrapping_sub(last).wrapping_sub(1));
        let id = self.next + if missed <= GAP_MAX { u64::from(missed) } else { 0 };
        self.last = Some(sequence);
        self.next = id + 1;
        id
    }

    /// The driver begins to count again.
    pub fn restart(&mut self) {
        self.last = None;
    }
}

/// The moment of `taken_at` on the monotonic clock, on which it is `clock` at `now`.
pub fn moment(taken_at: Duration, clock: Duration, now: Instant) -> Instant {
    let age = clock.checked_sub(taken_at).filter(|age| *age <= AGE_MAX);
    age.and_then(|age| now.checked_sub(age)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A driver with what it has filled; what it gets back it fills at once when it is `endless`.
    #[derive(Default)]
    struct Fake {
        filled: VecDeque<Buffer>,
        given: Vec<u32>,
        endless: bool,
        pulled: bool,
    }

    impl Queue for Fake {
        fn take(&mut self) -> Result<Option<Buffer>, Fault> {
            if self.pulled && self.filled.is_empty() {
                return Err(Fault::Gone("pulled".into()));
            }
            Ok(self.filled.pop_front())
        }

        fn give(&mut self, index: u32) -> Result<(), Fault> {
            self.given.push(index);
            if self.endless {
                self.filled.push_back(buffer(index, 0));
            }
            Ok(())
        }
    }

    fn buffer(index: u32, flags: u32) -> Buffer {
        Buffer { index, flags, ..Buffer::default() }
    }

    fn fake(filled: &[(u32, u32)]) -> Fake {
        Fake { filled: filled.iter().map(|&(index, flags)| buffer(index, flags)).collect(), ..Fake::default() }
    }

    fn index(drained: &Drained) -> Option<u32> {
        drained.newest.map(|buffer| buffer.index)
    }

    #[test]
    fn the_newest_is_taken_and_every_other_given_back() {
        let mut queue = fake(&[(2, 0), (3, 0), (0, 0)]);
        assert_eq!(index(&newest(&mut queue, 4).unwrap()), Some(0));
        assert_eq!(queue.given, [2, 3]);
        assert_eq!(index(&newest(&mut fake(&[]), 4).unwrap()), None);
    }

    #[test]
    fn damaged_pictures_are_passed_over() {
        let mut queue = fake(&[(0, 0), (1, FLAG_ERROR), (2, FLAG_ERROR | 0x2000)]);
        let drained = newest(&mut queue, 4).unwrap();
        assert_eq!((index(&drained), drained.damaged), (Some(0), 2));
        assert_eq!(queue.given, [1, 2]);
    }

    #[test]
    fn a_buffer_that_there_is_not_is_the_end_of_the_camera() {
        let fault = newest(&mut fake(&[(0, 0), (4, 0)]), 4).unwrap_err();
        assert_eq!(fault, Fault::Gone("the driver gave buffer 4 of 4".into()));
        let mut pulled = Fake { pulled: true, ..fake(&[(0, 0)]) };
        assert_eq!(newest(&mut pulled, 4).unwrap_err(), Fault::Gone("pulled".into()));
    }

    #[test]
    fn a_driver_that_never_stops_does_not_hold_the_loop() {
        let mut queue = Fake { endless: true, ..fake(&[(0, 0), (1, 0)]) };
        assert!(newest(&mut queue, 2).unwrap().newest.is_some());
    }

    #[test]
    fn gaps_are_seen_and_wild_counts_are_not_believed() {
        let mut numbering = Numbering::default();
        let mut ids = |sequences: &[u32]| -> Vec<u64> { sequences.iter().map(|&s| numbering.number(s)).collect() };
        // The first number is the driver's own affair; the count may wrap.
        assert_eq!(ids(&[u32::MAX - 1, u32::MAX, 0, 3]), [0, 1, 2, 5]);
        // One that never counts, and one that goes back.
        assert_eq!(ids(&[3, 3, 1]), [6, 7, 8]);
        numbering.restart();
        assert_eq!(numbering.number(77), 9);
        assert_eq!(numbering.number(78), 10);
    }

    #[test]
    fn a_frames_time_is_the_drivers_where_it_can_be() {
        let now = Instant::now() + Duration::from_secs(100);
        let at = |milliseconds| moment(Duration::from_millis(milliseconds), Duration::from_secs(20), now);
        assert_eq!(at(19_960), now - Duration::from_millis(40));
        assert_eq!(at(20_001), now, "not yet");
        assert_eq!(at(9_000), now, "too old");
    }
}
