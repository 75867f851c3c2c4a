//! Planar 4:2:0 to RGB, until `frame` has it.

use super::codec::Picture;
use crate::frame::{CHANNELS, Error, Frame};

/// Converts a decoded picture.
pub fn read(picture: &Picture, frame: &mut Frame) -> Result<(), Error> {
    let (width, height) = (picture.width, picture.height);
    frame.reshape(width, height);
    let half = width.div_ceil(2);
    for y in 0..height {
        for x in 0..width {
            let chroma = (y / 2) * half + x / 2;
            let luma = 1.164 * (f32::from(picture.y[y * width + x]) - 16.0);
            let (u, v) = (f32::from(picture.u[chroma]) - 128.0, f32::from(picture.v[chroma]) - 128.0);
            let rgb = [luma + 1.596 * v, luma - 0.813 * v - 0.391 * u, luma + 2.018 * u];
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
            let rgb = rgb.map(|value| value.round().clamp(0.0, 255.0) as u8);
            frame.pixels_mut()[(y * width + x) * CHANNELS..][..CHANNELS].copy_from_slice(&rgb);
        }
    }
    Ok(())
}
