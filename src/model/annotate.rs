//! Draws predictions on a frame, in the model's colours.

use std::sync::Arc;

use super::mask::rle;
use super::predictions::{ClassMap, Detection, Keypoint, Shape};
use super::registry::Task;
use super::{Labels, Predictions};
use crate::frame::draw::{
    BoxStyle, Colour, Edges, Place, PolygonFiller, Tint, draw_box, draw_captions, draw_disc, draw_line, text_colour,
};
use crate::frame::{Frame, Size};

/// How much of the picture masks cover, of 256.
const MASK_OPACITY: u16 = 110;

/// Name of the class that is no object, in any case of letters: such pixels stay as they are.
const BACKGROUND: &str = "background";

/// How a model's predictions are drawn.
#[derive(Clone, Debug)]
pub struct Annotator {
    pub names: Arc<Labels>,
    /// Whether class and confidence are written at each box, and the classes of a class map in the corner.
    pub labels: bool,
    /// Width of lines, pixels.
    pub stroke_px: u32,
    /// Height of labels, pixels; `None`: as it suits the size of the picture.
    pub text_px: Option<usize>,
}

impl Annotator {
    /// Draws everything, the weakest detection first, so that the strongest lies on top; boxes over masks. The frame may be
    /// the picture at another size.
    pub fn draw(&self, predictions: &Predictions, frame: &mut Frame) {
        self.draw_class_map(predictions, frame);
        let scale = scale(predictions, frame);
        let mut polygon = Polygon { scale, corners: Vec::new(), filler: PolygonFiller::default() };
        for detection in predictions.detections.iter().rev() {
            self.draw_mask(detection, predictions, &mut polygon, frame);
        }
        for detection in predictions.detections.iter().rev() {
            self.draw_box(detection, scale, frame);
            if let Shape::Keypoints(span) = detection.shape {
                self.draw_skeleton(detection.class_id, &predictions.keypoints[span.range()], scale, frame);
            }
        }
        self.draw_classes(predictions, frame);
    }

    fn draw_box(&self, detection: &Detection, scale: [f64; 2], frame: &mut Frame) {
        let color = self.names.color(detection.class_id);
        let label = self.labels.then(|| self.label(detection.class_id, detection.confidence));
        let [left, top, right, bottom] = detection.corners;
        let ([left, top], [right, bottom]) = (scaled([left, top], scale), scaled([right, bottom], scale));
        let style = BoxStyle { colour: color, stroke: self.stroke_px, text_px: self.text_px };
        draw_box(frame, Edges { left, top, right, bottom }, label.as_deref(), style);
    }

    fn draw_mask(&self, detection: &Detection, predictions: &Predictions, polygon: &mut Polygon, frame: &mut Frame) {
        let tint = Tint { colour: self.names.color(detection.class_id), opacity: MASK_OPACITY };
        match detection.shape {
            Shape::Polygon(span) => {
                polygon.draw(frame, &predictions.points[span.range()], tint, self.stroke_px);
            }
            Shape::Mask(span) => {
                let grid = predictions.mask_grid.unwrap_or(predictions.image);
                fill_runs(frame, &predictions.rle[span.range()], grid, tint);
            }
            Shape::Box | Shape::Keypoints(_) => {}
        }
    }

    /// Joined points of one object; those of confidence 0 were not found.
    fn draw_skeleton(&self, class_id: u32, keypoints: &[Keypoint], scale: [f64; 2], frame: &mut Frame) {
        let color = self.names.color(class_id);
        let found = |id: usize| {
            keypoints
                .iter()
                .find(|keypoint| keypoint.id as usize == id && keypoint.confidence > 0.0)
                .map(|keypoint| scaled([keypoint.x, keypoint.y], scale))
        };
        for &(from, to) in self.names.skeleton(class_id).map(|skeleton| &skeleton.edges[..]).unwrap_or_default() {
            if let (Some(from), Some(to)) = (found(from), found(to)) {
                draw_line(frame, from, to, color, self.stroke_px);
            }
        }
        for keypoint in keypoints.iter().filter(|keypoint| keypoint.confidence > 0.0) {
            let centre = scaled([keypoint.x, keypoint.y], scale);
            draw_disc(frame, centre, self.stroke_px.saturating_add(2), text_colour(color));
            draw_disc(frame, centre, self.stroke_px.saturating_add(1), color);
        }
    }

    /// The first class of a classifier of one label, every predicted one of many; this is all there is to see, so it
    /// is drawn without `labels` too.
    fn draw_classes(&self, predictions: &Predictions, frame: &mut Frame) {
        let most = if self.names.task == Task::Classification { 1 } else { usize::MAX };
        let predicted = predictions.classes.iter().filter(|class| class.predicted).take(most);
        draw_captions(
            frame,
            self.text_px,
            predicted.map(|class| (self.label(class.class_id, class.score), self.names.color(class.class_id))),
        );
    }

    fn draw_class_map(&self, predictions: &Predictions, frame: &mut Frame) {
        let ClassMap { class_ids, size: Size { width, height }, .. } = &predictions.class_map;
        let (width, height, image) = (*width, *height, predictions.image);
        let fits = width <= image.width && height <= image.height;
        if class_ids.is_empty() || class_ids.len() != width * height || !fits {
            return;
        }
        let (columns, rows) = (frame.width(), frame.height());
        let mut present = [false; 256];
        let background = |class: u8| {
            self.names.class_name(u32::from(class)).is_some_and(|name| name.eq_ignore_ascii_case(BACKGROUND))
        };
        let clear: [bool; 256] = std::array::from_fn(|class| u8::try_from(class).is_ok_and(background));
        let colors: [Colour; 256] =
            std::array::from_fn(|class| u32::try_from(class).map_or([0; 3], |class| self.names.color(class)));
        for y in 0..rows {
            let Some(row) = class_ids.chunks_exact(width).nth(y * image.height / rows) else { break };
            let mut from = 0;
            for run in row.chunk_by(|a, b| a == b) {
                let (class, to) = (usize::from(run[0]), from + run.len());
                if !clear[class] {
                    present[class] = true;
                    let [left, right] = [from, to].map(|x| x * columns / image.width);
                    Tint { colour: colors[class], opacity: MASK_OPACITY }.row(frame, y, left, right);
                }
                from = to;
            }
        }
        if self.labels {
            let classes = (0_u32..).zip(present).filter(|&(_, present)| present);
            draw_captions(frame, self.text_px, classes.map(|(class, _)| (self.name(class), self.names.color(class))));
        }
    }

    fn name(&self, class_id: u32) -> &str {
        self.names.class_name(class_id).unwrap_or_default()
    }

    fn label(&self, class_id: u32, confidence: f32) -> String {
        format!("{} {}%", self.name(class_id), (confidence * 100.0).round())
    }
}

/// Outlines on their way to the frame's pixels.
struct Polygon {
    scale: [f64; 2],
    corners: Vec<Place>,
    filler: PolygonFiller,
}

impl Polygon {
    fn draw(&mut self, frame: &mut Frame, points: &[[f64; 2]], tint: Tint, stroke: u32) {
        self.corners.clear();
        self.corners.extend(points.iter().map(|&point| scaled(point, self.scale)));
        self.filler.fill(frame, &self.corners, tint);
        let next = self.corners.iter().cycle().skip(1);
        for (&from, &to) in self.corners.iter().zip(next) {
            draw_line(frame, from, to, tint.colour, stroke);
        }
    }
}

/// Pixels of the frame for a pixel of the predictions.
#[expect(clippy::cast_precision_loss, reason = "sides of frames are far below 2^53")]
fn scale(predictions: &Predictions, frame: &Frame) -> [f64; 2] {
    match predictions.mask_grid.unwrap_or(predictions.image) {
        Size { width: 0, .. } | Size { height: 0, .. } => [1.0; 2],
        grid => [frame.width() as f64 / grid.width as f64, frame.height() as f64 / grid.height as f64],
    }
}

#[expect(clippy::cast_possible_truncation, reason = "pixels of an image")]
fn scaled(point: [f64; 2], scale: [f64; 2]) -> Place {
    [(point[0] * scale[0]) as f32, (point[1] * scale[1]) as f32]
}

/// Lays a tint over a run-length mask of `grid` cells, which fill the frame.
fn fill_runs(frame: &mut Frame, runs: &str, grid: Size, tint: Tint) {
    let Size { width, height } = grid;
    if height == 0 || width == 0 {
        return;
    }
    let (frame_width, frame_height) = (frame.width(), frame.height());
    let (mut at, mut inside) = (0, false);
    for run in rle::runs(runs) {
        let end = run.saturating_add(at).min(width * height);
        while inside && at < end {
            let (x, top) = (at / height, at % height);
            let bottom = (end - x * height).min(height);
            let columns = x * frame_width / width..(x + 1) * frame_width / width;
            for y in top * frame_height / height..bottom * frame_height / height {
                tint.row(frame, y, columns.start, columns.end);
            }
            at = x * height + bottom;
        }
        (at, inside) = (end, !inside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Skeleton;
    use crate::model::{ClassScore, Span};

    const GREY: Colour = [100; 3];

    fn frame() -> Frame {
        let mut frame = Frame::new(60, 40);
        frame.pixels_mut().fill(100);
        frame
    }

    fn annotator(task: Task) -> Annotator {
        let mut labels = Labels::clone(&Labels::new(task, vec!["background".into(), "cat".into()]));
        labels.colors = vec![[255, 0, 0], [0, 0, 255]];
        let names = vec!["nose".into(), "ear".into(), "tail".into()];
        labels.skeletons =
            vec![Skeleton::default(), Skeleton { class_id: 1, names, edges: vec![(0, 1), (1, 2), (2, 9)] }];
        Annotator { names: Arc::new(labels), labels: false, stroke_px: 1, text_px: None }
    }

    fn detection(corners: [f64; 4], shape: Shape) -> Detection {
        Detection { corners, confidence: 0.9, class_id: 1, shape }
    }

    fn predictions() -> Predictions {
        let mut predictions = Predictions::default();
        predictions.clear(Size::new(60, 40));
        predictions
    }

    fn at(frame: &Frame, x: usize, y: usize) -> Colour {
        frame.row(y)[x * 3..][..3].try_into().unwrap()
    }

    #[test]
    fn masks_are_seen_through_and_their_outlines_are_not() {
        let mut predictions = predictions();
        predictions.points = vec![[10.0, 10.0], [10.0, 30.0], [30.0, 30.0], [30.0, 10.0]];
        predictions.detections = vec![detection([5.0, 5.0, 50.0, 35.0], Shape::Polygon(Span::since(0, 4)))];
        let mut frame = frame();
        annotator(Task::InstanceSegmentation).draw(&predictions, &mut frame);
        let blended = at(&frame, 20, 20);
        assert!(blended[0] < 100 && (101..255).contains(&blended[2]), "{blended:?}");
        assert_eq!((at(&frame, 10, 20), at(&frame, 5, 20)), ([0, 0, 255], [0, 0, 255]));
        assert_eq!(at(&frame, 7, 20), GREY);
    }

    #[test]
    fn run_length_masks_of_a_smaller_grid_fill_the_frame() {
        let mut predictions = predictions();
        // On a grid of 6 by 4 cells of ten pixels: rows 1 and 2 of columns 2 and 3.
        predictions.mask_grid = Some(Size::new(6, 4));
        predictions.rle = "92209".into();
        assert_eq!(rle::runs(&predictions.rle).collect::<Vec<_>>(), [9, 2, 2, 2, 11]);
        predictions.detections = vec![detection([2.0, 1.0, 4.0, 3.0], Shape::Mask(Span::since(0, 5)))];
        let mut frame = frame();
        annotator(Task::InstanceSegmentation).draw(&predictions, &mut frame);
        let masked = |x, y| at(&frame, x, y) != GREY;
        assert!(masked(25, 15) && masked(35, 25) && masked(21, 11));
        assert!(!masked(19, 15) && !masked(42, 15) && !masked(25, 9) && !masked(25, 32));
        // The box is scaled as well.
        assert_eq!(at(&frame, 20, 20), [0, 0, 255]);
    }

    #[test]
    fn boxes_are_drawn_where_they_are_on_the_picture_at_another_size() {
        let mut predictions = predictions();
        predictions.detections = vec![detection([10.0, 10.0, 50.0, 30.0], Shape::Box)];
        let mut frame = Frame::new(120, 20);
        annotator(Task::ObjectDetection).draw(&predictions, &mut frame);
        assert_eq!((at(&frame, 20, 5), at(&frame, 100, 15)), ([0, 0, 255], [0, 0, 255]));
        assert_eq!((at(&frame, 10, 10), at(&frame, 60, 10)), ([0; 3], [0; 3]));
    }

    #[test]
    fn points_that_were_not_found_are_not_drawn() {
        let mut predictions = predictions();
        let point = |x, y, confidence, id| Keypoint { x, y, confidence, id };
        predictions.keypoints = vec![point(10.0, 10.0, 0.9, 0), point(50.0, 10.0, 0.8, 1), point(30.0, 35.0, 0.0, 2)];
        predictions.detections = vec![detection([0.0, 0.0, 59.0, 39.0], Shape::Keypoints(Span::since(0, 3)))];
        let mut frame = frame();
        annotator(Task::KeypointDetection).draw(&predictions, &mut frame);
        assert_eq!((at(&frame, 10, 10), at(&frame, 30, 10)), ([0, 0, 255], [0, 0, 255]));
        assert_eq!((at(&frame, 30, 35), at(&frame, 40, 22)), (GREY, GREY));
    }

    #[test]
    fn a_class_map_leaves_the_background_as_it_is() {
        let mut predictions = predictions();
        predictions.class_map.class_ids = (0..60 * 40).map(|i| u8::from(i % 60 >= 30)).collect();
        predictions.class_map.confidence = vec![255; 60 * 40];
        let mut frame = frame();
        let mut annotator = annotator(Task::SemanticSegmentation);
        annotator.draw(&predictions, &mut frame);
        assert_eq!(at(&frame, 29, 20), GREY);
        assert!(at(&frame, 30, 20)[2] > 100);
        assert_eq!(at(&frame, 0, 0), GREY);
        annotator.labels = true;
        annotator.draw(&predictions, &mut frame);
        assert_eq!(at(&frame, 0, 0), [0, 0, 255]);
        // On the picture at twice its size the map is as well.
        let mut larger = Frame::new(120, 80);
        annotator.labels = false;
        annotator.draw(&predictions, &mut larger);
        assert_eq!((at(&larger, 59, 79), at(&larger, 0, 0)), ([0; 3], [0; 3]));
        assert!(at(&larger, 60, 79)[2] > 100 && at(&larger, 119, 0)[2] > 100);
        // One that is larger than its image is not drawn.
        predictions.image = Size::new(40, 60);
        let mut other = Frame::new(40, 60);
        annotator.draw(&predictions, &mut other);
        assert!(other.pixels().iter().all(|&level| level == 0));
    }

    #[test]
    fn classifiers_are_captioned() {
        let class = |class_id, predicted| ClassScore { class_id, score: 0.5, predicted };
        let mut predictions = predictions();
        predictions.classes = vec![class(0, true), class(1, true)];
        for (task, second) in [(Task::Classification, GREY), (Task::MultiLabelClassification, [0, 0, 255])] {
            let mut frame = frame();
            annotator(task).draw(&predictions, &mut frame);
            assert_eq!((at(&frame, 0, 0), at(&frame, 0, 20)), ([255, 0, 0], second));
        }
        predictions.classes = vec![class(0, false)];
        let mut frame = frame();
        annotator(Task::MultiLabelClassification).draw(&predictions, &mut frame);
        assert_eq!(at(&frame, 0, 0), GREY);
    }

    #[test]
    fn hostile_numbers_panic_nowhere() {
        let wild = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e300, 1e300, 0.0];
        let mut predictions = predictions();
        predictions.rle = "zzzzzzzz~0".into();
        for &a in &wild {
            for &b in &wild {
                predictions.points = vec![[a, b], [b, a], [0.0, b], [a, 7.0]];
                predictions.keypoints = vec![Keypoint { x: a, y: b, confidence: 1.0, id: 0 }; 2];
                predictions.detections = [
                    Shape::Polygon(Span::since(0, 4)),
                    Shape::Keypoints(Span::since(0, 2)),
                    Shape::Mask(Span::since(0, 10)),
                ]
                .map(|shape| detection([a, b, b, a], shape))
                .to_vec();
                for grid in [None, Some(Size::new(0, 3)), Some(Size::new(1, 1))] {
                    predictions.mask_grid = grid;
                    annotator(Task::InstanceSegmentation).draw(&predictions, &mut frame());
                }
            }
        }
    }
}
