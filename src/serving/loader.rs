//! A model id made a model: which package of the cache, on which engine, and why not on a better one.
//!
//! May not know: who asks, the command line or the API.

use std::time::Duration;

use super::Error;
use crate::cache::{Cache, Entry, Host, ModelId, Package};
use crate::demo;
use crate::engine::plan::Shelf;
use crate::engine::{self, Backends, Engine, Format, LoadOptions, Precision};
use crate::error::did_you_mean;
use crate::frame::Frame;
use crate::log;
use crate::model::{self, Model, Semantics};
use crate::source::demo::Conveyor;

/// All that decides what becomes of an id.
#[derive(Debug)]
pub struct Loader {
    pub cache: Cache,
    pub host: Host,
    pub engines: Engines,
    pub options: LoadOptions,
    /// Whose answers, where not those of the engine whose cache layout the model lies in.
    pub semantics: Option<Semantics>,
}

impl Loader {
    /// The package of an id, or the one in the binary where that has the id and the cache does not.
    ///
    /// # Errors
    /// As [`open_package_as`].
    pub fn open(&self, id: &str) -> Result<Package, Error> {
        open_package_as(&self.cache, &self.host, Some(id), self.semantics)
    }

    /// The model of a package on the first engine that can run it.
    ///
    /// # Errors
    /// As [`load_model`].
    pub fn load(&self, package: &Package) -> Result<(Model, Chosen), Error> {
        load_model(package, &self.engines, self.options)
    }
}

/// The package of an id; with none, or with the demo's own id when the cache does not have it, the one in the binary.
///
/// # Errors
/// It is not there, not in order, or of a kind that does not run here.
pub fn open_package(cache: &Cache, host: &Host, id: Option<&str>) -> Result<Package, Error> {
    let Some(id) = id else { return embedded_package() };
    let id = ModelId::parse(id)?;
    match cache.choose(&id, None, host).map(|choice| choice.package) {
        Err(crate::cache::Error::Missing { .. }) if id.as_str() == demo::MODEL_ID => embedded_package(),
        Err(error) => Err(explained(cache, &id, error)),
        Ok(package) => Ok(package),
    }
}

/// The package of an id as the engine asked for reads it: from that engine's own layout where the model lies in it,
/// else translated.
///
/// # Errors
/// As [`open_package`].
pub fn open_package_as(
    cache: &Cache,
    host: &Host,
    id: Option<&str>,
    semantics: Option<Semantics>,
) -> Result<Package, Error> {
    let Some(semantics) = semantics else { return open_package(cache, host, id) };
    let own = match id {
        Some(id) => cache.choose(&ModelId::parse(id)?, Some(semantics.layout()), host).map(|choice| choice.package),
        None => return Ok(semantics.read(embedded_package()?)?),
    };
    match own {
        Err(crate::cache::Error::Missing { .. }) => Ok(semantics.read(open_package(cache, host, id)?)?),
        own => Ok(own?),
    }
}

/// Of a model that could never run here, that says more than which of its files is missing.
#[must_use]
pub fn explained(cache: &Cache, id: &ModelId, error: crate::cache::Error) -> Error {
    let of_kind = |entry: Entry| {
        let kind = entry.kind?;
        let why = model::registry::family(&kind, entry.layout).err()?;
        Some(model::registry::unsupported(id.as_str(), &kind, why))
    };
    let unsupported =
        cache.entries_of(id).into_iter().find_map(of_kind).or_else(|| model::registry::foundation(id.as_str()));
    unsupported.map_or_else(|| error.into(), Error::Model)
}

/// The demo model that is in the binary.
///
/// # Errors
/// None that a build which has passed its tests can have.
pub fn embedded_package() -> Result<Package, Error> {
    Ok(Package::embedded(
        demo::MODEL_ID,
        demo::MODEL_TYPE_JSON,
        demo::ENVIRONMENT_JSON,
        demo::CLASS_NAMES,
        demo::PARTS_ONNX,
    )?)
}

/// Where plans lie beside the models of a cache; a dot keeps it out of the way of whoever lists models.
pub const PLANS_OF_CACHE: &str = ".firstlight/plans";

/// Where plans are kept and looked for: the state directory, then beside the models.
#[must_use]
pub fn shelf(cache: &Cache) -> Shelf {
    /// Our own PID 1 mounts the data partition beside the start of the loop, which without a plan would make one at every
    /// start. A third of the time that a start has until it counts as a fault.
    const STATE_APPEARS: Duration = Duration::from_secs(10);
    let own = crate::env::state_dir().map(|dir| dir.join("plans"));
    let own_appears = crate::env::DEVICE_DIR.get().map_or(Duration::ZERO, |_| STATE_APPEARS);
    Shelf { own, own_appears, others: vec![cache.root().join(PLANS_OF_CACHE)], ..Shelf::default() }
}

/// The engine that runs a network.
#[derive(Debug)]
pub struct Chosen {
    pub name: &'static str,
    pub version: String,
    pub precision: Precision,
    /// Name and reason of each better one that was passed over.
    pub rejected: Vec<(&'static str, String)>,
}

/// Which engine is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// The best that works here.
    Best,
    /// This one, and no other.
    Only(&'a str),
    /// This one, and where it does not work the best of the CPU's: a device that sees is better than one that does not.
    Rather(&'a str),
}

impl<'a> Wanted<'a> {
    /// What a flag says.
    #[must_use]
    pub fn only(name: Option<&'a str>) -> Self {
        name.map_or(Self::Best, Self::Only)
    }

    /// What a device's settings say.
    #[must_use]
    pub fn rather(name: Option<&'a str>) -> Self {
        name.map_or(Self::Best, Self::Rather)
    }

    /// The name that is asked for.
    #[must_use]
    pub fn name(self) -> Option<&'a str> {
        match self {
            Self::Best => None,
            Self::Only(name) | Self::Rather(name) => Some(name),
        }
    }

    fn takes(self, engine: &dyn Engine) -> bool {
        match self {
            Self::Best => !engine.by_name_only(),
            Self::Only(name) => name == engine.name(),
            Self::Rather(name) => name == engine.name() || engine::by_name(engine.name()).is_some(),
        }
    }
}

/// Engines that work on this machine, best first.
#[derive(Debug)]
pub struct Engines {
    usable: Vec<Box<dyn Engine>>,
    /// Name and reason of each that does not work here.
    rejected: Vec<(&'static str, String)>,
}

impl Engines {
    /// Those that work on this machine, or the one that is asked for, in the first of the precisions, then the next.
    ///
    /// # Errors
    /// This build has no such engine, or none works here.
    pub fn choose(wanted: Wanted<'_>, precisions: &[Precision], backends: &Backends) -> Result<Self, Error> {
        let known = |name: &str| {
            let names = engine::names();
            if names.contains(&name) {
                return Ok(());
            }
            let hint = did_you_mean(name, names.iter().copied());
            Err(Error::Usage(format!("no engine `{name}` in this build; it has {}{hint}", names.join(", "))))
        };
        wanted.name().into_iter().chain(backends.forbidden.iter().map(String::as_str)).try_for_each(known)?;
        let mut engines = Self { usable: Vec::new(), rejected: Vec::new() };
        let all = precisions.iter().flat_map(|&precision| engine::engines(backends, precision));
        let mut all: Vec<Box<dyn Engine>> = all.filter(|engine| wanted.takes(&**engine)).collect();
        // What is wanted comes first; the others keep their order.
        all.sort_by_key(|engine| Some(engine.name()) != wanted.name());
        for engine in all {
            let allowed =
                if backends.forbids(engine.name()) { Err("forbidden by engine.forbid".into()) } else { Ok(()) };
            match allowed.and_then(|()| engine.probe()) {
                Ok(()) => engines.usable.push(engine),
                Err(why) => {
                    let (name, rejected) = (engine.name(), &mut engines.rejected);
                    let of_interest = engine.expected() || wanted.name() == Some(name);
                    // In another precision it is rejected for the same reason.
                    if of_interest && !rejected.contains(&(name, why.clone())) {
                        rejected.push((name, why));
                    }
                }
            }
        }
        if engines.usable.is_empty() && engines.rejected.is_empty() {
            let wanted = wanted.name().unwrap_or_default();
            let has = |precision: &Precision| {
                engine::engines(backends, *precision).iter().any(|engine| engine.name() == wanted)
            };
            let able = [Precision::Fp32, Precision::Fp16, Precision::Int8].iter().filter(|precision| has(precision));
            let able: Vec<&str> = able.map(|precision| precision.as_str()).collect();
            return Err(Error::Usage(format!(
                "engine {wanted} computes in {} only; leave --precision, or take `plan`",
                able.join(" and ")
            )));
        }
        if engines.usable.is_empty() {
            let reasons: Vec<String> = engines.rejected.iter().map(|(name, why)| format!("{name}: {why}")).collect();
            return Err(Error::NoEngine(format!("no engine works here: {}", reasons.join("; "))));
        }
        Ok(engines)
    }

    /// What the first engine makes of a network in this format that can; what the others say is said aloud.
    ///
    /// An engine may say no to a network that another one runs. Anything else that is wrong is wrong for all of them.
    ///
    /// # Errors
    /// What the last one says, or what is wrong for all of them.
    pub fn first<T, E: Declined + From<Error>>(
        &self,
        format: Format,
        make: impl Fn(&dyn Engine) -> Result<T, E>,
    ) -> Result<(T, Chosen), E> {
        let mut rejected = self.rejected.clone();
        let mut last = None;
        let usable = || self.usable.iter().map(|engine| &**engine);
        let mut engines: Vec<&dyn Engine> = usable().filter(|engine| engine.takes(format)).collect();
        if engines.is_empty() {
            // They say best themselves why not.
            engines = usable().collect();
        }
        for (index, engine) in engines.iter().enumerate() {
            match make(*engine) {
                Ok(made) => {
                    let (name, version, precision) = (engine.name(), engine.version(), engine.precision());
                    return Ok((made, Chosen { name, version, precision, rejected }));
                }
                Err(error) => match error.refusal() {
                    Some(why) if index + 1 < engines.len() => {
                        log::say(&format!("engine {} cannot run this model: {why}", engine.name()));
                        if engine.expected() || index == 0 {
                            rejected.push((engine.name(), why));
                        }
                        last = Some(error);
                    }
                    _ => return Err(error),
                },
            }
        }
        Err(last.unwrap_or_else(|| Error::NoEngine("no engine works here".into()).into()))
    }
}

/// An error of whoever uses an engine.
pub trait Declined {
    /// What the engine says of a network that is not for it; `None` where anything else is wrong.
    fn refusal(&self) -> Option<String>;
}

impl Declined for engine::Error {
    fn refusal(&self) -> Option<String> {
        match self {
            Self::Load { why, .. } => Some(why.clone()),
            Self::LoadTimeout { limit_s, .. } => Some(format!("not loaded within {limit_s} s")),
            Self::Malformed { .. } | Self::Run { .. } => None,
        }
    }
}

impl Declined for Error {
    fn refusal(&self) -> Option<String> {
        match self {
            Self::Engine(error) | Self::Model(model::Error::Engine(error)) => error.refusal(),
            _ => None,
        }
    }
}

/// The first frame of the demo scene: what every engine is compared on.
#[must_use]
pub fn golden_frame() -> Frame {
    let mut frame = Frame::empty();
    Conveyor::new(demo::GOLDEN_SEED).render(&mut frame);
    frame
}

/// The model of a package on the first engine that can run it.
///
/// # Errors
/// No engine can run it, or its package is not in order.
pub fn load_model(package: &Package, engines: &Engines, options: LoadOptions) -> Result<(Model, Chosen), Error> {
    engines.first(Format::of(package.weights.bytes()), |engine| {
        Ok(Model::load_with(package, engine, options, Some(&golden_frame))?)
    })
}
