//! What is really in the frame: the box and the visible fraction of every part.
//!
//! Rules of section 6 of `src/demo/SCENE.md`. Parts do not move against each other, so what a later part hides of an
//! earlier one is settled when the later one arrives, and a frame only has to cut the rest at its left and right edge.

use super::{WIDTH, stencil::Stencil};

/// A part that is visible to less than this is neither a target nor, when it is detected, an error.
pub const MIN_VISIBLE: f32 = 0.40;

/// One part of the frame that was rendered last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// 0 bolt, 1 nut, 2 washer.
    pub class_id: usize,
    /// The box of the visible pixels: first column, first row, and one past the last of each; frame pixels.
    pub left: u16,
    pub top: u16,
    pub right: u16,
    pub bottom: u16,
    /// Visible pixels over the pixels of the whole part, above 0 to 1.
    pub visible: f32,
}

impl Truth {
    /// Whether the detector is expected to report it.
    #[must_use]
    pub fn is_target(&self) -> bool {
        self.visible >= MIN_VISIBLE
    }
}

/// One column of a part: how many of its pixels no later part hides, and between which rows they lie.
#[derive(Clone, Copy, Default)]
struct Column {
    pixels: u32,
    top: i32,
    bottom: i32,
}

/// The pixels of a part, in the coordinates of its sprite.
#[derive(Clone, Default)]
pub(super) struct Silhouette {
    width: i32,
    /// Row after row, whether the pixel belongs to the part and is not hidden.
    solid: Vec<bool>,
    columns: Vec<Column>,
    /// Pixels before anything was hidden.
    whole: u32,
}

impl Silhouette {
    /// Replaces it by what is drawn on `stencil`, reusing its buffers.
    pub(super) fn trace(&mut self, stencil: &Stencil) {
        self.width = stencil.width();
        self.solid.clear();
        for y in 0..stencil.height() {
            self.solid.extend((0..self.width).map(|x| stencil.is_solid(x, y)));
        }
        self.measure();
        self.whole = self.columns.iter().map(|column| column.pixels).sum();
    }

    /// Hides what `other` covers, whose top-left corner lies (`dx`, `dy`) pixels from this one's.
    pub(super) fn hide_behind(&mut self, other: &Self, dx: i32, dy: i32) {
        let (mut x, mut y) = (-dx, -dy);
        for solid in &mut self.solid {
            *solid &= !other.is_solid(x, y);
            x += 1;
            if x == self.width - dx {
                (x, y) = (-dx, y + 1);
            }
        }
        self.measure();
    }

    /// Box (left, top, right, bottom) and visible fraction in a frame where the top-left corner lies at (`left`,
    /// `top`), or none when no pixel is visible.
    pub(super) fn seen_at(&self, left: i32, top: i32) -> Option<([u16; 4], f32)> {
        let mut seen: Option<[i32; 4]> = None;
        let mut pixels = 0;
        for (x, column) in (left..).zip(&self.columns) {
            let is_inside = usize::try_from(x).is_ok_and(|x| x < WIDTH);
            if is_inside && column.pixels > 0 {
                let [first, upper, _, lower] = seen.unwrap_or([x, column.top, x, column.bottom]);
                seen = Some([first, upper.min(column.top), x + 1, lower.max(column.bottom)]);
                pixels += column.pixels;
            }
        }
        let [first, upper, last, lower] = seen?;
        let edges = [first, upper + top, last, lower + top];
        Some((edges.map(|edge| u16::try_from(edge).unwrap_or(0)), pixels as f32 / self.whole as f32))
    }

    fn is_solid(&self, x: i32, y: i32) -> bool {
        let is_column = (0..self.width).contains(&x);
        let index = usize::try_from(y * self.width + x).ok().filter(|_| is_column);
        index.and_then(|index| self.solid.get(index)).copied().unwrap_or(false)
    }

    fn measure(&mut self) {
        let width = usize::try_from(self.width).unwrap_or(0);
        self.columns.clear();
        self.columns.resize(width, Column::default());
        for (y, row) in (0..).zip(self.solid.chunks_exact(width.max(1))) {
            for (column, _) in self.columns.iter_mut().zip(row).filter(|(_, solid)| **solid) {
                if column.pixels == 0 {
                    column.top = y;
                }
                column.pixels += 1;
                column.bottom = y + 1;
            }
        }
    }
}

impl std::fmt::Debug for Silhouette {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Silhouette({} of {} pixels wide)", self.whole, self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A square of 8×8 pixels whose corner is at (2, 3) of a 12×13 sprite.
    fn square() -> Silhouette {
        let mut stencil = Stencil::empty();
        stencil.reset(12, 13);
        stencil.fill_polygon((6.0, 7.0), &[(2.0, 3.0), (10.0, 3.0), (10.0, 11.0), (2.0, 11.0)]);
        let mut silhouette = Silhouette::default();
        silhouette.trace(&stencil);
        silhouette
    }

    #[test]
    fn whole_parts_are_boxed_whole() {
        assert_eq!(square().seen_at(100, 50), Some(([102, 53, 110, 61], 1.0)));
    }

    #[test]
    fn the_frame_cuts_at_its_left_and_right_edge() {
        assert_eq!(square().seen_at(-6, 50), Some(([0, 53, 4, 61], 0.5)));
        assert_eq!(square().seen_at(636, 50), Some(([638, 53, 640, 61], 0.25)));
        assert_eq!(square().seen_at(-10, 50), None);
        assert_eq!(square().seen_at(638, 50), None);
    }

    #[test]
    fn a_later_part_hides_what_it_covers() {
        let mut below = square();
        below.hide_behind(&square(), 4, 0);
        assert_eq!(below.seen_at(100, 50), Some(([102, 53, 106, 61], 0.5)));
        below.hide_behind(&square(), 0, -6);
        assert_eq!(below.seen_at(100, 50), Some(([102, 55, 106, 61], 24.0 / 64.0)));
        below.hide_behind(&square(), 40, 0);
        assert_eq!(below.seen_at(100, 50), Some(([102, 55, 106, 61], 24.0 / 64.0)));
        below.hide_behind(&square(), 0, 0);
        assert_eq!(below.seen_at(100, 50), None);
    }
}
