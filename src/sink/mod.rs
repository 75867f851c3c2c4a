//! Where answers go: one file a kind of output.
//!
//! May not know: the loop that calls them. A sink that fails says so; the loop goes on and calls it again.

mod json_lines;
mod line;
mod snapshot;
pub mod spool;

use std::time::Duration;

use crate::frame::Frame;
use crate::model::Predictions;

pub use json_lines::JsonLines;
pub use snapshot::Snapshot;
pub use spool::{Spool, SpoolGauge};

/// What can go wrong with a sink.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
}

/// An output.
pub trait Sink: Send {
    /// Hands over one outcome. Waits at most a bounded time.
    ///
    /// # Errors
    /// The outcome was not delivered.
    fn deliver(&mut self, outcome: &Outcome<'_>) -> Result<(), Error>;
}

impl std::fmt::Debug for dyn Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sink")
    }
}
