//! Many values to one: the largest, the least, the sum, the mean.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::gemm::POINTER;
use super::rows::{Places, Share};
use super::{Context, Fault, Limits, Operand, Strided, Work};
use crate::engine::plan::graph;
use crate::engine::plan::kernels::Isa;

/// Most values that become one, where they are read row by row: a whole picture of 160 × 160.
const ROWS_MAX: usize = 25_600;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reduce {
    pub reduce: graph::Reduce,
    /// The dimensions that stay. When `across`, the last one is contiguous in input and output.
    pub kept: Vec<usize>,
    /// The dimensions that go. When not `across`, the last one is contiguous in the input.
    pub gone: Vec<usize>,
    /// Strides of what stays, then of what goes.
    pub input: Operand,
    /// Strides of what stays.
    pub output: Strided,
    /// Whether whole rows are joined, value by value, and not the values of a row.
    pub across: bool,
}

impl Reduce {
    /// See [`ROWS_MAX`].
    pub const ROWS_MAX: usize = ROWS_MAX;

    fn joined(&self) -> usize {
        self.gone.iter().product()
    }

    /// What one item makes.
    fn share(&self) -> Share {
        if self.across { Share::of(&self.kept) } else { Share::of_places(&self.kept, self.joined()) }
    }
}

impl Work for Reduce {
    fn check(&self, limits: &Limits, _: &Isa) -> Result<(), Fault> {
        let all: Vec<usize> = self.kept.iter().chain(&self.gone).copied().collect();
        self.input.check(&all, limits)?;
        self.output.check_written(&self.kept, limits)?;
        self.input.check_apart_from(&all, &self.output, &self.kept)?;
        if self.kept.is_empty() || self.gone.is_empty() || (self.across && self.joined() > ROWS_MAX) {
            return Err(format!("{:?} of {:?} to be joined; at most {ROWS_MAX} rows", self.gone, self.kept));
        }
        if self.across && self.reduce == graph::Reduce::Min {
            return Err("the least across rows".into());
        }
        let last = if self.across { self.kept.len() } else { all.len() };
        super::map::check_last(&self.input.strides[..last], &[1])?;
        if self.across { super::map::check_last(&self.output.strides, &[1]) } else { Ok(()) }
    }

    fn items(&self, _: &Isa) -> usize {
        self.share().items()
    }

    fn scratch(&self, _: &Isa) -> usize {
        if self.across { self.joined() * POINTER } else { 0 }
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let (range, part) = self.share().item(item);
        let (kept_strides, gone_strides) = self.input.strides.split_at(self.kept.len());
        // SAFETY: check() has seen that all is inside.
        let (from, to) = unsafe { (self.input.pointer(context), context.arena.add(self.output.offset)) };
        let mean = 1.0 / self.joined() as f32;
        let scale = if self.reduce == graph::Reduce::Mean { mean } else { 1.0 };
        if self.across {
            let outer = &self.kept[..self.kept.len() - 1];
            let rows: *mut *const f32 = context.scratch.cast();
            for [x, y] in Places::new(outer, [kept_strides, &self.output.strides], range) {
                // SAFETY: as above; the scratch holds all rows.
                unsafe {
                    for (index, [row]) in Places::new(&self.gone, [gone_strides], 0..self.joined()).enumerate() {
                        *rows.add(index) = from.add(x + row + part.start);
                    }
                    let rows = std::slice::from_raw_parts(rows, self.joined());
                    let y = to.add(y + part.start);
                    match self.reduce {
                        graph::Reduce::Max => (context.kernels.max_rows)(rows, y, part.len()),
                        _ => (context.kernels.sum_rows)(rows, scale, y, part.len()),
                    }
                }
            }
            return;
        }
        // SAFETY: as above.
        unsafe { self.run_along(range, from, to, scale, context) }
    }
}

impl Reduce {
    /// The values of rows are joined.
    ///
    /// # Safety
    /// As [`Work::run`].
    unsafe fn run_along(&self, range: Range<usize>, from: *const f32, to: *mut f32, scale: f32, context: &Context) {
        let (&length, outer) = self.gone.split_last().expect("checked");
        let (kept_strides, gone_strides) = self.input.strides.split_at(self.kept.len());
        let places = Places::new(&self.kept, [kept_strides, &self.output.strides], range);
        let is_sum = matches!(self.reduce, graph::Reduce::Sum | graph::Reduce::Mean);
        if is_sum && outer.is_empty() && length < context.kernels.isa.lanes {
            // Fewer than a vector: a call would take longer.
            for [x, y] in places {
                // SAFETY: check() has seen that all is inside.
                unsafe { *to.add(y) = std::slice::from_raw_parts(from.add(x), length).iter().sum::<f32>() * scale };
            }
            return;
        }
        for [x, y] in places {
            let rows = Places::new(outer, [gone_strides], 0..self.joined() / length);
            // SAFETY: as above.
            unsafe {
                let rows = rows.map(|[row]| from.add(x + row));
                *to.add(y) = match self.reduce {
                    graph::Reduce::Max => {
                        rows.fold(f32::NEG_INFINITY, |all, row| all.max((context.kernels.max_row)(row, length)))
                    }
                    graph::Reduce::Min => rows.fold(f32::INFINITY, |all, row| {
                        std::slice::from_raw_parts(row, length).iter().fold(all, |all, &value| all.min(value))
                    }),
                    _ => rows.map(|row| (context.kernels.sum_row)(row, length)).sum::<f32>() * scale,
                };
            }
        }
    }
}
