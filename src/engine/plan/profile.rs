//! Where the time of an inference goes, step by step, and how near that is to what the core can do.

use std::time::Instant;

use super::exec::Runner;
use super::graph::Window;
use super::kernels::{Kernels, peak_flops};
use super::steps::{HalfConv, Picture, Step};
use crate::engine::{Profile, StepTime};

/// Rounds of the peak loop in one measurement, about a millisecond, and how often it is measured: the best counts, as the
/// clock and the neighbours allow.
const ROUNDS: usize = 100_000;
const MEASUREMENTS: usize = 20;

/// Times every step; the least time of each counts.
pub fn profile<W: AsRef<[f32]>>(runner: &mut Runner<W>, kernels: &Kernels, inferences: u32) -> Profile {
    let peak = peak(kernels);
    let steps = runner.program().steps.len();
    let (mut best, mut times) = (vec![f64::INFINITY; steps], vec![0.0; steps]);
    for _ in 0..inferences.max(1) {
        times.fill(0.0);
        runner.profile(&mut times);
        best.iter_mut().zip(&times).for_each(|(best, time)| *best = best.min(*time));
    }
    let described = |(named, seconds): (&super::program::Named, f64)| {
        let (kind, shape, flops) = describe(&named.step);
        StepTime { node: named.node.clone(), kind, shape, ms: seconds * 1e3, flops }
    };
    let steps = runner.program().steps.iter().zip(best).map(described).collect();
    Profile { peak_gflops: peak / 1e9, steps }
}

/// Multiplications and additions a second of one core.
fn peak(kernels: &Kernels) -> f64 {
    let once = || {
        let started = Instant::now();
        // SAFETY: these kernels run here: a session of them does.
        let flops = unsafe { peak_flops(kernels, ROUNDS) };
        flops as f64 / started.elapsed().as_secs_f64()
    };
    (0..MEASUREMENTS).map(|_| once()).fold(0.0, f64::max)
}

/// Kind, sizes and work of a step.
fn describe(step: &Step) -> (String, String, u64) {
    let words = format!("{step:?}");
    let kind = words.split('(').next().unwrap_or_default().to_owned();
    let convolution = |output: &Picture, input: usize, window: &Window, each: usize| {
        let [rows, columns] = window.kernel;
        let stride = if window.stride == [1, 1] { String::new() } else { format!(" /{}", window.stride[0]) };
        let Picture { height, width, channels, .. } = *output;
        let shape = format!("{height}x{width} {input}->{channels} {rows}x{columns}{stride}");
        (shape, 2 * (output.pixels() * channels * each * rows * columns) as u64)
    };
    match step {
        Step::Conv(conv) | Step::HalfConv(HalfConv(conv)) => {
            let (shape, flops) = convolution(&conv.output, conv.input.channels, &conv.window, conv.input.channels);
            (kind, shape, flops)
        }
        Step::Winograd(conv) => {
            let window = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad: conv.pad };
            let (shape, flops) = convolution(&conv.output, conv.input.channels, &window, conv.input.channels);
            (kind, shape, flops)
        }
        Step::Depthwise(conv) => {
            let (shape, flops) = convolution(&conv.output, conv.input.channels, &conv.window, 1);
            (kind, shape, flops)
        }
        Step::MatMul(product) => {
            let batch: usize = product.batch.iter().product();
            let shape = format!("{batch} of {}x{} by {}", product.rows, product.depth, product.columns);
            (kind, shape, 2 * (batch * product.rows * product.depth * product.columns) as u64)
        }
        Step::Pool(pool) => {
            let [rows, columns] = pool.window.kernel;
            (kind, format!("{}x{} {} {rows}x{columns}", pool.output.height, pool.output.width, pool.output.channels), 0)
        }
        // What it is applied to is enough to find it by; steps that say their shape have it in a field of that name.
        _ => {
            let shape = words.split("shape: [").nth(1).and_then(|rest| rest.split(']').next());
            (kind, shape.unwrap_or_default().replace(", ", "x"), 0)
        }
    }
}
