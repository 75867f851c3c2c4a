//! Outlines of binary pictures, equal to `cv2.findContours(RETR_EXTERNAL, CHAIN_APPROX_SIMPLE)`.
//!
//! The border following of Suzuki and Abe (1985). A border starts at the first pixel of a region, row by row, and is
//! followed by looking round each of its pixels; what is marked on the way tells later rows whether they are inside a
//! region already found. Of straight runs (horizontal, vertical, diagonal) only the ends are kept.

use super::Region;

/// A corner of an outline, in whole pixels.
pub type Corner = [u32; 2];

/// Not yet followed.
const FRESH: i8 = 1;
/// On a border that was followed.
const SEEN: i8 = 2;
/// On such a border, and the last pixel of the region in its row: right of it begins something else.
const SEEN_RIGHT: i8 = -2;

/// A window of a binary picture: pixels outside of it are 0. Keeps its memory.
#[derive(Clone, Debug)]
pub struct Bitmap {
    window: Region,
    /// With one pixel of zeros on every side, so that looking round a pixel needs no bounds.
    cells: Vec<i8>,
}

impl Default for Bitmap {
    fn default() -> Self {
        Self { window: Region { left: 0, top: 0, width: 0, height: 0 }, cells: Vec::new() }
    }
}

impl Bitmap {
    /// Makes it cover `window`, all zeros.
    pub fn reset(&mut self, window: Region) {
        self.window = window;
        self.cells.clear();
        self.cells.resize((window.width + 2) * (window.height + 2), 0);
    }

    #[must_use]
    pub fn window(&self) -> Region {
        self.window
    }

    /// Row `y` of the window, from its top.
    #[must_use]
    pub fn row(&self, y: usize) -> &[i8] {
        let start = self.start(y);
        &self.cells[start..start + self.window.width]
    }

    /// Row `y` of the window, to be filled with 0 and 1.
    pub fn row_mut(&mut self, y: usize) -> &mut [i8] {
        let start = self.start(y);
        &mut self.cells[start..start + self.window.width]
    }

    /// Pixel (x, y) of the window is 1.
    #[must_use]
    pub fn get(&self, x: usize, y: usize) -> bool {
        self.cells[self.start(y) + x] != 0
    }

    fn start(&self, y: usize) -> usize {
        (y + 1) * self.stride() + 1
    }

    fn stride(&self) -> usize {
        self.window.width + 2
    }
}

/// Follows outlines; keeps its memory.
#[derive(Clone, Debug, Default)]
pub struct Tracer {
    outline: Vec<Corner>,
    longest: Vec<Corner>,
}

impl Tracer {
    /// The outline with most corners; of equals the first in OpenCV's order, which is the last that a scan from the
    /// top finds. Empty for an empty picture. Marks the bitmap's pixels, which are no longer 0 and 1 after it.
    pub fn longest(&mut self, bitmap: &mut Bitmap) -> &[Corner] {
        self.longest.clear();
        let Self { outline, longest } = self;
        follow_all(bitmap, outline, |outline| {
            if outline.len() >= longest.len() {
                std::mem::swap(outline, longest);
            }
        });
        &self.longest
    }

    /// Every outline, in the order of a scan from the top, which is OpenCV's reversed. Marks the bitmap's pixels.
    pub fn each(&mut self, bitmap: &mut Bitmap, mut visit: impl FnMut(&[Corner])) {
        follow_all(bitmap, &mut self.outline, |outline| visit(outline));
    }
}

fn follow_all(bitmap: &mut Bitmap, outline: &mut Vec<Corner>, mut visit: impl FnMut(&mut Vec<Corner>)) {
    let stride = bitmap.stride();
    for y in 0..bitmap.window.height {
        let row = (y + 1) * stride;
        let mut previous = 0;
        // The last border passed in this row: inside a region it is positive.
        let mut passed = row;
        for cell in row + 1..row + stride {
            let mut value = bitmap.cells[cell];
            if value == previous {
                continue;
            }
            let mut border = value == SEEN || value == SEEN_RIGHT;
            if previous == 0 && value == FRESH && bitmap.cells[passed] <= 0 {
                outline.clear();
                follow(bitmap, cell, outline);
                visit(outline);
                value = bitmap.cells[cell];
                border = true;
            }
            if border {
                passed = cell;
            }
            previous = value;
        }
    }
}

/// Follows the border that starts at `start`, counter-clockwise.
fn follow(bitmap: &mut Bitmap, start: usize, outline: &mut Vec<Corner>) {
    let stride = bitmap.stride();
    let cells = &mut bitmap.cells;
    // Directions 0 to 7: right, right up, up, left up, left, left down, down, right down.
    let step = |cell: usize, direction: usize| match direction & 7 {
        0 => cell + 1,
        1 => cell - stride + 1,
        2 => cell - stride,
        3 => cell - stride - 1,
        4 => cell - 1,
        5 => cell + stride - 1,
        6 => cell + stride,
        _ => cell + stride + 1,
    };
    let corner = |cell: usize| {
        let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let (x, y) = (cell % stride - 1, cell / stride - 1);
        [narrow(bitmap.window.left + x), narrow(bitmap.window.top + y)]
    };
    const LEFT: usize = 4;
    // Clockwise from the left: where the border comes back from at its end.
    let Some(mut direction) = (1..8).map(|turn| (LEFT + 8 - turn) & 7).find(|&d| cells[step(start, d)] != 0) else {
        cells[start] = SEEN_RIGHT;
        outline.push(corner(start));
        return;
    };
    let last = step(start, direction);
    let mut cell = start;
    let mut straight = direction ^ LEFT;
    loop {
        let from = direction;
        // There is a way: at least back to where the border came from.
        let turn = (1..=8).find(|turn| cells[step(cell, from + turn)] != 0).unwrap_or(8);
        direction = (from + turn) & 7;
        // The turn went over the pixel to the right, which is 0 then.
        if direction != 0 && direction <= from {
            cells[cell] = SEEN_RIGHT;
        } else if cells[cell] == FRESH {
            cells[cell] = SEEN;
        }
        if direction != straight {
            outline.push(corner(cell));
            straight = direction;
        }
        let next = step(cell, direction);
        if next == start && cell == last {
            return;
        }
        cell = next;
        direction = (direction + LEFT) & 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a drawing: a letter is a pixel that is 1.
    fn bitmap(rows: &[&str]) -> Bitmap {
        let mut bitmap = Bitmap::default();
        bitmap.reset(Region { left: 10, top: 20, width: rows[0].len(), height: rows.len() });
        for (y, row) in rows.iter().enumerate() {
            for (cell, letter) in bitmap.row_mut(y).iter_mut().zip(row.chars()) {
                *cell = i8::from(letter != '.');
            }
        }
        bitmap
    }

    fn outlines(rows: &[&str]) -> Vec<Vec<[u32; 2]>> {
        let mut found = Vec::new();
        Tracer::default().each(&mut bitmap(rows), |outline| {
            found.push(outline.iter().map(|[x, y]| [x - 10, y - 20]).collect());
        });
        found
    }

    #[test]
    fn a_rectangle_has_four_corners_counter_clockwise() {
        assert_eq!(outlines(&["....", ".##.", ".##.", ".##."]), [[[1, 1], [1, 3], [2, 3], [2, 1]]]);
    }

    #[test]
    fn points_lines_and_emptiness() {
        assert_eq!(outlines(&["#"]), [[[0, 0]]]);
        assert_eq!(outlines(&["###"]), [[[0, 0], [2, 0]]]);
        assert_eq!(outlines(&["#..", ".#.", "..#"]), [[[0, 0], [2, 2]]]);
        assert!(outlines(&["...", "..."]).is_empty());
    }

    #[test]
    fn holes_and_what_lies_in_them_have_no_outline() {
        let ring = ["#####", "#...#", "#.#.#", "#...#", "#####"];
        assert_eq!(outlines(&ring), [[[0, 0], [0, 4], [4, 4], [4, 0]]]);
        // Right of the ring is outside again.
        let beside = ["###..", "#.#.#", "###.."];
        assert_eq!(outlines(&beside).len(), 2);
    }

    #[test]
    fn of_equals_the_last_found_is_the_longest() {
        let mut tracer = Tracer::default();
        assert_eq!(tracer.longest(&mut bitmap(&["#..", "...", "..#"])), [[12, 22]]);
        assert_eq!(tracer.longest(&mut bitmap(&["##.", "...", "..#"])), [[10, 20], [11, 20]]);
        assert!(tracer.longest(&mut bitmap(&["..."])).is_empty());
    }
}
