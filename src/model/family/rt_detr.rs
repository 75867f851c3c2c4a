//! RT-DETR detection, as the ultralytics package exports it: 300 queries, boxes relative to the input, no suppression.
//!
//! Two layouts are about, one output each; centre x, centre y, width and height are parts of the input, 0 to 1:
//!
//! - `[queries, 4 + classes]`, the older: the box, then a score a class. The confidence of a query is its best score,
//!   its class the first that has it;
//! - `[queries, 6]`, since version 8.4: the box, its confidence and its class. Rows are the best pairs of query and
//!   class, so one box may come with several classes.
//!
//! Scores are 0 to 1 already. With two classes both layouts have six columns; the last column tells, row by row they
//! are whole numbers only in the newer (see [`Decoder::layout`]).

use super::objects::Rows;
use super::{best_of, class_count, corners_of, output_shape};
use crate::engine::{InputShape, TensorView};
use crate::model::Error;
use crate::model::nms::Candidate;
use crate::model::threshold::Threshold;

/// Columns before the scores.
const BOX_COLUMNS: usize = 4;
/// Columns of the newer layout.
const RANKED_COLUMNS: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// A score a class.
    Scores,
    /// One confidence and a class.
    Ranked,
}

/// Decodes the output of a network with one input size.
#[derive(Debug)]
pub struct Decoder {
    /// None: the two have the same shape.
    layout: Option<Layout>,
    classes: usize,
    input: InputShape,
}

/// The decoder of a network with outputs of these shapes and this input, if it is of this family and has as many
/// classes as there are names.
///
/// # Errors
/// The message names the shapes expected and found.
pub fn check(outputs: &[Vec<usize>], classes: usize, input: InputShape) -> Result<Decoder, Error> {
    let decoder = |layout| Ok(Decoder { layout, classes, input });
    match outputs {
        [output] => match output[..] {
            [_, RANKED_COLUMNS] if classes == RANKED_COLUMNS - BOX_COLUMNS => decoder(None),
            [_, RANKED_COLUMNS] => decoder(Some(Layout::Ranked)),
            [_, columns] if columns == BOX_COLUMNS + classes => decoder(Some(Layout::Scores)),
            [_, columns] if columns > BOX_COLUMNS => class_count(columns - BOX_COLUMNS, classes, outputs),
            _ => unlike(outputs, classes),
        },
        _ => unlike(outputs, classes),
    }
}

fn unlike(outputs: &[Vec<usize>], classes: usize) -> Result<Decoder, Error> {
    let expected = format!("one output [queries, {}] or [queries, {RANKED_COLUMNS}]", BOX_COLUMNS + classes);
    output_shape(expected, outputs)
}

impl Rows for Decoder {
    /// No package says limits for single classes of this family, which is not Roboflow's.
    fn candidates(&mut self, outputs: &[TensorView<'_>], threshold: &Threshold<'_>, candidates: &mut Vec<Candidate>) {
        if let Some(output) = outputs.first() {
            self.decode(*output, threshold.of(u32::MAX), candidates);
        }
    }
}

impl Decoder {
    /// Appends the queries whose confidence is over `confidence_min` to `candidates`, in the network's order. `output`
    /// must have the shape that [`check`] let pass. Queries without a finite place, and classes that have no name, are
    /// left out.
    pub fn decode(&self, output: TensorView<'_>, confidence_min: f32, candidates: &mut Vec<Candidate>) {
        let [_, columns] = output.shape[..] else { return };
        let layout = self.layout(output.data, columns);
        for (index, values) in (0_u32..).zip(output.data.chunks_exact(columns)) {
            let (place, scores) = values.split_at(BOX_COLUMNS);
            let found = match layout {
                Layout::Scores => Some(best_of(scores)),
                Layout::Ranked => self.ranked(scores),
            };
            let Some((class_id, confidence)) = found.filter(|(_, confidence)| *confidence > confidence_min) else {
                continue;
            };
            let corners = self.corners(place);
            if corners.iter().all(|corner| corner.is_finite()) {
                candidates.push(Candidate { corners, confidence, class_id, index });
            }
        }
    }

    /// Which layout values are in. Where the shape does not tell: a sigmoid is never exactly 0 or 1 for all queries,
    /// and a class is never anything else.
    fn layout(&self, values: &[f32], columns: usize) -> Layout {
        self.layout.unwrap_or_else(|| {
            let last = |row: &[f32]| row[columns - 1] == 0.0 || row[columns - 1] == 1.0;
            if values.chunks_exact(columns).all(last) { Layout::Ranked } else { Layout::Scores }
        })
    }

    fn ranked(&self, scores: &[f32]) -> Option<(u32, f32)> {
        let [confidence, class] = scores[..] else { return None };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates; checked below")]
        let class_id = class as u32;
        let named = class >= 0.0 && usize::try_from(class_id).is_ok_and(|class| class < self.classes);
        named.then_some((class_id, confidence))
    }

    /// Left, top, right, bottom in network pixels.
    fn corners(&self, place: &[f32]) -> [f32; 4] {
        #[expect(clippy::cast_precision_loss, reason = "the largest input admitted is below 2^24 pixels on a side")]
        let (width, height) = (self.input.width as f32, self.input.height as f32);
        let [left, top, right, bottom] = corners_of([place[0], place[1], place[2], place[3]]);
        [left * width, top * height, right * width, bottom * height]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: InputShape = InputShape { batch: 1, channels: 3, height: 320, width: 640 };

    fn candidates(columns: usize, classes: usize, data: &[f32]) -> Vec<Candidate> {
        let shape = [data.len() / columns, columns];
        let mut candidates = Vec::new();
        let decoder = check(&[shape.to_vec()], classes, INPUT).unwrap();
        decoder.decode(TensorView { shape: &shape, data }, 0.5, &mut candidates);
        candidates
    }

    #[test]
    fn scores_become_the_first_best_class() {
        let found = candidates(
            7,
            3,
            &[
                0.5, 0.5, 0.25, 0.5, 0.1, 0.9, 0.9, //
                0.25, 0.25, 0.5, 0.5, 0.5, 0.2, 0.1, // not over the threshold
                0.25, 0.25, 0.5, 0.5, 0.7, 0.2, 0.1,
            ],
        );
        assert_eq!(
            found,
            [
                Candidate { corners: [240.0, 80.0, 400.0, 240.0], confidence: 0.9, class_id: 1, index: 0 },
                Candidate { corners: [0.0, 0.0, 320.0, 160.0], confidence: 0.7, class_id: 0, index: 2 },
            ]
        );
    }

    #[test]
    fn ranked_rows_name_their_class() {
        let found = candidates(
            6,
            80,
            &[
                0.5, 0.5, 0.25, 0.5, 0.9, 79.0, //
                0.5, 0.5, 0.25, 0.5, 0.8, 3.0, // the same box as another class
                0.5, 0.5, 0.25, 0.5, 0.7, 80.0, // has no name
                0.5, 0.5, 0.25, 0.5, 0.6, -1.0,
            ],
        );
        let corners = [240.0, 80.0, 400.0, 240.0];
        assert_eq!(
            found,
            [
                Candidate { corners, confidence: 0.9, class_id: 79, index: 0 },
                Candidate { corners, confidence: 0.8, class_id: 3, index: 1 },
            ]
        );
    }

    #[test]
    fn with_two_classes_the_values_tell_the_layout() {
        let ranked = candidates(6, 2, &[0.5, 0.5, 0.5, 0.5, 0.9, 1.0, 0.5, 0.5, 0.5, 0.5, 0.8, 0.0]);
        assert_eq!(
            ranked.iter().map(|found| (found.class_id, found.confidence)).collect::<Vec<_>>(),
            [(1, 0.9), (0, 0.8)]
        );
        let scores = candidates(6, 2, &[0.5, 0.5, 0.5, 0.5, 0.9, 1.0, 0.5, 0.5, 0.5, 0.5, 0.8, 0.1]);
        assert_eq!(
            scores.iter().map(|found| (found.class_id, found.confidence)).collect::<Vec<_>>(),
            [(1, 1.0), (0, 0.8)]
        );
    }

    #[test]
    fn no_values_are_too_odd_to_decode() {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -0.0] {
            for (columns, classes) in [(7, 3), (6, 80), (6, 2)] {
                let mut data = vec![odd; columns];
                candidates(columns, classes, &data);
                data[4..].fill(0.9);
                data[..4].fill(0.5);
                data[0] = odd;
                let finite = candidates(columns, classes, &data);
                assert!(finite.iter().all(|found| found.corners.iter().all(|corner| corner.is_finite())), "{finite:?}");
            }
        }
    }

    #[test]
    fn wrong_shapes_name_expected_and_found() {
        let message = check(&[vec![300, 9]], 4, INPUT).unwrap_err().to_string();
        assert!(message.contains("5 classes") && message.contains("4 names"), "{message}");
        let message = check(&[vec![300, 4], vec![300, 91]], 91, INPUT).unwrap_err().to_string();
        assert!(message.contains("[queries, 95]"), "{message}");
    }
}
