//! `firstlight cache ls` and `firstlight cache verify`; the others are in files of their own.

use serde::Serialize;

use super::{Engines, Error, Wanted, bake, golden_frame, print_line, print_table, shelf, threads, tidy};
#[cfg(feature = "workbench")]
use super::{bundle_make, import};
use crate::cache::{self, Cache, Entry, LayoutKind, ModelId, Weights};
use crate::engine::plan::{self, Judged, Shelf};
use crate::engine::{Backends, Format, LoadOptions, Precision};
use crate::model::{self, registry};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the packages: id, layout, package, task, type, backend, quantization, size, sha256, plans, state
    Ls {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Check every file of every package (or of the models named) against the digests that the cache states, and infer
    /// once; exits 4 and names each fault
    Verify {
        /// One JSON array instead of lines
        #[arg(long)]
        json: bool,
        /// Threads of a CPU engine [default: one a core]
        #[arg(long, value_name = "N")]
        threads: Option<usize>,
        #[arg(value_name = "ID")]
        ids: Vec<String>,
    },
    /// Fetch models from Roboflow into the cache, once, checked, for devices that have no network
    #[cfg(feature = "workbench")]
    Pull(super::pull::Args),
    /// Make the plans of models: packed for an instruction set, compared with tract, mapped by every later start
    Bake(bake::Args),
    /// Make packages of a network in ONNX, or copy them from another cache
    #[cfg(feature = "workbench")]
    Import(import::Args),
    /// Remove models, with what was made from them; a model that is in use stays
    Rm(tidy::RmArgs),
    /// Remove what nothing refers to any more: plans and engines of models that are gone, leftovers
    Gc(tidy::GcArgs),
    /// Show what models take, with what was made from them
    Du {
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Make a pair of keys to sign bundles with
    #[cfg(feature = "workbench")]
    Keygen(bundle_make::KeyArgs),
    /// Make one file of models, their plans, a configuration and workflows, for devices to install
    #[cfg(feature = "workbench")]
    Bundle(bundle_make::Args),
}

pub fn run(command: Command, cache: &Cache) -> Result<(), Error> {
    match command {
        Command::Ls { json } => list(cache, json),
        #[cfg(feature = "workbench")]
        Command::Pull(args) => super::pull::run(&args, cache),
        Command::Bake(args) => bake::run(&args, cache),
        #[cfg(feature = "workbench")]
        Command::Import(args) => import::run(&args, cache),
        Command::Rm(args) => tidy::rm(&args, cache),
        Command::Gc(args) => tidy::gc(&args, cache),
        Command::Du { json } => tidy::du(json, cache),
        #[cfg(feature = "workbench")]
        Command::Keygen(args) => bundle_make::make_keys(&args),
        #[cfg(feature = "workbench")]
        Command::Bundle(args) => bundle_make::make(&args, cache),
        Command::Verify { json, threads: wanted, ids } => verify(cache, &ids, json, threads(wanted, None)?),
    }
}

/// A row of `cache ls`.
#[derive(Serialize)]
struct Row {
    id: String,
    layout: LayoutKind,
    /// Empty in the classic layout.
    package: String,
    task: String,
    #[serde(rename = "type")]
    model_type: String,
    backend: String,
    quantization: String,
    /// Of the weights, bytes.
    size: u64,
    sha256: String,
    plans: Vec<PlanRow>,
    /// `ready`, `unsupported` or `broken`.
    state: &'static str,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    dir: String,
}

/// A plan of a package.
#[derive(Serialize)]
struct PlanRow {
    isa: String,
    precision: Precision,
    input: [usize; 4],
    /// The judge's error where there is one, else the largest of any output, by the referee; none where it was not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<f64>,
    /// The largest that was accepted.
    bound: f64,
    /// What the judge measured, and on how many pictures; not in fp32, and in fp16 where it was given some.
    #[serde(skip_serializing_if = "Option::is_none")]
    measure: Option<plan::Measure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<usize>,
    bytes: u64,
    path: String,
    /// As the table shows it.
    #[serde(skip)]
    told: String,
}

impl PlanRow {
    /// Those that can be read; a start says of the others what is wrong with them.
    fn all(shelf: &Shelf, sha256: &str) -> Vec<Self> {
        let listed = shelf.list(sha256).into_iter();
        let row = |listed: plan::Listed| {
            let head = listed.head.ok()?;
            let told = plan::told(&head);
            let (error, bound, measure, images) = match (head.trust.judged(), head.trust.referee()) {
                (Some(Judged { error, error_max, measure, images, .. }), _) => {
                    (Some(*error), *error_max, Some(*measure), Some(*images))
                }
                (None, Some(referee)) => (referee.worst().map(f64::from), f64::from(referee.bound), None, None),
                (None, None) => return None,
            };
            Some(Self {
                precision: head.trust.precision(),
                error,
                bound,
                measure,
                images,
                bytes: listed.bytes,
                path: listed.path.display().to_string(),
                input: head.binding.input,
                isa: head.binding.isa,
                told,
            })
        };
        listed.filter_map(row).collect()
    }
}

impl Row {
    fn new(entry: Entry, shelf: &Shelf) -> Self {
        let (state, reason) = match state(&entry) {
            State::Ready => ("ready", None),
            State::Unsupported(why) => ("unsupported", Some(why)),
            State::Broken(why) => ("broken", Some(why)),
        };
        let weights = entry.package.as_ref().ok().map(|package| &package.weights);
        let sha256 = |weights: &Weights| shelf.sha256(weights.path(), weights.bytes());
        let sha256 = weights.map(sha256).unwrap_or_default();
        let (task, model_type) = entry.kind.map(|kind| (kind.task, kind.model_type)).unwrap_or_default();
        Row {
            layout: entry.layout,
            package: entry.package_id,
            task,
            model_type,
            backend: entry.backend,
            quantization: entry.quantization,
            size: weights.map_or(0, |weights| weights.bytes().len() as u64),
            plans: if sha256.is_empty() { Vec::new() } else { PlanRow::all(shelf, &sha256) },
            sha256,
            state,
            reason,
            dir: entry.dir.display().to_string(),
            id: entry.id,
        }
    }
}

/// Head and content of a column of the table.
type Column = (&'static str, fn(&Row) -> String);

enum State {
    Ready,
    /// The files may be in order, but this binary does not run such a package here.
    Unsupported(String),
    Broken(String),
}

fn state(entry: &Entry) -> State {
    match &entry.package {
        Ok(package) => match model::contract(package) {
            Ok(_) => State::Ready,
            Err(error) => State::Unsupported(error.to_string()),
        },
        Err(error @ cache::Error::NotForThisBoard { .. }) => State::Unsupported(error.to_string()),
        // Such a package may well lack files that every other has.
        Err(error) => match entry.kind.as_ref().map(|kind| (kind, registry::family(kind, entry.layout))) {
            Some((kind, Err(why))) => State::Unsupported(registry::unsupported(&entry.id, kind, why).to_string()),
            _ => State::Broken(error.to_string()),
        },
    }
}

fn list(cache: &Cache, json: bool) -> Result<(), Error> {
    let shelf = shelf(cache);
    let rows: Vec<Row> = cache.entries().into_iter().map(|entry| Row::new(entry, &shelf)).collect();
    if json {
        return print_line(&serde_json::to_string(&rows).map_err(|error| Error::Failed(error.to_string()))?);
    }
    if rows.is_empty() {
        eprintln!("no model in {}", cache.root().display());
        return Ok(());
    }
    let columns: [Column; 10] = [
        ("ID", |row| row.id.clone()),
        ("LAYOUT", |row| row.layout.as_str().into()),
        ("PACKAGE", |row| row.package.clone()),
        ("TASK", |row| row.task.clone()),
        ("TYPE", |row| row.model_type.clone()),
        ("BACKEND", |row| format!("{} {}", row.backend, row.quantization).trim().to_owned()),
        ("SIZE", |row| format!("{:.1} MB", row.size as f64 / 1e6)),
        ("SHA256", |row| row.sha256.get(..12).unwrap_or_default().into()),
        ("PLANS", |row| match row.plans.len() {
            0 => "-".into(),
            _ => row.plans.iter().map(|plan| plan.told.as_str()).collect::<Vec<_>>().join(", "),
        }),
        ("STATE", |row| row.reason.as_ref().map_or(row.state.into(), |reason| format!("{}: {reason}", row.state))),
    ];
    print_table(&columns.map(|(head, _)| head), rows.iter().map(|row| columns.map(|(_, cell)| cell(row)).to_vec()))
}

/// What verification found of one package.
#[derive(Serialize)]
struct Verdict {
    id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    package: String,
    /// `ok`, `unsupported` (the files are in order, but this version does not run the package here) or `fault`.
    verdict: &'static str,
    faults: Vec<String>,
}

impl Verdict {
    /// What is verified: the id, and the package where a model may have several.
    fn subject(&self) -> String {
        match self.package.as_str() {
            "" => self.id.clone(),
            package => format!("{} {package}", self.id),
        }
    }
}

fn verify(cache: &Cache, ids: &[String], json: bool, options: LoadOptions) -> Result<(), Error> {
    let engines = Engines::choose(Wanted::Best, &[Precision::Fp32], &Backends::cpu_only(shelf(cache)))?;
    let mut verdicts = Vec::new();
    if ids.is_empty() {
        verdicts.extend(cache.entries().into_iter().map(|entry| verdict(cache, entry, &engines, options, false)));
    }
    for id in ids {
        verdicts.extend(verify_named(cache, id, &engines, options));
    }
    if json {
        print_line(&serde_json::to_string(&verdicts).map_err(|error| Error::Failed(error.to_string()))?)?;
    } else {
        for verdict in &verdicts {
            match verdict.verdict {
                "fault" => {}
                word => print_line(&format!("{word} {}", verdict.subject()))?,
            }
            for fault in &verdict.faults {
                print_line(&format!("{} {}: {fault}", verdict.verdict.to_uppercase(), verdict.subject()))?;
            }
        }
    }
    match verdicts.iter().filter(|verdict| verdict.verdict == "fault").count() {
        0 if verdicts.is_empty() => Err(Error::Verification(format!("no model in {}", cache.root().display()))),
        0 => Ok(()),
        faulty => Err(Error::Verification(format!("{faulty} of {} packages failed verification", verdicts.len()))),
    }
}

/// Whoever looks whether packages are in order and run.
#[cfg(feature = "workbench")]
pub(super) struct Judge<'a> {
    cache: &'a Cache,
    engines: Engines,
    options: LoadOptions,
}

#[cfg(feature = "workbench")]
impl<'a> Judge<'a> {
    pub fn new(cache: &'a Cache) -> Result<Self, Error> {
        let engines = Engines::choose(Wanted::Best, &[Precision::Fp32], &Backends::cpu_only(shelf(cache)))?;
        Ok(Self { cache, engines, options: threads(None, None)? })
    }

    /// What is wrong with packages of a model; one that this version does not run is in order.
    pub fn faults(&self, name: &str, layout: LayoutKind, packages: &[String]) -> Vec<String> {
        let id = match ModelId::parse(name) {
            Ok(id) => id,
            Err(error) => return vec![error.to_string()],
        };
        let own = self.cache.entries_of(&id).into_iter();
        let own = own.filter(|entry| entry.layout == layout && packages.contains(&entry.package_id));
        let verdicts: Vec<Verdict> =
            own.map(|entry| verdict(self.cache, entry, &self.engines, self.options, false)).collect();
        if verdicts.len() < packages.len() {
            return vec![format!("{} of {} packages are in the cache", verdicts.len(), packages.len())];
        }
        verdicts.into_iter().filter(|verdict| verdict.verdict == "fault").flat_map(|verdict| verdict.faults).collect()
    }
}

/// Every package of one model; the one that `run` would take must run, the others may be of a kind that does not.
fn verify_named(cache: &Cache, name: &str, engines: &Engines, options: LoadOptions) -> Vec<Verdict> {
    let broken = |error: cache::Error| {
        vec![Verdict { id: name.into(), package: String::new(), verdict: "fault", faults: vec![error.to_string()] }]
    };
    let id = match ModelId::parse(name) {
        Ok(id) => id,
        Err(error) => return broken(error),
    };
    let chosen = cache.open(&id);
    let own = cache.entries_of(&id);
    match chosen {
        Err(error) if own.is_empty() => broken(error),
        chosen => {
            let chosen = chosen.map(|package| package.dir).ok();
            let is_chosen = |entry: &Entry| chosen.as_ref().is_none_or(|chosen| *chosen == entry.dir);
            own.into_iter()
                .map(|entry| (is_chosen(&entry), entry))
                .map(|(must_run, entry)| verdict(cache, entry, engines, options, must_run))
                .collect()
        }
    }
}

fn verdict(cache: &Cache, entry: Entry, engines: &Engines, options: LoadOptions, must_run: bool) -> Verdict {
    let mut faults: Vec<String> = cache.faults(&entry).iter().map(ToString::to_string).collect();
    let mut unsupported = None;
    match (state(&entry), entry.package) {
        (State::Unsupported(why), _) => unsupported = Some(why),
        // Said already, file by file.
        (State::Broken(_), _) if !faults.is_empty() => {}
        (State::Broken(why), _) => faults.push(why),
        (State::Ready, package) => {
            let ran = package.map_err(|error| error.to_string()).and_then(|package| {
                let ran = engines.first(Format::of(package.weights.bytes()), |engine| {
                    Ok(model::verify(&package, engine, options, Some(&golden_frame))?)
                });
                ran.map_err(|error: Error| error.to_string())
            });
            faults.extend(ran.err());
        }
    }
    let (id, package) = (entry.id, entry.package_id);
    match unsupported {
        Some(why) if faults.is_empty() && !must_run => {
            Verdict { id, package, verdict: "unsupported", faults: vec![why] }
        }
        unsupported => {
            faults.extend(unsupported);
            let verdict = if faults.is_empty() { "ok" } else { "fault" };
            Verdict { id, package, verdict, faults }
        }
    }
}
