//! AVX-512F: 32 registers of 16 numbers.

use std::arch::x86_64::*;

use super::kernels;
use super::vector::Vector;

impl Vector for __m512 {
    const LANES: usize = 16;

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
    #[inline(always)]
    unsafe fn where_negative(self, test: Self, other: Self) -> Self {
        unsafe {
            let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(test, _mm512_setzero_ps());
            _mm512_mask_blend_ps(negative, other, self)
        }
    }
}

kernels!("avx512", __m512, [target_feature(enable = "avx512f")], [(14, 1), (12, 2), (8, 3), (6, 4)]);
