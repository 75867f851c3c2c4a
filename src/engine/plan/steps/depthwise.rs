//! A convolution in which every channel has its own filter.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::window::Moving;
use super::{Context, Fault, Limits, Picture, Work};
use crate::engine::plan::graph::{Finish, Window};
use crate::engine::plan::kernels::Isa;
use crate::engine::plan::kernels::depthwise::Run;

/// Where a tap reads, and its weights.
type Tap = (*const f32, *const f32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Depthwise {
    pub input: Picture,
    pub output: Picture,
    /// What the finish adds.
    pub residual: Option<Picture>,
    pub window: Window,
    pub finish: Finish,
    /// Where the weights begin: `[tap][channel]`.
    pub weights: usize,
    /// Where the bias begins, one value a channel.
    pub bias: usize,
}

impl Depthwise {
    fn moving(&self) -> Moving<'_> {
        Moving { input: &self.input, output: &self.output, window: &self.window }
    }

    /// The pixels of a row under which all columns of the window are inside.
    fn inner(&self) -> Range<usize> {
        let Window { kernel, stride, dilation, pad } = self.window;
        let reach = (kernel[1] - 1) * dilation[1];
        let first = pad[1].div_ceil(stride[1]).min(self.output.width);
        let end = (self.input.width + pad[1]).saturating_sub(reach).div_ceil(stride[1]).min(self.output.width);
        first..end.max(first)
    }

    /// Some pixels of a row, under all of which the same columns of the window are inside.
    ///
    /// # Safety
    /// As [`Work::run`].
    unsafe fn pixels(&self, y: usize, pixels: Range<usize>, context: &Context) {
        let Window { kernel, stride, dilation, pad } = self.window;
        let taps: *mut Tap = context.scratch.cast();
        let mut count = 0;
        // SAFETY: check() has seen that pictures and weights are inside; the scratch holds all taps.
        unsafe {
            let weights = context.weights.add(self.weights);
            for tap in 0..self.moving().taps() {
                let row = (y * stride[0] + tap / kernel[1] * dilation[0]).wrapping_sub(pad[0]);
                let column = (pixels.start * stride[1] + tap % kernel[1] * dilation[1]).wrapping_sub(pad[1]);
                if row < self.input.height && column < self.input.width {
                    let at = self.input.offset + row * self.input.row + column * self.input.pixel;
                    *taps.add(count) = (context.arena.add(at).cast_const(), weights.add(tap * self.input.channels));
                    count += 1;
                }
            }
            let at = |of: &Picture| context.arena.add(of.offset + y * of.row + pixels.start * of.pixel);
            (context.kernels.depthwise)(&Run {
                taps: std::slice::from_raw_parts(taps, count),
                step: stride[1] * self.input.pixel,
                bias: context.weights.add(self.bias),
                output: at(&self.output),
                output_step: self.output.pixel,
                residual: self.residual.as_ref().map_or(std::ptr::null(), |residual| at(residual).cast_const()),
                residual_step: self.residual.map_or(0, |residual| residual.pixel),
                finish: self.finish,
                pixels: pixels.len(),
                channels: self.input.channels,
            });
        }
    }
}

impl Work for Depthwise {
    fn check(&self, limits: &Limits, _: &Isa) -> Result<(), Fault> {
        self.input.check(limits)?;
        self.output.check_written(limits)?;
        self.moving().check()?;
        self.output.check_residual(self.residual.as_ref(), self.finish, limits)?;
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
        self.moving().taps() * size_of::<Tap>() / size_of::<f32>()
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let inner = self.inner();
        // SAFETY: the caller's promise; at the edges pixel by pixel.
        unsafe {
            (0..inner.start).for_each(|x| self.pixels(item, x..x + 1, context));
            if !inner.is_empty() {
                self.pixels(item, inner.clone(), context);
            }
            (inner.end..self.output.width).for_each(|x| self.pixels(item, x..x + 1, context));
        }
    }
}
