//! Histogram equalisation that keeps colour, with the bits of
//! `(skimage.exposure.equalize_hist(levels / 255) * 255).astype(uint8)` on 32-bit floats.
//!
//! All three channels share one histogram of 256 bins between the darkest and the brightest level there is. A level
//! has one answer wherever it occurs, so the arithmetic is done 256 times and not once a pixel.

use super::{LEVELS, Table};

/// Bins of the histogram, as many as levels by chance only.
const BINS: usize = 256;

/// The bins between two levels, in 32-bit floats as numpy has them.
struct Bins {
    first: f32,
    last: f32,
    edges: [f32; BINS + 1],
}

impl Bins {
    fn new(darkest: usize, brightest: usize) -> Self {
        let (mut first, mut last) = (unit(darkest), unit(brightest));
        if first == last {
            (first, last) = (first - 0.5, last + 0.5);
        }
        let step = (last - first) / BINS as f32;
        let mut edges = std::array::from_fn(|i| i as f32 * step + first);
        edges[BINS] = last;
        Self { first, last, edges }
    }

    /// Which bin a value between `first` and `last` falls into.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= index <= BINS")]
    fn index(&self, value: f32) -> usize {
        let guess = ((value - self.first) / (self.last - self.first) * BINS as f32) as usize;
        let mut index = guess.min(BINS - 1);
        if value < self.edges[index] {
            index -= 1;
        }
        if index < BINS - 1 && value >= self.edges[index + 1] {
            index += 1;
        }
        index
    }

    fn centre(&self, index: usize) -> f32 {
        (self.edges[index] + self.edges[index + 1]) / 2.0
    }
}

/// `level / 255`, as numpy divides 32-bit floats.
fn unit(level: usize) -> f32 {
    level as f32 / 255.0
}

/// The table for a picture with this histogram over all channels; at least one level occurs.
pub(super) fn table(histogram: &[usize; LEVELS]) -> Table {
    let there = |&level: &usize| histogram[level] > 0;
    let darkest = (0..LEVELS).find(there).unwrap_or(0);
    let brightest = (0..LEVELS).rev().find(there).unwrap_or(0);
    let bins = Bins::new(darkest, brightest);
    let mut counts = [0; BINS];
    for level in (darkest..=brightest).filter(there) {
        counts[bins.index(unit(level))] += histogram[level];
    }
    let total: usize = counts.iter().sum();
    let mut sum = 0;
    let shares = counts.map(|count| {
        sum += count;
        share(sum, total)
    });
    let mut table = [0; LEVELS];
    for level in darkest..=brightest {
        table[level] = to_level(interpolate(&bins, &shares, unit(level)));
    }
    table
}

#[expect(clippy::cast_possible_truncation, reason = "numpy divides in 64 bits and keeps 32")]
fn share(sum: usize, total: usize) -> f32 {
    (sum as f64 / total as f64) as f32
}

/// `np.interp(value, centres, shares)`.
#[expect(clippy::cast_possible_truncation, reason = "numpy interpolates in 64 bits, scikit-image keeps 32")]
fn interpolate(bins: &Bins, shares: &[f32; BINS], value: f32) -> f32 {
    let (at, position) = (|i: usize| f64::from(bins.centre(i)), f64::from(value));
    // How many centres lie at or below the value.
    let below = (0..BINS).take_while(|&i| at(i) <= position).count();
    let Some(left) = below.checked_sub(1) else { return shares[0] };
    if left == BINS - 1 || at(left) == position {
        return shares[left];
    }
    let (low, high) = (f64::from(shares[left]), f64::from(shares[left + 1]));
    let slope = (high - low) / (at(left + 1) - at(left));
    (slope * (position - at(left)) + low) as f32
}

/// A share as a level, cut as numpy casts.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares are from 0 to 1")]
fn to_level(share: f32) -> u8 {
    (share * 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_level_is_half_of_all() {
        let mut histogram = [0; LEVELS];
        histogram[90] = 12;
        // The bins reach half a unit to both sides; the level is the left edge of the 129th, of which half lies below.
        assert_eq!(table(&histogram)[90], 127);
    }

    #[test]
    fn the_ends_are_the_shares_of_the_first_and_last_bin() {
        let mut histogram = [0; LEVELS];
        (histogram[0], histogram[100], histogram[255]) = (1, 1, 2);
        let table = table(&histogram);
        // 1/4 and 4/4 of 255, cut; in between the share rises within the bin of the level.
        assert_eq!((table[0], table[255]), (63, 255));
        assert!((63..=127).contains(&table[100]), "{}", table[100]);
    }
}
