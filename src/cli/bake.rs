//! `firstlight cache bake`: the plans of models, made once for the machine that will run them.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Error, bake_engine, bake_judge, golden_frame, open_package, print_line, shelf, threads};
use crate::cache::{Cache, Package};
use crate::engine::plan::{self, Failure, Made, NATIVE, Referee, Shelf, Stage, Target};
use crate::engine::{Backends, LoadOptions, Precision};
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
    /// Make what this accelerator needs instead of plans, and keep it in the state directory: tensorrt, onnxruntime
    #[arg(long, value_name = "NAME", conflicts_with_all = ["target", "output", "int8"])]
    engine: Option<String>,
    /// Multiply halves, numbers of 16 bits, where that is sooner: on ARMv8.2 twice as many at once, and very close
    #[arg(long, group = "less")]
    fp16: bool,
    /// Compute with bytes, by what the network does on the pictures of --calibrate: sooner, and a little off
    #[arg(long, group = "less", requires = "calibrate", conflicts_with = "all")]
    int8: bool,
    #[command(flatten)]
    judge: bake_judge::Args,
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
    precision: Precision,
    #[serde(flatten)]
    found: Found,
    seconds: f64,
    bytes: u64,
    path: PathBuf,
}

/// What the plan was measured by.
#[derive(Serialize)]
#[serde(untagged)]
enum Found {
    /// Without outputs where this machine cannot run the plan.
    Fp32(Referee),
    Fp16(bake_judge::InHalves),
    Int8(bake_judge::InBytes),
}

/// What all models are baked with.
struct Baker<'a> {
    args: &'a Args,
    cache: &'a Cache,
    target: Target,
    folder: PathBuf,
    options: LoadOptions,
    bar: ProgressBar,
}

pub fn run(args: &Args, cache: &Cache) -> Result<(), Error> {
    if let Some(engine) = &args.engine {
        let (packages, options) = (args.packages(cache)?, threads(args.threads, None)?);
        return bake_engine::run(engine, &packages, args.precision(), options, cache, args.json);
    }
    let target = Target::parse(&args.target, args.precision()).map_err(Error::Usage)?;
    let folder = args.output.clone().or_else(|| shelf(cache).own);
    let folder = folder.ok_or_else(|| Error::Usage("there is no state directory here; give -o DIR".into()))?;
    let options = threads(args.threads, None)?;
    let packages = args.packages(cache)?;
    let baker = Baker { args, cache, target, folder, options, bar: progress(packages.len() * args.stages().len()) };
    let (mut refused, mut failed) = (0, 0);
    for package in &packages {
        let (report, refusal) = baker.bake(package)?;
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
        baker.bar.suspend(|| print_line(&line))?;
    }
    baker.bar.finish_and_clear();
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
fn progress(stages: usize) -> ProgressBar {
    let bar = ProgressBar::new(stages as u64);
    let style = ProgressStyle::with_template("{bar:30} {elapsed} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

impl Args {
    /// What is to be baked: at least one.
    fn packages(&self, cache: &Cache) -> Result<Vec<Package>, Error> {
        let packages = if self.all {
            let ready = cache.entries().into_iter().filter_map(|entry| entry.package.ok());
            ready.filter(|package| model::contract(package).is_ok()).collect()
        } else {
            // What is made here is made of the network, whatever else there is.
            let backends = Backends::default();
            self.ids.iter().map(|id| open_package(cache, &backends, Some(id))).collect::<Result<Vec<Package>, _>>()?
        };
        match packages.is_empty() {
            true => Err(Error::Failed(format!("no model in {}", cache.root().display()))),
            false => Ok(packages),
        }
    }

    /// What is done for each model.
    fn stages(&self) -> &'static [Stage] {
        Stage::of(self.precision())
    }

    fn precision(&self) -> Precision {
        match self {
            Self { fp16: true, .. } => Precision::Fp16,
            Self { int8: true, .. } => Precision::Int8,
            _ => Precision::Fp32,
        }
    }
}

impl Baker<'_> {
    /// One model; an error only where no other could be baked either.
    fn bake(&self, package: &Package) -> Result<(Report, Option<Failure>), Error> {
        let (bar, stages) = (&self.bar, self.args.stages());
        let begun = bar.position();
        let mut stage = |stage: Stage| {
            bar.set_message(format!("{}: {}", package.id, stage.words()));
            bar.tick();
            bar.set_position(begun + stages.iter().position(|&other| other == stage).unwrap_or_default() as u64);
        };
        let made = self.make(package, &mut stage)?;
        let mut report = Report { id: package.id.clone(), isa: self.target.isa.name, why_not: None, baked: None };
        let failure = match made {
            Ok((made, found)) => {
                stage(Stage::Write);
                let path = Shelf::write(&self.folder, &made.head, &made.program, made.weights.as_ref())
                    .map_err(|error| Error::Failed(error.to_string()))?;
                report.baked = Some(Baked {
                    input: made.head.binding.input,
                    precision: made.head.trust.precision(),
                    found,
                    seconds: (made.seconds * 1e3).round() / 1e3,
                    bytes: std::fs::metadata(&path).map_or(0, |metadata| metadata.len()),
                    path,
                });
                None
            }
            Err(failure) => {
                report.why_not = Some(failure.to_string());
                Some(failure)
            }
        };
        bar.set_position(begun + stages.len() as u64);
        Ok((report, failure))
    }

    /// The plan, and what it was measured by.
    fn make(&self, package: &Package, stage: &mut dyn FnMut(Stage)) -> Result<Result<(Made, Found), Failure>, Error> {
        let Self { args: Args { judge, .. }, cache, target, options, .. } = *self;
        match self.args.precision() {
            Precision::Fp32 => {
                let sha256 = package.weights.sha256();
                let made = model::with_network(package, Some(&golden_frame), |network| {
                    plan::make(network, &sha256, target, options.threads, stage)
                })?;
                Ok(made.map(|made| {
                    let referee = made.head.trust.referee().cloned().unwrap_or_default();
                    (made, Found::Fp32(referee))
                }))
            }
            Precision::Fp16 => {
                let made = judge.make_fp16(package, cache, target, options, stage)?;
                Ok(made.map(|(made, found)| (made, Found::Fp16(found))))
            }
            Precision::Int8 => {
                let made = judge.make_int8(package, cache, target, options, stage)?;
                Ok(made.map(|(made, found)| (made, Found::Int8(found))))
            }
        }
    }
}

impl Report {
    fn words(&self) -> String {
        let Some(baked) = &self.baked else {
            return format!("{} {}: no plan: {}", self.id, self.isa, self.why_not.as_deref().unwrap_or_default());
        };
        let found = match &baked.found {
            Found::Fp32(referee) => match referee.worst() {
                Some(error) => format!("off by {error:.1e} of tract's answers (bound {:.0e})", referee.bound),
                None => "not compared here: this machine cannot run it".into(),
            },
            Found::Fp16(found) => found.words(),
            Found::Int8(found) => found.words(),
        };
        format!(
            "{} {} {} {:?}: {found}; {:.1} MB in {:.1} s: {}",
            self.id,
            self.isa,
            baked.precision,
            baked.input,
            baked.bytes as f64 / 1e6,
            baked.seconds,
            baked.path.display()
        )
    }
}
