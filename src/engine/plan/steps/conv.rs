//! A convolution by indirect GEMM; a fully connected layer is one of a 1×1 window. Of numbers; and, with all but the
//! counting the same, of halves (half_conv.rs).

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::gemm::{Factor, Rows};
use super::{Context, Fault, Limits, Picture, Work};
use crate::engine::plan::graph::{Finish, Window};
use crate::engine::plan::kernels::{Isa, Tile};

/// Pixels of one item, about: their pointers under nine taps are 18 kB, which stay in the first cache beside a panel of
/// weights, and they are enough that fetching the weights is paid back.
const BLOCK_PIXELS: usize = 256;
/// Below this much of weights, in values, an item runs all panels over its pixels; above, each panel is an item of its own,
/// so that a thread keeps to weights that fit into its second cache.
const PANEL_WEIGHTS_MAX: usize = 96 * 1024;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    pub input: Picture,
    pub output: Picture,
    /// What the finish adds.
    pub residual: Option<Picture>,
    pub window: Window,
    pub finish: Finish,
    /// Where the packed weights begin: for each panel `[tap][channel][lane]`.
    pub weights: usize,
    /// Where the bias begins, one value a lane of all panels.
    pub bias: usize,
}

/// One item: its pixels and its panels.
struct Part {
    pixels: Range<usize>,
    panels: Range<usize>,
}

impl Conv {
    fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    /// Weights of one output channel.
    fn depth(&self) -> usize {
        self.taps() * self.input.channels
    }

    fn blocks(&self) -> usize {
        self.output.pixels().div_ceil(BLOCK_PIXELS)
    }

    /// Into how many ranges the panels are cut.
    fn groups<T: Factor>(&self, isa: &Isa) -> usize {
        let panels = T::panels(isa, self.output.channels).count();
        let each = self.depth() * T::panels(isa, self.output.channels).map(|panel| panel.lanes).max().unwrap_or(1);
        // Few pixels leave threads idle unless the panels are shared out too.
        if self.depth() * self.output.channels > PANEL_WEIGHTS_MAX * T::IN_NUMBER || self.blocks() < 4 {
            panels.min((self.depth() * self.output.channels).div_ceil(each.max(1))).max(1)
        } else {
            1
        }
    }

    fn part<T: Factor>(&self, item: usize, isa: &Isa) -> Part {
        let (groups, blocks) = (self.groups::<T>(isa), self.blocks());
        let panels = T::panels(isa, self.output.channels).count();
        // Panel by panel: a thread that takes the next item finds the weights of the last one still there.
        let (group, block) = (item / blocks, item % blocks);
        // In whole tiles of the first panel: what is left over in a tile is computed for nothing.
        let tile = T::panels(isa, self.output.channels).next().map_or(1, |panel| panel.pixels);
        let (pixels, tiles) = (self.output.pixels(), self.output.pixels().div_ceil(tile));
        let from = |block: usize| (block * tiles / blocks * tile).min(pixels);
        Part { pixels: from(block)..from(block + 1), panels: group * panels / groups..(group + 1) * panels / groups }
    }

    /// Pointers of all tiles of an item, row by row of the picture: along a row they are as far apart as pixels.
    ///
    /// # Safety
    /// As [`Work::run`].
    unsafe fn gather<T: Factor>(
        &self,
        pixels: &Range<usize>,
        tile: usize,
        arena: *mut f32,
        zeros: *const T,
        rows: &Rows<T>,
    ) {
        let width = self.output.width;
        let mut index = 0;
        while index < pixels.len() {
            let (y, x) = ((pixels.start + index) / width, (pixels.start + index) % width);
            // To the end of the row of the picture, of the item, or of the tile, unless one follows the other.
            let together = if self.taps() == 1 { pixels.len() } else { tile - index % tile };
            let count = (width - x).min(together).min(pixels.len() - index);
            // SAFETY: the scratch has room for a block and one more tile; pixels are inside their pictures.
            unsafe {
                let inputs = rows.inputs.add(index / tile * tile * self.taps() + index % tile);
                self.gather_inputs(y, x, count, inputs, tile, arena.cast::<T>().add(self.input.offset), zeros);
                let output = arena.add(self.output.offset + y * self.output.row + x * self.output.pixel);
                run_of(rows.outputs.add(index), count, output, self.output.pixel);
                if let Some(residual) = &self.residual {
                    let from = arena.add(residual.offset + y * residual.row + x * residual.pixel);
                    run_of(rows.residuals.add(index), count, from, residual.pixel);
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
                *rows.outputs.add(index) = *rows.outputs.add(last);
                *rows.residuals.add(index) = *rows.residuals.add(last);
            }
        }
    }

    /// Pointers under every tap of some pixels of one row, from (`y`, `x`) on; `to` leads from tap to tap by `tile`.
    ///
    /// # Safety
    /// As [`Conv::gather`].
    #[expect(clippy::too_many_arguments, reason = "all of them change from call to call")]
    unsafe fn gather_inputs<T>(
        &self,
        y: usize,
        x: usize,
        count: usize,
        to: *mut *const T,
        tile: usize,
        input: *const T,
        zeros: *const T,
    ) {
        let Window { kernel, stride, dilation, pad } = self.window;
        let step = stride[1] * self.input.pixel;
        let mut to = to;
        for ky in 0..kernel[0] {
            let row = (y * stride[0] + ky * dilation[0]).wrapping_sub(pad[0]);
            for kx in 0..kernel[1] {
                let first = (x * stride[1] + kx * dilation[1]).wrapping_sub(pad[1]);
                let last = first.wrapping_add((count - 1) * stride[1]);
                let at = row.wrapping_mul(self.input.row).wrapping_add(first.wrapping_mul(self.input.pixel));
                let from = input.wrapping_add(at);
                // SAFETY: inside the table, says the caller.
                unsafe {
                    if row >= self.input.height {
                        (0..count).for_each(|p| *to.add(p) = zeros);
                    } else if first < self.input.width && last < self.input.width {
                        run_of(to, count, from.cast_mut(), step);
                    } else {
                        for p in 0..count {
                            let inside = first.wrapping_add(p * stride[1]) < self.input.width;
                            *to.add(p) = if inside { from.wrapping_add(p * step) } else { zeros };
                        }
                    }
                    to = to.add(tile);
                }
            }
        }
    }
}

/// Pointers that are equally far apart.
///
/// # Safety
/// `to` has room for `count`.
#[inline(always)]
unsafe fn run_of<P: From<Pointer<T>>, T>(to: *mut P, count: usize, from: *mut T, step: usize) {
    // SAFETY: the caller's promise.
    (0..count).for_each(|p| unsafe { to.add(p).write(Pointer(from.wrapping_add(p * step)).into()) });
}

/// A pointer to be written, or one to be read.
struct Pointer<T>(*mut T);

impl<T> From<Pointer<T>> for *mut T {
    fn from(pointer: Pointer<T>) -> Self {
        pointer.0
    }
}

impl<T> From<Pointer<T>> for *const T {
    fn from(pointer: Pointer<T>) -> Self {
        pointer.0
    }
}

impl Conv {
    /// As [`Work::check`]; the input counts what is multiplied, everything else values.
    pub(super) fn check_of<T: Factor>(&self, limits: &Limits, isa: &Isa) -> Result<(), Fault> {
        self.input.check(&limits.of_parts(T::IN_NUMBER))?;
        self.output.check_written(limits)?;
        self.input.check_apart(&self.output.in_parts(T::IN_NUMBER))?;
        self.window.check()?;
        self.output.check_residual(self.residual.as_ref(), self.finish, limits)?;
        let lanes: usize = T::panels(isa, self.output.channels).map(|panel| panel.lanes).sum();
        let weights = self.depth().checked_mul(lanes).map(|factors| factors.div_ceil(T::IN_NUMBER));
        let end = weights.and_then(|volume| volume.checked_add(self.weights));
        if end.is_none_or(|end| end > limits.weights) || self.bias.saturating_add(lanes) > limits.weights {
            return Err(format!("its weights leave the {} there are", limits.weights));
        }
        Ok(())
    }

    pub(super) fn items_of<T: Factor>(&self, isa: &Isa) -> usize {
        self.groups::<T>(isa) * self.blocks()
    }

    pub(super) fn scratch_of<T: Factor>(&self) -> usize {
        Rows::<T>::scratch(2 * BLOCK_PIXELS, self.taps()) + self.input.channels.div_ceil(T::IN_NUMBER)
    }

    /// # Safety
    /// As [`Work::run`].
    pub(super) unsafe fn run_of<T: Factor>(&self, item: usize, context: &Context) {
        let part = self.part::<T>(item, context.kernels.isa);
        // SAFETY: check() has seen that all views are inside; the scratch is this thread's.
        unsafe {
            let rows = Rows::<T>::new(context.scratch, 2 * BLOCK_PIXELS, self.taps());
            let zeros = context.scratch.add(Rows::<T>::scratch(2 * BLOCK_PIXELS, self.taps())).cast::<T>();
            zeros.write_bytes(0, self.input.channels);
            let mut weights = context.weights.add(self.weights).cast::<T>();
            let mut bias = context.weights.add(self.bias);
            let (mut gathered, mut first) = (0, 0);
            for (index, panel) in T::panels(context.kernels.isa, self.output.channels).enumerate() {
                if part.panels.contains(&index) {
                    if gathered != panel.pixels {
                        self.gather(&part.pixels, panel.pixels, context.arena, zeros, &rows);
                        gathered = panel.pixels;
                    }
                    let channels = panel.lanes.min(self.output.channels - first);
                    let tile = Tile::new(self.taps(), self.input.channels, weights, bias, first, self.finish);
                    rows.run(context.kernels, panel, tile, part.pixels.len(), channels);
                }
                weights = weights.add(self.depth() * panel.lanes);
                bias = bias.add(panel.lanes);
                first += panel.lanes;
            }
        }
    }
}

impl Work for Conv {
    fn check(&self, limits: &Limits, isa: &Isa) -> Result<(), Fault> {
        self.check_of::<f32>(limits, isa)
    }

    fn items(&self, isa: &Isa) -> usize {
        self.items_of::<f32>(isa)
    }

    fn scratch(&self, _: &Isa) -> usize {
        self.scratch_of::<f32>()
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        // SAFETY: the caller's promise.
        unsafe { self.run_of::<f32>(item, context) }
    }
}
