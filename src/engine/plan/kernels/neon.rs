//! aarch64 NEON: 32 registers of 4 numbers, on every 64-bit Arm.

use std::arch::aarch64::*;
use std::arch::asm;

use super::bytes::Quads;
use super::bytes_lanes::LaneQuads;
use super::gemm_lanes::LaneVector;
use super::halves::HalfVector;
use super::vector::Vector;
use super::{Kernels, byte_kernels, half_kernels, isa, kernels};

#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "all rest on the trait's own promise: the CPU has the instructions"
)]
impl Vector for float32x4_t {
    const LANES: usize = 4;
    const REGISTERS: usize = 32;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { vdupq_n_f32(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { vst1q_f32(to, self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { vaddq_f32(self, other) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { vsubq_f32(self, other) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { vmulq_f32(self, other) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe { vdivq_f32(self, other) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        unsafe { vminq_f32(self, other) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { vmaxq_f32(self, other) }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        unsafe { vsqrtq_f32(self) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        unsafe { vfmaq_f32(term, self, factor) }
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        unsafe { vrndnq_f32(self) }
    }
    #[inline(always)]
    unsafe fn scale(self, exponent: Self) -> Self {
        unsafe {
            // The exponent field of a number, with no mantissa: 2^exponent.
            let biased = vaddq_s32(vcvtq_s32_f32(exponent), vdupq_n_s32(127));
            vmulq_f32(self, vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased)))
        }
    }
    #[inline(always)]
    unsafe fn prefetch(from: *const f32) {
        unsafe { asm!("prfm pldl1keep, [{}]", in(reg) from, options(nostack, readonly, preserves_flags)) }
    }
}

#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "all rest on the trait's own promise: the CPU has the instructions"
)]
impl LaneVector for float32x4_t {
    #[inline(always)]
    unsafe fn mul_lane_add<const LANE: i32>(self, factor: Self, term: Self) -> Self {
        unsafe { vfmaq_laneq_f32::<LANE>(term, factor, self) }
    }
}

// Pixels of a tile whose panel has this many vectors of 4 channels: as many as fit 32 registers beside their sums.
kernels!(
    NEON,
    float32x4_t,
    float32x4_t,
    [target_feature(enable = "neon")],
    super::gemm_lanes::multiply,
    [(14, 1, 4), (10, 2, 4), (7, 3, 4), (6, 4, 4)]
);

pub static KERNELS: Kernels = NUMBERS;

/// With products of bytes.
pub static DOT: Kernels = Kernels {
    isa: &isa::NEON_DOT,
    bytes: Some(byte_kernels!(
        NEON_DOT,
        float32x4_t,
        [target_feature(enable = "neon,dotprod")],
        super::bytes_lanes::multiply,
        [(14, 1, 4), (10, 2, 4), (7, 3, 4), (6, 4, 4)]
    )),
    ..NUMBERS
};

#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "all rest on the trait's own promise: the CPU has the instructions"
)]
impl Quads for float32x4_t {
    type Whole = int32x4_t;
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn none() -> int32x4_t {
        unsafe { vdupq_n_s32(0) }
    }
    #[inline(always)]
    unsafe fn broadcast(from: *const u8) -> int32x4_t {
        unsafe { vdupq_n_s32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> int32x4_t {
        unsafe { vreinterpretq_s32_s8(vld1q_s8(from)) }
    }
    #[inline(always)]
    unsafe fn dot(sums: int32x4_t, bytes: int32x4_t, weights: int32x4_t) -> int32x4_t {
        let mut sums = sums;
        // The compiler's own name for it is not stable yet.
        unsafe {
            asm!(
                "sdot {sums:v}.4s, {weights:v}.16b, {bytes:v}.16b",
                sums = inout(vreg) sums, weights = in(vreg) weights, bytes = in(vreg) bytes,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sums
    }
    #[inline(always)]
    unsafe fn numbers(sums: int32x4_t) -> Self {
        unsafe { vcvtq_f32_s32(sums) }
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        unsafe {
            let bytes = vcreate_s8(u64::from(from.cast::<u32>().read_unaligned()));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))))
        }
    }
    #[inline(always)]
    unsafe fn rough_reciprocal(self) -> Self {
        // 8 bits, and one step of Newton's method.
        unsafe {
            let guess = vrecpeq_f32(self);
            vmulq_f32(guess, vrecpsq_f32(self, guess))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        unsafe {
            let halves = vqmovn_s32(vcvtnq_s32_f32(self));
            let bytes = vqmovn_s16(vcombine_s16(halves, halves));
            to.cast::<i32>().write_unaligned(vget_lane_s32::<0>(vreinterpret_s32_s8(bytes)));
        }
    }
}

#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "all rest on the trait's own promise: the CPU has the instructions"
)]
impl LaneQuads for float32x4_t {
    #[inline(always)]
    unsafe fn dot_lane<const LANE: usize>(sums: int32x4_t, bytes: int32x4_t, weights: int32x4_t) -> int32x4_t {
        let mut sums = sums;
        unsafe {
            asm!(
                "sdot {sums:v}.4s, {weights:v}.16b, {bytes:v}.4b[{lane}]",
                sums = inout(vreg) sums, weights = in(vreg) weights, bytes = in(vreg) bytes, lane = const LANE,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sums
    }
}

/// With products of halves: twice those of numbers in the same time, from half the memory.
pub static FP16: Kernels = Kernels {
    isa: &isa::NEON_FP16,
    halves: Some(half_kernels!(
        NEON_FP16,
        float16x8_t,
        [target_feature(enable = "neon,fp16")],
        [(12, 1), (10, 2), (7, 3), (6, 4)]
    )),
    ..NUMBERS
};

#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "all rest on the trait's own promise: the CPU has the instructions"
)]
impl HalfVector for float16x8_t {
    type Single = float32x4_t;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { vreinterpretq_f16_u16(vdupq_n_u16(0)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const u16) -> Self {
        unsafe { vreinterpretq_f16_u16(vld1q_u16(from)) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const u16) -> Self {
        unsafe { vreinterpretq_f16_u16(vld1q_dup_u16(from)) }
    }
    #[inline(always)]
    unsafe fn mul_lane_add<const LANE: i32>(self, factor: Self, term: Self) -> Self {
        unsafe { vfmaq_laneq_f16::<LANE>(term, factor, self) }
    }
    #[inline(always)]
    unsafe fn narrow([low, high]: [float32x4_t; 2], to: *mut u16) {
        unsafe { vst1q_u16(to, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(low), high))) }
    }
    #[inline(always)]
    unsafe fn widen(self) -> [float32x4_t; 2] {
        unsafe { [vcvt_f32_f16(vget_low_f16(self)), vcvt_high_f32_f16(self)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::kernels::{check, check_halves};

    #[test]
    fn every_tile_agrees_with_a_plain_loop() {
        // SAFETY: every CPU of this architecture that we build for has NEON; the tile is the checker's own.
        unsafe { check::gemm(&KERNELS) };
    }

    #[test]
    fn functions_of_a_vector_agree_with_f64() {
        // SAFETY: as above.
        unsafe { check::functions::<float32x4_t>() }
    }

    #[test]
    fn bytes_agree_with_plain_loops() {
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            // SAFETY: the CPU has the instructions; the tiles are the checker's own.
            unsafe {
                check::byte_gemm(&DOT);
                check::byte_rows(&DOT);
            }
        } else {
            eprintln!("passed over: this CPU has no products of bytes");
        }
    }
    #[test]
    fn halves_agree_with_plain_loops() {
        if std::arch::is_aarch64_feature_detected!("fp16") {
            // SAFETY: the CPU has the instructions; the tiles are the checker's own.
            unsafe { check_halves::gemm(&FP16) };
            // SAFETY: as above.
            unsafe { check_halves::narrow(&FP16) };
        } else {
            eprintln!("passed over: this CPU has no half-precision arithmetic");
        }
    }
}
