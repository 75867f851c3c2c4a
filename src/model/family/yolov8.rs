//! YOLOv8, 9, 11 and 12: one output `[4 + classes + extras, anchors]`, no objectness (SPEC §2.6).
//!
//! Rows 0 to 3 are centre x, centre y, width and height of each anchor in network pixels; row 4 + c is the score of
//! class c, 0 to 1. Segmentation adds a row a mask coefficient and a second output with the prototypes
//! `[coefficients, height, width]`; pose adds three rows a key point: x, y in network pixels, and confidence. The
//! confidence of an anchor is its best score, its class the first that has it.

use super::objects::Rows;
use super::{class_count, output_shape};
use crate::engine::TensorView;
use crate::model::Error;
use crate::model::nms::Candidate;
use crate::model::threshold::{Bound, Threshold};

/// Rows before the class scores.
const BOX_ROWS: usize = 4;

/// Reads the output; buffers are kept from frame to frame, one value an anchor.
#[derive(Debug)]
pub struct YoloV8 {
    classes: usize,
    extras: usize,
    bound: Bound,
    best: Vec<f32>,
    class: Vec<u32>,
}

impl YoloV8 {
    /// For outputs of these shapes (without the batch axis), so many classes, and so many rows after them.
    ///
    /// # Errors
    /// The message names the shapes expected and found.
    pub fn new(outputs: &[Vec<usize>], classes: usize, extras: usize, bound: Bound) -> Result<Self, Error> {
        match outputs.first().map(Vec::as_slice) {
            Some(&[rows, anchors]) if anchors > 0 && rows == BOX_ROWS + classes + extras => {
                Ok(Self { classes, extras, bound, best: Vec::new(), class: Vec::new() })
            }
            Some(&[rows, anchors]) if anchors > 0 && rows > BOX_ROWS + extras => {
                class_count(rows - BOX_ROWS - extras, classes, outputs)
            }
            _ => output_shape(format!("[{}, anchors]", BOX_ROWS + classes + extras), outputs),
        }
    }
}

impl Rows for YoloV8 {
    fn candidates(&mut self, outputs: &[TensorView<'_>], threshold: &Threshold<'_>, candidates: &mut Vec<Candidate>) {
        let Some(&TensorView { shape: &[_, anchors], data }) = outputs.first() else { return };
        let (boxes, rest) = data.split_at(BOX_ROWS * anchors);
        let scores = &rest[..self.classes * anchors];
        self.best.clear();
        self.best.extend_from_slice(&scores[..anchors]);
        self.class.clear();
        self.class.resize(anchors, 0);
        for (class, row) in (0_u32..).zip(scores.chunks_exact(anchors)).skip(1) {
            // Branch-free, so that the compiler makes vector code of it.
            for ((best, best_class), &score) in self.best.iter_mut().zip(&mut self.class).zip(row) {
                let better = score > *best;
                *best = if better { score } else { *best };
                *best_class = if better { class } else { *best_class };
            }
        }
        for (index, (&confidence, &class_id)) in (0_u32..).zip(self.best.iter().zip(&self.class)) {
            if self.bound.passes(confidence, threshold.of(class_id)) {
                let at = |row: usize| boxes[row * anchors + index as usize];
                let corners = super::corners_of([at(0), at(1), at(2), at(3)]);
                candidates.push(Candidate { corners, confidence, class_id, index });
            }
        }
    }

    fn extras(&self, outputs: &[TensorView<'_>], candidate: &Candidate, extras: &mut Vec<f32>) {
        let Some(&TensorView { shape: &[rows, anchors], data }) = outputs.first() else { return };
        extras.extend((rows - self.extras..rows).map(|row| data[row * anchors + candidate.index as usize]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(data: &[f32], shape: &[usize], classes: usize, bound: Bound, limit: f64) -> Vec<Candidate> {
        let mut rows = YoloV8::new(&[shape.to_vec()], classes, 0, bound).unwrap();
        let mut candidates = Vec::new();
        rows.candidates(&[TensorView { shape, data }], &Threshold::uniform(limit), &mut candidates);
        candidates
    }

    #[test]
    fn anchors_become_corners_with_their_first_best_class() {
        // Two classes, three anchors; rows: cx, cy, w, h, score of class 0, score of class 1.
        let data = [
            50.0, 10.0, 0.0, //
            60.0, 10.0, 0.0, //
            20.0, 4.0, 1.0, //
            10.0, 4.0, 1.0, //
            0.4, 0.9, 0.1, //
            0.4, 0.95, 0.2,
        ];
        let first = Candidate { corners: [40.0, 55.0, 60.0, 65.0], confidence: 0.4, class_id: 0, index: 0 };
        let second = Candidate { corners: [8.0, 8.0, 12.0, 12.0], confidence: 0.95, class_id: 1, index: 1 };
        assert_eq!(decode(&data, &[6, 3], 2, Bound::AtLeast, 0.4), [first, second]);
        assert_eq!(decode(&data, &[6, 3], 2, Bound::Above, 0.4), [second]);
    }

    #[test]
    fn every_class_may_have_its_own_limit() {
        let data = [1.0, 2.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.1, 0.1, 0.5];
        let mut rows = YoloV8::new(&[vec![6, 2]], 2, 0, Bound::Above).unwrap();
        let mut candidates = Vec::new();
        let threshold = Threshold { uniform: 0.2, per_class: &[0.6, 0.4] };
        rows.candidates(&[TensorView { shape: &[6, 2], data: &data }], &threshold, &mut candidates);
        assert_eq!(candidates.iter().map(|candidate| candidate.class_id).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn extras_are_the_last_rows() {
        let data: Vec<f32> = (0..14).map(|value| value as f32).collect();
        let rows = YoloV8::new(&[vec![7, 2]], 1, 2, Bound::Above).unwrap();
        let candidate = Candidate { corners: [0.0; 4], confidence: 1.0, class_id: 0, index: 1 };
        let mut extras = Vec::new();
        rows.extras(&[TensorView { shape: &[7, 2], data: &data }], &candidate, &mut extras);
        assert_eq!(extras, [11.0, 13.0]);
    }

    #[test]
    fn wrong_shapes_name_expected_and_found() {
        let message = |outputs: &[Vec<usize>]| YoloV8::new(outputs, 4, 0, Bound::Above).unwrap_err().to_string();
        let found = message(&[vec![7, 2100]]);
        assert!(found.contains("3 classes") && found.contains("4 names"), "{found}");
        assert!(message(&[vec![300, 6, 1], vec![1]]).contains("[8, anchors]"));
        assert!(message(&[]).contains("[8, anchors]"));
    }
}
