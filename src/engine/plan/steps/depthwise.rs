//! A convolution in which every channel has its own filter.

use serde::{Deserialize, Serialize};

use super::gemm::POINTER;
use super::window::Moving;
use super::{Context, Fault, Limits, Picture, Work};
use crate::engine::plan::graph::{Activation, Window};
use crate::engine::plan::kernels::Isa;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Depthwise {
    pub input: Picture,
    pub output: Picture,
    pub window: Window,
    pub activation: Activation,
    /// Where the weights begin: `[tap][channel]`.
    pub weights: usize,
    /// Where the bias begins, one value a channel.
    pub bias: usize,
}

impl Depthwise {
    fn moving(&self) -> Moving<'_> {
        Moving { input: &self.input, output: &self.output, window: &self.window }
    }
}

impl Work for Depthwise {
    fn check(&self, limits: &Limits, _: &Isa) -> Result<(), Fault> {
        self.input.check(limits)?;
        self.output.check_written(limits)?;
        self.moving().check()?;
        let weights = self.moving().taps() * self.input.channels;
        if self.weights.saturating_add(weights) > limits.weights
            || self.bias.saturating_add(self.input.channels) > limits.weights
        {
            return Err(format!("its weights leave the {} there are", limits.weights));
        }
        Ok(())
    }

    fn items(&self, _: &Isa) -> usize {
        self.output.height
    }

    fn scratch(&self, _: &Isa) -> usize {
        self.moving().taps() * POINTER
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let rows: *mut *const f32 = context.scratch.cast();
        // SAFETY: check() has seen that pictures and weights are inside; the scratch holds all taps.
        unsafe {
            let (weights, bias) = (context.weights.add(self.weights), context.weights.add(self.bias));
            for x in 0..self.output.width {
                self.moving().gather(item, x, context.arena, rows);
                let all = std::slice::from_raw_parts(rows, self.moving().taps());
                let to = context.arena.add(self.output.offset + item * self.output.row + x * self.output.pixel);
                (context.kernels.depthwise)(all, weights, bias, self.activation, to, self.output.channels);
            }
        }
    }
}
