//! What accelerators may use here, and what was found out about them once for all engines of this process.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::library::{self, Wanted};
use super::process::{Process, Start};
use super::protocol::{Facts, Provider, Reply, Request};

/// A library of hundreds of megabytes comes from a slow card, and the first CUDA device takes seconds to wake.
const PROBE_MAX: Duration = Duration::from_secs(60);
/// Memory of a worker where nothing is said: what a Jetson Orin Nano of 4 GB can spare, and enough for every model served.
const MEMORY_BYTES: u64 = 3 << 30;

/// What was found about a library.
type Probed = Result<Found, String>;

/// A library and what it can do here.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub library: PathBuf,
    pub facts: Facts,
}

/// What may be set.
#[derive(Clone, Debug)]
pub struct Options {
    /// The libraries, where they are named.
    pub onnxruntime: Option<PathBuf>,
    pub tflite: Option<PathBuf>,
    /// A delegate of TensorFlow Lite, instead of XNNPACK.
    pub delegate: Option<PathBuf>,
    /// Folders, or libraries themselves, that are looked at first.
    pub places: Vec<PathBuf>,
    /// Words before the worker's own path; see [`Start::loader`].
    pub loader: Vec<String>,
    /// Memory that a worker may fill with data, bytes.
    pub memory_bytes: u64,
    /// How long one inference may take; none: by what the first ones took.
    pub deadline: Option<Duration>,
    /// Where what is made of networks is kept; none: nowhere.
    pub kept: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            onnxruntime: None,
            tflite: None,
            delegate: None,
            places: Vec::new(),
            loader: Vec::new(),
            memory_bytes: MEMORY_BYTES,
            deadline: None,
            kept: None,
        }
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct Settings {
    pub options: Options,
    /// Of ONNX Runtime and of TensorFlow Lite, once each.
    probed: [Mutex<Option<Probed>>; 2],
}

impl Settings {
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, probed: Default::default() }
    }

    /// How workers are started.
    #[must_use]
    pub fn start(&self) -> Start {
        Start { loader: self.options.loader.clone(), memory_bytes: self.options.memory_bytes }
    }

    /// The library of a provider and what it can do here; asked once.
    ///
    /// # Errors
    /// It is not here, or cannot be loaded.
    pub fn probe(&self, provider: Provider) -> Probed {
        let (wanted, named, slot) = match provider {
            Provider::TfLite => (library::TFLITE, &self.options.tflite, &self.probed[1]),
            _ => (library::ONNX_RUNTIME, &self.options.onnxruntime, &self.probed[0]),
        };
        let mut probed = slot.lock().unwrap_or_else(PoisonError::into_inner);
        probed.get_or_insert_with(|| self.look(provider, wanted, named.as_ref())).clone()
    }

    fn look(&self, provider: Provider, wanted: Wanted, named: Option<&PathBuf>) -> Probed {
        let library = wanted.find(named.map(PathBuf::as_path), &self.options.places)?;
        let request = Request::Probe { provider, library: library.clone() };
        let reply = Process::start(&self.start())?.ask(&request, &[], PROBE_MAX);
        match reply.map_err(|failure| format!("{}: {failure}", library.display()))? {
            Reply::Probed(facts) => Ok(Found { library, facts }),
            other => Err(format!("the worker answered {other:?} to a probe")),
        }
    }
}
