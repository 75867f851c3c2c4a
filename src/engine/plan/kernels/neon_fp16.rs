//! aarch64 with half-precision arithmetic (`asimdhp`, ARMv8.2: Cortex-A55, A75, A76 and later): 32 registers of 8 numbers,
//! twice the products of [`super::neon`] in the same time, from half the memory.
//!
//! Halves are `u16`s in memory. A sum of halves keeps 11 bits, so that a long one would forget what it adds: every
//! [`BLOCK`] products it is added to one of single precision, and so are bias, activation and residual.

#![allow(clippy::needless_range_loop, reason = "plain indices are what the compiler turns into registers")]

use std::arch::aarch64::*;
use std::mem::MaybeUninit;

use super::gemm::{Tile, unroll};
use super::math::activate;
use super::vector::Vector;
use crate::engine::plan::graph::Activation;

/// Numbers of a register.
pub const LANES: usize = 8;

/// Products that a sum of halves takes before it is added to the one of single precision: the error of random sums grows
/// with the root of it, and at this length moving the sums is an eighth of the work.
const BLOCK: usize = 64;

/// Pixels of a tile whose panel has this many vectors of 8 channels.
pub const PIXELS: [usize; 5] = [0, 14, 10, 7, 6];

/// # Safety
/// The CPU has half-precision arithmetic, and all pointers of the tile lead to as many values as the shapes say.
#[target_feature(enable = "neon,fp16")]
pub unsafe fn run(tile: &Tile<u16>, vectors: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match vectors {
            4 => multiply::<6, 4>(tile),
            3 => multiply::<7, 3>(tile),
            2 => multiply::<10, 2>(tile),
            _ => multiply::<14, 1>(tile),
        }
    }
}

/// As [`super::gemm_lanes::multiply`], eight channels to a step.
///
/// # Safety
/// As for [`run`].
#[inline]
#[target_feature(enable = "neon,fp16")]
unsafe fn multiply<const PIXELS: usize, const VECTORS: usize>(tile: &Tile<u16>) {
    // SAFETY: the caller's promise; all of `totals` is written before it is read.
    unsafe {
        let mut totals = MaybeUninit::<[[[float32x4_t; 2]; VECTORS]; PIXELS]>::uninit();
        let totals = totals.as_mut_ptr().cast::<float32x4_t>();
        for p in 0..PIXELS {
            for v in 0..2 * VECTORS {
                totals.add(2 * VECTORS * p + v).write(vld1q_f32(tile.bias.add(4 * v)));
            }
        }
        let zero = vreinterpretq_f16_u16(vdupq_n_u16(0));
        let mut sums = [[zero; VECTORS]; PIXELS];
        let mut products = 0;
        let mut weights = tile.weights;
        for tap in 0..tile.taps {
            let mut inputs = [std::ptr::null::<u16>(); PIXELS];
            unroll!(p < PIXELS, { inputs[p] = *tile.inputs.add(tap * PIXELS + p) });
            let mut left = tile.depth;
            while left > 0 {
                let part = left.min(BLOCK);
                let steps = part / LANES;
                for _ in 0..steps {
                    let mut x = [zero; PIXELS];
                    unroll!(p < PIXELS, {
                        x[p] = load(inputs[p]);
                        inputs[p] = inputs[p].add(LANES);
                    });
                    lane::<PIXELS, VECTORS, 0>(&mut sums, &x, weights);
                    lane::<PIXELS, VECTORS, 1>(&mut sums, &x, weights.add(LANES * VECTORS));
                    lane::<PIXELS, VECTORS, 2>(&mut sums, &x, weights.add(LANES * VECTORS * 2));
                    lane::<PIXELS, VECTORS, 3>(&mut sums, &x, weights.add(LANES * VECTORS * 3));
                    lane::<PIXELS, VECTORS, 4>(&mut sums, &x, weights.add(LANES * VECTORS * 4));
                    lane::<PIXELS, VECTORS, 5>(&mut sums, &x, weights.add(LANES * VECTORS * 5));
                    lane::<PIXELS, VECTORS, 6>(&mut sums, &x, weights.add(LANES * VECTORS * 6));
                    lane::<PIXELS, VECTORS, 7>(&mut sums, &x, weights.add(LANES * VECTORS * 7));
                    weights = weights.add(LANES * VECTORS * LANES);
                }
                for _ in steps * LANES..part {
                    let mut row = [zero; VECTORS];
                    for v in 0..VECTORS {
                        row[v] = load(weights.add(LANES * v));
                    }
                    unroll!(p < PIXELS, {
                        let x = vreinterpretq_f16_u16(vld1q_dup_u16(inputs[p]));
                        inputs[p] = inputs[p].add(1);
                        for v in 0..VECTORS {
                            sums[p][v] = vfmaq_f16(sums[p][v], row[v], x);
                        }
                    });
                    weights = weights.add(LANES * VECTORS);
                }
                left -= part;
                products += part;
                if products + tile.depth.min(BLOCK) > BLOCK {
                    move_sums(totals, &mut sums);
                    products = 0;
                }
            }
        }
        if products > 0 {
            move_sums(totals, &mut sums);
        }
        match tile.activation {
            Activation::None => finish::<PIXELS, VECTORS>(tile, totals, Activation::None),
            Activation::Relu => finish::<PIXELS, VECTORS>(tile, totals, Activation::Relu),
            Activation::Silu => finish::<PIXELS, VECTORS>(tile, totals, Activation::Silu),
        }
    }
}

/// Eight halves.
#[inline]
#[target_feature(enable = "neon,fp16")]
unsafe fn load(from: *const u16) -> float16x8_t {
    // SAFETY: the caller's promise.
    unsafe { vreinterpretq_f16_u16(vld1q_u16(from)) }
}

/// Adds one of eight channels of every pixel times its weights.
#[inline]
#[target_feature(enable = "neon,fp16")]
unsafe fn lane<const PIXELS: usize, const VECTORS: usize, const LANE: i32>(
    sums: &mut [[float16x8_t; VECTORS]; PIXELS],
    x: &[float16x8_t; PIXELS],
    weights: *const u16,
) {
    for v in 0..VECTORS {
        // SAFETY: the caller's promise.
        let weight = unsafe { load(weights.add(LANES * v)) };
        unroll!(p < PIXELS, { sums[p][v] = vfmaq_laneq_f16::<LANE>(sums[p][v], weight, x[p]) });
    }
}

/// Adds the sums of halves to those of single precision, and begins them anew.
#[inline]
#[target_feature(enable = "neon,fp16")]
unsafe fn move_sums<const PIXELS: usize, const VECTORS: usize>(
    totals: *mut float32x4_t,
    sums: &mut [[float16x8_t; VECTORS]; PIXELS],
) {
    unroll!(p < PIXELS, {
        for v in 0..VECTORS {
            // SAFETY: there are twice as many totals as sums.
            unsafe {
                let total = totals.add(2 * (VECTORS * p + v));
                total.write(vaddq_f32(total.read(), vcvt_f32_f16(vget_low_f16(sums[p][v]))));
                total.add(1).write(vaddq_f32(total.add(1).read(), vcvt_high_f32_f16(sums[p][v])));
            }
            sums[p][v] = vreinterpretq_f16_u16(vdupq_n_u16(0));
        }
    });
}

/// Activation, residual, and out.
#[inline(always)]
unsafe fn finish<const PIXELS: usize, const VECTORS: usize>(
    tile: &Tile<u16>,
    totals: *const float32x4_t,
    activation: Activation,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for p in 0..PIXELS {
            let output = *tile.outputs.add(p);
            for v in 0..VECTORS {
                let total = totals.add(2 * (VECTORS * p + v));
                let mut low = activate(activation, total.read());
                let mut high = activate(activation, total.add(1).read());
                if !tile.residuals.is_null() {
                    let residual = vreinterpretq_f16_u16(vld1q_u16((*tile.residuals.add(p)).add(LANES * v)));
                    low = low.add(vcvt_f32_f16(vget_low_f16(residual)));
                    high = high.add(vcvt_high_f32_f16(residual));
                }
                let halves = vcvt_high_f16_f32(vcvt_f16_f32(low), high);
                vst1q_u16(output.add(LANES * v), vreinterpretq_u16_f16(halves));
            }
        }
    }
}

/// Writes numbers as halves.
///
/// # Safety
/// Both lead to `count` values.
#[target_feature(enable = "neon")]
pub unsafe fn narrow(from: *const f32, to: *mut u16, count: usize) {
    let whole = count / 4 * 4;
    // SAFETY: the caller's promise.
    unsafe {
        for i in (0..whole).step_by(4) {
            vst1_u16(to.add(i), vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(from.add(i)))));
        }
        for i in whole..count {
            *to.add(i) = vget_lane_u16::<0>(vreinterpret_u16_f16(vcvt_f16_f32(vdupq_n_f32(*from.add(i)))));
        }
    }
}

/// Writes halves as numbers.
///
/// # Safety
/// Both lead to `count` values.
#[target_feature(enable = "neon")]
pub unsafe fn widen(from: *const u16, to: *mut f32, count: usize) {
    let whole = count / 4 * 4;
    // SAFETY: the caller's promise.
    unsafe {
        for i in (0..whole).step_by(4) {
            vst1q_f32(to.add(i), vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from.add(i)))));
        }
        for i in whole..count {
            *to.add(i) = vgetq_lane_f32::<0>(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(*from.add(i)))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::kernels::check;

    #[test]
    fn every_tile_agrees_with_a_plain_loop_on_halves() {
        if !std::arch::is_aarch64_feature_detected!("fp16") {
            eprintln!("passed over: this CPU has no half-precision arithmetic");
            return;
        }
        // SAFETY: the CPU has the instructions; the tile is the checker's own.
        check::gemm_halves(&PIXELS, LANES, |tile, vectors| unsafe { run(tile, vectors) });
    }

    #[test]
    fn halves_there_and_back() {
        for count in 0..20 {
            let from: Vec<f32> = (0..count).map(|i| i as f32 * 0.25 - 1.5).collect();
            let (mut halves, mut back) = (vec![0; count], vec![0.0; count]);
            // SAFETY: all have `count` values, and conversions are in every NEON.
            unsafe {
                narrow(from.as_ptr(), halves.as_mut_ptr(), count);
                widen(halves.as_ptr(), back.as_mut_ptr(), count);
            }
            assert_eq!(from, back);
        }
    }
}
