//! Networks of what detectors are made of, drawn at random, with all convolutions in bytes: they answer about what the
//! reference answers, and the same on any number of threads. What is read before it is written, or from the wrong
//! place, is nothing like it.

use super::draft::volume;
use super::layers::{INPUT, drawn, found, size};
use super::*;
use crate::engine::plan::int8::Quantized;

/// By how much the root of the mean square of the differences may be off, in parts of that of the values: of 2000 networks
/// half had less than 0.005, and the worst one 0.056.
const OFF_MAX: f32 = 0.1;

#[test]
fn networks_with_bytes() {
    let (mut quantized_convs, seeds) = (0, seeds(200));
    let mut offs = Vec::new();
    for seed in seeds.clone() {
        let (mut draft, unread) = drawn(seed);
        // Of copies, since outputs lie as the caller wants them, not as convolutions do.
        draft.graph.outputs = unread.into_iter().map(|value| draft.unary(Unary::Neg, value)).collect();
        draft.graph.sweep();
        let graph = &draft.graph;
        let picture: Vec<f32> = (0..volume(&INPUT)).map(|_| draft.random.uniform(-1.5, 1.5)).collect();
        let values = reference::run(graph, &picture);
        let range =
            |values: &Vec<f32>| Some(values.iter().fold([0.0, 0.0], |[a, b]: [f32; 2], &x| [a.min(x), b.max(x)]));
        let nodes = graph.nodes.iter().map(|node| matches!(node.op, Op::Conv(_))).collect();
        let quantized = Quantized { nodes, ranges: values.iter().map(range).collect() };
        for kernels in kernels::int8().into_iter().chain([kernels::portable()]) {
            let baked = bake_quantized(graph, kernels.isa, &quantized);
            let is_conv = |step: &Step| matches!(step, Step::QuantizedConv(_));
            let (answers, steps) = found(graph, baked, kernels, &picture, is_conv);
            quantized_convs += steps;
            for (&output, answer) in graph.outputs.iter().zip(&answers) {
                let wanted = &values[output];
                let differences: Vec<f32> = wanted.iter().zip(answer).map(|(a, b)| a - b).collect();
                let off = size(&differences) / size(wanted).max(0.01);
                offs.push(off);
                assert!(
                    off <= OFF_MAX,
                    "network {seed}, {}: {output} is off by {off}: {}",
                    kernels.isa.name,
                    described(graph)
                );
            }
        }
    }
    offs.sort_by(f32::total_cmp);
    println!("{quantized_convs} in bytes; off by {} (half of them), at most {:?}", offs[offs.len() / 2], offs.last());
    assert!(quantized_convs as u64 > 4 * (seeds.end - seeds.start));
}
