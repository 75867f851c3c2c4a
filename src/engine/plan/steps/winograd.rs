//! A 3×3 convolution of stride 1 by Winograd's F(4×4, 3×3): pixels to products, a product of matrices for each of the 36,
//! products to results.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::gemm::{LANES_MAX, Rows};
use super::{Context, Fault, Limits, Picture, Work};
use crate::engine::plan::graph::Finish;
use crate::engine::plan::kernels::winograd::{Output, PIXELS, PRODUCTS, RESULTS};
use crate::engine::plan::kernels::{Isa, Tile};

/// Values that the products of an item's tiles may take before and after the multiplication: half of a second cache of
/// 1 MB, beside the weights.
const SCRATCH_MAX: usize = 128 * 1024;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Winograd {
    pub input: Picture,
    pub output: Picture,
    /// What the finish adds.
    pub residual: Option<Picture>,
    /// Rows above and columns to the left.
    pub pad: [usize; 2],
    pub finish: Finish,
    /// Where the packed factors begin: for each panel, for each product, `[channel][lane]`.
    pub weights: usize,
    /// Where the bias begins, one value a lane of all panels.
    pub bias: usize,
}

impl Winograd {
    /// Most channels: one tile's products of them fit.
    pub const CHANNELS_MAX: usize = SCRATCH_MAX / PRODUCTS;

    fn across(&self) -> usize {
        self.output.width.div_ceil(RESULTS)
    }

    fn tiles(&self) -> usize {
        self.output.height.div_ceil(RESULTS) * self.across()
    }

    /// Most tiles of an item: as many as fit, in whole tiles of the micro-kernel.
    fn tiles_each(&self) -> usize {
        let fit = SCRATCH_MAX / (PRODUCTS * (self.input.channels + LANES_MAX));
        (fit / 6 * 6).clamp(12, 48)
    }

    fn scratch_values(&self) -> (usize, usize) {
        let tiles = self.tiles_each();
        (PRODUCTS * tiles * self.input.channels, PRODUCTS * tiles * LANES_MAX)
    }

    /// Products of the tiles of an item.
    ///
    /// # Safety
    /// As [`Work::run`].
    unsafe fn read(&self, tiles: &Range<usize>, to: *mut f32, zeros: *const f32, context: &Context) {
        let channels = self.input.channels;
        let input = context.arena.wrapping_add(self.input.offset).cast_const();
        for (index, tile) in tiles.clone().enumerate() {
            let (top, left) = (tile / self.across() * RESULTS, tile % self.across() * RESULTS);
            let (y, x) = (top.wrapping_sub(self.pad[0]), left.wrapping_sub(self.pad[1]));
            let mut pixels = [zeros; PRODUCTS];
            for (row, pixels) in pixels.chunks_exact_mut(PIXELS).enumerate() {
                let y = y.wrapping_add(row);
                if y >= self.input.height {
                    continue;
                }
                let from = input.wrapping_add(y * self.input.row).wrapping_add(x.wrapping_mul(self.input.pixel));
                for (column, pixel) in pixels.iter_mut().enumerate() {
                    if x.wrapping_add(column) < self.input.width {
                        *pixel = from.wrapping_add(column * self.input.pixel);
                    }
                }
            }
            // SAFETY: the pixels are inside the picture, the products inside the scratch.
            unsafe {
                let step = self.tiles_each() * channels;
                (context.kernels.winograd_input)(&pixels, to.add(index * channels), step, channels);
            }
        }
    }

    /// Results of the tiles of an item, for one panel.
    ///
    /// # Safety
    /// As [`Work::run`].
    unsafe fn write(
        &self,
        tiles: &Range<usize>,
        products: *const f32,
        bias: *const f32,
        first: usize,
        lanes: usize,
        context: &Context,
    ) {
        for (index, tile) in tiles.clone().enumerate() {
            let (top, left) = (tile / self.across() * RESULTS, tile % self.across() * RESULTS);
            let mut results = [std::ptr::null_mut(); RESULTS * RESULTS];
            let mut residuals = [std::ptr::null(); RESULTS * RESULTS];
            let place = |of: &Picture| context.arena.wrapping_add(of.offset + top * of.row + left * of.pixel + first);
            let columns = RESULTS.min(self.output.width - left);
            for row in 0..RESULTS.min(self.output.height - top) {
                let to = place(&self.output).wrapping_add(row * self.output.row);
                for column in 0..columns {
                    results[row * RESULTS + column] = to.wrapping_add(column * self.output.pixel);
                }
                if let Some(residual) = &self.residual {
                    let from = place(residual).wrapping_add(row * residual.row).cast_const();
                    for column in 0..columns {
                        residuals[row * RESULTS + column] = from.wrapping_add(column * residual.pixel);
                    }
                }
            }
            let tile = Output {
                products: products.wrapping_add(index * LANES_MAX),
                step: self.tiles_each() * LANES_MAX,
                bias,
                results: &results,
                residuals: &residuals,
                finish: self.finish,
                channels: lanes.min(self.output.channels - first),
            };
            // SAFETY: the results are inside the picture, the products inside the scratch.
            unsafe { (context.kernels.winograd_output)(&tile) };
        }
    }
}

impl Work for Winograd {
    fn check(&self, limits: &Limits, isa: &Isa) -> Result<(), Fault> {
        self.input.check(limits)?;
        self.output.check_written(limits)?;
        self.input.check_apart(&self.output)?;
        let lanes = isa.half;
        if !self.input.channels.is_multiple_of(lanes) || !self.output.channels.is_multiple_of(lanes) {
            return Err(format!("{} channels to {}: not whole vectors", self.input.channels, self.output.channels));
        }
        if self.pad.iter().any(|&pad| pad > PIXELS) || self.input.channels > Self::CHANNELS_MAX {
            return Err(format!("a padding of {:?}, or {} channels", self.pad, self.input.channels));
        }
        self.output.check_residual(self.residual.as_ref(), self.finish, limits)?;
        let lanes: usize = isa.panels(self.output.channels).map(|panel| panel.lanes).sum();
        let weights = (PRODUCTS * self.input.channels).checked_mul(lanes);
        let end = weights.and_then(|volume| volume.checked_add(self.weights));
        if end.is_none_or(|end| end > limits.weights) || self.bias.saturating_add(lanes) > limits.weights {
            return Err(format!("its weights leave the {} there are", limits.weights));
        }
        Ok(())
    }

    fn items(&self, _: &Isa) -> usize {
        self.tiles().div_ceil(self.tiles_each())
    }

    fn scratch(&self, _: &Isa) -> usize {
        let (before, after) = self.scratch_values();
        before + after + self.input.channels + LANES_MAX + Rows::<f32>::scratch(self.tiles_each(), 1)
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let items = self.items(context.kernels.isa);
        let tiles = item * self.tiles() / items..(item + 1) * self.tiles() / items;
        let (channels, (before, after)) = (self.input.channels, self.scratch_values());
        // SAFETY: check() has seen that pictures and weights are inside; the scratch holds all parts.
        unsafe {
            let read = context.scratch;
            let (products, zeros) = (read.add(before), read.add(before + after));
            let rows = Rows::<f32>::new(zeros.add(channels + LANES_MAX), self.tiles_each(), 1);
            zeros.write_bytes(0, channels + LANES_MAX);
            self.read(&tiles, read, zeros, context);
            let (mut weights, mut bias) = (context.weights.add(self.weights), context.weights.add(self.bias));
            let mut first = 0;
            for panel in context.kernels.isa.panels(self.output.channels) {
                for product in 0..PRODUCTS {
                    let from = read.add(product * self.tiles_each() * channels);
                    let to = products.add(product * self.tiles_each() * LANES_MAX);
                    for tile in 0..tiles.len() {
                        *rows.inputs.add(tile) = from.wrapping_add(tile * channels);
                        *rows.outputs.add(tile) = to.wrapping_add(tile * LANES_MAX);
                    }
                    let last = tiles.len() - 1;
                    for tile in tiles.len()..tiles.len().next_multiple_of(panel.pixels) {
                        *rows.inputs.add(tile) = from.add(last * channels);
                        *rows.outputs.add(tile) = to.add(last * LANES_MAX);
                    }
                    let tile = Tile::new(1, channels, weights, zeros, 0, Finish::default());
                    rows.run(context.kernels, panel, tile, tiles.len(), panel.lanes);
                    weights = weights.add(channels * panel.lanes);
                }
                self.write(&tiles, products, bias, first, panel.lanes, context);
                bias = bias.add(panel.lanes);
                first += panel.lanes;
            }
        }
    }
}
