//! A convolution by indirect GEMM; a fully connected layer is one of a 1×1 window.

use serde::{Deserialize, Serialize};

use super::{Context, Fault, Limits, Picture, Work};
use crate::engine::plan::graph::{Finish, Residual, Window};
use crate::engine::plan::kernels::{Kernels, Tile};

/// Pixels of one item, about: their pointers under nine taps are 18 kB, which stay in the first cache beside a panel of
/// weights, and they are enough that fetching the weights is paid back.
const BLOCK_PIXELS: usize = 256;
/// Below this many values of weights an item runs all panels over its pixels; above, each panel is an item of its own,
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
    pixels: std::ops::Range<usize>,
    panels: std::ops::Range<usize>,
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
    fn groups(&self, kernels: &Kernels) -> usize {
        let panels = kernels.panels(self.output.channels).count();
        let each = self.depth() * kernels.panels(self.output.channels).map(|panel| panel.lanes).max().unwrap_or(1);
        // Few pixels leave threads idle unless the panels are shared out too.
        if self.depth() * self.output.channels > PANEL_WEIGHTS_MAX || self.blocks() < 4 {
            panels.min((self.depth() * self.output.channels).div_ceil(each.max(1))).max(1)
        } else {
            1
        }
    }

    fn part(&self, item: usize, kernels: &Kernels) -> Part {
        let (groups, blocks) = (self.groups(kernels), self.blocks());
        let panels = kernels.panels(self.output.channels).count();
        // Panel by panel: a thread that takes the next item finds the weights of the last one still there.
        let (group, block) = (item / blocks, item % blocks);
        let pixels = self.output.pixels();
        Part {
            pixels: block * pixels / blocks..(block + 1) * pixels / blocks,
            panels: group * panels / groups..(group + 1) * panels / groups,
        }
    }

    /// Pointers under all taps of the pixels of one tile; what lies outside the picture points to zeros.
    ///
    /// # Safety
    /// As [`Work::run`]; `table` has room for taps × `tile` pointers.
    #[inline(always)]
    unsafe fn gather(&self, first: usize, last: usize, tile: usize, input: *const f32, zeros: *const f32, table: *mut *const f32) {
        let Window { kernel, stride, dilation, pad } = self.window;
        let (height, width) = (self.input.height, self.input.width);
        let (mut y, mut x) = (first / self.output.width, first % self.output.width);
        for p in 0..tile {
            let (top, left) = ((y * stride[0]).wrapping_sub(pad[0]), (x * stride[1]).wrapping_sub(pad[1]));
            let corner = top.wrapping_mul(self.input.row).wrapping_add(left.wrapping_mul(self.input.pixel));
            let (bottom, right) = ((kernel[0] - 1) * dilation[0], (kernel[1] - 1) * dilation[1]);
            let inside = top < height && left < width && top + bottom < height && left + right < width;
            let mut tap = 0;
            for ky in 0..kernel[0] {
                for kx in 0..kernel[1] {
                    let (dy, dx) = (ky * dilation[0], kx * dilation[1]);
                    let visible = inside || (top.wrapping_add(dy) < height && left.wrapping_add(dx) < width);
                    let offset = corner.wrapping_add(dy * self.input.row + dx * self.input.pixel);
                    let pointer = if visible { input.wrapping_add(offset) } else { zeros };
                    // SAFETY: inside the table, says the caller.
                    unsafe { *table.add(tap * tile + p) = pointer };
                    tap += 1;
                }
            }
            if first + p + 1 < last {
                x += 1;
                if x == self.output.width {
                    (x, y) = (0, y + 1);
                }
            }
        }
    }
}

/// Scratch of an item: pointers, zeros, and a place for what may not be stored where it belongs.
struct Scratch {
    table: *mut *const f32,
    outputs: *mut *mut f32,
    residuals: *mut *const f32,
    zeros: *mut f32,
    spill: *mut f32,
}

/// Most pixels of a tile.
const TILE_MAX: usize = 32;
/// Most lanes of a panel.
const LANES_MAX: usize = 64;
/// Values (4 bytes) of a pointer, wherever this is built.
const POINTER: usize = 2;

impl Scratch {
    fn volume(conv: &Conv) -> usize {
        let tiles = BLOCK_PIXELS * 2 + TILE_MAX;
        (conv.taps() + 2) * tiles * POINTER + conv.input.channels + TILE_MAX * LANES_MAX
    }

    /// # Safety
    /// `scratch` has [`Scratch::volume`] values, aligned to 64 bytes.
    unsafe fn at(conv: &Conv, scratch: *mut f32) -> Self {
        let tiles = BLOCK_PIXELS * 2 + TILE_MAX;
        // SAFETY: inside the volume.
        unsafe {
            let outputs = scratch.add(conv.taps() * tiles * POINTER);
            let residuals = outputs.add(tiles * POINTER);
            let spill = residuals.add(tiles * POINTER);
            let zeros = spill.add(TILE_MAX * LANES_MAX);
            zeros.write_bytes(0, conv.input.channels);
            Self { table: scratch.cast(), outputs: outputs.cast(), residuals: residuals.cast(), zeros, spill }
        }
    }
}

impl Work for Conv {
    fn check(&self, limits: &Limits, kernels: &Kernels) -> Result<(), Fault> {
        self.input.check(limits)?;
        self.output.check_written(limits)?;
        self.input.check_apart(&self.output)?;
        self.window.check()?;
        if self.residual.is_some() != (self.finish.residual != Residual::None) {
            return Err(format!("{:?} with {:?}", self.finish, self.residual));
        }
        if let Some(residual) = &self.residual {
            residual.check(limits)?;
            residual.check_apart_or_same(&self.output)?;
            if residual.strided().0 != self.output.strided().0 {
                return Err(format!("{residual:?} is added to {:?}", self.output));
            }
        }
        let lanes: usize = kernels.panels(self.output.channels).map(|panel| panel.lanes).sum();
        let weights = self.depth().checked_mul(lanes).and_then(|volume| volume.checked_add(self.weights));
        if weights.is_none_or(|end| end > limits.weights) || self.bias.saturating_add(lanes) > limits.weights {
            return Err(format!("its weights leave the {} there are", limits.weights));
        }
        Ok(())
    }

    fn items(&self, kernels: &Kernels) -> usize {
        self.groups(kernels) * self.blocks()
    }

    fn scratch(&self, _: &Kernels) -> usize {
        Scratch::volume(self)
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let part = self.part(item, context.kernels);
        // SAFETY: check() has seen that all views are inside; the scratch is this thread's.
        unsafe {
            let scratch = Scratch::at(self, context.scratch);
            let input = context.arena.add(self.input.offset).cast_const();
            let mut gathered = 0;
            let (mut weights, mut bias) = (context.weights.add(self.weights), context.weights.add(self.bias));
            let mut first_channel = 0;
            for (index, panel) in context.kernels.panels(self.output.channels).enumerate() {
                if part.panels.contains(&index) {
                    if gathered != panel.pixels {
                        self.gather_all(&part, panel.pixels, input, context.arena, &scratch);
                        gathered = panel.pixels;
                    }
                    let channels = panel.lanes.min(self.output.channels - first_channel);
                    let tile = Tile {
                        inputs: scratch.table,
                        taps: self.taps(),
                        depth: self.input.channels,
                        weights,
                        bias,
                        outputs: scratch.outputs,
                        residuals: if self.residual.is_some() { scratch.residuals } else { std::ptr::null() },
                        first: first_channel,
                        finish: self.finish,
                    };
                    self.panel(&part, tile, panel, channels, &scratch);
                }
                weights = weights.add(self.depth() * panel.lanes);
                bias = bias.add(panel.lanes);
                first_channel += panel.lanes;
            }
        }
    }
}

impl Conv {
    /// Pointers of all tiles of an item.
    ///
    /// # Safety
    /// As [`Work::run`].
    unsafe fn gather_all(&self, part: &Part, pixels: usize, input: *const f32, arena: *mut f32, scratch: &Scratch) {
        let last = part.pixels.end;
        for (index, first) in part.pixels.clone().step_by(pixels).enumerate() {
            // SAFETY: the scratch has room for a block and one more tile.
            unsafe {
                let table = scratch.table.add(index * self.taps() * pixels);
                self.gather(first, last, pixels, input, scratch.zeros, table);
                for p in 0..pixels {
                    let at = (first + p).min(last - 1);
                    let (y, x) = (at / self.output.width, at % self.output.width);
                    let output = arena.add(self.output.offset + y * self.output.row + x * self.output.pixel);
                    // What is computed beyond the last pixel is thrown away.
                    *scratch.outputs.add(index * pixels + p) = output;
                    if let Some(residual) = &self.residual {
                        let offset = residual.offset + y * residual.row + x * residual.pixel;
                        *scratch.residuals.add(index * pixels + p) = arena.add(offset);
                    }
                }
            }
        }
    }

    /// One panel over all tiles of an item.
    ///
    /// # Safety
    /// As [`Work::run`]; the pointers have been gathered.
    #[inline(always)]
    unsafe fn panel(&self, part: &Part, mut tile: Tile, panel: &crate::engine::plan::kernels::Panel, channels: usize, scratch: &Scratch) {
        let pixels = panel.pixels;
        for first in part.pixels.clone().step_by(pixels) {
            let count = pixels.min(part.pixels.end - first);
            // SAFETY: as the caller says.
            unsafe {
                if count == pixels && channels == panel.lanes {
                    (panel.run)(&tile);
                } else {
                    let mut spilled = [std::ptr::null_mut::<f32>(); TILE_MAX];
                    for (p, spilled) in spilled.iter_mut().enumerate().take(pixels) {
                        *spilled = scratch.spill.add(p * panel.lanes).wrapping_sub(tile.first);
                    }
                    (panel.run)(&Tile { outputs: spilled.as_ptr(), ..tile });
                    for p in 0..count {
                        let to = (*tile.outputs.add(p)).add(tile.first);
                        to.copy_from_nonoverlapping(scratch.spill.add(p * panel.lanes), channels);
                    }
                }
                tile.inputs = tile.inputs.add(self.taps() * pixels);
                tile.outputs = tile.outputs.add(pixels);
                if !tile.residuals.is_null() {
                    tile.residuals = tile.residuals.add(pixels);
                }
            }
        }
    }
}
