//! Where a step finds and leaves values.

use serde::{Deserialize, Serialize};

use super::{Context, Fault, Limits};

/// A picture whose channels lie one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Picture {
    /// Of the first value, in the arena.
    pub offset: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// From one row to the next.
    pub row: usize,
    /// From one pixel to the next.
    pub pixel: usize,
}

impl Picture {
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// The same values, as dimensions and strides.
    pub fn strided(&self) -> ([usize; 3], [usize; 3]) {
        ([self.height, self.width, self.channels], [self.row, self.pixel, 1])
    }

    pub fn check(&self, limits: &Limits) -> Result<(), Fault> {
        let (shape, strides) = self.strided();
        within(self.offset, &shape, &strides, limits.arena)
    }

    /// As [`Picture::check`], for one that is written.
    pub fn check_written(&self, limits: &Limits) -> Result<(), Fault> {
        let (shape, strides) = self.strided();
        within(self.offset, &shape, &strides, limits.arena)?;
        injective(&shape, &strides)
    }
}

/// Strided values of the arena.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strided {
    pub offset: usize,
    pub strides: Vec<usize>,
}

impl Strided {
    pub fn check_written(&self, shape: &[usize], limits: &Limits) -> Result<(), Fault> {
        within(self.offset, shape, &self.strides, limits.arena)?;
        injective(shape, &self.strides)
    }
}

/// Strided values that are only read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operand {
    /// Whether they are among the weights, not in the arena.
    pub constant: bool,
    pub offset: usize,
    pub strides: Vec<usize>,
}

impl Operand {
    pub fn check(&self, shape: &[usize], limits: &Limits) -> Result<(), Fault> {
        within(self.offset, shape, &self.strides, if self.constant { limits.weights } else { limits.arena })
    }

    /// # Safety
    /// [`Operand::check`] found nothing wrong for the memory of `context`.
    pub unsafe fn pointer(&self, context: &Context) -> *const f32 {
        let base = if self.constant { context.weights } else { context.arena.cast_const() };
        // SAFETY: the offset is inside, says the caller.
        unsafe { base.add(self.offset) }
    }
}

/// Most dimensions of strided values; what is adjacent has been merged.
pub const RANK_MAX: usize = 6;

/// Whether all values lie below `limit`.
fn within(offset: usize, shape: &[usize], strides: &[usize], limit: usize) -> Result<(), Fault> {
    if shape.len() != strides.len() || shape.len() > RANK_MAX {
        return Err(format!("{} dimensions with {} strides; at most {RANK_MAX}", shape.len(), strides.len()));
    }
    if shape.contains(&0) {
        return Err(format!("no values in {shape:?}"));
    }
    let last = shape.iter().zip(strides).try_fold(offset, |last, (&length, &stride)| {
        last.checked_add((length - 1).checked_mul(stride)?)
    });
    match last {
        Some(last) if last < limit => Ok(()),
        _ => Err(format!("{shape:?} by {strides:?} from {offset} on leave the {limit} values there are")),
    }
}

/// Whether no two of them lie at the same place, so that threads can write them at once.
fn injective(shape: &[usize], strides: &[usize]) -> Result<(), Fault> {
    let mut axes: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] > 1).collect();
    axes.sort_by_key(|&axis| strides[axis]);
    let mut reach = 1;
    for axis in axes {
        if strides[axis] < reach {
            return Err(format!("{shape:?} by {strides:?} are written twice"));
        }
        reach = (shape[axis] - 1).saturating_mul(strides[axis]).saturating_add(reach);
    }
    Ok(())
}
