//! Which (task, type) pairs of a package this binary can run, and as what.

use super::Error;
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
    let multi = matches!(package.layout, Layout::Classic { multiclass: true, .. });
    let is = |prefix: &str| kind.model_type.starts_with(prefix);
    let task = match kind.task.as_str() {
        "object-detection" => Task::ObjectDetection,
        "instance-segmentation" => Task::InstanceSegmentation,
        "keypoint-detection" => Task::KeypointDetection,
        "classification" if multi && !is("yolo") => Task::MultiLabelClassification,
        "classification" => Task::Classification,
        "multi-label-classification" => Task::MultiLabelClassification,
        _ => Task::SemanticSegmentation,
    };
    let family = if is("yolov5") {
        Family::YoloV5
    } else if is("yolov7") {
        Family::YoloV7
    } else if is("yolov10") {
        Family::YoloV10
    } else if is("yolov") {
        Family::YoloV8
    } else if is("yolo26") {
        Family::Yolo26
    } else if is("yolo") {
        Family::YoloNas
    } else if is("rfdetr") {
        Family::RfDetr
    } else if is("vit") {
        Family::Vit
    } else if is("resnet") {
        Family::ResNet
    } else if is("dino") {
        Family::DinoV3
    } else {
        Family::DeepLab
    };
    Ok(Contract { task, family })
}
