//! `firstlight bundle`: models that were brought as a bundle, on the device.

use std::fs::File;
use std::io::{IsTerminal, Read, stderr, stdin};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{Engines, Error, Wanted, find_config, load_model, print_line, print_table, threads};
use crate::cache::{Cache, Host};
use crate::config::Accept;
use crate::device::BoardFile;
use crate::engine::plan::Shelf;
use crate::engine::{Backends, Precision};
use crate::priority::give_way;
use crate::provision::bundle::{self, Bundle, Installed, Listed, Request, Store, Trust};
use crate::serving::CLIENTS_NICE;
use crate::serving::loader::{open_package, shelf};

/// Roots are shown so long where people compare them.
const ROOT_SHOWN: usize = 12;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Install a bundle: verified, tried on the golden frame, and run from the next start on; exits 4 when it is refused
    Install {
        /// The bundle, or `-` for standard input
        #[arg(value_name = "FILE|-")]
        bundle: PathBuf,
        #[command(flatten)]
        whose: Whose,
        /// Not if it was installed so before: for a stick that stays in
        #[arg(long)]
        once: bool,
    },
    /// List the bundles that lie here: the current one, and the one before
    Ls {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Go back to the bundle before, or from the first one to none; once more, and it is undone
    Rollback,
}

/// Which bundles are taken, and for which board.
#[derive(Debug, Default, clap::Args)]
pub struct Whose {
    /// minisign public key that must have signed the bundle [default: bundle.key, else /etc/firstlight/update.pub]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Take bundles that are `signed` by the key, or `any` [default: bundle.accept, else signed]
    #[arg(long, value_name = "WHICH")]
    accept: Option<Accept>,
    /// Board that the bundle must be for [default: this one]
    #[arg(long, value_name = "NAME")]
    board: Option<String>,
}

pub fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Install { bundle, whose, once } => {
            if bundle.as_os_str() == "-" {
                return install(&mut stdin().lock(), &whose, once);
            }
            let failed = |cause| Error::Io { what: bundle.display().to_string(), cause };
            install(&mut File::open(&bundle).map_err(failed)?, &whose, once)
        }
        Command::Ls { json } => list(&store()?, json),
        Command::Rollback => roll_back(&store()?),
    }
}

/// As [`Whose`] of `firstlight update`, which has a key and a board of its own.
pub(super) fn install_with(from: &mut dyn Read, key: &Path, board: Option<&String>) -> Result<(), Error> {
    install(from, &Whose { key: Some(key.into()), accept: None, board: board.cloned() }, false)
}

fn install(from: &mut dyn Read, whose: &Whose, once: bool) -> Result<(), Error> {
    let (store, config) = (store()?, find_config(None)?.bundle);
    let trust = match whose.accept.unwrap_or(config.accept) {
        Accept::Any => Trust::Any,
        Accept::Signed => Trust::Signed(Box::new(bundle::load_key(whose.key.as_ref().unwrap_or(&config.key))?)),
    };
    let own_board = || BoardFile::for_machine(Path::new("/")).file.name;
    let board = whose.board.clone().unwrap_or_else(own_board);
    // What sees comes first.
    give_way(CLIENTS_NICE);
    let bar = bar("unpacking");
    let installed = bundle::install(Request {
        bundle: from,
        store: &store,
        trust: &trust,
        board: &board,
        once,
        try_it: &|bundle| {
            bar.set_message("golden frame");
            try_models(bundle)
        },
        progress: &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        },
    });
    bar.finish_and_clear();
    let Installed { bundle, already } = installed?;
    let (short, version) = (&bundle.manifest.root[..ROOT_SHOWN], &bundle.manifest.version);
    eprintln!(
        "bundle {short}, version {version}, {}",
        if already { "is the current one already" } else { "is verified and runs from the next start on" }
    );
    let mut line = described(&bundle);
    line["already"] = already.into();
    print_line(&line.to_string())
}

/// A bar on a terminal; nothing elsewhere.
pub(super) fn bar(what: &'static str) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(what);
    bar
}

/// Where the bundles of this machine lie.
fn store() -> Result<Store, Error> {
    let state = crate::env::state_dir();
    let state =
        state.ok_or_else(|| Error::Usage("there is no state directory here; set FIRSTLIGHT_STATE_DIR".into()))?;
    Ok(Store::of(&state))
}

/// Shows every model of an unpacked bundle the golden frame, on the CPU: what an accelerator does is compared with that.
fn try_models(bundle: &Bundle) -> Result<(), bundle::Error> {
    let cache = Cache::at(bundle.cache());
    if let Some(path) = bundle.board() {
        let wrong =
            |error: &dyn std::fmt::Display| bundle::Error::Settings { file: bundle::BOARD, why: error.to_string() };
        BoardFile::read(&path).map_err(|error| wrong(&error))?;
    }
    // Nothing is kept of a bundle that may be refused.
    let plans = Shelf { own: None, ..shelf(&cache) };
    for model in &bundle.manifest.models {
        let failed = |why: String| bundle::Error::Golden { id: model.id.clone(), why };
        let try_it = || -> Result<_, Error> {
            let engines = Engines::choose(Wanted::Best, &[Precision::Fp32], &Backends::cpu_only(plans.clone()))?;
            let package = open_package(&cache, &Host::default(), Some(&model.id))?;
            let (mut loaded, _) = load_model(&package, &engines, threads(None, None)?)?;
            Ok((package.weights.sha256(), bundle::fingerprint(&mut loaded)?))
        };
        let (sha256, answers) = try_it().map_err(|error| failed(error.to_string()))?;
        if sha256 != model.sha256 {
            return Err(failed(format!("its weights have sha256 {sha256}, its manifest says {}", model.sha256)));
        }
        bundle::same(&model.id, &answers, &model.golden, Precision::Fp32)?;
    }
    Ok(())
}

/// What a machine is told of a bundle.
pub(super) fn described(bundle: &Bundle) -> Value {
    let manifest = &bundle.manifest;
    let models: Vec<&str> = manifest.models.iter().map(|model| model.id.as_str()).collect();
    json!({
        "root": manifest.root, "version": manifest.version, "models": models, "workflows": manifest.workflows,
        "boards": manifest.boards, "bytes": manifest.bytes(), "path": bundle.dir,
    })
}

fn list(store: &Store, json: bool) -> Result<(), Error> {
    let listed = store.list()?;
    if json {
        let row = |Listed { root, role, bundle }: &Listed| {
            let mut row = match bundle {
                Ok(bundle) => described(bundle),
                Err(error) => json!({ "root": root, "problem": error.to_string() }),
            };
            row["role"] = (*role).into();
            row
        };
        return print_line(&Value::Array(listed.iter().map(row).collect()).to_string());
    }
    if let Some(of) = store.state()?.taken_back {
        eprintln!("bundle {} was taken back: {}", &of.root.get(..ROOT_SHOWN).unwrap_or_default(), of.why);
    }
    if listed.is_empty() {
        eprintln!("no bundle in {}", store.dir().display());
        return Ok(());
    }
    let row = |Listed { root, role, bundle }: Listed| {
        let rest = match &bundle {
            Ok(Bundle { dir, manifest }) => {
                let ids: Vec<&str> = manifest.models.iter().map(|model| model.id.as_str()).collect();
                let size = format!("{:.1} MB", manifest.bytes() as f64 / 1e6);
                [manifest.version.clone(), ids.join(", "), size, dir.display().to_string()]
            }
            Err(error) => ["-".into(), "-".into(), "-".into(), error.to_string()],
        };
        [vec![root[..ROOT_SHOWN].to_owned(), role.to_owned()], rest.to_vec()].concat()
    };
    print_table(&["ROOT", "ROLE", "VERSION", "MODELS", "SIZE", "WHERE"], listed.into_iter().map(row))
}

fn roll_back(store: &Store) -> Result<(), Error> {
    let state = store.roll_back()?;
    match &state.current {
        Some(root) => eprintln!("bundle {} runs from the next start on", &root[..ROOT_SHOWN]),
        None => eprintln!("no bundle runs from the next start on"),
    }
    print_line(&json!({ "current": state.current, "previous": state.previous }).to_string())
}
