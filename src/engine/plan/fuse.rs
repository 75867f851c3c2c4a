//! What follows a sum is done while the sum is still in registers: SiLU out of its two operators, then activations and
//! residual additions into the convolutions before them.

use super::graph::{Activation, Binary, Graph, Node, Op, Unary, ValueId};

/// Rewrites until nothing more can be fused.
pub fn fuse(graph: &mut Graph) {
    silu(graph);
    activations(graph);
    residuals(graph);
}

/// The node that makes each value.
fn makers(graph: &Graph) -> Vec<Option<usize>> {
    let mut makers = vec![None; graph.values.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        makers[node.output] = Some(index);
    }
    makers
}

/// `x · sigmoid(x)`, where nobody else reads the sigmoid.
fn silu(graph: &mut Graph) {
    let (makers, readers) = (makers(graph), graph.readers());
    let mut dead = Vec::new();
    for index in 0..graph.nodes.len() {
        let Node { op: Op::Binary(Binary::Mul), inputs, .. } = &graph.nodes[index] else { continue };
        let [a, b] = inputs[..] else { continue };
        let gate_of = |gate: ValueId, x: ValueId| {
            let maker = makers[gate].filter(|_| readers[gate] == 1)?;
            let node = &graph.nodes[maker];
            (node.op == Op::Unary(Unary::Sigmoid) && node.inputs == [x]).then_some((maker, x))
        };
        if let Some((maker, x)) = gate_of(b, a).or_else(|| gate_of(a, b)) {
            dead.push(maker);
            let node = &mut graph.nodes[index];
            (node.op, node.inputs) = (Op::Unary(Unary::Silu), vec![x]);
        }
    }
    remove(graph, &dead);
}

/// An activation whose input only it reads becomes part of the convolution that makes it.
fn activations(graph: &mut Graph) {
    let (makers, readers) = (makers(graph), graph.readers());
    let mut dead = Vec::new();
    for index in 0..graph.nodes.len() {
        let Node { op: Op::Unary(unary), inputs, output } = &graph.nodes[index] else { continue };
        let (x, output) = (inputs[0], *output);
        let activation = match unary {
            Unary::Silu => Activation::Silu,
            Unary::Relu => Activation::Relu,
            _ => continue,
        };
        let Some(maker) = makers[x].filter(|_| readers[x] == 1) else { continue };
        let Op::Conv(conv) = &mut graph.nodes[maker].op else { continue };
        if conv.activation == Activation::None && !conv.residual {
            conv.activation = activation;
            graph.nodes[maker].output = output;
            dead.push(index);
        }
    }
    remove(graph, &dead);
}

/// A sum of two values of one shape, of which one comes from a convolution that nobody else reads and the other is
/// there before that convolution runs.
fn residuals(graph: &mut Graph) {
    let (makers, readers) = (makers(graph), graph.readers());
    let mut dead = Vec::new();
    for index in 0..graph.nodes.len() {
        let Node { op: Op::Binary(Binary::Add), inputs, output } = &graph.nodes[index] else { continue };
        let ([a, b], output) = (<[ValueId; 2]>::try_from(inputs.as_slice()).expect("a sum has two"), *output);
        if graph.values[a].shape != graph.values[b].shape {
            continue;
        }
        for (sum, other) in [(b, a), (a, b)] {
            let Some(maker) = makers[sum].filter(|_| readers[sum] == 1) else { continue };
            if graph.values[other].constant.is_some() || makers[other].is_some_and(|made| made >= maker) {
                continue;
            }
            let node = &mut graph.nodes[maker];
            let Op::Conv(conv) = &mut node.op else { continue };
            if !conv.residual {
                conv.residual = true;
                node.inputs.push(other);
                node.output = output;
                dead.push(index);
                break;
            }
        }
    }
    remove(graph, &dead);
}

fn remove(graph: &mut Graph, dead: &[usize]) {
    let mut index = 0;
    graph.nodes.retain(|_| {
        index += 1;
        !dead.contains(&(index - 1))
    });
}
