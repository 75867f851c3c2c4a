//! A convolution of bytes by indirect GEMM, as in conv.rs; its results are bytes, numbers, or both.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::byte_picture::of_bytes;
use super::gemm::{LANES_MAX, POINTER, TILE_MAX};
use super::{BytePicture, Context, Fault, Limits, Picture, Work};
use crate::engine::plan::graph::{Finish, Residual, Window};
use crate::engine::plan::kernels::bytes::{ByteTile, QUAD, Scale};
use crate::engine::plan::kernels::{Isa, Panel};

/// Pixels of one item, about: as in conv.rs.
const BLOCK_PIXELS: usize = 256;
/// Below this many bytes of weights an item runs all panels over its pixels; above, each panel is an item of its own, so
/// that a thread keeps to weights that fit into its second cache.
const PANEL_WEIGHTS_MAX: usize = 384 * 1024;
/// Most products of one sum: 255 · 127 times as many still is a whole number of 32 bits.
const PRODUCTS_MAX: usize = 1 << 16;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizedConv {
    /// Whole quads of channels.
    pub input: BytePicture,
    /// The result as bytes.
    pub bytes: Option<BytePicture>,
    /// The result as numbers.
    pub numbers: Option<Picture>,
    /// What the finish adds.
    pub residual: Option<Added>,
    pub window: Window,
    pub finish: Finish,
    /// Where the packed weights begin: for each panel `[tap][quad][lane][channel of the quad]`, each a signed byte.
    pub weights: usize,
    /// Where the factors of the sums begin, one value a lane of all panels.
    pub scale: usize,
    /// Where the bias begins, one value a lane of all panels: with it comes what zeros that are no zero bytes have added.
    pub bias: usize,
}

/// What is added to a result.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Added {
    Numbers(Picture),
    Bytes(BytePicture),
}

/// What of an item lies in the scratch.
struct Rows {
    /// `[tile][tap][row of the tile]`.
    inputs: *mut *const u8,
    /// `[tile][row of the tile]`, as all that follow.
    numbers: *mut *mut f32,
    bytes: *mut *mut u8,
    residuals: *mut *const u8,
    /// A pixel of zeros.
    zeros: *mut u8,
    /// As many values as a tile has results, twice, and as many bytes.
    spill: *mut f32,
}

/// Pointers of an item, with the last tile.
const ROWS: usize = BLOCK_PIXELS + TILE_MAX;

impl QuantizedConv {
    fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    /// The picture that is made, where its offsets do not matter.
    fn output(&self) -> &Picture {
        self.numbers.as_ref().or(self.bytes.as_ref().map(|bytes| &bytes.at)).unwrap_or(&self.input.at)
    }

    fn blocks(&self) -> usize {
        self.output().pixels().div_ceil(BLOCK_PIXELS)
    }

    /// Into how many ranges the panels are cut.
    fn groups(&self, isa: &Isa) -> usize {
        let weights = self.taps() * self.input.at.channels * self.output().channels;
        // Few pixels leave threads idle unless the panels are shared out too.
        if weights > PANEL_WEIGHTS_MAX || self.blocks() < 4 { isa.panels(self.output().channels).count() } else { 1 }
    }

    /// The pixels and the panels of an item.
    fn part(&self, item: usize, isa: &Isa) -> (Range<usize>, Range<usize>) {
        let (groups, blocks) = (self.groups(isa), self.blocks());
        let panels = isa.panels(self.output().channels).count();
        // Panel by panel: a thread that takes the next item finds the weights of the last one still there.
        let (group, block) = (item / blocks, item % blocks);
        let pixels = self.output().pixels();
        (block * pixels / blocks..(block + 1) * pixels / blocks, group * panels / groups..(group + 1) * panels / groups)
    }

    /// Values of a pixel of zeros, in whole cache lines.
    fn zeros(&self) -> usize {
        self.input.at.channels.div_ceil(size_of::<f32>()).next_multiple_of(16)
    }

    /// # Safety
    /// The scratch is as large as was asked for.
    unsafe fn rows(&self, scratch: *mut f32) -> Rows {
        let column = ROWS * POINTER;
        // SAFETY: inside, says the caller.
        unsafe {
            let after = scratch.add((self.taps() + 3) * column);
            Rows {
                inputs: scratch.cast(),
                numbers: scratch.add(self.taps() * column).cast(),
                bytes: scratch.add((self.taps() + 1) * column).cast(),
                residuals: scratch.add((self.taps() + 2) * column).cast(),
                zeros: after.cast(),
                spill: after.add(self.zeros()),
            }
        }
    }

    /// Pointers of all tiles of an item, row by row of the picture.
    ///
    /// # Safety
    /// As [`Work::run`].
    unsafe fn gather(&self, pixels: &Range<usize>, tile: usize, arena: *mut f32, rows: &Rows) {
        let (width, bytes) = (self.output().width, arena.cast::<u8>());
        let mut index = 0;
        while index < pixels.len() {
            let (y, x) = ((pixels.start + index) / width, (pixels.start + index) % width);
            // To the end of the row of the picture, of the tile, or of the item.
            let count = (width - x).min(tile - index % tile).min(pixels.len() - index);
            // SAFETY: the scratch has room for a block and one more tile; pixels are inside their pictures.
            unsafe {
                self.gather_inputs(
                    y,
                    x,
                    count,
                    rows.inputs.add(index / tile * tile * self.taps() + index % tile),
                    tile,
                    bytes,
                    rows.zeros,
                );
                if let Some(to) = &self.numbers {
                    let first = arena.add(to.offset + y * to.row + x * to.pixel);
                    (0..count).for_each(|p| *rows.numbers.add(index + p) = first.wrapping_add(p * to.pixel));
                }
                if let Some(BytePicture { at: to, .. }) = &self.bytes {
                    let first = bytes.add(to.offset + y * to.row + x * to.pixel);
                    (0..count).for_each(|p| *rows.bytes.add(index + p) = first.wrapping_add(p * to.pixel));
                }
                let added = match &self.residual {
                    None => None,
                    Some(Added::Numbers(from)) => Some(of_bytes(from)),
                    Some(Added::Bytes(from)) => Some(from.at),
                };
                if let Some(from) = added {
                    let first = bytes.add(from.offset + y * from.row + x * from.pixel).cast_const();
                    (0..count).for_each(|p| *rows.residuals.add(index + p) = first.wrapping_add(p * from.pixel));
                }
            }
            index += count;
        }
        // What is computed beyond the last pixel is thrown away; it reads what is there.
        let last = index - 1;
        for index in index..index.next_multiple_of(tile) {
            // SAFETY: as above.
            unsafe {
                let tile_of = |index: usize| rows.inputs.add(index / tile * tile * self.taps() + index % tile);
                for tap in 0..self.taps() {
                    *tile_of(index).add(tap * tile) = *tile_of(last).add(tap * tile);
                }
            }
        }
    }

    /// Pointers under every tap of some pixels of one row, from (`y`, `x`) on; `to` leads from tap to tap by `tile`.
    ///
    /// # Safety
    /// As [`QuantizedConv::gather`].
    #[expect(clippy::too_many_arguments, reason = "all of them change from call to call")]
    unsafe fn gather_inputs(
        &self,
        y: usize,
        x: usize,
        count: usize,
        to: *mut *const u8,
        tile: usize,
        arena: *const u8,
        zeros: *const u8,
    ) {
        let Window { kernel, stride, dilation, pad } = self.window;
        let input = self.input.at;
        let step = stride[1] * input.pixel;
        let mut to = to;
        for ky in 0..kernel[0] {
            let row = (y * stride[0] + ky * dilation[0]).wrapping_sub(pad[0]);
            for kx in 0..kernel[1] {
                let first = (x * stride[1] + kx * dilation[1]).wrapping_sub(pad[1]);
                let last = first.wrapping_add((count - 1) * stride[1]);
                let at = row.wrapping_mul(input.row).wrapping_add(first.wrapping_mul(input.pixel));
                let from = arena.wrapping_add(input.offset.wrapping_add(at));
                // SAFETY: inside the table, says the caller.
                unsafe {
                    if row >= input.height {
                        (0..count).for_each(|p| *to.add(p) = zeros);
                    } else if first < input.width && last < input.width {
                        (0..count).for_each(|p| *to.add(p) = from.wrapping_add(p * step));
                    } else {
                        for p in 0..count {
                            let inside = first.wrapping_add(p * stride[1]) < input.width;
                            *to.add(p) = if inside { from.wrapping_add(p * step) } else { zeros };
                        }
                    }
                    to = to.add(tile);
                }
            }
        }
    }

    /// Runs one panel over `count` pixels, `channels` results of each. The pointers of `tile` are set here.
    ///
    /// # Safety
    /// As [`Work::run`]; all pointers have been set for tiles of the panel's pixels.
    unsafe fn panel(
        &self,
        gemm: &[unsafe fn(&ByteTile)],
        panel: Panel,
        mut tile: ByteTile,
        rows: &Rows,
        count: usize,
        channels: usize,
    ) {
        let (mut numbers, mut bytes) = (rows.numbers, rows.bytes);
        (tile.inputs, tile.residuals) = (rows.inputs, rows.residuals);
        for first in (0..count).step_by(panel.pixels) {
            let wanted = panel.pixels.min(count - first);
            // SAFETY: as the caller says.
            unsafe {
                if wanted == panel.pixels && channels == panel.lanes {
                    tile.numbers = if self.numbers.is_some() { numbers } else { std::ptr::null() };
                    tile.bytes = if self.bytes.is_some() { bytes } else { std::ptr::null() };
                    gemm[panel.kernel](&tile);
                } else {
                    self.panel_part(gemm, panel, &tile, rows, [wanted, channels], numbers, bytes);
                }
                tile.inputs = tile.inputs.add(tile.taps * panel.pixels);
                (numbers, bytes) = (numbers.add(panel.pixels), bytes.add(panel.pixels));
                tile.residuals = tile.residuals.add(panel.pixels);
            }
        }
    }

    /// A tile of which not all is wanted, by way of the spill.
    ///
    /// # Safety
    /// As [`QuantizedConv::panel`].
    #[expect(clippy::too_many_arguments, reason = "what is done once for a whole tile is here done in part")]
    unsafe fn panel_part(
        &self,
        gemm: &[unsafe fn(&ByteTile)],
        panel: Panel,
        tile: &ByteTile,
        rows: &Rows,
        [wanted, channels]: [usize; 2],
        to_numbers: *mut *mut f32,
        to_bytes: *mut *mut u8,
    ) {
        let mut numbers = [std::ptr::null_mut::<f32>(); TILE_MAX];
        let mut bytes = [std::ptr::null_mut::<u8>(); TILE_MAX];
        let mut residuals = [std::ptr::null::<u8>(); TILE_MAX];
        let width = if matches!(self.residual, Some(Added::Numbers(_))) { size_of::<f32>() } else { 1 };
        // SAFETY: a tile has at most TILE_MAX rows of LANES_MAX lanes; the spill holds two such, and their bytes.
        unsafe {
            let added = rows.spill.add(TILE_MAX * LANES_MAX).cast::<u8>();
            let spilled = rows.spill.add(2 * TILE_MAX * LANES_MAX).cast::<u8>();
            for p in 0..panel.pixels {
                numbers[p] = rows.spill.add(p * panel.lanes).wrapping_sub(tile.first);
                bytes[p] = spilled.add(p * panel.lanes).wrapping_sub(tile.first);
                residuals[p] = added.add(p * panel.lanes * width).wrapping_sub(tile.first * width);
                if self.residual.is_some() && p < wanted {
                    let from = (*tile.residuals.add(p)).add(tile.first * width);
                    added.add(p * panel.lanes * width).copy_from_nonoverlapping(from, channels * width);
                }
            }
            gemm[panel.kernel](&ByteTile {
                numbers: if self.numbers.is_some() { numbers.as_ptr() } else { std::ptr::null() },
                bytes: if self.bytes.is_some() { bytes.as_ptr() } else { std::ptr::null() },
                residuals: residuals.as_ptr(),
                ..*tile
            });
            for p in 0..wanted {
                if self.numbers.is_some() {
                    let to = (*to_numbers.add(p)).add(tile.first);
                    to.copy_from_nonoverlapping(rows.spill.add(p * panel.lanes), channels);
                }
                if self.bytes.is_some() {
                    let to = (*to_bytes.add(p)).add(tile.first);
                    to.copy_from_nonoverlapping(spilled.add(p * panel.lanes), channels);
                }
            }
        }
    }

    fn check_outputs(&self, limits: &Limits, isa: &Isa) -> Result<(), Fault> {
        let (mut written, mut input) = (Vec::new(), vec![self.input.at]);
        if let Some(to) = &self.numbers {
            to.check_written(limits)?;
            written.push(of_bytes(to));
        }
        if let Some(to) = &self.bytes {
            to.check_written(limits, isa)?;
            written.push(to.at);
        }
        let shape = self.output().strided().0;
        let other = self.bytes.as_ref().is_some_and(|to| to.at.strided().0 != shape);
        if written.is_empty() || other {
            return Err(format!("{:?} and {:?} are one result", self.numbers, self.bytes));
        }
        if self.residual.is_some() != (self.finish.residual != Residual::None) {
            return Err(format!("{:?} with {:?}", self.finish, self.residual));
        }
        // It may lie where the result of its kind goes: each value is read just before it is written.
        match &self.residual {
            None => {}
            Some(Added::Numbers(from)) => {
                from.check(limits)?;
                self.check_added(from, shape)?;
                if self.numbers != Some(*from) {
                    input.push(of_bytes(from));
                } else if let Some(to) = &self.bytes {
                    of_bytes(from).check_apart(&to.at)?;
                }
            }
            Some(Added::Bytes(from)) => {
                from.check(limits, isa)?;
                self.check_added(&from.at, shape)?;
                if self.bytes.as_ref().map(|to| to.at) != Some(from.at) {
                    input.push(from.at);
                } else if let Some(to) = &self.numbers {
                    from.at.check_apart(&of_bytes(to))?;
                }
            }
        }
        for to in &written {
            input.iter().try_for_each(|from| from.check_apart(to))?;
        }
        if let [a, b] = &written[..] { a.check_apart(b) } else { Ok(()) }
    }

    fn check_added(&self, from: &Picture, shape: [usize; 3]) -> Result<(), Fault> {
        if from.strided().0 == shape { Ok(()) } else { Err(format!("{from:?} is added to {:?}", self.output())) }
    }
}

impl Work for QuantizedConv {
    fn check(&self, limits: &Limits, isa: &Isa) -> Result<(), Fault> {
        self.input.check(limits, isa)?;
        self.check_outputs(limits, isa)?;
        self.window.check()?;
        let channels = self.input.at.channels;
        let products = channels.checked_mul(self.taps());
        if !channels.is_multiple_of(QUAD) || products.is_none_or(|products| products > PRODUCTS_MAX) {
            return Err(format!(
                "{channels} channels under {} taps: quads, and at most {PRODUCTS_MAX} products",
                self.taps()
            ));
        }
        let lanes: usize = isa.panels(self.output().channels).map(|panel| panel.lanes).sum();
        // Four weights take the place of one value.
        let weights =
            (self.taps() * (channels / QUAD)).checked_mul(lanes).and_then(|volume| volume.checked_add(self.weights));
        let last = self.bias.max(self.scale).saturating_add(lanes);
        if weights.is_none_or(|end| end > limits.weights) || last > limits.weights {
            return Err(format!("its weights leave the {} there are", limits.weights));
        }
        Ok(())
    }

    fn items(&self, isa: &Isa) -> usize {
        self.groups(isa) * self.blocks()
    }

    fn scratch(&self, _: &Isa) -> usize {
        (self.taps() + 3) * ROWS * POINTER
            + self.zeros()
            + 2 * TILE_MAX * LANES_MAX
            + TILE_MAX * LANES_MAX / size_of::<f32>()
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let isa = context.kernels.isa;
        let gemm = context.kernels.bytes.as_ref().expect("check() has seen that there are such").gemm;
        let (pixels, panels) = self.part(item, isa);
        let (channels, output) = (self.input.at.channels, self.output());
        // SAFETY: check() has seen that all views are inside; the scratch is this thread's.
        unsafe {
            let rows = self.rows(context.scratch);
            rows.zeros.write_bytes(self.input.scale.zero.to_le_bytes()[0], channels);
            let (mut weights, mut lane) = (context.weights.add(self.weights), 0);
            let mut gathered = 0;
            for (index, panel) in isa.panels(output.channels).enumerate() {
                if panels.contains(&index) {
                    if gathered != panel.pixels {
                        self.gather(&pixels, panel.pixels, context.arena, &rows);
                        gathered = panel.pixels;
                    }
                    let tile = ByteTile {
                        inputs: std::ptr::null(),
                        taps: self.taps(),
                        quads: channels / QUAD,
                        weights: weights.cast(),
                        scale: context.weights.add(self.scale + lane),
                        bias: context.weights.add(self.bias + lane),
                        numbers: std::ptr::null(),
                        bytes: std::ptr::null(),
                        bytes_scale: self.bytes.map_or(Scale { step: 1.0, zero: 0 }, |bytes| bytes.scale),
                        residuals: std::ptr::null(),
                        residual_scale: if let Some(Added::Bytes(from)) = &self.residual {
                            Some(from.scale)
                        } else {
                            None
                        },
                        first: lane,
                        finish: self.finish,
                    };
                    self.panel(gemm, panel, tile, &rows, pixels.len(), panel.lanes.min(output.channels - lane));
                }
                weights = weights.add(self.taps() * (channels / QUAD) * panel.lanes);
                lane += panel.lanes;
            }
        }
    }
}
