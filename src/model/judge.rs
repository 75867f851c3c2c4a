//! What a plan in bytes is chosen by, and one in halves judged by: what the model says of pictures with the outputs of
//! its network in numbers, and with others. May not know: how those come about.

use super::family::{Outputs, image_of};
use super::{
    Accuracy, Confidence, Detection, Error, Job, MaskDecodeMode, Model, Predictions, Request, Task, Transform, accuracy,
};
use crate::engine::TensorView;
use crate::engine::plan::Measure;
use crate::engine::plan::int8::{self, relative_error};
use crate::frame::{Frame, Size};

/// Of what was found, what the model is far less sure of counts as well: precision is read at every recall. Below that
/// lies nothing that anyone asks for, in thousands.
const UNSURE: f64 = 0.05;

/// A model with the pictures on which it is judged.
#[derive(Debug)]
pub struct Judge {
    model: Model,
    pictures: Vec<(Transform, Size)>,
    /// What is seen in numbers; empty before the first question.
    wanted: Vec<Predictions>,
    /// Of every question.
    answers: Vec<Accuracy>,
}

impl Judge {
    /// By the decoder of a model that runs in numbers.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self { model, pictures: Vec::new(), wanted: Vec::new(), answers: Vec::new() }
    }

    /// Adds a picture; its input to the network, in every place of the batch.
    ///
    /// # Errors
    /// As [`Model::infer`].
    pub fn prepare(&mut self, frame: &Frame) -> Result<Vec<f32>, Error> {
        let shape = self.model.session.input_shape();
        let mut image = vec![0.0; shape.volume() / shape.batch];
        let transform = self.model.preprocessor.run(frame, &Request::default(), &mut image)?;
        self.pictures.push((transform, frame.size()));
        Ok(image.repeat(shape.batch))
    }

    /// Boxes are what detectors are asked for, whatever else they say of an object; other models have only numbers.
    #[must_use]
    pub fn measure(&self) -> Measure {
        match self.model.labels.task {
            Task::ObjectDetection | Task::InstanceSegmentation | Task::KeypointDetection => Measure::Detections,
            Task::Classification | Task::MultiLabelClassification | Task::SemanticSegmentation | Task::Raw => {
                Measure::Values
            }
        }
    }

    /// The error of outputs, those of all pictures in the order in which they were added.
    ///
    /// # Errors
    /// There is nothing to see in any picture, or the outputs cannot be decoded.
    pub fn error(&mut self, wanted: &[int8::Outputs], found: &[int8::Outputs]) -> Result<f64, String> {
        if self.measure() == Measure::Values {
            return Ok(relative_error(wanted, found));
        }
        let fast = Request { mask_decode_mode: Some(MaskDecodeMode::Fast), ..Request::default() };
        if self.wanted.is_empty() {
            self.wanted = self.decode(wanted, &fast)?;
        }
        let found = self.decode(found, &Request { confidence: Some(Confidence::Number(UNSURE)), ..fast })?;
        let accuracy = accuracy(&detections(&self.wanted), &detections(&found)).ok_or_else(|| {
            format!(
                "the model sees nothing in any of the {} pictures, so there is nothing to judge by; calibrate with \
                 pictures of what it is for",
                self.pictures.len()
            )
        })?;
        self.answers.push(accuracy);
        Ok(1.0 - accuracy.map_50_95)
    }

    /// More on an answer of [`Judge::error`]; `None` where it was not about detections.
    #[must_use]
    pub fn accuracy(&self, error: f64) -> Option<Accuracy> {
        let off = |accuracy: &Accuracy| (1.0 - accuracy.map_50_95 - error).abs();
        self.answers.iter().copied().min_by(|a, b| off(a).total_cmp(&off(b)))
    }

    /// What the model says of outputs, picture by picture.
    fn decode(&mut self, outputs: &[int8::Outputs], request: &Request) -> Result<Vec<Predictions>, String> {
        let Model { session, head, thresholds, labels, .. } = &mut self.model;
        let (batch, infos) = (session.input_shape().batch, session.outputs());
        let mut all = vec![Predictions::default(); outputs.len()];
        for ((outputs, (transform, size)), into) in outputs.iter().zip(&self.pictures).zip(&mut all) {
            into.clear(*size);
            let views = infos.iter().zip(outputs).map(|(info, data)| TensorView { shape: &info.shape, data });
            let outputs: Outputs<'_> = views.map(|view| image_of(view, batch, 0)).collect();
            let job = Job { outputs: &outputs, transform, request, threshold: thresholds.of(request), labels };
            head.decode(&job, into).map_err(|error| error.to_string())?;
        }
        Ok(all)
    }
}

fn detections(all: &[Predictions]) -> Vec<&[Detection]> {
    all.iter().map(|predictions| predictions.detections.as_slice()).collect()
}
