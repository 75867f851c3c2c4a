//! Whose answers are given. The layout of a package decides (SPEC §2); a caller who wants the other engine's answers
//! has the package read as if it lay in the other layout.

use super::registry::{Contract, Family, Task};
use super::{Error, contract};
use crate::cache::{
    ColorMode, InferenceConfig, Layout, LayoutKind, ModelsCache, NetworkInput, Normalization, Package, PostProcessing,
    PostProcessingKind, Preprocessing, Recommended, Resize, ResizeFormat, ResizeMode,
};
use crate::frame::Size;

/// Levels of an image, as ImageNet's are.
const IMAGENET: Normalization = Normalization { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
/// Levels from -1 to 1.
const SYMMETRIC: Normalization = Normalization { mean: [0.5; 3], std: [0.5; 3] };

/// One of Roboflow's two engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Semantics {
    /// Roboflow's classic engine (`x-inference-engine: old-inference`).
    Classic,
    /// Roboflow's default engine (`inference-models`).
    Default,
}

impl Semantics {
    /// Of the engine that reads a package's layout.
    #[must_use]
    pub fn of(package: &Package) -> Self {
        match package.layout {
            Layout::Classic { .. } => Semantics::Classic,
            Layout::ModelsCache(_) | Layout::Tflite(_) => Semantics::Default,
        }
    }

    /// The layout that this engine reads.
    #[must_use]
    pub fn layout(self) -> LayoutKind {
        match self {
            Semantics::Classic => LayoutKind::Classic,
            Semantics::Default => LayoutKind::ModelsCache,
        }
    }

    /// The package as this engine's layout would hold it; one of ours, which neither of them knows, stays what it is. What only the other layout says takes the values that
    /// Roboflow's own packages of that family have.
    ///
    /// # Errors
    /// This binary cannot run the package's type.
    pub fn read(self, mut package: Package) -> Result<Package, Error> {
        let contract = contract(&package)?;
        let converted = match (self, &package.layout) {
            (Semantics::Default, Layout::Classic { preprocessing, .. }) => {
                Some(Layout::ModelsCache(Box::new(ModelsCache {
                    package_id: "classic".into(),
                    backend: "onnx".into(),
                    quantization: "unknown".into(),
                    config: to_default(preprocessing, contract, &package.class_names),
                    recommended: Recommended::default(),
                })))
            }
            (Semantics::Classic, Layout::ModelsCache(cached)) => Some(Layout::Classic {
                preprocessing: to_classic(&cached.config),
                multiclass: contract.task == Task::MultiLabelClassification,
            }),
            _ => None,
        };
        if let Some(layout) = converted {
            package.layout = layout;
            package.kind.task = match (self, contract.task) {
                (Semantics::Classic, Task::MultiLabelClassification) => Task::Classification,
                (_, task) => task,
            }
            .as_str()
            .into();
            // What each engine has under a name of its own.
            let own_name = match (self, contract.family, contract.task) {
                (Semantics::Classic, Family::DeepLab, _) => Some("deeplabv3plus"),
                (Semantics::Default, Family::ResNet, Task::MultiLabelClassification) => Some("resnet"),
                (Semantics::Default, Family::DinoV3, Task::MultiLabelClassification) => Some("dinov3_probe"),
                _ => None,
            };
            if let Some(name) = own_name {
                package.kind.model_type = name.into();
            }
        }
        Ok(package)
    }
}

/// What is done to levels from 0 to 1.
#[must_use]
pub fn normalization(contract: Contract) -> Option<Normalization> {
    let classifier = matches!(contract.task, Task::Classification | Task::MultiLabelClassification);
    match contract.family {
        Family::RfDetr | Family::DeepLab | Family::ResNet | Family::DinoV3 => Some(IMAGENET),
        _ if classifier => Some(SYMMETRIC),
        _ => None,
    }
}

fn to_default(preprocessing: &Preprocessing, contract: Contract, class_names: &[String]) -> InferenceConfig {
    let Resize { mode: (resize, padding), width, height, .. } = preprocessing.resize;
    let size = width.zip(height).map(|(width, height)| Size::new(width, height));
    let kind = match contract.task {
        Task::Classification | Task::SemanticSegmentation => PostProcessingKind::Softmax,
        Task::MultiLabelClassification => PostProcessingKind::Sigmoid,
        _ => PostProcessingKind::Nms,
    };
    let background = |name: &&String| contract.family == Family::RfDetr && *name == super::labels::RF_DETR_BACKGROUND;
    InferenceConfig {
        static_crop: preprocessing.static_crop,
        contrast: preprocessing.contrast,
        grayscale: preprocessing.grayscale,
        network_input: NetworkInput {
            size,
            dataset_size: size,
            color: ColorMode::Rgb,
            resize,
            padding: f32::from(padding),
            scaling: Some(255.0),
            normalization: normalization(contract),
        },
        static_batch: None,
        post_processing: PostProcessing { kind, fused: false },
        removed_classes: class_names.iter().filter(background).cloned().collect(),
    }
}

fn to_classic(config: &InferenceConfig) -> Preprocessing {
    let input = &config.network_input;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a grey level; casts saturate")]
    let padding = input.padding as u8;
    let format = match (input.resize, padding) {
        (ResizeMode::Stretch, _) => ResizeFormat::Stretch,
        (ResizeMode::Letterbox, 0 | 255) => ResizeFormat::Fit { fill: padding },
        (ResizeMode::Letterbox, _) => ResizeFormat::Fit { fill: 114 },
        _ => ResizeFormat::Fit { fill: 0 },
    };
    let size = input.dataset_size.or(input.size);
    Preprocessing {
        auto_orient: true,
        static_crop: config.static_crop,
        contrast: config.contrast,
        grayscale: config.grayscale,
        resize: Resize {
            format,
            mode: (input.resize, padding),
            width: size.map(|size| size.width),
            height: size.map(|size| size.height),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(task: &str, model_type: &str, preprocessing: &str) -> Package {
        let kind = format!(r#"{{"project_task_type": "{task}", "model_type": "{model_type}"}}"#);
        let environment = format!(r#"{{"PREPROCESSING": {preprocessing}, "MULTICLASS": true}}"#);
        Package::embedded("a/1", &kind, &environment, "a\nbackground_class83422\n", &[0]).unwrap()
    }

    #[test]
    fn there_and_back() {
        let resize = r#"{"resize": {"format": "Fit (grey edges) in", "width": 64, "height": 32}, "auto-orient": {}}"#;
        let classic = package("classification", "vit", resize);
        let (layout, kind) = (classic.layout.clone(), classic.kind.clone());
        let default = Semantics::Default.read(classic).unwrap();
        assert_eq!(default.kind.task, "multi-label-classification");
        let Layout::ModelsCache(cached) = &default.layout else { panic!("{:?}", default.layout) };
        assert_eq!(cached.config.network_input.padding, 127.0);
        assert_eq!(cached.config.network_input.normalization, Some(SYMMETRIC));
        assert_eq!(cached.config.post_processing.kind, PostProcessingKind::Sigmoid);
        assert!(cached.config.removed_classes.is_empty());
        let back = Semantics::Classic.read(default).unwrap();
        assert_eq!((back.layout, back.kind), (layout, kind));
    }

    #[test]
    fn rf_detr_loses_its_background_in_either() {
        let resize = r#"{"resize": {"format": "Fit within", "width": 64, "height": 32}}"#;
        let default = Semantics::Default.read(package("object-detection", "rfdetr-nano", resize)).unwrap();
        let Layout::ModelsCache(cached) = &default.layout else { panic!("{:?}", default.layout) };
        assert_eq!(cached.config.removed_classes, ["background_class83422"]);
        assert_eq!(cached.config.network_input.resize, ResizeMode::FitLongerEdge);
        assert_eq!(cached.config.network_input.normalization, Some(IMAGENET));
        let names = |task| {
            let contract = Contract { task, family: Family::RfDetr };
            super::super::Labels::of(&default, contract).class_names.len()
        };
        assert_eq!((names(Task::ObjectDetection), names(Task::SemanticSegmentation)), (1, 2), "but not where it maps");
    }
}
