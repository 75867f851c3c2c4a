//! Colour to grey and back, as OpenCV's `cvtColor` does it for 8-bit pixels.

use super::{CHANNELS, Frame};

/// Weights of red, green and blue in 1/32768: 0.299, 0.587 and 0.114 as OpenCV rounds them.
const GREY_WEIGHTS: [u32; CHANNELS] = [9798, 19235, 3735];

/// Half of 32768, so that the shift rounds.
const GREY_ROUNDING: u32 = 1 << 14;

/// Grey level of a pixel, 0 to 255.
fn grey_of(pixel: [u8; CHANNELS]) -> u8 {
    let [red, green, blue] = pixel.map(u32::from);
    let [red_weight, green_weight, blue_weight] = GREY_WEIGHTS;
    let sum = red * red_weight + green * green_weight + blue * blue_weight + GREY_ROUNDING;
    // The weights sum to 32768, so the sum >> 15 is at most 255: the third byte of the doubled sum.
    (sum << 1).to_le_bytes()[2]
}

/// `cvtColor(BGR2GRAY)`: one grey level a pixel into `grey`, which is emptied first and keeps its memory.
pub fn to_grey(frame: &Frame, grey: &mut Vec<u8>) {
    grey.clear();
    grey.extend(frame.pixels().as_chunks::<CHANNELS>().0.iter().copied().map(grey_of));
}

/// `cvtColor(GRAY2BGR)` over the pixels of `frame`.
///
/// # Panics
/// When there is not one grey level a pixel.
pub fn from_grey(grey: &[u8], frame: &mut Frame) {
    let (pixels, _) = frame.pixels_mut().as_chunks_mut::<CHANNELS>();
    assert_eq!(grey.len(), pixels.len(), "one grey level a pixel");
    for (pixel, &level) in pixels.iter_mut().zip(grey) {
        *pixel = [level; CHANNELS];
    }
}

/// Makes `frame` grey: `BGR2GRAY`, then `GRAY2BGR`.
pub fn grey_in_place(frame: &mut Frame) {
    for pixel in frame.pixels_mut().as_chunks_mut::<CHANNELS>().0 {
        *pixel = [grey_of(*pixel); CHANNELS];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pure_colours_have_the_weights_of_the_standard() {
        assert_eq!(GREY_WEIGHTS.iter().sum::<u32>(), 32768);
        // 0.299, 0.587 and 0.114 of 255, rounded.
        assert_eq!([[255, 0, 0], [0, 255, 0], [0, 0, 255]].map(grey_of), [76, 150, 29]);
        for level in 0..=255 {
            assert_eq!(grey_of([level; 3]), level);
        }
    }

    #[test]
    fn there_and_back() {
        let mut frame = Frame::from_rgb(2, 1, vec![255, 0, 0, 10, 10, 10]);
        let mut grey = vec![1];
        to_grey(&frame, &mut grey);
        assert_eq!(grey, [76, 10]);
        let mut copy = frame.clone();
        from_grey(&grey, &mut copy);
        grey_in_place(&mut frame);
        assert_eq!(frame.pixels(), [76, 76, 76, 10, 10, 10]);
        assert_eq!(copy.pixels(), frame.pixels());
    }
}
