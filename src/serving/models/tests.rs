//! Models on demand, with copies of the demo model: loads, sessions, the budget, and that no file is touched.

use std::path::Path;

use super::*;
use crate::cache::{Cache, Host};
use crate::engine::{Backends, LoadOptions, Precision};
use crate::serving::{Engines, Kind, Wanted};

const SOON: Duration = Duration::from_secs(60);

/// A cache with copies of the demo model under several ids.
fn cache_of(ids: &[&str]) -> tempfile::TempDir {
    let cache = tempfile::tempdir().unwrap();
    for id in ids {
        let dir = cache.path().join(id);
        std::fs::create_dir_all(&dir).unwrap();
        let files: [(&str, &[u8]); 4] = [
            ("weights.onnx", demo::PARTS_ONNX),
            // Without the id that says whose it is.
            ("model_type.json", br#"{"project_task_type": "object-detection", "model_type": "yolov8n"}"#),
            ("environment.json", demo::ENVIRONMENT_JSON.as_ref()),
            ("class_names.txt", demo::CLASS_NAMES.as_ref()),
        ];
        for (name, bytes) in files {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
    }
    cache
}

/// Models on tract, which loads soonest.
fn models_of(cache: &Path, config: &ServingConfig) -> Arc<Models> {
    let loader = Loader {
        cache: Cache::at(cache),
        host: Host::default(),
        engines: Engines::choose(Wanted::Only("tract"), &[Precision::Fp32], &Backends::default()).unwrap(),
        options: LoadOptions { threads: 1 },
        semantics: None,
    };
    Models::new(loader, config).unwrap()
}

fn lease(models: &Arc<Models>, id: &str) -> Lease {
    models.lease(id, Instant::now() + SOON).unwrap()
}

fn ids(models: &Models) -> Vec<String> {
    models.list().into_iter().map(|model| model.model_id).collect()
}

#[test]
fn a_model_is_loaded_once_and_its_session_used_again() {
    let cache = cache_of(&["a/1"]);
    let models = models_of(cache.path(), &ServingConfig::default());
    assert!(lease(&models, "a/1").loaded_in().is_some());
    assert!(lease(&models, "a/1").loaded_in().is_none());
    let [model] = &models.list()[..] else { panic!("{:?}", models.list()) };
    assert_eq!((model.sessions, model.height, model.width), (1, 320, 320));
    assert!(model.bytes > 0);
}

#[test]
fn those_who_ask_at_once_get_sessions_up_to_the_limit_and_then_wait() {
    let cache = cache_of(&["a/1"]);
    let models = models_of(cache.path(), &ServingConfig { sessions: 2, ..ServingConfig::default() });
    let (first, second) = (lease(&models, "a/1"), lease(&models, "a/1"));
    assert_eq!(models.list()[0].sessions, 2);
    let busy = models.lease("a/1", Instant::now()).unwrap_err();
    assert_eq!(busy.kind(), Kind::Busy);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| lease(&models, "a/1"));
        drop(first);
        assert!(waiting.join().unwrap().loaded_in().is_none());
    });
    drop(second);
    assert_eq!(models.list()[0].sessions, 2);
}

#[test]
fn unloading_frees_the_memory_and_leaves_every_file() {
    let cache = cache_of(&["a/1", "b/1"]);
    let weights = cache.path().join("a/1/weights.onnx");
    let models = models_of(cache.path(), &ServingConfig::default());
    let busy = lease(&models, "a/1");
    drop(lease(&models, "b/1"));
    models.remove("a/1");
    models.remove("nobody/7");
    assert_eq!(ids(&models), ["b/1"]);
    models.clear();
    assert!(ids(&models).is_empty());
    assert!(models.memory().0 > 0, "a session is still at work");
    drop(busy);
    assert_eq!(models.memory().0, 0);
    assert_eq!(std::fs::read(weights).unwrap(), demo::PARTS_ONNX);
    drop(lease(&models, "a/1"));
}

#[test]
fn the_least_recently_used_makes_room_and_a_pinned_one_does_not() {
    let cache = cache_of(&["a/1", "b/1", "c/1"]);
    let one = {
        let models = models_of(cache.path(), &ServingConfig::default());
        drop(lease(&models, "a/1"));
        models.memory().0
    };
    let mut models = models_of(cache.path(), &ServingConfig::default());
    Arc::get_mut(&mut models).unwrap().budget_bytes = 2 * one;
    drop(lease(&models, "a/1"));
    drop(lease(&models, "b/1"));
    drop(lease(&models, "a/1"));
    drop(lease(&models, "c/1"));
    assert_eq!(ids(&models), ["a/1", "c/1"]);

    let mut models = models_of(cache.path(), &ServingConfig { pinned: vec!["b/1".into()], ..ServingConfig::default() });
    Arc::get_mut(&mut models).unwrap().budget_bytes = 2 * one;
    assert!(!models.ready());
    assert!(models.preload(SOON).is_empty());
    assert!(models.ready());
    drop(lease(&models, "a/1"));
    drop(lease(&models, "c/1"));
    assert_eq!(ids(&models), ["b/1", "c/1"]);
    let busy = lease(&models, "c/1");
    assert_eq!(models.lease("a/1", Instant::now()).unwrap_err().kind(), Kind::Busy, "what is in use stays");
    drop(busy);

    Arc::get_mut(&mut models).unwrap().budget_bytes = one / 2;
    let error = models.lease("a/1", Instant::now() + SOON).unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge);
    assert!(error.to_string().contains("serving.memory_mb"), "{error}");
}

#[test]
fn a_model_that_is_not_there_is_named_and_found_once_it_is() {
    let cache = cache_of(&["a/1"]);
    let models = models_of(cache.path(), &ServingConfig::default());
    let missing = models.lease("b/1", Instant::now() + SOON).unwrap_err();
    assert_eq!(missing.kind(), Kind::Missing);
    let dir = cache.path().join("b/1");
    assert!(missing.to_string().contains("`b/1`") && missing.to_string().contains(&dir.display().to_string()));
    std::fs::rename(cache.path().join("a"), cache.path().join("b")).unwrap();
    drop(lease(&models, "b/1"));
    assert_eq!(models.lease("x/y/z", Instant::now()).unwrap_err().kind(), Kind::InvalidId);
}

#[test]
fn a_broken_model_is_told_and_not_tried_again_at_once() {
    let cache = cache_of(&["a/1", "b/1"]);
    std::fs::write(cache.path().join("a/1/weights.onnx"), b"no network").unwrap();
    let models = models_of(cache.path(), &ServingConfig::default());
    let broken = models.lease("a/1", Instant::now() + SOON).unwrap_err();
    assert_eq!(broken.kind(), Kind::Broken);
    let again = models.lease("a/1", Instant::now() + SOON).unwrap_err();
    assert!(matches!(again, Error::Again { kind: Kind::Broken, .. }));
    let states: Vec<(String, bool)> =
        models.cached().into_iter().map(|cached| (cached.id, matches!(cached.state, CachedState::Broken(_)))).collect();
    assert_eq!(states, [("a/1".into(), true), ("b/1".into(), false), (demo::MODEL_ID.into(), false)]);
}

#[test]
fn requests_and_other_names_are_remembered() {
    let cache = cache_of(&["coco/3"]);
    let models = models_of(cache.path(), &ServingConfig::default());
    assert_eq!(lease(&models, "yolov8n-640").id(), "coco/3");
    for _ in 0..2 {
        models.note_request("yolov8n-640", "/infer/object_detection");
        models.note_request("coco/3", "/coco/3");
    }
    let model = &models.list()[0];
    assert_eq!(model.aliases, ["yolov8n-640"]);
    assert_eq!(model.paths, ["/coco/3", "/infer/object_detection"]);
    models.note_inferences("coco/3", 2, Duration::from_millis(4));
    models.note_error("coco/3");
    let usage = Usage { inferences: 2, errors: 1, busy: Duration::from_millis(4) };
    assert_eq!(models.usage(), [("coco/3".into(), usage)]);
}
