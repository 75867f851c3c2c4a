//! What follows a sum is done while the sum is still in registers, constants move into weights, and what exporters
//! spell out in many operators (SiLU, GELU, layer norms, means) becomes one again.
//!
//! A rule looks at one node and at what makes its inputs, and rewrites that node to read what comes before; nodes that
//! nobody reads any more are swept out at the end. Rules are tried until none applies.

mod spelled_out;
mod sums;
mod tidy;

use std::collections::HashMap;

use super::graph::{Binary, Finish, Graph, Node, Op, ValueId};

/// Rewrites until nothing more can be fused.
pub fn fuse(graph: &mut Graph) {
    let (makers, readers) = (makers(graph), graph.readers());
    let mut fusion = Fusion { graph: std::mem::take(graph), makers, readers };
    loop {
        let mut is_changed = fusion.twins();
        for index in 0..fusion.graph.nodes.len() {
            while fusion.is_read(index) && RULES.iter().any(|rule| rule(&mut fusion, index).is_some()) {
                is_changed = true;
            }
        }
        if !is_changed {
            break;
        }
    }
    *graph = fusion.graph;
    graph.sweep();
}

/// Rewrites a node, or finds that it does not apply.
type Rule = fn(&mut Fusion, usize) -> Option<()>;

/// In the order in which they are tried on a node.
const RULES: [Rule; 25] = [
    Fusion::constant_last,
    Fusion::nothing,
    Fusion::views,
    Fusion::moved_ones,
    Fusion::slice_first,
    Fusion::constant_sliced,
    Fusion::reshape_first,
    Fusion::relu,
    Fusion::division,
    Fusion::mean,
    Fusion::silu,
    Fusion::gelu,
    Fusion::layer_norm,
    Fusion::broadcast,
    Fusion::constant_into_weights,
    Fusion::scalar_into_weights,
    Fusion::scaled_product,
    Fusion::product_scaled,
    Fusion::side_by_side,
    Fusion::identity,
    Fusion::activation,
    Fusion::residual,
    Fusion::expectation,
    Fusion::attention,
    Fusion::nested_concat,
];

/// A graph with what is known about it while it is rewritten.
struct Fusion {
    graph: Graph,
    /// The node that makes each value.
    makers: Vec<Option<usize>>,
    /// How many living nodes and outputs read each value.
    readers: Vec<usize>,
}

fn makers(graph: &Graph) -> Vec<Option<usize>> {
    let mut makers = vec![None; graph.values.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        makers[node.output] = Some(index);
    }
    makers
}

/// Looking around.
impl Fusion {
    fn is_read(&self, index: usize) -> bool {
        self.readers[self.graph.nodes[index].output] > 0
    }

    fn node(&self, index: usize) -> (&Op, &[ValueId]) {
        (&self.graph.nodes[index].op, &self.graph.nodes[index].inputs)
    }

    /// What makes a value.
    fn made(&self, value: ValueId) -> Option<(&Op, &[ValueId])> {
        self.makers[value].map(|maker| self.node(maker))
    }

    /// What makes a value that is read once.
    fn sole(&self, value: ValueId) -> Option<(&Op, &[ValueId])> {
        self.made(value).filter(|_| self.readers[value] == 1)
    }

    fn shape(&self, value: ValueId) -> &[usize] {
        &self.graph.values[value].shape
    }

    fn result(&self, index: usize) -> &[usize] {
        self.shape(self.graph.nodes[index].output)
    }

    fn known(&self, value: ValueId) -> Option<&[f32]> {
        self.graph.values[value].constant.as_deref()
    }

    /// A constant of one number.
    fn scalar(&self, value: ValueId) -> Option<f32> {
        let [scalar] = *self.known(value)? else { return None };
        Some(scalar)
    }

    /// `x` and `c` of `x · c` or `x / (1/c)` with a constant of one number.
    fn scaled(&self, (op, inputs): (&Op, &[ValueId])) -> Option<(ValueId, f32)> {
        let [x, factor] = *inputs else { return None };
        match op {
            Op::Binary(Binary::Mul) => Some((x, self.scalar(factor)?)),
            Op::Binary(Binary::Div) => Some((x, self.scalar(factor)?.recip())),
            _ => None,
        }
    }

    /// The axis along which the sums or the norms of an operator have their own constants.
    fn channel_axis(&self, (op, inputs): (&Op, &[ValueId])) -> Option<usize> {
        match op {
            Op::Conv(_) => Some(1),
            Op::Linear(_) | Op::LayerNorm { .. } => Some(self.shape(inputs[0]).len() - 1),
            _ => None,
        }
    }

    /// A constant as one number for each channel, if it is the same for everything else.
    fn per_channel(&self, constant: ValueId, axis: usize, channels: usize) -> Option<Vec<f32>> {
        let (shape, data) = (self.shape(constant), self.known(constant)?);
        let is_even = shape.iter().enumerate().all(|(at, &size)| size == 1 || at == axis);
        is_even.then(|| data.iter().copied().cycle().take(channels).collect())
    }

    fn has_plain_sums(op: &Op) -> bool {
        op.finish() == Some(Finish::default())
    }
}

/// Changing.
impl Fusion {
    fn constant(&mut self, shape: &[usize], data: Vec<f32>, like: ValueId) -> ValueId {
        let name = self.graph.values[like].name.clone();
        self.makers.push(None);
        self.readers.push(0);
        self.graph.value(&name, shape, Some(data))
    }

    fn replace(&mut self, index: usize, op: Op, inputs: Vec<ValueId>) {
        inputs.iter().for_each(|&input| self.readers[input] += 1);
        let node = &mut self.graph.nodes[index];
        node.op = op;
        let old = std::mem::replace(&mut node.inputs, inputs);
        old.into_iter().for_each(|input| self.release(input));
    }

    /// Adds a node before another one, whose index grows by one.
    fn insert(&mut self, index: usize, op: Op, inputs: Vec<ValueId>, shape: &[usize]) -> ValueId {
        let name = self.graph.values[self.graph.nodes[index].output].name.clone();
        let output = self.graph.value(&name, shape, None);
        inputs.iter().for_each(|&input| self.readers[input] += 1);
        self.graph.nodes.insert(index, Node { op, inputs, output });
        self.makers.iter_mut().flatten().filter(|maker| **maker >= index).for_each(|maker| *maker += 1);
        self.makers.push(Some(index));
        self.readers.push(0);
        output
    }

    /// One reader less; a node without any no longer reads either.
    fn release(&mut self, value: ValueId) {
        self.readers[value] -= 1;
        if let (0, Some(maker)) = (self.readers[value], self.makers[value]) {
            self.graph.nodes[maker].inputs.clone().into_iter().for_each(|input| self.release(input));
        }
    }

    /// Lets the readers of a node read another value that is the same; outputs keep their own.
    fn forward(&mut self, index: usize, to: ValueId) -> Option<()> {
        let from = self.graph.nodes[index].output;
        if self.graph.outputs.contains(&from) {
            return None;
        }
        let readers: Vec<usize> = (index + 1..self.graph.nodes.len())
            .filter(|&reader| self.is_read(reader) && self.graph.nodes[reader].inputs.contains(&from))
            .collect();
        for reader in readers {
            let Node { op, inputs, .. } = self.graph.nodes[reader].clone();
            let inputs = inputs.into_iter().map(|input| if input == from { to } else { input }).collect();
            self.replace(reader, op, inputs);
        }
        Some(())
    }

    /// Nodes that compute the same become one.
    fn twins(&mut self) -> bool {
        let mut first: HashMap<String, ValueId> = HashMap::new();
        let mut is_changed = false;
        for index in 0..self.graph.nodes.len() {
            let Node { op, inputs, output } = &self.graph.nodes[index];
            if self.is_read(index) {
                let what = format!("{op:?} {inputs:?} {:?}", self.shape(*output));
                let value = *first.entry(what).or_insert(*output);
                is_changed |= value != *output && self.forward(index, value).is_some();
            }
        }
        is_changed
    }
}
