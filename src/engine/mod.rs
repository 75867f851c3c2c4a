//! What runs a network: the seam between a model and the backends behind it, one folder a backend.
//!
//! The way of an engine: [`Engine::probe`] (can it work here, and if not, why) → [`Engine::load`] (a network made
//! ready at one concrete shape) → [`Session::run`], again and again, in buffers that the session owns and reuses.
//! May not know: images, model families, where weights come from.

pub mod accel;
pub mod npy;
pub mod plan;
pub mod tract;

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a network cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are no network this program accepts: found before any engine saw them.
    #[error("{origin}: not a usable network: {why}", origin = .origin.display())]
    Malformed { origin: PathBuf, why: String },
    /// The engine cannot build it.
    #[error("{origin}: {engine} cannot load the network: {why}", origin = .origin.display())]
    Load { origin: PathBuf, engine: &'static str, why: String },
    #[error("{origin}: {engine} did not load the network within {limit_s} s; given up", origin = .origin.display())]
    LoadTimeout { origin: PathBuf, engine: &'static str, limit_s: u64 },
    /// Inference failed.
    #[error("{engine}: inference failed: {why}")]
    Run { engine: &'static str, why: String },
}

/// One dimension of a network's declared input: fixed, or left open (symbolic).
pub type Dim = Option<usize>;

/// The image input as the file declares it: batch, channels, height, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeclaredInput {
    pub batch: Dim,
    pub channels: Dim,
    pub height: Dim,
    pub width: Dim,
}

/// A concrete image input, N C H W.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputShape {
    pub batch: usize,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl InputShape {
    #[must_use]
    pub fn dims(&self) -> [usize; 4] {
        [self.batch, self.channels, self.height, self.width]
    }

    /// Number of values.
    #[must_use]
    pub fn volume(&self) -> usize {
        self.dims().iter().product()
    }
}

/// A network to load.
pub struct Network<'a> {
    /// The whole file, ONNX or TensorFlow Lite.
    pub bytes: &'a [u8],
    /// Named in errors.
    pub origin: PathBuf,
    /// Decides the concrete shape, given the declared one.
    pub shape: &'a dyn Fn(&DeclaredInput) -> InputShape,
    /// Fills an input with a picture as the network's users prepare it, for an engine that compares itself with another;
    /// `None` where nothing is known of them.
    pub picture: Option<Picture<'a>>,
    /// Engines that were built from it ahead of time elsewhere, best first.
    pub prebuilt: &'a [Prebuilt<'a>],
}

/// A file that an accelerator runs instead of a network, once it has been found to answer the same.
#[derive(Clone, Debug)]
pub struct Prebuilt<'a> {
    /// For words.
    pub name: &'a str,
    pub origin: &'a Path,
    /// The whole file.
    pub bytes: &'a [u8],
    /// In what it computes; `None` where nothing says it, and then it is held to the bounds of [`Precision::Fp32`].
    pub precision: Option<Precision>,
    /// Images that it takes at once.
    pub batch: RangeInclusive<usize>,
}

/// What a network's file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Onnx,
    Tflite,
}

impl Format {
    /// As a file says by its bytes: TensorFlow Lite's have a mark, and what has none is left to the reader of ONNX.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.get(4..8) == Some(b"TFL3") { Format::Tflite } else { Format::Onnx }
    }
}

impl Network<'_> {
    #[must_use]
    pub fn format(&self) -> Format {
        Format::of(self.bytes)
    }
}

/// See [`Network::picture`]; the error says why there is none of this shape.
pub type Picture<'a> = &'a dyn Fn(&DeclaredInput, &InputShape, &mut [f32]) -> Result<(), String>;

impl Debug for Network<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Network({}, {} bytes)", self.origin.display(), self.bytes.len())
    }
}

/// In what a network is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Numbers of 32 bits: the answers of the network.
    #[default]
    Fp32,
    /// Products of numbers of 16 bits: answers that are very close, and sooner where the CPU has half-precision arithmetic.
    Fp16,
    /// Bytes, where the network was calibrated for it: answers that are close, and sooner.
    Int8,
}

impl Precision {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Settings of a load.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Threads that may work on one inference, at least 1.
    pub threads: usize,
}

/// One tensor of a network: its name and concrete shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
    pub shape: Vec<usize>,
}

/// A view of one output: values in C order.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    pub shape: &'a [usize],
    pub data: &'a [f32],
}

/// A backend.
pub trait Engine: Send + Sync + Debug {
    fn name(&self) -> &'static str;

    /// Of its code; of a vendor's library, which is not known before [`Engine::probe`], what that says.
    fn version(&self) -> String;

    /// In what it computes.
    fn precision(&self) -> Precision {
        Precision::Fp32
    }

    /// Whether it is only used when it is asked for by name.
    fn by_name_only(&self) -> bool {
        false
    }

    /// Whether it runs files of a format.
    fn takes(&self, format: Format) -> bool {
        format == Format::Onnx
    }

    /// Whether that it cannot work here is worth a word to who did not ask for it.
    fn expected(&self) -> bool {
        true
    }

    /// Whether the engine can work on this machine.
    ///
    /// # Errors
    /// Why not, in words for `/status` and `probe`.
    fn probe(&self) -> Result<(), String>;

    /// Makes a network ready to run, within a bounded time.
    ///
    /// # Errors
    /// The network is malformed, uses what this engine does not know, or takes too long.
    fn load(&self, network: &Network<'_>, options: LoadOptions) -> Result<Box<dyn Session>, Error>;
}

/// Memory of a session, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Mapped from a file, so that all sessions of a network share it.
    pub shared: u64,
    pub own: u64,
}

/// A loaded network with its buffers.
pub trait Session: Send + Debug {
    /// The input as the file declares it.
    fn declared(&self) -> DeclaredInput;

    /// The shape it was loaded for.
    fn input_shape(&self) -> InputShape;

    fn outputs(&self) -> &[TensorInfo];

    fn threads(&self) -> usize;

    /// The input buffer, C order; to be filled before [`Session::run`].
    fn input_mut(&mut self) -> &mut [f32];

    /// One inference of what is in the input buffer.
    ///
    /// # Errors
    /// The backend failed; the session stays usable.
    fn run(&mut self) -> Result<(), Error>;

    /// Output `index` of the last [`Session::run`]; empty before the first.
    fn output(&self, index: usize) -> TensorView<'_>;

    /// Begins the inference of what is in the input buffer, and gives another buffer to fill meanwhile; the answer is there
    /// after [`Session::finish`], and the one before it until then. False where the engine has no use for that: then
    /// nothing has begun, and [`Session::run`] is the way.
    ///
    /// # Errors
    /// As [`Session::run`].
    fn begin(&mut self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Waits for the end of what was begun.
    ///
    /// # Errors
    /// As [`Session::run`].
    fn finish(&mut self) -> Result<(), Error> {
        self.run()
    }

    /// Who answers at present, where that can change.
    fn standing(&self) -> Option<&Standing> {
        None
    }

    /// The memory it holds, where it knows.
    fn footprint(&self) -> Footprint {
        Footprint::default()
    }

    /// Why its answers are trusted, where that was found out when it was made: so far they are from tract's, or, where it
    /// computes with less than 32 bits, from those in numbers.
    fn trust(&self) -> Option<&plan::Trust> {
        None
    }

    /// SHA-256 of the network's file, hex, where the engine had to know it.
    fn sha256(&self) -> Option<&str> {
        None
    }

    /// The time of each step over this many inferences, on one thread; `None` where the engine does not know its steps.
    fn profile(&mut self, _inferences: u32) -> Option<Profile> {
        None
    }
}

/// Who answers for a session that has more than one engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Counts up with every change, so that it is seen at a glance.
    pub changes: u64,
    pub engine: &'static str,
    pub version: String,
    /// Why it is not the one that was chosen.
    pub trouble: Option<String>,
}

/// Where the time of an inference goes.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Profile {
    /// Of one core: multiplications and additions a second that its best instruction can do, measured just before.
    pub peak_gflops: f64,
    /// In the order in which they run.
    pub steps: Vec<StepTime>,
}

/// One step of a network.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct StepTime {
    /// The node of the network that it comes from.
    pub node: String,
    pub kind: String,
    /// Sizes, in words.
    pub shape: String,
    /// The least of all inferences.
    pub ms: f64,
    /// Multiplications and additions, counted as in the direct way to compute it; 0 where that is not what it does.
    pub flops: u64,
}

/// What engines work with on this machine.
#[derive(Clone, Debug, Default)]
pub struct Backends {
    /// Where plans are looked for, and kept.
    pub plans: plan::Shelf,
    /// What accelerators may use; `None`: there shall be none.
    pub accelerators: Option<Arc<accel::Settings>>,
    /// Names of engines that are not to be used.
    pub forbidden: Vec<String>,
}

impl Backends {
    /// Engines of the CPU only.
    #[must_use]
    pub fn cpu_only(plans: plan::Shelf) -> Self {
        Self { plans, ..Self::default() }
    }

    #[must_use]
    pub fn forbids(&self, engine: &str) -> bool {
        self.forbidden.iter().any(|name| name == engine)
    }
}

/// Engines of this build that compute in a precision, best first.
#[must_use]
pub fn engines(backends: &Backends, precision: Precision) -> Vec<Box<dyn Engine>> {
    let cpu = cpu(&backends.plans, precision);
    let Some(settings) = &backends.accelerators else { return cpu };
    let offered = accel::PROVIDERS.iter().filter(|provider| provider.computes(precision));
    let accelerator = |&provider: &accel::Provider| {
        Box::new(accel::Accelerator::new(provider, precision, Arc::clone(settings), backends.clone())) as _
    };
    offered.map(accelerator).chain(cpu).collect()
}

/// Names of the engines of this build, best first.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let accelerators = accel::PROVIDERS.iter().map(|provider| provider.name());
    accelerators.chain(cpu(&plan::Shelf::default(), Precision::Fp32).iter().map(|engine| engine.name())).collect()
}

/// The engine of the CPU of that name, if this build has it; plans are made anew and kept in memory.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn Engine>> {
    cpu(&plan::Shelf::default(), Precision::Fp32).into_iter().find(|engine| engine.name() == name)
}

/// Those that need nothing but the CPU.
fn cpu(plans: &plan::Shelf, precision: Precision) -> Vec<Box<dyn Engine>> {
    let plan = Box::new(plan::Plan::new(plans.clone(), precision));
    match precision {
        Precision::Fp32 => vec![plan, Box::new(tract::Tract)],
        Precision::Fp16 | Precision::Int8 => vec![plan],
    }
}

/// One thread a core this process may run on.
#[must_use]
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
