//! What is computed with halves: numbers of 16 bits, 11 of them significant, none above 65504.
//!
//! Halves are `u16`s in memory. A sum of halves keeps 11 bits, so that a long one would forget what it adds: after at most
//! [`BLOCK`] products it is added to one of single precision, and so are bias, activation and residual.

#![allow(clippy::needless_range_loop, reason = "plain indices are what the compiler turns into registers")]

use std::mem::MaybeUninit;

use super::gemm::{FinishTile, Tile, unroll};
use super::vector::Vector;

/// Halves of a vector.
pub const LANES: usize = 8;

/// Halves that take the place of one number.
pub const IN_NUMBER: usize = 2;

/// The largest half.
pub const HALF_MAX: f32 = 65504.0;

/// Products that a sum of halves takes before it is added to the one of single precision: the error of random sums grows
/// with the root of it, and at this length moving the sums is a seventh of the work.
const BLOCK: usize = 64;

/// All kernels of one instruction set that work on halves.
#[derive(Clone, Copy, Debug)]
pub struct Halves {
    /// The micro-kernel of each of its panels.
    pub gemm: &'static [unsafe fn(&Tile<u16>)],
    /// `to[i]` is the half nearest to `x[i]`, infinite beyond [`HALF_MAX`].
    pub narrow: unsafe fn(x: *const f32, to: *mut u16, count: usize),
}

/// Eight halves in a register.
///
/// # Safety
/// All functions need a CPU that has the instruction set.
pub trait HalfVector: Copy {
    /// Four numbers.
    type Single: Vector;

    unsafe fn zero() -> Self;
    unsafe fn load(from: *const u16) -> Self;
    /// The same half in all lanes.
    unsafe fn splat(from: *const u16) -> Self;
    /// `self[LANE] · factor + term`, rounded once or twice.
    unsafe fn mul_lane_add<const LANE: i32>(self, factor: Self, term: Self) -> Self;
    /// Writes the halves nearest to these.
    unsafe fn narrow(numbers: [Self::Single; 2], to: *mut u16);
    unsafe fn widen(self) -> [Self::Single; 2];
}

/// As [`super::gemm_lanes::multiply`], eight channels to a step.
///
/// # Safety
/// As for [`super::gemm::multiply`].
#[inline(always)]
pub unsafe fn multiply<V: HalfVector, const PIXELS: usize, const VECTORS: usize>(
    tile: &Tile<u16>,
    finish: FinishTile<V::Single>,
) {
    const { assert!(V::Single::LANES * 2 == LANES) };
    // SAFETY: the caller's promise; all of `totals` is written before it is read.
    unsafe {
        let mut totals = MaybeUninit::<[[[V::Single; 2]; VECTORS]; PIXELS]>::uninit();
        let totals = totals.as_mut_ptr().cast::<V::Single>();
        for p in 0..PIXELS {
            for v in 0..2 * VECTORS {
                totals.add(2 * VECTORS * p + v).write(V::Single::load(tile.bias.add(V::Single::LANES * v)));
            }
        }
        let mut sums = [[V::zero(); VECTORS]; PIXELS];
        let mut products = 0;
        let mut weights = tile.weights;
        for tap in 0..tile.taps {
            let mut inputs = [std::ptr::null::<u16>(); PIXELS];
            unroll!(p < PIXELS, { inputs[p] = *tile.inputs.add(tap * PIXELS + p) });
            for first in (0..tile.depth).step_by(BLOCK) {
                let part = BLOCK.min(tile.depth - first);
                if products + part > BLOCK {
                    move_sums::<V, PIXELS, VECTORS>(totals, &mut sums);
                    products = 0;
                }
                products += part;
                for _ in 0..part / LANES {
                    let mut x = [V::zero(); PIXELS];
                    unroll!(p < PIXELS, {
                        x[p] = V::load(inputs[p]);
                        inputs[p] = inputs[p].add(LANES);
                    });
                    lane::<V, PIXELS, VECTORS, 0>(&mut sums, &x, weights);
                    lane::<V, PIXELS, VECTORS, 1>(&mut sums, &x, weights.add(LANES * VECTORS));
                    lane::<V, PIXELS, VECTORS, 2>(&mut sums, &x, weights.add(LANES * VECTORS * 2));
                    lane::<V, PIXELS, VECTORS, 3>(&mut sums, &x, weights.add(LANES * VECTORS * 3));
                    lane::<V, PIXELS, VECTORS, 4>(&mut sums, &x, weights.add(LANES * VECTORS * 4));
                    lane::<V, PIXELS, VECTORS, 5>(&mut sums, &x, weights.add(LANES * VECTORS * 5));
                    lane::<V, PIXELS, VECTORS, 6>(&mut sums, &x, weights.add(LANES * VECTORS * 6));
                    lane::<V, PIXELS, VECTORS, 7>(&mut sums, &x, weights.add(LANES * VECTORS * 7));
                    weights = weights.add(LANES * VECTORS * LANES);
                }
                for _ in 0..part % LANES {
                    let mut x = [V::zero(); PIXELS];
                    unroll!(p < PIXELS, {
                        x[p] = V::splat(inputs[p]);
                        inputs[p] = inputs[p].add(1);
                    });
                    lane::<V, PIXELS, VECTORS, 0>(&mut sums, &x, weights);
                    weights = weights.add(LANES * VECTORS);
                }
            }
        }
        move_sums::<V, PIXELS, VECTORS>(totals, &mut sums);
        finish(&tile.results(), totals, PIXELS, 2 * VECTORS);
    }
}

/// Adds one of eight channels of every pixel times its weights, vector by vector as in gemm_lanes.rs.
#[inline(always)]
unsafe fn lane<V: HalfVector, const PIXELS: usize, const VECTORS: usize, const LANE: i32>(
    sums: &mut [[V; VECTORS]; PIXELS],
    x: &[V; PIXELS],
    weights: *const u16,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for v in 0..VECTORS {
            let weight = V::load(weights.add(LANES * v));
            unroll!(p < PIXELS, { sums[p][v] = x[p].mul_lane_add::<LANE>(weight, sums[p][v]) });
        }
    }
}

/// Adds the sums of halves to those of single precision, and begins them anew.
#[inline(always)]
unsafe fn move_sums<V: HalfVector, const PIXELS: usize, const VECTORS: usize>(
    totals: *mut V::Single,
    sums: &mut [[V; VECTORS]; PIXELS],
) {
    // SAFETY: the caller's promise; there are twice as many totals as sums.
    unsafe {
        unroll!(p < PIXELS, {
            for v in 0..VECTORS {
                let total = totals.add(2 * (VECTORS * p + v));
                let [low, high] = sums[p][v].widen();
                total.write(total.read().add(low));
                total.add(1).write(total.add(1).read().add(high));
                sums[p][v] = V::zero();
            }
        });
    }
}

/// See [`Halves::narrow`].
#[inline(always)]
pub unsafe fn narrow<V: HalfVector>(x: *const f32, to: *mut u16, count: usize) {
    let whole = count - count % LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let eight = |x: *const f32| [V::Single::load(x), V::Single::load(x.add(V::Single::LANES))];
        for at in (0..whole).step_by(LANES) {
            V::narrow(eight(x.add(at)), to.add(at));
        }
        if whole < count {
            let (mut part, mut halves) = ([0.0; LANES], [0; LANES]);
            part.as_mut_ptr().copy_from_nonoverlapping(x.add(whole), count - whole);
            V::narrow(eight(part.as_ptr()), halves.as_mut_ptr());
            to.add(whole).copy_from_nonoverlapping(halves.as_ptr(), count - whole);
        }
    }
}

/// The nearest half, of two the even one.
#[expect(clippy::cast_possible_truncation, reason = "what is left are 16 bits")]
#[inline(always)]
pub fn to_half(x: f32) -> u16 {
    /// The least number whose half is infinite, and the least that is a half of all its bits.
    const INFINITE: f32 = 65520.0;
    const NORMAL: f32 = 1.0 / 16384.0;
    let size = x.abs();
    let bits = size.to_bits();
    let half = if size < NORMAL {
        // The step of numbers from 0.5 to 1 is that of the smallest halves.
        (size + 0.5).to_bits() - 0.5_f32.to_bits()
    } else if size < INFINITE {
        (bits - (112 << 23) + 0xfff + (bits >> 13 & 1)) >> 13
    } else {
        0x7c00 | u32::from(size.is_nan()) << 9
    };
    (half | x.to_bits() >> 16 & 0x8000) as u16
}

/// A half as a number.
#[inline(always)]
pub fn from_half(half: u16) -> f32 {
    /// By which the exponents differ: 2^112.
    const EXPONENT: f32 = f32::from_bits((127 + 112) << 23);
    let (sign, size) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff) << 13);
    // Of what is infinite or no number the exponent is all ones.
    let special = if size >= 0x7c00 << 13 { 0xff << 23 } else { 0 };
    f32::from_bits((f32::from_bits(size) * EXPONENT).to_bits() | special | sign)
}

/// The table of the kernels on halves: vector, what the CPU must have, and tiles as for numbers.
macro_rules! half_kernels {
    ($isa:ident, $vector:ty, $feature:tt, [$(($pixels:literal, $vectors:literal)),*]) => {{
        use super::halves::{self, HalfVector, Halves};
        use super::{Tile, enabled, gemm, isa};
        type Single = <$vector as HalfVector>::Single;
        enabled! { $feature unsafe fn finish(tile: &Tile, sums: *const Single, pixels: usize, vectors: usize) {
            gemm::finish::<Single>(tile, sums, pixels, vectors)
        } }
        enabled! { $feature unsafe fn narrow(x: *const f32, to: *mut u16, count: usize) {
            halves::narrow::<$vector>(x, to, count)
        } }
        Halves {
            gemm: &[$({
                const {
                    let tiles = isa::$isa.fp16.expect("it has such");
                    assert!(tiles.lanes == halves::LANES && tiles.pixels[$vectors - 1] == $pixels)
                };
                enabled! { $feature unsafe fn run(tile: &Tile<u16>) {
                    halves::multiply::<$vector, $pixels, $vectors>(tile, finish)
                } }
                run
            }),*],
            narrow,
        }
    }};
}
pub(super) use half_kernels;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_there_and_back_and_between_two_the_nearest() {
        for half in 0..=u16::MAX {
            let x = from_half(half);
            assert!(to_half(x) == half || x.is_nan() && from_half(to_half(x)).is_nan(), "{half:04x} is {x}");
        }
        for half in 0..0x7bff_u16 {
            let (low, high) = (from_half(half), from_half(half + 1));
            let middle = f32::midpoint(low, high);
            assert_eq!(to_half(middle), half + (half & 1), "{middle}");
            assert_eq!((to_half(middle.next_down()), to_half(-middle.next_up())), (half, (half + 1) | 0x8000));
        }
        assert_eq!((from_half(0x3c00), from_half(0x7bff), from_half(1)), (1.0, HALF_MAX, 2.0_f32.powi(-24)));
        assert_eq!([65519.9, 65520.0, f32::INFINITY, -1e30].map(to_half), [0x7bff, 0x7c00, 0x7c00, 0xfc00]);
    }
}
