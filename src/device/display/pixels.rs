//! From a frame to the memory of a screen: pixel formats, rows with padding, pictures that are turned.
//!
//! May not know: which device the memory belongs to.

use crate::frame::{CHANNELS, Frame, Size};

/// Where one colour lies in a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Of its lowest bit.
    pub shift: u32,
    pub bits: u32,
}

/// How a pixel lies in memory: a little-endian number with three fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelFormat {
    bytes: usize,
    channels: [Channel; CHANNELS],
    /// Bits of no colour, set: where they are an alpha channel the picture is not to be seen through.
    rest: u32,
}

impl PixelFormat {
    /// What a dumb buffer of DRM is asked for, and what every driver has.
    pub const XRGB8888: Self = Self {
        bytes: 4,
        channels: [Channel { shift: 16, bits: 8 }, Channel { shift: 8, bits: 8 }, Channel { shift: 0, bits: 8 }],
        rest: 0xff00_0000,
    };

    /// From what a driver says: bits a pixel, then red, green and blue.
    ///
    /// # Errors
    /// Words for a format that is none: colours of a palette, grey levels, fields outside the pixel.
    pub fn new(bits: u32, channels: [Channel; CHANNELS]) -> Result<Self, String> {
        let bytes = match bits {
            16 => 2,
            24 => 3,
            32 => 4,
            _ => return Err(format!("{bits} bits a pixel; expected 16, 24 or 32")),
        };
        let mut rest = u32::MAX >> (32 - bits);
        for Channel { shift, bits: width } in channels {
            let end = shift.checked_add(width).filter(|&end| end <= bits && (1..=8).contains(&width));
            let Some(_) = end else {
                return Err(format!("a colour of {width} bits from bit {shift} on; expected 1 to 8 within {bits}"));
            };
            rest &= !((u32::MAX >> (32 - width)) << shift);
        }
        Ok(Self { bytes, channels, rest })
    }

    fn pixel(&self, colour: [u8; CHANNELS]) -> u32 {
        let fields = colour.iter().zip(self.channels);
        fields.fold(self.rest, |pixel, (&level, Channel { shift, bits })| {
            pixel | (u32::from(level) >> (8 - bits)) << shift
        })
    }
}

/// By how much the picture is turned clockwise, for a panel that is mounted so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rotation {
    #[default]
    None,
    Quarter,
    Half,
    ThreeQuarters,
}

impl Rotation {
    /// Of degrees.
    #[must_use]
    pub fn of(degrees: &str) -> Option<Self> {
        match degrees {
            "0" => Some(Self::None),
            "90" => Some(Self::Quarter),
            "180" => Some(Self::Half),
            "270" => Some(Self::ThreeQuarters),
            _ => None,
        }
    }

    /// Of the picture that fills a screen of `size`.
    #[must_use]
    pub fn picture(self, size: Size) -> Size {
        match self {
            Self::None | Self::Half => size,
            Self::Quarter | Self::ThreeQuarters => Size::new(size.height, size.width),
        }
    }

    /// For row `y` of a screen of `size`: the pixel of the picture that comes first, and those that follow it.
    fn row(self, size: Size, y: usize) -> impl Iterator<Item = usize> {
        let Size { width, height } = size;
        let (first, step) = match self {
            Self::None => (y * width, 1),
            Self::Quarter => (y + (width - 1) * height, -1 - (height.cast_signed() - 1)),
            Self::Half => ((height - 1 - y) * width + width - 1, -1),
            Self::ThreeQuarters => (height - 1 - y, height.cast_signed()),
        };
        (0..width).scan(first, move |at, _| {
            let pixel = *at;
            *at = at.wrapping_add_signed(step);
            Some(pixel)
        })
    }
}

/// The memory of a screen.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub size: Size,
    /// Bytes from one row to the next.
    pub stride: usize,
    pub format: PixelFormat,
}

impl Layout {
    /// How many bytes it takes at least; `None` for rows that are shorter than their pixels.
    #[must_use]
    pub fn bytes(&self) -> Option<usize> {
        let row = self.size.width.checked_mul(self.format.bytes)?;
        if row > self.stride || self.size.height == 0 || row == 0 {
            return None;
        }
        self.stride.checked_mul(self.size.height - 1)?.checked_add(row)
    }

    /// Bytes from one pixel to the next.
    #[must_use]
    pub fn pixel_bytes(&self) -> usize {
        self.format.bytes
    }

    /// Writes a picture; `row` is memory that is kept for the next one, for screens that are slow to write pixel by pixel.
    ///
    /// # Panics
    /// When the frame has not the size that [`Rotation::picture`] says, or `memory` is shorter than [`Layout::bytes`].
    pub fn write(&self, frame: &Frame, rotation: Rotation, row: &mut Vec<u8>, memory: &mut [u8]) {
        assert_eq!(frame.size(), rotation.picture(self.size), "the picture fills the screen");
        let pixels = frame.pixels().as_chunks::<CHANNELS>().0;
        let length = self.size.width * self.format.bytes;
        for (y, line) in memory.chunks_mut(self.stride).take(self.size.height).enumerate() {
            row.clear();
            for at in rotation.row(self.size, y) {
                row.extend_from_slice(&self.format.pixel(pixels[at]).to_le_bytes()[..self.format.bytes]);
            }
            line[..length].copy_from_slice(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels(fields: [(u32, u32); 3]) -> [Channel; 3] {
        fields.map(|(shift, bits)| Channel { shift, bits })
    }

    /// A picture of 2×3 pixels, each with its number as red.
    fn frame(width: usize, height: usize) -> Frame {
        let pixels = (0..width * height).flat_map(|i| [u8::try_from(i).unwrap(), 0, 0]);
        Frame::from_rgb(width, height, pixels.collect())
    }

    #[test]
    fn every_usual_format_has_its_bytes() {
        let orange = [0xff, 0x80, 0x10];
        for (bits, fields, expected) in [
            (16, [(11, 5), (5, 6), (0, 5)], vec![0x02, 0xfc]),
            (16, [(0, 5), (5, 6), (11, 5)], vec![0x1f, 0x14]),
            // X1R5G5B5: the free bit is set.
            (16, [(10, 5), (5, 5), (0, 5)], vec![0x02, 0xfe]),
            (24, [(16, 8), (8, 8), (0, 8)], vec![0x10, 0x80, 0xff]),
            (32, [(16, 8), (8, 8), (0, 8)], vec![0x10, 0x80, 0xff, 0xff]),
            (32, [(0, 8), (8, 8), (16, 8)], vec![0xff, 0x80, 0x10, 0xff]),
            (32, [(24, 8), (16, 8), (8, 8)], vec![0xff, 0x10, 0x80, 0xff]),
        ] {
            let format = PixelFormat::new(bits, channels(fields)).unwrap();
            let layout = Layout { size: Size::new(1, 1), stride: expected.len(), format };
            let mut memory = vec![0; expected.len()];
            layout.write(&Frame::from_rgb(1, 1, orange.to_vec()), Rotation::None, &mut Vec::new(), &mut memory);
            assert_eq!(memory, expected, "{bits} {fields:?}");
        }
        assert_eq!(PixelFormat::new(32, channels([(16, 8), (8, 8), (0, 8)])).unwrap(), PixelFormat::XRGB8888);
    }

    #[test]
    fn what_is_no_format_of_colours_is_refused() {
        for (bits, fields, word) in [
            (8, [(0, 8), (0, 8), (0, 8)], "8 bits a pixel"),
            (16, [(11, 5), (5, 6), (12, 5)], "from bit 12"),
            (32, [(0, 0), (0, 8), (8, 8)], "0 bits"),
            (32, [(0, 10), (10, 10), (20, 10)], "10 bits"),
            (32, [(u32::MAX, 8), (0, 8), (8, 8)], "from bit 4294967295"),
        ] {
            let why = PixelFormat::new(bits, channels(fields)).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn padding_of_rows_is_left_alone_and_pictures_turn_clockwise() {
        // As rows of the screen: what is its pixels' red.
        for (rotation, expected) in [
            (Rotation::None, [[0, 1, 2], [3, 4, 5]]),
            (Rotation::Quarter, [[4, 2, 0], [5, 3, 1]]),
            (Rotation::Half, [[5, 4, 3], [2, 1, 0]]),
            (Rotation::ThreeQuarters, [[1, 3, 5], [0, 2, 4]]),
        ] {
            let size = Size::new(3, 2);
            let layout = Layout { size, stride: 16, format: PixelFormat::XRGB8888 };
            assert_eq!(layout.bytes(), Some(28));
            let mut memory = vec![7; 28];
            let picture = rotation.picture(size);
            layout.write(&frame(picture.width, picture.height), rotation, &mut Vec::new(), &mut memory);
            for (y, row) in expected.iter().enumerate() {
                let reds: Vec<u8> = (0..3).map(|x| memory[y * 16 + x * 4 + 2]).collect();
                assert_eq!(reds, row, "{rotation:?}");
            }
            assert_eq!(memory[12..16], [7; 4]);
        }
    }

    #[test]
    fn rows_that_are_too_short_are_found() {
        for (size, stride) in
            [((3, 2), 11), ((0, 2), 16), ((3, 0), 16), ((usize::MAX, 2), 16), ((3, usize::MAX), 1 << 60)]
        {
            let layout = Layout { size: Size::new(size.0, size.1), stride, format: PixelFormat::XRGB8888 };
            assert_eq!(layout.bytes(), None, "{size:?}");
        }
    }
}
