//! A convolution of halves, and what makes halves of numbers for it.

use serde::{Deserialize, Serialize};

use super::{Context, Conv, Fault, Limits, Picture, Work};
use crate::engine::plan::kernels::Isa;
use crate::engine::plan::kernels::halves::IN_NUMBER;
use crate::engine::plan::kernels::isa::FP16_NEEDS;

/// As the convolution of numbers, but that input and weights are halves: offset and strides of the input count halves,
/// and two weights take the place of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HalfConv(pub Conv);

/// Numbers to halves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Narrow {
    pub input: Picture,
    /// Its offset and strides count halves.
    pub output: Picture,
}

fn check_isa(isa: &Isa) -> Result<(), Fault> {
    if isa.fp16.is_some() { Ok(()) } else { Err(format!("{FP16_NEEDS}; this plan is for {}", isa.name)) }
}

impl Work for HalfConv {
    fn check(&self, limits: &Limits, isa: &Isa) -> Result<(), Fault> {
        check_isa(isa)?;
        self.0.check_of::<u16>(limits, isa)
    }

    fn items(&self, isa: &Isa) -> usize {
        self.0.items_of::<u16>(isa)
    }

    fn scratch(&self, _: &Isa) -> usize {
        self.0.scratch_of::<u16>()
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        // SAFETY: the caller's promise.
        unsafe { self.0.run_of::<u16>(item, context) }
    }
}

impl Work for Narrow {
    fn check(&self, limits: &Limits, isa: &Isa) -> Result<(), Fault> {
        check_isa(isa)?;
        self.input.check(limits)?;
        self.output.check_written(&limits.of_parts(IN_NUMBER))?;
        if self.input.strided().0 != self.output.strided().0 {
            return Err(format!("{:?} becomes {:?}", self.input, self.output));
        }
        self.input.in_parts(IN_NUMBER).check_apart(&self.output)
    }

    fn items(&self, _: &Isa) -> usize {
        self.input.height
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let Self { input, output } = self;
        let halves = context.kernels.halves.as_ref().expect("check() has seen that there are such");
        let (pixels, channels) = input.runs(output);
        for x in 0..pixels {
            // SAFETY: check() has seen that all of both is inside.
            unsafe {
                let from = context.arena.add(input.offset + item * input.row + x * input.pixel);
                let to = context.arena.cast::<u16>().add(output.offset + item * output.row + x * output.pixel);
                (halves.narrow)(from, to, channels);
            }
        }
    }
}
