//! `firstlight bench`: the network alone, on random input.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use super::{Error, choose_engine, open_package, print_line, threads};
use crate::cache::{Cache, Weights};
use crate::device;
use crate::engine::{DeclaredInput, InputShape, Network};
use crate::model;

/// Side of a network that leaves it open, as `compare.py` assumes as well.
const SIDE_DEFAULT: usize = 640;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model id in the cache
    #[arg(long, value_name = "ID", required_unless_present = "onnx", conflicts_with = "onnx")]
    model: Option<String>,
    /// Any ONNX file
    #[arg(long, value_name = "FILE")]
    onnx: Option<PathBuf>,
    /// Engine, instead of the best that works here
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// Threads of a CPU engine [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Inferences to time
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    iterations: u32,
    /// One JSON object instead of words
    #[arg(long)]
    json: bool,
}

/// Times in milliseconds.
#[derive(Serialize)]
struct Figures {
    engine: &'static str,
    threads: usize,
    input: [usize; 4],
    iterations: u32,
    /// File in memory to ready to run.
    load_ms: f64,
    /// The first inference, with cold caches.
    first_ms: f64,
    min_ms: f64,
    median_ms: f64,
    p99_ms: f64,
    /// Resident memory of this process afterwards.
    rss_mb: f64,
}

pub fn run(args: &Args, cache: &Cache) -> Result<(), Error> {
    let chosen = choose_engine(args.engine.as_deref())?;
    let options = threads(args.threads, None)?;
    let (weights, layout) = match &args.onnx {
        Some(path) => (Weights::map(path)?, None),
        None => {
            let package = open_package(cache, args.model.as_deref())?;
            let contract = model::contract(&package)?;
            (package.weights, Some((package.layout, contract)))
        }
    };
    let shape = |declared: &DeclaredInput| match &layout {
        Some((layout, contract)) => model::concrete_shape(declared, layout, *contract),
        None => InputShape {
            batch: declared.batch.unwrap_or(1),
            channels: declared.channels.unwrap_or(3),
            height: declared.height.unwrap_or(SIDE_DEFAULT),
            width: declared.width.unwrap_or(SIDE_DEFAULT),
        },
    };
    let started = Instant::now();
    let network = Network { bytes: weights.bytes(), origin: weights.path().into(), shape: &shape };
    let mut session = chosen.engine.load(&network, options)?;
    let load_ms = millis(started);
    fill_with_noise(session.input_mut());
    let mut times = Vec::with_capacity(args.iterations as usize);
    let first = Instant::now();
    session.run()?;
    let first_ms = millis(first);
    for _ in 0..args.iterations {
        let started = Instant::now();
        session.run()?;
        times.push(millis(started));
    }
    times.sort_by(f64::total_cmp);
    let figures = Figures {
        engine: chosen.engine.name(),
        threads: session.threads(),
        input: session.input_shape().dims(),
        iterations: args.iterations,
        load_ms,
        first_ms,
        min_ms: times[0],
        median_ms: times[times.len() / 2],
        p99_ms: times[(times.len() - 1) * 99 / 100],
        rss_mb: (device::rss_kb() as f64 / 102.4).round() / 10.0,
    };
    if args.json {
        return print_line(&serde_json::to_string(&figures).map_err(|error| Error::Failed(error.to_string()))?);
    }
    print_line(&format!(
        "{} on {} threads, input {:?}: load {load_ms:.1} ms, first {first_ms:.1} ms, then over {} inferences: \
         min {:.2} ms, median {:.2} ms, p99 {:.2} ms; {:.1} MB resident",
        figures.engine,
        figures.threads,
        figures.input,
        figures.iterations,
        figures.min_ms,
        figures.median_ms,
        figures.p99_ms,
        figures.rss_mb
    ))
}

/// Microsecond steps are enough, and short to read.
fn millis(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

/// Values of 0 to 1, the same every time.
fn fill_with_noise(values: &mut [f32]) {
    let mut state = 0x9E37_79B9_u32;
    for value in values {
        // An LCG (Numerical Recipes); its high bits are random enough to keep a processor from shortcuts on zeros.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = f32::from(state.to_be_bytes()[0]) / 255.0;
    }
}
