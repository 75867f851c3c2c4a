//! A package of ours for a network in TensorFlow Lite's format: `{root}/{model id}/` with `model.tflite` and
//! `firstlight.json`, which says what a `.tflite` file does not: how a picture becomes its input, and what its answers mean.

use std::path::Path;

use serde::Deserialize;

use super::classic::class_names;
use super::digest::is_hex;
use super::json::NAME_BYTES_MAX;
use super::reader::Reader;
use super::{
    ColorMode, Error, InferenceConfig, Layout, ModelId, NetworkInput, Normalization, PALETTE, Package, PackageKind,
    PostProcessing, ResizeMode, Skeleton, Weights,
};

pub(super) const MANIFEST: &str = "firstlight.json";
const MODEL: &str = "model.tflite";
const CLASS_NAMES: &str = "class_names.txt";

/// The type of every such package.
const MODEL_TYPE: &str = "tflite";
/// ImageNet's largest set has 21,841 classes.
const CLASSES_MAX: usize = 65_536;
/// Whole-body skeletons have 133 points.
const KEYPOINTS_MAX: usize = 512;

/// What a package of ours says besides what every package says.
#[derive(Clone, Debug, PartialEq)]
pub struct Tflite {
    /// How a picture becomes the input, in the terms of the default engine, which has all of it.
    pub config: InferenceConfig,
    pub answers: Answers,
    /// Of the network's file, hex, where the manifest states it.
    pub sha256: Option<String>,
}

/// What the outputs are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answers {
    /// `[1, classes]`: scores that sum to one, or what softmax makes these of.
    Scores {
        softmax: bool,
    },
    /// What the operator `TFLite_Detection_PostProcess` answers.
    Boxes(BoxOutputs),
    /// `[1, 1, key points, 3]`: y, x, score.
    Pose,
    Raw,
}

/// Which output is which: corners `[1, N, 4]` (top, left, bottom, right, as shares of the input's sides), classes `[1, N]`,
/// scores `[1, N]`, and how many of these count.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BoxOutputs {
    pub boxes: usize,
    pub classes: usize,
    pub scores: usize,
    pub count: usize,
}

impl Default for BoxOutputs {
    /// The order of the operator.
    fn default() -> Self {
        Self { boxes: 0, classes: 1, scores: 2, count: 3 }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Task {
    Classification,
    ObjectDetection,
    KeypointDetection,
    Raw,
}

impl Task {
    fn as_str(self) -> &'static str {
        match self {
            Task::Classification => "classification",
            Task::ObjectDetection => "object-detection",
            Task::KeypointDetection => "keypoint-detection",
            Task::Raw => "raw",
        }
    }
}

/// `firstlight.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    task: Task,
    sha256: Option<String>,
    class_names: Option<Vec<String>>,
    #[serde(default)]
    input: Input,
    /// For `classification`: the outputs are no shares of one yet.
    softmax: Option<bool>,
    /// For `object-detection`.
    outputs: Option<BoxOutputs>,
    /// For `keypoint-detection`.
    keypoints: Option<Keypoints>,
}

/// What becomes of a picture's levels, and of its size.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Input {
    unit: Unit,
    mean: PerChannel,
    std: PerChannel,
    color: Color,
    resize: Fit,
    /// Level of what a letterbox leaves free.
    padding: u8,
}

impl Default for Input {
    fn default() -> Self {
        let (mean, std) = (PerChannel::Same(0.0), PerChannel::Same(1.0));
        Self { unit: Unit::Byte, mean, std, color: Color::Rgb, resize: Fit::Stretch, padding: 0 }
    }
}

/// Levels before mean and deviation: 0 to 255, or 0 to 1.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unit {
    Byte,
    Fraction,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Color {
    Rgb,
    Bgr,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fit {
    Stretch,
    Letterbox,
}

/// In the order of the network's channels.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum PerChannel {
    Same(f32),
    Each([f32; 3]),
}

impl PerChannel {
    fn each(self) -> [f32; 3] {
        match self {
            PerChannel::Same(value) => [value; 3],
            PerChannel::Each(values) => values,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keypoints {
    names: Vec<String>,
    #[serde(default)]
    edges: Vec<(usize, usize)>,
}

/// Whether a directory holds such a package.
pub(super) fn is_package(dir: &Path) -> bool {
    dir.join(MANIFEST).symlink_metadata().is_ok()
}

/// Reads the package in `dir` of the cache at `root`; `id` is what was asked for, `None` when listing.
pub(super) fn read(root: &Path, dir: &Path, id: Option<&ModelId>) -> Result<Package, Error> {
    let reader = Reader { root, dir };
    let manifest = manifest(&reader)?;
    let names = names(&reader, &manifest)?;
    let weights = Weights::map(&reader.inside(MODEL)?)?;
    let own_id = || dir.strip_prefix(root).unwrap_or(dir).to_string_lossy().into_owned();
    let id = id.map_or_else(own_id, |id| id.as_str().into());
    let keypoints = manifest.keypoints.iter().map(|keypoints| Skeleton {
        class_id: 0,
        names: keypoints.names.clone(),
        edges: keypoints.edges.clone(),
    });
    Ok(Package {
        id,
        dir: dir.into(),
        kind: manifest.kind(),
        colors: (0..names.len()).map(|class| PALETTE[class % PALETTE.len()]).collect(),
        class_names: names,
        keypoints: keypoints.collect(),
        layout: Layout::Tflite(Box::new(Tflite {
            config: manifest.config(),
            answers: manifest.answers(),
            sha256: manifest.sha256,
        })),
        weights,
        prebuilt: Vec::new(),
        lease: None,
    })
}

/// Everything that is wrong with the files of the package in `dir`: each is looked at, also after a fault, and the network's
/// is hashed where a digest of it is stated.
pub(super) fn faults(root: &Path, dir: &Path) -> Vec<Error> {
    let reader = Reader { root, dir };
    let mut faults = Vec::new();
    let manifest = manifest(&reader).map_err(|error| faults.push(error)).ok();
    if let Some(manifest) = &manifest {
        faults.extend(names(&reader, manifest).err());
    }
    let expected = manifest.and_then(|manifest| manifest.sha256);
    match reader.inside(MODEL).and_then(|path| Weights::map(&path)) {
        Err(error) => faults.push(error),
        Ok(weights) => faults.extend(expected.and_then(|expected| {
            let found = weights.sha256();
            (found != expected).then(|| Error::Digest { path: weights.path().into(), expected, found })
        })),
    }
    faults
}

/// Task and type of the package in `dir`, if they can be read.
pub(super) fn kind_of(root: &Path, dir: &Path) -> Option<PackageKind> {
    Some(manifest(&Reader { root, dir }).ok()?.kind())
}

fn manifest(reader: &Reader<'_>) -> Result<Manifest, Error> {
    Manifest::parse(&reader.text(MANIFEST)?, &reader.dir.join(MANIFEST))
}

/// Of the manifest, else of `class_names.txt` where there is one; a network that is made for one pose knows one class.
fn names(reader: &Reader<'_>, manifest: &Manifest) -> Result<Vec<String>, Error> {
    let listed = || reader.dir.join(CLASS_NAMES).symlink_metadata().is_ok();
    let (names, file) = match &manifest.class_names {
        Some(names) => (names.clone(), MANIFEST),
        None if listed() => (class_names(&reader.text(CLASS_NAMES)?), CLASS_NAMES),
        None => match manifest.task {
            Task::Classification => {
                let what = format!("class_names: a classifier needs names, here or in {CLASS_NAMES}");
                return Err(Error::parse(&reader.dir.join(MANIFEST), what));
            }
            Task::KeypointDetection => (vec!["person".to_owned()], MANIFEST),
            Task::ObjectDetection | Task::Raw => (Vec::new(), MANIFEST),
        },
    };
    let fail = |why: String| Err(Error::parse(&reader.dir.join(file), why));
    if names.len() > CLASSES_MAX {
        return fail(format!("{} class names; at most {CLASSES_MAX} are read", names.len()));
    }
    match (manifest.task, names.len()) {
        (Task::KeypointDetection, 1) => Ok(names),
        (Task::KeypointDetection, found) => fail(format!("class_names: a single pose has one class, found {found}")),
        (Task::Classification, 0) => fail("names no class".into()),
        _ => match names.iter().map(String::len).max() {
            Some(bytes) if bytes > NAME_BYTES_MAX => fail(format!("a class name of {bytes} bytes")),
            _ => Ok(names),
        },
    }
}

impl Manifest {
    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let read: Self = serde_json::from_str(text).map_err(|error| Error::parse(path, error))?;
        match read.fault() {
            Some(why) => Err(Error::parse(path, why)),
            None => Ok(read),
        }
    }

    /// What types do not say.
    fn fault(&self) -> Option<String> {
        let task = self.task.as_str();
        let foreign = match self.task {
            Task::Classification => [("outputs", self.outputs.is_some()), ("keypoints", self.keypoints.is_some())],
            Task::ObjectDetection => [("softmax", self.softmax.is_some()), ("keypoints", self.keypoints.is_some())],
            Task::KeypointDetection => [("softmax", self.softmax.is_some()), ("outputs", self.outputs.is_some())],
            Task::Raw => [
                ("softmax", self.softmax.is_some()),
                ("outputs` or `keypoints", self.outputs.is_some() || self.keypoints.is_some()),
            ],
        };
        if let Some((key, _)) = foreign.iter().find(|(_, there)| *there) {
            return Some(format!("`{key}` does not go with the task `{task}`"));
        }
        if let Some(sha256) = self.sha256.as_ref().filter(|sha256| !is_hex(sha256, 64)) {
            let found = super::error::short(sha256, 80);
            return Some(format!("sha256: expected 64 lower-case hex digits, found `{found}`"));
        }
        let (mean, std) = (self.input.mean.each(), self.input.std.each());
        if std.contains(&0.0) || mean.iter().chain(&std).any(|value| !value.is_finite()) {
            return Some(format!("input: mean {mean:?}, std {std:?}: expected finite numbers, and no std of 0"));
        }
        if let Some(BoxOutputs { boxes, classes, scores, count }) = self.outputs {
            let mut order = [boxes, classes, scores, count];
            order.sort_unstable();
            if order != [0, 1, 2, 3] {
                return Some("outputs: expected each of 0, 1, 2 and 3 once".into());
            }
        }
        match (self.task, &self.keypoints) {
            (Task::KeypointDetection, None) => Some("keypoints: the names of the points are missing".into()),
            (_, Some(keypoints)) => keypoints.fault(),
            _ => None,
        }
    }

    fn kind(&self) -> PackageKind {
        PackageKind { task: self.task.as_str().into(), model_type: MODEL_TYPE.into() }
    }

    fn answers(&self) -> Answers {
        match self.task {
            Task::Classification => Answers::Scores { softmax: self.softmax.unwrap_or(false) },
            Task::ObjectDetection => Answers::Boxes(self.outputs.unwrap_or_default()),
            Task::KeypointDetection => Answers::Pose,
            Task::Raw => Answers::Raw,
        }
    }

    fn config(&self) -> InferenceConfig {
        let input = &self.input;
        let (mean, std) = (input.mean.each(), input.std.each());
        let is_identity = mean == [0.0; 3] && std == [1.0; 3];
        InferenceConfig {
            static_crop: None,
            contrast: None,
            grayscale: false,
            network_input: NetworkInput {
                size: None,
                dataset_size: None,
                color: match input.color {
                    Color::Rgb => ColorMode::Rgb,
                    Color::Bgr => ColorMode::Bgr,
                },
                resize: match input.resize {
                    Fit::Stretch => ResizeMode::Stretch,
                    Fit::Letterbox => ResizeMode::Letterbox,
                },
                padding: f32::from(input.padding),
                scaling: match input.unit {
                    Unit::Byte => None,
                    Unit::Fraction => Some(255.0),
                },
                normalization: (!is_identity).then_some(Normalization { mean, std }),
            },
            static_batch: None,
            post_processing: PostProcessing::default(),
            removed_classes: Vec::new(),
        }
    }
}

impl Keypoints {
    fn fault(&self) -> Option<String> {
        let count = self.names.len();
        if !(1..=KEYPOINTS_MAX).contains(&count) || self.edges.len() > KEYPOINTS_MAX * 2 {
            let edges = self.edges.len();
            return Some(format!("keypoints: expected 1 to {KEYPOINTS_MAX} names, found {count}, with {edges} edges"));
        }
        if let Some(name) = self.names.iter().find(|name| name.len() > NAME_BYTES_MAX) {
            return Some(format!("keypoints: a name of {} bytes", name.len()));
        }
        let outside = self.edges.iter().find(|(from, to)| *from >= count || *to >= count);
        outside.map(|edge| format!("keypoints: edge {edge:?} leads to none of the {count} points"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSE: &str = r#"{"task": "keypoint-detection", "sha256": null,
        "input": {"unit": "fraction", "mean": [0.5, 0.4, 0.3], "std": 0.5, "color": "bgr", "resize": "letterbox", "padding": 114},
        "keypoints": {"names": ["nose", "tail"], "edges": [[0, 1]]}}"#;

    fn parse(text: &str) -> Result<Manifest, String> {
        Manifest::parse(text, Path::new(MANIFEST)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_manifest_says_what_the_file_does_not() {
        let manifest = parse(POSE).unwrap();
        assert_eq!(manifest.answers(), Answers::Pose);
        let input = manifest.config().network_input;
        assert_eq!((input.color, input.resize, input.padding), (ColorMode::Bgr, ResizeMode::Letterbox, 114.0));
        assert_eq!(input.normalization, Some(Normalization { mean: [0.5, 0.4, 0.3], std: [0.5; 3] }));
        assert_eq!(input.scaling, Some(255.0));
        let plain =
            parse(r#"{"task": "object-detection", "outputs": {"scores": 0, "boxes": 1, "count": 2, "classes": 3}}"#);
        let plain = plain.unwrap();
        let outputs = BoxOutputs { scores: 0, boxes: 1, count: 2, classes: 3 };
        assert_eq!(plain.answers(), Answers::Boxes(outputs));
        let input = plain.config().network_input;
        assert_eq!((input.scaling, input.normalization, input.resize), (None, None, ResizeMode::Stretch));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, word) in [
            ("\"task\"", "\"tasks\"", "unknown field `tasks`"),
            ("keypoint-detection", "pose", "unknown variant `pose`"),
            ("\"mean\"", "\"means\"", "unknown field `means`"),
            ("\"fraction\"", "\"unit\"", "expected `byte` or `fraction`"),
            ("[0.5, 0.4, 0.3]", "[0.5, 0.4]", "line"),
            ("\"std\": 0.5", "\"std\": 0", "no std of 0"),
            ("\"padding\": 114", "\"padding\": 256", "256"),
            ("\"sha256\": null", "\"sha256\": \"AB\"", "64 lower-case hex digits"),
            ("\"sha256\": null", "\"softmax\": true", "`softmax` does not go with the task `keypoint-detection`"),
            ("[[0, 1]]", "[[0, 2]]", "(0, 2)"),
            ("[\"nose\", \"tail\"]", "[]", "1 to 512 names"),
            ("\"edges\"", "\"lines\"", "unknown field `lines`"),
        ] {
            assert!(POSE.contains(from), "{from}");
            let message = parse(&POSE.replace(from, to)).map(drop).unwrap_err();
            assert!(message.contains(word), "{from} → {to}: {message}");
        }
        for (text, word) in [
            (r#"{"task": "keypoint-detection"}"#, "names of the points are missing"),
            (r#"{"task": "object-detection", "outputs": {"boxes": 1}}"#, "each of 0, 1, 2 and 3 once"),
            (r#"{"task": "raw", "keypoints": {"names": ["a"]}}"#, "does not go with the task `raw`"),
            ("[]", "expected struct"),
        ] {
            let message = parse(text).map(drop).unwrap_err();
            assert!(message.contains(word), "{text}: {message}");
        }
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(&deep).is_err());
    }
}
