//! Which values are the best, and values by their places.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::rows::{Places, Share};
use super::{Context, Fault, Limits, Operand, Strided, Work};
use crate::engine::plan::kernels::Isa;

/// Places are f32, which is exact up to here.
const PLACES_MAX: usize = 1 << 24;

/// The places of the best values along an axis, best first; of equals the one nearest the front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Top {
    /// Dimensions beside the axis.
    pub outer: Vec<usize>,
    /// Values along the axis, and how many of them are wanted.
    pub length: usize,
    pub wanted: usize,
    pub largest: bool,
    /// Strides of the dimensions beside the axis, then of the axis.
    pub input: Operand,
    pub output: Strided,
}

impl Top {
    /// The greater, the better. Zeros of either sign are equal, and what is no number is never among the best.
    fn rank(&self, x: f32) -> f32 {
        if x.is_nan() {
            f32::NEG_INFINITY
        } else if self.largest {
            x + 0.0
        } else {
            0.0 - x
        }
    }
}

impl Work for Top {
    fn check(&self, limits: &Limits, _: &Isa) -> Result<(), Fault> {
        let shape = |last: usize| -> Vec<usize> { self.outer.iter().copied().chain([last]).collect() };
        self.input.check(&shape(self.length), limits)?;
        self.output.check_written(&shape(self.wanted), limits)?;
        self.input.check_apart_from(&shape(self.length), &self.output, &shape(self.wanted))?;
        if self.wanted > self.length || self.length > PLACES_MAX {
            return Err(format!("the best {} of {}; at most {PLACES_MAX}", self.wanted, self.length));
        }
        Ok(())
    }

    fn items(&self, _: &Isa) -> usize {
        self.outer.iter().product()
    }

    fn scratch(&self, _: &Isa) -> usize {
        self.length
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let axis = self.outer.len();
        let (step, to_step) = (self.input.strides[axis], self.output.strides[axis]);
        for [x, y] in Places::new(&self.outer, [&self.input.strides, &self.output.strides], item..item + 1) {
            // SAFETY: check() has seen that all is inside; the scratch holds one place a value.
            unsafe {
                let (from, to) = (self.input.pointer(context).add(x), context.arena.add(self.output.offset + y));
                let places: *mut u32 = context.scratch.cast();
                (0..).zip(0..self.length).for_each(|(number, place)| places.add(place).write(number));
                let places = std::slice::from_raw_parts_mut(places, self.length);
                let value = |place: u32| self.rank(*from.add(place as usize * step));
                let better = |a: &u32, b: &u32| -> Ordering { value(*b).total_cmp(&value(*a)).then(a.cmp(b)) };
                if self.wanted < self.length {
                    places.select_nth_unstable_by(self.wanted - 1, better);
                }
                let best = &mut places[..self.wanted];
                best.sort_unstable_by(better);
                best.iter().enumerate().for_each(|(index, &place)| *to.add(index * to_step) = place as f32);
            }
        }
    }
}

/// The place that a number names, of `length`: below zero, and what is no number, is the first; what is beyond, the last.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a conversion that saturates is what is meant"
)]
pub(super) fn place(number: f32, length: usize) -> usize {
    (number as usize).min(length - 1)
}

/// Every result is the value at its own coordinates, but along one axis at its place; a place outside is moved to the
/// nearest inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gather {
    pub shape: Vec<usize>,
    /// Values along the axis, and their stride.
    pub length: usize,
    pub step: usize,
    /// Strides in the result's dimensions, 0 along the axis.
    pub values: Operand,
    pub places: Operand,
    pub output: Strided,
}

impl Work for Gather {
    fn check(&self, limits: &Limits, _: &Isa) -> Result<(), Fault> {
        let longer = Operand {
            strides: self.values.strides.iter().copied().chain([self.step]).collect(),
            ..self.values.clone()
        };
        let shape: Vec<usize> = self.shape.iter().copied().chain([self.length]).collect();
        longer.check(&shape, limits)?;
        self.places.check(&self.shape, limits)?;
        self.output.check_written(&self.shape, limits)?;
        longer.check_apart_from(&shape, &self.output, &self.shape)?;
        self.places.check_apart(&self.shape, &self.output)?;
        if self.shape.is_empty() {
            return Err("no dimensions".into());
        }
        Ok(())
    }

    fn items(&self, _: &Isa) -> usize {
        Share::of(&self.shape).items()
    }

    unsafe fn run(&self, item: usize, context: &Context) {
        let (rows, part) = Share::of(&self.shape).item(item);
        let (last, outer) = (self.shape.len() - 1, &self.shape[..self.shape.len() - 1]);
        let strides = [&*self.values.strides, &*self.places.strides, &*self.output.strides];
        for [x, at, y] in Places::new(outer, strides, rows) {
            // SAFETY: check() has seen that all is inside, wherever along the axis.
            unsafe {
                let (values, places) = (self.values.pointer(context).add(x), self.places.pointer(context).add(at));
                let to = context.arena.add(self.output.offset + y);
                for index in part.clone() {
                    let place = place(*places.add(index * strides[1][last]), self.length);
                    *to.add(index * strides[2][last]) = *values.add(index * strides[0][last] + place * self.step);
                }
            }
        }
    }
}
