//! The bundle that `run` starts with, if one is installed: it has to prove itself, and is taken back where it does not.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Chosen, Error};
use crate::cache::ModelId;
use crate::config::Config;
use crate::log;
use crate::model::Model;
use crate::pipeline::Telemetry;
use crate::pipeline::telemetry::Part;
use crate::provision::bundle::{self, Bundle, CONFIG, State, Store};

/// How often it is looked for another bundle: at the start of a machine each look delays what is to run.
const LOOK: Duration = Duration::from_millis(250);
/// How long an answer over HTTP that announces a restart may take to leave.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What is installed, as far as this start is concerned.
#[derive(Debug, Default)]
pub(super) struct Installed {
    store: Option<Store>,
    bundle: Option<Bundle>,
    /// Why there is none, or another than was installed.
    problem: Option<String>,
    /// The root of the current one as this process found it, whether it runs or not.
    found: Option<String>,
    /// Raised by whoever wants the process to start anew.
    restart: Arc<AtomicBool>,
}

impl Installed {
    /// Looks for the current bundle, and goes back from one that is damaged or has had its starts. With `explicit` words of
    /// the command line nothing is looked for.
    pub fn look(explicit: bool) -> Self {
        let Some(store) = crate::env::state_dir().map(|state| Store::of(&state)) else { return Self::default() };
        if explicit {
            if store.state().is_ok_and(|state| state.current.is_some()) {
                log::say("bundle: not used, for -c or --cache says otherwise");
            }
            return Self::default();
        }
        let mut installed = Self { store: Some(store.clone()), ..Self::default() };
        store.tidy_up();
        match installed.open(&store) {
            Ok(bundle) => installed.bundle = bundle,
            Err(error) => installed.problem = Some(error.to_string()),
        }
        match store.state() {
            Ok(State { current, taken_back, .. }) => {
                installed.found = current;
                let problem = taken_back.map(|of| format!("{} was taken back: {}", short(&of.root), of.why));
                installed.problem = problem.or(installed.problem);
            }
            Err(error) => installed.problem = Some(error.to_string()),
        }
        installed.problem.iter().for_each(|why| log::say(&format!("bundle: {why}")));
        if let Some(Bundle { manifest, dir }) = &installed.bundle {
            let (root, version) = (short(&manifest.root), &manifest.version);
            log::say(&format!("bundle: {root}, version {version}, in {}", dir.display()));
        }
        installed
    }

    /// As [`Self::look`] for who only wants to know what would be run: counts no start, and takes nothing back.
    pub fn peek(explicit: bool) -> Self {
        let Some(store) = crate::env::state_dir().filter(|_| !explicit).map(|state| Store::of(&state)) else {
            return Self::default();
        };
        let current = || -> Result<Option<Bundle>, bundle::Error> {
            store.state()?.current.map(|root| Bundle::open(&store.path_of(&root), &root)).transpose()
        };
        match current() {
            Ok(bundle) => Self { bundle, ..Self::default() },
            Err(error) => Self { problem: Some(error.to_string()), ..Self::default() },
        }
    }

    /// The bundle that is run, or why none is that should be.
    pub fn bundle(&self) -> Result<Option<&Bundle>, &str> {
        self.problem.as_deref().map_or(Ok(self.bundle.as_ref()), Err)
    }

    /// The current bundle, or the one before where that is damaged; at most these two are looked at.
    fn open(&self, store: &Store) -> Result<Option<Bundle>, bundle::Error> {
        for _ in 0..2 {
            let Some(root) = store.state()?.current else { return Ok(None) };
            let opened = Bundle::open(&store.path_of(&root), &root);
            let why = match (opened, store.begin_start()) {
                (Ok(bundle), Ok(true) | Err(_)) => return Ok(Some(bundle)),
                (Ok(_), Ok(false)) => "it was started several times and never came up".to_owned(),
                (Err(error), _) => error.to_string(),
            };
            store.take_back(&root, &why)?;
        }
        Ok(None)
    }

    /// The configuration of the bundle with what is the machine's own, or all of the machine's.
    pub fn configure(&self, machine: Config) -> Result<Config, Error> {
        let Some(path) = self.bundle.as_ref().and_then(Bundle::config) else { return Ok(machine) };
        let wrong = |why: String| bundle::Error::Settings { file: CONFIG, why };
        let text = std::fs::read_to_string(path).map_err(|cause| wrong(cause.to_string()));
        match text.and_then(|text| bundle::check_settings(&text)) {
            Ok(config) => Ok(bundle::with_machine(config, machine)),
            Err(error) => Err(self.take_back(error.into())),
        }
    }

    /// The cache root of the bundle.
    pub fn cache(&self) -> Option<PathBuf> {
        self.bundle.as_ref().map(Bundle::cache)
    }

    /// The board file of the bundle.
    pub fn board(&self) -> Option<PathBuf> {
        self.bundle.as_ref().and_then(Bundle::board)
    }

    /// Passes on what a step of the start with a model came to. Where it failed with one of the bundle's, the bundle is taken
    /// back, and this process starts anew without it.
    pub fn judge<T, E: Into<Error>>(&self, model: Option<&str>, step: Result<T, E>) -> Result<T, Error> {
        let id = model.and_then(|id| ModelId::parse(id).ok());
        let models = self.bundle.iter().flat_map(|bundle| &bundle.manifest.models);
        let is_ours = id.is_some_and(|id| models.into_iter().any(|model| model.id == id.as_str()));
        step.map_err(|error| if is_ours { self.take_back(error.into()) } else { error.into() })
    }

    /// Starts this process anew without the bundle that has failed. Returns only why that could not be, or what failed
    /// without one.
    fn take_back(&self, error: Error) -> Error {
        let (Some(store), Some(bundle)) = (&self.store, &self.bundle) else { return error };
        let root = &bundle.manifest.root;
        log::say(&format!("bundle: {} is taken back: {error}", short(root)));
        // Where the disk takes no write, starting anew would have no end.
        match store.take_back(root, &error.to_string()) {
            Ok(()) => start_anew(),
            Err(error) => error.into(),
        }
    }

    /// Checks the weights of a loaded model, and shows it the golden frame where the bundle says what it must answer.
    pub fn try_model(&self, model: &mut Model, sha256: &str, chosen: &Chosen) -> Result<(), Error> {
        let Some(Bundle { manifest, dir }) = &self.bundle else { return Ok(()) };
        let Some(of) = manifest.models.iter().find(|of| of.id == model.id()) else { return Ok(()) };
        if !manifest.files.iter().any(|file| file.sha256 == sha256) {
            let why = format!("the weights of {} have sha256 {sha256}, which none of its files should have", of.id);
            return Err(bundle::Error::Damaged { path: dir.clone(), why }.into());
        }
        // Another package of the same model, for this machine's accelerator, was not shown it where the bundle was made.
        if sha256 != of.sha256 {
            return Ok(());
        }
        let answers = bundle::fingerprint(model)?;
        Ok(bundle::same(&of.id, &answers, &of.golden, chosen.precision)?)
    }

    /// Notes that the loop has started with the bundle.
    pub fn proved(&self) {
        let (Some(store), Some(bundle)) = (&self.store, &self.bundle) else { return };
        if let Err(error) = store.proved(&bundle.manifest.root) {
            log::say(&format!("bundle: {error}"));
        }
    }

    /// Says in the status what is wrong. Under our own PID 1 it also starts anew when there is another bundle than was found:
    /// the data partition is mounted beside the start of the loop, and sticks are seen to by PID 1.
    pub fn attend(&self, telemetry: &Telemetry) {
        telemetry.set_problem(Part::Bundle, self.problem.clone());
        let Some(store) = self.store.clone().filter(|_| crate::env::DEVICE_DIR.get().is_some()) else { return };
        let (found, restart) = (self.found.clone(), Arc::clone(&self.restart));
        let watch = move || {
            while store.state().map_or(true, |state| state.current == found) {
                std::thread::sleep(LOOK);
            }
            log::say("bundle: there is another one; starting anew");
            restart.store(true, Ordering::Relaxed);
        };
        // Without a thread the bundle waits for the next start.
        let _ = crate::thread::spawn("bundle", watch);
    }

    /// To be raised by who has installed another bundle; `None` where this process goes on without bundles.
    pub fn restart(&self) -> Option<Arc<AtomicBool>> {
        self.store.as_ref().map(|_| Arc::clone(&self.restart))
    }

    /// Whether this process is to start anew.
    pub fn is_outdated(&self) -> bool {
        self.restart.load(Ordering::Relaxed)
    }
}

/// Waits until answers have left; for who is about to close the port.
pub(super) fn last_words() {
    std::thread::sleep(LAST_WORDS);
}

/// Starts this program anew in this very process, so that whoever supervises it keeps what it supervises. Returns only why
/// that could not be.
pub(super) fn start_anew() -> Error {
    let cause = Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).exec();
    Error::Io { what: "starting anew".into(), cause }
}

fn short(root: &str) -> &str {
    root.get(..12).unwrap_or(root)
}
