//! Functions of a whole vector.

use super::vector::Vector;
use crate::engine::plan::graph::{Activation, Finish, Residual};

/// `e^x` for x from -87 to 88, which others are clamped to: range reduction and a polynomial of degree 6, to
/// less than one unit in the last place.
#[inline(always)]
pub unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let x = x.max(V::splat(-87.0)).min(V::splat(88.0));
        let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
        let r = n.mul_add(V::splat(-0.693_359_4), x);
        let r = n.mul_add(V::splat(2.121_944_4e-4), r);
        // (e^r - 1 - r) / r², the polynomial of degree 4 whose largest relative error in e^r is least (2^-28 of it), in
        // pairs: short chains instead of a long one.
        let rr = r.mul(r);
        let low = r.mul_add(V::splat(1.666_652_1e-1), V::splat(0.499_999_94));
        let high = r.mul_add(V::splat(8.368_717_5e-3), V::splat(4.166_839e-2));
        let y = rr.mul_add(V::splat(1.381_459_6e-3), high).mul_add(rr, low);
        y.mul_add(rr, r).add(V::splat(1.0)).scale(n)
    }
}

/// `1 / (1 + e^-x)`. The exponential is one of base 2, with a polynomial of degree 5: to about 2 units in the last place
/// where the result is not tiny, 10 at -86, where what follows rounds it away.
#[inline(always)]
pub unsafe fn sigmoid<V: Vector>(x: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let base = V::splat(-std::f32::consts::LOG2_E);
        let x = x.max(V::splat(-87.0)).min(V::splat(87.0));
        let n = x.mul(base).round();
        let f = x.mul_add(base, V::splat(0.0).sub(n));
        let ff = f.mul(f);
        let high = f.mul_add(V::splat(1.327_647_1e-3), V::splat(9.675_541e-3));
        let middle = f.mul_add(V::splat(5.550_713e-2), V::splat(2.402_212e-1));
        let low = f.mul_add(V::splat(6.931_469_4e-1), V::splat(1.000_000_1));
        let power = high.mul_add(ff, middle).mul_add(ff, low).scale(n);
        power.add(V::splat(1.0)).reciprocal()
    }
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
        let mut top = V::splat(-2.726_142e-10);
        for term in [2.770_681_3e-8, -2.101_024e-6, -5.692_506e-5, -7.349_906_4e-4, -2.954_6e-3, -1.609_603_3e-2] {
            top = top.mul_add(square, V::splat(term));
        }
        let mut bottom = V::splat(-1.456_607_2e-5);
        for term in [-2.133_740_5e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2] {
            bottom = bottom.mul_add(square, V::splat(term));
        }
        x.mul(top).mul(bottom.reciprocal())
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

/// Activation and residual of one vector.
#[inline(always)]
pub unsafe fn finish<V: Vector>(finish: Finish, sum: V, residual: *const f32) -> V {
    // SAFETY: the caller has the instruction set, and a residual where one is added.
    unsafe {
        match finish.residual {
            Residual::None => activate(finish.activation, sum),
            Residual::Before => activate(finish.activation, sum.add(V::load(residual))),
            Residual::After => activate(finish.activation, sum).add(V::load(residual)),
        }
    }
}
