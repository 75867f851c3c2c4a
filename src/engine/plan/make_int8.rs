//! From an ONNX file to a plan in bytes: calibrated on pictures, its layers chosen by a judge, and remembered by its answers.

use std::time::Instant;

use super::engine::PlanSession;
use super::file::{Golden, Judged, Measure, Referee, Trust};
use super::int8::{self, Calibration, Judge, Options, quantize};
use super::kernels;
use super::make::{Failure, Made, Stage, graph_of, head, in_memory, no_memory};
use super::target::Target;
use super::{bake, referee};
use crate::engine::tract::fence;
use crate::engine::{Network, Picture, Session};

/// By what a plan in bytes is chosen.
pub struct Judging<'j> {
    /// One for each picture, of the network's shape.
    pub inputs: &'j [Vec<f32>],
    pub options: Options,
    pub measure: Measure,
    pub judge: &'j mut Judge<'j>,
}

impl std::fmt::Debug for Judging<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Judging({} inputs, {:?}, {:?})", self.inputs.len(), self.options, self.measure)
    }
}

/// Makes the plan of a network in bytes for a target. That the network in numbers is right is for the caller to know.
///
/// Where this CPU cannot run the target's kernels, those of another instruction set choose: they give the same numbers
/// within rounding.
///
/// # Errors
/// See [`Failure`]; [`Failure::Refused`] too when no choice of layers is accurate enough.
pub fn make_int8(
    network: &Network<'_>,
    sha256: &str,
    target: Target,
    judging: Judging<'_>,
    stage: &mut dyn FnMut(Stage),
) -> Result<(Made, int8::Report), Failure> {
    let started = Instant::now();
    stage(Stage::Bake);
    let mut made = graph_of(network)?;
    let Judging { inputs, options, measure, judge } = judging;
    let threads = options.threads;
    let chooser = target.kernels.or_else(kernels::int8).unwrap_or_else(kernels::portable);
    let mut choose = |graph| {
        stage(Stage::Calibrate);
        let mut calibration = Calibration::new(&graph, threads)?;
        inputs.iter().for_each(|input| calibration.observe(input));
        stage(Stage::Quantize);
        let (choice, report) = quantize(&graph, &calibration, inputs, chooser, &options, judge)?;
        Ok((bake::bake_quantized(&graph, target.isa, &choice)?, report))
    };
    let graph = std::mem::replace(&mut made.made, Err(String::new())).map_err(Failure::Refused)?;
    // What runs there may run out of memory.
    let chosen = fence::catch(|| choose(graph)).map_err(|why| no_memory(network, why))?;
    let (bake::Baked { program, weights }, report) = chosen.map_err(Failure::Refused)?;
    let judged =
        Judged { measure, error: report.error, error_max: options.error_max, images: inputs.len(), golden: None };
    let mut head = head(&made, sha256, target.isa, Trust::Int8(judged.clone()));
    let mut weights = in_memory(network, &weights)?;
    if let (Some(kernels), Some(picture)) = (target.kernels, network.picture) {
        let session = PlanSession::new(&head, program.clone(), weights, kernels, threads);
        let mut session = session.map_err(|why| no_memory(network, why))?;
        let answers = referee::remembered(&golden_answers(&mut session, picture).map_err(Failure::Refused)?);
        let golden = Golden { arithmetic: kernels::arithmetic(kernels), answers };
        head.trust = Trust::Int8(Judged { golden: Some(golden), ..judged });
        weights = session.into_weights();
    }
    Ok((Made { head, program, weights, seconds: started.elapsed().as_secs_f64() }, report))
}

/// Whether a session in bytes answers the golden frame as it did when it was judged; `None` where that cannot be known:
/// it was judged on a CPU that rounds otherwise, or by another version of this program.
///
/// # Errors
/// It does not, or cannot answer.
pub fn recall(session: &mut dyn Session, picture: Picture<'_>) -> Result<Option<Referee>, String> {
    let here = kernels::int8().map(kernels::arithmetic);
    let golden = session.trust().and_then(Trust::judged).and_then(|judged| judged.golden.clone());
    let Some(golden) = golden.filter(|golden| Some(golden.arithmetic) == here) else { return Ok(None) };
    referee::recall(&golden_answers(session, picture)?, &golden.answers).map(Some)
}

fn golden_answers(session: &mut dyn Session, picture: Picture<'_>) -> Result<Vec<referee::Answer>, String> {
    let (declared, shape) = (session.declared(), session.input_shape());
    picture(&declared, &shape, session.input_mut())?;
    session.run().map_err(|error| error.to_string())?;
    Ok(referee::answers(session))
}
