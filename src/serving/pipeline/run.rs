//! One pipeline: our loop behind a valve, with a journal, a store of results and the last picture.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use uuid::Uuid;

use super::Error;
use super::journal::{Journal, Seen};
use super::order::Order;
use super::outputs::Renderer;
use super::results::{Batch, Collector, Results};
use super::valve::{Control, Valve};
use crate::clock;
use crate::config::{BufferPolicy, Consumption, Discipline};
use crate::model::Model;
use crate::pipeline::telemetry::{HealthLimits, Stage};
use crate::pipeline::{Feed, Parts, Pipeline, Telemetry};
use crate::sink::Snapshot;
use crate::source::{Facts, Source};

/// As of the camera loop without a configuration. Nothing hangs on it: clients read the report.
const HEALTH: HealthLimits =
    HealthLimits { frame_age_max: Duration::from_secs(3), start_grace: Duration::from_secs(30) };
/// Youngest picture that is encoded anew: ten a second at most, however many clients look.
const PICTURE_AGE_MIN: Duration = Duration::from_millis(100);

/// A pipeline, running or ended.
#[derive(Debug)]
pub struct Run {
    pub id: String,
    /// By their numbers.
    sources: Vec<SourceFacts>,
    buffer_frames: usize,
    consumption_timeout: Option<Duration>,
    control: Arc<Control>,
    journal: Arc<Journal>,
    telemetry: Arc<Telemetry>,
    results: Arc<Results>,
    snapshot: Snapshot,
    picture: Mutex<Option<Picture>>,
    /// `None` once the loop has ended and its memory is given back.
    pipeline: Mutex<Option<Pipeline>>,
}

/// What does not change of a source.
#[derive(Debug)]
struct SourceFacts {
    reference: String,
    is_file: bool,
    live: bool,
    declared: Facts,
    /// As the client asked for it.
    asked: Discipline,
}

/// How fast a pipeline is.
#[derive(Clone, Debug)]
pub struct Pace {
    pub id: String,
    /// As it was given at the start; several behind commas.
    pub source: String,
    /// Whether not all of its sources have ended.
    pub active: bool,
    /// Frames answered a second.
    pub inference_fps: f64,
    /// Frames that its sources gave a second.
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
    pub(super) fn start(order: Order, opened: Vec<Box<dyn Source>>, model: Model, quality: u8) -> Result<Self, Error> {
        let sources: Vec<SourceFacts> = opened
            .iter()
            .zip(&order.references)
            .map(|(source, reference)| SourceFacts {
                reference: reference.name(),
                is_file: reference.is_file(),
                live: source.live(),
                declared: source.facts(),
                asked: Discipline::of(order.policy, order.consumption, source.live()),
            })
            .collect();
        let (control, journal) = (Arc::new(Control::default()), Arc::new(Journal::new(sources.len())));
        let telemetry = Arc::new(Telemetry::new(Instant::now(), HEALTH));
        let results = Arc::new(Results::new(order.results_max));
        let snapshot = Snapshot::new(Arc::clone(model.labels()), quality);
        let collector = Collector {
            results: Arc::clone(&results),
            journal: Arc::clone(&journal),
            telemetry: Arc::clone(&telemetry),
            renderer: Renderer {
                outputs: order.work.outputs,
                labels: Arc::clone(model.labels()),
                model_id: model.id().into(),
            },
            batch: vec![None; sources.len()],
        };
        let feeds = opened
            .into_iter()
            .zip(&sources)
            .enumerate()
            .map(|(id, (source, facts))| {
                let valve = Valve::new(source, id, Arc::clone(&control), Arc::clone(&journal));
                // The client libraries ask to drop frames whatever the source is, and of a file nobody wants to lose any.
                let every = Discipline::of(BufferPolicy::Auto, Consumption::Auto, false);
                let discipline = if facts.live { facts.asked } else { every };
                Feed { source: Box::new(valve.with_fps_max(order.fps_max)) as Box<dyn Source>, discipline }
            })
            .collect();
        let pipeline = Pipeline::start(Parts {
            feeds,
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
            sources,
            buffer_frames: order.frames_waiting,
            consumption_timeout: order.consumption_timeout,
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

    pub(super) fn take(&self) -> Option<Batch> {
        self.results.take()
    }

    /// How long it may go without a reader, when it has gone so long.
    pub(super) fn unread_too_long(&self) -> Option<Duration> {
        self.consumption_timeout.filter(|limit| self.results.idle() > *limit)
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
        let seen: Vec<Seen> = (0..self.sources.len()).map(|source| self.journal.seen(source)).collect();
        let latencies_s: Vec<f64> = seen.iter().filter_map(|seen| seen.latency_s).collect();
        let references: Vec<&str> = self.sources.iter().map(|source| source.reference.as_str()).collect();
        Pace {
            id: self.id.clone(),
            source: references.join(", "),
            active: !self.journal.ended(),
            inference_fps: f64::from(self.telemetry.status().flow.fps),
            source_fps: seen.iter().map(|seen| seen.fps).sum(),
            latency: (!latencies_s.is_empty())
                .then(|| self.latency(latencies_s.iter().sum::<f64>() / latencies_s.len() as f64)),
        }
    }

    fn latency(&self, whole_s: f64) -> Latency {
        let stages = [Stage::Preprocess, Stage::Infer, Stage::Decode];
        let spent_s: f64 = stages.into_iter().map(|stage| self.telemetry.stage_seconds(stage)).sum();
        let inference_s = spent_s / self.telemetry.frames().max(1) as f64;
        Latency { decoding_s: (whole_s - inference_s).max(0.0), inference_s, whole_s }
    }

    /// Roboflow's report (`examples/sdk_pipeline_status.json`). There are no latencies before the first frame.
    pub(super) fn report(&self) -> Value {
        let (mut latencies, mut metadata, mut completion) = (Vec::new(), Vec::new(), Vec::new());
        for (id, facts) in self.sources.iter().enumerate() {
            let seen = self.journal.seen(id);
            if let Some(latency) = seen.latency_s.map(|whole_s| self.latency(whole_s)) {
                latencies.push(json!({
                    "source_id": id,
                    "frame_decoding_latency": latency.decoding_s,
                    "inference_latency": latency.inference_s,
                    "e2e_latency": latency.whole_s,
                }));
            }
            metadata.push(json!({
                "source_properties": facts.properties(&seen, self.journal.opened_at),
                "source_reference": facts.reference,
                "buffer_size": self.buffer_frames,
                "state": self.journal.state(id).as_str(),
                "buffer_filling_strategy": facts.asked.filling(),
                "buffer_consumption_strategy": facts.asked.consumption(),
                "source_id": id,
            }));
            completion.push(json!({
                "source_id": id,
                "completed_frames": seen.completed,
                "last_completed_at_monotonic": seen.last.map(|(at, _)| at),
                "last_frame_id": seen.last.map(|(_, id)| id),
            }));
        }
        json!({
            "video_source_status_updates": self.journal.events(),
            "latency_reports": latencies,
            "inference_throughput": self.telemetry.status().flow.fps,
            "sources_metadata": metadata,
            "completion_statistics": {
                "sampled_at_monotonic": clock::since_boot().as_secs_f64(),
                "sources": completion,
            },
        })
    }
}

impl SourceFacts {
    /// Null before the first frame. The rate is the declared one, else what came.
    fn properties(&self, seen: &Seen, opened_at: SystemTime) -> Option<Value> {
        let (width, height) = seen.size?;
        Some(json!({
            "width": width,
            "height": height,
            "total_frames": self.declared.frames.unwrap_or(0),
            "is_file": self.is_file,
            "fps": self.declared.fps.unwrap_or(seen.fps),
            "is_reconnectable": self.live.then_some(true),
            "timestamp_created": clock::iso(opened_at),
        }))
    }
}

/// A thread that panicked with one of these locks left an old value or none.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
