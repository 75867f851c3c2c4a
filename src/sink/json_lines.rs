//! One line of JSON a frame, on stdout, into a file, or out of a serial device.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::sync::Arc;

use super::line::Lines;
use super::{Error, Outcome, Sink};
use crate::model::Labels;

/// Writes lines; the buffer is kept, so a line costs no allocation once the longest was seen.
pub struct JsonLines {
    target: String,
    writer: Box<dyn Write + Send>,
    lines: Lines,
    line: Vec<u8>,
}

impl std::fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JsonLines({})", self.target)
    }
}

impl JsonLines {
    /// To `stdout` or to the file or device at a path, which is opened for appending.
    ///
    /// # Errors
    /// The path cannot be opened.
    pub fn open(target: &str, labels: Arc<Labels>) -> Result<Self, Error> {
        let writer: Box<dyn Write + Send> = if target == "stdout" {
            Box::new(std::io::stdout())
        } else {
            let file = OpenOptions::new().append(true).create(true).open(target);
            Box::new(file.map_err(|cause| Error::Open { target: target.into(), cause })?)
        };
        Ok(Self::to(target, writer, labels))
    }

    fn to(target: &str, writer: Box<dyn Write + Send>, labels: Arc<Labels>) -> Self {
        Self { target: target.into(), writer, lines: Lines { labels }, line: Vec::new() }
    }
}

impl Sink for JsonLines {
    fn name(&self) -> &str {
        &self.target
    }

    fn deliver(&mut self, outcome: &Outcome<'_>) -> Result<(), Error> {
        self.lines.render(outcome, &mut self.line);
        self.writer.write_all(&self.line).and_then(|()| self.writer.flush()).map_err(|cause| match cause.kind() {
            ErrorKind::BrokenPipe => Error::Closed { target: self.target.clone() },
            _ => Error::Write { target: self.target.clone(), cause },
        })
    }
}
