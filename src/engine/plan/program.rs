//! A whole plan: its steps, its packed weights, and how much memory it works in.

use serde::{Deserialize, Serialize};

use super::kernels::Isa;
use super::steps::{Fault, Limits, Step};
use crate::engine::Precision;

/// Most values of an arena: 1 GiB, several times what the largest detectors need at 1280 × 1280.
const ARENA_MAX: usize = 1 << 28;
/// Most steps: the deepest transformers we know have a few thousand.
const STEPS_MAX: usize = 1 << 16;
/// Most values of scratch a thread: 16 MiB, beyond any second cache.
const SCRATCH_MAX: usize = 1 << 22;
/// Most outputs; segmentation has two.
const OUTPUTS_MAX: usize = 64;
/// Most bytes of a name, which logs repeat.
const NAME_MAX: usize = 1024;
/// Most dimensions of an input or output.
const RANK_MAX: usize = 8;

/// What a plan says beside its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Values of the arena.
    pub arena: usize,
    pub input: Tensor,
    pub outputs: Vec<Tensor>,
    pub steps: Vec<Named>,
}

/// Why a program cannot be run, and the part of it that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// A node, an input, an output, or the program.
    pub part: String,
    pub fault: Fault,
}

impl Program {
    /// Whether it can be run with so many weights and these kernels: all that it touches is there, no two items of a
    /// step meet, and nothing is larger than it may be. Nothing that runs a program asks again.
    ///
    /// # Errors
    /// The first part that is wrong.
    pub fn check(&self, weights: usize, isa: &Isa) -> Result<(), Invalid> {
        let part = |part: &str| {
            let part = part.chars().take(NAME_MAX).collect();
            |fault| Invalid { part, fault }
        };
        let limits = Limits { arena: self.arena, weights };
        self.check_sizes().map_err(part("program"))?;
        for tensor in self.outputs.iter().chain([&self.input]) {
            check_name(&tensor.name).and_then(|()| tensor.check(&limits)).map_err(part(&tensor.name))?;
        }
        for Named { node, step } in &self.steps {
            let check = || {
                let work = step.work();
                check_name(node)?;
                work.check(&limits, isa)?;
                let (items, scratch) = (work.items(isa), work.scratch(isa));
                if items == 0 || u32::try_from(items).is_err() || scratch > SCRATCH_MAX {
                    return Err(format!("{items} items with {scratch} values of scratch; at most {SCRATCH_MAX}"));
                }
                Ok(())
            };
            check().map_err(part(node))?;
        }
        Ok(())
    }

    /// The precision of a step that has no place in a plan of this precision, if there is one.
    pub fn foreign(&self, precision: Precision) -> Option<Precision> {
        let mut of_steps = self.steps.iter().map(|named| named.step.precision());
        of_steps.find(|&of_step| of_step != Precision::Fp32 && of_step != precision)
    }

    fn check_sizes(&self) -> Result<(), Fault> {
        let Self { arena, outputs, steps, .. } = self;
        if *arena > ARENA_MAX || steps.len() > STEPS_MAX || !(1..=OUTPUTS_MAX).contains(&outputs.len()) {
            return Err(format!(
                "an arena of {arena} values, {} outputs, {} steps; at most {ARENA_MAX}, 1 to {OUTPUTS_MAX}, {STEPS_MAX}",
                outputs.len(),
                steps.len()
            ));
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), Fault> {
    if name.len() > NAME_MAX { Err(format!("a name of {} bytes; at most {NAME_MAX}", name.len())) } else { Ok(()) }
}

/// A step and the node of the network it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    pub node: String,
    pub step: Step,
}

/// An input or output: dense, in C order, at an offset of the arena.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub offset: usize,
}

impl Tensor {
    pub fn volume(&self) -> usize {
        self.shape.iter().product()
    }

    fn check(&self, limits: &Limits) -> Result<(), Fault> {
        if self.shape.len() > RANK_MAX {
            return Err(format!("{} dimensions; at most {RANK_MAX}", self.shape.len()));
        }
        let volume = self.shape.iter().try_fold(1_usize, |volume, &length| volume.checked_mul(length));
        let end = volume.and_then(|volume| volume.checked_add(self.offset));
        if volume == Some(0) || end.is_none_or(|end| end > limits.arena) {
            return Err(format!("{:?} at {} in an arena of {} values", self.shape, self.offset, limits.arena));
        }
        Ok(())
    }
}
