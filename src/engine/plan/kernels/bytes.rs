//! What is computed with bytes: the int8 micro-kernel and the ways from numbers to bytes and back.
//!
//! A value is `(byte - zero) · step`, where bytes are unsigned or signed as the instruction set multiplies them. Weights
//! are signed, each output channel with a step of its own, and four channels of the input, a quad, are multiplied and
//! added up by one instruction.

#![allow(clippy::needless_range_loop, reason = "plain indices are what the compiler turns into registers")]

use std::mem::MaybeUninit;

use super::gemm::unroll;
use super::math::activate;
use super::vector::{LANES_MAX, Vector};
use crate::engine::plan::graph::{Activation, Finish, Residual};

/// Input channels that one instruction multiplies and adds up.
pub const QUAD: usize = 4;

/// What the bytes of a value mean: `(byte - zero) · step`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    pub step: f32,
    pub zero: i32,
}

/// All kernels of one instruction set that work on bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// The micro-kernel of each of its panels.
    pub gemm: &'static [unsafe fn(&ByteTile)],
    /// `to[i]` is the byte nearest to `x[i]`.
    pub quantize: unsafe fn(x: *const f32, scale: Scale, to: *mut u8, count: usize),
    /// `to[i]` is the largest of `rows[0][i]`, `rows[1][i]`, …
    pub max_rows: unsafe fn(rows: &[*const u8], to: *mut u8, count: usize),
}

/// One call of the micro-kernel: sums over all taps for its pixels and one panel of output channels.
#[derive(Clone, Copy, Debug)]
pub struct ByteTile {
    /// Pointers to the first channel under each tap for each pixel: `[tap][pixel]`.
    pub inputs: *const *const u8,
    pub taps: usize,
    /// Input channels in fours, which lie one after the other.
    pub quads: usize,
    /// `[tap][quad][lane][channel of the quad]`.
    pub weights: *const i8,
    /// By which each lane's sum is multiplied, and what is added then.
    pub scale: *const f32,
    pub bias: *const f32,
    /// One for each pixel; null where the results are wanted as bytes only.
    pub numbers: *const *mut f32,
    /// One for each pixel; null where the results are wanted as numbers only.
    pub bytes: *const *mut u8,
    pub bytes_scale: Scale,
    /// One for each pixel, where the finish adds something: bytes of this scale, or numbers.
    pub residuals: *const *const u8,
    pub residual_scale: Option<Scale>,
    /// Channels of results and residuals before this panel's.
    pub first: usize,
    pub finish: Finish,
}

/// A vector of numbers beside one of as many quads, or of their sums.
///
/// # Safety
/// All functions need a CPU that has the instruction set.
pub trait Quads: Vector {
    /// As many whole numbers of 32 bits, or quads of bytes, as a vector has numbers.
    type Whole: Copy;
    /// Whether bytes are signed.
    const SIGNED: bool;

    unsafe fn none() -> Self::Whole;
    /// The same quad in all lanes.
    unsafe fn broadcast(from: *const u8) -> Self::Whole;
    /// A quad of weights for each lane.
    unsafe fn weights(from: *const i8) -> Self::Whole;
    /// `sums` and, lane by lane, the four products of bytes with weights.
    unsafe fn dot(sums: Self::Whole, bytes: Self::Whole, weights: Self::Whole) -> Self::Whole;
    unsafe fn numbers(sums: Self::Whole) -> Self;
    /// One byte a lane.
    unsafe fn load_bytes(from: *const u8) -> Self;
    /// To the nearest byte.
    unsafe fn store_bytes(self, to: *mut u8);
    /// `1 / self`, to a few parts in 10,000.
    unsafe fn rough_reciprocal(self) -> Self;
}

/// What is left to do with the sums of a tile: one function for all tiles of an instruction set.
pub type FinishBytes<V> = unsafe fn(tile: &ByteTile, sums: *const V, pixels: usize, vectors: usize);

/// # Safety
/// The CPU has the instruction set of `V`; the tile's pointers lead to what its fields say, for `PIXELS` pixels and
/// `VECTORS` vectors of channels.
#[inline(always)]
pub unsafe fn multiply<V: Quads, const PIXELS: usize, const VECTORS: usize, const UNROLL: usize>(
    tile: &ByteTile,
    finish: FinishBytes<V>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::none(); VECTORS]; PIXELS];
        let mut weights = tile.weights;
        for tap in 0..tile.taps {
            let mut inputs = [std::ptr::null::<u8>(); PIXELS];
            unroll!(p < PIXELS, { inputs[p] = *tile.inputs.add(tap * PIXELS + p) });
            let steps = tile.quads / UNROLL * UNROLL;
            for quad in (0..steps).step_by(UNROLL) {
                step::<V, PIXELS, VECTORS, UNROLL>(&mut sums, &inputs, quad, weights);
                weights = weights.add(QUAD * V::LANES * VECTORS * UNROLL);
            }
            if UNROLL > 1 {
                for quad in steps..tile.quads {
                    step::<V, PIXELS, VECTORS, 1>(&mut sums, &inputs, quad, weights);
                    weights = weights.add(QUAD * V::LANES * VECTORS);
                }
            }
        }
        store(tile, sums, finish);
    }
}

/// Adds `UNROLL` quads of every pixel times their weights.
#[inline(always)]
unsafe fn step<V: Quads, const PIXELS: usize, const VECTORS: usize, const UNROLL: usize>(
    sums: &mut [[V::Whole; VECTORS]; PIXELS],
    inputs: &[*const u8; PIXELS],
    quad: usize,
    weights: *const i8,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut rows = [[V::none(); VECTORS]; UNROLL];
        for u in 0..UNROLL {
            for v in 0..VECTORS {
                rows[u][v] = V::weights(weights.add(QUAD * V::LANES * (VECTORS * u + v)));
            }
        }
        unroll!(p < PIXELS, {
            for u in 0..UNROLL {
                let x = V::broadcast(inputs[p].add(QUAD * (quad + u)));
                for v in 0..VECTORS {
                    sums[p][v] = V::dot(sums[p][v], x, rows[u][v]);
                }
            }
        });
    }
}

/// Sums to numbers, and out by way of `finish`.
#[inline(always)]
pub(super) unsafe fn store<V: Quads, const PIXELS: usize, const VECTORS: usize>(
    tile: &ByteTile,
    sums: [[V::Whole; VECTORS]; PIXELS],
    finish: FinishBytes<V>,
) {
    // SAFETY: the caller's promise; all of `kept` is written before it is read.
    unsafe {
        // In memory, and in a loop, as in gemm.rs.
        let mut kept = MaybeUninit::<[[V; VECTORS]; PIXELS]>::uninit();
        let kept = kept.as_mut_ptr().cast::<V>();
        for v in 0..VECTORS {
            let (scale, bias) = (V::load(tile.scale.add(V::LANES * v)), V::load(tile.bias.add(V::LANES * v)));
            unroll!(p < PIXELS, { kept.add(VECTORS * p + v).write(V::numbers(sums[p][v]).mul_add(scale, bias)) });
        }
        finish(tile, kept, PIXELS, VECTORS);
    }
}

/// Activation, residual, and out.
///
/// # Safety
/// As for [`multiply`].
#[inline(always)]
pub unsafe fn finish<V: Quads>(tile: &ByteTile, sums: *const V, pixels: usize, vectors: usize) {
    // A loop for each activation, with nothing to decide about it inside.
    // SAFETY: the caller's promise.
    unsafe {
        match tile.finish.activation {
            Activation::None => each::<V, false>(tile, sums, pixels, vectors, Activation::None),
            Activation::Relu => each::<V, false>(tile, sums, pixels, vectors, Activation::Relu),
            Activation::Silu if tile.numbers.is_null() => {
                each::<V, true>(tile, sums, pixels, vectors, Activation::Silu)
            }
            Activation::Silu => each::<V, false>(tile, sums, pixels, vectors, Activation::Silu),
            Activation::HardSwish => each::<V, false>(tile, sums, pixels, vectors, Activation::HardSwish),
            Activation::Gelu => each::<V, false>(tile, sums, pixels, vectors, Activation::Gelu),
            Activation::Sigmoid => each::<V, false>(tile, sums, pixels, vectors, Activation::Sigmoid),
        }
    }
}

/// `x / (1 + e^-x)` to 3 parts in 10,000, a tenth of the step of a byte: half the work of [`silu`](super::math::silu).
#[inline(always)]
unsafe fn rough_silu<V: Quads>(x: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let base = V::splat(-std::f32::consts::LOG2_E);
        let clamped = x.max(V::splat(-87.0)).min(V::splat(87.0));
        let n = clamped.mul(base).round();
        let f = clamped.mul_add(base, V::splat(0.0).sub(n));
        // 2^f, the polynomial of degree 3 whose largest relative error is least (7.5e-5).
        let high = f.mul_add(V::splat(0.055_171_67), V::splat(0.242_611_12));
        let power = high.mul_add(f, V::splat(0.693_261)).mul_add(f, V::splat(0.999_928_1)).scale(n);
        x.mul(power.add(V::splat(1.0)).rough_reciprocal())
    }
}

/// The activation of each sum, the residual, and out; with `ROUGH`, only as exactly as bytes tell.
#[inline(always)]
unsafe fn each<V: Quads, const ROUGH: bool>(
    tile: &ByteTile,
    sums: *const V,
    pixels: usize,
    vectors: usize,
    activation: Activation,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = V::splat(tile.bytes_scale.zero as f32);
        let inverse = V::splat(1.0 / tile.bytes_scale.step);
        for p in 0..pixels {
            for v in 0..vectors {
                let (sum, at) = (sums.add(vectors * p + v).read(), tile.first + V::LANES * v);
                let sum: V =
                    if tile.finish.residual == Residual::Before { sum.add(residual(tile, p, at)) } else { sum };
                let done = if ROUGH { rough_silu(sum) } else { activate(activation, sum) };
                let done = if tile.finish.residual == Residual::After { done.add(residual(tile, p, at)) } else { done };
                if !tile.numbers.is_null() {
                    done.store((*tile.numbers.add(p)).wrapping_add(at));
                }
                if !tile.bytes.is_null() {
                    done.mul_add(inverse, zero).store_bytes((*tile.bytes.add(p)).wrapping_add(at));
                }
            }
        }
    }
}

/// What is added to one vector.
#[inline(always)]
unsafe fn residual<V: Quads>(tile: &ByteTile, pixel: usize, at: usize) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let from = *tile.residuals.add(pixel);
        match tile.residual_scale {
            Some(scale) => {
                V::load_bytes(from.wrapping_add(at)).sub(V::splat(scale.zero as f32)).mul(V::splat(scale.step))
            }
            None => V::load(from.cast::<f32>().wrapping_add(at)),
        }
    }
}

/// See [`Bytes::quantize`].
#[inline(always)]
pub unsafe fn quantize<V: Quads>(x: *const f32, scale: Scale, to: *mut u8, count: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let (inverse, zero) = (V::splat(1.0 / scale.step), V::splat(scale.zero as f32));
        let whole = count - count % V::LANES;
        let mut at = 0;
        while at < whole {
            V::load(x.add(at)).mul_add(inverse, zero).store_bytes(to.add(at));
            at += V::LANES;
        }
        if whole < count {
            let (mut part, mut bytes) = ([0.0; LANES_MAX], [0; LANES_MAX]);
            part.as_mut_ptr().copy_from_nonoverlapping(x.add(whole), count - whole);
            V::load(part.as_ptr()).mul_add(inverse, zero).store_bytes(bytes.as_mut_ptr());
            to.add(whole).copy_from_nonoverlapping(bytes.as_ptr(), count - whole);
        }
    }
}

/// See [`Bytes::max_rows`]. The compiler makes vectors of it.
#[inline(always)]
pub unsafe fn max_rows<V: Quads>(rows: &[*const u8], to: *mut u8, count: usize) {
    let sign = if V::SIGNED { 0x80 } else { 0 };
    let Some((first, others)) = rows.split_first() else { return };
    // SAFETY: the caller's promise; what is written is nobody's row.
    unsafe {
        let to = std::slice::from_raw_parts_mut(to, count);
        to.copy_from_slice(std::slice::from_raw_parts(*first, count));
        for &row in others {
            let row = std::slice::from_raw_parts(row, count);
            for (to, &x) in to.iter_mut().zip(row) {
                *to = (*to ^ sign).max(x ^ sign) ^ sign;
            }
        }
    }
}

/// The table of the kernels on bytes: vector, what the CPU must have, micro-kernel, and tiles as for numbers.
macro_rules! byte_kernels {
    ($isa:ident, $vector:ty, $feature:tt, $multiply:path, [$(($pixels:literal, $vectors:literal, $unroll:literal)),*]) => {{
        use super::bytes::{self, ByteTile, Bytes, Quads, Scale};
        use super::{enabled, isa};
        use $multiply as multiply;
        const {
            let low = isa::$isa.int8.expect("it has such").low;
            assert!((low < 0) == <$vector as Quads>::SIGNED);
        };
        enabled! { $feature unsafe fn finish(tile: &ByteTile, sums: *const $vector, pixels: usize, vectors: usize) {
            bytes::finish::<$vector>(tile, sums, pixels, vectors)
        } }
        enabled! { $feature unsafe fn quantize(x: *const f32, scale: Scale, to: *mut u8, count: usize) {
            bytes::quantize::<$vector>(x, scale, to, count)
        } }
        enabled! { $feature unsafe fn max_rows(rows: &[*const u8], to: *mut u8, count: usize) {
            bytes::max_rows::<$vector>(rows, to, count)
        } }
        Bytes {
            gemm: &[$({
                const {
                    assert!(isa::$isa.lanes == <$vector as Vector>::LANES && isa::$isa.pixels[$vectors - 1] == $pixels)
                };
                enabled! { $feature unsafe fn run(tile: &ByteTile) {
                    multiply::<$vector, $pixels, $vectors, $unroll>(tile, finish)
                } }
                run
            }),*],
            quantize,
            max_rows,
        }
    }};
}
pub(super) use byte_kernels;
