//! Steps over strided values: copies and what works element by element.

use super::Baker;
use crate::engine::plan::graph::{Binary, Node, Unary, ValueId};
use crate::engine::plan::layout::{Place, c_order};
use crate::engine::plan::steps::{BinaryMap, Copy, Operand, Softmax, Step, Strided, UnaryMap};

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
        let (shape, mut strides) = merged(shape, &[to.strides.clone(), from.strides]);
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
        if target == to { Ok(()) } else { self.copy(&shape, &target, &to) }
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
        if target == to { Ok(()) } else { self.copy(&shape, &target, &to) }
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
        let dense = |baker: &mut Self| {
            let (mut strides, mut next) = (vec![0; shape.len()], 1);
            for &d in order.iter().rev() {
                strides[d] = next;
                next *= shape[d];
            }
            Place { buffer: baker.temporary(next), offset: 0, strides }
        };
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

    pub(super) fn softmax(&mut self, node: &Node, axis: usize) -> Result<(), String> {
        let (shape, input, output, copied) = self.rows(node, axis)?;
        self.push(Step::Softmax(Softmax { shape, input, output }));
        match copied {
            Some(from) => self.copy(&self.shape(node.output).to_vec(), &from, &self.place(node.output)),
            None => Ok(()),
        }
    }

    /// Each pixel read as often as it is repeated.
    pub(super) fn upsample(&mut self, node: &Node, [tall, wide]: [usize; 2]) -> Result<(), String> {
        let [n, c, h, w] = self.shape(node.inputs[0])[..] else { return Err("no picture".into()) };
        let (from, to) = (self.place(node.inputs[0]), self.place(node.output));
        let shape = [n, c, h, tall, w, wide];
        let [a, b, y, x] = from.strides[..] else { return Err("no picture".into()) };
        let input = Operand { constant: false, offset: self.offset(&from), strides: vec![a, b, y, 0, x, 0] };
        let [a, b, y, x] = to.strides[..] else { return Err("no picture".into()) };
        let to = Place { strides: vec![a, b, y * tall, y, x * wide, x], ..to };
        self.copy_operand(&shape, input, &to)
    }
}
