//! Both of Roboflow's cache layouts as a device meets them: moved, copied, read-only, damaged, with several packages.
//! The caches are those that the real library wrote, laid out from the recordings.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use firstlight::cache::{Cache, Error, Host, Layout, LayoutKind, ModelId, Package};
use serde_json::{Value, json};
use support::firstlight;
use support::recorded::{lay_out_classic, lay_out_models_cache};

const DETECTOR: &str = "g-const-v8det/1";

fn open(root: &Path, id: &str) -> Result<Package, Error> {
    Cache::at(root).open(&ModelId::parse(id).unwrap())
}

fn models_cache(package: &Package) -> &firstlight::cache::ModelsCache {
    match &package.layout {
        Layout::ModelsCache(layout) => layout,
        Layout::Classic { .. } => panic!("a classic package"),
    }
}

/// A cache with one model in the models-cache layout, and the directory of its package.
fn one_model(id: &str) -> (tempfile::TempDir, PathBuf) {
    let cache = tempfile::tempdir().unwrap();
    let package = lay_out_models_cache(cache.path(), id).unwrap();
    (cache, package)
}

#[test]
fn every_recorded_cache_opens_in_both_layouts() {
    let mut opened = 0;
    for entry in fs::read_dir(support::shared().join("golden/caches")).unwrap() {
        let description: Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        // A hundred megabytes of noise each, made by a script: the texts are as those of their siblings.
        if description["model"].get("made_by").is_some() {
            continue;
        }
        let id = description["model_id"].as_str().unwrap();
        let root = tempfile::tempdir().unwrap();
        lay_out_models_cache(root.path(), id).unwrap();
        let package = open(root.path(), id).unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(package.id, id);
        let layout = models_cache(&package);
        assert_eq!((layout.package_id.as_str(), layout.backend.as_str()), ("onnxfp32st1", "onnx"), "{id}");
        assert!(!package.class_names.is_empty() && package.class_names.len() == package.colors.len(), "{id}");
        assert_eq!(package.keypoints.is_empty(), package.kind.task != "keypoint-detection", "{id}");
        if description.get("classic").is_some() {
            let root = tempfile::tempdir().unwrap();
            lay_out_classic(root.path(), id).unwrap();
            let package = open(root.path(), id).unwrap_or_else(|error| panic!("{id}: {error}"));
            assert_eq!(package.layout_kind(), LayoutKind::Classic, "{id}");
            assert_eq!(package.keypoints.is_empty(), package.kind.task != "keypoint-detection", "{id}");
        }
        opened += 1;
    }
    assert!(opened > 100, "{opened} recorded caches");
}
