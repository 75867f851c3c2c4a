//! Where the time of an inference goes, step by step, and how near that is to what the core can do.

use std::time::Instant;

use super::exec::Runner;
use super::kernels::{Kernels, peak_flops};
use super::steps::Step;
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
    match step {
        Step::Conv(conv) => {
            let ([rows, columns], taps) = (conv.window.kernel, conv.window.kernel[0] * conv.window.kernel[1]);
            let (input, output) = (conv.input.channels, conv.output.channels);
            let stride = if conv.window.stride == [1, 1] { String::new() } else { format!(" /{}", conv.window.stride[0]) };
            let shape = format!("{}x{} {input}->{output} {rows}x{columns}{stride}", conv.output.height, conv.output.width);
            let flops = 2 * conv.output.pixels() * output * input * taps;
            (kind, shape, flops as u64)
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
