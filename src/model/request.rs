//! A request as a Roboflow client writes it (SPEC §3.3): the fields that change an answer, and those that are accepted
//! because clients send them although they change nothing here.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::did_you_mean;

/// Roboflow's defaults (SPEC §2.4).
const IOU_THRESHOLD: f64 = 0.3;
const MAX_DETECTIONS: usize = 300;

/// Fields of Roboflow's requests that change nothing in a detection model's answer here: bookkeeping of its cloud,
/// fields of other tasks, `max_candidates`, which both of its engines ignore as well, and the choice between two routes
/// to the same masks.
const INEFFECTIVE: &[&str] = &[
    "active_learning_target_dataset",
    "api_key",
    "disable_active_learning",
    "disable_model_monitoring",
    "enforce_dense_masks_in_inference_models",
    "fix_batch_size",
    "id",
    "keypoint_confidence",
    "max_candidates",
    "model_id",
    "model_type",
    "source",
    "source_info",
    "start",
    "stream_pipeline_context_id",
    "usage_billable",
    "visualize_predictions",
];

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("request: not a JSON object: {0}")]
    Json(serde_json::Error),
    #[error("request: unknown field `{field}`{hint}")]
    Unknown { field: String, hint: String },
    #[error("request: {0}")]
    Value(serde_json::Error),
}

/// Any fields of Roboflow's inference request besides the image; every one optional.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Request {
    pub confidence: Option<Confidence>,
    pub iou_threshold: Option<f64>,
    pub max_detections: Option<usize>,
    pub class_agnostic_nms: Option<bool>,
    /// Names of classes to keep; applied after `max_detections`, as Roboflow does.
    pub class_filter: Option<Vec<String>>,
    pub disable_preproc_auto_orient: Option<bool>,
    pub disable_preproc_contrast: Option<bool>,
    pub disable_preproc_grayscale: Option<bool>,
    pub disable_preproc_static_crop: Option<bool>,
    /// Boxes and masks may come on a grid smaller than the image, as `mask_decode_mode` says; default engine only.
    pub allow_reduced_mask_resolution: Option<bool>,
    pub mask_decode_mode: Option<MaskDecodeMode>,
    /// 0 (the network's grid) to 1 (full size), for [`MaskDecodeMode::Tradeoff`].
    pub tradeoff_factor: Option<f64>,
    /// Default engine only; the classic one always answers polygons.
    pub response_mask_format: Option<MaskFormat>,
    pub visualization_labels: Option<bool>,
    pub visualization_stroke_width: Option<u32>,
}

/// Names of the fields of [`Request`].
const EFFECTIVE: &[&str] = &[
    "confidence",
    "iou_threshold",
    "max_detections",
    "class_agnostic_nms",
    "class_filter",
    "disable_preproc_auto_orient",
    "disable_preproc_contrast",
    "disable_preproc_grayscale",
    "disable_preproc_static_crop",
    "allow_reduced_mask_resolution",
    "mask_decode_mode",
    "tradeoff_factor",
    "response_mask_format",
    "visualization_labels",
    "visualization_stroke_width",
];

/// `confidence`: a number, or a word whose meaning is the model's.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Confidence {
    Number(f64),
    Word(ConfidenceWord),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConfidenceWord {
    Best,
    Default,
}

/// The size that masks are decoded in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskDecodeMode {
    #[default]
    Accurate,
    Tradeoff,
    Fast,
    /// Any other word: refused by most models, but only once there is something to decode.
    #[serde(other)]
    Unknown,
}

/// What masks are answered as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskFormat {
    Polygon,
    Rle,
}

impl Request {
    /// Parses a JSON object.
    ///
    /// # Errors
    /// Not an object, a field Roboflow's request does not have, or a value of the wrong type.
    pub fn parse(json: &str) -> Result<Self, RequestError> {
        let mut fields: Map<String, Value> = serde_json::from_str(json).map_err(RequestError::Json)?;
        fields.retain(|name, _| !INEFFECTIVE.contains(&name.as_str()));
        if let Some(field) = fields.keys().find(|name| !EFFECTIVE.contains(&name.as_str())) {
            let known = EFFECTIVE.iter().chain(INEFFECTIVE).copied();
            return Err(RequestError::Unknown { field: field.clone(), hint: did_you_mean(field, known) });
        }
        serde_json::from_value(Value::Object(fields)).map_err(RequestError::Value)
    }

    /// The request of every frame of the loop, from the `[inference]` of a configuration.
    ///
    /// # Errors
    /// As [`Request::parse`].
    pub fn from_config(fields: &toml::Table) -> Result<Self, RequestError> {
        Self::parse(&serde_json::to_string(fields).map_err(RequestError::Value)?)
    }

    #[must_use]
    pub fn iou_threshold(&self) -> f64 {
        self.iou_threshold.unwrap_or(IOU_THRESHOLD)
    }

    #[must_use]
    pub fn max_detections(&self) -> usize {
        self.max_detections.unwrap_or(MAX_DETECTIONS)
    }

    #[must_use]
    pub fn mask_decode_mode(&self) -> MaskDecodeMode {
        self.mask_decode_mode.unwrap_or_default()
    }

    #[must_use]
    pub fn tradeoff_factor(&self) -> f64 {
        self.tradeoff_factor.unwrap_or(0.0)
    }

    #[must_use]
    pub fn class_agnostic_nms(&self) -> bool {
        self.class_agnostic_nms.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_roboflows() {
        let request = Request::parse("{}").unwrap();
        assert_eq!((request.confidence, request.iou_threshold(), request.max_detections()), (None, 0.3, 300));
        let words = Request::parse(r#"{"confidence": "best", "max_detections": null}"#).unwrap();
        assert_eq!(words.confidence, Some(Confidence::Word(ConfidenceWord::Best)));
        assert_eq!(words.max_detections(), 300);
    }

    #[test]
    fn fields_of_other_tasks_are_accepted_and_unknown_ones_named() {
        let request = Request::parse(r#"{"max_detections": 3, "keypoint_confidence": 0.5}"#).unwrap();
        assert_eq!(request.max_detections(), 3);
        let message = Request::parse(r#"{"confidense": 0.1}"#).unwrap_err().to_string();
        assert_eq!(message, "request: unknown field `confidense`; did you mean `confidence`?");
        assert!(Request::parse(r#"{"confidence": "high"}"#).is_err());
        assert!(Request::parse("[1]").is_err());
    }
    #[test]
    fn mask_arguments_keep_unknown_words_for_the_engine_to_refuse() {
        let request = Request::parse(r#"{"mask_decode_mode": "tradeoff", "tradeoff_factor": 1.5}"#).unwrap();
        assert_eq!((request.mask_decode_mode(), request.tradeoff_factor()), (MaskDecodeMode::Tradeoff, 1.5));
        assert_eq!(Request::default().mask_decode_mode(), MaskDecodeMode::Accurate);
        let unknown = Request::parse(r#"{"mask_decode_mode": "best", "response_mask_format": "rle"}"#).unwrap();
        assert_eq!(unknown.mask_decode_mode(), MaskDecodeMode::Unknown);
        assert_eq!(unknown.response_mask_format, Some(MaskFormat::Rle));
        assert!(Request::parse(r#"{"response_mask_format": "png"}"#).is_err());
    }
}
