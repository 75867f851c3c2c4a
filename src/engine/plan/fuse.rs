//! What follows a sum is done while the sum is still in registers, constants move into weights, and what exporters
//! spell out in many operators (SiLU, GELU, layer norms, means) becomes one again.
//!
//! A rule looks at one node and at what makes its inputs, and rewrites that node to read what comes before; nodes that
//! nobody reads any more are swept out at the end. Rules are tried until none applies.

use std::collections::HashMap;

use super::graph::{Activation, Binary, Conv, Finish, Graph, Node, Op, Reduce, Residual, Unary, ValueId, Window};
use super::reference;

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

/// Tidying.
impl Fusion {
    /// `c + x` is `x + c`.
    fn constant_last(&mut self, index: usize) -> Option<()> {
        let (&Op::Binary(op), &[a, b]) = self.node(index) else { return None };
        let commutes = matches!(op, Binary::Add | Binary::Mul | Binary::Max | Binary::Min);
        if !commutes || self.known(a).is_none() || self.known(b).is_some() {
            return None;
        }
        self.graph.nodes[index].inputs = vec![b, a];
        Some(())
    }

    /// What changes nothing.
    fn nothing(&mut self, index: usize) -> Option<()> {
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
    fn views(&mut self, index: usize) -> Option<()> {
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
    fn moved_ones(&mut self, index: usize) -> Option<()> {
        let (Op::Permute { order }, &[x]) = self.node(index) else { return None };
        let longer: Vec<usize> = order.iter().copied().filter(|&axis| self.shape(x)[axis] != 1).collect();
        if !longer.is_sorted() {
            return None;
        }
        self.replace(index, Op::Reshape, vec![x]);
        Some(())
    }

    /// A slice of what was broadcast along other axes is a slice broadcast.
    fn slice_first(&mut self, index: usize) -> Option<()> {
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
    fn constant_sliced(&mut self, index: usize) -> Option<()> {
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
    fn reshape_first(&mut self, index: usize) -> Option<()> {
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
    fn nested_concat(&mut self, index: usize) -> Option<()> {
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
    fn broadcast(&mut self, index: usize) -> Option<()> {
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

/// Operators that were spelled out.
impl Fusion {
    /// `max(x, 0)`.
    fn relu(&mut self, index: usize) -> Option<()> {
        let (Op::Binary(Binary::Max), &[x, zero]) = self.node(index) else { return None };
        if self.scalar(zero)? != 0.0 {
            return None;
        }
        self.replace(index, Op::Unary(Unary::Relu), vec![x]);
        Some(())
    }

    /// `x · (1 / y)`.
    fn division(&mut self, index: usize) -> Option<()> {
        let (Op::Binary(Binary::Mul), &[a, b]) = self.node(index) else { return None };
        for (x, inverse) in [(a, b), (b, a)] {
            if let Some((Op::Unary(Unary::Reciprocal), &[y])) = self.made(inverse) {
                self.replace(index, Op::Binary(Binary::Div), vec![x, y]);
                return Some(());
            }
        }
        None
    }

    /// A sum over `n` values, divided by `n`.
    fn mean(&mut self, index: usize) -> Option<()> {
        let (sum, factor) = self.scaled(self.node(index))?;
        let (Op::Reduce { reduce: Reduce::Sum, axes }, &[x]) = self.made(sum)? else { return None };
        #[expect(clippy::cast_precision_loss, reason = "beyond 2^24 values the factor is no nearer")]
        let count = axes.iter().map(|&axis| self.shape(x)[axis]).product::<usize>() as f32;
        if (factor * count - 1.0).abs() > 1e-6 {
            return None;
        }
        let axes = axes.clone();
        self.replace(index, Op::Reduce { reduce: Reduce::Mean, axes }, vec![x]);
        Some(())
    }

    /// `x · sigmoid(x)`.
    fn silu(&mut self, index: usize) -> Option<()> {
        let (Op::Binary(Binary::Mul), &[a, b]) = self.node(index) else { return None };
        for (x, gate) in [(a, b), (b, a)] {
            if self.sole(gate) == Some((&Op::Unary(Unary::Sigmoid), &[x])) {
                self.replace(index, Op::Unary(Unary::Silu), vec![x]);
                return Some(());
            }
        }
        None
    }

    /// The factors of a product, and the constant one.
    fn factors(&self, (op, inputs): (&Op, &[ValueId]), factors: &mut Vec<ValueId>) -> f32 {
        if let Some((x, constant)) = self.scaled((op, inputs)) {
            return constant * self.factors_of(x, factors);
        }
        inputs.iter().map(|&input| self.factors_of(input, factors)).product()
    }

    fn factors_of(&self, value: ValueId, factors: &mut Vec<ValueId>) -> f32 {
        match self.sole(value).filter(|(op, _)| matches!(op, Op::Binary(Binary::Mul))) {
            Some(product) => self.factors(product, factors),
            None => match self.sole(value).and_then(|made| self.scaled(made)) {
                Some((x, constant)) => constant * self.factors_of(x, factors),
                None => {
                    factors.push(value);
                    1.0
                }
            },
        }
    }

    /// `x · (1 + erf(x / √2)) / 2`, in whichever order.
    fn gelu(&mut self, index: usize) -> Option<()> {
        let (op, inputs) = self.node(index);
        if !matches!(op, Op::Binary(Binary::Mul | Binary::Div)) {
            return None;
        }
        let mut factors = Vec::new();
        let half = self.factors((op, inputs), &mut factors);
        let &[a, b] = factors.as_slice() else { return None };
        let is_near = |value: f32, wanted: f32| (value / wanted - 1.0).abs() < 1e-6;
        let source = |gate: ValueId| {
            let (Op::Binary(Binary::Add), &[error, one]) = self.sole(gate)? else { return None };
            let (Op::Unary(Unary::Erf), &[inner]) = self.sole(error)? else { return None };
            let (x, factor) = self.scaled(self.sole(inner)?)?;
            (self.scalar(one) == Some(1.0) && is_near(factor, std::f32::consts::FRAC_1_SQRT_2)).then_some(x)
        };
        let x = source(b).filter(|&x| x == a).or_else(|| source(a).filter(|&x| x == b))?;
        if !is_near(half, 0.5) || self.shape(x) != self.result(index) {
            return None;
        }
        self.replace(index, Op::Unary(Unary::Gelu), vec![x]);
        Some(())
    }

    /// `(x - mean) / sqrt(mean of (x - mean)² + ε)` over the last dimension.
    fn layer_norm(&mut self, index: usize) -> Option<()> {
        let (Op::Binary(Binary::Div), &[difference, deviation]) = self.node(index) else { return None };
        let (Op::Binary(Binary::Sub), &[x, mean]) = self.made(difference)? else { return None };
        let (Op::Unary(Unary::Sqrt), &[sum]) = self.made(deviation)? else { return None };
        let (Op::Binary(Binary::Add), &[variance, epsilon]) = self.made(sum)? else { return None };
        let epsilon = self.scalar(epsilon)?;
        let mean_of = |value: ValueId| match self.made(value) {
            Some((Op::Reduce { reduce: Reduce::Mean, axes }, &[of])) => {
                (axes[..] == [self.shape(of).len() - 1]).then_some(of)
            }
            _ => None,
        };
        let is_square = match self.made(mean_of(variance)?)? {
            (Op::Binary(Binary::Mul), inputs) => inputs == [difference, difference],
            (Op::Binary(Binary::Pow), &[of, power]) => of == difference && self.scalar(power) == Some(2.0),
            _ => false,
        };
        if mean_of(mean)? != x || !is_square {
            return None;
        }
        let channels = *self.shape(x).last()?;
        let scale = self.constant(&[channels], vec![1.0; channels], x);
        let shift = self.constant(&[channels], vec![0.0; channels], x);
        self.replace(index, Op::LayerNorm { epsilon }, vec![x, scale, shift]);
        Some(())
    }
}

/// Sums and what follows them.
impl Fusion {
    /// A constant for each channel, after sums or a norm.
    fn constant_into_weights(&mut self, index: usize) -> Option<()> {
        let (&Op::Binary(binary), &[x, constant]) = self.node(index) else { return None };
        let maker = self.sole(x)?;
        let axis = self.channel_axis(maker)?;
        let (op, inputs) = (maker.0.clone(), maker.1.to_vec());
        let is_plain = Self::has_plain_sums(&op) || matches!(op, Op::LayerNorm { .. });
        if !is_plain || self.shape(x) != self.result(index) {
            return None;
        }
        let channels = self.shape(x)[axis];
        let constants = self.per_channel(constant, axis, channels)?;
        let (mut weights, mut bias) = (self.known(inputs[1])?.to_vec(), self.known(inputs[2])?.to_vec());
        let row = weights.len() / channels;
        let factor = |channel: usize| match binary {
            Binary::Div => constants[channel].recip(),
            _ => constants[channel],
        };
        match binary {
            Binary::Add => bias.iter_mut().zip(&constants).for_each(|(bias, constant)| *bias += constant),
            Binary::Sub => bias.iter_mut().zip(&constants).for_each(|(bias, constant)| *bias -= constant),
            Binary::Mul | Binary::Div => {
                weights.iter_mut().enumerate().for_each(|(at, weight)| *weight *= factor(at / row));
                bias.iter_mut().enumerate().for_each(|(at, bias)| *bias *= factor(at));
            }
            Binary::Max | Binary::Min | Binary::Pow => return None,
        }
        let shape = self.shape(inputs[1]).to_vec();
        let weights = self.constant(&shape, weights, inputs[1]);
        let bias = self.constant(&[channels], bias, inputs[2]);
        self.replace(index, op, vec![inputs[0], weights, bias]);
        Some(())
    }

    /// A constant for all, after views of sums.
    fn scalar_into_weights(&mut self, index: usize) -> Option<()> {
        let (&Op::Binary(binary), &[x, constant]) = self.node(index) else { return None };
        let (constant, mut value) = (self.scalar(constant)?, x);
        let is_output = self.graph.outputs.contains(&self.graph.nodes[index].output);
        if is_output || self.shape(x) != self.result(index) {
            return None;
        }
        while let Some((_, inputs)) = self.sole(value).filter(|(op, _)| op.is_view()) {
            value = inputs[0];
        }
        let (op, inputs) = self.sole(value)?;
        let (&[picture, weights, bias], true) = (inputs, Self::has_plain_sums(op)) else { return None };
        let (op, maker) = (op.clone(), self.makers[value]?);
        let change = |data: &[f32], of: fn(f32, f32) -> f32| data.iter().map(|&value| of(value, constant)).collect();
        let (old_weights, old_bias) = (self.known(weights)?, self.known(bias)?);
        let (new_weights, new_bias): (Vec<f32>, Vec<f32>) = match binary {
            Binary::Add => (old_weights.to_vec(), change(old_bias, |value, constant| value + constant)),
            Binary::Sub => (old_weights.to_vec(), change(old_bias, |value, constant| value - constant)),
            Binary::Mul => {
                let times = |value: f32, constant: f32| value * constant;
                (change(old_weights, times), change(old_bias, times))
            }
            Binary::Div => {
                let by = |value: f32, constant: f32| value / constant;
                (change(old_weights, by), change(old_bias, by))
            }
            Binary::Max | Binary::Min | Binary::Pow => return None,
        };
        let (shape, channels) = (self.shape(weights).to_vec(), new_bias.len());
        let weights = self.constant(&shape, new_weights, weights);
        let bias = self.constant(&[channels], new_bias, bias);
        self.replace(maker, op, vec![picture, weights, bias]);
        self.forward(index, x)
    }

    /// A factor on an input of a matrix product, before or after the input was looked at differently.
    fn scaled_product(&mut self, index: usize) -> Option<()> {
        let (&Op::MatMul { scale }, &[a, b]) = self.node(index) else { return None };
        for (slot, mut value) in [(0, a), (1, b)] {
            let (mut reader, mut slot) = (index, slot);
            while let Some(maker) = self.makers[value].filter(|_| self.readers[value] == 1) {
                if let Some((x, factor)) = self.scaled(self.node(maker)) {
                    if self.shape(x) != self.result(maker) {
                        break;
                    }
                    let Node { op, mut inputs, .. } = self.graph.nodes[reader].clone();
                    inputs[slot] = x;
                    self.replace(reader, op, inputs);
                    self.graph.nodes[index].op = Op::MatMul { scale: scale * factor };
                    return Some(());
                }
                if !self.graph.nodes[maker].op.is_view() {
                    break;
                }
                (reader, slot, value) = (maker, 0, self.graph.nodes[maker].inputs[0]);
            }
        }
        None
    }

    /// A factor on a matrix product.
    fn product_scaled(&mut self, index: usize) -> Option<()> {
        let (product, factor) = self.scaled(self.node(index))?;
        let (&Op::MatMul { scale }, inputs) = self.sole(product)? else { return None };
        if self.shape(product) != self.result(index) {
            return None;
        }
        let inputs = inputs.to_vec();
        self.replace(index, Op::MatMul { scale: scale * factor }, inputs);
        Some(())
    }

    /// The sum of two convolutions of one picture is one convolution, where one window holds the other.
    fn side_by_side(&mut self, index: usize) -> Option<()> {
        let (Op::Binary(Binary::Add), &[a, b]) = self.node(index) else { return None };
        let conv_of = |value: ValueId| match self.sole(value) {
            Some((&Op::Conv(conv), &[x, filters, bias])) if Self::has_plain_sums(&Op::Conv(conv)) => {
                Some((conv, x, filters, bias))
            }
            _ => None,
        };
        let (first, second) = (conv_of(a)?, conv_of(b)?);
        let larger = |conv: &Conv| conv.window.kernel.iter().product::<usize>();
        let (outer, inner) = if larger(&first.0) >= larger(&second.0) { (first, second) } else { (second, first) };
        if outer.1 != inner.1 || outer.0.groups != inner.0.groups || outer.0.window.stride != inner.0.window.stride {
            return None;
        }
        let filters = self.held(&outer.0.window, outer.2, &inner.0.window, self.known(inner.2)?)?;
        let bias = self.known(outer.3)?.iter().zip(self.known(inner.3)?).map(|(a, b)| a + b).collect();
        self.merged(index, outer.0, outer.1, [outer.2, outer.3], filters, bias)
    }

    /// The sum of a convolution and its own picture is a convolution.
    fn identity(&mut self, index: usize) -> Option<()> {
        let (Op::Binary(Binary::Add), &[a, b]) = self.node(index) else { return None };
        for (sum, x) in [(a, b), (b, a)] {
            let Some((&Op::Conv(conv), &[picture, filters, bias])) = self.sole(sum) else { continue };
            let is_plain = Self::has_plain_sums(&Op::Conv(conv)) && conv.window.stride == [1, 1];
            if picture != x || !is_plain || self.shape(sum) != self.shape(x) {
                continue;
            }
            let (channels, depth) = (self.shape(filters)[0], self.shape(filters)[1]);
            // In a group, channel `c` of the result is channel `c % depth` of the group's own.
            let mut one = vec![0.0; channels * depth];
            (0..channels).for_each(|channel| one[channel * depth + channel % depth] = 1.0);
            let filters_data = self.held(&conv.window, filters, &Window::POINT, &one)?;
            let bias_data = self.known(bias)?.to_vec();
            return self.merged(index, conv, picture, [filters, bias], filters_data, bias_data);
        }
        None
    }

    /// The filters of an outer window with those of an inner one added where it lies.
    fn held(&self, outer: &Window, filters: ValueId, inner: &Window, added: &[f32]) -> Option<Vec<f32>> {
        let mut data = self.known(filters)?.to_vec();
        let place = |axis: usize, tap: usize| {
            // Distance from where the outer window begins, in pixels and then in taps.
            let pixels = (tap * inner.dilation[axis] + outer.pad[axis]).checked_sub(inner.pad[axis])?;
            let tap = pixels / outer.dilation[axis];
            (pixels % outer.dilation[axis] == 0 && tap < outer.kernel[axis]).then_some(tap)
        };
        let ([kh, kw], [inner_kh, inner_kw]) = (outer.kernel, inner.kernel);
        for (at, &weight) in added.iter().enumerate() {
            let (plane, tap) = (at / (inner_kh * inner_kw), at % (inner_kh * inner_kw));
            let (ky, kx) = (place(0, tap / inner_kw)?, place(1, tap % inner_kw)?);
            data[(plane * kh + ky) * kw + kx] += weight;
        }
        Some(data)
    }

    fn merged(
        &mut self,
        index: usize,
        conv: Conv,
        x: ValueId,
        like: [ValueId; 2],
        filters: Vec<f32>,
        bias: Vec<f32>,
    ) -> Option<()> {
        let (shape, channels) = (self.shape(like[0]).to_vec(), bias.len());
        let filters = self.constant(&shape, filters, like[0]);
        let bias = self.constant(&[channels], bias, like[1]);
        self.replace(index, Op::Conv(conv), vec![x, filters, bias]);
        Some(())
    }

    /// An activation of sums that only it reads.
    fn activation(&mut self, index: usize) -> Option<()> {
        let (&Op::Unary(unary), &[x]) = self.node(index) else { return None };
        let activation = Activation::of(unary)?;
        let (op, inputs) = self.sole(x)?;
        let (mut op, inputs) = (op.clone(), inputs.to_vec());
        let finish = op.finish_mut().filter(|finish| finish.activation == Activation::None)?;
        finish.activation = activation;
        if finish.residual == Residual::After {
            finish.residual = Residual::Before;
        }
        self.replace(index, op, inputs);
        Some(())
    }

    /// The one weighted sum over what a softmax shares out.
    fn expectation(&mut self, index: usize) -> Option<()> {
        let (&Op::Conv(Conv { window: Window::POINT, groups: 1, finish }), &[shares, filters, bias]) = self.node(index)
        else {
            return None;
        };
        let is_plain = finish == Finish::default() && self.known(bias)?.iter().all(|&bias| bias == 0.0);
        if !is_plain || self.shape(filters)[0] != 1 {
            return None;
        }
        let (&Op::Softmax { axis: 1 }, &[x]) = self.sole(shares)? else { return None };
        let weights = self.known(filters)?.to_vec();
        let weights = self.constant(&[weights.len()], weights, filters);
        self.replace(index, Op::Expectation { axis: 1 }, vec![x, weights]);
        Some(())
    }

    /// Two products with a softmax between them, the second one as it is or turned: `v·sᵀ` is `(s·vᵀ)ᵀ`.
    fn attention(&mut self, index: usize) -> Option<()> {
        let (&Op::MatMul { scale: 1.0 }, &[a, b]) = self.node(index) else { return None };
        let rank = self.shape(a).len();
        let turned: Vec<usize> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
        let shares_turned = match self.sole(b) {
            Some((Op::Permute { order }, &[shares])) if *order == turned => Some(shares),
            _ => None,
        };
        let (shares, v) = shares_turned.map_or((a, b), |shares| (shares, a));
        let (&Op::Softmax { axis }, &[scores]) = self.sole(shares)? else { return None };
        let (&Op::MatMul { scale }, &[q, k]) = self.sole(scores)? else { return None };
        let batch = |value: ValueId| &self.shape(value)[..rank - 2];
        let is_known = [q, k, v].iter().any(|&value| self.known(value).is_some());
        if axis != rank - 1 || is_known || [k, v].iter().any(|&other| batch(other) != batch(q)) {
            return None;
        }
        if shares_turned.is_none() {
            self.replace(index, Op::Attention { scale }, vec![q, k, v]);
            return Some(());
        }
        let swapped = |shape: &[usize]| turned.iter().map(|&axis| shape[axis]).collect::<Vec<_>>();
        let (of_v, of_result) = (swapped(self.shape(v)), swapped(self.result(index)));
        let v = self.insert(index, Op::Permute { order: turned.clone() }, vec![v], &of_v);
        let result = self.insert(index + 1, Op::Attention { scale }, vec![q, k, v], &of_result);
        self.replace(index + 2, Op::Permute { order: turned }, vec![result]);
        Some(())
    }

    /// What is added to sums that only the addition reads. Of two sums the later one takes the other.
    fn residual(&mut self, index: usize) -> Option<()> {
        let (Op::Binary(Binary::Add), &[a, b]) = self.node(index) else { return None };
        if self.shape(a) != self.shape(b) || self.known(b).is_some() {
            return None;
        }
        let mut sides = [(a, b), (b, a)];
        sides.sort_by_key(|(sum, _)| std::cmp::Reverse(self.makers[*sum]));
        for (sum, other) in sides {
            let Some((op, inputs)) = self.sole(sum) else { continue };
            let (mut op, mut inputs) = (op.clone(), inputs.to_vec());
            if let Some(finish) = op.finish_mut().filter(|finish| finish.residual == Residual::None) {
                finish.residual = Residual::After;
                inputs.push(other);
                self.replace(index, op, inputs);
                return Some(());
            }
        }
        None
    }
}
