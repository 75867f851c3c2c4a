//! TensorFlow Lite's operators in tract's, one after the other in the order of the file.
//!
//! The shapes that the file states for its tensors are the truth that everything is held to: sizes in the values of inputs
//! (paddings, new shapes) are not trusted, and a step that comes out in another shape ends the load. So nothing grows beyond
//! what [`super::file`] admitted.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::change_axes::{to_axis_ops_with_tf_rules, wire_rank_broadcast};
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::{math, nn};
use tract_tflite::tflite::{ActivationFunctionType as Activation, BuiltinOperator as Code};

use super::detections::Detections;
use super::file::{File, Kind, Step};
use super::steps::steps;
use crate::engine::InputShape;

/// Options of a step, of the type that belongs to its operator.
macro_rules! options {
    ($step:expr, $read:ident) => {
        $step.options.$read().context("its options are missing")?
    };
}

mod compute;
mod moves;

/// The network of a file, with an input of N C H W.
///
/// # Errors
/// The operator and what is wrong with it, in words.
pub fn wire(file: &File<'_>, shape: InputShape) -> Result<TypedModel, String> {
    let mut wiring = Wiring { file, target: TypedModel::default(), wires: vec![None; file.tensors.len()], number: 0 };
    let words = |error: TractError| super::super::one_line(&format!("{error:#}"));
    wiring.input(shape).map_err(words)?;
    for (number, step) in file.steps.iter().enumerate() {
        wiring.number = number;
        let name = name_of(step);
        wiring.step(step).map_err(|error| format!("operator {number} ({name}): {}", words(error)))?;
    }
    let outputs: TractResult<Vec<OutletId>> = file.outputs.iter().map(|&output| wiring.outlet(output)).collect();
    let outputs = outputs.map_err(words)?;
    let mut target = wiring.target;
    for (&outlet, &output) in outputs.iter().zip(&file.outputs) {
        target.set_outlet_label(outlet, file.tensors[output].name.to_owned()).map_err(words)?;
    }
    target.select_output_outlets(&outputs).map_err(words)?;
    Ok(target)
}

fn name_of(step: &Step<'_>) -> String {
    match (step.custom, step.code.variant_name()) {
        (Some(name), _) => name.chars().take(80).collect(),
        (None, Some(name)) => name.into(),
        (None, None) => format!("number {}", step.code.0),
    }
}

struct Wiring<'a> {
    file: &'a File<'a>,
    target: TypedModel,
    /// What computes each tensor of the file, so far.
    wires: Vec<Option<OutletId>>,
    /// Of the step in hand.
    number: usize,
}

/// What becomes of a result before it is its tensor.
#[derive(Clone, Copy, PartialEq)]
enum After {
    /// Its values are those of its inputs: moved, not computed.
    Moved,
    Computed(Activation),
}

const COMPUTED: After = After::Computed(Activation::NONE);

type Wired = TractResult<(TVec<OutletId>, After)>;

impl Wiring<'_> {
    fn input(&mut self, shape: InputShape) -> TractResult<()> {
        let input = &self.file.tensors[self.file.input];
        let source = self.target.add_source("input", f32::fact(shape.dims()))?;
        let mut wire = self.target.wire_node("input.nhwc", AxisOp::Move(1, 3), &[source])?[0];
        if let Some(grid) = input.grid().map_err(|why| format_err!("{why}"))? {
            wire = self.target.wire_node("input.steps", steps(grid), &[wire])?[0];
        }
        self.wires[self.file.input] = Some(wire);
        Ok(())
    }

    /// A name that no other node has.
    fn name(&self, part: &str) -> String {
        self.target.unique_name(format!("{}.{part}", self.number)).into_owned()
    }

    fn node(&mut self, part: &str, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> TractResult<OutletId> {
        let name = self.name(part);
        Ok(self.target.wire_node(name, op, inputs)?[0])
    }

    fn constant(&mut self, part: &str, value: Tensor) -> TractResult<OutletId> {
        let name = self.name(part);
        self.target.add_const(name, value)
    }

    /// What computes a tensor, or the constant that it is.
    fn outlet(&mut self, tensor: usize) -> TractResult<OutletId> {
        if let Some(outlet) = self.wires[tensor] {
            return Ok(outlet);
        }
        let stored = &self.file.tensors[tensor];
        let value = stored.constant().with_context(|| format!("nothing computes the tensor `{}`", stored.name))?;
        let value = value.map_err(|why| format_err!("{why}"))?;
        let outlet = self.constant("constant", value)?;
        self.wires[tensor] = Some(outlet);
        Ok(outlet)
    }

    fn operand(&mut self, step: &Step<'_>, index: usize) -> TractResult<OutletId> {
        let tensor = step.inputs.get(index).copied().flatten();
        self.outlet(tensor.with_context(|| format!("input {index} is missing"))?)
    }

    fn operands(&mut self, step: &Step<'_>) -> TractResult<TVec<OutletId>> {
        (0..step.inputs.len()).map(|index| self.operand(step, index)).collect()
    }

    fn shape(&self, outlet: OutletId) -> TractResult<TVec<usize>> {
        let fact = self.target.outlet_fact(outlet)?;
        Ok(fact.shape.as_concrete().context("a shape that depends on the picture")?.into())
    }

    fn value(&mut self, step: &Step<'_>, index: usize) -> TractResult<Arc<Tensor>> {
        let outlet = self.operand(step, index)?;
        let value = self.target.outlet_fact(outlet)?.konst.clone();
        value.with_context(|| format!("input {index} is computed; expected a constant"))
    }

    /// Whole numbers of a constant.
    fn integers(&mut self, step: &Step<'_>, index: usize) -> TractResult<Vec<i64>> {
        let value = self.value(step, index)?.cast_to::<i64>()?.into_owned();
        Ok(value.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
    }

    /// The shape that the file states for a result.
    fn stated(&self, step: &Step<'_>, output: usize) -> TractResult<&[usize]> {
        let &tensor = step.outputs.get(output).context("an output is missing")?;
        Ok(&self.file.tensors[tensor].shape)
    }

    fn step(&mut self, step: &Step<'_>) -> TractResult<()> {
        let (results, after) = self.wired(step)?;
        ensure!(results.len() == step.outputs.len(), "{} results for {} outputs", results.len(), step.outputs.len());
        for (mut wire, &output) in results.into_iter().zip(&step.outputs) {
            let stored = &self.file.tensors[output];
            if let After::Computed(activation) = after {
                wire = self.activated(wire, activation)?;
                if let Some(grid) = stored.grid().map_err(|why| format_err!("{why}"))? {
                    wire = self.node("steps", steps(grid), &[wire])?;
                }
            }
            let (found, datum) = (self.shape(wire)?, self.target.outlet_fact(wire)?.datum_type);
            // Converters do not know the shapes of what is not TensorFlow Lite's own, and may leave them empty.
            let unstated = step.custom.is_some() && stored.shape.is_empty();
            ensure!(
                unstated || found[..] == stored.shape[..],
                "comes out as {found:?}; the file says {:?}",
                stored.shape
            );
            ensure!(datum == datum_type(stored.kind), "comes out as {datum:?}; the file says {:?}", stored.kind);
            self.wires[output] = Some(wire);
        }
        Ok(())
    }

    fn activated(&mut self, wire: OutletId, activation: Activation) -> TractResult<OutletId> {
        match activation {
            Activation::NONE => Ok(wire),
            Activation::RELU => self.bounded(wire, Some(0.0), None),
            Activation::RELU6 => self.bounded(wire, Some(0.0), Some(6.0)),
            Activation::RELU_N1_TO_1 => self.bounded(wire, Some(-1.0), Some(1.0)),
            Activation::TANH => self.node("tanh", math::tanh(), &[wire]),
            other => bail!("the activation {other:?} runs with the TensorFlow Lite library only"),
        }
    }

    fn bounded(&mut self, mut wire: OutletId, low: Option<f32>, high: Option<f32>) -> TractResult<OutletId> {
        for (bound, op) in [(low, math::max()), (high, math::min())] {
            if let Some(bound) = bound {
                let bound = self.constant("bound", tensor0(bound))?;
                wire = self.binary(op, &[wire, bound])?;
            }
        }
        Ok(wire)
    }

    fn binary(&mut self, op: TypedBinOp, operands: &[OutletId]) -> TractResult<OutletId> {
        let name = self.name("rank");
        let operands = wire_rank_broadcast(name, &mut self.target, operands)?;
        self.node("binary", op, &operands)
    }

    fn reshaped(&mut self, wire: OutletId, shape: &[usize]) -> TractResult<OutletId> {
        let from: TVec<TDim> = self.shape(wire)?.iter().map(|dim| dim.to_dim()).collect();
        let to: TVec<TDim> = shape.iter().map(|dim| dim.to_dim()).collect();
        let volumes = [&from, &to].map(|dims| dims.iter().product::<TDim>());
        ensure!(volumes[0] == volumes[1], "{from:?} cannot become {to:?}");
        let mut wire = wire;
        for op in to_axis_ops_with_tf_rules(&from, &to)? {
            wire = self.node("reshape", op, &[wire])?;
        }
        Ok(wire)
    }

    /// One step: its results, and what is left to be done with them.
    fn wired(&mut self, step: &Step<'_>) -> Wired {
        if let Some(binary) = binary_of(step)? {
            let operands = self.operands(step)?;
            ensure!(operands.len() == 2, "{} inputs; expected two", operands.len());
            let (op, activation) = binary;
            return Ok((tvec!(self.binary(op, &operands)?), After::Computed(activation)));
        }
        if let Some(unary) = unary_of(step)? {
            let operand = self.operand(step, 0)?;
            return Ok((tvec!(self.node("unary", unary, &[operand])?), COMPUTED));
        }
        match step.code {
            Code::CONV_2D | Code::DEPTHWISE_CONV_2D => self.convolution(step),
            Code::AVERAGE_POOL_2D | Code::MAX_POOL_2D => self.pool(step),
            Code::FULLY_CONNECTED => self.fully_connected(step),
            Code::MEAN | Code::SUM | Code::REDUCE_MAX | Code::REDUCE_MIN => self.reduced(step),
            Code::ARG_MAX => self.arg_max(step),
            Code::RESIZE_BILINEAR | Code::RESIZE_NEAREST_NEIGHBOR => self.resized(step),
            Code::SOFTMAX => self.softmax(step),
            Code::RELU => self.activation(step, Activation::RELU),
            Code::RELU6 => self.activation(step, Activation::RELU6),
            Code::RELU_N1_TO_1 => self.activation(step, Activation::RELU_N1_TO_1),
            Code::PRELU => self.parametric_relu(step),
            Code::SQUARED_DIFFERENCE => self.squared_difference(step),
            Code::FLOOR_DIV => self.floor_div(step),
            Code::CAST => self.cast(step),
            Code::QUANTIZE | Code::DEQUANTIZE => Ok((tvec!(self.operand(step, 0)?), COMPUTED)),
            Code::CUSTOM if step.custom == Some("TFLite_Detection_PostProcess") => {
                let options = step.options.custom_options().map(|options| options.bytes()).unwrap_or_default();
                let (op, name) = (Detections::new(options)?, self.name("detections"));
                let operands = self.operands(step)?;
                Ok((self.target.wire_node(name, op, &operands)?, After::Moved))
            }
            _ => Ok((self.moved(step)?, After::Moved)),
        }
    }
}

/// The place of an axis that may be counted from the end.
fn axis_of(axis: i64, rank: usize) -> TractResult<usize> {
    let rank_i64 = i64::try_from(rank)?;
    let found = if axis < 0 { axis + rank_i64 } else { axis };
    ensure!((0..rank_i64).contains(&found), "axis {axis} of {rank}");
    Ok(usize::try_from(found)?)
}

fn datum_type(kind: Kind) -> DatumType {
    match kind {
        Kind::Real => DatumType::F32,
        Kind::Int32 => DatumType::I32,
        Kind::Int64 => DatumType::I64,
        Kind::Bool => DatumType::Bool,
    }
}

/// Operators of two operands that tract has too.
fn binary_of(step: &Step<'_>) -> TractResult<Option<(TypedBinOp, Activation)>> {
    use tract_onnx::tract_core::ops::logic;
    let with = |op, activation| Ok(Some((op, activation)));
    let plain = |op| Ok(Some((op, Activation::NONE)));
    match step.code {
        Code::ADD => with(math::add(), options!(step, builtin_options_as_add_options).fused_activation_function()),
        Code::SUB => with(math::sub(), options!(step, builtin_options_as_sub_options).fused_activation_function()),
        Code::MUL => with(math::mul(), options!(step, builtin_options_as_mul_options).fused_activation_function()),
        Code::DIV => with(math::div(), options!(step, builtin_options_as_div_options).fused_activation_function()),
        Code::MAXIMUM => plain(math::max()),
        Code::MINIMUM => plain(math::min()),
        Code::LOGICAL_AND => plain(logic::and()),
        Code::LOGICAL_OR => plain(logic::or()),
        Code::EQUAL => plain(TypedBinOp(logic::comp_eq(), None)),
        Code::NOT_EQUAL => plain(TypedBinOp(logic::comp_ne(), None)),
        Code::LESS => plain(TypedBinOp(logic::comp_lt(), None)),
        Code::LESS_EQUAL => plain(TypedBinOp(logic::comp_lte(), None)),
        Code::GREATER => plain(TypedBinOp(logic::comp_gt(), None)),
        Code::GREATER_EQUAL => plain(TypedBinOp(logic::comp_gte(), None)),
        _ => Ok(None),
    }
}

/// Operators of one operand that tract has too.
fn unary_of(step: &Step<'_>) -> TractResult<Option<ElementWiseOp>> {
    Ok(Some(match step.code {
        Code::ABS => math::abs(),
        Code::CEIL => math::ceil(),
        Code::EXP => math::exp(),
        Code::FLOOR => math::floor(),
        Code::HARD_SWISH => nn::hard_swish(),
        Code::LEAKY_RELU => nn::leaky_relu(options!(step, builtin_options_as_leaky_relu_options).alpha()),
        Code::LOG => math::ln(),
        Code::LOGISTIC => nn::sigmoid(),
        Code::NEG => math::neg(),
        Code::RSQRT => math::rsqrt(),
        Code::SQRT => math::sqrt(),
        Code::SQUARE => math::square(),
        Code::TANH => math::tanh(),
        _ => return Ok(None),
    }))
}
