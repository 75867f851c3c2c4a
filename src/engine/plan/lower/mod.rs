//! tract's typed graph, with constants folded and nothing else rewritten, as a [`Graph`].
//!
//! The decluttered graph is of no use here: tract pushes 1×1 convolutions through concatenations and turns them into sums
//! of Einstein sums, which hides exactly what a convolution kernel wants to see.
//!
//! Rooms: [`sums`] convolutions, pools and products; [`shapes`] what only moves values; [`whole`] whole numbers and
//! choices. What reads constants only is evaluated here.

mod shapes;
mod sums;
mod whole;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::identity::Identity;
use tract_onnx::tract_core::ops::logic::{Iff, Not};
use tract_onnx::tract_core::ops::math::PowConst;
use tract_onnx::tract_core::ops::nn::grid_sample::{GridSample, InterpolationMode, PaddingMode};
use tract_onnx::tract_core::ops::nn::{LeakyRelu, Reduce as TractReduce, Reducer, Softmax, SoftmaxKind};
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_core::optim::Optimizer;

use super::graph::{Binary, Graph, Node, Op, RANK_MAX, Reduce, Unary, ValueId, WHOLE_MAX};
use super::reference;

/// Why a network has no plan: the operator that is not known, or is used in a way that is not.
pub type Unsupported = String;

/// Least and greatest.
type Range = (i64, i64);

/// Folds constants, and lets the resizes say what they do; all else stays as the file has it.
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
    let mut lowering = Lowering { model, graph: Graph::default(), values: HashMap::new(), ranges: HashMap::new() };
    let order = model.eval_order().map_err(describe)?;
    let is_source = |node: &&usize| model.nodes()[**node].op_is::<TypedSource>();
    if order.iter().filter(is_source).count() != 1 {
        return Err("a network of several inputs; one picture is known".into());
    }
    for index in order {
        let node = &model.nodes()[index];
        lowering.node(node).map_err(|why| format!("{} ({}): {why}", node.name, node.op.name()))?;
    }
    let outputs = model.output_outlets().map_err(describe)?;
    lowering.graph.outputs = outputs.iter().map(|outlet| lowering.find(*outlet)).collect::<Result<_, _>>()?;
    lowering.graph.sweep();
    match lowering.graph.values.iter().find(|value| value.shape.len() > RANK_MAX) {
        Some(value) => {
            Err(format!("{} has {} dimensions; at most {RANK_MAX} are known", value.name, value.shape.len()))
        }
        None => Ok(lowering.graph),
    }
}

fn describe(error: impl std::fmt::Display) -> Unsupported {
    error.to_string()
}

struct Lowering<'m> {
    model: &'m TypedModel,
    graph: Graph,
    values: HashMap<OutletId, ValueId>,
    /// Least and greatest of the values that are whole numbers.
    ranges: HashMap<ValueId, Range>,
}

/// What is known about the model.
impl Lowering<'_> {
    /// The value of an outlet; a constant becomes one when it is first read as values and not as axes or sizes.
    fn find(&mut self, outlet: OutletId) -> Result<ValueId, Unsupported> {
        if let Some(&value) = self.values.get(&outlet) {
            return Ok(value);
        }
        let fact = self.model.outlet_fact(outlet).map_err(describe)?;
        let tensor = fact.konst.clone().ok_or_else(|| format!("{outlet:?} is read before it is there"))?;
        let (data, range) = numbers(&tensor)?;
        let value = self.graph.value(&self.model.nodes()[outlet.node].name, tensor.shape(), Some(data));
        self.ranges.extend(range.map(|range| (value, range)));
        self.values.insert(outlet, value);
        Ok(value)
    }

    fn inputs(&mut self, node: &TypedNode) -> Result<Vec<ValueId>, Unsupported> {
        node.inputs.iter().map(|input| self.find(*input)).collect()
    }

    /// The only input, or the first, where the others are parameters.
    fn first(&mut self, node: &TypedNode) -> Result<ValueId, Unsupported> {
        self.find(*node.inputs.first().ok_or("no input")?)
    }

    fn shape(&self, outlet: OutletId) -> Result<Vec<usize>, Unsupported> {
        let fact = self.model.outlet_fact(outlet).map_err(describe)?;
        Ok(fact.shape.as_concrete().ok_or("its shape depends on the picture")?.to_vec())
    }

    /// A parameter, which must be known.
    fn konst(&self, outlet: OutletId) -> Result<Arc<Tensor>, Unsupported> {
        let fact = self.model.outlet_fact(outlet).map_err(describe)?;
        fact.konst.clone().ok_or_else(|| "a parameter depends on the picture".into())
    }
}

/// What the graph is made with.
impl Lowering<'_> {
    fn of(&self, value: ValueId) -> &[usize] {
        &self.graph.values[value].shape
    }

    fn known(&self, value: ValueId) -> Option<&[f32]> {
        self.graph.values[value].constant.as_deref()
    }

    fn constant(&mut self, name: &str, shape: &[usize], data: Vec<f32>) -> ValueId {
        self.graph.value(name, shape, Some(data))
    }

    /// A constant of one value, for operators of values of this rank.
    fn scalar(&mut self, name: &str, rank: usize, value: f32) -> ValueId {
        self.constant(name, &vec![1; rank], vec![value])
    }

    /// Adds a node, or evaluates it if all it reads is constant.
    fn emit(&mut self, name: &str, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let views: Option<Vec<reference::View<'_>>> =
            inputs.iter().map(|&input| Some((self.known(input)?, self.of(input)))).collect();
        if let Some(views) = views {
            let data = reference::apply(&op, &views, shape);
            return self.constant(name, shape, data);
        }
        let output = self.graph.value(name, shape, None);
        self.graph.nodes.push(Node { op, inputs: inputs.to_vec(), output });
        output
    }

    fn unary(&mut self, name: &str, op: Unary, x: ValueId) -> ValueId {
        let shape = self.of(x).to_vec();
        self.emit(name, Op::Unary(op), &[x], &shape)
    }

    fn binary(&mut self, name: &str, op: Binary, a: ValueId, b: ValueId) -> ValueId {
        let shape: Vec<usize> = self.of(a).iter().zip(self.of(b)).map(|(&a, &b)| if a == 1 { b } else { a }).collect();
        self.emit(name, Op::Binary(op), &[a, b], &shape)
    }

    /// The same with a constant of one value on the right.
    fn with(&mut self, name: &str, op: Binary, a: ValueId, b: f32) -> ValueId {
        let b = self.scalar(name, self.of(a).len(), b);
        self.binary(name, op, a, b)
    }
}

impl Lowering<'_> {
    fn node(&mut self, node: &TypedNode) -> Result<(), Unsupported> {
        if node.outputs.iter().all(|output| output.fact.konst.is_some()) {
            return Ok(());
        }
        let shapes = (0..node.outputs.len()).map(|slot| self.shape(OutletId::new(node.id, slot)));
        let shapes = shapes.collect::<Result<Vec<_>, _>>()?;
        let shape = shapes.first().ok_or("no result")?;
        if shapes.iter().flatten().any(|&size| size == 0) {
            return Err(format!("{shapes:?} holds nothing"));
        }
        let results = if node.op_is::<TypedSource>() {
            self.graph.input = self.graph.value(&node.name, shape, None);
            vec![self.graph.input]
        } else {
            self.op(node, shape)?
        };
        for (slot, (&value, shape)) in results.iter().zip(&shapes).enumerate() {
            if self.of(value) != shape {
                return Err(format!("is {shape:?}, and became {:?}", self.of(value)));
            }
            let kind = node.outputs[slot].fact.datum_type;
            if !is_whole(kind) && kind != DatumType::F32 {
                return Err(format!("computes in {kind:?}"));
            }
            self.values.insert(OutletId::new(node.id, slot), value);
        }
        Ok(())
    }

    /// The results of an operator; what a whole number may be is known of each that is one.
    fn op(&mut self, node: &TypedNode, shape: &[usize]) -> Result<Vec<ValueId>, Unsupported> {
        if let Some(results) = self.moved(node, shape)? {
            return Ok(results);
        }
        if let Some(result) = self.summed(node, shape)? {
            return Ok(vec![result]);
        }
        let name = node.name.as_str();
        if node.op_is::<Iff>() {
            return Ok(vec![self.choice(node, shape)?]);
        }
        if let Some(cast) = node.op_as::<Cast>() {
            let x = self.first(node)?;
            if is_whole(cast.to) && !self.ranges.contains_key(&x) {
                return Err("a number of the picture becomes a whole one".into());
            }
            return Ok(vec![x]);
        }
        if node.op_is::<Identity>() {
            return Ok(vec![self.first(node)?]);
        }
        let whole =
            node.inputs.iter().map(|input| self.model.outlet_fact(*input).map(|fact| is_whole(fact.datum_type)));
        let whole = whole.collect::<TractResult<Vec<_>>>().map_err(describe)?;
        if let Some(op) = node.op_as::<TypedBinOp>() {
            let inputs = self.inputs(node)?;
            if whole.contains(&true) {
                return Ok(vec![self.reckoned(name, op.0.name(), inputs[0], inputs[1])?]);
            }
            return Ok(vec![self.emit(name, Op::Binary(binary(op.0.name())?), &inputs, shape)]);
        }
        let x = self.first(node)?;
        if whole.contains(&true) {
            let is_not = node.op_as::<ElementWiseOp>().is_some_and(|op| op.0.is::<Not>());
            return if is_not { Ok(vec![self.not(name, x)?]) } else { Err("of whole numbers".into()) };
        }
        if let Some(op) = node.op_as::<ElementWiseOp>() {
            return Ok(vec![self.element_wise(name, op, x)?]);
        }
        if let Some(softmax) = node.op_as::<Softmax>() {
            let ([axis], SoftmaxKind::Softmax) = (&softmax.axes[..], softmax.kind) else {
                return Err("over several axes, or its logarithm".into());
            };
            return Ok(vec![self.emit(name, Op::Softmax { axis: *axis }, &[x], shape)]);
        }
        if let Some(reduce) = node.op_as::<TractReduce>() {
            return Ok(vec![self.reduced(name, reduce, x, shape)?]);
        }
        if let Some(sample) = node.op_as::<GridSample>() {
            let is_known = sample.mode == InterpolationMode::Bilinear && sample.padding_mode == PaddingMode::Zeros;
            if !is_known || shape.len() != 4 {
                return Err("only bilinear sampling of pictures with zeros around is known".into());
            }
            let inputs = self.inputs(node)?;
            return Ok(vec![self.emit(name, Op::GridSample { align_corners: sample.align_corners }, &inputs, shape)]);
        }
        Err("this operator is not known".into())
    }

    fn element_wise(&mut self, name: &str, op: &ElementWiseOp, x: ValueId) -> Result<ValueId, Unsupported> {
        if let Some(op) = op.0.downcast_ref::<LeakyRelu>() {
            // Where the slope is above one, the lesser of the two.
            let other = self.with(name, Binary::Mul, x, op.alpha);
            return Ok(self.binary(name, if op.alpha <= 1.0 { Binary::Max } else { Binary::Min }, x, other));
        }
        if let Some(op) = op.0.downcast_ref::<PowConst>() {
            return Ok(self.with(name, Binary::Pow, x, op.exponent));
        }
        Ok(match op.0.name().as_str() {
            "Square" => self.binary(name, Binary::Mul, x, x),
            "Rsqrt" => {
                let root = self.unary(name, Unary::Sqrt, x);
                self.unary(name, Unary::Reciprocal, root)
            }
            other => self.unary(name, unary(other)?, x),
        })
    }

    fn reduced(&mut self, name: &str, op: &TractReduce, x: ValueId, shape: &[usize]) -> Result<ValueId, Unsupported> {
        let axes = op.axes.to_vec();
        let (x, reduce) = match op.reducer {
            Reducer::Max => (x, Reduce::Max),
            Reducer::Min => (x, Reduce::Min),
            Reducer::Sum => (x, Reduce::Sum),
            Reducer::MeanOfSquares => (self.binary(name, Binary::Mul, x, x), Reduce::Mean),
            Reducer::ArgMax(false) | Reducer::ArgMin(false) => {
                let [axis] = axes[..] else { return Err("over several axes".into()) };
                let largest = matches!(op.reducer, Reducer::ArgMax(_));
                let length = self.of(x)[axis];
                let place = self.emit(name, Op::Top { axis, largest }, &[x], shape);
                return self.ranged(place, (0, last(length)?));
            }
            _ => return Err(format!("{:?} is not known", op.reducer)),
        };
        Ok(self.emit(name, Op::Reduce { reduce, axes }, &[x], shape))
    }
}

fn unary(name: &str) -> Result<Unary, Unsupported> {
    Ok(match name {
        "Sigmoid" => Unary::Sigmoid,
        "Silu" => Unary::Silu,
        "HardSwish" => Unary::HardSwish,
        "GeluExact" => Unary::Gelu,
        "Tanh" => Unary::Tanh,
        "Erf" => Unary::Erf,
        "Exp" => Unary::Exp,
        "Ln" => Unary::Log,
        "Sqrt" => Unary::Sqrt,
        "Recip" => Unary::Reciprocal,
        "Neg" => Unary::Neg,
        "Abs" => Unary::Abs,
        "Floor" => Unary::Floor,
        "Sin" => Unary::Sin,
        "Cos" => Unary::Cos,
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
        "Pow" => Binary::Pow,
        other => return Err(format!("{other} is not known")),
    })
}

fn is_whole(kind: DatumType) -> bool {
    kind.is_integer() || kind == DatumType::Bool || kind == DatumType::TDim
}

/// The last place along a dimension.
fn last(length: usize) -> Result<i64, Unsupported> {
    i64::try_from(length).map(|length| length - 1).map_err(describe)
}

/// A constant's values, and their range if they are whole.
fn numbers(tensor: &Tensor) -> Result<(Vec<f32>, Option<Range>), Unsupported> {
    if !is_whole(tensor.datum_type()) {
        let singles = tensor.cast_to::<f32>().map_err(describe)?;
        return Ok((singles.to_plain_array_view::<f32>().map_err(describe)?.iter().copied().collect(), None));
    }
    let whole = tensor.cast_to::<i64>().map_err(describe)?;
    let whole: Vec<i64> = whole.to_plain_array_view::<i64>().map_err(describe)?.iter().copied().collect();
    let range = (whole.iter().copied().min().unwrap_or(0), whole.iter().copied().max().unwrap_or(0));
    fits(range)?;
    #[expect(clippy::cast_precision_loss, reason = "below 2^24, as was just seen")]
    let singles = whole.into_iter().map(|number| number as f32).collect();
    Ok((singles, Some(range)))
}

/// Whole numbers that an f32 holds exactly.
fn fits((least, greatest): Range) -> Result<(), Unsupported> {
    if least < -WHOLE_MAX || greatest > WHOLE_MAX {
        return Err(format!("whole numbers of {least} to {greatest}; up to {WHOLE_MAX} are exact"));
    }
    Ok(())
}
