//! The loops of the resize in plain Rust: the meaning of the vector code, and its fallback and tail.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "fixed-point values have proven ranges: blends are 0..=32640, grey levels 0..=255"
)]

use super::super::taps::Columns;
use super::Planes;

/// `level / 255` in 32-bit floats, as numpy divides.
static UNIT: [f32; 256] = {
    let mut unit = [0.0; 256];
    let mut level = 0;
    while level < unit.len() {
        unit[level] = level as f32 / 255.0;
        level += 1;
    }
    unit
};

pub fn columns_fixed(row: &[u8], columns: &Columns, planes: Planes<'_, i16>) {
    columns_fixed_from(0, row, columns, planes);
}

/// The columns from `start` on.
pub fn columns_fixed_from(start: usize, row: &[u8], columns: &Columns, planes: Planes<'_, i16>) {
    let [red, green, blue] = planes;
    for i in start..columns.len() {
        let left = columns.offsets[i] as usize;
        let right = (left + 3).min(columns.last);
        let [left_weight, right_weight] = columns.weights[i].map(i32::from);
        let blend = |channel: usize| {
            let left = i32::from(row[left + channel]) * left_weight;
            let right = i32::from(row[right + channel]) * right_weight;
            // OpenCV shifts before the vertical blend; doing it here lets a row be 16-bit.
            ((left + right) >> 4) as i16
        };
        (red[i], green[i], blue[i]) = (blend(0), blend(1), blend(2));
    }
}

pub fn columns_float(row: &[u8], columns: &Columns, planes: Planes<'_, f32>) {
    columns_float_from(0, row, columns, planes);
}

/// The columns from `start` on.
pub fn columns_float_from(start: usize, row: &[u8], columns: &Columns, planes: Planes<'_, f32>) {
    let [red, green, blue] = planes;
    for i in start..columns.len() {
        let left = columns.offsets[i] as usize;
        let right = (left + 3).min(columns.last);
        let blend = |channel: usize| {
            let (left, right) = (row[left + channel], row[right + channel]);
            lerp(f32::from(left), f32::from(right), columns.fractions[i])
        };
        (red[i], green[i], blue[i]) = (blend(0), blend(1), blend(2));
    }
}

pub fn rows_fixed(rows: [&[i16]; 2], weights: [i16; 2], out: &mut [f32]) {
    blend_rows(rows, weights, out, |level| UNIT[usize::from(level)]);
}

pub fn rows_bytes(rows: [&[i16]; 2], weights: [i16; 2], out: &mut [u8]) {
    blend_rows(rows, weights, out, |level| level);
}

fn blend_rows<T>([upper, lower]: [&[i16]; 2], weights: [i16; 2], out: &mut [T], convert: impl Fn(u8) -> T) {
    let [upper_weight, lower_weight] = weights.map(i32::from);
    for ((out, &upper), &lower) in out.iter_mut().zip(upper).zip(lower) {
        // Each product is cut to 16 bits by itself, as OpenCV's vector code does.
        let upper = (i32::from(upper) * upper_weight) >> 16;
        let lower = (i32::from(lower) * lower_weight) >> 16;
        *out = convert(((upper + lower + 2) >> 2) as u8);
    }
}

pub fn rows_float([upper, lower]: [&[f32]; 2], fraction: f32, out: &mut [f32]) {
    for ((out, &upper), &lower) in out.iter_mut().zip(upper).zip(lower) {
        *out = lerp(upper, lower, fraction) / 255.0;
    }
}

#[inline(always)]
pub fn blend_each([from, to]: [&[f32]; 2], fractions: &[f32], out: &mut [f32]) {
    for (((out, &from), &to), &fraction) in out.iter_mut().zip(from).zip(to).zip(fractions) {
        *out = lerp(from, to, fraction);
    }
}

#[inline(always)]
pub fn blend_all([from, to]: [&[f32]; 2], fraction: f32, out: &mut [f32]) {
    for ((out, &from), &to) in out.iter_mut().zip(from).zip(to) {
        *out = lerp(from, to, fraction);
    }
}

/// With one rounding, as the fused instruction that IPP uses has.
#[inline(always)]
fn lerp(from: f32, to: f32, fraction: f32) -> f32 {
    (to - from).mul_add(fraction, from)
}
