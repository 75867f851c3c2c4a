//! Where answers go: one file a kind of output.
//!
//! May not know: the loop that calls them. A sink that fails says so; the loop goes on and calls it again.

mod forward;
mod gpio;
mod json_lines;
mod line;
pub mod mqtt;
pub mod outbox;
mod outlet;
pub mod recording;
mod snapshot;
pub mod spool;
mod tls;
pub mod webhook;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::frame::Frame;
use crate::model::Predictions;
use crate::rules::Event;

pub use gpio::Gpio;
pub use json_lines::{JsonLines, Target};
pub use snapshot::{Count, Glance, Snapshot};
pub use spool::{Spool, SpoolGauge};

/// What can go wrong with a sink.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("output.json = {found}: expected {expected}")]
    Target { found: String, expected: String },
    #[error("{target}: cannot be opened: {cause}")]
    Open { target: String, cause: std::io::Error },
    #[error("{target}: cannot be written: {cause}")]
    Write { target: String, cause: std::io::Error },
    /// Whoever read the output has gone; nothing written to it will ever be read.
    #[error("{target}: the reader has gone")]
    Closed { target: String },
    /// Records are kept in memory or dropped, for the reason said.
    #[error("spool {0}")]
    Spool(String),
    /// Records wait where they are safe as long as this process runs, or were dropped, for the reason said.
    #[error("{target}: {why}")]
    Trouble { target: String, why: String },
    /// The outcome has not got to where it should, and may never.
    #[error("{target}: {why}")]
    Held { target: String, why: String },
}

/// One frame with its answer, or with the reason why there is none.
#[derive(Debug)]
pub struct Outcome<'a> {
    pub frame: &'a Frame,
    /// Path or URI of the frame's origin.
    pub origin: &'a str,
    pub result: Result<&'a Predictions, &'a str>,
    /// From the frame complete in memory to its predictions.
    pub latency: Duration,
    /// Track of each detection in their order, `None` for one that has none (yet); empty where nothing is tracked.
    pub tracks: &'a [Option<u64>],
    /// What began or ended with this frame.
    pub events: &'a [Event],
}

impl<'a> Outcome<'a> {
    /// Of a frame that nothing is tracked in and no rule says anything of.
    #[must_use]
    pub fn new(frame: &'a Frame, origin: &'a str, result: Result<&'a Predictions, &'a str>, latency: Duration) -> Self {
        Self { frame, origin, result, latency, tracks: &[], events: &[] }
    }
}

/// What an output that works on a thread of its own has done, for the status document. Written by that thread, read by
/// anyone.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Records that their receiver has, or that are safe on the disk.
    pub delivered: AtomicU64,
    /// Records that wait for it now.
    pub waiting: AtomicU64,
    /// Records that gave way.
    pub dropped: AtomicU64,
}

/// An output.
pub trait Sink: Send {
    /// What it is called in the status document: its kind, and its target where there may be several of a kind.
    fn name(&self) -> &str;

    /// Hands over one outcome. Waits at most a bounded time: what may take longer has a queue and a thread of its own.
    ///
    /// # Errors
    /// The outcome was not delivered, or the output's own thread is in trouble; the loop goes on and calls again.
    fn deliver(&mut self, outcome: &Outcome<'_>) -> Result<(), Error>;

    /// Its figures, where it has a thread of its own.
    fn gauge(&self) -> Option<Arc<Gauge>> {
        None
    }
}

impl std::fmt::Debug for dyn Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sink({})", self.name())
    }
}
