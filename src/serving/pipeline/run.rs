//! One pipeline: our loop behind a valve, with a journal, a store of results and the last picture.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::Error;
use super::journal::{Journal, Seen, State};
use super::order::Order;
use super::outputs::Renderer;
use super::reference::Opened;
use super::results::{Collector, Results, Taken};
use super::valve::{Control, Valve};
use crate::clock;
use crate::config::{BufferPolicy, Consumption, Discipline};
use crate::model::Model;
use crate::pipeline::telemetry::{HealthLimits, Stage};
use crate::pipeline::{Feed, Parts, Pipeline, Telemetry};
use crate::sink::Snapshot;

/// As of the camera loop without a configuration. Nothing hangs on it: clients read the report.
const HEALTH: HealthLimits =
    HealthLimits { frame_age_max: Duration::from_secs(3), start_grace: Duration::from_secs(30) };
/// Youngest picture that is encoded anew: ten a second at most, however many clients look.
const PICTURE_AGE_MIN: Duration = Duration::from_millis(100);

/// A pipeline, running or ended.
#[derive(Debug)]
pub struct Run {
    pub id: String,
    facts: Facts,
    control: Arc<Control>,
    journal: Arc<Journal>,
    telemetry: Arc<Telemetry>,
    results: Arc<Results>,
    snapshot: Snapshot,
    picture: Mutex<Option<Picture>>,
    /// `None` once the loop has ended and its memory is given back.
    pipeline: Mutex<Option<Pipeline>>,
}

/// What does not change.
#[derive(Debug)]
struct Facts {
    reference: String,
    is_file: bool,
    live: bool,
    /// Pictures of a source that has an end.
    frames: Option<usize>,
    buffer_frames: usize,
    /// As the client asked for it.
    asked: Discipline,
    consumption_timeout: Option<Duration>,
}

/// How fast a pipeline is.
#[derive(Clone, Debug)]
pub struct Pace {
    pub id: String,
    /// As it was given at the start.
    pub source: String,
    /// Whether its source has not ended.
    pub active: bool,
    /// Frames answered a second.
    pub inference_fps: f64,
    /// Frames that the source gave a second.
    pub source_fps: f64,
    /// `None` before the first frame.
    pub latency: Option<Latency>,
}

/// Averages, seconds: from a frame to its answer over the last 64 frames, of which the model's own share is taken over all
/// of them.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub decoding_s: f64,
    pub inference_s: f64,
    pub whole_s: f64,
}

/// A picture that was encoded.
#[derive(Debug)]
struct Picture {
    number: u64,
    encoded_at: Instant,
    jpeg: Vec<u8>,
}

impl Run {
    /// Starts the loop, with the priority of the calling thread.
    pub(super) fn start(order: Order, opened: Opened, model: Model, quality: u8) -> Result<Self, Error> {
        let Opened { source, frames } = opened;
        let live = source.live();
        let asked = Discipline::of(order.policy, order.consumption, live);
        // The client libraries ask to drop frames whatever the source is, and of a file nobody wants to lose any.
        let discipline = if live { asked } else { Discipline::of(BufferPolicy::Auto, Consumption::Auto, false) };
        let (control, journal) = (Arc::new(Control::default()), Arc::new(Journal::new()));
        let telemetry = Arc::new(Telemetry::new(Instant::now(), HEALTH));
        let results = Arc::new(Results::new(order.results_max));
        let snapshot = Snapshot::new(Arc::clone(model.labels()), quality);
        let facts = Facts {
            reference: order.reference.name().into(),
            is_file: order.reference.is_file(),
            live,
            frames,
            buffer_frames: order.frames_waiting,
            asked,
            consumption_timeout: order.consumption_timeout,
        };
        let collector = Collector {
            results: Arc::clone(&results),
            journal: Arc::clone(&journal),
            telemetry: Arc::clone(&telemetry),
            renderer: Renderer {
                outputs: order.work.outputs,
                labels: Arc::clone(model.labels()),
                model_id: model.id().into(),
            },
        };
        let valve = Valve::new(source, Arc::clone(&control), Arc::clone(&journal), order.fps_max);
        let pipeline = Pipeline::start(Parts {
            feeds: vec![Feed { source: Box::new(valve), discipline }],
            model,
            request: order.work.request,
            rules: None,
            sinks: vec![Box::new(snapshot.clone()), Box::new(collector)],
            frames_waiting: order.frames_waiting,
            frames_max: None,
            telemetry: Arc::clone(&telemetry),
        })?;
        Ok(Self {
            id: Uuid::new_v4().to_string(),
            facts,
            control,
            journal,
            telemetry,
            results,
            snapshot,
            picture: Mutex::new(None),
            pipeline: Mutex::new(Some(pipeline)),
        })
    }

    /// Whether the loop has ended; if so, its memory is given back. What it has found out stays.
    pub fn over(&self) -> bool {
        let mut pipeline = lock(&self.pipeline);
        if pipeline.as_ref().is_some_and(Pipeline::finished) {
            *pipeline = None;
        }
        pipeline.is_none()
    }

    pub(super) fn pause(&self) -> bool {
        let paused = self.journal.mute();
        if paused {
            self.control.pause();
        }
        paused
    }

    pub(super) fn resume(&self) -> bool {
        let resumed = self.journal.unmute();
        if resumed {
            self.control.resume();
        }
        resumed
    }

    /// Asks the loop to end; returns at once.
    pub(super) fn terminate(&self) {
        self.journal.terminating();
        self.control.terminate();
        if let Some(pipeline) = &*lock(&self.pipeline) {
            pipeline.stop();
        }
    }

    pub(super) fn take(&self) -> Option<Taken> {
        self.results.take()
    }

    /// How long it may go without a reader, when it has gone so long.
    pub(super) fn unread_too_long(&self) -> Option<Duration> {
        self.facts.consumption_timeout.filter(|limit| self.results.idle() > *limit)
    }

    /// The newest picture with what was seen in it, as JPEG; `None` before the first. Draws and encodes, at most every
    /// tenth of a second: on a worker only.
    #[must_use]
    pub fn picture(&self) -> Option<Vec<u8>> {
        let number = self.snapshot.newest()?;
        let mut last = lock(&self.picture);
        if let Some(picture) = &*last
            && (picture.number == number || picture.encoded_at.elapsed() < PICTURE_AGE_MIN)
        {
            return Some(picture.jpeg.clone());
        }
        let jpeg = self.snapshot.jpeg()?;
        *last = Some(Picture { number, encoded_at: Instant::now(), jpeg: jpeg.clone() });
        Some(jpeg)
    }

    pub(super) fn pace(&self) -> Pace {
        let seen = self.journal.seen();
        Pace {
            id: self.id.clone(),
            source: self.facts.reference.clone(),
            active: self.journal.state() != State::Ended,
            inference_fps: f64::from(self.telemetry.status().flow.fps),
            source_fps: seen.fps,
            latency: self.latency(&seen),
        }
    }

    fn latency(&self, seen: &Seen) -> Option<Latency> {
        let whole_s = seen.latency_s?;
        let stages = [Stage::Preprocess, Stage::Infer, Stage::Decode];
        let spent_s: f64 = stages.into_iter().map(|stage| self.telemetry.stage_seconds(stage)).sum();
        let inference_s = spent_s / self.telemetry.frames().max(1) as f64;
        Some(Latency { decoding_s: (whole_s - inference_s).max(0.0), inference_s, whole_s })
    }

    /// Roboflow's report (`examples/sdk_pipeline_status.json`). There are no latencies before the first frame. `fps` is
    /// what the source gave, because none of ours declares a rate.
    pub(super) fn report(&self) -> Value {
        let seen = self.journal.seen();
        let latencies = self.latency(&seen).map(|latency| {
            json!({
                "source_id": 0,
                "frame_decoding_latency": latency.decoding_s,
                "inference_latency": latency.inference_s,
                "e2e_latency": latency.whole_s,
            })
        });
        let latencies = Vec::from_iter(latencies);
        json!({
            "video_source_status_updates": self.journal.events(),
            "latency_reports": latencies,
            "inference_throughput": self.telemetry.status().flow.fps,
            "sources_metadata": [{
                "source_properties": self.properties(&seen),
                "source_reference": self.facts.reference,
                "buffer_size": self.facts.buffer_frames,
                "state": self.journal.state().as_str(),
                "buffer_filling_strategy": self.facts.asked.filling(),
                "buffer_consumption_strategy": self.facts.asked.consumption(),
                "source_id": 0,
            }],
            "completion_statistics": {
                "sampled_at_monotonic": clock::since_boot().as_secs_f64(),
                "sources": [{
                    "source_id": 0,
                    "completed_frames": seen.completed,
                    "last_completed_at_monotonic": seen.last.map(|(at, _)| at),
                    "last_frame_id": seen.last.map(|(_, id)| id),
                }],
            },
        })
    }

    /// Null before the first frame.
    fn properties(&self, seen: &Seen) -> Option<Value> {
        let (width, height) = seen.size?;
        Some(json!({
            "width": width,
            "height": height,
            "total_frames": self.facts.frames.unwrap_or(0),
            "is_file": self.facts.is_file,
            "fps": seen.fps,
            "is_reconnectable": self.facts.live.then_some(true),
            "timestamp_created": clock::iso(self.journal.opened_at),
        }))
    }
}

/// A thread that panicked with one of these locks left an old value or none.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
