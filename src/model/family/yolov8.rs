//! YOLOv8, 9, 11 and 12 detection: one output `[4 + classes, anchors]`, no objectness (SPEC §2.6).
//!
//! Rows 0 to 3 are centre x, centre y, width and height of each anchor in network pixels; row 4 + c is the score of
//! class c, 0 to 1. The confidence of an anchor is its best score, its class the first that has it.

use crate::engine::TensorView;
use crate::model::Error;
use crate::model::nms::Candidate;

/// Rows before the class scores.
const BOX_ROWS: usize = 4;

/// Buffers kept from frame to frame, one value an anchor.
#[derive(Debug, Default)]
pub struct Decoder {
    best: Vec<f32>,
    class: Vec<u32>,
}

/// Whether a network with outputs of these shapes is of this family and has as many classes as there are names.
///
/// # Errors
/// The message names the shapes expected and found.
pub fn check(outputs: &[Vec<usize>], classes: usize) -> Result<(), Error> {
    match outputs {
        [output] if matches!(output[..], [rows, _] if rows == BOX_ROWS + classes) => Ok(()),
        [output] if matches!(output[..], [rows, _] if rows > BOX_ROWS) => {
            Err(Error::ClassCount { names: classes, network: output[0] - BOX_ROWS, shape: output.clone() })
        }
        _ => Err(Error::OutputShape {
            expected: format!("one output [{}, anchors]", BOX_ROWS + classes),
            found: outputs.to_vec(),
        }),
    }
}

impl Decoder {
    /// Appends the anchors whose confidence is at least `confidence_min` to `candidates`. `output` must have a shape
    /// that [`check`] let pass. Anchors without a finite place (NaN) are left out.
    pub fn decode(&mut self, output: TensorView<'_>, confidence_min: f32, candidates: &mut Vec<Candidate>) {
        let [_, anchors] = output.shape[..] else { return };
        let (boxes, scores) = output.data.split_at(BOX_ROWS * anchors);
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
            if confidence >= confidence_min {
                let at = |row: usize| boxes[row * anchors + index as usize];
                let (half_w, half_h) = (at(2) / 2.0, at(3) / 2.0);
                let corners = [at(0) - half_w, at(1) - half_h, at(0) + half_w, at(1) + half_h];
                if corners.iter().all(|corner| !corner.is_nan()) {
                    candidates.push(Candidate { corners, confidence, class_id, index });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let shape = [6, 3];
        check(&[shape.to_vec()], 2).unwrap();
        let mut candidates = Vec::new();
        Decoder::default().decode(TensorView { shape: &shape, data: &data }, 0.4, &mut candidates);
        assert_eq!(
            candidates,
            [
                Candidate { corners: [40.0, 55.0, 60.0, 65.0], confidence: 0.4, class_id: 0, index: 0 },
                Candidate { corners: [8.0, 8.0, 12.0, 12.0], confidence: 0.95, class_id: 1, index: 1 },
            ]
        );
    }

    #[test]
    fn not_a_number_is_no_detection() {
        let data = [f32::NAN, 0.0, 1.0, f32::INFINITY, 1.0, 1.0, 1.0, 1.0, 0.9, f32::NAN];
        let mut candidates = Vec::new();
        Decoder::default().decode(TensorView { shape: &[5, 2], data: &data }, 0.1, &mut candidates);
        assert!(candidates.is_empty(), "{candidates:?}");
    }

    #[test]
    fn wrong_shapes_name_expected_and_found() {
        let message = check(&[vec![7, 2100]], 4).unwrap_err().to_string();
        assert!(message.contains("3 classes") && message.contains("4 names"), "{message}");
        let message = check(&[vec![300, 6], vec![1]], 4).unwrap_err().to_string();
        assert!(message.contains("[8, anchors]"), "{message}");
    }
}
