//! One decoded picture.

use crate::frame::{self, Frame, Planar};

/// A picture of 8-bit luma and chroma, 4:2:0: the planes U and V are half as wide and half as high, and no row of any
/// plane is padded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    pub y: Vec<u8>,
    pub u: Vec<u8>,
    pub v: Vec<u8>,
    /// Luma from 0 to 255 instead of from 16 to 235.
    pub full_range: bool,
    /// What the caller gave with the access unit, for instance its time.
    pub stamp: i64,
}

/// Luma samples along a side of a macroblock.
const MACROBLOCK: usize = 16;

impl Picture {
    /// Fills `frame` with the colours that OpenCV's `VideoCapture` gives; its id and time stay.
    ///
    /// # Errors
    /// The planes are shorter than the size says.
    pub fn read(&self, frame: &mut Frame) -> Result<(), frame::Error> {
        let Self { width, height, ref y, ref u, ref v, full_range, .. } = *self;
        Planar { width, height, y, u, v, full_range }.read(frame)
    }

    /// Whether a part of it was never decoded. The decoder leaves such macroblocks at zero in all three planes, which no
    /// colour is: the darkest green of RGB has luma and chroma above it.
    pub(super) fn has_holes(&self) -> bool {
        let (chroma_width, chroma_height) = (self.width / 2, self.height / 2);
        // One sample in the middle of each macroblock: the deblocking filter reaches three samples over its edges.
        let centres = |side: usize| (MACROBLOCK / 4..side).step_by(MACROBLOCK / 2);
        centres(chroma_height).any(|y| {
            centres(chroma_width).any(|x| {
                let chroma = y * chroma_width + x;
                self.u[chroma] == 0 && self.v[chroma] == 0 && self.y[2 * y * self.width + 2 * x] == 0
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_macroblock_of_zeros_is_a_hole_and_black_is_none() {
        let mut picture = Picture {
            width: 48,
            height: 32,
            y: vec![0; 48 * 32],
            u: vec![128; 24 * 16],
            v: vec![128; 24 * 16],
            full_range: false,
            stamp: 0,
        };
        assert!(!picture.has_holes());
        for row in 8..16 {
            picture.u[row * 24 + 16..][..8].fill(0);
            picture.v[row * 24 + 16..][..8].fill(0);
        }
        assert!(picture.has_holes());
    }
}
