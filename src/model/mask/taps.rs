//! Which cells of a row a cell of its resized row is made of, and in what proportion: `cv2.resize` and torchvision.

use std::ops::Range;

use super::real::Real;

/// How a resize interpolates. All are bilinear, with centres half a pixel in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// OpenCV's own code: coordinates are rounded to 32-bit floats.
    OpenCv,
    /// What OpenCV's x86 wheels call for arrays of one, three and four channels; coordinates keep 64 bits.
    Ipp,
    /// `torchvision.transforms.functional.resize`: shrinking averages over as many cells as it merges.
    Antialias,
}

/// One axis of a resize. Keeps its memory.
#[derive(Debug)]
pub struct Taps<T> {
    /// Source cells of each cell of the result, from and to; neither ever falls.
    starts: Vec<usize>,
    stops: Vec<usize>,
    /// As many a cell as the widest needs.
    weights: Vec<T>,
    stride: usize,
}

impl<T> Default for Taps<T> {
    fn default() -> Self {
        Self { starts: Vec::new(), stops: Vec::new(), weights: Vec::new(), stride: 1 }
    }
}

impl<T: Real> Taps<T> {
    /// For `source` cells that become `result`; both at least 1.
    pub fn rebuild(&mut self, source: usize, result: usize, kernel: Kernel) {
        self.starts.clear();
        self.stops.clear();
        self.weights.clear();
        self.stride = 1;
        if source == result {
            for cell in 0..result {
                self.push(cell, [T::of(1.0)]);
            }
        } else if kernel == Kernel::Antialias {
            self.antialias(source, result);
        } else {
            self.stride = 2;
            (0..result).for_each(|cell| self.linear(cell, source, result, kernel));
        }
    }

    /// Source cells of cell `cell` of the result, and their weights.
    pub fn get(&self, cell: usize) -> (Range<usize>, &[T]) {
        let range = self.starts[cell]..self.stops[cell];
        let weights = &self.weights[cell * self.stride..][..range.len()];
        (range, weights)
    }

    /// All source cells of some cells of the result.
    pub fn sources(&self, cells: &Range<usize>) -> Range<usize> {
        if cells.is_empty() { 0..0 } else { self.starts[cells.start]..self.stops[cells.end - 1] }
    }

    /// The cells of the result that some source cells are part of.
    pub fn reach(&self, sources: &Range<usize>) -> Range<usize> {
        let first = self.stops.partition_point(|&stop| stop <= sources.start);
        first..self.starts.partition_point(|&start| start < sources.end).max(first)
    }

    fn push(&mut self, start: usize, weights: impl IntoIterator<Item = T>) {
        self.starts.push(start);
        let before = self.weights.len();
        self.weights.extend(weights);
        self.stops.push(start + self.weights.len() - before);
        self.weights.resize(before + self.stride, T::default());
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "sides are far below 2^24, where the casts lose nothing; rounding to 32 bits is what OpenCV does"
    )]
    fn linear(&mut self, cell: usize, source: usize, result: usize, kernel: Kernel) {
        let (from, to) = (source as f64, result as f64);
        let centre = if kernel == Kernel::Ipp {
            (cell as f64 + 0.5) * (from / to) - 0.5
        } else {
            f64::from(((cell as f64 + 0.5) * (1.0 / (to / from)) - 0.5) as f32)
        };
        let left = centre.floor();
        if left < 0.0 || left >= from - 1.0 {
            self.push(left.clamp(0.0, from - 1.0) as usize, [T::of(1.0)]);
            return;
        }
        let fraction = centre - left;
        let weights = if kernel == Kernel::Ipp {
            let fraction = T::of_f64(fraction);
            [T::of_f64(1.0 - fraction.as_f64()), fraction]
        } else {
            [T::of(1.0 - fraction as f32), T::of(fraction as f32)]
        };
        self.push(left as usize, weights);
    }

    /// The arithmetic of PyTorch's processor kernel, step by step: 32-bit floats, with 64 bits where a literal makes
    /// them so.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "sides are far below 2^24; rounding to 32 bits and cutting to whole cells is what PyTorch does"
    )]
    fn antialias(&mut self, source: usize, result: usize) {
        let scale = source as f32 / result as f32;
        let (support, inverse) = if scale >= 1.0 { (scale, 1.0 / scale) } else { (1.0, 1.0) };
        self.stride = support.ceil() as usize * 2 + 1;
        for cell in 0..result {
            let centre = (f64::from(scale) * (cell as f64 + 0.5)) as f32;
            let start = (f64::from(centre - support) + 0.5).max(0.0) as usize;
            let stop = ((f64::from(centre + support) + 0.5) as usize).min(source).min(start + self.stride);
            let weight = |cell: usize| {
                let distance = (f64::from(cell as f32 - centre) + 0.5) * f64::from(inverse);
                (1.0 - (distance as f32).abs()).max(0.0)
            };
            let total: f32 = (start..stop).map(weight).fold(0.0, |sum, weight| sum + weight);
            let divisor = if total == 0.0 { 1.0 } else { total };
            self.push(start, (start..stop).map(|cell| T::of(weight(cell) / divisor)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taps(source: usize, result: usize, kernel: Kernel) -> Taps<f32> {
        let mut taps = Taps::default();
        taps.rebuild(source, result, kernel);
        taps
    }

    #[test]
    fn weights_are_of_one_whole_and_within_the_row() {
        for kernel in [Kernel::OpenCv, Kernel::Ipp, Kernel::Antialias] {
            for (source, result) in [(1, 7), (7, 1), (40, 160), (37, 333), (640, 9), (108, 77), (5, 5)] {
                let taps = taps(source, result, kernel);
                assert!(taps.starts.is_sorted() && taps.stops.is_sorted());
                for cell in 0..result {
                    let (range, weights) = taps.get(cell);
                    assert!(!range.is_empty() && range.end <= source, "{kernel:?} {source} {result} {cell}");
                    assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn enlarging_reaches_two_cells_and_shrinking_averages_only_with_antialias() {
        assert_eq!(taps(2, 4, Kernel::OpenCv).get(1), (0..2, &[0.75, 0.25][..]));
        assert_eq!(taps(8, 2, Kernel::Ipp).get(0), (1..3, &[0.5, 0.5][..]));
        let averaged = taps(8, 2, Kernel::Antialias);
        let (range, weights) = averaged.get(0);
        assert_eq!((range, weights.len()), (0..6, 6));
        assert_eq!(weights[0], weights[3]);
    }

    #[test]
    fn reach_and_sources_are_each_others_bounds() {
        let taps = taps(10, 37, Kernel::Antialias);
        for cell in 0..10 {
            let reached = taps.reach(&(cell..cell + 1));
            for result in 0..37 {
                assert_eq!(reached.contains(&result), taps.get(result).0.contains(&cell));
            }
        }
        assert_eq!(taps.sources(&(0..37)), 0..10);
        assert!(taps.reach(&(3..3)).is_empty() || taps.sources(&(4..4)).is_empty());
    }
}
