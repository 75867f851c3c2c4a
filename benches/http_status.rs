//! What asking for the status costs: composing and rendering the document, and a whole request over loopback.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use divan::{Bencher, black_box};
use firstlight::http::{Bytes, Routes, Server, ServerFacts, Snapshot};
use firstlight::pipeline::status::RENDERED_BYTES_MAX;
use firstlight::pipeline::telemetry::{HealthLimits, Telemetry};

struct NoPictures;

impl Snapshot for NoPictures {
    fn newest(&self) -> Option<u64> {
        None
    }

    fn jpeg(&self) -> Option<Bytes> {
        None
    }
}

/// Telemetry whose rings are full, as after ten seconds of work.
fn busy() -> Arc<Telemetry> {
    let limits = HealthLimits { frame_age_max: Duration::from_secs(3600), start_grace: Duration::from_secs(3600) };
    let telemetry = Telemetry::new(Instant::now(), limits);
    for _ in 0..300 {
        telemetry.frame_done(Instant::now());
    }
    Arc::new(telemetry)
}

#[divan::bench]
fn compose_and_render(bencher: Bencher) {
    let telemetry = busy();
    let mut buffer = [0; RENDERED_BYTES_MAX];
    bencher.bench_local(|| black_box(telemetry.status()).render(&mut buffer).len());
}

/// One `GET` of `path` at a time on a connection that stays open.
#[divan::bench(args = ["/healthz", "/status", "/metrics"])]
fn request(bencher: Bencher, path: &str) {
    let facts = ServerFacts { version: "0".to_owned(), uuid: "bench".to_owned() };
    let routes = Routes::new(busy(), Arc::new(NoPictures), facts);
    let server = Server::start("127.0.0.1:0".parse().expect("an address"), routes).expect("a free port");
    let mut socket = TcpStream::connect(server.local_addr()).expect("the server listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n");
    let mut answer = [0; 2 * RENDERED_BYTES_MAX];
    bencher.bench_local(|| {
        socket.write_all(request.as_bytes()).expect("a request is sent");
        // The answers are smaller than what the server writes at once, so one read takes all of it.
        socket.read(&mut answer).expect("an answer comes")
    });
}

fn main() {
    divan::main();
}
