//! Small networks of tract, drawn at random, and how what they are lowered to is held against them.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_onnx::tract_core::ops::cnn::conv::KernelFormat;
use tract_onnx::tract_core::ops::cnn::{Conv, PaddingSpec, PoolSpec};
use tract_onnx::tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use tract_onnx::tract_core::ops::nn::*;

use super::{fuse, lower, reference, simplify, worst};
use crate::engine::plan::graph::Graph;
use crate::random::Random;

/// Seeds of each property.
const ROUNDS: u64 = 24;

/// Relative to values above one: sums of f32 in another order.
const BOUND: f32 = 1e-4;

/// A network being written, of one input.
pub struct Draft {
    pub model: TypedModel,
    pub random: Random,
    pub next: usize,
}

impl Draft {
    /// 1 to `most`, both included.
    pub fn size(&mut self, most: usize) -> usize {
        self.up_to(most) + 1
    }

    /// 0 to `most - 1`.
    pub fn up_to(&mut self, most: usize) -> usize {
        usize::try_from(self.random.bits() % u64::try_from(most).unwrap()).unwrap()
    }

    pub fn sizes(&mut self, rank: usize, most: usize) -> Vec<usize> {
        (0..rank).map(|_| self.size(most)).collect()
    }

    pub fn noise(&mut self, shape: &[usize]) -> Tensor {
        let data: Vec<f32> = (0..shape.iter().product()).map(|_| self.random.uniform(-1.5, 1.5)).collect();
        Tensor::from_shape(shape, &data).unwrap()
    }

    pub fn name(&mut self) -> String {
        self.next += 1;
        format!("node {}", self.next)
    }

    pub fn constant(&mut self, tensor: Tensor) -> OutletId {
        let name = self.name();
        self.model.add_const(name, tensor).unwrap()
    }

    pub fn weights(&mut self, shape: &[usize]) -> OutletId {
        let noise = self.noise(shape);
        self.constant(noise)
    }

    pub fn wire(&mut self, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> TVec<OutletId> {
        let name = self.name();
        self.model.wire_node(name, op, inputs).unwrap()
    }

    pub fn binary(&mut self, op: impl BinMiniOp, a: OutletId, b: OutletId) -> OutletId {
        self.wire(TypedBinOp(Box::new(op), None), &[a, b])[0]
    }

    pub fn with(&mut self, op: impl BinMiniOp, a: OutletId, b: f32) -> OutletId {
        let rank = self.model.outlet_fact(a).unwrap().rank();
        let b = self.constant(tensor0(b).broadcast_into_rank(rank).unwrap());
        self.binary(op, a, b)
    }

    pub fn unary(&mut self, op: impl ElementWiseMiniOp, x: OutletId) -> OutletId {
        self.wire(ElementWiseOp(Box::new(op), None), &[x])[0]
    }

    pub fn shape(&self, outlet: OutletId) -> Vec<usize> {
        self.model.outlet_fact(outlet).unwrap().shape.as_concrete().unwrap().to_vec()
    }
}

/// Writes a network for each seed: `shape` draws its input's shape, `build` the rest. Answers the fused graphs.
pub fn agrees(
    shape: impl Fn(&mut Draft) -> Vec<usize>,
    build: impl Fn(&mut Draft, OutletId) -> TVec<OutletId>,
) -> Vec<Graph> {
    let graph_of = |seed| {
        let mut draft = Draft { model: TypedModel::default(), random: Random::new(seed), next: 0 };
        let shape = shape(&mut draft);
        let input = draft.model.add_source("input", f32::fact(&*shape)).unwrap();
        let outputs = build(&mut draft, input);
        draft.model.select_output_outlets(&outputs).unwrap();
        let picture = draft.noise(&shape);
        let expected = draft.model.clone().into_runnable().unwrap().run(tvec!(picture.clone().into_tvalue())).unwrap();
        let singles: Vec<f32> = picture.to_plain_array_view::<f32>().unwrap().iter().copied().collect();
        let mut graph = lower(&simplify(draft.model).unwrap()).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        for stage in ["lowered", "fused"] {
            let found = reference::run(&graph, &singles);
            for (&output, expected) in graph.outputs.iter().zip(&expected) {
                assert_eq!(graph.values[output].shape, expected.shape(), "seed {seed}");
                let expected = expected.cast_to::<f32>().unwrap();
                let expected: Vec<f32> = expected.to_plain_array_view::<f32>().unwrap().iter().copied().collect();
                let worst = worst(&found[output], &expected);
                assert!(worst < BOUND, "seed {seed}, {stage}: {worst}: {:#?}", graph.nodes);
            }
            fuse(&mut graph);
        }
        graph
    };
    (0..ROUNDS).map(graph_of).collect()
}

pub fn kinds(graph: &Graph) -> Vec<String> {
    graph.nodes.iter().map(|node| format!("{:?}", node.op)).collect()
}

pub fn pool(draft: &mut Draft, channels: [usize; 2], is_padded: bool) -> PoolSpec {
    let kernel = draft.sizes(2, 3);
    let mut pads =
        || -> TVec<usize> { kernel.iter().map(|&size| if is_padded { draft.up_to(size) } else { 0 }).collect() };
    let (before, after) = (pads(), pads());
    let padding = match draft.up_to(4) {
        0 if is_padded => PaddingSpec::SameUpper,
        1 if is_padded => PaddingSpec::SameLower,
        _ => PaddingSpec::Explicit(before, after),
    };
    let strides = draft.sizes(2, 3);
    PoolSpec::new(DataFormat::NCHW, kernel.into(), padding, None, Some(strides.into()), channels[0], channels[1])
}

pub fn conv(draft: &mut Draft, x: OutletId, outputs: usize, groups: usize, pool_spec: PoolSpec) -> OutletId {
    let inputs = draft.shape(x)[1];
    let filters = [&[outputs, inputs / groups], &*pool_spec.kernel_shape].concat();
    let (filters, bias) = (draft.weights(&filters), draft.weights(&[outputs]));
    let op = Conv::new(pool_spec, KernelFormat::OIHW, groups, None);
    draft.wire(op, &[x, filters, bias])[0]
}

pub fn picture_of(channels: usize) -> impl Fn(&mut Draft) -> Vec<usize> {
    move |draft| vec![draft.size(2), channels, 5 + draft.size(5), 5 + draft.size(5)]
}

pub fn any(rank: usize) -> impl Fn(&mut Draft) -> Vec<usize> {
    move |draft| draft.sizes(rank, 6)
}
