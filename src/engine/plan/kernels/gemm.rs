//! The micro-kernel of every convolution and matrix product: a tile of pixels × channels held in registers.
//!
//! Indirect: each pixel of each tap brings its own pointer, so that padding, strides and dilation cost nothing inside the
//! loop (M. Dukhan, The Indirect Convolution Algorithm, 2019).

#![allow(clippy::needless_range_loop, reason = "plain indices are what the compiler turns into registers")]

use std::mem::MaybeUninit;

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

#[cfg(target_arch = "aarch64")]
pub(super) use unroll;

/// One call of the micro-kernel: sums over all taps for `PIXELS` pixels and one panel of output channels.
///
/// `T` is what numbers are in memory; sums and bias are `f32` all the same.
#[derive(Clone, Copy, Debug)]
pub struct Tile<T = f32> {
    /// Pointers to the first channel under each tap for each pixel: `[tap][pixel]`.
    pub inputs: *const *const T,
    pub taps: usize,
    /// Input channels, which lie one after the other.
    pub depth: usize,
    /// `[tap][channel][lane]`.
    pub weights: *const T,
    /// One for each lane.
    pub bias: *const f32,
    /// One for each pixel.
    pub outputs: *const *mut T,
    /// One for each pixel, or null.
    pub residuals: *const *const T,
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
        let mut rows = [[V::splat(0.0); VECTORS]; UNROLL];
        for u in 0..UNROLL {
            for v in 0..VECTORS {
                rows[u][v] = V::load(weights.add(V::LANES * (VECTORS * u + v)));
            }
        }
        unroll!(p < PIXELS, {
            for u in 0..UNROLL {
                let x = V::splat(*inputs[p].add(channel + u));
                for v in 0..VECTORS {
                    sums[p][v] = x.mul_add(rows[u][v], sums[p][v]);
                }
            }
        });
    }
}

/// Activation, residual, and out.
///
/// A function of many steps runs in a loop over the sums in memory: written out for each, it would find no register free
/// for its constants, and load them all again for every sum.
#[inline(always)]
pub(super) unsafe fn finish<V: Vector, const PIXELS: usize, const VECTORS: usize>(
    tile: &Tile,
    mut sums: [[V; VECTORS]; PIXELS],
) {
    // SAFETY: the caller's promise; all of `kept` is written before it is read.
    unsafe {
        let simple = tile.residuals.is_null() && matches!(tile.activation, Activation::None | Activation::Relu);
        if simple {
            if tile.activation == Activation::Relu {
                unroll!(p < PIXELS, {
                    for v in 0..VECTORS {
                        sums[p][v] = activate(Activation::Relu, sums[p][v]);
                    }
                });
            }
            unroll!(p < PIXELS, {
                let output = *tile.outputs.add(p);
                for v in 0..VECTORS {
                    sums[p][v].store(output.add(V::LANES * v));
                }
            });
            return;
        }
        let mut kept = MaybeUninit::<[[V; VECTORS]; PIXELS]>::uninit();
        let kept = kept.as_mut_ptr().cast::<V>();
        unroll!(p < PIXELS, {
            for v in 0..VECTORS {
                kept.add(VECTORS * p + v).write(sums[p][v]);
            }
        });
        // Each in a loop of its own, with nothing to decide inside. Not a closure: the compiler may leave one as a function
        // by itself, which then lacks the instruction set.
        match tile.activation {
            Activation::None => each::<V, PIXELS, VECTORS>(tile, kept, Activation::None),
            Activation::Relu => each::<V, PIXELS, VECTORS>(tile, kept, Activation::Relu),
            Activation::Silu => each::<V, PIXELS, VECTORS>(tile, kept, Activation::Silu),
        }
    }
}

/// The activation of each sum, the residual, and out.
#[inline(always)]
unsafe fn each<V: Vector, const PIXELS: usize, const VECTORS: usize>(
    tile: &Tile,
    sums: *const V,
    activation: Activation,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for p in 0..PIXELS {
            let output = *tile.outputs.add(p);
            if tile.residuals.is_null() {
                for v in 0..VECTORS {
                    activate(activation, sums.add(VECTORS * p + v).read()).store(output.add(V::LANES * v));
                }
            } else {
                let residual = *tile.residuals.add(p);
                for v in 0..VECTORS {
                    let sum = activate(activation, sums.add(VECTORS * p + v).read());
                    sum.add(V::load(residual.add(V::LANES * v))).store(output.add(V::LANES * v));
                }
            }
        }
    }
}
