//! Contrast-limited adaptive histogram equalisation with the bits of `cv2.createCLAHE(0.03, (8, 8)).apply`.
//!
//! The picture is cut into 8×8 tiles, each tile gets an equalising table whose histogram is clipped, and a pixel is
//! mapped by the four nearest tables, blended by distance.

use super::super::Size;
use super::{LEVELS, Table, float, saturate};

/// Tiles along each side.
const GRID: usize = 8;

/// Roboflow's setting, in units of an even histogram's bin.
const CLIP_LIMIT: f64 = 0.03;

/// The tables of all tiles, and where each column of the picture lies between them.
#[derive(Debug, Default)]
pub(super) struct Tiles {
    tables: Vec<Table>,
    columns: Vec<Between>,
    tile: Tile,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tile {
    width: usize,
    height: usize,
}

/// The two tiles whose centres a row or column lies between, and the weight of the second, 0 to 1.
#[derive(Clone, Copy, Debug)]
struct Between {
    first: usize,
    second: usize,
    weight: f32,
}

impl Between {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positions are tile numbers from -1 to GRID, and negative ones become 0"
    )]
    fn new(at: usize, tile_side: usize) -> Self {
        // Multiplied by the inverse, not divided, as OpenCV does.
        let position = float(at) * (1.0 / float(tile_side)) - 0.5;
        let whole = position.floor();
        let clip = |tile: f32| (tile as usize).min(GRID - 1);
        Self { first: clip(whole), second: clip(whole + 1.0), weight: position - whole }
    }
}

/// Length of a side after OpenCV's padding. It pads both sides when one of them needs it, and then a side that divides
/// evenly by a whole row of tiles' worth.
fn padded(size: Size) -> Size {
    let Size { width, height } = size;
    if width.is_multiple_of(GRID) && height.is_multiple_of(GRID) {
        return size;
    }
    Size::new(width + GRID - width % GRID, height + GRID - height % GRID)
}

/// `BORDER_REFLECT_101`: the pixel that a padded position shows.
fn reflected(at: usize, side: usize) -> usize {
    if side == 1 {
        return 0;
    }
    let period = 2 * (side - 1);
    let at = at % period;
    if at < side { at } else { period - at }
}

impl Tiles {
    /// Computes the tables for the grey picture of `size`, which is not empty.
    pub(super) fn build(&mut self, grey: &[u8], size: Size) {
        let outer = padded(size);
        self.tile = Tile { width: outer.width / GRID, height: outer.height / GRID };
        self.columns.clear();
        self.columns.extend((0..size.width).map(|x| Between::new(x, self.tile.width)));
        self.tables.clear();
        for row in 0..GRID {
            for column in 0..GRID {
                let histogram = self.tile_histogram(grey, size, row, column);
                self.tables.push(table(histogram, self.tile.width * self.tile.height));
            }
        }
    }

    fn tile_histogram(&self, grey: &[u8], size: Size, row: usize, column: usize) -> [usize; LEVELS] {
        let mut histogram = [0; LEVELS];
        let Tile { width, height } = self.tile;
        for y in row * height..(row + 1) * height {
            let line = &grey[reflected(y, size.height) * size.width..][..size.width];
            for x in column * width..(column + 1) * width {
                histogram[usize::from(line[reflected(x, size.width)])] += 1;
            }
        }
        histogram
    }

    /// Hands every pixel's index and new level to `put`.
    pub(super) fn map(&self, grey: &[u8], size: Size, mut put: impl FnMut(usize, u8)) {
        for (y, line) in grey.chunks_exact(size.width).enumerate() {
            let row = Between::new(y, self.tile.height);
            let upper = &self.tables[row.first * GRID..][..GRID];
            let lower = &self.tables[row.second * GRID..][..GRID];
            for (x, (&level, column)) in line.iter().zip(&self.columns).enumerate() {
                let blend = |tables: &[Table]| {
                    let first = f32::from(tables[column.first][usize::from(level)]);
                    let second = f32::from(tables[column.second][usize::from(level)]);
                    first * (1.0 - column.weight) + second * column.weight
                };
                let blended = blend(upper) * (1.0 - row.weight) + blend(lower) * row.weight;
                put(y * size.width + x, saturate(blended));
            }
        }
    }
}

/// The equalising table of a tile of `area` pixels, its histogram clipped and the surplus spread over all levels.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "areas are far below 2^52")]
fn table(mut histogram: [usize; LEVELS], area: usize) -> Table {
    let limit = ((CLIP_LIMIT * area as f64 / LEVELS as f64) as usize).max(1);
    let mut surplus = 0;
    for count in &mut histogram {
        surplus += count.saturating_sub(limit);
        *count = (*count).min(limit);
    }
    for count in &mut histogram {
        *count += surplus / LEVELS;
    }
    let residue = surplus % LEVELS;
    if let Some(step) = LEVELS.checked_div(residue) {
        for count in histogram.iter_mut().step_by(step).take(residue) {
            *count += 1;
        }
    }
    let scale = 255.0 / float(area);
    let mut sum = 0;
    histogram.map(|count| {
        sum += count;
        saturate(float(sum) * scale)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reflection_does_not_repeat_the_edge() {
        let shown = (0..9).map(|at| reflected(at, 3)).collect::<Vec<_>>();
        assert_eq!(shown, [0, 1, 2, 1, 0, 1, 2, 1, 0]);
        assert_eq!(reflected(7, 1), 0);
    }

    #[test]
    fn an_even_side_is_padded_when_the_other_is_odd() {
        assert_eq!(padded(Size::new(64, 16)), Size::new(64, 16));
        assert_eq!(padded(Size::new(64, 17)), Size::new(72, 24));
        assert_eq!(padded(Size::new(1, 1)), Size::new(8, 8));
    }

    #[test]
    fn an_even_histogram_maps_levels_to_themselves() {
        // 256 levels, one pixel each, limit 1: level n has n + 1 pixels at or below.
        let table = table([1; LEVELS], LEVELS);
        assert_eq!((table[0], table[127], table[255]), (1, 128, 255));
    }
}
