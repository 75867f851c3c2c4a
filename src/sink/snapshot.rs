//! The last frame with its detections drawn on it, for whoever wants to look.
//!
//! The loop only copies pixels here; drawing and encoding happen when somebody asks. The loop never waits for a
//! viewer: a frame that arrives while one is being copied out is not kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use super::{Error, Outcome, Sink};
use crate::frame::draw::Colour;
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
        let annotator = Annotator { names: labels, labels: true, stroke_px: 2, text_px: None };
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

    /// Copies the newest picture into `glance`; `false` when it has that one, or there is none yet.
    pub fn look(&self, glance: &mut Glance) -> bool {
        let number = self.shared.count.load(Ordering::Acquire);
        if number == glance.number {
            return false;
        }
        let last = self.shared.last.lock().unwrap_or_else(PoisonError::into_inner);
        glance.number = number;
        glance.picture.copy_from(&last.frame, &last.predictions);
        true
    }

    /// What a viewer with pictures of its own looks with.
    #[must_use]
    pub fn glance(&self) -> Glance {
        let picture = Picture { frame: Frame::empty(), predictions: Predictions::default() };
        Glance { number: 0, picture, annotator: self.shared.annotator.clone(), counts: Vec::new() }
    }
}

/// One picture that a viewer keeps and draws at its own size.
#[derive(Debug)]
pub struct Glance {
    number: u64,
    picture: Picture,
    annotator: Annotator,
    counts: Vec<u32>,
}

/// How often a class is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count<'a> {
    pub class: &'a str,
    pub colour: Colour,
    pub count: u32,
}

impl Glance {
    /// The picture as it came; 0×0 pixels before the first.
    #[must_use]
    pub fn frame(&self) -> &Frame {
        &self.picture.frame
    }

    /// Draws what was seen on the picture at any size, with letters and lines that suit it.
    pub fn draw(&mut self, frame: &mut Frame) {
        // A label on a small panel is still read by who stands before it; on a large one it grows with the picture.
        let text_px = (frame.height() / 30).max(13);
        self.annotator.text_px = Some(text_px);
        self.annotator.stroke_px = u32::try_from(text_px / 8).unwrap_or(1).max(2);
        self.annotator.draw(&self.picture.predictions, frame);
    }

    /// Classes of the model in their order, each with how often it is in the picture: of detections their number, of a
    /// classifier 1 for what it predicts.
    pub fn counts(&mut self) -> impl Iterator<Item = Count<'_>> {
        let (predictions, names) = (&self.picture.predictions, &*self.annotator.names);
        self.counts.clear();
        self.counts.resize(names.class_names.len(), 0);
        let objects = predictions.detections.iter().map(|detection| detection.class_id);
        let classes = predictions.classes.iter().filter(|class| class.predicted).map(|class| class.class_id);
        for class in objects.chain(classes) {
            if let Some(count) = self.counts.get_mut(class as usize) {
                *count += 1;
            }
        }
        (0..).zip(&names.class_names).zip(&self.counts).map(|((class_id, class), &count)| Count {
            class,
            colour: names.color(class_id),
            count,
        })
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
