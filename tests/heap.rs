//! Nothing grows: the whole loop under a counting allocator.
//!
//! Twice: around an engine that allocates nothing, which shows what our own code does a frame, and around tract, whose
//! own allocations are printed. One test, because the counters are the process's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use firstlight::cache::Package;
use firstlight::config::{BufferConfig, BufferPolicy};
use firstlight::demo;
use firstlight::engine::{
    self, DeclaredInput, Engine, InputShape, LoadOptions, Network, Session, TensorInfo, TensorView,
};
use firstlight::frame::Orientation;
use firstlight::model::{Model, Request};
use firstlight::pipeline::telemetry::HealthLimits;
use firstlight::pipeline::{Parts, Pipeline, Telemetry};
use firstlight::sink::{self, JsonLines, Outcome, Sink, Snapshot};
use firstlight::source;

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

/// An engine whose network always sees the same two parts and never allocates.
#[derive(Debug)]
struct Still;

#[derive(Debug)]
struct StillSession {
    input: Vec<f32>,
    output: Vec<f32>,
    infos: Vec<TensorInfo>,
}

const OUTPUT: [usize; 3] = [1, 7, 2100];

impl Engine for Still {
    fn name(&self) -> &'static str {
        "still"
    }

    fn version(&self) -> &'static str {
        "0"
    }

    fn probe(&self) -> Result<(), String> {
        Ok(())
    }

    fn load(&self, _: &Network<'_>, _: LoadOptions) -> Result<Box<dyn Session>, engine::Error> {
        let mut output = vec![0.0; OUTPUT.iter().product()];
        for (anchor, class) in [(10, 0), (500, 2)] {
            for (row, value) in [160.0, 160.0, 40.0, 40.0].into_iter().enumerate() {
                output[row * OUTPUT[2] + anchor] = value;
            }
            output[(4 + class) * OUTPUT[2] + anchor] = 0.9;
        }
        let infos = vec![TensorInfo { name: "output0".into(), shape: OUTPUT.to_vec() }];
        Ok(Box::new(StillSession { input: vec![0.0; 3 * 320 * 320], output, infos }))
    }
}

impl Session for StillSession {
    fn declared(&self) -> DeclaredInput {
        DeclaredInput { batch: Some(1), channels: Some(3), height: Some(320), width: Some(320) }
    }

    fn input_shape(&self) -> InputShape {
        InputShape { batch: 1, channels: 3, height: 320, width: 320 }
    }

    fn outputs(&self) -> &[TensorInfo] {
        &self.infos
    }

    fn threads(&self) -> usize {
        1
    }

    fn input_mut(&mut self) -> &mut [f32] {
        &mut self.input
    }

    fn run(&mut self) -> Result<(), engine::Error> {
        Ok(())
    }

    fn output(&self, _: usize) -> TensorView<'_> {
        TensorView { shape: &OUTPUT, data: &self.output }
    }
}

/// Notes the counters when a frame comes by.
struct Gauge {
    readings: Arc<[Reading; 2]>,
    at: [u64; 2],
}

#[derive(Default)]
struct Reading {
    live_bytes: AtomicIsize,
    allocations: AtomicU64,
}

impl Sink for Gauge {
    fn deliver(&mut self, outcome: &Outcome<'_>) -> Result<(), sink::Error> {
        if let Some(index) = self.at.iter().position(|&at| at == outcome.frame.id) {
            self.readings[index].live_bytes.store(LIVE_BYTES.load(Relaxed), Relaxed);
            self.readings[index].allocations.store(ALLOCATIONS.load(Relaxed), Relaxed);
        }
        Ok(())
    }
}

/// Bytes by which the heap grew and allocations made, between the end of warm-up and 1,000 frames later.
fn measure(engine: &dyn Engine, warm_up: u64) -> (isize, u64) {
    const FRAMES: u64 = 1_000;
    const TAIL: u64 = 20;
    let dir = tempfile::tempdir().unwrap();
    let (model, environment, names) = (demo::MODEL_TYPE_JSON, demo::ENVIRONMENT_JSON, demo::CLASS_NAMES);
    let package = Package::embedded(demo::MODEL_ID, model, environment, names, demo::PARTS_ONNX).unwrap();
    let model = Model::load(&package, engine, LoadOptions { threads: 1 }).unwrap();
    let readings: Arc<[Reading; 2]> = Arc::default();
    let sinks: Vec<Box<dyn Sink>> = vec![
        Box::new(Snapshot::new(package.class_names.clone(), package.colors.clone(), 80)),
        Box::new(
            JsonLines::open(dir.path().join("lines").to_str().unwrap(), package.class_names.clone(), Instant::now())
                .unwrap(),
        ),
        Box::new(Gauge { readings: Arc::clone(&readings), at: [warm_up, warm_up + FRAMES] }),
    ];
    let limits = HealthLimits { frame_age_max: Duration::from_secs(60), start_grace: Duration::from_secs(60) };
    let pipeline = Pipeline::start(Parts {
        source: source::open("demo:?fps=0", Orientation::Apply).unwrap(),
        model,
        request: Request::default(),
        sinks,
        buffer: BufferConfig { frames: 2, policy: BufferPolicy::Wait },
        // A few more than are measured: the end frees the model.
        frames_max: Some(warm_up + FRAMES + TAIL),
        telemetry: Arc::new(Telemetry::new(Instant::now(), limits)),
    })
    .unwrap();
    while !pipeline.finished() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let summary = pipeline.join(Duration::from_secs(1));
    assert_eq!((summary.inferred, summary.failed), (warm_up + FRAMES + TAIL, 0));
    let [before, after] = &*readings;
    (
        after.live_bytes.load(Relaxed) - before.live_bytes.load(Relaxed),
        after.allocations.load(Relaxed) - before.allocations.load(Relaxed),
    )
}

#[test]
fn the_heap_is_flat_over_a_thousand_frames() {
    // The scene reuses its sprites' buffers; each has held a part of the largest size only after thousands of frames.
    let (grown, allocations) = measure(&Still, 10_000);
    println!("our own code over 1,000 frames: heap grew by {grown} bytes, {allocations} allocations");
    // One sprite's buffer, at most, meets its largest part as late as this.
    assert!(grown.abs() <= 64 * 1024, "the heap grew by {grown} bytes over 1,000 frames");
    assert!(allocations <= 100, "{allocations} allocations in 1,000 frames: something allocates a frame");

    let tract = engine::by_name("tract").unwrap();
    let (grown, allocations) = measure(&*tract, 100);
    println!("with tract over 1,000 frames: heap grew by {grown} bytes, {} allocations a frame", allocations / 1_000);
    assert!(grown.abs() <= 256 * 1024, "the heap grew by {grown} bytes over 1,000 frames with tract");
}
