//! A device to ask: telemetry that a test moves, pictures that a test makes, and a server over both.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use firstlight::http::{Bytes, Routes, Server, ServerFacts, Snapshot};
use firstlight::pipeline::cells::{SinkCell, SourceCell};
use firstlight::pipeline::status::{EngineFacts, ModelFacts, Rejected, text};
use firstlight::pipeline::telemetry::{Facts, HealthLimits, Telemetry};

/// What `/info` must say.
pub const VERSION: &str = "0.1.0-test";
pub const UUID: &str = "3TDIKk";
/// Needs every escape that JSON and Prometheus have for printable characters.
pub const MODEL: &str = r#"conveyor-"parts"\3"#;

/// Pictures made by the test: the bytes of the newest, and what happens while "encoding".
#[derive(Default)]
pub struct Pictures {
    newest: Mutex<Option<(u64, Bytes)>>,
    encode: Mutex<Option<Box<dyn Fn() + Send>>>,
    pub encoded: AtomicU32,
}

impl Pictures {
    pub fn show(&self, number: u64, jpeg: impl Into<Bytes>) {
        *self.newest.lock().unwrap() = Some((number, jpeg.into()));
    }

    /// Runs `act` in each encoding from now on.
    pub fn while_encoding(&self, act: impl Fn() + Send + 'static) {
        *self.encode.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(Box::new(act));
    }
}

/// Takes the camera of a device away, or the disk, in these words; `None` gives it back.
pub fn lose(telemetry: &Telemetry, camera: Option<&str>, disk: Option<&str>) {
    match camera {
        Some(why) => telemetry.sources()[0].set_lost(why.into()),
        None => drop(telemetry.sources()[0].frame_captured()),
    }
    telemetry.sinks()[0].set_problem(disk.as_ref().map(|why| why as &dyn std::fmt::Display));
}

impl Snapshot for Pictures {
    fn newest(&self) -> Option<u64> {
        self.newest.lock().unwrap().as_ref().map(|(number, _)| *number)
    }

    fn jpeg(&self) -> Option<Bytes> {
        self.encoded.fetch_add(1, SeqCst);
        if let Some(act) = self.encode.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).as_ref() {
            act();
        }
        self.newest.lock().unwrap().as_ref().map(|(_, jpeg)| jpeg.clone())
    }
}

pub struct Device {
    pub telemetry: Arc<Telemetry>,
    pub pictures: Arc<Pictures>,
    pub server: Server,
}

impl Device {
    /// Up, and nothing inferred yet. Its limits are so wide that only a test's own word makes it unhealthy.
    pub fn start() -> Self {
        Self::with_limits(HealthLimits {
            frame_age_max: Duration::from_secs(3600),
            start_grace: Duration::from_secs(3600),
        })
    }

    pub fn with_limits(limits: HealthLimits) -> Self {
        let telemetry = Arc::new(Telemetry::new(Instant::now(), limits));
        let camera = SourceCell::new("v4l2:/dev/video0?width=1280&format=mjpeg", true, None);
        telemetry.set_ends(vec![camera], vec![SinkCell::new("/data/lines", None)]);
        let pictures = Arc::new(Pictures::default());
        let server = serve("127.0.0.1:0", &telemetry, &pictures).unwrap();
        Self { telemetry, pictures, server }
    }

    /// As above, with its facts known and `frames` frames of 20 ms behind it.
    pub fn running(frames: u32) -> Self {
        let device = Self::start();
        device.telemetry.set_facts(facts(MODEL));
        for _ in 0..frames {
            device.telemetry.frame_done(Instant::now().checked_sub(Duration::from_millis(20)).unwrap());
        }
        device
    }
}

pub fn serve(
    listen: &str,
    telemetry: &Arc<Telemetry>,
    pictures: &Arc<Pictures>,
) -> Result<Server, firstlight::http::Error> {
    Server::start(listen.parse().unwrap(), routes(telemetry, pictures))
}

pub fn routes(telemetry: &Arc<Telemetry>, pictures: &Arc<Pictures>) -> Routes {
    let facts = ServerFacts { version: VERSION.to_owned(), uuid: UUID.to_owned() };
    Routes::new(telemetry.clone(), pictures.clone(), facts)
}

pub fn facts(model: &str) -> Facts {
    let rejected = [("tensorrt", "libnvinfer.so.10 not found"), ("tflite", "no TFLite package for this model")];
    Facts {
        model: ModelFacts {
            id: text(model),
            task: text("object-detection"),
            sha256: text("9f2c51d0e8b7a6f4432119c0d8e77a5566b1c2d3e4f5061728394a5b6c7d8e9f"),
        },
        engine: EngineFacts {
            name: text("tract"),
            version: text("0.23.9"),
            precision: text("fp32"),
            accuracy: None,
            threads: 4,
            rejected: rejected.into_iter().map(|(name, why)| Rejected { name: text(name), why: text(why) }).collect(),
        },
        board_name: text("raspberry-pi-5"),
        boot_id: text("0b7c3f0e-6a55-4c1e-9d0a-2f6f4f3f7c11"),
    }
}
