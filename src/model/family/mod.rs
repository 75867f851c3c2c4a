//! Decoders: one file a family of networks, which says what the network takes and answers and what its numbers mean.
//!
//! A [`Head`] turns the outputs for one image into predictions. What families share is beside them: thresholds,
//! suppression, geometry, masks.

mod class_map;
mod classifier;
mod keypoints;
pub mod objects;
mod raw;
mod rf_detr;
pub mod rt_detr;
mod tflite;
pub mod yolo_lite;
pub mod yolo_nas;
pub mod yolov10;
pub mod yolov5;
pub mod yolov8;
pub mod yolox;

use std::fmt::Debug;

use super::labels::Labels;
use super::predictions::Predictions;
use super::registry::{Contract, Family, Task};
use super::threshold::Threshold;
use super::transform::Transform;
use super::{Error, Request, Semantics};
use crate::cache::Package;
use crate::engine::{InputShape, Session, TensorView};
use class_map::ClassMapHead;
use classifier::Classifier;
pub use classifier::rounded;
use objects::ObjectHead;
use raw::Raw;
use rf_detr::RfDetr;

/// Outputs of a network that are looked at; YOLOv7 segmentation has five.
const OUTPUTS_MAX: usize = 8;

/// The outputs for one image.
pub type Outputs<'a> = heapless::Vec<TensorView<'a>, OUTPUTS_MAX>;

/// The outputs of image `index` of the batch; shapes without the batch axis.
#[must_use]
pub fn outputs_of(session: &dyn Session, index: usize) -> Outputs<'_> {
    let batch = session.input_shape().batch;
    let outputs = 0..session.outputs().len().min(OUTPUTS_MAX);
    outputs.map(|output| image_of(session.output(output), batch, index)).collect()
}

/// The part of an output that is about image `index` of the batch.
#[must_use]
pub fn image_of(TensorView { shape, data }: TensorView<'_>, batch: usize, index: usize) -> TensorView<'_> {
    let image = without_batch(shape, batch);
    let len: usize = image.iter().product();
    // An output that all images share has no batch axis.
    let start = if image.len() < shape.len() { index * len } else { 0 };
    TensorView { shape: image, data: data.get(start..start + len).unwrap_or_default() }
}

/// The shape of one image's part of an output.
#[must_use]
pub fn without_batch(shape: &[usize], batch: usize) -> &[usize] {
    match shape {
        [first, rest @ ..] if *first == batch => rest,
        whole => whole,
    }
}

/// What one image's outputs are decoded with.
#[derive(Debug)]
pub struct Job<'a> {
    pub outputs: &'a [TensorView<'a>],
    pub transform: &'a Transform,
    pub request: &'a Request,
    pub threshold: Threshold<'a>,
    pub labels: &'a Labels,
}

impl Job<'_> {
    /// Whether the request's class filter lets a class pass.
    #[must_use]
    pub fn wants(&self, class_id: u32) -> bool {
        match &self.request.class_filter {
            Some(names) if !names.is_empty() => match self.labels.class_name(class_id) {
                Some(class) => names.iter().any(|name| name == class),
                None => names.iter().any(|name| name.parse() == Ok(class_id)),
            },
            _ => true,
        }
    }
}

/// The decoder of a loaded model, with its buffers.
pub trait Head: Debug + Send {
    /// Adds what the outputs say to `into`, which is empty but for the image's size.
    ///
    /// # Errors
    /// The request has a value that the engine refuses.
    fn decode(&mut self, job: &Job<'_>, into: &mut Predictions) -> Result<(), Error>;
}

/// What a head is made from.
#[derive(Debug)]
pub struct Setup<'a> {
    pub contract: Contract,
    pub semantics: Semantics,
    pub package: &'a Package,
    pub labels: &'a Labels,
    pub input: InputShape,
    /// Shapes of the network's outputs for one image, without the batch axis.
    pub outputs: &'a [Vec<usize>],
}

impl Setup<'_> {
    /// The registry promised a decoder that there is not.
    fn unsupported(&self) -> Error {
        let kind = &self.package.kind;
        Error::Unsupported {
            id: self.package.id.clone(),
            task: kind.task.clone(),
            model_type: kind.model_type.clone(),
            why: format!("no decoder for {:?} {}", self.contract.family, self.contract.task.as_str()),
        }
    }
}

/// The head of a model.
///
/// # Errors
/// The network's outputs do not have the family's shapes, or not as many classes as there are names; the message says
/// what was expected and what was found.
pub fn head(setup: &Setup<'_>) -> Result<Box<dyn Head>, Error> {
    match (setup.contract.task, setup.contract.family) {
        (Task::Classification | Task::MultiLabelClassification, _) => Ok(Box::new(Classifier::new(setup)?)),
        (Task::SemanticSegmentation, _) => Ok(Box::new(ClassMapHead::new(setup)?)),
        (Task::Raw, _) => Ok(Box::new(Raw::new(setup)?)),
        (_, Family::RfDetr) => Ok(Box::new(RfDetr::new(setup)?)),
        _ => Ok(Box::new(ObjectHead::new(setup)?)),
    }
}

/// The network has another number of classes than there are names.
fn class_count<T>(network: usize, names: usize, outputs: &[Vec<usize>]) -> Result<T, Error> {
    Err(Error::ClassCount { names, network, shape: outputs.to_vec() })
}

/// The network's outputs are not those of its family.
fn output_shape<T>(expected: String, outputs: &[Vec<usize>]) -> Result<T, Error> {
    Err(Error::OutputShape { expected, found: outputs.to_vec() })
}

/// Centre x, centre y, width, height to left, top, right, bottom.
fn corners_of([x, y, width, height]: [f32; 4]) -> [f32; 4] {
    let (half_w, half_h) = (width / 2.0, height / 2.0);
    [x - half_w, y - half_h, x + half_w, y + half_h]
}

/// The first of the largest values, with its position; what is no number is not looked at.
fn best_of(scores: &[f32]) -> (u32, f32) {
    let better = |best: (u32, f32), (class, &score): (u32, &f32)| if score > best.1 { (class, score) } else { best };
    (0..).zip(scores).fold((0, f32::NEG_INFINITY), better)
}

/// 1 / (1 + e^-x), without overflow.
fn sigmoid(logit: f32) -> f32 {
    let small = (-logit.abs()).exp();
    if logit >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) }
}

#[cfg(test)]
mod tests;
