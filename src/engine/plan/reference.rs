//! Every operator as its definition reads, slowly, in C order: what the kernels are compared with in tests.

use super::graph::{Activation, Binary, Conv, Graph, Node, Op, Unary, ValueId, Window};

/// All values of the network for one picture.
pub fn run(graph: &Graph, picture: &[f32]) -> Vec<Vec<f32>> {
    let mut values: Vec<Vec<f32>> = graph.values.iter().map(|value| value.constant.clone().unwrap_or_default()).collect();
    values[graph.input] = picture.to_vec();
    for node in &graph.nodes {
        let result = node_result(graph, node, &values);
        assert_eq!(result.len(), volume(shape(graph, node.output)));
        values[node.output] = result;
    }
    values
}

fn volume(shape: &[usize]) -> usize {
    shape.iter().product()
}

fn shape(graph: &Graph, value: ValueId) -> &[usize] {
    &graph.values[value].shape
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
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

fn node_result(graph: &Graph, node: &Node, values: &[Vec<f32>]) -> Vec<f32> {
    let inputs: Vec<_> = node.inputs.iter().map(|&input| (values[input].as_slice(), shape(graph, input))).collect();
    apply(&node.op, &inputs, shape(graph, node.output))
}

/// What an operator makes of values in C order.
pub fn apply(op: &Op, inputs: &[(&[f32], &[usize])], to: &[usize]) -> Vec<f32> {
    let of = |input: usize| inputs[input];
    let (x, from) = of(0);
    match op {
        Op::Conv(conv) => {
            let residual = conv.residual.then(|| of(3).0);
            convolve(conv, (x, from), of(1), of(2).0, residual, to)
        }
        Op::MaxPool(window) => each(to, |at| {
            let taps = taps(window, from, at).map(|(_, _, y, x_at)| x[((at[0] * from[1] + at[1]) * from[2] + y) * from[3] + x_at]);
            taps.fold(f32::NEG_INFINITY, f32::max)
        }),
        Op::Upsample { height, width } => {
            each(to, |at| x[((at[0] * from[1] + at[1]) * from[2] + at[2] / height) * from[3] + at[3] / width])
        }
        Op::Unary(op) => x.iter().map(|&x| unary(*op, x)).collect(),
        Op::Binary(op) => {
            let (y, other) = of(1);
            let index = |at: &[usize], shape: &[usize]| -> usize {
                at.iter().zip(shape).zip(strides(shape)).map(|((&at, &size), stride)| at.min(size - 1) * stride).sum()
            };
            each(to, |at| binary(*op, x[index(at, from)], y[index(at, other)]))
        }
        Op::Concat { axis } => each(to, |at| {
            let (mut at, mut input) = (at.to_vec(), 0);
            while at[*axis] >= of(input).1[*axis] {
                at[*axis] -= of(input).1[*axis];
                input += 1;
            }
            let (values, shape) = of(input);
            values[at.iter().zip(strides(shape)).map(|(at, stride)| at * stride).sum::<usize>()]
        }),
        Op::Slice { axis, start } => {
            let strides = strides(from);
            each(to, |at| x[at.iter().zip(&strides).map(|(at, stride)| at * stride).sum::<usize>() + start * strides[*axis]])
        }
        Op::Reshape => x.to_vec(),
        Op::Permute { order } => {
            let strides = strides(from);
            each(to, |at| x[at.iter().zip(order).map(|(at, &axis)| at * strides[axis]).sum::<usize>()])
        }
        Op::Softmax { axis } => softmax(x, from, *axis),
        Op::MatMul => multiply(of(0), of(1), to),
    }
}

fn multiply((a, a_shape): (&[f32], &[usize]), (b, b_shape): (&[f32], &[usize]), to: &[usize]) -> Vec<f32> {
    let (rank, depth) = (to.len(), a_shape[a_shape.len() - 1]);
    let index = |at: &[usize], shape: &[usize], row: usize, column: usize| -> usize {
        let strides = strides(shape);
        let batch: usize = (0..rank - 2).map(|axis| at[axis].min(shape[axis] - 1) * strides[axis]).sum();
        batch + row * strides[rank - 2] + column
    };
    each(to, |at| {
        let product = |k| a[index(at, a_shape, at[rank - 2], k)] * b[index(at, b_shape, k, at[rank - 1])];
        (0..depth).map(product).sum()
    })
}

/// Places under a window that lie in the picture: row and column of the filter, row and column of the picture.
fn taps(window: &Window, from: &[usize], at: &[usize]) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let (window, height, width, row, column) = (*window, from[2], from[3], at[2], at[3]);
    let place = move |axis: usize, at: usize, tap: usize, size: usize| {
        (at * window.stride[axis] + tap * window.dilation[axis]).checked_sub(window.pad[axis]).filter(|&at| at < size)
    };
    (0..window.kernel[0]).flat_map(move |ky| {
        (0..window.kernel[1])
            .filter_map(move |kx| Some((ky, kx, place(0, row, ky, height)?, place(1, column, kx, width)?)))
    })
}

fn convolve(
    conv: &Conv,
    (x, from): (&[f32], &[usize]),
    (filters, filter): (&[f32], &[usize]),
    bias: &[f32],
    residual: Option<&[f32]>,
    to: &[usize],
) -> Vec<f32> {
    let (inputs, outputs) = (from[1] / conv.groups, to[1] / conv.groups);
    let mut index = 0;
    each(to, |at| {
        let first = at[1] / outputs * inputs;
        let mut sum = bias[if bias.len() == 1 { 0 } else { at[1] }];
        for (ky, kx, y, column) in taps(&conv.window, from, at) {
            for channel in 0..inputs {
                let weight = filters[((at[1] * inputs + channel) * filter[2] + ky) * filter[3] + kx];
                sum += weight * x[((first + channel) * from[2] + y) * from[3] + column];
            }
        }
        let result = match conv.activation {
            Activation::None => sum,
            Activation::Relu => sum.max(0.0),
            Activation::Silu => unary(Unary::Silu, sum),
        };
        index += 1;
        result + residual.map_or(0.0, |residual| residual[index - 1])
    })
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

fn unary(op: Unary, x: f32) -> f32 {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    match op {
        Unary::Sigmoid => sigmoid(x),
        Unary::Silu => x * sigmoid(x),
        Unary::Relu => x.max(0.0),
        Unary::Exp => x.exp(),
        Unary::Sqrt => x.sqrt(),
        Unary::Reciprocal => x.recip(),
        Unary::Neg => -x,
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
    }
}
