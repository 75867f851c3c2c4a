//! Lines that wait to be sent: bounded, the oldest gives way.

use std::collections::VecDeque;

/// Most bytes that wait: a minute of a busy scene, and little memory for a small board.
pub const BYTES_MAX: usize = 1 << 20;
/// Most lines that wait: more than fit, unless they are next to empty.
const LINES_MAX: usize = 8192;

/// The queue. Takes its memory as it fills.
#[derive(Debug)]
pub struct Backlog {
    bytes: VecDeque<u8>,
    lengths: VecDeque<usize>,
    bytes_max: usize,
}

impl Backlog {
    pub fn new() -> Self {
        Self { bytes: VecDeque::new(), lengths: VecDeque::new(), bytes_max: BYTES_MAX }
    }

    /// Lets less wait from now on. A line that is longer waits alone.
    pub fn limit(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max.min(BYTES_MAX);
    }

    /// Whether a line fits without another giving way.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.is_empty() || (self.bytes.len() + bytes <= self.bytes_max && self.lengths.len() < LINES_MAX)
    }

    /// Adds a line of at most [`BYTES_MAX`] bytes. Returns how many gave way to it.
    pub fn push(&mut self, line: &[u8]) -> u64 {
        assert!(line.len() <= BYTES_MAX, "a line of {} bytes", line.len());
        let mut gave_way = 0;
        while !self.has_room(line.len()) {
            self.drop_oldest();
            gave_way += 1;
        }
        self.bytes.extend(line);
        self.lengths.push_back(line.len());
        gave_way
    }

    /// Takes the oldest line into `line`; false if none waits.
    pub fn pop(&mut self, line: &mut Vec<u8>) -> bool {
        let Some(length) = self.lengths.pop_front() else { return false };
        line.clear();
        line.extend(self.bytes.drain(..length));
        true
    }

    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    pub fn lines(&self) -> usize {
        self.lengths.len()
    }

    /// Whether less waits than half of what may.
    pub fn is_short(&self) -> bool {
        self.bytes.len() <= self.bytes_max / 2
    }

    fn drop_oldest(&mut self) {
        let length = self.lengths.pop_front().expect("there is room when it is empty");
        self.bytes.drain(..length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_give_way_whole_and_nothing_grows() {
        let (mut backlog, mut line, mut dropped) = (Backlog::new(), Vec::new(), 0);
        for number in 0..20_000_u32 {
            dropped +=
                backlog.push(format!("{number} {}\n", "x".repeat(usize::try_from(number % 500).unwrap())).as_bytes());
            assert!(backlog.bytes.len() <= BYTES_MAX && backlog.lines() <= LINES_MAX);
        }
        let mut taken = Vec::new();
        while backlog.pop(&mut line) {
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            taken.push(String::from_utf8_lossy(&line).split(' ').next().unwrap().parse::<u64>().unwrap());
        }
        assert_eq!(taken, (dropped..20_000).collect::<Vec<u64>>());
    }

    #[test]
    fn a_line_longer_than_the_limit_waits_alone() {
        let (mut backlog, mut line) = (Backlog::new(), Vec::new());
        backlog.limit(10);
        assert_eq!((backlog.push(b"12345\n"), backlog.push(b"123456789012\n"), backlog.push(b"1\n")), (0, 1, 1));
        assert!(backlog.pop(&mut line) && !backlog.pop(&mut line));
        assert_eq!(line, b"1\n");
    }
}
