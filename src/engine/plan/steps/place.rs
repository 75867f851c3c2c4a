//! Where a step finds and leaves values.

use serde::{Deserialize, Serialize};

use super::{Context, Fault, Limits};
use crate::engine::plan::graph::{Finish, Residual};

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

    /// One of numbers, checked, as its halves or bytes: so many take the place of a value.
    pub fn in_parts(&self, parts: usize) -> Self {
        let Self { offset, height, width, channels, row, pixel } = *self;
        let [offset, channels, row, pixel] = [offset, channels, row, pixel].map(|values| values * parts);
        Self { offset, height, width, channels, row, pixel }
    }

    /// In how many runs, and of what length, a row is gone through beside that of a picture of the same shape: pixels that
    /// lie one after the other in both are one.
    pub fn runs(&self, other: &Self) -> (usize, usize) {
        let dense = self.pixel == self.channels && other.pixel == other.channels;
        if dense { (1, self.width * self.channels) } else { (self.width, self.channels) }
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

    /// Whether nothing of it is written meanwhile.
    pub fn check_apart(&self, written: &Self) -> Result<(), Fault> {
        let ((shape, strides), (to, by)) = (self.strided(), written.strided());
        View { offset: self.offset, shape: &shape, strides: &strides }.check_apart(View {
            offset: written.offset,
            shape: &to,
            strides: &by,
        })
    }

    /// As [`Picture::check_apart`], or it is the very place that is written, value by value.
    pub fn check_apart_or_same(&self, written: &Self) -> Result<(), Fault> {
        let ((shape, strides), (to, by)) = (self.strided(), written.strided());
        let from = View { offset: self.offset, shape: &shape, strides: &strides };
        let to = View { offset: written.offset, shape: &to, strides: &by };
        if from.is(to) { Ok(()) } else { from.check_apart(to) }
    }
}

impl Picture {
    /// Whether what a finish adds to this picture is there, and of its shape. It may lie where the result goes: each value
    /// is read just before it is written.
    pub fn check_residual(&self, residual: Option<&Self>, finish: Finish, limits: &Limits) -> Result<(), Fault> {
        if residual.is_some() != (finish.residual != Residual::None) {
            return Err(format!("{finish:?} with {residual:?}"));
        }
        let Some(residual) = residual else { return Ok(()) };
        residual.check(limits)?;
        residual.check_apart_or_same(self)?;
        if residual.strided().0 != self.strided().0 {
            return Err(format!("{residual:?} is added to {self:?}"));
        }
        Ok(())
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

    pub fn view<'v>(&'v self, shape: &'v [usize]) -> View<'v> {
        View { offset: self.offset, shape, strides: &self.strides }
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

    pub fn view<'v>(&'v self, shape: &'v [usize]) -> View<'v> {
        View { offset: self.offset, shape, strides: &self.strides }
    }

    /// Whether nothing of it is written meanwhile.
    pub fn check_apart(&self, shape: &[usize], written: &Strided) -> Result<(), Fault> {
        self.check_apart_from(shape, written, shape)
    }

    /// As [`Operand::check_apart`], where what is written has a shape of its own.
    pub fn check_apart_from(&self, shape: &[usize], written: &Strided, to: &[usize]) -> Result<(), Fault> {
        if self.constant { Ok(()) } else { self.view(shape).check_apart(written.view(to)) }
    }

    /// As [`Operand::check_apart`], or it is the very place that is written, value by value.
    pub fn check_apart_or_same(&self, shape: &[usize], written: &Strided) -> Result<(), Fault> {
        if self.view(shape).is(written.view(shape)) { Ok(()) } else { self.check_apart(shape, written) }
    }

    /// # Safety
    /// [`Operand::check`] found nothing wrong for the memory of `context`.
    pub unsafe fn pointer(&self, context: &Context) -> *const f32 {
        let base = if self.constant { context.weights } else { context.arena.cast_const() };
        // SAFETY: the offset is inside, says the caller.
        unsafe { base.add(self.offset) }
    }
}

/// Strided values of the arena, of whichever kind. They have been found inside it.
#[derive(Clone, Copy, Debug)]
pub struct View<'v> {
    pub offset: usize,
    pub shape: &'v [usize],
    pub strides: &'v [usize],
}

impl View<'_> {
    /// Lengths and strides of the dimensions that lead anywhere.
    fn axes(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let axes = self.shape.iter().copied().zip(self.strides.iter().copied());
        axes.filter(|&(length, stride)| length > 1 && stride > 0)
    }

    /// From the first value to the last, along the dimensions with such a stride.
    fn reach(&self, along: impl Fn(usize) -> bool) -> usize {
        self.axes().filter(|&(_, stride)| along(stride)).map(|(length, stride)| (length - 1) * stride).sum()
    }

    /// Whether both are the same values in the same order.
    pub fn is(&self, other: View<'_>) -> bool {
        let strides = self.strides.iter().zip(other.strides);
        let same = self.shape.iter().zip(strides).all(|(&length, (a, b))| length == 1 || a == b);
        self.offset == other.offset && self.shape == other.shape && same
    }

    pub fn check_apart(&self, written: View<'_>) -> Result<(), Fault> {
        if disjoint(*self, written) { Ok(()) } else { Err(format!("{self:?} is read while {written:?} is written")) }
    }
}

/// Whether no value lies in both: surely so if this says so. It sees intervals that do not meet, and slices of one
/// buffer along any of its dimensions, as concatenations and splits make them: modulo a stride that both share, all
/// values of a slice lie in one interval, and those of two slices in two.
pub fn disjoint(a: View<'_>, b: View<'_>) -> bool {
    if a.offset + a.reach(|_| true) < b.offset || b.offset + b.reach(|_| true) < a.offset {
        return true;
    }
    let mut strides = [0; 2 * RANK_MAX];
    for (place, (_, stride)) in strides.iter_mut().zip(a.axes().chain(b.axes())) {
        *place = stride;
    }
    strides.sort_unstable_by(|a, b| b.cmp(a));
    let mut modulus = 0;
    strides.into_iter().take_while(|&stride| stride > 0).any(|stride| {
        modulus = gcd(modulus, stride);
        let inner = |stride: usize| !stride.is_multiple_of(modulus);
        // From where the one begins to where the other does, around the circle.
        let ahead = (b.offset % modulus + modulus - a.offset % modulus) % modulus;
        a.reach(inner) < ahead && ahead + b.reach(inner) < modulus
    })
}

/// The greatest common divisor; of zero and another, the other.
fn gcd(mut a: usize, mut b: usize) -> usize {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Most values that a step sees at once; those of repeated and overlapping views are counted as often as they are seen.
const VOLUME_MAX: usize = u32::MAX as usize;

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
    let volume = shape.iter().try_fold(1_usize, |volume, &length| volume.checked_mul(length));
    if volume.is_none_or(|volume| volume > VOLUME_MAX) {
        return Err(format!("{shape:?} are more than {VOLUME_MAX} values"));
    }
    // Those of a single row or column lead nowhere, but steps calculate with them.
    if strides.iter().any(|&stride| stride > limit) {
        return Err(format!("strides {strides:?} beyond the {limit} values there are"));
    }
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(offset, |last, (&length, &stride)| last.checked_add((length - 1).checked_mul(stride)?));
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::random::Random;

    fn places(view: View<'_>) -> Vec<usize> {
        let mut places = vec![view.offset];
        for (&length, &stride) in view.shape.iter().zip(view.strides) {
            places = places.iter().flat_map(|&at| (0..length).map(move |i| at + i * stride)).collect();
        }
        places
    }

    fn view<'v>(offset: usize, shape: &'v [usize], strides: &'v [usize]) -> View<'v> {
        View { offset, shape, strides }
    }

    #[test]
    fn what_is_said_to_be_disjoint_is() {
        let mut random = Random::new(3);
        let (mut found, mut missed) = (0, 0);
        for _ in 0..20_000 {
            let mut some = || {
                let rank = random.below(4);
                let shape: Vec<usize> = (0..rank).map(|_| 1 + random.below(4)).collect();
                let strides: Vec<usize> = (0..rank).map(|_| random.below(5) * [1, 4, 16][random.below(3)]).collect();
                (random.below(40), shape, strides)
            };
            let (a, b) = (some(), some());
            let (a, b) = (view(a.0, &a.1, &a.2), view(b.0, &b.1, &b.2));
            let first: HashSet<usize> = places(a).into_iter().collect();
            let apart = places(b).iter().all(|at| !first.contains(at));
            assert!(apart || !disjoint(a, b), "{a:?} {b:?}");
            assert_eq!(disjoint(a, b), disjoint(b, a));
            found += usize::from(apart && disjoint(a, b));
            missed += usize::from(apart && !disjoint(a, b));
        }
        assert!(found > 2 * missed, "{found} found, {missed} not");
    }

    #[test]
    fn slices_of_one_buffer_are_disjoint() {
        let [h, w, c] = [6, 5, 48];
        let strides = [w * c, c, 1];
        let channels = |first: usize, count: usize| (first, [h, w, count]);
        let (low, high) = (channels(0, 16), channels(16, 32));
        assert!(disjoint(view(low.0, &low.1, &strides), view(high.0, &high.1, &strides)));
        let high = channels(15, 32);
        assert!(!disjoint(view(low.0, &low.1, &strides), view(high.0, &high.1, &strides)));
        // Left and right half; even and odd rows; every second pixel.
        assert!(disjoint(view(0, &[h, 2, c], &strides), view(2 * c, &[h, 3, c], &strides)));
        assert!(!disjoint(view(0, &[h, 3, c], &strides), view(2 * c, &[h, 3, c], &strides)));
        let twice = [2 * w * c, c, 1];
        assert!(disjoint(view(0, &[3, w, c], &twice), view(w * c, &[3, w, c], &twice)));
        let even = [h * w * c, 2 * c, 1];
        assert!(disjoint(view(0, &[1, 15, c], &even), view(c, &[1, 15, c], &even)));
        // A view is never apart from itself, and a single value never from what holds it.
        assert!(!disjoint(view(7, &[], &[]), view(7, &[], &[])));
        assert!(disjoint(view(7, &[], &[]), view(8, &[], &[])));
        assert!(!disjoint(view(7, &[], &[]), view(0, &[100], &[1])));
    }

    #[test]
    fn the_same_place_is_recognised() {
        let (a, b) = (view(3, &[1, 4], &[9, 1]), view(3, &[1, 4], &[4, 1]));
        assert!(a.is(b) && !a.is(view(4, &[1, 4], &[9, 1])) && !a.is(view(3, &[1, 4], &[9, 2])));
    }
}
