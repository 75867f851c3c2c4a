//! Pixels: one frame of video or one still image, and what can be done to it without knowing any model.
//!
//! May not know: models, engines, sources. Everything here matches OpenCV bit for bit where OpenCV is what
//! Roboflow's engines call, because the network sees the difference.

pub mod colour;
pub mod contour;
pub mod contrast;
pub mod decode;
pub mod draw;
pub mod encode;
mod error;
mod file;
mod levels;
mod planar;
mod raw;
pub mod resize;
mod view;
mod yuv;

pub use colour::grey_in_place;
pub use contrast::{Contrast, ContrastFilter};
pub use decode::{Limits, Orientation, decode, decode_into, jpeg_length, turn};
pub use encode::encode_jpeg;
pub use error::Error;
pub use file::{read_file, write_file};
pub use levels::Levels;
pub use planar::Planar;
pub use raw::{RawFormat, RawLayout};
pub use resize::{Antialias, Arithmetic, Placement, Resizer};
pub use view::{CropPercent, Region, Size, View};

use std::time::Instant;

/// Channels of every [`Frame`]: red, green, blue.
pub const CHANNELS: usize = 3;

/// An image of interleaved 8-bit RGB, rows top to bottom without padding, plus what is known of its origin.
///
/// The buffer is kept when a frame is refilled, so a frame that goes round the loop stops allocating once it has
/// seen the largest picture.
#[derive(Clone)]
pub struct Frame {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    /// Number of the frame in its source, from 0.
    pub id: u64,
    /// Number of the source in the configuration, from 0.
    pub source_id: u32,
    /// When the frame was complete in memory, or when its camera says that it was taken (monotonic).
    pub captured_at: Instant,
}

impl Frame {
    /// An empty frame (0×0), to be filled by a source.
    #[must_use]
    pub fn empty() -> Self {
        Self { width: 0, height: 0, pixels: Vec::new(), id: 0, source_id: 0, captured_at: Instant::now() }
    }

    /// A black frame of `width`×`height` pixels.
    #[must_use]
    pub fn new(width: usize, height: usize) -> Self {
        let mut frame = Self::empty();
        frame.reshape(width, height);
        frame
    }

    /// A frame over given pixels.
    ///
    /// # Panics
    /// When `pixels` is not `width * height * 3` bytes long.
    #[must_use]
    pub fn from_rgb(width: usize, height: usize, pixels: Vec<u8>) -> Self {
        assert_eq!(pixels.len(), width * height * CHANNELS, "pixels of a {width}x{height} RGB frame");
        Self { width, height, pixels, id: 0, source_id: 0, captured_at: Instant::now() }
    }

    /// Makes the frame `width`×`height`; what the pixels are afterwards is unspecified. Reuses the buffer.
    pub fn reshape(&mut self, width: usize, height: usize) {
        self.width = width;
        self.height = height;
        self.pixels.resize(width * height * CHANNELS, 0);
    }

    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// All pixels, `height * width * 3` bytes.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// Row `y`, `width * 3` bytes.
    #[must_use]
    pub fn row(&self, y: usize) -> &[u8] {
        let stride = self.width * CHANNELS;
        &self.pixels[y * stride..(y + 1) * stride]
    }

    pub fn row_mut(&mut self, y: usize) -> &mut [u8] {
        let stride = self.width * CHANNELS;
        &mut self.pixels[y * stride..(y + 1) * stride]
    }

    /// Copies size, pixels and origin of another frame, reusing this one's buffer.
    pub fn copy_from(&mut self, other: &Frame) {
        self.width = other.width;
        self.height = other.height;
        self.pixels.clear();
        self.pixels.extend_from_slice(&other.pixels);
        self.id = other.id;
        self.source_id = other.source_id;
        self.captured_at = other.captured_at;
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({}x{}, id {})", self.width, self.height, self.id)
    }
}
