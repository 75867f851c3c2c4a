//! `firstlight cache bake --engine`: what an accelerator makes of models, made before anybody waits for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Error, backends, golden_frame, print_line};
use crate::cache::{Cache, Package};
use crate::engine::accel::{Accelerator, Baking};
use crate::engine::plan::Referee;
use crate::engine::{Engine, Format, LoadOptions, Precision, names};
use crate::error::did_you_mean;
use crate::model;

/// How often the bar moves.
const LOOK: Duration = Duration::from_millis(250);

/// What became of one model.
#[derive(Serialize)]
struct Report<'a> {
    id: &'a str,
    engine: &'static str,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
    #[serde(flatten)]
    baked: Option<Baked>,
}

#[derive(Serialize)]
struct Baked {
    input: [usize; 4],
    precision: Precision,
    #[serde(flatten)]
    referee: Referee,
    seconds: f64,
    bytes: u64,
    path: PathBuf,
}

/// Bakes each of the models with an accelerator.
pub(super) fn run(
    name: &str,
    packages: &[Package],
    precision: Precision,
    options: LoadOptions,
    cache: &Cache,
    json: bool,
) -> Result<(), Error> {
    let Some(engine) = Accelerator::by_name(name, precision, &backends(cache)?) else {
        let hint = did_you_mean(name, names());
        return Err(Error::Usage(format!("--engine {name}: no accelerator that computes in {precision}{hint}")));
    };
    engine.probe().map_err(|why| Error::Failed(format!("{name}: {why}")))?;
    let mut failed = 0;
    // Of all models, those of another format are none of this engine's; who names one wants it.
    let takes = |package: &&Package| packages.len() == 1 || engine.takes(Format::of(package.weights.bytes()));
    for package in packages.iter().filter(takes) {
        let baked = bake(package, &engine, precision, options);
        let (why_not, baked) = baked.map_or_else(|why| (Some(why), None), |baked| (None, Some(baked)));
        failed += usize::from(why_not.is_some());
        let report = Report { id: &package.id, engine: engine.name(), version: engine.version(), why_not, baked };
        let line = if json {
            serde_json::to_string(&report).map_err(|error| Error::Failed(error.to_string()))?
        } else {
            report.words()
        };
        print_line(&line)?;
    }
    match failed {
        0 => Ok(()),
        failed => {
            Err(Error::Failed(format!("{failed} of {} models have no engine; their lines say why", packages.len())))
        }
    }
}

/// One model; or why it has none.
fn bake(package: &Package, engine: &Accelerator, precision: Precision, options: LoadOptions) -> Result<Baked, String> {
    let baking = model::with_network(package, Some(&golden_frame), |network| engine.bake(network, options))
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    let referee = wait(&package.id, engine.name(), &baking)?;
    let seconds = (baking.started.elapsed().as_secs_f64() * 1e3).round() / 1e3;
    let (input, bytes) = (baking.input.dims(), size(&baking.folder));
    Ok(Baked { input, precision, referee, seconds, bytes, path: baking.folder })
}

/// Waits, with a bar on a terminal: the time that has passed, and what it may take in all.
fn wait(id: &str, name: &str, baking: &Baking) -> Result<Referee, String> {
    let bar = match baking.estimate {
        Some(estimate) => ProgressBar::new(estimate.as_secs().max(1)),
        None => ProgressBar::new_spinner(),
    };
    let template = match baking.estimate {
        Some(_) => "{bar:30} {elapsed} of about {len} s: {msg}",
        None => "{spinner} {elapsed} {msg}",
    };
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(format!("{id}: {name} makes its engine"));
    if let Some(estimate) = baking.estimate.filter(|estimate| *estimate > Duration::from_secs(60)) {
        let minutes = estimate.as_secs().div_ceil(60);
        crate::log::say(&format!("{id}: {name} makes its engine; that may take {minutes} min"));
    }
    let made = loop {
        if let Some(made) = baking.wait(LOOK) {
            break made;
        }
        bar.set_position(baking.started.elapsed().as_secs());
        bar.tick();
    };
    bar.finish_and_clear();
    made
}

/// Bytes of the files in a folder.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

impl Report<'_> {
    fn words(&self) -> String {
        let Self { id, engine, version, .. } = self;
        let Some(baked) = &self.baked else {
            return format!("{id} {engine}: none: {}", self.why_not.as_deref().unwrap_or_default());
        };
        format!(
            "{id} {engine} {version} {} {:?}: off by {:.1e} of tract's answers (bound {:.0e}); {:.1} MB in {:.1} s: {}",
            baked.precision,
            baked.input,
            baked.referee.worst().unwrap_or_default(),
            baked.referee.bound,
            baked.bytes as f64 / 1e6,
            baked.seconds,
            baked.path.display()
        )
    }
}
