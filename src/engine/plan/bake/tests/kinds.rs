//! Operators of every kind, drawn at random.

use super::draft::{Draft, volume};
use super::*;

/// Products for each value of a result, at most, on an average.
const PRODUCTS_MAX: usize = 1 << 7;

/// Adds an operator that reads a value; `None` when that cannot be.
pub type Kind = fn(&mut Draft, ValueId) -> Option<ValueId>;

/// All kinds of operators, and whether they want a picture.
pub const KINDS: [(&str, Kind, bool); 28] = [
    ("unary", unary, false),
    ("binary", binary, false),
    ("binary", binary, false),
    ("broadcast", broadcast, false),
    ("concat", concat, false),
    ("concat", concat, true),
    ("split", split, false),
    ("slice", slice, false),
    ("reshape", reshape, false),
    ("permute", permute, false),
    ("windows", windows, true),
    ("softmax", softmax, false),
    ("expectation", expectation, false),
    ("layer norm", layer_norm, false),
    ("reduce", reduce, false),
    ("top", top, false),
    ("gather", gather, false),
    ("resample", resample, false),
    ("linear", linear, false),
    ("product", product, false),
    ("attention", attention, false),
    ("attention of anything", attend, false),
    ("conv", conv, true),
    ("conv", conv, true),
    ("depthwise", depthwise, true),
    ("pool", pool, true),
    ("upsample", upsample, true),
    ("grid sample", grid_sample, true),
];

pub fn unary(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    use Unary::{
        Abs, Cos, Erf, Exp, Floor, Gelu, HardSwish, Log, Neg, Reciprocal, Relu, Sigmoid, Silu, Sin, Sqrt, Tanh,
    };
    let op = draft.pick(&[
        Relu, Silu, HardSwish, Gelu, Sigmoid, Tanh, Erf, Exp, Log, Sqrt, Reciprocal, Neg, Abs, Floor, Sin, Cos,
    ]);
    let x = match op {
        Floor if !draft.exact[x] => return None,
        // These only well away from zero, and from what is too large.
        Exp | Log | Sqrt | Reciprocal => positive(draft, x),
        _ => x,
    };
    Some(draft.unary(op, x))
}

/// Brought to between a half and one and a half.
fn positive(draft: &mut Draft, x: ValueId) -> ValueId {
    let (share, shape) = (draft.unary(Unary::Sigmoid, x), draft.of(x));
    let half = draft.known(&vec![1; shape.len()], vec![0.5]);
    draft.add(Op::Binary(Binary::Add), &[share, half], &shape)
}

pub fn binary(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    use Binary::{Add, Div, Max, Min, Mul, Pow, Sub};
    let (shape, op) = (draft.of(x), draft.pick(&[Add, Add, Sub, Mul, Mul, Div, Max, Min, Pow]));
    let (mut other, mut to) = (shape.clone(), shape.clone());
    let is_plain = draft.one_in(3);
    for axis in (0..shape.len()).filter(|_| !is_plain) {
        match draft.below(4) {
            0 | 1 => other[axis] = 1,
            2 if shape[axis] == 1 => {
                other[axis] = draft.size(5);
                to[axis] = other[axis];
            }
            _ => {}
        }
    }
    if volume(&to) > draft.largest {
        return None;
    }
    let y = if is_plain && draft.one_in(6) { x } else { draft.operand(&other) };
    let [mut a, mut b] = if draft.one_in(2) { [x, y] } else { [y, x] };
    match op {
        Div => b = positive(draft, b),
        Pow => [a, b] = [positive(draft, a), draft.unary(Unary::Tanh, b)],
        // Lest repeated squares explode.
        Mul => b = draft.unary(Unary::Tanh, b),
        _ => {}
    }
    Some(draft.add(Op::Binary(op), &[a, b], &to))
}

fn broadcast(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let mut shape = draft.of(x);
    shape.iter_mut().for_each(|size| *size = if *size == 1 { 1 + draft.random.below(5) } else { *size });
    (volume(&shape) <= draft.largest && shape != draft.of(x)).then(|| draft.add(Op::Broadcast, &[x], &shape))
}

pub fn concat(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let shape = draft.of(x);
    let axis = if shape.len() == 4 && draft.one_in(2) { 1 } else { draft.below(shape.len()) };
    let mut parts = vec![x];
    for _ in 0..draft.size(3) {
        let mut other = shape.clone();
        other[axis] = draft.size(4);
        let part = match draft.below(6) {
            0 => x,
            1 if shape[axis] > other[axis] => {
                let start = draft.below(shape[axis] - other[axis] + 1);
                draft.slice_of(x, axis, start, other[axis])
            }
            2 => {
                let part = draft.operand(&other);
                let again = draft.operand(&other);
                draft.concat_of(axis, &[part, again])
            }
            _ => draft.operand(&other),
        };
        let at = draft.below(parts.len() + 1);
        parts.insert(at, part);
    }
    let all: usize = parts.iter().map(|&part| volume(&draft.of(part))).sum();
    (all <= 2 * draft.largest).then(|| draft.concat_of(axis, &parts))
}

/// Cut into parts, which come together again in their order or another, some of them changed.
fn split(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let shape = draft.of(x);
    let axis = (0..shape.len()).find(|&axis| shape[axis] > 1)?;
    let cut = draft.size(shape[axis] - 1);
    let mut parts = vec![draft.slice_of(x, axis, 0, cut), draft.slice_of(x, axis, cut, shape[axis] - cut)];
    if draft.one_in(3) {
        parts.swap(0, 1);
    }
    if draft.one_in(2) {
        let last = parts[1];
        parts.push(conv(draft, last).filter(|&y| draft.of(y)[2..] == draft.of(last)[2..] && axis == 1).unwrap_or(last));
    }
    if draft.one_in(4) {
        parts[0] = draft.unary(Unary::Abs, parts[0]);
    }
    Some(draft.concat_of(axis, &parts))
}

pub fn slice(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let shape = draft.of(x);
    let axis = draft.below(shape.len());
    let length = draft.size(shape[axis]);
    let start = draft.below(shape[axis] - length + 1);
    Some(draft.slice_of(x, axis, start, length))
}

/// Into other factors, with some dimensions of 1.
pub fn reshape(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let mut factors = Vec::new();
    for mut size in draft.of(x) {
        for prime in [2, 3, 5, 7] {
            while size % prime == 0 {
                factors.push(prime);
                size /= prime;
            }
        }
        factors.push(size);
    }
    let rank = draft.size(5);
    let mut shape = vec![1; rank];
    // Neighbours stay neighbours, or come together anyhow.
    let is_sorted = draft.one_in(2);
    let mut at = 0;
    for factor in factors {
        at = if is_sorted { (at + draft.below(5) / 4 + draft.below(2)).min(rank - 1) } else { draft.below(rank) };
        shape[at] *= factor;
    }
    Some(draft.reshaped(x, &shape))
}

pub fn permute(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let order = draft.order(draft.graph.values[x].shape.len());
    Some(draft.permuted(x, &order))
}

/// There, something in between, and back again.
pub fn permute_back(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let order = draft.order(draft.graph.values[x].shape.len());
    let back: Vec<usize> = (0..order.len()).map(|axis| order.iter().position(|&from| from == axis).unwrap()).collect();
    let there = draft.permuted(x, &order);
    let other = draft.unary(Unary::Abs, there);
    Some(draft.permuted(other, &back))
}

pub fn neg(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    Some(draft.unary(Unary::Neg, x))
}

/// A picture cut into windows, as attention over windows does it.
fn windows(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let [n, c, h, w] = draft.of(x)[..] else { return None };
    let divisor =
        |draft: &mut Draft, of: usize| (1..=of).filter(|d| of.is_multiple_of(*d)).nth(draft.below(2)).unwrap_or(of);
    let [y, z] = [divisor(draft, h), divisor(draft, w)];
    let cut = draft.reshaped(x, &[n, c, y, h / y, z, w / z]);
    let order = draft.pick(&[[0, 2, 4, 3, 5, 1], [0, 2, 4, 1, 3, 5], [2, 4, 0, 3, 5, 1]]);
    let turned = draft.permuted(cut, &order);
    let shape = draft.of(turned);
    let mut shape = [&[shape[..3].iter().product()], &shape[3..]].concat();
    if order[3] == 3 {
        shape = vec![shape[0], shape[1] * shape[2], shape[3]];
    }
    Some(draft.reshaped(turned, &shape))
}

fn softmax(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let shape = draft.of(x);
    let axis = draft.below(shape.len());
    Some(draft.add(Op::Softmax { axis }, &[x], &shape))
}

fn expectation(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let mut shape = draft.of(x);
    let axis = draft.below(shape.len());
    let weights = draft.constant(&[shape[axis]], 2.0);
    shape[axis] = 1;
    Some(draft.add(Op::Expectation { axis }, &[x, weights], &shape))
}

fn layer_norm(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let shape = draft.of(x);
    let channels = shape[shape.len() - 1];
    let [scale, shift] = [draft.constant(&[channels], 1.0), draft.constant(&[channels], 1.0)];
    Some(draft.add(Op::LayerNorm { epsilon: 0.01 }, &[x, scale, shift], &shape))
}

fn reduce(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let mut shape = draft.of(x);
    let one = draft.below(shape.len());
    let axes: Vec<usize> = (0..shape.len()).filter(|&axis| axis == one || draft.one_in(3)).collect();
    axes.iter().for_each(|&axis| shape[axis] = 1);
    let reduce = draft.pick(&[Reduce::Max, Reduce::Min, Reduce::Sum, Reduce::Mean, Reduce::Mean]);
    Some(draft.add(Op::Reduce { reduce, axes }, &[x], &shape))
}

fn top(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let mut shape = draft.of(x);
    let (axis, largest) = (draft.below(shape.len()), draft.one_in(2));
    shape[axis] = draft.size(shape[axis]);
    draft.exact[x].then(|| draft.add(Op::Top { axis, largest }, &[x], &shape))
}

fn gather(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let (mut from, axis) = (draft.of(x), draft.below(draft.graph.values[x].shape.len()));
    let length = from[axis];
    let (mut at, mut to) = (from.clone(), from.clone());
    at[axis] = draft.size(6);
    to[axis] = at[axis];
    for other in (0..from.len()).filter(|&other| other != axis) {
        match draft.below(3) {
            0 => at[other] = 1,
            1 if from[other] == 1 => {
                at[other] = draft.size(4);
                to[other] = at[other];
            }
            _ => {}
        }
    }
    if volume(&to) > draft.largest {
        return None;
    }
    let places = if draft.one_in(3) {
        // Some of them outside.
        let places = (0..volume(&at)).map(|_| draft.random.below(length + 2) as f32 - 1.0).collect();
        draft.known(&at, places)
    } else {
        let wanted = at[axis];
        at[axis] = wanted.max(length);
        let ranked = draft.computed(&at, 2);
        at[axis] = wanted;
        draft.add(Op::Top { axis, largest: true }, &[ranked], &at)
    };
    let x = if draft.one_in(6) {
        from[axis] = length;
        draft.operand(&from)
    } else {
        x
    };
    Some(draft.add(Op::Gather { axis }, &[x, places], &to))
}

fn resample(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let mut shape = draft.of(x);
    let axis = draft.below(shape.len());
    let (length, results, terms) = (shape[axis], draft.size(7), draft.size(4));
    let places = (0..results * terms).map(|_| draft.random.below(length) as f32).collect();
    let places = draft.known(&[results, terms], places);
    let weights = draft.weights(&[results, terms], terms);
    shape[axis] = results;
    (volume(&shape) <= draft.largest).then(|| draft.add(Op::Resample { axis }, &[x, places, weights], &shape))
}

fn linear(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let mut shape = draft.of(x);
    let (last, rank) = (shape[shape.len() - 1], shape.len());
    let outputs = if draft.one_in(4) { draft.size(70) } else { draft.size(20) };
    shape[rank - 1] = outputs;
    if volume(&shape) > draft.largest || volume(&shape) * last > PRODUCTS_MAX * draft.largest {
        return None;
    }
    let (weights, bias) = (draft.weights(&[outputs, last], last), draft.constant(&[outputs], 1.0));
    let (finish, other) = draft.finish(&shape);
    let inputs: Vec<ValueId> = [x, weights, bias].into_iter().chain(other).collect();
    Some(draft.add(Op::Linear(finish), &inputs, &shape))
}

/// Of two computed values, or of one and a constant, on either side.
fn product(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let shape = draft.of(x);
    let rank = shape.len();
    if rank < 2 {
        return None;
    }
    let is_left = draft.one_in(2);
    let (mut other, mut to) = (shape.clone(), shape.clone());
    for axis in 0..rank - 2 {
        match draft.below(4) {
            0 => other[axis] = 1,
            1 if shape[axis] == 1 => {
                other[axis] = draft.size(3);
                to[axis] = other[axis];
            }
            _ => {}
        }
    }
    let free = if draft.one_in(4) { draft.size(70) } else { draft.size(12) };
    let (depth, kept) = if is_left { (shape[rank - 1], shape[rank - 2]) } else { (shape[rank - 2], shape[rank - 1]) };
    let of_other = if is_left { [depth, free] } else { [free, depth] };
    other[rank - 2..].copy_from_slice(&of_other);
    to[rank - 2..].copy_from_slice(&if is_left { [kept, free] } else { [free, kept] });
    if volume(&to).max(volume(&other)) > draft.largest || volume(&to) * depth > PRODUCTS_MAX * draft.largest {
        return None;
    }
    let other = draft.operand(&other);
    let bounded = draft.unary(Unary::Tanh, other);
    let inputs = if is_left { [x, bounded] } else { [bounded, x] };
    let scale = 1.0 / (depth as f32).sqrt();
    Some(draft.add(Op::MatMul { scale }, &inputs, &to))
}

/// Queries, keys and values of several heads, in whichever order of dimensions.
fn attention(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let shape = draft.of(x);
    let (channels, tokens) = (shape[shape.len() - 1], volume(&shape) / shape[shape.len() - 1]);
    let heads = draft.pick(&[1, 2, 3]);
    if tokens > 60 || channels > 40 {
        return None;
    }
    let x = draft.reshaped(x, &[1, tokens, channels]);
    let width = draft.pick(&[1, 3, 8, 16]);
    let (weights, bias) =
        (draft.weights(&[3 * heads * width, channels], channels), draft.constant(&[3 * heads * width], 1.0));
    let all = draft.add(Op::Linear(Finish::default()), &[x, weights, bias], &[1, tokens, 3 * heads * width]);
    // Heads before or after the three, and columns of tokens or rows of them.
    let is_inner = draft.one_in(2);
    let turned = if draft.one_in(2) {
        let cut = draft.reshaped(all, &[1, tokens, 3, heads, width]);
        draft.permuted(cut, if is_inner { &[2, 0, 3, 1, 4] } else { &[2, 0, 3, 4, 1] })
    } else {
        let cut = draft.reshaped(all, &[1, tokens, heads, 3, width]);
        draft.permuted(cut, if is_inner { &[3, 0, 2, 1, 4] } else { &[3, 0, 2, 4, 1] })
    };
    let shape = if is_inner { [1, heads, tokens, width] } else { [1, heads, width, tokens] };
    let [q, k, v] = [0, 1, 2].map(|part| {
        let part = draft.slice_of(turned, 0, part, 1);
        draft.reshaped(part, &shape)
    });
    let turn = [0, 1, 3, 2];
    let (q, k) = if is_inner { (q, draft.permuted(k, &turn)) } else { (draft.permuted(q, &turn), k) };
    let scores = draft.add(Op::MatMul { scale: 0.5 }, &[q, k], &[1, heads, tokens, tokens]);
    let shares = draft.add(Op::Softmax { axis: 3 }, &[scores], &[1, heads, tokens, tokens]);
    let joined = if is_inner {
        let mixed = draft.add(Op::MatMul { scale: 1.0 }, &[shares, v], &[1, heads, tokens, width]);
        let turned = draft.permuted(mixed, &[0, 2, 1, 3]);
        draft.reshaped(turned, &[1, tokens, heads * width])
    } else {
        let shares = draft.permuted(shares, &turn);
        let mixed = draft.add(Op::MatMul { scale: 1.0 }, &[v, shares], &[1, heads, width, tokens]);
        draft.reshaped(mixed, &[1, heads * width, 1, tokens])
    };
    if draft.one_in(2) { conv(draft, joined).or(Some(joined)) } else { Some(joined) }
}

/// As one operator, of queries, keys and values that lie anyhow.
fn attend(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let shape = draft.of(x);
    let (rank, wanted) = (shape.len(), draft.below(3));
    if rank < 2 {
        return None;
    }
    let sizes: [usize; 4] = [0; 4].map(|_| if draft.one_in(4) { draft.size(70) } else { draft.size(12) });
    let [mut rows, mut depth, mut keys, mut columns] = sizes;
    // The operand that `x` is says what some of them are.
    let ends = [shape[rank - 2], shape[rank - 1]];
    match wanted {
        0 => [rows, depth] = ends,
        1 => [depth, keys] = ends,
        _ => [keys, columns] = ends,
    }
    let with = |ends: [usize; 2]| [&shape[..rank - 2], &ends].concat();
    let (to, shapes) = (with([rows, columns]), [with([rows, depth]), with([depth, keys]), with([keys, columns])]);
    if shapes.iter().chain([&to, &with([rows, keys])]).any(|shape| volume(shape) > draft.largest) {
        return None;
    }
    let inputs: Vec<ValueId> =
        (0..3).map(|index| if index == wanted { x } else { draft.operand(&shapes[index]) }).collect();
    let scale = 1.0 / (depth as f32).sqrt();
    Some(draft.add(Op::Attention { scale }, &inputs, &to))
}

pub fn conv(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let [_, c, _, _] = draft.of(x)[..] else { return None };
    let divisors: Vec<usize> = (1..=c).filter(|d| c % d == 0).collect();
    let groups = if draft.one_in(4) { draft.pick(&divisors) } else { 1 };
    let each = if draft.one_in(4) { draft.size(70) } else { draft.size(12) };
    convolution(draft, x, groups, each.min(140 / groups).max(1))
}

pub fn depthwise(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let [_, c, _, _] = draft.of(x)[..] else { return None };
    let each = draft.pick(&[1, 1, 1, 2, 3]);
    convolution(draft, x, c, each)
}

fn convolution(draft: &mut Draft, x: ValueId, groups: usize, each: usize) -> Option<ValueId> {
    let from = draft.of(x);
    if from.len() != 4 {
        return None;
    }
    let (window, [h, w]) =
        if draft.one_in(4) { (Window::POINT, [from[2], from[3]]) } else { draft.window(&from, false)? };
    convolved(draft, x, groups, each, window, [h, w])
}

pub fn convolved(
    draft: &mut Draft,
    x: ValueId,
    groups: usize,
    each: usize,
    window: Window,
    [h, w]: [usize; 2],
) -> Option<ValueId> {
    let from = draft.of(x);
    let (depth, outputs, [kh, kw]) = (from[1] / groups, groups * each, window.kernel);
    let to = [from[0], outputs, h, w];
    let all = depth * kh * kw;
    if volume(&to) > 4 * draft.largest || volume(&to) * all > 8 * PRODUCTS_MAX * draft.largest {
        return None;
    }
    let (filters, bias) = (draft.weights(&[outputs, depth, kh, kw], all), draft.constant(&[outputs], 1.0));
    let (finish, other) = draft.finish(&to);
    let inputs: Vec<ValueId> = [x, filters, bias].into_iter().chain(other).collect();
    Some(draft.add(Op::Conv(Conv { window, groups, finish }), &inputs, &to))
}

fn pool(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let [n, c, _, _] = draft.of(x)[..] else { return None };
    let (window, [h, w]) = draft.window(&draft.of(x), true)?;
    Some(draft.add(Op::MaxPool(window), &[x], &[n, c, h, w]))
}

fn upsample(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let [n, c, h, w] = draft.of(x)[..] else { return None };
    let [height, width] = [draft.size(3), draft.size(3)];
    let shape = [n, c, h * height, w * width];
    (volume(&shape) <= draft.largest).then(|| draft.add(Op::Upsample { height, width }, &[x], &shape))
}

fn grid_sample(draft: &mut Draft, x: ValueId) -> Option<ValueId> {
    let [n, c, _, _] = draft.of(x)[..] else { return None };
    let [h, w] = [draft.size(6), draft.size(6)];
    let grid = if draft.one_in(4) { draft.operand(&[n, h, w, 2]) } else { draft.moving(&[n, h, w, 2]) };
    let align_corners = draft.one_in(2);
    Some(draft.add(Op::GridSample { align_corners }, &[x, grid], &[n, c, h, w]))
}
