//! One register of numbers, whatever the instruction set: what every kernel is written in.

/// As many numbers as one register of an instruction set holds.
///
/// # Safety
/// All functions need a CPU that has the instruction set; pointers must lead to [`Self::LANES`] values.
pub trait Vector: Copy {
    const LANES: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn sqrt(self) -> Self;
    /// `self · factor + term`, rounded once where the instruction set can.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// To the nearest whole number.
    unsafe fn round(self) -> Self;
    /// `self · 2^exponent` for whole exponents from -126 to 127.
    unsafe fn scale(self, exponent: Self) -> Self;
    /// `self` where `test` is below zero, else `other`.
    unsafe fn where_negative(self, test: Self, other: Self) -> Self;
}
