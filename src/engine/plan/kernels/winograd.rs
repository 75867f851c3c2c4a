//! Winograd's minimal filtering F(4×4, 3×3): 16 results of a 3×3 window out of 36 products instead of 144 (A. Lavin, S. Gray,
//! Fast Algorithms for Convolutional Neural Networks, 2015), with the points 0, ±1, ±2 and infinity.

use super::math::finish;
use super::vector::Vector;
use crate::engine::plan::graph::Finish;

/// Rows and columns of results that a tile makes.
pub const RESULTS: usize = 4;
/// Rows and columns of pixels that it reads.
pub const PIXELS: usize = 6;
/// Products of a tile.
pub const PRODUCTS: usize = PIXELS * PIXELS;

/// What [`super::Kernels::winograd_output`] needs.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// The products of a tile, `step` values from one to the next.
    pub products: *const f32,
    pub step: usize,
    /// One for each channel.
    pub bias: *const f32,
    /// Where the results go, row by row; null where a tile reaches beyond the picture.
    pub results: &'a [*mut f32; RESULTS * RESULTS],
    /// What is added to each result, where the finish says so.
    pub residuals: &'a [*const f32; RESULTS * RESULTS],
    pub finish: Finish,
    /// Whole vectors of [`super::Isa::half`].
    pub channels: usize,
}

/// `Bᵀ d`, in place.
#[inline(always)]
unsafe fn input_row<V: Vector>(d: [V; PIXELS]) -> [V; PIXELS] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let (four, minus_four, minus_five) = (V::splat(4.0), V::splat(-4.0), V::splat(-5.0));
        let (even, odd) = (d[2].mul_add(minus_four, d[4]), d[1].mul_add(minus_four, d[3]));
        let (near, far) = (d[4].sub(d[2]), d[3].sub(d[1]));
        let far = far.add(far);
        [
            d[0].mul_add(four, d[2].mul_add(minus_five, d[4])),
            even.add(odd),
            even.sub(odd),
            near.add(far),
            near.sub(far),
            d[1].mul_add(four, d[3].mul_add(minus_five, d[5])),
        ]
    }
}

/// `Aᵀ m`.
#[inline(always)]
unsafe fn output_row<V: Vector>(m: [V; PIXELS]) -> [V; RESULTS] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let (sum, difference) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (wide, tilt) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].add(sum).add(wide),
            tilt.mul_add(V::splat(2.0), difference),
            wide.mul_add(V::splat(4.0), sum),
            tilt.mul_add(V::splat(8.0), difference).add(m[5]),
        ]
    }
}

/// See [`super::Kernels::winograd_input`].
#[inline(always)]
pub unsafe fn input<V: Vector>(pixels: &[*const f32; PRODUCTS], to: *mut f32, step: usize, channels: usize) {
    let mut channel = 0;
    while channel < channels {
        // SAFETY: the caller's promise.
        unsafe {
            let zero = V::splat(0.0);
            let mut half = [[zero; PIXELS]; PIXELS];
            for (column, half) in half.iter_mut().enumerate() {
                let mut d = [zero; PIXELS];
                for (row, d) in d.iter_mut().enumerate() {
                    *d = V::load(pixels[row * PIXELS + column].add(channel));
                }
                *half = input_row(d);
            }
            for row in 0..PIXELS {
                let mut d = [zero; PIXELS];
                for (d, half) in d.iter_mut().zip(&half) {
                    *d = half[row];
                }
                for (column, value) in input_row(d).into_iter().enumerate() {
                    value.store(to.add((row * PIXELS + column) * step + channel));
                }
            }
        }
        channel += V::LANES;
    }
}

/// See [`super::Kernels::winograd_output`].
#[inline(always)]
pub unsafe fn output<V: Vector>(tile: &Output<'_>) {
    let mut channel = 0;
    while channel < tile.channels {
        // SAFETY: the caller's promise.
        unsafe {
            let zero = V::splat(0.0);
            let bias = V::load(tile.bias.add(channel));
            let mut half = [[zero; RESULTS]; PIXELS];
            for (column, half) in half.iter_mut().enumerate() {
                let mut m = [zero; PIXELS];
                for (row, m) in m.iter_mut().enumerate() {
                    *m = V::load(tile.products.add((row * PIXELS + column) * tile.step + channel));
                }
                *half = output_row(m);
            }
            for row in 0..RESULTS {
                let mut m = [zero; PIXELS];
                for (m, half) in m.iter_mut().zip(&half) {
                    *m = half[row];
                }
                for (column, value) in output_row(m).into_iter().enumerate() {
                    let at = row * RESULTS + column;
                    let (to, residual) = (tile.results[at], tile.residuals[at]);
                    if !to.is_null() {
                        finish(tile.finish, value.add(bias), residual.wrapping_add(channel)).store(to.add(channel));
                    }
                }
            }
        }
        channel += V::LANES;
    }
}

/// `G g Gᵀ`: the filter of 3×3 as its 36 factors.
#[expect(clippy::cast_possible_truncation, reason = "rounded once, after all that is reckoned in double")]
pub fn filter(g: [[f32; 3]; 3]) -> [f32; PRODUCTS] {
    let row = |g: [f64; 3]| {
        let (even, odd) = (g[0] + g[2], g[1]);
        let (far, tilt) = (g[0] / 24.0 + g[2] / 6.0, g[1] / 12.0);
        [g[0] / 4.0, -(even + odd) / 6.0, -(even - odd) / 6.0, far + tilt, far - tilt, g[2]]
    };
    // In double: this is done once, and what is lost here is lost in every frame.
    let rows = g.map(|g| row(g.map(f64::from)));
    let mut factors = [0.0; PRODUCTS];
    for column in 0..PIXELS {
        let of = row([rows[0][column], rows[1][column], rows[2][column]]);
        (0..PIXELS).for_each(|at| factors[at * PIXELS + column] = of[at] as f32);
    }
    factors
}
