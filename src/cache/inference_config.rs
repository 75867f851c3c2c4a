//! `inference_config.json` of the models-cache layout: what is done to an image, and to what the network answers
//! (SPEC §1.3, 2.3).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::Error;
use super::json::{Object, object, shown};
use crate::frame::{CHANNELS, Contrast, CropPercent, Size};

/// Longest side of a network's input that is believed: its tensor alone is then 0.8 GB.
const SIDE_MAX: usize = 8192;
/// Largest static batch that is believed.
pub(super) const BATCH_MAX: usize = 1024;

/// The keys of `inference_config.json` that are read.
#[derive(Clone, Debug, PartialEq)]
pub struct InferenceConfig {
    pub static_crop: Option<CropPercent>,
    pub contrast: Option<Contrast>,
    pub grayscale: bool,
    pub network_input: NetworkInput,
    /// Images that the network takes at once, where the package says so.
    pub static_batch: Option<usize>,
    pub post_processing: PostProcessing,
    /// Classes that the network knows and nobody shall see (`class_name_removal`).
    pub removed_classes: Vec<String>,
}

/// `network_input`: how an image comes to the network.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkInput {
    /// `training_input_size`.
    pub size: Option<Size>,
    /// `dataset_version_resize_dimensions`.
    pub dataset_size: Option<Size>,
    pub color: ColorMode,
    pub resize: ResizeMode,
    /// Level of what the image leaves free, before scaling; 0 when the package does not say.
    pub padding: f32,
    /// What levels are divided by.
    pub scaling: Option<f32>,
    pub normalization: Option<Normalization>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorMode {
    Rgb,
    Bgr,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResizeMode {
    #[default]
    Stretch,
    Letterbox,
    CenterCrop,
    FitLongerEdge,
    LetterboxReflectEdges,
}

impl ResizeMode {
    /// As packages say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ResizeMode::Stretch => "stretch",
            ResizeMode::Letterbox => "letterbox",
            ResizeMode::CenterCrop => "center-crop",
            ResizeMode::FitLongerEdge => "fit-longer-edge",
            ResizeMode::LetterboxReflectEdges => "letterbox-reflect-edges",
        }
    }
}

/// Subtracted from, and then divided into, scaled levels; one of each a channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

/// `post_processing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PostProcessing {
    pub kind: PostProcessingKind,
    /// The network does it itself.
    pub fused: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PostProcessingKind {
    #[default]
    None,
    Nms,
    Softmax,
    Sigmoid,
}

/// `recommended_parameters`: thresholds that a request with `"confidence": "best"` asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recommended {
    pub confidence: Option<f64>,
    pub per_class: BTreeMap<String, f64>,
}

impl InferenceConfig {
    /// Parses the text of the file at `path` (named in errors only).
    ///
    /// # Errors
    /// Not JSON, a key that Roboflow requires is missing, or a value of the wrong kind; the message names the key.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let root = object(text, path)?;
        parse(&root).map_err(|message| Error::parse(path, message))
    }
}

fn parse(root: &Map<String, Value>) -> Result<InferenceConfig, String> {
    let root = Object::new(root, "");
    let steps = root.map("image_pre_processing")?.cloned().unwrap_or_default();
    let steps = Object::new(&steps, "image_pre_processing.");
    let enabled = |key: &str| -> Result<Option<&Map<String, Value>>, String> {
        let Some(step) = steps.map(key)? else { return Ok(None) };
        let on = Object::new(step, "image_pre_processing.").boolean("enabled")?;
        Ok(on.unwrap_or(false).then_some(step))
    };
    let input = root.map("network_input")?.ok_or_else(|| root.wrong("network_input", "an object"))?;
    let static_batch = match root.map("forward_pass")? {
        Some(forward) => Object::new(forward, "forward_pass.").count("static_batch_size", BATCH_MAX)?,
        None => None,
    };
    Ok(InferenceConfig {
        static_crop: enabled("static-crop")?.map(static_crop).transpose()?,
        contrast: enabled("contrast")?.map(contrast).transpose()?,
        grayscale: enabled("grayscale")?.is_some(),
        network_input: network_input(&Object::new(input, "network_input."))?,
        static_batch,
        post_processing: root.map("post_processing")?.map(post_processing).transpose()?.unwrap_or_default(),
        removed_classes: removed_classes(&root)?,
    })
}

fn static_crop(step: &Map<String, Value>) -> Result<CropPercent, String> {
    let step = Object::new(step, "image_pre_processing.static-crop.");
    let bound = |key: &str| {
        let percent = step.number(key)?.filter(|percent| (0.0..=100.0).contains(percent));
        percent.ok_or_else(|| step.wrong(key, "a percentage from 0 to 100"))
    };
    let crop =
        CropPercent { x_min: bound("x_min")?, x_max: bound("x_max")?, y_min: bound("y_min")?, y_max: bound("y_max")? };
    if crop.x_min >= crop.x_max || crop.y_min >= crop.y_max {
        return Err(format!("image_pre_processing.static-crop: {crop:?} leaves nothing of the image"));
    }
    Ok(crop)
}

fn contrast(step: &Map<String, Value>) -> Result<Contrast, String> {
    let step = Object::new(step, "image_pre_processing.contrast.");
    match step.string("type")? {
        Some("Contrast Stretching") => Ok(Contrast::Stretching),
        Some("Histogram Equalization") => Ok(Contrast::Histogram),
        Some("Adaptive Equalization") => Ok(Contrast::Adaptive),
        _ => {
            let known = "\"Contrast Stretching\", \"Histogram Equalization\" or \"Adaptive Equalization\"";
            Err(step.wrong("type", known))
        }
    }
}

fn network_input(input: &Object<'_>) -> Result<NetworkInput, String> {
    let size = |key: &str| -> Result<Option<Size>, String> {
        let Some(size) = input.map(key)? else { return Ok(None) };
        let size = Object::new(size, "network_input size: ");
        let side = |key: &str| {
            size.count(key, SIDE_MAX)?.ok_or_else(|| size.wrong(key, &format!("a number of pixels up to {SIDE_MAX}")))
        };
        Ok(Some(Size { width: side("width")?, height: side("height")? }))
    };
    let color = match input.string("color_mode")? {
        Some("rgb") => ColorMode::Rgb,
        Some("bgr") => ColorMode::Bgr,
        _ => return Err(input.wrong("color_mode", "\"rgb\" or \"bgr\"")),
    };
    let resize = match input.string("resize_mode")? {
        Some("stretch") => ResizeMode::Stretch,
        Some("letterbox") => ResizeMode::Letterbox,
        Some("center-crop") => ResizeMode::CenterCrop,
        Some("fit-longer-edge") => ResizeMode::FitLongerEdge,
        Some("letterbox-reflect-edges") => ResizeMode::LetterboxReflectEdges,
        _ => {
            let known = "\"stretch\", \"letterbox\", \"center-crop\", \"fit-longer-edge\" or \
                         \"letterbox-reflect-edges\"";
            return Err(input.wrong("resize_mode", known));
        }
    };
    if input.count("input_channels", CHANNELS)?.is_some_and(|channels| channels != CHANNELS) {
        return Err(input.wrong("input_channels", "3"));
    }
    let level = |key: &str| input.number(key).map(|number| number.map(narrow));
    Ok(NetworkInput {
        size: size("training_input_size")?,
        dataset_size: size("dataset_version_resize_dimensions")?,
        color,
        resize,
        padding: level("padding_value")?.unwrap_or(0.0),
        scaling: level("scaling_factor")?,
        normalization: input.list("normalization")?.map(|pair| normalization(pair)).transpose()?,
    })
}

fn normalization(pair: &[Value]) -> Result<Normalization, String> {
    let triple = |index: usize| -> Option<[f32; 3]> {
        let values = pair.get(index)?.as_array()?;
        let values: Vec<f32> = values.iter().filter_map(Value::as_f64).map(narrow).collect();
        values.try_into().ok()
    };
    match (triple(0), triple(1), pair.len()) {
        (Some(mean), Some(std), 2) if std.iter().all(|std| *std != 0.0) => Ok(Normalization { mean, std }),
        _ => {
            let found = shown(&Value::Array(pair.to_vec()));
            Err(format!(
                "network_input.normalization: expected three means and three non-zero deviations, found {found}"
            ))
        }
    }
}

fn post_processing(step: &Map<String, Value>) -> Result<PostProcessing, String> {
    let step = Object::new(step, "post_processing.");
    let kind = match step.string("type")? {
        Some("nms") => PostProcessingKind::Nms,
        Some("softmax") => PostProcessingKind::Softmax,
        Some("sigmoid") => PostProcessingKind::Sigmoid,
        _ => return Err(step.wrong("type", "\"nms\", \"softmax\" or \"sigmoid\"")),
    };
    let fused = step.boolean("fused")?.ok_or_else(|| step.wrong("fused", "true or false"))?;
    Ok(PostProcessing { kind, fused })
}

fn removed_classes(root: &Object<'_>) -> Result<Vec<String>, String> {
    let operations = root.list("class_names_operations")?.map(Vec::as_slice).unwrap_or_default();
    let removed =
        operations.iter().map(|operation| match (operation["type"].as_str(), operation["class_name"].as_str()) {
            (Some("class_name_removal"), Some(name)) => Ok(name.to_owned()),
            _ => Err(format!(
                "class_names_operations: expected {{\"type\": \"class_name_removal\", \"class_name\": …}}, found {}",
                shown(operation)
            )),
        });
    removed.collect()
}

impl Recommended {
    /// From `recommended_parameters`, whose unknown keys are passed over. Keys are also known in camel case, as the
    /// weights API writes them.
    pub(super) fn parse(map: &Map<String, Value>) -> Result<Self, String> {
        let object = Object::new(map, "recommended_parameters.");
        let mut per_class = BTreeMap::new();
        let thresholds = match object.map("per_class_confidence")? {
            Some(map) => Some(map),
            None => object.map("perClassConfidence")?,
        };
        for (name, value) in thresholds.into_iter().flatten() {
            let threshold = value.as_f64().ok_or_else(|| {
                format!("recommended_parameters.per_class_confidence.{name}: expected a number, found {}", shown(value))
            })?;
            per_class.insert(name.clone(), threshold);
        }
        Ok(Self { confidence: object.number("confidence")?, per_class })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "levels and deviations, which Roboflow computes with as f32")]
fn narrow(number: f64) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the default engine's library wrote it into a cache.
    const LETTERBOX: &str = r#"{"image_pre_processing": {"auto-orient": {"enabled": true}, "grayscale": {"enabled": false},
        "static-crop": {"enabled": true, "x_min": 10, "x_max": 90, "y_min": 20, "y_max": 80},
        "contrast": {"enabled": true, "type": "Adaptive Equalization"}},
        "network_input": {"training_input_size": {"height": 128, "width": 224},
        "dataset_version_resize_dimensions": {"height": 100, "width": 200}, "dynamic_spatial_size_supported": false,
        "dynamic_spatial_size_mode": null, "color_mode": "bgr", "resize_mode": "letterbox", "padding_value": 127,
        "input_channels": 3, "scaling_factor": 255, "normalization": [[0.5, 0.4, 0.3], [1, 2, 0.5]]},
        "forward_pass": {"static_batch_size": 4, "max_dynamic_batch_size": null},
        "post_processing": {"type": "nms", "fused": true, "nms_parameters": {"max_detections": 3}},
        "class_names_operations": [{"type": "class_name_removal", "class_name": "background"}]}"#;

    fn parse(text: &str) -> Result<InferenceConfig, Error> {
        InferenceConfig::parse(text, Path::new("inference_config.json"))
    }

    #[test]
    fn every_key_that_is_read_is_read() {
        let config = parse(LETTERBOX).unwrap();
        assert_eq!(config.static_crop, Some(CropPercent { x_min: 10.0, x_max: 90.0, y_min: 20.0, y_max: 80.0 }));
        assert_eq!((config.contrast, config.grayscale), (Some(Contrast::Adaptive), false));
        let input = config.network_input;
        assert_eq!((input.size, input.dataset_size), (Some(Size::new(224, 128)), Some(Size::new(200, 100))));
        assert_eq!((input.color, input.resize), (ColorMode::Bgr, ResizeMode::Letterbox));
        assert_eq!((input.padding, input.scaling), (127.0, Some(255.0)));
        assert_eq!(input.normalization, Some(Normalization { mean: [0.5, 0.4, 0.3], std: [1.0, 2.0, 0.5] }));
        assert_eq!(config.static_batch, Some(4));
        assert_eq!(config.post_processing, PostProcessing { kind: PostProcessingKind::Nms, fused: true });
        assert_eq!(config.removed_classes, ["background"]);
    }

    #[test]
    fn what_may_be_absent_has_its_default() {
        let config = parse(
            r#"{"image_pre_processing": null, "network_input": {"color_mode": "rgb", "resize_mode": "stretch"}}"#,
        );
        let config = config.unwrap();
        assert_eq!((config.static_crop, config.contrast, config.static_batch), (None, None, None));
        assert_eq!(config.post_processing, PostProcessing::default());
        assert_eq!((config.network_input.size, config.network_input.padding), (None, 0.0));
    }

    #[test]
    fn faults_name_their_key() {
        for (from, to, word) in [
            ("\"bgr\"", "\"grey\"", "network_input.color_mode"),
            ("\"letterbox\"", "\"squash\"", "network_input.resize_mode"),
            ("\"height\": 128", "\"height\": 0", "height: expected a whole number"),
            ("\"height\": 128", "\"height\": 1e99", "height: expected a whole number"),
            ("\"input_channels\": 3", "\"input_channels\": 1", "input_channels: expected 3"),
            ("[1, 2, 0.5]", "[1, 0, 0.5]", "normalization"),
            ("[1, 2, 0.5]", "[1, 2]", "normalization"),
            ("\"x_max\": 90", "\"x_max\": 5", "leaves nothing"),
            ("\"x_max\": 90", "\"x_max\": \"all\"", "x_max"),
            ("Adaptive", "More", "contrast.type"),
            ("\"fused\": true", "\"fused\": 1", "post_processing.fused"),
            ("class_name_removal", "rename", "class_names_operations"),
            ("\"static_batch_size\": 4", "\"static_batch_size\": -4", "forward_pass.static_batch_size"),
            ("\"network_input\"", "\"input\"", "network_input"),
        ] {
            assert!(LETTERBOX.contains(from), "{from}");
            let message = parse(&LETTERBOX.replace(from, to)).unwrap_err().to_string();
            assert!(message.contains(word), "{from} → {to}: {message}");
        }
        assert!(parse("[]").unwrap_err().to_string().contains("JSON object"));
    }

    #[test]
    fn recommended_thresholds_are_read_in_both_spellings() {
        let parse = |text: &str| Recommended::parse(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap());
        let snake = parse(r#"{"confidence": 0.5, "per_class_confidence": {"a": 0.25}, "later": [1]}"#).unwrap();
        assert_eq!(snake.confidence, Some(0.5));
        assert_eq!(snake.per_class.get("a"), Some(&0.25));
        assert_eq!(parse(r#"{"confidence": 0.5, "perClassConfidence": {"a": 0.25}}"#).unwrap(), snake);
        assert!(parse(r#"{"confidence": "high"}"#).unwrap_err().contains("confidence"));
        assert!(parse(r#"{"per_class_confidence": {"a": null}}"#).unwrap_err().contains("per_class_confidence.a"));
    }
}
