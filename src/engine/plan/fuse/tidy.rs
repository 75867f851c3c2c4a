//! Tidying: nodes that compute nothing, constants in their place, views before what they are views of.

use super::Fusion;
use crate::engine::plan::graph::{Binary, Op, ValueId};
use crate::engine::plan::reference;

impl Fusion {
    /// `c + x` is `x + c`.
    pub(super) fn constant_last(&mut self, index: usize) -> Option<()> {
        let (&Op::Binary(op), &[a, b]) = self.node(index) else { return None };
        let commutes = matches!(op, Binary::Add | Binary::Mul | Binary::Max | Binary::Min);
        if !commutes || self.known(a).is_none() || self.known(b).is_some() {
            return None;
        }
        self.graph.nodes[index].inputs = vec![b, a];
        Some(())
    }

    /// What changes nothing.
    pub(super) fn nothing(&mut self, index: usize) -> Option<()> {
        let (op, inputs) = self.node(index);
        let x = inputs[0];
        let all = |wanted: f32| self.known(inputs[1]).is_some_and(|data| data.iter().all(|&value| value == wanted));
        let is_nothing = match op {
            Op::Permute { order } => order.iter().enumerate().all(|(index, &axis)| index == axis),
            Op::Reshape | Op::Broadcast | Op::Slice { .. } => true,
            Op::Concat { .. } => inputs.len() == 1,
            Op::Binary(Binary::Add | Binary::Sub) => all(0.0),
            Op::Binary(Binary::Mul | Binary::Div) => all(1.0),
            _ => false,
        };
        if !is_nothing || self.shape(x) != self.result(index) {
            return None;
        }
        self.forward(index, x)
    }

    /// A view of a view of the same kind.
    pub(super) fn views(&mut self, index: usize) -> Option<()> {
        let (op, &[x]) = self.node(index) else { return None };
        let (inner, &[source]) = self.made(x)? else { return None };
        let op = match (op, inner) {
            (Op::Reshape, Op::Reshape) => Op::Reshape,
            (Op::Permute { order }, Op::Permute { order: inner }) => {
                Op::Permute { order: order.iter().map(|&axis| inner[axis]).collect() }
            }
            (&Op::Slice { axis, start }, &Op::Slice { axis: inner, start: before }) if axis == inner => {
                Op::Slice { axis, start: before + start }
            }
            _ => return None,
        };
        self.replace(index, op, vec![source]);
        Some(())
    }

    /// A permutation that only moves dimensions of 1.
    pub(super) fn moved_ones(&mut self, index: usize) -> Option<()> {
        let (Op::Permute { order }, &[x]) = self.node(index) else { return None };
        let longer: Vec<usize> = order.iter().copied().filter(|&axis| self.shape(x)[axis] != 1).collect();
        if !longer.is_sorted() {
            return None;
        }
        self.replace(index, Op::Reshape, vec![x]);
        Some(())
    }

    /// A slice of what was broadcast along other axes is a slice broadcast.
    pub(super) fn slice_first(&mut self, index: usize) -> Option<()> {
        let (&Op::Slice { axis, start }, &[x]) = self.node(index) else { return None };
        let (Op::Broadcast, &[source]) = self.made(x)? else { return None };
        if self.shape(source)[axis] != self.shape(x)[axis] {
            return None;
        }
        let mut shape = self.shape(source).to_vec();
        shape[axis] = self.result(index)[axis];
        let slice = self.insert(index, Op::Slice { axis, start }, vec![source], &shape);
        self.replace(index + 1, Op::Broadcast, vec![slice]);
        Some(())
    }

    /// Of `x` and a constant, a part along an axis where `x` has length 1 is `x` and that part of the constant.
    pub(super) fn constant_sliced(&mut self, index: usize) -> Option<()> {
        let (op, inputs) = self.node(index);
        let (&Op::Slice { axis, .. } | &Op::Gather { axis }) = op else { return None };
        let (&Op::Binary(binary), &[x, constant]) = self.made(inputs[0])? else { return None };
        let places = match inputs.get(1) {
            Some(&places) => Some((self.known(places)?, self.shape(places))),
            None => None,
        };
        if self.shape(x)[axis] != 1 || self.shape(constant)[axis] == 1 {
            return None;
        }
        // Places may be as long as the constant, or longer, where it has length 1.
        let mut shape = self.shape(constant).to_vec();
        if let Some((_, places)) = places {
            shape.iter_mut().zip(places).for_each(|(size, &places)| *size = places.max(*size));
        }
        shape[axis] = self.result(index)[axis];
        let views: Vec<_> =
            [Some((self.known(constant)?, self.shape(constant))), places].into_iter().flatten().collect();
        let part = reference::apply(op, &views, &shape);
        let part = self.constant(&shape, part, constant);
        self.replace(index, Op::Binary(binary), vec![x, part]);
        Some(())
    }

    /// A product with weights does not mind how what is before its last dimension is cut; so a reshape that leaves
    /// that one alone goes before it, where it meets another, and lets the product meet what is added to it.
    pub(super) fn reshape_first(&mut self, index: usize) -> Option<()> {
        let (Op::Reshape, &[product]) = self.node(index) else { return None };
        let (&Op::Linear(finish), &[x, weights, bias]) = self.sole(product)? else { return None };
        // Only a reshape, or what lies as it was made, is sure to be looked at differently without a copy.
        let is_free = self.made(x).is_none_or(|(op, _)| !op.is_view() || *op == Op::Reshape);
        if !is_free || self.shape(product).last() != self.result(index).last() {
            return None;
        }
        let mut shape = self.result(index).to_vec();
        *shape.last_mut()? = *self.shape(x).last()?;
        let x = self.insert(index, Op::Reshape, vec![x], &shape);
        self.replace(index + 1, Op::Linear(finish), vec![x, weights, bias]);
        Some(())
    }

    /// Concatenations of concatenations.
    pub(super) fn nested_concat(&mut self, index: usize) -> Option<()> {
        let (&Op::Concat { axis }, inputs) = self.node(index) else { return None };
        let nested = |value: ValueId| match self.sole(value) {
            Some((&Op::Concat { axis: inner }, inputs)) if inner == axis => inputs.to_vec(),
            _ => vec![value],
        };
        let flat: Vec<ValueId> = inputs.iter().flat_map(|&input| nested(input)).collect();
        if flat.len() == inputs.len() {
            return None;
        }
        self.replace(index, Op::Concat { axis }, flat);
        Some(())
    }

    /// What reads by broadcasting needs nothing broadcast for it.
    pub(super) fn broadcast(&mut self, index: usize) -> Option<()> {
        let (op, inputs) = self.node(index);
        let &[a, b] = inputs else { return None };
        if !matches!(op, Op::Binary(_) | Op::Gather { .. }) {
            return None;
        }
        let along = |side: usize, axis: usize| !matches!(op, Op::Gather { axis: along } if *along == axis) || side == 1;
        for (side, value, other) in [(0, a, b), (1, b, a)] {
            let Some((Op::Broadcast, &[source])) = self.made(value) else { continue };
            let is_covered = (0..self.result(index).len()).all(|axis| {
                let (size, from) = (self.result(index)[axis], self.shape(source)[axis]);
                match op {
                    Op::Gather { axis: along } if *along == axis => from == self.shape(value)[axis],
                    _ => from == size || (self.shape(other)[axis] == size && along(1 - side, axis)),
                }
            });
            if is_covered {
                let (op, mut inputs) = (op.clone(), vec![a, b]);
                inputs[side] = source;
                self.replace(index, op, inputs);
                return Some(());
            }
        }
        None
    }
}
