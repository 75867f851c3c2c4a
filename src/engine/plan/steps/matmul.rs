//! Products of matrices that are all computed, many of them at once: one, or two with a softmax between them.

use serde::{Deserialize, Serialize};

use super::gemm::{LANES_MAX, Matrix, Product, blocks};
use super::place::RANK_MAX;
use super::rows::Places;
use super::{Context, Fault, Limits, Operand, Strided, Work};
use crate::engine::plan::graph::Binary;
use crate::engine::plan::kernels::{Isa, Row};

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
    fn product(&self) -> Product {
        Product { depth: self.depth, columns: self.columns }
    }

    fn blocks(&self) -> usize {
        blocks(self.batch.iter().product(), self.rows)
    }

    /// Rows of an item, at most.
    fn block(&self) -> usize {
        self.rows.div_ceil(self.blocks())
    }

    fn shape(&self, last: [usize; 2]) -> Vec<usize> {
        self.batch.iter().copied().chain(last).collect()
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
        if self.depth.saturating_mul(lanes) > PACKED_MAX || self.product().packed(isa) > PACKED_MAX {
            return Err(format!("{} × {} values to pack; at most {PACKED_MAX}", self.depth, self.columns));
        }
        Ok(())
    }

    fn items(&self, _: &Isa) -> usize {
        self.batch.iter().product::<usize>() * self.blocks()
    }

    fn scratch(&self, isa: &Isa) -> usize {
        Product::scratch(self.block()) + self.product().packed(isa)
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let (batch, block) = (item / self.blocks(), item % self.blocks());
        let block = block * self.rows / self.blocks()..(block + 1) * self.rows / self.blocks();
        let strides = [&*self.a.strides, &*self.b.strides, &*self.output.strides];
        let [a_row, to_row] = [self.a.strides[self.batch.len()], self.output.strides[self.batch.len()]];
        for [a, b, to] in Places::new(&self.batch, strides, batch..batch + 1) {
            // SAFETY: check() has seen that all is inside.
            unsafe {
                let packed = context.scratch.add(Product::scratch(self.block()));
                let b = matrix(&self.b, b, context);
                self.product().pack(b, self.scale, packed, context.kernels.isa);
                let a = self.a.pointer(context).add(a + block.start * a_row);
                let to = context.arena.add(self.output.offset + to + block.start * to_row);
                let (a, to) = ((a, a_row), (to, to_row));
                self.product().multiply(block.len(), a, packed, to, context.scratch, context.kernels);
            }
        }
    }
}

/// The matrix of an operand at some place of the batch: its last two dimensions.
///
/// # Safety
/// It was checked for the memory of `context`.
unsafe fn matrix(operand: &Operand, at: usize, context: &Context) -> Matrix {
    let [.., row, column] = operand.strides[..] else { unreachable!("checked: two dimensions and a batch") };
    // SAFETY: inside, says the caller.
    Matrix { values: unsafe { operand.pointer(context).add(at) }, row, column }
}

/// `softmax(scale · q · k) · v`: the shares of a few rows at a time never leave the cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    pub batch: Vec<usize>,
    pub rows: usize,
    pub depth: usize,
    /// Over which the softmax is.
    pub keys: usize,
    pub columns: usize,
    pub scale: f32,
    /// Strides of the batch, of a row and of a value, which is 1.
    pub q: Operand,
    /// Strides of the batch, of a row and of a column.
    pub k: Operand,
    pub v: Operand,
    /// Strides of the batch, of a row and of a column, which is 1.
    pub output: Strided,
}

/// Rows whose shares are worked on at once: tiles of 6, 8 and 12 rows fit in, and 600 keys of them in the second cache.
const SHARED_ROWS: usize = 24;

impl Attention {
    fn scores(&self) -> Product {
        Product { depth: self.depth, columns: self.keys }
    }

    fn means(&self) -> Product {
        Product { depth: self.keys, columns: self.columns }
    }

    fn blocks(&self) -> usize {
        blocks(self.batch.iter().product(), self.rows)
    }

    /// Values from the shares of one row to those of the next: whole cache lines.
    fn share_row(&self) -> usize {
        self.keys.next_multiple_of(16)
    }

    fn shape(&self, last: [usize; 2]) -> Vec<usize> {
        self.batch.iter().copied().chain(last).collect()
    }
}

impl Work for Attention {
    fn check(&self, limits: &Limits, isa: &Isa) -> Result<(), Fault> {
        if self.batch.len() + 2 > RANK_MAX {
            return Err(format!("a batch of {} dimensions", self.batch.len()));
        }
        let to = self.shape([self.rows, self.columns]);
        self.output.check_written(&to, limits)?;
        let operands = [
            (&self.q, [self.rows, self.depth]),
            (&self.k, [self.depth, self.keys]),
            (&self.v, [self.keys, self.columns]),
        ];
        for (operand, last) in operands {
            operand.check(&self.shape(last), limits)?;
            operand.check_apart_from(&self.shape(last), &self.output, &to)?;
        }
        super::map::check_last(&self.q.strides, &[1])?;
        super::map::check_last(&self.output.strides, &[1])?;
        for product in [self.scores(), self.means()] {
            let lanes = product.columns.saturating_add(LANES_MAX);
            if product.depth.saturating_mul(lanes) > PACKED_MAX || product.packed(isa) > PACKED_MAX {
                return Err(format!("{product:?} to pack; at most {PACKED_MAX} values"));
            }
        }
        Ok(())
    }

    fn items(&self, _: &Isa) -> usize {
        self.batch.iter().product::<usize>() * self.blocks()
    }

    fn scratch(&self, isa: &Isa) -> usize {
        let packed = self.scores().packed(isa) + self.means().packed(isa);
        Product::scratch(SHARED_ROWS) + packed + SHARED_ROWS * self.share_row()
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let (batch, block) = (item / self.blocks(), item % self.blocks());
        let block = block * self.rows / self.blocks()..(block + 1) * self.rows / self.blocks();
        let (kernels, axis) = (context.kernels, self.batch.len());
        let strides = [&*self.q.strides, &*self.k.strides, &*self.v.strides, &*self.output.strides];
        for [q, k, v, to] in Places::new(&self.batch, strides, batch..batch + 1) {
            // SAFETY: check() has seen that all is inside; the scratch holds both packed matrices and the shares.
            unsafe {
                let keys = context.scratch.add(Product::scratch(SHARED_ROWS));
                let values = keys.add(self.scores().packed(kernels.isa));
                let shares = values.add(self.means().packed(kernels.isa));
                self.scores().pack(matrix(&self.k, k, context), self.scale, keys, kernels.isa);
                self.means().pack(matrix(&self.v, v, context), 1.0, values, kernels.isa);
                for first in block.clone().step_by(SHARED_ROWS) {
                    let rows = SHARED_ROWS.min(block.end - first);
                    let from = (self.q.pointer(context).add(q + first * self.q.strides[axis]), self.q.strides[axis]);
                    let to = context.arena.add(self.output.offset + to + first * self.output.strides[axis]);
                    let row = self.share_row();
                    self.scores().multiply(rows, from, keys, (shares, row), context.scratch, kernels);
                    // What makes shares of them comes last: there are fewer columns than keys.
                    let mut sums = [0.0; SHARED_ROWS];
                    for (index, sum) in sums[..rows].iter_mut().enumerate() {
                        *sum = (kernels.exponentials)(shares.add(index * row), shares.add(index * row), self.keys);
                    }
                    let step = self.output.strides[axis];
                    self.means().multiply(rows, (shares, row), values, (to, step), context.scratch, kernels);
                    for (index, sum) in sums[..rows].iter().enumerate() {
                        let (to, share) = (to.add(index * step), 1.0 / sum);
                        let row = |values: *const f32, single: bool| Row { values, single };
                        (kernels.binary)(Binary::Mul, row(to, false), row(&raw const share, true), to, self.columns);
                    }
                }
            }
        }
    }
}
