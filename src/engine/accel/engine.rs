//! An accelerator as an engine: probed by what its library says, loaded in a worker with the CPU standing by.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::failover::{Failover, Names};
use super::keeper::Keeper;
use super::kept::{Identity, Kept};
use super::kit::{Kit, Refusal};
use super::prebuilt::{self, Wrapper};
use super::protocol::{Facts, Provider};
use super::remote::Remote;
use super::settings::{Found, Settings};
use crate::engine::plan::Referee;
use crate::engine::{
    Backends, DeclaredInput, Engine, Error, Format, InputShape, LoadOptions, Network, Precision, Session, cpu,
};
use crate::log;
use crate::random::Random;

/// How long TensorRT takes where nothing is known: nine and a half minutes for one detector on an Orin.
const BUILD_GUESS: Duration = Duration::from_secs(570);

/// A network that is made ready for an accelerator, beside who waits for it.
#[derive(Debug)]
pub struct Baking {
    done: Receiver<Result<Referee, String>>,
    /// How long it may take, where something is known of that.
    pub estimate: Option<Duration>,
    pub started: Instant,
    /// Where it will lie.
    pub folder: PathBuf,
    pub input: InputShape,
}

impl Baking {
    /// How it compares with tract, or why there is none; `None` while it is being made.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> Option<Result<Referee, String>> {
        match self.done.recv_timeout(limit) {
            Ok(done) => Some(done),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err("it died of an internal error".into())),
        }
    }
}

/// A network on the CPU, and by which engine.
struct Standby {
    session: Box<dyn Session>,
    engine: Box<dyn Engine>,
}

/// A network that is to be made ready, as far as it is known before a worker has seen it.
#[derive(Clone, Copy)]
struct Order<'a> {
    network: &'a Network<'a>,
    sha256: &'a str,
    /// Has read it and found it in order.
    standby: &'a dyn Session,
    options: LoadOptions,
    found: &'a Found,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Accelerator {
    provider: Provider,
    precision: Precision,
    settings: Arc<Settings>,
    /// For the engine that stands by.
    backends: Backends,
}

impl Accelerator {
    #[must_use]
    pub fn new(provider: Provider, precision: Precision, settings: Arc<Settings>, backends: Backends) -> Self {
        Self { provider, precision, settings, backends }
    }

    /// The one of that name, if this build has it.
    #[must_use]
    pub fn by_name(name: &str, precision: Precision, backends: &Backends) -> Option<Self> {
        let provider = super::PROVIDERS.into_iter().find(|provider| provider.name() == name)?;
        let settings = Arc::clone(backends.accelerators.as_ref()?);
        provider.computes(precision).then(|| Self::new(provider, precision, settings, backends.clone()))
    }

    /// Begins to make a network ready ahead of time, and keeps what comes of it.
    ///
    /// # Errors
    /// The engine does not work here, nothing can be kept, or the network is not in order.
    pub fn bake(&self, network: &Network<'_>, options: LoadOptions) -> Result<Baking, Error> {
        let found = self.found().map_err(|why| self.refused(network, why))?;
        let sha256 = self.backends.plans.sha256(&network.origin, network.bytes);
        let standby = self.standby(network, options)?.session;
        let order = Order { network, sha256: &sha256, standby: &*standby, options, found: &found };
        let kit = self.kit(order, None)?;
        let kept = kit.kept.clone().ok_or_else(|| self.refused(network, "there is nowhere to keep it".into()))?;
        let guess = (self.provider == Provider::TensorRt).then_some(BUILD_GUESS);
        let estimate = if kit.has_engine() { None } else { kept.took().or(guess) };
        let (sender, done) = sync_channel(1);
        let started = Instant::now();
        let work = move || {
            let made = kit.start().map(|(_, referee)| referee).map_err(|refusal| refusal.why().to_owned());
            // Who asked may have gone.
            let _ = sender.send(made);
        };
        let thread = crate::thread::spawn("bake", work);
        thread.map_err(|error| self.refused(network, format!("no thread to bake in: {error}")))?;
        Ok(Baking { done, estimate, started, folder: kept.folder().into(), input: standby.input_shape() })
    }

    fn refused(&self, network: &Network<'_>, why: String) -> Error {
        Error::Load { origin: network.origin.clone(), engine: self.provider.name(), why }
    }

    /// The library, where it has the provider and what the provider needs is here.
    fn found(&self) -> Result<Found, String> {
        let found = self.settings.probe(self.provider)?;
        fault(self.provider, &found.facts).map_or(Ok(()), Err)?;
        Ok(found)
    }

    /// The network on the CPU, and by which engine.
    fn standby(&self, network: &Network<'_>, options: LoadOptions) -> Result<Standby, Error> {
        let mut refused = None;
        let less = if self.precision == Precision::Fp32 { None } else { Some(self.precision) };
        let engines =
            less.into_iter().chain([Precision::Fp32]).flat_map(|precision| cpu(&self.backends.plans, precision));
        for engine in engines.filter(|engine| !self.backends.forbids(engine.name())) {
            match engine.load(network, options) {
                Ok(session) => return Ok(Standby { session, engine }),
                Err(error @ Error::Malformed { .. }) => return Err(error),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| self.refused(network, "no engine of the CPU stands by".into())))
    }

    /// With an engine that was built elsewhere, or none.
    fn kit(&self, order: Order<'_>, prebuilt: Option<Wrapper>) -> Result<Kit, Error> {
        let Order { network, sha256, standby, options, found } = order;
        let failed = |what: &str, error: std::io::Error| self.refused(network, format!("{what}: {error}"));
        let (declared, shape) = (standby.declared(), standby.input_shape());
        let (golden, is_picture) = golden(network, &declared, &shape);
        let identity = Identity {
            prebuilt: prebuilt.as_ref().map(|engine| engine.sha256.clone()),
            ..Identity::new(sha256, self.provider, shape.dims(), self.precision, &found.facts)
        };
        let kept = self.settings.options.kept.as_deref().and_then(|root| {
            let opened = Kept::open(root, identity);
            opened.inspect_err(|why| log::say(&format!("engine {}: nothing is kept: {why}", self.name()))).ok()
        });
        Ok(Kit {
            provider: self.provider,
            precision: self.precision,
            settings: Arc::clone(&self.settings),
            library: found.library.clone(),
            model: model_file(network).map_err(|error| failed("the network's file", error))?,
            prebuilt,
            origin: network.origin.clone(),
            declared,
            shape,
            threads: options.threads.max(1),
            golden,
            is_picture,
            kept,
        })
    }

    /// A worker with the first engine built elsewhere that is right, and what it takes to start it again; else what is
    /// wrong with each.
    fn start_prebuilt(&self, order: Order<'_>) -> Result<(Kit, Remote, Referee), String> {
        let Order { network, standby, .. } = order;
        let shape = standby.input_shape();
        let mut refused = String::new();
        for offered in network.prebuilt {
            let start = || {
                let engine_sha256 = self.backends.plans.sha256(offered.origin, offered.bytes);
                let wrapper = Wrapper::new(offered, engine_sha256, network, &shape, standby.outputs())?;
                let kit = self.kit(order, Some(wrapper)).map_err(|error| error.to_string())?;
                let (remote, referee) = kit.start().map_err(|refusal| refusal.why().to_owned())?;
                Ok((kit, remote, referee))
            };
            let started = match prebuilt::fits(offered, shape.batch) {
                // It is for who asks for another precision.
                Ok(precision) if precision != self.precision => continue,
                fits => fits.and_then(|_| start()),
            };
            match started {
                Ok(started) => {
                    log::say(&format!("engine {}: it is the one of package {}", self.name(), offered.name));
                    return Ok(started);
                }
                Err(why) => {
                    log::say(&format!("engine {}: not the one of package {}: {why}", self.name(), offered.name));
                    refused += &format!("; not the one of package {}: {why}", offered.name);
                }
            }
        }
        Err(refused)
    }

    /// A worker that is ready; `None` where that takes so long that nobody should wait for it. What is kept may be damaged
    /// or wrong: then it is gone after the first try, and made anew by the second.
    fn start(&self, kit: &Kit) -> Option<Result<(Remote, Referee), Refusal>> {
        if kit.must_build() {
            return None;
        }
        let kept = kit.has_engine();
        match kit.start() {
            Err(Refusal::Rejected(_)) if kept => (!kit.must_build()).then(|| kit.start()),
            started => Some(started),
        }
    }
}

impl Engine for Accelerator {
    fn name(&self) -> &'static str {
        self.provider.name()
    }

    fn version(&self) -> String {
        self.found().map(|found| version(self.provider, &found.facts)).unwrap_or_default()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn by_name_only(&self) -> bool {
        !self.provider.by_itself()
    }

    fn expected(&self) -> bool {
        self.provider.expected()
    }

    fn probe(&self) -> Result<(), String> {
        self.found().map(drop)
    }

    fn takes(&self, format: Format) -> bool {
        format == self.provider.format()
    }

    fn load(&self, network: &Network<'_>, options: LoadOptions) -> Result<Box<dyn Session>, Error> {
        if !self.takes(network.format()) {
            return Err(self.refused(network, format!("its networks are {:?} files", self.provider.format())));
        }
        let found = self.found().map_err(|why| self.refused(network, why))?;
        let sha256 = self.backends.plans.sha256(&network.origin, network.bytes);
        let Standby { session: standby, engine } = self.standby(network, options)?;
        let order = Order { network, sha256: &sha256, standby: &*standby, options, found: &found };
        let mut kit = self.kit(order, None)?;
        let mut names = Names {
            engine: self.name(),
            version: version(self.provider, &found.facts),
            standby: engine.name(),
            standby_version: engine.version(),
            refused: String::new(),
        };
        let mut started = self.start(&kit);
        if started.is_none() {
            match self.start_prebuilt(order) {
                Ok((prebuilt, remote, referee)) => {
                    kit = prebuilt;
                    started = Some(Ok((remote, referee)));
                }
                Err(refused) => names.refused = refused,
            }
        }
        let remote = match started {
            None => {
                let (engine, standby, origin) = (names.engine, names.standby, network.origin.display());
                log::say(&format!("engine {engine}: one is being built for {origin}; {standby} answers meanwhile"));
                None
            }
            Some(Ok((remote, referee))) => {
                let worst = referee.worst().unwrap_or_default();
                log::say(&format!("engine {} {}: within {worst:.1e} of tract", names.engine, names.version));
                Some(remote)
            }
            Some(Err(refusal)) => return Err(self.refused(network, refusal.why().to_owned())),
        };
        let keeper = Keeper::start(kit, remote.is_some());
        let keeper =
            keeper.map_err(|error| self.refused(network, format!("no thread to watch the worker: {error}")))?;
        Ok(Box::new(Failover::new(names, remote, standby, keeper, sha256)))
    }
}

/// Library, and what computes beneath it.
fn version(provider: Provider, facts: &Facts) -> String {
    let mut version = facts.version.clone();
    if provider == Provider::TensorRt
        && let Some(Ok(tensorrt)) = &facts.tensorrt
    {
        version += &format!(", TensorRT {tensorrt}");
    }
    if provider.needs_cuda()
        && let Some(Ok(gpu)) = &facts.gpu
    {
        version += &format!(", {}", gpu.name);
    }
    version
}

/// Why a provider cannot work with what was found.
fn fault(provider: Provider, facts: &Facts) -> Option<String> {
    let name = provider.of_onnx_runtime()?;
    if !facts.providers.iter().any(|has| has == name) {
        let has = facts.providers.join(", ");
        return Some(format!("ONNX Runtime {} was built without it; it has {has}", facts.version));
    }
    if provider.needs_cuda()
        && let Some(Err(why)) = &facts.gpu
    {
        return Some(why.clone());
    }
    match (&facts.tensorrt, provider) {
        (Some(Err(why)), Provider::TensorRt) => Some(format!("TensorRT: {why}")),
        _ => None,
    }
}

/// What an engine is compared on: the golden frame, where it is known how it becomes an input, or else noise.
fn golden(network: &Network<'_>, declared: &DeclaredInput, shape: &InputShape) -> (Vec<f32>, bool) {
    let mut values = vec![0.0; shape.volume()];
    if network.picture.is_some_and(|picture| picture(declared, shape, &mut values).is_ok()) {
        return (values, true);
    }
    let mut random = Random::new(1);
    values.fill_with(|| random.uniform(0.0, 1.0));
    (values, false)
}

/// The file itself, so that its pages are shared; or memory with the same bytes, where there is none.
fn model_file(network: &Network<'_>) -> std::io::Result<File> {
    if let Ok(file) = File::open(&network.origin)
        && file.metadata().is_ok_and(|there| there.is_file() && there.len() == network.bytes.len() as u64)
    {
        return Ok(file);
    }
    let mut file = File::from(memfd_create("firstlight-network", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(network.bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Gpu;
    use super::*;

    fn facts(providers: &[&str], gpu: Option<Result<Gpu, String>>, tensorrt: Option<Result<String, String>>) -> Facts {
        let providers = providers.iter().map(|&name| name.to_owned()).collect();
        Facts { version: "1.21.1".into(), providers, gpu, tensorrt, loose: Vec::new() }
    }

    #[test]
    fn a_rejection_says_what_is_missing() {
        let gpu = Gpu { name: "Orin".into(), compute_capability: (8, 7), driver: "540.4 CUDA 12.6".into() };
        let cpu_only = facts(&["CPUExecutionProvider"], None, None);
        assert_eq!(
            fault(Provider::Cuda, &cpu_only).unwrap(),
            "ONNX Runtime 1.21.1 was built without it; it has CPUExecutionProvider"
        );
        assert_eq!(fault(Provider::Cpu, &cpu_only), None);
        let all = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"];
        let dark = facts(&all, Some(Err("no NVIDIA driver".into())), Some(Ok("10.3.0".into())));
        assert_eq!(fault(Provider::TensorRt, &dark).unwrap(), "no NVIDIA driver");
        let half = facts(&all, Some(Ok(gpu.clone())), Some(Err("libnvinfer.so.10: not found".into())));
        assert_eq!(fault(Provider::TensorRt, &half).unwrap(), "TensorRT: libnvinfer.so.10: not found");
        assert_eq!(fault(Provider::Cuda, &half), None);
        let whole = facts(&all, Some(Ok(gpu)), Some(Ok("10.3.0".into())));
        assert_eq!(fault(Provider::TensorRt, &whole), None);
        assert_eq!(version(Provider::TensorRt, &whole), "1.21.1, TensorRT 10.3.0, Orin");
    }
}
