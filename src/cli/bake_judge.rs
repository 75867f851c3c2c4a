//! `firstlight cache bake --calibrate`: pictures on which a plan of less than 32 bits is judged, and what is found on them.

use std::path::Path;

use serde::Serialize;

use super::{Declined, Engines, Error, Wanted, golden_frame, infer, load_model, shelf};
use crate::cache::{Cache, Package};
use crate::engine::plan::int8::{Layer, Options, Report};
use crate::engine::plan::{self, Failure, Judging, Made, Measure, Referee, Stage, Target};
use crate::engine::{Backends, LoadOptions, Precision};
use crate::model::{self, Accuracy, Judge, Request};
use crate::source;

/// Layers that the report names: those that say where a network is sensitive.
const LAYERS_TOLD: usize = 5;

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Folder of pictures such as the model will see, for --int8 and, if you like, --fp16; those that cannot be read are an
    /// error
    #[arg(long, value_name = "DIR", requires = "less", conflicts_with = "all")]
    calibrate: Option<String>,
    /// Most of them that are looked at, spread over their sorted names: ranges hardly change after some tens, and all
    /// answers to them are held in memory
    #[arg(long, value_name = "N", requires = "calibrate", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    images: u16,
    /// Largest error: for detectors 1 - mAP@50:95 against the model's own detections in numbers, for others the relative
    /// error of its outputs. In int8 layers stay in numbers until it is met
    #[arg(long, value_name = "X", requires = "calibrate", default_value_t = 0.05, value_parser = share)]
    error_max: f64,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|x| (0.0..=1.0).contains(x)).ok_or_else(|| "expected 0 to 1".into())
}

/// What the judge found.
#[derive(Serialize)]
pub struct Judged {
    measure: Measure,
    error: f64,
    error_max: f64,
    /// Pictures looked at, and those there are.
    images: usize,
    images_there: usize,
    /// Of a detector.
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<Accuracy>,
}

/// What was found of a plan in halves.
#[derive(Serialize)]
pub struct InHalves {
    #[serde(flatten)]
    referee: Referee,
    #[serde(flatten)]
    judged: Option<Judged>,
}

/// What was found of a plan in bytes.
#[derive(Serialize)]
pub struct InBytes {
    #[serde(flatten)]
    judged: Judged,
    /// How ranges were found.
    method: String,
    /// Choices that were tried.
    tried: usize,
    layers_in_bytes: usize,
    layers_in_numbers: usize,
    /// That could work on bytes, worst first.
    layers: Vec<Layer>,
}

/// Pictures that were read, and who judges by them.
struct Pictures {
    inputs: Vec<Vec<f32>>,
    judge: Judge,
    options: Options,
    /// As many lie in the folder.
    there: usize,
}

impl Pictures {
    fn judged(&self, error: f64) -> Judged {
        Judged {
            measure: self.judge.measure(),
            error,
            error_max: self.options.error_max,
            images: self.inputs.len(),
            images_there: self.there,
            accuracy: self.judge.accuracy(error),
        }
    }
}

/// What is made of a model, or why nothing; an error where no other could be made either.
type Making<T> = Result<Result<T, Failure>, Error>;

impl Args {
    /// What is in the folder, with the model in numbers, as a plan, which tract has judged.
    fn pictures(&self, dir: &str, package: &Package, cache: &Cache, options: LoadOptions) -> Making<Pictures> {
        let wrong = |why: String| Error::Usage(format!("--calibrate {dir}: {why}"));
        if !Path::new(dir).is_dir() {
            return Err(wrong("no such folder".into()));
        }
        let paths = source::find(dir).map_err(wrong)?;
        let engines = Engines::choose(Wanted::Only("plan"), &[Precision::Fp32], &Backends::cpu_only(shelf(cache)))?;
        let model = match load_model(package, &engines, options) {
            Ok((model, _)) => model,
            Err(error) => return error.refusal().map(|why| Err(Failure::Refused(why))).ok_or(error.into()),
        };
        let count = paths.len().min(self.images.into());
        let mut inputs = Vec::with_capacity(count);
        let request = Request::default();
        let orientation = model.orientation(&request);
        let mut judge = Judge::new(model);
        for path in (0..count).map(|index| &paths[index * paths.len() / count]) {
            let frame = infer::read(orientation, path).map_err(|why| wrong(format!("{}: {why}", path.display())))?;
            inputs.push(judge.prepare(&frame)?);
        }
        let options = Options { error_max: self.error_max, threads: options.threads, ..Options::default() };
        Ok(Ok(Pictures { inputs, judge, options, there: paths.len() }))
    }

    /// Makes the plan of a model in halves, judged where there are pictures.
    pub fn make_fp16(
        &self,
        package: &Package,
        cache: &Cache,
        target: Target,
        options: LoadOptions,
        stage: &mut dyn FnMut(Stage),
    ) -> Making<(Made, InHalves)> {
        let read = self.calibrate.as_deref().map(|dir| self.pictures(dir, package, cache, options));
        let mut pictures = match read.transpose()?.transpose() {
            Ok(pictures) => pictures,
            Err(failure) => return Ok(Err(failure)),
        };
        let sha256 = shelf(cache).sha256(package.weights.path(), package.weights.bytes());
        let made = with_judging(pictures.as_mut(), |judging| {
            model::with_network(package, Some(&golden_frame), |network| {
                plan::make_fp16(network, &sha256, target, options.threads, judging, stage)
            })
        })?;
        Ok(made.map(|made| {
            let referee = made.head.trust.referee().cloned().unwrap_or_default();
            let error = made.head.trust.judged().map(|judged| judged.error);
            let judged = pictures.as_ref().zip(error).map(|(pictures, error)| pictures.judged(error));
            (made, InHalves { referee, judged })
        }))
    }

    /// Makes the plan of a model in bytes.
    pub fn make_int8(
        &self,
        package: &Package,
        cache: &Cache,
        target: Target,
        options: LoadOptions,
        stage: &mut dyn FnMut(Stage),
    ) -> Making<(Made, InBytes)> {
        stage(Stage::Compare);
        let dir = self.calibrate.as_deref().unwrap_or_default();
        let mut pictures = match self.pictures(dir, package, cache, options)? {
            Ok(pictures) => pictures,
            Err(failure) => return Ok(Err(failure)),
        };
        let sha256 = shelf(cache).sha256(package.weights.path(), package.weights.bytes());
        let made = with_judging(Some(&mut pictures), |judging| {
            let judging = judging.ok_or_else(|| Error::Usage("--int8 needs --calibrate DIR".into()))?;
            Ok::<_, Error>(model::with_network(package, Some(&golden_frame), |network| {
                plan::make_int8(network, &sha256, target, judging, stage)
            })?)
        })?;
        Ok(made.map(|(made, report)| (made, InBytes::new(pictures.judged(report.error), report))))
    }
}

/// Calls `make` with what a plan is judged by.
fn with_judging<T>(pictures: Option<&mut Pictures>, make: impl FnOnce(Option<Judging<'_>>) -> T) -> T {
    let Some(Pictures { inputs, judge, options, .. }) = pictures else { return make(None) };
    let measure = judge.measure();
    let judge = &mut |exact: &[_], found: &[_]| judge.error(exact, found);
    make(Some(Judging { inputs, options: options.clone(), measure, judge }))
}

impl Judged {
    fn words(&self) -> String {
        let found = match &self.accuracy {
            Some(Accuracy { map_50, map_50_95, objects, classes, .. }) => format!(
                "mAP@50:95 {map_50_95:.3} (at least {:.3}), mAP@50 {map_50:.3} against its own {objects} detections of \
                 {classes} classes in fp32",
                1.0 - self.error_max
            ),
            None => format!("relative error {:.1e} (at most {:.1e})", self.error, self.error_max),
        };
        format!("{found}, on {} of {} pictures", self.images, self.images_there)
    }
}

impl InHalves {
    pub fn words(&self) -> String {
        let Referee { bound, .. } = self.referee;
        let worst = self.referee.worst().unwrap_or_default();
        let judged = self.judged.as_ref().map(|judged| format!("; {}", judged.words())).unwrap_or_default();
        format!("off by {worst:.1e} of tract's answers (bound {bound:.0e}){judged}")
    }
}

impl InBytes {
    fn new(judged: Judged, report: Report) -> Self {
        let layers_in_numbers = report.layers.iter().filter(|layer| layer.in_numbers).count();
        Self {
            judged,
            method: report.method.to_string(),
            tried: report.tried,
            layers_in_bytes: report.layers.len() - layers_in_numbers,
            layers_in_numbers,
            layers: report.layers,
        }
    }

    pub fn words(&self) -> String {
        let worst: Vec<String> = self.layers.iter().take(LAYERS_TOLD).map(told).collect();
        format!(
            "{}; ranges {}, {} layers in bytes and {} in numbers, of {} choices; worst: {}",
            self.judged.words(),
            self.method,
            self.layers_in_bytes,
            self.layers_in_numbers,
            self.tried,
            worst.join(", ")
        )
    }
}

fn told(layer: &Layer) -> String {
    let kept = if layer.in_numbers { " (in numbers)" } else { "" };
    format!("{} {:.0} dB{kept}", layer.name, layer.signal_to_noise_db)
}
