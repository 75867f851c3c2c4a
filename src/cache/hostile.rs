//! The readers of a cache's texts on texts that are damaged: each is read or refused, in bounded words, and nothing panics.

use std::path::Path;

use serde_json::Value;

use super::environment::Environment;
use super::manifest::Manifest;
use super::record::Record;
use super::{InferenceConfig, keypoints};
use crate::random::Random;

const ENVIRONMENT: &str = include_str!("../../tests/fuzz/seeds/environment.json");
const MANIFEST: &str = include_str!("../../tests/fuzz/seeds/model_config.json");
const CONFIG: &str = include_str!("../../tests/fuzz/seeds/inference_config.json");
const RECORD: &str = include_str!("../../tests/fuzz/seeds/model_config_record.json");
const KEYPOINTS: &str = include_str!("../../tests/fuzz/seeds/model_config_keypoints.json");

/// Longest message: the file's path, and 400 characters with what they take in UTF-8.
const MESSAGE_BYTES_MAX: usize = 2000;
/// Texts of each kind; the whole count where everything is wanted.
const ROUNDS: u64 = 4_000;
const ROUNDS_FULL: u64 = 200_000;

/// Values that are put in the place of another.
fn odd_values() -> Vec<Value> {
    let long = "x".repeat(100_000);
    let texts =
        ["null", "true", "-1", "0", "1e308", "18446744073709551615", "[]", "{}", "\"\"", "\"../../x\"", "[[[[[[]]]]]]"];
    let mut values: Vec<Value> = texts.iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    values.push(Value::String(long.clone()));
    values.push(serde_json::json!({ long: 1 }));
    values.push(Value::Array(vec![Value::Null; 1000]));
    values
}

/// Puts an odd value in the place of one that is chosen by chance, or takes it away.
fn disturb(value: &mut Value, random: &mut Random, odd: &[Value]) {
    let deeper = random.chance(0.8);
    match value {
        Value::Object(map) if deeper && !map.is_empty() => {
            let key = map.keys().nth(random.below(map.len())).cloned().unwrap_or_default();
            if random.chance(0.1) {
                map.remove(&key);
            } else if let Some(inner) = map.get_mut(&key) {
                disturb(inner, random, odd);
            }
        }
        Value::Array(list) if deeper && !list.is_empty() => {
            let index = random.below(list.len());
            disturb(&mut list[index], random, odd);
        }
        // The classic layout keeps JSON in a string.
        Value::String(text) if deeper && text.starts_with('{') => {
            let mut inner: Value = serde_json::from_str(text).unwrap_or_default();
            disturb(&mut inner, random, odd);
            *text = inner.to_string();
        }
        other => *other = odd[random.below(odd.len())].clone(),
    }
}

/// A text with some bytes changed, or cut, or with a piece of itself twice.
fn damaged(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] = random.bits().to_le_bytes()[0],
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at.max(1)),
            _ => {
                let piece = bytes[at..bytes.len().min(at + 1 + random.below(40))].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn survives(text: &str, seed: u64, read: &dyn Fn(&str) -> Result<(), String>) {
    read(text).expect("the text itself is in order");
    let rounds = if std::env::var_os("FIRSTLIGHT_FULL").is_some() { ROUNDS_FULL } else { ROUNDS };
    let (mut random, odd) = (Random::new(seed), odd_values());
    let (mut taken, mut refused) = (0, 0);
    for round in 0..rounds {
        let text = if round % 2 == 0 {
            damaged(text, &mut random)
        } else {
            let mut value: Value = serde_json::from_str(text).expect("JSON");
            (0..1 + random.below(3)).for_each(|_| disturb(&mut value, &mut random, &odd));
            value.to_string()
        };
        match read(&text) {
            Ok(()) => taken += 1,
            Err(message) => {
                assert!(message.len() <= MESSAGE_BYTES_MAX, "{} bytes: {message}", message.len());
                refused += 1;
            }
        }
    }
    assert!(taken > 0 && refused > 0, "{taken} taken and {refused} refused: the damage shows nothing");
}

#[test]
fn environment_json() {
    survives(ENVIRONMENT, 1, &|text| {
        let environment = Environment::parse(text, Path::new("environment.json")).map_err(|error| error.to_string())?;
        let _ = environment.color(usize::MAX, "class_00");
        Ok(())
    });
}

#[test]
fn model_config_json() {
    survives(MANIFEST, 2, &|text| {
        let manifest = Manifest::parse(text, Path::new("model_config.json")).map_err(|error| error.to_string())?;
        let inside = |file: &str| !file.starts_with('/') && file.split('/').all(|part| part != "..");
        assert!(manifest.artifacts.iter().all(|artifact| inside(&artifact.file)));
        Ok(())
    });
}

#[test]
fn inference_config_json() {
    survives(CONFIG, 3, &|text| {
        let config =
            InferenceConfig::parse(text, Path::new("inference_config.json")).map_err(|error| error.to_string())?;
        let size = config.network_input.size;
        assert!(size.is_none_or(|size| size.width <= 8192 && size.height <= 8192));
        Ok(())
    });
}

#[test]
fn registry_record() {
    survives(RECORD, 4, &|text| {
        let record = Record::parse(text).ok_or("it is none")?;
        let _ = (record.package("p1"), record.recommended("p1"));
        Ok(())
    });
}

#[test]
fn keypoints_metadata_json() {
    survives(KEYPOINTS, 5, &|text| {
        let skeletons =
            keypoints::parse(text, Path::new("keypoints_metadata.json"), true).map_err(|error| error.to_string())?;
        let within = |edge: &(usize, usize), points: usize| edge.0 < points && edge.1 < points;
        assert!(skeletons.iter().all(|of| of.edges.iter().all(|edge| within(edge, of.names.len()))));
        Ok(())
    });
}
