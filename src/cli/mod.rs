//! The command line: one file a subcommand; parse, call, print.
//!
//! Human words go to stderr, machine lines to stdout. Exit codes are those of [`Exit`].

mod bake;
mod bake_engine;
mod bake_judge;
mod bench;
mod bundle;
#[cfg(feature = "workbench")]
mod bundle_make;
mod cache;
mod env;
mod gate;
#[cfg(feature = "workbench")]
mod import;
mod infer;
mod installed;
mod models;
mod port;
mod probe;
mod progress;
#[cfg(feature = "workbench")]
mod pull;
mod run;
mod selftest;
mod serve;
mod sinks;
mod slot;
mod spool;
mod tidy;
mod update;
mod verify_offline;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

use crate::cache::{Cache, Cuda, Host, Package};
use crate::config::{Config, EngineConfig};
use crate::engine::{self, Backends, LoadOptions, accel};
use crate::error::Exit;
use crate::model::{self, Semantics};
use crate::serving::loader::{
    self, Chosen, Declined, Engines, Wanted, embedded_package, explained, golden_frame, load_model, shelf,
};
use crate::{config, device, http, log, provision, serving, sink, source};

/// Most address space this process may fill with data. A network that asks for more than any board has is stopped
/// here instead of taking the board down; RF-DETR large, the largest model served, loads in under 1 GiB.
const DATA_BYTES_MAX: u64 = 4 << 30;

/// Turns a cached Roboflow model into a device that sees.
///
/// Without a subcommand: `run`. With no configuration at all it runs the demo model inside the binary on the demo
/// scene inside the binary, and shows it on http://127.0.0.1:9001/.
#[derive(Debug, Parser)]
#[command(name = "firstlight", version, max_term_width = 100)]
struct Cli {
    /// Root of the model cache [default: $MODEL_CACHE_DIR, else /tmp/cache]
    #[arg(long, global = true, value_name = "DIR")]
    cache: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the inference loop and the HTTP port
    Run(run::Args),
    /// Infer images: one Roboflow-shaped JSON object an image, a line each
    Infer(infer::Args),
    /// The models in the cache: list, verify, import, bake, remove
    #[command(subcommand)]
    Cache(cache::Command),
    /// List every task and type that Roboflow's engines know, and what of it runs here
    Models(models::Args),
    /// Show the board and which engine would run, and why the others would not
    Probe(probe::Args),
    /// Time the network alone, on random input
    Bench(bench::Args),
    /// Run the golden frame and the demo scene through every usable engine
    Selftest(selftest::Args),
    /// Show the answers that `run` has kept over power cuts (`output.spool`)
    #[command(subcommand)]
    Spool(spool::Command),
    /// Show and change which of the two slots is started
    Slot(slot::Args),
    /// Install, list and take back bundles of models
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// Install a signed update into the slot that does not run, or a bundle of models
    Update(update::Args),
    /// Wait until the running service has proved itself: exit 0, or 1 with the reason
    Gate(gate::Args),
    /// Look whether everything is there that a device with this configuration needs, without a network; exits 4 and names
    /// what is missing
    VerifyOffline(verify_offline::Args),
    /// Print every environment variable this program reads
    Env,
}

/// Whatever ends a command early.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Request(#[from] model::RequestError),
    #[error(transparent)]
    Cache(#[from] crate::cache::Error),
    #[error(transparent)]
    Model(#[from] model::Error),
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error(transparent)]
    Sink(#[from] sink::Error),
    #[error(transparent)]
    Http(#[from] http::Error),
    #[error(transparent)]
    Serial(#[from] device::Error),
    #[error(transparent)]
    Display(#[from] device::display::Error),
    #[error(transparent)]
    Slot(#[from] device::slot::Error),
    #[error(transparent)]
    Update(#[from] device::update::Error),
    #[cfg(feature = "workbench")]
    #[error(transparent)]
    Pull(#[from] provision::pull::Error),
    #[error(transparent)]
    Bundle(#[from] provision::bundle::Error),
    #[error(transparent)]
    Serving(#[from] serving::Error),
    #[cfg(feature = "workbench")]
    #[error(transparent)]
    Import(#[from] provision::import::Error),
    #[error(transparent)]
    Store(#[from] provision::store::Error),
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Verification(String),
    #[error("{what}: {cause}")]
    Io { what: String, cause: std::io::Error },
}

impl Error {
    fn exit(&self) -> Exit {
        match self {
            Error::Usage(_) | Error::Config(_) | Error::Request(_) => Exit::Usage,
            Error::Source(
                source::Error::UnknownKind { .. } | source::Error::UnknownOption { .. } | source::Error::Option { .. },
            ) => Exit::Usage,
            Error::Sink(sink::Error::Target { .. }) => Exit::Usage,
            Error::Cache(_) | Error::Model(_) | Error::Engine(_) => Exit::ModelUnavailable,
            Error::Serving(error) => match error.kind() {
                serving::Kind::Usage => Exit::Usage,
                serving::Kind::Failed | serving::Kind::Busy => Exit::Failed,
                serving::Kind::InvalidId | serving::Kind::Missing | serving::Kind::Broken | serving::Kind::TooLarge => {
                    Exit::ModelUnavailable
                }
            },
            Error::Slot(device::slot::Error::NoAutoboot) | Error::Display(device::display::Error::Target { .. }) => {
                Exit::Usage
            }
            Error::Update(error) if error.is_verification() => Exit::VerificationFailed,
            #[cfg(feature = "workbench")]
            Error::Import(error) => import::exit(error),
            Error::Store(provision::store::Error::Cache(_)) => Exit::ModelUnavailable,
            Error::Bundle(error) if error.is_verification() => Exit::VerificationFailed,
            Error::Bundle(provision::bundle::Error::Key { .. } | provision::bundle::Error::Password { .. }) => {
                Exit::Usage
            }
            Error::Verification(_) => Exit::VerificationFailed,
            #[cfg(feature = "workbench")]
            Error::Pull(error) => error.exit(),
            Error::Source(_)
            | Error::Sink(_)
            | Error::Http(_)
            | Error::Serial(_)
            | Error::Display(_)
            | Error::Slot(_)
            | Error::Update(_)
            | Error::Store(_)
            | Error::Bundle(_)
            | Error::Failed(_)
            | Error::Io { .. } => Exit::Failed,
        }
    }
}

impl Declined for Error {
    fn refusal(&self) -> Option<String> {
        match self {
            Error::Engine(error) | Error::Model(model::Error::Engine(error)) => error.refusal(),
            Error::Serving(error) => error.refusal(),
            _ => None,
        }
    }
}

/// The whole program; `started_at` is when the process began.
#[must_use]
pub fn main(started_at: Instant) -> ExitCode {
    if device::init::invoked() {
        device::init::main();
    }
    let cli = Cli::parse();
    bound_memory();
    let cache = cli.cache.or_else(crate::env::cache_root);
    let result = match cli.command.unwrap_or_else(|| Command::Run(run::Args::default())) {
        Command::Run(args) => run::run(args, cache, started_at),
        Command::Infer(args) => infer::run(&args, &cache_at(cache)),
        Command::Cache(command) => cache::run(command, &cache_at(cache)),
        Command::Models(args) => models::run(&args),
        Command::Probe(args) => probe::run(&args, &cache_at(cache)),
        Command::Bench(args) => bench::run(&args, &cache_at(cache)),
        Command::Selftest(args) => selftest::run(&args, &cache_at(cache)),
        Command::Spool(command) => spool::run(&command),
        Command::Gate(args) => gate::run(args),
        Command::Slot(args) => slot::run(&args),
        Command::Bundle(command) => bundle::run(command),
        Command::Update(args) => update::run(&args),
        Command::VerifyOffline(args) => verify_offline::run(&args, cache),
        Command::Env => env::run(),
    };
    let exit = match result {
        Ok(()) => Exit::Done,
        Err(error) => {
            log::say(&error.to_string());
            error.exit()
        }
    };
    ExitCode::from(exit as u8)
}

fn cache_at(root: Option<PathBuf>) -> Cache {
    Cache::at(root.unwrap_or_else(|| crate::env::MODEL_CACHE_DIR.default.into()))
}

/// Best effort: a system that does not let us lower our own limit still runs.
fn bound_memory() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_DATA) {
        let _ = setrlimit(Resource::RLIMIT_DATA, soft.min(DATA_BYTES_MAX), hard);
    }
}

/// Prints a machine line; a reader that has gone is no error of ours.
fn print_line(line: &str) -> Result<(), Error> {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|cause| Error::Io { what: "stdout".into(), cause }),
    }
}

/// Prints rows under their heads, each column as wide as its widest cell; the last is left ragged.
fn print_table<const N: usize>(heads: &[&str; N], rows: impl Iterator<Item = Vec<String>>) -> Result<(), Error> {
    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(|column| if column + 1 == N { 0 } else { width(column) }).collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        print_line(&cells.join("  "))?;
    }
    Ok(())
}

/// Threads of a CPU engine: the flag, then the environment, then the configuration, then one a core.
fn threads(flag: Option<usize>, configured: Option<usize>) -> Result<LoadOptions, Error> {
    /// More threads than this help no network this project serves.
    const THREADS_MAX: usize = 64;
    let from_env = match crate::env::THREADS.get() {
        None => None,
        Some(text) => match text.parse() {
            Ok(threads) => Some(threads),
            Err(_) => return Err(Error::Usage(format!("{}={text}: expected a number", crate::env::THREADS.name))),
        },
    };
    let threads = flag.or(from_env).or(configured).unwrap_or_else(engine::default_threads);
    if !(1..=THREADS_MAX).contains(&threads) {
        return Err(Error::Usage(format!("threads = {threads}: expected 1 to {THREADS_MAX}")));
    }
    Ok(LoadOptions { threads })
}

/// What engines work with, by the configuration that the environment names.
fn backends(cache: &Cache) -> Result<Backends, Error> {
    backends_of(cache, &find_config(None)?.engine, None)
}

/// As [`backends`], by a configuration that is at hand, and by the board file of a bundle where it has one. The environment
/// comes first.
fn backends_of(cache: &Cache, config: &EngineConfig, board: Option<&Path>) -> Result<Backends, Error> {
    let path = |variable: crate::env::Variable, configured: &Option<PathBuf>| {
        variable.get().map(PathBuf::from).or_else(|| configured.clone())
    };
    let board = match board.map(device::BoardFile::read).transpose() {
        Ok(board) => board.unwrap_or_else(|| device::BoardFile::for_machine(Path::new("/")).file),
        Err(error) => return Err(Error::Failed(error.to_string())),
    };
    let loader = crate::env::WORKER_LOADER.get().map(|words| words.split_whitespace().map(str::to_owned).collect());
    let defaults = accel::Options::default();
    let options = accel::Options {
        onnxruntime: path(crate::env::ONNXRUNTIME, &config.onnxruntime),
        tflite: path(crate::env::TFLITE, &config.tflite),
        delegate: config.delegate.clone(),
        places: board
            .accelerator
            .libraries
            .iter()
            .flat_map(|library| library.paths.iter().map(PathBuf::from))
            .collect(),
        loader: loader.unwrap_or_else(|| config.loader.clone()),
        memory_bytes: config.memory_mb.map_or(defaults.memory_bytes, |mb| mb * 1_000_000),
        deadline: config.deadline_ms.map(Duration::from_millis),
        kept: crate::env::state_dir().map(|dir| dir.join("engines")),
    };
    let forbidden = config.forbid.clone();
    Ok(Backends { plans: shelf(cache), accelerators: Some(Arc::new(accel::Settings::new(options))), forbidden })
}

/// The configuration that a flag or the environment names; with neither, what applies without one.
fn find_config(flag: Option<PathBuf>) -> Result<Config, Error> {
    let path = flag.or_else(|| crate::env::CONFIG.get().map(PathBuf::from));
    Ok(path.map(|path| Config::read(&path)).transpose()?.unwrap_or_default())
}

/// Where the HTTP port is; `None` when it is off.
fn listen_address(flag: Option<String>, config: &Config) -> Result<Option<SocketAddr>, Error> {
    let listen = flag
        .or_else(|| crate::env::LISTEN.get())
        .or_else(|| config.listen.clone())
        .unwrap_or_else(|| crate::env::LISTEN.default.into());
    match listen.as_str() {
        "off" => Ok(None),
        address => address.parse().map(Some).map_err(|_| {
            Error::Usage(format!("listen = {address}: expected ADDRESS:PORT such as 127.0.0.1:9001, or `off`"))
        }),
    }
}

/// This machine, as far as it decides which package of a model runs.
fn host(backends: &Backends) -> Host {
    let board = device::identify(Path::new("/"));
    let settings = backends.accelerators.clone().filter(|_| !backends.forbids(accel::Provider::TensorRt.name()));
    let look: Box<dyn FnOnce() -> Cuda + Send> = Box::new(move || settings.map(|of| cuda(&of)).unwrap_or_default());
    Host { l4t_version: board.l4t_version, cuda: Arc::new(LazyLock::new(look)), ..Host::default() }
}

/// What the worker found out about the GPU; nothing where no library is there to ask it.
fn cuda(settings: &accel::Settings) -> Cuda {
    let Ok(found) = settings.probe(accel::Provider::TensorRt) else { return Cuda::default() };
    let gpu = found.facts.gpu.and_then(Result::ok);
    let device = |gpu: accel::Gpu| {
        let (major, minor) = gpu.compute_capability;
        (Cuda::device_name(&gpu.name), format!("{major}.{minor}"))
    };
    Cuda { devices: gpu.map(device).into_iter().collect(), tensorrt: found.facts.tensorrt.and_then(Result::ok) }
}

/// The package of an id on this machine; with none, the one in the binary.
fn open_package(cache: &Cache, backends: &Backends, id: Option<&str>) -> Result<Package, Error> {
    Ok(loader::open_package(cache, &host(backends), id)?)
}

/// As [`open_package`], read as the engine asked for reads it.
fn open_package_as(
    cache: &Cache,
    backends: &Backends,
    id: Option<&str>,
    semantics: Option<Semantics>,
) -> Result<Package, Error> {
    Ok(loader::open_package_as(cache, &host(backends), id, semantics)?)
}
