//! Adaptive histogram equalisation that keeps colour, with the bits of
//! `(skimage.exposure.equalize_adapthist(levels / 255, clip_limit=0.03) * 255).astype(uint8)` on 32-bit floats.
//!
//! The brightest channel of every pixel (the V of HSV) is equalised by tables of tiles, an eighth of the picture
//! each, blended between the four nearest tiles; hue and saturation are kept. Channels are taken in the order blue,
//! green, red, because that is how the engine holds a picture and the last bits of a hue depend on it.

use super::super::{CHANNELS, Frame, Size};
use super::LEVELS;

/// Tiles along each side, more or less.
const TILES: usize = 8;

/// Share of a tile's pixels that one bin may hold.
const CLIP_LIMIT: f64 = 0.03;

/// Values that the brightness is spread over.
const GREYS: usize = 1 << 14;

/// Greys in a bin: one more than fits 256 bins, so that the last three bins stay empty.
const BIN: usize = 1 + GREYS / BINS;

const BINS: usize = 256;

/// What a tile makes of each bin, 0 to `GREYS - 1`.
type Map = [u16; BINS];

/// One axis of the picture, padded by half a tile before and by half a tile and more behind.
#[derive(Clone, Copy, Debug, Default)]
struct Axis {
    side: usize,
    tile: usize,
    /// Padding before the picture.
    before: usize,
    /// Tiles that have a table.
    tiles: usize,
}

impl Axis {
    fn new(side: usize) -> Self {
        let tile = (side / TILES).max(1);
        let padded = tile / 2 + side.next_multiple_of(tile) + tile.div_ceil(2);
        Self { side, tile, before: tile / 2, tiles: padded / tile - 1 }
    }

    /// Which row or column a padded position shows: `np.pad(mode="reflect")`.
    fn reflected(&self, at: usize) -> usize {
        if self.side == 1 {
            return 0;
        }
        let period = 2 * (self.side - 1);
        // `before` is less than a period, as the tile is less than the side.
        let at = (at + period - self.before) % period;
        if at < self.side { at } else { period - at }
    }

    /// The two tiles that a position in the picture lies between, and how far it is from the first to the second.
    fn between(&self, at: usize) -> (usize, usize, f64) {
        let padded = at + self.before;
        let block = padded / self.tile;
        let last = self.tiles - 1;
        // Tables are repeated at both ends, so block n lies between table n - 1 and table n.
        (block.saturating_sub(1).min(last), block.min(last), (padded % self.tile) as f64 / self.tile as f64)
    }
}

/// The filter's buffers.
#[derive(Debug, Default)]
pub(super) struct Local {
    rows: Axis,
    columns: Axis,
    /// Bin of every pixel's brightness.
    bins: Vec<u8>,
    maps: Vec<Map>,
    /// New brightness of every pixel, 0 to `GREYS - 1`.
    brightness: Vec<u16>,
}

impl Local {
    /// Changes the pixels of a frame that is not empty.
    pub(super) fn apply(&mut self, frame: &mut Frame) {
        let Size { width, height } = frame.size();
        (self.rows, self.columns) = (Axis::new(height), Axis::new(width));
        self.fill_bins(frame);
        self.maps.clear();
        for row in 0..self.rows.tiles {
            for column in 0..self.columns.tiles {
                let map = self.map(row, column);
                self.maps.push(map);
            }
        }
        self.equalize(width);
        let darkest = self.brightness.iter().copied().min().unwrap_or(0);
        let brightest = self.brightness.iter().copied().max().unwrap_or(0);
        let (pixels, _) = frame.pixels_mut().as_chunks_mut::<CHANNELS>();
        for (pixel, &brightness) in pixels.iter_mut().zip(&self.brightness) {
            let value = rescaled(brightness, darkest, brightest);
            let [red, green, blue] = *pixel;
            let [blue, green, red] = with_value([blue, green, red], value);
            *pixel = [red, green, blue];
        }
    }

    fn fill_bins(&mut self, frame: &Frame) {
        let (pixels, _) = frame.pixels().as_chunks::<CHANNELS>();
        let value = |&[red, green, blue]: &[u8; CHANNELS]| red.max(green).max(blue);
        let darkest = pixels.iter().map(value).min().unwrap_or(0);
        let brightest = pixels.iter().map(value).max().unwrap_or(0);
        let mut table = [0; LEVELS];
        for (level, bin) in (0..=u8::MAX).zip(&mut table) {
            *bin = bin_of(level, darkest, brightest);
        }
        self.bins.clear();
        self.bins.extend(pixels.iter().map(|pixel| table[usize::from(value(pixel))]));
    }

    /// The table of a tile. Tiles that have one begin after the padding of half a tile.
    fn map(&self, row: usize, column: usize) -> Map {
        let positions = |axis: &Axis, index: usize| {
            let start = axis.before + index * axis.tile;
            start..start + axis.tile
        };
        let mut histogram = [0; BINS];
        for y in positions(&self.rows, row) {
            let line = &self.bins[self.rows.reflected(y) * self.columns.side..][..self.columns.side];
            for x in positions(&self.columns, column) {
                histogram[usize::from(line[self.columns.reflected(x)])] += 1;
            }
        }
        let area = self.rows.tile * self.columns.tile;
        clip(&mut histogram, clip_limit(area));
        cumulated(&histogram, area)
    }

    /// Blends the tables of the four nearest tiles, in the order and the mix of 64-bit and 32-bit floats that
    /// scikit-image has.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "weights sum to one, so 0..GREYS")]
    fn equalize(&mut self, width: usize) {
        self.brightness.clear();
        for (y, line) in self.bins.chunks_exact(width).enumerate() {
            let (upper, lower, down) = self.rows.between(y);
            for (x, &bin) in line.iter().enumerate() {
                let (left, right, across) = self.columns.between(x);
                let part = |row: usize, column: usize, weight: f64| {
                    let map = &self.maps[row * self.columns.tiles + column];
                    (f64::from(map[usize::from(bin)]) * weight) as f32
                };
                let mut sum = part(upper, left, (1.0 - across) * (1.0 - down));
                sum += part(upper, right, across * (1.0 - down));
                sum += part(lower, left, (1.0 - across) * down);
                sum += part(lower, right, across * down);
                self.brightness.push(sum as u16);
            }
        }
    }
}

/// The bin of a level: 16-bit, then spread over all greys between the darkest and the brightest, then cut.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "greys are 0..GREYS, so bins fit a byte")]
fn bin_of(level: u8, darkest: u8, brightest: u8) -> u8 {
    let wide = |level: u8| f64::from(level) * 257.0;
    let (low, high, most) = (wide(darkest), wide(brightest), (GREYS - 1) as f64);
    let value = wide(level).clamp(low, high);
    let grey = if low == high { value.min(most) } else { (value - low) / (high - low) * most };
    (grey.round_ties_even() as usize / BIN) as u8
}

#[expect(clippy::cast_possible_truncation, reason = "areas are far below 2^52")]
fn clip_limit(area: usize) -> i64 {
    (CLIP_LIMIT * area as f64).max(1.0) as i64
}

/// Cuts bins at `limit` and hands the surplus to the others.
fn clip(histogram: &mut [i64; BINS], limit: i64) {
    let mut surplus: i64 = histogram.iter().map(|count| (count - limit).max(0)).sum();
    let share = surplus / BINS as i64;
    // From here on a share would fill the bin; negative when the share exceeds the limit.
    let nearly_full = limit - share;
    for count in histogram.iter_mut() {
        *count = (*count).min(limit);
        if *count < nearly_full {
            *count += share;
            surplus -= share;
        }
        // A bin that just got its share may be filled up at once. The surplus can become negative: so be it.
        if (nearly_full..limit).contains(count) {
            surplus -= limit - *count;
            *count = limit;
        }
    }
    spread_rest(histogram, limit, surplus);
}

/// One to every so many bins, from each starting bin in turn, until nothing is left or all are full.
fn spread_rest(histogram: &mut [i64; BINS], limit: i64, mut surplus: i64) {
    while surplus > 0 {
        let before = surplus;
        for start in 0..BINS {
            let free = histogram.iter().filter(|&&count| count < limit).count();
            let step = usize::try_from(surplus).map_or(1, |surplus| (free / surplus).max(1));
            for count in histogram[start..].iter_mut().step_by(step).filter(|count| **count < limit) {
                *count += 1;
                surplus -= 1;
            }
            if surplus <= 0 {
                return;
            }
        }
        if surplus == before {
            return;
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clipped to 0..GREYS")]
fn cumulated(histogram: &[i64; BINS], area: usize) -> Map {
    let most = (GREYS - 1) as f64;
    let scale = most / area as f64;
    let mut sum = 0;
    histogram.map(|count| {
        sum += count;
        (sum as f64 * scale).min(most) as u16
    })
}

/// A new brightness as a value from 0 to 1.
fn rescaled(brightness: u16, darkest: u16, brightest: u16) -> f32 {
    let [value, low, high] = [brightness, darkest, brightest].map(f32::from);
    if low == high { value.min(1.0) } else { (value - low) / (high - low) }
}

/// A pixel with its hue and saturation, and another value: `rgb2hsv` and back as scikit-image has them, channels in
/// the order they are given.
fn with_value(levels: [u8; CHANNELS], value: f32) -> [u8; CHANNELS] {
    let [first, second, third] = levels.map(|level| f32::from(level) / 255.0);
    let most = first.max(second).max(third);
    let spread = most - first.min(second).min(third);
    if spread == 0.0 {
        return [to_level(value); CHANNELS];
    }
    let saturation = spread / most;
    // The last of equal channels counts.
    let sector = if third == most {
        4.0 + (first - second) / spread
    } else if second == most {
        2.0 + (third - first) / spread
    } else {
        (second - third) / spread
    };
    let turn = sector / 6.0;
    let hue = if turn < 0.0 { turn + 1.0 } else { turn };
    let whole = (hue * 6.0).floor();
    let fraction = hue * 6.0 - whole;
    let low = value * (1.0 - saturation);
    let falling = value * (1.0 - fraction * saturation);
    let rising = value * (1.0 - (1.0 - fraction) * saturation);
    let channels = match whole {
        1.0 => [falling, value, low],
        2.0 => [low, value, rising],
        3.0 => [low, falling, value],
        4.0 => [rising, low, value],
        5.0 => [value, low, falling],
        _ => [value, rising, low],
    };
    channels.map(to_level)
}

/// A value from 0 to 1 as a level, cut as numpy casts.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= value <= 1")]
fn to_level(value: f32) -> u8 {
    (value * 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_padded_to_whole_tiles() {
        let axis = Axis::new(21);
        // Tiles of 2: one before, one to fill up 21, one behind.
        assert_eq!((axis.tile, axis.before, axis.tiles), (2, 1, 11));
        assert_eq!([0, 1, 2, 21, 22, 23].map(|at| axis.reflected(at)), [1, 0, 1, 20, 19, 18]);
        assert_eq!(axis.between(0), (0, 0, 0.5));
        assert_eq!(axis.between(1), (0, 1, 0.0));
        assert_eq!(axis.between(20), (9, 10, 0.5));
        assert_eq!(Axis::new(1).reflected(1), 0);
    }

    #[test]
    fn the_surplus_goes_to_all_bins_and_none_exceeds_the_limit() {
        let mut histogram = [0; BINS];
        (histogram[3], histogram[9]) = (900, 100);
        clip(&mut histogram, 30);
        assert_eq!(histogram.iter().sum::<i64>(), 1000);
        assert_eq!((histogram[3], histogram[9]), (30, 30));
        // 940 over: 3 each to 254 bins, then 178 one by one, starting with the first bins.
        assert_eq!((histogram[0], histogram[2], histogram[255]), (4, 4, 3));
        let mut full = [2; BINS];
        clip(&mut full, 1);
        assert_eq!(full, [1; BINS], "what has no room is dropped");
    }

    #[test]
    fn hue_and_saturation_survive_a_new_value() {
        assert_eq!(with_value([255, 0, 0], 0.5), [127, 0, 0]);
        assert_eq!(with_value([0, 100, 50], 1.0), [0, 255, 127]);
        assert_eq!(with_value([9, 9, 9], 0.25), [63, 63, 63]);
        assert_eq!(with_value([0, 0, 0], 1.0), [255, 255, 255]);
    }
}
