//! What a frame costs by the worker beside the same library in this process: the way there and back, the shared memory and
//! both checksums.
//!
//!     scripts/worker && FIRSTLIGHT_TEST_ONNXRUNTIME=/path/to/libonnxruntime.so cargo bench --features worker --bench worker [MODEL.onnx]
//!
//! Both run in turns on the same input, with one thread each, so that what else the machine does befalls both. Without a
//! model it is a YOLOv8n of random weights at 640x640, which `scripts/export_models` writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firstlight::cache::Weights;
use firstlight::engine::{
    Backends, DeclaredInput, Engine, InputShape, LoadOptions, Network, Precision, accel, engines,
};
use ort::session::Session;
use ort::value::TensorRef;

/// Pairs of inferences: enough for a median that stays.
const ROUNDS: usize = 60;
const SIDE: usize = 640;

fn main() {
    let Some(library) = std::env::var_os("FIRSTLIGHT_TEST_ONNXRUNTIME").map(PathBuf::from) else {
        println!("worker: not measured: FIRSTLIGHT_TEST_ONNXRUNTIME names no libonnxruntime.so");
        return;
    };
    let model = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let model = model.map_or_else(|| PathBuf::from("target/exports/yolov8n/model.onnx"), PathBuf::from);
    let weights = Weights::map(&model).unwrap_or_else(|error| panic!("{error}; scripts/export_models writes it"));

    let settings = accel::Options { onnxruntime: Some(library.clone()), ..accel::Options::default() };
    let accelerators = Some(Arc::new(accel::Settings::new(settings)));
    let backends = Backends { accelerators, ..Backends::default() };
    let all: Vec<Box<dyn Engine>> = engines(&backends, Precision::Fp32);
    let worker = all.iter().find(|engine| engine.name() == "onnxruntime").expect("it is an engine of this build");
    let shape = |declared: &DeclaredInput| InputShape {
        batch: 1,
        channels: 3,
        height: declared.height.unwrap_or(SIDE),
        width: declared.width.unwrap_or(SIDE),
    };
    let network =
        Network { bytes: weights.bytes(), origin: model.clone(), shape: &shape, picture: None, prebuilt: &[] };
    let mut remote = worker.load(&network, LoadOptions { threads: 1 }).expect("the worker loads it");
    let dims = remote.input_shape().dims();
    let input: Vec<f32> = (0..remote.input_shape().volume()).map(|at| (at % 255) as f32 / 255.0).collect();
    remote.input_mut().copy_from_slice(&input);

    let environment = ort::init_from(&library).expect("the library loads").build().expect("an environment");
    let mut session = Session::builder(&environment)
        .and_then(|builder| Ok(builder.with_intra_threads(1)?))
        .and_then(|mut builder| builder.commit_from_file(&model))
        .expect("the library loads it");

    let (mut here, mut there) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS + 5 {
        let started = Instant::now();
        let tensor = TensorRef::from_array_view((dims, input.as_slice())).expect("a tensor");
        let outputs = session.run(ort::inputs![tensor]).expect("an inference");
        let in_process = started.elapsed();
        drop(outputs);
        let started = Instant::now();
        remote.run().expect("an inference");
        let in_worker = started.elapsed();
        // The first ones warm up.
        if round >= 5 {
            here.push(in_process);
            there.push(in_worker);
        }
    }
    if let Some(trouble) = remote.standing().and_then(|standing| standing.trouble.as_ref()) {
        println!("worker: not measured: {trouble}");
        return;
    }
    let mut more: Vec<f64> = here.iter().zip(&there).map(|(here, there)| millis(*there) - millis(*here)).collect();
    more.sort_by(f64::total_cmp);
    println!(
        "{} at {dims:?}, 1 thread, {ROUNDS} rounds in turns: in process {:.2} ms, in the worker {:.2} ms (medians); the worker \
         takes {:.2} ms more a frame (median of the differences; quartiles {:.2} and {:.2})",
        model.display(),
        median(&mut here),
        median(&mut there),
        more[more.len() / 2],
        more[more.len() / 4],
        more[more.len() * 3 / 4],
    );
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    millis(times[times.len() / 2])
}
