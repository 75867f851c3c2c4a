//! tract's typed graph, with constants folded and nothing else rewritten, as a [`Graph`].
//!
//! The decluttered graph is of no use here: tract pushes 1×1 convolutions through concatenations and turns them into sums
//! of Einstein sums, which hides exactly what a convolution kernel wants to see.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::{Slice, StridedSlice, TypedConcat};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::cnn::conv::{Conv as TractConv, KernelFormat};
use tract_onnx::tract_core::ops::cnn::{MaxPool, PaddingSpec, PoolSpec};
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::nn::{DataFormat, NearestUpsample, Softmax};
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_core::optim::Optimizer;
use tract_onnx::tract_hir::internal::{DimLike, ToDim};

use super::graph::{Binary, Conv, Graph, Node, Op, RANK_MAX, Unary, ValueId, Window};

/// Why a network has no plan: the operator that is not known, or is used in a way that is not.
pub type Unsupported = String;

/// Folds constants, and lets the resizes that are whole factors say so; all else stays as the file has it.
pub fn simplify(mut model: TypedModel) -> TractResult<TypedModel> {
    Optimizer::prop_consts().optimize(&mut model)?;
    // Once from ONNX's resize to tract's own, and once more to the upsampling.
    for _ in 0..2 {
        let patches = model.nodes().iter().filter(|node| node.op.name() == "Resize");
        let patches: Vec<_> = patches.map(|node| node.op.declutter(&model, node)).collect::<TractResult<_>>()?;
        for patch in patches.into_iter().flatten() {
            patch.apply(&mut model)?;
        }
    }
    model.into_compact()
}

/// Lowers a simplified model of one picture input.
pub fn lower(model: &TypedModel) -> Result<Graph, Unsupported> {
    let mut lowering = Lowering { model, graph: Graph::default(), values: Vec::new() };
    for &index in &model.eval_order().map_err(|error| error.to_string())? {
        lowering.node(&model.nodes()[index]).map_err(|why| {
            let node = &model.nodes()[index];
            format!("{} ({}): {why}", node.name, node.op.name())
        })?;
    }
    let outputs = model.output_outlets().map_err(|error| error.to_string())?;
    lowering.graph.outputs = outputs.iter().map(|outlet| lowering.find(*outlet)).collect::<Result<_, _>>()?;
    Ok(lowering.graph)
}

struct Lowering<'m> {
    model: &'m TypedModel,
    graph: Graph,
    /// Outlets and their values.
    values: Vec<(OutletId, ValueId)>,
}

impl Lowering<'_> {
    fn find(&self, outlet: OutletId) -> Result<ValueId, Unsupported> {
        let found = self.values.iter().rev().find(|(known, _)| *known == outlet);
        found.map(|(_, value)| *value).ok_or_else(|| format!("{outlet:?} is read before it is there"))
    }

    fn shape(&self, outlet: OutletId) -> Result<Vec<usize>, Unsupported> {
        let fact = self.model.outlet_fact(outlet).map_err(|error| error.to_string())?;
        let shape = fact.shape.as_concrete().ok_or("its shape depends on the picture")?;
        if shape.len() > RANK_MAX {
            return Err(format!("{} dimensions; at most {RANK_MAX} are known", shape.len()));
        }
        Ok(shape.to_vec())
    }

    fn node(&mut self, node: &TypedNode) -> Result<(), Unsupported> {
        let outlet = OutletId::new(node.id, 0);
        if let Some(constant) = node.op_as::<Const>() {
            let tensor = constant.val();
            // Whole numbers are axes and sizes, which operators read from the model themselves.
            let data = match tensor.to_plain_array_view::<f32>() {
                Ok(view) => Some(view.iter().copied().collect()),
                Err(_) => None,
            };
            let value = self.graph.value(&node.name, tensor.shape(), data);
            self.values.push((outlet, value));
            return Ok(());
        }
        let shape = self.shape(outlet)?;
        if node.outputs.len() != 1 {
            return Err(format!("{} results; one is known", node.outputs.len()));
        }
        if node.op_is::<TypedSource>() {
            self.graph.input = self.graph.value(&node.name, &shape, None);
            self.values.push((outlet, self.graph.input));
            return Ok(());
        }
        let mut inputs = node.inputs.iter().map(|input| self.find(*input)).collect::<Result<Vec<_>, _>>()?;
        let op = self.op(node, &shape, &mut inputs)?;
        let output = self.graph.value(&node.name, &shape, None);
        self.graph.nodes.push(Node { op, inputs, output });
        self.values.push((outlet, output));
        Ok(())
    }

    fn op(&self, node: &TypedNode, shape: &[usize], inputs: &mut Vec<ValueId>) -> Result<Op, Unsupported> {
        let of = |value: ValueId| self.graph.values[value].shape.as_slice();
        if let Some(conv) = node.op_as::<TractConv>() {
            if conv.q_params.is_some() || conv.kernel_fmt != KernelFormat::OIHW {
                return Err("quantized, or filters in another order than OIHW".into());
            }
            let window = window(&conv.pool_spec, of(inputs[0]), shape)?;
            return Ok(Op::Conv(Conv { window, groups: conv.group, ..Conv::plain(window) }));
        }
        if let Some(pool) = node.op_as::<MaxPool>() {
            return Ok(Op::MaxPool(window(&pool.pool_spec, of(inputs[0]), shape)?));
        }
        if let Some(op) = node.op_as::<ElementWiseOp>() {
            return unary(&op.0.name()).map(Op::Unary);
        }
        if let Some(op) = node.op_as::<TypedBinOp>() {
            return binary(&op.0.name()).map(Op::Binary);
        }
        if let Some(concat) = node.op_as::<TypedConcat>() {
            return Ok(Op::Concat { axis: concat.axis });
        }
        if let Some(slice) = node.op_as::<Slice>() {
            let start = slice.start.to_usize().map_err(|error| error.to_string())?;
            return Ok(Op::Slice { axis: slice.axis, start });
        }
        if let Some(slice) = node.op_as::<StridedSlice>() {
            let (axis, start) = self.strided(slice, node, of(inputs[0]), shape)?;
            inputs.truncate(1);
            return Ok(Op::Slice { axis, start });
        }
        if let Some(softmax) = node.op_as::<Softmax>() {
            let [axis] = softmax.axes[..] else { return Err("over several axes".into()) };
            return Ok(Op::Softmax { axis });
        }
        if let Some(axis) = node.op_as::<AxisOp>() {
            return Ok(match axis {
                AxisOp::Move(from, to) => {
                    let mut order: Vec<usize> = (0..shape.len()).filter(|dimension| dimension != from).collect();
                    order.insert(*to, *from);
                    Op::Permute { order }
                }
                _ => Op::Reshape,
            });
        }
        if let Some(upsample) = node.op_as::<NearestUpsample>() {
            let [1, 1, height, width] = upsample.scales[..] else { return Err(format!("by {:?}", upsample.scales)) };
            return Ok(Op::Upsample { height, width });
        }
        Err("this operator is not known".into())
    }
}

impl Lowering<'_> {
    fn konst(&self, outlet: OutletId) -> Result<Arc<Tensor>, Unsupported> {
        let fact = self.model.outlet_fact(outlet).map_err(|error| error.to_string())?;
        fact.konst.clone().ok_or_else(|| "a parameter depends on the picture".into())
    }

    /// The one axis that a slice shortens, and where it begins there.
    fn strided(
        &self,
        slice: &StridedSlice,
        node: &TypedNode,
        from: &[usize],
        to: &[usize],
    ) -> Result<(usize, usize), Unsupported> {
        if from.len() != to.len() || slice.shrink_axis_mask != 0 {
            return Err("removes dimensions".into());
        }
        let words = |error: TractError| error.to_string();
        let whole = |index: Option<usize>| index.map(|index| self.konst(node.inputs[index])).transpose();
        let (begin, end) = (self.konst(node.inputs[1])?, self.konst(node.inputs[2])?);
        let numbers = |tensor: Arc<Tensor>| -> Result<Vec<i32>, Unsupported> {
            let tensor = tensor.cast_to::<i32>().map_err(words)?;
            Ok(tensor.to_plain_array_view::<i32>().map_err(words)?.iter().copied().collect())
        };
        let steps = whole(slice.optional_steps_input)?.map(numbers).transpose()?.unwrap_or_default();
        let axes = whole(slice.optional_axes_input)?.map(numbers).transpose()?;
        let axes = axes.unwrap_or_else(|| (0..i32::try_from(from.len()).unwrap_or(0)).collect());
        let mut shortened = None;
        for (index, axis) in axes.iter().enumerate() {
            let rank = i32::try_from(from.len()).unwrap_or(0);
            let axis = usize::try_from(if *axis < 0 { axis + rank } else { *axis }).map_err(|_| "axis below 0")?;
            let dim = slice.prepare_one_dim(index, &from[axis].to_dim(), &begin, &end, &steps).map_err(words)?;
            if from[axis] == to[axis] {
                continue;
            }
            let start = dim.begin.to_usize().map_err(|error| error.to_string())?;
            if dim.stride != 1 || shortened.replace((axis, start)).is_some() {
                return Err("takes every second value, or shortens two dimensions".into());
            }
        }
        Ok(shortened.unwrap_or((0, 0)))
    }
}

impl Conv {
    fn plain(window: Window) -> Self {
        Self { window, groups: 1, activation: super::graph::Activation::None, residual: false }
    }
}

fn window(pool: &PoolSpec, input: &[usize], output: &[usize]) -> Result<Window, Unsupported> {
    if pool.data_format != DataFormat::NCHW || input.len() != 4 || output.len() != 4 {
        return Err(format!("over {input:?}: only pictures of N, C, H, W are known"));
    }
    let pair = |values: &[usize]| <[usize; 2]>::try_from(values).map_err(|_| "not two dimensions".to_owned());
    let or_ones = |values: &Option<TVec<usize>>| values.as_ref().map_or(Ok([1, 1]), |values| pair(values));
    let pad = match &pool.padding {
        PaddingSpec::Explicit(before, _) | PaddingSpec::ExplicitOnnxPool(before, _, _) => pair(before)?,
        PaddingSpec::Valid => [0, 0],
        other => return Err(format!("padding {other:?}")),
    };
    let (kernel, stride, dilation) = (pair(&pool.kernel_shape)?, or_ones(&pool.strides)?, or_ones(&pool.dilations)?);
    Ok(Window { kernel, stride, dilation, pad })
}

fn unary(name: &str) -> Result<Unary, Unsupported> {
    Ok(match name {
        "Sigmoid" => Unary::Sigmoid,
        "Silu" => Unary::Silu,
        "Exp" => Unary::Exp,
        "Sqrt" => Unary::Sqrt,
        "Recip" => Unary::Reciprocal,
        "Neg" => Unary::Neg,
        other => return Err(format!("{other} is not known")),
    })
}

fn binary(name: &str) -> Result<Binary, Unsupported> {
    Ok(match name {
        "Add" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Max" => Binary::Max,
        "Min" => Binary::Min,
        other => return Err(format!("{other} is not known")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(bytes: &[u8], shape: &[usize]) -> TypedModel {
        let mut model = onnx().with_ignore_output_shapes(true).model_for_read(&mut &bytes[..]).unwrap();
        model.set_input_fact(0, InferenceFact::dt_shape(DatumType::F32, shape)).unwrap();
        simplify(model.into_typed().unwrap()).unwrap()
    }

    #[test]
    fn the_demo_is_lowered_and_fused_and_still_the_same_network() {
        let shape = [1, 3, 320, 320];
        let model = typed(crate::demo::PARTS_ONNX, &shape);
        let mut graph = lower(&model).unwrap();
        let mut random = crate::random::Random::new(1);
        let picture: Vec<f32> = (0..shape.iter().product()).map(|_| random.uniform(0.0, 1.0)).collect();
        let plain = super::super::reference::run(&graph, &picture);
        super::super::fuse(&mut graph);
        assert!(!graph.nodes.iter().any(|node| matches!(node.op, Op::Unary(Unary::Silu))), "every SiLU has a home");
        let fused = super::super::reference::run(&graph, &picture);
        let input = Tensor::from_shape(&shape, &picture).unwrap();
        let expected = model.into_runnable().unwrap().run(tvec!(input.into_tvalue())).unwrap();
        let expected: Vec<f32> = expected[0].to_plain_array_view::<f32>().unwrap().iter().copied().collect();
        let mut runner = super::super::exec::Runner::new(graph.clone());
        runner.run(&picture);
        for node in &graph.nodes {
            let (found, expected) = (runner.read(node.output), &fused[node.output]);
            let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{}: {:?}: {worst}", graph.values[node.output].name, node.op);
        }
        for found in [&plain[graph.outputs[0]], &fused[graph.outputs[0]]] {
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max);
            assert!(found.len() == expected.len() && worst < 1e-4, "{worst}");
        }
    }
}

#[cfg(test)]
mod speed {
    use super::*;

    #[test]
    #[ignore = "prints times"]
    fn times() {
        let path = std::env::var("MODEL").unwrap();
        let side: usize = std::env::var("SIDE").unwrap().parse().unwrap();
        let mut model = onnx().with_ignore_output_shapes(true).model_for_path(path).unwrap();
        model.set_input_fact(0, InferenceFact::dt_shape(DatumType::F32, [1, 3, side, side])).unwrap();
        let mut graph = lower(&simplify(model.into_typed().unwrap()).unwrap()).map_err(|why| panic!("{why}")).unwrap();
        super::super::fuse(&mut graph);
        if let Ok(to) = std::env::var("DUMP") {
            std::fs::write(to, serde_json::to_vec(&graph).unwrap()).unwrap();
            return;
        }
        let mut random = crate::random::Random::new(1);
        let picture: Vec<f32> = (0..3 * side * side).map(|_| random.uniform(0.0, 1.0)).collect();
        let mut runner = super::super::exec::Runner::new(graph);
        runner.run(&picture);
        let mut best = vec![f64::MAX; runner.times.len()];
        for _ in 0..8 {
            runner.times.fill(0.0);
            runner.run(&picture);
            best.iter_mut().zip(&runner.times).for_each(|(best, time)| *best = best.min(*time));
        }
        let graph = runner.graph();
        let (mut convs, mut flops, mut rest) = (0.0, 0.0, 0.0);
        for (node, &time) in graph.nodes.iter().zip(&best) {
            let shape = &graph.values[node.output].shape;
            if let Op::Conv(conv) = node.op {
                let filter = &graph.values[node.inputs[1]].shape;
                let work = 2.0 * (shape.iter().product::<usize>() * filter[1..].iter().product::<usize>()) as f64;
                println!("{:>7.3} ms {:>6.1} GF/s {:?} {:?} s{}", time * 1e3, work / time / 1e9, shape, filter, conv.window.stride[0]);
                convs += time;
                flops += work;
            } else if !matches!(node.op, Op::Reshape | Op::Slice { .. } | Op::Permute { .. }) {
                println!("{:>7.3} ms {:?} {:?}", time * 1e3, node.op, shape);
                rest += time;
            }
        }
        println!("convolutions {:.2} ms, {:.1} GFLOP, {:.1} GF/s; the rest {:.2} ms", convs * 1e3, flops / 1e9, flops / convs / 1e9, rest * 1e3);
    }
}
