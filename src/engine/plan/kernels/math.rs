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
        // In pairs: three short chains instead of a long one.
        let rr = r.mul(r);
        let high = r.mul_add(V::splat(1.987_569_1e-4), V::splat(1.398_199_9e-3));
        let middle = r.mul_add(V::splat(8.333_452e-3), V::splat(4.166_579_6e-2));
        let low = r.mul_add(V::splat(1.666_666_5e-1), V::splat(5.000_000_1e-1));
        let y = high.mul_add(rr, middle).mul_add(rr, low);
        y.mul_add(rr, r).add(V::splat(1.0)).scale(n)
    }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub unsafe fn sigmoid<V: Vector>(x: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe { V::splat(1.0).div(exp(V::splat(0.0).sub(x)).add(V::splat(1.0))) }
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub unsafe fn silu<V: Vector>(x: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe { x.div(exp(V::splat(0.0).sub(x)).add(V::splat(1.0))) }
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
        }
    }
}
