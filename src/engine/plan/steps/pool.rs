//! The largest or the mean value of a window.

use serde::{Deserialize, Serialize};

use super::{Context, Fault, Limits, Picture, Work};
use crate::engine::plan::graph::Window;
use crate::engine::plan::kernels::Kernels;

/// Most values of a window: a whole picture of 160 × 160.
const TAPS_MAX: usize = 25_600;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    pub input: Picture,
    pub output: Picture,
    pub window: Window,
    /// The mean instead of the largest.
    pub mean: Option<Mean>,
}

/// What a mean is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mean {
    /// The values of the window, those outside the picture too.
    Window,
    /// The values inside the picture.
    Inside,
}

impl Pool {
    fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }
}

impl Work for Pool {
    fn check(&self, limits: &Limits, _: &Kernels) -> Result<(), Fault> {
        self.input.check(limits)?;
        self.output.check_written(limits)?;
        self.input.check_apart(&self.output)?;
        self.window.check()?;
        if self.input.channels != self.output.channels || self.taps() > TAPS_MAX {
            return Err(format!("{self:?}: other channels, or more than {TAPS_MAX} values in a window"));
        }
        // Each window must hold something, or its largest value would be none.
        for axis in 0..2 {
            let (input, output) = ([self.input.height, self.input.width][axis], [self.output.height, self.output.width][axis]);
            let Window { kernel, stride, dilation, pad } = self.window;
            // Of those that begin before the picture, the first row or column inside.
            let before = (0..output.min(pad[axis].div_ceil(stride[axis]))).all(|at| {
                let missing = pad[axis] - at * stride[axis];
                let tap = missing.div_ceil(dilation[axis]);
                tap < kernel[axis] && tap * dilation[axis] - missing < input
            });
            if !before || (output - 1) * stride[axis] >= input + pad[axis] {
                return Err(format!("{self:?}: a window lies outside the picture"));
            }
        }
        Ok(())
    }

    fn items(&self, _: &Kernels) -> usize {
        self.output.height
    }

    fn scratch(&self, _: &Kernels) -> usize {
        self.taps() * 2
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let Window { kernel, stride, dilation, pad } = self.window;
        let rows: *mut *const f32 = context.scratch.cast();
        for x in 0..self.output.width {
            let mut count = 0;
            for ky in 0..kernel[0] {
                let row = (item * stride[0] + ky * dilation[0]).wrapping_sub(pad[0]);
                for kx in 0..kernel[1] {
                    let column = (x * stride[1] + kx * dilation[1]).wrapping_sub(pad[1]);
                    if row < self.input.height && column < self.input.width {
                        let at = self.input.offset + row * self.input.row + column * self.input.pixel;
                        // SAFETY: check() has seen that the picture is inside; the scratch holds all taps.
                        unsafe { *rows.add(count) = context.arena.add(at) };
                        count += 1;
                    }
                }
            }
            // SAFETY: `count` pointers were written, each to a pixel.
            unsafe {
                let rows = std::slice::from_raw_parts(rows, count);
                let to = context.arena.add(self.output.offset + item * self.output.row + x * self.output.pixel);
                match self.mean {
                    None => (context.kernels.max_rows)(rows, to, self.output.channels),
                    Some(mean) => {
                        let divisor = if mean == Mean::Window { self.taps() } else { count };
                        (context.kernels.sum_rows)(rows, 1.0 / divisor as f32, to, self.output.channels);
                    }
                }
            }
        }
    }
}
