//! Networks of the layers that detectors are made of, drawn at random; and what a baked one answers.

use super::draft::Draft;
use super::*;
use crate::engine::plan::kernels::Kernels;

/// The shape of their input.
pub const INPUT: [usize; 4] = [1, 4, 9, 8];

/// A network without outputs, and the values that nothing reads.
pub fn drawn(seed: u64) -> (Draft, Vec<ValueId>) {
    let mut draft = Draft::new(seed, &INPUT);
    let mut live = vec![draft.graph.input];
    for _ in 0..8 + draft.below(14) {
        let value = grown(&mut draft, &live);
        live.push(value);
    }
    let readers = draft.graph.readers();
    live.retain(|&value| readers[value] == 0);
    (draft, live)
}

/// One more operator on pictures whose channels are whole quads.
fn grown(draft: &mut Draft, live: &[ValueId]) -> ValueId {
    let x = if draft.one_in(2) { live[live.len() - 1] } else { draft.pick(live) };
    let [n, c, h, w] = draft.of(x)[..] else { panic!("no picture") };
    match draft.below(14) {
        0 => {
            let window = Window { kernel: [5; 2], pad: [2; 2], ..Window::POINT };
            draft.add(Op::MaxPool(window), &[x], &[n, c, h, w])
        }
        1 if h * w <= 100 => draft.add(Op::Upsample { height: 2, width: 2 }, &[x], &[n, c, 2 * h, 2 * w]),
        2 if c > 4 => {
            let count = 4 * draft.size(c / 4 - 1);
            let start = draft.below(c - count + 1);
            draft.slice_of(x, 1, start, count)
        }
        3 | 4 => {
            let fits: Vec<ValueId> = live.iter().copied().filter(|&other| draft.of(other)[2..] == [h, w]).collect();
            let parts: Vec<ValueId> = (0..1 + draft.size(2)).map(|_| draft.pick(&fits)).collect();
            draft.concat_of(1, &parts)
        }
        5 => draft.unary(Unary::Abs, x),
        _ => {
            let (kernel, stride) = (draft.pick(&[1, 3, 3]), if h > 6 && draft.one_in(4) { 2 } else { 1 });
            let outputs = 4 * draft.size(6);
            let shape = [n, outputs, h.div_ceil(stride), w.div_ceil(stride)];
            let fits: Vec<ValueId> = live.iter().copied().filter(|&other| draft.of(other) == shape).collect();
            let added = (!fits.is_empty() && draft.one_in(2)).then(|| draft.pick(&fits));
            let residual =
                if added.is_none() { Residual::None } else { draft.pick(&[Residual::Before, Residual::After]) };
            let activation = draft.pick(&[Activation::Silu, Activation::Silu, Activation::Relu, Activation::None]);
            let (filters, bias) =
                (draft.weights(&[outputs, c, kernel, kernel], c * kernel * kernel), draft.constant(&[outputs], 1.0));
            let window = Window { kernel: [kernel; 2], stride: [stride; 2], pad: [kernel / 2; 2], ..Window::POINT };
            let conv = Conv { window, groups: 1, finish: Finish { activation, residual } };
            let inputs: Vec<ValueId> = [x, filters, bias].into_iter().chain(added).collect();
            draft.add(Op::Conv(conv), &inputs, &shape)
        }
    }
}

pub fn size(values: &[f32]) -> f32 {
    (values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32).sqrt()
}

/// The answers of a baked network, the same on one thread and two, and how many of its steps are of a kind.
pub fn found(
    graph: &Graph,
    baked: Result<Baked, String>,
    kernels: &'static Kernels,
    picture: &[f32],
    kind: fn(&Step) -> bool,
) -> (Vec<Vec<f32>>, usize) {
    let Baked { program, weights } =
        baked.unwrap_or_else(|why| panic!("{}: {why}: {}", kernels.isa.name, described(graph)));
    let steps = program.steps.iter().filter(|named| kind(&named.step)).count();
    let mut all: Vec<Vec<Vec<f32>>> = Vec::new();
    for threads in 1..=2 {
        let mut runner = Runner::new(program.clone(), weights.as_slice(), kernels, threads);
        // What is left of another picture is of another size.
        runner.input_mut().fill(1000.0);
        runner.run();
        runner.input_mut().copy_from_slice(picture);
        runner.run();
        all.push((0..graph.outputs.len()).map(|output| runner.output(output).to_vec()).collect());
    }
    assert!(all[0] == all[1], "{}: other answers on two threads: {}", kernels.isa.name, described(graph));
    (all.swap_remove(0), steps)
}
