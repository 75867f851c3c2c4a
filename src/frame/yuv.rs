//! Luma and chroma to RGB, as OpenCV's `cvtColor` does it: BT.601 of video range, in fixed point with 20 bits.
//!
//! May not know: strides and sizes, which are `raw.rs`'s. Plain loops over pairs of pixels: the compiler makes vector
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
}
