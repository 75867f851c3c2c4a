//! Roboflow's own answers, reproduced: every recorded case of both engines and every family, one line a case by name.
//!
//! A cache is laid out as Roboflow would have it, the model is loaded from it, and the JSON that `infer` prints is
//! compared with the recorded response; with every engine in turn, or those that `FIRSTLIGHT_ENGINES` names. Two images and three networks may not be or are not in the recordings;
//! `scripts/test` fetches or makes those and names their folder in `FIRSTLIGHT_FETCHED`. Nothing is passed over in
//! silence: a file that is missing fails its cases.

#[path = "../support/mod.rs"]
mod support;

mod compare;
mod outline;

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;

use firstlight::cache::{Cache, ModelId};
use firstlight::demo;
use firstlight::engine::{LoadOptions, by_name};
use firstlight::frame::{self, Frame, Limits};
use firstlight::model::{Answer, Model, Predictions, Request, Semantics};
use firstlight::source::demo::Conveyor;
use serde_json::Value;
use support::recorded;

fn main() -> ExitCode {
    let cases = recorded::cases();
    let cache = tempfile::tempdir().expect("a temporary directory");
    let engines = std::env::var("FIRSTLIGHT_ENGINES").unwrap_or_else(|_| "plan tract".into());
    let engines: Vec<&str> = engines.split_whitespace().collect();
    let mut bench = Bench { root: cache, network: String::new(), loaded: None };
    let filter: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let (mut passed, mut failed) = (0, BTreeMap::<String, usize>::new());
    let own = cases.iter().map(|case| (case, Layout::Own));
    let others = from_other_layouts(&cases).into_iter().map(|case| (case, Layout::Other));
    let all: Vec<(&Value, Layout)> = own.chain(others).collect();
    let each = engines.iter().flat_map(|engine| all.iter().map(move |(case, layout)| (*engine, *case, *layout)));
    for (engine, case, layout) in each {
        bench.network = engine.into();
        let suffix = if layout == Layout::Other { " from the other layout" } else { "" };
        let name = format!("{engine} {}{suffix}", case["case"].as_str().unwrap_or_default());
        if !filter.is_empty() && !filter.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        match bench.check(case, layout) {
            Ok(()) => {
                println!("test {name} ... ok");
                passed += 1;
            }
            Err(why) => {
                println!("test {name} ... FAILED: {why}");
                *failed.entry(format!("{engine} {} {}", case["engine"], case["family"])).or_default() += 1;
            }
        }
    }
    for (family, count) in &failed {
        println!("golden: {count} failed of {family}");
    }
    println!("golden: {passed} passed, {} failed", failed.values().sum::<usize>());
    if failed.is_empty() && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// From which cache a case's model is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// That of its engine.
    Own,
    /// That of the other engine, read as this one would.
    Other,
}

/// One case of each model id and engine whose network is small and which both engines know.
fn from_other_layouts(cases: &[Value]) -> Vec<&Value> {
    let mut seen = HashSet::new();
    let small = cases.iter().filter(|case| matches!(case["kind"].as_str(), Some("const" | "tiny")));
    // RF-DETR key points are the default engine's alone; what it recommends, and that a softmax is in the network
    // already, only its packages say.
    let both = small.filter(|case| {
        case["family"] != "decode-rfdetr-kp"
            && case["preprocessing_label"] != "recommended"
            && (case["model"] != "tiny-cls-softmax" || case["engine"] == "classic")
    });
    both.filter(|case| seen.insert((case["engine"].to_string(), case["model_id"].to_string()))).collect()
}

/// What a plan is compared on.
fn golden_frame() -> Frame {
    let mut frame = Frame::empty();
    Conveyor::new(demo::GOLDEN_SEED).render(&mut frame);
    frame
}

struct Bench {
    root: tempfile::TempDir,
    /// Name of the engine that runs the networks.
    network: String,
    /// The model in use, with its engine and id, or why it cannot be; loading the next frees it.
    loaded: Option<(String, Result<Box<Model>, String>)>,
}

impl Bench {
    fn check(&mut self, case: &Value, layout: Layout) -> Result<(), String> {
        let engine = case["engine"].as_str().ok_or("no engine")?;
        let id = case["model_id"].as_str().ok_or("no model_id")?;
        let key = format!("{}/{engine}/{id}/{layout:?}", self.network);
        if self.loaded.as_ref().is_none_or(|(loaded, _)| *loaded != key) {
            self.loaded = None;
            let model = self.load(engine, id, layout).map(Box::new);
            self.loaded = Some((key, model));
        }
        let Some((_, Ok(model))) = &mut self.loaded else {
            return Err(self.loaded.as_ref().and_then(|(_, model)| model.as_ref().err().cloned()).unwrap_or_default());
        };
        let request = Request::parse(&case["request"].to_string()).map_err(|error| error.to_string())?;
        let bytes = recorded::image(case["image"].as_str().ok_or("no image")?)?;
        let frame = frame::decode(&bytes, model.orientation(&request), Limits::default()).map_err(|e| e.to_string())?;
        let mut predictions = Predictions::default();
        model.infer(&frame, &request, &mut predictions).map_err(|error| error.to_string())?;
        let answer = Answer { predictions: &predictions, labels: model.labels(), with_ids: false };
        let found = serde_json::to_value(answer).map_err(|error| error.to_string())?;
        compare::responses(&case["response"], &found, compare::Bounds::of(case))
    }

    /// Lays out the model's cache as the engine has it, in place of the last, and loads it.
    fn load(&self, engine: &str, id: &str, layout: Layout) -> Result<Model, String> {
        let root = self.root.path().join("cache");
        let _ = std::fs::remove_dir_all(&root);
        let semantics = if engine == "classic" { Semantics::Classic } else { Semantics::Default };
        match (semantics, layout) {
            (Semantics::Classic, Layout::Own) | (Semantics::Default, Layout::Other) => {
                recorded::lay_out_classic(&root, id)?
            }
            _ => recorded::lay_out_models_cache(&root, id)?,
        };
        let id = ModelId::parse(id).map_err(|error| error.to_string())?;
        let package = Cache::at(&root).open(&id).map_err(|error| error.to_string())?;
        let package = match layout {
            Layout::Own => package,
            Layout::Other => semantics.read(package).map_err(|error| error.to_string())?,
        };
        let network = by_name(&self.network).ok_or_else(|| format!("no engine {}", self.network))?;
        Model::load_with(&package, &*network, LoadOptions { threads: 2 }, Some(&golden_frame))
            .map_err(|error| error.to_string())
    }
}
