//! `model_config.json`: what the default engine's loader wrote down of one package of the models-cache layout
//! (SPEC §1.3).

use std::path::Path;

use serde_json::{Map, Value};

use super::digest::{is_hex, is_md5};
use super::inference_config::BATCH_MAX;
use super::json::{Object, object, shown};
use super::{Error, Recommended};

pub(super) const MANIFEST: &str = "model_config.json";

/// Most files of one package; a real one has four.
const ARTIFACTS_MAX: usize = 256;

/// The keys of `model_config.json` that are read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Manifest {
    pub architecture: String,
    pub task: String,
    pub backend: String,
    /// `unknown` when the package does not say.
    pub quantization: String,
    pub dynamic_batch: bool,
    pub static_batch: Option<usize>,
    /// The id whose directory this is.
    pub model_id: Option<String>,
    pub recommended: Option<Recommended>,
    pub trusted: bool,
    /// The network does its own NMS, with thresholds that were fixed at export.
    pub nms_fused: bool,
    /// In the manifest's order; empty in manifests that are older than the list.
    pub artifacts: Vec<Artifact>,
}

/// One file of a package, and what is known of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Artifact {
    /// Its path in the package's directory.
    pub file: String,
    pub md5: Option<String>,
    pub sha256: Option<String>,
}

impl Manifest {
    /// Parses the text of the file at `path` (named in errors only).
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let root = object(text, path)?;
        parse(&root).map_err(|message| Error::parse(path, message))
    }

    /// The MD5 that a file shall have.
    pub fn md5(&self, file: &str) -> Option<&str> {
        self.artifacts.iter().find(|artifact| artifact.file == file)?.md5.as_deref()
    }
}

fn parse(root: &Map<String, Value>) -> Result<Manifest, String> {
    let root = Object::new(root, "");
    let required = |key: &str| -> Result<String, String> {
        let text = root.name(key)?.filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| root.wrong(key, "a string"))
    };
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let listed = root.list("package_artifacts")?.map(Vec::as_slice).unwrap_or_default();
    if listed.len() > ARTIFACTS_MAX {
        return Err(format!("package_artifacts: {} files; at most {ARTIFACTS_MAX} are read", listed.len()));
    }
    Ok(Manifest {
        architecture: required("model_architecture")?,
        task: required("task_type")?,
        backend: required("backend_type")?,
        quantization: root.name("quantization")?.unwrap_or("unknown").to_owned(),
        dynamic_batch: root.boolean("dynamic_batch_size_supported")?.unwrap_or(false),
        static_batch: root.count("static_batch_size", BATCH_MAX)?,
        model_id: owned(root.name("model_id")?.or(root.name("canonical_model_id")?)),
        recommended: root.map("recommended_parameters")?.map(Recommended::parse).transpose()?,
        trusted: root.boolean("trusted_source")?.unwrap_or(false),
        nms_fused: root.map("model_features")?.is_some_and(|features| features.contains_key("nms_fused")),
        artifacts: listed.iter().map(artifact).collect::<Result<_, _>>()?,
    })
}

fn artifact(entry: &Value) -> Result<Artifact, String> {
    let map =
        entry.as_object().ok_or_else(|| format!("package_artifacts: expected objects, found {}", shown(entry)))?;
    let entry = Object::new(map, "package_artifacts: ");
    let file = entry.string("file_handle")?.filter(|file| is_safe_handle(file));
    let file = file.ok_or_else(|| entry.wrong("file_handle", "a file inside the package's directory"))?;
    let md5 = entry.string("md5_hash")?;
    if md5.is_some_and(|md5| !is_md5(md5)) {
        return Err(entry.wrong("md5_hash", "32 hex digits"));
    }
    let sha256 = entry.string("sha256_hash")?;
    if sha256.is_some_and(|sha256| !is_hex(sha256, 64)) {
        return Err(entry.wrong("sha256_hash", "64 hex digits"));
    }
    Ok(Artifact { file: file.into(), md5: md5.map(str::to_owned), sha256: sha256.map(str::to_owned) })
}

/// Roboflow's rule for names of a package's files: relative, no dot segments, plain characters.
fn is_safe_handle(file: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let is_safe = |segment: &str| {
        !segment.is_empty() && segment.len() <= 255 && !segment.ends_with('.') && segment.bytes().all(allowed)
    };
    file.split('/').all(is_safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONNX: &str = r#"{"offline_manifest_version": 4, "model_architecture": "yolov8", "task_type": "object-detection",
        "backend_type": "onnx", "model_features": null, "trusted_source": true, "model_dependencies": [],
        "recommended_parameters": {"confidence": 0.55, "per_class_confidence": {"circle": 0.3}}, "quantization": "fp16",
        "dynamic_batch_size_supported": false, "static_batch_size": 1, "canonical_model_id": "a/1",
        "package_artifacts": [{"file_handle": "weights.onnx", "md5_hash": "900150983cd24fb0d6963f7d28e17f72",
        "unhashed": false, "sha256_hash": null, "source_hash": null, "storage": "shared_blob"}],
        "dependency_package_paths": [], "model_id": "a/1"}"#;

    fn parse(text: &str) -> Result<Manifest, Error> {
        Manifest::parse(text, Path::new("model_config.json"))
    }

    #[test]
    fn a_manifest_is_read() {
        let manifest = parse(ONNX).unwrap();
        assert_eq!((manifest.architecture.as_str(), manifest.task.as_str()), ("yolov8", "object-detection"));
        assert_eq!((manifest.backend.as_str(), manifest.quantization.as_str()), ("onnx", "fp16"));
        assert_eq!((manifest.dynamic_batch, manifest.static_batch), (false, Some(1)));
        assert!(manifest.trusted && !manifest.nms_fused);
        assert_eq!(manifest.model_id.as_deref(), Some("a/1"));
        assert_eq!(manifest.recommended.as_ref().unwrap().confidence, Some(0.55));
        assert_eq!(manifest.md5("weights.onnx"), Some("900150983cd24fb0d6963f7d28e17f72"));
        assert_eq!(manifest.md5("class_names.txt"), None);
    }

    #[test]
    fn faults_name_their_key() {
        for (from, to, word) in [
            ("\"yolov8\"", "8", "model_architecture: expected a string of at most 512 bytes, found 8"),
            ("\"backend_type\"", "\"backend\"", "backend_type: expected a string, the key is missing"),
            ("\"static_batch_size\": 1", "\"static_batch_size\": 0", "static_batch_size"),
            ("\"weights.onnx\"", "\"../weights.onnx\"", "file_handle"),
            ("\"weights.onnx\"", "\"/etc/passwd\"", "file_handle"),
            ("\"weights.onnx\"", "\"a//b\"", "file_handle"),
            ("900150983cd24fb0d6963f7d28e17f72", "../../x", "md5_hash"),
            ("\"sha256_hash\": null", "\"sha256_hash\": \"ab\"", "sha256_hash"),
            ("0.55", "\"high\"", "confidence"),
            ("\"trusted_source\": true", "\"trusted_source\": 1", "trusted_source"),
        ] {
            assert!(ONNX.contains(from), "{from}");
            let message = parse(&ONNX.replace(from, to)).unwrap_err().to_string();
            assert!(message.contains(word), "{from} → {to}: {message}");
        }
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(&deep).is_err());
    }
}
