//! The micro-kernel for instruction sets that can multiply by one lane of a register: four channels of a pixel come with
//! one load, and a product needs no broadcast.

#![allow(clippy::needless_range_loop, reason = "plain indices are what the compiler turns into registers")]

use super::gemm::{FinishTile, Tile, prefetch_residuals, step, store, unroll};
use super::vector::Vector;

/// A vector of four whose lanes can each be a factor.
///
/// # Safety
/// As for [`Vector`].
pub trait LaneVector: Vector {
    /// `self[LANE] · factor + term`.
    unsafe fn mul_lane_add<const LANE: i32>(self, factor: Self, term: Self) -> Self;
}

/// # Safety
/// As for [`super::gemm::multiply`].
#[inline(always)]
pub unsafe fn multiply<V: LaneVector, const PIXELS: usize, const VECTORS: usize, const UNROLL: usize>(
    tile: &Tile,
    finish: FinishTile<V>,
) {
    const { assert!(V::LANES == 4 && UNROLL == 4) };
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::splat(0.0); VECTORS]; PIXELS];
        for v in 0..VECTORS {
            let bias = V::load(tile.bias.add(V::LANES * v));
            unroll!(p < PIXELS, { sums[p][v] = bias });
        }
        prefetch_residuals::<V, PIXELS, VECTORS>(tile);
        let mut weights = tile.weights;
        for tap in 0..tile.taps {
            let mut inputs = [std::ptr::null::<f32>(); PIXELS];
            unroll!(p < PIXELS, { inputs[p] = *tile.inputs.add(tap * PIXELS + p) });
            let steps = tile.depth / 4 * 4;
            for channel in (0..steps).step_by(4) {
                let mut x = [V::splat(0.0); PIXELS];
                unroll!(p < PIXELS, { x[p] = V::load(inputs[p].add(channel)) });
                lane::<V, PIXELS, VECTORS, 0>(&mut sums, &x, weights);
                lane::<V, PIXELS, VECTORS, 1>(&mut sums, &x, weights.add(V::LANES * VECTORS));
                lane::<V, PIXELS, VECTORS, 2>(&mut sums, &x, weights.add(V::LANES * VECTORS * 2));
                lane::<V, PIXELS, VECTORS, 3>(&mut sums, &x, weights.add(V::LANES * VECTORS * 3));
                weights = weights.add(V::LANES * VECTORS * 4);
            }
            for channel in steps..tile.depth {
                step::<V, PIXELS, VECTORS, 1>(&mut sums, &inputs, channel, weights);
                weights = weights.add(V::LANES * VECTORS);
            }
        }
        store(tile, sums, finish);
    }
}

/// Adds one of four channels of every pixel times its weights. Vector by vector, so that no more than two weights need a
/// register beside the sums and the pixels: six pixels of four vectors take 24, 6 and 2, which is all there are.
#[inline(always)]
unsafe fn lane<V: LaneVector, const PIXELS: usize, const VECTORS: usize, const LANE: i32>(
    sums: &mut [[V; VECTORS]; PIXELS],
    x: &[V; PIXELS],
    weights: *const f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for v in 0..VECTORS {
            let weight = V::load(weights.add(V::LANES * v));
            unroll!(p < PIXELS, { sums[p][v] = x[p].mul_lane_add::<LANE>(weight, sums[p][v]) });
        }
    }
}
