//! `cv2.resize` of 32-bit floats: of levels that were mapped by tables before, and of planes of floats.
//!
//! The order matters for the bits: Roboflow's classic engine normalises RF-DETR's picture first and resizes then.

use super::super::levels::Levels;
use super::super::{CHANNELS, Error, Size, View};
use super::taps::{Arithmetic, RowTaps};
use super::{Placement, Resizer, thirds};

impl Resizer {
    /// Resizes `levels` of a picture into a part of a network's input: three planes, `3 * net.height * net.width`
    /// values. What the picture leaves free is set to `fill`.
    ///
    /// # Errors
    /// As [`Resizer::place_chw`].
    pub fn place_levels(
        &mut self,
        source: View<'_>,
        levels: &Levels,
        placement: Placement,
        fill: f32,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let row = |plane: usize, y: usize| {
            let (pixels, (channel, table)) = (source.row(y), levels.plane(plane));
            move |offset: usize| table[usize::from(pixels[offset + channel])]
        };
        self.place_float(source.size(), row, placement, fill, out)
    }

    /// Resizes three planes of `size` to the whole of three planes of `net`.
    ///
    /// # Errors
    /// As [`Resizer::place_chw`]; [`Error::OutputLength`] also when `source` is not three planes of `size`.
    pub fn stretch_planes(&mut self, source: &[f32], size: Size, net: Size, out: &mut [f32]) -> Result<(), Error> {
        Placement::stretch(size).check_output(source.len())?;
        let row = |plane: usize, y: usize| {
            let row = &source[(plane * size.height + y) * size.width..][..size.width];
            move |offset: usize| row[offset / CHANNELS]
        };
        self.place_float(size, row, Placement::stretch(net), 0.0, out)
    }

    /// [`Resizer::place_chw`] with [`Arithmetic::FloatThin`].
    pub(super) fn place_thin(
        &mut self,
        source: View<'_>,
        placement: Placement,
        fill: f32,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let row = |plane: usize, y: usize| {
            let pixels = source.row(y);
            move |offset: usize| f32::from(pixels[offset + plane])
        };
        self.place_float(source.size(), row, placement, fill, out)?;
        for plane in out.chunks_exact_mut(placement.net.width * placement.net.height) {
            for y in 0..placement.picture.height {
                for value in placement.row(plane, y) {
                    *value /= 255.0;
                }
            }
        }
        Ok(())
    }

    /// `row(plane, y)` gives what reads that row: the value at a pixel's offset, which is three times its column.
    fn place_float<R: Fn(usize) -> f32>(
        &mut self,
        size: Size,
        row: impl Fn(usize, usize) -> R,
        placement: Placement,
        fill: f32,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let Placement { net, picture } = placement;
        placement.check_output(out.len())?;
        let arithmetic = self.prepare(size, Size::new(picture.width, picture.height), Arithmetic::Float)?;
        for plane in out.chunks_exact_mut(net.width * net.height) {
            placement.fill_margin(plane, fill);
        }
        for y in 0..picture.height {
            let RowTaps { rows: [upper, lower], fraction, .. } = self.rows[y];
            let upper_at = self.float_row(upper, lower, arithmetic, &row);
            let lower_at = self.float_row(lower, upper, arithmetic, &row);
            for (channel, plane) in out.chunks_exact_mut(net.width * net.height).enumerate() {
                let values = channel * picture.width..(channel + 1) * picture.width;
                let ends = [&self.buffers[upper_at].float[values.clone()], &self.buffers[lower_at].float[values]];
                let out = placement.row(plane, y);
                if arithmetic == Arithmetic::FloatThin {
                    sum_products(ends, std::iter::repeat(&fraction), out);
                } else {
                    self.kernel.blend_all(ends, fraction, out);
                }
            }
        }
        Ok(())
    }

    /// The buffer with source row `y` horizontally resized, sparing the one that holds `keep`.
    fn float_row<R: Fn(usize) -> f32>(
        &mut self,
        y: usize,
        keep: usize,
        arithmetic: Arithmetic,
        row: impl Fn(usize, usize) -> R,
    ) -> usize {
        let free = match self.buffer_for(y, keep) {
            Ok(held) => return held,
            Err(free) => free,
        };
        let (buffer, columns, [lefts, rights]) = (&mut self.buffers[free], &self.columns, &mut self.neighbours);
        for (channel, out) in thirds(&mut buffer.float).into_iter().enumerate() {
            let value = row(channel, y);
            let left = columns.offsets.iter().map(|&offset| offset as usize);
            lefts.clear();
            lefts.extend(left.clone().map(&value));
            rights.clear();
            rights.extend(left.map(|offset| value((offset + CHANNELS).min(columns.last))));
            if arithmetic == Arithmetic::FloatThin {
                sum_products([lefts, rights], columns.fractions.iter(), out);
            } else {
                self.kernel.blend_each([lefts, rights], &columns.fractions, out);
            }
        }
        buffer.row = Some(y);
        free
    }
}

/// The blend of OpenCV's own code: two products, each rounded, and their sum.
fn sum_products<'a>([from, to]: [&[f32]; 2], fractions: impl Iterator<Item = &'a f32>, out: &mut [f32]) {
    for (((out, from), to), fraction) in out.iter_mut().zip(from).zip(to).zip(fractions) {
        *out = from * (1.0 - fraction) + to * fraction;
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Frame, Region};
    use super::*;

    fn grey(levels: &[u8]) -> Frame {
        Frame::from_rgb(levels.len(), 1, levels.iter().flat_map(|&level| [level; CHANNELS]).collect())
    }

    #[test]
    fn levels_are_mapped_before_they_are_blended() {
        // A table that is not linear: blending first would give other values.
        let levels = Levels::new([0, 1, 2], |plane, level| level * level + if plane == 0 { 0.5 } else { 0.0 });
        let placement = Placement { net: Size::new(5, 1), picture: Region { left: 1, top: 0, width: 4, height: 1 } };
        let mut out = [f32::NAN; 15];
        Resizer::new().place_levels(grey(&[0, 8]).view(), &levels, placement, 114.0, &mut out).unwrap();
        assert_eq!(out[..5], [114.0, 0.5, 16.5, 48.5, 64.5]);
        assert_eq!(out[5..10], [114.0, 0.0, 16.0, 48.0, 64.0]);
    }

    #[test]
    fn planes_give_what_their_levels_give() {
        let frame = Frame::from_rgb(7, 5, (0..105).map(|i: u8| i.wrapping_mul(59)).collect());
        let levels = Levels::new([2, 0, 1], |_, level| level / 255.0 - 0.3);
        let (mut planes, mut direct, mut twice) = (vec![0.0; 105], vec![0.0; 3 * 77], vec![0.0; 3 * 77]);
        let (size, net) = (frame.size(), Size::new(11, 7));
        levels.place(frame.view(), Placement::stretch(size), [0.0; 3], &mut planes).unwrap();
        let mut resizer = Resizer::new();
        resizer.place_levels(frame.view(), &levels, Placement::stretch(net), 0.0, &mut direct).unwrap();
        resizer.stretch_planes(&planes, size, net, &mut twice).unwrap();
        assert_eq!(direct, twice);
        assert!(resizer.stretch_planes(&planes[1..], size, net, &mut twice).is_err());
    }
}
