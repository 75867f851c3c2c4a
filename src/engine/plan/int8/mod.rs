//! int8: what values of a network look like, which of its convolutions shall work on bytes, and how well that goes.
//!
//! The way of a network: [`Calibration::new`], [`Calibration::observe`] for each picture, [`quantize`], and
//! [`bake_quantized`](super::bake::bake_quantized). Only ranges end in a plan, as the scales of its steps. May not know:
//! images, model families, files.

mod calibration;
mod choice;
mod histogram;

pub use calibration::{Calibration, Method};
pub(super) use choice::outputs;
pub use choice::{Judge, Layer, Options, Outputs, Report, candidates, quantize, relative_error};

/// What of a graph is computed with bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantized {
    /// Convolutions that shall be, by their nodes.
    pub nodes: Vec<bool>,
    /// Of each value the least and the most that its bytes shall tell apart, where it was seen.
    pub ranges: Vec<Option<[f32; 2]>>,
}
