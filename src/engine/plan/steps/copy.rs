//! Values to where, and in which order, the next step wants them: transposition, upsampling, joining.

use serde::{Deserialize, Serialize};

use super::rows::{Places, Share};
use super::{Context, Fault, Limits, Operand, Strided, Work};
use crate::engine::plan::kernels::Kernels;

/// Side of the square that is transposed at once: 16 rows of 16 values are whole cache lines on both sides.
const SQUARE: usize = 16;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    pub shape: Vec<usize>,
    /// Stride 0 repeats.
    pub input: Operand,
    pub output: Strided,
}

impl Copy {
    /// The dimension along which the input is contiguous, if that is not the last one.
    fn across(&self) -> Option<usize> {
        let (last, outer) = self.input.strides.split_last()?;
        if *last == 1 {
            return None;
        }
        outer.iter().position(|&stride| stride == 1)
    }

    /// Of a transposition: the dimensions beside the two that change places, and how often the squares fit.
    fn squares(&self, across: usize) -> (Vec<usize>, usize) {
        let outer = (0..self.shape.len() - 1).filter(|&axis| axis != across).collect();
        (outer, self.shape[across].div_ceil(SQUARE))
    }
}

impl Work for Copy {
    fn check(&self, limits: &Limits, _: &Kernels) -> Result<(), Fault> {
        if self.shape.is_empty() {
            return Err("a copy of no dimensions".into());
        }
        self.input.check(&self.shape, limits)?;
        self.output.check_written(&self.shape, limits)?;
        self.input.check_apart(&self.shape, &self.output)
    }

    fn items(&self, _: &Kernels) -> usize {
        match self.across() {
            Some(across) => {
                let (outer, squares) = self.squares(across);
                outer.iter().map(|&axis| self.shape[axis]).product::<usize>() * squares
            }
            None => Share::of(&self.shape).items(),
        }
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let last = self.shape.len() - 1;
        // SAFETY: check() has seen that all of both is inside.
        let (from, to) = unsafe { (self.input.pointer(context), context.arena.add(self.output.offset)) };
        if let Some(across) = self.across() {
            let (outer, squares) = self.squares(across);
            let pick = |values: &[usize]| outer.iter().map(|&axis| values[axis]).collect::<Vec<_>>();
            let place = item / squares;
            let (shape, x, y) = (pick(&self.shape), pick(&self.input.strides), pick(&self.output.strides));
            let first = item % squares * SQUARE;
            let rows = first..(first + SQUARE).min(self.shape[across]);
            for [x, y] in Places::new(&shape, [&x, &y], place..place + 1) {
                for column in (0..self.shape[last]).step_by(SQUARE) {
                    for i in column..(column + SQUARE).min(self.shape[last]) {
                        for j in rows.clone() {
                            // SAFETY: as above.
                            unsafe {
                                let value = *from.add(x + i * self.input.strides[last] + j);
                                *to.add(y + i * self.output.strides[last] + j * self.output.strides[across]) = value;
                            }
                        }
                    }
                }
            }
            return;
        }
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
