//! Annotations drawn into a frame: boxes, masks, lines and labels, for snapshots and saved pictures.
//!
//! May not know: predictions. Everything is given in pixels, may lie partly or wholly outside the frame, and is then
//! clipped.

mod lettering;
mod shape;

use core::convert::Infallible;

use embedded_graphics::mono_font::iso_8859_1::{FONT_6X13, FONT_8X13, FONT_10X20};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use embedded_graphics::text::{Baseline, Text};

use super::{CHANNELS, Frame};
pub use lettering::{draw_text, text_width};
pub use shape::{Place, PolygonFiller, Tint, draw_disc, draw_line};

/// Red, green, blue.
pub type Colour = [u8; CHANNELS];

/// Longest coordinate either way: far beyond any frame, and safe to add to another.
const COORDINATE_MAX: f32 = 1_000_000.0;

/// Thickest line, in pixels; more would only be a slower way to fill the frame.
const STROKE_MAX: u32 = 64;

/// Room around a label's text, in pixels.
const LABEL_MARGIN: i32 = 2;

/// A rectangle by its edges, in pixels from the left top of the frame; the edges belong to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edges {
    pub left: f32,
    pub top: f32,
    pub right: f32,
    pub bottom: f32,
}

/// How a box looks.
#[derive(Clone, Copy, Debug)]
pub struct BoxStyle {
    pub colour: Colour,
    /// Thickness of the line in pixels, inwards from the edges. 0 draws no line.
    pub stroke: u32,
    /// Height of the label's letters in pixels; `None`: one of three, by the size of the frame.
    pub text_px: Option<usize>,
}

/// Draws the outline of a box, and above it (or within, at the top of the frame) a filled label when there is text.
/// Characters outside Latin-1 are shown as question marks. Edges that are not numbers, or the wrong way round, draw
/// nothing.
pub fn draw_box(frame: &mut Frame, edges: Edges, label: Option<&str>, style: BoxStyle) {
    let (left_top, right_bottom) = (point(edges.left, edges.top), point(edges.right, edges.bottom));
    let (Some(left_top), Some(right_bottom)) = (left_top, right_bottom) else { return };
    if left_top.x > right_bottom.x || left_top.y > right_bottom.y {
        return;
    }
    let outline = Rectangle::with_corners(left_top, right_bottom);
    let stroke = style.stroke.min(STROKE_MAX);
    if stroke > 0 {
        fill_outline(frame, outline, stroke, style.colour);
    }
    if let Some(text) = label.filter(|text| !text.is_empty()) {
        draw_label(frame, left_top, text, style);
    }
}

/// Writes text on a ground of the style's colour, so that it ends above `corner`, moved to where it can be seen.
pub fn draw_label(frame: &mut Frame, corner: Point, text: &str, style: BoxStyle) {
    Plate::new(frame, text, style.colour, style.text_px).draw(frame, |height| {
        let top = if corner.y >= height { corner.y - height } else { corner.y.max(0) };
        Point::new(corner.x, top)
    });
}

/// Writes lines of text in the left top corner, each on a ground of its own colour, as many as there is room for.
/// `text_px` is as that of [`BoxStyle`].
pub fn draw_captions<T: AsRef<str>>(
    frame: &mut Frame,
    text_px: Option<usize>,
    lines: impl IntoIterator<Item = (T, Colour)>,
) {
    let (_, bottom) = dimensions(frame);
    let mut top = 0;
    for (text, colour) in lines {
        if top >= bottom {
            return;
        }
        Plate::new(frame, text.as_ref(), colour, text_px).draw(frame, |height| {
            let place = Point::new(0, top);
            top += height;
            place
        });
    }
}

/// Text laid out on a filled ground.
struct Plate<'a> {
    text: &'a str,
    lettering: Lettering,
    size: Size,
    colour: Colour,
}

/// How letters are drawn: as a font has them, or enlarged.
#[derive(Clone, Copy)]
enum Lettering {
    Font(&'static MonoFont<'static>),
    Height(usize),
}

impl Lettering {
    fn character_size(self) -> Size {
        let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        match self {
            Self::Font(font) => font.character_size,
            Self::Height(height) => Size::new(side(text_width(1, height)), side(height)),
        }
    }

    fn draw(self, frame: &mut Frame, text: &str, corner: Point, colour: Colour) {
        match self {
            Self::Font(font) => {
                let style = MonoTextStyle::new(font, rgb(colour));
                infallible(Text::with_baseline(text, corner, style, Baseline::Top).draw(&mut Canvas(frame)));
            }
            Self::Height(height) => {
                let place = [corner.x, corner.y].map(|at| usize::try_from(at).unwrap_or(0));
                draw_text(frame, place, text, height, colour);
            }
        }
    }
}

impl<'a> Plate<'a> {
    fn new(frame: &Frame, text: &'a str, colour: Colour, text_px: Option<usize>) -> Self {
        let lettering = text_px.map_or_else(|| Lettering::Font(font_for(frame)), Lettering::Height);
        let Size { width, height } = lettering.character_size();
        let longest = frame.width() / width.max(1) as usize + 1;
        // What does not fit on the frame need not be laid out.
        let text = text.char_indices().nth(longest).map_or(text, |(end, _)| &text[..end]);
        let characters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        let size =
            Size::new(width.saturating_mul(characters), height) + Size::new_equal(2 * LABEL_MARGIN.unsigned_abs());
        Self { text, lettering, size, colour }
    }

    /// `place` says where its left top corner goes, given its height; it is moved left until its end can be seen.
    fn draw(self, frame: &mut Frame, place: impl FnOnce(i32) -> Point) {
        let [width, height] = [self.size.width, self.size.height].map(i32_of);
        let (frame_width, _) = dimensions(frame);
        let wanted = place(height);
        let corner = Point::new(wanted.x.min(frame_width - width).max(0), wanted.y);
        infallible(Canvas(frame).fill_solid(&Rectangle::new(corner, self.size), rgb(self.colour)));
        self.lettering.draw(frame, self.text, corner + Point::new_equal(LABEL_MARGIN), text_colour(self.colour));
    }
}

/// Black or white, whichever is easier to read on `ground`.
#[must_use]
pub fn text_colour(ground: Colour) -> Colour {
    let [red, green, blue] = ground.map(u32::from);
    // Perceived lightness by the weights of television; light grounds get black letters.
    if (299 * red + 587 * green + 114 * blue) / 1000 > 127 { [0; CHANNELS] } else { [255; CHANNELS] }
}

/// Three steps of size, by the longer side of the frame.
fn font_for(frame: &Frame) -> &'static MonoFont<'static> {
    match frame.width().max(frame.height()) {
        0..=480 => &FONT_6X13,
        481..=960 => &FONT_8X13,
        _ => &FONT_10X20,
    }
}

/// Four filled rectangles, because a stroked primitive goes pixel by pixel.
fn fill_outline(frame: &mut Frame, outline: Rectangle, stroke: u32, colour: Colour) {
    let Rectangle { top_left, size } = outline;
    let across = Size::new(size.width, stroke.min(size.height));
    let down = Size::new(stroke.min(size.width), size.height);
    let right = Point::new(i32_of(size.width - down.width), 0);
    let bottom = Point::new(0, i32_of(size.height - across.height));
    let mut canvas = Canvas(frame);
    for (offset, size) in [(Point::zero(), across), (bottom, across), (Point::zero(), down), (right, down)] {
        infallible(canvas.fill_solid(&Rectangle::new(top_left + offset, size), rgb(colour)));
    }
}

/// To whole pixels, brought into a range that can be calculated with; `None` for what is no number.
fn point(x: f32, y: f32) -> Option<Point> {
    if x.is_nan() || y.is_nan() {
        return None;
    }
    let [x, y] = [x, y].map(|side| rounded(f64::from(side.clamp(-COORDINATE_MAX, COORDINATE_MAX))));
    Some(Point::new(x, y))
}

#[expect(clippy::cast_possible_truncation, reason = "coordinates are at most COORDINATE_MAX, and casts saturate")]
fn rounded(coordinate: f64) -> i32 {
    coordinate.round() as i32
}

fn i32_of(length: u32) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

fn dimensions(frame: &Frame) -> (i32, i32) {
    let side = |side: usize| i32::try_from(side).unwrap_or(i32::MAX);
    (side(frame.width()), side(frame.height()))
}

fn rgb([red, green, blue]: Colour) -> Rgb888 {
    Rgb888::new(red, green, blue)
}

fn infallible<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
    }
}

/// A frame as something `embedded-graphics` can draw on; what lies outside is dropped.
#[derive(Debug)]
pub struct Canvas<'a>(pub &'a mut Frame);

impl OriginDimensions for Canvas<'_> {
    fn size(&self) -> Size {
        let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        Size::new(side(self.0.width()), side(self.0.height()))
    }
}

impl DrawTarget for Canvas<'_> {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Infallible>
    where
        I: IntoIterator<Item = Pixel<Rgb888>>,
    {
        let (width, height) = (self.0.width(), self.0.height());
        for Pixel(Point { x, y }, colour) in pixels {
            let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { continue };
            if x < width && y < height {
                let pixel = &mut self.0.row_mut(y)[x * CHANNELS..][..CHANNELS];
                pixel.copy_from_slice(&[colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }

    fn fill_solid(&mut self, area: &Rectangle, colour: Rgb888) -> Result<(), Infallible> {
        let Rectangle { top_left, size } = area.intersection(&self.bounding_box());
        let [left, top] = [top_left.x, top_left.y].map(|at| usize::try_from(at).unwrap_or(0));
        let [width, height] = [size.width, size.height].map(|side| side as usize);
        let colour = [colour.r(), colour.g(), colour.b()];
        for y in top..top + height {
            let row = &mut self.0.row_mut(y)[left * CHANNELS..][..width * CHANNELS];
            row.as_chunks_mut::<CHANNELS>().0.fill(colour);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
