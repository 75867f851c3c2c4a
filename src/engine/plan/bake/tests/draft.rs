//! Networks drawn at random: what they are written with, and values that lie in memory in every way there is.

use super::kinds::{Kind, concat, neg, permute, permute_back, reshape, slice};
use super::*;
use crate::random::Random;

/// Values of the network's input, from which all others are made.
const INPUT: usize = 4096;
/// Values of a result, at most, where a test wants no more: a network answers within a millisecond.
const VOLUME_MAX: usize = 1 << 13;

/// A network being written.
pub struct Draft {
    pub graph: Graph,
    pub random: Random,
    /// Whether each value is computed without rounding. Only of such may be asked which is greater, or what is below.
    pub exact: Vec<bool>,
    /// Values of a result, at most, about.
    pub largest: usize,
}

pub fn volume(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Tools.
impl Draft {
    pub fn new(seed: u64, shape: &[usize]) -> Self {
        let mut graph = Graph::default();
        graph.input = graph.value("input", shape, None);
        Self { graph, random: Random::new(seed), exact: vec![true], largest: VOLUME_MAX }
    }

    /// One whose input is a row, cut up at will.
    pub fn of_row(seed: u64) -> Self {
        Self::new(seed, &[INPUT])
    }

    pub fn below(&mut self, count: usize) -> usize {
        self.random.below(count)
    }

    /// 1 to `most`.
    pub fn size(&mut self, most: usize) -> usize {
        1 + self.below(most)
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// Short dimensions, many of them 1.
    pub fn shape(&mut self, rank: usize, most: usize) -> Vec<usize> {
        (0..rank).map(|_| if self.one_in(4) { 1 } else { self.size(most) }).collect()
    }

    /// A picture N, C, H, W.
    pub fn picture(&mut self) -> Vec<usize> {
        let n = if self.one_in(3) { self.size(3) } else { 1 };
        let c = if self.one_in(4) { self.size(70) } else { self.size(12) };
        let side = if c > 20 { 5 } else { 9 };
        let [h, w] = [self.size(side), self.size(side)];
        // Some are one pixel high or wide.
        match self.below(8) {
            0 => vec![n, c, 1, w],
            1 => vec![n, c, h, 1],
            _ => vec![n, c, h, w],
        }
    }

    pub fn of(&self, value: ValueId) -> Vec<usize> {
        self.graph.values[value].shape.clone()
    }

    pub fn add(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        self.exact.push(is_exact(&op) && inputs.iter().all(|&input| self.exact[input]));
        let output = self.graph.value(&format!("node {}", self.graph.nodes.len()), shape, None);
        self.graph.nodes.push(Node { op, inputs: inputs.to_vec(), output });
        output
    }

    pub fn known(&mut self, shape: &[usize], values: Vec<f32>) -> ValueId {
        self.exact.push(true);
        self.graph.value("constant", shape, Some(values))
    }

    pub fn constant(&mut self, shape: &[usize], size: f32) -> ValueId {
        let values = (0..volume(shape)).map(|_| self.random.uniform(-size, size)).collect();
        self.known(shape, values)
    }

    /// Weights under which sums of `depth` products are as large as what is multiplied.
    pub fn weights(&mut self, shape: &[usize], depth: usize) -> ValueId {
        self.constant(shape, (3.0 / depth as f32).sqrt())
    }

    pub fn unary(&mut self, op: Unary, x: ValueId) -> ValueId {
        let shape = self.of(x);
        self.add(Op::Unary(op), &[x], &shape)
    }

    pub fn slice_of(&mut self, x: ValueId, axis: usize, start: usize, length: usize) -> ValueId {
        let mut shape = self.of(x);
        shape[axis] = length;
        self.add(Op::Slice { axis, start }, &[x], &shape)
    }

    pub fn permuted(&mut self, x: ValueId, order: &[usize]) -> ValueId {
        let from = self.of(x);
        let shape: Vec<usize> = order.iter().map(|&axis| from[axis]).collect();
        self.add(Op::Permute { order: order.to_vec() }, &[x], &shape)
    }

    pub fn reshaped(&mut self, x: ValueId, shape: &[usize]) -> ValueId {
        assert_eq!(volume(&self.of(x)), volume(shape));
        self.add(Op::Reshape, &[x], shape)
    }

    pub fn concat_of(&mut self, axis: usize, inputs: &[ValueId]) -> ValueId {
        let mut shape = self.of(inputs[0]);
        shape[axis] = inputs.iter().map(|&input| self.graph.values[input].shape[axis]).sum();
        self.add(Op::Concat { axis }, inputs, &shape)
    }

    pub fn order(&mut self, rank: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..rank).collect();
        (1..rank).rev().for_each(|last| order.swap(last, self.random.below(last + 1)));
        order
    }

    /// A value of this shape that is made of the input without rounding, and lies anyhow.
    pub fn computed(&mut self, shape: &[usize], depth: usize) -> ValueId {
        let rank = shape.len();
        let (axis, how) = (self.below(rank), if depth == 0 { 0 } else { self.below(7) });
        match how {
            1 => {
                let order = self.order(rank);
                let mut from = vec![0; rank];
                order.iter().zip(shape).for_each(|(&axis, &size)| from[axis] = size);
                let x = self.computed(&from, depth - 1);
                self.permuted(x, &order)
            }
            2 => {
                let mut from = shape.to_vec();
                from[axis] += self.size(3);
                let start = self.random.below(from[axis] - shape[axis] + 1);
                let x = self.computed(&from, depth - 1);
                self.slice_of(x, axis, start, shape[axis])
            }
            3 => {
                let x = self.computed(shape, depth - 1);
                self.unary(Unary::Neg, x)
            }
            4 if shape[axis] > 1 => {
                let first = self.size(shape[axis] - 1);
                let parts = [first, shape[axis] - first].map(|length| {
                    let mut shape = shape.to_vec();
                    shape[axis] = length;
                    self.computed(&shape, depth - 1)
                });
                self.concat_of(axis, &parts)
            }
            5 if rank == 4 => {
                let x = self.computed(shape, depth - 1);
                self.add(Op::MaxPool(Window::POINT), &[x], shape)
            }
            6 => {
                let flat = self.computed(&[volume(shape)], depth - 1);
                self.reshaped(flat, shape)
            }
            _ => self.cut(shape),
        }
    }

    /// Values of the input as they come; of more than there are, the greater of one of them and constants.
    fn cut(&mut self, shape: &[usize]) -> ValueId {
        let (input, all) = (self.graph.input, self.of(self.graph.input));
        let flat = if all.len() == 1 { input } else { self.reshaped(input, &[volume(&all)]) };
        let is_large = volume(shape) > volume(&all);
        let count = if is_large { 1 } else { volume(shape) };
        let start = self.below(volume(&all) - count + 1);
        let part = self.slice_of(flat, 0, start, count);
        if !is_large {
            return self.reshaped(part, shape);
        }
        let part = self.reshaped(part, &vec![1; shape.len()]);
        let constant = self.constant(shape, 1.5);
        self.add(Op::Binary(Binary::Max), &[part, constant], shape)
    }

    /// A value of this shape: one there is already, a new one, or a constant.
    pub fn operand(&mut self, shape: &[usize]) -> ValueId {
        let found: Vec<ValueId> =
            (0..self.graph.values.len()).filter(|&value| self.graph.values[value].shape == shape).collect();
        match self.below(4) {
            0 => self.constant(shape, 1.0),
            1 if !found.is_empty() => self.pick(&found),
            _ => self.computed(shape, 2),
        }
    }

    /// As [`Draft::operand`], but surely computed.
    pub fn moving(&mut self, shape: &[usize]) -> ValueId {
        let value = self.operand(shape);
        if self.graph.values[value].constant.is_some() { self.computed(shape, 2) } else { value }
    }

    /// Makes a value an output, as it is or seen through something else.
    pub fn expose(&mut self, x: ValueId) {
        const SEEN: [Kind; 6] = [permute, reshape, slice, concat, permute_back, neg];
        let seen = if self.one_in(2) { None } else { self.pick(&SEEN)(self, x) };
        if self.one_in(4) {
            self.graph.outputs.push(x);
        }
        self.graph.outputs.push(seen.unwrap_or(x));
    }

    pub fn finish(&mut self, shape: &[usize]) -> (Finish, Option<ValueId>) {
        use Activation::{Gelu, HardSwish, None, Relu, Sigmoid, Silu};
        let activation = self.pick(&[None, None, Relu, Silu, HardSwish, Gelu, Sigmoid]);
        let residual = self.pick(&[Residual::None, Residual::None, Residual::Before, Residual::After]);
        let other = (residual != Residual::None).then(|| self.operand(shape));
        (Finish { activation, residual }, other)
    }

    /// A window over a picture and the size of its result; `None` when nothing of the picture lies under some of it and
    /// `is_inside` forbids that.
    pub fn window(&mut self, from: &[usize], is_inside: bool) -> Option<(Window, [usize; 2])> {
        let mut window = Window::POINT;
        let mut to = [1; 2];
        for axis in 0..2 {
            let length = from[2 + axis];
            window.kernel[axis] = self.pick(&[1, 2, 3, 3, 3, 4, 5, 7]);
            window.stride[axis] = self.pick(&[1, 1, 2, 3]);
            window.dilation[axis] = self.pick(&[1, 1, 1, 2]);
            let reach = (window.kernel[axis] - 1) * window.dilation[axis] + 1;
            window.pad[axis] = self.below(reach.min(if is_inside { reach / 2 + 1 } else { reach }));
            let whole = length + window.pad[axis] + self.below(reach / 2 + 1);
            to[axis] = (whole.checked_sub(reach)?) / window.stride[axis] + 1;
            let touches = |at: usize| {
                (0..window.kernel[axis]).any(|tap| {
                    let place = (at * window.stride[axis] + tap * window.dilation[axis]).checked_sub(window.pad[axis]);
                    place.is_some_and(|place| place < length)
                })
            };
            if is_inside && !(0..to[axis]).all(touches) {
                return None;
            }
        }
        Some((window, to))
    }
}

/// Whether an operator adds nothing to what its inputs were rounded by.
fn is_exact(op: &Op) -> bool {
    match op {
        Op::Unary(op) => matches!(op, Unary::Relu | Unary::Neg | Unary::Abs | Unary::Floor),
        Op::Binary(op) => matches!(op, Binary::Max | Binary::Min),
        Op::Reduce { reduce, .. } => matches!(reduce, Reduce::Max | Reduce::Min),
        Op::MaxPool(_) | Op::Upsample { .. } | Op::Broadcast | Op::Concat { .. } => true,
        Op::Top { .. } | Op::Gather { .. } => true,
        op => op.is_view(),
    }
}
