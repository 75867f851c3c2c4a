//! Winograd's minimal filtering F(4×4, 3×3): 16 results of a 3×3 window out of 36 products instead of 144 (A. Lavin, S. Gray,
//! Fast Algorithms for Convolutional Neural Networks, 2015), with the points 0, ±1, ±2 and infinity.

use std::mem::MaybeUninit;

use super::gemm::{FinishTile, Tile};
use super::vector::Vector;
use crate::engine::plan::graph::Finish;

/// Rows and columns of results that a tile makes.
pub const RESULTS: usize = 4;
/// Rows and columns of pixels that it reads.
pub const PIXELS: usize = 6;
/// Products of a tile.
pub const PRODUCTS: usize = PIXELS * PIXELS;
/// Most channels of results at once: those of the widest panel.
pub const CHANNELS_MAX: usize = 64;

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
    /// Whole vectors of [`super::Isa::half`], [`CHANNELS_MAX`] at most.
    pub channels: usize,
}

/// `Bᵀ d`. No number is needed again after it was a term, so that a multiply-add finds its sum in place.
#[inline(always)]
unsafe fn input_row<V: Vector>(d: [V; PIXELS]) -> [V; PIXELS] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let (four, minus_four) = (V::splat(4.0), V::splat(-4.0));
        let (near, far) = (d[4].sub(d[2]), d[3].sub(d[1]));
        let twice = far.add(far);
        let (even, odd) = (d[2].mul_add(minus_four, d[4]), d[1].mul_add(minus_four, d[3]));
        [
            d[0].sub(d[2]).mul_add(four, near),
            even.add(odd),
            even.sub(odd),
            near.add(twice),
            near.sub(twice),
            far.mul_add(minus_four, d[5].sub(d[3])),
        ]
    }
}

/// `Aᵀ m`, in the same manner.
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
            tilt.mul_add(V::splat(8.0), difference.add(m[5])),
        ]
    }
}

/// See [`super::Kernels::winograd_input`].
#[inline(always)]
pub unsafe fn input<V: Vector>(pixels: &[*const f32; PRODUCTS], to: *mut f32, step: usize, channels: usize) {
    // Not an array of zeros: they are more than there are registers, and would be written for nothing.
    let mut half = MaybeUninit::<[V; PRODUCTS]>::uninit();
    let half = half.as_mut_ptr().cast::<V>();
    let mut channel = 0;
    while channel < channels {
        // SAFETY: the caller's promise; all of `half` is written before it is read.
        unsafe {
            for column in 0..PIXELS {
                let mut d = [V::splat(0.0); PIXELS];
                for (row, d) in d.iter_mut().enumerate() {
                    *d = V::load(pixels[row * PIXELS + column].add(channel));
                }
                for (row, value) in input_row(d).into_iter().enumerate() {
                    half.add(row * PIXELS + column).write(value);
                }
            }
            for row in 0..PIXELS {
                let to = to.add(row * PIXELS * step + channel);
                let mut d = [V::splat(0.0); PIXELS];
                for (column, d) in d.iter_mut().enumerate() {
                    *d = half.add(row * PIXELS + column).read();
                }
                for (column, value) in input_row(d).into_iter().enumerate() {
                    value.store(to.add(column * step));
                }
            }
        }
        channel += V::LANES;
    }
}

/// The results of a tile before they are finished, `[result][vector]`.
#[repr(align(64))]
struct Sums(#[expect(dead_code, reason = "written and read through pointers")] [f32; RESULTS * RESULTS * CHANNELS_MAX]);

/// See [`super::Kernels::winograd_output`]. What follows the sums is `finish`'s, as for every other convolution: in a loop
/// of its own, the constants of an activation keep their registers.
#[inline(always)]
pub unsafe fn output<V: Vector>(tile: &Output<'_>, finish: FinishTile<V>) {
    let mut half = MaybeUninit::<[V; PIXELS * RESULTS]>::uninit();
    let half = half.as_mut_ptr().cast::<V>();
    let mut sums = MaybeUninit::<Sums>::uninit();
    let sums = sums.as_mut_ptr().cast::<V>();
    let vectors = tile.channels.min(CHANNELS_MAX) / V::LANES;
    for vector in 0..vectors {
        let channel = vector * V::LANES;
        // SAFETY: the caller's promise; `half` is written before it is read.
        unsafe {
            for column in 0..PIXELS {
                let mut m = [V::splat(0.0); PIXELS];
                for (row, m) in m.iter_mut().enumerate() {
                    *m = V::load(tile.products.add((row * PIXELS + column) * tile.step + channel));
                }
                for (row, value) in output_row(m).into_iter().enumerate() {
                    half.add(row * PIXELS + column).write(value);
                }
            }
            let bias = V::load(tile.bias.add(channel));
            for row in 0..RESULTS {
                let mut m = [V::splat(0.0); PIXELS];
                for (column, m) in m.iter_mut().enumerate() {
                    *m = half.add(row * PIXELS + column).read();
                }
                for (column, value) in output_row(m).into_iter().enumerate() {
                    sums.add((row * RESULTS + column) * vectors + vector).write(value.add(bias));
                }
            }
        }
    }
    let (mut outputs, mut residuals, mut count) = (*tile.results, *tile.residuals, 0);
    for at in 0..RESULTS * RESULTS {
        if outputs[at].is_null() {
            continue;
        }
        if count != at {
            (outputs[count], residuals[count]) = (outputs[at], residuals[at]);
            // SAFETY: both are results of the tile.
            unsafe { sums.add(count * vectors).copy_from_nonoverlapping(sums.add(at * vectors), vectors) };
        }
        count += 1;
    }
    let rows = Tile {
        outputs: outputs.as_ptr(),
        residuals: residuals.as_ptr(),
        ..Tile::new(0, 0, tile.bias, tile.bias, 0, tile.finish)
    };
    // SAFETY: the sums of `count` results have been written, one place after the other.
    unsafe { finish(&rows, sums, count, vectors) };
}

/// `G g Gᵀ`: the filter of 3×3 as its 36 factors.
#[expect(clippy::cast_possible_truncation, reason = "factors are kept in 32 bits")]
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
