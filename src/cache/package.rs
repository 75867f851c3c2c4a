//! One package of a model, read and checked, without its network being parsed.

use std::path::PathBuf;
use std::sync::Arc;

use super::{
    Error, InferenceConfig, Lease, Prebuilt, Preprocessing, Recommended, Rgb, Skeleton, Tflite, Weights, classic,
};

/// What Roboflow calls the task and the type of a model: the pair that picks its decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageKind {
    pub task: String,
    pub model_type: String,
}

/// A package: everything but the network itself, which stays behind [`Weights`].
#[derive(Debug)]
pub struct Package {
    pub id: String,
    pub dir: PathBuf,
    pub kind: PackageKind,
    pub layout: Layout,
    pub class_names: Vec<String>,
    /// One a class.
    pub colors: Vec<Rgb>,
    /// What `keypoints_metadata.json` says; empty without that file.
    pub keypoints: Vec<Skeleton>,
    pub weights: Weights,
    /// Engines built ahead of time from the same weights that may run on this machine, best first.
    pub prebuilt: Vec<Prebuilt>,
    /// That it is in use, where it was opened to be run and its file system knows locks.
    pub lease: Option<Arc<Lease>>,
}

/// Which layout a package lies in, Roboflow's two or ours, with what only that layout says. It decides whose answers are
/// given: a classic package is decoded as the classic engine does, one of the models-cache as the default engine does, and
/// one of ours, which neither of them reads, in the default engine's terms.
#[derive(Clone, Debug, PartialEq)]
pub enum Layout {
    Classic {
        preprocessing: Preprocessing,
        /// `MULTICLASS`: every class is answered for itself.
        multiclass: bool,
    },
    ModelsCache(Box<ModelsCache>),
    Tflite(Box<Tflite>),
}

/// The name of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayoutKind {
    /// `{project}/{version}/`
    Classic,
    /// `models-cache/v2-{slug}-{hash}/{package}/`
    ModelsCache,
    /// `{project}/{version}/` with `firstlight.json`
    Tflite,
}

/// One package of a model in the models-cache layout.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelsCache {
    pub package_id: String,
    /// `onnx`, `trt`, …
    pub backend: String,
    /// `fp32`, `fp16`, …
    pub quantization: String,
    pub config: InferenceConfig,
    pub recommended: Recommended,
}

impl Package {
    /// A package in classic layout whose files are part of this binary.
    ///
    /// # Errors
    /// As for one on disk: a text that does not parse.
    pub fn embedded(
        id: &str,
        model_type: &str,
        environment: &str,
        class_names: &str,
        network: &'static [u8],
    ) -> Result<Self, Error> {
        let dir = PathBuf::from("(embedded)").join(id);
        let texts = classic::Texts {
            kind: classic::kind(model_type, &dir)?,
            environment: environment.into(),
            class_names: Some(class_names.into()),
            keypoints: None,
        };
        texts.assemble(id.into(), &dir, Weights::embedded("(embedded)/weights.onnx", network))
    }

    #[must_use]
    pub fn layout_kind(&self) -> LayoutKind {
        match self.layout {
            Layout::Classic { .. } => LayoutKind::Classic,
            Layout::ModelsCache(_) => LayoutKind::ModelsCache,
            Layout::Tflite(_) => LayoutKind::Tflite,
        }
    }
}

impl LayoutKind {
    /// As `--json` writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LayoutKind::Classic => "classic",
            LayoutKind::ModelsCache => "models-cache",
            LayoutKind::Tflite => "tflite",
        }
    }
}

impl PackageKind {
    /// Old versions say `ort` for the type, or nothing; Roboflow then takes a type by task (`MODEL_TYPE_DEFAULTS`,
    /// SPEC §1.2).
    #[must_use]
    pub fn new(task: String, model_type: String) -> Self {
        let default = match task.as_str() {
            "object-detection" => "yolov5v2s",
            "instance-segmentation" => "yolact",
            "classification" => "vit",
            "keypoint-detection" => "yolov8n",
            _ => "",
        };
        match model_type.as_str() {
            "" | "ort" => Self { task, model_type: default.into() },
            _ => Self { task, model_type },
        }
    }

    /// The name of the weights file in the classic layout (SPEC §1.2).
    #[must_use]
    pub fn weights_file(&self) -> &'static str {
        let is = |prefix: &str| self.model_type.starts_with(prefix);
        match self.task.as_str() {
            "object-detection" | "instance-segmentation" if is("yolov5") => "yolov5s_weights.onnx",
            "classification" if is("vit") || is("resnet") || is("dinov3") => "best.onnx",
            _ => "weights.onnx",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classic_engine_names_weights_by_task_and_family() {
        for (task, model_type, file) in [
            ("object-detection", "yolov5v6n", "yolov5s_weights.onnx"),
            ("instance-segmentation", "yolov5-seg", "yolov5s_weights.onnx"),
            ("classification", "vit", "best.onnx"),
            ("classification", "resnet50", "best.onnx"),
            ("classification", "dinov3_probe", "best.onnx"),
            ("classification", "yolov8n", "weights.onnx"),
            ("object-detection", "rfdetr-nano", "weights.onnx"),
        ] {
            assert_eq!(PackageKind::new(task.into(), model_type.into()).weights_file(), file, "{task} {model_type}");
        }
    }
}
