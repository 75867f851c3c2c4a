//! Every channel with a filter of its own: pixels of a row, as many at once as sums fit the registers.

use super::math::finish;
use super::vector::Vector;
use crate::engine::plan::graph::{Activation, Finish, Residual};

/// Pixels of one row of results, under all of which the same taps are inside the picture.
#[derive(Clone, Copy, Debug)]
pub struct Run<'t> {
    /// For each tap: the value under the first pixel, and the weights of all channels.
    pub taps: &'t [(*const f32, *const f32)],
    /// Values from what is under one pixel to what is under the next.
    pub step: usize,
    pub bias: *const f32,
    pub output: *mut f32,
    pub output_step: usize,
    /// What is added to the first pixel, where the finish says so.
    pub residual: *const f32,
    pub residual_step: usize,
    pub finish: Finish,
    pub pixels: usize,
    pub channels: usize,
}

/// Pixels whose sums are made at once.
const BLOCK: usize = 4;

/// See [`super::Kernels::depthwise`].
#[inline(always)]
pub unsafe fn run<V: Vector>(run: &Run<'_>) {
    // A loop for each activation, as in [`super::gemm::finish`].
    // SAFETY: the caller's promise.
    unsafe {
        match run.finish.activation {
            Activation::None => run_with::<V>(run, Activation::None),
            Activation::Relu => run_with::<V>(run, Activation::Relu),
            Activation::Silu => run_with::<V>(run, Activation::Silu),
            Activation::HardSwish => run_with::<V>(run, Activation::HardSwish),
            Activation::Gelu => run_with::<V>(run, Activation::Gelu),
            Activation::Sigmoid => run_with::<V>(run, Activation::Sigmoid),
        }
        let whole = run.channels - run.channels % V::LANES;
        if whole < run.channels {
            last_channels::<V>(run, whole);
        }
    }
}

#[inline(always)]
unsafe fn run_with<V: Vector>(run: &Run<'_>, activation: Activation) {
    // SAFETY: the caller's promise.
    unsafe {
        let whole = run.channels - run.channels % V::LANES;
        let mut channel = 0;
        while channel < whole {
            let bias = V::load(run.bias.add(channel));
            let mut pixel = 0;
            while pixel + BLOCK <= run.pixels {
                let mut sums = [bias; BLOCK];
                for &(row, weights) in run.taps {
                    let (row, weight) = (row.add(pixel * run.step + channel), V::load(weights.add(channel)));
                    for (p, sum) in sums.iter_mut().enumerate() {
                        *sum = V::load(row.add(p * run.step)).mul_add(weight, *sum);
                    }
                }
                for (p, sum) in sums.into_iter().enumerate() {
                    store(run, activation, pixel + p, channel, sum);
                }
                pixel += BLOCK;
            }
            while pixel < run.pixels {
                let mut sum = bias;
                for &(row, weights) in run.taps {
                    let x = V::load(row.add(pixel * run.step + channel));
                    sum = x.mul_add(V::load(weights.add(channel)), sum);
                }
                store(run, activation, pixel, channel, sum);
                pixel += 1;
            }
            channel += V::LANES;
        }
    }
}

#[inline(always)]
unsafe fn store<V: Vector>(run: &Run<'_>, activation: Activation, pixel: usize, channel: usize, sum: V) {
    // SAFETY: the caller's promise; without a residual its pointer is not read.
    unsafe {
        let residual = run.residual.wrapping_add(pixel * run.residual_step + channel);
        finish(Finish { activation, residual: run.finish.residual }, sum, residual)
            .store(run.output.add(pixel * run.output_step + channel));
    }
}

/// The channels that do not fill a vector.
#[inline(always)]
unsafe fn last_channels<V: Vector>(run: &Run<'_>, channel: usize) {
    let left = run.channels - channel;
    for pixel in 0..run.pixels {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sum: V = V::load_first(run.bias.add(channel), left, 0.0);
            for &(row, weights) in run.taps {
                let x: V = V::load_first(row.add(pixel * run.step + channel), left, 0.0);
                sum = x.mul_add(V::load_first(weights.add(channel), left, 0.0), sum);
            }
            let plain = Finish { residual: Residual::None, ..run.finish };
            let residual = match run.finish.residual {
                Residual::None => V::splat(0.0),
                _ => V::load_first(run.residual.add(pixel * run.residual_step + channel), left, 0.0),
            };
            let done = match run.finish.residual {
                Residual::None => finish(plain, sum, run.residual),
                Residual::Before => finish(plain, sum.add(residual), run.residual),
                Residual::After => finish(plain, sum, run.residual).add(residual),
            };
            done.store_first(run.output.add(pixel * run.output_step + channel), left);
        }
    }
}
