//! Which (task, type) pairs of a package this binary can run, and as what.

mod table;

use super::Error;
use crate::cache::{Layout, LayoutKind, Package, PackageKind};
use crate::error::nearest;
pub use table::{FOUNDATION, GROUPS};

/// What a model is for: what its predictions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    ObjectDetection,
    InstanceSegmentation,
    KeypointDetection,
    Classification,
    MultiLabelClassification,
    SemanticSegmentation,
    /// What the network answers, as it is.
    Raw,
}

impl Task {
    /// Of Roboflow's word for it.
    fn parse(word: &str) -> Option<Self> {
        [
            Task::ObjectDetection,
            Task::InstanceSegmentation,
            Task::KeypointDetection,
            Task::Classification,
            Task::MultiLabelClassification,
            Task::SemanticSegmentation,
            Task::Raw,
        ]
        .into_iter()
        .find(|task| task.as_str() == word)
    }

    /// Roboflow's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Task::ObjectDetection => "object-detection",
            Task::InstanceSegmentation => "instance-segmentation",
            Task::KeypointDetection => "keypoint-detection",
            Task::Classification => "classification",
            Task::MultiLabelClassification => "multi-label-classification",
            Task::SemanticSegmentation => "semantic-segmentation",
            Task::Raw => "raw",
        }
    }
}

/// A family of networks that share input and output contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    YoloV5,
    YoloV7,
    /// YOLOv8, 9, 11 and 12.
    YoloV8,
    YoloV10,
    Yolo26,
    YoloNas,
    YoloLite,
    YoloX,
    RtDetr,
    RfDetr,
    /// Classifiers whose levels are normalised by 0.5 and 0.5: ViT.
    Vit,
    /// Classifiers whose levels are normalised by ImageNet's mean and deviation: ResNet.
    ResNet,
    DinoV3,
    DeepLab,
    /// Whatever lies in a package of ours: its manifest says what the outputs are.
    Tflite,
}

impl Family {
    /// The name that people know it by.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Family::YoloV5 => "YOLOv5",
            Family::YoloV7 => "YOLOv7",
            Family::YoloV8 => "YOLOv8",
            Family::YoloV10 => "YOLOv10",
            Family::Yolo26 => "YOLO26",
            Family::YoloNas => "YOLO-NAS",
            Family::YoloLite => "YOLOLite",
            Family::YoloX => "YOLOX",
            Family::RtDetr => "RT-DETR",
            Family::RfDetr => "RF-DETR",
            Family::Vit => "ViT",
            Family::ResNet => "ResNet",
            Family::DinoV3 => "DINOv3",
            Family::DeepLab => "DeepLabV3+",
            Family::Tflite => "TensorFlow Lite",
        }
    }
}

impl Engines {
    /// In words, for tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Engines::Both => "classic, default",
            Engines::Default => "default",
            Engines::Ours | Engines::Manifest => "ours",
        }
    }
}

/// What a package promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contract {
    pub task: Task,
    pub family: Family,
}

/// Which of Roboflow's engines know a pair of task and type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engines {
    Both,
    /// Only the default engine.
    Default,
    /// None; it is an export of other tools that this binary runs from the classic layout.
    Ours,
    /// None; it runs from a package of ours, with a `firstlight.json`.
    Manifest,
}

/// What becomes of a pair of task and type here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    As(Family),
    /// Why it does not run.
    Not(&'static str),
}

/// Types of one task with one answer.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub task: &'static str,
    /// Words, with alternatives in braces.
    pub types: &'static str,
    pub engines: Engines,
    pub runs: Runs,
}

impl Group {
    /// Every type of the group, written out.
    #[must_use]
    pub fn model_types(&self) -> Vec<String> {
        self.types.split(' ').flat_map(expanded).collect()
    }
}

/// The words that a word with braces stands for: `a{,b}c` is `ac` and `abc`.
fn expanded(word: &str) -> Vec<String> {
    let Some((head, rest)) = word.split_once('{') else { return vec![word.into()] };
    let Some((alternatives, tail)) = rest.split_once('}') else { return vec![word.into()] };
    let tails = expanded(tail);
    alternatives.split(',').flat_map(|middle| tails.iter().map(move |tail| format!("{head}{middle}{tail}"))).collect()
}

/// The contract of a package.
///
/// # Errors
/// The pair is none this binary can run; the message says why.
pub fn contract(package: &Package) -> Result<Contract, Error> {
    let unsupported = |why| unsupported(&package.id, &package.kind, why);
    let family = family(&package.kind, package.layout_kind()).map_err(unsupported)?;
    let task = match (package.kind.task.as_str(), &package.layout) {
        // The classic engine does not ask YOLO's classifiers.
        ("classification", Layout::Classic { multiclass: true, .. }) if family != Family::YoloV8 => {
            Task::MultiLabelClassification
        }
        (task, _) => Task::parse(task).ok_or_else(|| unsupported("no decoder here has this task".into()))?,
    };
    Ok(Contract { task, family })
}

/// The family of a pair of task and type in a layout.
///
/// # Errors
/// Why the pair does not run here, in words.
pub fn family(kind: &PackageKind, layout: LayoutKind) -> Result<Family, String> {
    let group = GROUPS
        .iter()
        .find(|group| group.task == kind.task && group.model_types().contains(&kind.model_type))
        .ok_or_else(|| unknown(kind))?;
    match (group.runs, group.engines, layout) {
        (Runs::Not(why), ..) => Err(why.into()),
        (Runs::As(_), Engines::Default, LayoutKind::Classic) => {
            Err("only Roboflow's default engine knows it, and this package has the classic layout".into())
        }
        (Runs::As(_), Engines::Manifest, LayoutKind::Classic | LayoutKind::ModelsCache) => {
            Err("it runs from a directory with a firstlight.json only".into())
        }
        (Runs::As(_), Engines::Ours, LayoutKind::ModelsCache) => {
            Err("it is no type of Roboflow's, and runs from the classic layout only".into())
        }
        (Runs::As(family), ..) => Ok(family),
    }
}

fn unknown(kind: &PackageKind) -> String {
    let of_task = GROUPS.iter().filter(|group| group.task == kind.task);
    let types: Vec<String> = of_task.flat_map(Group::model_types).collect();
    if types.is_empty() {
        let tasks = nearest(&kind.task, GROUPS.iter().map(|group| group.task), 1);
        return format!("no such task is known{}", did_you_mean(&tasks));
    }
    let near = nearest(&kind.model_type, types.iter().map(String::as_str), 1);
    format!("no such type is known for the task{}", did_you_mean(&near))
}

fn did_you_mean(near: &[&str]) -> String {
    near.first().map(|near| format!("; the nearest is `{near}`")).unwrap_or_default()
}

/// The error for an id that names a foundation model of Roboflow's, which is never a package to be found.
#[must_use]
pub fn foundation(id: &str) -> Option<Error> {
    let lower = id.to_lowercase();
    let first = lower.split('/').next().unwrap_or_default();
    let named = |name: &str| FOUNDATION.iter().find(|(known, ..)| *known == name);
    let (_, task, model_type, runs) = named(&lower).or_else(|| named(first))?;
    let Runs::Not(why) = runs else { return None };
    let kind = PackageKind { task: (*task).into(), model_type: (*model_type).into() };
    Some(unsupported(id, &kind, format!("this is a foundation model; {why}")))
}

/// The error for a pair that does not run.
#[must_use]
pub fn unsupported(id: &str, kind: &PackageKind, why: String) -> Error {
    Error::Unsupported { id: id.into(), task: kind.task.clone(), model_type: kind.model_type.clone(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(task: &str, model_type: &str) -> PackageKind {
        PackageKind::new(task.into(), model_type.into())
    }

    #[test]
    fn groups_write_out_their_types() {
        assert_eq!(expanded("yolov9"), ["yolov9"]);
        assert_eq!(expanded("a{,b}{c,d}"), ["ac", "ad", "abc", "abd"]);
    }

    #[test]
    fn no_pair_is_there_twice_and_every_family_has_a_task_that_can_be_answered() {
        let mut seen = std::collections::HashSet::new();
        for group in GROUPS {
            for model_type in group.model_types() {
                assert!(seen.insert((group.task, model_type.clone())), "{} {model_type}", group.task);
            }
            assert!(matches!(group.runs, Runs::Not(_)) || Task::parse(group.task).is_some(), "{group:?}");
        }
    }

    #[test]
    fn the_layout_decides_which_types_are_known() {
        let classic = |task: &str, model_type: &str| family(&kind(task, model_type), LayoutKind::Classic);
        let default = |task: &str, model_type: &str| family(&kind(task, model_type), LayoutKind::ModelsCache);
        assert_eq!(classic("object-detection", "yolov8n"), Ok(Family::YoloV8));
        assert_eq!(default("object-detection", "yolov8"), Ok(Family::YoloV8));
        assert_eq!(default("keypoint-detection", "rfdetr"), Ok(Family::RfDetr));
        assert!(classic("keypoint-detection", "rfdetr").unwrap_err().contains("default engine"));
        assert_eq!(classic("object-detection", "rtdetr-l"), Ok(Family::RtDetr));
        assert!(default("object-detection", "rtdetr-l").unwrap_err().contains("classic layout"));
    }

    #[test]
    fn types_that_are_not_said_are_roboflows_defaults() {
        for said in ["", "ort"] {
            assert_eq!(family(&kind("object-detection", said), LayoutKind::Classic), Ok(Family::YoloV5));
            assert_eq!(family(&kind("classification", said), LayoutKind::Classic), Ok(Family::Vit));
            assert_eq!(family(&kind("keypoint-detection", said), LayoutKind::Classic), Ok(Family::YoloV8));
        }
    }

    #[test]
    fn what_is_not_known_is_said_with_the_nearest() {
        let why = |task: &str, model_type: &str| family(&kind(task, model_type), LayoutKind::Classic).unwrap_err();
        assert_eq!(why("object-detection", "yolo8n"), "no such type is known for the task; the nearest is `yolov8n`");
        assert_eq!(why("object-detect", "yolov8n"), "no such task is known; the nearest is `object-detection`");
        assert!(why("instance-segmentation", "yolact").contains("not written yet"));
    }

    #[test]
    fn foundation_models_are_known_by_id_and_by_first_chunk() {
        for (id, words) in [
            ("clip/ViT-B-16", ["type `clip`", "text encoder"]),
            ("sam2", ["type `sam2`", "points at"]),
            ("sam3/sam3_interactive", ["interactive-segmentation", "points at"]),
            ("pp_ocr/tiny-small", ["type `pp_ocr`", "reads text"]),
        ] {
            let message = foundation(id).unwrap().to_string();
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
        }
        assert!(foundation("coco/3").is_none() && foundation("clipboard/1").is_none());
    }
}
