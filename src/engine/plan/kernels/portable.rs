//! Any CPU: plain arithmetic on arrays, which the compiler makes vectors of where the target has them (SSE2 on x86-64).

use super::bytes::{QUAD, Quads};
use super::halves::{self, HALF_MAX, HalfVector, from_half, to_half};
use super::vector::Vector;
use super::{Kernels, byte_kernels, half_kernels, kernels};

/// As many numbers as a register of the smallest instruction sets holds.
#[derive(Clone, Copy, Debug)]
pub struct Lanes([f32; 4]);

/// One function over all lanes.
#[inline(always)]
fn map(a: Lanes, function: impl Fn(f32) -> f32) -> Lanes {
    Lanes(a.0.map(function))
}

/// One function over the lanes of two.
#[inline(always)]
fn zip(a: Lanes, b: Lanes, function: impl Fn(f32, f32) -> f32) -> Lanes {
    Lanes(std::array::from_fn(|lane| function(a.0[lane], b.0[lane])))
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "all rest on the trait's own promises")]
impl Vector for Lanes {
    const LANES: usize = 4;
    const REGISTERS: usize = 16;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        zip(self, other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        zip(self, other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        zip(self, other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        zip(self, other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // `f32::min` would need more: it must pass a NaN by.
        zip(self, other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        zip(self, other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        map(self, f32::sqrt)
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        // `f32::mul_add` is a call into libm where the CPU has no such instruction.
        Self(std::array::from_fn(|lane| self.0[lane] * factor.0[lane] + term.0[lane]))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // Numbers beyond 2^23 have no fraction: adding and taking away 1.5·2^23 leaves the nearest whole number, for
        // numbers up to 2^22. `f32::round` is a call into libm on the targets this is for.
        const SHIFT: f32 = 12_582_912.0;
        map(self, |a| (a + SHIFT) - SHIFT)
    }
    #[inline(always)]
    unsafe fn scale(self, exponent: Self) -> Self {
        // The exponent field of a number, with no mantissa: 2^exponent.
        zip(self, exponent, |a, n| {
            a * f32::from_bits(((unsafe { n.to_int_unchecked::<i32>() } + 127) << 23).cast_unsigned())
        })
    }
}

// Pixels of a tile whose panel has this many vectors of 4 channels. One of the 16 registers holds the product before it
// is added, and the compiler needs another.
kernels!(PORTABLE, Lanes, Lanes, [], super::gemm::multiply, [(10, 1, 1), (5, 2, 1), (3, 3, 1), (2, 4, 1)]);

pub static KERNELS: Kernels = Kernels {
    bytes: Some(byte_kernels!(
        PORTABLE,
        Lanes,
        [],
        super::bytes::multiply,
        [(10, 1, 1), (5, 2, 1), (3, 3, 1), (2, 4, 1)]
    )),
    halves: Some(half_kernels!(PORTABLE, EightHalves, [], [(12, 1), (10, 2), (7, 3), (6, 4)])),
    ..NUMBERS
};

/// Numbers each of which is a half.
#[derive(Clone, Copy, Debug)]
pub struct EightHalves([f32; halves::LANES]);

#[allow(clippy::undocumented_unsafe_blocks, reason = "all rest on the trait's own promises")]
impl HalfVector for EightHalves {
    type Single = Lanes;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; halves::LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const u16) -> Self {
        Self(unsafe { from.cast::<[u16; halves::LANES]>().read() }.map(from_half))
    }
    #[inline(always)]
    unsafe fn splat(from: *const u16) -> Self {
        Self([from_half(unsafe { *from }); halves::LANES])
    }
    #[inline(always)]
    unsafe fn mul_lane_add<const LANE: i32>(self, factor: Self, term: Self) -> Self {
        // A product of halves is a number without rounding, and a sum is rounded to 11 bits by what is lost when 2^13 times
        // as much is added and taken away (T. Dekker, 1971). Sums below the least normal half keep more than they would.
        const SPLIT: f32 = 8193.0;
        let x = self.0[LANE.cast_unsigned() as usize];
        Self(std::array::from_fn(|lane| {
            let sum = x * factor.0[lane] + term.0[lane];
            let high = sum * SPLIT;
            high - (high - sum)
        }))
    }
    #[inline(always)]
    unsafe fn narrow(numbers: [Lanes; 2], to: *mut u16) {
        let [low, high] = numbers.map(|four| four.0.map(to_half));
        unsafe { to.cast::<[[u16; 4]; 2]>().write([low, high]) }
    }
    #[inline(always)]
    unsafe fn widen(self) -> [Lanes; 2] {
        // Where a sum has left the range of halves.
        let whole = self.0.map(|x| if x.abs() > HALF_MAX { x * f32::INFINITY } else { x });
        let [a, b, c, d, e, f, g, h] = whole;
        [Lanes([a, b, c, d]), Lanes([e, f, g, h])]
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "all rest on the trait's own promises")]
impl Quads for Lanes {
    /// Sums, or quads as they lie in memory.
    type Whole = [i32; 4];
    const SIGNED: bool = false;

    #[inline(always)]
    unsafe fn none() -> [i32; 4] {
        [0; 4]
    }
    #[inline(always)]
    unsafe fn broadcast(from: *const u8) -> [i32; 4] {
        [unsafe { from.cast::<i32>().read_unaligned() }; 4]
    }
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> [i32; 4] {
        unsafe { from.cast::<[i32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn dot(sums: [i32; 4], bytes: [i32; 4], weights: [i32; 4]) -> [i32; 4] {
        std::array::from_fn(|lane| {
            let (x, w) = (bytes[lane].to_ne_bytes(), weights[lane].to_ne_bytes());
            (0..QUAD).fold(sums[lane], |sum, i| sum.wrapping_add(i32::from(x[i]) * i32::from(w[i].cast_signed())))
        })
    }
    #[inline(always)]
    unsafe fn numbers(sums: [i32; 4]) -> Self {
        Self(sums.map(|sum| sum as f32))
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        Self(unsafe { from.cast::<[u8; 4]>().read() }.map(f32::from))
    }
    #[inline(always)]
    unsafe fn rough_reciprocal(self) -> Self {
        map(self, |x| 1.0 / x)
    }
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded and saturated, as is meant")]
    unsafe fn store_bytes(self, to: *mut u8) {
        // To the nearest, of two the even one, as the instructions of other CPUs do.
        unsafe { to.cast::<[u8; 4]>().write(self.min(Self([255.0; 4])).max(Self([0.0; 4])).round().0.map(|x| x as u8)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::kernels::{check, check_halves};

    #[test]
    fn every_tile_agrees_with_a_plain_loop() {
        // SAFETY: the tile is the checker's own.
        unsafe { check::gemm(&KERNELS) };
    }

    #[test]
    fn functions_of_a_vector_agree_with_f64() {
        // SAFETY: any CPU will do.
        unsafe { check::functions::<Lanes>() }
    }

    #[test]
    fn bytes_agree_with_plain_loops() {
        // SAFETY: the CPU has the instructions; the tiles are the checker's own.
        unsafe {
            check::byte_gemm(&KERNELS);
            check::byte_rows(&KERNELS);
        }
    }

    #[test]
    fn halves_agree_with_plain_loops() {
        // SAFETY: any CPU will do; the tiles are the checker's own.
        unsafe { check_halves::gemm(&KERNELS) };
        // SAFETY: as above.
        unsafe { check_halves::narrow(&KERNELS) };
    }
}
