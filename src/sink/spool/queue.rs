//! The records that wait for the disk: bounded, the oldest gives way. Allocates only when it is made.
//!
//! Records stay here until they are committed; the writer works on a copy, so that a failed commit loses nothing.
//! May not know: locks, files.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::segment::{RECORDS_BYTES_MAX, RECORDS_MAX};

/// Records of more bytes than this are committed at once: a segment of a quarter of a megabyte is written in one go by
/// any card, and four of them are the smallest ring.
const BATCH_BYTES: usize = 256 * 1024;

/// The queue.
#[derive(Debug)]
pub struct Queue {
    bytes: VecDeque<u8>,
    /// Bytes of each record.
    lengths: VecDeque<usize>,
    /// When the oldest came, or earlier; `None` when none waits.
    oldest_at: Option<Instant>,
    in_flight: InFlight,
}

/// What the writer holds a copy of: the oldest records.
#[derive(Debug, Default)]
struct InFlight {
    records: usize,
    /// Records of the copy that have given way here meanwhile: lost only if the commit fails.
    given_way: u64,
    /// What `oldest_at` will be when the copy is committed and others remain.
    next_oldest_at: Option<Instant>,
}

impl Queue {
    pub fn new() -> Self {
        let records_max = usize::try_from(RECORDS_MAX).expect("8192");
        Self {
            bytes: VecDeque::with_capacity(RECORDS_BYTES_MAX),
            lengths: VecDeque::with_capacity(records_max),
            oldest_at: None,
            in_flight: InFlight::default(),
        }
    }

    /// Adds a record of at most [`RECORDS_BYTES_MAX`] bytes. Returns how many older ones were lost by it.
    pub fn push(&mut self, record: &[u8], now: Instant) -> u64 {
        assert!(record.len() <= RECORDS_BYTES_MAX, "a record of {} bytes", record.len());
        let mut lost = 0;
        while self.bytes.len() + record.len() > RECORDS_BYTES_MAX || self.lengths.len() as u64 >= RECORDS_MAX {
            self.remove_oldest();
            if self.in_flight.records > 0 {
                self.in_flight.records -= 1;
                self.in_flight.given_way += 1;
            } else {
                lost += 1;
            }
        }
        self.bytes.extend(record);
        self.lengths.push_back(record.len());
        self.oldest_at.get_or_insert(now);
        lost
    }

    /// Whether it is time to commit: the oldest record has waited long enough, or a batch is full.
    pub fn due(&self, now: Instant, interval: Duration) -> bool {
        self.bytes.len() >= BATCH_BYTES || self.due_in(now, interval) == Some(Duration::ZERO)
    }

    /// How long until the oldest record has waited long enough; `None` when none waits.
    pub fn due_in(&self, now: Instant, interval: Duration) -> Option<Duration> {
        self.oldest_at.map(|at| (at + interval).saturating_duration_since(now))
    }

    /// Records that wait, those in flight among them.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Whether less waits than a batch, so that the disk keeps up.
    pub fn short(&self) -> bool {
        self.bytes.len() < BATCH_BYTES
    }

    /// Copies the oldest records, at most a batch and at least one, into `batch`, and returns how many those are.
    pub fn copy_batch(&mut self, batch: &mut Vec<u8>, now: Instant) -> u64 {
        let mut bytes = 0;
        let fits = |&length: &usize| {
            bytes += length;
            bytes <= BATCH_BYTES || bytes == length
        };
        let records = self.lengths.iter().copied().take_while(fits).count();
        let bytes = self.lengths.range(..records).sum::<usize>();
        batch.clear();
        let (front, back) = self.bytes.as_slices();
        let from_front = bytes.min(front.len());
        batch.extend_from_slice(&front[..from_front]);
        batch.extend_from_slice(&back[..bytes - from_front]);
        // What comes from now on is younger than this moment; what did not fit is as old as it is.
        let next_oldest_at = if records == self.lengths.len() { Some(now) } else { self.oldest_at };
        self.in_flight = InFlight { records, given_way: 0, next_oldest_at };
        records as u64
    }

    /// The copy is committed: its records leave.
    pub fn committed(&mut self) {
        let InFlight { records, next_oldest_at, .. } = std::mem::take(&mut self.in_flight);
        for _ in 0..records {
            self.remove_oldest();
        }
        self.oldest_at = next_oldest_at.filter(|_| !self.is_empty());
    }

    /// The copy is not committed: its records wait on. Returns how many are lost, because they have given way.
    pub fn failed(&mut self) -> u64 {
        std::mem::take(&mut self.in_flight).given_way
    }

    fn remove_oldest(&mut self) {
        let length = self.lengths.pop_front().expect("the bounds hold at least one record");
        self.bytes.drain(..length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn text(batch: &[u8]) -> &str {
        std::str::from_utf8(batch).unwrap()
    }

    #[test]
    fn a_batch_leaves_only_when_it_is_committed() {
        let (mut queue, mut batch, start) = (Queue::new(), Vec::new(), Instant::now());
        queue.push(b"1\n", start);
        queue.push(b"2\n", start);
        assert_eq!((queue.copy_batch(&mut batch, start), text(&batch)), (2, "1\n2\n"));
        queue.push(b"3\n", start);
        assert_eq!(queue.failed(), 0);
        assert_eq!((queue.copy_batch(&mut batch, start), text(&batch)), (3, "1\n2\n3\n"));
        queue.push(b"4\n", start);
        queue.committed();
        assert_eq!((queue.copy_batch(&mut batch, start), text(&batch)), (1, "4\n"));
        queue.committed();
        assert!(queue.is_empty());
    }

    #[test]
    fn what_gives_way_while_it_is_written_is_lost_only_if_that_fails() {
        let (mut queue, mut batch, start) = (Queue::new(), Vec::new(), Instant::now());
        let half = vec![b'x'; RECORDS_BYTES_MAX / 2];
        for fails in [true, false] {
            assert_eq!(queue.push(b"old\n", start), 0);
            queue.copy_batch(&mut batch, start);
            assert_eq!(queue.push(&half, start) + queue.push(&half, start), 0, "nothing is lost yet");
            assert_eq!(queue.push(b"new\n", start), 1, "this one was not in flight");
            if fails {
                assert_eq!(queue.failed(), 1);
            } else {
                queue.committed();
            }
            queue.copy_batch(&mut batch, start);
            assert_eq!(batch, half);
            queue.committed();
            assert_eq!(queue.copy_batch(&mut batch, start), 1);
            assert_eq!(text(&batch), "new\n");
            queue.committed();
            assert!(queue.is_empty());
        }
    }

    #[test]
    fn the_number_of_records_is_bounded_as_well() {
        let (mut queue, start) = (Queue::new(), Instant::now());
        let lost: u64 = (0..RECORDS_MAX + 5).map(|_| queue.push(b"\n", start)).sum();
        assert_eq!(lost, 5);
        assert_eq!(queue.copy_batch(&mut Vec::new(), start), RECORDS_MAX);
    }

    #[test]
    fn it_is_due_when_the_oldest_has_waited_or_a_batch_is_full() {
        let (mut queue, mut batch, start) = (Queue::new(), Vec::new(), Instant::now());
        let later = |s: u64| start + Duration::from_secs(s);
        assert!(!queue.due(later(99), INTERVAL) && queue.due_in(start, INTERVAL).is_none());
        queue.push(b"1\n", start);
        assert!(!queue.due(later(9), INTERVAL) && queue.due(later(10), INTERVAL));
        // What came while the batch was written waits from then on, and not from the first record on.
        queue.copy_batch(&mut batch, later(10));
        queue.push(b"2\n", later(11));
        queue.committed();
        assert!(!queue.due(later(19), INTERVAL) && queue.due(later(20), INTERVAL));
        queue.push(&vec![b'x'; BATCH_BYTES], later(12));
        assert!(queue.due(later(12), INTERVAL) && !queue.short());
        // What did not fit is as old as it was.
        assert_eq!(queue.copy_batch(&mut batch, later(12)), 1);
        queue.committed();
        assert!(queue.due(later(20), INTERVAL));
    }

    #[test]
    fn a_batch_that_wraps_around_is_whole() {
        let (mut queue, mut batch, now) = (Queue::new(), Vec::new(), Instant::now());
        for round in 0..40_u8 {
            let record = vec![round; RECORDS_BYTES_MAX / 9];
            queue.push(&record, now);
            queue.push(&record, now);
            for _ in 0..2 {
                while !queue.is_empty() {
                    let records = usize::try_from(queue.copy_batch(&mut batch, now)).unwrap();
                    assert_eq!(batch, record.repeat(records));
                    queue.committed();
                }
            }
        }
    }
}
