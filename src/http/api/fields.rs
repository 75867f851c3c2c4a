//! The fields of Roboflow's inference requests (SPEC, Appendix E), from a JSON body: each read as its own request model
//! reads it, in its order, so that several faults are told at once. Fields that change nothing here are still checked;
//! fields of other routes are ignored, as FastAPI does.

use std::borrow::Cow;

use serde_json::json;

use super::fault::{Fault, Place, Problem};
use super::json::{self, Json, Members};
use super::lax::{Null, Reader};
use crate::model::{MaskDecodeMode, MaskFormat, Request};

/// Bytes of a request's own id; Roboflow's is a UUID.
const ID_BYTES_MAX: usize = 256;
/// Widest line that is drawn, pixels: wider than any picture of use.
const STROKE_MAX: i64 = 100;

/// What a route's request is for; which model answers is another matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Detection,
    InstanceSegmentation,
    Keypoints,
    Classification,
    SemanticSegmentation,
}

/// An image as a client describes it.
#[derive(Debug)]
pub(super) struct Image<'a> {
    /// `base64`, `url`, …, in any case of letters.
    pub kind: Cow<'a, str>,
    pub value: Json<'a>,
}

/// One image, or a list that is answered by a list.
#[derive(Debug)]
pub(super) enum Images<'a> {
    One(Image<'a>),
    Many(Vec<Image<'a>>),
}

/// What is asked of a model, besides the images.
#[derive(Debug, Default)]
pub(super) struct Wishes<'a> {
    pub model_id: Cow<'a, str>,
    /// The client's name for the request; ours where it gives none.
    pub id: Option<Cow<'a, str>>,
    /// Whether the answer has the picture with the predictions drawn.
    pub visualize: bool,
    pub request: Request,
}

/// A JSON body's members, if it is declared as JSON and is an object.
pub(super) fn members<'a>(
    content_type: Option<&str>,
    body: &'a [u8],
    keep: &dyn Fn(&str) -> bool,
) -> Result<Members<'a>, Fault> {
    let root = || vec![Place::Name("body")];
    if body.is_empty() {
        return Err(Fault::Invalid(vec![Problem::missing(root())]));
    }
    let no_object = || {
        Problem::new(
            "model_attributes_type",
            root(),
            "Input should be a valid dictionary or object to extract fields from",
        )
    };
    if !content_type.is_none_or(is_json) {
        let ctx = json!({"hint": "declare the body by `content-type: application/json`"});
        return Err(Fault::Invalid(vec![Problem { ctx: Some(ctx), ..no_object() }]));
    }
    match json::object(body, keep) {
        Ok(Some(members)) => Ok(members),
        Ok(None) => Err(Fault::Invalid(vec![no_object()])),
        Err(invalid) => {
            let at = vec![Place::Name("body"), Place::Index(invalid.at)];
            let problem = if invalid.too_large {
                Problem::new("too_long", root(), invalid.why)
            } else {
                Problem {
                    ctx: Some(json!({"error": invalid.why})),
                    ..Problem::new("json_invalid", at, "JSON decode error")
                }
            };
            Err(Fault::Invalid(vec![problem]))
        }
    }
}

/// Whether FastAPI reads a body of this type as JSON.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.strip_prefix("application/").is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

/// Fields of every request.
const BASE: &[&str] = &[
    "id",
    "api_key",
    "usage_billable",
    "start",
    "source",
    "source_info",
    "stream_pipeline_context_id",
    "disable_model_monitoring",
    "model_id",
    "model_type",
    "image",
    "disable_preproc_auto_orient",
    "disable_preproc_contrast",
    "disable_preproc_grayscale",
    "disable_preproc_static_crop",
    "confidence",
];
/// Those of detectors, whatever else they find.
const DETECTOR: &[&str] = &[
    "class_agnostic_nms",
    "class_filter",
    "fix_batch_size",
    "iou_threshold",
    "max_detections",
    "max_candidates",
    "visualization_labels",
];
const SHOWN: &[&str] = &[
    "visualization_stroke_width",
    "visualize_predictions",
    "disable_active_learning",
    "active_learning_target_dataset",
];
const KEYPOINTS: &[&str] = &["keypoint_confidence"];
const MASKS: &[&str] = &[
    "mask_decode_mode",
    "tradeoff_factor",
    "allow_reduced_mask_resolution",
    "response_mask_format",
    "enforce_dense_masks_in_inference_models",
];
const CLASSIFICATION: &[&str] = &["include_anomaly_map"];

impl Kind {
    /// The fields of this kind of request; others are not looked at.
    fn fields(self) -> [&'static [&'static str]; 4] {
        match self {
            Self::Detection => [BASE, DETECTOR, SHOWN, &[]],
            Self::InstanceSegmentation => [BASE, DETECTOR, SHOWN, MASKS],
            Self::Keypoints => [BASE, DETECTOR, SHOWN, KEYPOINTS],
            Self::Classification => [BASE, CLASSIFICATION, SHOWN, &[]],
            Self::SemanticSegmentation => [BASE, &[], &[], &[]],
        }
    }

    /// Reads a body.
    pub(super) fn read<'a>(
        self,
        content_type: Option<&str>,
        body: &'a [u8],
    ) -> Result<(Wishes<'a>, Images<'a>), Fault> {
        let fields = self.fields();
        let keep = |name: &str| fields.iter().any(|group| group.contains(&name));
        let mut reader = Reader::new(members(content_type, body, &keep)?, "body");
        let read = &mut reader;
        let id = id(read);
        read.text("api_key", Null::Allowed);
        bookkeeping(read);
        let model_id = read.require("model_id").and_then(|value| model_id(read, value));
        read.text("model_type", Null::Allowed);
        let images = read.require("image").and_then(|value| images(read, value));
        let mut request = Request::default();
        preprocessing(read, &mut request);
        let visualize = self.read_own(read, &mut request);
        match (model_id, images) {
            (Some(model_id), Some(images)) if reader.problems.is_empty() => {
                Ok((Wishes { model_id, id, visualize, request }, images))
            }
            _ => Err(Fault::Invalid(reader.problems)),
        }
    }

    /// The fields that not every kind has; whether to draw goes back.
    fn read_own(self, read: &mut Reader<'_>, request: &mut Request) -> bool {
        // Fields of other kinds were not kept, so that asking for them finds nothing.
        request.class_agnostic_nms = read.flag("class_agnostic_nms", Null::Allowed);
        request.class_filter = read.texts("class_filter");
        read.flag("include_anomaly_map", Null::Refused);
        request.confidence = read.confidence("confidence");
        read.flag("fix_batch_size", Null::Allowed);
        request.iou_threshold = read.number("iou_threshold", Null::Allowed);
        request.max_detections = read.count("max_detections", Null::Allowed);
        read.integer("max_candidates", Null::Allowed);
        request.visualization_labels = read.flag("visualization_labels", Null::Allowed);
        request.visualization_stroke_width = read.integer("visualization_stroke_width", Null::Allowed).map(stroke);
        let visualize = read.flag("visualize_predictions", Null::Allowed).unwrap_or(false);
        read.flag("disable_active_learning", Null::Allowed);
        read.text("active_learning_target_dataset", Null::Allowed);
        masks(read, request);
        read.flag("enforce_dense_masks_in_inference_models", Null::Allowed);
        // Read for its type only: it changes nothing in either of Roboflow's engines, as recorded.
        read.number("keypoint_confidence", Null::Allowed);
        visualize
    }
}

/// The bookkeeping of Roboflow's cloud, which is checked and means nothing here.
fn bookkeeping(read: &mut Reader<'_>) {
    read.flag("usage_billable", Null::Refused);
    read.number("start", Null::Allowed);
    for name in ["source", "source_info", "stream_pipeline_context_id"] {
        read.text(name, Null::Allowed);
    }
    read.flag("disable_model_monitoring", Null::Allowed);
}

/// The client's name for the request, which every image's answer repeats.
fn id<'a>(read: &mut Reader<'a>) -> Option<Cow<'a, str>> {
    let id = read.text("id", Null::Refused)?;
    if id.len() > ID_BYTES_MAX {
        let words = format!("String should have at most {ID_BYTES_MAX} characters");
        read.problems.push(Problem::new("string_too_long", read.at("id"), words));
    }
    Some(id)
}

fn model_id<'a>(read: &mut Reader<'a>, value: Json<'a>) -> Option<Cow<'a, str>> {
    match value {
        Json::Text(id) => Some(id),
        // Roboflow's own model allows it, and fails on it later; an empty id is refused with a reason.
        Json::Null => Some(Cow::Borrowed("")),
        _ => {
            read.problems.push(Problem::new("string_type", read.at("model_id"), "Input should be a valid string"));
            None
        }
    }
}

pub(super) fn preprocessing(read: &mut Reader<'_>, request: &mut Request) {
    request.disable_preproc_auto_orient = read.flag("disable_preproc_auto_orient", Null::Allowed);
    request.disable_preproc_contrast = read.flag("disable_preproc_contrast", Null::Allowed);
    request.disable_preproc_grayscale = read.flag("disable_preproc_grayscale", Null::Allowed);
    request.disable_preproc_static_crop = read.flag("disable_preproc_static_crop", Null::Allowed);
}

pub(super) fn masks(read: &mut Reader<'_>, request: &mut Request) {
    const FORMATS: &[(&str, MaskFormat)] = &[("polygon", MaskFormat::Polygon), ("rle", MaskFormat::Rle)];
    request.mask_decode_mode = read.text("mask_decode_mode", Null::Allowed).map(|word| match &*word {
        "accurate" => MaskDecodeMode::Accurate,
        "tradeoff" => MaskDecodeMode::Tradeoff,
        "fast" => MaskDecodeMode::Fast,
        _ => MaskDecodeMode::Unknown,
    });
    request.tradeoff_factor = read.number("tradeoff_factor", Null::Allowed);
    request.allow_reduced_mask_resolution = read.flag("allow_reduced_mask_resolution", Null::Refused);
    request.response_mask_format = read.word("response_mask_format", FORMATS, Null::Allowed);
}

pub(super) fn stroke(width: i64) -> u32 {
    u32::try_from(width.clamp(1, STROKE_MAX)).unwrap_or(1)
}

/// Names of the two ways to give images, as pydantic calls them.
const LIST: Place = Place::Name("list[InferenceRequestImage]");
const ONE: Place = Place::Name("InferenceRequestImage");

fn images<'a>(read: &mut Reader<'a>, value: Json<'a>) -> Option<Images<'a>> {
    let at = |way: &[Place]| [&read.at("image"), way].concat();
    let no_model = |way: &[Place]| Problem {
        ctx: Some(json!({"class_name": "InferenceRequestImage"})),
        ..Problem::new("model_type", at(way), "Input should be a valid dictionary or instance of InferenceRequestImage")
    };
    let no_list = Problem::new("list_type", at(&[LIST]), "Input should be a valid list");
    let problems = match value {
        Json::Object(members) => match image(members) {
            Ok(image) => return Some(Images::One(image)),
            Err(fault) => vec![no_list, fault.at(at(&[ONE]))],
        },
        Json::List(values) => {
            let (mut images, mut problems) = (Vec::with_capacity(values.len()), Vec::new());
            for (index, value) in values.into_iter().enumerate() {
                let place = [LIST, Place::Index(index)];
                match value {
                    Json::Object(members) => match image(members) {
                        Ok(image) => images.push(image),
                        Err(fault) => problems.push(fault.at(at(&place))),
                    },
                    _ => problems.push(no_model(&place)),
                }
            }
            if problems.is_empty() {
                return Some(Images::Many(images));
            }
            problems.push(no_model(&[ONE]));
            problems
        }
        _ => vec![no_list, no_model(&[ONE])],
    };
    read.problems.extend(problems);
    None
}

/// What can be wrong with an image's description.
enum ImageFault {
    NoType,
    TypeIsNoText,
}

impl ImageFault {
    fn at(&self, image: Vec<Place>) -> Problem {
        let at = [image, vec![Place::Name("type")]].concat();
        match self {
            Self::NoType => Problem::missing(at),
            Self::TypeIsNoText => Problem::new("string_type", at, "Input should be a valid string"),
        }
    }
}

fn image(members: Members<'_>) -> Result<Image<'_>, ImageFault> {
    let (mut kind, mut value) = (None, Json::Null);
    for (name, found) in members {
        match &*name {
            "type" => kind = Some(found),
            "value" => value = found,
            _ => {}
        }
    }
    match kind {
        Some(Json::Text(kind)) => Ok(Image { kind, value }),
        Some(_) => Err(ImageFault::TypeIsNoText),
        None => Err(ImageFault::NoType),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Confidence, ConfidenceWord};
    use crate::random::Random;

    const ALL: [Kind; 5] = [
        Kind::Detection,
        Kind::InstanceSegmentation,
        Kind::Keypoints,
        Kind::Classification,
        Kind::SemanticSegmentation,
    ];
    /// A body with every field of every kind.
    const FULL: &str = r#"{"id": "a\u0062c", "api_key": null, "usage_billable": true, "start": 1.5, "source": "sdk",
        "source_info": null, "disable_model_monitoring": false, "model_id": "parts/1", "model_type": null,
        "image": [{"type": "base64", "value": "aGVsbG8="}, {"type": "URL", "value": "https://a.example/b.jpg"}],
        "disable_preproc_auto_orient": true, "disable_preproc_contrast": "off", "class_agnostic_nms": 1,
        "class_filter": ["bolt", "nut"], "confidence": "0.25", "iou_threshold": 0.5, "max_detections": 7.0,
        "max_candidates": 10, "fix_batch_size": false, "visualization_labels": true, "visualization_stroke_width": 3,
        "visualize_predictions": true, "keypoint_confidence": 0.1, "mask_decode_mode": "fast", "tradeoff_factor": 0.5,
        "allow_reduced_mask_resolution": true, "response_mask_format": "rle", "unknown": {"deep": [1, [2, {}]]}}"#;

    fn read(kind: Kind, body: &str) -> Result<(Wishes<'_>, Images<'_>), Fault> {
        kind.read(Some("application/json"), body.as_bytes())
    }

    fn all<'i, 'a>(images: &'i Images<'a>) -> &'i [Image<'a>] {
        match images {
            Images::One(image) => std::slice::from_ref(image),
            Images::Many(images) => images,
        }
    }

    fn problems(kind: Kind, body: &str) -> serde_json::Value {
        match read(kind, body) {
            Err(Fault::Invalid(problems)) => serde_json::to_value(problems).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_field_comes_through_on_the_routes_that_have_it() {
        let (wishes, images) = read(Kind::InstanceSegmentation, FULL).unwrap();
        assert_eq!((&*wishes.model_id, wishes.id.as_deref(), wishes.visualize), ("parts/1", Some("abc"), true));
        let kinds: Vec<&str> = all(&images).iter().map(|image| &*image.kind).collect();
        assert_eq!(kinds, ["base64", "URL"]);
        let expected = Request {
            confidence: Some(Confidence::Number(0.25)),
            iou_threshold: Some(0.5),
            max_detections: Some(7),
            class_agnostic_nms: Some(true),
            class_filter: Some(vec!["bolt".into(), "nut".into()]),
            disable_preproc_auto_orient: Some(true),
            disable_preproc_contrast: Some(false),
            allow_reduced_mask_resolution: Some(true),
            mask_decode_mode: Some(MaskDecodeMode::Fast),
            tradeoff_factor: Some(0.5),
            response_mask_format: Some(MaskFormat::Rle),
            visualization_labels: Some(true),
            visualization_stroke_width: Some(3),
            ..Request::default()
        };
        assert_eq!(wishes.request, expected);
        let (wishes, _) = read(Kind::Classification, FULL).unwrap();
        assert_eq!((wishes.request.class_filter, wishes.request.iou_threshold), (None, None));
        assert!(wishes.visualize && !read(Kind::SemanticSegmentation, FULL).unwrap().0.visualize);
    }

    #[test]
    fn defaults_are_left_to_the_model() {
        let body = r#"{"model_id": "a/1", "image": {"type": "base64", "value": ""}}"#;
        for kind in ALL {
            let (wishes, images) = kind.read(None, body.as_bytes()).unwrap();
            assert_eq!((wishes.request, wishes.visualize), (Request::default(), false));
            assert!(matches!(images, Images::One(_)));
        }
        let words = r#"{"model_id": "a/1", "image": [], "confidence": "best", "iou_threshold": null}"#;
        let (wishes, images) = read(Kind::Detection, words).unwrap();
        assert_eq!(wishes.request.confidence, Some(Confidence::Word(ConfidenceWord::Best)));
        assert!(all(&images).is_empty());
    }

    #[test]
    fn all_faults_are_told_at_once_and_never_with_the_image() {
        let body = r#"{"image": {"value": "SECRETIMAGE"}, "confidence": "SECRETWORD", "max_detections": 1.5}"#;
        let found = problems(Kind::Detection, body);
        let told = |index: usize| (found[index]["type"].as_str().unwrap(), found[index]["loc"].to_string());
        assert_eq!(told(0), ("missing", r#"["body","model_id"]"#.into()));
        assert_eq!(told(1).0, "list_type");
        assert_eq!(told(2), ("missing", r#"["body","image","InferenceRequestImage","type"]"#.into()));
        assert_eq!((told(3).0, told(4).0, told(5).0), ("float_parsing", "literal_error", "int_from_float"));
        assert!(!found.to_string().contains("SECRET"), "{found}");
    }

    #[test]
    fn bodies_that_are_no_object_are_told_apart() {
        let kind = |body: &str| problems(Kind::Detection, body)[0]["type"].as_str().unwrap().to_owned();
        assert_eq!(kind(""), "missing");
        assert_eq!(kind("[]"), "model_attributes_type");
        assert_eq!(kind("{"), "json_invalid");
        assert_eq!(problems(Kind::Detection, "{\"a\"; 1}")[0]["loc"].to_string(), r#"["body",4]"#);
        let values = format!(r#"{{"class_filter": [{}"a"]}}"#, "\"a\",".repeat(100_000));
        assert_eq!(kind(&values), "too_long");
        let typed = |content_type| Kind::Detection.read(Some(content_type), FULL.as_bytes()).is_ok();
        assert!(typed("application/json; charset=utf-8") && typed("Application/vnd.api+json"));
        assert!(!typed("text/plain") && !typed("application/x-www-form-urlencoded") && !typed(""));
    }

    #[test]
    fn every_way_to_give_no_image_is_refused() {
        for image in ["null", "1", "\"base64\"", "[1]", "[{}]", "[{\"type\": 1}]", "{\"type\": null}", "[null, {}]"] {
            let body = format!(r#"{{"model_id": "a/1", "image": {image}}}"#);
            let found = problems(Kind::Detection, &body);
            assert!(found.as_array().unwrap().iter().all(|problem| problem["loc"][1] == "image"), "{image}: {found}");
        }
    }

    #[test]
    fn thousands_of_damaged_bodies_panic_nowhere() {
        let mut random = Random::new(0x5eed);
        let (mut read, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let mut body = FULL.as_bytes().to_vec();
            for _ in 0..=random.below(4) {
                let at = random.below(body.len());
                match random.below(6) {
                    0 => body[at] = u8::try_from(random.below(256)).unwrap(),
                    1 => body.truncate(at.max(1)),
                    2 => drop(body.splice(at..at, *b"\xff\xfe")),
                    3 => drop(body.splice(at..at, b"[".repeat(200))),
                    4 => drop(body.splice(at..at, *br#","image":[{"type":"base64"}]"#)),
                    _ => drop(body.splice(at..(at + 8).min(body.len()), *br#"-1e999,""#)),
                }
            }
            match ALL[random.below(ALL.len())].read(None, &body) {
                Ok(_) => read += 1,
                Err(fault) => {
                    refused += 1;
                    assert_eq!(fault.into_answer().status(), 422);
                }
            }
        }
        assert!(read > 100 && refused > 1000, "{read} read, {refused} refused");
    }
}
