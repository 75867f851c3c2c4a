//! Which convolutions work on bytes: all that gain, but those whose error matters.

use super::calibration::values;
use super::{Calibration, Method, Quantized};
use crate::engine::plan::bake::{Baked, bake, bake_kept, bake_quantized};
use crate::engine::plan::exec::Runner;
use crate::engine::plan::graph::{Graph, Op};
use crate::engine::plan::kernels::Kernels;
use crate::engine::plan::kernels::bytes::QUAD;

/// How to choose.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Of these that with the least error is taken.
    pub methods: Vec<Method>,
    /// The largest error, as the judge reckons it, of all outputs together.
    pub error_max: f64,
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        // The rare large numbers of a detector are the objects it is sure of: to cut off more costs what matters, but
        // some networks have outliers that mean nothing.
        let methods = vec![Method::Whole, Method::Percentile(0.99999), Method::Percentile(0.9999), Method::Entropy];
        Self { methods, error_max: 0.02, threads: 1 }
    }
}

/// One convolution that could work on bytes.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Layer {
    #[serde(skip)]
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
    pub method: Method,
    pub layers: Vec<Layer>,
    /// The judge's error of what was chosen.
    pub error: f64,
    /// As many choices were tried.
    pub tried: usize,
}

/// Outputs of one input.
pub type Outputs = Vec<Vec<f32>>;

/// What reckons an error from the outputs in numbers and those found, one of each for every input; or says why it cannot.
pub type Judge<'j> = dyn FnMut(&[Outputs], &[Outputs]) -> Result<f64, String> + 'j;

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
        conv.groups == 1
            && graph.values[node.inputs[1]].shape[1].is_multiple_of(QUAD)
            && !raw[node.inputs[0]]
            && inner[node.output]
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
pub(in crate::engine::plan) fn outputs(
    baked: Baked,
    kernels: &'static Kernels,
    inputs: &[Vec<f32>],
    threads: usize,
) -> Vec<Outputs> {
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
fn sensitivities(
    graph: &Graph,
    kernels: &'static Kernels,
    quantized: &Quantized,
    inputs: &[Vec<f32>],
    threads: usize,
) -> Result<Vec<(usize, f64)>, String> {
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
    let mut found: Vec<(usize, f64)> =
        kept.probes.iter().zip(sums).map(|(probe, sum)| (probe.0, decibels(sum))).collect();
    found.sort_by(|a, b| a.1.total_cmp(&b.1));
    Ok(found)
}

/// Chooses what works on bytes on these kernels: as few layers as needed stay in numbers, the worst first, until the
/// judge's error of the outputs for `inputs` is small enough.
///
/// # Errors
/// The network cannot be baked for these kernels; or even with one layer in bytes the error is too large; or the judge's.
pub fn quantize(
    graph: &Graph,
    calibration: &Calibration,
    inputs: &[Vec<f32>],
    kernels: &'static Kernels,
    options: &Options,
    judge: &mut Judge<'_>,
) -> Result<(Quantized, Report), String> {
    if calibration.observed() == 0 {
        return Err("a calibration that has seen nothing".into());
    }
    let exact = outputs(bake(graph, kernels.isa)?, kernels, inputs, options.threads);
    let mut tried = 0;
    let mut attempt = |choice: &Quantized| -> Result<f64, String> {
        tried += 1;
        let found = outputs(bake_quantized(graph, kernels.isa, choice)?, kernels, inputs, options.threads);
        judge(&exact, &found)
    };
    let mut best: Option<(Method, Quantized, f64)> = None;
    for &method in &options.methods {
        let all = Quantized { nodes: candidates(graph), ranges: calibration.ranges(method) };
        let error = attempt(&all)?;
        if best.as_ref().is_none_or(|(_, _, least)| error < *least) {
            best = Some((method, all, error));
        }
    }
    let (method, all, least) = best.ok_or("no method to choose from")?;
    let order = sensitivities(graph, kernels, &all, inputs, options.threads)?;
    // The fewest in numbers, by halves: fewer are better for time, more for the error.
    let mut found = (least <= options.error_max).then(|| (0, all.clone(), least));
    let (mut low, mut high) = (1, if found.is_some() { 0 } else { order.len() });
    while low < high {
        let kept = usize::midpoint(low, high);
        let mut choice = all.clone();
        order[..kept].iter().for_each(|&(node, _)| choice.nodes[node] = false);
        let error = attempt(&choice)?;
        if error <= options.error_max {
            found = Some((kept, choice, error));
            high = kept;
        } else {
            low = kept + 1;
        }
    }
    let Some((kept, choice, error)) = found else {
        return Err(format!(
            "with all layers in bytes the error is {least:.4}, and no choice of them has one of at most {}",
            options.error_max
        ));
    };
    let layer = |(at, &(node, signal_to_noise_db)): (usize, &(usize, f64))| Layer {
        node,
        name: graph.values[graph.nodes[node].output].name.clone(),
        signal_to_noise_db,
        in_numbers: at < kept,
    };
    Ok((choice, Report { method, layers: order.iter().enumerate().map(layer).collect(), error, tried }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::graph::{Activation, Conv, Finish, Node, Residual, Unary, ValueId, Window};
    use crate::engine::plan::kernels;
    use crate::engine::plan::steps::Step;
    use crate::random::Random;

    struct Builder {
        graph: Graph,
        random: Random,
    }

    impl Builder {
        fn add(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
            let output = self.graph.value(&format!("node {}", self.graph.nodes.len()), shape, None);
            self.graph.nodes.push(Node { op, inputs: inputs.to_vec(), output });
            output
        }

        fn conv(
            &mut self,
            from: ValueId,
            outputs: usize,
            kernel: usize,
            stride: usize,
            added: Option<ValueId>,
        ) -> ValueId {
            let [n, c, h, w] = self.graph.values[from].shape[..] else { panic!("no picture") };
            let window = Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], pad: [kernel / 2; 2] };
            let residual = if added.is_some() { Residual::After } else { Residual::None };
            let op = Op::Conv(Conv { window, groups: 1, finish: Finish { activation: Activation::Silu, residual } });
            // So that results are about as large as inputs.
            let reach = 2.0 / ((c * kernel * kernel) as f32).sqrt();
            let mut constant = |shape: &[usize]| {
                let values = (0..shape.iter().product()).map(|_| self.random.uniform(-reach, reach)).collect();
                self.graph.value("constant", shape, Some(values))
            };
            let (filters, bias) = (constant(&[outputs, c, kernel, kernel]), constant(&[outputs]));
            let inputs: Vec<ValueId> = [from, filters, bias].into_iter().chain(added).collect();
            self.add(op, &inputs, &[n, outputs, h / stride, w / stride])
        }
    }

    /// What detectors are made of; two outputs.
    fn network() -> Graph {
        let mut graph = Builder { graph: Graph::default(), random: Random::new(4) };
        graph.graph.input = graph.graph.value("images", &[1, 3, 40, 40], None);
        let a = graph.conv(0, 16, 3, 2, None);
        let b = graph.conv(a, 32, 1, 1, None);
        let half = graph.add(Op::Slice { axis: 1, start: 16 }, &[b], &[1, 16, 20, 20]);
        let c = graph.conv(half, 16, 3, 1, None);
        let c = graph.conv(c, 16, 3, 1, Some(half));
        let joined = graph.add(Op::Concat { axis: 1 }, &[b, c], &[1, 48, 20, 20]);
        let d = graph.conv(joined, 24, 3, 2, None);
        let window = Window { kernel: [5; 2], stride: [1; 2], dilation: [1; 2], pad: [2; 2] };
        let pooled = graph.add(Op::MaxPool(window), &[d], &[1, 24, 10, 10]);
        let both = graph.add(Op::Concat { axis: 1 }, &[d, pooled], &[1, 48, 10, 10]);
        let e = graph.conv(both, 20, 1, 1, None);
        let wide = graph.add(Op::Upsample { height: 2, width: 2 }, &[e], &[1, 20, 20, 20]);
        let neck = graph.add(Op::Concat { axis: 1 }, &[wide, c], &[1, 36, 20, 20]);
        let f = graph.conv(neck, 20, 3, 1, None);
        let last = graph.conv(f, 12, 3, 2, None);
        let answers = graph.conv(f, 6, 1, 1, None);
        let more = graph.add(Op::Unary(Unary::Sigmoid), &[last], &[1, 12, 10, 10]);
        graph.graph.outputs = vec![answers, more];
        graph.graph
    }

    fn pictures(count: usize) -> Vec<Vec<f32>> {
        let mut random = Random::new(8);
        (0..count).map(|_| (0..3 * 40 * 40).map(|_| random.uniform(0.0, 1.0)).collect()).collect()
    }

    fn calibrated(graph: &Graph) -> Calibration {
        let mut calibration = Calibration::new(graph, 1).unwrap();
        pictures(3).iter().for_each(|picture| calibration.observe(picture));
        calibration
    }

    #[expect(clippy::unnecessary_wraps, reason = "a judge may refuse")]
    fn relative(wanted: &[Outputs], found: &[Outputs]) -> Result<f64, String> {
        Ok(relative_error(wanted, found))
    }

    fn tables() -> Vec<&'static Kernels> {
        let every = kernels::by_name("portable").unwrap().0;
        kernels::int8().into_iter().chain([every]).collect()
    }

    #[test]
    fn bytes_stay_close_to_numbers_and_are_the_same_on_every_instruction_set() {
        let graph = network();
        let (calibration, inputs) = (calibrated(&graph), pictures(2));
        let mut all = Vec::new();
        for table in tables() {
            let options = Options { error_max: 0.03, ..Options::default() };
            let (chosen, report) = quantize(&graph, &calibration, &inputs, table, &options, &mut relative).unwrap();
            assert!(
                report.layers.iter().all(|layer| !layer.in_numbers && layer.signal_to_noise_db > 25.0),
                "{report:?}"
            );
            let baked = bake_quantized(&graph, table.isa, &chosen).unwrap();
            let kinds =
                |wanted: fn(&Step) -> bool| baked.program.steps.iter().filter(|named| wanted(&named.step)).count();
            assert_eq!(kinds(|step| matches!(step, Step::QuantizedConv(_))), 6, "{:?}", baked.program.steps);
            // Bytes are made of the numbers of the first convolution, of the first concatenation, which is one by copying,
            // since the other one has its last part, and of what comes into that one: its numbers are what is copied.
            assert_eq!(kinds(|step| matches!(step, Step::Quantize(_))), 3, "{:?}", baked.program.steps);
            assert_eq!(kinds(|step| matches!(step, Step::QuantizedPool(_))), 1);
            let again = bake_quantized(&graph, table.isa, &chosen).unwrap();
            let one = outputs(baked, table, &inputs, 1);
            assert_eq!(one, outputs(again, table, &inputs, 2));
            all.push(one);
        }
        assert!(all.iter().all(|found| relative_error(&all[0], found) < 0.01));
    }

    #[test]
    fn layers_stay_in_numbers_until_the_error_is_small_enough() {
        let graph = network();
        let (calibration, inputs, table) = (calibrated(&graph), pictures(2), tables()[0]);
        let choose = |error_max: f64| {
            let options = Options { error_max, ..Options::default() };
            quantize(&graph, &calibration, &inputs, table, &options, &mut relative)
        };
        let whole = choose(1.0).unwrap().1;
        let (chosen, report) = choose(whole.error * 0.7).unwrap();
        let kept = report.layers.iter().filter(|layer| layer.in_numbers).count();
        assert!(report.error <= whole.error * 0.7 && kept > 0 && kept < report.layers.len(), "{report:?}");
        assert_eq!(chosen.nodes.iter().filter(|chosen| **chosen).count() + kept, report.layers.len());
        // The worst ones, which come first.
        assert!(report.layers[..kept].iter().all(|layer| layer.in_numbers));
        assert!(report.layers.is_sorted_by(|a, b| a.signal_to_noise_db <= b.signal_to_noise_db));
        assert!(choose(1e-9).unwrap_err().contains("no choice"));
    }

    #[test]
    fn the_first_and_the_last_convolutions_are_no_candidates() {
        let graph = network();
        let convs = graph.nodes.iter().zip(candidates(&graph)).filter(|(node, _)| matches!(node.op, Op::Conv(_)));
        let found: Vec<bool> = convs.map(|(_, candidate)| candidate).collect();
        assert_eq!(found, [false, true, true, true, true, true, true, false, false]);
    }

    #[test]
    fn a_cpu_without_products_of_bytes_refuses() {
        let graph = network();
        let quantized = Quantized { nodes: candidates(&graph), ranges: vec![Some([0.0, 1.0]); graph.values.len()] };
        let error = bake_quantized(&graph, &kernels::isa::AVX2, &quantized).err().unwrap();
        assert!(error.contains("int8 plans need"), "{error}");
        let nothing = Calibration::new(&graph, 1).unwrap();
        let choice = quantize(&graph, &nothing, &pictures(1), tables()[0], &Options::default(), &mut relative);
        assert!(choice.unwrap_err().contains("seen nothing"));
    }
}
