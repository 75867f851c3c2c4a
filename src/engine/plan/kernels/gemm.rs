//! The micro-kernel of every convolution and matrix product: a tile of pixels × channels held in registers.
//!
//! Indirect: each pixel of each tap brings its own pointer, so that padding, strides and dilation cost nothing inside the
//! loop (M. Dukhan, The Indirect Convolution Algorithm, 2019).

use super::math::activate;
use super::vector::Vector;
use crate::engine::plan::graph::Activation;

/// The body once for each number below a constant of at most 28, written out: the compiler keeps a long loop rolled, and
/// what it indexes then in memory instead of registers.
macro_rules! unroll {
    ($p:ident < $count:expr, $body:block) => {
        unroll!(@ $p $count, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27)
    };
    (@ $p:ident $count:expr, $body:block, $($number:literal)*) => {
        $(if $number < $count {
            let $p = $number;
            $body
        })*
    };
}

pub(super) use unroll;

/// One call of the micro-kernel: sums over all taps for `PIXELS` pixels and one panel of output channels.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    /// Pointers to the first channel under each tap for each pixel: `[tap][pixel]`.
    pub inputs: *const *const f32,
    pub taps: usize,
    /// Input channels, which lie one after the other.
    pub depth: usize,
    /// `[tap][channel][lane]`.
    pub weights: *const f32,
    /// One for each lane.
    pub bias: *const f32,
    /// One for each pixel.
    pub outputs: *const *mut f32,
    /// One for each pixel, or null.
    pub residuals: *const *const f32,
    pub activation: Activation,
}

/// # Safety
/// The CPU has the instruction set of `V`; the tile's pointers lead to what its fields say, for `PIXELS` pixels and
/// `VECTORS` vectors of channels.
///
/// `UNROLL` channels are taken in one step, pixel by pixel: where there are more pixels than registers for their
/// pointers, each pointer is then read once a step and not once a channel.
#[inline(always)]
pub unsafe fn multiply<V: Vector, const PIXELS: usize, const VECTORS: usize, const UNROLL: usize>(tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::splat(0.0); VECTORS]; PIXELS];
        for v in 0..VECTORS {
            let bias = V::load(tile.bias.add(V::LANES * v));
            unroll!(p < PIXELS, { sums[p][v] = bias });
        }
        let mut weights = tile.weights;
        for tap in 0..tile.taps {
            let mut inputs = [std::ptr::null::<f32>(); PIXELS];
            unroll!(p < PIXELS, { inputs[p] = *tile.inputs.add(tap * PIXELS + p) });
            let steps = tile.depth / UNROLL * UNROLL;
            for channel in (0..steps).step_by(UNROLL) {
                step::<V, PIXELS, VECTORS, UNROLL>(&mut sums, &inputs, channel, weights);
                weights = weights.add(V::LANES * VECTORS * UNROLL);
            }
            if UNROLL > 1 {
                for channel in steps..tile.depth {
                    step::<V, PIXELS, VECTORS, 1>(&mut sums, &inputs, channel, weights);
                    weights = weights.add(V::LANES * VECTORS);
                }
            }
        }
        finish(tile, sums);
    }
}

/// Adds `UNROLL` channels of every pixel times their weights.
#[inline(always)]
pub(super) unsafe fn step<V: Vector, const PIXELS: usize, const VECTORS: usize, const UNROLL: usize>(
    sums: &mut [[V; VECTORS]; PIXELS],
    inputs: &[*const f32; PIXELS],
    channel: usize,
    weights: *const f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let rows: [[V; VECTORS]; UNROLL] =
            std::array::from_fn(|u| std::array::from_fn(|v| V::load(weights.add(V::LANES * (VECTORS * u + v)))));
        unroll!(p < PIXELS, {
            for (u, row) in rows.iter().enumerate() {
                let x = V::splat(*inputs[p].add(channel + u));
                for v in 0..VECTORS {
                    sums[p][v] = x.mul_add(row[v], sums[p][v]);
                }
            }
        });
    }
}

/// Activation, residual, and out.
#[inline(always)]
pub(super) unsafe fn finish<V: Vector, const PIXELS: usize, const VECTORS: usize>(tile: &Tile, sums: [[V; VECTORS]; PIXELS]) {
    // SAFETY: the caller's promise.
    unsafe {
        unroll!(p < PIXELS, {
            for v in 0..VECTORS {
                let mut sum = activate(tile.activation, sums[p][v]);
                if !tile.residuals.is_null() {
                    sum = sum.add(V::load((*tile.residuals.add(p)).add(V::LANES * v)));
                }
                sum.store((*tile.outputs.add(p)).add(V::LANES * v));
            }
        });
    }
}
