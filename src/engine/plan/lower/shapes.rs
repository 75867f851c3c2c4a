//! What only moves values: views, slices, concatenations, padding, gathering, sorting.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::{
    Gather, GatherElements, MultiBroadcastTo, Pad, PadMode, Slice, StridedSlice, Tile, Topk, TypedConcat,
};
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::nn::NearestUpsample;
use tract_onnx::tract_core::ops::nn::resize::Resize;
use tract_onnx::tract_hir::internal::{DimLike, ToDim};

use super::{Lowering, Unsupported, describe, last};
use crate::engine::plan::graph::{Op, ValueId};

/// The makers of views; each leaves out what changes nothing.
impl Lowering<'_> {
    pub(super) fn reshape(&mut self, name: &str, x: ValueId, shape: &[usize]) -> ValueId {
        // A second look at the same values needs no first one; so too many dimensions on the way do no harm.
        let maker = self.graph.nodes.iter().rev().find(|node| node.output == x).filter(|node| node.op == Op::Reshape);
        let x = maker.map_or(x, |node| node.inputs[0]);
        if self.of(x) == shape { x } else { self.emit(name, Op::Reshape, &[x], shape) }
    }

    pub(super) fn permute(&mut self, name: &str, x: ValueId, order: &[usize]) -> ValueId {
        if order.iter().enumerate().all(|(index, &axis)| index == axis) {
            return x;
        }
        let shape: Vec<usize> = order.iter().map(|&axis| self.of(x)[axis]).collect();
        self.emit(name, Op::Permute { order: order.to_vec() }, &[x], &shape)
    }

    pub(super) fn slice(&mut self, name: &str, x: ValueId, axis: usize, start: usize, length: usize) -> ValueId {
        let mut shape = self.of(x).to_vec();
        if shape[axis] == length {
            return x;
        }
        shape[axis] = length;
        self.emit(name, Op::Slice { axis, start }, &[x], &shape)
    }

    pub(super) fn broadcast(&mut self, name: &str, x: ValueId, shape: &[usize]) -> Result<ValueId, Unsupported> {
        let from = self.of(x);
        if from.len() != shape.len() || from.iter().zip(shape).any(|(from, to)| from != to && *from != 1) {
            return Err(format!("{from:?} cannot become {shape:?}"));
        }
        if from == shape {
            return Ok(x);
        }
        let result = self.emit(name, Op::Broadcast, &[x], shape);
        self.moved_range(result, &[x])
    }

    /// The values at constant places along an axis.
    fn pick(&mut self, name: &str, x: ValueId, axis: usize, places: &[usize]) -> ValueId {
        let is_run = places.windows(2).all(|pair| pair[1] == pair[0] + 1);
        if let (true, Some(&start)) = (is_run, places.first()) {
            return self.slice(name, x, axis, start, places.len());
        }
        let mut shape = self.of(x).to_vec();
        let mut table = vec![1; shape.len()];
        (shape[axis], table[axis]) = (places.len(), places.len());
        #[expect(clippy::cast_precision_loss, reason = "no dimension is near 2^24")]
        let places = places.iter().map(|&place| place as f32).collect();
        let places = self.constant(name, &table, places);
        self.emit(name, Op::Gather { axis }, &[x, places], &shape)
    }
}

impl Lowering<'_> {
    /// The results of an operator of this room, if it is one.
    pub(super) fn moved(&mut self, node: &TypedNode, shape: &[usize]) -> Result<Option<Vec<ValueId>>, Unsupported> {
        let name = node.name.as_str();
        if let Some(top) = node.op_as::<Topk>() {
            return self.sorted(node, top, shape).map(Some);
        }
        if node.op_is::<TypedConcat>() {
            let inputs = self.inputs(node)?;
            let axis = node.op_as::<TypedConcat>().map_or(0, |concat| concat.axis);
            let result = self.emit(name, Op::Concat { axis }, &inputs, shape);
            return self.moved_range(result, &inputs).map(|result| Some(vec![result]));
        }
        if let Some(gather) = node.op_as::<Gather>() {
            return self.gathered(node, gather, shape).map(|result| Some(vec![result]));
        }
        if let Some(gather) = node.op_as::<GatherElements>() {
            return self.gathered_elements(node, gather.axis, shape).map(|result| Some(vec![result]));
        }
        if !is_of_one(node) {
            return Ok(None);
        }
        let x = self.first(node)?;
        let result = if let Some(axis) = node.op_as::<AxisOp>() {
            match axis {
                AxisOp::Move(from, to) => {
                    let mut order: Vec<usize> = (0..shape.len()).filter(|dimension| dimension != from).collect();
                    order.insert(*to, *from);
                    self.permute(name, x, &order)
                }
                _ => self.reshape(name, x, shape),
            }
        } else if let Some(slice) = node.op_as::<Slice>() {
            let start = slice.start.to_usize().map_err(describe)?;
            self.slice(name, x, slice.axis, start, shape[slice.axis])
        } else if let Some(slice) = node.op_as::<StridedSlice>() {
            self.strided(slice, node, x, shape)?
        } else if node.op_is::<MultiBroadcastTo>() {
            self.broadcast(name, x, shape)?
        } else if let Some(tile) = node.op_as::<Tile>() {
            let times = tile.multipliers.iter().map(|times| times.to_usize().map_err(describe));
            self.tiled(name, x, &times.collect::<Result<Vec<_>, _>>()?)?
        } else if let Some(pad) = node.op_as::<Pad>() {
            self.padded(name, x, pad)?
        } else if let Some(upsample) = node.op_as::<NearestUpsample>() {
            let [1, 1, height, width] = upsample.scales[..] else { return Err(format!("by {:?}", upsample.scales)) };
            self.emit(name, Op::Upsample { height, width }, &[x], shape)
        } else if let Some(resize) = node.op_as::<Resize>() {
            self.resized(node, resize, x, shape)?
        } else {
            return Ok(None);
        };
        self.moved_range(result, &[x]).map(|result| Some(vec![result]))
    }

    fn strided(
        &mut self,
        slice: &StridedSlice,
        node: &TypedNode,
        mut x: ValueId,
        to: &[usize],
    ) -> Result<ValueId, Unsupported> {
        let from = self.of(x).to_vec();
        let rank = i32::try_from(from.len()).map_err(describe)?;
        if slice.shrink_axis_mask != 0 {
            return Err("removes dimensions".into());
        }
        let (begin, end) = (self.konst(node.inputs[1])?, self.konst(node.inputs[2])?);
        let numbers = |index: Option<usize>| -> Result<Option<Vec<i32>>, Unsupported> {
            let Some(index) = index else { return Ok(None) };
            let tensor = self.konst(node.inputs[index])?;
            let tensor = tensor.cast_to::<i32>().map_err(describe)?;
            Ok(Some(tensor.to_plain_array_view::<i32>().map_err(describe)?.iter().copied().collect()))
        };
        let steps = numbers(slice.optional_steps_input)?.unwrap_or_default();
        let axes = numbers(slice.optional_axes_input)?.unwrap_or_else(|| (0..rank).collect());
        for (index, axis) in axes.into_iter().enumerate() {
            let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).map_err(describe)?;
            let dim = slice.prepare_one_dim(index, &from[axis].to_dim(), &begin, &end, &steps).map_err(describe)?;
            let start = dim.begin.to_i64().map_err(describe)?;
            let places = (0..to[axis]).map(|at| {
                let place = i64::try_from(at).map_err(describe)? * i64::from(dim.stride) + start;
                usize::try_from(place).ok().filter(|&place| place < from[axis]).ok_or("reads outside".to_owned())
            });
            let places = places.collect::<Result<Vec<_>, _>>()?;
            x = self.pick(&node.name, x, axis, &places);
        }
        Ok(x)
    }

    /// Each dimension repeated as a whole: a new dimension before it, made longer, and both seen as one.
    fn tiled(&mut self, name: &str, mut x: ValueId, times: &[usize]) -> Result<ValueId, Unsupported> {
        for (axis, &times) in times.iter().enumerate().filter(|(_, times)| **times != 1) {
            let mut shape = self.of(x).to_vec();
            if shape[axis] == 1 {
                shape[axis] = times;
                x = self.broadcast(name, x, &shape)?;
                continue;
            }
            // Three dimensions are enough, however many there are.
            let (before, after) = (shape[..axis].iter().product(), shape[axis..].iter().product());
            shape[axis] *= times;
            x = self.reshape(name, x, &[before, 1, after]);
            x = self.broadcast(name, x, &[before, times, after])?;
            x = self.reshape(name, x, &shape);
        }
        Ok(x)
    }

    fn padded(&mut self, name: &str, mut x: ValueId, pad: &Pad) -> Result<ValueId, Unsupported> {
        for (axis, &(before, after)) in pad.pads.iter().enumerate().filter(|(_, pads)| **pads != (0, 0)) {
            let mut shape = self.of(x).to_vec();
            let size = shape[axis];
            if let PadMode::Constant(value) = &pad.mode {
                let value = value.cast_to_scalar::<f32>().map_err(describe)?;
                let mut part = |length: usize| {
                    shape[axis] = length;
                    let volume = shape.iter().product();
                    (length > 0).then(|| self.constant(name, &shape, vec![value; volume]))
                };
                let parts: Vec<ValueId> = [part(before), Some(x), part(after)].into_iter().flatten().collect();
                shape[axis] = before + size + after;
                x = self.emit(name, Op::Concat { axis }, &parts, &shape);
                continue;
            }
            if pad.mode == PadMode::Reflect && before.max(after) >= size {
                return Err(format!("reflects {before} and {after} of {size}"));
            }
            let places = (0..before + size + after).map(|at| match pad.mode {
                PadMode::Reflect if at < before => before - at,
                PadMode::Reflect if at >= before + size => 2 * (size - 1) - (at - before),
                _ => at.saturating_sub(before).min(size - 1),
            });
            x = self.pick(name, x, axis, &places.collect::<Vec<_>>());
        }
        Ok(x)
    }

    /// tract's own table of what is read along each axis, whichever way of resizing it is.
    fn resized(
        &mut self,
        node: &TypedNode,
        resize: &Resize,
        mut x: ValueId,
        to: &[usize],
    ) -> Result<ValueId, Unsupported> {
        let from = self.of(x).to_vec();
        let scales = resize.optional_scales_input.map(|index| self.konst(node.inputs[index])).transpose()?;
        let scales = scales.filter(|scales| scales.len() == from.len());
        let scales: Option<Vec<f32>> = match scales {
            Some(scales) => Some(scales.to_plain_array_view::<f32>().map_err(describe)?.iter().copied().collect()),
            None => None,
        };
        for axis in 0..from.len() {
            #[expect(clippy::cast_precision_loss, reason = "no dimension is near 2^24")]
            let scale = scales.as_ref().map_or(to[axis] as f32 / from[axis] as f32, |scales| scales[axis]);
            if from[axis] == to[axis] && scale == 1.0 {
                continue;
            }
            let plan = resize.plan_axis(scale, from[axis], to[axis]);
            if plan.extrapolated.contains(&true) {
                return Err("reads outside the picture".into());
            }
            let rows = plan.indices.chunks_exact(plan.window).zip(plan.weights.chunks_exact(plan.window));
            let rows: Vec<Vec<(usize, f32)>> = rows
                .map(|(places, weights)| {
                    places.iter().copied().zip(weights.iter().copied()).filter(|tap| tap.1 != 0.0).collect()
                })
                .collect();
            let taps = rows.iter().map(Vec::len).max().unwrap_or(1).max(1);
            let table = rows.iter().flat_map(|row| (0..taps).map(|tap| row.get(tap).copied().unwrap_or((0, 0.0))));
            #[expect(clippy::cast_precision_loss, reason = "no dimension is near 2^24")]
            let (places, weights): (Vec<f32>, Vec<f32>) = table.map(|(place, weight)| (place as f32, weight)).unzip();
            let places = self.constant(&node.name, &[to[axis], taps], places);
            let weights = self.constant(&node.name, &[to[axis], taps], weights);
            let mut shape = self.of(x).to_vec();
            shape[axis] = to[axis];
            x = self.emit(&node.name, Op::Resample { axis }, &[x, places, weights], &shape);
        }
        Ok(x)
    }

    /// The best values are those at the best places.
    fn sorted(&mut self, node: &TypedNode, top: &Topk, shape: &[usize]) -> Result<Vec<ValueId>, Unsupported> {
        let (axis, x) = (top.axis, self.first(node)?);
        let length = self.of(x)[axis];
        if shape[axis] > length || self.ranges.contains_key(&x) {
            return Err(format!("the best {} of {length}, or of whole numbers", shape[axis]));
        }
        let places = self.emit(&node.name, Op::Top { axis, largest: top.largest }, &[x], shape);
        let places = self.ranged(places, (0, last(length)?))?;
        let values = self.emit(&node.name, Op::Gather { axis }, &[x, places], shape);
        Ok(vec![values, places])
    }

    /// ONNX's `Gather`: a result dimension for each of the places'.
    fn gathered(&mut self, node: &TypedNode, gather: &Gather, shape: &[usize]) -> Result<ValueId, Unsupported> {
        let [x, places] = self.inputs(node)?[..] else { return Err("not two inputs".into()) };
        let (name, axis, size) = (node.name.as_str(), gather.axis, self.of(x)[gather.axis]);
        let places = self.inside(name, places, size)?;
        let count: usize = self.of(places).iter().product();
        let mut flat = self.of(x).to_vec();
        flat[axis] = count;
        let result = match self.known(places) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and inside")]
            Some(places) => {
                let places: Vec<usize> = places.iter().map(|&place| place as usize).collect();
                self.pick(name, x, axis, &places)
            }
            None => {
                let mut table = vec![1; flat.len()];
                table[axis] = count;
                let places = self.reshape(name, places, &table);
                self.emit(name, Op::Gather { axis }, &[x, places], &flat)
            }
        };
        let result = self.reshape(name, result, shape);
        self.moved_range(result, &[x])
    }

    fn gathered_elements(&mut self, node: &TypedNode, axis: usize, shape: &[usize]) -> Result<ValueId, Unsupported> {
        let [mut x, places] = self.inputs(node)?[..] else { return Err("not two inputs".into()) };
        let (name, source) = (node.name.as_str(), x);
        for other in (0..shape.len()).filter(|&other| other != axis) {
            x = self.slice(name, x, other, 0, shape[other]);
        }
        let places = self.inside(name, places, self.of(x)[axis])?;
        let result = self.emit(name, Op::Gather { axis }, &[x, places], shape);
        self.moved_range(result, &[source])
    }

    /// Places that are all inside; constant ones may count from the end.
    fn inside(&mut self, name: &str, places: ValueId, size: usize) -> Result<ValueId, Unsupported> {
        let (least, most) = self.range(places)?;
        let size = last(size)? + 1;
        if most >= size || least < if self.known(places).is_some() { -size } else { 0 } {
            return Err(format!("places of {least} to {most} in {size}"));
        }
        if least >= 0 {
            return Ok(places);
        }
        let shape = self.of(places).to_vec();
        #[expect(clippy::cast_precision_loss, reason = "below 2^24")]
        let counted = |place: &f32| if *place < 0.0 { *place + size as f32 } else { *place };
        let data = self.known(places).unwrap_or_default().iter().map(counted).collect();
        Ok(self.constant(name, &shape, data))
    }
}

/// Whether only the first input of an operator is read as values.
fn is_of_one(node: &TypedNode) -> bool {
    node.op_is::<AxisOp>()
        || node.op_is::<Slice>()
        || node.op_is::<StridedSlice>()
        || node.op_is::<MultiBroadcastTo>()
        || node.op_is::<Tile>()
        || node.op_is::<Pad>()
        || node.op_is::<NearestUpsample>()
        || node.op_is::<Resize>()
}
