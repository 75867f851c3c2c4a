//! The JSON line of a frame: what every output of lines writes, and the spool keeps.

use std::sync::Arc;

use serde::Serialize;

use super::Outcome;
use crate::clock::Stamp;
use crate::model::{Answer, Labels};
use crate::rules::Event;

/// Makes lines of outcomes.
#[derive(Debug)]
pub struct Lines {
    pub labels: Arc<Labels>,
}

#[derive(Serialize)]
struct Line<'a> {
    frame_id: u64,
    source_id: u32,
    source: &'a str,
    /// Both clocks: a board without a battery knows only the first.
    #[serde(flatten)]
    stamp: Stamp,
    latency_ms: f64,
    #[serde(flatten)]
    answer: Option<Answer<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    events: &'a [Event],
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl Lines {
    /// The line of an outcome with its line feed, in place of what `line` held. Costs no allocation once `line` has
    /// held the longest.
    pub fn render(&self, outcome: &Outcome<'_>, line: &mut Vec<u8>) {
        let content = Line {
            frame_id: outcome.frame.id,
            source_id: outcome.frame.source_id,
            source: outcome.origin,
            stamp: Stamp::now(),
            latency_ms: (outcome.latency.as_secs_f64() * 1e5).round() / 1e2,
            answer: outcome.result.ok().map(|predictions| Answer {
                predictions,
                labels: &self.labels,
                with_ids: false,
                tracks: outcome.tracks,
            }),
            events: outcome.events,
            error: outcome.result.err(),
        };
        line.clear();
        serde_json::to_writer(&mut *line, &content).expect("numbers and text always serialise");
        line.push(b'\n');
    }
}
