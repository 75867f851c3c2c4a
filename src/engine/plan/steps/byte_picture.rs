//! Where a step finds and leaves bytes.

use serde::{Deserialize, Serialize};

use super::{Fault, Limits, Picture};
use crate::engine::plan::kernels::Isa;
use crate::engine::plan::kernels::bytes::Scale;
use crate::engine::plan::kernels::isa::INT8_NEEDS;

/// Bytes of a value.
pub const BYTES: usize = size_of::<f32>();

/// A picture of bytes, and what they mean. Its offset and strides count bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BytePicture {
    pub at: Picture,
    pub scale: Scale,
}

impl BytePicture {
    pub fn check(&self, limits: &Limits, isa: &Isa) -> Result<(), Fault> {
        check_scale(self.scale, isa)?;
        self.at.check(&limits.of_parts(BYTES))
    }

    /// As [`BytePicture::check`], for one that is written.
    pub fn check_written(&self, limits: &Limits, isa: &Isa) -> Result<(), Fault> {
        check_scale(self.scale, isa)?;
        self.at.check_written(&limits.of_parts(BYTES))
    }
}

/// A picture of numbers, checked, as one of bytes.
pub fn of_bytes(picture: &Picture) -> Picture {
    picture.in_parts(BYTES)
}

/// Whether bytes can mean that.
pub fn check_scale(scale: Scale, isa: &Isa) -> Result<(), Fault> {
    let Some(int8) = isa.int8 else {
        return Err(format!("{INT8_NEEDS}; this plan is for {}", isa.name));
    };
    if !scale.step.is_normal() || scale.step < 0.0 || !(int8.low..int8.low + 256).contains(&scale.zero) {
        return Err(format!("{scale:?}, where bytes begin at {}", int8.low));
    }
    Ok(())
}
