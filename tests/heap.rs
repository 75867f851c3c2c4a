//! Nothing grows: the whole loop under a counting allocator.
//!
//! Around an engine that allocates nothing, which shows what our own code does a frame; around tract, whose own
//! allocations are printed; and a plan by itself, which makes none. One test, because the counters are the process's.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use firstlight::config::{Config, Discipline, OutputConfig, Overflow};
use firstlight::engine::{
    self, DeclaredInput, Engine, InputShape, LoadOptions, Network, Session, TensorInfo, TensorView,
};
use firstlight::frame::Orientation;
use firstlight::model::{Model, Request};
use firstlight::pipeline::telemetry::HealthLimits;
use firstlight::pipeline::{Feed, Parts, Pipeline, Telemetry};
use firstlight::rules::{Camera, Rules};
use firstlight::sink::{self, JsonLines, Outcome, Sink, Snapshot, Spool, Target};
use firstlight::source;
use support::still::{Still, demo_package};

struct Counting;

static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged; only counters are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size().cast_signed(), Relaxed);
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise about the layout is the one System needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size().cast_signed(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Inferences over which the least heap is looked for: other threads hold some memory for a moment, at any moment.
const WINDOW: u64 = 50;

/// The engine under test, with the counters read just before an inference: it holds the least then, whatever the
/// scheduler does.
#[derive(Debug)]
struct Gauge<'e> {
    engine: &'e dyn Engine,
    readings: Arc<[Reading; 2]>,
    starts: [u64; 2],
}

#[derive(Debug)]
struct GaugedSession {
    session: Box<dyn Session>,
    inferences: u64,
    readings: Arc<[Reading; 2]>,
    starts: [u64; 2],
}

/// The least heap during a window, and the allocations made before it.
#[derive(Debug)]
struct Reading {
    live_bytes: AtomicIsize,
    allocations: AtomicU64,
}

impl Default for Reading {
    fn default() -> Self {
        Self { live_bytes: AtomicIsize::new(isize::MAX), allocations: AtomicU64::new(0) }
    }
}

impl Engine for Gauge<'_> {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn version(&self) -> String {
        self.engine.version()
    }

    fn probe(&self) -> Result<(), String> {
        self.engine.probe()
    }

    fn load(&self, network: &Network<'_>, options: LoadOptions) -> Result<Box<dyn Session>, engine::Error> {
        let session = self.engine.load(network, options)?;
        let readings = Arc::clone(&self.readings);
        Ok(Box::new(GaugedSession { session, inferences: 0, readings, starts: self.starts }))
    }
}

impl Session for GaugedSession {
    fn declared(&self) -> DeclaredInput {
        self.session.declared()
    }

    fn input_shape(&self) -> InputShape {
        self.session.input_shape()
    }

    fn outputs(&self) -> &[TensorInfo] {
        self.session.outputs()
    }

    fn threads(&self) -> usize {
        self.session.threads()
    }

    fn input_mut(&mut self) -> &mut [f32] {
        self.session.input_mut()
    }

    fn run(&mut self) -> Result<(), engine::Error> {
        self.inferences += 1;
        for (reading, &start) in self.readings.iter().zip(&self.starts) {
            if self.inferences == start {
                reading.allocations.store(ALLOCATIONS.load(Relaxed), Relaxed);
            }
            if (start..start + WINDOW).contains(&self.inferences) {
                reading.live_bytes.fetch_min(LIVE_BYTES.load(Relaxed), Relaxed);
            }
        }
        self.session.run()
    }

    fn output(&self, index: usize) -> TensorView<'_> {
        self.session.output(index)
    }
}

/// Holds up its first answer, until every slot of the loop is on its way with a frame in it: on a busy machine the last one
/// would meet its first frame, and take its memory, thousands of frames later.
struct Stall {
    seen: bool,
}

impl Sink for Stall {
    fn name(&self) -> &'static str {
        "stall"
    }

    fn deliver(&mut self, _: &Outcome<'_>) -> Result<(), sink::Error> {
        if !std::mem::replace(&mut self.seen, true) {
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }
}

/// Bytes by which the heap grew and allocations made, between the end of warm-up and `frames` later.
fn measure(engine: &dyn Engine, warm_up: u64, frames: u64) -> (isize, u64) {
    // The last window, and a few more: the end frees the model.
    const TAIL: u64 = WINDOW + 20;
    let dir = tempfile::tempdir().unwrap();
    let package = demo_package();
    let readings: Arc<[Reading; 2]> = Arc::default();
    let gauge = Gauge { engine, readings: Arc::clone(&readings), starts: [warm_up, warm_up + frames] };
    let model = Model::load(&package, &gauge, LoadOptions { threads: 1 }).unwrap();
    let labels = || Arc::clone(model.labels());
    // Every kind that allocates nothing but its events, of which a still picture makes one at the start.
    let config = Config::parse(
        "[tracker]\n\
        [[rules]]\nname = \"in\"\nkind = \"zone\"\nzone = [[0, 0], [1, 0], [1, 1]]\n\
        [[rules]]\nname = \"many\"\nkind = \"count\"\nabove = 1\n\
        [[rules]]\nname = \"over\"\nkind = \"line\"\nline = [[0.5, 0], [0.5, 1]]\n",
        Path::new("heap.toml"),
    )
    .unwrap();
    let cameras = [Camera { id: None, live: false }];
    let rules = Rules::new(config.tracker.as_ref(), &config.rules, model.labels(), &cameras, "").unwrap();
    // As much as may be kept, so that segments are written and removed meanwhile.
    // By size, not by time: how many segments there are must not depend on how fast the machine is.
    let output = OutputConfig { spool_mb: 1, spool_per_s: 1000.0, spool_interval_s: 3600.0, ..OutputConfig::default() };
    let file = dir.path().join("lines").display().to_string();
    let targets = Target::parse_all(&[file], 115_200).unwrap();
    let sinks: Vec<Box<dyn Sink>> = vec![
        Box::new(Stall { seen: false }),
        Box::new(Snapshot::new(labels(), 80)),
        Box::new(JsonLines::open(&targets[0], labels(), true).unwrap()),
        Box::new(Spool::start(&dir.path().join("spool"), &output, String::new(), labels()).unwrap()),
    ];
    let limits = HealthLimits { frame_age_max: Duration::from_secs(60), start_grace: Duration::from_secs(60) };
    let telemetry = Arc::new(Telemetry::new(Instant::now(), limits));
    let discipline = Discipline { overflow: Overflow::Wait, adaptive: false, eager: false };
    let pipeline = Pipeline::start(Parts {
        feeds: vec![Feed { source: source::open("demo:?fps=0", Orientation::Apply).unwrap(), discipline }],
        model,
        request: Request::default(),
        rules,
        sinks,
        frames_waiting: 2,
        frames_max: Some(warm_up + frames + TAIL),
        telemetry: Arc::clone(&telemetry),
    })
    .unwrap();
    while !pipeline.finished() {
        std::thread::sleep(Duration::from_millis(5));
    }
    pipeline.join(Duration::from_secs(1));
    assert_eq!((telemetry.frames(), telemetry.status().flow.failed), (warm_up + frames + TAIL, 0));
    let [before, after] = &*readings;
    (
        after.live_bytes.load(Relaxed) - before.live_bytes.load(Relaxed),
        after.allocations.load(Relaxed) - before.allocations.load(Relaxed),
    )
}

#[test]
fn the_heap_is_flat_over_a_thousand_frames() {
    // The scene reuses its sprites' buffers; each has held a part of the largest size only after thousands of frames.
    let (grown, allocations) = measure(&Still, 10_000, 1_000);
    println!("our own code over 1,000 frames: heap grew by {grown} bytes, {allocations} allocations");
    // One sprite's buffer, at most, meets its largest part as late as this.
    assert!(grown.abs() <= 64 * 1024, "the heap grew by {grown} bytes over 1,000 frames");
    assert!(allocations <= 100, "{allocations} allocations in 1,000 frames: something allocates a frame");

    // tract takes its memory anew each run; a sample shows as much as a thousand frames, which --full counts.
    let frames = if std::env::var_os("FIRSTLIGHT_FULL").is_some() { 1_000 } else { 200 };
    let tract = engine::by_name("tract").unwrap();
    let (grown, allocations) = measure(&*tract, 100, frames);
    println!(
        "with tract over {frames} frames: heap grew by {grown} bytes, {} allocations a frame",
        allocations / frames
    );
    assert!(grown.abs() <= 256 * 1024, "the heap grew by {grown} bytes over {frames} frames with tract");

    a_plan_allocates_nothing();
}

/// Not one allocation in 200 inferences, with as many threads as there are cores, on nothing but the session.
fn a_plan_allocates_nothing() {
    let shape = |_: &_| InputShape { batch: 1, channels: 3, height: 320, width: 320 };
    let bytes = firstlight::demo::PARTS_ONNX;
    let network = Network { bytes, origin: "parts.onnx".into(), shape: &shape, picture: None, prebuilt: &[] };
    let plan = engine::by_name("plan").unwrap();
    let mut session = plan.load(&network, LoadOptions { threads: engine::default_threads() }).unwrap();
    // What other threads of this process had in hand ends by itself.
    session.run().unwrap();
    let counts: Vec<u64> = (0..4)
        .map(|_| {
            let before = ALLOCATIONS.load(Relaxed);
            (0..200).for_each(|_| session.run().unwrap());
            ALLOCATIONS.load(Relaxed) - before
        })
        .collect();
    println!("a plan over 200 inferences: {counts:?} allocations");
    assert_eq!(counts.iter().min(), Some(&0), "{counts:?} allocations in 200 inferences of a plan");
}
