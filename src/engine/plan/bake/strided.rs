//! Steps over strided values: copies and what works element by element.

use super::Baker;
use crate::engine::plan::graph::{self, Binary, Node, Unary, ValueId};
use crate::engine::plan::layout::{Place, c_order, dense};
use crate::engine::plan::steps::{
    self, BinaryMap, Copy, Expectation, Gather, LayerNorm, Operand, Resample, Softmax, Step, Strided, Top, UnaryMap,
};

/// Dimensions from the farthest apart to the closest together in the first of these strides, with those that lie as one
/// in all of them merged.
pub(super) fn merged<const N: usize>(shape: &[usize], strides: [&[usize]; N]) -> (Vec<usize>, [Vec<usize>; N]) {
    let mut axes: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] != 1).collect();
    axes.sort_by_key(|&axis| std::cmp::Reverse(strides[0][axis]));
    let (mut lengths, mut out): (Vec<usize>, [Vec<usize>; N]) = (Vec::new(), std::array::from_fn(|_| Vec::new()));
    for axis in axes {
        let outer = |merged: &[usize]| merged.last().copied();
        let joins = strides.iter().zip(&out).all(|(of, merged)| outer(merged) == Some(of[axis] * shape[axis]));
        match lengths.last_mut() {
            Some(length) if joins => *length *= shape[axis],
            _ => lengths.push(shape[axis]),
        }
        for (merged, of) in out.iter_mut().zip(strides) {
            merged.truncate(lengths.len() - 1);
            merged.push(of[axis]);
        }
    }
    if lengths.is_empty() {
        // A single value.
        return (vec![1], std::array::from_fn(|_| vec![1]));
    }
    (lengths, out)
}

/// These of some values, in this order.
fn pick(values: &[usize], order: &[usize]) -> Vec<usize> {
    order.iter().map(|&axis| values[axis]).collect()
}

/// All dimensions in their order, but one last.
fn with_last(rank: usize, axis: usize) -> Vec<usize> {
    (0..rank).filter(|&d| d != axis).chain([axis]).collect()
}

/// Strides of a value of `shape` read as one of `to`: zero where it is repeated.
fn broadcast(shape: &[usize], strides: &[usize], to: &[usize]) -> Vec<usize> {
    let missing = to.len() - shape.len();
    let stride =
        |axis: usize| if axis < missing || shape[axis - missing] != to[axis] { 0 } else { strides[axis - missing] };
    (0..to.len()).map(stride).collect()
}

impl Baker<'_> {
    pub(super) fn copy(&mut self, shape: &[usize], from: &Place, to: &Place) -> Result<(), String> {
        let mut axes = shape.iter().zip(from.strides.iter().zip(&to.strides));
        if (from.buffer, from.offset) == (to.buffer, to.offset) && axes.all(|(&length, (a, b))| length == 1 || a == b) {
            // They are there already: only what leads nowhere is called differently.
            return Ok(());
        }
        let input = self.read(from, from.strides.clone());
        self.copy_operand(shape, input, to)
    }

    /// What lies at a place, by these strides.
    pub(super) fn read(&self, place: &Place, strides: Vec<usize>) -> Operand {
        Operand { constant: false, offset: self.offset(place), strides }
    }

    /// What is written to a place, by these strides.
    pub(super) fn written(&self, place: &Place, strides: Vec<usize>) -> Strided {
        Strided { offset: self.offset(place), strides }
    }

    /// A temporary place whose dimensions lie in this order, outermost first.
    pub(super) fn in_order(&mut self, shape: &[usize], order: &[usize]) -> Place {
        let strides = dense(shape, order.iter().copied());
        Place { buffer: self.temporary(shape.iter().product()), offset: 0, strides }
    }

    /// A copy whose dimensions lie in this order, outermost first.
    pub(super) fn copied(&mut self, shape: &[usize], from: &Place, order: &[usize]) -> Result<Place, String> {
        let place = self.in_order(shape, order);
        self.copy(shape, from, &place)?;
        Ok(place)
    }

    pub(super) fn copy_operand(&mut self, shape: &[usize], from: Operand, to: &Place) -> Result<(), String> {
        let (mut shape, [mut by, mut read]) = merged(shape, [&to.strides, &from.strides]);
        // What is contiguous in the input comes just before what is in the output.
        let last = shape.len() - 1;
        if let Some(axis) = read[..last].iter().position(|&stride| stride == 1) {
            [&mut shape, &mut by, &mut read].into_iter().for_each(|values| values[axis..last].rotate_left(1));
        }
        let (input, output) = (Operand { strides: read, ..from }, self.written(to, by));
        self.push(Step::Copy(Copy { shape, input, output }));
        Ok(())
    }

    /// An operand of an element-wise step, seen in the output's dimensions; copied into the output's order if its rows do
    /// not lie as the output's do.
    fn operand(&mut self, value: ValueId, shape: &[usize], to: &Place) -> Result<Operand, String> {
        let operand = self.seen_as(value, shape);
        let axes = (0..shape.len()).filter(|&axis| shape[axis] != 1);
        let Some(row) = axes.min_by_key(|&axis| to.strides[axis]) else { return Ok(operand) };
        if operand.strides[row] <= 1 {
            return Ok(operand);
        }
        // Only what differs is copied; what is repeated stays so.
        let once: Vec<usize> = (0..shape.len()).map(|d| if operand.strides[d] == 0 { 1 } else { shape[d] }).collect();
        let mut order: Vec<usize> = (0..shape.len()).collect();
        order.sort_by_key(|&axis| std::cmp::Reverse(to.strides[axis]));
        let mut place = self.in_order(&once, &order);
        place.strides.iter_mut().zip(&once).filter(|(_, length)| **length == 1).for_each(|(stride, _)| *stride = 0);
        self.copy_operand(&once, operand, &place)?;
        Ok(self.read(&place, place.strides.clone()))
    }

    /// Where an element-wise step writes: the output, or, when the output is not contiguous along any dimension, a place
    /// from which it is copied.
    fn row_target(&mut self, shape: &[usize], to: &Place) -> Place {
        if (0..shape.len()).any(|axis| shape[axis] != 1 && to.strides[axis] == 1) || shape.iter().all(|&d| d == 1) {
            return to.clone();
        }
        self.dense(shape)
    }

    pub(super) fn unary(&mut self, node: &Node, op: Unary) -> Result<(), String> {
        let (shape, to) = (self.shape(node.output).to_vec(), self.place(node.output));
        let target = self.row_target(&shape, &to);
        let input = self.operand(node.inputs[0], &shape, &target)?;
        let (rows, [to, read]) = merged(&shape, [&target.strides, &input.strides]);
        let (input, output) = (Operand { strides: read, ..input }, self.written(&target, to));
        self.push(Step::Unary(UnaryMap { op, shape: rows, input, output }));
        self.settle(node.output, &target)
    }

    pub(super) fn binary(&mut self, node: &Node, op: Binary) -> Result<(), String> {
        let (shape, to) = (self.shape(node.output).to_vec(), self.place(node.output));
        let target = self.row_target(&shape, &to);
        let a = self.operand(node.inputs[0], &shape, &target)?;
        let b = self.operand(node.inputs[1], &shape, &target)?;
        let (rows, [to, of_a, of_b]) = merged(&shape, [&target.strides, &a.strides, &b.strides]);
        let inputs = [Operand { strides: of_a, ..a }, Operand { strides: of_b, ..b }];
        let output = self.written(&target, to);
        self.push(Step::Binary(BinaryMap { op, shape: rows, inputs, output }));
        self.settle(node.output, &target)
    }

    /// Rows along one axis, as a step over rows wants them: shape, input, output, and from where the result must be copied
    /// when its place does not lie in rows.
    fn rows(&mut self, node: &Node, axis: usize) -> Result<(Vec<usize>, Operand, Strided, Option<Place>), String> {
        let (shape, to) = (self.shape(node.output).to_vec(), self.place(node.output));
        let in_rows = |place: &Place| shape[axis] == 1 || place.strides[axis] == 1;
        let order = with_last(shape.len(), axis);
        let mut from = self.in_arena(node.inputs[0])?;
        if !in_rows(&from) {
            from = self.copied(&shape, &from, &order)?;
        }
        let target = if in_rows(&to) { to.clone() } else { self.in_order(&shape, &order) };
        let outer = &order[..shape.len() - 1];
        let of_outer = [&target, &from].map(|place| pick(&place.strides, outer));
        let (mut rows, [mut by, mut read]) = merged(&pick(&shape, outer), [&of_outer[0], &of_outer[1]]);
        rows.push(shape[axis]);
        by.push(1);
        read.push(1);
        let (input, output) = (self.read(&from, read), self.written(&target, by));
        Ok((rows, input, output, (target != to).then_some(target)))
    }

    pub(super) fn expectation(&mut self, node: &Node, axis: usize) -> Result<(), String> {
        let (own, shape) = (self.shape(node.inputs[0]).to_vec(), self.shape(node.output).to_vec());
        let weights = self.constant(node.inputs[1]).ok_or("weights that are not constant")?;
        let (to, mut from) = (self.place(node.output), self.in_arena(node.inputs[0])?);
        if own[axis] > 1 && from.strides[axis] != 1 {
            from = self.copied(&own, &from, &with_last(own.len(), axis))?;
        }
        let (dims, [by, mut read]) = merged(&shape, [&to.strides, &from.strides]);
        read.push(1);
        let (input, output) = (self.read(&from, read), self.written(&to, by));
        self.push(Step::Expectation(Expectation { shape: dims, length: own[axis], input, output, weights }));
        Ok(())
    }

    pub(super) fn layer_norm(&mut self, node: &Node, epsilon: f32) -> Result<(), String> {
        let axis = self.shape(node.output).len() - 1;
        let (shape, input, output, copied) = self.rows(node, axis)?;
        let scale = self.constant(node.inputs[1]).ok_or("a scale that is not constant")?;
        let bias = self.constant(node.inputs[2]).ok_or("a shift that is not constant")?;
        self.push(Step::LayerNorm(LayerNorm { shape, input, output, epsilon, scale, bias }));
        copied.map_or(Ok(()), |from| self.settle(node.output, &from))
    }

    /// A value repeated along the dimensions in which it is 1.
    pub(super) fn repeat(&mut self, node: &Node) -> Result<(), String> {
        let (shape, to) = (self.shape(node.output).to_vec(), self.place(node.output));
        let input = self.seen_as(node.inputs[0], &shape);
        self.copy_operand(&shape, input, &to)
    }

    /// A value in the dimensions of another, where it is.
    pub(super) fn seen_as(&mut self, value: ValueId, shape: &[usize]) -> Operand {
        let own = self.shape(value).to_vec();
        if let Some(offset) = self.constant(value) {
            return Operand { constant: true, offset, strides: broadcast(&own, &c_order(&own), shape) };
        }
        let place = self.place(value);
        self.read(&place, broadcast(&own, &place.strides, shape))
    }

    pub(super) fn reduce(&mut self, node: &Node, reduce: graph::Reduce, axes: &[usize]) -> Result<(), String> {
        let (shape, to) = (self.shape(node.inputs[0]).to_vec(), self.place(node.output));
        let mut from = self.in_arena(node.inputs[0])?;
        let split = |keep: bool| (0..shape.len()).filter(|axis| axes.contains(axis) != keep).collect::<Vec<usize>>();
        let (kept, gone) = (split(true), split(false));
        let together = |place: &Place, axes: &[usize]| axes.iter().any(|&d| shape[d] > 1 && place.strides[d] == 1);
        // Rows that stay rows are joined value by value; else the values of rows are joined.
        let row = kept.iter().any(|&d| shape[d] > 1 && from.strides[d] == 1 && to.strides[d] == 1);
        let joined: usize = pick(&shape, &gone).iter().product();
        let across = row && reduce != graph::Reduce::Min && joined <= steps::Reduce::ROWS_MAX;
        if !across && !together(&from, &gone) {
            let order: Vec<usize> = kept.iter().chain(&gone).copied().collect();
            from = self.copied(&shape, &from, &order)?;
        }
        let of_kept = [&to, &from].map(|place| pick(&place.strides, &kept));
        let (stay, [by, read]) = merged(&pick(&shape, &kept), [&of_kept[0], &of_kept[1]]);
        let (go, [read_gone]) = merged(&pick(&shape, &gone), [&pick(&from.strides, &gone)]);
        let (input, output) = (self.read(&from, [read, read_gone].concat()), self.written(&to, by));
        self.push(Step::Reduce(steps::Reduce { reduce, kept: stay, gone: go, input, output, across }));
        Ok(())
    }

    pub(super) fn top(&mut self, node: &Node, axis: usize, largest: bool) -> Result<(), String> {
        let (shape, wanted) = (self.shape(node.inputs[0]).to_vec(), self.shape(node.output)[axis]);
        let input = self.seen_as(node.inputs[0], &shape);
        let to = self.place(node.output);
        let order: Vec<usize> = (0..shape.len()).filter(|&d| d != axis && shape[d] != 1).chain([axis]).collect();
        let outer = pick(&shape, &order[..order.len() - 1]);
        let output = self.written(&to, pick(&to.strides, &order));
        let input = Operand { strides: pick(&input.strides, &order), ..input };
        self.push(Step::Top(Top { outer, length: shape[axis], wanted, largest, input, output }));
        Ok(())
    }

    pub(super) fn gather(&mut self, node: &Node, axis: usize) -> Result<(), String> {
        let (shape, to) = (self.shape(node.output).to_vec(), self.place(node.output));
        let length = self.shape(node.inputs[0])[axis];
        // Along the axis the values have their own length.
        let values = self.seen_as(node.inputs[0], &{
            let mut shape = shape.clone();
            shape[axis] = length;
            shape
        });
        let places = self.seen_as(node.inputs[1], &shape);
        let step = values.strides[axis];
        let mut fixed = values.strides.clone();
        fixed[axis] = 0;
        let (dims, [by, of_values, of_places]) = merged(&shape, [&to.strides, &fixed, &places.strides]);
        let places = Operand { strides: of_places, ..places };
        let values = Operand { strides: of_values, ..values };
        let output = self.written(&to, by);
        self.push(Step::Gather(Gather { shape: dims, length, step, values, places, output }));
        Ok(())
    }

    pub(super) fn resample(&mut self, node: &Node, axis: usize) -> Result<(), String> {
        let (shape, to) = (self.shape(node.output).to_vec(), self.place(node.output));
        let [_, terms] = self.shape(node.inputs[1])[..] else {
            return Err("a table of other than two dimensions".into());
        };
        let (places, weights) = (self.constant(node.inputs[1]), self.constant(node.inputs[2]));
        let (Some(places), Some(weights)) = (places, weights) else {
            return Err("a table that is not constant".into());
        };
        let length = self.shape(node.inputs[0])[axis];
        let mut from = self.in_arena(node.inputs[0])?;
        let mut across = shape.clone();
        across[axis] = 1;
        let target = if (0..shape.len()).any(|d| d != axis && shape[d] > 1 && to.strides[d] == 1) {
            to.clone()
        } else {
            // Another dimension than the axis must lie together.
            let order: Vec<usize> = [axis].into_iter().chain((0..shape.len()).filter(|&d| d != axis)).collect();
            self.in_order(&shape, &order)
        };
        let row = (0..shape.len()).filter(|&d| d != axis && shape[d] > 1).min_by_key(|&d| target.strides[d]);
        if row.is_some_and(|row| from.strides[row] != 1) {
            // A result of length 1 along the axis may have any stride there; what it is made of must not come last.
            let mut order: Vec<usize> = (0..shape.len()).collect();
            order.sort_by_key(|&d| (Some(d) == row, std::cmp::Reverse(target.strides[d])));
            let own = self.shape(node.inputs[0]).to_vec();
            from = self.copied(&own, &from, &order)?;
        }
        let (dims, [mut by, mut read]) = merged(&across, [&target.strides, &from.strides]);
        by.push(target.strides[axis]);
        read.push(from.strides[axis]);
        let (input, output) = (self.read(&from, read), self.written(&target, by));
        let results = shape[axis];
        self.push(Step::Resample(Resample { shape: dims, results, length, terms, input, output, places, weights }));
        self.settle(node.output, &target)
    }

    pub(super) fn softmax(&mut self, node: &Node, axis: usize) -> Result<(), String> {
        let (shape, input, output, copied) = self.rows(node, axis)?;
        self.push(Step::Softmax(Softmax { shape, input, output }));
        copied.map_or(Ok(()), |from| self.settle(node.output, &from))
    }

    /// Each pixel read as often as it is repeated.
    pub(super) fn upsample(&mut self, node: &Node, [tall, wide]: [usize; 2]) -> Result<(), String> {
        let [n, c, h, w] = self.shape(node.inputs[0])[..] else { return Err("no picture".into()) };
        let (from, to) = (self.in_arena(node.inputs[0])?, self.place(node.output));
        self.upsample_places(&from, &to, [n, c, h, w], [tall, wide])
    }

    /// From one place to another.
    pub(super) fn upsample_places(
        &mut self,
        from: &Place,
        to: &Place,
        [n, c, h, w]: [usize; 4],
        [tall, wide]: [usize; 2],
    ) -> Result<(), String> {
        let shape = [n, c, h, tall, w, wide];
        let [a, b, y, x] = from.strides[..] else { return Err("no picture".into()) };
        let input = self.read(from, vec![a, b, y, 0, x, 0]);
        let [a, b, y, x] = to.strides[..] else { return Err("no picture".into()) };
        let to = Place { strides: vec![a, b, y * tall, y, x * wide, x], ..to.clone() };
        self.copy_operand(&shape, input, &to)
    }
}
