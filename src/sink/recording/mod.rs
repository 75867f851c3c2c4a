//! What the device has seen, kept on a disk: pictures now and then, video in segments, and clips of what rules report.
//!
//! Each kind has a thread of its own, which draws, encodes and writes, at a low priority and behind a short queue: what it
//! does not keep up with is dropped and counted. Its directory is a ring by bytes and by age. A disk that is missing, full
//! or unplugged degrades the device, and is tried again for ever.
//! May not know: the loop, or how the status document looks.

mod avi;
mod clips;
mod film;
mod lane;
mod pictures;
mod ring;
#[cfg(test)]
mod tests;
mod video;

use std::sync::Arc;
use std::time::Instant;

use super::{Error, Sink};
use crate::config::RecordingConfig;
use crate::frame::encode_jpeg;
use crate::model::{Annotator, Labels};
use clips::Clips;
use lane::{Lane, Shot};
use pictures::Pictures;
use ring::{Place, Ring};
use video::Video;

/// Opens what the configuration asks for. Directories need not be there yet.
///
/// # Errors
/// The system gives no thread.
pub fn open(config: &RecordingConfig, boot_id: &str, labels: &Arc<Labels>) -> Result<Vec<Box<dyn Sink>>, Error> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    let pen = || Pen::new(config, labels);
    let RecordingConfig { pictures, video, clips, .. } = config;
    if let Some(dir) = &pictures.dir {
        let place = Place::new(pictures.keep(), dir, boot_id);
        let wanted = pictures::wanted(pictures);
        sinks.push(Box::new(Lane::start("recording.pictures", place, wanted, Pictures::new(pen()))?));
    }
    if let Some(dir) = &video.dir {
        let place = Place::new(video.keep(), dir, boot_id);
        let (wanted, keeper) = (lane::at_rate(video.fps, false), Video::new(video, pen()));
        sinks.push(Box::new(Lane::start("recording.video", place, wanted, keeper)?));
    }
    if let Some(dir) = &clips.dir {
        let place = Place::new(clips.keep(), dir, boot_id);
        let (wanted, keeper) = (lane::at_rate(clips.fps, true), Clips::new(clips, pen()));
        sinks.push(Box::new(Lane::start("recording.clips", place, wanted, keeper)?));
    }
    Ok(sinks)
}

/// Makes the JPEG of what was seen.
struct Pen {
    annotator: Option<Annotator>,
    quality: u8,
    jpeg: Vec<u8>,
}

impl Pen {
    fn new(config: &RecordingConfig, labels: &Arc<Labels>) -> Self {
        let draw = || Annotator { names: Arc::clone(labels), labels: true, stroke_px: 2, text_px: None };
        Self { annotator: config.annotated.then(draw), quality: config.quality, jpeg: Vec::new() }
    }

    /// The picture with its answers drawn on it, which changes the shot, or as it came.
    fn jpeg(&mut self, shot: &mut Shot) -> Result<&[u8], String> {
        if let Some(annotator) = &self.annotator {
            annotator.draw(&shot.predictions, &mut shot.frame);
        }
        encode_jpeg(&shot.frame, self.quality, &mut self.jpeg).map_err(|error| error.to_string())?;
        Ok(&self.jpeg)
    }
}

/// What a lane's thread does with what comes along it. An error is words for what is wrong; what was begun in the ring is
/// lost then, and the ring opened anew after a pause.
trait Keeper: Send {
    /// Keeps one shot. Returns how many records are done with it.
    fn keep(&mut self, ring: &mut Ring, shot: &mut Shot) -> Result<u64, String>;

    /// Called about once a second: ends what has lasted long enough.
    fn tick(&mut self, _ring: &mut Ring, _now: Instant) -> Result<u64, String> {
        Ok(0)
    }

    /// Ends what is open.
    fn end(&mut self, _ring: &mut Ring) -> Result<u64, String> {
        Ok(0)
    }

    /// Forgets what is open.
    fn forget(&mut self) {}
}
