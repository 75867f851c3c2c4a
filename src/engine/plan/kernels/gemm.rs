//! The micro-kernel of every convolution and matrix product: a tile of pixels × channels held in registers.
//!
//! Indirect: each pixel of each tap brings its own pointer, so that padding, strides and dilation cost nothing inside the
//! loop (M. Dukhan, The Indirect Convolution Algorithm, 2019).

use super::math::activate;
use super::winograd::finish as finish_vector;
use super::vector::Vector;
use crate::engine::plan::graph::{Finish, Residual};

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
    /// One for each pixel, where the finish adds something.
    pub residuals: *const *const f32,
    /// Channels of outputs and residuals before this panel's.
    pub first: usize,
    pub finish: Finish,
}

impl Tile {
    /// Without its pointers to rows.
    pub fn new(taps: usize, depth: usize, weights: *const f32, bias: *const f32, first: usize, finish: Finish) -> Self {
        let (inputs, outputs, residuals) = (std::ptr::null(), std::ptr::null(), std::ptr::null());
        Self { inputs, taps, depth, weights, bias, outputs, residuals, first, finish }
    }
}

/// # Safety
/// The CPU has the instruction set of `V`; the tile's pointers lead to what its fields say, for `PIXELS` pixels and
/// `VECTORS` vectors of channels.
#[inline(always)]
pub unsafe fn multiply<V: Vector, const PIXELS: usize, const VECTORS: usize>(tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::splat(0.0); VECTORS]; PIXELS];
        for v in 0..VECTORS {
            let bias = V::load(tile.bias.add(V::LANES * v));
            for sum in &mut sums {
                sum[v] = bias;
            }
        }
        let mut weights = tile.weights;
        for tap in 0..tile.taps {
            let mut inputs = [std::ptr::null::<f32>(); PIXELS];
            for (p, input) in inputs.iter_mut().enumerate() {
                *input = *tile.inputs.add(tap * PIXELS + p);
            }
            for channel in 0..tile.depth {
                let mut row = [V::splat(0.0); VECTORS];
                for (v, row) in row.iter_mut().enumerate() {
                    *row = V::load(weights.add(V::LANES * v));
                }
                for p in 0..PIXELS {
                    let x = V::splat(*inputs[p].add(channel));
                    for v in 0..VECTORS {
                        sums[p][v] = x.mul_add(row[v], sums[p][v]);
                    }
                }
                weights = weights.add(V::LANES * VECTORS);
            }
        }
        finish(tile, sums);
    }
}

/// Activation, residual, and out.
#[inline(always)]
unsafe fn finish<V: Vector, const PIXELS: usize, const VECTORS: usize>(tile: &Tile, sums: [[V; VECTORS]; PIXELS]) {
    // SAFETY: the caller's promise.
    unsafe {
        for (p, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let at = tile.first + V::LANES * v;
                let sum = match tile.finish.residual {
                    Residual::None => activate(tile.finish.activation, sum),
                    _ => finish_vector(tile.finish, sum, (*tile.residuals.add(p)).wrapping_add(at)),
                };
                sum.store((*tile.outputs.add(p)).wrapping_add(at));
            }
        }
    }
}
