//! YOLOLite: boxes `[anchors, 4]`, objectness `[anchors, 1]` and class scores `[anchors, classes]`, the last two as
//! logits.
//!
//! Boxes are left, top, right, bottom in network pixels. The confidence is the best of the class scores times the
//! objectness, each through a sigmoid. A package whose network suppresses by itself answers as YOLO26 does.

use super::objects::Rows;
use super::{class_count, output_shape};
use crate::engine::TensorView;
use crate::model::Error;
use crate::model::mask::real::Real;
use crate::model::nms::Candidate;
use crate::model::threshold::{Bound, Threshold};

/// Reads the three outputs.
#[derive(Debug)]
pub struct YoloLite {
    /// Of one anchor.
    scores: Vec<f32>,
}

impl YoloLite {
    /// For outputs of these shapes (without the batch axis).
    ///
    /// # Errors
    /// The message names the shapes expected and found.
    pub fn new(outputs: &[Vec<usize>], classes: usize) -> Result<Self, Error> {
        let expected = || output_shape(format!("[anchors, 4], [anchors, 1] and [anchors, {classes}]"), outputs);
        let [boxes, objectness, scores] = outputs else { return expected() };
        match (&boxes[..], &objectness[..], &scores[..]) {
            (&[anchors, 4], &[second, 1], &[third, found]) if anchors == second && anchors == third => {
                if found == classes { Ok(Self { scores: Vec::new() }) } else { class_count(found, classes, outputs) }
            }
            _ => expected(),
        }
    }
}

impl Rows for YoloLite {
    fn candidates(&mut self, outputs: &[TensorView<'_>], threshold: &Threshold<'_>, candidates: &mut Vec<Candidate>) {
        let &[boxes, objectness, TensorView { shape: &[_, classes], data: scores }] = outputs else { return };
        let rows = boxes.data.as_chunks::<4>().0.iter().zip(objectness.data).zip(scores.chunks_exact(classes.max(1)));
        for (index, ((&corners, objectness), scores)) in (0_u32..).zip(rows) {
            let objectness = objectness.sigmoid();
            // Of the products, not of the logits: those that round to the same number are a tie.
            self.scores.clear();
            self.scores.extend(scores.iter().map(|score| objectness * score.sigmoid()));
            let (class_id, confidence) = super::best_of(&self.scores);
            if Bound::Above.passes(confidence, threshold.of(class_id)) {
                candidates.push(Candidate { corners, confidence, class_id, index });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_products_of_two_sigmoids() {
        let boxes = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let (objectness, scores) = ([0.0, 100.0], [-100.0, 100.0, 100.0, 0.0, -1.0, -1.0]);
        let mut rows = YoloLite::new(&[vec![2, 4], vec![2, 1], vec![2, 3]], 3).unwrap();
        let views = [
            TensorView { shape: &[2, 4], data: &boxes },
            TensorView { shape: &[2, 1], data: &objectness },
            TensorView { shape: &[2, 3], data: &scores },
        ];
        let mut found = |limit| {
            let mut candidates = Vec::new();
            rows.candidates(&views, &Threshold::uniform(limit), &mut candidates);
            candidates
        };
        let first = Candidate { corners: [1.0, 2.0, 3.0, 4.0], confidence: 0.5, class_id: 1, index: 0 };
        let second = Candidate { corners: [5.0, 6.0, 7.0, 8.0], confidence: 0.5, class_id: 0, index: 1 };
        assert_eq!(found(0.4), [first, second]);
        assert_eq!(found(0.5), [], "the limit itself does not pass");
    }

    #[test]
    fn wrong_shapes_name_expected_and_found() {
        let message = |outputs: &[Vec<usize>]| YoloLite::new(outputs, 3).unwrap_err().to_string();
        assert!(message(&[vec![9, 4], vec![9, 1], vec![9, 80]]).contains("80 classes"));
        assert!(message(&[vec![9, 4], vec![9, 2], vec![9, 3]]).contains("[anchors, 1]"));
        assert!(message(&[vec![9, 4], vec![9, 3]]).contains("[anchors, 3]"));
    }
}
