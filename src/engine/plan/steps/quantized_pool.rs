//! The largest byte of a window: bytes are in the order of the values they stand for.

use serde::{Deserialize, Serialize};

use super::byte_picture::{BYTES, check_scale};
use super::gemm::POINTER;
use super::window::Moving;
use super::{Context, Fault, Limits, Picture, Work};
use crate::engine::plan::graph::Window;
use crate::engine::plan::kernels::Isa;
use crate::engine::plan::kernels::bytes::Scale;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizedPool {
    /// Their offsets and strides count bytes, which mean the same in both.
    pub input: Picture,
    pub output: Picture,
    pub window: Window,
}

impl QuantizedPool {
    fn moving(&self) -> Moving<'_> {
        Moving { input: &self.input, output: &self.output, window: &self.window }
    }
}

impl Work for QuantizedPool {
    fn check(&self, limits: &Limits, isa: &Isa) -> Result<(), Fault> {
        check_scale(Scale { step: 1.0, zero: 0 }, isa)?;
        self.input.check(&limits.of_parts(BYTES))?;
        self.output.check_written(&limits.of_parts(BYTES))?;
        self.moving().check()
    }

    fn items(&self, _: &Isa) -> usize {
        self.output.height
    }

    fn scratch(&self, _: &Isa) -> usize {
        self.moving().taps() * POINTER
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let kernels = context.kernels;
        let (Some(bytes), Some(int8)) = (&kernels.bytes, kernels.isa.int8) else {
            unreachable!("check() asked for them")
        };
        let rows: *mut *const u8 = context.scratch.cast();
        let arena = context.arena.cast::<u8>();
        for x in 0..self.output.width {
            // SAFETY: check() has seen that both pictures are inside; the scratch holds all taps.
            unsafe {
                let inside = self.moving().inside(item, x, arena, rows);
                let to = arena.add(self.output.offset + item * self.output.row + x * self.output.pixel);
                if inside > 0 {
                    (bytes.max_rows)(std::slice::from_raw_parts(rows, inside), to, self.output.channels);
                } else {
                    to.write_bytes(int8.low.to_le_bytes()[0], self.output.channels);
                }
            }
        }
    }
}
