//! Steps over strided values: copies and what works element by element.

use super::Baker;
use crate::engine::plan::graph::{self, Binary, Node, Unary, ValueId};
use crate::engine::plan::layout::{Place, c_order};
use crate::engine::plan::steps::{
    self, BinaryMap, Copy, Expectation, Gather, LayerNorm, Operand, Resample, Softmax, Step, Strided, Top, UnaryMap,
};

/// Dimensions from the farthest apart to the closest together in the first of these strides, with those that lie as one
/// in all of them merged.
pub(super) fn merged(shape: &[usize], strides: &[Vec<usize>]) -> (Vec<usize>, Vec<Vec<usize>>) {
    let mut axes: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] != 1).collect();
    axes.sort_by_key(|&axis| std::cmp::Reverse(strides[0][axis]));
    let mut out = (Vec::<usize>::new(), vec![Vec::<usize>::new(); strides.len()]);
    for axis in axes {
        let joins = !out.0.is_empty()
            && strides.iter().zip(&out.1).all(|(of, merged)| merged.last() == Some(&(of[axis] * shape[axis])));
        if joins {
            *out.0.last_mut().expect("not empty") *= shape[axis];
            out.1.iter_mut().zip(strides).for_each(|(merged, of)| *merged.last_mut().expect("not empty") = of[axis]);
        } else {
            out.0.push(shape[axis]);
            out.1.iter_mut().zip(strides).for_each(|(merged, of)| merged.push(of[axis]));
        }
    }
    if out.0.is_empty() {
        // A single value.
        out = (vec![1], vec![vec![1]; strides.len()]);
    }
    out
}

/// Strides of a value of `shape` read as one of `to`: zero where it is repeated.
fn broadcast(shape: &[usize], strides: &[usize], to: &[usize]) -> Vec<usize> {
    let missing = to.len() - shape.len();
    let stride = |axis: usize| if axis < missing || shape[axis - missing] != to[axis] { 0 } else { strides[axis - missing] };
    (0..to.len()).map(stride).collect()
}

impl Baker<'_> {
    pub(super) fn copy(&mut self, shape: &[usize], from: &Place, to: &Place) -> Result<(), String> {
        let mut axes = shape.iter().zip(from.strides.iter().zip(&to.strides));
        if (from.buffer, from.offset) == (to.buffer, to.offset) && axes.all(|(&length, (a, b))| length == 1 || a == b) {
            // They are there already: only what leads nowhere is called differently.
            return Ok(());
        }
        let input = Operand { constant: false, offset: self.offset(from), strides: from.strides.clone() };
        self.copy_operand(shape, input, to)
    }

    pub(super) fn copy_operand(&mut self, shape: &[usize], from: Operand, to: &Place) -> Result<(), String> {
        let (mut shape, mut strides) = merged(shape, &[to.strides.clone(), from.strides]);
        // What is contiguous in the input comes just before what is in the output.
        let last = shape.len() - 1;
        if let Some(axis) = strides[1][..last].iter().position(|&stride| stride == 1) {
            shape[axis..last].rotate_left(1);
            strides.iter_mut().for_each(|strides| strides[axis..last].rotate_left(1));
        }
        let input = Operand { strides: strides.pop().expect("two"), ..from };
        let output = Strided { offset: self.offset(to), strides: strides.pop().expect("two") };
        self.push(Step::Copy(Copy { shape, input, output }));
        Ok(())
    }

    /// An operand of an element-wise step, seen in the output's dimensions; copied into the output's order if its rows do
    /// not lie as the output's do.
    fn operand(&mut self, value: ValueId, shape: &[usize], to: &Place) -> Result<Operand, String> {
        let own = self.shape(value).to_vec();
        if let Some(offset) = self.constant(value) {
            let strides = broadcast(&own, &c_order(&own), shape);
            return self.in_rows(Operand { constant: true, offset, strides }, shape, to);
        }
        let place = self.place(value);
        let strides = broadcast(&own, &place.strides, shape);
        self.in_rows(Operand { constant: false, offset: self.offset(&place), strides }, shape, to)
    }

    fn in_rows(&mut self, operand: Operand, shape: &[usize], to: &Place) -> Result<Operand, String> {
        let axes = (0..shape.len()).filter(|&axis| shape[axis] != 1);
        let Some(row) = axes.min_by_key(|&axis| to.strides[axis]) else { return Ok(operand) };
        if operand.strides[row] <= 1 {
            return Ok(operand);
        }
        // Only what differs is copied; what is repeated stays so.
        let once: Vec<usize> = (0..shape.len()).map(|d| if operand.strides[d] == 0 { 1 } else { shape[d] }).collect();
        let mut order: Vec<usize> = (0..shape.len()).collect();
        order.sort_by_key(|&axis| std::cmp::Reverse(to.strides[axis]));
        let (mut strides, mut next) = (vec![0; shape.len()], 1);
        for &axis in order.iter().rev() {
            strides[axis] = if once[axis] == 1 { 0 } else { next };
            next *= once[axis];
        }
        let place = Place { buffer: self.temporary(next), offset: 0, strides: strides.clone() };
        self.copy_operand(&once, operand, &place)?;
        Ok(Operand { constant: false, offset: self.offset(&place), strides })
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
        let (rows, mut strides) = merged(&shape, &[target.strides.clone(), input.strides]);
        let input = Operand { strides: strides.pop().expect("two"), ..input };
        let output = Strided { offset: self.offset(&target), strides: strides.pop().expect("two") };
        self.push(Step::Unary(UnaryMap { op, shape: rows, input, output }));
        self.settle(node.output, &target)
    }

    pub(super) fn binary(&mut self, node: &Node, op: Binary) -> Result<(), String> {
        let (shape, to) = (self.shape(node.output).to_vec(), self.place(node.output));
        let target = self.row_target(&shape, &to);
        let a = self.operand(node.inputs[0], &shape, &target)?;
        let b = self.operand(node.inputs[1], &shape, &target)?;
        let (rows, mut strides) = merged(&shape, &[target.strides.clone(), a.strides, b.strides]);
        let b = Operand { strides: strides.pop().expect("three"), ..b };
        let a = Operand { strides: strides.pop().expect("three"), ..a };
        let output = Strided { offset: self.offset(&target), strides: strides.pop().expect("three") };
        self.push(Step::Binary(BinaryMap { op, shape: rows, inputs: [a, b], output }));
        self.settle(node.output, &target)
    }

    /// Rows along one axis, as a step over rows wants them: shape, input, output, and from where to where the result must
    /// be copied when it does not lie in rows.
    fn rows(&mut self, node: &Node, axis: usize) -> Result<(Vec<usize>, Operand, Strided, Option<Place>), String> {
        let (shape, to) = (self.shape(node.output).to_vec(), self.place(node.output));
        let in_rows = |place: &Place| shape[axis] == 1 || place.strides[axis] == 1;
        let last = |shape: &[usize]| -> Vec<usize> {
            (0..shape.len()).filter(|&d| d != axis).chain([axis]).collect()
        };
        let order = last(&shape);
        let dense = |baker: &mut Self| baker.in_order(&shape, &order);
        let from = self.place(node.inputs[0]);
        let from = if in_rows(&from) {
            from
        } else {
            let place = dense(self);
            self.copy(&shape, &from, &place)?;
            place
        };
        let target = if in_rows(&to) { to.clone() } else { dense(self) };
        let pick = |values: &[usize]| -> Vec<usize> { order.iter().map(|&d| values[d]).collect() };
        let (rank, outer) = (shape.len() - 1, pick(&shape));
        let (mut rows, mut strides) = if rank == 0 || outer[..rank].iter().all(|&d| d == 1) {
            (vec![], vec![vec![], vec![]])
        } else {
            merged(&outer[..rank], &[pick(&target.strides)[..rank].to_vec(), pick(&from.strides)[..rank].to_vec()])
        };
        rows.push(shape[axis]);
        strides.iter_mut().for_each(|strides| strides.push(1));
        let input = Operand { constant: false, offset: self.offset(&from), strides: strides.pop().expect("two") };
        let output = Strided { offset: self.offset(&target), strides: strides.pop().expect("two") };
        Ok((rows, input, output, (target != to).then_some(target)))
    }

    pub(super) fn expectation(&mut self, node: &Node, axis: usize) -> Result<(), String> {
        let (own, shape) = (self.shape(node.inputs[0]).to_vec(), self.shape(node.output).to_vec());
        let weights = self.constant(node.inputs[1]).ok_or("weights that are not constant")?;
        let (to, mut from) = (self.place(node.output), self.place(node.inputs[0]));
        if own[axis] > 1 && from.strides[axis] != 1 {
            let order: Vec<usize> = (0..own.len()).filter(|&d| d != axis).chain([axis]).collect();
            let copy = self.in_order(&own, &order);
            self.copy(&own, &from, &copy)?;
            from = copy;
        }
        let (dims, mut strides) = merged(&shape, &[to.strides.clone(), from.strides.clone()]);
        strides[1].push(1);
        let input = Operand { constant: false, offset: self.offset(&from), strides: strides.pop().expect("two") };
        let output = Strided { offset: self.offset(&to), strides: strides.pop().expect("two") };
        self.push(Step::Expectation(Expectation { shape: dims, length: own[axis], input, output, weights }));
        Ok(())
    }

    /// A temporary place whose dimensions lie in this order, outermost first.
    pub(super) fn in_order(&mut self, shape: &[usize], order: &[usize]) -> Place {
        let (mut strides, mut next) = (vec![0; shape.len()], 1);
        for &axis in order.iter().rev() {
            strides[axis] = next;
            next *= shape[axis];
        }
        Place { buffer: self.temporary(next), offset: 0, strides }
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
    fn seen_as(&mut self, value: ValueId, shape: &[usize]) -> Operand {
        let own = self.shape(value).to_vec();
        if let Some(offset) = self.constant(value) {
            return Operand { constant: true, offset, strides: broadcast(&own, &c_order(&own), shape) };
        }
        let place = self.place(value);
        Operand { constant: false, offset: self.offset(&place), strides: broadcast(&own, &place.strides, shape) }
    }

    pub(super) fn reduce(&mut self, node: &Node, reduce: graph::Reduce, axes: &[usize]) -> Result<(), String> {
        let (shape, to) = (self.shape(node.inputs[0]).to_vec(), self.place(node.output));
        if self.graph.values[node.inputs[0]].constant.is_some() {
            return Err("of a constant".into());
        }
        let mut from = self.place(node.inputs[0]);
        let split = |keep: bool| (0..shape.len()).filter(|axis| axes.contains(axis) != keep).collect::<Vec<usize>>();
        let (kept, gone) = (split(true), split(false));
        let pick = |values: &[usize], axes: &[usize]| -> Vec<usize> { axes.iter().map(|&axis| values[axis]).collect() };
        let together = |place: &Place, axes: &[usize]| axes.iter().any(|&d| shape[d] > 1 && place.strides[d] == 1);
        // Rows that stay rows are joined value by value; else the values of rows are joined.
        let row = kept.iter().any(|&d| shape[d] > 1 && from.strides[d] == 1 && to.strides[d] == 1);
        let across = row && reduce != graph::Reduce::Min;
        if !across && !together(&from, &gone) {
            let order: Vec<usize> = kept.iter().chain(&gone).copied().collect();
            let place = self.in_order(&shape, &order);
            self.copy(&shape, &from, &place)?;
            from = place;
        }
        let (stay, mut strides) =
            merged(&pick(&shape, &kept), &[pick(&to.strides, &kept), pick(&from.strides, &kept)]);
        let (go, gone_strides) = merged(&pick(&shape, &gone), &[pick(&from.strides, &gone)]);
        let input = Operand {
            constant: false,
            offset: self.offset(&from),
            strides: strides.pop().expect("two").into_iter().chain(gone_strides.into_iter().flatten()).collect(),
        };
        let output = Strided { offset: self.offset(&to), strides: strides.pop().expect("two") };
        self.push(Step::Reduce(steps::Reduce { reduce, kept: stay, gone: go, input, output, across }));
        Ok(())
    }

    pub(super) fn top(&mut self, node: &Node, axis: usize, largest: bool) -> Result<(), String> {
        let (shape, wanted) = (self.shape(node.inputs[0]).to_vec(), self.shape(node.output)[axis]);
        let input = self.seen_as(node.inputs[0], &shape);
        let to = self.place(node.output);
        let order: Vec<usize> = (0..shape.len()).filter(|&d| d != axis && shape[d] != 1).chain([axis]).collect();
        let pick = |values: &[usize]| -> Vec<usize> { order.iter().map(|&d| values[d]).collect() };
        let outer = pick(&shape)[..order.len() - 1].to_vec();
        let output = Strided { offset: self.offset(&to), strides: pick(&to.strides) };
        let input = Operand { strides: pick(&input.strides), ..input };
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
        let (dims, mut strides) = merged(&shape, &[to.strides.clone(), fixed, places.strides]);
        let places = Operand { strides: strides.pop().expect("three"), ..places };
        let values = Operand { strides: strides.pop().expect("three"), ..values };
        let output = Strided { offset: self.offset(&to), strides: strides.pop().expect("three") };
        self.push(Step::Gather(Gather { shape: dims, length, step, values, places, output }));
        Ok(())
    }

    pub(super) fn resample(&mut self, node: &Node, axis: usize) -> Result<(), String> {
        let (shape, to) = (self.shape(node.output).to_vec(), self.place(node.output));
        let [_, terms] = self.shape(node.inputs[1])[..] else { return Err("a table of other than two dimensions".into()) };
        let (places, weights) = (self.constant(node.inputs[1]), self.constant(node.inputs[2]));
        let (Some(places), Some(weights)) = (places, weights) else { return Err("a table that is not constant".into()) };
        let length = self.shape(node.inputs[0])[axis];
        let from = self.place(node.inputs[0]);
        let mut across = shape.clone();
        across[axis] = 1;
        let target = if (0..shape.len()).any(|d| d != axis && shape[d] > 1 && to.strides[d] == 1) {
            to.clone()
        } else {
            // Another dimension than the axis must lie together.
            let order: Vec<usize> = [axis].into_iter().chain((0..shape.len()).filter(|&d| d != axis)).collect();
            self.in_order(&shape, &order)
        };
        let own = self.shape(node.inputs[0]).to_vec();
        let row = (0..shape.len()).filter(|&d| d != axis && shape[d] > 1).min_by_key(|&d| target.strides[d]);
        let from = if row.is_none_or(|row| from.strides[row] == 1) {
            from
        } else {
            let mut order: Vec<usize> = (0..shape.len()).collect();
            order.sort_by_key(|&d| std::cmp::Reverse(target.strides[d]));
            let place = self.in_order(&own, &order);
            self.copy(&own, &from, &place)?;
            place
        };
        let (dims, mut strides) = merged(&across, &[target.strides.clone(), from.strides.clone()]);
        strides[1].push(from.strides[axis]);
        strides[0].push(target.strides[axis]);
        let input = Operand { constant: false, offset: self.offset(&from), strides: strides.pop().expect("two") };
        let output = Strided { offset: self.offset(&target), strides: strides.pop().expect("two") };
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
        let (from, to) = (self.place(node.inputs[0]), self.place(node.output));
        self.upsample_places(&from, &to, [n, c, h, w], [tall, wide])
    }

    /// From one place to another.
    pub(super) fn upsample_places(&mut self, from: &Place, to: &Place, shape: [usize; 4], factors: [usize; 2]) -> Result<(), String> {
        let ([n, c, h, w], [tall, wide]) = (shape, factors);
        let shape = [n, c, h, tall, w, wide];
        let [a, b, y, x] = from.strides[..] else { return Err("no picture".into()) };
        let input = Operand { constant: false, offset: self.offset(from), strides: vec![a, b, y, 0, x, 0] };
        let [a, b, y, x] = to.strides[..] else { return Err("no picture".into()) };
        let to = Place { strides: vec![a, b, y * tall, y, x * wide, x], ..to.clone() };
        self.copy_operand(&shape, input, &to)
    }
}
