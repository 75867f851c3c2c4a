//! The readers of a cache's texts, for tests/fuzz: they are nobody else's from outside.

use std::path::Path;

use super::environment::Environment;
use super::manifest::Manifest;
use super::record::Record;
use super::{Error, InferenceConfig, keypoints};

pub fn environment(text: &str) -> Result<(), Error> {
    let environment = Environment::parse(text, Path::new("environment.json"))?;
    let _ = environment.color(usize::MAX, "a");
    Ok(())
}

/// And what else describes a package in JSON.
pub fn model_config(text: &str) -> Result<(), Error> {
    if let Some(record) = Record::parse(text) {
        let _ = (record.package("p1"), record.recommended("p1"));
    }
    let _ = keypoints::parse(text, Path::new("keypoints_metadata.json"), true);
    let manifest = Manifest::parse(text, Path::new("model_config.json"))?;
    let inside = |file: &str| !file.starts_with('/') && file.split('/').all(|part| part != "..");
    assert!(manifest.artifacts.iter().all(|artifact| inside(&artifact.file)));
    Ok(())
}

pub fn inference_config(text: &str) -> Result<(), Error> {
    let config = InferenceConfig::parse(text, Path::new("inference_config.json"))?;
    let size = config.network_input.size;
    assert!(size.is_none_or(|size| size.width <= 8192 && size.height <= 8192));
    Ok(())
}
