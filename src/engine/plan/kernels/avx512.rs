//! AVX-512F: 32 registers of 16 numbers.

use std::arch::x86_64::*;

use super::kernels;
use super::vector::Vector;

#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "all rest on the trait's own promise: the CPU has the instructions"
)]
impl Vector for __m512 {
    const LANES: usize = 16;
    const REGISTERS: usize = 32;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize, neutral: f32) -> Self {
        unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(neutral), first(count), from) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        unsafe { _mm512_mask_storeu_ps(to, first(count), self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm512_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { _mm512_sub_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { _mm512_mul_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe { _mm512_div_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        unsafe { _mm512_min_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { _mm512_max_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        unsafe { _mm512_sqrt_ps(self) }
    }
    #[inline(always)]
    unsafe fn reciprocal(self) -> Self {
        // 14 bits, and one step of Newton's method: a division takes ten times as long.
        unsafe {
            let guess = _mm512_rcp14_ps(self);
            let error = _mm512_fnmadd_ps(self, guess, _mm512_set1_ps(1.0));
            _mm512_fmadd_ps(guess, error, guess)
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        unsafe { _mm512_fmadd_ps(self, factor, term) }
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        unsafe { _mm512_roundscale_ps::<0>(self) }
    }
    #[inline(always)]
    unsafe fn scale(self, exponent: Self) -> Self {
        unsafe { _mm512_scalef_ps(self, exponent) }
    }
}

/// The mask of the first `count` of 16 lanes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    !(__mmask16::MAX << count)
}

// Pixels of a tile whose panel has this many vectors of 16 channels. With one vector each product needs a load of its
// own, so that loads are the limit: many pixels, and four channels to a step, leave the fewest beside those.
kernels!(
    AVX512,
    __m512,
    __m256,
    [target_feature(enable = "avx512f,avx2,fma")],
    super::gemm::multiply,
    [(26, 1, 4), (12, 2, 2), (8, 3, 1), (6, 4, 1)]
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::kernels::check;

    fn here() -> bool {
        let here = is_x86_feature_detected!("avx512f");
        if !here {
            eprintln!("passed over: this CPU has no AVX-512F");
        }
        here
    }

    #[test]
    fn every_tile_agrees_with_a_plain_loop() {
        if here() {
            // SAFETY: the CPU has the instructions; the tile is the checker's own.
            unsafe { check::gemm(&KERNELS) };
        }
    }

    #[test]
    fn functions_of_a_vector_agree_with_f64() {
        #[target_feature(enable = "avx512f")]
        unsafe fn functions() {
            // SAFETY: the caller's promise.
            unsafe { check::functions::<__m512>() }
        }
        if here() {
            // SAFETY: the CPU has the instructions.
            unsafe { functions() }
        }
    }
}
