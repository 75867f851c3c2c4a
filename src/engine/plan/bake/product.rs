//! Products of matrices: with weights, which are convolutions of one pixel, and of two computed ones.

use super::Baker;
use super::strided::merged;
use crate::engine::plan::graph::{Finish, Node, Residual, ValueId, Window};
use crate::engine::plan::layout::{Place, c_order};
use crate::engine::plan::steps::{self, Attention, MatMul, Operand, Picture, Step};

/// A place in which a dimension lies together, if it does. A single value leads nowhere, by whichever stride.
fn together(shape: &[usize], axis: usize, place: &Place) -> Option<Place> {
    let mut place = place.clone();
    if shape[axis] == 1 {
        place.strides[axis] = 1;
    }
    (place.strides[axis] == 1).then_some(place)
}

impl Baker<'_> {
    /// A value whose last dimension lies together: as it is, or a copy.
    fn in_last(&mut self, value: ValueId) -> Result<Place, String> {
        let (shape, place) = (self.shape(value).to_vec(), self.in_arena(value)?);
        match together(&shape, shape.len() - 1, &place) {
            Some(place) => Ok(place),
            None => self.copied(&shape, &place, &(0..shape.len()).collect::<Vec<usize>>()),
        }
    }

    /// Where to write a value whose last dimension must lie together; it is copied from there if it does not.
    fn out_last(&mut self, value: ValueId) -> Place {
        let (shape, place) = (self.shape(value).to_vec(), self.place(value));
        together(&shape, shape.len() - 1, &place).unwrap_or_else(|| self.dense(&shape))
    }

    pub(super) fn linear(&mut self, node: &Node, finish: Finish) -> Result<(), String> {
        let weights = self.graph.values[node.inputs[1]].constant.as_ref().ok_or("weights that are not constant")?;
        let bias = self.graph.values[node.inputs[2]].constant.as_ref().ok_or("a bias that is not constant")?;
        let [outputs, depth] = self.shape(node.inputs[1])[..] else { return Err("weights of other than O, C".into()) };
        let bias = |output: usize| if bias.len() == 1 { bias[0] } else { bias[output] };
        let rows = self.shape(node.output).iter().product::<usize>() / outputs;
        let halves = self.takes_halves(node.inputs[0], [rows; 2], weights, outputs);
        let pack = if halves { Self::pack_halves } else { Self::pack };
        let weight = |output: usize, channel: usize, _: usize| weights[output * depth + channel];
        let (packed, sums) = pack(self, outputs, depth, 1, &weight, &bias);
        let adds = finish.residual != Residual::None;
        let from = self.in_last(node.inputs[0])?;
        let to = self.out_last(node.output);
        let residual = if adds { self.in_last(node.inputs[3])? } else { to.clone() };
        let shape = self.shape(node.output).to_vec();
        let outer = shape.len() - 1;
        let (rows, strides) = merged(&shape[..outer], [&to, &from, &residual].map(|place| &place.strides[..outer]));
        // Rows of two dimensions at most; what is beyond is a step each.
        let beyond = rows.len().saturating_sub(2);
        let (height, width) = match rows[beyond..] {
            [width] => (1, width),
            [height, width] => (height, width),
            _ => unreachable!("at least one dimension"),
        };
        for index in 0..rows[..beyond].iter().product() {
            let picture = |place: &Place, which: usize, channels: usize| {
                let strides: &[usize] = &strides[which];
                let (mut offset, mut left) = (self.offset(place), index);
                for axis in (0..beyond).rev() {
                    offset += left % rows[axis] * strides[axis];
                    left /= rows[axis];
                }
                let (row, pixel) = match strides[beyond..] {
                    [row, pixel] => (row, pixel),
                    _ => (0, strides[beyond]),
                };
                Picture { offset, height, width, channels, row, pixel }
            };
            let step = steps::Conv {
                input: picture(&from, 1, depth),
                output: picture(&to, 0, outputs),
                residual: adds.then(|| picture(&residual, 2, outputs)),
                window: Window::POINT,
                finish,
                weights: packed,
                bias: sums,
            };
            if halves { self.push_halves(step) } else { self.push(Step::Conv(step)) }
        }
        self.settle(node.output, &to)
    }

    /// Copies a value to its place from where it was made, if that is another.
    pub(super) fn settle(&mut self, value: ValueId, made: &Place) -> Result<(), String> {
        let place = self.place(value);
        let shape = self.shape(value).to_vec();
        if *made == place { Ok(()) } else { self.copy(&shape, made, &place) }
    }

    /// A product of two values; of which the transposed one is made where that is how the result lies: `(a·b)ᵀ = bᵀ·aᵀ`.
    pub(super) fn matmul(&mut self, node: &Node, scale: f32) -> Result<(), String> {
        let shape = self.shape(node.output).to_vec();
        let batch = shape.len() - 2;
        let place = self.place(node.output);
        let is_turned = shape[batch] > 1 && place.strides[batch] == 1 && place.strides[batch + 1] != 1;
        let [left, right] = if is_turned { [node.inputs[1], node.inputs[0]] } else { [node.inputs[0], node.inputs[1]] };
        let turn = |values: &[usize]| -> Vec<usize> {
            let mut values = values.to_vec();
            if is_turned {
                let last = values.len() - 1;
                values.swap(last - 1, last);
            }
            values
        };
        let (of_a, of_b, shape) = (turn(self.shape(left)), turn(self.shape(right)), turn(&shape));
        let a = self.rows_of(left, is_turned)?;
        let to = if is_turned { place.clone() } else { self.out_last(node.output) };
        let b = if let Some(offset) = self.constant(right) {
            Operand { constant: true, offset, strides: turn(&c_order(self.shape(right))) }
        } else {
            let place = self.place(right);
            self.read(&place, turn(&place.strides))
        };
        let aligned = |strides: &[usize], of: &[usize]| -> Vec<usize> {
            let missing = shape.len() - of.len();
            let stride = |d: usize| if d < missing || of[d - missing] != shape[d] { 0 } else { strides[d - missing] };
            (0..batch).map(stride).collect()
        };
        let to_strides = turn(&to.strides);
        let (of_a_batch, of_b_batch) = (aligned(&a.strides, &of_a), aligned(&b.strides, &of_b));
        let (dims, strides) = merged(&shape[..batch], [&to_strides[..batch], &of_a_batch, &of_b_batch]);
        let with = |which: usize, last: &[usize]| -> Vec<usize> {
            strides[which].iter().copied().chain(last[last.len() - 2..].iter().copied()).collect()
        };
        let step = MatMul {
            batch: dims,
            rows: shape[batch],
            depth: of_a[of_a.len() - 1],
            columns: shape[batch + 1],
            scale,
            a: Operand { strides: with(1, &a.strides), ..a },
            b: Operand { strides: with(2, &b.strides), ..b },
            output: self.written(&to, with(0, &to_strides)),
        };
        self.push(Step::MatMul(step));
        if is_turned { Ok(()) } else { self.settle(node.output, &to) }
    }

    pub(super) fn attention(&mut self, node: &Node, scale: f32) -> Result<(), String> {
        let (shape, batch) = (self.shape(node.output).to_vec(), self.shape(node.output).len() - 2);
        let (of_q, of_k) = (self.shape(node.inputs[0]).to_vec(), self.shape(node.inputs[1]).to_vec());
        let (q, to) = (self.in_last(node.inputs[0])?, self.out_last(node.output));
        let (k, v) = (self.in_arena(node.inputs[1])?, self.in_arena(node.inputs[2])?);
        let places = [&to, &q, &k, &v];
        let (dims, strides) = merged(&shape[..batch], places.map(|place| &place.strides[..batch]));
        let with = |which: usize| -> Vec<usize> {
            strides[which].iter().chain(&places[which].strides[batch..]).copied().collect()
        };
        let operand = |which: usize| self.read(places[which], with(which));
        let step = Attention {
            batch: dims,
            rows: shape[batch],
            depth: of_q[batch + 1],
            keys: of_k[batch + 1],
            columns: shape[batch + 1],
            scale,
            q: operand(1),
            k: operand(2),
            v: operand(3),
            output: self.written(&to, with(0)),
        };
        self.push(Step::Attention(step));
        self.settle(node.output, &to)
    }

    /// A matrix whose rows lie together, or, turned, whose columns do: then it is seen transposed.
    fn rows_of(&mut self, value: ValueId, is_turned: bool) -> Result<Operand, String> {
        if !is_turned {
            let place = self.in_last(value)?;
            return Ok(self.read(&place, place.strides.clone()));
        }
        let shape = self.shape(value).to_vec();
        let rank = shape.len();
        let place = self.in_arena(value)?;
        let mut place = match together(&shape, rank - 2, &place) {
            Some(place) => place,
            None => {
                let order: Vec<usize> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
                self.copied(&shape, &place, &order)?
            }
        };
        place.strides.swap(rank - 2, rank - 1);
        Ok(self.read(&place, place.strides.clone()))
    }
}
