//! Networks drawn at random, with all products in halves that gain by it: they answer about what the reference answers, and
//! the same on any number of threads.

use super::draft::{Draft, volume};
use super::layers::{INPUT, drawn, found, size};
use super::*;
use crate::engine::plan::kernels::isa;

/// By how much the root of the mean square of the differences may be off, in parts of that of the values: of 200 networks
/// half had less than 0.0006, and the worst one 0.0016.
const OFF_MAX: f32 = 0.01;

fn is_conv(step: &Step) -> bool {
    matches!(step, Step::HalfConv(_))
}

/// A network, a picture for it, and the values of all that is computed.
fn network(seed: u64) -> (Draft, Vec<f32>, Vec<Vec<f32>>) {
    let (mut draft, unread) = drawn(seed);
    // Rows of channels, and a product with weights of each.
    draft.graph.outputs = unread
        .into_iter()
        .map(|value| {
            let [n, c, h, w] = draft.of(value)[..] else { panic!("no picture") };
            let flat = draft.reshaped(value, &[n, c, h * w]);
            let rows = draft.permuted(flat, &[0, 2, 1]);
            let (weights, bias) = (draft.weights(&[19, c], c), draft.constant(&[19], 1.0));
            draft.add(Op::Linear(Finish::default()), &[rows, weights, bias], &[n, h * w, 19])
        })
        .collect();
    draft.graph.sweep();
    let picture: Vec<f32> = (0..volume(&INPUT)).map(|_| draft.random.uniform(-1.5, 1.5)).collect();
    let values = reference::run(&draft.graph, &picture);
    (draft, picture, values)
}

fn largest(values: &[Vec<f32>]) -> Vec<f32> {
    values.iter().map(|values| values.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()))).collect()
}

#[test]
fn networks_with_halves() {
    let (mut convs, mut offs, seeds) = (0, Vec::new(), seeds(200));
    for seed in seeds.clone() {
        let (draft, picture, values) = network(seed);
        let graph = &draft.graph;
        for kernels in kernels::fp16().into_iter().chain([kernels::portable()]) {
            let baked = bake_halves(graph, kernels.isa, &largest(&values));
            let (answers, steps) = found(graph, baked, kernels, &picture, is_conv);
            convs += steps;
            for (&output, answer) in graph.outputs.iter().zip(&answers) {
                let differences: Vec<f32> = values[output].iter().zip(answer).map(|(a, b)| a - b).collect();
                let off = size(&differences) / size(&values[output]).max(0.01);
                offs.push(off);
                let isa = kernels.isa.name;
                assert!(off <= OFF_MAX, "network {seed}, {isa}: {output} is off by {off}: {}", described(graph));
            }
        }
    }
    offs.sort_by(f32::total_cmp);
    println!("{convs} in halves; off by {} (half of them), at most {:?}", offs[offs.len() / 2], offs.last());
    assert!(convs as u64 > 2 * (seeds.end - seeds.start));
}

#[test]
fn what_may_leave_the_range_of_halves_stays_in_numbers() {
    let (draft, picture, values) = network(1);
    let portable = kernels::portable();
    let halves = |largest: &[f32]| {
        let baked = bake_halves(&draft.graph, portable.isa, largest);
        found(&draft.graph, baked, portable, &picture, is_conv).1
    };
    assert!(halves(&largest(&values)) > 0);
    for large in [1e4, f32::INFINITY, f32::NAN] {
        assert_eq!(halves(&vec![large; values.len()]), 0);
    }
    let error = bake_halves(&draft.graph, &isa::NEON, &largest(&values)).err().unwrap();
    assert!(error.contains("fp16 plans need a CPU with"), "{error}");
}
