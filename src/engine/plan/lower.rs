//! tract's typed graph, with constants folded and nothing else rewritten, as a [`Graph`].
//!
//! The decluttered graph is of no use here: tract pushes 1×1 convolutions through concatenations and turns them into sums
//! of Einstein sums, which hides exactly what a convolution kernel wants to see.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::{Slice, TypedConcat};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::cnn::conv::{Conv as TractConv, KernelFormat};
use tract_onnx::tract_core::ops::cnn::{MaxPool, PaddingSpec, PoolSpec};
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::nn::{DataFormat, Resize, Softmax};
use tract_onnx::tract_core::ops::source::TypedSource;

use super::graph::{Binary, Conv, Graph, Node, Op, RANK_MAX, Unary, ValueId, Window};

/// Why a network has no plan: the operator that is not known, or is used in a way that is not.
pub type Unsupported = String;

/// Lowers a typed model of one picture input.
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
            let tensor = constant.val().cast_to::<f32>().map_err(|error| error.to_string())?;
            let view = tensor.to_plain_array_view::<f32>().map_err(|error| error.to_string())?;
            let data = view.iter().copied().collect();
            let value = self.graph.value(&node.name, tensor.shape(), Some(data));
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
        if node.op_is::<Resize>() {
            // Its scales are an input, which the shapes say as well.
            inputs.truncate(1);
            let (from, to) = (of(inputs[0]), shape);
            if from.len() != 4 || from[..2] != to[..2] || to[2] % from[2] != 0 || to[3] % from[3] != 0 {
                return Err(format!("from {from:?} to {to:?}: only H and W by whole factors are known"));
            }
            return Ok(Op::Upsample { height: to[2] / from[2], width: to[3] / from[3] });
        }
        Err("this operator is not known".into())
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
