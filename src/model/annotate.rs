//! Draws predictions on a frame, in the model's colours.

use super::{Predictions, class_name};
use crate::cache::{PALETTE, Rgb};
use crate::frame::Frame;
use crate::frame::draw::{BoxStyle, Edges, draw_box};

/// How a model's predictions are drawn.
#[derive(Clone, Debug)]
pub struct Annotator {
    pub class_names: Vec<String>,
    pub colors: Vec<Rgb>,
    /// Whether class and confidence are written at each box.
    pub labels: bool,
    /// Width of a box's line, pixels.
    pub stroke_px: u32,
}

impl Annotator {
    /// Draws every detection, the weakest first, so that the strongest lies on top.
    pub fn draw(&self, predictions: &Predictions, frame: &mut Frame) {
        for detection in predictions.detections.iter().rev() {
            let class = detection.class_id as usize;
            let color = self.colors.get(class).copied().unwrap_or(PALETTE[class % PALETTE.len()]);
            let label = self.labels.then(|| {
                let percent = (detection.confidence * 100.0).round();
                format!("{} {percent}%", class_name(&self.class_names, detection.class_id))
            });
            #[expect(clippy::cast_possible_truncation, reason = "pixels of an image")]
            let [left, top, right, bottom] = detection.corners.map(|corner| corner as f32);
            let style = BoxStyle { colour: color, stroke: self.stroke_px };
            draw_box(frame, Edges { left, top, right, bottom }, label.as_deref(), style);
        }
    }
}
