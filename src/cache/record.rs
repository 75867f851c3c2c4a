//! `offline-weights-registry/{slug}.json`: what the weights API said of a model when its cache was made (SPEC §1.3).
//!
//! It only helps: a model loads without it, so what cannot be read counts as not there.

use std::path::Path;

use serde_json::{Map, Value};

use super::Recommended;
use super::json::NAME_BYTES_MAX;
use super::reader::Reader;

pub(super) const REGISTRY: &str = "offline-weights-registry";

/// Most records that are searched for an alias.
const RECORDS_MAX: usize = 10_000;

/// The keys of a record that are read.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub model_id: String,
    aliases: Vec<String>,
    recommended: Option<Recommended>,
    pub packages: Vec<RecordedPackage>,
}

/// One package that the API offered; its files need not be here.
#[derive(Clone, Debug, Default)]
pub(super) struct RecordedPackage {
    pub package_id: String,
    pub backend: String,
    pub quantization: String,
    pub recommended: Option<Recommended>,
    /// Of the ONNX file.
    pub opset: Option<u64>,
    pub requirements: Option<Requirements>,
}

/// The machine that a package was compiled for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Requirements {
    /// `jetson` or `gpu-server`.
    pub kind: String,
    pub l4t_version: Option<String>,
    pub device_name: Option<String>,
    pub compute_capability: Option<String>,
    pub tensorrt_version: Option<String>,
    /// A newer TensorRT will do.
    pub forward_compatible: bool,
    /// Any device of the same compute capability will do.
    pub same_capability: bool,
}

impl Record {
    /// The record of a directory name below `models-cache`.
    pub fn read(root: &Path, slug: &str) -> Option<Self> {
        let reader = Reader { root, dir: &root.join(REGISTRY) };
        Self::parse(&reader.text(&format!("{slug}.json")).ok()?)
    }

    /// The record of a model that was asked for by this other name.
    pub fn of_alias(root: &Path, alias: &str) -> Option<Self> {
        let files = std::fs::read_dir(root.join(REGISTRY)).ok()?.take(RECORDS_MAX).filter_map(Result::ok);
        let mut names: Vec<String> = files.filter_map(|file| file.file_name().into_string().ok()).collect();
        names.sort();
        let slugs = names.iter().filter_map(|name| name.strip_suffix(".json"));
        slugs.filter_map(|slug| Self::read(root, slug)).find(|record| record.aliases.iter().any(|name| name == alias))
    }

    pub fn package(&self, package_id: &str) -> Option<&RecordedPackage> {
        self.packages.iter().find(|package| package.package_id == package_id)
    }

    /// Thresholds for a package: its own, else those of the model.
    pub fn recommended(&self, package_id: &str) -> Option<&Recommended> {
        self.package(package_id).and_then(|package| package.recommended.as_ref()).or(self.recommended.as_ref())
    }

    fn parse(text: &str) -> Option<Self> {
        let root: Map<String, Value> = serde_json::from_str(text).ok()?;
        let list = |key: &str| root.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Some(Self {
            model_id: name(root.get("canonical_model_id")?)?,
            aliases: list("requested_aliases").iter().filter_map(name).collect(),
            recommended: root.get("model").and_then(recommended),
            packages: list("packages").iter().filter_map(package).collect(),
        })
    }
}

/// A string of a name's length.
fn name(value: &Value) -> Option<String> {
    value.as_str().filter(|name| name.len() <= NAME_BYTES_MAX).map(str::to_owned)
}

fn recommended(of: &Value) -> Option<Recommended> {
    Recommended::parse(of["recommended_parameters"].as_object()?).ok()
}

fn package(value: &Value) -> Option<RecordedPackage> {
    let text = |key: &str| value.get(key).and_then(name).unwrap_or_default();
    let requirements = value["environment_requirements"].as_object().map(|needs| {
        let text = |key: &str| needs.get(key).and_then(name);
        Requirements {
            kind: text("kind").unwrap_or_default(),
            l4t_version: text("l4t_version"),
            device_name: text("cuda_device_name"),
            compute_capability: text("cuda_device_cc"),
            tensorrt_version: text("trt_version"),
            forward_compatible: value["trt_package_details"]["trt_forward_compatible"] == true,
            same_capability: value["trt_package_details"]["same_cc_compatible"] == true,
        }
    });
    Some(RecordedPackage {
        package_id: name(value.get("package_id")?)?,
        backend: text("backend"),
        quantization: text("quantization"),
        recommended: recommended(value),
        opset: value["onnx_package_details"]["opset"].as_u64(),
        requirements,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packages_thresholds_go_before_the_models() {
        let text = r#"{"canonical_model_id": "a/1", "requested_aliases": ["ws/a"],
            "model": {"recommended_parameters": {"confidence": 0.5}},
            "packages": [{"package_id": "p1", "recommended_parameters": {"confidence": 0.25}}, {"package_id": "p2"},
            "broken", {"package_id": "trt1", "backend": "trt", "trt_package_details": {"same_cc_compatible": true},
            "environment_requirements": {"kind": "jetson", "cuda_device_cc": "8.7", "cuda_device_name": "orin", "l4t_version": "36.3",
            "trt_version": "10.3.0.30"}}]}"#;
        let record = Record::parse(text).unwrap();
        assert_eq!(record.recommended("p1").unwrap().confidence, Some(0.25));
        assert_eq!(record.recommended("p2").unwrap().confidence, Some(0.5));
        assert_eq!(record.packages.len(), 3);
        let needs = record.package("trt1").unwrap().requirements.clone().unwrap();
        assert_eq!((needs.kind.as_str(), needs.l4t_version.as_deref()), ("jetson", Some("36.3")));
        assert_eq!(needs.tensorrt_version.as_deref(), Some("10.3.0.30"));
        assert!(needs.same_capability && !needs.forward_compatible);
    }

    #[test]
    fn what_is_no_record_is_none() {
        for text in ["", "[]", "{}", r#"{"canonical_model_id": 3}"#] {
            assert!(Record::parse(text).is_none(), "{text}");
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(Record::read(dir.path(), "v2-a").is_none() && Record::of_alias(dir.path(), "a").is_none());
    }
}
