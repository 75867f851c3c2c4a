//! Decoders: one file a family of networks, which says what the network takes and answers and what its numbers mean.
//!
//! A [`Head`] turns the outputs for one image into predictions. What families share is beside them: thresholds,
//! suppression, geometry, masks.

mod objects;
pub mod rt_detr;
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
use crate::engine::{Session, TensorView};

/// Outputs of a network that are looked at; YOLOv7 segmentation has five.
const OUTPUTS_MAX: usize = 8;

/// The outputs for one image.
pub type Outputs<'a> = heapless::Vec<TensorView<'a>, OUTPUTS_MAX>;

/// The outputs of image `index` of the batch; shapes without the batch axis.
#[must_use]
pub fn outputs_of(session: &dyn Session, index: usize) -> Outputs<'_> {
    let batch = session.input_shape().batch;
    (0..session.outputs().len())
        .take(OUTPUTS_MAX)
        .map(|output| {
            let TensorView { shape, data } = session.output(output);
            match shape {
                [first, rest @ ..] if *first == batch => {
                    let len = data.len() / batch;
                    TensorView { shape: rest, data: &data[index * len..(index + 1) * len] }
                }
                _ => TensorView { shape, data },
            }
        })
        .collect()
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
    /// Shapes of the network's outputs for one image, without the batch axis.
    pub outputs: &'a [Vec<usize>],
}

/// The head of a model.
///
/// # Errors
/// The network's outputs do not have the family's shapes, or not as many classes as there are names; the message says
/// what was expected and what was found.
pub fn head(setup: &Setup<'_>) -> Result<Box<dyn Head>, Error> {
    match (setup.contract.family, setup.contract.task) {
        (Family::YoloV8, Task::ObjectDetection) => Ok(Box::new(objects::ObjectHead::yolov8(setup)?)),
        _ => Err(Error::Unsupported {
            id: setup.package.id.clone(),
            task: setup.package.kind.task.clone(),
            model_type: setup.package.kind.model_type.clone(),
            why: "not yet".into(),
        }),
    }
}
