//! The loop: plain threads around one [`Buffer`]: one a source that captures, one that infers, one that delivers.
//!
//! Nothing a viewer, a sink or a source does makes inference wait, but a file that asks for every frame. A frame that fails
//! is said and passed over.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::buffer::Buffer;
use super::capture::Capture;
use super::cells::{SinkCell, SourceCell};
use super::deliver::Delivery;
use super::infer::Infer;
use super::telemetry::Telemetry;
use crate::config::Discipline;
use crate::model::{Model, Request};
use crate::rules::Rules;
use crate::sink::Sink;
use crate::source::Source;

/// Step in which a pause looks whether to stop.
const PAUSE_STEP: Duration = Duration::from_millis(50);

/// A source, and what happens to frames that come too fast.
#[derive(Debug)]
pub struct Feed {
    pub source: Box<dyn Source>,
    pub discipline: Discipline,
}

/// What a loop is made of.
#[derive(Debug)]
pub struct Parts {
    /// At least one; their places are the source ids.
    pub feeds: Vec<Feed>,
    pub model: Model,
    pub request: Request,
    /// What is tracked and worth an event, if anything.
    pub rules: Option<Rules>,
    pub sinks: Vec<Box<dyn Sink>>,
    /// Frames of each source that may wait for the network.
    pub frames_waiting: usize,
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
pub(super) struct Shared {
    pub buffer: Buffer,
    pub telemetry: Arc<Telemetry>,
    stop: AtomicBool,
}

impl Pipeline {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        let Parts { mut feeds, model, request, rules, sinks, frames_waiting, frames_max, telemetry } = parts;
        telemetry.set_ends(
            feeds
                .iter()
                .map(|Feed { source, .. }| SourceCell::new(source.uri(), source.live(), source.facts().frames))
                .collect(),
            sinks.iter().map(|sink| SinkCell::new(sink.name(), sink.gauge())).collect(),
        );
        let shared = Arc::new(Shared {
            buffer: Buffer::new(frames_waiting, feeds.iter().map(|feed| feed.discipline).collect()),
            telemetry,
            stop: AtomicBool::new(false),
        });
        let spawn = |name: &'static str, work: Box<dyn FnOnce(&Shared) + Send>| {
            let shared = Arc::clone(&shared);
            crate::thread::spawn(name, move || {
                if std::panic::catch_unwind(AssertUnwindSafe(|| work(&shared))).is_err() {
                    shared.abandon(name);
                }
            })
        };
        let receipts = feeds.iter_mut().map(|feed| feed.source.receipts()).collect();
        let delivery = Delivery { rules, sinks, receipts };
        let mut threads = vec![
            spawn("deliver", Box::new(move |shared| delivery.run(shared)))?,
            spawn("infer", Box::new(move |shared| Infer::new(shared, model, request, frames_max).run()))?,
        ];
        for (lane, Feed { source, discipline }) in feeds.into_iter().enumerate() {
            let capture = Capture::new(lane, source, discipline);
            threads.push(spawn("capture", Box::new(move |shared| capture.run(shared)))?);
        }
        Ok(Self { shared, threads })
    }

    /// Whether the loop has ended by itself: all sources ended, enough frames were seen, or the reader has gone.
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
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Says that nothing more will be inferred. Capture may wait for room that nobody will make any more.
    pub fn end_inference(&self) {
        self.buffer.end_inference();
        self.end();
    }

    /// Asks every thread to end after the frame in its hands.
    pub fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Ends everything after a thread has died of a bug, so that nobody waits for it.
    fn abandon(&self, thread: &str) {
        self.telemetry.set_failed(format!("loop: the {thread} thread died of an internal error"));
        self.stop.store(true, Ordering::Relaxed);
        for lane in 0..self.telemetry.sources().len() {
            self.buffer.end_capture(lane);
        }
        self.buffer.end_inference();
        self.buffer.end_delivery();
    }

    /// Sleeps unless asked to stop meanwhile.
    pub fn pause(&self, duration: Duration) {
        let until = Instant::now() + duration;
        while !self.stopping() && Instant::now() < until {
            std::thread::sleep(PAUSE_STEP.min(until.saturating_duration_since(Instant::now())));
        }
    }
}
