//! Operators that only move values.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Gather, GatherNd, MultiBroadcastTo, Pad, PadMode, Slice, TypedConcat};
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::ops::change_axes::perm_to_ops;
use tract_tflite::tflite::{ActivationFunctionType as Activation, BuiltinOperator as Code};

use super::{Wiring, axis_of};
use crate::engine::tract::tflite::file::Step;

impl Wiring<'_> {
    /// Operators that only move values.
    pub(super) fn moved(&mut self, step: &Step<'_>) -> TractResult<TVec<OutletId>> {
        match step.code {
            Code::RESHAPE | Code::SQUEEZE | Code::EXPAND_DIMS => {
                let (operand, shape) = (self.operand(step, 0)?, self.stated(step, 0)?.to_vec());
                Ok(tvec!(self.reshaped(operand, &shape)?))
            }
            Code::TRANSPOSE => self.transposed(step),
            Code::CONCATENATION => {
                let options = options!(step, builtin_options_as_concatenation_options);
                let axis = options.axis();
                let activation = options.fused_activation_function();
                ensure!(activation == Activation::NONE, "an activation on a concatenation");
                let operands = self.operands(step)?;
                Ok(tvec!(self.joined(axis, &operands)?))
            }
            Code::PACK => {
                let axis = options!(step, builtin_options_as_pack_options).axis();
                let rank = self.stated(step, 0)?.len();
                let axis = axis_of(axis.into(), rank)?;
                let operands = self.operands(step)?;
                let operands: TractResult<TVec<OutletId>> =
                    operands.iter().map(|&operand| self.node("add", AxisOp::Add(axis), &[operand])).collect();
                Ok(tvec!(self.node("pack", TypedConcat::new(axis), &operands?)?))
            }
            Code::UNPACK => {
                let axis = options!(step, builtin_options_as_unpack_options).axis();
                let parts = self.parts(step, 0, axis.into(), |_| Ok(1))?;
                let operand = self.operand(step, 0)?;
                let axis = axis_of(axis.into(), self.shape(operand)?.len())?;
                parts.iter().map(|&part| self.node("remove", AxisOp::Rm(axis), &[part])).collect()
            }
            Code::SPLIT | Code::SPLIT_V => {
                let (value, axis) = if step.code == Code::SPLIT { (1, 0) } else { (0, 2) };
                let axis = *self.integers(step, axis)?.first().context("no axis")?;
                self.parts(step, value, axis, |shape| {
                    shape.get(axis_of(axis, shape.len())?).copied().context("a part without the axis")
                })
            }
            Code::SLICE | Code::STRIDED_SLICE => self.sliced(step),
            Code::PAD | Code::PADV2 => self.padded(step),
            Code::BROADCAST_TO => {
                let shape = self.stated(step, 0)?.iter().map(|dim| dim.to_dim()).collect();
                let operand = self.operand(step, 0)?;
                Ok(tvec!(self.node("broadcast", MultiBroadcastTo { shape }, &[operand])?))
            }
            Code::GATHER => {
                let options = options!(step, builtin_options_as_gather_options);
                ensure!(options.batch_dims() == 0, "batches of gathers run with the TensorFlow Lite library only");
                let (data, at) = (self.operand(step, 0)?, self.operand(step, 1)?);
                let operands = tvec!(data, self.node("places", cast(DatumType::I64), &[at])?);
                let axis = axis_of(options.axis().into(), self.shape(data)?.len())?;
                Ok(tvec!(self.node("gather", Gather { axis, output_type: None }, &operands)?))
            }
            Code::GATHER_ND => {
                let operands = tvec!(self.operand(step, 0)?, self.operand(step, 1)?);
                let (data, at) = (self.shape(operands[0])?, self.shape(operands[1])?);
                ensure!(at.last().is_some_and(|depth| *depth <= data.len()), "indices {at:?} into {data:?}");
                Ok(tvec!(self.node("gather", GatherNd { batch_dims: 0 }, &operands)?))
            }
            Code::SHAPE => {
                let operand = self.operand(step, 0)?;
                let shape = self.shape(operand)?;
                let shape: Vec<i32> = shape.iter().map(|&dim| i32::try_from(dim)).collect::<Result<_, _>>()?;
                Ok(tvec!(self.constant("shape", tensor1(&shape))?))
            }
            _ => bail!("not among the operators known here; it runs with the TensorFlow Lite library only"),
        }
    }

    fn joined(&mut self, axis: i32, operands: &[OutletId]) -> TractResult<OutletId> {
        let &first = operands.first().context("nothing to join")?;
        let axis = axis_of(axis.into(), self.shape(first)?.len())?;
        self.node("concat", TypedConcat::new(axis), operands)
    }

    /// Cuts input `index` along an axis into as many parts as there are outputs; `size` says how long each is, given the
    /// shape that the file states for it.
    fn parts(
        &mut self,
        step: &Step<'_>,
        index: usize,
        axis: i64,
        size: impl Fn(&[usize]) -> TractResult<usize>,
    ) -> TractResult<TVec<OutletId>> {
        let whole = self.operand(step, index)?;
        let shape = self.shape(whole)?;
        let axis = axis_of(axis, shape.len())?;
        let mut start = 0_usize;
        (0..step.outputs.len())
            .map(|output| {
                let end = start.saturating_add(size(self.stated(step, output)?)?);
                ensure!(end <= shape[axis], "a part up to {end} of {}", shape[axis]);
                let slice = Slice { axis, start: start.to_dim(), end: end.to_dim() };
                start = end;
                self.node("part", slice, &[whole])
            })
            .collect()
    }

    fn transposed(&mut self, step: &Step<'_>) -> TractResult<TVec<OutletId>> {
        let mut wire = self.operand(step, 0)?;
        let rank = self.shape(wire)?.len();
        let order: Vec<usize> =
            self.integers(step, 1)?.into_iter().map(|axis| axis_of(axis, rank)).collect::<TractResult<_>>()?;
        ensure!(order.len() == rank && (0..rank).all(|axis| order.contains(&axis)), "the order of axes {order:?}");
        for op in perm_to_ops(&order) {
            wire = self.node("transpose", op, &[wire])?;
        }
        Ok(tvec!(wire))
    }

    fn padded(&mut self, step: &Step<'_>) -> TractResult<TVec<OutletId>> {
        let (operand, pads) = (self.operand(step, 0)?, self.integers(step, 1)?);
        let (from, to) = (self.shape(operand)?, self.stated(step, 0)?.to_vec());
        ensure!(pads.len() == 2 * from.len() && to.len() == from.len(), "{} paddings of {from:?}", pads.len());
        let mut pairs = Vec::with_capacity(from.len());
        for ((pads, from), to) in pads.chunks_exact(2).zip(&from).zip(&to) {
            let (before, after) = (usize::try_from(pads[0])?, usize::try_from(pads[1])?);
            ensure!(from.saturating_add(before).saturating_add(after) == *to, "{from} padded by {pads:?} is not {to}");
            pairs.push((before, after));
        }
        let value = match step.code {
            Code::PADV2 => self.value(step, 2)?.cast_to::<f32>()?.into_owned(),
            _ => tensor0(0.0_f32),
        };
        ensure!(value.len() == 1, "{} values to pad with", value.len());
        let datum = self.target.outlet_fact(operand)?.datum_type;
        let value = value.into_shape(&[])?.cast_to_dt(datum)?.into_owned().into_arc_tensor();
        Ok(tvec!(self.node("pad", Pad { pads: pairs, mode: PadMode::Constant(value) }, &[operand])?))
    }

    /// Of `SLICE` (begins and sizes) and `STRIDED_SLICE` (begins, ends, strides and masks).
    fn sliced(&mut self, step: &Step<'_>) -> TractResult<TVec<OutletId>> {
        let (mut wire, begins) = (self.operand(step, 0)?, self.integers(step, 1)?);
        let shape = self.shape(wire)?;
        ensure!(begins.len() == shape.len(), "{} begins for {shape:?}", begins.len());
        let mut bounds = Vec::with_capacity(shape.len());
        let second = self.integers(step, 2)?;
        ensure!(second.len() == shape.len(), "{} ends for {shape:?}", second.len());
        let clamped = |at: i64, dim: usize| -> TractResult<usize> {
            let size = i64::try_from(dim)?;
            Ok(usize::try_from(if at < 0 { at.saturating_add(size) } else { at }.clamp(0, size))?)
        };
        if step.code == Code::SLICE {
            for ((&begin, &size), &dim) in begins.iter().zip(&second).zip(&shape) {
                let begin = usize::try_from(begin)?;
                bounds.push((begin, if size == -1 { dim } else { begin.saturating_add(usize::try_from(size)?) }));
            }
        } else {
            let options = options!(step, builtin_options_as_strided_slice_options);
            ensure!(options.ellipsis_mask() == 0 && options.new_axis_mask() == 0, "masks of axes that are not there");
            ensure!(self.integers(step, 3)?.iter().all(|&stride| stride == 1), "strides other than 1");
            for (axis, ((&begin, &end), &dim)) in begins.iter().zip(&second).zip(&shape).enumerate() {
                let set = |mask: i32| mask >> axis & 1 == 1;
                let begin = if set(options.begin_mask()) { 0 } else { clamped(begin, dim)? };
                bounds.push(match (set(options.shrink_axis_mask()), set(options.end_mask())) {
                    (true, _) => (begin, begin.saturating_add(1)),
                    (_, true) => (begin, dim),
                    _ => (begin, clamped(end, dim)?),
                });
            }
        }
        for (axis, (&(start, end), &dim)) in bounds.iter().zip(&shape).enumerate() {
            ensure!(start <= end && end <= dim, "{start} to {end} of {dim}");
            if (start, end) != (0, dim) {
                wire = self.node("slice", Slice { axis, start: start.to_dim(), end: end.to_dim() }, &[wire])?;
            }
        }
        let to = self.stated(step, 0)?.to_vec();
        Ok(tvec!(self.reshaped(wire, &to)?))
    }
}
