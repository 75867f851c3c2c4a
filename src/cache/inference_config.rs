//! `inference_config.json` of the models-cache layout: what is done to an image, and to what the network answers
//! (SPEC §1.3, 2.3).

use std::collections::BTreeMap;

use crate::frame::{Contrast, CropPercent, Size};

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
