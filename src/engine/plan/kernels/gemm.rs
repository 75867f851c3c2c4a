//! The micro-kernel of every convolution and matrix product: a tile of pixels × channels held in registers.
//!
//! Indirect: each pixel of each tap brings its own pointer, so that padding, strides and dilation cost nothing inside the
//! loop (M. Dukhan, The Indirect Convolution Algorithm, 2019).

#![allow(clippy::needless_range_loop, reason = "plain indices are what the compiler turns into registers")]

use std::mem::MaybeUninit;

use super::math::finish as finish_vector;
use super::vector::Vector;
use crate::engine::plan::graph::{Activation, Finish, Residual};

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

/// Bytes that come together.
const CACHE_LINE: usize = 64;

/// One call of the micro-kernel: sums over all taps for `PIXELS` pixels and one panel of output channels. What is
/// multiplied are numbers, or halves.
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
    pub outputs: *const *mut f32,
    /// One for each pixel, where the finish adds something.
    pub residuals: *const *const f32,
    /// Channels of outputs and residuals before this panel's.
    pub first: usize,
    pub finish: Finish,
}

impl<T> Tile<T> {
    /// Without its pointers to rows.
    pub fn new(taps: usize, depth: usize, weights: *const T, bias: *const f32, first: usize, finish: Finish) -> Self {
        let (inputs, outputs, residuals) = (std::ptr::null(), std::ptr::null(), std::ptr::null());
        Self { inputs, taps, depth, weights, bias, outputs, residuals, first, finish }
    }

    /// What is left when all is multiplied, which is the same whatever that was.
    pub fn results(&self) -> Tile {
        let Self { bias, outputs, residuals, first, finish, .. } = *self;
        Tile { outputs, residuals, ..Tile::new(0, 0, std::ptr::null(), bias, first, finish) }
    }
}

/// What is left to do with the sums of a tile, `[pixel][vector]`: one function for all tiles of an instruction set.
pub type FinishTile<V> = unsafe fn(tile: &Tile, sums: *const V, pixels: usize, vectors: usize);

/// # Safety
/// The CPU has the instruction set of `V`; the tile's pointers lead to what its fields say, for `PIXELS` pixels and
/// `VECTORS` vectors of channels.
///
/// `UNROLL` channels are taken in one step: pixel by pixel where the registers hold the weights of all of them, so that
/// pointers that found no register are read once a step and not once a channel; else one channel after the other.
#[inline(always)]
pub unsafe fn multiply<V: Vector, const PIXELS: usize, const VECTORS: usize, const UNROLL: usize>(
    tile: &Tile,
    finish: FinishTile<V>,
) {
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
            let steps = tile.depth / UNROLL * UNROLL;
            for channel in (0..steps).step_by(UNROLL) {
                if PIXELS * VECTORS + VECTORS * UNROLL < V::REGISTERS {
                    step::<V, PIXELS, VECTORS, UNROLL>(&mut sums, &inputs, channel, weights);
                } else {
                    for u in 0..UNROLL {
                        let weights = weights.add(V::LANES * VECTORS * u);
                        step::<V, PIXELS, VECTORS, 1>(&mut sums, &inputs, channel + u, weights);
                    }
                }
                weights = weights.add(V::LANES * VECTORS * UNROLL);
            }
            if UNROLL > 1 {
                for channel in steps..tile.depth {
                    step::<V, PIXELS, VECTORS, 1>(&mut sums, &inputs, channel, weights);
                    weights = weights.add(V::LANES * VECTORS);
                }
            }
        }
        store(tile, sums, finish);
    }
}

/// Has what the finish will add to the sums fetched while they are made: it lies far away.
#[inline(always)]
pub(super) unsafe fn prefetch_residuals<V: Vector, const PIXELS: usize, const VECTORS: usize>(tile: &Tile) {
    if tile.finish.residual == Residual::None {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        unroll!(p < PIXELS, {
            let residual = (*tile.residuals.add(p)).wrapping_add(tile.first);
            for v in (0..VECTORS).step_by(CACHE_LINE / (V::LANES * size_of::<f32>())) {
                V::prefetch(residual.wrapping_add(V::LANES * v));
            }
        });
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

/// Out, as they are or by way of `finish`.
#[inline(always)]
pub(super) unsafe fn store<V: Vector, const PIXELS: usize, const VECTORS: usize>(
    tile: &Tile,
    sums: [[V; VECTORS]; PIXELS],
    finish: FinishTile<V>,
) {
    // SAFETY: the caller's promise; all of `kept` is written before it is read.
    unsafe {
        if tile.finish == (Finish { activation: Activation::None, residual: Residual::None }) {
            unroll!(p < PIXELS, {
                let output = (*tile.outputs.add(p)).wrapping_add(tile.first);
                for v in 0..VECTORS {
                    sums[p][v].store(output.wrapping_add(V::LANES * v));
                }
            });
            return;
        }
        // In memory, and in a loop: written out for each sum, an activation would find no register free for its constants,
        // and load them all again for every one.
        let mut kept = MaybeUninit::<[[V; VECTORS]; PIXELS]>::uninit();
        let kept = kept.as_mut_ptr().cast::<V>();
        unroll!(p < PIXELS, {
            for v in 0..VECTORS {
                kept.add(VECTORS * p + v).write(sums[p][v]);
            }
        });
        finish(tile, kept, PIXELS, VECTORS);
    }
}

/// Activation, residual, and out.
///
/// # Safety
/// As for [`multiply`].
#[inline(always)]
pub unsafe fn finish<V: Vector>(tile: &Tile, sums: *const V, pixels: usize, vectors: usize) {
    // A loop for each activation, with nothing to decide inside. Not a closure: the compiler may leave one as a function by
    // itself, which then lacks the instruction set.
    // SAFETY: the caller's promise.
    unsafe {
        match tile.finish.activation {
            Activation::None => each(tile, sums, pixels, vectors, Activation::None),
            Activation::Relu => each(tile, sums, pixels, vectors, Activation::Relu),
            Activation::Silu => each(tile, sums, pixels, vectors, Activation::Silu),
            Activation::HardSwish => each(tile, sums, pixels, vectors, Activation::HardSwish),
            Activation::Gelu => each(tile, sums, pixels, vectors, Activation::Gelu),
            Activation::Sigmoid => each(tile, sums, pixels, vectors, Activation::Sigmoid),
        }
    }
}

/// The activation of each sum, the residual, and out.
#[inline(always)]
unsafe fn each<V: Vector>(tile: &Tile, sums: *const V, pixels: usize, vectors: usize, activation: Activation) {
    // SAFETY: the caller's promise.
    unsafe {
        for p in 0..pixels {
            let output = (*tile.outputs.add(p)).wrapping_add(tile.first);
            if tile.finish.residual == Residual::None {
                for v in 0..vectors {
                    let sum = sums.add(vectors * p + v).read();
                    let done = finish_vector(Finish { activation, residual: Residual::None }, sum, output);
                    done.store(output.wrapping_add(V::LANES * v));
                }
            } else {
                let residual = (*tile.residuals.add(p)).wrapping_add(tile.first);
                for v in 0..vectors {
                    let (sum, at) = (sums.add(vectors * p + v).read(), V::LANES * v);
                    let finish = Finish { activation, residual: tile.finish.residual };
                    finish_vector(finish, sum, residual.wrapping_add(at)).store(output.wrapping_add(at));
                }
            }
        }
    }
}
