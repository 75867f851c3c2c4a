//! Classifiers: one output `[classes]` of logits (SPEC §2.6): ViT, ResNet, YOLOv8 and YOLO11 classification, DINOv3.
//!
//! One label: softmax (unless it is the network's own), classes that reach the threshold, best first. Many labels:
//! every class, by the classic engine with its raw logit, by the default engine with its sigmoid.

use super::{Head, Job, Setup, class_count, output_shape};
use crate::cache::{Answers, Layout};
use crate::frame::Size;
use crate::model::predictions::{ClassScore, Predictions};
use crate::model::registry::Task;
use crate::model::{Error, Semantics};

/// What becomes of the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activation {
    None,
    Softmax,
    Sigmoid,
}

/// Names what the image shows.
#[derive(Debug)]
pub struct Classifier {
    activation: Activation,
    /// Every class is judged for itself.
    multi_label: bool,
    /// The classic engine's answer: an equal score does not pass, and the image's sides are exchanged.
    classic_multi_label: bool,
    scores: Vec<f32>,
}

impl Classifier {
    /// # Errors
    /// As [`super::head`].
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, Error> {
        let classes = setup.labels.class_names.len();
        match setup.outputs.first().map(Vec::as_slice) {
            Some(&[found]) if found == classes => {}
            Some(&[found]) => return class_count(found, classes, setup.outputs),
            _ => return output_shape(format!("[{classes}]"), setup.outputs),
        }
        let multi_label = setup.contract.task == Task::MultiLabelClassification;
        let activation = match (&setup.package.layout, multi_label) {
            (Layout::Classic { .. }, true) => Activation::None,
            (Layout::Classic { .. }, false) => Activation::Softmax,
            (Layout::ModelsCache(cached), _) if cached.config.post_processing.fused => Activation::None,
            (Layout::ModelsCache(_), true) => Activation::Sigmoid,
            (Layout::ModelsCache(_), false) => Activation::Softmax,
            (Layout::Tflite(package), _) => match package.answers {
                Answers::Scores { softmax: true } => Activation::Softmax,
                _ => Activation::None,
            },
        };
        let classic_multi_label = multi_label && setup.semantics == Semantics::Classic;
        Ok(Self { activation, multi_label, classic_multi_label, scores: Vec::new() })
    }
}

impl Head for Classifier {
    fn decode(&mut self, job: &Job<'_>, into: &mut Predictions) -> Result<(), Error> {
        let Some(output) = job.outputs.first() else { return Ok(()) };
        self.scores.clear();
        self.scores.extend_from_slice(output.data);
        match self.activation {
            Activation::None => {}
            Activation::Softmax => softmax(&mut self.scores),
            Activation::Sigmoid => self.scores.iter_mut().for_each(|score| *score = super::sigmoid(*score)),
        }
        for (class_id, &score) in (0_u32..).zip(&self.scores) {
            let predicted = if self.classic_multi_label {
                f64::from(score) > job.threshold.uniform
            } else if self.multi_label {
                score >= job.threshold.of(class_id)
            } else {
                f64::from(score) >= job.threshold.uniform
            };
            if predicted || self.multi_label {
                into.classes.push(ClassScore { class_id, score, predicted });
            }
        }
        if self.classic_multi_label {
            into.image = Size::new(into.image.height, into.image.width);
        }
        if !self.multi_label {
            // Python sorts by what it reports, and leaves equals in class order.
            into.classes
                .sort_by(|a, b| rounded(b.score).total_cmp(&rounded(a.score)).then(a.class_id.cmp(&b.class_id)));
        }
        Ok(())
    }
}

/// `round(score, 4)` as Python has it: the decimal nearest to the exact value.
#[must_use]
pub fn rounded(score: f32) -> f64 {
    use std::fmt::Write;
    let mut text = heapless::String::<64>::new();
    // An f32 has at most 39 digits before the point.
    let _ = write!(text, "{:.4}", f64::from(score));
    text.parse().unwrap_or(f64::NAN)
}

/// In place: shares of one.
fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_sum_to_one_and_keep_their_order() {
        let mut scores = [1.0, 3.0, 2.0];
        softmax(&mut scores);
        assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((scores[1] - 0.665_240_9).abs() < 1e-6, "{scores:?}");
        let mut huge = [f32::MAX, -f32::MAX];
        softmax(&mut huge);
        assert_eq!(huge, [1.0, 0.0]);
    }

    #[test]
    fn rounding_is_pythons() {
        for (score, expected) in
            [(0.123_45_f32, 0.1235), (0.5, 0.5), (0.000_04, 0.0), (-2.5, -2.5), (1e30, 1e30_f32.into())]
        {
            assert_eq!(rounded(score), expected);
        }
        assert!(rounded(f32::NAN).is_nan());
    }
}
