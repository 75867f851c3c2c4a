//! Pillow's bilinear resize of 8-bit pixels, bit for bit: a triangle filter that widens when the picture shrinks.
//!
//! Columns first, rows then, with whole levels in between; weights are fixed point of [`WEIGHT_BITS`] bits.

use super::super::{CHANNELS, Error, Frame, Size, View};
use super::check_size;

/// Pillow's `PRECISION_BITS`: what is left of 32 bits by a level and the sign.
const WEIGHT_BITS: u32 = 32 - 8 - 2;

/// Added before the shift, so that it rounds.
const ROUNDING: i32 = 1 << (WEIGHT_BITS - 1);

/// The pixels of the source that make one of the result: the first, how many, and where their weights begin.
#[derive(Clone, Copy, Debug)]
struct Window {
    first: usize,
    length: usize,
    weights: usize,
}

/// The windows along one axis.
#[derive(Debug, Default)]
struct Axis {
    /// Source and result length the tables are for.
    built_for: (usize, usize),
    windows: Vec<Window>,
    weights: Vec<i32>,
    /// Weights of one window, before they are rounded.
    exact: Vec<f64>,
}

impl Axis {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positions are cut to the source, and a weight is at most 1.0, which is 2^22"
    )]
    fn rebuild(&mut self, source: usize, result: usize) {
        if self.built_for == (source, result) {
            return;
        }
        self.windows.clear();
        self.weights.clear();
        let scale = source as f64 / result as f64;
        // Half the width of the triangle, in pixels of the source.
        let support = scale.max(1.0);
        let inverse = 1.0 / support;
        for i in 0..result {
            let centre = (i as f64 + 0.5) * scale;
            let first = ((centre - support + 0.5).max(0.0) as usize).min(source);
            let end = ((centre + support + 0.5).max(0.0) as usize).min(source);
            self.exact.clear();
            self.exact.extend((0..end - first).map(|x| {
                let distance = ((x + first) as f64 - centre + 0.5) * inverse;
                (1.0 - distance.abs()).max(0.0)
            }));
            // One after the other: the order of a sum of floats shows.
            let sum = self.exact.iter().fold(0.0, |sum, weight| sum + weight);
            let one = f64::from(1u32 << WEIGHT_BITS);
            self.windows.push(Window { first, length: end - first, weights: self.weights.len() });
            self.weights.extend(self.exact.iter().map(|weight| {
                let share = if sum == 0.0 { *weight } else { weight / sum };
                (0.5 + share * one) as i32
            }));
        }
        self.built_for = (source, result);
    }

    /// One row: interleaved pixels of the source to those of the result.
    fn blend_pixels(&self, row: &[u8], out: &mut [u8]) {
        let (pixels, _) = row.as_chunks::<CHANNELS>();
        for (out, (window, weights)) in out.as_chunks_mut::<CHANNELS>().0.iter_mut().zip(self.iter()) {
            let mut sums = [ROUNDING; CHANNELS];
            for (pixel, &weight) in pixels[window.first..].iter().zip(weights) {
                for (sum, &level) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(level) * weight;
                }
            }
            *out = sums.map(level_of);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (Window, &[i32])> {
        self.windows.iter().map(|&window| (window, &self.weights[window.weights..][..window.length]))
    }
}

/// Resizes pictures. Keeps its tables and the picture in between, so that it allocates only when sizes change.
#[derive(Debug)]
pub struct Antialias {
    horizontal: Axis,
    vertical: Axis,
    /// As wide as the result, as high as the source.
    between: Frame,
    /// The sums of one row.
    sums: Vec<i32>,
}

impl Default for Antialias {
    fn default() -> Self {
        Self { horizontal: Axis::default(), vertical: Axis::default(), between: Frame::empty(), sums: Vec::new() }
    }
}

impl Antialias {
    /// `PIL.Image.resize((width, height), BILINEAR)`, bit for bit. Reshapes `result`; its id and time stay.
    ///
    /// # Errors
    /// [`Error::EmptyPicture`], [`Error::SideTooLong`].
    pub fn resize(&mut self, source: View<'_>, size: Size, result: &mut Frame) -> Result<(), Error> {
        check_size("the picture", source.size())?;
        check_size("the resized picture", size)?;
        self.horizontal.rebuild(source.size().width, size.width);
        self.vertical.rebuild(source.size().height, size.height);
        self.between.reshape(size.width, source.size().height);
        for (y, row) in source.rows().enumerate() {
            self.horizontal.blend_pixels(row, self.between.row_mut(y));
        }
        result.reshape(size.width, size.height);
        for (y, (window, weights)) in self.vertical.iter().enumerate() {
            self.sums.clear();
            self.sums.resize(size.width * CHANNELS, ROUNDING);
            for (y, &weight) in (window.first..).zip(weights) {
                for (sum, &level) in self.sums.iter_mut().zip(self.between.row(y)) {
                    *sum += i32::from(level) * weight;
                }
            }
            for (level, &sum) in result.row_mut(y).iter_mut().zip(&self.sums) {
                *level = level_of(sum);
            }
        }
        Ok(())
    }
}

/// The level of a sum of levels and weights, to which [`ROUNDING`] was added.
fn level_of(sum: i32) -> u8 {
    u8::try_from(sum >> WEIGHT_BITS).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resized(pixels: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
        let source = Frame::from_rgb(from.0, from.1, pixels.iter().flat_map(|&level| [level; CHANNELS]).collect());
        let mut result = Frame::empty();
        Antialias::default().resize(source.view(), Size::new(to.0, to.1), &mut result).unwrap();
        result.pixels().iter().step_by(CHANNELS).copied().collect()
    }

    #[test]
    fn the_same_size_is_a_copy() {
        let pixels: Vec<u8> = (0..35).map(|i: u8| i.wrapping_mul(91)).collect();
        assert_eq!(resized(&pixels, (7, 5), (7, 5)), pixels);
    }

    #[test]
    fn halving_looks_at_four_pixels() {
        // A triangle of half width 2 over 0, 80, 160, 240, 240, 240: weights 3 3 1 of 7 at the left edge, 1 3 3 1 of 8
        // within, 1 3 3 at the right edge.
        assert_eq!(resized(&[0, 80, 160, 240, 240, 240], (6, 1), (3, 1)), [57, 190, 240]);
        assert_eq!(resized(&[0, 80, 160, 240, 240, 240], (1, 6), (1, 3)), [57, 190, 240]);
    }

    #[test]
    fn growing_blends_two_pixels() {
        assert_eq!(resized(&[0, 100], (2, 1), (4, 1)), [0, 25, 75, 100]);
    }

    #[test]
    fn what_has_no_pixels_is_refused() {
        let (mut antialias, mut result) = (Antialias::default(), Frame::empty());
        let empty = antialias.resize(Frame::empty().view(), Size::new(2, 2), &mut result);
        assert!(matches!(empty, Err(Error::EmptyPicture { .. })));
        let frame = Frame::new(2, 2);
        let huge = antialias.resize(frame.view(), Size::new(usize::MAX, 1), &mut result);
        assert!(matches!(huge, Err(Error::SideTooLong { .. })));
    }
}
