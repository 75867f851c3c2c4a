//! One line of JSON a frame, on stdout, into a file, or out of a serial device.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{Error, Outcome, Sink};
use crate::model::{Answer, Labels};

/// Writes lines; the buffer is kept, so a line costs no allocation once the longest was seen.
pub struct JsonLines {
    target: String,
    writer: Box<dyn Write + Send>,
    labels: Arc<Labels>,
    started_at: Instant,
    line: Vec<u8>,
}

impl std::fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JsonLines({})", self.target)
    }
}

/// A line of a frame that has an answer.
#[derive(Serialize)]
struct Line<'a> {
    frame_id: u64,
    source: &'a str,
    /// Since the process started; true on a board without a clock.
    monotonic_s: f64,
    /// Wall clock, seconds since 1970; wrong on a board whose clock is not set (`clock_set` in the status).
    unix_s: f64,
    latency_ms: f64,
    #[serde(flatten)]
    answer: Option<Answer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl JsonLines {
    /// To `stdout` or to the file or device at a path, which is opened for appending.
    ///
    /// # Errors
    /// The path cannot be opened.
    pub fn open(target: &str, labels: Arc<Labels>, started_at: Instant) -> Result<Self, Error> {
        let writer: Box<dyn Write + Send> = if target == "stdout" {
            Box::new(std::io::stdout())
        } else {
            let file = OpenOptions::new().append(true).create(true).open(target);
            Box::new(file.map_err(|cause| Error::Open { target: target.into(), cause })?)
        };
        Ok(Self::to(target, writer, labels, started_at))
    }

    fn to(target: &str, writer: Box<dyn Write + Send>, labels: Arc<Labels>, started_at: Instant) -> Self {
        Self { target: target.into(), writer, labels, started_at, line: Vec::new() }
    }
}

impl Sink for JsonLines {
    fn deliver(&mut self, outcome: &Outcome<'_>) -> Result<(), Error> {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let rounded = |value: f64, digits: f64| (value * digits).round() / digits;
        let line = Line {
            frame_id: outcome.frame.id,
            source: outcome.origin,
            monotonic_s: rounded(self.started_at.elapsed().as_secs_f64(), 1e3),
            unix_s: rounded(unix.as_secs_f64(), 1e3),
            latency_ms: rounded(outcome.latency.as_secs_f64() * 1e3, 1e2),
            answer: outcome.result.ok().map(|predictions| Answer {
                predictions,
                labels: &self.labels,
                with_ids: false,
            }),
            error: outcome.result.err(),
        };
        self.line.clear();
        serde_json::to_writer(&mut self.line, &line).expect("numbers and text always serialise");
        self.line.push(b'\n');
        self.writer.write_all(&self.line).and_then(|()| self.writer.flush()).map_err(|cause| match cause.kind() {
            ErrorKind::BrokenPipe => Error::Closed { target: self.target.clone() },
            _ => Error::Write { target: self.target.clone(), cause },
        })
    }
}
