//! `firstlight selftest`: does this binary, on this machine, see what it must see?

use std::time::Instant;

use serde_json::{Value, json};

use super::{Declined, Error, backends, embedded_package, golden_frame, open_package, print_line, threads};
use crate::cache::{Cache, Package};
use crate::demo;
use crate::engine::{self, Engine, Format, LoadOptions, Precision, plan};
use crate::frame::Frame;
use crate::model::{self, Answer, Confidence, Detection, Model, Predictions, Request};
use crate::source::demo::{Conveyor, Detected, Score};

/// The golden frame's bounds: largest distance of a box, pixels, and of a confidence. In bytes a plan may be off by what
/// its judge accepted, which is wide for one frame, and in halves by little; the demo scene's bounds are the same.
fn bounds(precision: Precision) -> (f64, f64) {
    match precision {
        Precision::Fp32 => (1.0, 0.01),
        Precision::Fp16 => (2.0, 0.02),
        Precision::Int8 => (4.0, 0.1),
    }
}
/// The demo scene's bounds, at confidence 0.4 and IoU 0.5.
const PRECISION_MIN: f64 = 0.97;
const RECALL_MIN: f64 = 0.97;
/// Frames between two that are scored: a part has moved by its own size, so that the same view is not counted twice.
const STRIDE: u64 = 16;
/// The engine that must run every model.
const REFEREE: &str = "tract";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also put these models of the cache through every usable engine
    #[arg(long, value_name = "ID")]
    model: Vec<String>,
    /// Compute in numbers (fp32), or with halves (fp16) or bytes (int8) by plans of `cache bake` [default: fp32]
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Precision>,
    /// Frames of the demo scene to score with each engine
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    frames: u64,
    /// Threads of a CPU engine [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// One JSON object an engine instead of words
    #[arg(long)]
    json: bool,
}

/// What was found with one engine.
struct Report {
    golden: Result<Drift, String>,
    score: Score,
    elapsed_ms: f64,
}

/// Largest distance from the golden answer.
#[derive(Default)]
struct Drift {
    box_px: f64,
    confidence: f64,
    detections: usize,
}

pub fn run(args: &Args, cache: &Cache) -> Result<(), Error> {
    let package = embedded_package()?;
    let backends = backends(cache)?;
    let models = args.model.iter().map(|id| open_package(cache, &backends, Some(id)));
    let models: Vec<Package> = models.collect::<Result<_, _>>()?;
    let options = threads(args.threads, None)?;
    let (mut tested, mut failed) = (0, Vec::new());
    for engine in engine::engines(&backends, args.precision.unwrap_or_default()) {
        if let Err(why) = engine.probe() {
            if engine.expected() {
                eprintln!("{}: not usable here: {why}", engine.name());
            }
            continue;
        }
        let takes = |package: &&Package| engine.takes(Format::of(package.weights.bytes()));
        let demo = Some(&package).filter(takes).map(|package| test(package, &*engine, options, args.frames));
        match demo.transpose() {
            Err(error) if error.refusal().is_some() => eprintln!("{}: cannot run the demo: {error}", engine.name()),
            Err(error) => return Err(error),
            Ok(None) => {}
            Ok(Some(report)) => {
                let passed = report.passed(engine.precision());
                report.print(&*engine, args, passed)?;
                tested += 1;
                if !passed {
                    failed.push(engine.name().to_owned());
                }
            }
        }
        for package in models.iter().filter(takes) {
            let verdict = match steady(package, &*engine, options) {
                // In numbers the referee runs it; in halves and bytes nothing else does.
                Err(error)
                    if error.refusal().is_some()
                        && engine.name() != REFEREE
                        && engine.precision() == Precision::Fp32 =>
                {
                    eprintln!("{}: cannot run {}: {error}", engine.name(), package.id);
                    continue;
                }
                verdict if engine.name() == REFEREE => verdict.map(|_| None),
                verdict => verdict.and_then(|_| compared(package, &*engine, options)),
            };
            let verdict = verdict.map_err(|error| error.to_string());
            print_steady(package, &*engine, &verdict, args.json)?;
            tested += 1;
            if verdict.is_err() {
                failed.push(format!("{} on {}", package.id, engine.name()));
            }
        }
    }
    match (tested, failed.is_empty()) {
        (0, _) => Err(Error::Verification("selftest failed: nothing could be tested".into())),
        (_, true) => Ok(()),
        (_, false) => Err(Error::Verification(format!("selftest failed: {}", failed.join(", ")))),
    }
}

/// A model of the cache has no truth here; it must load, and answer the golden frame twice the same, and as the referee.
fn steady(package: &Package, engine: &dyn Engine, options: LoadOptions) -> Result<String, Error> {
    let mut model = Model::load_with(package, engine, options, Some(&golden_frame))?;
    let frame = golden_frame();
    let mut answer = || {
        let mut predictions = Predictions::default();
        model.infer(&frame, &Request::default(), &mut predictions)?;
        let answer = Answer { predictions: &predictions, labels: model.labels(), with_ids: false, tracks: &[] };
        serde_json::to_string(&answer).map_err(|error| Error::Failed(error.to_string()))
    };
    let (first, second) = (answer()?, answer()?);
    let differ = || Error::Verification(format!("two answers to one picture: {first} and {second}"));
    if first == second { Ok(first) } else { Err(differ()) }
}

/// How far an engine is off the referee, at most; of a plan in bytes, off what it answered when it was judged, where that
/// can be known.
fn compared(package: &Package, engine: &dyn Engine, options: LoadOptions) -> Result<Option<f32>, Error> {
    let referee = model::with_network(package, Some(&golden_frame), |network| {
        let mut session = engine.load(network, options)?;
        match (engine.precision(), network.picture) {
            (Precision::Int8, Some(picture)) => plan::recall(&mut *session, picture).map_err(Error::Verification),
            (precision, _) => plan::compare(&mut *session, network, options.threads, precision)
                .map(Some)
                .map_err(|failure| Error::Verification(failure.to_string())),
        }
    })??;
    let Some(referee) = referee else { return Ok(None) };
    referee.worst().map(Some).ok_or_else(|| Error::Verification("nothing was compared".into()))
}

fn print_steady(
    package: &Package,
    engine: &dyn Engine,
    verdict: &Result<Option<f32>, String>,
    json: bool,
) -> Result<(), Error> {
    let name = engine.name();
    if json {
        let passed = verdict.is_ok();
        let why = verdict.as_ref().err();
        let error = verdict.as_ref().ok().copied().flatten();
        let line = json!({"engine": name, "model": package.id, "passed": passed, "error": error, "why": why});
        return print_line(&line.to_string());
    }
    match verdict {
        Ok(error) => {
            let compared = match (engine.precision(), error) {
                (Precision::Fp32 | Precision::Fp16, Some(error)) => format!("; within {error:.1e} of {REFEREE}"),
                (Precision::Fp32 | Precision::Fp16, None) => String::new(),
                (Precision::Int8, Some(error)) => format!("; within {error:.1e} of what it was when it was judged"),
                (Precision::Int8, None) => "; not compared: it was judged on another machine".into(),
            };
            print_line(&format!("{name}: {} answers, and twice the same{compared}", package.id))
        }
        Err(why) => print_line(&format!("{name}: {} FAILED: {why}", package.id)),
    }
}

fn test(package: &Package, engine: &dyn Engine, options: LoadOptions, frames: u64) -> Result<Report, Error> {
    let started = Instant::now();
    let mut model = Model::load_with(package, engine, options, Some(&golden_frame))?;
    let golden = golden(&mut model)?;
    let score = score(&mut model, frames)?;
    Ok(Report { golden, score, elapsed_ms: started.elapsed().as_secs_f64() * 1e3 })
}

/// The golden frame, at the thresholds its answer was made with.
fn golden(model: &mut Model) -> Result<Result<Drift, String>, Error> {
    let frame = golden_frame();
    let mut predictions = Predictions::default();
    model.infer(&frame, &Request::default(), &mut predictions)?;
    let golden: Value = serde_json::from_str(demo::GOLDEN_JSON)
        .map_err(|error| Error::Failed(format!("the golden answer in the binary: {error}")))?;
    let expected = golden["detections"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(compare(expected, &predictions.detections))
}

fn compare(expected: &[Value], found: &[Detection]) -> Result<Drift, String> {
    if expected.len() != found.len() {
        return Err(format!("{} detections, expected {}", found.len(), expected.len()));
    }
    let mut drift = Drift { detections: found.len(), ..Drift::default() };
    for want in expected {
        let number = |key: &str| want[key].as_f64().unwrap_or(f64::NAN);
        let centre = [number("x"), number("y"), number("width"), number("height")];
        let distance = |have: &Detection| {
            have.center_and_size().iter().zip(centre).map(|(have, want)| (have - want).abs()).fold(0.0, f64::max)
        };
        let same_class = found.iter().filter(|have| want["class_id"].as_u64() == Some(u64::from(have.class_id)));
        let Some(nearest) = same_class.min_by(|a, b| distance(a).total_cmp(&distance(b))) else {
            return Err(format!("no part of class {} was found", want["class_id"]));
        };
        drift.box_px = drift.box_px.max(distance(nearest));
        drift.confidence = drift.confidence.max((f64::from(nearest.confidence) - number("confidence")).abs());
    }
    Ok(drift)
}

/// Detections on the demo scene against its truth.
fn score(model: &mut Model, frames: u64) -> Result<Score, Error> {
    let request = Request { confidence: Some(Confidence::Number(0.4)), ..Request::default() };
    let (mut conveyor, mut frame, mut predictions) = (Conveyor::new(1), Frame::empty(), Predictions::default());
    let (mut score, mut detected) = (Score::default(), Vec::new());
    for _ in 0..frames {
        for _ in 0..STRIDE {
            conveyor.render(&mut frame);
        }
        model.infer(&frame, &request, &mut predictions)?;
        detected.clear();
        detected.extend(predictions.detections.iter().map(to_detected));
        score.add(conveyor.truth(), &detected);
    }
    Ok(score)
}

fn to_detected(detection: &Detection) -> Detected {
    #[expect(clippy::cast_possible_truncation, reason = "whole pixels of a 640x480 frame")]
    let [left, top, right, bottom] = detection.corners.map(|corner| corner as f32);
    Detected { class_id: detection.class_id as usize, left, top, right, bottom, confidence: detection.confidence }
}

impl Report {
    fn passed(&self, precision: Precision) -> bool {
        let (golden, (box_px_max, confidence_max)) = (self.golden.as_ref(), bounds(precision));
        golden.is_ok_and(|drift| drift.box_px <= box_px_max && drift.confidence <= confidence_max)
            && self.score.precision() >= PRECISION_MIN
            && self.score.recall() >= RECALL_MIN
    }

    fn print(&self, engine: &dyn Engine, args: &Args, passed: bool) -> Result<(), Error> {
        let (precision, recall) = (self.score.precision(), self.score.recall());
        if args.json {
            let golden = match &self.golden {
                Ok(drift) => json!({
                    "detections": drift.detections, "box_px": drift.box_px, "confidence": drift.confidence,
                }),
                Err(why) => json!({"error": why}),
            };
            return print_line(
                &json!({
                    "engine": engine.name(), "version": engine.version(), "precision": engine.precision(), "passed": passed,
                    "golden": golden, "scene": {"frames": args.frames, "precision": precision, "recall": recall},
                    "ms": self.elapsed_ms.round(),
                })
                .to_string(),
            );
        }
        let (box_px_max, confidence_max) = bounds(engine.precision());
        let golden = match &self.golden {
            Ok(drift) => format!(
                "golden frame: {} detections, at most {:.2} px (limit {box_px_max}) and {:.4} confidence \
                 (limit {confidence_max}) from the expected",
                drift.detections, drift.box_px, drift.confidence
            ),
            Err(why) => format!("golden frame: {why}"),
        };
        print_line(&format!("{} {}", engine.name(), engine.version()))?;
        print_line(&format!("  {golden}"))?;
        print_line(&format!(
            "  demo scene: precision {precision:.4}, recall {recall:.4} over {} frames (limits {PRECISION_MIN}, \
             {RECALL_MIN})",
            args.frames
        ))?;
        print_line(&format!("  {} in {:.0} ms", if passed { "passed" } else { "FAILED" }, self.elapsed_ms))
    }
}
