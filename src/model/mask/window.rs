//! Rectangles of whole cells, as ranges.

use std::ops::Range;

use crate::frame::{Region, Size};

/// Columns and rows of a grid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pub x: Range<usize>,
    pub y: Range<usize>,
}

impl Window {
    pub fn all(size: Size) -> Self {
        Self { x: 0..size.width, y: 0..size.height }
    }

    pub fn intersect(&self, other: &Self) -> Self {
        let both = |a: &Range<usize>, b: &Range<usize>| {
            let start = a.start.max(b.start);
            start..a.end.min(b.end).max(start)
        };
        Self { x: both(&self.x, &other.x), y: both(&self.y, &other.y) }
    }

    /// `None` when no cell is in it.
    pub fn filled(self) -> Option<Self> {
        (!self.x.is_empty() && !self.y.is_empty()).then_some(self)
    }

    /// Moved by (x, y), and cut to a grid of `size`.
    pub fn shifted(&self, (x, y): (i64, i64), size: Size) -> Self {
        let shift = |range: &Range<usize>, by: i64, len: usize| {
            let at = |value: usize| {
                let signed = i64::try_from(value).unwrap_or(i64::MAX).saturating_add(by);
                usize::try_from(signed).unwrap_or(0).min(len)
            };
            at(range.start)..at(range.end)
        };
        Self { x: shift(&self.x, x, size.width), y: shift(&self.y, y, size.height) }
    }

    /// Within a larger grid, its own beginning at (left, top) there.
    pub fn region(&self, (left, top): (usize, usize)) -> Region {
        Region { left: left + self.x.start, top: top + self.y.start, width: self.x.len(), height: self.y.len() }
    }
}

/// The cells of a box: `i` of `0..size` with `low <= i < high`, on both axes. No cell for what is no number.
pub fn cells([left, top, right, bottom]: [f64; 4], size: Size) -> Window {
    Window { x: cells_between(left, right, size.width), y: cells_between(top, bottom, size.height) }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "clamped to a side's length, which is far below 2^52"
)]
fn cells_between(low: f64, high: f64, len: usize) -> Range<usize> {
    if low.is_nan() || high.is_nan() {
        return 0..0;
    }
    let at = |value: f64| value.ceil().clamp(0.0, len as f64) as usize;
    at(low)..at(high).max(at(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_holds_the_cells_from_its_left_edge_to_before_its_right_one() {
        let size = Size::new(10, 4);
        assert_eq!(cells([1.5, 0.0, 4.0, 2.5], size), Window { x: 2..4, y: 0..3 });
        assert_eq!(cells([-7.0, -1.0, 1e30, f64::INFINITY], size), Window::all(size));
        assert!(cells([f64::NAN, 0.0, 9.0, 9.0], size).filled().is_none());
        assert!(cells([5.0, 0.0, 3.0, 4.0], size).filled().is_none());
    }

    #[test]
    fn shifting_cuts_at_the_edges() {
        let size = Size::new(10, 10);
        assert_eq!(Window { x: 0..10, y: 2..5 }.shifted((-3, 7), size), Window { x: 0..7, y: 9..10 });
    }
}
