//! `firstlight cache keygen` and `firstlight cache bundle`: what devices install, made on a workbench.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use serde_json::json;

use super::bundle::{bar, described};
use super::{Engines, Error, Wanted, golden_frame, load_model, print_line, shelf, threads};
use crate::cache::{Cache, Host, ModelId, Package, digest};
use crate::config::Config;
use crate::device::BoardFile;
use crate::durable;
use crate::engine::plan::{self, Failure, Shelf, Target};
use crate::engine::{Backends, LoadOptions, Precision};
use crate::model;
use crate::provision::bundle::{self, BOARD, Bundle, CACHE, CONFIG, Content, Model};
use crate::serving::loader::{PLANS_OF_CACHE, open_package};

/// Where Roboflow's engine has workflows that are not of its platform, by the digest of their id (SPEC §3).
const WORKFLOWS: &str = "workflow/local";
/// A larger definition is none.
const WORKFLOW_BYTES_MAX: u64 = 1 << 20;
const CONFIG_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    /// Begin of both names: BASE.pub goes onto devices, BASE.key stays here
    #[arg(short, long, value_name = "BASE", default_value = "firstlight")]
    output: PathBuf,
    /// Do not encrypt the secret key: for machines that sign where nobody can be asked
    #[arg(long)]
    no_password: bool,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model ids
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// The bundle
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Board that it is for, which brings plans for its CPU along; may be repeated [default: any board, no plans]
    #[arg(long, value_name = "NAME")]
    board: Vec<String>,
    /// Configuration of `run`, without what is the machine's own
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Board file, for a board that is not known
    #[arg(long, value_name = "FILE")]
    board_file: Option<PathBuf>,
    /// Definition of a workflow, named ID.json; may be repeated
    #[arg(long, value_name = "FILE")]
    workflow: Vec<PathBuf>,
    /// Name of what is in it, for people
    #[arg(long = "release", value_name = "VERSION", default_value = "1")]
    version: String,
    /// Secret key of `cache keygen` or minisign; without one most devices refuse the bundle
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// Threads of the golden frame [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

pub fn make_keys(args: &KeyArgs) -> Result<(), Error> {
    let files = bundle::make_keys(&args.output, !args.no_password)?;
    eprintln!("put {} onto devices, and keep {} to yourself", files.public.display(), files.secret.display());
    print_line(&json!({ "public": files.public, "secret": files.secret }).to_string())
}

pub fn make(args: &Args, cache: &Cache) -> Result<(), Error> {
    // Asked for and judged before anything takes time.
    let key = args.sign.as_deref().map(bundle::read_key).transpose()?;
    let targets = args.targets()?;
    let mut content = Content { version: args.version.clone(), boards: args.boards(), ..Content::default() };
    let config = args.add_settings(&mut content)?;
    let plans = Scratch::beside(&args.output)?;
    let (bar, options) = (bar("models"), threads(args.threads, None)?);
    for id in &args.ids {
        add_model(id, cache, &targets, &plans.0, options, &bar, &mut content)?;
    }
    config.map(|config| bundle::check_model(&config, &content.models)).transpose()?;
    bar.set_message("writing");
    let made = bundle::make(content, key.as_ref(), &args.output, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let made = made?;
    if key.is_none() {
        eprintln!("not signed: devices refuse it unless they say bundle.accept = \"any\"");
    }
    let bundle = Bundle { dir: args.output.clone(), manifest: made.manifest };
    let mut line = described(&bundle);
    line["file_bytes"] = made.bytes.into();
    line["signed"] = key.is_some().into();
    print_line(&line.to_string())
}

impl Args {
    /// Names of all boards, once each.
    fn boards(&self) -> Vec<String> {
        let mut boards = self.board.clone();
        boards.sort();
        boards.dedup();
        boards
    }

    /// The instruction sets of all boards, once each.
    fn targets(&self) -> Result<Vec<Target>, Error> {
        let own = self.board_file.as_deref().map(BoardFile::read).transpose();
        let own = own.map_err(|error| Error::Usage(error.to_string()))?;
        let mut targets = BTreeMap::new();
        for name in self.boards() {
            let board = match &own {
                Some(own) if own.name == name => own.clone(),
                _ => BoardFile::named(&name).map_err(Error::Usage)?,
            };
            for target in board.plan_targets() {
                let target = Target::parse(target, Precision::Fp32).map_err(Error::Usage)?;
                targets.insert(target.isa.name, target);
            }
        }
        if let Some(own) = own.filter(|own| !self.board.contains(&own.name)) {
            return Err(Error::Usage(format!("--board-file is of board `{}`; name it with --board as well", own.name)));
        }
        Ok(targets.into_values().collect())
    }

    /// Configuration, which is returned, board file and workflows.
    fn add_settings(&self, content: &mut Content) -> Result<Option<Config>, Error> {
        let config =
            self.config.as_deref().map(|path| Ok::<_, Error>(bundle::check_settings(&text(path, CONFIG_BYTES_MAX)?)?));
        content.files.extend(self.config.iter().map(|path| (CONFIG.into(), path.clone())));
        content.files.extend(self.board_file.iter().map(|path| (BOARD.into(), path.clone())));
        for path in &self.workflow {
            let named = || Error::Usage(format!("{}: expected a workflow's definition named ID.json", path.display()));
            let id = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")).ok_or_else(named)?;
            let definition: Result<serde_json::Map<_, _>, _> = serde_json::from_str(&text(path, WORKFLOW_BYTES_MAX)?);
            definition.map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
            let place = format!("{CACHE}/{WORKFLOWS}/{}.json", digest::sha256(id.as_bytes()));
            content.files.push((place, path.clone()));
            content.workflows.push(id.into());
        }
        content.workflows.sort();
        config.transpose()
    }
}

fn text(path: &Path, bytes_max: u64) -> Result<String, Error> {
    let wrong = |why: &str| Error::Usage(format!("{}: {why}", path.display()));
    let bytes = durable::read_bounded(path, bytes_max).map_err(|error| Error::Usage(error.to_string()))?;
    String::from_utf8(bytes.ok_or_else(|| wrong("is not there"))?).map_err(|_| wrong("is no text"))
}

/// A model's files, its plans, and what it answers to the golden frame.
fn add_model(
    id: &str,
    cache: &Cache,
    targets: &[Target],
    folder: &Path,
    options: LoadOptions,
    bar: &ProgressBar,
    content: &mut Content,
) -> Result<(), Error> {
    bar.set_message(format!("{id}: files"));
    // A bundle is for any machine, so its package is the one that every CPU runs.
    let package = open_package(cache, &Host::default(), Some(id))?;
    if !package.dir.starts_with(cache.root()) {
        return Err(Error::Usage(format!(
            "{id} is the model inside the binary, which every device has; it is in no cache"
        )));
    }
    let entries = cache.entries_of(&ModelId::parse(&package.id)?);
    let faults: Vec<String> = entries
        .iter()
        .filter(|entry| entry.dir == package.dir)
        .flat_map(|entry| cache.faults(entry))
        .map(|fault| fault.to_string())
        .collect();
    if !faults.is_empty() {
        return Err(Error::Verification(format!("{id}: {}", faults.join("; "))));
    }
    let files = cache.files(&package)?;
    content.files.extend(files.into_iter().map(|(place, path)| (format!("{CACHE}/{place}"), path)));

    bar.set_message(format!("{id}: golden frame"));
    let engines = Engines::choose(Wanted::Only("tract"), &[Precision::Fp32], &Backends::default())?;
    let (mut loaded, _) = load_model(&package, &engines, options)?;
    let golden = bundle::fingerprint(&mut loaded)?;
    drop(loaded);
    let sha256 = package.weights.sha256();
    for target in targets {
        bar.set_message(format!("{id}: plan for {}", target.isa.name));
        add_plans(&package, &sha256, *target, cache, folder, options, content)?;
    }
    content.models.push(Model { id: package.id, sha256, golden });
    content.models.sort_by(|a, b| a.id.cmp(&b.id));
    content.models.dedup_by(|a, b| a.id == b.id);
    Ok(())
}

/// The plan of a model for a target, and those in less than 32 bits that were baked before.
fn add_plans(
    package: &Package,
    sha256: &str,
    target: Target,
    cache: &Cache,
    folder: &Path,
    options: LoadOptions,
    content: &mut Content,
) -> Result<(), Error> {
    let place = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!("{CACHE}/{PLANS_OF_CACHE}/{name}")
    };
    let made = model::with_network(package, Some(&golden_frame), |network| {
        plan::make(network, sha256, target, options.threads, &mut |_| {})
    })?;
    match made {
        Ok(made) => {
            let path = Shelf::write(folder, &made.head, &made.program, made.weights.as_ref());
            let path = path.map_err(|error| Error::Failed(error.to_string()))?;
            content.files.push((place(&path), path));
        }
        // Some networks have none: tract runs those.
        Err(Failure::Refused(why)) => eprintln!("{} {}: no plan: {why}", package.id, target.isa.name),
        Err(Failure::Engine(error)) => return Err(error.into()),
    }
    let lesser = shelf(cache).list(sha256).into_iter().filter(|listed| {
        let fits = |head: &plan::file::Head| {
            // Those of halves and bytes have instruction sets of their own, such as `neon-fp16`.
            let is_arm = |isa: &str| isa.starts_with("neon");
            head.trust.precision() != Precision::Fp32 && is_arm(&head.binding.isa) == is_arm(target.isa.name)
        };
        listed.head.as_ref().is_ok_and(fits)
    });
    content.files.extend(lesser.map(|listed| (place(&listed.path), listed.path)));
    Ok(())
}

/// A folder for plans until they are in the bundle.
struct Scratch(PathBuf);

impl Scratch {
    fn beside(output: &Path) -> Result<Self, Error> {
        let mut path = durable::temporary_name(output).into_os_string();
        path.push(".plans");
        let path = PathBuf::from(path);
        let made = std::fs::create_dir_all(&path);
        made.map_err(|cause| Error::Io { what: path.display().to_string(), cause })?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
