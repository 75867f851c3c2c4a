//! `firstlight bench`: the network alone, on random input; or on a given one, to compare its outputs elsewhere.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::{Engines, Error, Wanted, backends, golden_frame, open_package, print_line, print_table, threads};
use crate::cache::{Cache, Package, Weights};
use crate::device;
use crate::engine::{DeclaredInput, Format, InputShape, Network, Picture, Precision, Profile, Session, npy};
use crate::frame::CHANNELS;
use crate::model;
use crate::random::Random;

/// Side of a network that leaves it open, as `compare.py` assumes as well.
const SIDE_DEFAULT: usize = 640;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model id in the cache
    #[arg(long, value_name = "ID", required_unless_present = "onnx", conflicts_with = "onnx")]
    model: Option<String>,
    /// Any ONNX or TensorFlow Lite file
    #[arg(long, value_name = "FILE")]
    onnx: Option<PathBuf>,
    /// Engine, instead of the best that works here
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// Compute in numbers (fp32), or with halves (fp16) or bytes (int8) by a plan of `cache bake` [default: fp32]
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Precision>,
    /// Threads of a CPU engine [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Inferences to time
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    iterations: u32,
    /// Input, instead of noise: float32 N C H W as numpy saves it; decides dimensions that the network leaves open
    #[arg(long, value_name = "FILE.npy")]
    input: Option<PathBuf>,
    /// Write what the network answers into this folder, as output0.npy, output1.npy and so on
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Time every step by itself as well, on one thread, beside the peak of a core
    #[arg(long)]
    profile: bool,
    /// One JSON object instead of words
    #[arg(long)]
    json: bool,
}

/// Times in milliseconds.
#[derive(Serialize)]
struct Figures {
    engine: &'static str,
    precision: Precision,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Profile>,
}

/// What is timed.
enum Subject {
    File(Weights),
    Package(Box<Package>),
}

impl Subject {
    fn format(&self) -> Format {
        Format::of(match self {
            Self::File(weights) => weights.bytes(),
            Self::Package(package) => package.weights.bytes(),
        })
    }

    /// The network, at this shape where one is given.
    fn with_network<T>(
        &self,
        wanted: Option<InputShape>,
        then: impl FnOnce(&Network<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match self {
            Self::File(weights) => {
                let shape = |declared: &DeclaredInput| {
                    wanted.unwrap_or(InputShape {
                        batch: declared.batch.unwrap_or(1),
                        channels: declared.channels.unwrap_or(3),
                        height: declared.height.unwrap_or(SIDE_DEFAULT),
                        width: declared.width.unwrap_or(SIDE_DEFAULT),
                    })
                };
                let (bytes, origin) = (weights.bytes(), weights.path().into());
                then(&Network { bytes, origin, shape: &shape, picture: Some(&stretched), prebuilt: &[] })
            }
            Self::Package(package) => model::with_network(package, Some(&golden_frame), |network| {
                let shape = |declared: &DeclaredInput| wanted.unwrap_or_else(|| (network.shape)(declared));
                let Network { bytes, ref origin, picture, prebuilt, .. } = *network;
                then(&Network { bytes, origin: origin.clone(), shape: &shape, picture, prebuilt })
            })?,
        }
    }
}

pub fn run(args: &Args, cache: &Cache) -> Result<(), Error> {
    let backends = backends(cache)?;
    let engines =
        Engines::choose(Wanted::only(args.engine.as_deref()), &[args.precision.unwrap_or_default()], &backends)?;
    let options = threads(args.threads, None)?;
    let subject = match &args.onnx {
        Some(path) => Subject::File(Weights::map(path)?),
        None => Subject::Package(Box::new(open_package(cache, &backends, args.model.as_deref())?)),
    };
    let input = args.input.as_deref().map(read_input).transpose()?;
    let shape = input.as_ref().map(|(shape, _)| *shape);
    // What is given is what an engine that compares itself is compared on.
    let given = |_: &DeclaredInput, shape: &InputShape, values: &mut [f32]| match &input {
        Some((given, from)) if given == shape => {
            values.copy_from_slice(from);
            Ok(())
        }
        _ => Err("the input given is of another shape".to_owned()),
    };
    let ((mut session, load_ms), chosen) = engines.first(subject.format(), |engine| {
        subject.with_network(shape, |network| {
            let Network { bytes, ref origin, shape, picture, prebuilt } = *network;
            let picture = if input.is_some() { Some(&given as Picture<'_>) } else { picture };
            let network = &Network { bytes, origin: origin.clone(), shape, picture, prebuilt };
            let started = Instant::now();
            let session = engine.load(network, options)?;
            Ok((session, millis(started)))
        })
    })?;
    match &input {
        Some((_, values)) => session.input_mut().copy_from_slice(values),
        None => fill_with_noise(session.input_mut()),
    }
    let mut times = Vec::with_capacity(args.iterations as usize);
    let first = Instant::now();
    session.run()?;
    let first_ms = millis(first);
    for _ in 0..args.iterations {
        let started = Instant::now();
        session.run()?;
        times.push(millis(started));
    }
    if let Some(folder) = &args.output {
        write_outputs(&*session, folder)?;
    }
    times.sort_by(f64::total_cmp);
    let figures = Figures {
        engine: chosen.name,
        precision: chosen.precision,
        threads: session.threads(),
        input: session.input_shape().dims(),
        iterations: args.iterations,
        load_ms,
        first_ms,
        min_ms: times[0],
        median_ms: times[times.len() / 2],
        p99_ms: times[(times.len() - 1) * 99 / 100],
        rss_mb: (device::rss_kb() as f64 / 102.4).round() / 10.0,
        profile: args.profile.then(|| session.profile(args.iterations)).flatten(),
    };
    if args.profile && figures.profile.is_none() {
        return Err(Error::Failed(format!("{} does not know its steps; --engine plan does", chosen.name)));
    }
    if args.json {
        return print_line(&serde_json::to_string(&figures).map_err(|error| Error::Failed(error.to_string()))?);
    }
    if let Some(profile) = &figures.profile {
        print_profile(profile)?;
    }
    print_line(&format!(
        "{} {} on {} threads, input {:?}: load {load_ms:.1} ms, first {first_ms:.1} ms, then over {} inferences: \
         min {:.2} ms, median {:.2} ms, p99 {:.2} ms; {:.1} MB resident",
        figures.engine,
        figures.precision,
        figures.threads,
        figures.input,
        figures.iterations,
        figures.min_ms,
        figures.median_ms,
        figures.p99_ms,
        figures.rss_mb
    ))
}

/// The golden frame as an input of whatever size, values of 0 to 1: nothing more is known of a bare file.
fn stretched(_: &DeclaredInput, shape: &InputShape, values: &mut [f32]) -> Result<(), String> {
    let frame = golden_frame();
    let (width, height) = (shape.width, shape.height);
    for (index, value) in values.iter_mut().enumerate() {
        let (x, y, channel) = (index % width, index / width % height, index / (width * height) % CHANNELS);
        let pixel = y * frame.height() / height * frame.width() + x * frame.width() / width;
        *value = f32::from(frame.pixels()[pixel * CHANNELS + channel]) / 255.0;
    }
    Ok(())
}

/// A row a step, and what all steps that only multiply and add come to.
fn print_profile(profile: &Profile) -> Result<(), Error> {
    let whole: f64 = profile.steps.iter().map(|step| step.ms).sum();
    let rate = |flops: u64, ms: f64| flops as f64 / ms / 1e6;
    let rows = profile.steps.iter().map(|step| {
        let (gflops, share) = match step.flops {
            0 => ("-".into(), "-".into()),
            flops => {
                let gflops = rate(flops, step.ms);
                (format!("{gflops:.1}"), format!("{:.0}", 100.0 * gflops / profile.peak_gflops))
            }
        };
        vec![format!("{:.3}", step.ms), gflops, share, step.kind.clone(), step.shape.clone(), step.node.clone()]
    });
    print_table(&["MS", "GFLOP/S", "% PEAK", "STEP", "SHAPE", "NODE"], rows)?;
    let counted = profile.steps.iter().filter(|step| step.flops > 0);
    let (flops, ms) = counted.fold((0, 0.0), |(flops, ms), step| (flops + step.flops, ms + step.ms));
    print_line(&format!(
        "one thread: {whole:.2} ms, of which {ms:.2} ms multiply and add {:.2} GFLOP at {:.1} GFLOP/s, {:.0} % of the \
         core's {:.1}; {:.0} % over the whole network",
        flops as f64 / 1e9,
        rate(flops, ms),
        100.0 * rate(flops, ms) / profile.peak_gflops,
        profile.peak_gflops,
        100.0 * rate(flops, whole) / profile.peak_gflops
    ))
}

/// A batch of images from a file.
fn read_input(path: &Path) -> Result<(InputShape, Vec<f32>), Error> {
    let bytes = std::fs::read(path).map_err(|cause| Error::Io { what: path.display().to_string(), cause })?;
    let wrong = |why: String| Error::Usage(format!("{}: {why}", path.display()));
    let npy::Tensor { shape, data } = npy::parse(&bytes).map_err(wrong)?;
    let [batch, channels, height, width] = shape[..] else {
        return Err(wrong(format!("the shape {shape:?} has {} dimensions; expected N C H W", shape.len())));
    };
    Ok((InputShape { batch, channels, height, width }, data))
}

fn write_outputs(session: &dyn Session, folder: &Path) -> Result<(), Error> {
    let io = |path: &Path, cause| Error::Io { what: path.display().to_string(), cause };
    std::fs::create_dir_all(folder).map_err(|cause| io(folder, cause))?;
    for index in 0..session.outputs().len() {
        let path = folder.join(format!("output{index}.npy"));
        std::fs::write(&path, npy::format(session.output(index))).map_err(|cause| io(&path, cause))?;
    }
    Ok(())
}

/// Microsecond steps are enough, and short to read.
fn millis(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

/// Values of 0 to 1, the same every time.
fn fill_with_noise(values: &mut [f32]) {
    let mut random = Random::new(1);
    values.fill_with(|| random.uniform(0.0, 1.0));
}
