//! Convolutions of every kind, baked and run by every table of kernels that this CPU has, against their definition.

use crate::engine::plan::bake::bake;
use crate::engine::plan::exec::Runner;
use crate::engine::plan::graph::{Activation, Conv, Finish, Graph, Node, Op, Residual, Value, Window};
use crate::engine::plan::kernels::{self, Kernels, isa};
use crate::engine::plan::reference;
use crate::engine::plan::steps::Step;
use crate::random::Random;

/// Of the largest result: F(4×4, 3×3) loses three bits.
const ERROR_MAX: f32 = 2e-5;

fn here() -> impl Iterator<Item = &'static Kernels> {
    isa::ALL.iter().filter_map(|isa| kernels::by_name(isa.name)).filter_map(|(table, here)| here.then_some(table))
}

/// One convolution of 1 × `channels` × `size`, whose residual, if any, is its input.
fn network(random: &mut Random, channels: usize, size: [usize; 2], outputs: usize, conv: Conv) -> Graph {
    let mut values = Vec::new();
    let mut value = |shape: &[usize], constant: Option<Vec<f32>>| {
        values.push(Value { name: format!("value {}", values.len()), shape: shape.to_vec(), constant });
        values.len() - 1
    };
    let (window, depth) = (conv.window, channels / conv.groups);
    let side = |axis: usize| {
        let reach = (window.kernel[axis] - 1) * window.dilation[axis] + 1;
        (size[axis] + 2 * window.pad[axis] - reach) / window.stride[axis] + 1
    };
    let filters = [outputs, depth, window.kernel[0], window.kernel[1]];
    let mut numbers = |count: usize| Some((0..count).map(|_| random.uniform(-1.0, 1.0)).collect::<Vec<f32>>());
    let input = value(&[1, channels, size[0], size[1]], None);
    let weights = value(&filters, numbers(filters.iter().product()));
    let bias = value(&[outputs], numbers(outputs));
    let output = value(&[1, outputs, side(0), side(1)], None);
    let mut inputs = vec![input, weights, bias];
    if conv.finish.residual != Residual::None {
        inputs.push(input);
    }
    Graph { values, nodes: vec![Node { op: Op::Conv(conv), inputs, output }], input, outputs: vec![output] }
}

/// Whether all tables agree with the definition; the steps that the last one took.
fn check(graph: &Graph, random: &mut Random) -> Vec<Step> {
    let count = graph.values[graph.input].shape.iter().product();
    let picture: Vec<f32> = (0..count).map(|_| random.uniform(-1.0, 1.0)).collect();
    let expected = &reference::run(graph, &picture)[graph.outputs[0]];
    let scale = expected.iter().fold(1.0, |scale: f32, value| scale.max(value.abs()));
    let mut steps = Vec::new();
    for table in here() {
        let baked = bake(graph, table.isa).unwrap();
        steps = baked.program.steps.iter().map(|named| named.step.clone()).collect();
        let mut runner = Runner::new(baked.program, baked.weights, table, 2);
        runner.input_mut().copy_from_slice(&picture);
        runner.run();
        for (at, (found, expected)) in runner.output(0).iter().zip(expected).enumerate() {
            let name = table.isa.name;
            assert!(
                (found - expected).abs() <= ERROR_MAX * scale,
                "{name}: {found} for {expected} at {at} of {:?}",
                graph.nodes
            );
        }
    }
    steps
}

fn window(kernel: usize, stride: usize, pad: usize) -> Window {
    Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], pad: [pad; 2] }
}

#[test]
fn every_way_to_convolve_agrees_with_its_definition() {
    let mut random = Random::new(11);
    for (channels, size, outputs, window, groups) in [
        (3, [33, 31], 16, window(3, 2, 1), 1),
        (3, [48, 48], 20, window(16, 16, 0), 1),
        (16, [12, 13], 24, window(3, 2, 1), 1),
        (20, [9, 40], 36, window(1, 1, 0), 1),
        (8, [17, 11], 72, window(5, 1, 2), 1),
        (12, [10, 10], 12, window(3, 1, 1), 3),
        (37, [11, 14], 37, window(3, 1, 1), 37),
        (16, [20, 9], 16, window(5, 2, 2), 16),
    ] {
        let finish = Finish { activation: Activation::Silu, residual: Residual::None };
        let graph = network(&mut random, channels, size, outputs, Conv { window, groups, finish });
        check(&graph, &mut random);
    }
}

#[test]
fn every_finish_agrees_with_its_definition() {
    let mut random = Random::new(12);
    for activation in Activation::ALL {
        for residual in [Residual::None, Residual::Before, Residual::After] {
            let finish = Finish { activation, residual };
            for (channels, groups, kernel) in [(20, 1, 1), (20, 20, 3)] {
                let conv = Conv { window: window(kernel, 1, kernel / 2), groups, finish };
                let graph = network(&mut random, channels, [7, 9], channels, conv);
                check(&graph, &mut random);
            }
        }
    }
}

#[test]
fn winograds_way_agrees_with_its_definition() {
    let mut random = Random::new(13);
    for (index, activation) in Activation::ALL.into_iter().enumerate() {
        for residual in [Residual::None, Residual::Before, Residual::After] {
            // Sides that are whole tiles, and not; channels of a half vector, of a whole one, of more than a panel.
            let (size, channels) = ([[40, 40], [41, 38], [43, 39]][index % 3], [24, 16, 72][(index + 1) % 3]);
            let conv = Conv { window: window(3, 1, 1), groups: 1, finish: Finish { activation, residual } };
            let graph = network(&mut random, channels, size, channels, conv);
            let steps = check(&graph, &mut random);
            assert!(steps.iter().any(|step| matches!(step, Step::Winograd(_))), "{steps:?}");
        }
    }
}
