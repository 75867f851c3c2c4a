//! Networks drawn at random, baked for every instruction set and run by every one this CPU has, on one thread and on
//! several, answer what the reference answers.

mod bytes;
mod convolutions;
mod draft;
mod halves;
mod kinds;
mod layers;

use draft::Draft;
use kinds::{KINDS, Kind, convolved};

use super::*;
use crate::engine::plan::exec::Runner;
use crate::engine::plan::graph::{Activation, Binary, Conv, Finish, Reduce, Residual, Unary, Window};
use crate::engine::plan::kernels::{self, isa};
use crate::engine::plan::{fuse, reference};
use crate::random::Random;

/// By how much of the greatest value of a result each of its values may be off when it is made: what sums of some
/// hundred products in f32 lose in any order, and Winograd's in its.
const NOISE: f32 = 1.0 / 131_072.0;

/// Results of smaller values may be off as if they had one of this size: the kernels' functions are exact to some parts
/// in a million of one, and what cancels leaves its rounding behind.
const SIZE_MIN: f32 = 0.25;

/// The reference's answers, and by how much each output may differ from them.
struct Expected {
    picture: Vec<f32>,
    outputs: Vec<(Vec<f32>, f32)>,
}

impl Expected {
    /// How far an answer may be off depends on what follows: on how a network amplifies what is lost on its way. So it is
    /// run again with every result that is rounded shaken by [`NOISE`], and the bound is a few times what that does.
    fn new(draft: &mut Draft) -> Self {
        let Draft { graph, random, exact, .. } = draft;
        let count = graph.values[graph.input].shape.iter().product();
        // Half of them in steps, so that some are equal, and some zeros have a sign.
        let is_stepped = random.chance(0.5);
        let number = |_| {
            let x = random.uniform(-1.5, 1.5);
            if is_stepped { (x * 4.0).round() / 4.0 } else { x }
        };
        let picture: Vec<f32> = (0..count).map(number).collect();
        let values = reference::run(graph, &picture);
        let mut off = vec![0.0_f32; graph.outputs.len()];
        for _ in 0..2 {
            let shaken = shaken(graph, &picture, exact, random);
            for (&output, off) in graph.outputs.iter().zip(&mut off) {
                *off = off.max(difference(&shaken[output], &values[output]));
            }
        }
        let outputs = graph.outputs.iter().zip(off).map(|(&output, off)| {
            let values = values[output].clone();
            let bound = 4.0 * off + NOISE * greatest(&values).max(SIZE_MIN);
            (values, bound)
        });
        Self { outputs: outputs.collect(), picture }
    }

    /// Whether the network answers anything that could be told from nonsense.
    fn is_telling(&self) -> bool {
        self.outputs.iter().all(|(values, bound)| *bound <= 0.02 * greatest(values).max(0.01))
    }
}

fn greatest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |all, value| all.max(value.abs()))
}

/// The greatest difference; infinite where one of the two is no number.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let off = |(a, b): (&f32, &f32)| if a == b { 0.0 } else { (a - b).abs() };
    found.iter().zip(expected).map(off).fold(0.0, |all, off| if off.is_nan() { f32::INFINITY } else { all.max(off) })
}

/// All values of a network whose results are each a little off.
fn shaken(graph: &Graph, picture: &[f32], exact: &[bool], random: &mut Random) -> Vec<Vec<f32>> {
    let mut values: Vec<Vec<f32>> =
        graph.values.iter().map(|value| value.constant.clone().unwrap_or_default()).collect();
    values[graph.input] = picture.to_vec();
    for node in &graph.nodes {
        let inputs: Vec<reference::View<'_>> =
            node.inputs.iter().map(|&input| (&*values[input], &*graph.values[input].shape)).collect();
        let mut result = reference::apply(&node.op, &inputs, &graph.values[node.output].shape);
        if !exact[node.output] && !node.op.is_view() {
            let size = NOISE * greatest(&result).max(SIZE_MIN);
            result.iter_mut().for_each(|value| *value += random.uniform(-size, size));
        }
        values[node.output] = result;
    }
    values
}

/// Runs a network in every way there is, if it tells anything.
fn agrees(draft: &mut Draft, what: &str) -> bool {
    let expected = Expected::new(draft);
    if !expected.is_telling() {
        return false;
    }
    draft.graph.sweep();
    runs(&draft.graph, &expected, &format!("{what}, as drawn"));
    fuse(&mut draft.graph);
    let values = reference::run(&draft.graph, &expected.picture);
    for (&output, (wanted, bound)) in draft.graph.outputs.iter().zip(&expected.outputs) {
        let off = difference(&values[output], wanted);
        assert!(off <= *bound, "{what}: fused wrongly: {output} is off by {off}: {}", described(&draft.graph));
    }
    runs(&draft.graph, &expected, &format!("{what}, fused"));
    true
}

fn runs(graph: &Graph, expected: &Expected, what: &str) {
    for isa in isa::ALL {
        let what = format!("{what}, {}", isa.name);
        let Baked { program, weights } =
            bake(graph, isa).unwrap_or_else(|why| panic!("{what}: {why}: {}", described(graph)));
        if let Err(invalid) = program.check(weights.len(), isa) {
            panic!("{what}: {}: {}: {}", invalid.part, invalid.fault, described(graph));
        }
        let Some((kernels, true)) = kernels::by_name(isa.name) else { continue };
        let mut alone: Vec<Vec<f32>> = Vec::new();
        for threads in 1..=3 {
            let mut runner = Runner::new(program.clone(), weights.as_slice(), kernels, threads);
            // What is read before it is written, or by mistake, is no number.
            runner.input_mut().fill(f32::NAN);
            runner.run();
            runner.input_mut().copy_from_slice(&expected.picture);
            runner.run();
            for (index, (values, bound)) in expected.outputs.iter().enumerate() {
                let found = runner.output(index);
                if threads == 1 {
                    let off = difference(found, values);
                    assert!(off <= *bound, "{what}: output {index} is off by {off}, not {bound}: {}", described(graph));
                    alone.push(found.to_vec());
                }
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
                assert!(bits(found) == bits(&alone[index]), "{what}: other bits on {threads} threads");
            }
        }
    }
}

/// A network in lines.
fn described(graph: &Graph) -> String {
    let value = |value: ValueId| {
        let kind = if graph.values[value].constant.is_some() { "constant " } else { "" };
        format!("{kind}{value} {:?}", graph.values[value].shape)
    };
    let line = |node: &Node| {
        let inputs: Vec<String> = node.inputs.iter().map(|&input| value(input)).collect();
        format!("\n  {} = {:?} of {}", value(node.output), node.op, inputs.join(", "))
    };
    let lines: String = graph.nodes.iter().map(line).collect();
    format!("input {}{lines}\n  outputs {:?}", value(graph.input), graph.outputs)
}

/// Seeds of a property; `FIRST=1000 ROUNDS=5000` for a longer hunt among others.
fn seeds(rounds: u64) -> std::ops::Range<u64> {
    let number = |name, else_| std::env::var(name).map_or(else_, |number| number.parse().unwrap());
    let first = number("FIRST", 0);
    first..first + number("ROUNDS", rounds)
}

/// Draws networks of one operator, or one group of them, on values that lie anyhow.
fn alone(rounds: u64, name: &str, wants_picture: bool, kind: Kind) {
    let (mut count, seeds) = (0, seeds(rounds));
    for seed in seeds.clone() {
        let mut draft = Draft::of_row(seed);
        let shape = if wants_picture {
            draft.picture()
        } else {
            let rank = draft.size(5);
            draft.shape(rank, if rank > 3 { 5 } else { 12 })
        };
        let x = draft.computed(&shape, 2);
        let Some(y) = kind(&mut draft, x) else { continue };
        draft.expose(y);
        count += u64::from(agrees(&mut draft, &format!("{name}, seed {seed}")));
    }
    assert!(2 * count >= seeds.end - seeds.start, "{name}: {count} of {seeds:?}");
}

fn kinds(names: &[&str], rounds: u64) {
    for name in names {
        let (_, kind, wants_picture) = KINDS.into_iter().find(|(other, ..)| other == name).unwrap();
        alone(rounds, name, wants_picture, kind);
    }
}

#[test]
fn elements() {
    kinds(&["unary", "binary", "broadcast"], 60);
}

#[test]
fn views() {
    kinds(&["concat", "split", "slice", "reshape", "permute", "windows"], 40);
}

#[test]
fn rows() {
    kinds(&["softmax", "expectation", "layer norm", "reduce"], 60);
}

#[test]
fn places() {
    kinds(&["top", "gather", "resample"], 50);
}

#[test]
fn products() {
    kinds(&["linear", "product", "attention", "attention of anything"], 60);
}

#[test]
fn pictures() {
    kinds(&["pool", "upsample", "grid sample"], 40);
}

#[test]
fn convolutions() {
    kinds(&["conv", "depthwise"], 120);
}

#[test]
fn convolutions_by_winograd() {
    for seed in seeds(24) {
        let mut draft = Draft::of_row(seed);
        let [c, outputs] = [0; 2].map(|_| draft.pick(&[4, 8, 8, 16, 24, 40, 80]));
        let [h, w] = [0; 2].map(|_| 16 + draft.below(9));
        let pad = [draft.below(3), draft.below(3)];
        let to = [h + pad[0] - 2 + draft.below(3), w + pad[1] - 2 + draft.below(3)];
        let window = Window { kernel: [3; 2], pad, ..Window::POINT };
        let n = if c > 20 { 1 } else { draft.size(2) };
        let x = draft.computed(&[n, c, h, w], 2);
        let Some(y) = convolved(&mut draft, x, 1, outputs, window, to) else { continue };
        draft.expose(y);
        assert!(agrees(&mut draft, &format!("winograd, seed {seed}")));
    }
}

/// Values enough for several items of a step, and no whole number of them.
#[test]
fn many_items() {
    for (name, kind, _) in KINDS {
        for seed in seeds(2) {
            let mut draft = Draft::of_row(seed);
            draft.largest = 1 << 17;
            let shape = draft.pick(&[[1, 21, 33, 31], [2, 8, 37, 41], [1, 5, 83, 61]]);
            let x = draft.computed(&shape, 2);
            let Some(y) = kind(&mut draft, x) else { continue };
            draft.expose(y);
            agrees(&mut draft, &format!("{name} of many values, seed {seed}"));
        }
    }
}

/// What is too large for the step that is the best otherwise is given to another one.
#[test]
fn beyond_the_limits_of_a_step() {
    let mut draft = Draft::of_row(1);
    let x = draft.computed(&[1, 2, 161, 160], 0);
    let picture = draft.add(Op::MaxPool(Window::POINT), &[x], &[1, 2, 161, 160]);
    for reduce in [Reduce::Max, Reduce::Min, Reduce::Mean] {
        let all = draft.add(Op::Reduce { reduce, axes: vec![2, 3] }, &[picture], &[1, 2, 1, 1]);
        draft.graph.outputs.push(all);
    }
    assert!(agrees(&mut draft, "a reduction of a large picture"));

    let mut draft = Draft::of_row(2);
    draft.largest = 1 << 14;
    let x = draft.computed(&[1, 5, 20, 20], 0);
    let window = Window { kernel: [17; 2], pad: [8; 2], ..Window::POINT };
    let y = convolved(&mut draft, x, 5, 1, window, [20, 20]).unwrap();
    let window = Window { kernel: [3; 2], pad: [7, 2], ..Window::POINT };
    let x = draft.computed(&[1, 16, 12, 20], 0);
    let z = convolved(&mut draft, x, 1, 8, window, [24, 22]).unwrap();
    draft.graph.outputs = vec![y, z];
    assert!(agrees(&mut draft, "windows of 17 × 17, and padding of 7"));
}

#[test]
fn what_no_step_can_do_is_an_error() {
    let mut draft = Draft::new(1, &[1, 1, 200, 200]);
    let window = Window { kernel: [200; 2], ..Window::POINT };
    let all = draft.add(Op::MaxPool(window), &[0], &[1, 1, 1, 1]);
    draft.graph.outputs = vec![all];
    let why = bake(&draft.graph, &isa::AVX2).err().unwrap();
    assert!(why.contains("node 0") && why.contains("in a window"), "{why}");
}

/// The way of bugs: ten to twenty operators on whatever is there.
#[test]
fn whole_networks() {
    let (mut count, seeds) = (0, seeds(150));
    for seed in seeds.clone() {
        let mut random = Random::new(seed);
        let shape = if random.chance(0.7) {
            Draft::of_row(seed).picture()
        } else {
            (0..1 + random.below(5)).map(|_| 1 + random.below(6)).collect()
        };
        let mut draft = Draft::new(seed, &shape);
        let mut live = vec![draft.graph.input];
        let mut left = 10 + draft.below(11);
        for _ in 0..100 {
            let x = if draft.one_in(2) { live[live.len() - 1] } else { draft.pick(&live) };
            let (_, kind, _) = draft.pick(&KINDS);
            let Some(y) = kind(&mut draft, x) else { continue };
            live.push(y);
            left -= 1;
            if left == 0 {
                break;
            }
        }
        let unread: Vec<ValueId> = {
            let readers = draft.graph.readers();
            live.iter().copied().filter(|&value| readers[value] == 0).collect()
        };
        draft.graph.outputs = unread.into_iter().rev().take(4).collect();
        if draft.graph.outputs.is_empty() || draft.one_in(4) {
            let another = draft.pick(&live);
            draft.graph.outputs.push(another);
        }
        count += u64::from(agrees(&mut draft, &format!("network {seed}")));
    }
    assert!(10 * count >= 9 * (seeds.end - seeds.start), "{count} of {seeds:?}");
}

/// Outputs that are the input, each other, constants, or views of each other.
#[test]
fn outputs_are_whatever_a_network_says() {
    for seed in seeds(30) {
        let mut draft = Draft::new(seed, &[2, 3, 4, 5]);
        let input = draft.graph.input;
        let a = draft.unary(Unary::Silu, input);
        let turned = draft.permuted(a, &[0, 2, 3, 1]);
        let flat = draft.reshaped(turned, &[2, 60]);
        let seen = draft.reshaped(input, &[6, 20]);
        let part = draft.slice_of(a, 1, 1, 2);
        let joined = draft.concat_of(1, &[part, a, part]);
        let constant = draft.constant(&[3, 7], 1.0);
        let all = [input, a, turned, flat, seen, part, joined, constant];
        draft.graph.outputs = (0..draft.size(5)).map(|_| draft.pick(&all)).collect();
        assert!(agrees(&mut draft, &format!("outputs, seed {seed}")));
    }
}
