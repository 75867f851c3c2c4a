//! The JSON line of a frame: what every output of lines writes, and the spool keeps.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::Outcome;
use crate::model::{Answer, Labels};

/// Makes lines of outcomes.
#[derive(Debug)]
pub struct Lines {
    pub labels: Arc<Labels>,
    /// When the process started.
    pub started_at: Instant,
}

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

impl Lines {
    /// The line of an outcome with its line feed, in place of what `line` held. Costs no allocation once `line` has
    /// held the longest.
    pub fn render(&self, outcome: &Outcome<'_>, line: &mut Vec<u8>) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let rounded = |value: f64, digits: f64| (value * digits).round() / digits;
        let content = Line {
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
        line.clear();
        serde_json::to_writer(&mut *line, &content).expect("numbers and text always serialise");
        line.push(b'\n');
    }
}
