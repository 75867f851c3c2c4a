//! Numbers to bytes.

use serde::{Deserialize, Serialize};

use super::byte_picture::of_bytes;
use super::{BytePicture, Context, Fault, Limits, Picture, Work};
use crate::engine::plan::kernels::Isa;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantize {
    pub input: Picture,
    pub output: BytePicture,
}

impl Work for Quantize {
    fn check(&self, limits: &Limits, isa: &Isa) -> Result<(), Fault> {
        self.input.check(limits)?;
        self.output.check_written(limits, isa)?;
        if self.input.strided().0 != self.output.at.strided().0 {
            return Err(format!("{:?} becomes {:?}", self.input, self.output));
        }
        of_bytes(&self.input).check_apart(&self.output.at)
    }

    fn items(&self, _: &Isa) -> usize {
        self.input.height
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let Self { input, output: BytePicture { at, scale } } = self;
        let bytes = context.kernels.bytes.as_ref().expect("check() has seen that there are such");
        let (pixels, channels) = input.runs(at);
        for x in 0..pixels {
            // SAFETY: check() has seen that all of both is inside.
            unsafe {
                let from = context.arena.add(input.offset + item * input.row + x * input.pixel);
                let to = context.arena.cast::<u8>().add(at.offset + item * at.row + x * at.pixel);
                (bytes.quantize)(from, *scale, to, channels);
            }
        }
    }
}
