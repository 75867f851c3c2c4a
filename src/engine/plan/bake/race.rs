//! Which way a convolution takes that could take two: by running both on this CPU. Without that, by counting
//! ([`super::Baker::takes_winograd`]).

use super::{Baked, bake_by};
use crate::engine::plan::exec::Runner;
use crate::engine::plan::graph::{Conv, Finish, Graph, Node, Op, Residual, ValueId};
use crate::engine::plan::kernels::Kernels;
use crate::engine::plan::steps::Step;

/// For each node whether it takes Winograd's way; where nothing is said, counting says it.
pub type Ways = Vec<Option<bool>>;

/// Runs of each way, of which the least counts: whatever else happens only takes time.
const ROUNDS: usize = 4;
/// By how much the way that counting says must be beaten, in parts: less is what the same run differs by from one time to
/// the next, and of two ways that are as fast the reason should decide.
const MARGIN: f64 = 0.95;

/// No convolution takes Winograd's way: sums as they are written, which lose the least digits.
pub fn plain(graph: &Graph) -> Ways {
    vec![Some(false); graph.nodes.len()]
}

/// Runs each convolution that could take Winograd's way both ways, with one thread.
///
/// # Errors
/// As [`super::bake`].
pub fn race(graph: &Graph, kernels: &'static Kernels) -> Result<Ways, String> {
    let mut raced: Vec<(Shape, Option<bool>)> = Vec::new();
    let mut way = |node: &Node| -> Result<Option<bool>, String> {
        let Op::Conv(conv) = &node.op else { return Ok(None) };
        let shape = Shape::of(graph, node, conv);
        if let Some((_, known)) = raced.iter().find(|(known, _)| *known == shape) {
            return Ok(*known);
        }
        let faster = faster(graph, node, conv, kernels)?;
        raced.push((shape, faster));
        Ok(faster)
    };
    graph.nodes.iter().map(&mut way).collect()
}

/// What the time of a convolution hangs on.
#[derive(PartialEq)]
struct Shape {
    conv: Conv,
    values: [Vec<usize>; 3],
}

impl Shape {
    fn of(graph: &Graph, node: &Node, conv: &Conv) -> Self {
        let shape = |value: ValueId| graph.values[value].shape.clone();
        Self { conv: *conv, values: [shape(node.inputs[0]), shape(node.inputs[1]), shape(node.output)] }
    }
}

/// Whether Winograd's way is the faster one for a node; `None` where it could not take it.
fn faster(graph: &Graph, node: &Node, conv: &Conv, kernels: &'static Kernels) -> Result<Option<bool>, String> {
    // By itself; what it adds takes the same time either way.
    let mut alone = Graph::default();
    let mut value = |of: ValueId| {
        let of = &graph.values[of];
        alone.value(&of.name, &of.shape, of.constant.clone())
    };
    let inputs: Vec<ValueId> = node.inputs[..3].iter().map(|&input| value(input)).collect();
    let output = value(node.output);
    let finish = Finish { residual: Residual::None, ..conv.finish };
    (alone.input, alone.outputs) = (inputs[0], vec![output]);
    alone.nodes.push(Node { op: Op::Conv(Conv { finish, ..*conv }), inputs, output });
    let bake = |winograd: bool| bake_by(&alone, kernels.isa, &[Some(winograd)]);
    let (direct, winograd) = (bake(false)?, bake(true)?);
    if !is_winograd(&winograd) {
        return Ok(None);
    }
    let counted = is_winograd(&bake_by(&alone, kernels.isa, &[])?);
    let [direct, winograd] = [direct, winograd].map(|baked| time(baked, kernels));
    let (first, other) = if counted { (winograd, direct) } else { (direct, winograd) };
    Ok(Some(counted == (other >= first * MARGIN)))
}

fn is_sums(step: &Step) -> bool {
    matches!(step, Step::Conv(_) | Step::Winograd(_))
}

fn is_winograd(baked: &Baked) -> bool {
    baked.program.steps.iter().any(|named| matches!(named.step, Step::Winograd(_)))
}

/// The least time of the sums, without what brings their input and takes their result, in seconds.
fn time(baked: Baked, kernels: &'static Kernels) -> f64 {
    let sums: Vec<bool> = baked.program.steps.iter().map(|named| is_sums(&named.step)).collect();
    let mut runner = Runner::new(baked.program, baked.weights, kernels, 1);
    let mut run = |_| {
        let mut times = vec![0.0; sums.len()];
        runner.profile(&mut times);
        times.iter().zip(&sums).filter(|(_, sums)| **sums).map(|(time, _)| time).sum::<f64>()
    };
    (0..ROUNDS).map(&mut run).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::graph::{Activation, Window};
    use crate::engine::plan::kernels;

    /// A convolution of so many channels with a window of this side and stride, as a network.
    fn network(channels: usize, side: usize, stride: usize) -> Graph {
        let mut graph = Graph::default();
        graph.input = graph.value("picture", &[1, channels, 16, 16], None);
        let weights = (0..channels * channels * side * side).map(|index| (index % 7) as f32 * 0.01).collect();
        let filters = graph.value("filters", &[channels, channels, side, side], Some(weights));
        let bias = graph.value("bias", &[channels], Some(vec![0.5; channels]));
        let output = graph.value("result", &[1, channels, 16 / stride, 16 / stride], None);
        let window = Window { kernel: [side; 2], stride: [stride; 2], dilation: [1; 2], pad: [side / 2; 2] };
        let finish = Finish { activation: Activation::Silu, residual: Residual::None };
        let op = Op::Conv(Conv { window, groups: 1, finish });
        graph.nodes.push(Node { op, inputs: vec![graph.input, filters, bias], output });
        graph.outputs = vec![output];
        graph
    }

    #[test]
    fn only_what_could_go_either_way_is_raced() {
        let kernels = kernels::native();
        assert_eq!(race(&network(32, 3, 2), kernels), Ok(vec![None]));
        assert_eq!(race(&network(32, 1, 1), kernels), Ok(vec![None]));
        // Which one wins is the CPU's affair.
        assert!(race(&network(32, 3, 1), kernels).unwrap()[0].is_some());
    }

    #[test]
    fn what_is_chosen_is_baked() {
        let (graph, isa) = (network(32, 3, 1), kernels::native().isa);
        for winograd in [false, true] {
            assert_eq!(is_winograd(&bake_by(&graph, isa, &[Some(winograd)]).unwrap()), winograd);
        }
        assert!(!is_winograd(&bake_by(&graph, isa, &plain(&graph)).unwrap()));
        // A way that cannot be taken is not.
        assert!(!is_winograd(&bake_by(&network(32, 3, 2), isa, &[Some(true)]).unwrap()));
    }
}
