//! The number types that masks are computed in: as the original arrays, some are 32 and some 64 bits wide.

use std::fmt::Debug;
use std::ops::{Add, Mul};

pub trait Real: Copy + Debug + Default + PartialOrd + Add<Output = Self> + Mul<Output = Self> {
    /// 0.5 is the limit of probabilities; this is the number before it, for "at least 0.5".
    const BELOW_HALF: Self;

    fn of(value: f32) -> Self;

    /// Rounded to this type.
    fn of_f64(value: f64) -> Self;

    fn as_f64(self) -> f64;

    /// `self + a * b`, for resizes: rounded once where the reference does so.
    fn plus_product(self, a: Self, b: Self) -> Self;

    /// `1 / (1 + exp(-x))`.
    fn sigmoid(self) -> Self;
}

impl Real for f32 {
    const BELOW_HALF: Self = 0.5_f32.next_down();

    fn of(value: f32) -> Self {
        value
    }

    #[expect(clippy::cast_possible_truncation, reason = "rounding to 32 bits is the purpose")]
    fn of_f64(value: f64) -> Self {
        value as f32
    }

    fn as_f64(self) -> f64 {
        f64::from(self)
    }

    /// PyTorch's processor kernels fuse the two. The product of two 32-bit floats is exact in 64 bits, and this vectorises
    /// on processors whose baseline has no fused instruction.
    fn plus_product(self, a: Self, b: Self) -> Self {
        Self::of_f64(f64::from(a) * f64::from(b) + f64::from(self))
    }

    fn sigmoid(self) -> Self {
        1.0 / (1.0 + (-self).exp())
    }
}

impl Real for f64 {
    const BELOW_HALF: Self = 0.5_f64.next_down();

    fn of(value: f32) -> Self {
        f64::from(value)
    }

    fn of_f64(value: f64) -> Self {
        value
    }

    fn as_f64(self) -> f64 {
        self
    }

    fn plus_product(self, a: Self, b: Self) -> Self {
        self + a * b
    }

    fn sigmoid(self) -> Self {
        1.0 / (1.0 + (-self).exp())
    }
}
