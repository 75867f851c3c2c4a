//! `firstlight cache bake`: the plans of models, made once for the machine that will run them.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Error, golden_frame, open_package, print_line, shelf, threads};
use crate::cache::{Cache, Package};
use crate::engine::plan::file::{Head, Referee};
use crate::engine::plan::{self, Failure, NATIVE, Shelf, Stage, Target};
use crate::model;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model ids
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// Every package of the cache that runs here
    #[arg(long)]
    all: bool,
    /// The machine it is for: `native`, an instruction set (avx512, avx2, neon, portable) or a CPU such as cortex-a72
    #[arg(long, value_name = "NAME", default_value = NATIVE)]
    target: String,
    /// Folder for the plans, such as CACHE/.firstlight/plans for a device [default: `plans` of the state directory]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Threads of the comparison [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// One JSON object a model instead of words
    #[arg(long)]
    json: bool,
}

/// What became of one model.
#[derive(Serialize)]
struct Report {
    id: String,
    isa: &'static str,
    /// Why there is no plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
    #[serde(flatten)]
    baked: Option<Baked>,
}

#[derive(Serialize)]
struct Baked {
    input: [usize; 4],
    /// Without outputs where this machine cannot run the plan.
    #[serde(flatten)]
    referee: Referee,
    seconds: f64,
    bytes: u64,
    path: PathBuf,
}

pub fn run(args: &Args, cache: &Cache) -> Result<(), Error> {
    let target = Target::parse(&args.target).map_err(Error::Usage)?;
    let folder = args.output.clone().or_else(|| shelf(cache).own);
    let folder = folder.ok_or_else(|| Error::Usage("there is no state directory here; give -o DIR".into()))?;
    let threads = threads(args.threads, None)?.threads;
    let packages = if args.all {
        let ready = cache.entries().into_iter().filter_map(|entry| entry.package.ok());
        ready.filter(|package| model::contract(package).is_ok()).collect()
    } else {
        args.ids.iter().map(|id| open_package(cache, Some(id))).collect::<Result<Vec<Package>, _>>()?
    };
    if packages.is_empty() {
        return Err(Error::Failed(format!("no model in {}", cache.root().display())));
    }
    let bar = progress(packages.len());
    let (mut refused, mut failed) = (0, 0);
    for package in &packages {
        let (report, refusal) = bake(package, target, &folder, threads, &bar)?;
        match refusal {
            Some(Failure::Refused(_)) => refused += 1,
            Some(Failure::Engine(_)) => failed += 1,
            None => {}
        }
        let line = if args.json {
            serde_json::to_string(&report).map_err(|error| Error::Failed(error.to_string()))?
        } else {
            report.words()
        };
        bar.suspend(|| print_line(&line))?;
    }
    bar.finish_and_clear();
    // Of all models some may be none for a plan; who names one wants its plan.
    let failed = if args.all { failed } else { failed + refused };
    match failed {
        0 => Ok(()),
        failed => {
            Err(Error::Failed(format!("{failed} of {} models have no plan; their lines say why", packages.len())))
        }
    }
}

/// A bar on a terminal; nothing elsewhere, where each model's line is enough.
fn progress(models: usize) -> ProgressBar {
    let bar = ProgressBar::new((models * Stage::ALL.len()) as u64);
    let style = ProgressStyle::with_template("{bar:30} {elapsed} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// One model; an error only where no other could be baked either.
fn bake(
    package: &Package,
    target: Target,
    folder: &Path,
    threads: usize,
    bar: &ProgressBar,
) -> Result<(Report, Option<Failure>), Error> {
    let begun = bar.position();
    let mut stage = |stage: Stage| {
        bar.set_message(format!("{}: {}", package.id, stage.words()));
        bar.tick();
        bar.set_position(begun + stage as u64);
    };
    let sha256 = package.weights.sha256();
    let made = model::with_network(package, Some(&golden_frame), |network| {
        plan::make(network, &sha256, target, threads, &mut stage)
    })?;
    let mut report = Report { id: package.id.clone(), isa: target.isa.name, why_not: None, baked: None };
    let failure = match made {
        Ok(made) => {
            stage(Stage::Write);
            let path = Shelf::write(folder, &made.head, &made.program, made.weights.as_ref())
                .map_err(|error| Error::Failed(error.to_string()))?;
            let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            let Head { binding, referee, .. } = made.head;
            report.baked =
                Some(Baked { input: binding.input, referee, seconds: (made.seconds * 1e3).round() / 1e3, bytes, path });
            None
        }
        Err(failure) => {
            report.why_not = Some(failure.to_string());
            Some(failure)
        }
    };
    bar.set_position(begun + Stage::ALL.len() as u64);
    Ok((report, failure))
}

impl Report {
    fn words(&self) -> String {
        let Some(baked) = &self.baked else {
            return format!("{} {}: no plan: {}", self.id, self.isa, self.why_not.as_deref().unwrap_or_default());
        };
        let error = match baked.referee.worst() {
            Some(error) => format!("off by {error:.1e} of tract's answers (bound {:.0e})", baked.referee.bound),
            None => "not compared here: this machine cannot run it".into(),
        };
        format!(
            "{} {} {:?}: {error}; {:.1} MB in {:.1} s: {}",
            self.id,
            self.isa,
            baked.input,
            baked.bytes as f64 / 1e6,
            baked.seconds,
            baked.path.display()
        )
    }
}
