//! What lies under a window, pixel by pixel.

use super::{Fault, Picture};
use crate::engine::plan::graph::Window;

/// Most values of a window: a whole picture of 160 × 160.
const TAPS_MAX: usize = 25_600;

/// A window that moves over a picture and makes another of as many channels.
#[derive(Clone, Copy, Debug)]
pub struct Moving<'s> {
    pub input: &'s Picture,
    pub output: &'s Picture,
    pub window: &'s Window,
}

impl Moving<'_> {
    pub fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    pub fn check(&self) -> Result<(), Fault> {
        self.window.check()?;
        self.input.check_apart(self.output)?;
        if self.input.channels != self.output.channels || self.taps() > TAPS_MAX {
            return Err(format!("{self:?}: other channels, or more than {TAPS_MAX} values in a window"));
        }
        Ok(())
    }

    /// Pointers to the pixels under the window that makes pixel (`y`, `x`), only those inside the picture; how many.
    ///
    /// # Safety
    /// The input is inside the arena, of which its offset and strides count parts like `T`; `rows` has room for all taps.
    pub unsafe fn inside<T>(&self, y: usize, x: usize, arena: *const T, rows: *mut *const T) -> usize {
        let Window { kernel, stride, dilation, pad } = *self.window;
        let mut count = 0;
        for ky in 0..kernel[0] {
            let row = (y * stride[0] + ky * dilation[0]).wrapping_sub(pad[0]);
            for kx in 0..kernel[1] {
                let column = (x * stride[1] + kx * dilation[1]).wrapping_sub(pad[1]);
                if row < self.input.height && column < self.input.width {
                    // SAFETY: as the caller says.
                    unsafe {
                        *rows.add(count) =
                            arena.add(self.input.offset + row * self.input.row + column * self.input.pixel)
                    };
                    count += 1;
                }
            }
        }
        count
    }

    /// Pointers to the pixels under the window that makes pixel (`y`, `x`), tap by tap; null outside the picture.
    ///
    /// # Safety
    /// The input is inside the arena; `rows` has room for all taps.
    pub unsafe fn gather(&self, y: usize, x: usize, arena: *const f32, rows: *mut *const f32) {
        let Window { kernel, stride, dilation, pad } = *self.window;
        let mut tap = 0;
        for ky in 0..kernel[0] {
            let row = (y * stride[0] + ky * dilation[0]).wrapping_sub(pad[0]);
            for kx in 0..kernel[1] {
                let column = (x * stride[1] + kx * dilation[1]).wrapping_sub(pad[1]);
                let inside = row < self.input.height && column < self.input.width;
                // SAFETY: as the caller says.
                unsafe {
                    *rows.add(tap) = if inside {
                        arena.add(self.input.offset + row * self.input.row + column * self.input.pixel)
                    } else {
                        std::ptr::null()
                    };
                }
                tap += 1;
            }
        }
    }
}
