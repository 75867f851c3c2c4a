//! What a pipeline has lived through: states and events as Roboflow's watchdog reports them, within a bound.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::clock;
use crate::frame::Frame;

/// Events kept, as Roboflow keeps them.
const EVENTS_MAX: usize = 512;
/// Frames over which latencies are averaged, as there.
const LATENCIES: usize = 64;
/// Longest text of an error that is kept, bytes: paths may be long, and there may be 512 of them.
const TEXT_BYTES_MAX: usize = 512;
/// Severities of Roboflow's events.
const INFO: u8 = 20;
const ERROR: u8 = 40;
/// Who speaks.
const SOURCE: &str = "video_source";
const PIPELINE: &str = "inference_pipeline";

/// How a source is, in Roboflow's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    NotStarted,
    Initialising,
    Restarting,
    Running,
    Muted,
    Terminating,
    Ended,
}

impl State {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotStarted => "NOT_STARTED",
            Self::Initialising => "INITIALISING",
            Self::Restarting => "RESTARTING",
            Self::Running => "RUNNING",
            Self::Muted => "MUTED",
            Self::Terminating => "TERMINATING",
            Self::Ended => "ENDED",
        }
    }
}

#[derive(Debug)]
struct Event {
    at: SystemTime,
    severity: u8,
    kind: &'static str,
    payload: Value,
    context: &'static str,
}

/// What is known of the frames of a source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Width and height of the newest, pixels.
    pub size: Option<(usize, usize)>,
    /// Frames that the source has given a second.
    pub fps: f64,
    /// Frames that have an answer.
    pub completed: u64,
    /// When the last of them had it, seconds since the kernel started, and its number, from 1.
    pub last: Option<(f64, u64)>,
    /// Seconds from a frame to its answer, on average.
    pub latency_s: Option<f64>,
}

/// The journal of one pipeline.
#[derive(Debug)]
pub struct Journal {
    pub opened_at: SystemTime,
    pages: Mutex<Pages>,
}

#[derive(Debug)]
struct Pages {
    events: VecDeque<Event>,
    /// By their numbers.
    sources: Vec<SourcePage>,
}

/// What is kept of one source.
#[derive(Debug)]
struct SourcePage {
    state: State,
    /// Why it is gone, as told.
    lost: Option<String>,
    size: Option<(usize, usize)>,
    captured: u64,
    /// Of the first and the last captured frame.
    captured_at: Option<(Instant, Instant)>,
    completed: u64,
    last: Option<(f64, u64)>,
    latencies: VecDeque<Duration>,
}

impl Journal {
    /// Of a pipeline that starts now, with so many sources. They are numbered from 0.
    #[must_use]
    pub fn new(sources: usize) -> Self {
        let page = || SourcePage {
            state: State::NotStarted,
            lost: None,
            size: None,
            captured: 0,
            captured_at: None,
            completed: 0,
            last: None,
            latencies: VecDeque::with_capacity(LATENCIES),
        };
        let mut pages = Pages { events: VecDeque::new(), sources: (0..sources).map(|_| page()).collect() };
        pages.note(INFO, "INFERENCE_THREAD_STARTED", json!({}), PIPELINE);
        (0..sources).for_each(|source| pages.enter(source, State::Initialising));
        Self { opened_at: SystemTime::now(), pages: Mutex::new(pages) }
    }

    #[must_use]
    pub fn state(&self, source: usize) -> State {
        self.lock().sources[source].state
    }

    /// Whether no source gives any more.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.lock().sources.iter().all(|source| source.state == State::Ended)
    }

    /// A source gave a frame.
    pub fn captured(&self, source: usize, frame: &Frame) {
        let mut pages = self.lock();
        let now = Instant::now();
        let page = &mut pages.sources[source];
        page.size = Some((frame.width(), frame.height()));
        page.captured_at = Some((page.captured_at.map_or(now, |(first, _)| first), now));
        page.captured += 1;
        page.lost = None;
        let (is_first, state) = (page.captured == 1, page.state);
        if is_first {
            pages.note(INFO, "VIDEO_CONSUMPTION_STARTED", json!({"source_id": source}), SOURCE);
        }
        if matches!(state, State::Initialising | State::Restarting) {
            pages.enter(source, State::Running);
        }
    }

    /// A source is gone for now. Told once until it is back, or for another reason.
    pub fn source_lost(&self, source: usize, why: &str) {
        let mut pages = self.lock();
        let page = &mut pages.sources[source];
        let told = page.lost.as_deref() == Some(why);
        page.lost = Some(why.into());
        if page.state == State::Running {
            pages.enter(source, State::Restarting);
        }
        if !told {
            pages.note(ERROR, "SOURCE_ERROR", fault(Some(source), "SourceConnectionError", why), SOURCE);
        }
    }

    /// One frame could not be had.
    pub fn source_failed(&self, source: usize, why: &str) {
        self.lock().note(ERROR, "SOURCE_ERROR", fault(Some(source), "FrameError", why), SOURCE);
    }

    /// A source gives no more.
    pub fn source_ended(&self, source: usize) {
        let mut pages = self.lock();
        pages.enter(source, State::Ended);
        pages.note(INFO, "VIDEO_CONSUMPTION_FINISHED", json!({"source_id": source}), SOURCE);
    }

    /// Frames are held back from now on. Returns false where that cannot be any more.
    pub fn mute(&self) -> bool {
        self.turn(State::Muted)
    }

    /// Frames flow again. Returns false where that cannot be any more.
    pub fn unmute(&self) -> bool {
        self.turn(State::Running)
    }

    fn turn(&self, to: State) -> bool {
        let mut pages = self.lock();
        let mut turned = false;
        for source in 0..pages.sources.len() {
            let state = pages.sources[source].state;
            if matches!(state, State::Terminating | State::Ended) {
                continue;
            }
            turned = true;
            // A source that has not come up yet goes on coming up, and is then running.
            let waits = to == State::Running && state != State::Muted;
            if state != to && !waits {
                pages.enter(source, to);
            }
        }
        turned
    }

    pub fn terminating(&self) {
        let mut pages = self.lock();
        for source in 0..pages.sources.len() {
            if pages.sources[source].state != State::Ended {
                pages.enter(source, State::Terminating);
            }
        }
    }

    /// A frame has its answer, after `latency`; `number` is that of the frame in its source, from 1.
    pub fn completed(&self, source: usize, number: u64, latency: Duration) {
        let mut pages = self.lock();
        let page = &mut pages.sources[source];
        page.completed += 1;
        page.last = Some((clock::since_boot().as_secs_f64(), number));
        if page.latencies.len() == LATENCIES {
            page.latencies.pop_front();
        }
        page.latencies.push_back(latency);
    }

    /// A frame has no answer, or, of no source, the loop has died.
    pub fn inference_failed(&self, source: Option<usize>, why: &str) {
        self.lock().note(ERROR, "INFERENCE_ERROR", fault(source, "InferenceError", why), PIPELINE);
    }

    pub fn inference_ended(&self) {
        self.lock().note(INFO, "INFERENCE_THREAD_FINISHED", json!({}), PIPELINE);
    }

    #[must_use]
    pub fn seen(&self, source: usize) -> Seen {
        let pages = self.lock();
        let page = &pages.sources[source];
        let span = page.captured_at.map_or(Duration::ZERO, |(first, last)| last - first);
        let intervals = page.captured.saturating_sub(1);
        let sum: Duration = page.latencies.iter().sum();
        Seen {
            size: page.size,
            fps: if span.is_zero() { 0.0 } else { intervals as f64 / span.as_secs_f64() },
            completed: page.completed,
            last: page.last,
            latency_s: (!page.latencies.is_empty()).then(|| sum.as_secs_f64() / page.latencies.len() as f64),
        }
    }

    /// All events kept, oldest first, as Roboflow reports them.
    #[must_use]
    pub fn events(&self) -> Value {
        let pages = self.lock();
        let told = pages.events.iter().map(|event| {
            json!({
                "timestamp": clock::iso(event.at),
                "severity": event.severity,
                "event_type": event.kind,
                "payload": event.payload,
                "context": event.context,
            })
        });
        Value::Array(told.collect())
    }

    /// A thread that panicked with the lock left whole pages: each change is one assignment or push.
    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn enter(&mut self, source: usize, state: State) {
        let previous = std::mem::replace(&mut self.sources[source].state, state);
        let payload = json!({"previous_state": previous.as_str(), "new_state": state.as_str(), "source_id": source});
        self.note(INFO, "SOURCE_STATE_UPDATE", payload, SOURCE);
    }

    fn note(&mut self, severity: u8, kind: &'static str, payload: Value, context: &'static str) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(Event { at: SystemTime::now(), severity, kind, payload, context });
    }
}

fn fault(source: Option<usize>, kind: &str, why: &str) -> Value {
    let mut end = why.len().min(TEXT_BYTES_MAX);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    json!({"source_id": source, "error_type": kind, "error_message": why[..end]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_pipeline_is_told_as_recorded() {
        let journal = Journal::new(1);
        journal.captured(0, &Frame::new(4, 2));
        journal.captured(0, &Frame::new(4, 2));
        assert!(journal.mute());
        let events = journal.events();
        let told = |index: usize| {
            let event = &events[index];
            (event["event_type"].as_str().unwrap(), event["payload"]["new_state"].as_str().unwrap_or_default())
        };
        let recorded = [
            ("INFERENCE_THREAD_STARTED", ""),
            ("SOURCE_STATE_UPDATE", "INITIALISING"),
            ("VIDEO_CONSUMPTION_STARTED", ""),
            ("SOURCE_STATE_UPDATE", "RUNNING"),
            ("SOURCE_STATE_UPDATE", "MUTED"),
        ];
        assert_eq!(std::array::from_fn(told), recorded);
        assert_eq!(events[3]["payload"]["previous_state"], "INITIALISING");
        assert_eq!((&events[0]["context"], &events[1]["context"]), (&json!(PIPELINE), &json!(SOURCE)));
        assert_eq!(journal.seen(0).size, Some((4, 2)));
    }

    #[test]
    fn pausing_twice_is_told_once_and_what_has_ended_does_not_pause() {
        let journal = Journal::new(1);
        let count = |journal: &Journal| journal.events().as_array().unwrap().len();
        assert!(journal.unmute());
        assert_eq!(journal.state(0), State::Initialising);
        assert!(journal.mute() && journal.mute());
        assert_eq!(count(&journal), 3);
        assert!(journal.unmute());
        assert_eq!(journal.state(0), State::Running);
        journal.source_ended(0);
        assert!(!journal.mute() && !journal.unmute());
    }

    #[test]
    fn nothing_grows() {
        let journal = Journal::new(1);
        for number in 0..2000 {
            journal.source_failed(0, &format!("{number}{}", "é".repeat(1000)));
            journal.completed(0, number, Duration::from_millis(10));
        }
        let events = journal.events();
        assert_eq!(events.as_array().unwrap().len(), EVENTS_MAX);
        assert!(events[0].to_string().len() < 2 * TEXT_BYTES_MAX);
        assert_eq!(journal.lock().sources[0].latencies.len(), LATENCIES);
        assert_eq!(journal.seen(0).completed, 2000);
    }

    #[test]
    fn a_camera_that_stays_away_is_told_once() {
        let journal = Journal::new(1);
        for _ in 0..5 {
            journal.source_lost(0, "unplugged");
        }
        assert_eq!(journal.events().as_array().unwrap().len(), 3);
        journal.source_lost(0, "busy");
        assert_eq!(journal.events().as_array().unwrap().len(), 4);
    }

    #[test]
    fn two_cameras_that_stay_away_are_told_once_each() {
        let journal = Journal::new(2);
        for _ in 0..5 {
            journal.source_lost(0, "unplugged");
            journal.source_lost(1, "unplugged");
        }
        let events = journal.events();
        assert_eq!(events.as_array().unwrap().len(), 5);
        assert_eq!((&events[3]["payload"]["source_id"], &events[4]["payload"]["source_id"]), (&json!(0), &json!(1)));
        journal.source_ended(0);
        assert!(!journal.ended() && journal.mute());
        assert_eq!((journal.state(0), journal.state(1)), (State::Ended, State::Muted));
        journal.source_ended(1);
        assert!(journal.ended() && !journal.mute());
    }
}
