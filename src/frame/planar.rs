//! Decoded video, luma and chroma in planes of their own, to RGB as OpenCV's `VideoCapture` converts it.
//!
//! May not know: where the planes come from.

use super::yuv::{VideoWeights, i420_row};
use super::{CHANNELS, Error, Frame};

/// A picture of 8-bit 4:2:0 in three planes, no row of which is padded.
#[derive(Clone, Copy, Debug)]
pub struct Planar<'a> {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Luma of every pixel.
    pub y: &'a [u8],
    /// Chroma of squares of two by two pixels; the last column and row of odd sides have their own.
    pub u: &'a [u8],
    pub v: &'a [u8],
    /// Values from 0 to 255 instead of those of video, luma from 16 to 235.
    pub full_range: bool,
}

impl Planar<'_> {
    /// Fills `frame`, whose buffer is reused; its id and time stay.
    ///
    /// # Errors
    /// The picture is empty, or a plane is too short; the frame is unchanged then.
    pub fn read(&self, frame: &mut Frame) -> Result<(), Error> {
        let Self { width, height, .. } = *self;
        if width == 0 || height == 0 {
            return Err(Error::EmptyPicture { what: "the picture", width, height });
        }
        let half = width.div_ceil(2);
        let chroma_bytes = half * height.div_ceil(2);
        if self.y.len() < width * height || self.u.len() < chroma_bytes || self.v.len() < chroma_bytes {
            return Err(Error::Truncated { format: "I420", found: self.y.len() + self.u.len() + self.v.len() });
        }
        frame.reshape(width, height);
        let weights = if self.full_range { VideoWeights::FULL_RANGE } else { VideoWeights::VIDEO_RANGE };
        let rows = frame.pixels_mut().chunks_exact_mut(width * CHANNELS);
        for (y, (luma, rgb)) in self.y.chunks_exact(width).zip(rows).enumerate() {
            let chroma = y / 2 * half;
            i420_row(luma, &self.u[chroma..][..half], &self.v[chroma..][..half], weights, rgb);
        }
        Ok(())
    }
}
