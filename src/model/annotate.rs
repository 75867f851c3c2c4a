//! Draws predictions on a frame, in the model's colours.

use std::sync::Arc;

use super::{Labels, Predictions};
use crate::frame::Frame;
use crate::frame::draw::{BoxStyle, Edges, draw_box};

/// How a model's predictions are drawn.
#[derive(Clone, Debug)]
pub struct Annotator {
    pub names: Arc<Labels>,
    /// Whether class and confidence are written at each box.
    pub labels: bool,
    /// Width of a box's line, pixels.
    pub stroke_px: u32,
}

impl Annotator {
    /// Draws every detection, the weakest first, so that the strongest lies on top.
    pub fn draw(&self, predictions: &Predictions, frame: &mut Frame) {
        for detection in predictions.detections.iter().rev() {
            let color = self.names.color(detection.class_id);
            let label = self.labels.then(|| {
                let percent = (detection.confidence * 100.0).round();
                format!("{} {percent}%", self.names.class_name(detection.class_id).unwrap_or_default())
            });
            #[expect(clippy::cast_possible_truncation, reason = "pixels of an image")]
            let [left, top, right, bottom] = detection.corners.map(|corner| corner as f32);
            let style = BoxStyle { colour: color, stroke: self.stroke_px };
            draw_box(frame, Edges { left, top, right, bottom }, label.as_deref(), style);
        }
    }
}
