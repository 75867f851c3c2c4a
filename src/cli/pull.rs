//! `firstlight cache pull`: models from Roboflow into the cache.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;
use url::Url;

use super::{Error, cache::Judge, print_line, print_table};
use crate::cache::{Cache, LayoutKind, ModelId};
use crate::env;
use crate::error::Exit;
use crate::log;
use crate::provision::pull::{self, Choose, Pulled, Puller, Watch};

/// Largest file that holds a key.
const KEY_BYTES_MAX: u64 = 4 << 10;
/// Largest list of ids.
const LIST_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Models, such as my-project/3 or yolov8n-640
    #[arg(value_name = "ID", required_unless_present = "all_of")]
    ids: Vec<String>,
    /// File with more of them, one a line; what follows a # is a remark
    #[arg(long, value_name = "FILE")]
    all_of: Option<PathBuf>,
    /// packages: the models-cache of Roboflow's default engine; classic: that of the classic one
    #[arg(long, value_enum, default_value = "packages")]
    layout: Layout,
    /// Package of the model, or `all`; may be given several times [default: the one that a CPU runs best]
    #[arg(long, value_name = "PACKAGE", conflicts_with = "list")]
    package: Vec<String>,
    /// List the packages that Roboflow offers and fetch nothing
    #[arg(long)]
    list: bool,
    /// File that holds Roboflow's API key [default: $ROBOFLOW_API_KEY, else asked for on a terminal]
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// PEM file of the roots that are trusted instead of the web's [default: $SSL_CERT_FILE]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Do not load the model and infer once with what was fetched
    #[arg(long)]
    no_verify: bool,
    /// One JSON object a model instead of a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Layout {
    Packages,
    Classic,
}

/// What became of a model.
#[derive(Serialize)]
struct Report<'a> {
    id: &'a str,
    #[serde(flatten)]
    pulled: Option<&'a Pulled>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub fn run(args: &Args, cache: &Cache) -> Result<(), Error> {
    env::roboflow::check().map_err(Error::Usage)?;
    if env::roboflow::offline().map_err(Error::Usage)? {
        let why = "OFFLINE_MODE is true: `cache pull` is the one command that goes online; unset it to pull";
        return Err(Error::Usage(why.into()));
    }
    let ids = ids(args)?;
    let puller = Puller::new(pull::Settings {
        root: cache.root().into(),
        api: (address(env::ROBOFLOW_API_HOST)?, address(env::API_BASE_URL)?),
        key: key(args)?,
        roots: args.ca.clone().or_else(|| env::SSL_CERT_FILE.get().map(PathBuf::from)),
    })?;
    let judge = if args.no_verify || args.list { None } else { Some(Judge::new(cache)?) };
    let mut failed: Option<Exit> = None;
    for name in &ids {
        if let Err(error) = one(args, &puller, judge.as_ref(), name) {
            if ids.len() == 1 {
                return Err(error);
            }
            log::say(&error.to_string());
            failed.get_or_insert(error.exit());
        }
    }
    match failed {
        None => Ok(()),
        Some(Exit::VerificationFailed) => Err(Error::Verification("not all models were pulled; see above".into())),
        Some(_) => Err(Error::Failed("not all models were pulled; see above".into())),
    }
}

fn one(args: &Args, puller: &Puller, judge: Option<&Judge<'_>>, name: &str) -> Result<(), Error> {
    let id = ModelId::parse(name)?;
    if args.list {
        return list(args, puller, &id);
    }
    let choose = match args.package.as_slice() {
        [] => Choose::Best,
        [all] if all == "all" => Choose::All,
        named => Choose::Named(named.to_vec()),
    };
    let layout = match args.layout {
        Layout::Packages => LayoutKind::ModelsCache,
        Layout::Classic => LayoutKind::Classic,
    };
    let faults = Mutex::new(Vec::new());
    let prove = |pulled: &Pulled| {
        let found = judge.map(|judge| judge.faults(&pulled.id, layout, &pulled.packages));
        let proven = found.as_ref().is_some_and(Vec::is_empty);
        *faults.lock().unwrap_or_else(PoisonError::into_inner) = found.unwrap_or_default();
        proven
    };
    let pulled = puller.pull(&id, layout, &choose, &Bars::default(), &prove)?;
    let faults = faults.into_inner().unwrap_or_else(PoisonError::into_inner);
    let error = (!faults.is_empty()).then(|| faults.join("; "));
    if args.json {
        let report = Report { id: id.as_str(), pulled: Some(&pulled), error: error.clone() };
        print_line(&serde_json::to_string(&report).map_err(|error| Error::Failed(error.to_string()))?)?;
    } else if error.is_none() {
        let packages = pulled.packages.join(" ");
        print_line(format!("{} {packages} {}", pulled.id, pulled.dir.display()).trim())?;
    }
    error.map_or(Ok(()), |why| Err(Error::Verification(format!("{}: pulled, but does not run: {why}", id.as_str()))))
}

fn list(args: &Args, puller: &Puller, id: &ModelId) -> Result<(), Error> {
    let listed = puller.list(id)?;
    if args.json {
        return print_line(&serde_json::to_string(&listed).map_err(|error| Error::Failed(error.to_string()))?);
    }
    let rows = listed
        .into_iter()
        .map(|package| vec![package.package, package.backend, package.quantization, package.files.to_string()]);
    print_table(&["PACKAGE", "BACKEND", "QUANTIZATION", "FILES"], rows)
}

/// Those of the command line, then those of the file.
fn ids(args: &Args) -> Result<Vec<String>, Error> {
    let mut ids = args.ids.clone();
    if let Some(path) = &args.all_of {
        let text = small(path, LIST_BYTES_MAX)?;
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        ids.extend(lines.filter(|line| !line.is_empty()).map(str::to_owned));
    }
    if ids.is_empty() { Err(Error::Usage("no model is named".into())) } else { Ok(ids) }
}

/// The key, from where it is; none where nobody has one: some models are everybody's.
fn key(args: &Args) -> Result<Option<String>, Error> {
    let key = match &args.api_key_file {
        Some(path) => Some(small(path, KEY_BYTES_MAX)?),
        None => match env::ROBOFLOW_API_KEY.get().or_else(|| env::API_KEY.get()) {
            None if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() => {
                let asked = rpassword::prompt_password("Roboflow API key (none: press Enter): ");
                Some(asked.map_err(|cause| Error::Io { what: "the terminal".into(), cause })?)
            }
            found => found,
        },
    };
    let key = key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
    if key.as_ref().is_some_and(|key| !key.bytes().all(|b| b.is_ascii_graphic())) {
        return Err(Error::Usage("the API key holds characters that no key has".into()));
    }
    Ok(key)
}

fn small(path: &Path, bytes_max: u64) -> Result<String, Error> {
    let wrong = |why: String| Error::Usage(format!("{}: {why}", path.display()));
    let bytes = crate::durable::read_bounded(path, bytes_max).map_err(|error| Error::Usage(error.to_string()))?;
    String::from_utf8(bytes.ok_or_else(|| wrong("no such file".into()))?).map_err(|error| wrong(error.to_string()))
}

fn address(variable: env::Variable) -> Result<Url, Error> {
    let text = variable.get().unwrap_or_else(|| variable.default.into());
    Url::parse(&text).map_err(|error| Error::Usage(format!("{}={text}: {error}", variable.name)))
}

/// A bar a file on a terminal, a line a file elsewhere.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    bars: Mutex<HashMap<usize, ProgressBar>>,
}

impl Watch for Bars {
    fn begun(&self, file: usize, name: &str, bytes: Option<u64>, had: u64) {
        if !std::io::stderr().is_terminal() {
            let size = bytes.map_or_else(String::new, |bytes| format!(", {:.1} MB", bytes as f64 / 1e6));
            let had = if had > 0 { format!(", {:.1} MB are there", had as f64 / 1e6) } else { String::new() };
            return log::say(&format!("{name}{size}{had}"));
        }
        let bar = self.all.add(bytes.map_or_else(ProgressBar::new_spinner, ProgressBar::new));
        let style =
            ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(name.to_owned());
        bar.set_position(had);
        self.bars.lock().unwrap_or_else(PoisonError::into_inner).insert(file, bar);
    }

    fn moved(&self, file: usize, bytes: u64) {
        if let Some(bar) = self.bars.lock().unwrap_or_else(PoisonError::into_inner).get(&file) {
            bar.set_position(bytes);
        }
    }

    fn ended(&self, file: usize) {
        if let Some(bar) = self.bars.lock().unwrap_or_else(PoisonError::into_inner).remove(&file) {
            bar.finish_and_clear();
        }
    }
}
