//! The int8 micro-kernel for instruction sets that can multiply by one lane of a register: four quads of a pixel come
//! with one load.

#![allow(clippy::needless_range_loop, reason = "plain indices are what the compiler turns into registers")]

use super::bytes::{ByteTile, FinishBytes, QUAD, Quads, store};
use super::gemm::unroll;

/// A vector of four quads each of which can be a factor.
///
/// # Safety
/// As for [`Quads`].
pub trait LaneQuads: Quads {
    /// `sums` and, lane by lane, the four products of quad `LANE` of `bytes` with weights.
    unsafe fn dot_lane<const LANE: usize>(sums: Self::Whole, bytes: Self::Whole, weights: Self::Whole) -> Self::Whole;
}

/// # Safety
/// As for [`super::bytes::multiply`].
#[inline(always)]
pub unsafe fn multiply<V: LaneQuads, const PIXELS: usize, const VECTORS: usize, const UNROLL: usize>(
    tile: &ByteTile,
    finish: FinishBytes<V>,
) {
    const { assert!(V::LANES == 4 && UNROLL == 4) };
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::none(); VECTORS]; PIXELS];
        let mut weights = tile.weights;
        for tap in 0..tile.taps {
            let mut inputs = [std::ptr::null::<u8>(); PIXELS];
            unroll!(p < PIXELS, { inputs[p] = *tile.inputs.add(tap * PIXELS + p) });
            let steps = tile.quads / 4 * 4;
            for quad in (0..steps).step_by(4) {
                let mut x = [V::none(); PIXELS];
                unroll!(p < PIXELS, { x[p] = V::weights(inputs[p].add(QUAD * quad).cast()) });
                lane::<V, PIXELS, VECTORS, 0>(&mut sums, &x, weights);
                lane::<V, PIXELS, VECTORS, 1>(&mut sums, &x, weights.add(QUAD * V::LANES * VECTORS));
                lane::<V, PIXELS, VECTORS, 2>(&mut sums, &x, weights.add(QUAD * V::LANES * VECTORS * 2));
                lane::<V, PIXELS, VECTORS, 3>(&mut sums, &x, weights.add(QUAD * V::LANES * VECTORS * 3));
                weights = weights.add(QUAD * V::LANES * VECTORS * 4);
            }
            for quad in steps..tile.quads {
                let mut x = [V::none(); PIXELS];
                unroll!(p < PIXELS, { x[p] = V::broadcast(inputs[p].add(QUAD * quad)) });
                lane::<V, PIXELS, VECTORS, 0>(&mut sums, &x, weights);
                weights = weights.add(QUAD * V::LANES * VECTORS);
            }
        }
        store(tile, sums, finish);
    }
}

/// Adds one of four quads of every pixel times its weights, vector by vector as in gemm_lanes.rs.
#[inline(always)]
unsafe fn lane<V: LaneQuads, const PIXELS: usize, const VECTORS: usize, const LANE: usize>(
    sums: &mut [[V::Whole; VECTORS]; PIXELS],
    x: &[V::Whole; PIXELS],
    weights: *const i8,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for v in 0..VECTORS {
            let weight = V::weights(weights.add(QUAD * V::LANES * v));
            unroll!(p < PIXELS, { sums[p][v] = V::dot_lane::<LANE>(sums[p][v], x[p], weight) });
        }
    }
}
