//! A mask with sixteen samples a pixel, drawn on with `embedded-graphics` and read back as anti-aliased coverage.
//!
//! `embedded-graphics` primitives have hard edges. Drawn at four times the size and counted, they get soft ones; the
//! sixteen samples of a pixel are the bits of one word, so this costs two bytes a pixel and a count of ones.

use std::convert::Infallible;

use embedded_graphics::{
    draw_target::DrawTarget,
    geometry::{Dimensions, OriginDimensions, Point, Size},
    pixelcolor::BinaryColor,
    prelude::{Drawable, Pixel, PointsIter, Primitive},
    primitives::{Circle, PrimitiveStyle, Rectangle, Triangle},
};

/// Samples along each side of a pixel.
const SAMPLES: i32 = 4;

/// A position in pixels, fractions included; pixel (0, 0) has its centre at (0.5, 0.5).
pub(super) type Position = (f32, f32);

/// The mask. As a [`DrawTarget`] its unit is the sample, everywhere else it is the pixel.
#[derive(Clone)]
pub(super) struct Stencil {
    width: i32,
    height: i32,
    samples: Vec<u16>,
}

impl Stencil {
    /// A mask without pixels.
    pub(super) fn empty() -> Self {
        Self { width: 0, height: 0, samples: Vec::new() }
    }

    /// Makes it `width`×`height` pixels, all blank, reusing the buffer.
    ///
    /// # Panics
    /// When a side is negative.
    pub(super) fn reset(&mut self, width: i32, height: i32) {
        self.width = width;
        self.height = height;
        self.samples.clear();
        self.samples.resize(usize::try_from(width * height).expect("sides are not negative"), 0);
    }

    pub(super) fn width(&self) -> i32 {
        self.width
    }

    pub(super) fn height(&self) -> i32 {
        self.height
    }

    /// Fills a polygon that is convex, or at least star-shaped around `inside`.
    pub(super) fn fill_polygon(&mut self, inside: Position, corners: &[Position]) {
        let next = corners.iter().cycle().skip(1);
        for (corner, next) in corners.iter().zip(next) {
            let triangle = Triangle::new(point(inside), point(*corner), point(*next));
            self.draw(&triangle.into_styled(PrimitiveStyle::with_fill(BinaryColor::On)));
        }
    }

    /// Fills a circle.
    pub(super) fn fill_circle(&mut self, centre: Position, radius: f32) {
        self.circle(centre, radius, BinaryColor::On);
    }

    /// Blanks a circle, to make a hole.
    pub(super) fn clear_circle(&mut self, centre: Position, radius: f32) {
        self.circle(centre, radius, BinaryColor::Off);
    }

    /// Draws a straight line `width` pixels wide between two different points.
    ///
    /// As short rectangles: at the length of a seam the thick lines of `embedded-graphics` overflow, and the time its
    /// triangles take grows with the square of their height.
    pub(super) fn line(&mut self, from: Position, to: Position, width: f32) {
        const PIECE_PX: f32 = 24.0;
        let (along, down) = (to.0 - from.0, to.1 - from.1);
        let length = along.hypot(down);
        // A triangle includes the samples on its edges, which makes it one sample wider than it is.
        let half = (width - 1.0 / SAMPLES as f32).max(0.0) / 2.0 / length;
        let (x, y) = (-down * half, along * half);
        let at = |done: f32| (from.0 + along * done / length, from.1 + down * done / length);
        let mut done = 0.0;
        while done < length {
            let (start, end) = (at(done), at((done + PIECE_PX).min(length)));
            let corners = [
                (start.0 + x, start.1 + y),
                (end.0 + x, end.1 + y),
                (end.0 - x, end.1 - y),
                (start.0 - x, start.1 - y),
            ];
            self.fill_polygon((start.0.midpoint(end.0), start.1.midpoint(end.1)), &corners);
            done += PIECE_PX;
        }
    }

    fn circle(&mut self, (x, y): Position, radius: f32, color: BinaryColor) {
        let top_left = Point::new(samples(x - radius), samples(y - radius));
        let circle = Circle::new(top_left, samples(2.0 * radius).unsigned_abs());
        self.draw(&circle.into_styled(PrimitiveStyle::with_fill(color)));
    }

    fn draw(&mut self, shape: &impl Drawable<Color = BinaryColor, Output = ()>) {
        let Ok(()) = shape.draw(self);
    }

    /// Samples that are set in pixel (`x`, `y`), 0..=16; 0 outside the mask.
    fn count(&self, x: i32, y: i32) -> u32 {
        self.index(x, y).map_or(0, |index| self.samples[index].count_ones())
    }

    /// How much of pixel (`x`, `y`) is covered, 0..=1; 0 outside the mask.
    pub(super) fn coverage(&self, x: i32, y: i32) -> f32 {
        self.count(x, y) as f32 / 16.0
    }

    /// Whether more than half of pixel (`x`, `y`) is covered: the rule of the truth boxes.
    pub(super) fn is_solid(&self, x: i32, y: i32) -> bool {
        self.count(x, y) > 8
    }

    fn index(&self, x: i32, y: i32) -> Option<usize> {
        let inside = (0..self.width).contains(&x) && (0..self.height).contains(&y);
        inside.then(|| usize::try_from(y * self.width + x).ok()).flatten()
    }

    /// Sets or clears one sample; outside the mask nothing happens.
    fn mark(&mut self, sample: Point, color: BinaryColor) {
        let (x, y) = (sample.x.div_euclid(SAMPLES), sample.y.div_euclid(SAMPLES));
        if let Some(index) = self.index(x, y) {
            let bit = 1_u16 << (sample.y.rem_euclid(SAMPLES) * SAMPLES + sample.x.rem_euclid(SAMPLES));
            match color {
                BinaryColor::On => self.samples[index] |= bit,
                BinaryColor::Off => self.samples[index] &= !bit,
            }
        }
    }
}

/// A length in samples, to the nearest.
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and no shape is larger than a frame")]
fn samples(length: f32) -> i32 {
    (length * SAMPLES as f32).round() as i32
}

/// The sample that a position falls into.
fn point((x, y): Position) -> Point {
    // A sample's own centre is half a sample further than its index.
    Point::new(samples(x - 0.125), samples(y - 0.125))
}

impl OriginDimensions for Stencil {
    fn size(&self) -> Size {
        Size::new((self.width * SAMPLES).unsigned_abs(), (self.height * SAMPLES).unsigned_abs())
    }
}

impl DrawTarget for Stencil {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(sample, color) in pixels {
            self.mark(sample, color);
        }
        Ok(())
    }

    fn fill_solid(&mut self, area: &Rectangle, color: BinaryColor) -> Result<(), Infallible> {
        for sample in area.intersection(&self.bounding_box()).points() {
            self.mark(sample, color);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Stencil {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stencil({}x{})", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::PI;

    use super::*;

    fn area(stencil: &Stencil) -> f32 {
        let (width, height) = (stencil.width(), stencil.height());
        (0..width * height).map(|i| stencil.coverage(i % width, i / width)).sum()
    }

    #[test]
    fn a_quarter_of_a_pixel_counts_a_quarter() {
        let mut stencil = Stencil::empty();
        stencil.reset(3, 2);
        stencil.fill_solid(&Rectangle::new(Point::new(6, 2), Size::new(2, 2)), BinaryColor::On).unwrap();
        assert_eq!(stencil.coverage(1, 0).to_bits(), 0.25_f32.to_bits());
        assert_eq!(stencil.count(0, 0) + stencil.count(2, 0) + stencil.count(1, 1), 0);
        assert_eq!(stencil.count(-1, 0) + stencil.count(3, 0) + stencil.count(0, 2), 0);
        stencil.reset(3, 2);
        assert_eq!(stencil.count(1, 0), 0);
    }

    #[test]
    fn a_circle_has_the_area_of_a_circle() {
        let mut stencil = Stencil::empty();
        stencil.reset(40, 40);
        stencil.fill_circle((20.0, 20.0), 15.0);
        assert!((area(&stencil) - PI * 15.0 * 15.0).abs() < 7.0);
        stencil.clear_circle((20.0, 20.0), 6.0);
        assert!((area(&stencil) - PI * (15.0 * 15.0 - 6.0 * 6.0)).abs() < 7.0);
    }

    #[test]
    fn a_polygon_and_a_line_have_their_area() {
        let mut stencil = Stencil::empty();
        stencil.reset(40, 40);
        stencil.fill_polygon((20.0, 20.0), &[(5.0, 20.0), (20.0, 5.0), (35.0, 20.0), (20.0, 35.0)]);
        assert!((area(&stencil) - 450.0).abs() < 10.0, "{}", area(&stencil));
        stencil.reset(40, 40);
        stencil.line((4.0, 6.0), (34.0, 32.0), 2.0);
        assert!((area(&stencil) - 2.0 * 30.0_f32.hypot(26.0)).abs() < 6.0, "{}", area(&stencil));
    }

    #[test]
    fn drawing_beyond_the_mask_is_cut_off() {
        let mut stencil = Stencil::empty();
        stencil.reset(4, 4);
        stencil.fill_circle((-100.0, 200.0), 500.0);
        stencil.line((-50.0, -50.0), (50.0, 60.0), 9.0);
        assert!((area(&stencil) - 16.0).abs() < 0.01);
    }
}
