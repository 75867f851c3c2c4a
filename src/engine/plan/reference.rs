//! Every operator as its definition reads, in C order and without haste: what the kernels are compared with in tests,
//! and what evaluates operators of constants while a network is lowered. Sums are kept in f64, so that an answer is
//! that of the network, and not of one order of adding.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "places are whole numbers inside; sums are rounded to the nearest f32 in the end"
)]

use super::graph::{Binary, Conv, Finish, Op, Reduce, Residual, Unary, Window};
#[cfg(test)]
use super::graph::{Graph, Node, ValueId};

/// A value in C order and its shape.
pub type View<'a> = (&'a [f32], &'a [usize]);

/// All values of the network for one picture.
#[cfg(test)]
pub fn run(graph: &Graph, picture: &[f32]) -> Vec<Vec<f32>> {
    let shape = |value: ValueId| graph.values[value].shape.as_slice();
    let mut values: Vec<Vec<f32>> =
        graph.values.iter().map(|value| value.constant.clone().unwrap_or_default()).collect();
    values[graph.input] = picture.to_vec();
    for Node { op, inputs, output } in &graph.nodes {
        let inputs: Vec<View<'_>> = inputs.iter().map(|&input| (values[input].as_slice(), shape(input))).collect();
        let result = apply(op, &inputs, shape(*output));
        assert_eq!(result.len(), volume(shape(*output)), "{op:?}");
        values[*output] = result;
    }
    values
}

fn volume(shape: &[usize]) -> usize {
    shape.iter().product()
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Strides that stand still along dimensions of 1.
fn broadcasting(shape: &[usize]) -> Vec<usize> {
    strides(shape).into_iter().zip(shape).map(|(stride, &size)| if size == 1 { 0 } else { stride }).collect()
}

/// For each value of a result of `shape`, in C order, where strides lead.
fn offsets(shape: &[usize], strides: &[usize]) -> Vec<usize> {
    shape.iter().zip(strides).fold(vec![0], |offsets, (&size, &stride)| {
        offsets.iter().flat_map(|offset| (0..size).map(move |step| offset + step * stride)).collect()
    })
}

/// For each value of a result of `shape`, what `of` makes of its coordinates.
pub fn each(shape: &[usize], mut of: impl FnMut(&[usize]) -> f32) -> Vec<f32> {
    let mut at = vec![0; shape.len()];
    (0..volume(shape))
        .map(|_| {
            let value = of(&at);
            for axis in (0..shape.len()).rev() {
                at[axis] += 1;
                if at[axis] < shape[axis] {
                    break;
                }
                at[axis] = 0;
            }
            value
        })
        .collect()
}

/// What an operator makes of values in C order.
pub fn apply(op: &Op, inputs: &[View<'_>], to: &[usize]) -> Vec<f32> {
    let (x, from) = inputs[0];
    let read = |strides: &[usize], start: usize| offsets(to, strides).into_iter().map(|at| x[start + at]).collect();
    match op {
        Op::Conv(conv) => finish(conv.finish, convolve(conv, inputs, to), inputs),
        Op::Linear(after) => finish(*after, product(inputs), inputs),
        Op::MaxPool(window) => each(to, |at| {
            let plane = &x[(at[0] * from[1] + at[1]) * from[2] * from[3]..];
            taps(window, from, at).map(|(y, column)| plane[y * from[3] + column]).fold(f32::NEG_INFINITY, f32::max)
        }),
        Op::Upsample { height, width } => {
            each(to, |at| x[((at[0] * from[1] + at[1]) * from[2] + at[2] / height) * from[3] + at[3] / width])
        }
        Op::Resample { axis } => resample(inputs, *axis, to),
        Op::Unary(op) => x.iter().map(|&x| unary(*op, x)).collect(),
        Op::Binary(op) => {
            let (y, other) = inputs[1];
            let (a, b) = (offsets(to, &broadcasting(from)), offsets(to, &broadcasting(other)));
            a.into_iter().zip(b).map(|(a, b)| binary(*op, x[a], y[b])).collect()
        }
        Op::Broadcast => read(&broadcasting(from), 0),
        Op::Concat { axis } => {
            let inner: usize = to[axis + 1..].iter().product();
            let rows = |outer: usize| {
                inputs.iter().flat_map(move |(values, shape)| {
                    let row = shape[*axis] * inner;
                    &values[outer * row..(outer + 1) * row]
                })
            };
            (0..volume(&to[..*axis])).flat_map(rows).copied().collect()
        }
        Op::Slice { axis, start } => read(&strides(from), start * strides(from)[*axis]),
        Op::Reshape => x.to_vec(),
        Op::Permute { order } => read(&order.iter().map(|&axis| strides(from)[axis]).collect::<Vec<_>>(), 0),
        Op::Softmax { axis } => softmax(x, from, *axis),
        Op::Expectation { axis } => {
            let (shares, (weights, _)) = (softmax(x, from, *axis), inputs[1]);
            let stride = strides(from)[*axis];
            let places = offsets(to, &strides(from)).into_iter();
            places.map(|at| weights.iter().enumerate().map(|(n, w)| w * shares[at + n * stride]).sum()).collect()
        }
        Op::LayerNorm { epsilon } => layer_norm(inputs, *epsilon),
        Op::MatMul { scale } => multiply(inputs[0], inputs[1], *scale, to),
        Op::Attention { scale } => {
            let ((_, k), (_, v)) = (inputs[1], inputs[2]);
            let mut between = from.to_vec();
            between[from.len() - 1] = k[k.len() - 1];
            let scores = multiply(inputs[0], inputs[1], *scale, &between);
            let shares = softmax(&scores, &between, between.len() - 1);
            debug_assert_eq!(v[v.len() - 2], between[between.len() - 1]);
            multiply((&shares, &between), inputs[2], 1.0, to)
        }
        Op::Reduce { reduce, axes } => reduced(*reduce, axes, inputs[0], to),
        Op::Top { axis, largest } => top(inputs[0], *axis, *largest, to),
        Op::Gather { axis } => {
            let ((places, place_shape), mut around) = (inputs[1], broadcasting(from));
            around[*axis] = 0;
            let (stride, last) = (strides(from)[*axis], from[*axis] - 1);
            let place = |at: usize| (places[at].max(0.0) as usize).min(last);
            let values = offsets(to, &around).into_iter().zip(offsets(to, &broadcasting(place_shape)));
            values.map(|(around, at)| x[around + place(at) * stride]).collect()
        }
        Op::GridSample { align_corners } => grid_sample(inputs[0], inputs[1], *align_corners, to),
    }
}

/// The activation, and a residual on its one side or the other.
fn finish(finish: Finish, mut sums: Vec<f32>, inputs: &[View<'_>]) -> Vec<f32> {
    let other = inputs.get(3).map_or(&[][..], |(other, _)| other);
    let add = |sums: &mut [f32]| sums.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
    if finish.residual == Residual::Before {
        add(&mut sums);
    }
    if let Some(activation) = finish.activation.unary() {
        sums.iter_mut().for_each(|sum| *sum = unary(activation, *sum));
    }
    if finish.residual == Residual::After {
        add(&mut sums);
    }
    sums
}

/// `to += factor · from`.
fn add_scaled<'a>(to: &mut [f64], factor: f32, from: impl IntoIterator<Item = &'a f32>) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to += f64::from(factor) * f64::from(from));
}

fn singles(sums: &[f64]) -> impl Iterator<Item = f32> {
    sums.iter().map(|&sum| sum as f32)
}

/// Places under a window that lie in the picture.
fn taps(window: &Window, from: &[usize], at: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    let (window, height, width, row, column) = (*window, from[2], from[3], at[2], at[3]);
    (0..window.kernel[0]).flat_map(move |ky| {
        (0..window.kernel[1])
            .filter_map(move |kx| Some((window.place(0, row, ky, height)?, window.place(1, column, kx, width)?)))
    })
}

impl Window {
    /// The row (axis 0) or column (axis 1) of the picture under this row or column of the filter, if there is one.
    fn place(&self, axis: usize, at: usize, tap: usize, size: usize) -> Option<usize> {
        (at * self.stride[axis] + tap * self.dilation[axis]).checked_sub(self.pad[axis]).filter(|&at| at < size)
    }
}

/// Row by row and tap by tap, so that the innermost loop runs along the picture.
fn convolve(conv: &Conv, inputs: &[View<'_>], to: &[usize]) -> Vec<f32> {
    let ((x, from), (filters, filter), (bias, _)) = (inputs[0], inputs[1], inputs[2]);
    let (window, depth, outputs) = (conv.window, from[1] / conv.groups, to[1] / conv.groups);
    let [height, width] = [to[2], to[3]];
    let columns: Vec<(usize, usize, usize)> = (0..filter[3])
        .map(|kx| {
            let inside = (0..width).filter_map(|column| Some((column, window.place(1, column, kx, from[3])?)));
            let (first, last) = (inside.clone().next(), inside.clone().next_back());
            first.zip(last).map_or((0, 0, 0), |((first, at), (last, _))| (first, last + 1, at))
        })
        .collect();
    let (mut out, mut plane) = (Vec::with_capacity(volume(to)), vec![0.0; height * width]);
    for index in 0..to[0] * to[1] {
        let (image, output) = (index / to[1], index % to[1]);
        plane.fill(f64::from(bias[output]));
        for channel in 0..depth {
            let x = &x[(image * from[1] + output / outputs * depth + channel) * from[2] * from[3]..];
            for (ky, (kx, &(first, end, at))) in
                (0..filter[2]).flat_map(|ky| columns.iter().enumerate().map(move |c| (ky, c)))
            {
                let weight = filters[((output * depth + channel) * filter[2] + ky) * filter[3] + kx];
                for (row, out) in plane.chunks_exact_mut(width).enumerate() {
                    let Some(y) = window.place(0, row, ky, from[2]) else { continue };
                    let (out, x) = (&mut out[first..end], &x[y * from[3] + at..]);
                    match window.stride[1] {
                        1 => add_scaled(out, weight, x),
                        step => add_scaled(out, weight, x.iter().step_by(step)),
                    }
                }
            }
        }
        out.extend(singles(&plane));
    }
    out
}

fn product(inputs: &[View<'_>]) -> Vec<f32> {
    let ((x, _), (weights, shape), (bias, _)) = (inputs[0], inputs[1], inputs[2]);
    let (outputs, depth) = (shape[0], shape[1]);
    let columns: Vec<f32> = (0..depth).flat_map(|k| (0..outputs).map(move |o| weights[o * depth + k])).collect();
    let (mut out, mut sums) = (Vec::with_capacity(x.len() / depth * outputs), vec![0.0; outputs]);
    for row in x.chunks_exact(depth) {
        sums.iter_mut().zip(bias).for_each(|(sum, &bias)| *sum = f64::from(bias));
        row.iter().zip(columns.chunks_exact(outputs)).for_each(|(&x, column)| add_scaled(&mut sums, x, column));
        out.extend(singles(&sums));
    }
    out
}

fn multiply((a, a_shape): View<'_>, (b, b_shape): View<'_>, scale: f32, to: &[usize]) -> Vec<f32> {
    let batch = to.len() - 2;
    let (depth, columns) = (a_shape[batch + 1], to[batch + 1]);
    let (a_strides, b_strides) = (broadcasting(a_shape), broadcasting(b_shape));
    let matrices =
        offsets(&to[..batch], &a_strides[..batch]).into_iter().zip(offsets(&to[..batch], &b_strides[..batch]));
    let (mut out, mut sums) = (Vec::with_capacity(volume(to)), vec![0.0; columns]);
    for (a_at, b_at) in matrices {
        for a in a[a_at..].chunks_exact(depth).take(to[batch]) {
            sums.fill(0.0);
            a.iter().zip(b[b_at..].chunks_exact(columns)).for_each(|(&a, b)| add_scaled(&mut sums, a, b));
            out.extend(singles(&sums).map(|sum| sum * scale));
        }
    }
    out
}

fn resample(inputs: &[View<'_>], axis: usize, to: &[usize]) -> Vec<f32> {
    let ((x, from), (places, table), (weights, _)) = (inputs[0], inputs[1], inputs[2]);
    let (inner, taps) = (volume(&to[axis + 1..]), table[1]);
    let (mut out, mut sums) = (Vec::with_capacity(volume(to)), vec![0.0; inner]);
    for x in x.chunks_exact(from[axis] * inner) {
        for index in 0..to[axis] {
            sums.fill(0.0);
            for tap in index * taps..(index + 1) * taps {
                add_scaled(&mut sums, weights[tap], &x[places[tap] as usize * inner..][..inner]);
            }
            out.extend(singles(&sums));
        }
    }
    out
}

fn softmax(x: &[f32], shape: &[usize], axis: usize) -> Vec<f32> {
    let (stride, size) = (strides(shape)[axis], shape[axis]);
    let mut out = x.to_vec();
    for start in (0..x.len()).filter(|index| index / stride % size == 0) {
        let lane = |step: usize| start + step * stride;
        let top = (0..size).map(|step| x[lane(step)]).fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = (0..size).map(|step| (x[lane(step)] - top).exp()).sum();
        (0..size).for_each(|step| out[lane(step)] = (x[lane(step)] - top).exp() / sum);
    }
    out
}

fn layer_norm(inputs: &[View<'_>], epsilon: f32) -> Vec<f32> {
    let ((x, _), (scale, _), (shift, _)) = (inputs[0], inputs[1], inputs[2]);
    let normal = |row: &[f32]| {
        let count = row.len() as f64;
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
        let (mean, factor) = (mean as f32, (variance + f64::from(epsilon)).sqrt().recip() as f32);
        let parts = row.iter().zip(scale.iter().zip(shift));
        parts.map(|(x, (scale, shift))| (x - mean) * factor * scale + shift).collect::<Vec<f32>>()
    };
    x.chunks_exact(scale.len()).flat_map(normal).collect()
}

fn reduced(reduce: Reduce, axes: &[usize], (x, from): View<'_>, to: &[usize]) -> Vec<f32> {
    let start = match reduce {
        Reduce::Max => f64::NEG_INFINITY,
        Reduce::Min => f64::INFINITY,
        Reduce::Sum | Reduce::Mean => 0.0,
    };
    let mut out = vec![start; volume(to)];
    for (&x, at) in x.iter().zip(offsets(from, &broadcasting(to))) {
        let (x, out) = (f64::from(x), &mut out[at]);
        *out = match reduce {
            Reduce::Max => out.max(x),
            Reduce::Min => out.min(x),
            Reduce::Sum | Reduce::Mean => *out + x,
        };
    }
    let count = axes.iter().map(|&axis| from[axis]).product::<usize>() as f64;
    let divisor = if reduce == Reduce::Mean { count } else { 1.0 };
    out.into_iter().map(|out| (out / divisor) as f32).collect()
}

fn top((x, from): View<'_>, axis: usize, largest: bool, to: &[usize]) -> Vec<f32> {
    // What is no number is never among the best.
    let rank = |x: f32| {
        if x.is_nan() {
            f32::NEG_INFINITY
        } else if largest {
            x
        } else {
            -x
        }
    };
    let (stride, mut lanes) = (strides(from)[axis], to.to_vec());
    lanes[axis] = 1;
    let starts = offsets(&lanes, &strides(from)).into_iter().zip(offsets(&lanes, &strides(to)));
    let mut out = vec![0.0; volume(to)];
    for (from_start, to_start) in starts {
        let mut places: Vec<usize> = (0..from[axis]).collect();
        let value = |place: usize| rank(x[from_start + place * stride]);
        // The sort is stable, and no rank is no number.
        places.sort_by(|&a, &b| value(b).partial_cmp(&value(a)).unwrap_or(std::cmp::Ordering::Equal));
        for (step, place) in places.into_iter().take(to[axis]).enumerate() {
            out[to_start + step * strides(to)[axis]] = place as f32;
        }
    }
    out
}

fn grid_sample((x, from): View<'_>, (grid, _): View<'_>, align_corners: bool, to: &[usize]) -> Vec<f32> {
    let place = |coordinate: f32, size: usize| match align_corners {
        true => (coordinate + 1.0) / 2.0 * (size as f32 - 1.0),
        false => ((coordinate + 1.0) * size as f32 - 1.0) / 2.0,
    };
    each(to, |at| {
        let xy = &grid[((at[0] * to[2] + at[2]) * to[3] + at[3]) * 2..];
        let plane = &x[(at[0] * from[1] + at[1]) * from[2] * from[3]..];
        let (column, row) = (place(xy[0], from[3]), place(xy[1], from[2]));
        let pixel = |row: f32, column: f32| {
            let inside = row >= 0.0 && row < from[2] as f32 && column >= 0.0 && column < from[3] as f32;
            if inside { plane[row as usize * from[3] + column as usize] } else { 0.0 }
        };
        let (left, top) = (column.floor(), row.floor());
        let (right, bottom) = (column - left, row - top);
        let part = |part: f32, row: f32, column: f32| if part == 0.0 { 0.0 } else { part * pixel(row, column) };
        part((1.0 - bottom) * (1.0 - right), top, left)
            + part((1.0 - bottom) * right, top, left + 1.0)
            + part(bottom * (1.0 - right), top + 1.0, left)
            + part(bottom * right, top + 1.0, left + 1.0)
    })
}

/// The error function, to the last bit of an f32: a series whose terms are all of one sign.
fn erf(x: f32) -> f32 {
    let x = f64::from(x);
    if x.is_nan() || x.abs() >= 4.0 {
        return if x.is_nan() { f32::NAN } else { x.signum() as f32 };
    }
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term.abs() > 1e-12 * sum.abs() {
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    (std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum) as f32
}

fn unary(op: Unary, x: f32) -> f32 {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    match op {
        Unary::Relu => x.max(0.0),
        Unary::Silu => x * sigmoid(x),
        Unary::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Unary::Gelu => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
        Unary::Sigmoid => sigmoid(x),
        Unary::Tanh => x.tanh(),
        Unary::Erf => erf(x),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Reciprocal => x.recip(),
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        Unary::Floor => x.floor(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
    }
}

fn binary(op: Binary, a: f32, b: f32) -> f32 {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Max => a.max(b),
        Binary::Min => a.min(b),
        Binary::Pow => a.powf(b),
    }
}
