//! The embedded demo model: the bytes that let `firstlight run` see something with no cache, no camera and no network.
//!
//! A detector for `bolt`, `nut` and `washer` on a dark belt, 285,361 parameters, trained from scratch on pictures that
//! `scripts/train_demo.py` rendered (seed 20, one CPU core, 42 minutes); no third-party detector code, weights or
//! photographs went into it. `README.md` beside this file has what was measured, `SCENE.md` what it was trained on,
//! and [`crate::source::demo`] draws that scene endlessly.
//!
//! Network: `images` float32 \[1, 3, 320, 320\] (RGB, 0..1, letterboxed with grey 114) to `output0` float32
//! \[1, 7, 2100\] (centre x, centre y, width, height in input pixels, then three scores 0..1).
//!
//! Licence of weights, pictures and training code: Apache-2.0.
//!
//! May not know: caches, engines, sources. It is bytes and nothing else.

/// The identifier that the demo model has in a Roboflow-style cache.
pub const MODEL_ID: &str = "parts/1";

/// The network, ONNX opset 17, 1,197,816 bytes.
pub const PARTS_ONNX: &[u8] = include_bytes!("parts.onnx");

/// SHA-256 of [`PARTS_ONNX`], lower-case hexadecimal.
pub const PARTS_ONNX_SHA256: &str = "5dafbdb7061121dab5f4f6a11e4308d87730f9e86af555ffbccd5972a273eeb9";

/// Class names, a line each in the order of class ids: bolt 0, nut 1, washer 2.
pub const CLASS_NAMES: &str = include_str!("class_names.txt");

/// Pre-processing, class map and colours as Roboflow's cache writes them (`environment.json`).
pub const ENVIRONMENT_JSON: &str = include_str!("environment.json");

/// Task and architecture as Roboflow's cache writes them (`model_type.json`).
///
/// It says `yolov8n` because the output contract is that of YOLOv8; the network itself is not YOLOv8.
pub const MODEL_TYPE_JSON: &str = include_str!("model_type.json");

/// The golden frame is the first of the scene with this seed: a belt full of bolts, nuts, washers and clutter that must
/// stay silent. It is drawn and not stored: as a picture it would be a quarter of a megabyte of the binary.
pub const GOLDEN_SEED: u64 = 9;

/// What the network must answer on the golden frame (`detections`), as ONNX Runtime did: `scripts/score_demo.py`.
pub const GOLDEN_JSON: &str = include_str!("golden_scene.json");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::digest::sha256;

    #[test]
    fn the_bytes_are_those_that_the_documents_speak_of() {
        assert_eq!(sha256(PARTS_ONNX), PARTS_ONNX_SHA256);
        for recorded in [GOLDEN_JSON, include_str!("golden.json")] {
            let recorded: serde_json::Value = serde_json::from_str(recorded).unwrap();
            assert_eq!(recorded["model_sha256"], PARTS_ONNX_SHA256);
        }
        let recorded: serde_json::Value = serde_json::from_str(include_str!("golden.json")).unwrap();
        assert_eq!(recorded["image_sha256"], sha256(include_bytes!("golden.png")));
        let recorded: serde_json::Value = serde_json::from_str(GOLDEN_JSON).unwrap();
        assert_eq!(recorded["seed"], GOLDEN_SEED);
    }

    #[test]
    fn the_side_files_name_the_same_classes() {
        let names: Vec<&str> = CLASS_NAMES.lines().collect();
        assert_eq!(names, ["bolt", "nut", "washer"]);
        let environment: serde_json::Value = serde_json::from_str(ENVIRONMENT_JSON).unwrap();
        for (id, name) in names.iter().enumerate() {
            assert_eq!(environment["CLASS_MAP"][id.to_string()], *name);
        }
        let kind: serde_json::Value = serde_json::from_str(MODEL_TYPE_JSON).unwrap();
        assert_eq!(kind["model_id"], MODEL_ID);
    }
}
