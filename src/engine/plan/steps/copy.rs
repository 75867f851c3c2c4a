//! Values to where, and in which order, the next step wants them: transposition, upsampling, joining.

use serde::{Deserialize, Serialize};

use super::rows::{Places, Share};
use super::{Context, Fault, Limits, Operand, Strided, Work};
use crate::engine::plan::kernels::Isa;

/// Rows that are transposed at once: whole cache lines on both sides.
const SQUARE: usize = 16;
/// Values of an item of a transposition, about.
const ITEM_VALUES: usize = 8192;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    pub shape: Vec<usize>,
    /// Stride 0 repeats.
    pub input: Operand,
    pub output: Strided,
}

impl Copy {
    /// Whether the input is contiguous along the dimension before the last one, and not along the last: then squares are
    /// transposed, which makes use of whole cache lines.
    fn transposes(&self) -> bool {
        matches!(self.input.strides[..], [.., 1, last] if last > 1)
    }

    /// Rows of a transposition that one item takes, and into how many items they are cut.
    fn rows(&self) -> (usize, usize) {
        let [.., rows, columns] = self.shape[..] else { return (1, 1) };
        let each = (ITEM_VALUES / columns).max(1).next_multiple_of(SQUARE).min(rows);
        (each, rows.div_ceil(each))
    }

    /// # Safety
    /// As [`Work::run`].
    unsafe fn transpose(&self, item: usize, context: &Context) {
        let rank = self.shape.len();
        let (outer, [rows, columns]) = (&self.shape[..rank - 2], [self.shape[rank - 2], self.shape[rank - 1]]);
        let (each, parts) = self.rows();
        let part = item % parts * each..((item % parts + 1) * each).min(rows);
        let step = self.input.strides[rank - 1];
        let (row_step, to_step) = (self.output.strides[rank - 2], self.output.strides[rank - 1]);
        let strides = [&*self.input.strides, &*self.output.strides];
        for [x, y] in Places::new(outer, strides, item / parts..item / parts + 1) {
            // SAFETY: check() has seen that all of both is inside.
            unsafe {
                let (from, to) = (self.input.pointer(context).add(x), context.arena.add(self.output.offset + y));
                for first in part.clone().step_by(SQUARE) {
                    let square = first..(first + SQUARE).min(part.end);
                    for column in 0..columns {
                        for row in square.clone() {
                            *to.add(row * row_step + column * to_step) = *from.add(row + column * step);
                        }
                    }
                }
            }
        }
    }
}

impl Work for Copy {
    fn check(&self, limits: &Limits, _: &Isa) -> Result<(), Fault> {
        if self.shape.is_empty() {
            return Err("a copy of no dimensions".into());
        }
        self.input.check(&self.shape, limits)?;
        self.output.check_written(&self.shape, limits)?;
        self.input.check_apart(&self.shape, &self.output)
    }

    fn items(&self, _: &Isa) -> usize {
        if self.transposes() {
            return self.shape[..self.shape.len() - 2].iter().product::<usize>() * self.rows().1;
        }
        Share::of(&self.shape).items()
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        if self.transposes() {
            // SAFETY: the caller's promise.
            return unsafe { self.transpose(item, context) };
        }
        let last = self.shape.len() - 1;
        // SAFETY: check() has seen that all of both is inside.
        let (from, to) = unsafe { (self.input.pointer(context), context.arena.add(self.output.offset)) };
        let (rows, part) = Share::of(&self.shape).item(item);
        let (step, to_step) = (self.input.strides[last], self.output.strides[last]);
        for [x, y] in Places::new(&self.shape[..last], [&self.input.strides, &self.output.strides], rows) {
            // SAFETY: as above.
            unsafe {
                let (x, y) = (from.add(x + part.start * step), to.add(y + part.start * to_step));
                match (step, to_step) {
                    (1, 1) => y.copy_from_nonoverlapping(x, part.len()),
                    _ => (0..part.len()).for_each(|i| *y.add(i * to_step) = *x.add(i * step)),
                }
            }
        }
    }
}
