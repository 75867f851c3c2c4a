//! Exports of the families this project serves, with random weights: each loads, and answers what ONNX Runtime answers.
//!
//! `scripts/export_models` writes them, with an input and ONNX Runtime's answer, into `FIRSTLIGHT_EXPORTS` (default
//! `target/exports`). Each is run by the binary itself (`firstlight bench --onnx FILE --input FILE --output DIR`), so
//! that `tests/device.sh` can put another one in its place, under emulation: `FIRSTLIGHT_EXPORTS_BINARY`, a command.
//! Words on the command line name the exports to run; default all. Every engine runs them, or those that
//! `FIRSTLIGHT_ENGINES` names.
//!
//! Agreement is a bound on `max |ours - theirs| / max |theirs|`, for each channel of each output by itself: a box
//! coordinate, the scores of one class, a mask coefficient, an anchor's or a query's place never. Networks that answer
//! the best 300 of their candidates order them by score; scores that differ by less than rounding may swap. Their rows
//! are paired, each with its own and across all outputs at once, before they are compared by the same bound. Nothing
//! else is forgiven: which candidates are picked must be the same. That is a fair demand because the script takes only
//! inputs to which ONNX Runtime itself picks the same when it is nudged.
//!
//! f16 networks are compared with ONNX Runtime's answer to the same weights in f32: its own f16 arithmetic rounds
//! between the layers, which moves the scores of these random networks by 0.03.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use firstlight::engine::npy::{self, Tensor};
use serde_json::Value;

/// The agreed bound.
const RELATIVE_MAX: f32 = 1e-3;

/// What `scripts/export_models.py` writes, by family and then by variant.
const EXPORTS: &[&str] = &[
    "yolov8n",
    "yolo11n",
    "yolo12n",
    "yolov9t",
    "yolov10n",
    "yolo26n",
    "yolov5nu",
    "yolov8n-seg",
    "yolov8n-pose",
    "yolov8n-cls",
    "yolo_nas_s",
    "yolox",
    "yolox-decoded",
    "rtdetr",
    "rfdetr-nano",
    "rfdetr-seg-nano",
    "yolov8n-160",
    "yolov8n-256x384",
    "yolov8n-batch2",
    "yolov8n-dynamic",
    "yolov8n-fp16",
    "yolov8n-fp16-io",
    "rfdetr-seg-nano-fp16",
];

fn main() -> ExitCode {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/exports");
    let folder = std::env::var_os("FIRSTLIGHT_EXPORTS").map_or(default, PathBuf::from);
    let mut names: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if names.is_empty() {
        names = EXPORTS.iter().map(|&name| name.to_owned()).collect();
    }
    let engines = std::env::var("FIRSTLIGHT_ENGINES").unwrap_or_else(|_| "plan tract".into());
    let engines: Vec<&str> = engines.split_whitespace().collect();
    let mut failed = 0;
    for (engine, name) in engines.iter().flat_map(|engine| names.iter().map(move |name| (engine, name))) {
        match check(engine, &folder.join(name)) {
            Ok(figures) => println!("test {engine} {name} ... ok ({figures})"),
            Err(why) => {
                println!("test {engine} {name} ... FAILED: {why}");
                failed += 1;
            }
        }
    }
    println!("exports: {} passed, {failed} failed", names.len() * engines.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one export and compares; the figures for its line.
fn check(engine: &str, folder: &Path) -> Result<String, String> {
    let case = folder.join("case.json");
    let case = std::fs::read(&case).map_err(|why| format!("{}: {why}; run scripts/export_models", case.display()))?;
    let case: Value = serde_json::from_slice(&case).map_err(|error| error.to_string())?;
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let figures = run(engine, folder, scratch.path())?;
    let expected = outputs(folder, &case)?;
    let found = outputs(scratch.path(), &case)?;
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        if found.shape != expected.shape {
            return Err(format!("output {index} is {:?}, expected {:?}", found.shape, expected.shape));
        }
    }
    let scales: Vec<Scale> = expected.iter().zip(axes(&case)).map(|(output, axis)| Scale::of(output, axis)).collect();
    let worst = if case["ranked"] == Value::Bool(true) {
        worst_of_rows(&found, &expected, &scales)
    } else {
        worst_of_places(&found, &expected, &scales)
    };
    let (off, place) = worst;
    if off > RELATIVE_MAX {
        return Err(format!("off by {off:.1e} relative at {place}; at most {RELATIVE_MAX:.0e}"));
    }
    Ok(format!(
        "off by {off:.1e}; load {:.0} ms, inference {:.1} ms, {} MB",
        figures["load_ms"].as_f64().unwrap_or_default(),
        figures["min_ms"].as_f64().unwrap_or_default(),
        figures["rss_mb"]
    ))
}

/// One inference by the binary; its figures. The outputs come into `scratch`.
fn run(engine: &str, folder: &Path, scratch: &Path) -> Result<Value, String> {
    let binary =
        std::env::var("FIRSTLIGHT_EXPORTS_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_firstlight").to_owned());
    let mut words = binary.split_whitespace();
    let mut command = Command::new(words.next().ok_or("FIRSTLIGHT_EXPORTS_BINARY is empty")?);
    command.args(words).args(["bench", "--engine", engine, "--threads", "2", "--iterations", "1", "--json", "--onnx"]);
    // Each plan is made anew and compared with tract.
    command.env("FIRSTLIGHT_STATE_DIR", "off");
    command.arg(folder.join("model.onnx")).arg("--input").arg(folder.join("input.npy")).arg("--output").arg(scratch);
    let output = command.output().map_err(|error| format!("{binary}: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

fn outputs(folder: &Path, case: &Value) -> Result<Vec<Tensor>, String> {
    let count = case["outputs"].as_array().map_or(0, Vec::len);
    let read = |index| {
        let path = folder.join(format!("output{index}.npy"));
        let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        npy::parse(&bytes).map_err(|why| format!("{}: {why}", path.display()))
    };
    (0..count).map(read).collect()
}

/// The axis of each output that holds its channels; none where the whole output is of one kind.
fn axes(case: &Value) -> impl Iterator<Item = Option<usize>> {
    let axis = |output: &Value| output["channels"].as_u64().and_then(|axis| usize::try_from(axis).ok());
    case["outputs"].as_array().into_iter().flatten().map(axis)
}

/// The largest magnitude of each channel of an expected output.
struct Scale {
    /// Values in a row that are of one channel.
    run: usize,
    max: Vec<f32>,
}

impl Scale {
    fn of(output: &Tensor, axis: Option<usize>) -> Self {
        let (run, channels) = match axis {
            Some(axis) => (output.shape[axis + 1..].iter().product(), output.shape[axis]),
            None => (output.data.len(), 1),
        };
        let mut scale = Self { run, max: vec![0.0; channels] };
        for (index, value) in output.data.iter().enumerate() {
            let channel = scale.channel(index);
            scale.max[channel] = scale.max[channel].max(value.abs());
        }
        scale
    }

    fn channel(&self, index: usize) -> usize {
        index / self.run % self.max.len()
    }

    /// How far `found` is from `expected`, the value at `index`, in parts of its channel's largest. Not a number is
    /// infinitely far.
    fn off(&self, index: usize, found: f32, expected: f32) -> f32 {
        let off = (found - expected).abs();
        if off == 0.0 {
            return 0.0;
        }
        let off = off / self.max[self.channel(index)];
        if off.is_nan() { f32::INFINITY } else { off }
    }
}

fn worst_of_places(found: &[Tensor], expected: &[Tensor], scales: &[Scale]) -> (f32, String) {
    let mut worst = (0.0, String::new());
    for (output, ((found, expected), scale)) in found.iter().zip(expected).zip(scales).enumerate() {
        for (index, (&found, &expected)) in found.data.iter().zip(&expected.data).enumerate() {
            let off = scale.off(index, found, expected);
            if off > worst.0 {
                let channel = scale.channel(index);
                worst = (off, format!("output {output}, channel {channel}, value {index}: {found}, not {expected}"));
            }
        }
    }
    worst
}

/// Pairs the rows `[N, rows, …]` of all outputs, each expected one with its own: the one in its place if that is near
/// enough, else the nearest that is left.
fn worst_of_rows(found: &[Tensor], expected: &[Tensor], scales: &[Scale]) -> (f32, String) {
    let (images, rows) = (expected[0].shape[0], expected[0].shape[1]);
    let off = |have: usize, want: usize| {
        let outputs = found.iter().zip(expected).zip(scales);
        outputs.fold(0.0_f32, |worst, ((found, expected), scale)| {
            let len = expected.data.len() / (images * rows);
            (0..len).fold(worst, |worst, place| {
                let (have, want) = (have * len + place, want * len + place);
                worst.max(scale.off(want, found.data[have], expected.data[want]))
            })
        })
    };
    let mut worst = (0.0, String::new());
    for image in 0..images {
        let mut free: Vec<usize> = (image * rows..(image + 1) * rows).collect();
        for want in free.clone() {
            let own = free.iter().position(|&have| have == want && off(have, want) <= RELATIVE_MAX);
            let nearest = || (0..free.len()).min_by(|&a, &b| off(free[a], want).total_cmp(&off(free[b], want)));
            let Some(position) = own.or_else(nearest) else { continue };
            let distance = off(free.swap_remove(position), want);
            if distance > worst.0 {
                worst = (distance, format!("image {image}, row {}", want - image * rows));
            }
        }
    }
    worst
}
