//! Which convolutions work on bytes: all that gain, but those whose error matters.

use super::calibration::values;
use super::{Calibration, Method, Quantized};
use crate::engine::plan::bake::{Baked, bake, bake_kept, bake_quantized};
use crate::engine::plan::exec::Runner;
use crate::engine::plan::graph::{Graph, Op};
use crate::engine::plan::kernels::Kernels;

/// How to choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    pub method: Method,
    /// The largest error, as the judge reckons it, of all outputs together.
    pub error_max: f64,
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        // 99.99 %: of a value of 100,000 numbers ten are cut off.
        Self { method: Method::Percentile(0.9999), error_max: 0.05, threads: 1 }
    }
}

/// One convolution that could work on bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    pub node: usize,
    pub name: String,
    /// Of its result, computed alone with bytes from exact numbers, in decibels.
    pub signal_to_noise_db: f64,
    /// Whether it was kept in numbers.
    pub in_numbers: bool,
}

/// What was chosen and why, worst layers first.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub layers: Vec<Layer>,
    /// The judge's error of what was chosen.
    pub error: f64,
    /// As many choices were tried.
    pub tried: usize,
}

/// Outputs of one input.
pub type Outputs = Vec<Vec<f32>>;

/// Convolutions that may work on bytes: of whole quads, not the first, which reads the picture itself, and not the last
/// ones, whose results are the network's answers.
#[must_use]
pub fn candidates(graph: &Graph) -> Vec<bool> {
    // What depends on the picture with no convolution between, and what a later convolution depends on.
    let mut raw = vec![false; graph.values.len()];
    raw[graph.input] = true;
    for node in &graph.nodes {
        raw[node.output] = !matches!(node.op, Op::Conv(_)) && node.inputs.iter().any(|&input| raw[input]);
    }
    let mut inner = vec![false; graph.values.len()];
    for node in graph.nodes.iter().rev() {
        if inner[node.output] || matches!(node.op, Op::Conv(_) | Op::Linear(_)) {
            node.inputs.iter().for_each(|&input| inner[input] = true);
        }
    }
    let is_candidate = |node: &crate::engine::plan::graph::Node| {
        let Op::Conv(conv) = &node.op else { return false };
        conv.groups == 1 && graph.values[node.inputs[1]].shape[1] % 4 == 0 && !raw[node.inputs[0]] && inner[node.output]
    };
    graph.nodes.iter().map(is_candidate).collect()
}

/// How far outputs are from those of the network in numbers: the root of the mean square of the differences in parts of
/// that of the values, of the worst output.
#[must_use]
pub fn relative_error(wanted: &[Outputs], found: &[Outputs]) -> f64 {
    let outputs = wanted.first().map_or(0, Vec::len);
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error = |output: usize| {
        let (mut off, mut all) = (0.0, 0.0);
        for (wanted, found) in wanted.iter().zip(found) {
            for (a, b) in wanted[output].iter().zip(&found[output]) {
                off += square(a - b);
                all += square(*a);
            }
        }
        (off / f64::max(all, f64::MIN_POSITIVE)).sqrt()
    };
    (0..outputs).map(error).fold(0.0, f64::max)
}

/// All outputs of a baked network for these inputs.
fn outputs(baked: Baked, kernels: &'static Kernels, inputs: &[Vec<f32>], threads: usize) -> Vec<Outputs> {
    let count = baked.program.outputs.len();
    let mut runner = Runner::new(baked.program, baked.weights, kernels, threads);
    let mut run = |input: &Vec<f32>| {
        runner.input_mut().copy_from_slice(input);
        runner.run();
        (0..count).map(|index| runner.output(index).to_vec()).collect()
    };
    inputs.iter().map(&mut run).collect()
}

/// Signal to noise of each node that `quantized` names, in decibels, worst first.
fn sensitivities(graph: &Graph, kernels: &'static Kernels, quantized: &Quantized, inputs: &[Vec<f32>], threads: usize) -> Result<Vec<(usize, f64)>, String> {
    let kept = bake_kept(graph, kernels.isa, Some(quantized))?;
    let mut runner = Runner::new(kept.baked.program, kept.baked.weights, kernels, threads);
    let mut sums = vec![[0.0_f64; 2]; kept.probes.len()];
    let (mut exact, mut found) = (Vec::new(), Vec::new());
    for input in inputs {
        runner.input_mut().copy_from_slice(input);
        runner.run();
        for ((node, probe), sum) in kept.probes.iter().zip(&mut sums) {
            let output = graph.nodes[*node].output;
            let place = kept.places[output].as_ref().ok_or("a result without a place")?;
            values(runner.arena(), place, &graph.values[output].shape, &mut exact);
            values(runner.arena(), probe, &graph.values[output].shape, &mut found);
            for (a, b) in exact.iter().zip(&found) {
                sum[0] += f64::from(*a) * f64::from(*a);
                sum[1] += f64::from(a - b) * f64::from(a - b);
            }
        }
    }
    let decibels = |[signal, noise]: [f64; 2]| 10.0 * (f64::max(signal, 1e-30) / f64::max(noise, 1e-30)).log10();
    let mut found: Vec<(usize, f64)> = kept.probes.iter().zip(sums).map(|(probe, sum)| (probe.0, decibels(sum))).collect();
    found.sort_by(|a, b| a.1.total_cmp(&b.1));
    Ok(found)
}

/// Chooses what works on bytes on these kernels: as few layers as needed stay in numbers, the worst first, until the
/// judge's error of the outputs for `inputs` is small enough. The judge is given the outputs in numbers and those found.
///
/// # Errors
/// The network cannot be baked for these kernels; or even with one layer in bytes the error is too large.
pub fn quantize(
    graph: &Graph,
    calibration: &Calibration,
    inputs: &[Vec<f32>],
    kernels: &'static Kernels,
    options: &Options,
    judge: &mut dyn FnMut(&[Outputs], &[Outputs]) -> f64,
) -> Result<(Quantized, Report), String> {
    if calibration.observed() == 0 {
        return Err("a calibration that has seen nothing".into());
    }
    let all = Quantized { nodes: candidates(graph), ranges: calibration.ranges(options.method) };
    let order = sensitivities(graph, kernels, &all, inputs, options.threads)?;
    let exact = outputs(bake(graph, kernels.isa)?, kernels, inputs, options.threads);
    let mut tried = 0;
    let mut attempt = |kept: usize| -> Result<(Quantized, f64), String> {
        let mut choice = all.clone();
        order[..kept].iter().for_each(|&(node, _)| choice.nodes[node] = false);
        tried += 1;
        let found = outputs(bake_quantized(graph, kernels.isa, &choice)?, kernels, inputs, options.threads);
        Ok((choice, judge(&exact, &found)))
    };
    // The fewest in numbers, by halves: fewer are better for time, more for the error.
    let (mut low, mut high, mut best) = (0, order.len(), None);
    let mut middle = 0;
    while low < high {
        let (choice, error) = attempt(middle)?;
        if error <= options.error_max {
            best = Some((middle, choice, error));
            high = middle;
        } else {
            low = middle + 1;
        }
        middle = (low + high) / 2;
    }
    let Some((kept, choice, error)) = best else {
        return Err(format!("no layer can be computed with bytes at an error of {}", options.error_max));
    };
    let layer = |(at, &(node, signal_to_noise_db)): (usize, &(usize, f64))| Layer {
        node,
        name: graph.values[graph.nodes[node].output].name.clone(),
        signal_to_noise_db,
        in_numbers: at < kept,
    };
    Ok((choice, Report { layers: order.iter().enumerate().map(layer).collect(), error, tried }))
}
