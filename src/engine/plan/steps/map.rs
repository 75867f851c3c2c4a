//! Element by element, of one operand or of two.

use serde::{Deserialize, Serialize};

use super::rows::{Places, Share};
use super::{Context, Fault, Limits, Operand, Strided, Work};
use crate::engine::plan::graph::{Binary, Unary};
use crate::engine::plan::kernels::{Isa, Row};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnaryMap {
    pub op: Unary,
    pub shape: Vec<usize>,
    /// Its last dimension is contiguous, as the output's is.
    pub input: Operand,
    pub output: Strided,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BinaryMap {
    pub op: Binary,
    pub shape: Vec<usize>,
    /// Stride 0 where one value serves a whole dimension; 0 or 1 in the last.
    pub inputs: [Operand; 2],
    /// Its last dimension is contiguous.
    pub output: Strided,
}

/// Rows of fewer values take longer to hand over than to work on: the corners of a box are two.
const SHORT: usize = 4;

/// # Safety
/// As for [`crate::engine::plan::kernels::Kernels::binary`].
#[inline(always)]
unsafe fn short_row(op: Binary, a: Row, b: Row, to: *mut f32, count: usize) {
    for at in 0..count {
        // SAFETY: the caller's promise.
        unsafe {
            let [a, b] = [a, b].map(|row| *row.values.add(if row.single { 0 } else { at }));
            *to.add(at) = match op {
                Binary::Add => a + b,
                Binary::Sub => a - b,
                Binary::Mul => a * b,
                Binary::Div => a / b,
                Binary::Max => a.max(b),
                Binary::Min => a.min(b),
                Binary::Pow => a.powf(b),
            };
        }
    }
}

/// Whether the last stride is one of these.
pub(super) fn check_last(strides: &[usize], allowed: &[usize]) -> Result<(), Fault> {
    match strides.last() {
        Some(last) if allowed.contains(last) => Ok(()),
        found => Err(format!("the last stride is {found:?}; a row needs one of {allowed:?}")),
    }
}

impl Work for UnaryMap {
    fn check(&self, limits: &Limits, _: &Isa) -> Result<(), Fault> {
        self.input.check(&self.shape, limits)?;
        self.output.check_written(&self.shape, limits)?;
        self.input.check_apart_or_same(&self.shape, &self.output)?;
        check_last(&self.input.strides, &[1])?;
        check_last(&self.output.strides, &[1])
    }

    fn items(&self, _: &Isa) -> usize {
        Share::of(&self.shape).items()
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let (rows, part) = Share::of(&self.shape).item(item);
        let outer = &self.shape[..self.shape.len() - 1];
        for [x, to] in Places::new(outer, [&self.input.strides, &self.output.strides], rows) {
            // SAFETY: check() has seen that all of both is inside.
            unsafe {
                let x = self.input.pointer(context).add(x + part.start);
                let to = context.arena.add(self.output.offset + to + part.start);
                (context.kernels.unary)(self.op, x, to, part.len());
            }
        }
    }
}

impl Work for BinaryMap {
    fn check(&self, limits: &Limits, _: &Isa) -> Result<(), Fault> {
        for input in &self.inputs {
            input.check(&self.shape, limits)?;
            check_last(&input.strides, &[0, 1])?;
        }
        self.output.check_written(&self.shape, limits)?;
        self.inputs.iter().try_for_each(|input| input.check_apart_or_same(&self.shape, &self.output))?;
        check_last(&self.output.strides, &[1])
    }

    fn items(&self, _: &Isa) -> usize {
        Share::of(&self.shape).items()
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let (rows, part) = Share::of(&self.shape).item(item);
        let outer = &self.shape[..self.shape.len() - 1];
        let [a, b] = &self.inputs;
        for [at_a, at_b, to] in Places::new(outer, [&a.strides, &b.strides, &self.output.strides], rows) {
            // SAFETY: check() has seen that all of the three is inside.
            unsafe {
                let row = |operand: &Operand, at: usize| {
                    let single = operand.strides[outer.len()] == 0;
                    let values = operand.pointer(context).add(at + if single { 0 } else { part.start });
                    Row { values, single }
                };
                let to = context.arena.add(self.output.offset + to + part.start);
                let (a, b) = (row(a, at_a), row(b, at_b));
                if part.len() < SHORT {
                    short_row(self.op, a, b, to, part.len());
                } else {
                    (context.kernels.binary)(self.op, a, b, to, part.len());
                }
            }
        }
    }
}
