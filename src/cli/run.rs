//! `firstlight run`: put the parts together, start them, wait for a signal or the end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::installed::{self, Installed};
use super::progress::Progress;
use super::{Chosen, Engines, Error, Wanted, load_model, open_package_as, port, serve, sinks, threads};
use crate::config::{self, Config, Discipline, SOURCES_MAX, SourceConfig};
use crate::device::display::{self, Display};
use crate::device::notify::{Notifier, Supervisor};
use crate::device::{self, Monitor, Room, SerialLine};
use crate::engine::{LoadOptions, Precision};
use crate::frame::Orientation;
use crate::log;
use crate::model::{self, Labels, Model, Request, Semantics};
use crate::pipeline::status::{AccuracyFacts, EngineFacts, ModelFacts, Rejected, text};
use crate::pipeline::telemetry::{Facts, HealthLimits, Part};
use crate::pipeline::{Feed, Parts, Pipeline, Telemetry};
use crate::rules::{Camera, Rules};
use crate::sink::{Sink, Snapshot};
use crate::source::{self, Paced};

/// How often a signal is looked for: well within one frame.
const LOOK: Duration = Duration::from_millis(10);
/// How long the frame in hand may take to end after a signal, before the process ends without it.
const STOP_MAX: Duration = Duration::from_secs(5);
/// What runs when nothing is said.
const DEMO_SOURCE: &str = "demo:";

#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Configuration file [default: $FIRSTLIGHT_CONFIG]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Model id in the cache [default: the demo model in the binary]
    #[arg(long, value_name = "ID")]
    model: Option<String>,
    /// Whose answers: of Roboflow's classic or its default engine [default: of the one whose cache layout it is]
    #[arg(long, value_name = "ENGINE")]
    semantics: Option<Semantics>,
    /// Where frames come from: demo:, file:PATH, watch:DIR, v4l2:DEVICE, rtsp://HOST/PATH and others, with options such as
    /// ?loop=true; several times for several sources [default: demo:]
    #[arg(long, value_name = "URI")]
    source: Vec<String>,
    /// Stop after N inferred frames
    #[arg(long, value_name = "N")]
    frames: Option<u64>,
    /// Address of the HTTP port, or `off` [default: 127.0.0.1:9001]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// JSON lines to `stdout`, `none`, `unix:PATH`, `udp:HOST:PORT`, a file or a serial device; may be repeated [default: stdout]
    #[arg(long, value_name = "TARGET")]
    json: Vec<String>,
    /// Write the status line to this serial device
    #[arg(long, value_name = "DEVICE")]
    serial: Option<PathBuf>,
    /// Show the live picture on `fb:DEVICE`, `drm:DEVICE`, `png:FILE` or nothing, `off` [default: off]
    #[arg(long, value_name = "TARGET")]
    display: Option<String>,
    /// Engine, instead of the best that works here
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// Compute in numbers (fp32), or with halves (fp16) or bytes (int8) by a plan of `cache bake` [default: fp32]
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Precision>,
    /// Threads of a CPU engine [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Everything that was decided from flags, environment and configuration, in that order.
pub(super) struct Settings {
    pub config: Config,
    pub model: Option<String>,
    pub semantics: Option<Semantics>,
    pub sources: Vec<SourceConfig>,
    pub frames: Option<u64>,
    /// `None`: no HTTP port.
    pub listen: Option<SocketAddr>,
    pub json: Vec<String>,
    pub serial: Option<PathBuf>,
    /// `None`: no screen.
    pub display: Option<display::Target>,
    pub engine: Option<String>,
    pub precision: Precision,
    pub options: LoadOptions,
}

/// `cache` is what the flag or the environment says.
pub fn run(args: Args, cache: Option<PathBuf>, started_at: Instant) -> Result<(), Error> {
    crate::env::roboflow::check().map_err(Error::Usage)?;
    let installed = Installed::look(args.config.is_some() || cache.is_some());
    let settings = settle(args, &installed)?;
    let wrong = |why| Error::Usage(format!("config: video.decoder: {why}"));
    source::codec::choose(&settings.config.video.decoder).map_err(wrong)?;
    let cache = cache.or_else(|| installed.cache()).or_else(|| settings.config.cache.clone());
    let cache = super::cache_at(cache);
    let backends = super::backends_of(&cache, &settings.config.engine, installed.board().as_deref())?;
    let package = open_package_as(&cache, &backends, settings.model.as_deref(), settings.semantics);
    let package = installed.judge(settings.model.as_deref(), package)?;
    let stop = signals()?;

    let health = &settings.config.health;
    let telemetry = Arc::new(Telemetry::new(
        started_at,
        HealthLimits {
            frame_age_max: config::seconds(health.frame_age_max_s),
            start_grace: config::seconds(health.start_grace_s),
        },
    ));
    let snapshot = Snapshot::new(Labels::of(&package, model::contract(&package)?), settings.config.snapshot.quality);
    installed.attend(&telemetry);
    let notifier = start_notifier(&settings, &telemetry)?;
    // The port opens before the model is loaded: whoever asks meanwhile hears `starting` instead of nothing.
    let plans = &backends.plans;
    let api = serve::start(&settings, &cache, &backends, &telemetry)?;
    let port = port::open(&settings, &telemetry, &snapshot, api, installed.restart());
    let serial_device = settings.serial.as_ref();
    let serial = serial_device.map(|device| SerialLine::start(device, &settings.config.serial, Arc::clone(&telemetry)));
    let serial = serial.transpose()?;
    let show = |target| Display::start(target, settings.config.display.fps, Arc::clone(&telemetry), &snapshot);
    let display = settings.display.clone().map(show).transpose()?;

    telemetry.set_making(plans.making.clone());
    let engines = Engines::choose(settings.wanted(), settings.precisions(), &backends)?;
    let (mut model, chosen) = installed.judge(Some(&package.id), load_model(&package, &engines, settings.options))?;
    // An engine that looked for something of this very network has hashed it.
    let hash = || plans.sha256(package.weights.path(), package.weights.bytes());
    let sha256 = model.session().sha256().map_or_else(hash, str::to_owned);
    if settings.semantics.is_none() {
        installed.judge(Some(&package.id), installed.try_model(&mut model, &sha256, &chosen))?;
    }
    if chosen.precision != settings.precision {
        // What computes in less than 32 bits is a plan, where no accelerator does.
        let why = chosen.rejected.iter().find(|(name, _)| *name == "plan").or(chosen.rejected.first());
        let why = why.map(|(_, why)| why.as_str()).unwrap_or_default();
        let problem = format!("{} instead of {}: {why}", chosen.precision, settings.precision);
        log::say(&problem);
        telemetry.set_problem(Part::Precision, Some(problem));
    }
    if let Some(wanted) = settings.engine.as_deref().filter(|&wanted| wanted != chosen.name) {
        let why = chosen.rejected.iter().find(|(name, _)| *name == wanted).map(|(_, why)| why.as_str());
        let problem = format!("{} instead of {wanted}: {}", chosen.name, why.unwrap_or("it cannot run this model"));
        log::say(&problem);
        telemetry.set_problem(Part::Accelerator, Some(problem));
    }
    let request = Request::from_config(&settings.config.inference)?;
    let feeds = settings.feeds(model.orientation(&request))?;
    let rules = settings.rules(model.labels(), &feeds)?;
    telemetry.set_facts(facts(&model, sha256, &chosen));
    announce(&model, &chosen, &feeds);
    if let Some(url) = port.as_ref().and_then(|port| port.url.as_ref()) {
        log::say(&format!("see {url}"));
    }

    let patient = feeds.iter().all(|feed| !feed.source.live());
    let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(snapshot)];
    sinks.extend(sinks::open(&settings, model.labels(), patient, &telemetry)?);
    let pipeline = Pipeline::start(Parts {
        feeds,
        model,
        request,
        rules,
        sinks,
        frames_waiting: settings.config.buffer.frames,
        frames_max: settings.frames,
        telemetry: Arc::clone(&telemetry),
    })
    .map_err(|cause| Error::Io { what: "starting the loop".into(), cause })?;
    installed.proved();
    let disks = [crate::env::state_dir(), Some(cache.root().into())].into_iter().flatten().collect();
    let room = Room::new(disks, settings.config.disk.low_space_mb);
    let monitor = Monitor::start(Arc::clone(&telemetry), room);
    let progress = Progress::start(&telemetry, settings.json.iter().any(|target| target == "stdout"));

    while !pipeline.finished() && !stop.load(Ordering::Relaxed) && !installed.is_outdated() {
        std::thread::sleep(LOOK);
        progress.show(&telemetry);
    }
    let outdated = installed.is_outdated() && !stop.load(Ordering::Relaxed);
    if outdated {
        installed::last_words();
    }
    pipeline.stop();
    pipeline.join(STOP_MAX);
    drop((port, serial, display, monitor));
    if outdated {
        // The supervisor is not told of an end: to it the process goes on.
        std::mem::forget(notifier);
        return Err(installed::start_anew());
    }
    drop(notifier);
    log::say(&progress.end(&telemetry));
    match telemetry.failed() {
        0 => Ok(()),
        failed => Err(Error::Failed(format!("{failed} frames failed; their lines say why"))),
    }
}

impl Settings {
    /// The engine that is asked for.
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted::rather(self.engine.as_deref())
    }

    /// In which the model may run, best first: a device that sees in numbers is better than one that does not.
    pub fn precisions(&self) -> &'static [Precision] {
        match self.precision {
            Precision::Fp32 => &[Precision::Fp32],
            Precision::Fp16 => &[Precision::Fp16, Precision::Fp32],
            Precision::Int8 => &[Precision::Int8, Precision::Fp32],
        }
    }

    /// The sources, opened.
    fn feeds(&self, orientation: Orientation) -> Result<Vec<Feed>, Error> {
        let buffer = &self.config.buffer;
        let open = |config: &SourceConfig| -> Result<Feed, Error> {
            let mut source = source::open(config.uri.as_deref().unwrap_or(DEMO_SOURCE), orientation)?;
            if let Some(fps) = config.max_fps {
                source = Box::new(Paced::new(source, fps));
            }
            let (policy, consumption) =
                (config.policy.unwrap_or(buffer.policy), config.consumption.unwrap_or(buffer.consumption));
            let discipline = Discipline::of(policy, consumption, source.live());
            Ok(Feed { source, discipline })
        };
        self.sources.iter().map(open).collect()
    }

    /// The rules, if there are any, for a model that sees these classes.
    fn rules(&self, labels: &Labels, feeds: &[Feed]) -> Result<Option<Rules>, Error> {
        let camera = |(feed, config)| {
            let (feed, config): (&Feed, &SourceConfig) = (feed, config);
            Camera { id: config.id.as_deref(), live: feed.source.live() }
        };
        let cameras: Vec<Camera<'_>> = feeds.iter().zip(&self.sources).map(camera).collect();
        let (tracker, rules) = (self.config.tracker.as_ref(), &self.config.rules);
        Rules::new(tracker, rules, labels, &cameras, &device::boot_id())
            .map_err(|error| Error::Usage(format!("config: {error}")))
    }
}

fn settle(args: Args, installed: &Installed) -> Result<Settings, Error> {
    let config = installed.configure(super::find_config(args.config)?)?;
    let listen = super::listen_address(args.listen, &config)?;
    Ok(Settings {
        semantics: word("semantics", args.semantics, config.semantics.as_deref())?,
        precision: word("engine.precision", args.precision, config.engine.precision.as_deref())?.unwrap_or_default(),
        model: args.model.or_else(|| config.model.clone()),
        sources: sources(args.source, &config)?,
        frames: args.frames,
        listen,
        json: if args.json.is_empty() { config.output.json.clone() } else { args.json },
        display: display::parse(args.display.as_deref().unwrap_or(&config.display.target))?,
        serial: args.serial.or_else(|| config.serial.device.clone()),
        engine: args.engine.or_else(|| config.engine.name.clone()),
        options: threads(args.threads, config.engine.threads)?,
        config,
    })
}

/// Those of the flag instead of the configuration's.
fn sources(flags: Vec<String>, config: &Config) -> Result<Vec<SourceConfig>, Error> {
    if flags.len() > SOURCES_MAX {
        return Err(Error::Usage(format!("--source: {} of them; at most {SOURCES_MAX}", flags.len())));
    }
    let named = |uri: String| SourceConfig { uri: Some(uri), ..SourceConfig::default() };
    Ok(if flags.is_empty() { config.source.0.clone() } else { flags.into_iter().map(named).collect() })
}

/// A flag that SIGTERM and SIGINT raise; a second one ends the process at once.
fn signals() -> Result<Arc<AtomicBool>, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|cause| Error::Io { what: "waiting for signals".into(), cause })?;
    }
    Ok(stop)
}

/// Tells the supervisor how the loop is, when there is one.
fn start_notifier(settings: &Settings, telemetry: &Arc<Telemetry>) -> Result<Option<Notifier>, Error> {
    let failed = |cause| Error::Io { what: "speaking to the supervisor".into(), cause };
    let Some(supervisor) = Supervisor::from_environment().map_err(failed)? else { return Ok(None) };
    let frame_age_max = config::seconds(settings.config.device.watchdog.frame_age_max_s);
    Notifier::start(supervisor, Arc::clone(telemetry), frame_age_max).map(Some).map_err(failed)
}

/// The flag, then the configuration.
pub(super) fn word<T: clap::ValueEnum>(
    key: &str,
    flag: Option<T>,
    configured: Option<&str>,
) -> Result<Option<T>, Error> {
    let parse = |word| {
        let valid = T::value_variants().iter().filter_map(T::to_possible_value);
        let valid: Vec<String> = valid.map(|value| format!("`{}`", value.get_name())).collect();
        T::from_str(word, false).map_err(|_| Error::Usage(format!("{key} = {word}: expected {}", alternatives(&valid))))
    };
    flag.map(Ok).or_else(|| configured.map(parse)).transpose()
}

/// `a`, `b` or `c`.
fn alternatives(words: &[String]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.concat(),
    }
}

fn facts(model: &Model, sha256: String, chosen: &Chosen) -> Facts {
    let mut rejected = heapless::Vec::new();
    for (name, why) in &chosen.rejected {
        // A full list keeps the first: the engines are in order of preference.
        let _ = rejected.push(Rejected { name: text(name), why: text(why) });
    }
    Facts {
        model: ModelFacts { id: text(model.id()), task: text(model.labels().task.as_str()), sha256: text(&sha256) },
        engine: EngineFacts {
            name: text(chosen.name),
            version: text(&chosen.version),
            precision: text(chosen.precision.as_str()),
            accuracy: model.session().trust().filter(|trust| trust.precision() != Precision::Fp32).map(|trust| {
                let images = trust.judged().map_or(0, |judged| judged.images);
                AccuracyFacts { measured: text(&trust.told()), images }
            }),
            threads: model.session().threads(),
            rejected,
        },
        board_name: text(&device::identify(std::path::Path::new("/")).name),
        boot_id: text(&device::boot_id()),
    }
}

fn announce(model: &Model, chosen: &Chosen, feeds: &[Feed]) {
    let sources: Vec<&str> = feeds.iter().map(|feed| feed.source.uri()).collect();
    log::say(&format!(
        "version {}: model {} ({}, {} classes), engine {} {} in {} on {} threads, source {}",
        env!("CARGO_PKG_VERSION"),
        model.id(),
        model.labels().task.as_str(),
        model.labels().class_names.len(),
        chosen.name,
        chosen.version,
        chosen.precision,
        model.session().threads(),
        sources.join(", ")
    ));
}
