//! Which (task, type) pairs of a package this binary can run, and as what.

use super::{Error, Semantics};
use crate::cache::{Layout, Package};

/// What a model is for: what its predictions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    ObjectDetection,
    InstanceSegmentation,
    KeypointDetection,
    Classification,
    MultiLabelClassification,
    SemanticSegmentation,
}

impl Task {
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
    YoloX,
    RtDetr,
    RfDetr,
    /// Classifiers whose levels are normalised by 0.5 and 0.5: ViT.
    Vit,
    /// Classifiers whose levels are normalised by ImageNet's mean and deviation: ResNet.
    ResNet,
    DinoV3,
    DeepLab,
}

/// What a package promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contract {
    pub task: Task,
    pub family: Family,
}

/// The contract of a package.
///
/// # Errors
/// The pair is none this binary can run; the message says why.
pub fn contract(package: &Package) -> Result<Contract, Error> {
    let kind = &package.kind;
    let detection = ["yolov8", "yolov9", "yolov11", "yolov12"].iter().any(|prefix| {
        kind.task == "object-detection"
            && kind
                .model_type
                .strip_prefix(prefix)
                .is_some_and(|size| ["", "n", "s", "m", "b", "l", "x"].contains(&size))
    });
    match (detection, Semantics::of(package)) {
        (true, Semantics::Classic) => Ok(Contract { task: Task::ObjectDetection, family: Family::YoloV8 }),
        _ => Err(Error::Unsupported {
            id: package.id.clone(),
            task: kind.task.clone(),
            model_type: kind.model_type.clone(),
            why: "not yet".into(),
        }),
    }
}

impl Semantics {
    /// Of the engine that reads a package's layout.
    #[must_use]
    pub fn of(package: &Package) -> Self {
        match package.layout {
            Layout::Classic { .. } => Semantics::Classic,
            Layout::ModelsCache(_) => Semantics::Default,
        }
    }
}
