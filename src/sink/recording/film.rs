//! A video that is being written into a ring, at a constant rate: moments that lack a picture keep the one before.
//!
//! May not know: why it is written.

use std::time::{Duration, Instant};

use super::avi::Avi;
use super::ring::Ring;
use crate::frame::Size;

/// A power cut loses at most this much; more often would wear a card.
const SYNC: Duration = Duration::from_secs(5);

/// The video.
#[derive(Debug)]
pub struct Film {
    avi: Avi,
    name: String,
    /// Of the first picture, and after the last.
    first: u64,
    next: u64,
    synced_at: Instant,
}

impl Film {
    /// A new file called `name` in the ring; `moment` is that of its first picture.
    pub fn create(ring: &mut Ring, name: String, size: Size, fps: u32, moment: u64) -> Result<Self, String> {
        let avi = Avi::create(&ring.path(&name), size, fps).map_err(|cause| format!("{name}: {cause}"))?;
        ring.note(&name, avi.bytes())?;
        Ok(Self { avi, name, first: moment, next: moment, synced_at: Instant::now() })
    }

    pub fn size(&self) -> Size {
        self.avi.size()
    }

    pub fn bytes(&self) -> u64 {
        self.avi.bytes()
    }

    /// Moment of its first picture.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Moments that it lasts.
    pub fn moments(&self) -> u64 {
        self.next - self.first
    }

    /// Moments between its last picture and this one.
    pub fn gap(&self, moment: u64) -> u64 {
        moment.saturating_sub(self.next)
    }

    /// Adds a picture. `false` when the file is full; a moment that has its picture already keeps it.
    pub fn push(&mut self, ring: &mut Ring, moment: u64, jpeg: &[u8]) -> Result<bool, String> {
        if moment < self.next {
            return Ok(true);
        }
        let fault = |cause: std::io::Error| format!("{}: cannot be written: {cause}", self.name);
        while self.next < moment {
            if !self.avi.push(&[]).map_err(fault)? {
                return Ok(false);
            }
            self.next += 1;
        }
        if !self.avi.push(jpeg).map_err(fault)? {
            return Ok(false);
        }
        self.next += 1;
        if self.synced_at.elapsed() >= SYNC {
            self.synced_at = Instant::now();
            self.avi.sync().map_err(fault)?;
        }
        ring.note(&self.name, self.avi.bytes())?;
        Ok(true)
    }

    /// Ends the file.
    pub fn close(self, ring: &mut Ring) -> Result<(), String> {
        let bytes = self.avi.close().map_err(|cause| format!("{}: cannot be ended: {cause}", self.name))?;
        ring.note(&self.name, bytes)
    }
}
