//! Luma and chroma to RGB, as OpenCV does it: of cameras as `cvtColor`, BT.601 of video range in fixed point with 20 bits; of
//! decoded video as `VideoCapture`, whose arithmetic is swscale's, with 16 bits.
//!
//! May not know: strides and sizes, which are `raw.rs`'s and `planar.rs`'s. Plain loops over pairs of pixels: the compiler makes vector
//! code of them (NEON always has the 32-bit products; x86-64 from AVX2 on, where it is as fast as OpenCV's own).

use super::CHANNELS;

/// Bits of the fraction of the weights below.
const SHIFT: u32 = 20;
/// Half of the last bit that is kept, so that the shift rounds.
const HALF: i32 = 1 << (SHIFT - 1);
/// 1.164, the weight of luma above black: 255 / 219.
const LUMA: i32 = 1_220_542;
/// 2.018, 0.391, 0.813 and 1.596: the weights of chroma in a colour.
const U_IN_BLUE: i32 = 2_116_026;
const U_IN_GREEN: i32 = -409_993;
const V_IN_GREEN: i32 = -852_492;
const V_IN_RED: i32 = 1_673_527;

/// What the two values of chroma add to red, green and blue, with the rounding in it.
fn tint(u: u8, v: u8) -> [i32; CHANNELS] {
    let [u, v] = [u, v].map(|value| i32::from(value) - 128);
    [HALF + V_IN_RED * v, HALF + V_IN_GREEN * v + U_IN_GREEN * u, HALF + U_IN_BLUE * u]
}

/// A pixel of that luma: 16 is black, and below it nothing gets darker.
fn pixel(luma: u8, tint: [i32; CHANNELS]) -> [u8; CHANNELS] {
    let light = (i32::from(luma) - 16).max(0) * LUMA;
    // Between 0 and 255 the value is its first byte.
    tint.map(|tint| ((light + tint) >> SHIFT).clamp(0, 255).to_le_bytes()[0])
}

fn pair(lumas: [u8; 2], u: u8, v: u8) -> [u8; 2 * CHANNELS] {
    let tint = tint(u, v);
    let [[r0, g0, b0], [r1, g1, b1]] = lumas.map(|luma| pixel(luma, tint));
    [r0, g0, b0, r1, g1, b1]
}

/// A row of `YUYV` (luma, U, luma, V for two pixels): `cvtColor(COLOR_YUV2RGB_YUYV)`. The shorter slice ends it.
pub fn yuyv_row(source: &[u8], rgb: &mut [u8]) {
    let pixels = rgb.as_chunks_mut::<{ 2 * CHANNELS }>().0;
    for (&[first, u, second, v], pixels) in source.as_chunks::<4>().0.iter().zip(pixels) {
        *pixels = pair([first, second], u, v);
    }
}

/// A row of `NV12`: of luma one byte a pixel, of chroma U and V for two pixels of each of two rows:
/// `cvtColor(COLOR_YUV2RGB_NV12)`. The shortest slice ends it.
pub fn nv12_row(luma: &[u8], chroma: &[u8], rgb: &mut [u8]) {
    let lumas = luma.as_chunks::<2>().0.iter();
    let pixels = rgb.as_chunks_mut::<{ 2 * CHANNELS }>().0;
    for ((&lumas, &[u, v]), pixels) in lumas.zip(chroma.as_chunks::<2>().0).zip(pixels) {
        *pixels = pair(lumas, u, v);
    }
}

/// What `VideoCapture` multiplies with, each in 1/8192: swscale's `yuv420p` to `bgr24` in its vector code, which differs by
/// up to three levels from its own plain code. It is BT.601 whatever matrix the stream declares.
#[derive(Clone, Copy, Debug)]
pub struct VideoWeights {
    /// Luma of black, in 1/8.
    black: i16,
    luma: i16,
    v_in_red: i16,
    u_in_green: i16,
    v_in_green: i16,
    u_in_blue: i16,
}

impl VideoWeights {
    /// Luma from 16 to 235, chroma from 16 to 240.
    pub const VIDEO_RANGE: Self =
        Self { black: 16 * 8, luma: 9539, v_in_red: 13_075, u_in_green: -3209, v_in_green: -6660, u_in_blue: 16_525 };
    /// Luma and chroma from 0 to 255.
    pub const FULL_RANGE: Self =
        Self { black: 0, luma: 8192, v_in_red: 11_485, u_in_green: -2819, v_in_green: -5850, u_in_blue: 14_516 };

    /// What the two values of chroma add to red, green and blue.
    fn tint(self, u: u8, v: u8) -> [i16; CHANNELS] {
        let [u, v] = [u, v].map(|value| (i16::from(value) - 128) * 8);
        [
            upper_half(v, self.v_in_red),
            upper_half(u, self.u_in_green) + upper_half(v, self.v_in_green),
            upper_half(u, self.u_in_blue),
        ]
    }

    fn pixel(self, luma: u8, tint: [i16; CHANNELS]) -> [u8; CHANNELS] {
        let light = upper_half(i16::from(luma) * 8 - self.black, self.luma);
        // Between 0 and 255 the value is its first byte.
        tint.map(|tint| (light + tint).clamp(0, 255).to_le_bytes()[0])
    }
}

/// The upper 16 bits of a product, rounded down: what `pmulhw` gives, and of values times 8 with weights in 1/8192 a whole
/// level.
fn upper_half(value: i16, weight: i16) -> i16 {
    let [_, _, low, high] = (i32::from(value) * i32::from(weight)).to_le_bytes();
    i16::from_le_bytes([low, high])
}

/// A row of `I420`: of luma one byte a pixel, of U and V one each for two pixels of each of two rows. The shortest slice
/// ends it.
pub fn i420_row(luma: &[u8], u: &[u8], v: &[u8], weights: VideoWeights, rgb: &mut [u8]) {
    let (pairs, single) = luma.as_chunks::<2>();
    let (pixels, last) = rgb.as_chunks_mut::<{ 2 * CHANNELS }>();
    for (((&lumas, &u), &v), pixels) in pairs.iter().zip(u).zip(v).zip(pixels) {
        let tint = weights.tint(u, v);
        let [[r0, g0, b0], [r1, g1, b1]] = lumas.map(|luma| weights.pixel(luma, tint));
        *pixels = [r0, g0, b0, r1, g1, b1];
    }
    // The last column of an odd width.
    if let (&[luma], Some((&u, &v))) = (single, u.get(pairs.len()).zip(v.get(pairs.len()))) {
        last.copy_from_slice(&weights.pixel(luma, weights.tint(u, v)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `cv2.cvtColor` of OpenCV 4.12 gave.
    #[test]
    fn known_colours() {
        for (luma, u, v, rgb) in [
            (16, 128, 128, [0, 0, 0]),
            (0, 128, 128, [0, 0, 0]),
            (235, 128, 128, [255, 255, 255]),
            (126, 128, 128, [128, 128, 128]),
            (81, 90, 240, [254, 0, 0]),
            (145, 54, 34, [0, 255, 1]),
            (41, 240, 110, [0, 0, 255]),
            (255, 255, 255, [255, 125, 255]),
            (0, 0, 0, [0, 154, 0]),
        ] {
            assert_eq!(pixel(luma, tint(u, v)), rgb, "{luma} {u} {v}");
        }
    }

    #[test]
    fn two_pixels_share_their_chroma() {
        let (mut yuyv, mut nv12) = ([0; 12], [0; 12]);
        yuyv_row(&[16, 90, 81, 240, 235, 128, 126, 128], &mut yuyv);
        nv12_row(&[16, 81, 235, 126], &[90, 240, 128, 128], &mut nv12);
        assert_eq!(yuyv[3..], [254, 0, 0, 255, 255, 255, 128, 128, 128]);
        assert_eq!(yuyv, nv12);
    }

    /// What `cv2.VideoCapture` of OpenCV 4.12 gives of H.264 in either range.
    #[test]
    fn known_colours_of_video() {
        for (luma, u, v, video, full) in [
            (16, 128, 128, [0, 0, 0], [16, 16, 16]),
            (235, 128, 128, [255, 255, 255], [235, 235, 235]),
            (81, 90, 240, [253, 0, 0], [238, 14, 13]),
            (145, 54, 34, [0, 254, 0], [13, 237, 13]),
            (41, 240, 110, [0, 0, 254], [15, 14, 239]),
            (0, 0, 0, [0, 135, 0], [0, 135, 0]),
            (255, 255, 255, [255, 124, 255], [255, 120, 255]),
        ] {
            for (weights, rgb) in [(VideoWeights::VIDEO_RANGE, video), (VideoWeights::FULL_RANGE, full)] {
                // Three pixels: a pair, and the last of an odd width.
                let mut row = [0; 9];
                i420_row(&[luma; 3], &[u; 2], &[v; 2], weights, &mut row);
                assert_eq!(row, [rgb, rgb, rgb].concat()[..], "{luma} {u} {v}");
            }
        }
    }
}
