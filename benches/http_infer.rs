//! What a request costs beside its inference: `POST /infer/object_detection` over loopback, a picture of 640×480 as JPEG
//! in base64, against the same model asked directly. One client, one worker, one thread of the engine.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use firstlight::cache::{Cache, Host};
use firstlight::config::ServingConfig;
use firstlight::engine::{Backends, LoadOptions, Precision};
use firstlight::frame::{self, Frame, Limits, Orientation};
use firstlight::http::{Api, Bytes, Routes, Server, ServerFacts, Snapshot};
use firstlight::model::{Predictions, Request};
use firstlight::pipeline::telemetry::{HealthLimits, Telemetry};
use firstlight::serving::pipeline::Pipelines;
use firstlight::serving::{Engines, Loader, Models, Wanted, Workers};

/// Of each kind; the median of so many is steady to a few hundredths.
const ROUNDS: usize = 200;
/// Gives a JPEG of about 130 kB, as cameras of this size do.
const JPEG_QUALITY: u8 = 95;
const MODEL: &str = firstlight::demo::MODEL_ID;
const LOAD_TIME_MAX: Duration = Duration::from_secs(60);

struct NoPictures;

impl Snapshot for NoPictures {
    fn newest(&self) -> Option<u64> {
        None
    }

    fn jpeg(&self) -> Option<Bytes> {
        None
    }
}

fn models() -> Arc<Models> {
    let loader = Loader {
        cache: Cache::at("/nowhere"),
        host: Host::default(),
        engines: Engines::choose(Wanted::Only("plan"), &[Precision::Fp32], &Backends::default()).expect("an engine"),
        options: LoadOptions { threads: 1 },
        semantics: None,
    };
    Models::new(loader, &ServingConfig { sessions: 1, ..ServingConfig::default() }).expect("no ids")
}

/// The median of [`ROUNDS`] times, ms.
fn median_ms(mut act: impl FnMut()) -> f64 {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            act();
            started.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2].as_secs_f64() * 1000.0
}

/// Sends a request and reads its answer, whose body is shorter than the buffer.
fn exchange(socket: &mut TcpStream, request: &[u8], answer: &mut [u8]) {
    socket.write_all(request).expect("a request is sent");
    let mut read = 0;
    while !answer[..read].ends_with(b"]}") {
        read += socket.read(&mut answer[read..]).expect("an answer comes");
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..read]));
}

fn main() {
    let picture = include_bytes!("../src/demo/golden.png");
    let frame = frame::decode(picture, Orientation::Apply, Limits::default()).expect("a picture");
    let mut jpeg = Vec::new();
    frame::encode_jpeg(&frame, JPEG_QUALITY, &mut jpeg).expect("a JPEG");
    let body = format!(
        r#"{{"api_key":"x","model_id":"{MODEL}","image":{{"type":"base64","value":"{}"}}}}"#,
        BASE64_STANDARD.encode(&jpeg)
    );

    let models = models();
    let mut lease = models.lease(MODEL, Instant::now() + LOAD_TIME_MAX).expect("the demo model");
    let (request, mut predictions) = (Request::default(), Predictions::default());
    let bare = median_ms(|| {
        lease.infer(&frame, &request, &mut predictions).expect("an inference");
    });
    let mut decoded = Frame::empty();
    let decode = median_ms(|| {
        frame::decode_into(&jpeg, Orientation::Apply, Limits::default(), &mut decoded).expect("a picture");
    });
    drop(lease);

    let limits = HealthLimits { frame_age_max: Duration::from_secs(3600), start_grace: Duration::from_secs(3600) };
    let telemetry = Arc::new(Telemetry::new(Instant::now(), limits));
    let facts = ServerFacts { version: "0".to_owned(), uuid: "bench".to_owned() };
    let workers = Workers::start(1).expect("a thread");
    let pipelines = Pipelines::new(models.clone(), &ServingConfig::default(), 80);
    let api = Api::new(models, workers, pipelines, Vec::new());
    let routes = Routes::new(telemetry, Arc::new(NoPictures), facts).with_api(api);
    let server = Server::start("127.0.0.1:0".parse().expect("an address"), routes).expect("a free port");
    let mut socket = TcpStream::connect(server.local_addr()).expect("the server listens");
    socket.set_nodelay(true).expect("a socket");
    let head = "POST /infer/object_detection HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json";
    let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut answer = vec![0; 64 << 10];
    let whole = median_ms(|| exchange(&mut socket, request.as_bytes(), &mut answer));

    println!("body of {} kB, medians of {ROUNDS}, ms", body.len() / 1000);
    println!("frame to predictions        {bare:7.3}");
    println!("request to answer           {whole:7.3}");
    println!("overhead                    {:7.3}", whole - bare);
    println!("  of which decoding JPEG    {decode:7.3}");
}
