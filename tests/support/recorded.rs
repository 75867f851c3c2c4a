//! Roboflow's recordings beside the checkout: their cases, and the caches they were made with, laid out from their
//! descriptions (`golden/caches/*.json`).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

pub fn golden() -> PathBuf {
    super::shared().join("golden")
}

pub fn read_json(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every recorded case, sorted so that those of one model and engine follow each other.
pub fn cases() -> Vec<Value> {
    let folder = golden().join("cases");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut cases: Vec<Value> = entries.map(|entry| read_json(&entry.expect("an entry").path())).collect();
    cases.sort_by_cached_key(|case| {
        [&case["model_file_sha256"], &case["engine"], &case["model_id"], &case["case"]].map(Value::to_string)
    });
    cases
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A recorded image, or one that may not be copied into the recordings.
pub fn image(name: &str) -> Result<Vec<u8>, String> {
    let path = super::find_file(&[golden().join("images")], name)?;
    fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The description of a model id's caches.
pub fn description(id: &str) -> Result<Value, String> {
    let path = golden().join("caches").join(format!("{}.json", id.replace('/', "_")));
    let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes the classic directory of a model below `root`; the weights are copied.
pub fn lay_out_classic(root: &Path, id: &str) -> Result<PathBuf, String> {
    let description = description(id)?;
    let classic = &description["classic"];
    let dir = root.join(classic["dir"].as_str().ok_or("no classic layout")?);
    for (name, text) in texts(&classic["files"])? {
        write(&dir.join(name), text)?;
    }
    let target = dir.join(classic["weights_file"].as_str().ok_or("no weights_file")?);
    copy(&weights(&description)?, &target)?;
    Ok(dir)
}

/// Writes the models-cache of a model below `root`, with absolute links into its blobs, as the library does; answers
/// with the directory of the package.
pub fn lay_out_models_cache(root: &Path, id: &str) -> Result<PathBuf, String> {
    let description = description(id)?;
    let part = &description["models_cache"];
    for (name, text) in texts(&part["files"])? {
        write(&root.join(name), text)?;
    }
    let blobs = root.join("shared-blobs");
    for (name, text) in texts(&part["text_blobs"])? {
        write(&blobs.join(name), text)?;
    }
    let blob = blobs.join(part["weights_blob"].as_str().ok_or("no weights_blob")?);
    copy(&weights(&description)?, &blob)?;
    let mut dir = PathBuf::new();
    for (link, target) in texts(&part["links"])? {
        let link = root.join(link);
        link.parent().ok_or("a link at the root")?.clone_into(&mut dir);
        let _ = fs::remove_file(&link);
        symlink(root.join(target), &link).map_err(|error| format!("{}: {error}", link.display()))?;
    }
    Ok(dir)
}

/// What may not be copied, or is made by a script, lies among the fetched files under its fixture's name.
pub fn weights(description: &Value) -> Result<PathBuf, String> {
    match description["model"]["file"].as_str() {
        Some(file) => Ok(golden().join(file)),
        None => {
            let id = description["model_id"].as_str().ok_or("no model_id")?;
            let fixture = id.split('/').next().and_then(|project| project.strip_prefix("g-")).ok_or("no fixture")?;
            super::find_file(&[], &format!("{fixture}.onnx"))
        }
    }
}

fn texts(object: &Value) -> Result<Vec<(&str, &str)>, String> {
    let object = object.as_object().ok_or("no such layout in the description")?;
    Ok(object.iter().map(|(name, text)| (name.as_str(), text.as_str().unwrap_or_default())).collect())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let parent = path.parent().ok_or("a file at the root")?;
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::create_dir_all(to.parent().ok_or("a file at the root")?).map_err(|error| error.to_string())?;
    fs::copy(from, to).map(drop).map_err(|error| format!("{}: {error}", from.display()))
}
