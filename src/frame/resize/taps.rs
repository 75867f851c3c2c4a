//! Which source pixels a pixel of the result is made of, and in what proportion: OpenCV's bilinear coordinates.
//!
//! May not know: pixels, instruction sets.

use super::super::Size;

/// Bits of a fixed-point weight; 1.0 is 2048 (OpenCV's `INTER_RESIZE_COEF_BITS`).
const WEIGHT_BITS: u32 = 11;

/// How many bytes a kernel may load from an offset of [`Columns::offsets`] before [`Columns::wide`].
pub const WIDE_LOAD_BYTES: usize = 8;

/// The arithmetic of a resize. Both are bilinear, and they differ by up to 0.7 of a grey level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `cv2.resize` of an 8-bit image: 11-bit weights, rounded to whole grey levels.
    Integer,
    /// `cv2.resize` of the image converted to float32, not rounded.
    Float,
    /// The same by OpenCV's own code. Intel's IPP, which does the rest in the x86 wheels, takes no picture that is one
    /// pixel wide or high. [`Arithmetic::Float`] becomes this where it applies.
    FloatThin,
}

impl Arithmetic {
    /// What is used for a source of that size.
    pub(super) fn of(self, source: Size) -> Self {
        match self {
            Arithmetic::Float if source.width == 1 || source.height == 1 => Arithmetic::FloatThin,
            _ => self,
        }
    }
}

/// Position in the source of the centre of pixel `i` of the result: the pixel to the left of it and the fraction
/// of the way to the next.
#[expect(
    clippy::cast_possible_truncation,
    reason = "sides are at most 65535; rounding to 32-bit floats is what OpenCV does"
)]
fn position(i: usize, source: usize, result: usize, arithmetic: Arithmetic) -> (i64, f32) {
    let (source, result) = (source as f64, result as f64);
    let centre_at = |scale: f64| (i as f64 + 0.5) * scale - 0.5;
    match arithmetic {
        // OpenCV's own code keeps the inverse scale and inverts it again, and holds coordinates in 32-bit floats.
        Arithmetic::Integer | Arithmetic::FloatThin => {
            let centre = centre_at(1.0 / (result / source)) as f32;
            let whole = centre.floor();
            (whole as i64, centre - whole)
        }
        // The float32 resize of the x86 wheels is Intel IPP's, which keeps 64 bits until the fraction.
        Arithmetic::Float => {
            let centre = centre_at(source / result);
            let whole = centre.floor();
            (whole as i64, (centre - whole) as f32)
        }
    }
}

/// Weights of the left and right tap, in 1/2048.
#[expect(clippy::cast_possible_truncation, reason = "a fraction is in 0..=1, so a weight is in 0..=2048")]
fn weights(fraction: f32) -> [i16; 2] {
    let one = f32::from(1u16 << WEIGHT_BITS);
    [1.0 - fraction, fraction].map(|weight| (weight * one).round_ties_even() as i16)
}

/// The horizontal taps, one a column of the result, laid out for vector loads.
#[derive(Debug, Default)]
pub struct Columns {
    /// Byte offset in a source row of the left pixel; never falls from one column to the next.
    pub offsets: Vec<u32>,
    /// Weights of the left and right pixel in 1/2048.
    pub weights: Vec<[i16; 2]>,
    /// Fraction of the way from the left to the right pixel, 0 to 1.
    pub fractions: Vec<f32>,
    /// Byte offset of the last pixel of a source row: the right tap of a column is never past it.
    pub last: usize,
    /// Columns before this one may load [`WIDE_LOAD_BYTES`] at their offset without leaving the row.
    pub wide: usize,
}

impl Columns {
    /// Fills the tables, reusing their memory.
    pub fn rebuild(&mut self, source: usize, result: usize, arithmetic: Arithmetic) {
        self.offsets.clear();
        self.weights.clear();
        self.fractions.clear();
        self.last = (source - 1) * 3;
        for i in 0..result {
            let (left, mut fraction) = position(i, source, result, arithmetic);
            let mut left = left;
            if left < 0 {
                (left, fraction) = (0, 0.0);
            }
            let mut left = usize::try_from(left).unwrap_or(0);
            if left >= source - 1 {
                (left, fraction) = (source - 1, 0.0);
            }
            self.offsets.push(u32::try_from(left * 3).expect("a row is shorter than 4 GiB"));
            self.weights.push(weights(fraction));
            self.fractions.push(fraction);
        }
        let row_bytes = source * 3;
        self.wide = self.offsets.partition_point(|&offset| offset as usize + WIDE_LOAD_BYTES <= row_bytes);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }
}

/// The vertical taps of one row of the result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowTaps {
    /// The upper and the lower source row; the same one where the lower has no weight or does not exist.
    pub rows: [usize; 2],
    /// Their weights in 1/2048.
    pub weights: [i16; 2],
    /// Fraction of the way from the upper to the lower row, 0 to 1.
    pub fraction: f32,
}

/// Fills the vertical taps, reusing their memory. Unlike columns, rows past the edge are clipped but keep their weights:
/// OpenCV does so, and the roundings of two half-weighted equal rows can differ from one whole row's.
pub fn rebuild_rows(taps: &mut Vec<RowTaps>, source: usize, result: usize, arithmetic: Arithmetic) {
    taps.clear();
    let clip = |row: i64| usize::try_from(row).unwrap_or(0).min(source - 1);
    taps.extend((0..result).map(|i| {
        let (upper, fraction) = position(i, source, result, arithmetic);
        let weights = weights(fraction);
        // A row without weight need not be computed: scaling 1080 rows to 360 then touches 360 of them.
        let unused = match arithmetic {
            Arithmetic::Integer => weights[1] == 0,
            Arithmetic::Float | Arithmetic::FloatThin => fraction == 0.0,
        };
        let rows = [clip(upper), clip(if unused { upper } else { upper + 1 })];
        RowTaps { rows, weights, fraction }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubling_a_row_of_two() {
        let mut columns = Columns::default();
        columns.rebuild(2, 4, Arithmetic::Integer);
        // Centres at -0.25, 0.25, 0.75, 1.25.
        assert_eq!(columns.offsets, [0, 0, 0, 3]);
        assert_eq!(columns.weights, [[2048, 0], [1536, 512], [512, 1536], [2048, 0]]);
        assert_eq!((columns.last, columns.wide), (3, 0));
        let mut rows = Vec::new();
        rebuild_rows(&mut rows, 2, 4, Arithmetic::Integer);
        let found: Vec<_> = rows.iter().map(|taps| (taps.rows, taps.weights)).collect();
        let expected = [([0, 0], [512, 1536]), ([0, 1], [1536, 512]), ([0, 1], [512, 1536]), ([1, 1], [1536, 512])];
        assert_eq!(found, expected);
    }

    #[test]
    fn wide_loads_stay_within_the_row() {
        for (source, result) in [(1, 7), (2, 9), (3, 3), (7, 50), (640, 333), (1920, 640)] {
            let mut columns = Columns::default();
            columns.rebuild(source, result, Arithmetic::Float);
            assert!(columns.offsets.is_sorted());
            for (i, &offset) in columns.offsets.iter().enumerate() {
                assert_eq!(i < columns.wide, offset as usize + WIDE_LOAD_BYTES <= source * 3);
                assert!(offset as usize <= columns.last);
            }
        }
    }

    #[test]
    fn weights_sum_to_one() {
        for (source, result) in [(1920, 641), (37, 320), (4000, 641), (65535, 3), (3, 65535)] {
            let mut columns = Columns::default();
            columns.rebuild(source, result, Arithmetic::Integer);
            assert!(columns.weights.iter().all(|[left, right]| left + right == 2048));
        }
    }
}
