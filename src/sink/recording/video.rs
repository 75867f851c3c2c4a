//! Video without an end, in segments: each source has its own.

use std::collections::HashMap;
use std::time::Instant;

use super::film::Film;
use super::lane::Shot;
use super::ring::Ring;
use super::{Keeper, Pen};
use crate::config::VideoConfig;

/// A source that was silent for longer begins a new segment, so that no video is longer than what it shows.
const GAP_MAX_S: u64 = 5;
/// A segment takes at most this share of the ring, so that the oldest is never most of what is kept.
const SEGMENTS_MIN: u64 = 4;

/// Writes them.
pub struct Video {
    pen: Pen,
    fps: u32,
    /// Moments of a segment.
    moments_max: u64,
    bytes_max: u64,
    /// One a source, and when it last had a picture.
    open: HashMap<u32, (Film, Instant)>,
}

impl Video {
    pub fn new(config: &VideoConfig, pen: Pen) -> Self {
        let moments_max = u64::from(config.segment_s) * u64::from(config.fps);
        let bytes_max = config.size_mb * 1_000_000 / SEGMENTS_MIN;
        Self { pen, fps: config.fps, moments_max, bytes_max, open: HashMap::new() }
    }

    /// Whether this picture belongs into a new segment.
    fn is_over(&self, film: &Film, shot: &Shot) -> bool {
        let gap = film.gap(shot.moment);
        film.size() != shot.frame.size()
            || film.moments() + gap >= self.moments_max
            || gap > GAP_MAX_S * u64::from(self.fps)
            || film.bytes() >= self.bytes_max
    }
}

impl Keeper for Video {
    fn keep(&mut self, ring: &mut Ring, shot: &mut Shot) -> Result<u64, String> {
        let (source_id, size) = (shot.frame.source_id, shot.frame.size());
        let mut film = match self.open.remove(&source_id) {
            Some((film, _)) if !self.is_over(&film, shot) => film,
            before => {
                before.map_or(Ok(()), |(film, _)| film.close(ring))?;
                let name = ring.name(shot.stamp, source_id, shot.frame.id) + ".avi";
                Film::create(ring, name, size, self.fps, shot.moment)?
            }
        };
        if film.push(ring, shot.moment, self.pen.jpeg(shot)?)? {
            self.open.insert(source_id, (film, Instant::now()));
            return Ok(1);
        }
        film.close(ring).map(|()| 0)
    }

    fn tick(&mut self, ring: &mut Ring, now: Instant) -> Result<u64, String> {
        let silent = |at: Instant| now.saturating_duration_since(at).as_secs() > GAP_MAX_S;
        let mut over = self.open.extract_if(|_, (_, at)| silent(*at));
        over.try_for_each(|(_, (film, _))| film.close(ring)).map(|()| 0)
    }

    fn end(&mut self, ring: &mut Ring) -> Result<u64, String> {
        self.open.drain().try_for_each(|(_, (film, _))| film.close(ring)).map(|()| 0)
    }

    fn forget(&mut self) {
        self.open.clear();
    }
}
