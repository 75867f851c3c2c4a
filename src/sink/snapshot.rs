//! The last frame with its detections drawn on it, for whoever wants to look.
//!
//! The loop only copies pixels here; drawing and encoding happen when somebody asks. The loop never waits for a
//! viewer: a frame that arrives while one is being copied out is not kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use super::{Error, Outcome, Sink};
use crate::frame::{self, Frame};
use crate::model::{Annotator, Labels, Predictions};

/// The store; clones share it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Pictures stored so far.
    count: AtomicU64,
    /// Written by the loop.
    last: Mutex<Picture>,
    /// Used by viewers only.
    viewer: Mutex<Picture>,
    annotator: Annotator,
    quality: u8,
}

#[derive(Debug)]
struct Picture {
    frame: Frame,
    predictions: Predictions,
}

impl Picture {
    fn empty() -> Mutex<Self> {
        Mutex::new(Self { frame: Frame::empty(), predictions: Predictions::default() })
    }

    fn copy_from(&mut self, frame: &Frame, predictions: &Predictions) {
        self.frame.copy_from(frame);
        self.predictions.copy_from(predictions);
    }
}

impl Snapshot {
    /// An empty store; `quality` is that of the JPEG, 1 to 100.
    #[must_use]
    pub fn new(labels: Arc<Labels>, quality: u8) -> Self {
        let annotator = Annotator { names: labels, labels: true, stroke_px: 2 };
        let (last, viewer) = (Picture::empty(), Picture::empty());
        Self { shared: Arc::new(Shared { count: AtomicU64::new(0), last, viewer, annotator, quality }) }
    }

    /// Number of the newest picture, from 1; `None` before the first.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        Some(self.shared.count.load(Ordering::Acquire)).filter(|&count| count > 0)
    }

    /// The newest picture, annotated, as JPEG; `None` before the first.
    #[must_use]
    pub fn jpeg(&self) -> Option<Vec<u8>> {
        self.newest()?;
        let shared = &*self.shared;
        let mut viewer = shared.viewer.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let last = shared.last.lock().unwrap_or_else(PoisonError::into_inner);
            viewer.copy_from(&last.frame, &last.predictions);
        }
        let Picture { frame, predictions } = &mut *viewer;
        shared.annotator.draw(predictions, frame);
        let mut jpeg = Vec::new();
        frame::encode_jpeg(frame, shared.quality, &mut jpeg).ok()?;
        Some(jpeg)
    }
}

impl Sink for Snapshot {
    fn name(&self) -> &'static str {
        "snapshot"
    }

    fn deliver(&mut self, outcome: &Outcome<'_>) -> Result<(), Error> {
        let Ok(predictions) = outcome.result else { return Ok(()) };
        let mut last = match self.shared.last.try_lock() {
            Ok(last) => last,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        last.copy_from(outcome.frame, predictions);
        self.shared.count.fetch_add(1, Ordering::Release);
        Ok(())
    }
}
