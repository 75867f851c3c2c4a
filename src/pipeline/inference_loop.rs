//! The loop: three plain threads around one [`Buffer`]: capture, infer, deliver.
//!
//! Nothing a viewer, a sink or a source does makes inference wait, but a file that asks for every frame. A source that
//! is lost is opened again with growing pauses; a frame that fails is said and passed over.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::buffer::{Buffer, Slot, Taken};
use super::telemetry::{Part, Stage, Telemetry};
use crate::config::{BufferConfig, BufferPolicy};
use crate::model::{self, Model, Request};
use crate::rules::{Observed, Rules};
use crate::sink::{self, Outcome, Sink};
use crate::source::{self, Next, Source};

/// First and longest pause before a lost source is opened again: quick for a cable that wobbles, calm for a camera
/// that is gone.
const REOPEN_FIRST: Duration = Duration::from_millis(200);
const REOPEN_LONGEST: Duration = Duration::from_secs(5);
/// Step in which a pause looks whether to stop.
const PAUSE_STEP: Duration = Duration::from_millis(50);

/// What a loop is made of.
#[derive(Debug)]
pub struct Parts {
    pub source: Box<dyn Source>,
    pub model: Model,
    pub request: Request,
    /// What is tracked and worth an event, if anything.
    pub rules: Option<Rules>,
    pub sinks: Vec<Box<dyn Sink>>,
    pub buffer: BufferConfig,
    /// Stop after this many inferred frames.
    pub frames_max: Option<u64>,
    pub telemetry: Arc<Telemetry>,
}

/// A running loop.
#[derive(Debug)]
pub struct Pipeline {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    buffer: Buffer,
    telemetry: Arc<Telemetry>,
    stop: AtomicBool,
}

impl Pipeline {
    /// Starts the three threads.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        let Parts { source, model, request, rules, sinks, buffer, frames_max, telemetry } = parts;
        let drop_oldest = match buffer.policy {
            BufferPolicy::Auto => source.live(),
            BufferPolicy::Wait => false,
            BufferPolicy::DropOldest => true,
        };
        let shared = Arc::new(Shared {
            buffer: Buffer::new(buffer.frames, drop_oldest),
            telemetry,
            stop: AtomicBool::new(false),
        });
        let spawn = |name: &'static str, work: Box<dyn FnOnce(&Shared) + Send>| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(name.into()).spawn(move || {
                if std::panic::catch_unwind(AssertUnwindSafe(|| work(&shared))).is_err() {
                    shared.abandon(name);
                }
            })
        };
        let threads = vec![
            spawn("deliver", Box::new(move |shared| deliver(shared, rules, sinks)))?,
            spawn("infer", Box::new(move |shared| infer(shared, model, &request, frames_max)))?,
            spawn("capture", Box::new(move |shared| capture(shared, source)))?,
        ];
        Ok(Self { shared, threads })
    }

    /// Whether the loop has ended by itself: the source ended, enough frames were seen, or the reader has gone.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Asks the loop to end after the frame in hand; returns at once.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until the loop has ended, at most `limit`. A thread that hangs in a sink or a source is left behind.
    pub fn join(self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while !self.finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Shared {
    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Ends everything after a thread has died of a bug, so that nobody waits for it.
    fn abandon(&self, thread: &str) {
        self.telemetry.set_failed(format!("loop: the {thread} thread died of an internal error"));
        self.stop.store(true, Ordering::Relaxed);
        self.buffer.end_capture();
        self.buffer.end_inference();
        self.buffer.end_delivery();
    }

    /// Sleeps unless asked to stop meanwhile.
    fn pause(&self, duration: Duration) {
        let until = Instant::now() + duration;
        while !self.stopping() && Instant::now() < until {
            std::thread::sleep(PAUSE_STEP.min(until.saturating_duration_since(Instant::now())));
        }
    }
}

fn capture(shared: &Shared, mut source: Box<dyn Source>) {
    let mut pause = REOPEN_FIRST;
    while !shared.stopping() {
        let mut slot = match shared.buffer.take_free() {
            Taken::Slot(slot) => slot,
            Taken::Nothing => continue,
            Taken::Closed => break,
        };
        slot.error.clear();
        match source.next(&mut slot.frame, &mut slot.origin) {
            Ok(Next::Frame) => {
                if pause != REOPEN_FIRST {
                    pause = REOPEN_FIRST;
                    shared.telemetry.set_problem(Part::Source, None);
                }
            }
            Ok(Next::Nothing) => {
                shared.buffer.put_free(slot);
                continue;
            }
            Ok(Next::End) => {
                shared.buffer.put_free(slot);
                break;
            }
            Err(source::Error::Lost(why)) => {
                shared.buffer.put_free(slot);
                shared.telemetry.set_problem(Part::Source, Some(why));
                shared.pause(pause);
                pause = (pause * 2).min(REOPEN_LONGEST);
                if let Err(error) = source.reopen() {
                    shared.telemetry.set_problem(Part::Source, Some(error.to_string()));
                }
                continue;
            }
            Err(error) => slot.error.push_str(&error.to_string()),
        }
        for _ in 0..shared.buffer.put_captured(slot) {
            shared.telemetry.frame_dropped();
        }
    }
    shared.buffer.end_capture();
}

fn infer(shared: &Shared, mut model: Model, request: &Request, frames_max: Option<u64>) {
    let mut engine_failed = false;
    let mut inferred = 0;
    while !shared.stopping() && frames_max.is_none_or(|max| inferred < max) {
        let mut slot = match shared.buffer.take_captured() {
            Taken::Slot(slot) => slot,
            Taken::Nothing => continue,
            Taken::Closed => break,
        };
        if slot.error.is_empty() {
            match model.infer(&slot.frame, request, &mut slot.predictions) {
                Ok(timing) => {
                    slot.latency = slot.frame.captured_at.elapsed();
                    shared.telemetry.stage_done(Stage::Preprocess, timing.preprocess);
                    shared.telemetry.stage_done(Stage::Infer, timing.infer);
                    shared.telemetry.stage_done(Stage::Decode, timing.decode);
                    shared.telemetry.frame_done(slot.frame.captured_at);
                    inferred += 1;
                    if std::mem::take(&mut engine_failed) {
                        shared.telemetry.set_problem(Part::Engine, None);
                    }
                }
                Err(error) => {
                    slot.error.push_str(&error.to_string());
                    if matches!(error, model::Error::Engine(_)) {
                        engine_failed = true;
                        shared.telemetry.set_problem(Part::Engine, Some(error.to_string()));
                    }
                }
            }
        }
        if !slot.error.is_empty() {
            shared.telemetry.frame_failed();
        }
        if !shared.buffer.put_done(slot) {
            shared.telemetry.answer_dropped();
        }
    }
    shared.buffer.end_inference();
    // Capture may wait for room that nobody will make any more.
    shared.stop.store(true, Ordering::Relaxed);
}

fn deliver(shared: &Shared, mut rules: Option<Rules>, mut sinks: Vec<Box<dyn Sink>>) {
    let mut sink_failed = false;
    loop {
        let slot = match shared.buffer.take_done() {
            Taken::Slot(slot) => slot,
            Taken::Nothing => continue,
            Taken::Closed => break,
        };
        let started = Instant::now();
        let result = hand_over(&slot, rules.as_mut(), &mut sinks);
        shared.telemetry.stage_done(Stage::Deliver, started.elapsed());
        shared.buffer.put_free(slot);
        match result {
            Ok(()) => {
                if std::mem::take(&mut sink_failed) {
                    shared.telemetry.set_problem(Part::Sink, None);
                }
            }
            Err(sink::Error::Closed { .. }) => {
                shared.stop.store(true, Ordering::Relaxed);
                break;
            }
            Err(error) => {
                sink_failed = true;
                shared.telemetry.set_problem(Part::Sink, Some(error.to_string()));
            }
        }
    }
    shared.buffer.end_delivery();
}

/// Judges a slot by the rules and gives it to every sink, also after one has failed; the first failure is the one that is
/// told.
fn hand_over(slot: &Slot, rules: Option<&mut Rules>, sinks: &mut [Box<dyn Sink>]) -> Result<(), sink::Error> {
    let result = if slot.error.is_empty() { Ok(&slot.predictions) } else { Err(slot.error.as_str()) };
    let Observed { tracks, events } = match (rules, result) {
        (Some(rules), Ok(predictions)) => rules.judge(&slot.frame, predictions),
        _ => Observed::default(),
    };
    let outcome = Outcome { tracks, events, ..Outcome::new(&slot.frame, &slot.origin, result, slot.latency) };
    let mut first = Ok(());
    for sink in sinks {
        let delivered = sink.deliver(&outcome);
        if first.is_ok() {
            first = delivered;
        }
    }
    first
}
