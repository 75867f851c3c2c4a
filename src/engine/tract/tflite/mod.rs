//! TensorFlow Lite files as networks of tract's operators.
//!
//! tract's own front end for them (0.23.9) knows neither `QUANTIZE` nor `DEQUANTIZE`, without which a file with weights of
//! 16 or 8 bits is not read, and takes each of its values on trust. So only its reader of the format is used; the network is
//! wired here, and computed in numbers of 32 bits: integers that stand for real numbers are read as these, and rounded to
//! what their tensor can hold after each step ([`steps`]).

mod detections;
mod file;
mod operators;
mod options;
mod steps;

use tract_onnx::prelude::*;

use super::Plan;
use crate::engine::{DeclaredInput, InputShape};
use file::File;

/// What is known of a file before it is built.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    /// In the order of this program.
    pub declared: DeclaredInput,
    /// Of its constants in numbers of 32 bits.
    pub bytes: u64,
}

/// Reads and checks a file.
///
/// # Errors
/// What is wrong with it, in words.
pub fn admit(bytes: &[u8]) -> Result<Admitted, String> {
    let file = File::read(bytes)?;
    Ok(Admitted { declared: file.declared()?, bytes: file.constant_bytes() })
}

/// Wires, declutters and optimises the network; it takes N C H W whatever the file takes.
///
/// # Errors
/// What is wrong with the file or not known here, in words.
pub fn build(bytes: &[u8], shape: InputShape) -> Result<Plan, String> {
    let file = File::read(bytes)?;
    let model = operators::wire(&file, shape)?;
    let optimize = || TypedSimplePlan::new(model.into_decluttered()?.into_optimized()?);
    optimize().map_err(|error| super::one_line(&format!("{error:#}")))
}
