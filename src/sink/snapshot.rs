//! The last frame with its detections drawn on it, for `/snapshot.jpg`.
//!
//! The loop only copies pixels here; drawing and encoding happen when somebody looks, at most once a frame. The loop
//! never waits for a viewer: a frame that arrives while one is being copied out is not kept.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use super::{Error, Outcome, Sink};
use crate::cache::Rgb;
use crate::frame::{Frame, encode_jpeg};
use crate::model::{Annotator, Predictions};

/// The store; clones share it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Written by the loop.
    last: Mutex<Last>,
    /// Used by viewers only.
    viewer: Mutex<Viewer>,
    annotator: Annotator,
    quality: u8,
}

#[derive(Debug)]
struct Last {
    /// 0 before the first frame, then counted up.
    generation: u64,
    frame: Frame,
    predictions: Predictions,
}

#[derive(Debug)]
struct Viewer {
    generation: u64,
    frame: Frame,
    predictions: Predictions,
    jpeg: Option<Arc<[u8]>>,
    buffer: Vec<u8>,
}

impl Snapshot {
    /// An empty store; `quality` is that of the JPEG, 1 to 100.
    #[must_use]
    pub fn new(class_names: Vec<String>, colors: Vec<Rgb>, quality: u8) -> Self {
        let last = Last { generation: 0, frame: Frame::empty(), predictions: Predictions::default() };
        let viewer = Viewer {
            generation: 0,
            frame: Frame::empty(),
            predictions: Predictions::default(),
            jpeg: None,
            buffer: Vec::new(),
        };
        let annotator = Annotator { class_names, colors, labels: true, stroke_px: 2 };
        Self { shared: Arc::new(Shared { last: Mutex::new(last), viewer: Mutex::new(viewer), annotator, quality }) }
    }

    /// The last frame, annotated, as JPEG; `None` before the first.
    #[must_use]
    pub fn jpeg(&self) -> Option<Arc<[u8]>> {
        let shared = &*self.shared;
        let mut guard = shared.viewer.lock().unwrap_or_else(PoisonError::into_inner);
        let viewer = &mut *guard;
        {
            let last = shared.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.generation == viewer.generation {
                return viewer.jpeg.clone();
            }
            viewer.generation = last.generation;
            viewer.frame.copy_from(&last.frame);
            viewer.predictions.clone_from(&last.predictions);
        }
        shared.annotator.draw(&viewer.predictions, &mut viewer.frame);
        viewer.jpeg = encode_jpeg(&viewer.frame, shared.quality, &mut viewer.buffer)
            .ok()
            .map(|()| Arc::from(viewer.buffer.as_slice()));
        viewer.jpeg.clone()
    }
}

impl Sink for Snapshot {
    fn deliver(&mut self, outcome: &Outcome<'_>) -> Result<(), Error> {
        let Ok(predictions) = outcome.result else { return Ok(()) };
        let mut last = match self.shared.last.try_lock() {
            Ok(last) => last,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        last.generation += 1;
        last.frame.copy_from(outcome.frame);
        last.predictions.clone_from(predictions);
        Ok(())
    }
}
