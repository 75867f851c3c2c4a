//! A convolution by indirect GEMM; a fully connected layer is one of a 1×1 window.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::gemm::Rows;
use super::{Context, Fault, Limits, Picture, Work};
use crate::engine::plan::graph::{Finish, Residual, Window};
use crate::engine::plan::kernels::{Isa, Tile};

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
    fn groups(&self, isa: &Isa) -> usize {
        let panels = isa.panels(self.output.channels).count();
        let each = self.depth() * isa.panels(self.output.channels).map(|panel| panel.lanes).max().unwrap_or(1);
        // Few pixels leave threads idle unless the panels are shared out too.
        if self.depth() * self.output.channels > PANEL_WEIGHTS_MAX || self.blocks() < 4 {
            panels.min((self.depth() * self.output.channels).div_ceil(each.max(1))).max(1)
        } else {
            1
        }
    }

    fn part(&self, item: usize, isa: &Isa) -> Part {
        let (groups, blocks) = (self.groups(isa), self.blocks());
        let panels = isa.panels(self.output.channels).count();
        // Panel by panel: a thread that takes the next item finds the weights of the last one still there.
        let (group, block) = (item / blocks, item % blocks);
        let pixels = self.output.pixels();
        Part {
            pixels: block * pixels / blocks..(block + 1) * pixels / blocks,
            panels: group * panels / groups..(group + 1) * panels / groups,
        }
    }

    /// Pointers of all tiles of an item.
    ///
    /// # Safety
    /// As [`Work::run`].
    unsafe fn gather(&self, pixels: &Range<usize>, tile: usize, arena: *mut f32, zeros: *const f32, rows: &Rows) {
        let Window { kernel, stride, dilation, pad } = self.window;
        let input = arena.wrapping_add(self.input.offset).cast_const();
        let reach = [(kernel[0] - 1) * dilation[0], (kernel[1] - 1) * dilation[1]];
        let (mut y, mut x) = (pixels.start / self.output.width, pixels.start % self.output.width);
        for index in 0..pixels.len().next_multiple_of(tile) {
            let (top, left) = ((y * stride[0]).wrapping_sub(pad[0]), (x * stride[1]).wrapping_sub(pad[1]));
            let corner = top.wrapping_mul(self.input.row).wrapping_add(left.wrapping_mul(self.input.pixel));
            let inside = |y: usize, x: usize| y < self.input.height && x < self.input.width;
            let whole = inside(top, left) && inside(top + reach[0], left + reach[1]);
            // SAFETY: the scratch has room for a block and one more tile; pixels are inside their pictures.
            unsafe {
                let mut at = rows.inputs.add(index / tile * tile * self.taps() + index % tile);
                for dy in (0..=reach[0]).step_by(dilation[0]) {
                    for dx in (0..=reach[1]).step_by(dilation[1]) {
                        let visible = whole || inside(top.wrapping_add(dy), left.wrapping_add(dx));
                        let offset = corner.wrapping_add(dy * self.input.row + dx * self.input.pixel);
                        *at = if visible { input.wrapping_add(offset) } else { zeros };
                        at = at.add(tile);
                    }
                }
                let output = self.output.offset + y * self.output.row + x * self.output.pixel;
                *rows.outputs.add(index) = arena.add(output);
                if let Some(residual) = &self.residual {
                    *rows.residuals.add(index) = arena.add(residual.offset + y * residual.row + x * residual.pixel);
                }
            }
            // Beyond the last pixel it stands for them; what is computed there is thrown away.
            if index + 1 < pixels.len() {
                x += 1;
                if x == self.output.width {
                    (x, y) = (0, y + 1);
                }
            }
        }
    }
}

impl Work for Conv {
    fn check(&self, limits: &Limits, isa: &Isa) -> Result<(), Fault> {
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
        let lanes: usize = isa.panels(self.output.channels).map(|panel| panel.lanes).sum();
        let weights = self.depth().checked_mul(lanes).and_then(|volume| volume.checked_add(self.weights));
        if weights.is_none_or(|end| end > limits.weights) || self.bias.saturating_add(lanes) > limits.weights {
            return Err(format!("its weights leave the {} there are", limits.weights));
        }
        Ok(())
    }

    fn items(&self, isa: &Isa) -> usize {
        self.groups(isa) * self.blocks()
    }

    fn scratch(&self, _: &Isa) -> usize {
        Rows::scratch(2 * BLOCK_PIXELS, self.taps()) + self.input.channels
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let part = self.part(item, context.kernels.isa);
        // SAFETY: check() has seen that all views are inside; the scratch is this thread's.
        unsafe {
            let rows = Rows::new(context.scratch, 2 * BLOCK_PIXELS, self.taps());
            let zeros = context.scratch.add(Rows::scratch(2 * BLOCK_PIXELS, self.taps()));
            zeros.write_bytes(0, self.input.channels);
            let (mut weights, mut bias) = (context.weights.add(self.weights), context.weights.add(self.bias));
            let (mut gathered, mut first) = (0, 0);
            for (index, panel) in context.kernels.isa.panels(self.output.channels).enumerate() {
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
