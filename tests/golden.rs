//! Roboflow's own answers, reproduced: every recorded case of the classic engine whose model is of the YOLOv8
//! detection family, one test a case by name.
//!
//! The recordings lie beside the checkout (`FIRSTLIGHT_SHARED`, default `../shared`), in `golden/`. Two of their
//! images and one of their models may not be copied into it; `scripts/test` fetches those and names the folder in
//! `FIRSTLIGHT_FETCHED`. Nothing is passed over in silence: a file that is missing fails its cases.

mod support;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use firstlight::cache::{Cache, ModelId};
use firstlight::engine::{LoadOptions, by_name};
use firstlight::frame::{self, Limits};
use firstlight::model::{Detection, Labels, Model, Predictions, Request};
use serde_json::Value;

/// Bounds: a pixel, because whole-pixel rounding can fall the other way; and what tract's sums may differ from ONNX
/// Runtime's. Images are decoded to the same bits, JPEG included.
const BOX_PX_MAX: f64 = 1.0;
const CONFIDENCE_MAX: f64 = 0.002;
/// Decode-only networks answer the same whatever they see.
const CONFIDENCE_MAX_CONST: f64 = 1e-6;

/// Families of the recordings that share YOLOv8's output.
const FAMILIES: &[&str] =
    &["yolov8-det", "yolov11-det", "yolov8-det-real", "decode-v8det", "decode-v9det", "decode-v12det"];

fn main() -> ExitCode {
    let golden = support::shared().join("golden");
    let cases = cases(&golden);
    if cases.is_empty() {
        eprintln!("no recorded case in {}: expected classic.*.json", golden.join("cases").display());
        return ExitCode::FAILURE;
    }
    let cache = tempfile::tempdir().expect("a temporary directory");
    let mut bench = Bench { golden, cache: cache.path().into(), models: HashMap::new() };
    let filter: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let (mut passed, mut failed) = (0, 0);
    for case in cases {
        let name = case["case"].as_str().unwrap_or_default().to_owned();
        if !filter.is_empty() && !filter.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        match bench.check(&case) {
            Ok(()) => {
                println!("test {name} ... ok");
                passed += 1;
            }
            Err(why) => {
                println!("test {name} ... FAILED: {why}");
                failed += 1;
            }
        }
    }
    println!("golden: {passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Cases of the families above, grouped by model so that each is loaded once.
fn cases(golden: &Path) -> Vec<Value> {
    let Ok(entries) = std::fs::read_dir(golden.join("cases")) else { return Vec::new() };
    let mut cases: Vec<Value> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("classic.")))
        .map(|path| serde_json::from_slice(&std::fs::read(path).expect("a case")).expect("a case is JSON"))
        .filter(|case: &Value| FAMILIES.contains(&case["family"].as_str().unwrap_or_default()))
        .collect();
    cases.sort_by_key(|case| (case["model_id"].to_string(), case["case"].to_string()));
    cases
}

struct Bench {
    golden: PathBuf,
    cache: PathBuf,
    /// The one in use; loading the next frees it.
    models: HashMap<String, Model>,
}

impl Bench {
    fn check(&mut self, case: &Value) -> Result<(), String> {
        let id = case["model_id"].as_str().ok_or("no model_id")?.to_owned();
        if !self.models.contains_key(&id) {
            self.models.clear();
            self.lay_out(&id)?;
            let package = Cache::at(&self.cache).open(&ModelId::parse(&id).map_err(|e| e.to_string())?);
            let package = package.map_err(|error| error.to_string())?;
            let engine = by_name("tract").expect("tract is built in");
            let model = Model::load(&package, &*engine, LoadOptions { threads: 2 }).map_err(|e| e.to_string())?;
            self.models.insert(id.clone(), model);
        }
        let model = self.models.get_mut(&id).expect("just loaded");
        let name = case["image"].as_str().ok_or("no image")?;
        let path = support::find_file(&[self.golden.join("images")], name)?;
        let request = Request::parse(&case["request"].to_string()).map_err(|error| error.to_string())?;
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let frame = frame::decode(&bytes, model.orientation(&request), Limits::default()).map_err(|e| e.to_string())?;
        let mut predictions = Predictions::default();
        model.infer(&frame, &request, &mut predictions).map_err(|error| error.to_string())?;
        let confidence_max = if case["kind"].as_str() == Some("const") { CONFIDENCE_MAX_CONST } else { CONFIDENCE_MAX };
        let image = &case["response"]["image"];
        if (image["width"].as_u64(), image["height"].as_u64())
            != (Some(predictions.image.width as u64), Some(predictions.image.height as u64))
        {
            return Err(format!("image {:?}, expected {image}", predictions.image));
        }
        let expected = case["response"]["predictions"].as_array().ok_or("no predictions")?;
        compare(expected, &predictions.detections, model.labels(), confidence_max)
    }

    /// Writes the classic cache directory of a model as `assemble_cache.py` does, with links to its weights.
    fn lay_out(&self, id: &str) -> Result<(), String> {
        let description = self.golden.join("caches").join(format!("{}.json", id.replace('/', "_")));
        let text = std::fs::read(&description).map_err(|error| format!("{}: {error}", description.display()))?;
        let description: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let classic = &description["classic"];
        let dir = self.cache.join(classic["dir"].as_str().ok_or("no classic layout")?);
        std::fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
        for (name, text) in classic["files"].as_object().ok_or("no files")? {
            std::fs::write(dir.join(name), text.as_str().unwrap_or_default()).map_err(|error| error.to_string())?;
        }
        let weights = match description["model"]["file"].as_str() {
            Some(file) => self.golden.join(file),
            None => support::find_file(&[], "fall-yolov8s.onnx")?,
        };
        let target = dir.join(classic["weights_file"].as_str().ok_or("no weights_file")?);
        std::fs::copy(&weights, target).map_err(|error| format!("{}: {error}", weights.display()))?;
        Ok(())
    }
}

/// Same count and classes, every box and confidence within bounds. Each expected detection takes the free one of its
/// class that is nearest, so equal scores may come in another order.
fn compare(expected: &[Value], found: &[Detection], labels: &Labels, confidence_max: f64) -> Result<(), String> {
    if expected.len() != found.len() {
        return Err(format!("{} detections, expected {}", found.len(), expected.len()));
    }
    let mut free: Vec<&Detection> = found.iter().collect();
    for want in expected {
        let number = |key: &str| want[key].as_f64().unwrap_or(f64::NAN);
        let class = want["class"].as_str().unwrap_or_default();
        // Corners, not centre and size: rounding moves a corner by a pixel, and with it a width.
        let (half_w, half_h) = (number("width") / 2.0, number("height") / 2.0);
        let corners = [number("x") - half_w, number("y") - half_h, number("x") + half_w, number("y") + half_h];
        let distance = |have: &Detection| {
            have.corners.iter().zip(corners).map(|(have, want)| (have - want).abs()).fold(0.0, f64::max)
        };
        let drift = |have: &Detection| (f64::from(have.confidence) - number("confidence")).abs();
        let candidate = free
            .iter()
            .enumerate()
            .filter(|(_, have)| labels.class_name(have.class_id) == Some(class))
            .min_by(|(_, a), (_, b)| (distance(a) + drift(a)).total_cmp(&(distance(b) + drift(b))));
        let Some((index, have)) = candidate else { return Err(format!("no {class} left for {want}")) };
        if distance(have) > BOX_PX_MAX || drift(have) > confidence_max {
            return Err(format!(
                "{class} off by {:.2} px and {:.5} confidence: found {have:?}, expected {want}",
                distance(have),
                drift(have)
            ));
        }
        free.swap_remove(index);
    }
    Ok(())
}
