//! Uncompressed pictures as cameras lay them out in memory, to RGB as OpenCV's `cvtColor` converts them.
//!
//! May not know: where the bytes come from. What a driver says of them is checked: sides, the length of a row, the
//! length of the whole; no values make it panic.

use super::{CHANNELS, Error, Frame, Limits, Size, yuv};

/// What the bytes of a picture are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawFormat {
    /// Luma, U, luma, V for two pixels.
    Yuyv,
    /// All luma, then rows of U and V for squares of two by two pixels.
    Nv12,
    /// Luma alone, of full range.
    Grey,
    /// Red, green and blue.
    Rgb,
}

impl RawFormat {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Yuyv => "YUYV",
            Self::Nv12 => "NV12",
            Self::Grey => "GREY",
            Self::Rgb => "RGB",
        }
    }

    /// Bytes of a row of `width` pixels, without padding; of NV12 a row of luma, or one of chroma.
    fn row_bytes(self, width: usize) -> usize {
        match self {
            Self::Yuyv => width * 2,
            Self::Nv12 | Self::Grey => width,
            Self::Rgb => width * CHANNELS,
        }
    }
}

/// The place of every pixel in a picture's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawLayout {
    format: RawFormat,
    size: Size,
    /// Bytes from one row to the next, at least those of a row.
    stride: usize,
    bytes: usize,
}

impl RawLayout {
    /// A picture of `size` with rows `stride` bytes apart; 0 says that rows follow each other without padding.
    ///
    /// # Errors
    /// The picture is empty or beyond `limits`, a row is longer than the stride, or a side is odd where chroma needs
    /// pairs of pixels.
    pub fn new(format: RawFormat, size: Size, stride: usize, limits: Limits) -> Result<Self, Error> {
        let Size { width, height } = size;
        if width == 0 || height == 0 {
            return Err(Error::EmptyPicture { what: "the picture", width, height });
        }
        if width.saturating_mul(height) as u64 > limits.pixels_max {
            let [width, height] = [width, height].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
            return Err(Error::TooManyPixels { width, height, limit: limits.pixels_max });
        }
        let odd = match format {
            RawFormat::Yuyv => !width.is_multiple_of(2),
            RawFormat::Nv12 => !(width.is_multiple_of(2) && height.is_multiple_of(2)),
            RawFormat::Grey | RawFormat::Rgb => false,
        };
        if odd {
            return Err(Error::OddSide { format: format.name(), width, height });
        }
        let row = format.row_bytes(width);
        let stride = if stride == 0 { row } else { stride };
        if stride < row {
            return Err(Error::RowTooShort { format: format.name(), width, found: stride, expected: row });
        }
        let rows = if format == RawFormat::Nv12 { height + height / 2 } else { height };
        // The last row needs no padding.
        let bytes = stride.saturating_mul(rows - 1).saturating_add(row);
        Ok(Self { format, size, stride, bytes })
    }

    /// Bytes that a whole picture has at least.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// Converts a picture into `frame`, whose buffer is reused; its id and time stay.
    ///
    /// # Errors
    /// [`Error::Truncated`] for fewer bytes than a picture has; the frame is unchanged then.
    pub fn read(&self, bytes: &[u8], frame: &mut Frame) -> Result<(), Error> {
        let Size { width, height } = self.size;
        if bytes.len() < self.bytes {
            return Err(Error::Truncated { format: self.format.name(), found: bytes.len() });
        }
        frame.reshape(width, height);
        let row_bytes = self.format.row_bytes(width);
        let source = |row: usize| &bytes[row * self.stride..][..row_bytes];
        for (y, rgb) in frame.pixels_mut().chunks_exact_mut(width * CHANNELS).enumerate() {
            match self.format {
                RawFormat::Yuyv => yuv::yuyv_row(source(y), rgb),
                RawFormat::Nv12 => yuv::nv12_row(source(y), source(height + y / 2), rgb),
                RawFormat::Grey => {
                    rgb.as_chunks_mut::<CHANNELS>().0.iter_mut().zip(source(y)).for_each(|(p, &l)| *p = [l; CHANNELS]);
                }
                RawFormat::Rgb => rgb.copy_from_slice(source(y)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(format: RawFormat, width: usize, height: usize, stride: usize) -> Result<RawLayout, Error> {
        RawLayout::new(format, Size::new(width, height), stride, Limits::default())
    }

    #[test]
    fn padding_is_passed_over_and_the_last_row_needs_none() {
        let mut frame = Frame::empty();
        let grey = layout(RawFormat::Grey, 2, 2, 4).unwrap();
        grey.read(&[1, 2, 99, 99, 3, 4], &mut frame).unwrap();
        assert_eq!(frame.pixels(), [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
        let rgb = layout(RawFormat::Rgb, 1, 2, 5).unwrap();
        rgb.read(&[1, 2, 3, 99, 99, 4, 5, 6, 99, 99], &mut frame).unwrap();
        assert_eq!((frame.width(), frame.height(), frame.pixels()), (1, 2, &[1, 2, 3, 4, 5, 6][..]));
        let yuyv = layout(RawFormat::Yuyv, 2, 2, 6).unwrap();
        yuyv.read(&[16, 128, 235, 128, 99, 99, 235, 128, 16, 128], &mut frame).unwrap();
        assert_eq!(frame.pixels(), [0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0, 0]);
        let nv12 = layout(RawFormat::Nv12, 2, 2, 3).unwrap();
        nv12.read(&[16, 235, 99, 235, 16, 99, 128, 128], &mut frame).unwrap();
        assert_eq!(frame.pixels(), [0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0, 0]);
    }

    #[test]
    fn one_byte_too_few_is_truncated() {
        use RawFormat::{Grey, Nv12, Rgb, Yuyv};
        // 4x4 pixels in rows of 16 bytes; the last row without its padding.
        for (format, bytes) in [(Yuyv, 3 * 16 + 8), (Nv12, 5 * 16 + 4), (Grey, 3 * 16 + 4), (Rgb, 3 * 16 + 12)] {
            let layout = layout(format, 4, 4, 16).unwrap();
            assert_eq!(layout.bytes(), bytes, "{format:?}");
            let mut frame = Frame::empty();
            let short = layout.read(&vec![0; bytes - 1], &mut frame);
            assert!(matches!(short, Err(Error::Truncated { found, .. }) if found == bytes - 1), "{format:?}");
            layout.read(&vec![0; bytes], &mut frame).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        use RawFormat::{Grey, Nv12, Rgb, Yuyv};
        assert!(matches!(layout(Yuyv, 3, 2, 0), Err(Error::OddSide { width: 3, .. })));
        assert!(matches!(layout(Nv12, 2, 3, 0), Err(Error::OddSide { height: 3, .. })));
        layout(Yuyv, 2, 3, 0).unwrap();
        layout(Grey, 3, 3, 0).unwrap();
        assert!(matches!(layout(Rgb, 3, 3, 8), Err(Error::RowTooShort { found: 8, expected: 9, .. })));
        assert!(matches!(layout(Grey, 0, 3, 0), Err(Error::EmptyPicture { .. })));
        assert!(matches!(layout(Grey, usize::MAX, 2, 0), Err(Error::TooManyPixels { .. })));
        // Rows that no memory holds: no overflow, and never enough bytes.
        let far = layout(Grey, 1, 50_000_000, usize::MAX / 2).unwrap();
        assert!(matches!(far.read(&[0; 64], &mut Frame::empty()), Err(Error::Truncated { .. })));
    }
}
