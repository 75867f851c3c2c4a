//! Roboflow's recordings beside the checkout (`FIRSTLIGHT_SHARED`, default `../shared`): their cases, and the caches
//! they were made with.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{find_file, shared};

/// Weights that are not among the recordings' models, by SHA-256: `scripts/test` fetches or makes them.
const EXTERNAL: [(&str, &str); 3] = [
    ("eee43d6844141b8f3b9cea25dbb4faa9f6bfde117d49329a3be43cbfd42c2ac7", "fall-yolov8s.onnx"),
    ("c3c4618ad4c83361bde857a6ce7aa6d6f6f736b5f30efd5c212abf6e7007bf24", "rfdetr-nano-random.onnx"),
    ("b4d459a174debb17e501c72937ee67e2f99c10b568f1502744554c2403ee6553", "yolo-nas-s-random.onnx"),
];

pub fn golden() -> PathBuf {
    shared().join("golden")
}

pub fn read_json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every recorded case, sorted so that those of one model and engine follow each other.
pub fn cases() -> Vec<Value> {
    let folder = golden().join("cases");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut cases: Vec<Value> = entries.map(|entry| read_json(&entry.expect("an entry").path())).collect();
    let key = |case: &Value| {
        [&case["model_file_sha256"], &case["engine"], &case["model_id"], &case["case"]].map(Value::to_string)
    };
    cases.sort_by_cached_key(key);
    cases
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A recorded image, or one that may not be copied into the recordings.
pub fn image(name: &str) -> Result<Vec<u8>, String> {
    let path = find_file(&[golden().join("images")], name)?;
    std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// What is known of a model id's two layouts.
pub struct Recorded(Value);

impl Recorded {
    pub fn of(id: &str) -> Self {
        Self(read_json(&golden().join("caches").join(format!("{}.json", id.replace('/', "_")))))
    }

    /// Where the network lies.
    pub fn weights(&self) -> Result<PathBuf, String> {
        if let Some(file) = self.0["model"]["file"].as_str() {
            return Ok(golden().join(file));
        }
        let sha = self.0["model"]["sha256"].as_str().expect("a hash");
        let name = EXTERNAL.iter().find(|(known, _)| *known == sha).ok_or(format!("no model {sha} is known"))?.1;
        find_file(&[], name)
    }

    /// Writes the classic layout below `root`, with a link to the network.
    pub fn lay_out_classic(&self, root: &Path) -> Result<(), String> {
        let classic = &self.0["classic"];
        let dir = root.join(classic["dir"].as_str().ok_or("has no classic layout")?);
        write_files(&dir, &classic["files"])?;
        let target = dir.join(classic["weights_file"].as_str().expect("a name"));
        hard_link_or_copy(&self.weights()?, &target)
    }

    /// Writes the models-cache layout below `root`, its links absolute as Roboflow's are, and returns the folder of the
    /// model's packages.
    pub fn lay_out_models_cache(&self, root: &Path) -> Result<PathBuf, String> {
        let cache = &self.0["models_cache"];
        write_files(root, &cache["files"])?;
        let blobs = root.join("shared-blobs");
        write_files(&blobs, &cache["text_blobs"])?;
        hard_link_or_copy(&self.weights()?, &blobs.join(cache["weights_blob"].as_str().ok_or("has no weights blob")?))?;
        for (link, target) in cache["links"].as_object().expect("links") {
            let link = root.join(link);
            std::fs::create_dir_all(link.parent().expect("a parent")).map_err(|error| error.to_string())?;
            let _ = std::fs::remove_file(&link);
            let target = root.join(target.as_str().expect("a target"));
            std::os::unix::fs::symlink(target, &link).map_err(|error| format!("{}: {error}", link.display()))?;
        }
        Ok(root.join("models-cache").join(cache["slug"].as_str().expect("a slug")))
    }
}

fn write_files(dir: &Path, files: &Value) -> Result<(), String> {
    for (name, text) in files.as_object().ok_or("has no files")? {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).map_err(|error| error.to_string())?;
        let text = text.as_str().unwrap_or_default();
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// The recordings may be read-only or on another disk.
fn hard_link_or_copy(from: &Path, to: &Path) -> Result<(), String> {
    if to.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(to.parent().expect("a parent")).map_err(|error| error.to_string())?;
    let linked = std::fs::hard_link(from, to);
    linked.or_else(|_| std::fs::copy(from, to).map(|_| ())).map_err(|error| format!("{}: {error}", from.display()))
}
