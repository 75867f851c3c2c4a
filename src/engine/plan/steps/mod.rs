//! What a plan does, step by step; one file a kind of step.
//!
//! A step is plain numbers: where values lie, how large things are. The baker writes them, a file holds them, the loader
//! checks them once ([`Step::check`]), and then they run without a further question. Offsets and strides count values
//! (4 bytes) of the arena or of the weights. May not know: graphs, files, threads.

mod byte_picture;
mod conv;
mod copy;
mod depthwise;
mod gemm;
mod half_conv;
mod map;
mod matmul;
mod normalize;
mod place;
mod pool;
mod quantize;
mod quantized_conv;
mod quantized_pool;
mod reduce;
mod rows;
mod sample;
mod select;
mod window;
mod winograd;

use serde::{Deserialize, Serialize};

pub use byte_picture::BytePicture;
pub use conv::Conv;
pub use copy::Copy;
pub use depthwise::Depthwise;
pub use half_conv::{HalfConv, Narrow};
pub use map::{BinaryMap, UnaryMap};
pub use matmul::{Attention, MatMul};
pub use normalize::{Expectation, LayerNorm, Softmax};
pub use place::{Operand, Picture, Strided};
pub use pool::Pool;
pub use quantize::Quantize;
pub use quantized_conv::{Added, QuantizedConv};
pub use quantized_pool::QuantizedPool;
pub use reduce::Reduce;
pub use sample::{GridSample, Resample};
pub use select::{Gather, Top};
pub use winograd::Winograd;

use super::kernels::{Isa, Kernels};
use crate::engine::Precision;

/// Why a step cannot be right.
pub type Fault = String;

/// How much there is of what a step may touch, in values.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub arena: usize,
    pub weights: usize,
}

impl Limits {
    /// The same for what counts halves, or bytes: so many take the place of a value.
    fn of_parts(&self, parts: usize) -> Self {
        let Self { arena, weights } = *self;
        Self { arena: arena.saturating_mul(parts), weights: weights.saturating_mul(parts) }
    }
}

/// What a step works in.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    pub arena: *mut f32,
    pub weights: *const f32,
    /// Of this thread alone, of as many values as the step said ([`Work::scratch`]).
    pub scratch: *mut f32,
    pub kernels: &'static Kernels,
}

/// A kind of step.
pub trait Work {
    /// Whether it stays inside the limits, and inside its own scratch.
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self, limits: &Limits, isa: &Isa) -> Result<(), Fault>;

    /// Parts that can run at the same time, at least 1.
    fn items(&self, isa: &Isa) -> usize;

    /// Values that each thread needs for itself.
    fn scratch(&self, _isa: &Isa) -> usize {
        0
    }

    /// Runs one part.
    ///
    /// # Safety
    /// [`Work::check`] found nothing wrong for the memory of `context`, `item` is below [`Work::items`], each item is run
    /// by one thread, and no other step runs meanwhile.
    unsafe fn run(&self, item: usize, context: &Context);
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Step {
    Conv(Conv),
    Depthwise(Depthwise),
    Winograd(Winograd),
    MatMul(MatMul),
    Attention(Attention),
    Pool(Pool),
    Copy(Copy),
    Unary(UnaryMap),
    Binary(BinaryMap),
    Softmax(Softmax),
    LayerNorm(LayerNorm),
    Expectation(Expectation),
    Reduce(Reduce),
    Top(Top),
    Gather(Gather),
    Resample(Resample),
    GridSample(GridSample),
    Quantize(Quantize),
    QuantizedConv(QuantizedConv),
    QuantizedPool(QuantizedPool),
    Narrow(Narrow),
    HalfConv(HalfConv),
}

impl Step {
    /// The kind of step, as what is common to all.
    pub fn work(&self) -> &(dyn Work + Sync) {
        match self {
            Self::Conv(step) => step,
            Self::Depthwise(step) => step,
            Self::Winograd(step) => step,
            Self::MatMul(step) => step,
            Self::Attention(step) => step,
            Self::Pool(step) => step,
            Self::Copy(step) => step,
            Self::Unary(step) => step,
            Self::Binary(step) => step,
            Self::Softmax(step) => step,
            Self::LayerNorm(step) => step,
            Self::Expectation(step) => step,
            Self::Reduce(step) => step,
            Self::Top(step) => step,
            Self::Gather(step) => step,
            Self::Resample(step) => step,
            Self::GridSample(step) => step,
            Self::Quantize(step) => step,
            Self::QuantizedConv(step) => step,
            Self::QuantizedPool(step) => step,
            Self::Narrow(step) => step,
            Self::HalfConv(step) => step,
        }
    }

    /// The precision of the plans in which there are such steps; those of numbers are in all.
    pub fn precision(&self) -> Precision {
        match self {
            Self::Quantize(_) | Self::QuantizedConv(_) | Self::QuantizedPool(_) => Precision::Int8,
            Self::Narrow(_) | Self::HalfConv(_) => Precision::Fp16,
            _ => Precision::Fp32,
        }
    }
}
