//! Rows brought to a common measure: shares of their sum, or mean and variance.

use serde::{Deserialize, Serialize};

use super::map::check_last;
use super::rows::{Places, Share};
use super::{Context, Fault, Limits, Operand, Strided, Work};
use crate::engine::plan::kernels::Isa;

/// Softmax along the last dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {
    pub shape: Vec<usize>,
    pub input: Operand,
    pub output: Strided,
}

/// Layer normalisation along the last dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    pub shape: Vec<usize>,
    pub input: Operand,
    pub output: Strided,
    pub epsilon: f32,
    /// Where scale and bias begin among the weights, one value for each of a row.
    pub scale: usize,
    pub bias: usize,
}

/// The mean of some weights under a softmax along the last dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// Of the output.
    pub shape: Vec<usize>,
    /// Values of a row.
    pub length: usize,
    /// Strides of the shape, then of a row, which is contiguous.
    pub input: Operand,
    pub output: Strided,
    /// Where the weights begin, one value for each of a row.
    pub weights: usize,
}

/// Whole rows of an item, as pointers.
///
/// # Safety
/// The shape was checked for both.
unsafe fn rows(
    shape: &[usize],
    input: &Operand,
    output: &Strided,
    item: usize,
    context: &Context,
    mut each: impl FnMut(*const f32, *mut f32, usize),
) {
    let outer = &shape[..shape.len() - 1];
    let range = whole(shape).item(item).0;
    for [x, to] in Places::new(outer, [&input.strides, &output.strides], range) {
        // SAFETY: all of both is inside, says the caller.
        unsafe { each(input.pointer(context).add(x), context.arena.add(output.offset + to), shape[outer.len()]) }
    }
}

/// Rows are never cut.
fn whole(shape: &[usize]) -> Share {
    Share::of_whole_rows(shape)
}

fn check(shape: &[usize], input: &Operand, output: &Strided, limits: &Limits) -> Result<(), Fault> {
    input.check(shape, limits)?;
    output.check_written(shape, limits)?;
    input.check_apart_or_same(shape, output)?;
    check_last(&input.strides, &[1])?;
    check_last(&output.strides, &[1])
}

impl Work for Softmax {
    fn check(&self, limits: &Limits, _: &Isa) -> Result<(), Fault> {
        check(&self.shape, &self.input, &self.output, limits)
    }

    fn items(&self, _: &Isa) -> usize {
        whole(&self.shape).items()
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        // SAFETY: check() has seen both.
        unsafe {
            rows(&self.shape, &self.input, &self.output, item, context, |x, to, count| {
                (context.kernels.softmax)(x, to, count);
            });
        }
    }
}

impl Work for LayerNorm {
    fn check(&self, limits: &Limits, _: &Isa) -> Result<(), Fault> {
        check(&self.shape, &self.input, &self.output, limits)?;
        let count = self.shape.last().copied().unwrap_or(0);
        if self.scale.max(self.bias).saturating_add(count) > limits.weights {
            return Err(format!("scale and bias of {count} leave the {} weights there are", limits.weights));
        }
        Ok(())
    }

    fn items(&self, _: &Isa) -> usize {
        whole(&self.shape).items()
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        // SAFETY: check() has seen both, and that scale and bias are inside.
        unsafe {
            let (scale, bias) = (context.weights.add(self.scale), context.weights.add(self.bias));
            rows(&self.shape, &self.input, &self.output, item, context, |x, to, count| {
                (context.kernels.layer_norm)(x, scale, bias, self.epsilon, to, count);
            });
        }
    }
}

impl Work for Expectation {
    fn check(&self, limits: &Limits, _: &Isa) -> Result<(), Fault> {
        let all: Vec<usize> = self.shape.iter().copied().chain([self.length]).collect();
        self.input.check(&all, limits)?;
        self.output.check_written(&self.shape, limits)?;
        self.input.check_apart_from(&all, &self.output, &self.shape)?;
        check_last(&self.input.strides, &[1])?;
        if self.shape.is_empty() || self.weights.saturating_add(self.length) > limits.weights {
            return Err(format!("weights of {} leave the {} there are", self.length, limits.weights));
        }
        Ok(())
    }

    fn items(&self, _: &Isa) -> usize {
        Share::costing(&self.shape, self.length).items()
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let (rows, part) = Share::costing(&self.shape, self.length).item(item);
        let last = self.shape.len() - 1;
        let (step, to_step) = (self.input.strides[last], self.output.strides[last]);
        for [x, to] in Places::new(&self.shape[..last], [&self.input.strides, &self.output.strides], rows) {
            // SAFETY: check() has seen that all is inside.
            unsafe {
                let x = self.input.pointer(context).add(x + part.start * step);
                let to = context.arena.add(self.output.offset + to + part.start * to_step);
                let weights = context.weights.add(self.weights);
                (context.kernels.expectation)(x, step, weights, self.length, to, to_step, part.len());
            }
        }
    }
}
