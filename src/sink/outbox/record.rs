//! A record: one JSON object that is sent as a whole, and what names it.
//!
//! In the store it is a line `{"kind":"event",…}`; number and stream are known only when it is there. May not know: how it is sent.

use std::sync::Arc;

use crate::rules::Event;
use crate::sink::Outcome;
use crate::sink::line::Lines;

/// Records larger than this are not sent: a broker's or server's own limit is seldom larger, and sixteen of them are the
/// window of a connection.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A rule's event began or ended.
    Event,
    /// One frame with its answer.
    Answer,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Event, Self::Answer];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Answer => "answer",
        }
    }

    /// How a line of this kind begins.
    fn head(self) -> &'static str {
        match self {
            Self::Event => r#"{"kind":"event","#,
            Self::Answer => r#"{"kind":"answer","#,
        }
    }
}

/// A record on its way.
#[derive(Clone, Debug)]
pub struct Record {
    /// Names the sequence that the number belongs to.
    pub stream: Arc<str>,
    /// From 1, one more for each record of the stream; some may be missing.
    pub number: u64,
    /// A JSON object, without a line feed.
    pub line: Vec<u8>,
}

impl Record {
    /// What it is about; `None` for a line that no version of this program has written.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        let begins = |kind: &Kind| self.line.starts_with(kind.head().as_bytes());
        Kind::ALL.into_iter().find(begins).filter(|_| self.line.ends_with(b"}"))
    }

    /// The same for every copy of this record, and never of another of any device of another name.
    #[must_use]
    pub fn id(&self, device: &str) -> String {
        format!("{device}-{}-{}", self.stream, self.number)
    }

    /// The object that is sent: the line with id and number in front.
    #[must_use]
    pub fn payload(&self, device: &str) -> Vec<u8> {
        let mut payload = format!("{{\"id\":\"{}\",\"number\":{},", self.id(device), self.number).into_bytes();
        payload.extend_from_slice(&self.line[1..]);
        payload
    }
}

/// Makes lines of records; the buffers are kept, so that a line costs no allocation once the longest was seen.
#[derive(Debug)]
pub struct Writer {
    lines: Lines,
    plain: Vec<u8>,
    line: Vec<u8>,
}

impl Writer {
    pub fn new(lines: Lines) -> Self {
        Self { lines, plain: Vec::new(), line: Vec::new() }
    }

    /// The line of an event, with its line feed.
    pub fn event(&mut self, event: &Event) -> &[u8] {
        self.plain.clear();
        serde_json::to_writer(&mut self.plain, event).expect("numbers and text always serialise");
        self.plain.push(b'\n');
        self.finish(Kind::Event)
    }

    /// The line of a frame's answer, with its line feed.
    pub fn answer(&mut self, outcome: &Outcome<'_>) -> &[u8] {
        self.lines.render(outcome, &mut self.plain);
        self.finish(Kind::Answer)
    }

    fn finish(&mut self, kind: Kind) -> &[u8] {
        self.line.clear();
        self.line.extend_from_slice(kind.head().as_bytes());
        self.line.extend_from_slice(&self.plain[1..]);
        &self.line
    }
}
