//! The loops of the resize with AVX2 and FMA.
//!
//! A horizontal step loads the two neighbouring pixels of eight columns (8 bytes each), and sorts them into pairs
//! `left, right` a channel, which is what `pmaddwd` multiplies and adds.

use core::arch::x86_64::*;

use super::super::taps::Columns;
use super::{Planes, scalar};

/// Columns of one horizontal step.
const STEP: usize = 8;

/// Pairs `left, right` of eight columns, a byte each, for red, green and blue.
///
/// # Safety
/// The `STEP` columns from `i` on are below `columns.wide`, and `row` has the length `columns` were built for.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load_pairs(row: &[u8], columns: &Columns, i: usize) -> [__m128i; 3] {
    // Two pixel pairs "RGBRGB.." to "RRrr GGgg BBbb ....", capitals of the first column.
    let order = _mm_setr_epi8(0, 3, 8, 11, 1, 4, 9, 12, 2, 5, 10, 13, -1, -1, -1, -1);
    let load = |i: usize| {
        let pixel = |i: usize| {
            // SAFETY: the caller promises `i < columns.wide <= offsets.len()`, and `Columns` that 8 bytes from such
            // an offset lie within the row.
            unsafe {
                let offset = *columns.offsets.get_unchecked(i) as usize;
                _mm_loadl_epi64(row.as_ptr().add(offset).cast())
            }
        };
        _mm_shuffle_epi8(_mm_unpacklo_epi64(pixel(i), pixel(i + 1)), order)
    };
    let (a, b, c, d) = (load(i), load(i + 2), load(i + 4), load(i + 6));
    let (red_green_low, blue_low) = (_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
    let (red_green_high, blue_high) = (_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
    [
        _mm_unpacklo_epi64(red_green_low, red_green_high),
        _mm_unpackhi_epi64(red_green_low, red_green_high),
        _mm_unpacklo_epi64(blue_low, blue_high),
    ]
}

#[target_feature(enable = "avx2,fma")]
pub fn columns_fixed(row: &[u8], columns: &Columns, mut planes: Planes<'_, i16>) {
    let vectorised = columns.wide / STEP * STEP;
    for i in (0..vectorised).step_by(STEP) {
        // SAFETY: `i + STEP <= columns.wide`; `Kernel` checked the row's length. The weights have one entry a column.
        let (pairs, weights) = unsafe {
            let weights = columns.weights.as_ptr().add(i);
            (load_pairs(row, columns, i), _mm256_loadu_si256(weights.cast()))
        };
        for (plane, pairs) in planes.iter_mut().zip(pairs) {
            let blended = _mm256_madd_epi16(_mm256_cvtepu8_epi16(pairs), weights);
            let blended = _mm256_srli_epi32::<4>(blended);
            let low = _mm256_castsi256_si128(blended);
            let packed = _mm_packs_epi32(low, _mm256_extracti128_si256::<1>(blended));
            // SAFETY: `Kernel` checked that a plane has one value a column, and `i + STEP` is not past the last.
            unsafe { _mm_storeu_si128(plane.as_mut_ptr().add(i).cast(), packed) };
        }
    }
    scalar::columns_fixed_from(vectorised, row, columns, planes);
}

#[target_feature(enable = "avx2,fma")]
pub fn columns_float(row: &[u8], columns: &Columns, mut planes: Planes<'_, f32>) {
    let vectorised = columns.wide / STEP * STEP;
    for i in (0..vectorised).step_by(STEP) {
        // SAFETY: `i + STEP <= columns.wide`; `Kernel` checked the row's length. One fraction a column.
        let (pairs, fractions) = unsafe {
            let fractions = columns.fractions.as_ptr().add(i);
            (load_pairs(row, columns, i), _mm256_loadu_ps(fractions))
        };
        for (plane, pairs) in planes.iter_mut().zip(pairs) {
            let pairs = _mm256_cvtepu8_epi16(pairs);
            let left = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff));
            let right = _mm256_srli_epi32::<16>(pairs);
            // The difference of two bytes is exact in either type.
            let difference = _mm256_cvtepi32_ps(_mm256_sub_epi32(right, left));
            let blended = _mm256_fmadd_ps(difference, fractions, _mm256_cvtepi32_ps(left));
            // SAFETY: `Kernel` checked that a plane has one value a column, and `i + STEP` is not past the last.
            unsafe { _mm256_storeu_ps(plane.as_mut_ptr().add(i), blended) };
        }
    }
    scalar::columns_float_from(vectorised, row, columns, planes);
}

/// Sixteen grey levels blended from two rows.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn blend(upper: &[i16; 16], lower: &[i16; 16], weights: [__m256i; 2]) -> __m256i {
    // SAFETY: both arrays are 32 bytes long, and the loads need no alignment.
    let (upper, lower) =
        unsafe { (_mm256_loadu_si256(upper.as_ptr().cast()), _mm256_loadu_si256(lower.as_ptr().cast())) };
    let upper = _mm256_mulhi_epi16(upper, weights[0]);
    let lower = _mm256_mulhi_epi16(lower, weights[1]);
    let sum = _mm256_add_epi16(_mm256_add_epi16(upper, lower), _mm256_set1_epi16(2));
    _mm256_srai_epi16::<2>(sum)
}

#[target_feature(enable = "avx2,fma")]
pub fn rows_fixed(rows: [&[i16]; 2], weights: [i16; 2], out: &mut [f32]) {
    let wide_weights = weights.map(|weight| _mm256_set1_epi16(weight));
    let ([upper, lower], [upper_rest, lower_rest]) = chunks(rows);
    let (out, out_rest) = out.as_chunks_mut::<16>();
    for ((out, upper), lower) in out.iter_mut().zip(upper).zip(lower) {
        let levels = blend(upper, lower, wide_weights);
        let low = _mm256_castsi256_si128(levels);
        let high = _mm256_extracti128_si256::<1>(levels);
        // SAFETY: `out` is 16 floats long, and the stores need no alignment.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), unit(low));
            _mm256_storeu_ps(out.as_mut_ptr().add(8), unit(high));
        }
    }
    scalar::rows_fixed([upper_rest, lower_rest], weights, out_rest);
}

/// Eight grey levels divided by 255.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn unit(levels: __m128i) -> __m256 {
    let levels = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(levels));
    _mm256_div_ps(levels, _mm256_set1_ps(255.0))
}

#[target_feature(enable = "avx2,fma")]
pub fn rows_bytes(rows: [&[i16]; 2], weights: [i16; 2], out: &mut [u8]) {
    let wide_weights = weights.map(|weight| _mm256_set1_epi16(weight));
    let ([upper, lower], [upper_rest, lower_rest]) = chunks(rows);
    let (out, out_rest) = out.as_chunks_mut::<16>();
    for ((out, upper), lower) in out.iter_mut().zip(upper).zip(lower) {
        let levels = blend(upper, lower, wide_weights);
        let low = _mm256_castsi256_si128(levels);
        let bytes = _mm_packus_epi16(low, _mm256_extracti128_si256::<1>(levels));
        // SAFETY: `out` is 16 bytes long, and the store needs no alignment.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), bytes) };
    }
    scalar::rows_bytes([upper_rest, lower_rest], weights, out_rest);
}

/// Two rows as whole vectors and what is left of each.
type Chunks<'a> = ([&'a [[i16; 16]]; 2], [&'a [i16]; 2]);

fn chunks([upper, lower]: [&[i16]; 2]) -> Chunks<'_> {
    let (upper, upper_rest) = upper.as_chunks::<16>();
    let (lower, lower_rest) = lower.as_chunks::<16>();
    ([upper, lower], [upper_rest, lower_rest])
}

#[target_feature(enable = "avx2,fma")]
pub fn rows_float([upper, lower]: [&[f32]; 2], fraction: f32, out: &mut [f32]) {
    let wide_fraction = _mm256_set1_ps(fraction);
    let (upper, upper_rest) = upper.as_chunks::<8>();
    let (lower, lower_rest) = lower.as_chunks::<8>();
    let (out, out_rest) = out.as_chunks_mut::<8>();
    for ((out, upper), lower) in out.iter_mut().zip(upper).zip(lower) {
        // SAFETY: all three arrays are 8 floats long, and neither loads nor the store need alignment.
        unsafe {
            let upper = _mm256_loadu_ps(upper.as_ptr());
            let difference = _mm256_sub_ps(_mm256_loadu_ps(lower.as_ptr()), upper);
            let blended = _mm256_fmadd_ps(difference, wide_fraction, upper);
            _mm256_storeu_ps(out.as_mut_ptr(), _mm256_div_ps(blended, _mm256_set1_ps(255.0)));
        }
    }
    scalar::rows_float([upper_rest, lower_rest], fraction, out_rest);
}

/// The scalar loop, which the compiler turns into fused vector instructions here.
#[target_feature(enable = "avx2,fma")]
pub fn blend_each(ends: [&[f32]; 2], fractions: &[f32], out: &mut [f32]) {
    scalar::blend_each(ends, fractions, out);
}

#[target_feature(enable = "avx2,fma")]
pub fn blend_all(ends: [&[f32]; 2], fraction: f32, out: &mut [f32]) {
    scalar::blend_all(ends, fraction, out);
}
