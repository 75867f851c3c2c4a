//! YOLOv10: `[detections, 6]`, chosen by the network itself, strongest first (SPEC §2.6); and the same with more
//! columns, which is YOLO26's.
//!
//! Columns: left, top, right, bottom in network pixels, confidence 0 to 1, class.

use super::objects::Rows;
use super::output_shape;
use crate::engine::TensorView;
use crate::model::Error;
use crate::model::nms::Candidate;
use crate::model::threshold::{Bound, Threshold};

/// Columns before mask coefficients or key points.
const HEAD: usize = 6;

/// Rows of a network that needs no suppression.
#[derive(Debug)]
pub struct FinalRows {
    extras: usize,
    bound: Bound,
}

impl FinalRows {
    /// For outputs of these shapes (without the batch axis), with so many columns after the class.
    ///
    /// # Errors
    /// The message names the shapes expected and found.
    pub fn new(outputs: &[Vec<usize>], extras: usize, bound: Bound) -> Result<Self, Error> {
        match outputs.first().map(Vec::as_slice) {
            Some(&[_, columns]) if columns == HEAD + extras => Ok(Self { extras, bound }),
            _ => output_shape(format!("[detections, {}]", HEAD + extras), outputs),
        }
    }
}

impl Rows for FinalRows {
    fn candidates(&mut self, outputs: &[TensorView<'_>], threshold: &Threshold<'_>, candidates: &mut Vec<Candidate>) {
        let Some(&TensorView { shape: &[_, columns], data }) = outputs.first() else { return };
        for (index, row) in (0_u32..).zip(data.chunks_exact(columns)) {
            let confidence = row[4];
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts from floats saturate")]
            let class_id = row[5] as u32;
            if self.bound.passes(confidence, threshold.of(class_id)) {
                let corners = [row[0], row[1], row[2], row[3]];
                candidates.push(Candidate { corners, confidence, class_id, index });
            }
        }
    }

    fn extras(&self, outputs: &[TensorView<'_>], candidate: &Candidate, extras: &mut Vec<f32>) {
        let Some(&TensorView { shape: &[_, columns], data }) = outputs.first() else { return };
        let end = (candidate.index as usize + 1) * columns;
        extras.extend_from_slice(&data[end - self.extras..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_as_they_are() {
        let data = [1.0, 2.0, 3.0, 4.0, 0.4, 7.0, 5.0, 6.0, 7.0, 8.0, 0.3, 1.0];
        let view = TensorView { shape: &[2, 6], data: &data };
        let found = |bound, limit| {
            let mut candidates = Vec::new();
            let mut rows = FinalRows::new(&[vec![2, 6]], 0, bound).unwrap();
            rows.candidates(&[view], &Threshold::uniform(limit), &mut candidates);
            candidates
        };
        let first = Candidate { corners: [1.0, 2.0, 3.0, 4.0], confidence: 0.4, class_id: 7, index: 0 };
        assert_eq!(found(Bound::AtLeast, 0.4), [first]);
        assert!(found(Bound::Above, 0.4).is_empty());
        assert_eq!(found(Bound::Above, 0.2).len(), 2);
    }

    #[test]
    fn wrong_shapes_name_expected_and_found() {
        let message = FinalRows::new(&[vec![84, 8400]], 0, Bound::Above).unwrap_err().to_string();
        assert!(message.contains("[detections, 6]") && message.contains("8400"), "{message}");
    }
}
