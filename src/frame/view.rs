//! A borrowed rectangle of pixels: the whole frame or a crop of it, without a copy.
//!
//! May not know: who asks for the crop. Percentages become pixels exactly as in Roboflow's engines.

use super::{CHANNELS, Error, Frame};

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Size {
    pub width: usize,
    pub height: usize,
}

impl Size {
    #[must_use]
    pub const fn new(width: usize, height: usize) -> Self {
        Self { width, height }
    }
}

/// A rectangle in pixels, from its left top corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

impl Region {
    /// Whether it lies within a picture of `outer`, without overflow for any values.
    pub(super) fn check_within(self, outer: Size) -> Result<(), Error> {
        let fits =
            |start: usize, length: usize, limit: usize| start.checked_add(length).is_some_and(|end| end <= limit);
        if fits(self.left, self.width, outer.width) && fits(self.top, self.height, outer.height) {
            return Ok(());
        }
        Err(self.outside(outer))
    }

    /// Whether it has the size of a picture that is to fill it.
    pub(super) fn check_size(self, size: Size) -> Result<(), Error> {
        if (self.width, self.height) == (size.width, size.height) { Ok(()) } else { Err(self.outside(size)) }
    }

    fn outside(self, outer: Size) -> Error {
        Error::RegionOutside {
            left: self.left,
            top: self.top,
            width: self.width,
            height: self.height,
            outer_width: outer.width,
            outer_height: outer.height,
        }
    }
}

/// The bounds of a static crop in percent (0 to 100) of the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CropPercent {
    pub x_min: f64,
    pub x_max: f64,
    pub y_min: f64,
    pub y_max: f64,
}

impl CropPercent {
    /// The pixels of the crop in a picture of `size`: each bound is `int(percent / 100 * side)`, in 64-bit floats as
    /// Python does it.
    ///
    /// # Errors
    /// [`Error::CropBounds`] for bounds outside 0..=100 or in the wrong order, [`Error::EmptyPicture`] when no pixel
    /// would be left.
    pub fn region(self, size: Size) -> Result<Region, Error> {
        let Self { x_min, x_max, y_min, y_max } = self;
        // Written so that a NaN fails too.
        let in_order = |low: f64, high: f64| 0.0 <= low && low <= high && high <= 100.0;
        if !(in_order(x_min, x_max) && in_order(y_min, y_max)) {
            return Err(Error::CropBounds { x_min, x_max, y_min, y_max });
        }
        let (left, right) = (at_percent(x_min, size.width), at_percent(x_max, size.width));
        let (top, bottom) = (at_percent(y_min, size.height), at_percent(y_max, size.height));
        let region = Region { left, top, width: right - left, height: bottom - top };
        if region.width == 0 || region.height == 0 {
            let Region { width, height, .. } = region;
            return Err(Error::EmptyPicture { what: "the static crop", width, height });
        }
        Ok(region)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 <= percent <= 100 was checked, and sides are far below 2^52"
)]
fn at_percent(percent: f64, side: usize) -> usize {
    (percent / 100.0 * side as f64) as usize
}

/// A rectangle of interleaved 8-bit RGB that belongs to a [`Frame`].
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// From the first pixel of the first row on; may go on past the last.
    pixels: &'a [u8],
    /// Bytes from one row to the next.
    stride: usize,
    size: Size,
}

impl<'a> View<'a> {
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// Row `y`, `width * 3` bytes.
    ///
    /// # Panics
    /// When there is no row `y`.
    #[must_use]
    pub fn row(&self, y: usize) -> &'a [u8] {
        assert!(y < self.size.height, "row {y} of {}", self.size.height);
        &self.pixels[y * self.stride..][..self.size.width * CHANNELS]
    }

    pub fn rows(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let view = *self;
        (0..view.size.height).map(move |y| view.row(y))
    }

    /// A part of this view.
    ///
    /// # Errors
    /// [`Error::RegionOutside`].
    pub fn crop(&self, region: Region) -> Result<View<'a>, Error> {
        region.check_within(self.size)?;
        let size = Size::new(region.width, region.height);
        if size.width == 0 || size.height == 0 {
            return Ok(View { pixels: &[], stride: 0, size });
        }
        let start = region.top * self.stride + region.left * CHANNELS;
        Ok(View { pixels: &self.pixels[start..], stride: self.stride, size })
    }

    /// Copies the pixels into a frame of its own, whose buffer is reused.
    pub fn copy_to(&self, frame: &mut Frame) {
        frame.reshape(self.size.width, self.size.height);
        for (y, row) in self.rows().enumerate() {
            frame.row_mut(y).copy_from_slice(row);
        }
    }
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View({}x{})", self.size.width, self.size.height)
    }
}

impl Frame {
    #[must_use]
    pub fn size(&self) -> Size {
        Size::new(self.width(), self.height())
    }

    /// All of the frame.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View { pixels: self.pixels(), stride: self.width() * CHANNELS, size: self.size() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(width: usize, height: usize) -> Frame {
        let pixels = (0..width * height * CHANNELS).map(|i| u8::try_from(i % 256).unwrap());
        Frame::from_rgb(width, height, pixels.collect())
    }

    #[test]
    fn a_crop_is_the_right_pixels() {
        let frame = numbered(5, 4);
        let crop = frame.view().crop(Region { left: 1, top: 2, width: 3, height: 2 }).unwrap();
        assert_eq!(crop.row(0), &frame.row(2)[3..12]);
        assert_eq!(crop.row(1), &frame.row(3)[3..12]);
        let inner = crop.crop(Region { left: 2, top: 1, width: 1, height: 1 }).unwrap();
        assert_eq!(inner.row(0), &frame.row(3)[9..12]);
        let mut copy = Frame::empty();
        crop.copy_to(&mut copy);
        assert_eq!(copy.size(), Size::new(3, 2));
        assert_eq!(copy.row(1), crop.row(1));
    }

    #[test]
    fn a_crop_over_the_edge_is_refused() {
        let frame = numbered(5, 4);
        for region in [
            Region { left: 3, top: 0, width: 3, height: 1 },
            Region { left: 0, top: 4, width: 1, height: 1 },
            Region { left: usize::MAX, top: 0, width: 2, height: 1 },
        ] {
            assert!(matches!(frame.view().crop(region), Err(Error::RegionOutside { .. })));
        }
        let empty = frame.view().crop(Region { left: 5, top: 4, width: 0, height: 0 }).unwrap();
        assert_eq!(empty.rows().count(), 0);
    }

    #[test]
    fn percentages_are_cut_like_python_int() {
        let crop = CropPercent { x_min: 15.0, x_max: 85.0, y_min: 5.0, y_max: 95.0 };
        // int(0.15*37)=5, int(0.85*37)=31, int(0.05*23)=1, int(0.95*23)=21
        let region = crop.region(Size::new(37, 23)).unwrap();
        assert_eq!(region, Region { left: 5, top: 1, width: 26, height: 20 });
        let backwards = CropPercent { x_min: 85.0, x_max: 15.0, y_min: 5.0, y_max: 95.0 };
        assert!(matches!(backwards.region(Size::new(9, 9)), Err(Error::CropBounds { .. })));
        let nan = CropPercent { x_min: f64::NAN, ..crop };
        assert!(matches!(nan.region(Size::new(9, 9)), Err(Error::CropBounds { .. })));
        assert!(matches!(crop.region(Size::new(1, 1)), Err(Error::EmptyPicture { .. })));
    }
}
