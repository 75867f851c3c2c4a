//! From an ONNX file to a plan that can be trusted: read, lowered, fused, baked, and compared with tract.

use std::path::Path;
use std::time::Instant;

use super::bake::{self, Baked, Ways};
use super::engine::PlanSession;
use super::file::{Binding, Head, Referee, Trust};
use super::graph::Graph;
use super::kernels::Isa;
use super::program::Program;
use super::referee::Tolerance;
use super::target::Target;
use super::weights::Weights;
use super::{fuse, lower, referee, simplify};
use crate::engine::tract::{self, Tract, fence};
use crate::engine::{DeclaredInput, Engine, Error, Format, InputShape, LoadOptions, Network, Precision, Session};

/// What is being done, for who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The file is read and becomes a program.
    Bake,
    /// Layers that can be computed in two ways are, on this machine.
    Race,
    /// tract is loaded, and both infer.
    Compare,
    /// Pictures are looked at, for a plan in halves or bytes.
    Calibrate,
    /// Layers are chosen for it.
    Quantize,
    /// The file is written.
    Write,
}

impl Stage {
    /// Those of a precision, in their order.
    #[must_use]
    pub fn of(precision: Precision) -> &'static [Stage] {
        match precision {
            Precision::Fp32 => &[Self::Bake, Self::Race, Self::Compare, Self::Write],
            Precision::Fp16 => &[Self::Bake, Self::Calibrate, Self::Compare, Self::Write],
            Precision::Int8 => &[Self::Compare, Self::Bake, Self::Calibrate, Self::Quantize, Self::Write],
        }
    }

    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Bake => "baking",
            Self::Race => "timing both ways of layers that have two",
            Self::Compare => "comparing with tract",
            Self::Calibrate => "calibrating",
            Self::Quantize => "choosing what works on bytes",
            Self::Write => "writing",
        }
    }
}

/// Why there is no plan.
#[derive(Debug)]
pub enum Failure {
    /// The network has none, and will have none with this build: an operator is not known, or the referee says no.
    Refused(String),
    /// The network cannot be loaded at all, or not now.
    Engine(Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::Engine(error) => error.fmt(f),
        }
    }
}

/// A plan in memory.
#[derive(Debug)]
pub struct Made {
    pub head: Head,
    pub program: Program,
    pub weights: Weights,
    pub seconds: f64,
}

/// Makes the plan of a network for a target; where that runs on this CPU, it is compared with tract. For this machine
/// itself the ways of layers are chosen by running them, for others by counting, so that the same file comes of it.
///
/// # Errors
/// See [`Failure`].
pub fn make(
    network: &Network<'_>,
    sha256: &str,
    target: Target,
    threads: usize,
    stage: &mut dyn FnMut(Stage),
) -> Result<Made, Failure> {
    let started = Instant::now();
    stage(Stage::Bake);
    let mut made = graph_of(network)?;
    let graph = std::mem::replace(&mut made.made, Err(String::new())).map_err(Failure::Refused)?;
    let mut ways = Ways::new();
    if let Some(kernels) = target.kernels.filter(|_| target.here) {
        stage(Stage::Race);
        ways = fenced(network, || bake::race(&graph, kernels))?;
    }
    let trust = Trust::Fp32(Referee { bound: referee::bound(Precision::Fp32), outputs: Vec::new() });
    let mut head = head(&made, sha256, target.isa, trust);
    let mut attempt = |ways: &Ways| -> Result<(Program, Weights), Failure> {
        let Baked { program, weights } = fenced(network, || bake::bake_by(&graph, target.isa, ways))?;
        let mut weights = in_memory(network, &weights)?;
        let Some(kernels) = target.kernels else { return Ok((program, weights)) };
        stage(Stage::Compare);
        let session = PlanSession::new(&head, program.clone(), weights, kernels, threads);
        let mut session = session.map_err(|why| no_memory(network, why))?;
        let referee = compare(&mut session, network, threads, Precision::Fp32);
        weights = session.into_weights();
        head.trust = Trust::Fp32(referee?);
        Ok((program, weights))
    };
    // Sums as they are written lose fewer digits than Winograd's; only what they lose too much of has no plan.
    let (program, weights) = match attempt(&ways) {
        Err(Failure::Refused(why)) => attempt(&bake::plain(&graph)).map_err(|_| Failure::Refused(why))?,
        made => made?,
    };
    Ok(Made { head, program, weights, seconds: started.elapsed().as_secs_f64() })
}

/// What runs a network that may be anything: where it panics, memory has run out.
fn fenced<T>(network: &Network<'_>, work: impl FnOnce() -> Result<T, String>) -> Result<T, Failure> {
    fence::catch(work).map_err(|why| no_memory(network, why))?.map_err(Failure::Refused)
}

/// The graph of a network, from which plans of less than 32 bits are made.
pub(super) fn graph_of(network: &Network<'_>) -> Result<tract::FrontEnd<Graph>, Failure> {
    check_format(network).map_err(Failure::Refused)?;
    tract::front_end(network, |model| {
        let model = simplify(model).map_err(|error| error.to_string())?;
        let mut graph = lower(&model)?;
        fuse(&mut graph);
        Ok(graph)
    })
    .map_err(Failure::Engine)
}

/// The head of what was made of a network.
pub(super) fn head<T>(made: &tract::FrontEnd<T>, sha256: &str, isa: &Isa, trust: Trust) -> Head {
    let binding = Binding { model_sha256: sha256.into(), input: made.shape.dims(), isa: isa.name.into() };
    let DeclaredInput { batch, channels, height, width } = made.declared;
    Head { f16_input: made.f16_input, ..Head::new(binding, [batch, channels, height, width], isa, trust) }
}

/// Weights where a session finds them.
pub(super) fn in_memory(network: &Network<'_>, weights: &[f32]) -> Result<Weights, Failure> {
    Weights::in_memory(weights).map_err(|error| no_memory(network, format!("no memory for its weights: {error}")))
}

/// Another time there may be more.
pub(super) fn no_memory(network: &Network<'_>, why: String) -> Failure {
    Failure::Engine(Error::Load { origin: network.origin.clone(), engine: "plan", why })
}

/// Whether a network is of the one format that plans are made of.
///
/// # Errors
/// It is of another, in words.
pub fn check_format(network: &Network<'_>) -> Result<(), String> {
    match network.format() {
        Format::Onnx => Ok(()),
        Format::Tflite => Err("plans are made of ONNX files only".into()),
    }
}

/// The operator that keeps a network from having a plan, if one does. Nothing is packed and nothing compared.
///
/// # Errors
/// See [`Failure`].
pub fn outlook(network: &Network<'_>) -> Result<(), Failure> {
    check_format(network).map_err(Failure::Refused)?;
    let lowered = tract::front_end(network, |model| {
        let model = simplify(model).map_err(|error| error.to_string())?;
        lower(&model).map(drop)
    });
    lowered.map_err(Failure::Engine)?.made.map_err(Failure::Refused)
}

/// The referee's word on a session of a network, by the bound of a precision.
///
/// # Errors
/// [`Failure::Refused`]: it is not within the bound; or tract cannot run the network.
pub fn compare(
    session: &mut dyn Session,
    network: &Network<'_>,
    threads: usize,
    precision: Precision,
) -> Result<Referee, Failure> {
    let mut tract = Tract.load(network, LoadOptions { threads }).map_err(Failure::Engine)?;
    let declared = tract.declared();
    let mut picture =
        network.picture.map(|picture| move |shape: InputShape, values: &mut [f32]| picture(&declared, &shape, values));
    let picture =
        picture.as_mut().map(|picture| picture as &mut dyn FnMut(InputShape, &mut [f32]) -> Result<(), String>);
    let by_steps = network.format() == Format::Tflite;
    let tolerance = Tolerance { bound: referee::bound(precision), by_steps };
    referee::compare(session, &mut *tract, picture, tolerance).map_err(Failure::Refused)
}

/// Some of what an engine answers to an input, spread over all of it: by these it is known again.
///
/// # Errors
/// It does not answer.
pub fn remember(session: &mut dyn Session, input: &[f32]) -> Result<Vec<Vec<f32>>, String> {
    session.input_mut().copy_from_slice(input);
    session.run().map_err(|error| error.to_string())?;
    Ok(referee::remembered(&referee::answers(session)))
}

/// How far an engine is off what is remembered of it.
///
/// # Errors
/// It does not answer, or is off by more than rounding.
pub fn recognize(session: &mut dyn Session, input: &[f32], remembered: &[Vec<f32>]) -> Result<Referee, String> {
    session.input_mut().copy_from_slice(input);
    session.run().map_err(|error| error.to_string())?;
    referee::recall(&referee::answers(session), remembered)
}

/// How a made plan is told of.
#[must_use]
pub fn told(head: &Head) -> String {
    let isa = &head.binding.isa;
    match &head.trust {
        Trust::Fp32(referee) => match referee.worst() {
            Some(worst) => format!("{isa} {worst:.1e}"),
            None => format!("{isa} not compared here"),
        },
        trust => format!("{isa} {} {}", trust.precision(), trust.told()),
    }
}

/// The last part of a path, for words.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
