//! The loops of the resize with NEON.
//!
//! A horizontal step loads the two neighbouring pixels of eight columns (8 bytes each), sorts them into pairs
//! `left, right` a channel, and takes those apart again into eight lefts and eight rights.

use core::arch::aarch64::*;

use super::super::taps::Columns;
use super::{Planes, scalar};

/// Columns of one horizontal step.
const STEP: usize = 8;

/// Two pixel pairs "RGBRGB.." to "RRrr GGgg BBbb ....", capitals of the first column.
const ORDER: [u8; 16] = [0, 3, 8, 11, 1, 4, 9, 12, 2, 5, 10, 13, 255, 255, 255, 255];

/// Left and right bytes of eight columns, for red, green and blue.
///
/// # Safety
/// The `STEP` columns from `i` on are below `columns.wide`, and `row` has the length `columns` were built for.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load_pairs(row: &[u8], columns: &Columns, i: usize) -> [[uint8x8_t; 2]; 3] {
    // SAFETY: `ORDER` is 16 bytes long.
    let order = unsafe { vld1q_u8(ORDER.as_ptr()) };
    let load = |i: usize| {
        let pixel = |i: usize| {
            // SAFETY: the caller promises `i < columns.wide <= offsets.len()`, and `Columns` that 8 bytes from such
            // an offset lie within the row.
            unsafe {
                let offset = *columns.offsets.get_unchecked(i) as usize;
                vld1_u8(row.as_ptr().add(offset))
            }
        };
        vreinterpretq_u32_u8(vqtbl1q_u8(vcombine_u8(pixel(i), pixel(i + 1)), order))
    };
    let (a, b, c, d) = (load(i), load(i + 2), load(i + 4), load(i + 6));
    let (red_green_low, blue_low) = (vzip1q_u32(a, b), vzip2q_u32(a, b));
    let (red_green_high, blue_high) = (vzip1q_u32(c, d), vzip2q_u32(c, d));
    let join = |low: uint32x2_t, high: uint32x2_t| {
        let pairs = vreinterpretq_u8_u32(vcombine_u32(low, high));
        [vget_low_u8(vuzp1q_u8(pairs, pairs)), vget_low_u8(vuzp2q_u8(pairs, pairs))]
    };
    [
        join(vget_low_u32(red_green_low), vget_low_u32(red_green_high)),
        join(vget_high_u32(red_green_low), vget_high_u32(red_green_high)),
        join(vget_low_u32(blue_low), vget_low_u32(blue_high)),
    ]
}

#[target_feature(enable = "neon")]
pub fn columns_fixed(row: &[u8], columns: &Columns, mut planes: Planes<'_, i16>) {
    let vectorised = columns.wide / STEP * STEP;
    for i in (0..vectorised).step_by(STEP) {
        // SAFETY: `i + STEP <= columns.wide`; `Kernel` checked the row's length. The weights have one pair a column.
        let (pairs, weights) = unsafe {
            let weights = columns.weights.as_ptr().add(i);
            (load_pairs(row, columns, i), vld2q_u16(weights.cast()))
        };
        let uint16x8x2_t(left_weights, right_weights) = weights;
        for (plane, [left, right]) in planes.iter_mut().zip(pairs) {
            let (left, right) = (vmovl_u8(left), vmovl_u8(right));
            let low = vmull_u16(vget_low_u16(left), vget_low_u16(left_weights));
            let low = vmlal_u16(low, vget_low_u16(right), vget_low_u16(right_weights));
            let high = vmull_high_u16(left, left_weights);
            let high = vmlal_high_u16(high, right, right_weights);
            let blended = vshrn_high_n_u32::<4>(vshrn_n_u32::<4>(low), high);
            // SAFETY: `Kernel` checked that a plane has one value a column, and `i + STEP` is not past the last.
            unsafe { vst1q_s16(plane.as_mut_ptr().add(i), vreinterpretq_s16_u16(blended)) };
        }
    }
    scalar::columns_fixed_from(vectorised, row, columns, planes);
}

#[target_feature(enable = "neon")]
pub fn columns_float(row: &[u8], columns: &Columns, mut planes: Planes<'_, f32>) {
    let vectorised = columns.wide / STEP * STEP;
    for i in (0..vectorised).step_by(STEP) {
        // SAFETY: `i + STEP <= columns.wide`; `Kernel` checked the row's length. One fraction a column.
        let (pairs, fractions) = unsafe {
            let fractions = columns.fractions.as_ptr().add(i);
            let (low, high) = (vld1q_f32(fractions), vld1q_f32(fractions.add(4)));
            (load_pairs(row, columns, i), [low, high])
        };
        for (plane, [left, right]) in planes.iter_mut().zip(pairs) {
            // The difference of two bytes is exact in either type.
            let difference = vreinterpretq_s16_u16(vsubl_u8(right, left));
            let left = vmovl_u8(left);
            let low = vfmaq_f32(
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(left))),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(difference))),
                fractions[0],
            );
            let high =
                vfmaq_f32(vcvtq_f32_u32(vmovl_high_u16(left)), vcvtq_f32_s32(vmovl_high_s16(difference)), fractions[1]);
            // SAFETY: `Kernel` checked that a plane has one value a column, and `i + STEP` is not past the last.
            unsafe {
                vst1q_f32(plane.as_mut_ptr().add(i), low);
                vst1q_f32(plane.as_mut_ptr().add(i + 4), high);
            }
        }
    }
    scalar::columns_float_from(vectorised, row, columns, planes);
}

/// Eight grey levels blended from two rows.
#[inline]
#[target_feature(enable = "neon")]
fn blend(upper: &[i16; 8], lower: &[i16; 8], weights: [i16; 2]) -> int16x8_t {
    // SAFETY: both arrays are 8 values long.
    let (upper, lower) = unsafe { (vld1q_s16(upper.as_ptr()), vld1q_s16(lower.as_ptr())) };
    // `vqdmulh` is the product >> 15; cutting one more bit off gives exactly the product >> 16.
    let upper = vshrq_n_s16::<1>(vqdmulhq_n_s16(upper, weights[0]));
    let lower = vshrq_n_s16::<1>(vqdmulhq_n_s16(lower, weights[1]));
    vshrq_n_s16::<2>(vaddq_s16(vaddq_s16(upper, lower), vdupq_n_s16(2)))
}

#[target_feature(enable = "neon")]
pub fn rows_fixed(rows: [&[i16]; 2], weights: [i16; 2], out: &mut [f32]) {
    let ([upper, lower], [upper_rest, lower_rest]) = chunks(rows);
    let (out, out_rest) = out.as_chunks_mut::<8>();
    for ((out, upper), lower) in out.iter_mut().zip(upper).zip(lower) {
        let levels = blend(upper, lower, weights);
        // SAFETY: `out` is 8 floats long.
        unsafe {
            vst1q_f32(out.as_mut_ptr(), unit(vmovl_s16(vget_low_s16(levels))));
            vst1q_f32(out.as_mut_ptr().add(4), unit(vmovl_high_s16(levels)));
        }
    }
    scalar::rows_fixed([upper_rest, lower_rest], weights, out_rest);
}

/// Four grey levels divided by 255.
#[inline]
#[target_feature(enable = "neon")]
fn unit(levels: int32x4_t) -> float32x4_t {
    vdivq_f32(vcvtq_f32_s32(levels), vdupq_n_f32(255.0))
}

#[target_feature(enable = "neon")]
pub fn rows_bytes(rows: [&[i16]; 2], weights: [i16; 2], out: &mut [u8]) {
    let ([upper, lower], [upper_rest, lower_rest]) = chunks(rows);
    let (out, out_rest) = out.as_chunks_mut::<8>();
    for ((out, upper), lower) in out.iter_mut().zip(upper).zip(lower) {
        // SAFETY: `out` is 8 bytes long.
        unsafe { vst1_u8(out.as_mut_ptr(), vqmovun_s16(blend(upper, lower, weights))) };
    }
    scalar::rows_bytes([upper_rest, lower_rest], weights, out_rest);
}

/// Two rows as whole vectors and what is left of each.
type Chunks<'a> = ([&'a [[i16; 8]]; 2], [&'a [i16]; 2]);

fn chunks([upper, lower]: [&[i16]; 2]) -> Chunks<'_> {
    let (upper, upper_rest) = upper.as_chunks::<8>();
    let (lower, lower_rest) = lower.as_chunks::<8>();
    ([upper, lower], [upper_rest, lower_rest])
}

#[target_feature(enable = "neon")]
pub fn rows_float([upper, lower]: [&[f32]; 2], fraction: f32, out: &mut [f32]) {
    let (upper, upper_rest) = upper.as_chunks::<4>();
    let (lower, lower_rest) = lower.as_chunks::<4>();
    let (out, out_rest) = out.as_chunks_mut::<4>();
    for ((out, upper), lower) in out.iter_mut().zip(upper).zip(lower) {
        // SAFETY: all three arrays are 4 floats long.
        unsafe {
            let upper = vld1q_f32(upper.as_ptr());
            let difference = vsubq_f32(vld1q_f32(lower.as_ptr()), upper);
            let blended = vfmaq_n_f32(upper, difference, fraction);
            vst1q_f32(out.as_mut_ptr(), vdivq_f32(blended, vdupq_n_f32(255.0)));
        }
    }
    scalar::rows_float([upper_rest, lower_rest], fraction, out_rest);
}

/// The scalar loop, which the compiler turns into fused vector instructions here.
#[target_feature(enable = "neon")]
pub fn blend_each(ends: [&[f32]; 2], fractions: &[f32], out: &mut [f32]) {
    scalar::blend_each(ends, fractions, out);
}

#[target_feature(enable = "neon")]
pub fn blend_all(ends: [&[f32]; 2], fraction: f32, out: &mut [f32]) {
    scalar::blend_all(ends, fraction, out);
}
