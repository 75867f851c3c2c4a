//! Lines, discs and half-transparent areas, for masks and skeletons.

use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;

use super::{COORDINATE_MAX, Canvas, Colour, STROKE_MAX, i32_of, infallible, rgb, rounded};
use crate::frame::{CHANNELS, Frame};

/// A place in pixels from the centre of the frame's left top pixel.
pub type Place = [f32; 2];

/// How an area looks.
#[derive(Clone, Copy, Debug)]
pub struct Tint {
    pub colour: Colour,
    /// 0 (what is beneath) to 256 (only the colour).
    pub opacity: u16,
}

impl Tint {
    /// Lays the tint over pixels `from..to` of row `y`; what is outside the frame is left out.
    pub fn row(self, frame: &mut Frame, y: usize, from: usize, to: usize) {
        let (to, opacity) = (to.min(frame.width()), self.opacity.min(256));
        if y >= frame.height() || from >= to {
            return;
        }
        let pixels = &mut frame.row_mut(y)[from * CHANNELS..to * CHANNELS];
        for pixel in pixels.as_chunks_mut::<CHANNELS>().0 {
            for (level, colour) in pixel.iter_mut().zip(self.colour) {
                let blended = u16::from(*level) * (256 - opacity) + u16::from(colour) * opacity;
                *level = blended.to_be_bytes()[0];
            }
        }
    }
}

/// Most places where rows cross the edges of one polygon; one with more is not filled. A contour crosses each row as
/// often as it goes up or down there, so that a real one stays far below.
const CROSSINGS_MAX: usize = 1 << 22;

/// Fills polygons; keeps its memory.
#[derive(Clone, Debug, Default)]
pub struct PolygonFiller {
    /// Where rows cross edges.
    crossings: Vec<(usize, f64)>,
}

impl PolygonFiller {
    /// Lays a tint over the inside of a polygon, even-odd, edges included. Corners that are no numbers are left out.
    pub fn fill(&mut self, frame: &mut Frame, corners: &[Place], tint: Tint) {
        self.crossings.clear();
        let mut valid = corners.iter().filter_map(|&corner| place(corner));
        let Some(first) = valid.next() else { return };
        let mut from = first;
        for to in valid.chain([first]) {
            if !self.cross(frame.height(), from, to) {
                return;
            }
            from = to;
        }
        self.crossings.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        for pair in self.crossings.chunks_exact(2) {
            // Each row crosses a closed line an even number of times.
            let [(y, left), (_, right)] = [pair[0], pair[1]];
            tint.row(frame, y, at_least(left), at_least(right.floor() + 1.0));
        }
    }

    /// Notes the rows that cross an edge, its upper end included and its lower not. `false` when there are too many.
    fn cross(&mut self, height: usize, from: [f64; 2], to: [f64; 2]) -> bool {
        let [upper, lower] = if from[1] <= to[1] { [from, to] } else { [to, from] };
        let rows = at_least(upper[1])..at_least(lower[1]).min(height);
        if self.crossings.len() + rows.len() > CROSSINGS_MAX {
            return false;
        }
        let slope = (lower[0] - upper[0]) / (lower[1] - upper[1]);
        self.crossings.extend(rows.map(|y| (y, upper[0] + (row(y) - upper[1]) * slope)));
        true
    }
}

/// Draws a line from one place to another, both included. Places that are no numbers draw nothing.
pub fn draw_line(frame: &mut Frame, from: Place, to: Place, colour: Colour, stroke: u32) {
    let stroke = stroke.min(STROKE_MAX);
    let (Some(from), Some(to)) = (place(from), place(to)) else { return };
    let Some([from, to]) = clip(from, to, frame, f64::from(stroke)).filter(|_| stroke > 0) else { return };
    let (across, down) = (to[0] - from[0], to[1] - from[1]);
    let steps = across.abs().max(down.abs()).ceil().max(1.0);
    let half = i32_of((stroke - 1) / 2);
    let mut canvas = Canvas(frame);
    for step in 0..=rounded(steps) {
        let part = f64::from(step) / steps;
        let centre = Point::new(rounded(from[0] + across * part), rounded(from[1] + down * part));
        let pen = Rectangle::new(centre - Point::new_equal(half), Size::new_equal(stroke));
        infallible(canvas.fill_solid(&pen, rgb(colour)));
    }
}

/// Draws a filled disc. A centre that is no number draws nothing.
pub fn draw_disc(frame: &mut Frame, centre: Place, radius: u32, colour: Colour) {
    let Some([x, y]) = place(centre) else { return };
    let (centre, radius) = (Point::new(rounded(x), rounded(y)), i32_of(radius.min(STROKE_MAX)));
    let mut canvas = Canvas(frame);
    for line in -radius..=radius {
        let half = rounded((f64::from(radius * radius + radius - line * line)).sqrt().floor());
        let left = centre + Point::new(-half, line);
        let size = Size::new(u32::try_from(2 * half + 1).unwrap_or(0), 1);
        infallible(canvas.fill_solid(&Rectangle::new(left, size), rgb(colour)));
    }
}

/// The part of a line that can be seen, by Liang and Barsky: from a margin before the frame to one after it.
fn clip(from: [f64; 2], to: [f64; 2], frame: &Frame, margin: f64) -> Option<[[f64; 2]; 2]> {
    let bounds = [frame.width(), frame.height()].map(|side| row(side) + margin);
    let (mut enter, mut leave) = (0.0_f64, 1.0_f64);
    for axis in 0..2 {
        let length = to[axis] - from[axis];
        for (towards, room) in [(-length, from[axis] + margin), (length, bounds[axis] - from[axis])] {
            if towards < 0.0 {
                enter = enter.max(room / towards);
            } else if towards > 0.0 {
                leave = leave.min(room / towards);
            } else if room < 0.0 {
                return None;
            }
        }
    }
    let at = |part: f64| [from[0] + (to[0] - from[0]) * part, from[1] + (to[1] - from[1]) * part];
    (enter <= leave).then(|| [at(enter), at(leave)])
}

/// `None` for what is no number; brought into a range that can be calculated with.
fn place([x, y]: Place) -> Option<[f64; 2]> {
    (!x.is_nan() && !y.is_nan()).then(|| [x, y].map(|side| f64::from(side.clamp(-COORDINATE_MAX, COORDINATE_MAX))))
}

/// The first row or column at or after a place.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn at_least(place: f64) -> usize {
    place.ceil() as usize
}

#[expect(clippy::cast_precision_loss, reason = "sides of frames are far below 2^53")]
fn row(y: usize) -> f64 {
    y as f64
}
