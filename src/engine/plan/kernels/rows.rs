//! Rows of values: element by element, across rows, and along one.
//!
//! Loops are macros, not functions that take closures: a closure does not have the instruction set of the function it is
//! written in, and each of its operations would be a call.

use super::Row;
use super::math::{erf, exp, gelu, hard_swish, sigmoid, silu};
use super::vector::{LANES_MAX, Vector};
use crate::engine::plan::graph::{Binary, Unary};

/// `to[i] = $result` for `i` below `$count`, where each `$x` is a vector of the row `$from`.
macro_rules! map {
    ($to:expr, $count:expr, |$($x:ident = $from:ident),*| $result:expr) => {{
        let whole = $count - $count % V::LANES;
        let mut at = 0;
        while at < whole {
            $(let $x = V::load($from.add(at));)*
            $result.store($to.add(at));
            at += V::LANES;
        }
        if whole < $count {
            $(let $x: V = V::load_first($from.add(whole), $count - whole, 0.0);)*
            $result.store_first($to.add(whole), $count - whole);
        }
    }};
}

/// The vectors of a row joined: `$all` becomes `$result`, from `$neutral` on, with which the last vector is filled up. In
/// four chains, since one would wait for each of its steps; `$joined` makes one of two of them.
macro_rules! join {
    ($from:expr, $count:expr, $neutral:expr, |$all:ident, $x:ident| $result:expr, $joined:ident) => {{
        let mut chains = [V::splat($neutral); 4];
        let whole = $count - $count % V::LANES;
        let mut at = 0;
        while at + 4 * V::LANES <= whole {
            for (chain, $all) in chains.iter_mut().enumerate() {
                let $x = V::load($from.add(at + chain * V::LANES));
                *$all = $result;
            }
            at += 4 * V::LANES;
        }
        let $all = &mut chains[0];
        while at < whole {
            let $x = V::load($from.add(at));
            *$all = $result;
            at += V::LANES;
        }
        if whole < $count {
            let $x: V = V::load_first($from.add(whole), $count - whole, $neutral);
            *$all = $result;
        }
        chains[0].$joined(chains[1]).$joined(chains[2].$joined(chains[3]))
    }};
}

unsafe fn one_by_one(x: *const f32, to: *mut f32, count: usize, f: fn(f32) -> f32) {
    // SAFETY: the caller's promise.
    (0..count).for_each(|at| unsafe { *to.add(at) = f(*x.add(at)) });
}

/// See [`super::Kernels::unary`].
#[inline(always)]
pub unsafe fn unary<V: Vector>(op: Unary, x: *const f32, to: *mut f32, count: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match op {
            Unary::Sigmoid => map!(to, count, |v = x| sigmoid(v)),
            Unary::Silu => map!(to, count, |v = x| silu(v)),
            Unary::Relu => map!(to, count, |v = x| v.max(V::splat(0.0))),
            Unary::Exp => map!(to, count, |v = x| exp(v)),
            Unary::Sqrt => map!(to, count, |v = x| v.sqrt()),
            Unary::Reciprocal => map!(to, count, |v = x| V::splat(1.0).div(v)),
            Unary::Neg => map!(to, count, |v = x| V::splat(0.0).sub(v)),
            Unary::HardSwish => map!(to, count, |v = x| hard_swish(v)),
            Unary::Gelu => map!(to, count, |v = x| gelu(v)),
            Unary::Erf => map!(to, count, |v = x| erf(v)),
            Unary::Abs => map!(to, count, |v = x| v.max(V::splat(0.0).sub(v))),
            // Too rare for a vector's own.
            Unary::Tanh => one_by_one(x, to, count, f32::tanh),
            Unary::Log => one_by_one(x, to, count, f32::ln),
            Unary::Floor => one_by_one(x, to, count, f32::floor),
            Unary::Sin => one_by_one(x, to, count, f32::sin),
            Unary::Cos => one_by_one(x, to, count, f32::cos),
        }
    }
}

/// `to[i] = $result`, whether each of the two is a row or a single value.
macro_rules! zip {
    ($a:expr, $b:expr, $to:expr, $count:expr, |$x:ident, $y:ident| $result:expr) => {{
        let (a, b) = ($a.values, $b.values);
        match ($a.single, $b.single) {
            (false, false) => map!($to, $count, |$x = a, $y = b| $result),
            (true, false) => {
                let $x = V::splat(*a);
                map!($to, $count, |$y = b| $result);
            }
            (false, true) => {
                let $y = V::splat(*b);
                map!($to, $count, |$x = a| $result);
            }
            (true, true) => {
                let ($x, $y) = (V::splat(*a), V::splat(*b));
                map!($to, $count, | | $result);
            }
        }
    }};
}

/// See [`super::Kernels::binary`].
#[inline(always)]
pub unsafe fn binary<V: Vector>(op: Binary, a: Row, b: Row, to: *mut f32, count: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match op {
            Binary::Add => zip!(a, b, to, count, |x, y| x.add(y)),
            Binary::Sub => zip!(a, b, to, count, |x, y| x.sub(y)),
            Binary::Mul => zip!(a, b, to, count, |x, y| x.mul(y)),
            Binary::Div => zip!(a, b, to, count, |x, y| x.div(y)),
            Binary::Max => zip!(a, b, to, count, |x, y| x.max(y)),
            Binary::Min => zip!(a, b, to, count, |x, y| x.min(y)),
            Binary::Pow => {
                let at = |row: Row, index: usize| *row.values.add(if row.single { 0 } else { index });
                (0..count).for_each(|index| *to.add(index) = at(a, index).powf(at(b, index)));
            }
        }
    }
}

/// `to[i]` is `$all` after `$result` over the rows, then `$last`.
macro_rules! across {
    ($rows:expr, $to:expr, $count:expr, |$all:ident, $x:ident| $result:expr, $last:expr) => {{
        let first = $rows[0];
        let mut at = 0;
        while at + V::LANES <= $count {
            let mut $all = V::load(first.add(at));
            for row in &$rows[1..] {
                let $x = V::load(row.add(at));
                $all = $result;
            }
            $last.store($to.add(at));
            at += V::LANES;
        }
        if at < $count {
            let left = $count - at;
            let mut $all: V = V::load_first(first.add(at), left, 0.0);
            for row in &$rows[1..] {
                let $x: V = V::load_first(row.add(at), left, 0.0);
                $all = $result;
            }
            $last.store_first($to.add(at), left);
        }
    }};
}

/// See [`super::Kernels::max_rows`].
#[inline(always)]
pub unsafe fn max_rows<V: Vector>(rows: &[*const f32], to: *mut f32, count: usize) {
    // SAFETY: the caller's promise.
    unsafe { across!(rows, to, count, |all, x| all.max(x), all) }
}

/// See [`super::Kernels::sum_rows`].
#[inline(always)]
pub unsafe fn sum_rows<V: Vector>(rows: &[*const f32], scale: f32, to: *mut f32, count: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let scale = V::splat(scale);
        across!(rows, to, count, |all, x| all.add(x), all.mul(scale));
    }
}

/// See [`super::Kernels::softmax`].
#[inline(always)]
pub unsafe fn softmax<V: Vector>(x: *const f32, to: *mut f32, count: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let share = V::splat(1.0 / exponentials::<V>(x, to, count));
        map!(to, count, |v = to| v.mul(share));
    }
}

/// See [`super::Kernels::exponentials`].
#[inline(always)]
pub unsafe fn exponentials<V: Vector>(x: *const f32, to: *mut f32, count: usize) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let largest = V::splat(max_row::<V>(x, count));
        let mut sum = V::splat(0.0);
        let whole = count - count % V::LANES;
        let mut at = 0;
        while at < whole {
            let share = exp(V::load(x.add(at)).sub(largest));
            sum = sum.add(share);
            share.store(to.add(at));
            at += V::LANES;
        }
        let mut sum = sum.total();
        if whole < count {
            let shares = exp(V::load_first(x.add(whole), count - whole, 0.0).sub(largest));
            shares.store_first(to.add(whole), count - whole);
            sum += shares.lanes()[..count - whole].iter().sum::<f32>();
        }
        sum
    }
}

/// See [`super::Kernels::expectation`]. As many rows at once as a vector has lanes.
#[inline(always)]
pub unsafe fn expectation<V: Vector>(
    x: *const f32,
    row: usize,
    weights: *const f32,
    count: usize,
    to: *mut f32,
    to_step: usize,
    rows: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut first = 0;
        while first < rows {
            // What is beyond the last row is the last row.
            let last = rows - 1 - first;
            let from = x.add(first * row);
            let mut largest = V::splat(f32::MIN);
            for at in 0..count {
                largest = largest.max(column::<V>(from.add(at), row, last));
            }
            let (mut sum, mut weighted) = (V::splat(0.0), V::splat(0.0));
            for at in 0..count {
                let share = exp(column::<V>(from.add(at), row, last).sub(largest));
                sum = sum.add(share);
                weighted = share.mul_add(V::splat(*weights.add(at)), weighted);
            }
            let means = weighted.div(sum).lanes();
            for (lane, mean) in means.into_iter().enumerate().take((last + 1).min(V::LANES)) {
                *to.add((first + lane) * to_step) = mean;
            }
            first += V::LANES;
        }
    }
}

/// One value of each row; those beyond the last row are of the last one.
#[inline(always)]
unsafe fn column<V: Vector>(from: *const f32, row: usize, last: usize) -> V {
    let mut lanes = [0.0; LANES_MAX];
    for (lane, value) in lanes.iter_mut().enumerate().take(V::LANES) {
        // SAFETY: the caller's promise.
        *value = unsafe { *from.add(lane.min(last) * row) };
    }
    // SAFETY: the caller has the instruction set.
    unsafe { V::load(lanes.as_ptr()) }
}

/// See [`super::Kernels::layer_norm`].
#[inline(always)]
pub unsafe fn layer_norm<V: Vector>(
    x: *const f32,
    scale: *const f32,
    bias: *const f32,
    epsilon: f32,
    to: *mut f32,
    count: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let share = 1.0 / count as f32;
        let mean = V::splat(sum_row::<V>(x, count) * share);
        map!(to, count, |v = x| v.sub(mean));
        let squares = join!(to, count, 0.0, |all, v| v.mul_add(v, *all), add).total();
        let factor = V::splat(1.0 / (squares * share + epsilon).sqrt());
        map!(to, count, |v = to, scale = scale, bias = bias| v.mul(factor).mul_add(scale, bias));
    }
}

/// See [`super::Kernels::sum_row`].
#[inline(always)]
pub unsafe fn sum_row<V: Vector>(x: *const f32, count: usize) -> f32 {
    // SAFETY: the caller's promise.
    unsafe { join!(x, count, 0.0, |all, v| all.add(v), add).total() }
}

/// See [`super::Kernels::max_row`].
#[inline(always)]
pub unsafe fn max_row<V: Vector>(x: *const f32, count: usize) -> f32 {
    // SAFETY: the caller's promise.
    unsafe { join!(x, count, f32::MIN, |all, v| all.max(v), max).largest() }
}

/// See [`super::Kernels::blend`].
#[inline(always)]
pub unsafe fn blend<V: Vector>(rows: &[*const f32], weights: *const f32, to: *mut f32, count: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut at = 0;
        while at + V::LANES <= count {
            let mut sum = V::splat(0.0);
            for (index, row) in rows.iter().enumerate() {
                sum = V::load(row.add(at)).mul_add(V::splat(*weights.add(index)), sum);
            }
            sum.store(to.add(at));
            at += V::LANES;
        }
        for at in at..count {
            let terms = rows.iter().enumerate().map(|(index, row)| *row.add(at) * *weights.add(index));
            *to.add(at) = terms.sum();
        }
    }
}
