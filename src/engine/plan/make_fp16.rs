//! From an ONNX file to a plan in halves: those layers that are sooner for it and stay in their range, compared with tract
//! as a plan in numbers is, by a bound of its own; and, where there are pictures, judged by what the model says of them.

use std::time::Instant;

use super::bake::{Baked, bake, bake_halves};
use super::engine::PlanSession;
use super::file::{Judged, Referee, Refereed, Trust};
use super::graph::Graph;
use super::int8::{Calibration, Method, Options, outputs};
use super::kernels::{self, Kernels};
use super::make::{Failure, Made, Stage, compare, graph_of, head, in_memory, no_memory};
use super::make_int8::Judging;
use super::target::Target;
use crate::engine::tract::{self, fence};
use crate::engine::{Network, Precision};
use crate::random::Random;

/// Makes the plan of a network in halves for a target. Where this CPU cannot run the target's kernels, the portable ones
/// are compared in their place: they round as those do.
///
/// # Errors
/// See [`Failure`].
pub fn make_fp16(
    network: &Network<'_>,
    sha256: &str,
    target: Target,
    threads: usize,
    judging: Option<Judging<'_>>,
    stage: &mut dyn FnMut(Stage),
) -> Result<Made, Failure> {
    let started = Instant::now();
    stage(Stage::Bake);
    let mut made = graph_of(network)?;
    let graph = std::mem::replace(&mut made.made, Err(String::new())).map_err(Failure::Refused)?;
    let mut inputs = typical(network, &made).map_err(Failure::Refused)?;
    inputs.extend(judging.iter().flat_map(|judging| judging.inputs.iter().cloned()));
    stage(Stage::Calibrate);
    let here = target.kernels.unwrap_or_else(kernels::portable);
    // What runs there may run out of memory.
    let run = || -> Result<_, String> {
        let largest = largest(&graph, &inputs, threads)?;
        let judged = judging.map(|judging| judged(&graph, &largest, here, judging)).transpose()?;
        let [for_here, for_target] = [here.isa, target.isa].map(|isa| bake_halves(&graph, isa, &largest));
        Ok((for_here?, for_target?, judged))
    };
    let baked = fence::catch(run).map_err(|why| no_memory(network, why))?;
    let (for_here, Baked { program, weights }, judged) = baked.map_err(Failure::Refused)?;
    stage(Stage::Compare);
    let trust = Trust::Fp16(Refereed { referee: Referee::default(), judged: None });
    let mut head = head(&made, sha256, target.isa, trust);
    let session = PlanSession::new(&head, for_here.program, in_memory(network, &for_here.weights)?, here, threads);
    let mut session = session.map_err(|why| no_memory(network, why))?;
    let referee = compare(&mut session, network, threads, Precision::Fp16)?;
    head.trust = Trust::Fp16(Refereed { referee, judged });
    let weights = in_memory(network, &weights)?;
    Ok(Made { head, program, weights, seconds: started.elapsed().as_secs_f64() })
}

/// Inputs by which the size of values is known without pictures: those that the referee compares on.
fn typical<T>(network: &Network<'_>, made: &tract::FrontEnd<T>) -> Result<Vec<Vec<f32>>, String> {
    let mut random = Random::new(1);
    let noise = (0..made.shape.volume()).map(|_| random.uniform(0.0, 1.0)).collect();
    let mut golden = vec![0.0; made.shape.volume()];
    let Some(picture) = network.picture else { return Ok(vec![noise]) };
    picture(&made.declared, &made.shape, &mut golden)?;
    Ok(vec![noise, golden])
}

/// The largest size of each value of the network in numbers.
fn largest(graph: &Graph, inputs: &[Vec<f32>], threads: usize) -> Result<Vec<f32>, String> {
    let mut calibration = Calibration::new(graph, threads)?;
    inputs.iter().for_each(|input| calibration.observe(input));
    let size = |range: Option<[f32; 2]>| range.map_or(0.0, |[least, most]| most.max(-least));
    Ok(calibration.ranges(Method::Whole).into_iter().map(size).collect())
}

/// The judge's word on what is computed with halves on these kernels.
fn judged(graph: &Graph, largest: &[f32], here: &'static Kernels, judging: Judging<'_>) -> Result<Judged, String> {
    let Judging { inputs, options: Options { error_max, threads, .. }, measure, judge } = judging;
    let numbers = kernels::native();
    let wanted = outputs(bake(graph, numbers.isa)?, numbers, inputs, threads);
    let found = outputs(bake_halves(graph, here.isa, largest)?, here, inputs, threads);
    let error = judge(&wanted, &found)?;
    // Not a number is beyond any bound.
    if error <= error_max {
        return Ok(Judged { measure, error, error_max, images: inputs.len(), golden: None });
    }
    Err(format!("in halves the error on the pictures is {error:.4}; at most {error_max} is accepted"))
}
