//! Element types of a network's tensors, and numbers of 32 bits made of them and them of those.

use half::f16;
use ort::value::TensorElementType;

/// A type that a network's input or output may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F32,
    F16,
    F64,
    U8,
    I8,
    I32,
    I64,
    Bool,
}

impl Element {
    pub fn of(of: TensorElementType) -> Option<Self> {
        Some(match of {
            TensorElementType::Float32 => Self::F32,
            TensorElementType::Float16 => Self::F16,
            TensorElementType::Float64 => Self::F64,
            TensorElementType::Uint8 => Self::U8,
            TensorElementType::Int8 => Self::I8,
            TensorElementType::Int32 => Self::I32,
            TensorElementType::Int64 => Self::I64,
            TensorElementType::Bool => Self::Bool,
            _ => return None,
        })
    }

    pub fn tensor_type(self) -> TensorElementType {
        match self {
            Self::F32 => TensorElementType::Float32,
            Self::F16 => TensorElementType::Float16,
            Self::F64 => TensorElementType::Float64,
            Self::U8 => TensorElementType::Uint8,
            Self::I8 => TensorElementType::Int8,
            Self::I32 => TensorElementType::Int32,
            Self::I64 => TensorElementType::Int64,
            Self::Bool => TensorElementType::Bool,
        }
    }

    /// The bytes of values as this type has them: the nearest one of each.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of numbers saturates, as is meant"
    )]
    pub fn narrow(self, values: &[f32], into: &mut Vec<u8>) {
        into.clear();
        match self {
            Self::F32 => values.iter().for_each(|value| into.extend(value.to_ne_bytes())),
            Self::F16 => values.iter().for_each(|&value| into.extend(f16::from_f32(value).to_ne_bytes())),
            Self::F64 => values.iter().for_each(|&value| into.extend(f64::from(value).to_ne_bytes())),
            Self::U8 => into.extend(values.iter().map(|value| value.round_ties_even() as u8)),
            Self::I8 => into.extend(values.iter().flat_map(|value| (value.round_ties_even() as i8).to_ne_bytes())),
            Self::I32 => values.iter().for_each(|value| into.extend((value.round_ties_even() as i32).to_ne_bytes())),
            Self::I64 => values.iter().for_each(|value| into.extend((value.round_ties_even() as i64).to_ne_bytes())),
            Self::Bool => into.extend(values.iter().map(|&value| u8::from(value != 0.0))),
        }
    }

    /// Numbers of 32 bits of as many values of this type.
    ///
    /// # Safety
    /// At `values` lie as many values of this type as there are places.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "what 32 bits can hold is what is wanted"
    )]
    pub unsafe fn widen(self, values: *const u8, into: &mut [f32]) {
        /// As above, for one type.
        unsafe fn each<T: Copy>(values: *const u8, into: &mut [f32], widened: impl Fn(T) -> f32) {
            for (index, place) in into.iter_mut().enumerate() {
                // SAFETY: by the caller's word; the library aligns tensors, and this does not even ask for it.
                *place = widened(unsafe { values.cast::<T>().add(index).read_unaligned() });
            }
        }
        // SAFETY: by the caller's word, each for its own type.
        unsafe {
            match self {
                Self::F32 => each(values, into, |value: f32| value),
                Self::F16 => each(values, into, f16::to_f32),
                Self::F64 => each(values, into, |value: f64| value as f32),
                Self::U8 | Self::Bool => each(values, into, |value: u8| f32::from(value)),
                Self::I8 => each(values, into, |value: i8| f32::from(value)),
                Self::I32 => each(values, into, |value: i32| value as f32),
                Self::I64 => each(values, into, |value: i64| value as f32),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_near_as_the_type_allows() {
        let values = [0.0, 1.0, 2.5, 100.0];
        let mut bytes = Vec::new();
        for (element, expected) in [
            (Element::F32, values),
            (Element::F16, values),
            (Element::F64, values),
            (Element::U8, [0.0, 1.0, 2.0, 100.0]),
            (Element::I8, [0.0, 1.0, 2.0, 100.0]),
            (Element::I32, [0.0, 1.0, 2.0, 100.0]),
            (Element::I64, [0.0, 1.0, 2.0, 100.0]),
            (Element::Bool, [0.0, 1.0, 1.0, 1.0]),
        ] {
            element.narrow(&values, &mut bytes);
            let mut back = [9.0; 4];
            // SAFETY: the bytes are of four values of the type.
            unsafe { element.widen(bytes.as_ptr(), &mut back) };
            assert_eq!(back, expected, "{element:?}");
            assert_eq!(Element::of(element.tensor_type()), Some(element));
        }
    }
}
