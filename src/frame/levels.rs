//! From 8-bit levels to what a network is given for them, by table.
//!
//! May not know: models. A table makes any arithmetic on a level exact and equally fast: it was done once for each of
//! the 256 levels, in the order of operations that the original has.

use super::resize::Placement;
use super::{CHANNELS, Error, View};

/// Values of an 8-bit channel.
const LEVELS: usize = 256;

/// One table a plane, and which channel of the picture each plane shows.
#[derive(Clone)]
pub struct Levels {
    channels: [usize; CHANNELS],
    tables: Box<[[f32; LEVELS]; CHANNELS]>,
}

impl Levels {
    /// Plane `n` shows channel `channels[n]` (0 red, 1 green, 2 blue), each level mapped by `value(n, level)`.
    ///
    /// # Panics
    /// When there is no such channel.
    #[must_use]
    pub fn new(channels: [usize; CHANNELS], value: impl Fn(usize, f32) -> f32) -> Self {
        assert!(channels.iter().all(|&channel| channel < CHANNELS), "channels {channels:?}");
        let mut tables = Box::new([[0.0; LEVELS]; CHANNELS]);
        for (plane, table) in tables.iter_mut().enumerate() {
            for (level, entry) in (0..=u8::MAX).zip(table) {
                *entry = value(plane, f32::from(level));
            }
        }
        Self { channels, tables }
    }

    /// The channel that a plane shows, and its table.
    #[must_use]
    pub fn plane(&self, plane: usize) -> (usize, &[f32; LEVELS]) {
        (self.channels[plane], &self.tables[plane])
    }

    /// Puts a picture that already has its size into a part of a network's input: `out` is three planes of the
    /// network's size. What the picture leaves free is set to `fill`, one value a plane.
    ///
    /// # Errors
    /// [`Error::EmptyPicture`], [`Error::SideTooLong`], [`Error::RegionOutside`] for a placement that does not lie
    /// within its network or is not of the picture's size, [`Error::OutputLength`].
    pub fn place(
        &self,
        source: View<'_>,
        placement: Placement,
        fill: [f32; CHANNELS],
        out: &mut [f32],
    ) -> Result<(), Error> {
        placement.check_output(out.len())?;
        placement.picture.check_size(source.size())?;
        let area = placement.net.width * placement.net.height;
        for (index, (plane, fill)) in out.chunks_exact_mut(area).zip(fill).enumerate() {
            placement.fill_margin(plane, fill);
            let (channel, table) = self.plane(index);
            for (y, row) in source.rows().enumerate() {
                for (out, pixel) in placement.row(plane, y).iter_mut().zip(row.as_chunks::<CHANNELS>().0) {
                    *out = table[usize::from(pixel[channel])];
                }
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Levels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Levels({:?})", self.channels)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Frame, Region, Size};
    use super::*;

    #[test]
    fn planes_show_their_channel_in_the_middle() {
        let levels = Levels::new([2, 1, 0], |plane, level| level * [1.0, 10.0, 100.0][plane]);
        let frame = Frame::from_rgb(1, 1, vec![1, 2, 3]);
        let placement = Placement { net: Size::new(3, 1), picture: Region { left: 1, top: 0, width: 1, height: 1 } };
        let mut out = [f32::NAN; 9];
        levels.place(frame.view(), placement, [-1.0, -2.0, -3.0], &mut out).unwrap();
        assert_eq!(out, [-1.0, 3.0, -1.0, -2.0, 20.0, -2.0, -3.0, 100.0, -3.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let levels = Levels::new([0, 1, 2], |_, level| level);
        let frame = Frame::new(2, 2);
        let place = |net: Size, picture: Region, values: usize| {
            levels.place(frame.view(), Placement { net, picture }, [0.0; 3], &mut vec![0.0; values])
        };
        let whole = Region { left: 0, top: 0, width: 2, height: 2 };
        assert!(place(Size::new(2, 2), whole, 12).is_ok());
        assert!(matches!(place(Size::new(2, 2), whole, 11), Err(Error::OutputLength { found: 11, expected: 12 })));
        assert!(matches!(place(Size::new(2, 1), whole, 6), Err(Error::RegionOutside { .. })));
        let small = Region { height: 1, ..whole };
        assert!(matches!(place(Size::new(2, 2), small, 12), Err(Error::RegionOutside { .. })));
    }
}
