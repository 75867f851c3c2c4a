//! What the loop says when its parts fail: a source that is lost and comes back, an engine that fails for a while, a
//! sink that cannot be written. In every case it stays up, says `degraded` and why, and recovers by itself.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use firstlight::config::{BufferPolicy, Consumption, Discipline};
use firstlight::engine::{
    self, DeclaredInput, Engine, InputShape, LoadOptions, Network, Session, TensorInfo, TensorView,
};
use firstlight::frame::Frame;
use firstlight::model::{Model, Request};
use firstlight::pipeline::status::State;
use firstlight::pipeline::telemetry::HealthLimits;
use firstlight::pipeline::{Feed, Parts, Pipeline, Telemetry};
use firstlight::sink::{self, Outcome, Sink};
use firstlight::source::{self, Next, Source};
use support::PATIENCE;
use support::still::{Still, demo_package};

/// A camera whose cable the test pulls.
struct Camera {
    pulled: Arc<AtomicBool>,
}

impl Source for Camera {
    fn uri(&self) -> &str {
        "camera:"
    }

    fn live(&self) -> bool {
        true
    }

    fn next(&mut self, frame: &mut Frame, _: &mut String) -> Result<Next, source::Error> {
        std::thread::sleep(Duration::from_millis(5));
        if self.pulled.load(Relaxed) {
            return Err(source::Error::Lost("the camera is unplugged".into()));
        }
        frame.reshape(64, 48);
        frame.captured_at = Instant::now();
        Ok(Next::Frame)
    }
}

/// An engine whose sessions fail while the test says so.
#[derive(Debug)]
struct Shaky {
    failing: Arc<AtomicBool>,
}

#[derive(Debug)]
struct ShakySession {
    inner: Box<dyn Session>,
    failing: Arc<AtomicBool>,
}

impl Engine for Shaky {
    fn name(&self) -> &'static str {
        "shaky"
    }

    fn version(&self) -> String {
        "0".into()
    }

    fn probe(&self) -> Result<(), String> {
        Ok(())
    }

    fn load(&self, network: &Network<'_>, options: LoadOptions) -> Result<Box<dyn Session>, engine::Error> {
        let inner = Still.load(network, options)?;
        Ok(Box::new(ShakySession { inner, failing: Arc::clone(&self.failing) }))
    }
}

impl Session for ShakySession {
    fn declared(&self) -> DeclaredInput {
        self.inner.declared()
    }

    fn input_shape(&self) -> InputShape {
        self.inner.input_shape()
    }

    fn outputs(&self) -> &[TensorInfo] {
        self.inner.outputs()
    }

    fn threads(&self) -> usize {
        self.inner.threads()
    }

    fn input_mut(&mut self) -> &mut [f32] {
        self.inner.input_mut()
    }

    fn run(&mut self) -> Result<(), engine::Error> {
        if self.failing.load(Relaxed) {
            return Err(engine::Error::Run { engine: "shaky", why: "the device fell off the bus".into() });
        }
        self.inner.run()
    }

    fn output(&self, index: usize) -> TensorView<'_> {
        self.inner.output(index)
    }
}

/// An output whose disk is full while the test says so.
struct Disk {
    full: Arc<AtomicBool>,
}

impl Sink for Disk {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn deliver(&mut self, _: &Outcome<'_>) -> Result<(), sink::Error> {
        if self.full.load(Relaxed) {
            let cause = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(sink::Error::Write { target: "/data/lines".into(), cause });
        }
        Ok(())
    }
}

/// A loop of the three, and the switches that break them.
struct Rig {
    pulled: Arc<AtomicBool>,
    failing: Arc<AtomicBool>,
    full: Arc<AtomicBool>,
    telemetry: Arc<Telemetry>,
    pipeline: Pipeline,
}

impl Rig {
    fn start() -> Self {
        let switch = || Arc::new(AtomicBool::new(false));
        let (pulled, failing, full) = (switch(), switch(), switch());
        let limits = HealthLimits { frame_age_max: Duration::from_millis(500), start_grace: PATIENCE };
        let telemetry = Arc::new(Telemetry::new(Instant::now(), limits));
        let engine = Shaky { failing: Arc::clone(&failing) };
        let discipline = Discipline::of(BufferPolicy::Auto, Consumption::Auto, true);
        let pipeline = Pipeline::start(Parts {
            feeds: vec![Feed { source: Box::new(Camera { pulled: Arc::clone(&pulled) }), discipline }],
            model: Model::load(&demo_package(), &engine, LoadOptions { threads: 1 }).unwrap(),
            request: Request::default(),
            rules: None,
            sinks: vec![Box::new(Disk { full: Arc::clone(&full) })],
            frames_waiting: 2,
            frames_max: None,
            telemetry: Arc::clone(&telemetry),
        })
        .unwrap();
        let rig = Self { pulled, failing, full, telemetry, pipeline };
        rig.wait_for("running", |telemetry| telemetry.health().state == State::Running);
        rig
    }

    fn wait_for(&self, what: &str, fits: impl Fn(&Telemetry) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !fits(&self.telemetry) {
            assert!(Instant::now() < deadline, "never {what}: {:?}", self.telemetry.health());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_for_reason(&self, reason: &str) {
        self.wait_for(reason, |telemetry| {
            let health = telemetry.health();
            health.state == State::Degraded && health.reasons.iter().any(|found| found.contains(reason))
        });
    }

    fn wait_for_recovery(&self) {
        let frames = self.telemetry.frames();
        self.wait_for("recovered", |telemetry| {
            telemetry.health().state == State::Running && telemetry.frames() > frames + 3
        });
    }
}

#[test]
fn a_lost_source_is_said_and_opened_again() {
    let rig = Rig::start();
    rig.pulled.store(true, Relaxed);
    rig.wait_for_reason("source: the camera is unplugged");
    assert!(!rig.telemetry.health().flowing, "frames cannot flow");
    rig.wait_for_reason("loop: no frame for");
    rig.pulled.store(false, Relaxed);
    rig.wait_for_recovery();
    assert!(!rig.pipeline.finished());
}

#[test]
fn an_engine_that_fails_is_said_and_frames_are_counted_as_failed() {
    let rig = Rig::start();
    rig.failing.store(true, Relaxed);
    rig.wait_for_reason("engine: shaky: inference failed: the device fell off the bus");
    assert!(rig.telemetry.status().flow.failed > 0);
    rig.failing.store(false, Relaxed);
    rig.wait_for_recovery();
}

#[test]
fn a_full_disk_degrades_and_does_not_stop_frames() {
    let rig = Rig::start();
    rig.full.store(true, Relaxed);
    rig.wait_for_reason("sink: /data/lines: cannot be written");
    assert!(rig.telemetry.health().flowing, "frames flow all the same");
    rig.full.store(false, Relaxed);
    rig.wait_for_recovery();
    rig.pipeline.stop();
    rig.pipeline.join(PATIENCE);
}
