//! YOLO-NAS: boxes `[anchors, 4]` and scores `[anchors, classes]` (SPEC §2.6).
//!
//! Boxes are left, top, right, bottom in network pixels; scores 0 to 1. The confidence is the best score.

use super::objects::Rows;
use super::{class_count, output_shape};
use crate::engine::TensorView;
use crate::model::Error;
use crate::model::nms::Candidate;
use crate::model::threshold::{Bound, Threshold};

/// Reads both outputs.
#[derive(Debug)]
pub struct YoloNas {
    bound: Bound,
}

impl YoloNas {
    /// For outputs of these shapes (without the batch axis).
    ///
    /// # Errors
    /// The message names the shapes expected and found.
    pub fn new(outputs: &[Vec<usize>], classes: usize, bound: Bound) -> Result<Self, Error> {
        match outputs {
            [boxes, scores] if matches!((&boxes[..], &scores[..]), (&[n, 4], &[m, c]) if n == m && c == classes) => {
                Ok(Self { bound })
            }
            [boxes, scores] if matches!((&boxes[..], &scores[..]), (&[n, 4], &[m, _]) if n == m) => {
                class_count(scores[1], classes, outputs)
            }
            _ => output_shape(format!("[anchors, 4] and [anchors, {classes}]"), outputs),
        }
    }
}

impl Rows for YoloNas {
    fn candidates(&mut self, outputs: &[TensorView<'_>], threshold: &Threshold<'_>, candidates: &mut Vec<Candidate>) {
        let &[boxes, TensorView { shape: &[_, classes], data: scores }] = outputs else { return };
        let rows = boxes.data.as_chunks::<4>().0.iter().zip(scores.chunks_exact(classes));
        for (index, (&corners, scores)) in (0_u32..).zip(rows) {
            let (class_id, confidence) = super::best_of(scores);
            if self.bound.passes(confidence, threshold.of(class_id)) {
                candidates.push(Candidate { corners, confidence, class_id, index });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_score_of_a_box_counts() {
        let boxes = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let scores = [0.1, 0.7, 0.7, 0.2, 0.2, 0.2];
        let mut rows = YoloNas::new(&[vec![2, 4], vec![2, 3]], 3, Bound::AtLeast).unwrap();
        let views = [TensorView { shape: &[2, 4], data: &boxes }, TensorView { shape: &[2, 3], data: &scores }];
        let mut candidates = Vec::new();
        rows.candidates(&views, &Threshold::uniform(0.4), &mut candidates);
        let first = Candidate { corners: [1.0, 2.0, 3.0, 4.0], confidence: 0.7, class_id: 1, index: 0 };
        assert_eq!(candidates, [first]);
    }

    #[test]
    fn wrong_shapes_name_expected_and_found() {
        let message = |outputs: &[Vec<usize>]| YoloNas::new(outputs, 3, Bound::Above).unwrap_err().to_string();
        assert!(message(&[vec![9, 4], vec![9, 80]]).contains("80 classes"));
        assert!(message(&[vec![9, 4], vec![8, 3]]).contains("[anchors, 4] and [anchors, 3]"));
    }
}
