//! Functions of a whole vector.

use super::vector::Vector;
use crate::engine::plan::graph::Activation;

/// `e^x` for x from -87 to 88, which others are clamped to: range reduction and a polynomial of degree 6 (Cephes), to
/// about 2 units in the last place.
#[inline(always)]
pub unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let x = x.max(V::splat(-87.0)).min(V::splat(88.0));
        let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
        let r = n.mul_add(V::splat(-0.693_359_4), x);
        let r = n.mul_add(V::splat(2.121_944_4e-4), r);
        let mut y = V::splat(1.987_569_1e-4);
        for term in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.000_000_1e-1] {
            y = y.mul_add(r, V::splat(term));
        }
        y.mul_add(r.mul(r), r).add(V::splat(1.0)).scale(n)
    }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub unsafe fn sigmoid<V: Vector>(x: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe { exp(V::splat(0.0).sub(x)).add(V::splat(1.0)).reciprocal() }
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub unsafe fn silu<V: Vector>(x: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe { x.mul(sigmoid(x)) }
}

/// `x · min(max(x + 3, 0), 6) / 6`.
#[inline(always)]
pub unsafe fn hard_swish<V: Vector>(x: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let gate = x.mul_add(V::splat(1.0 / 6.0), V::splat(0.5)).max(V::splat(0.0)).min(V::splat(1.0));
        x.mul(gate)
    }
}

/// The error function, to about 3e-7: a rational function of odd powers (that of Eigen), of x clamped to ±4.
#[inline(always)]
pub unsafe fn erf<V: Vector>(x: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let x = x.max(V::splat(-4.0)).min(V::splat(4.0));
        let square = x.mul(x);
        let mut top = V::splat(-2.726_142_1e-10);
        for term in [2.770_681_2e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_599_8e-3, -1.609_603_3e-2] {
            top = top.mul_add(square, V::splat(term));
        }
        let mut bottom = V::splat(-1.456_607_2e-5);
        for term in [-2.133_740_5e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2] {
            bottom = bottom.mul_add(square, V::splat(term));
        }
        x.mul(top).div(bottom)
    }
}

/// `x · (1 + erf(x / √2)) / 2`.
#[inline(always)]
pub unsafe fn gelu<V: Vector>(x: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let half = x.mul(V::splat(0.5));
        half.mul_add(erf(x.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2))), half)
    }
}

/// What follows a sum.
#[inline(always)]
pub unsafe fn activate<V: Vector>(activation: Activation, x: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe {
        match activation {
            Activation::None => x,
            Activation::Relu => x.max(V::splat(0.0)),
            Activation::Silu => silu(x),
            Activation::HardSwish => hard_swish(x),
            Activation::Gelu => gelu(x),
            Activation::Sigmoid => sigmoid(x),
        }
    }
}
