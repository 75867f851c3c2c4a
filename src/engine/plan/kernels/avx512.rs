//! AVX-512F: 32 registers of 16 numbers.

use std::arch::x86_64::*;

use super::bytes::Quads;
use super::vector::Vector;
use super::{Kernels, byte_kernels, isa, kernels};

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
    #[inline(always)]
    unsafe fn prefetch(from: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
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

pub static KERNELS: Kernels = NUMBERS;

/// With products of bytes.
pub static VNNI: Kernels = Kernels {
    isa: &isa::AVX512_VNNI,
    bytes: Some(byte_kernels!(
        AVX512_VNNI,
        __m512,
        [target_feature(enable = "avx512f,avx512vnni,avx2,fma")],
        super::bytes::multiply,
        [(26, 1, 4), (12, 2, 2), (8, 3, 1), (6, 4, 1)]
    )),
    ..NUMBERS
};

/// Whether this CPU can run [`VNNI`].
pub fn has_vnni() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
}

#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "all rest on the trait's own promise: the CPU has the instructions"
)]
impl Quads for __m512 {
    type Whole = __m512i;
    const SIGNED: bool = false;

    #[inline(always)]
    unsafe fn none() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn broadcast(from: *const u8) -> __m512i {
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn dot(sums: __m512i, bytes: __m512i, weights: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, bytes, weights) }
    }
    #[inline(always)]
    unsafe fn numbers(sums: __m512i) -> Self {
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn rough_reciprocal(self) -> Self {
        unsafe { _mm512_rcp14_ps(self) }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        unsafe {
            // What is too large for a whole number would become the least one.
            let whole = _mm512_cvtps_epi32(_mm512_min_ps(self, _mm512_set1_ps(255.0)));
            let whole = _mm512_max_epi32(whole, _mm512_setzero_si512());
            _mm_storeu_si128(to.cast(), _mm512_cvtusepi32_epi8(whole));
        }
    }
}

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

    #[test]
    fn bytes_agree_with_plain_loops() {
        if has_vnni() {
            // SAFETY: the CPU has the instructions; the tiles are the checker's own.
            unsafe {
                check::byte_gemm(&VNNI);
                check::byte_rows(&VNNI);
            }
        } else {
            eprintln!("passed over: this CPU has no products of bytes");
        }
    }
}
