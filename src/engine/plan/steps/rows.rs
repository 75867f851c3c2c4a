//! Walks the rows of strided values, and shares them out.

use std::ops::Range;

use super::place::RANK_MAX;

/// Values of an item, about: long enough that taking it costs nothing, short enough that it stays in the first cache.
const ITEM_VALUES: usize = 8192;

/// How rows of equal length are cut into items: several rows each, or each row into parts.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    rows: usize,
    length: usize,
    rows_each: usize,
    parts: usize,
}

impl Share {
    /// Of all values of `shape`, whose last dimension is the row.
    pub fn of(shape: &[usize]) -> Self {
        Self::costing(shape, 1)
    }

    /// As [`Share::of`], where each value takes as long as `cost`.
    pub fn costing(shape: &[usize], cost: usize) -> Self {
        let (&length, outer) = shape.split_last().unwrap_or((&1, &[]));
        let (rows, values) = (outer.iter().product(), (ITEM_VALUES / cost.max(1)).max(1));
        Self { rows, length, rows_each: (values / length).max(1), parts: length.div_ceil(values) }
    }

    /// As [`Share::of`], but no row is cut.
    pub fn of_whole_rows(shape: &[usize]) -> Self {
        Self { parts: 1, ..Self::of(shape) }
    }

    /// Of the places of `shape`, each of which takes `cost` values.
    pub fn of_places(shape: &[usize], cost: usize) -> Self {
        let rows = shape.iter().product();
        Self { rows, length: 1, rows_each: (ITEM_VALUES / cost.max(1)).max(1), parts: 1 }
    }

    pub fn items(&self) -> usize {
        self.rows.div_ceil(self.rows_each) * self.parts
    }

    /// Rows, and the part of each.
    pub fn item(&self, item: usize) -> (Range<usize>, Range<usize>) {
        let (first, part) = (item / self.parts * self.rows_each, item % self.parts);
        let rows = first..(first + self.rows_each).min(self.rows);
        (rows, part * self.length / self.parts..(part + 1) * self.length / self.parts)
    }
}

/// Offsets of `N` strided operands at each place of a shape, in C order.
#[derive(Clone, Copy, Debug)]
pub struct Places<const N: usize> {
    shape: [usize; RANK_MAX],
    strides: [[usize; RANK_MAX]; N],
    at: [usize; RANK_MAX],
    rank: usize,
    offsets: [usize; N],
    left: usize,
}

impl<const N: usize> Places<N> {
    /// Those numbered `range`. Strides beyond the shape's dimensions are left out of account.
    pub fn new(shape: &[usize], strides: [&[usize]; N], range: Range<usize>) -> Self {
        let mut places = Self {
            shape: [1; RANK_MAX],
            strides: [[0; RANK_MAX]; N],
            at: [0; RANK_MAX],
            rank: shape.len(),
            offsets: [0; N],
            left: range.len(),
        };
        places.shape[..shape.len()].copy_from_slice(shape);
        let mut index = range.start;
        for axis in (0..shape.len()).rev() {
            places.at[axis] = index % shape[axis];
            index /= shape[axis];
            for (n, strides) in strides.iter().enumerate() {
                places.strides[n][axis] = strides[axis];
                places.offsets[n] += places.at[axis] * strides[axis];
            }
        }
        places
    }
}

impl<const N: usize> Iterator for Places<N> {
    type Item = [usize; N];

    #[inline]
    fn next(&mut self) -> Option<[usize; N]> {
        self.left = self.left.checked_sub(1)?;
        let offsets = self.offsets;
        for axis in (0..self.rank).rev() {
            self.at[axis] += 1;
            if self.at[axis] < self.shape[axis] {
                (0..N).for_each(|n| self.offsets[n] += self.strides[n][axis]);
                break;
            }
            (0..N).for_each(|n| self.offsets[n] -= (self.shape[axis] - 1) * self.strides[n][axis]);
            self.at[axis] = 0;
        }
        Some(offsets)
    }
}
