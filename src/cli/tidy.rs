//! `firstlight cache rm`, `firstlight cache gc` and `firstlight cache du`.

use std::io::{BufRead, IsTerminal, Write};

use serde::Serialize;

use super::{Error, print_line, print_table, shelf};
use crate::cache::{Cache, ModelId};
use crate::provision::store::{self, Garbage, Removal, State};

#[derive(Debug, clap::Args)]
pub struct RmArgs {
    /// Model ids
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
pub struct GcArgs {
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
struct How {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Only show what would go
    #[arg(long)]
    dry_run: bool,
    /// One JSON object instead of words
    #[arg(long)]
    json: bool,
}

/// A path that goes.
#[derive(Serialize)]
struct Gone {
    kind: &'static str,
    /// Empty where it is of no single model.
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    path: String,
    bytes: u64,
}

#[derive(Serialize)]
struct Report {
    removed: bool,
    bytes: u64,
    items: Vec<Gone>,
}

pub fn rm(args: &RmArgs, cache: &Cache) -> Result<(), Error> {
    let mut ids = args.ids.iter().map(|id| ModelId::parse(id)).collect::<Result<Vec<ModelId>, _>>()?;
    ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    ids.dedup();
    let removal = Removal::new(cache, &state(cache), &ids)?;
    let gone = |kind, id: &str, path: &std::path::Path, bytes| Gone {
        kind,
        id: id.into(),
        path: path.display().to_string(),
        bytes,
    };
    let mut items = Vec::new();
    for model in &removal.models {
        for (kind, paths) in [("package", &model.packages), ("text", &model.texts)] {
            items.extend(paths.iter().map(|path| gone(kind, &model.id, path, store::files::size(path))));
        }
    }
    items.extend(removal.blobs.iter().map(|(path, bytes)| gone("blob", "", path, *bytes)));
    items.extend(removal.state.iter().map(|piece| gone("state", "", &piece.path, piece.bytes)));
    args.how.go(items, &mut || Ok(store::remove(&removal, cache)?))
}

pub fn gc(args: &GcArgs, cache: &Cache) -> Result<(), Error> {
    let garbage = store::collect(cache, &state(cache))?;
    let gone = |garbage: &Garbage| Gone {
        kind: garbage.kind.as_str(),
        id: String::new(),
        path: garbage.path.display().to_string(),
        bytes: garbage.bytes,
    };
    args.how.go(garbage.iter().map(gone).collect(), &mut || {
        for garbage in &garbage {
            if !garbage.remove()? {
                eprintln!("{}: another program has begun to use it; it stays", garbage.path.display());
            }
        }
        Ok(())
    })
}

impl How {
    /// Shows what goes, asks where somebody can be asked, and does it.
    fn go(&self, items: Vec<Gone>, remove: &mut dyn FnMut() -> Result<(), Error>) -> Result<(), Error> {
        let bytes = items.iter().map(|item| item.bytes).sum();
        if !self.json {
            items.iter().for_each(|item| eprintln!("{:>9}  {:8} {}", megabytes(item.bytes), item.kind, item.path));
            eprintln!("{:>9}  in {} files and folders", megabytes(bytes), items.len());
        }
        let removes = !self.dry_run && !items.is_empty();
        if removes {
            if !self.yes && !asked("Remove them?")? {
                return Err(Error::Failed("nothing was removed".into()));
            }
            remove()?;
        }
        if self.json {
            let report = Report { removed: removes, bytes, items };
            print_line(&serde_json::to_string(&report).map_err(|error| Error::Failed(error.to_string()))?)?;
        } else if removes {
            eprintln!("removed");
        }
        Ok(())
    }
}

/// Whether whoever sits at the terminal says yes.
fn asked(question: &str) -> Result<bool, Error> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Error::Usage("nobody can be asked here; --yes removes, --dry-run only shows".into()));
    }
    let read = |cause| Error::Io { what: "the terminal".into(), cause };
    eprint!("{question} [y/N] ");
    std::io::stderr().flush().map_err(read)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(read)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

pub fn du(json: bool, cache: &Cache) -> Result<(), Error> {
    let usage = store::usage(cache, &state(cache))?;
    if json {
        return print_line(&serde_json::to_string(&usage).map_err(|error| Error::Failed(error.to_string()))?);
    }
    let heads = ["WEIGHTS", "TEXTS", "SHARED", "PLANS", "ENGINES", "ID"];
    let rows = usage.models.iter().map(|of| {
        let sizes = [of.weights, of.texts, of.shared, of.plans, of.engines].map(megabytes);
        sizes.into_iter().chain([of.id.clone()]).collect()
    });
    print_table(&heads, rows)?;
    print_line(&format!(
        "total {}, of it {} made from models that are not here",
        megabytes(usage.total),
        megabytes(usage.others)
    ))?;
    for disk in &usage.disks {
        print_line(&format!("{} free at {}", megabytes(disk.free), disk.path.display()))?;
    }
    Ok(())
}

fn state(cache: &Cache) -> State {
    State::new(crate::env::state_dir(), shelf(cache))
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
