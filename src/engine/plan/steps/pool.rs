//! The largest value of a window.

use serde::{Deserialize, Serialize};

use super::gemm::POINTER;
use super::window::Moving;
use super::{Context, Fault, Limits, Picture, Work};
use crate::engine::plan::graph::Window;
use crate::engine::plan::kernels::Isa;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    pub input: Picture,
    pub output: Picture,
    pub window: Window,
}

impl Pool {
    fn moving(&self) -> Moving<'_> {
        Moving { input: &self.input, output: &self.output, window: &self.window }
    }
}

impl Work for Pool {
    fn check(&self, limits: &Limits, _: &Isa) -> Result<(), Fault> {
        self.input.check(limits)?;
        self.output.check_written(limits)?;
        self.moving().check()
    }

    fn items(&self, _: &Isa) -> usize {
        self.output.height
    }

    fn scratch(&self, _: &Isa) -> usize {
        self.moving().taps() * POINTER
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let rows: *mut *const f32 = context.scratch.cast();
        for x in 0..self.output.width {
            // SAFETY: check() has seen that both pictures are inside; the scratch holds all taps.
            unsafe {
                self.moving().gather(item, x, context.arena, rows);
                let all = std::slice::from_raw_parts_mut(rows, self.moving().taps());
                // Those inside to the front; what is outside is smaller than anything.
                let mut inside = 0;
                for tap in 0..all.len() {
                    if !all[tap].is_null() {
                        all[inside] = all[tap];
                        inside += 1;
                    }
                }
                let to = context.arena.add(self.output.offset + item * self.output.row + x * self.output.pixel);
                if inside > 0 {
                    (context.kernels.max_rows)(&all[..inside], to, self.output.channels);
                } else {
                    (0..self.output.channels).for_each(|channel| *to.add(channel) = f32::NEG_INFINITY);
                }
            }
        }
    }
}
