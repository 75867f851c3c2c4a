//! The texts of a package, to the byte as Roboflow's programs write them (SPEC §1.2, 1.3).

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::recipe::{BATCH_MAX, Recipe};
use crate::cache::{ModelId, Normalization, PostProcessingKind, ResizeMode};
use crate::clock;
use crate::provision::python_json;

/// Spaces of a level where Roboflow indents a model's type, and its records.
const INDENT_TYPE: usize = 4;
const INDENT_RECORD: usize = 2;

/// Name, MD5: one file of a package.
pub type Artifact = (String, String);

/// `model_type.json`.
#[must_use]
pub fn model_type(recipe: &Recipe, id: &ModelId) -> Vec<u8> {
    let mut object = Map::new();
    object.insert("project_task_type".into(), recipe.kind.task.clone().into());
    object.insert("model_type".into(), recipe.kind.model_type.clone().into());
    object.insert("model_id".into(), id.as_str().into());
    if let Some(variant) = &recipe.variant {
        object.insert("model_variant".into(), variant.clone().into());
    }
    python_json::indented(&object.into(), INDENT_TYPE)
}

/// `class_names.txt`.
#[must_use]
pub fn class_names(recipe: &Recipe) -> Vec<u8> {
    recipe.class_names.join("\n").into_bytes()
}

/// `environment.json` of the classic layout.
#[must_use]
pub fn environment(recipe: &Recipe) -> Vec<u8> {
    let format = match recipe.preparation.resize {
        ResizeMode::Letterbox => "Fit (grey edges) in",
        _ => "Stretch to",
    };
    let preprocessing = json!({"auto-orient": {"enabled": true},
        "resize": {"enabled": true, "width": recipe.size.width, "height": recipe.size.height, "format": format}});
    let preprocessing = String::from_utf8_lossy(&python_json::line(&preprocessing)).into_owned();
    let names = recipe.class_names.iter().enumerate();
    let class_map: Map<String, Value> = names.map(|(index, name)| (index.to_string(), name.clone().into())).collect();
    python_json::line(&json!({
        "RESOLUTION": recipe.size.width.to_string(),
        "PREPROCESSING": preprocessing,
        "CLASS_MAP": class_map,
        "BATCH_SIZE": BATCH_MAX.to_string(),
    }))
}

/// `inference_config.json` of the models-cache layout.
#[must_use]
pub fn inference_config(recipe: &Recipe) -> Vec<u8> {
    let side = json!({"height": recipe.size.height, "width": recipe.size.width});
    // What is left free: only a letterbox leaves something.
    let fills = recipe.preparation.resize == ResizeMode::Letterbox;
    let normalization = recipe.preparation.normalization.map(|Normalization { mean, std }| {
        // The digits of the constant, not those of the nearest f32 written as f64.
        let numbers = |numbers: [f32; 3]| numbers.map(|number| number.to_string().parse::<f64>().unwrap_or_default());
        json!([numbers(mean), numbers(std)])
    });
    let post = match recipe.post {
        PostProcessingKind::Softmax => "softmax",
        PostProcessingKind::Sigmoid => "sigmoid",
        PostProcessingKind::Nms | PostProcessingKind::None => "nms",
    };
    let mode = recipe.divisor.map(|value| json!({"type": "pad-to-be-divisible", "value": value}));
    python_json::line(&json!({
        "image_pre_processing": {"auto-orient": {"enabled": true}},
        "network_input": {
            "training_input_size": side,
            "dataset_version_resize_dimensions": side,
            "dynamic_spatial_size_supported": recipe.divisor.is_some(),
            "dynamic_spatial_size_mode": mode,
            "color_mode": "rgb",
            "resize_mode": recipe.preparation.resize.as_str(),
            "padding_value": fills.then_some(recipe.preparation.padding),
            "input_channels": 3,
            "scaling_factor": 255,
            "normalization": normalization,
        },
        "forward_pass": {
            "static_batch_size": recipe.batch,
            "max_dynamic_batch_size": recipe.batch.is_none().then_some(BATCH_MAX),
        },
        "post_processing": {"type": post, "fused": recipe.fused},
    }))
}

/// `keypoints_metadata.json`, where objects have points: the same of every class.
#[must_use]
pub fn keypoints(recipe: &Recipe) -> Option<Vec<u8>> {
    let points = recipe.points.as_ref()?;
    let names: Map<String, Value> =
        points.names.iter().enumerate().map(|(index, name)| (index.to_string(), name.clone().into())).collect();
    let edges: Vec<Value> = points.edges.iter().map(|(from, to)| json!({"from": from, "to": to})).collect();
    let of_class = |class| json!({"object_class_id": class, "keypoints": names, "edges": edges});
    Some(python_json::line(&(0..recipe.class_names.len()).map(of_class).collect()))
}

/// The name of the package among those of its model, as Roboflow names them: `onnxfp32st1`, `onnxfp16dyn01`.
#[must_use]
pub fn package_id(recipe: &Recipe) -> String {
    match recipe.batch {
        Some(batch) => format!("onnx{}st{batch}", recipe.quantization),
        None => format!("onnx{}dyn01", recipe.quantization),
    }
}

/// `model_config.json`: files in the order of their names.
#[must_use]
pub fn manifest(recipe: &Recipe, id: &ModelId, artifacts: &[Artifact]) -> Vec<u8> {
    let mut artifacts: Vec<&Artifact> = artifacts.iter().collect();
    artifacts.sort();
    let listed = artifacts.into_iter().map(|(file, md5)| {
        json!({"file_handle": file, "md5_hash": md5, "unhashed": false, "sha256_hash": null, "source_hash": null,
            "storage": "shared_blob"})
    });
    python_json::line(&json!({
        "offline_manifest_version": 4,
        "model_architecture": recipe.kind.model_type,
        "task_type": recipe.kind.task,
        "backend_type": "onnx",
        "model_features": null,
        // Who imports a file vouches for it; without this Roboflow's engine passes it over.
        "trusted_source": true,
        "model_dependencies": [],
        "recommended_parameters": null,
        "quantization": recipe.quantization,
        "dynamic_batch_size_supported": recipe.batch.is_none(),
        "static_batch_size": recipe.batch,
        "canonical_model_id": id.as_str(),
        "package_artifacts": listed.collect::<Vec<_>>(),
        "dependency_package_paths": [],
        "model_id": id.as_str(),
    }))
}

/// The record in `offline-weights-registry`, without which Roboflow's engine does not load it offline.
#[must_use]
pub fn record(recipe: &Recipe, id: &ModelId, package_id: &str, artifacts: &[Artifact]) -> Vec<u8> {
    let now = format!("{}+00:00", clock::iso(SystemTime::now()));
    let listed: Vec<Value> =
        artifacts.iter().map(|(file, md5)| json!({"file_handle": file, "md5_hash": md5})).collect();
    let package = json!({
        "artifacts": listed,
        "backend": "onnx",
        "cache_model_id": null,
        "dynamic_batch_size_supported": recipe.batch.is_none(),
        "environment_requirements": null,
        "model_features": null,
        "onnx_package_details": {"incompatible_providers": null, "opset": recipe.opset},
        "package_id": package_id,
        "quantization": recipe.quantization,
        "recommended_parameters": null,
        "static_batch_size": recipe.batch,
        "torch_script_package_details": null,
        "trt_package_details": null,
        "trusted_source": true,
    });
    let record = json!({
        "canonical_model_id": id.as_str(),
        "format_version": 1,
        "model": {
            "model_architecture": recipe.kind.model_type,
            "model_dependencies": null,
            "model_variant": recipe.variant,
            "recommended_parameters": null,
            "task_type": recipe.kind.task,
        },
        "packages": [package],
        "proven": {package_id: {"last_proven_at": now}},
        "recorded_at": now,
        "requested_aliases": [],
        "source": "cli-install",
    });
    python_json::indented(&python_json::sorted(&record), INDENT_RECORD)
}

#[cfg(test)]
mod tests {
    use super::super::recipe::Preparation;
    use super::*;
    use crate::cache::{LayoutKind, PackageKind};
    use crate::frame::Size;

    fn recipe() -> Recipe {
        Recipe {
            kind: PackageKind { task: "object-detection".into(), model_type: "yolov8".into() },
            variant: Some("yolov8n".into()),
            layout: LayoutKind::ModelsCache,
            class_names: vec!["a".into(), "ä".into()],
            points: None,
            size: Size::new(320, 320),
            divisor: Some(32),
            batch: None,
            preparation: Preparation { resize: ResizeMode::Letterbox, padding: 0, normalization: None },
            post: PostProcessingKind::Nms,
            fused: false,
            quantization: "fp32",
            opset: 17,
            notes: Vec::new(),
        }
    }

    /// As the real library wrote them (SPEC §1.3, and the recorded tree beside it).
    #[test]
    fn texts_are_to_the_byte_as_roboflow_writes_them() {
        let (recipe, id) = (recipe(), ModelId::parse("my-project/3").unwrap());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(
            text(model_type(&recipe, &id)),
            "{\n    \"project_task_type\": \"object-detection\",\n    \"model_type\": \"yolov8\",\n    \
             \"model_id\": \"my-project/3\",\n    \"model_variant\": \"yolov8n\"\n}"
        );
        assert_eq!(
            text(inference_config(&recipe)),
            r#"{"image_pre_processing": {"auto-orient": {"enabled": true}}, "network_input": {"training_input_size": {"height": 320, "width": 320}, "dataset_version_resize_dimensions": {"height": 320, "width": 320}, "dynamic_spatial_size_supported": true, "dynamic_spatial_size_mode": {"type": "pad-to-be-divisible", "value": 32}, "color_mode": "rgb", "resize_mode": "letterbox", "padding_value": 0, "input_channels": 3, "scaling_factor": 255, "normalization": null}, "forward_pass": {"static_batch_size": null, "max_dynamic_batch_size": 8}, "post_processing": {"type": "nms", "fused": false}}"#
        );
        let artifacts = [
            ("weights.onnx".to_owned(), "335234ec60916d2db56d8f54bfad024d".to_owned()),
            ("class_names.txt".to_owned(), "c74289b3971545ab0d18ab44d3079965".to_owned()),
            ("inference_config.json".to_owned(), "b2025264f79a0bdf02a34ebdc5cfbf99".to_owned()),
        ];
        assert_eq!(
            text(manifest(&recipe, &id, &artifacts)),
            r#"{"offline_manifest_version": 4, "model_architecture": "yolov8", "task_type": "object-detection", "backend_type": "onnx", "model_features": null, "trusted_source": true, "model_dependencies": [], "recommended_parameters": null, "quantization": "fp32", "dynamic_batch_size_supported": true, "static_batch_size": null, "canonical_model_id": "my-project/3", "package_artifacts": [{"file_handle": "class_names.txt", "md5_hash": "c74289b3971545ab0d18ab44d3079965", "unhashed": false, "sha256_hash": null, "source_hash": null, "storage": "shared_blob"}, {"file_handle": "inference_config.json", "md5_hash": "b2025264f79a0bdf02a34ebdc5cfbf99", "unhashed": false, "sha256_hash": null, "source_hash": null, "storage": "shared_blob"}, {"file_handle": "weights.onnx", "md5_hash": "335234ec60916d2db56d8f54bfad024d", "unhashed": false, "sha256_hash": null, "source_hash": null, "storage": "shared_blob"}], "dependency_package_paths": [], "model_id": "my-project/3"}"#
        );
        assert_eq!(package_id(&recipe), "onnxfp32dyn01");
        let record: Value = serde_json::from_slice(&record(&recipe, &id, "onnxfp32dyn01", &artifacts)).unwrap();
        let keys: Vec<&str> = record.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "canonical_model_id",
                "format_version",
                "model",
                "packages",
                "proven",
                "recorded_at",
                "requested_aliases",
                "source"
            ]
        );
        assert!(record["recorded_at"].as_str().unwrap().ends_with("+00:00"));
    }

    #[test]
    fn means_and_deviations_keep_their_digits() {
        let normalization = Some(Normalization { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] });
        let preparation = Preparation { resize: ResizeMode::Stretch, padding: 114, normalization };
        let text = String::from_utf8(inference_config(&Recipe { preparation, ..recipe() })).unwrap();
        assert!(text.contains(r#""normalization": [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]"#), "{text}");
        assert!(text.contains(r#""padding_value": null"#), "{text}");
    }

    #[test]
    fn the_classic_layout_says_the_same() {
        let text = String::from_utf8(environment(&recipe())).unwrap();
        assert_eq!(
            text,
            r#"{"RESOLUTION": "320", "PREPROCESSING": "{\"auto-orient\": {\"enabled\": true}, \"resize\": {\"enabled\": true, \"width\": 320, \"height\": 320, \"format\": \"Fit (grey edges) in\"}}", "CLASS_MAP": {"0": "a", "1": "\u00e4"}, "BATCH_SIZE": "8"}"#
        );
    }
}
