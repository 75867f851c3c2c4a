//! Frames to JPEG, for snapshots and streams.

use jpeg_encoder::{ColorType, Encoder};

use super::{Error, Frame};

/// Encodes `frame` as a baseline JPEG into `out`, which is emptied first and keeps its memory. `quality` is 1 (small)
/// to 100 (good) on libjpeg's scale, and is brought into that range.
///
/// # Errors
/// [`Error::EmptyPicture`] for 0 pixels, [`Error::SideTooLong`] for sides that JPEG cannot declare, [`Error::Encode`].
pub fn encode_jpeg(frame: &Frame, quality: u8, out: &mut Vec<u8>) -> Result<(), Error> {
    out.clear();
    let (width, height) = (frame.width(), frame.height());
    if width == 0 || height == 0 {
        return Err(Error::EmptyPicture { what: "the frame", width, height });
    }
    let (Ok(jpeg_width), Ok(jpeg_height)) = (u16::try_from(width), u16::try_from(height)) else {
        let limit = usize::from(u16::MAX);
        return Err(Error::SideTooLong { what: "the frame", width, height, limit });
    };
    Encoder::new(out, quality.clamp(1, 100))
        .encode(frame.pixels(), jpeg_width, jpeg_height, ColorType::Rgb)
        .map_err(|error| Error::Encode { width, height, why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::super::decode::{Limits, Orientation, decode};
    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_nearly_the_same() {
        let pixels = (0..64 * 40usize).flat_map(|i| {
            let (x, y) = (i % 64, i / 64);
            [x * 4, y * 6, 128].map(|level| u8::try_from(level).unwrap())
        });
        let frame = Frame::from_rgb(64, 40, pixels.collect());
        let mut out = vec![1, 2, 3];
        encode_jpeg(&frame, 90, &mut out).unwrap();
        let again = decode(&out, Orientation::Apply, Limits::default()).unwrap();
        assert_eq!(again.size(), frame.size());
        let pairs = frame.pixels().iter().zip(again.pixels());
        let difference: u32 = pairs.map(|(&a, &b)| u32::from(a.abs_diff(b))).sum();
        let mean = f64::from(difference) / (64.0 * 40.0 * 3.0);
        assert!(mean < 3.0, "mean difference {mean}");
        let (memory, length) = (out.capacity(), out.len());
        encode_jpeg(&frame, 90, &mut out).unwrap();
        assert_eq!((out.capacity(), out.len()), (memory, length));
        encode_jpeg(&frame, 20, &mut out).unwrap();
        assert!(out.len() < length);
    }

    #[test]
    fn a_frame_that_is_no_jpeg_is_refused() {
        let mut out = Vec::new();
        let empty = encode_jpeg(&Frame::empty(), 80, &mut out).unwrap_err();
        assert!(matches!(empty, Error::EmptyPicture { .. }));
        let long = encode_jpeg(&Frame::new(65_536, 1), 80, &mut out).unwrap_err();
        assert!(matches!(long, Error::SideTooLong { .. }));
    }
}
