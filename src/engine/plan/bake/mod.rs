//! From a graph to a program: lays values out, picks a step for every node, packs the weights, and plans the memory.

use crate::engine::plan::arena::{self, Span};
use crate::engine::plan::graph::{Graph, Node, Op, ValueId};
use crate::engine::plan::int8::Quantized;
use crate::engine::plan::kernels::Isa;
use crate::engine::plan::kernels::isa::FP16_NEEDS;
use crate::engine::plan::layout::{Layout, Place, c_order, lay_out, reshaped, view};
use crate::engine::plan::program::{Invalid, Named, Program, Tensor};
use crate::engine::plan::steps::{Operand, Step};

mod bytes;
mod conv;
mod halves;
mod product;
mod race;
mod strided;
#[cfg(test)]
mod tests;

pub use bytes::bake_kept;
use bytes::{BytePlan, Twin};
pub use race::{Ways, plain, race};

/// What is being baked.
pub struct Baker<'g> {
    graph: &'g Graph,
    layout: Layout,
    isa: &'g Isa,
    /// Nodes at which each buffer is needed, from the first to the last.
    spans: Vec<Span>,
    /// Where buffers begin in the arena; empty while that is not known.
    offsets: Vec<usize>,
    steps: Vec<Named>,
    weights: Vec<f32>,
    /// Where constants that steps read as they are begin among the weights.
    constants: Vec<Option<usize>>,
    /// The node that is being baked.
    at: usize,
    /// The node of each step.
    of: Vec<usize>,
    /// Ways that were chosen, by nodes; it may end early.
    ways: &'g [Option<bool>],
    /// The largest size of each value that was seen, where products may be of halves.
    halves: Option<&'g [f32]>,
    /// What is done with bytes, if anything is.
    bytes: Option<BytePlan>,
    /// The bytes beside the numbers of each buffer.
    twins: Vec<Option<Twin>>,
    /// Nodes that are baked once more with bytes, for [`bake_kept`], and their results.
    probed: Option<BytePlan>,
    probes: Vec<(usize, Place)>,
}

/// A baked network: the program, and its weights.
pub struct Baked {
    pub program: Program,
    pub weights: Vec<f32>,
}

/// Bakes a fused graph for an instruction set.
///
/// # Errors
/// An operator, or a use of one, that no step knows, or one beyond what steps may be: what is baked has been checked.
pub fn bake(graph: &Graph, isa: &Isa) -> Result<Baked, String> {
    bake_by(graph, isa, &[])
}

/// As [`bake`], with the ways of convolutions that were chosen.
///
/// # Errors
/// As [`bake`].
pub fn bake_by(graph: &Graph, isa: &Isa, ways: &[Option<bool>]) -> Result<Baked, String> {
    bake_with(graph, isa, |baker| Baker { ways, ..baker })
}

/// As [`bake`], with halves where they are sooner and `largest`, the largest size of each value that was seen, says that
/// no product leaves their range.
///
/// # Errors
/// As [`bake`]; or the instruction set has no products of halves.
pub fn bake_halves(graph: &Graph, isa: &Isa, largest: &[f32]) -> Result<Baked, String> {
    if isa.fp16.is_none() {
        return Err(format!("{FP16_NEEDS}; {} has none", isa.name));
    }
    bake_with(graph, isa, |baker| Baker { halves: Some(largest), ..baker })
}

/// As [`bake`], with bytes where `quantized` says so and the layout allows it.
///
/// # Errors
/// As [`bake`]; or the instruction set has no products of bytes.
pub fn bake_quantized(graph: &Graph, isa: &Isa, quantized: &Quantized) -> Result<Baked, String> {
    let layout = lay_out(graph);
    let plan = BytePlan::new(graph, &layout, isa, quantized, &bytes::views(graph, &layout, isa)?)?;
    bake_with(graph, isa, |baker| baker.with_bytes(&plan))
}

fn bake_with<'g>(graph: &'g Graph, isa: &'g Isa, with: impl Fn(Baker<'g>) -> Baker<'g>) -> Result<Baked, String> {
    let layout = lay_out(graph);
    let make = |offsets: Vec<usize>| with(Baker::new(graph, layout.clone(), isa, offsets)).steps();
    // Only when all steps are known is it known which memory they need; then they are made again, with their offsets.
    let (offsets, arena) = arena::plan(&make(Vec::new())?.spans);
    make(offsets)?.baked(arena)
}

/// When each buffer is first written and last read.
fn spans(graph: &Graph, layout: &Layout) -> Vec<Span> {
    let mut spans: Vec<Span> =
        layout.buffers.iter().map(|&volume| Span { volume, first: usize::MAX, last: 0 }).collect();
    let mut touch = |value: ValueId, from: usize, to: usize| {
        if let Some(place) = &layout.places[value] {
            let span = &mut spans[place.buffer];
            (span.first, span.last) = (span.first.min(from), span.last.max(to));
        }
    };
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().chain([&node.output]).for_each(|&value| touch(value, index, index));
    }
    // What the caller writes and reads is there before the first node and after the last.
    graph.outputs.iter().chain([&graph.input]).for_each(|&value| touch(value, 0, graph.nodes.len()));
    spans
}

impl<'g> Baker<'g> {
    fn new(graph: &'g Graph, layout: Layout, isa: &'g Isa, offsets: Vec<usize>) -> Self {
        let spans = spans(graph, &layout);
        let constants = vec![None; graph.values.len()];
        Self {
            graph,
            layout,
            isa,
            spans,
            offsets,
            steps: Vec::new(),
            weights: Vec::new(),
            constants,
            at: 0,
            of: Vec::new(),
            ways: &[],
            halves: None,
            bytes: None,
            twins: Vec::new(),
            probed: None,
            probes: Vec::new(),
        }
    }

    /// All steps are made: the program and its weights.
    fn baked(self, arena: usize) -> Result<Baked, String> {
        let tensor = |value: ValueId| {
            let place = self.place(value);
            Tensor {
                name: self.graph.values[value].name.clone(),
                shape: self.shape(value).to_vec(),
                offset: self.offset(&place),
            }
        };
        let outputs = self.graph.outputs.iter().map(|&output| tensor(output)).collect();
        let program = Program { arena, input: tensor(self.graph.input), outputs, steps: self.steps };
        if let Err(Invalid { part, fault }) = program.check(self.weights.len(), self.isa) {
            return Err(format!("{part}: {fault}"));
        }
        Ok(Baked { program, weights: self.weights })
    }

    /// Makes the steps of all nodes.
    fn steps(mut self) -> Result<Self, String> {
        self.constant_outputs()?;
        for (index, node) in self.graph.nodes.iter().enumerate() {
            self.at = index;
            let before = self.steps.len();
            self.node(node).map_err(|why| format!("{}: {why}", self.graph.values[node.output].name))?;
            if !self.is_quantized() && self.steps.len() > before {
                self.quantize_output(node);
            }
            if let Op::Conv(conv) = &node.op
                && let Some(plan) = self.probed.take()
            {
                if plan.conv_is_quantized(index) {
                    self.probe(node, conv, &plan)?;
                }
                self.probed = Some(plan);
            }
        }
        Ok(self)
    }

    /// Outputs that no node makes are written before the first one, which may read them.
    fn constant_outputs(&mut self) -> Result<(), String> {
        let graph = self.graph;
        for (index, &output) in graph.outputs.iter().enumerate() {
            if graph.outputs[..index].contains(&output) {
                continue;
            }
            if let Some(offset) = self.constant(output) {
                let (shape, to) = (self.shape(output).to_vec(), self.place(output));
                self.copy_operand(&shape, Operand { constant: true, offset, strides: c_order(&shape) }, &to)?;
            }
        }
        Ok(())
    }

    /// Where a place begins in the arena.
    fn offset(&self, place: &Place) -> usize {
        self.offsets.get(place.buffer).copied().unwrap_or(0) + place.offset
    }

    fn shape(&self, value: ValueId) -> &[usize] {
        &self.graph.values[value].shape
    }

    fn place(&self, value: ValueId) -> Place {
        self.layout.places[value].clone().expect("every value that is not constant is laid out")
    }

    /// Where a value lies in the arena; a constant is brought there.
    fn in_arena(&mut self, value: ValueId) -> Result<Place, String> {
        if self.layout.places[value].is_some() {
            return Ok(self.place(value));
        }
        let (shape, offset) =
            (self.shape(value).to_vec(), self.constant(value).ok_or("neither computed nor constant")?);
        let place = self.dense(&shape);
        self.copy_operand(&shape, Operand { constant: true, offset, strides: c_order(&shape) }, &place)?;
        Ok(place)
    }

    /// A buffer for this node alone.
    fn temporary(&mut self, volume: usize) -> usize {
        self.layout.buffers.push(volume);
        self.spans.push(Span { volume, first: self.at, last: self.at });
        self.spans.len() - 1
    }

    /// Adds weights, aligned to a cache line.
    fn add_weights(&mut self, values: impl IntoIterator<Item = f32>) -> usize {
        let at = self.weights.len();
        self.weights.extend(values);
        self.weights.resize(self.weights.len().next_multiple_of(arena::ALIGNMENT), 0.0);
        at
    }

    /// Where a constant lies among the weights, in C order.
    fn constant(&mut self, value: ValueId) -> Option<usize> {
        let graph = self.graph;
        let constant = graph.values[value].constant.as_ref()?;
        if let Some(at) = self.constants[value] {
            return Some(at);
        }
        let at = self.add_weights(constant.iter().copied());
        self.constants[value] = Some(at);
        Some(at)
    }

    fn push(&mut self, step: Step) {
        // A network without nodes may still have outputs that are constant.
        let value = self.graph.nodes.get(self.at).map_or(self.graph.outputs[0], |node| node.output);
        self.steps.push(Named { node: self.graph.values[value].name.clone(), step });
        self.of.push(self.at);
    }

    fn node(&mut self, node: &Node) -> Result<(), String> {
        match &node.op {
            Op::Conv(conv) if self.is_quantized() => self.quantized_conv(node, conv),
            Op::MaxPool(window) if self.is_quantized() => self.quantized_pool(node, *window),
            Op::Upsample { height, width } if self.is_quantized() => self.quantized_upsample(node, [*height, *width]),
            Op::Conv(conv) => self.conv(node, conv),
            Op::MaxPool(window) => self.pool(node, *window),
            Op::Upsample { height, width } => self.upsample(node, [*height, *width]),
            Op::Unary(op) => self.unary(node, *op),
            Op::Binary(op) => self.binary(node, *op),
            Op::Concat { axis } => self.concat(node, *axis),
            Op::Slice { .. } | Op::Reshape | Op::Permute { .. } => self.look(node),
            Op::Softmax { axis } => self.softmax(node, *axis),
            Op::Linear(finish) => self.linear(node, *finish),
            Op::MatMul { scale } => self.matmul(node, *scale),
            Op::Expectation { axis } => self.expectation(node, *axis),
            Op::Attention { scale } => self.attention(node, *scale),
            Op::LayerNorm { epsilon } => self.layer_norm(node, *epsilon),
            Op::Broadcast => self.repeat(node),
            Op::Reduce { reduce, axes } => self.reduce(node, *reduce, axes),
            Op::Top { axis, largest } => self.top(node, *axis, *largest),
            Op::Gather { axis } => self.gather(node, *axis),
            Op::GridSample { align_corners } => self.grid_sample(node, *align_corners),
            Op::Resample { axis } => self.resample(node, *axis),
        }
    }

    /// A node that only looks at its input differently: nothing to do where the layout made it a view.
    fn look(&mut self, node: &Node) -> Result<(), String> {
        let (input, to) = (node.inputs[0], self.place(node.output));
        let (from, shape) = (self.shape(input).to_vec(), self.shape(node.output).to_vec());
        let place = self.in_arena(input)?;
        match view(&node.op, &place, &from, &shape) {
            Some(seen) if seen == to => Ok(()),
            Some(seen) => self.copy(&shape, &seen, &to),
            // The other way round: the output seen in the input's dimensions.
            None => match reshaped(&shape, &to.strides, &from) {
                Some(strides) => self.copy(&from, &place, &Place { strides, ..to }),
                None => {
                    let dense = self.dense(&from);
                    self.copy(&from, &place, &dense)?;
                    let seen = view(&node.op, &dense, &from, &shape).expect("dense values can be cut at will");
                    self.copy(&shape, &seen, &to)
                }
            },
        }
    }

    /// A temporary place, in C order.
    fn dense(&mut self, shape: &[usize]) -> Place {
        let buffer = self.temporary(shape.iter().product());
        Place { buffer, offset: 0, strides: c_order(shape) }
    }

    fn concat(&mut self, node: &Node, axis: usize) -> Result<(), String> {
        let to = self.place(node.output);
        let mut offset = to.offset;
        for &input in &node.inputs {
            let shape = self.shape(input).to_vec();
            let part = Place { offset, ..to.clone() };
            if let Some(at) = self.constant(input) {
                let operand = Operand { constant: true, offset: at, strides: c_order(&shape) };
                self.copy_operand(&shape, operand, &part)?;
            } else if self.place(input) != part {
                self.copy(&shape, &self.place(input), &part)?;
            }
            offset += shape[axis] * to.strides[axis];
        }
        Ok(())
    }
}
