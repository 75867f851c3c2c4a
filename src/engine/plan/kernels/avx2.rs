//! AVX2 and FMA: 16 registers of 8 numbers.

use std::arch::x86_64::*;

use super::bytes::Quads;
use super::vector::Vector;
use super::{Kernels, byte_kernels, isa, kernels};

#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "all rest on the trait's own promise: the CPU has the instructions"
)]
impl Vector for __m256 {
    const LANES: usize = 8;
    const REGISTERS: usize = 16;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm256_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { _mm256_sub_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { _mm256_mul_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe { _mm256_div_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        unsafe { _mm256_min_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { _mm256_max_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        unsafe { _mm256_sqrt_ps(self) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        unsafe { _mm256_fmadd_ps(self, factor, term) }
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self) }
    }
    #[inline(always)]
    unsafe fn scale(self, exponent: Self) -> Self {
        unsafe {
            // The exponent field of a number, with no mantissa: 2^exponent.
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(exponent), _mm256_set1_epi32(127));
            _mm256_mul_ps(self, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
        }
    }
    #[inline(always)]
    unsafe fn prefetch(from: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }
}

// Pixels of a tile whose panel has this many vectors of 8 channels. Wider panels than two vectors would leave the
// compiler no register free, and it then keeps sums in memory: half the speed.
kernels!(AVX2, __m256, __m256, [target_feature(enable = "avx2,fma")], super::gemm::multiply, [(12, 1, 1), (6, 2, 2)]);

pub static KERNELS: Kernels = NUMBERS;

/// With products of bytes.
pub static VNNI: Kernels = Kernels {
    isa: &isa::AVX_VNNI,
    bytes: Some(byte_kernels!(
        AVX_VNNI,
        __m256,
        [target_feature(enable = "avx2,fma,avxvnni")],
        super::bytes::multiply,
        [(12, 1, 1), (6, 2, 2)]
    )),
    ..NUMBERS
};

/// Whether this CPU can run [`VNNI`].
pub fn has_vnni() -> bool {
    is_x86_feature_detected!("avxvnni") && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "all rest on the trait's own promise: the CPU has the instructions"
)]
impl Quads for __m256 {
    type Whole = __m256i;
    const SIGNED: bool = false;

    #[inline(always)]
    unsafe fn none() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn broadcast(from: *const u8) -> __m256i {
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn dot(sums: __m256i, bytes: __m256i, weights: __m256i) -> __m256i {
        unsafe { _mm256_dpbusd_avx_epi32(sums, bytes, weights) }
    }
    #[inline(always)]
    unsafe fn numbers(sums: __m256i) -> Self {
        unsafe { _mm256_cvtepi32_ps(sums) }
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn rough_reciprocal(self) -> Self {
        unsafe { _mm256_rcp_ps(self) }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        unsafe {
            // What is too large for a whole number would become the least one. Both steps after it saturate.
            let whole = _mm256_cvtps_epi32(_mm256_min_ps(self, _mm256_set1_ps(255.0)));
            let halves = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256::<1>(whole));
            _mm_storel_epi64(to.cast(), _mm_packus_epi16(halves, halves));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::kernels::check;

    fn here() -> bool {
        let here = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        if !here {
            eprintln!("passed over: this CPU has no AVX2 or no FMA");
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
        #[target_feature(enable = "avx2,fma")]
        unsafe fn functions() {
            // SAFETY: the caller's promise.
            unsafe { check::functions::<__m256>() }
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
