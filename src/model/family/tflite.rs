//! Rows of TensorFlow Lite's usual answers: detections as `TFLite_Detection_PostProcess` makes them, and the one pose of
//! MoveNet. Places are shares of the input's sides, y first.

use super::keypoints::CONFIDENCE_MIN;
use super::objects::Rows;
use super::output_shape;
use crate::cache::BoxOutputs;
use crate::engine::{InputShape, TensorView};
use crate::model::Error;
use crate::model::nms::Candidate;
use crate::model::threshold::{Bound, Threshold};

/// Numbers of a key point: y, x, score.
const KEYPOINT: usize = 3;

/// Width and height of the input, pixels.
fn sides(input: InputShape) -> [f32; 2] {
    #[expect(clippy::cast_precision_loss, reason = "sides of a picture")]
    [input.width, input.height].map(|side| side as f32)
}

/// Detections, suppressed by the network itself.
#[derive(Debug)]
pub struct Detections {
    order: BoxOutputs,
    sides: [f32; 2],
}

impl Detections {
    /// For outputs of these shapes (without the batch axis), in this order.
    ///
    /// # Errors
    /// The message names the shapes expected and found.
    pub fn new(outputs: &[Vec<usize>], input: InputShape, order: BoxOutputs) -> Result<Self, Error> {
        let shape = |output: usize| outputs.get(output).map(Vec::as_slice);
        match (shape(order.boxes), shape(order.classes), shape(order.scores), shape(order.count)) {
            (Some(&[boxes, 4]), Some(&[classes]), Some(&[scores]), Some([] | [1]))
                if boxes == classes && boxes == scores =>
            {
                Ok(Self { order, sides: sides(input) })
            }
            _ => {
                let BoxOutputs { boxes, classes, scores, count } = order;
                let expected = format!(
                    "output {boxes} [detections, 4], {classes} and {scores} [detections], {count} the number of them; \
                     `outputs` of firstlight.json says which is which"
                );
                output_shape(expected, outputs)
            }
        }
    }
}

impl Rows for Detections {
    fn candidates(&mut self, outputs: &[TensorView<'_>], threshold: &Threshold<'_>, candidates: &mut Vec<Candidate>) {
        let data = |output: usize| outputs.get(output).map_or(&[][..], |view| view.data);
        let BoxOutputs { boxes, classes, scores, count } = self.order;
        let [width, height] = self.sides;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts from floats saturate")]
        let count = data(count).first().map_or(0, |&count| count as usize);
        let rows = data(boxes).as_chunks().0.iter().zip(data(classes)).zip(data(scores));
        for (index, ((&[top, left, bottom, right], &class), &confidence)) in (0_u32..).zip(rows.take(count)) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts from floats saturate")]
            let class_id = class as u32;
            if Bound::AtLeast.passes(confidence, threshold.of(class_id)) {
                let corners = [left * width, top * height, right * width, bottom * height];
                candidates.push(Candidate { corners, confidence, class_id, index });
            }
        }
    }
}

/// One person, whose box is the extent of the points that were found, and whose confidence is the mean of all.
#[derive(Debug)]
pub struct Pose {
    sides: [f32; 2],
}

impl Pose {
    /// For outputs of these shapes (without the batch axis), with so many key points.
    ///
    /// # Errors
    /// The message names the shapes expected and found.
    pub fn new(outputs: &[Vec<usize>], input: InputShape, points: usize) -> Result<Self, Error> {
        match outputs.first().map(Vec::as_slice) {
            Some(&[1, found, KEYPOINT]) if found == points => Ok(Self { sides: sides(input) }),
            _ => output_shape(format!("[1, {points}, {KEYPOINT}], a point for each name in firstlight.json"), outputs),
        }
    }

    /// x and y in pixels of the network, and score.
    fn points(&self, outputs: &[TensorView<'_>]) -> impl Iterator<Item = [f32; KEYPOINT]> {
        let [width, height] = self.sides;
        let data = outputs.first().map_or(&[][..], |view| view.data);
        data.as_chunks::<KEYPOINT>().0.iter().map(move |&[y, x, score]| [x * width, y * height, score])
    }
}

impl Rows for Pose {
    fn candidates(&mut self, outputs: &[TensorView<'_>], threshold: &Threshold<'_>, candidates: &mut Vec<Candidate>) {
        let (mut sum, mut points) = (0.0, 0.0);
        let mut corners = [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
        for [x, y, score] in self.points(outputs) {
            (sum, points) = (sum + score, points + 1.0);
            if score >= CONFIDENCE_MIN {
                corners = [corners[0].min(x), corners[1].min(y), corners[2].max(x), corners[3].max(y)];
            }
        }
        let confidence = sum / points;
        if Bound::AtLeast.passes(confidence, threshold.of(0)) && corners[0] <= corners[2] {
            candidates.push(Candidate { corners, confidence, class_id: 0, index: 0 });
        }
    }

    fn extras(&self, outputs: &[TensorView<'_>], _: &Candidate, extras: &mut Vec<f32>) {
        extras.extend(self.points(outputs).flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: InputShape = InputShape { batch: 1, channels: 3, height: 100, width: 200 };

    #[test]
    fn as_many_detections_as_the_network_counts_are_read_in_the_order_of_the_manifest() {
        let order = BoxOutputs { scores: 0, boxes: 1, count: 2, classes: 3 };
        let shapes = [vec![3], vec![3, 4], vec![], vec![3]];
        let mut rows = Detections::new(&shapes, INPUT, order).unwrap();
        let scores = [0.9, 0.3, 0.8];
        let boxes = [0.125, 0.25, 0.5, 0.625, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0];
        let views = [
            TensorView { shape: &[3], data: &scores },
            TensorView { shape: &[3, 4], data: &boxes },
            TensorView { shape: &[], data: &[2.0] },
            TensorView { shape: &[3], data: &[7.0, 0.0, 0.0] },
        ];
        let mut found = Vec::new();
        rows.candidates(&views, &Threshold::uniform(0.4), &mut found);
        assert_eq!(found, [Candidate { corners: [50.0, 12.5, 125.0, 50.0], confidence: 0.9, class_id: 7, index: 0 }]);
        found.clear();
        rows.candidates(&views, &Threshold::uniform(0.1), &mut found);
        assert_eq!(found.len(), 2, "the third is beyond the count");
    }

    #[test]
    fn a_pose_is_one_object_around_the_points_that_were_found() {
        let mut pose = Pose::new(&[vec![1, 3, 3]], INPUT, 3).unwrap();
        let data = [0.5, 0.25, 0.9, 0.1, 0.75, 0.8, 0.0, 0.0, 0.1];
        let views = [TensorView { shape: &[1, 3, 3], data: &data }];
        let mut found = Vec::new();
        pose.candidates(&views, &Threshold::uniform(0.4), &mut found);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].corners, [50.0, 10.0, 150.0, 50.0]);
        assert!((found[0].confidence - 0.6).abs() < 1e-6);
        let mut extras = Vec::new();
        pose.extras(&views, &found[0], &mut extras);
        assert_eq!(extras, [50.0, 50.0, 0.9, 150.0, 10.0, 0.8, 0.0, 0.0, 0.1]);
        found.clear();
        pose.candidates(&views, &Threshold::uniform(0.7), &mut found);
        assert!(found.is_empty());
    }

    #[test]
    fn other_shapes_are_refused_with_what_was_expected() {
        let refused = Detections::new(&[vec![3, 4], vec![3], vec![2], vec![]], INPUT, BoxOutputs::default());
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("[detections, 4]") && message.contains("firstlight.json"), "{message}");
        let message = Pose::new(&[vec![1, 17, 3]], INPUT, 16).unwrap_err().to_string();
        assert!(message.contains("[1, 16, 3]") && message.contains("17"), "{message}");
    }
}
