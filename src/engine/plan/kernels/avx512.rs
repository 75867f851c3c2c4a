//! AVX-512: tiles of 6 pixels × 64 channels, 12 × 32 and 24 × 16, so that 24 sums are under way at once.

use std::arch::x86_64::*;

use super::{Activation, Tile};

/// Pixels of a tile whose panel has this many vectors of 16 channels.
pub const PIXELS: [usize; 5] = [0, 24, 12, 0, 6];

/// # Safety
/// The CPU has AVX-512F, and all pointers of the tile lead to as many values as the shapes say.
#[target_feature(enable = "avx512f")]
pub unsafe fn run(tile: &Tile, vectors: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match vectors {
            4 => multiply::<6, 4>(tile),
            2 => multiply::<12, 2>(tile),
            _ => multiply::<24, 1>(tile),
        }
    }
}

#[inline(always)]
unsafe fn multiply<const PIXELS: usize, const VECTORS: usize>(tile: &Tile) {
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; PIXELS];
        for v in 0..VECTORS {
            let bias = _mm512_loadu_ps(tile.bias.add(16 * v));
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
                let mut row = [_mm512_setzero_ps(); VECTORS];
                for (v, row) in row.iter_mut().enumerate() {
                    *row = _mm512_loadu_ps(weights.add(16 * v));
                }
                for p in 0..PIXELS {
                    let x = _mm512_set1_ps(*inputs[p].add(channel));
                    for v in 0..VECTORS {
                        sums[p][v] = _mm512_fmadd_ps(x, row[v], sums[p][v]);
                    }
                }
                weights = weights.add(16 * VECTORS);
            }
        }
        for (p, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = match tile.activation {
                    Activation::None => *sum,
                    Activation::Relu => _mm512_max_ps(*sum, _mm512_setzero_ps()),
                    Activation::Silu => silu(*sum),
                    other => unreachable!("{other:?} has no kernel yet"),
                };
                if !tile.residuals.is_null() {
                    *sum = _mm512_add_ps(*sum, _mm512_loadu_ps((*tile.residuals.add(p)).add(16 * v)));
                }
                _mm512_storeu_ps((*tile.outputs.add(p)).add(16 * v), *sum);
            }
        }
    }
}

/// `x / (1 + exp(-x))`; the exponential by range reduction and a polynomial of degree 6 (Cephes), to about 2 ulp.
#[inline(always)]
unsafe fn silu(x: __m512) -> __m512 {
    unsafe {
        let clamp = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.0)), _mm512_set1_ps(87.0));
        let minus = _mm512_sub_ps(_mm512_setzero_ps(), clamp);
        let n = _mm512_roundscale_ps::<0>(_mm512_mul_ps(minus, _mm512_set1_ps(std::f32::consts::LOG2_E)));
        let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693_359_4), minus);
        let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.121_944_4e-4), r);
        let mut y = _mm512_set1_ps(1.987_569_1e-4);
        for term in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.000_000_1e-1] {
            y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(term));
        }
        let y = _mm512_add_ps(_mm512_fmadd_ps(y, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0));
        let e = _mm512_scalef_ps(y, n);
        _mm512_div_ps(x, _mm512_add_ps(e, _mm512_set1_ps(1.0)))
    }
}
