//! Bilinear resize equal to OpenCV's, and the same fused with what a network wants: planes of floats from 0 to 1.
//! Beside it, [`Antialias`] is Pillow's.
//!
//! May not know: models. A [`Placement`] says where in the network's input the picture lies, so that boxes can be
//! mapped back by the same numbers.

mod antialias;
mod float;
mod kernel;
mod taps;

pub use antialias::Antialias;
pub use kernel::Kernel;
pub use taps::Arithmetic;

use super::{CHANNELS, Error, Frame, Region, Size, View};
use taps::{Columns, RowTaps};

/// Longest side of a source or a result: what JPEG can declare, and far below where coordinates lose precision.
pub const SIDE_MAX: usize = 65_535;

/// Where the resized picture lies within the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Size of the network's input.
    pub net: Size,
    /// The rectangle that the picture fills; the rest is padding.
    pub picture: Region,
}

impl Placement {
    /// The picture fills the network's input, whatever happens to its aspect ratio.
    #[must_use]
    pub fn stretch(net: Size) -> Self {
        Self { net, picture: Region { left: 0, top: 0, width: net.width, height: net.height } }
    }

    /// The picture keeps its aspect ratio and lies in the middle, as Roboflow's letterbox computes it: the ratio in
    /// 64-bit floats, the shorter side cut to whole pixels, the odd pixel of padding on the right and at the bottom.
    ///
    /// # Errors
    /// [`Error::EmptyPicture`], [`Error::SideTooLong`]; [`Error::NothingLeft`] when the shorter side would be 0 pixels
    /// (there OpenCV throws).
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sides are at most SIDE_MAX, so quotients and products of them are positive and far below 2^52"
    )]
    pub fn letterbox(picture: Size, net: Size) -> Result<Self, Error> {
        check_size("the picture", picture)?;
        check_size("the network's input", net)?;
        let ratio = picture.width as f64 / picture.height as f64;
        let (width, height) = if ratio >= net.width as f64 / net.height as f64 {
            (net.width, (net.width as f64 / ratio) as usize)
        } else {
            ((net.height as f64 * ratio) as usize, net.height)
        };
        check_left(picture, net, Size::new(width, height))?;
        Ok(Self::centred(Size::new(width, height), net))
    }

    /// As [`Placement::letterbox`], with both sides multiplied by the smaller ratio and cut to whole pixels, as
    /// Roboflow's default engine computes it. At times a pixel smaller. Also returns the ratio.
    ///
    /// # Errors
    /// As [`Placement::letterbox`].
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sides are at most SIDE_MAX, so products of them and a ratio are positive and far below 2^52"
    )]
    pub fn letterbox_scaled(picture: Size, net: Size) -> Result<(Self, f64), Error> {
        check_size("the picture", picture)?;
        check_size("the network's input", net)?;
        let ratio = |net: usize, side: usize| net as f64 / side as f64;
        let scale = ratio(net.width, picture.width).min(ratio(net.height, picture.height));
        let scaled = |side: usize| (side as f64 * scale) as usize;
        let inner = Size::new(scaled(picture.width), scaled(picture.height));
        check_left(picture, net, inner)?;
        Ok((Self::centred(inner, net), scale))
    }

    /// A picture of size `inner` in the middle, the odd pixel of padding on the right and at the bottom. A side that is
    /// too long for `net` is cut.
    #[must_use]
    pub fn centred(inner: Size, net: Size) -> Self {
        let (width, height) = (inner.width.min(net.width), inner.height.min(net.height));
        let (left, top) = ((net.width - width) / 2, (net.height - height) / 2);
        Self { net, picture: Region { left, top, width, height } }
    }

    /// Checks that the picture lies within the network's input, and that `values` are three planes of it.
    pub(super) fn check_output(&self, values: usize) -> Result<(), Error> {
        check_size("the network's input", self.net)?;
        self.picture.check_within(self.net)?;
        let expected = CHANNELS * self.net.width * self.net.height;
        if values != expected {
            return Err(Error::OutputLength { found: values, expected });
        }
        Ok(())
    }

    /// Sets what the picture leaves free in one plane.
    pub(super) fn fill_margin(&self, plane: &mut [f32], fill: f32) {
        let Region { left, top, width, height } = self.picture;
        for (y, row) in plane.chunks_exact_mut(self.net.width).enumerate() {
            if y < top || y >= top + height {
                row.fill(fill);
            } else {
                row[..left].fill(fill);
                row[left + width..].fill(fill);
            }
        }
    }

    /// The pixels of the picture's row `y` in a plane.
    pub(super) fn row<'a>(&self, plane: &'a mut [f32], y: usize) -> &'a mut [f32] {
        let start = (self.picture.top + y) * self.net.width + self.picture.left;
        &mut plane[start..start + self.picture.width]
    }
}

/// OpenCV throws for a result without pixels.
fn check_left(picture: Size, net: Size, new: Size) -> Result<(), Error> {
    if new.width > 0 && new.height > 0 {
        return Ok(());
    }
    Err(Error::NothingLeft {
        width: picture.width,
        height: picture.height,
        net_width: net.width,
        net_height: net.height,
        new_width: new.width,
        new_height: new.height,
    })
}

pub(super) fn check_size(what: &'static str, size: Size) -> Result<(), Error> {
    let Size { width, height } = size;
    if width == 0 || height == 0 {
        return Err(Error::EmptyPicture { what, width, height });
    }
    if width > SIDE_MAX || height > SIDE_MAX {
        return Err(Error::SideTooLong { what, width, height, limit: SIDE_MAX });
    }
    Ok(())
}

/// One horizontally resized source row: three planes, in the type of the arithmetic in use.
#[derive(Debug, Default)]
struct RowBuffer {
    /// Which source row it holds.
    row: Option<usize>,
    fixed: Vec<i16>,
    float: Vec<f32>,
}

/// Resizes pictures. Keeps its tables and rows, so that it allocates only when sizes or arithmetic change.
#[derive(Debug)]
pub struct Resizer {
    kernel: Kernel,
    /// Source, result and arithmetic that the tables are for.
    built_for: Option<(Size, Size, Arithmetic)>,
    columns: Columns,
    rows: Vec<RowTaps>,
    buffers: [RowBuffer; 2],
    /// Three planes of one row of grey levels, on their way to interleaved pixels.
    bytes: Vec<u8>,
    /// Left and right neighbours of one row's columns, for sources that are not interleaved bytes.
    neighbours: [Vec<f32>; 2],
}

impl Default for Resizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Resizer {
    /// With the fastest kernel of this processor.
    #[must_use]
    pub fn new() -> Self {
        Self::with_kernel(Kernel::detect())
    }

    /// With a given kernel. All give the same bits.
    #[must_use]
    pub fn with_kernel(kernel: Kernel) -> Self {
        Self {
            kernel,
            built_for: None,
            columns: Columns::default(),
            rows: Vec::new(),
            buffers: Default::default(),
            bytes: Vec::new(),
            neighbours: Default::default(),
        }
    }

    #[must_use]
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// `cv2.resize(source, (width, height), interpolation=INTER_LINEAR)` of 8-bit pixels, bit for bit. Reshapes
    /// `result`; its id and time stay.
    ///
    /// # Errors
    /// [`Error::EmptyPicture`], [`Error::SideTooLong`].
    pub fn resize(&mut self, source: View<'_>, size: Size, result: &mut Frame) -> Result<(), Error> {
        self.prepare(source.size(), size, Arithmetic::Integer)?;
        result.reshape(size.width, size.height);
        let (kernel, width) = (self.kernel, size.width);
        self.bytes.resize(width * CHANNELS, 0);
        for y in 0..size.height {
            let taps = self.rows[y];
            let [upper, lower] = self.blend_columns(source, taps.rows, Arithmetic::Integer);
            let rows = [&self.buffers[upper].fixed[..], &self.buffers[lower].fixed[..]];
            kernel.rows_bytes(rows, taps.weights, &mut self.bytes);
            let (red, rest) = self.bytes.split_at(width);
            let (green, blue) = rest.split_at(width);
            let (pixels, _) = result.row_mut(y).as_chunks_mut::<CHANNELS>();
            for (((pixel, &red), &green), &blue) in pixels.iter_mut().zip(red).zip(green).zip(blue) {
                *pixel = [red, green, blue];
            }
        }
        Ok(())
    }

    /// Resizes into a part of a network's input: `out` is planes of red, green and blue, `3 * net.height * net.width`
    /// values, each `level / 255` in 32-bit floats (0 to 1). What the picture leaves free is set to `fill`, which is
    /// written as it is, not divided.
    ///
    /// # Errors
    /// [`Error::EmptyPicture`], [`Error::SideTooLong`], [`Error::RegionOutside`] for a placement that does not lie
    /// within its network, [`Error::OutputLength`].
    pub fn place_chw(
        &mut self,
        source: View<'_>,
        placement: Placement,
        arithmetic: Arithmetic,
        fill: f32,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let Placement { net, picture } = placement;
        placement.check_output(out.len())?;
        let arithmetic = self.prepare(source.size(), Size::new(picture.width, picture.height), arithmetic)?;
        if arithmetic == Arithmetic::FloatThin {
            return self.place_thin(source, placement, fill, out);
        }
        for plane in out.chunks_exact_mut(net.width * net.height) {
            placement.fill_margin(plane, fill);
        }
        for y in 0..picture.height {
            let taps = self.rows[y];
            let buffers = self.blend_columns(source, taps.rows, arithmetic);
            for (channel, plane) in out.chunks_exact_mut(net.width * net.height).enumerate() {
                self.blend_rows(buffers, channel, taps, arithmetic, placement.row(plane, y));
            }
        }
        Ok(())
    }

    /// [`Resizer::place_chw`] with the aspect ratio kept, as Roboflow's "Fit in": 8-bit arithmetic, and the grey level
    /// `fill` around the picture. Returns where the picture lies.
    ///
    /// # Errors
    /// As [`Placement::letterbox`] and [`Resizer::place_chw`].
    pub fn letterbox_chw(
        &mut self,
        source: View<'_>,
        net: Size,
        fill: u8,
        out: &mut [f32],
    ) -> Result<Placement, Error> {
        let placement = Placement::letterbox(source.size(), net)?;
        let fill = f32::from(fill) / 255.0;
        self.place_chw(source, placement, Arithmetic::Integer, fill, out)?;
        Ok(placement)
    }

    /// [`Resizer::place_chw`] over the whole input: with [`Arithmetic::Float`] the "Stretch to" of Roboflow's classic
    /// engine, with [`Arithmetic::Integer`] that of its default engine.
    ///
    /// # Errors
    /// As [`Resizer::place_chw`].
    pub fn stretch_chw(
        &mut self,
        source: View<'_>,
        net: Size,
        arithmetic: Arithmetic,
        out: &mut [f32],
    ) -> Result<Placement, Error> {
        let placement = Placement::stretch(net);
        self.place_chw(source, placement, arithmetic, 0.0, out)?;
        Ok(placement)
    }

    /// Makes tables for the given sizes unless they are there, and forgets the rows of the last picture. Returns the
    /// arithmetic to use.
    fn prepare(&mut self, source: Size, result: Size, arithmetic: Arithmetic) -> Result<Arithmetic, Error> {
        let arithmetic = arithmetic.of(source);
        check_size("the picture", source)?;
        check_size("the resized picture", result)?;
        for buffer in &mut self.buffers {
            buffer.row = None;
        }
        if self.built_for == Some((source, result, arithmetic)) {
            return Ok(arithmetic);
        }
        self.columns.rebuild(source.width, result.width, arithmetic);
        taps::rebuild_rows(&mut self.rows, source.height, result.height, arithmetic);
        for buffer in &mut self.buffers {
            match arithmetic {
                Arithmetic::Integer => buffer.fixed.resize(result.width * CHANNELS, 0),
                Arithmetic::Float | Arithmetic::FloatThin => buffer.float.resize(result.width * CHANNELS, 0.0),
            }
        }
        self.built_for = Some((source, result, arithmetic));
        Ok(arithmetic)
    }

    /// Has both rows horizontally resized, and says in which buffers they are.
    fn blend_columns(&mut self, source: View<'_>, rows: [usize; 2], arithmetic: Arithmetic) -> [usize; 2] {
        let upper = self.buffer_with(rows[0], rows[1], source, arithmetic);
        let lower = self.buffer_with(rows[1], rows[0], source, arithmetic);
        [upper, lower]
    }

    /// The buffer that holds source row `row`, filled now if none does, sparing the one that holds `keep`.
    fn buffer_with(&mut self, row: usize, keep: usize, source: View<'_>, arithmetic: Arithmetic) -> usize {
        let free = match self.buffer_for(row, keep) {
            Ok(held) => return held,
            Err(free) => free,
        };
        let buffer = &mut self.buffers[free];
        let (pixels, columns) = (source.row(row), &self.columns);
        match arithmetic {
            Arithmetic::Integer => {
                self.kernel.columns_fixed(pixels, columns, thirds(&mut buffer.fixed));
            }
            Arithmetic::Float | Arithmetic::FloatThin => {
                self.kernel.columns_float(pixels, columns, thirds(&mut buffer.float));
            }
        }
        buffer.row = Some(row);
        free
    }

    /// The buffer that holds source row `row`, or else the one to fill with it, which does not hold `keep`.
    fn buffer_for(&self, row: usize, keep: usize) -> Result<usize, usize> {
        let held = self.buffers.iter().position(|buffer| buffer.row == Some(row));
        held.ok_or(usize::from(self.buffers[0].row == Some(keep)))
    }

    /// One channel of a row of the result, from the buffers with its upper and lower row.
    fn blend_rows(
        &self,
        [upper, lower]: [usize; 2],
        channel: usize,
        taps: RowTaps,
        arithmetic: Arithmetic,
        out: &mut [f32],
    ) {
        let plane = channel * out.len()..(channel + 1) * out.len();
        let [upper, lower] = [&self.buffers[upper], &self.buffers[lower]];
        match arithmetic {
            Arithmetic::Integer => {
                let rows = [&upper.fixed[plane.clone()], &lower.fixed[plane]];
                self.kernel.rows_fixed(rows, taps.weights, out);
            }
            Arithmetic::Float | Arithmetic::FloatThin => {
                let rows = [&upper.float[plane.clone()], &lower.float[plane]];
                self.kernel.rows_float(rows, taps.fraction, out);
            }
        }
    }
}

/// A row buffer as its three planes.
fn thirds<T>(buffer: &mut [T]) -> [&mut [T]; 3] {
    let width = buffer.len() / CHANNELS;
    let (red, rest) = buffer.split_at_mut(width);
    let (green, blue) = rest.split_at_mut(width);
    [red, green, blue]
}

#[cfg(test)]
mod tests;
