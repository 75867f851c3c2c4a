//! `firstlight cache ls` and `firstlight cache verify`.

use serde::Serialize;

use super::{Error, choose_engine, print_line, threads};
use crate::cache::{Cache, Entry, ModelId, Package};
use crate::engine::Engine;
use crate::engine::LoadOptions;
use crate::model;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the models: id, task, type, size, sha256, state
    Ls {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Check every file of every model (or of those named) and infer once; exits 4 and names each fault
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
}

pub fn run(command: Command, cache: &Cache) -> Result<(), Error> {
    match command {
        Command::Ls { json } => list(cache, json),
        Command::Verify { json, threads: wanted, ids } => verify(cache, &ids, json, threads(wanted, None)?),
    }
}

/// A row of `cache ls`.
#[derive(Serialize)]
struct Row {
    id: String,
    task: String,
    #[serde(rename = "type")]
    model_type: String,
    /// Of the weights, bytes.
    size: u64,
    sha256: String,
    /// `ready`, `unsupported` or `broken`.
    state: &'static str,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    dir: String,
}

impl From<Entry> for Row {
    fn from(entry: Entry) -> Self {
        let dir = entry.dir.display().to_string();
        match entry.package {
            Ok(package) => {
                let supported = model::contract(&package);
                Row {
                    id: package.id,
                    task: package.kind.task,
                    model_type: package.kind.model_type,
                    size: package.weights.bytes().len() as u64,
                    sha256: package.weights.sha256(),
                    state: if supported.is_ok() { "ready" } else { "unsupported" },
                    reason: supported.err().map(|error| error.to_string()),
                    dir,
                }
            }
            Err(error) => Row {
                id: entry.id,
                task: String::new(),
                model_type: String::new(),
                size: 0,
                sha256: String::new(),
                state: "broken",
                reason: Some(error.to_string()),
                dir,
            },
        }
    }
}

fn list(cache: &Cache, json: bool) -> Result<(), Error> {
    let rows: Vec<Row> = cache.entries().into_iter().map(Row::from).collect();
    if json {
        return print_line(&serde_json::to_string(&rows).map_err(|error| Error::Failed(error.to_string()))?);
    }
    if rows.is_empty() {
        eprintln!("no model in {}", cache.root().display());
        return Ok(());
    }
    let width = |column: fn(&Row) -> usize, head: usize| rows.iter().map(column).max().unwrap_or(0).max(head);
    let (id, task, kind) = (width(|r| r.id.len(), 2), width(|r| r.task.len(), 4), width(|r| r.model_type.len(), 4));
    print_line(&format!("{:id$}  {:task$}  {:kind$}  {:>9}  {:12}  STATE", "ID", "TASK", "TYPE", "SIZE", "SHA256"))?;
    for row in &rows {
        let size = format!("{:.1} MB", row.size as f64 / 1e6);
        let sha = row.sha256.get(..12).unwrap_or_default();
        let state = row.reason.as_ref().map_or(row.state.into(), |reason| format!("{}: {reason}", row.state));
        print_line(&format!(
            "{:id$}  {:task$}  {:kind$}  {size:>9}  {sha:12}  {state}",
            row.id, row.task, row.model_type
        ))?;
    }
    Ok(())
}

/// What verification found of one model.
#[derive(Serialize)]
struct Verdict {
    id: String,
    /// `ok`, `unsupported` (the files are in order, but this version cannot run the type) or `fault`.
    verdict: &'static str,
    faults: Vec<String>,
}

fn verify(cache: &Cache, ids: &[String], json: bool, options: LoadOptions) -> Result<(), Error> {
    let chosen = choose_engine(None)?;
    let mut verdicts = Vec::new();
    if ids.is_empty() {
        for entry in cache.entries() {
            let faults = Package::faults(cache.root(), &entry.dir);
            verdicts.push(verdict(entry.id, entry.package, &faults, &*chosen.engine, options, false));
        }
    }
    for id in ids {
        let (package, faults) = match ModelId::parse(id) {
            Ok(id) => (cache.open(&id), Package::faults(cache.root(), &cache.directory(&id))),
            Err(error) => (Err(error), Vec::new()),
        };
        verdicts.push(verdict(id.clone(), package, &faults, &*chosen.engine, options, true));
    }
    if json {
        print_line(&serde_json::to_string(&verdicts).map_err(|error| Error::Failed(error.to_string()))?)?;
    } else {
        for verdict in &verdicts {
            match verdict.verdict {
                "fault" => {}
                word => print_line(&format!("{word} {}", verdict.id))?,
            }
            for fault in &verdict.faults {
                print_line(&format!("{} {}: {fault}", verdict.verdict.to_uppercase(), verdict.id))?;
            }
        }
    }
    match verdicts.iter().filter(|verdict| verdict.verdict == "fault").count() {
        0 if verdicts.is_empty() => Err(Error::Verification(format!("no model in {}", cache.root().display()))),
        0 => Ok(()),
        faulty => Err(Error::Verification(format!("{faulty} of {} models failed verification", verdicts.len()))),
    }
}

/// A model that is named must run; one that is merely there may be of a type this version does not know.
fn verdict(
    id: String,
    package: Result<Package, crate::cache::Error>,
    file_faults: &[crate::cache::Error],
    engine: &dyn Engine,
    options: LoadOptions,
    named: bool,
) -> Verdict {
    let mut faults: Vec<String> = file_faults.iter().map(ToString::to_string).collect();
    match package {
        // Said already, file by file.
        Err(_) if !faults.is_empty() => {}
        Err(error) => faults.push(error.to_string()),
        Ok(package) => match model::verify(&package, engine, options) {
            Err(error @ model::Error::Unsupported { .. }) if !named && faults.is_empty() => {
                return Verdict { id, verdict: "unsupported", faults: vec![error.to_string()] };
            }
            Err(error) => faults.push(error.to_string()),
            Ok(()) => {}
        },
    }
    Verdict { id, verdict: if faults.is_empty() { "ok" } else { "fault" }, faults }
}
