//! Where every value lies: channels last, splits, concatenations and reshapes without a copy wherever strides allow it.
//!
//! A value is a strided view of a buffer. From the last node to the first, what is concatenated is placed inside the
//! concatenation; then, from the first to the last, what only looks at a value differently becomes a view of it.
//! Offsets and strides count values (4 bytes).

use super::graph::{Graph, Node, Op, ValueId};

/// A strided view of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub buffer: usize,
    pub offset: usize,
    pub strides: Vec<usize>,
}

/// Places of all values that are not constant, and the volumes of the buffers they lie in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub places: Vec<Option<Place>>,
    pub buffers: Vec<usize>,
}

/// Strides of a dense value whose dimensions lie in this order, the last one closest together.
#[must_use]
pub fn dense(shape: &[usize], order: impl DoubleEndedIterator<Item = usize>) -> Vec<usize> {
    let (mut strides, mut next) = (vec![0; shape.len()], 1);
    for axis in order.rev() {
        strides[axis] = next;
        next *= shape[axis];
    }
    strides
}

/// C order.
#[must_use]
pub fn c_order(shape: &[usize]) -> Vec<usize> {
    dense(shape, 0..shape.len())
}

/// The order in which each value's dimensions lie best, outermost first: pictures channels last, and whatever is made of
/// them as it comes.
fn orders(graph: &Graph) -> Vec<Vec<usize>> {
    let mut orders: Vec<Vec<usize>> = graph.values.iter().map(|value| (0..value.shape.len()).collect()).collect();
    for node in &graph.nodes {
        let shape = graph.values[node.output].shape.as_slice();
        let rank = shape.len();
        // The operand that decides: the first of full size that is not constant.
        let main = node
            .inputs
            .iter()
            .copied()
            .find(|&input| graph.values[input].constant.is_none() && graph.values[input].shape.len() == rank);
        let inherited = main.map_or_else(|| (0..rank).collect(), |main| orders[main].clone());
        orders[node.output] = match &node.op {
            Op::Conv(_) | Op::MaxPool(_) | Op::Upsample { .. } | Op::GridSample { .. } => vec![0, 2, 3, 1],
            Op::Concat { .. } if rank == 4 && is_picture(graph, node.output) => vec![0, 2, 3, 1],
            Op::Unary(_)
            | Op::Binary(_)
            | Op::Broadcast
            | Op::Concat { .. }
            | Op::Slice { .. }
            | Op::Reduce { .. }
            | Op::Resample { .. } => inherited,
            Op::Permute { order } => {
                // Where dimension `d` of the input went.
                let went = |d: usize| order.iter().position(|&from| from == d).expect("a permutation");
                orders[node.inputs[0]].iter().map(|&d| went(d)).collect()
            }
            Op::Reshape => {
                let from = &graph.values[node.inputs[0]].shape;
                let strides = dense(from, orders[node.inputs[0]].iter().copied());
                match reshaped(from, &strides, shape) {
                    Some(strides) => order_of(&strides, shape),
                    // What becomes a picture is best one as convolutions want it.
                    None if rank == 4 => vec![0, 2, 3, 1],
                    None => (0..rank).collect(),
                }
            }
            Op::Softmax { axis } => inherited.into_iter().filter(|d| d != axis).chain([*axis]).collect(),
            _ => (0..rank).collect(),
        };
    }
    orders
}

/// Dimensions from the farthest apart to the closest together; those of one value first.
fn order_of(strides: &[usize], shape: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..shape.len()).collect();
    order.sort_by_key(|&axis| (shape[axis] != 1, std::cmp::Reverse(strides[axis])));
    order
}

/// Strides of the same values seen as `to`, if there are such.
#[must_use]
pub fn reshaped(from: &[usize], strides: &[usize], to: &[usize]) -> Option<Vec<usize>> {
    let mut out = vec![0; to.len()];
    let (mut i, mut j) = (0, 0);
    while i < from.len() || j < to.len() {
        // The smallest groups of dimensions with equal volume.
        let (first, start) = (i, j);
        let mut volumes = (1, 1);
        while i == first || j == start || volumes.0 != volumes.1 {
            if volumes.0 <= volumes.1 && i < from.len() {
                volumes.0 *= from[i];
                i += 1;
            } else if j < to.len() {
                volumes.1 *= to[j];
                j += 1;
            } else if i < from.len() {
                volumes.0 *= from[i];
                i += 1;
            } else {
                break;
            }
        }
        let group: Vec<usize> = (first..i).filter(|&axis| from[axis] != 1).collect();
        // Only what lies as one run can be cut differently.
        if group.windows(2).any(|pair| strides[pair[0]] != strides[pair[1]] * from[pair[1]]) {
            return None;
        }
        let mut next = group.last().map_or(1, |&axis| strides[axis]);
        for axis in (start..j).rev() {
            out[axis] = next;
            next *= to[axis];
        }
    }
    Some(out)
}

/// Lays out a graph.
#[must_use]
pub fn lay_out(graph: &Graph) -> Layout {
    let mut layout = Layout { places: vec![None; graph.values.len()], buffers: Vec::new() };
    let orders = orders(graph);
    let best = |value: ValueId| dense(&graph.values[value].shape, orders[value].iter().copied());
    let shape = |value: ValueId| graph.values[value].shape.as_slice();
    let is_fixed = |value: ValueId| graph.values[value].constant.is_some() || value == graph.input;
    for &value in graph.outputs.iter().chain([&graph.input]) {
        // One that is named twice is one.
        if layout.places[value].is_none() {
            layout.allocate(value, shape(value), c_order(shape(value)));
        }
    }
    for node in graph.nodes.iter().rev() {
        let placed = layout.places[node.output].clone();
        match (&node.op, placed) {
            (Op::Reshape, None) => {
                // If it cannot be a view of its input as that lies best, the input shall lie so that it can; nor need the
                // pixels of a picture that a product makes be turned for the convolutions that read it.
                let input = node.inputs[0];
                let (from, to) = (shape(input), shape(node.output));
                let is_picture = to.len() == 4 && is_product(graph, input) && is_picture(graph, node.output);
                let order = if is_picture { dense(to, [0, 2, 3, 1].into_iter()) } else { best(node.output) };
                let turns = is_picture || reshaped(from, &best(input), to).is_none();
                let is_free = layout.places[input].is_none() && !is_fixed(input);
                if let Some(strides) = reshaped(to, &order, from).filter(|_| is_free && turns) {
                    let place = layout.allocate(node.output, to, order);
                    layout.places[input] = Some(Place { strides, ..place });
                }
            }
            (Op::Slice { .. } | Op::Permute { .. }, None) => {}
            (Op::Reshape | Op::Permute { .. }, Some(place)) => {
                let input = node.inputs[0];
                if layout.places[input].is_none() && !is_fixed(input) {
                    let strides = match &node.op {
                        Op::Permute { order } => Some(unpermuted(&place.strides, order)),
                        _ => reshaped(shape(node.output), &place.strides, shape(input)),
                    };
                    layout.places[input] = strides.map(|strides| Place { strides, ..place });
                }
            }
            (Op::Concat { axis }, placed) => {
                let place =
                    placed.unwrap_or_else(|| layout.allocate(node.output, shape(node.output), best(node.output)));
                layout.place_in_concat(graph, node, *axis, &place);
            }
            (_, Some(_)) => {}
            (_, None) => {
                layout.allocate(node.output, shape(node.output), best(node.output));
            }
        }
    }
    for node in &graph.nodes {
        if layout.places[node.output].is_some() {
            continue;
        }
        let input = node.inputs[0];
        let view =
            layout.places[input].as_ref().and_then(|place| view(&node.op, place, shape(input), shape(node.output)));
        match view {
            Some(view) => layout.places[node.output] = Some(view),
            None => {
                layout.allocate(node.output, shape(node.output), best(node.output));
            }
        }
    }
    layout
}

/// Whether a value is a product of computed ones, which can be made in either order, or one turned.
fn is_product(graph: &Graph, value: ValueId) -> bool {
    let maker = graph.nodes.iter().find(|node| node.output == value);
    maker.is_some_and(|node| match node.op {
        Op::MatMul { .. } | Op::Attention { .. } => true,
        Op::Permute { .. } => is_product(graph, node.inputs[0]),
        _ => false,
    })
}

/// Whether a convolution reads a value.
fn is_picture(graph: &Graph, value: ValueId) -> bool {
    graph.nodes.iter().any(|node| matches!(node.op, Op::Conv(_)) && node.inputs.contains(&value))
}

/// What a node that computes nothing makes of its input's place.
#[must_use]
pub fn view(op: &Op, place: &Place, from: &[usize], to: &[usize]) -> Option<Place> {
    let Place { buffer, offset, strides } = place.clone();
    match op {
        Op::Slice { axis, start } => Some(Place { buffer, offset: offset + start * strides[*axis], strides }),
        Op::Permute { order } => {
            let strides = order.iter().map(|&axis| strides[axis]).collect();
            Some(Place { buffer, offset, strides })
        }
        Op::Reshape => Some(Place { buffer, offset, strides: reshaped(from, &strides, to)? }),
        _ => None,
    }
}

fn unpermuted(strides: &[usize], order: &[usize]) -> Vec<usize> {
    let mut out = vec![0; strides.len()];
    order.iter().zip(strides).for_each(|(&axis, &stride)| out[axis] = stride);
    out
}

impl Layout {
    fn allocate(&mut self, value: ValueId, shape: &[usize], strides: Vec<usize>) -> Place {
        self.buffers.push(shape.iter().product());
        let place = Place { buffer: self.buffers.len() - 1, offset: 0, strides };
        self.places[value] = Some(place.clone());
        place
    }

    /// Places the inputs of a concatenation inside it, where nothing else has placed them.
    fn place_in_concat(&mut self, graph: &Graph, node: &Node, axis: usize, place: &Place) {
        let mut at = 0;
        let mut index = 0;
        while index < node.inputs.len() {
            let (value, length, inputs) = whole(graph, &node.inputs[index..], axis);
            let is_fixed = graph.values[value].constant.is_some() || value == graph.input;
            if self.places[value].is_none() && !is_fixed {
                let offset = place.offset + at * place.strides[axis];
                self.places[value] = Some(Place { buffer: place.buffer, offset, strides: place.strides.clone() });
            }
            at += length;
            index += inputs;
        }
    }
}

/// The first of these inputs of a concatenation; or, when it and those after it are all the slices of one value in their
/// order, that value. With its length along the axis, and how many inputs it stands for.
fn whole(graph: &Graph, inputs: &[ValueId], axis: usize) -> (ValueId, usize, usize) {
    let length = |value: ValueId| graph.values[value].shape[axis];
    let slice = |value: ValueId| {
        let node = graph.nodes.iter().find(|node| node.output == value)?;
        match node.op {
            Op::Slice { axis: along, start } if along == axis => Some((node.inputs[0], start)),
            _ => None,
        }
    };
    let one = (inputs[0], length(inputs[0]), 1);
    let Some((source, 0)) = slice(inputs[0]) else { return one };
    let mut reached = 0;
    for (count, &input) in inputs.iter().enumerate() {
        if slice(input) != Some((source, reached)) {
            return one;
        }
        reached += length(input);
        if reached == length(source) {
            return (source, reached, count + 1);
        }
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reshape_is_a_view_where_strides_allow() {
        // Channels last: H and W merge, C and H do not.
        let strides = dense(&[1, 64, 8, 8], [0, 2, 3, 1].into_iter());
        assert_eq!(strides, [4096, 1, 512, 64]);
        assert_eq!(reshaped(&[1, 64, 8, 8], &strides, &[1, 64, 64]).unwrap()[1..], [1, 64]);
        assert_eq!(reshaped(&[1, 64, 8, 8], &strides, &[1, 4, 16, 64]).unwrap()[1..], [16, 1, 64]);
        assert_eq!(reshaped(&[1, 64, 8, 8], &strides, &[1, 512, 8]), None);
        assert_eq!(reshaped(&[2, 3], &[3, 1], &[6]), Some(vec![1]));
        assert_eq!(reshaped(&[2, 3], &[1, 2], &[6]), None);
        assert_eq!(reshaped(&[6], &[2], &[1, 2, 3, 1]).unwrap()[1..3], [6, 2]);
    }
}
