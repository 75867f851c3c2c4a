//! Between this program's tensors (numbers of 32 bits, N C H W) and those of a TensorFlow Lite file (its own type, N H W C),
//! in the one copy that there is to be made anyway.

use std::ffi::c_int;

/// Type of a tensor's values (`TfLiteType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    Float32,
    Int32,
    Uint8,
    Int64,
    Bool,
    Int16,
    Int8,
}

impl Element {
    pub fn of(number: c_int) -> Result<Self, String> {
        Ok(match number {
            1 => Self::Float32,
            2 => Self::Int32,
            3 => Self::Uint8,
            4 => Self::Int64,
            6 => Self::Bool,
            7 => Self::Int16,
            9 => Self::Int8,
            other => return Err(format!("TensorFlow Lite's type number {other} is not supported")),
        })
    }

    pub fn can_be_input(self) -> bool {
        matches!(self, Self::Float32 | Self::Uint8 | Self::Int8 | Self::Int16)
    }

    fn bytes(self) -> usize {
        match self {
            Self::Uint8 | Self::Int8 | Self::Bool => 1,
            Self::Int16 => 2,
            Self::Float32 | Self::Int32 => 4,
            Self::Int64 => 8,
        }
    }
}

/// How integers stand for real numbers: `(integer - zero) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    scale: f32,
    zero: f32,
}

impl Scale {
    /// A scale of 0 says that integers are what they are.
    #[expect(clippy::cast_precision_loss, reason = "a value of the tensor's type, of at most 16 bits")]
    pub fn new(scale: f32, zero_point: i32) -> Self {
        if scale == 0.0 { Self { scale: 1.0, zero: 0.0 } } else { Self { scale, zero: zero_point as f32 } }
    }

    fn integer(self, real: f32) -> f32 {
        (real / self.scale).round() + self.zero
    }

    fn real(self, integer: f32) -> f32 {
        (integer - self.zero) * self.scale
    }
}

/// Writes pictures into an input: planes become pixels, and real numbers what the file takes, cut to what it can hold.
/// `dims` are batch, height, width, channels.
///
/// # Errors
/// The sizes do not fit.
pub fn write_image(
    input: &[f32],
    dims: [usize; 4],
    element: Element,
    scale: Scale,
    to: &mut [u8],
) -> Result<(), String> {
    let [_, height, width, channels] = dims;
    let values: usize = dims.iter().product();
    if input.len() != values || to.len() != values * element.bytes() || values == 0 {
        return Err(format!("{} values and {} bytes for an input of {dims:?}", input.len(), to.len()));
    }
    let area = height * width;
    let images = input.chunks_exact(area * channels).zip(to.chunks_exact_mut(area * channels * element.bytes()));
    for (planes, pixels) in images {
        match element {
            Element::Float32 => interleave(planes, pixels, channels, f32::to_le_bytes),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts from floats saturate")]
            Element::Uint8 => interleave(planes, pixels, channels, |real| [scale.integer(real) as u8]),
            #[expect(clippy::cast_possible_truncation, reason = "casts from floats saturate")]
            Element::Int8 => interleave(planes, pixels, channels, |real| (scale.integer(real) as i8).to_le_bytes()),
            #[expect(clippy::cast_possible_truncation, reason = "casts from floats saturate")]
            Element::Int16 => interleave(planes, pixels, channels, |real| (scale.integer(real) as i16).to_le_bytes()),
            other => return Err(format!("an input of {other:?}")),
        }
    }
    Ok(())
}

/// Value `c` of pixel `p` is value `p` of plane `c`.
fn interleave<const N: usize>(planes: &[f32], pixels: &mut [u8], channels: usize, write: impl Fn(f32) -> [u8; N]) {
    let (values, _) = pixels.as_chunks_mut::<N>();
    let area = planes.len() / channels;
    for (channel, plane) in planes.chunks_exact(area).enumerate() {
        for (value, &real) in values.iter_mut().skip(channel).step_by(channels).zip(plane) {
            *value = write(real);
        }
    }
}

/// Reads an output as real numbers.
///
/// # Errors
/// The sizes do not fit.
pub fn read_values(from: &[u8], element: Element, scale: Scale, values: &mut [f32]) -> Result<(), String> {
    if from.len() != values.len() * element.bytes() {
        return Err(format!("{} bytes of {element:?} for {} values", from.len(), values.len()));
    }
    #[expect(clippy::cast_precision_loss, reason = "indices and counts, far below 2^24")]
    match element {
        Element::Float32 => each(from, values, f32::from_le_bytes),
        Element::Uint8 => each(from, values, |[byte]| scale.real(f32::from(byte))),
        Element::Int8 => each(from, values, |bytes| scale.real(f32::from(i8::from_le_bytes(bytes)))),
        Element::Int16 => each(from, values, |bytes| scale.real(f32::from(i16::from_le_bytes(bytes)))),
        Element::Bool => each(from, values, |[byte]| f32::from(byte != 0)),
        Element::Int32 => each(from, values, |bytes| scale.real(i32::from_le_bytes(bytes) as f32)),
        Element::Int64 => each(from, values, |bytes| i64::from_le_bytes(bytes) as f32),
    }
    Ok(())
}

fn each<const N: usize>(from: &[u8], values: &mut [f32], read: impl Fn([u8; N]) -> f32) {
    for (value, &bytes) in values.iter_mut().zip(from.as_chunks::<N>().0) {
        *value = read(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pixels of three planes: reds, greens, blues.
    const PLANES: [f32; 6] = [1.0, -1.0, 0.5, 0.0, 0.25, 99.0];
    const DIMS: [usize; 4] = [1, 1, 2, 3];

    #[test]
    fn planes_become_pixels() {
        let mut bytes = [0; 24];
        write_image(&PLANES, DIMS, Element::Float32, Scale::new(0.0, 0), &mut bytes).unwrap();
        let mut values = [0.0; 6];
        read_values(&bytes, Element::Float32, Scale::new(0.0, 0), &mut values).unwrap();
        assert_eq!(values, [1.0, 0.5, 0.25, -1.0, 0.0, 99.0]);
    }

    #[test]
    fn a_batch_is_image_by_image() {
        let mut bytes = [0; 4];
        let planes = [1.0, 2.0, 3.0, 4.0];
        write_image(&planes, [2, 1, 1, 2], Element::Uint8, Scale::new(0.0, 0), &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3, 4]);
    }

    #[test]
    fn real_numbers_become_the_files_integers_and_come_back() {
        let scale = Scale::new(0.5, -3);
        let mut bytes = [0; 6];
        write_image(&PLANES, DIMS, Element::Int8, scale, &mut bytes).unwrap();
        // -3 + 2, 1, round(0.5) = 1 away from zero; -2, 0, and 198 cut to 127.
        assert_eq!(bytes.map(|byte| i8::from_le_bytes([byte])), [-1, -2, -2, -5, -3, 127]);
        let mut values = [0.0; 6];
        read_values(&bytes, Element::Int8, scale, &mut values).unwrap();
        assert_eq!(values, [1.0, 0.5, 0.5, -1.0, 0.0, 65.0]);
        let unscaled = Scale::new(0.0, 7);
        write_image(&[300.0, -2.0, 7.4, 7.6, f32::NAN, 0.0], DIMS, Element::Uint8, unscaled, &mut bytes).unwrap();
        assert_eq!(bytes, [255, 7, 0, 0, 8, 0]);
    }

    #[test]
    fn indices_and_counts_are_numbers() {
        let mut values = [0.0; 2];
        read_values(&[3, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF], Element::Int32, Scale::new(0.0, 0), &mut values).unwrap();
        assert_eq!(values, [3.0, -1.0]);
        read_values(&[2, 0], Element::Bool, Scale::new(0.0, 0), &mut values).unwrap();
        assert_eq!(values, [1.0, 0.0]);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let scale = Scale::new(0.0, 0);
        assert!(write_image(&PLANES, DIMS, Element::Float32, scale, &mut [0; 6]).is_err());
        assert!(write_image(&PLANES[1..], DIMS, Element::Uint8, scale, &mut [0; 6]).is_err());
        assert!(write_image(&[], [0; 4], Element::Uint8, scale, &mut []).is_err());
        assert!(read_values(&[0; 3], Element::Float32, scale, &mut [0.0]).is_err());
    }
}
