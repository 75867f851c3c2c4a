//! YOLOv5 detection and segmentation, and YOLOv7 segmentation: one row a candidate, `[candidates, 5 + classes +
//! coefficients]` (SPEC §2.6).
//!
//! Columns 0 to 3 are centre x, centre y, width and height in network pixels, 4 is the objectness, 5 + c the score of
//! class c (times the objectness, already), 0 to 1; then mask coefficients, whose prototypes `[coefficients, height,
//! width]` are the second output (of YOLOv7: the fifth).

use super::objects::Rows;
use super::{best_of, class_count, output_shape};
use crate::engine::TensorView;
use crate::model::Error;
use crate::model::nms::Candidate;
use crate::model::threshold::Threshold;

const OBJECTNESS: usize = 4;
/// Columns before the class scores.
const HEAD: usize = 5;

/// How an engine reads a row: the two do not agree, and the default engine's segmentation counts the objectness as
/// class 0 and every class as one more than it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Objectness at least the limit; it is the confidence.
    Classic,
    /// Objectness above the limit; the best score is the confidence.
    Detection,
    /// As `Detection`, over the objectness and the scores.
    SegmentationV5,
    /// The best of objectness and scores above the limit; it is the confidence.
    SegmentationV7,
}

/// Reads the rows.
#[derive(Debug)]
pub struct YoloV5 {
    classes: usize,
    coefficients: usize,
    reading: Reading,
}

impl YoloV5 {
    /// For outputs of these shapes (without the batch axis).
    ///
    /// # Errors
    /// The message names the shapes expected and found.
    pub fn new(outputs: &[Vec<usize>], classes: usize, coefficients: usize, reading: Reading) -> Result<Self, Error> {
        match outputs.first().map(Vec::as_slice) {
            Some(&[_, columns]) if columns == HEAD + classes + coefficients => {
                Ok(Self { classes, coefficients, reading })
            }
            Some(&[_, columns]) if columns > HEAD + coefficients => {
                class_count(columns - HEAD - coefficients, classes, outputs)
            }
            _ => output_shape(format!("[candidates, {}]", HEAD + classes + coefficients), outputs),
        }
    }

    /// Class and confidence of a row, if it passes.
    fn judge(&self, row: &[f32], threshold: &Threshold<'_>) -> Option<(u32, f32)> {
        let objectness = row[OBJECTNESS];
        let scores = &row[HEAD..HEAD + self.classes];
        match self.reading {
            Reading::Classic => {
                let uniform = threshold.of(u32::MAX);
                (objectness >= uniform).then(|| (best_of(scores).0, objectness))
            }
            Reading::Detection => {
                let (class, score) = best_of(scores);
                (objectness > threshold.of(class)).then_some((class, score))
            }
            Reading::SegmentationV5 => {
                let (slot, score) = best_of(&row[OBJECTNESS..HEAD + self.classes]);
                let passes = match slot.checked_sub(1) {
                    None if !threshold.per_class.is_empty() => true,
                    class => objectness > threshold.of(class.unwrap_or(u32::MAX)),
                };
                passes.then_some((slot, score))
            }
            Reading::SegmentationV7 => {
                let (slot, score) = best_of(&row[OBJECTNESS..HEAD + self.classes]);
                (score > threshold.of(slot.checked_sub(1).unwrap_or(u32::MAX))).then_some((slot, score))
            }
        }
    }
}

impl Rows for YoloV5 {
    fn candidates(&mut self, outputs: &[TensorView<'_>], threshold: &Threshold<'_>, candidates: &mut Vec<Candidate>) {
        let Some(&TensorView { shape: &[_, columns], data }) = outputs.first() else { return };
        for (index, row) in (0_u32..).zip(data.chunks_exact(columns)) {
            if let Some((class_id, confidence)) = self.judge(row, threshold) {
                let corners = super::corners_of([row[0], row[1], row[2], row[3]]);
                candidates.push(Candidate { corners, confidence, class_id, index });
            }
        }
    }

    fn extras(&self, outputs: &[TensorView<'_>], candidate: &Candidate, extras: &mut Vec<f32>) {
        let Some(&TensorView { shape: &[_, columns], data }) = outputs.first() else { return };
        let end = (candidate.index as usize + 1) * columns;
        extras.extend_from_slice(&data[end - self.coefficients..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cx, cy, w, h, objectness, three scores.
    const ROW: [f32; 8] = [50.0, 60.0, 20.0, 10.0, 0.5, 0.1, 0.4, 0.3];

    fn judged(reading: Reading, threshold: &Threshold<'_>) -> Option<(u32, f32)> {
        YoloV5::new(&[vec![1, 8]], 3, 0, reading).unwrap().judge(&ROW, threshold)
    }

    #[test]
    fn the_engines_read_a_row_each_in_its_way() {
        let half = Threshold::uniform(0.5);
        assert_eq!(judged(Reading::Classic, &half), Some((1, 0.5)));
        assert_eq!(judged(Reading::Detection, &half), None);
        let less = Threshold::uniform(0.45);
        assert_eq!(judged(Reading::Detection, &less), Some((1, 0.4)));
        assert_eq!(judged(Reading::SegmentationV5, &less), Some((0, 0.5)));
        assert_eq!(judged(Reading::SegmentationV7, &less), Some((0, 0.5)));
        assert_eq!(judged(Reading::SegmentationV7, &half), None);
    }

    #[test]
    fn limits_of_classes_pass_over_the_objectness() {
        let strict = Threshold { uniform: 0.9, per_class: &[0.9, 0.9, 0.9] };
        assert_eq!(judged(Reading::SegmentationV5, &strict), Some((0, 0.5)));
        assert_eq!(judged(Reading::SegmentationV7, &strict), None);
        assert_eq!(
            judged(Reading::Detection, &Threshold { uniform: 0.9, per_class: &[0.9, 0.4, 0.9] }),
            Some((1, 0.4))
        );
    }

    #[test]
    fn coefficients_are_the_last_columns() {
        let data: Vec<f32> = (0..16).map(|value| value as f32).collect();
        let rows = YoloV5::new(&[vec![2, 8]], 1, 2, Reading::Classic).unwrap();
        let candidate = Candidate { corners: [0.0; 4], confidence: 1.0, class_id: 0, index: 1 };
        let mut extras = Vec::new();
        rows.extras(&[TensorView { shape: &[2, 8], data: &data }], &candidate, &mut extras);
        assert_eq!(extras, [14.0, 15.0]);
    }

    #[test]
    fn wrong_shapes_name_expected_and_found() {
        let message = |shape: &[usize]| YoloV5::new(&[shape.to_vec()], 3, 0, Reading::Classic).unwrap_err().to_string();
        assert!(message(&[25_200, 85]).contains("80 classes"));
        assert!(message(&[85]).contains("[candidates, 8]"));
    }
}
