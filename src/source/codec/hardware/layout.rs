//! How a decoder's pictures lie in its buffers, and the part of them that is to be seen.
//!
//! May not know: devices. Everything here is a function of what a driver said, which is not trusted.

use crate::source::codec::Picture;
use crate::source::videodev::{PictureFormat, Rectangle, fourcc, fourcc_text};

const NV12: u32 = fourcc(*b"NV12");
const YU12: u32 = fourcc(*b"YU12");
/// What is understood, best first: three planes need not be taken apart.
pub const KNOWN: [u32; 2] = [YU12, NV12];
/// Longest side: twice that of level 5.2, and far below where a product overflows.
const SIDE_MAX: u32 = 8192;

/// Three planes, or two of which the second has U and V in turn, one after the other in one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    interleaved: bool,
    /// Bytes from a row of luma to the next.
    stride: usize,
    /// Rows of luma, with those that are cut off.
    rows: usize,
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Layout {
    /// # Errors
    /// A driver's numbers do not fit together.
    pub fn new(format: &PictureFormat, visible: Rectangle) -> Result<Self, String> {
        let PictureFormat { width, height, bytes_per_line, pixel_format, .. } = *format;
        if !KNOWN.contains(&pixel_format) {
            return Err(format!("it gives {}, expected NV12 or YU12", fourcc_text(pixel_format)));
        }
        let seen = |offset: i32, length: u32, side: u32| {
            let offset = u32::try_from(offset).ok().filter(|_| length > 0)?;
            offset.checked_add(length).filter(|end| *end <= side).map(|_| offset as usize)
        };
        let sides = width.max(height).max(bytes_per_line) <= SIDE_MAX && bytes_per_line >= width;
        let left = seen(visible.left, visible.width, width).filter(|_| sides);
        let (Some(left), Some(top)) = (left, seen(visible.top, visible.height, height)) else {
            let Rectangle { left, top, width: across, height: down } = visible;
            return Err(format!(
                "it gives {across}x{down} pixels at {left},{top} of {width}x{height} in rows of {bytes_per_line} bytes"
            ));
        };
        Ok(Self {
            interleaved: pixel_format == NV12,
            stride: bytes_per_line as usize,
            rows: height as usize,
            left,
            top,
            width: visible.width as usize,
            height: visible.height as usize,
        })
    }

    /// Of a picture.
    pub fn bytes(&self) -> usize {
        self.stride * self.rows + 2 * self.chroma_bytes()
    }

    fn chroma_bytes(&self) -> usize {
        self.stride.div_ceil(2) * self.rows.div_ceil(2)
    }

    /// What is to be seen of a picture; `None` where there are too few bytes.
    pub fn picture(&self, bytes: &[u8]) -> Option<Picture> {
        let Self { stride, left, top, width, height, .. } = *self;
        let (luma, chroma) = bytes.get(..self.bytes())?.split_at(stride * self.rows);
        let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
        let (y, u, v);
        y = plane(luma, stride, [left, top], [width, height]);
        if self.interleaved {
            let pairs = plane(chroma, stride, [left / 2 * 2, top / 2], [2 * chroma_width, chroma_height]);
            let each = |which| pairs.chunks_exact(2).map(|pair| pair[which]).collect();
            (u, v) = (each(0), each(1));
        } else {
            let (first, second) = chroma.split_at(self.chroma_bytes());
            let part = |chroma| plane(chroma, stride.div_ceil(2), [left / 2, top / 2], [chroma_width, chroma_height]);
            (u, v) = (part(first), part(second));
        }
        Some(Picture { width, height, y, u, v, full_range: false, stamp: 0 })
    }
}

/// A part of a plane, without its padding.
fn plane(bytes: &[u8], stride: usize, [left, top]: [usize; 2], [width, height]: [usize; 2]) -> Vec<u8> {
    let mut part = Vec::with_capacity(width * height);
    for row in bytes.chunks(stride).skip(top).take(height) {
        part.extend_from_slice(row.get(left..left + width).unwrap_or_default());
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 4x4 pixels at 2,2 of 8x8 in rows of 10 bytes; every sample says where it is.
    fn bytes(chroma_step: usize) -> Vec<u8> {
        let sample = |plane: usize, x: usize, y: usize| u8::try_from(plane * 100 + y * 10 + x).unwrap();
        let mut bytes: Vec<u8> = (0..80).map(|at| sample(0, at % 10, at / 10)).collect();
        match chroma_step {
            1 => bytes.extend((0..40).map(|at| sample(1 + at / 20, at % 5, at % 20 / 5))),
            _ => bytes.extend((0..40).map(|at| sample(1 + at % 2, at % 10 / 2, at / 10))),
        }
        bytes
    }

    fn format(letters: [u8; 4]) -> PictureFormat {
        PictureFormat { width: 8, height: 8, bytes_per_line: 10, pixel_format: fourcc(letters), ..Default::default() }
    }

    const VISIBLE: Rectangle = Rectangle { left: 2, top: 2, width: 4, height: 4 };

    #[test]
    fn what_is_to_be_seen_is_cut_out() {
        for (letters, step) in [(*b"YU12", 1), (*b"NV12", 2)] {
            let layout = Layout::new(&format(letters), VISIBLE).unwrap();
            let picture = layout.picture(&bytes(step)).unwrap();
            assert_eq!((picture.width, picture.height), (4, 4));
            assert_eq!(picture.y, [22, 23, 24, 25, 32, 33, 34, 35, 42, 43, 44, 45, 52, 53, 54, 55]);
            assert_eq!((picture.u, picture.v), (vec![111, 112, 121, 122], vec![211, 212, 221, 222]));
            assert_eq!(layout.picture(&bytes(step)[..119]), None);
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let good = format(*b"NV12");
        for (format, visible) in [
            (PictureFormat { pixel_format: fourcc(*b"NV16"), ..good }, VISIBLE),
            (PictureFormat { bytes_per_line: 7, ..good }, VISIBLE),
            (PictureFormat { bytes_per_line: u32::MAX, ..good }, VISIBLE),
            (good, Rectangle { left: -2, ..VISIBLE }),
            (good, Rectangle { top: 5, ..VISIBLE }),
            (good, Rectangle { width: u32::MAX, ..VISIBLE }),
            (good, Rectangle { height: 0, ..VISIBLE }),
        ] {
            Layout::new(&format, visible).unwrap_err();
        }
    }
}
