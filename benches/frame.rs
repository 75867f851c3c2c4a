//! One frame of the demo from pixels to delivered line and snapshot, beside the bare network in the same run.
//!
//! Prints the share of everything that is not the network. The two are timed in turn, frame by frame, so that a busy
//! machine slows both alike; medians are compared.

use std::sync::Arc;
use std::time::{Duration, Instant};

use firstlight::cache::Package;
use firstlight::demo;
use firstlight::engine::{InputShape, LoadOptions, Network, by_name};
use firstlight::frame::Frame;
use firstlight::model::{Model, Predictions, Request};
use firstlight::sink::{JsonLines, Outcome, Sink, Snapshot, Target};
use firstlight::source::demo::Conveyor;

const FRAMES: usize = 300;

fn main() {
    let (kind, environment, names) = (demo::MODEL_TYPE_JSON, demo::ENVIRONMENT_JSON, demo::CLASS_NAMES);
    let package = Package::embedded(demo::MODEL_ID, kind, environment, names, demo::PARTS_ONNX).expect("embedded");
    let engine = by_name("tract").expect("tract is built in");
    let options = LoadOptions { threads: 1 };
    let mut model = Model::load(&package, &*engine, options).expect("the demo model");
    let shape = |_: &_| InputShape { batch: 1, channels: 3, height: 320, width: 320 };
    let network =
        Network { bytes: demo::PARTS_ONNX, origin: "parts.onnx".into(), shape: &shape, picture: None, prebuilt: &[] };
    let mut bare = engine.load(&network, options).expect("the demo model");
    let lines = Target::parse_all(&["/dev/null".into()], 115_200).expect("a path");
    let mut sinks: [Box<dyn Sink>; 2] = [
        Box::new(Snapshot::new(Arc::clone(model.labels()), 80)),
        Box::new(JsonLines::open(&lines[0], Arc::clone(model.labels()), true).expect("/dev/null")),
    ];
    let (mut conveyor, mut frame, mut predictions) = (Conveyor::new(1), Frame::empty(), Predictions::default());
    let request = Request::default();
    let (mut whole, mut network_alone) = (Vec::new(), Vec::new());
    for _ in 0..FRAMES {
        conveyor.render(&mut frame);
        let started = Instant::now();
        model.infer(&frame, &request, &mut predictions).expect("a frame");
        let outcome = Outcome::new(&frame, "demo:", Ok(&predictions), started.elapsed());
        for sink in &mut sinks {
            sink.deliver(&outcome).expect("delivered");
        }
        whole.push(started.elapsed());
        let started = Instant::now();
        bare.run().expect("a run");
        network_alone.push(started.elapsed());
    }
    let (whole, network_alone) = (median(whole), median(network_alone));
    let overhead = whole.as_secs_f64() / network_alone.as_secs_f64() - 1.0;
    println!("640x480 frame, pixels to delivered answer: {:.2} ms", whole.as_secs_f64() * 1e3);
    println!("bare tract, the same network:              {:.2} ms", network_alone.as_secs_f64() * 1e3);
    println!("everything but the network:                {:.1} %", overhead * 100.0);
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
