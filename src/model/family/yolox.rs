//! YOLOX detection: one output `[anchors, 5 + classes]`, as Megvii's `tools/export_onnx.py` writes it.
//!
//! A row is centre x, centre y, width, height, objectness and a score a class; objectness and scores are 0 to 1
//! already. The confidence is objectness times the best score, its class the first that has it. Two exports are about:
//!
//! - by default the boxes are *raw*: the centre as an offset from the anchor's cell, in cells; the size as the
//!   logarithm of cells;
//! - with `--decode_in_inference` they are in network pixels.
//!
//! Nothing in the file says which, and the shapes are the same; the numbers tell (see [`Decoder::are_raw`]). Anchors
//! lie by stride, 8 then 16 then 32, each grid row by row.

use super::objects::Rows;
use super::{best_of, class_count, corners_of, output_shape};
use crate::engine::{InputShape, TensorView};
use crate::model::Error;
use crate::model::nms::Candidate;
use crate::model::threshold::Threshold;

/// Columns before the class scores.
const BOX_COLUMNS: usize = 5;
const STRIDES: [usize; 3] = [8, 16, 32];

/// Decodes the output of a network with one input size.
#[derive(Debug)]
pub struct Decoder {
    cells: Vec<Cell>,
}

/// Where an anchor stands.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cell {
    column: f32,
    row: f32,
    /// Network pixels a cell.
    stride: f32,
}

/// The decoder of a network with outputs of these shapes and this input, if it is of this family and has as many
/// classes as there are names.
///
/// # Errors
/// The message names the shapes expected and found.
pub fn check(outputs: &[Vec<usize>], classes: usize, input: InputShape) -> Result<Decoder, Error> {
    let anchors: usize = STRIDES.iter().map(|stride| (input.height / stride) * (input.width / stride)).sum();
    match outputs {
        [output] if output[..] == [anchors, BOX_COLUMNS + classes] => Ok(Decoder { cells: cells(input) }),
        [output] if matches!(output[..], [rows, columns] if rows == anchors && columns > BOX_COLUMNS) => {
            class_count(output[1] - BOX_COLUMNS, classes, outputs)
        }
        _ => output_shape(format!("one output [{anchors}, {}]", BOX_COLUMNS + classes), outputs),
    }
}

fn cells(input: InputShape) -> Vec<Cell> {
    let grid = |stride: usize| {
        let (rows, columns) = (coordinates(input.height / stride), coordinates(input.width / stride));
        #[expect(clippy::cast_precision_loss, reason = "a stride is one of three small numbers")]
        let stride = stride as f32;
        rows.flat_map(move |row| columns.clone().map(move |column| Cell { column, row, stride }))
    };
    STRIDES.into_iter().flat_map(grid).collect()
}

#[expect(clippy::cast_precision_loss, reason = "the largest input admitted has some ten thousand cells on a side")]
fn coordinates(count: usize) -> impl Iterator<Item = f32> + Clone {
    (0..count).map(|index| index as f32)
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
    /// Appends the anchors whose confidence is at least `confidence_min` to `candidates`. `output` must have the shape
    /// that [`check`] let pass. Anchors without a finite place are left out.
    pub fn decode(&self, output: TensorView<'_>, confidence_min: f32, candidates: &mut Vec<Candidate>) {
        let [_, columns] = output.shape[..] else { return };
        let raw = self.are_raw(output.data, columns);
        for (index, (values, cell)) in (0_u32..).zip(output.data.chunks_exact(columns).zip(&self.cells)) {
            let objectness = values[BOX_COLUMNS - 1];
            // Most anchors see nothing: no score is over 1, so their classes need no look.
            if objectness < confidence_min {
                continue;
            }
            let (class_id, score) = best_of(&values[BOX_COLUMNS..]);
            let confidence = objectness * score;
            if confidence >= confidence_min {
                let corners = cell.corners([values[0], values[1], values[2], values[3]], raw);
                if corners.iter().all(|corner| corner.is_finite()) {
                    candidates.push(Candidate { corners, confidence, class_id, index });
                }
            }
        }
    }

    /// Whether boxes are raw. A network learns to answer near an anchor's own cell, whatever the picture: raw centres
    /// are some cells from 0, decoded ones some cells from their place in the picture. Whichever all anchors together
    /// are nearer to is what they are.
    fn are_raw(&self, values: &[f32], columns: usize) -> bool {
        let nearer = values.chunks_exact(columns).zip(&self.cells).map(|(values, cell)| {
            let from = |place: [f32; 2]| (values[0] - place[0]).abs().max((values[1] - place[1]).abs());
            let decoded = from([(cell.column + 0.5) * cell.stride, (cell.row + 0.5) * cell.stride]) / cell.stride;
            // The first cell of a grid is at 0: as raw as decoded, it has no say.
            match from([0.5, 0.5]).total_cmp(&decoded) {
                std::cmp::Ordering::Less => 1_i32,
                std::cmp::Ordering::Equal => 0,
                std::cmp::Ordering::Greater => -1,
            }
        });
        nearer.sum::<i32>() > 0
    }
}

impl Cell {
    /// Left, top, right, bottom in network pixels.
    fn corners(self, [x, y, width, height]: [f32; 4], raw: bool) -> [f32; 4] {
        let [x, y, width, height] = if raw {
            let centre = [(x + self.column) * self.stride, (y + self.row) * self.stride];
            [centre[0], centre[1], width.exp() * self.stride, height.exp() * self.stride]
        } else {
            [x, y, width, height]
        };
        corners_of([x, y, width, height])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 by 4 cells of 32 pixels, 4 by 8 of 16, 8 by 16 of 8.
    const INPUT: InputShape = InputShape { batch: 1, channels: 3, height: 64, width: 128 };
    const ANCHORS: usize = 8 * 16 + 4 * 8 + 2 * 4;

    /// All anchors answer a box of one cell at their cell's centre; none sees anything.
    fn quiet(decoder: &Decoder, raw: bool) -> Vec<f32> {
        let row = |cell: &Cell| match raw {
            true => [0.5, 0.5, 0.0, 0.0, 0.0, 0.9, 0.1],
            false => {
                let centre = [(cell.column + 0.5) * cell.stride, (cell.row + 0.5) * cell.stride];
                [centre[0], centre[1], cell.stride, cell.stride, 0.0, 0.9, 0.1]
            }
        };
        decoder.cells.iter().flat_map(row).collect()
    }

    fn candidates(decoder: &Decoder, data: &[f32]) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        decoder.decode(TensorView { shape: &[ANCHORS, 7], data }, 0.25, &mut candidates);
        candidates
    }

    #[test]
    fn both_exports_give_the_same_boxes() {
        let decoder = check(&[vec![ANCHORS, 7]], 2, INPUT).unwrap();
        // The anchor of the 16-pixel grid at column 3, row 2.
        let index = 8 * 16 + 2 * 8 + 3;
        let mut raw = quiet(&decoder, true);
        raw[index * 7..(index + 1) * 7].copy_from_slice(&[0.25, -0.5, 2.0_f32.ln(), 0.5_f32.ln(), 0.8, 0.5, 0.75]);
        let mut decoded = quiet(&decoder, false);
        decoded[index * 7..(index + 1) * 7].copy_from_slice(&[52.0, 24.0, 32.0, 8.0, 0.8, 0.5, 0.75]);
        for data in [raw, decoded] {
            let candidates = candidates(&decoder, &data);
            let [candidate] = candidates[..] else { panic!("{candidates:?}") };
            assert!((candidate.confidence - 0.6).abs() < 1e-6, "{candidate:?}");
            assert_eq!((candidate.class_id, candidate.index as usize), (1, index));
            for (corner, expected) in candidate.corners.iter().zip([36.0, 20.0, 68.0, 28.0]) {
                assert!((corner - expected).abs() < 1e-4, "{candidate:?}");
            }
        }
    }

    #[test]
    fn no_values_are_too_odd_to_decode() {
        let decoder = check(&[vec![ANCHORS, 7]], 2, INPUT).unwrap();
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            assert!(candidates(&decoder, &[odd; ANCHORS * 7]).iter().all(|found| found.confidence >= 0.25));
            let mut data = quiet(&decoder, true);
            data[..7].copy_from_slice(&[odd, 0.5, 100.0, 0.0, 0.9, 0.9, 0.1]);
            assert!(candidates(&decoder, &data).is_empty(), "{odd}");
        }
    }

    #[test]
    fn the_first_of_equal_scores_wins() {
        let decoder = check(&[vec![ANCHORS, 7]], 2, INPUT).unwrap();
        let mut data = quiet(&decoder, true);
        data[4..7].copy_from_slice(&[1.0, 0.5, 0.5]);
        assert_eq!(candidates(&decoder, &data)[0].class_id, 0);
    }

    #[test]
    fn wrong_shapes_name_expected_and_found() {
        let message = check(&[vec![ANCHORS, 7]], 4, INPUT).unwrap_err().to_string();
        assert!(message.contains("2 classes") && message.contains("4 names"), "{message}");
        let message = check(&[vec![ANCHORS + 1, 9]], 4, INPUT).unwrap_err().to_string();
        assert!(message.contains("[168, 9]") && message.contains("169"), "{message}");
    }
}
