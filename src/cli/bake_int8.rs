//! `firstlight cache bake --int8`: what it asks for, and what it reports.

use std::path::Path;

use serde::Serialize;

use super::{Engines, refusal};
use super::{Error, golden_frame, infer, load_model, shelf};
use crate::cache::{Cache, Package};
use crate::engine::plan::int8::{Layer, Options};
use crate::engine::plan::{self, Failure, Judging, Made, Measure, Stage, Target};
use crate::engine::{LoadOptions, Precision};
use crate::model::{self, Accuracy, Judge, Request};
use crate::source;

/// Layers that the report names: those that say where a network is sensitive.
const LAYERS_TOLD: usize = 5;

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Compute with bytes, by what the network does on the pictures of --calibrate: sooner, and a little off
    #[arg(long, requires = "calibrate", conflicts_with = "all")]
    pub int8: bool,
    /// Folder of pictures such as the model will see; those that cannot be read are an error
    #[arg(long, value_name = "DIR", requires = "int8")]
    calibrate: Option<String>,
    /// Most of them that are looked at, spread over their sorted names: ranges hardly change after some tens, and all
    /// answers to them are held in memory
    #[arg(long, value_name = "N", requires = "int8", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    images: u16,
    /// Largest error: for detectors 1 - mAP@50:95 against the model's own detections in numbers, for others the relative
    /// error of its outputs. Layers stay in numbers until it is met
    #[arg(long, value_name = "X", requires = "int8", default_value_t = 0.05, value_parser = share)]
    error_max: f64,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|x| (0.0..=1.0).contains(x)).ok_or_else(|| "expected 0 to 1".into())
}

/// What was found of a plan in bytes.
#[derive(Serialize)]
pub struct Found {
    measure: Measure,
    error: f64,
    error_max: f64,
    /// Pictures looked at, and those there are.
    images: usize,
    images_there: usize,
    /// Of a detector.
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<Accuracy>,
    /// How ranges were found.
    method: String,
    /// Choices that were tried.
    tried: usize,
    layers_in_bytes: usize,
    layers_in_numbers: usize,
    /// That could work on bytes, worst first.
    layers: Vec<Layer>,
}

impl Args {
    /// Makes the plan of a model; an error where no other could be baked either.
    pub fn make(
        &self,
        package: &Package,
        cache: &Cache,
        target: Target,
        options: LoadOptions,
        stage: &mut dyn FnMut(Stage),
    ) -> Result<Result<(Made, Found), Failure>, Error> {
        let dir = self.calibrate.as_deref().unwrap_or_default();
        let wrong = |why: String| Error::Usage(format!("--calibrate {dir}: {why}"));
        if !Path::new(dir).is_dir() {
            return Err(wrong("no such folder".into()));
        }
        let paths = source::find(dir).map_err(wrong)?;
        // Bytes are judged by the same network in numbers, as a plan, which tract has judged.
        stage(Stage::Compare);
        let engines = Engines::choose(Some("plan"), &[Precision::Fp32], &shelf(cache))?;
        let model = match load_model(package, &engines, options) {
            Ok((model, _)) => model,
            Err(error) => return refusal(&error).map(|why| Err(Failure::Refused(why))).ok_or(error),
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
        let sha256 = shelf(cache).sha256(package.weights.path(), package.weights.bytes());
        let made = model::with_network(package, Some(&golden_frame), |network| {
            let judging = Judging {
                inputs: &inputs,
                options: Options { error_max: self.error_max, threads: options.threads, ..Options::default() },
                measure: judge.measure(),
                judge: &mut |exact, found| judge.error(exact, found),
            };
            plan::make_int8(network, &sha256, target, judging, stage)
        })?;
        Ok(made.map(|(made, report)| {
            let in_numbers = report.layers.iter().filter(|layer| layer.in_numbers).count();
            let found = Found {
                measure: judge.measure(),
                error: report.error,
                error_max: self.error_max,
                images: count,
                images_there: paths.len(),
                accuracy: judge.accuracy(report.error),
                method: report.method.to_string(),
                tried: report.tried,
                layers_in_bytes: report.layers.len() - in_numbers,
                layers_in_numbers: in_numbers,
                layers: report.layers,
            };
            (made, found)
        }))
    }
}

impl Found {
    pub fn words(&self) -> String {
        let accuracy = match &self.accuracy {
            Some(Accuracy { map_50, map_50_95, objects, classes, .. }) => format!(
                "mAP@50:95 {map_50_95:.3} (at least {:.3}), mAP@50 {map_50:.3} against its own {objects} detections of \
                 {classes} classes in fp32",
                1.0 - self.error_max
            ),
            None => format!("relative error {:.1e} (at most {:.1e})", self.error, self.error_max),
        };
        let worst: Vec<String> = self.layers.iter().take(LAYERS_TOLD).map(told).collect();
        format!(
            "{accuracy}, on {} of {} pictures; ranges {}, {} layers in bytes and {} in numbers, of {} choices; worst: {}",
            self.images,
            self.images_there,
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
