//! `firstlight verify-offline`: whether a device with this configuration and this cache needs anything that is not there. The
//! page that a release engineer signs.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::installed::Installed;
use super::run::word;
use super::{Engines, Error, Wanted, backends_of, find_config, golden_frame, open_package_as, print_line, threads};
use crate::cache::{Cache, Layout, Package};
use crate::config::{Config, Need};
use crate::engine::plan::Target;
use crate::engine::{Backends, Format, LoadOptions, Precision};
use crate::isolation;
use crate::model::{self, Semantics};
use crate::provision::bundle::Bundle;

/// What an image has empty: the kernel's, and the partition that outlives updates.
const APPEAR: [&str; 5] = ["/data", "/dev", "/proc", "/run", "/sys"];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration of the device [default: of the installed bundle with $FIRSTLIGHT_CONFIG, else none: the demo]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Root file system of an image: what the configuration names is looked for below it
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Instruction set of the device, whose plans must be there: neon, avx2, … [default: with --root none, else this
    /// machine's, whose plans the first start could make as well]
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// One JSON array instead of lines
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    subject: String,
    state: State,
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ready,
    /// It is not needed to see, or cannot be looked at here; for a person to know.
    Note,
    Missing,
}

/// What is looked at, and with what.
struct Look<'a> {
    config: &'a Config,
    cache: Cache,
    backends: Backends,
    options: LoadOptions,
    root: Option<&'a Path>,
    target: Option<Target>,
}

/// `cache` is what the flag or the environment says.
pub fn run(args: &Args, cache: Option<PathBuf>) -> Result<(), Error> {
    // First of all: later there are threads, each of which would keep its own network.
    let network = isolation::leave_the_network();
    crate::env::roboflow::check().map_err(Error::Usage)?;
    let root = args.root.as_deref();
    let installed = Installed::peek(args.config.is_some() || cache.is_some() || root.is_some());
    let config = installed.configure(find_config(args.config.clone())?)?;
    let configured = || config.cache.as_deref().map(|path| below(root, path));
    let cache = super::cache_at(cache.or_else(|| installed.cache()).or_else(configured));
    let precision = precision(&config)?;
    let target = args.target.as_deref().map(|target| Target::parse(target, precision)).transpose();
    let look = Look {
        backends: backends_of(&cache, &config.engine, installed.board().as_deref())?,
        options: threads(None, config.engine.threads)?,
        target: target.map_err(|why| Error::Usage(format!("--target: {why}")))?,
        config: &config,
        cache,
        root,
    };
    let mut checks = vec![match network {
        Ok(()) => Check::ready("network", "none", "all that follows was done without one"),
        Err(why) => Check::missing("network", "none", format!("it could not be taken away from this process: {why}")),
    }];
    checks.extend(bundle(&installed));
    checks.extend(look.models()?);
    checks.extend(config.needs().into_iter().map(|need| look.need(need)));
    checks.push(Check::ready("font", "in the binary", ""));
    report(&checks, args.json)?;
    let missing: Vec<&str> =
        checks.iter().filter(|check| check.state == State::Missing).map(|check| check.subject.as_str()).collect();
    match missing.len() {
        0 => Ok(()),
        _ => Err(Error::Verification(format!("not ready to be without a network; missing: {}", missing.join(", ")))),
    }
}

/// The bundle whose models and configuration are looked at.
fn bundle(installed: &Installed) -> Option<Check> {
    match installed.bundle() {
        Ok(None) => None,
        Ok(Some(Bundle { manifest, dir })) => {
            let detail = format!("version {}, in {}", manifest.version, dir.display());
            Some(Check::ready("bundle", &*manifest.root, detail))
        }
        Err(why) => Some(Check::missing("bundle", "the installed one", why)),
    }
}

fn report(checks: &[Check], json: bool) -> Result<(), Error> {
    if json {
        return print_line(&serde_json::to_string(checks).map_err(|error| Error::Failed(error.to_string()))?);
    }
    for Check { what, subject, state, detail } in checks {
        let word = match state {
            State::Ready => "ready  ",
            State::Note => "note   ",
            State::Missing => "MISSING",
        };
        let colon = if detail.is_empty() { "" } else { ": " };
        print_line(&format!("{word} {what} {subject}{colon}{detail}"))?;
    }
    Ok(())
}

impl Check {
    fn ready(what: &'static str, subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { what, subject: subject.into(), state: State::Ready, detail: detail.into() }
    }

    fn note(what: &'static str, subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { state: State::Note, ..Self::ready(what, subject, detail) }
    }

    fn missing(what: &'static str, subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { state: State::Missing, ..Self::ready(what, subject, detail) }
    }
}

impl Look<'_> {
    fn models(&self) -> Result<Vec<Check>, Error> {
        let semantics = word("semantics", None, self.config.semantics.as_deref())?;
        let precision = precision(self.config)?;
        // Another machine's engines cannot be tried here; its numbers can.
        let wanted = if self.root.is_some() { None } else { self.config.engine.name.as_deref() };
        let engines = Engines::choose(Wanted::rather(wanted), &[precision, Precision::Fp32], &self.backends)?;
        let ids = self.config.models();
        let mut checks = Vec::new();
        if self.config.model.is_none() {
            checks.extend(self.model(None, semantics, &engines));
        }
        for id in &ids {
            checks.extend(self.model(Some(id), semantics, &engines));
        }
        Ok(checks)
    }

    /// A model: its files, that it loads and infers, and its plan.
    fn model(&self, id: Option<&str>, semantics: Option<Semantics>, engines: &Engines) -> Vec<Check> {
        let name = id.unwrap_or("the demo in the binary");
        let package = match open_package_as(&self.cache, &self.backends, id, semantics) {
            Ok(package) => package,
            Err(error) => return vec![Check::missing("model", name, error.to_string())],
        };
        let faults = self.faults(&package);
        if !faults.is_empty() {
            return vec![Check::missing("model", name, faults.join("; "))];
        }
        let sha256 = self.backends.plans.sha256(package.weights.path(), package.weights.bytes());
        let plan = self.plan(name, &package, &sha256);
        let ran = engines.first(Format::of(package.weights.bytes()), |engine| -> Result<(), Error> {
            Ok(model::verify(&package, engine, self.options, Some(&golden_frame))?)
        });
        let wanted = self.config.engine.name.as_deref().filter(|_| self.root.is_none());
        let ran = match ran {
            Err(error) => Check::missing("model", name, error.to_string()),
            Ok(((), chosen)) => match wanted.filter(|wanted| *wanted != chosen.name) {
                Some(wanted) => {
                    let why = chosen.rejected.iter().find(|(name, _)| *name == wanted).map(|(_, why)| why.as_str());
                    let why = why.unwrap_or("it cannot run this model");
                    Check::missing("engine", format!("{wanted} of {name}"), why)
                }
                None => {
                    let engine = format!("{} in {}", chosen.name, chosen.precision);
                    let detail = format!("sha256 {sha256}, {engine} agrees with its referee and has inferred");
                    Check::ready("model", name, detail)
                }
            },
        };
        let unused = match (&self.config.engine.name, self.root) {
            (Some(engine), Some(_)) => {
                let why = "the device tries it at its start, and sees by the CPU's where it does not work";
                Some(Check::note("engine", engine, why))
            }
            _ => None,
        };
        [Some(ran), plan, unused].into_iter().flatten().collect()
    }

    /// Everything that the digests of the package's manifest say.
    fn faults(&self, package: &Package) -> Vec<String> {
        let Ok(id) = crate::cache::ModelId::parse(&package.id) else { return Vec::new() };
        let own = self.cache.entries_of(&id).into_iter().filter(|entry| entry.dir == package.dir);
        own.flat_map(|entry| self.cache.faults(&entry)).map(|error| error.to_string()).collect()
    }

    /// The plan that is mapped at the first start.
    fn plan(&self, name: &str, package: &Package, sha256: &str) -> Option<Check> {
        if matches!(package.layout, Layout::Tflite(_)) {
            return None;
        }
        let isa = match (&self.target, self.root) {
            (Some(target), _) => target.isa.name,
            (None, Some(_)) => {
                return Some(Check::note("plan", name, "made at the first start; --target looks for it"));
            }
            (None, None) => crate::engine::plan::native().isa.name,
        };
        let listed = self.backends.plans.list(sha256);
        let is_of = |plan: &crate::engine::plan::Listed| plan.head.as_ref().is_ok_and(|head| head.binding.isa == isa);
        Some(match (listed.iter().find(|plan| is_of(plan)), &self.target) {
            (Some(plan), _) => Check::ready("plan", name, plan.path.display().to_string()),
            (None, Some(_)) => {
                Check::missing("plan", format!("for {isa} of {name}"), "`firstlight cache bake` makes it")
            }
            (None, None) => Check::note("plan", name, format!("none for {isa} yet: the first start makes it")),
        })
    }

    fn need(&self, need: Need) -> Check {
        let there = |what, key: &str, path: &Path, is_folder: bool| {
            if self.root.is_some() && APPEAR.iter().any(|place| path.starts_with(place)) {
                return Check::note(what, format!("{} ({key})", path.display()), "of the device, not of its image");
            }
            let path = below(self.root, path);
            let subject = format!("{} ({key})", path.display());
            match std::fs::metadata(&path) {
                Err(cause) => Check::missing(what, subject, cause.to_string()),
                Ok(metadata) if is_folder && !metadata.is_dir() => Check::missing(what, subject, "it is no folder"),
                Ok(_) => Check::ready(what, subject, ""),
            }
        };
        match need {
            Need::File { key, path } => there("file", &key, &path, false),
            Need::Folder { key, path } => there("folder", &key, &path, true),
            Need::Variable { key, name } => match (std::env::var_os(&name), self.root) {
                (_, Some(_)) => Check::note("variable", format!("{name} ({key})"), "of the device's environment"),
                (Some(_), None) => Check::ready("variable", format!("{name} ({key})"), ""),
                (None, None) => Check::missing("variable", format!("{name} ({key})"), "it is not set"),
            },
            Need::Peer { key, address } => {
                let detail = "named by the configuration; the device sees without it and says that it is away";
                Check::note("peer", format!("{} ({key})", without_user(&address)), detail)
            }
        }
    }
}

/// A page that is signed and passed on holds no password.
fn without_user(address: &str) -> String {
    match url::Url::parse(address) {
        Ok(url) => format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()),
        Err(_) => "an address".into(),
    }
}

fn precision(config: &Config) -> Result<Precision, Error> {
    Ok(word("engine.precision", None, config.engine.precision.as_deref())?.unwrap_or_default())
}

fn below(root: Option<&Path>, path: &Path) -> PathBuf {
    match root {
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    }
}
