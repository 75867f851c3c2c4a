//! What an outbox gives to its peer: the oldest records that are not acknowledged, in order.
//!
//! What was given and not acknowledged is given again. What lies on the disk comes before what waits in memory.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::record::Record;
use super::store::new_stream;
use super::{Shared, State};
use crate::log;
use crate::sink::spool::segment::{self, Fault, file_name};

pub struct Reader {
    pub shared: Arc<Shared>,
    /// Given, or to be given next.
    taken: VecDeque<Record>,
    chunk: Chunk,
    /// The stream of the disk, once it was seen.
    stream: Option<Arc<str>>,
    /// Number of the record in it after the last one that was read.
    next: u64,
    /// The stream of records that never were on the disk, and the number of the next.
    memory: (Arc<str>, u64),
    /// Whether a segment could not be read when it was last tried.
    stuck: bool,
}

/// Records of one stream, in memory.
struct Chunk {
    stream: Arc<str>,
    /// Of the first record that was not taken.
    number: u64,
    /// A line each.
    records: Vec<u8>,
    /// Bytes of the records that were taken.
    taken: usize,
}

/// Where the next records are.
enum Place {
    Segment(RangeInclusive<u64>),
    Queue,
}

impl Chunk {
    fn pop(&mut self) -> Option<Record> {
        let rest = &self.records[self.taken..];
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        let record = Record { stream: Arc::clone(&self.stream), number: self.number, line: rest[..end].to_vec() };
        self.taken += end + 1;
        self.number += 1;
        Some(record)
    }
}

impl Reader {
    pub fn new(shared: Arc<Shared>) -> Self {
        let memory: Arc<str> = new_stream().into();
        let chunk = Chunk { stream: Arc::clone(&memory), number: 1, records: Vec::new(), taken: 0 };
        Self { shared, taken: VecDeque::new(), chunk, stream: None, next: 1, memory: (memory, 1), stuck: false }
    }

    /// The oldest records that are not acknowledged, at most `count`; waits at most `wait` for the first.
    pub fn peek(&mut self, count: usize, wait: Duration) -> &[Record] {
        let deadline = Instant::now() + wait;
        loop {
            while self.taken.len() < count && self.take() {}
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.taken.is_empty() || left.is_zero() {
                break;
            }
            let shared = Arc::clone(&self.shared);
            let state = shared.lock();
            if state.stop {
                break;
            }
            if self.stuck || self.place(&state).is_none() {
                drop(shared.wait(state, left));
            }
        }
        let count = count.min(self.taken.len());
        &self.taken.make_contiguous()[..count]
    }

    /// The oldest `count` records have come to their end: they are delivered, or refused for ever.
    pub fn acknowledge(&mut self, count: usize) {
        let mut state = self.shared.lock();
        for record in self.taken.drain(..count) {
            if let Some(stored) = state.stored.as_mut().filter(|stored| stored.stream == record.stream) {
                stored.acknowledged = stored.acknowledged.max(record.number);
            }
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Takes the next record, or a step towards it; `false`: there is none now.
    fn take(&mut self) -> bool {
        if let Some(record) = self.chunk.pop() {
            self.taken.push_back(record);
            return true;
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let stored = state.stored.as_ref().filter(|stored| self.stream.as_ref() != Some(&stored.stream));
        if let Some(stored) = stored {
            self.stream = Some(Arc::clone(&stored.stream));
            self.next = stored.acknowledged + 1;
        }
        match self.place(&state) {
            None => false,
            Some(Place::Queue) => {
                let mut records = Vec::new();
                let count = state.queue.copy_batch(&mut records, Instant::now());
                state.queue.committed();
                let (stream, number) = self.memory.clone();
                self.memory.1 += count;
                self.chunk = Chunk { stream, number, records, taken: 0 };
                true
            }
            Some(Place::Segment(range)) => {
                drop(state);
                self.read(&range)
            }
        }
    }

    fn place(&self, state: &State) -> Option<Place> {
        if let Some(stored) = &state.stored {
            if self.stream.as_ref() != Some(&stored.stream) {
                // Its numbers begin anew; the next look finds them.
                return stored.segments.back().cloned().map(Place::Segment);
            }
            let index = stored.segments.partition_point(|range| *range.end() < self.next);
            if let Some(range) = stored.segments.get(index) {
                return Some(Place::Segment(range.clone()));
            }
        }
        let open = self.shared.passes_disk(state) && !state.writing && !state.queue.is_empty();
        open.then_some(Place::Queue)
    }

    /// Reads the segment of these records, from `next` on; `false`: it cannot be read now.
    fn read(&mut self, range: &RangeInclusive<u64>) -> bool {
        let (Some(dir), Some(stream)) = (self.shared.dir.clone(), self.stream.clone()) else { return false };
        let path = dir.join(file_name(*range.start()));
        self.stuck = false;
        let why = match segment::read(&path, *range.start()) {
            Ok((header, records)) => {
                let skipped = self.next.saturating_sub(header.first);
                let mut chunk = Chunk { stream, number: header.first, records, taken: 0 };
                for _ in 0..skipped {
                    chunk.pop();
                }
                self.chunk = chunk;
                self.next = header.last() + 1;
                if let Some(stored) = &mut self.shared.lock().stored {
                    stored.read = header.last();
                }
                return true;
            }
            Err(Fault::Damaged(why)) => why,
            Err(Fault::Unreadable(cause)) if cause.kind() == ErrorKind::NotFound => {
                let state = self.shared.lock();
                if !state.stored.as_ref().is_some_and(|stored| stored.segments.contains(range)) {
                    // It gave way meanwhile, and was counted.
                    return true;
                }
                "is gone".into()
            }
            Err(Fault::Unreadable(cause)) => {
                self.shared.lock().damage = Some(format!("{}: cannot be read: {cause}", path.display()));
                self.stuck = true;
                return false;
            }
        };
        let lost = (range.end() + 1).saturating_sub(self.next.max(*range.start()));
        self.next = range.end() + 1;
        let said = format!("{}: damaged, {lost} records are lost: {why}", path.display());
        log::say(&format!("outbox {said}"));
        self.shared.lock().damage = Some(said);
        self.shared.drop_records(lost);
        true
    }
}
