//! `environment.json` of the classic layout: pre-processing, class map and colours (SPEC §1.2, 2.2).

use std::path::Path;

use serde_json::{Map, Value};

use super::json::integer;
use super::{Error, ResizeMode};
use crate::frame::{Contrast, CropPercent};

/// A colour, red green blue.
pub type Rgb = [u8; 3];

/// Colours of classes that have none in `COLORS`, by class index modulo nine (SPEC §1.2).
pub const PALETTE: [Rgb; 9] = [
    [0x48, 0x92, 0xEA],
    [0x00, 0xEE, 0xC3],
    [0xFE, 0x4E, 0xF0],
    [0xF4, 0x00, 0x4E],
    [0xFA, 0x72, 0x00],
    [0xEE, 0xEE, 0x17],
    [0x90, 0xFF, 0x00],
    [0x78, 0xC1, 0xD2],
    [0x8C, 0x29, 0xFF],
];

/// `PREPROCESSING`: what is done to an image before the network sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preprocessing {
    /// The key `auto-orient` is present; its `enabled` is not looked at (SPEC §2.1).
    pub auto_orient: bool,
    pub static_crop: Option<CropPercent>,
    pub contrast: Option<Contrast>,
    pub grayscale: bool,
    pub resize: Resize,
}

/// How an image comes to the network's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resize {
    pub format: ResizeFormat,
    /// What the default engine's packages say for the same format, with the level of the padding.
    pub mode: (ResizeMode, u8),
    /// Pixels, used where the network's own size is symbolic.
    pub width: Option<usize>,
    pub height: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResizeFormat {
    #[default]
    Stretch,
    /// Letterbox with this grey level.
    Fit { fill: u8 },
}

impl ResizeFormat {
    /// The classic engine's reading of `resize.format`: three formats it does not know become black edges, anything
    /// else it does not know becomes a stretch.
    fn classic(format: &str) -> Self {
        match format {
            "Fit (white edges) in" => Self::Fit { fill: 255 },
            "Fit (grey edges) in" => Self::Fit { fill: 114 },
            "Fit (black edges) in" | "Fit (reflect edges) in" | "Fit within" | "Fill (with center crop) in" => {
                Self::Fit { fill: 0 }
            }
            _ => Self::Stretch,
        }
    }
}

/// How the default engine's packages word a `resize.format`.
fn default_mode(format: &str) -> (ResizeMode, u8) {
    match format {
        "Fit (white edges) in" => (ResizeMode::Letterbox, 255),
        "Fit (grey edges) in" => (ResizeMode::Letterbox, 127),
        "Fit (black edges) in" => (ResizeMode::Letterbox, 0),
        "Fit (reflect edges) in" => (ResizeMode::LetterboxReflectEdges, 0),
        "Fit within" => (ResizeMode::FitLongerEdge, 0),
        "Fill (with center crop) in" => (ResizeMode::CenterCrop, 0),
        _ => (ResizeMode::Stretch, 0),
    }
}

/// The keys of `environment.json` that are read.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub preprocessing: Preprocessing,
    /// Class names by index, from `CLASS_MAP`; empty when the key is absent.
    pub class_map: Vec<String>,
    /// `MULTICLASS`: a classifier that answers for every class by itself.
    pub multiclass: bool,
    colors: Map<String, Value>,
}

impl Environment {
    /// Parses the text of the file at `path` (named in errors only).
    ///
    /// # Errors
    /// Not JSON, no `PREPROCESSING`, or a value of the wrong kind; the message names the key.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let fail = |message: String| Error::parse(path, message);
        let root: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| fail(format!("not a JSON object: {error}")))?;
        let preprocessing = match root.get("PREPROCESSING") {
            Some(Value::Object(object)) => object.clone(),
            Some(Value::String(text)) => serde_json::from_str(text)
                .map_err(|error| fail(format!("PREPROCESSING: the string holds no JSON object: {error}")))?,
            Some(other) => return Err(fail(format!("PREPROCESSING: expected an object or a string, found {other}"))),
            None => return Err(fail("the key PREPROCESSING is missing".into())),
        };
        let class_map = match root.get("CLASS_MAP") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Object(map)) => class_map(map).map_err(&fail)?,
            Some(other) => return Err(fail(format!("CLASS_MAP: expected an object, found {other}"))),
        };
        let colors = root.get("COLORS").and_then(Value::as_object).cloned().unwrap_or_default();
        let multiclass = root.get("MULTICLASS") == Some(&Value::Bool(true));
        Ok(Self { preprocessing: parse_preprocessing(&preprocessing).map_err(fail)?, class_map, multiclass, colors })
    }

    /// The colour of a class: from `COLORS`, else from the palette.
    #[must_use]
    pub fn color(&self, index: usize, name: &str) -> Rgb {
        let fallback = PALETTE[index % PALETTE.len()];
        self.colors.get(name).and_then(Value::as_str).and_then(parse_hex).unwrap_or(fallback)
    }
}

fn parse_preprocessing(object: &Map<String, Value>) -> Result<Preprocessing, String> {
    let enabled = |key: &str| {
        object.get(key).and_then(Value::as_object).filter(|step| step.get("enabled") == Some(&Value::Bool(true)))
    };
    let static_crop = enabled("static-crop").map(parse_crop).transpose()?;
    let contrast = enabled("contrast")
        .map(|step| match step.get("type").and_then(Value::as_str) {
            Some("Contrast Stretching") => Ok(Contrast::Stretching),
            Some("Histogram Equalization") => Ok(Contrast::Histogram),
            Some("Adaptive Equalization") => Ok(Contrast::Adaptive),
            other => Err(format!(
                "PREPROCESSING.contrast.type: found {other:?}, expected \"Contrast Stretching\", \
                 \"Histogram Equalization\" or \"Adaptive Equalization\""
            )),
        })
        .transpose()?;
    let resize = object.get("resize").and_then(Value::as_object);
    let format = resize.and_then(|resize| resize.get("format")).and_then(Value::as_str).unwrap_or_default();
    let side = |key: &str| resize.and_then(|resize| resize.get(key)).and_then(integer);
    Ok(Preprocessing {
        auto_orient: object.contains_key("auto-orient"),
        static_crop,
        contrast,
        grayscale: enabled("grayscale").is_some(),
        resize: Resize {
            format: ResizeFormat::classic(format),
            mode: default_mode(format),
            width: side("width"),
            height: side("height"),
        },
    })
}

fn parse_crop(step: &Map<String, Value>) -> Result<CropPercent, String> {
    let bound = |key: &str| {
        step.get(key).and_then(Value::as_f64).filter(|percent| (0.0..=100.0).contains(percent)).ok_or_else(|| {
            format!("PREPROCESSING.static-crop.{key}: found {:?}, expected a percentage from 0 to 100", step.get(key))
        })
    };
    let crop =
        CropPercent { x_min: bound("x_min")?, x_max: bound("x_max")?, y_min: bound("y_min")?, y_max: bound("y_max")? };
    if crop.x_min >= crop.x_max || crop.y_min >= crop.y_max {
        return Err(format!("PREPROCESSING.static-crop: {crop:?} leaves nothing of the image"));
    }
    Ok(crop)
}

fn class_map(map: &Map<String, Value>) -> Result<Vec<String>, String> {
    let mut indexed: Vec<(usize, String)> = Vec::with_capacity(map.len());
    for (key, value) in map {
        let index = key.parse().map_err(|_| format!("CLASS_MAP: key `{key}`: expected a class index"))?;
        let name = value.as_str().ok_or_else(|| format!("CLASS_MAP.{key}: expected a name, found {value}"))?;
        indexed.push((index, name.into()));
    }
    indexed.sort();
    if indexed.iter().enumerate().any(|(position, (index, _))| position != *index) {
        return Err(format!("CLASS_MAP: the {} indices are not 0, 1, 2, …", indexed.len()));
    }
    Ok(indexed.into_iter().map(|(_, name)| name).collect())
}

fn parse_hex(text: &str) -> Option<Rgb> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
    let channel = |i: usize| u8::from_str_radix(&digits[i..i + 2], 16).ok();
    Some([channel(0)?, channel(2)?, channel(4)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Environment, Error> {
        Environment::parse(text, Path::new("environment.json"))
    }

    #[test]
    fn preprocessing_is_read_as_object_and_as_string_of_json() {
        let object = parse(r#"{"PREPROCESSING": {"auto-orient": {"enabled": false}, "resize": {"format": "Fit (grey edges) in", "width": 320, "height": "240"}}}"#).unwrap();
        let string = parse(r#"{"PREPROCESSING": "{\"auto-orient\": {\"enabled\": false}, \"resize\": {\"format\": \"Fit (grey edges) in\", \"width\": 320, \"height\": \"240\"}}"}"#).unwrap();
        assert_eq!(object.preprocessing, string.preprocessing);
        let preprocessing = object.preprocessing;
        assert!(preprocessing.auto_orient, "presence counts, not `enabled`");
        assert_eq!(preprocessing.resize.format, ResizeFormat::Fit { fill: 114 });
        assert_eq!((preprocessing.resize.width, preprocessing.resize.height), (Some(320), Some(240)));
    }

    #[test]
    fn formats_the_classic_engine_does_not_know_fall_back_as_it_does() {
        for (format, expected) in [
            ("Fit within", ResizeFormat::Fit { fill: 0 }),
            ("Fit (reflect edges) in", ResizeFormat::Fit { fill: 0 }),
            ("Fill (with center crop) in", ResizeFormat::Fit { fill: 0 }),
            ("Stretch to", ResizeFormat::Stretch),
            ("anything", ResizeFormat::Stretch),
        ] {
            assert_eq!(ResizeFormat::classic(format), expected);
        }
    }

    #[test]
    fn steps_count_only_when_enabled() {
        let off = parse(
            r#"{"PREPROCESSING": {"grayscale": {"enabled": false}, "static-crop": {"enabled": false, "x_min": 5}}}"#,
        )
        .unwrap();
        assert!(!off.preprocessing.grayscale && off.preprocessing.static_crop.is_none());
    }

    #[test]
    fn faults_name_their_key() {
        for (text, word) in [
            ("[]", "JSON object"),
            ("{}", "PREPROCESSING is missing"),
            (r#"{"PREPROCESSING": 3}"#, "PREPROCESSING"),
            (r#"{"PREPROCESSING": "nope"}"#, "string holds no JSON"),
            (
                r#"{"PREPROCESSING": {"static-crop": {"enabled": true, "x_min": 50, "x_max": 20, "y_min": 0, "y_max": 9}}}"#,
                "leaves nothing",
            ),
            (
                r#"{"PREPROCESSING": {"static-crop": {"enabled": true, "x_min": -5, "x_max": 20, "y_min": 0, "y_max": 9}}}"#,
                "x_min",
            ),
            (r#"{"PREPROCESSING": {"contrast": {"enabled": true, "type": "More"}}}"#, "contrast.type"),
            (r#"{"PREPROCESSING": {}, "CLASS_MAP": {"0": "a", "2": "b"}}"#, "CLASS_MAP"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(word), "{text}: {message}");
        }
    }

    #[test]
    fn colours_come_from_the_file_or_the_palette() {
        let environment = parse(r##"{"PREPROCESSING": {}, "COLORS": {"cat": "#C7FC00", "dog": "red"}}"##).unwrap();
        assert_eq!(environment.color(0, "cat"), [0xC7, 0xFC, 0x00]);
        assert_eq!(environment.color(1, "dog"), PALETTE[1]);
        assert_eq!(environment.color(10, "cow"), PALETTE[1]);
    }
}
