//! A product of two matrices that are both computed, many of them at once.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::gemm::{LANES_MAX, Rows};
use super::place::RANK_MAX;
use super::rows::Places;
use super::{Context, Fault, Limits, Operand, Strided, Work};
use crate::engine::plan::graph::Finish;
use crate::engine::plan::kernels::{Isa, Kernels, Tile};

/// Items that there should be, so that threads share them evenly.
const ITEMS: usize = 8;
/// Rows of an item, at least: fewer would not pay back that each item packs the other matrix.
const BLOCK_ROWS_MIN: usize = 64;
/// Rows of an item, at most: their pointers stay in the first cache.
const BLOCK_ROWS_MAX: usize = 1024;
/// Values of a packed matrix, at most: 16 MB.
const PACKED_MAX: usize = 1 << 22;

/// `scale · a · b`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatMul {
    pub batch: Vec<usize>,
    pub rows: usize,
    pub depth: usize,
    pub columns: usize,
    pub scale: f32,
    /// Strides of the batch, of a row and of a value, which is 1.
    pub a: Operand,
    /// Strides of the batch, of a row and of a column.
    pub b: Operand,
    /// Strides of the batch, of a row and of a column, which is 1.
    pub output: Strided,
}

impl MatMul {
    fn blocks(&self) -> usize {
        let batch = self.batch.iter().product::<usize>();
        let shared = ITEMS.div_ceil(batch).min(self.rows.div_ceil(BLOCK_ROWS_MIN));
        shared.max(self.rows.div_ceil(BLOCK_ROWS_MAX))
    }

    /// Rows of an item, at most.
    fn block(&self) -> usize {
        self.rows.div_ceil(self.blocks())
    }

    fn packed(&self, isa: &Isa) -> usize {
        self.depth * isa.panels(self.columns).map(|panel| panel.lanes).sum::<usize>()
    }

    fn shape(&self, last: [usize; 2]) -> Vec<usize> {
        self.batch.iter().copied().chain(last).collect()
    }

    /// The second matrix, as the micro-kernel wants its weights.
    ///
    /// # Safety
    /// As [`Work::run`].
    unsafe fn pack(&self, b: *const f32, to: *mut f32, isa: &Isa) {
        let [row, column] = [self.b.strides[self.batch.len()], self.b.strides[self.batch.len() + 1]];
        let (mut first, mut to) = (0, to);
        for panel in isa.panels(self.columns) {
            let lanes = panel.lanes.min(self.columns - first);
            // SAFETY: inside, as check() has seen.
            unsafe {
                let from = b.add(first * column);
                if column == 1 {
                    for k in 0..self.depth {
                        (0..lanes).for_each(|lane| *to.add(k * panel.lanes + lane) = self.scale * *from.add(k * row + lane));
                    }
                } else {
                    // Along what lies together.
                    for lane in 0..lanes {
                        let from = from.add(lane * column);
                        (0..self.depth).for_each(|k| *to.add(k * panel.lanes + lane) = self.scale * *from.add(k * row));
                    }
                }
                if lanes < panel.lanes {
                    (0..self.depth).for_each(|k| to.add(k * panel.lanes + lanes).write_bytes(0, panel.lanes - lanes));
                }
                to = to.add(self.depth * panel.lanes);
            }
            first += panel.lanes;
        }
    }

    /// # Safety
    /// As [`Work::run`]; `scratch` is for [`Rows`] and a bias of zeros.
    unsafe fn multiply(&self, block: &Range<usize>, a: *const f32, packed: *const f32, to: *mut f32, scratch: *mut f32, kernels: &Kernels) {
        let [a_row, to_row] = [self.a.strides[self.batch.len()], self.output.strides[self.batch.len()]];
        // SAFETY: inside, as check() has seen.
        unsafe {
            let rows = Rows::new(scratch, self.block(), 1);
            let bias = scratch.add(Rows::scratch(self.block(), 1));
            bias.write_bytes(0, LANES_MAX);
            let (mut first, mut gathered, mut packed) = (0, 0, packed);
            for panel in kernels.isa.panels(self.columns) {
                if gathered != panel.pixels {
                    for index in 0..block.len().next_multiple_of(panel.pixels) {
                        let row = (block.start + index).min(block.end - 1);
                        *rows.inputs.add(index) = a.add(row * a_row);
                        *rows.outputs.add(index) = to.add(row * to_row);
                    }
                    gathered = panel.pixels;
                }
                let channels = panel.lanes.min(self.columns - first);
                let tile = Tile::new(1, self.depth, packed, bias, first, Finish::default());
                rows.run(kernels, panel, tile, block.len(), channels);
                packed = packed.add(self.depth * panel.lanes);
                first += panel.lanes;
            }
        }
    }
}

impl Work for MatMul {
    fn check(&self, limits: &Limits, isa: &Isa) -> Result<(), Fault> {
        if self.batch.len() + 2 > RANK_MAX {
            return Err(format!("a batch of {} dimensions", self.batch.len()));
        }
        self.a.check(&self.shape([self.rows, self.depth]), limits)?;
        self.b.check(&self.shape([self.depth, self.columns]), limits)?;
        self.output.check_written(&self.shape([self.rows, self.columns]), limits)?;
        let to = self.shape([self.rows, self.columns]);
        for (operand, last) in [(&self.a, [self.rows, self.depth]), (&self.b, [self.depth, self.columns])] {
            operand.check_apart_from(&self.shape(last), &self.output, &to)?;
        }
        super::map::check_last(&self.a.strides, &[1])?;
        super::map::check_last(&self.output.strides, &[1])?;
        let lanes = self.columns.saturating_add(LANES_MAX);
        if self.depth.saturating_mul(lanes) > PACKED_MAX || self.packed(isa) > PACKED_MAX {
            return Err(format!("{} × {} values to pack; at most {PACKED_MAX}", self.depth, self.columns));
        }
        Ok(())
    }

    fn items(&self, _: &Isa) -> usize {
        self.batch.iter().product::<usize>() * self.blocks()
    }

    fn scratch(&self, isa: &Isa) -> usize {
        Rows::scratch(self.block(), 1) + LANES_MAX + self.packed(isa)
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let (batch, block) = (item / self.blocks(), item % self.blocks());
        let block = block * self.rows / self.blocks()..(block + 1) * self.rows / self.blocks();
        let strides = [&*self.a.strides, &*self.b.strides, &*self.output.strides];
        for [a, b, to] in Places::new(&self.batch, strides, batch..batch + 1) {
            // SAFETY: check() has seen that all is inside.
            unsafe {
                let packed = context.scratch.add(Rows::scratch(self.block(), 1) + LANES_MAX);
                self.pack(self.b.pointer(context).add(b), packed, context.kernels.isa);
                let (a, to) = (self.a.pointer(context).add(a), context.arena.add(self.output.offset + to));
                self.multiply(&block, a, packed, to, context.scratch, context.kernels);
            }
        }
    }
}
