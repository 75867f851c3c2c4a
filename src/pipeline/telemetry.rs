//! What the loop counts while it runs, written with plain atomic stores and read by anyone without a lock.
//!
//! The loop is the only writer of frame figures. Sources, sinks and the board monitor each write their own cells.
//! [`Telemetry::status`] composes the [`Status`] document from them at the moment of asking, so ages are true even
//! when the loop stands still.

use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::cells::{SinkCell, SourceCell};
pub use super::stage::{Part, Stage};
use super::status::{
    Board, Boot, DeviceFacts, DeviceReport, EngineFacts, Flow, Latency, ModelFacts, Spool, State, Status, Text, text,
};
use crate::clock;
use crate::config::SOURCES_MAX;
use crate::engine::plan::Making;
use crate::sink::SpoolGauge;

/// Frames over which the latency percentiles are taken: ten seconds at 25 frames a second.
const LATENCIES: usize = 256;
/// Frames over which `fps` is taken: about a second at 30 frames a second.
const ARRIVALS: usize = 32;
/// Upper bounds of the latency histogram, milliseconds: from a demo frame on a desktop to a large model on a Pi.
pub const LATENCY_BUCKETS_MS: [u32; 12] = [2, 5, 10, 20, 35, 50, 75, 100, 200, 500, 1000, 5000];

/// How late a loop may be before it is called degraded.
#[derive(Clone, Copy, Debug)]
pub struct HealthLimits {
    /// Oldest acceptable last inference.
    pub frame_age_max: Duration,
    /// How long the first inference may take from process start, where no plan has to be made.
    pub start_grace: Duration,
}

/// What does not change while the loop runs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub model: ModelFacts,
    pub engine: EngineFacts,
    pub board_name: Text<64>,
    pub boot_id: Text<36>,
}

/// All cells of one process. Shared behind an `Arc`.
#[derive(Debug)]
pub struct Telemetry {
    started_at: Instant,
    /// Microseconds from the kernel's start to `started_at`.
    started_after_boot_us: u64,
    limits: HealthLimits,
    facts: OnceLock<Facts>,
    /// Name and version of the engine, where it is another one than when the model was loaded.
    engine: ArcSwapOption<(&'static str, String)>,
    sources: OnceLock<Vec<SourceCell>>,
    sinks: OnceLock<Vec<SinkCell>>,
    spool: OnceLock<Arc<SpoolGauge>>,
    making: OnceLock<Making>,
    frames: AtomicU64,
    failed_frames: AtomicU64,
    undelivered: AtomicU64,
    /// Microseconds from `started_at` to the end of each of the last inferences, a ring indexed by frame number.
    arrivals_us: [AtomicU64; ARRIVALS],
    /// Microseconds each of the last frames took, a ring.
    latencies_us: [AtomicU32; LATENCIES],
    latency_buckets: [AtomicU64; LATENCY_BUCKETS_MS.len()],
    latency_sum_us: AtomicU64,
    stage_sum_us: [AtomicU64; Stage::ALL.len()],
    first_inference_us: AtomicU64,
    problems: [ArcSwapOption<String>; Part::ALL.len()],
    fatal: ArcSwapOption<String>,
    device: ArcSwapOption<DeviceReport>,
    temperature_mc: AtomicI32,
    throttled: AtomicU8,
    rss_kb: AtomicU64,
}

const TEMPERATURE_UNKNOWN: i32 = i32::MIN;
const THROTTLED_UNKNOWN: u8 = 2;

impl Telemetry {
    /// Cells of a process that started at `started_at`.
    #[must_use]
    pub fn new(started_at: Instant, limits: HealthLimits) -> Self {
        Self {
            started_at,
            started_after_boot_us: micros(clock::since_boot().saturating_sub(started_at.elapsed())),
            limits,
            facts: OnceLock::new(),
            engine: ArcSwapOption::empty(),
            sources: OnceLock::new(),
            sinks: OnceLock::new(),
            spool: OnceLock::new(),
            making: OnceLock::new(),
            frames: AtomicU64::new(0),
            failed_frames: AtomicU64::new(0),
            undelivered: AtomicU64::new(0),
            arrivals_us: std::array::from_fn(|_| AtomicU64::new(0)),
            latencies_us: std::array::from_fn(|_| AtomicU32::new(0)),
            latency_buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            latency_sum_us: AtomicU64::new(0),
            stage_sum_us: std::array::from_fn(|_| AtomicU64::new(0)),
            first_inference_us: AtomicU64::new(0),
            problems: std::array::from_fn(|_| ArcSwapOption::empty()),
            fatal: ArcSwapOption::empty(),
            device: ArcSwapOption::empty(),
            temperature_mc: AtomicI32::new(TEMPERATURE_UNKNOWN),
            throttled: AtomicU8::new(THROTTLED_UNKNOWN),
            rss_kb: AtomicU64::new(0),
        }
    }

    /// States what runs here. The first call counts, later ones are ignored.
    pub fn set_facts(&self, facts: Facts) {
        let _ = self.facts.set(facts);
    }

    /// Says which engine answers now, where that changes while the loop runs.
    pub fn set_engine(&self, name: &'static str, version: &str) {
        self.engine.store(Some(Arc::new((name, version.to_owned()))));
    }

    /// What runs here; `None` until the model is loaded.
    #[must_use]
    pub fn facts(&self) -> Option<&Facts> {
        self.facts.get()
    }

    /// States what the loop reads from and writes to. The first call counts, later ones are ignored.
    pub fn set_ends(&self, sources: Vec<SourceCell>, sinks: Vec<SinkCell>) {
        let _ = self.sources.set(sources);
        let _ = self.sinks.set(sinks);
    }

    /// The sources in the order of the configuration; none before the loop is there.
    #[must_use]
    pub fn sources(&self) -> &[SourceCell] {
        self.sources.get().map_or(&[], Vec::as_slice)
    }

    /// The outputs, likewise.
    #[must_use]
    pub fn sinks(&self) -> &[SinkCell] {
        self.sinks.get().map_or(&[], Vec::as_slice)
    }

    /// States that answers are kept, and where it is counted. The first call counts, later ones are ignored.
    pub fn set_spool(&self, gauge: Arc<SpoolGauge>) {
        let _ = self.spool.set(gauge);
    }

    /// States where it is said that the start has to make a plan. The first call counts, later ones are ignored.
    pub fn set_making(&self, making: Making) {
        let _ = self.making.set(making);
    }

    /// Whether the start has had to make a plan.
    #[must_use]
    pub fn makes_plan(&self) -> bool {
        self.making.get().is_some_and(Making::has_begun)
    }

    /// How long the first inference may take from process start.
    fn start_max(&self) -> Duration {
        self.limits.start_grace + if self.makes_plan() { Making::TIME_MAX } else { Duration::ZERO }
    }

    /// Counts one inferred frame that was captured at `captured_at`. Only the loop calls this.
    pub fn frame_done(&self, captured_at: Instant) {
        let now = Instant::now();
        let since_start_us = micros(now - self.started_at).max(1);
        let latency_us = u32::try_from(micros(now.saturating_duration_since(captured_at))).unwrap_or(u32::MAX);
        let n = self.frames.load(Relaxed);
        self.arrivals_us[ring::<ARRIVALS>(n)].store(since_start_us, Relaxed);
        self.latencies_us[ring::<LATENCIES>(n)].store(latency_us, Relaxed);
        if let Some(bucket) = LATENCY_BUCKETS_MS.iter().position(|&ms| latency_us <= ms * 1000) {
            self.latency_buckets[bucket].fetch_add(1, Relaxed);
        }
        self.latency_sum_us.fetch_add(u64::from(latency_us), Relaxed);
        if n == 0 {
            self.first_inference_us.store(since_start_us, Relaxed);
        }
        self.frames.store(n + 1, Relaxed);
    }

    /// Adds the time one frame spent in a stage.
    pub fn stage_done(&self, stage: Stage, took: Duration) {
        self.stage_sum_us[stage as usize].fetch_add(micros(took), Relaxed);
    }

    /// Counts a frame that has no answer.
    pub fn frame_failed(&self) {
        self.failed_frames.fetch_add(1, Relaxed);
    }

    /// Counts an answer that was dropped because the outputs do not keep up.
    pub fn answer_dropped(&self) {
        self.undelivered.fetch_add(1, Relaxed);
    }

    /// Says that a part is in trouble, or with `None` that it no longer is.
    pub fn set_problem(&self, part: Part, problem: Option<String>) {
        self.problems[part as usize].store(problem.map(Arc::new));
    }

    /// Says that nothing will come of this process any more.
    pub fn set_failed(&self, reason: String) {
        self.fatal.store(Some(Arc::new(reason)));
    }

    /// States what PID 1 knows of the machine.
    pub fn set_device(&self, report: DeviceReport) {
        self.device.store(Some(Arc::new(report)));
    }

    /// Whether a supervisor may believe that frames flow: the last inference is younger than `frame_age_max`, or the
    /// first is still within its grace.
    #[must_use]
    pub fn alive(&self, frame_age_max: Duration) -> bool {
        let (silent_for, limit) = self.silence(frame_age_max);
        silent_for <= limit
    }

    /// Stores what the board monitor read.
    pub fn set_board(&self, temperature_c: Option<f32>, throttled: Option<bool>, rss_kb: u64) {
        #[expect(clippy::cast_possible_truncation, reason = "float to int saturates, and no board is that hot")]
        let milli = temperature_c.map_or(TEMPERATURE_UNKNOWN, |t| (t * 1000.0) as i32);
        self.temperature_mc.store(milli, Relaxed);
        self.throttled.store(throttled.map_or(THROTTLED_UNKNOWN, u8::from), Relaxed);
        self.rss_kb.store(rss_kb, Relaxed);
    }

    /// Frames inferred so far.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames.load(Relaxed)
    }

    /// Frames that have no answer so far.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed_frames.load(Relaxed)
    }

    /// State and reasons at this moment, without the rest of the document.
    #[must_use]
    pub fn health(&self) -> Health {
        let mut reasons = heapless::Vec::new();
        // A full list keeps the first reasons: they are pushed in order of weight.
        if let Some(fatal) = self.fatal.load().as_deref() {
            let _ = reasons.push(text(fatal));
            return Health { state: State::Failed, flowing: false, reasons };
        }
        let mut flowing = true;
        self.source_reasons(&mut reasons, &mut flowing);
        for part in Part::ALL {
            if let Some(problem) = self.problems[part as usize].load().as_deref() {
                let _ = reasons.push(text(&format!("{}: {problem}", part.as_str())));
                flowing &= !part.stops_frames();
            }
        }
        for sink in self.sinks() {
            if let Some(problem) = sink.problem() {
                let _ = reasons.push(text(&format!("sink: {problem}")));
            }
        }
        let (silent_for, limit) = self.silence(self.limits.frame_age_max);
        if silent_for > limit {
            let (silent_s, limit_s) = (silent_for.as_secs_f32(), limit.as_secs_f32());
            let _ = reasons.push(text(&format!("loop: no frame for {silent_s:.1} s (limit {limit_s:.1} s)")));
            flowing = false;
        }
        if let Some(device) = self.device.load().as_deref() {
            reasons.extend(device.reasons.iter().take(super::status::DEVICE_REASONS_MAX).cloned());
        }
        let seen = self.last_frame_age().is_some() || self.idle_age().is_some();
        let state = match (reasons.is_empty(), seen) {
            (false, _) => State::Degraded,
            (true, false) => State::Starting,
            (true, true) => State::Running,
        };
        Health { state, flowing, reasons }
    }

    /// Of one source why it is lost; of several which, and frames flow while any of them is there.
    fn source_reasons(&self, reasons: &mut Reasons, flowing: &mut bool) {
        let sources = self.sources();
        let mut lost = 0;
        for (id, source) in sources.iter().enumerate() {
            let Some(problem) = source.problem() else { continue };
            lost += 1;
            let which = if sources.len() > 1 { format!(" {id}") } else { String::new() };
            let _ = reasons.push(text(&format!("source{which}: {problem}")));
        }
        *flowing &= lost == 0 || lost < sources.len();
    }

    /// The whole document at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        let Health { state, reasons, .. } = self.health();
        let mut facts = self.facts.get().cloned().unwrap_or_default();
        if let Some(engine) = self.engine.load().as_deref() {
            (facts.engine.name, facts.engine.version) = (text(engine.0), text(&engine.1));
        }
        let first = self.first_inference_us.load(Relaxed);
        Status {
            state,
            reasons,
            model: facts.model,
            engine: facts.engine,
            sources: self.sources().iter().take(SOURCES_MAX).map(SourceCell::facts).collect(),
            sinks: self.sinks().iter().take(super::status::SINKS_MAX).map(SinkCell::facts).collect(),
            flow: Flow {
                frames: self.frames(),
                dropped: self.sources().iter().map(SourceCell::dropped).sum(),
                failed: self.failed_frames.load(Relaxed),
                undelivered: self.undelivered.load(Relaxed),
                fps: self.fps(),
                latency_ms: self.latency(),
                last_frame_age_ms: self.last_frame_age().map(|age| micros(age) / 1000),
            },
            spool: self.spool.get().map(|gauge| Spool {
                committed: gauge.committed(),
                last: gauge.last(),
                dropped: gauge.dropped(),
            }),
            boot: Boot {
                boot_id: facts.boot_id,
                uptime_s: (self.started_at.elapsed().as_secs_f64() * 10.0).round() / 10.0,
                first_inference_ms: (first > 0).then_some(first / 1000),
                kernel_to_first_inference_ms: (first > 0).then(|| (self.started_after_boot_us + first) / 1000),
                clock_set: clock::is_set(),
                device: self.device_facts(),
            },
            board: Board {
                name: facts.board_name,
                temperature_c: self.temperature_c(),
                throttled: self.throttled(),
                memory_rss_mb: self.rss_kb.load(Relaxed) / 1024,
            },
        }
    }

    /// Cumulative counts of the latency histogram, one a bucket of [`LATENCY_BUCKETS_MS`], and the sum in seconds.
    #[must_use]
    pub fn latency_histogram(&self) -> ([u64; LATENCY_BUCKETS_MS.len()], f64) {
        let mut total = 0;
        let cumulative = std::array::from_fn(|i| {
            total += self.latency_buckets[i].load(Relaxed);
            total
        });
        (cumulative, seconds(self.latency_sum_us.load(Relaxed)))
    }

    /// Seconds spent in a stage since the start.
    #[must_use]
    pub fn stage_seconds(&self, stage: Stage) -> f64 {
        seconds(self.stage_sum_us[stage as usize].load(Relaxed))
    }

    #[must_use]
    pub fn rss_kb(&self) -> u64 {
        self.rss_kb.load(Relaxed)
    }

    fn device_facts(&self) -> DeviceFacts {
        let nobody = || DeviceFacts { watchdog: text("off"), ..DeviceFacts::default() };
        self.device.load().as_deref().map_or_else(nobody, |report| report.facts.clone())
    }

    fn temperature_c(&self) -> Option<f32> {
        let milli = self.temperature_mc.load(Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "temperatures have few digits")]
        (milli != TEMPERATURE_UNKNOWN).then(|| (milli as f32 / 100.0).round() / 10.0)
    }

    fn throttled(&self) -> Option<bool> {
        match self.throttled.load(Relaxed) {
            THROTTLED_UNKNOWN => None,
            flag => Some(flag == 1),
        }
    }

    /// For how long no frame has come though one could have, and how long that may be.
    fn silence(&self, frame_age_max: Duration) -> (Duration, Duration) {
        let idle = self.idle_age().unwrap_or(Duration::MAX);
        match self.last_frame_age() {
            Some(age) => (age.min(idle), frame_age_max),
            None => (self.started_at.elapsed().min(idle), self.start_max()),
        }
    }

    /// How long ago no source had anything to do; `None` where one of them always has.
    fn idle_age(&self) -> Option<Duration> {
        let ages: Option<Vec<Duration>> = self.sources().iter().map(SourceCell::idle_age).collect();
        ages?.into_iter().max()
    }

    fn last_frame_age(&self) -> Option<Duration> {
        let n = self.frames();
        let last = Duration::from_micros(self.arrivals_us[ring::<ARRIVALS>(n.checked_sub(1)?)].load(Relaxed));
        Some(self.started_at.elapsed().saturating_sub(last))
    }

    /// Frames a second over the ring; while no frame comes the time since the last one counts as well.
    fn fps(&self) -> f32 {
        let n = self.frames();
        if n < 2 {
            return 0.0;
        }
        let oldest = n.saturating_sub(ARRIVALS as u64);
        let first = self.arrivals_us[ring::<ARRIVALS>(oldest)].load(Relaxed);
        let last = self.arrivals_us[ring::<ARRIVALS>(n - 1)].load(Relaxed);
        let intervals = (n - 1 - oldest).max(1) as f64;
        let mean_us = last.saturating_sub(first) as f64 / intervals;
        let silent_us = micros(self.started_at.elapsed()).saturating_sub(last) as f64;
        let span_us = if silent_us > 2.0 * mean_us { silent_us + mean_us * intervals } else { mean_us * intervals };
        #[expect(clippy::cast_possible_truncation, reason = "a rate, rounded to a tenth for people")]
        {
            ((intervals * 1e7 / span_us.max(1.0)).round() / 10.0) as f32
        }
    }

    fn latency(&self) -> Latency {
        let n = usize::try_from(self.frames()).unwrap_or(usize::MAX).min(LATENCIES);
        if n == 0 {
            return Latency::default();
        }
        let mut window: [u32; LATENCIES] = std::array::from_fn(|i| self.latencies_us[i].load(Relaxed));
        let window = &mut window[..n];
        let mut at = |rank: usize| *window.select_nth_unstable(rank).1;
        #[expect(clippy::cast_precision_loss, reason = "rounded to 10 µs for people")]
        let ms = |us: u32| (us as f32 / 10.0).round() / 100.0;
        Latency { p50: ms(at((n - 1) / 2)), p99: ms(at((n - 1) * 99 / 100)) }
    }
}

/// State, whether frames can flow, and why not.
#[derive(Clone, Debug)]
pub struct Health {
    pub state: State,
    /// False when the loop is late, the source lost or the engine broken: what `/healthz` and the watchdog ask.
    /// A sink in trouble degrades the state but does not stop frames.
    pub flowing: bool,
    pub reasons: Reasons,
}

type Reasons = heapless::Vec<Text<160>, { super::status::REASONS_MAX }>;

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of centuries fit 53 bits")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn ring<const N: usize>(n: u64) -> usize {
    usize::try_from(n % N as u64).expect("smaller than N")
}
