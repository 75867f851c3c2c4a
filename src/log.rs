//! What the program says to people, kept in memory: the last lines, within a bound, for whoever asks later.
//!
//! [`say`] prints a line on stderr and keeps it; `/logs` on the HTTP port and `log` on the serial line show what is
//! kept. Under our own PID 1 stderr is read by it and kept there instead, so that the lines outlive a crash.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Bytes of lines kept: some 600 lines, a day of a healthy device and the last minutes of a sick one.
pub const BYTES_MAX: usize = 64 * 1024;
/// Longest line kept; a longer one is cut.
pub const LINE_BYTES_MAX: usize = 1024;

static LINES: Mutex<Ring> = Mutex::new(Ring::new());

/// The last lines, oldest first.
#[derive(Debug, Default)]
pub struct Ring {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Ring {
    #[must_use]
    pub const fn new() -> Self {
        Self { lines: VecDeque::new(), bytes: 0 }
    }

    /// Keeps a line, at the price of the oldest ones.
    pub fn push(&mut self, line: &str) {
        let mut end = line.len().min(LINE_BYTES_MAX);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        self.bytes += end;
        self.lines.push_back(line[..end].to_owned());
        while self.bytes > BYTES_MAX {
            self.bytes -= self.lines.pop_front().map_or(0, |oldest| oldest.len());
        }
    }

    /// The last `count` lines, oldest first.
    pub fn tail(&self, count: usize) -> impl Iterator<Item = &str> {
        self.lines.iter().skip(self.lines.len().saturating_sub(count)).map(String::as_str)
    }

    /// All lines, each with its line feed.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.bytes + self.lines.len());
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// Says a line to people on stderr, and keeps it with the time since the machine started.
pub fn say(line: &str) {
    eprintln!("firstlight: {line}");
    keep(line);
}

/// Keeps a line without printing it.
fn keep(line: &str) {
    let stamped = format!("[{:10.3}] {line}", crate::clock::since_boot().as_secs_f64());
    LINES.lock().unwrap_or_else(PoisonError::into_inner).push(&stamped);
}

/// What this process has said.
#[must_use]
pub fn text() -> String {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).text()
}

/// The last `count` lines of it, oldest first.
#[must_use]
pub fn tail(count: usize) -> Vec<String> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).tail(count).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_within_its_bound() {
        let mut ring = Ring::new();
        for n in 0..10_000 {
            ring.push(&format!("line {n} {}", "x".repeat(n % 50)));
            assert!(ring.bytes <= BYTES_MAX);
        }
        assert!(ring.tail(1).next().unwrap().starts_with("line 9999"));
        assert!(!ring.text().contains("line 0 "));
        assert_eq!(ring.tail(3).count(), 3);
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let mut ring = Ring::new();
        ring.push(&"é".repeat(LINE_BYTES_MAX));
        assert_eq!(ring.text().len(), LINE_BYTES_MAX + 1);
        ring.push(&format!("x{}", "é".repeat(LINE_BYTES_MAX)));
        assert!(ring.tail(1).next().unwrap().len() < LINE_BYTES_MAX);
    }
}
