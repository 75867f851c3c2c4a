//! The JSON line of a frame: what every output of lines writes, and the spool keeps.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::Outcome;
use crate::clock::{self, Stamp};
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

#[derive(Serialize)]
struct Datagram<'a> {
    #[serde(flatten)]
    answer: Answer<'a>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    events: &'a [Event],
    inference_metadata: Metadata,
}

#[derive(Serialize)]
struct Metadata {
    source_id: u32,
    frame_id: u64,
    frame_decoding_time: String,
    emission_time: String,
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

    /// The datagram of an outcome in Roboflow's form (SPEC §5), in place of what `datagram` held; false for a frame without
    /// an answer, which has none. Frames count from 1 there, and times are in UTC.
    pub fn render_datagram(&self, outcome: &Outcome<'_>, datagram: &mut Vec<u8>) -> bool {
        let Ok(predictions) = outcome.result else { return false };
        let now = SystemTime::now();
        let content = Datagram {
            answer: Answer { predictions, labels: &self.labels, with_ids: false, tracks: outcome.tracks },
            events: outcome.events,
            inference_metadata: Metadata {
                source_id: outcome.frame.source_id,
                frame_id: outcome.frame.id + 1,
                frame_decoding_time: clock::iso(now - outcome.frame.captured_at.elapsed()),
                emission_time: clock::iso(now),
            },
        };
        datagram.clear();
        serde_json::to_writer(&mut *datagram, &content).expect("numbers and text always serialise");
        true
    }
}
