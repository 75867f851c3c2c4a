//! tract is the referee: a plan is trusted when all its outputs are those of tract.
//!
//! The error of an output is `max |ours - tract's| / max |tract's|`, for each channel by itself: a box coordinate in
//! pixels says nothing about the score beside it. Channels lie along the shorter of the two dimensions of a list
//! (`[N, 84, 8400]`, `[N, 300, 6]`), along the second of pictures (`[N, 32, 160, 160]`), and a plain row of values is
//! one channel. A channel that is silent everywhere is measured against a millionth of its output.
//!
//! Networks that list their best candidates order them by score, and scores that differ by less than rounding may swap.
//! So where values differ in their places, and all outputs list as many candidates, each of tract's candidates is paired
//! with one that is its own across all outputs, within the bound. Which candidates are listed can hang on less than
//! rounding as well. What tract's own answer is like when its input is nudged by less than a camera rounds shows how
//! much: as many candidates of a plan may be without a partner, as long as most have one. An input after a nudge of which
//! tract breaks the bound by itself, in whatever way, decides nothing, and another one is tried; one must.
//!
//! A plan in halves has a wider bound, and the same referee. A plan in bytes cannot be within any. How far it may be off
//! is judged by what the model says of real pictures, when it is baked, and from then on it is compared with itself:
//! [`remembered`].

use super::file::{Compared, REMEMBERED_MAX, Referee};
use crate::engine::{InputShape, Precision, Session};
use crate::random::Random;

/// The agreed bound.
const BOUND: f32 = 1e-3;
/// That of plans in halves, whose numbers are a thousandth apart: the worst output of three YOLOv8 was off by 0.008,
/// 0.010 and 0.021, and a wrong layer shows by far more.
const BOUND_FP16: f32 = 0.05;
/// Of its output's largest value: what a silent channel is measured against.
const SILENT: f32 = 1e-6;
/// Most candidates that are paired: the longest list of the families served has 900.
const ROWS_MAX: usize = 1024;
/// Inputs of noise that are tried until one decides.
const SEEDS: u64 = 3;
/// How far each value of an input is nudged, relative: a quarter of the step between two grey levels, for the brightest.
const NUDGE: f32 = 1e-3;

/// The largest error that is trusted in a precision. Plans in bytes are compared with themselves.
pub fn bound(precision: Precision) -> f32 {
    match precision {
        Precision::Fp32 | Precision::Int8 => BOUND,
        Precision::Fp16 => BOUND_FP16,
    }
}

/// How many of its own steps an output of bytes may be off besides: libraries round each layer's result in their own way.
/// EfficientNet-Lite3 by TensorFlow Lite was off by 6 of 256, by LiteRT by 5.
const STEPS: f32 = 8.0;

/// What is trusted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// The largest error, in parts of the channel's largest value.
    pub bound: f32,
    /// Whether outputs that are of bytes, a number of equal steps, may be off by [`STEPS`] of them.
    pub by_steps: bool,
}

impl From<f32> for Tolerance {
    fn from(bound: f32) -> Self {
        Self { bound, by_steps: false }
    }
}

/// One output of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// What a session answers to what is in its input.
pub fn answers(session: &dyn Session) -> Vec<Answer> {
    let view = |index: usize, name: &str| {
        let view = session.output(index);
        Answer { name: name.to_owned(), shape: view.shape.to_vec(), values: view.data.to_vec() }
    };
    session.outputs().iter().enumerate().map(|(index, info)| view(index, &info.name)).collect()
}

/// Compares an engine with tract on a picture, where there is one, and on noise.
///
/// # Errors
/// Where the bound is broken, or an engine fails.
pub fn compare(
    plan: &mut dyn Session,
    tract: &mut dyn Session,
    picture: Option<Picture<'_>>,
    tolerance: Tolerance,
) -> Result<Referee, String> {
    let bound = tolerance.bound;
    let shape = tract.input_shape();
    let mut values = vec![0.0; shape.volume()];
    let mut worst: Vec<Compared> = Vec::new();
    let mut note = |errors: Vec<Compared>| {
        if worst.is_empty() {
            worst = errors;
        } else {
            worst.iter_mut().zip(errors).for_each(|(worst, error)| worst.error = worst.error.max(error.error));
        }
    };
    // What the inputs showed that decided nothing.
    let mut undecided = Vec::new();
    if let Some(picture) = picture {
        picture(shape, &mut values)?;
        match on(plan, tract, &mut values, "the golden frame", tolerance)? {
            Verdict::Agree(errors) => note(errors),
            Verdict::Undecided(why) => undecided.push(why),
        }
    }
    for seed in 1..=SEEDS {
        let mut random = Random::new(seed);
        values.fill_with(|| random.uniform(0.0, 1.0));
        match on(plan, tract, &mut values, "noise", tolerance)? {
            Verdict::Agree(errors) => {
                note(errors);
                break;
            }
            Verdict::Undecided(why) => undecided.push(why),
        }
    }
    if worst.is_empty() {
        return Err(format!(
            "{}; and tract's own answers hang on the last digits of every input that was tried",
            undecided.first().map_or("nothing was compared", String::as_str)
        ));
    }
    Ok(Referee { bound, outputs: worst })
}

/// Fills an input with the golden frame.
pub type Picture<'p> = &'p mut dyn FnMut(InputShape, &mut [f32]) -> Result<(), String>;

/// What an input has shown.
enum Verdict {
    Agree(Vec<Compared>),
    /// How they differ, where a nudge makes tract differ from itself as well.
    Undecided(String),
}

/// Both on one input.
fn on(
    plan: &mut dyn Session,
    tract: &mut dyn Session,
    input: &mut [f32],
    what: &str,
    tolerance: Tolerance,
) -> Result<Verdict, String> {
    run(plan, input)?;
    run(tract, input)?;
    let (found, expected) = (answers(plan), answers(tract));
    if found.len() != expected.len() || found.iter().zip(&expected).any(|(a, b)| a.shape != b.shape) {
        let shapes = |answers: &[Answer]| answers.iter().map(|answer| answer.shape.clone()).collect::<Vec<_>>();
        return Err(format!("the outputs are {:?}, tract's are {:?}", shapes(&found), shapes(&expected)));
    }
    let difference = Difference::of(&found, &expected, tolerance);
    if difference.alone == 0 && difference.broken().is_none() {
        return Ok(Verdict::Agree(difference.errors));
    }
    let mut random = Random::new(1);
    input.iter_mut().for_each(|value| *value *= 1.0 + NUDGE * random.sign());
    run(tract, input)?;
    let nudged = Difference::of(&answers(tract), &expected, tolerance);
    if difference.broken().is_none() && difference.alone <= nudged.alone && 2 * nudged.alone <= nudged.rows {
        return Ok(Verdict::Agree(difference.errors));
    }
    if nudged.alone > 0 || nudged.broken().is_some() {
        return Ok(Verdict::Undecided(format!("on {what} {}", difference.words())));
    }
    Err(format!("on {what} {}", difference.words()))
}

fn run(session: &mut dyn Session, input: &[f32]) -> Result<(), String> {
    session.input_mut().copy_from_slice(input);
    session.run().map_err(|error| error.to_string())
}

/// Some values of each answer, spread over it: by these a plan in bytes is known to answer as it did when it was judged.
/// The same program on the same instruction set gives the same bits, whatever the number of threads.
pub fn remembered(answers: &[Answer]) -> Vec<Vec<f32>> {
    let some = |Answer { values, .. }: &Answer| {
        let count = values.len().min(REMEMBERED_MAX);
        (0..count).map(|index| values[index * values.len() / count]).collect()
    };
    answers.iter().map(some).collect()
}

/// How far answers are from those that are remembered, each value in parts of itself.
///
/// # Errors
/// An output is off by more than the bound, or there are others.
pub fn recall(answers: &[Answer], remembered_then: &[Vec<f32>]) -> Result<Referee, String> {
    let now = remembered(answers);
    if now.iter().map(Vec::len).ne(remembered_then.iter().map(Vec::len)) {
        return Err("the outputs are not those of which answers are remembered".into());
    }
    let error = |now: &[f32], then: &[f32]| {
        // So that each value is a channel of its own.
        let then = Answer { name: String::new(), shape: vec![1, then.len(), 1, 1], values: then.to_vec() };
        let (scale, pairs) = (Scale::of(&then), now.iter().zip(&then.values).enumerate());
        pairs.fold(0.0, |worst: f32, (index, (&now, &then))| worst.max(scale.off(index, now, then)))
    };
    let outputs = answers.iter().zip(now.iter().zip(remembered_then));
    let outputs: Vec<Compared> =
        outputs.map(|(answer, (now, then))| Compared { name: answer.name.clone(), error: error(now, then) }).collect();
    match outputs.iter().find(|output| output.error > BOUND) {
        Some(Compared { name, error }) => Err(format!(
            "output `{name}` is off by {error:.1e} of what it was when the plan was judged; at most {BOUND:.0e} is trusted"
        )),
        None => Ok(Referee { bound: BOUND, outputs }),
    }
}

/// How one answer differs from another.
#[derive(Debug)]
struct Difference {
    /// The largest error that is trusted.
    bound: f32,
    /// Of what could be compared: everything, or the candidates that have a partner.
    errors: Vec<Compared>,
    /// Candidates without a partner.
    alone: usize,
    /// Candidates in all; 0 where answers were compared value by value.
    rows: usize,
}

impl Difference {
    fn of(found: &[Answer], expected: &[Answer], tolerance: impl Into<Tolerance>) -> Self {
        let Tolerance { bound, by_steps } = tolerance.into();
        let scale = |output: &Answer| Scale { slack: if by_steps { slack(output) } else { 0.0 }, ..Scale::of(output) };
        let scales: Vec<Scale> = expected.iter().map(scale).collect();
        let named = |errors: Vec<f32>| {
            expected.iter().zip(errors).map(|(output, error)| Compared { name: output.name.clone(), error }).collect()
        };
        let outputs = found.iter().zip(expected).zip(&scales);
        let in_place = outputs.map(|((found, expected), scale)| {
            let places = found.values.iter().zip(&expected.values).enumerate();
            places.fold(0.0, |worst: f32, (index, (&found, &expected))| worst.max(scale.off(index, found, expected)))
        });
        let in_place: Vec<f32> = in_place.collect();
        let agree = in_place.iter().all(|&error| error <= bound);
        match (agree, Candidates::of(found, expected, &scales, bound)) {
            (false, Some(candidates)) => {
                let (errors, alone) = candidates.paired();
                Self { bound, errors: named(errors), alone, rows: candidates.images * candidates.rows }
            }
            _ => Self { bound, errors: named(in_place), alone: 0, rows: 0 },
        }
    }

    /// The first output that breaks the bound.
    fn broken(&self) -> Option<&Compared> {
        // Not a number is beyond every bound.
        self.errors.iter().find(|output| output.error.is_nan() || output.error > self.bound)
    }

    fn words(&self) -> String {
        let bound = self.bound;
        match self.broken() {
            Some(Compared { name, error }) => {
                format!("output `{name}` is off by {error:.1e} of tract's; at most {bound:.0e} is trusted")
            }
            None => format!("{} of {} candidates are not among tract's within {bound:.0e}", self.alone, self.rows),
        }
    }
}

/// The largest magnitude of each channel of an expected output.
struct Scale {
    /// Values in a row that are of one channel.
    run: usize,
    largest: Vec<f32>,
    /// What counts as nothing.
    slack: f32,
}

impl Scale {
    fn of(output: &Answer) -> Self {
        let axis = match output.shape[..] {
            [_, rows, columns] => Some(if rows < columns { 1 } else { 2 }),
            [_, _, _, _, ..] => Some(1),
            _ => None,
        };
        let (run, channels) = match axis {
            Some(axis) => (output.shape[axis + 1..].iter().product(), output.shape[axis]),
            None => (output.values.len(), 1),
        };
        let mut scale = Self { run: run.max(1), largest: vec![0.0; channels.max(1)], slack: 0.0 };
        for (index, value) in output.values.iter().enumerate() {
            let channel = scale.channel(index);
            scale.largest[channel] = scale.largest[channel].max(value.abs());
        }
        let floor = SILENT * scale.largest.iter().fold(0.0, |a: f32, &b| a.max(b));
        scale.largest.iter_mut().for_each(|largest| *largest = largest.max(floor));
        scale
    }

    fn channel(&self, index: usize) -> usize {
        index / self.run % self.largest.len()
    }

    /// How far a value is off, in parts of its channel's largest. Not a number is infinitely far from any other.
    fn off(&self, index: usize, found: f32, expected: f32) -> f32 {
        let off = (found - expected).abs();
        if off <= self.slack || found == expected {
            return 0.0;
        }
        let off = off / self.largest[self.channel(index)];
        if off.is_nan() { f32::INFINITY } else { off }
    }
}

/// How far an output may be off that is of bytes: at most 256 values, all of them a whole number of the least distance
/// apart. Of other outputs it is nothing.
fn slack(output: &Answer) -> f32 {
    /// Fewer values are equally far apart by chance.
    const VALUES_MIN: usize = 4;
    const VALUES_MAX: usize = 256;
    let mut values = output.values.clone();
    values.sort_unstable_by(f32::total_cmp);
    values.dedup();
    if !(VALUES_MIN..=VALUES_MAX).contains(&values.len()) {
        return 0.0;
    }
    let step = values.windows(2).map(|pair| pair[1] - pair[0]).fold(f32::INFINITY, f32::min);
    let even = values.iter().all(|value| {
        let steps = (value - values[0]) / step;
        (steps - steps.round()).abs() < 1e-2
    });
    if even { STEPS * step } else { 0.0 }
}

/// Answers that list candidates: the same number of them in each output.
struct Candidates<'a> {
    /// As [`Difference::bound`].
    bound: f32,
    found: &'a [Answer],
    expected: &'a [Answer],
    scales: &'a [Scale],
    images: usize,
    /// Of each image.
    rows: usize,
}

impl<'a> Candidates<'a> {
    /// `None` where the outputs list none.
    fn of(found: &'a [Answer], expected: &'a [Answer], scales: &'a [Scale], bound: f32) -> Option<Self> {
        let (images, rows) = match expected.first()?.shape[..] {
            // More candidates than there are numbers to each: what is not so is a list of channels, which have an order.
            [images, rows, columns] if rows > columns && rows <= ROWS_MAX => (images, rows),
            _ => return None,
        };
        let alike = expected.iter().all(|output| output.shape.len() >= 2 && output.shape[..2] == [images, rows]);
        alike.then_some(Self { bound, found, expected, scales, images, rows })
    }

    /// How far a candidate is from one of tract's in one output; beyond the bound it does not matter how far.
    fn off(&self, output: usize, have: usize, want: usize) -> f32 {
        let (found, expected) = (&self.found[output].values, &self.expected[output].values);
        let length = expected.len() / (self.images * self.rows);
        let mut worst = 0.0_f32;
        for place in 0..length {
            let want = want * length + place;
            worst = worst.max(self.scales[output].off(want, found[have * length + place], expected[want]));
            if worst > self.bound {
                break;
            }
        }
        worst
    }

    fn fits(&self, have: usize, want: usize) -> bool {
        (0..self.expected.len()).all(|output| self.off(output, have, want) <= self.bound)
    }

    /// The errors of the outputs over all that have a partner, and how many have none.
    fn paired(&self) -> (Vec<f32>, usize) {
        let (mut errors, mut alone) = (vec![0.0_f32; self.expected.len()], 0);
        for image in 0..self.images {
            let all = image * self.rows..(image + 1) * self.rows;
            let mut free: Vec<usize> = all.clone().collect();
            for want in all {
                // Its own place first: mostly nothing else is looked at.
                let own = free.iter().position(|&have| have == want && self.fits(have, want));
                let Some(position) = own.or_else(|| free.iter().position(|&have| self.fits(have, want))) else {
                    alone += 1;
                    continue;
                };
                let have = free.swap_remove(position);
                for (output, error) in errors.iter_mut().enumerate() {
                    *error = error.max(self.off(output, have, want));
                }
            }
        }
        (errors, alone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(shape: &[usize], values: &[f32]) -> Answer {
        Answer { name: "output0".into(), shape: shape.to_vec(), values: values.to_vec() }
    }

    fn error(shape: &[usize], found: &[f32], expected: &[f32]) -> f32 {
        Difference::of(&[answer(shape, found)], &[answer(shape, expected)], BOUND).errors[0].error
    }

    #[test]
    fn each_channel_is_measured_by_itself() {
        let expected = [640.0, 320.0, 10.0, 0.5, 0.1, 0.0];
        assert_eq!(error(&[1, 2, 3], &expected, &expected), 0.0);
        let found = [640.0, 320.0, 10.0, 0.5, 0.1, 0.01];
        assert!((error(&[1, 2, 3], &found, &expected) - 0.02).abs() < 1e-6);
        // The same values as three rows of two channels.
        assert!((error(&[1, 3, 2], &[640.0, 320.0, 10.0, 0.5, 0.1, 0.16], &expected) - 5e-4).abs() < 1e-6);
    }

    #[test]
    fn not_a_number_and_silence_are_no_excuse() {
        assert_eq!(error(&[1, 2], &[f32::NAN, 1.0], &[0.0, 1.0]), f32::INFINITY);
        assert!(error(&[1, 2, 3], &[1.0, 1.0, 1.0, 0.0, 0.0, 1e-5], &[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]) > BOUND);
        let nan = vec![Compared { name: "a".into(), error: f32::NAN }];
        assert!(Difference { bound: BOUND, errors: nan, alone: 0, rows: 0 }.broken().is_some());
    }

    #[test]
    fn what_is_remembered_is_recalled_and_a_defect_is_found() {
        let values: Vec<f32> = (0..10_000u16).map(|at| f32::from(at % 97) - 30.0).collect();
        let answers = |values: &[f32]| [answer(&[1, 100, 100], values), answer(&[1, 2], &[0.5, 0.25])];
        let then = remembered(&answers(&values));
        assert_eq!(then.iter().map(Vec::len).collect::<Vec<_>>(), [REMEMBERED_MAX, 2]);
        let recalled = recall(&answers(&values), &then).unwrap();
        assert_eq!((recalled.worst(), recalled.outputs.len()), (Some(0.0), 2));
        let off: Vec<f32> = values.iter().map(|value| value * 1.01).collect();
        assert!(recall(&answers(&off), &then).unwrap_err().contains("`output0` is off by 1.0e-2"));
        assert!(recall(&answers(&vec![f32::NAN; 10_000]), &then).is_err());
        assert!(recall(&answers(&values[..100]), &then).is_err());
    }

    #[test]
    fn an_output_of_bytes_may_be_off_by_some_of_its_steps_and_no_other() {
        let values: Vec<f32> = [0u8, 1, 2, 5, 38, 7].map(|steps| f32::from(steps) / 256.0).into();
        let bytes = answer(&[1, 6], &values);
        assert_eq!(slack(&bytes), STEPS / 256.0);
        let tolerance = |by_steps| Tolerance { bound: BOUND, by_steps };
        let off = |by: f32, by_steps| {
            let found: Vec<f32> = values.iter().map(|value| value + by / 256.0).collect();
            Difference::of(&[answer(&[1, 6], &found)], std::slice::from_ref(&bytes), tolerance(by_steps))
                .broken()
                .is_some()
        };
        assert_eq!((off(6.0, true), off(6.0, false), off(9.0, true)), (false, true, true));
        assert_eq!(slack(&answer(&[1, 5], &[0.1, 0.25, 0.31, 0.02, 0.77])), 0.0);
        assert_eq!(slack(&answer(&[1, 3], &[0.0, 1.0, 0.0])), 0.0);
    }

    #[test]
    fn candidates_that_swapped_are_the_same_candidates() {
        let expected: Vec<f32> = (0..8u8).flat_map(|row| [f32::from(row), 10.0, 0.9]).collect();
        let mut swapped = expected.clone();
        swapped.rotate_left(3);
        assert_eq!(error(&[1, 8, 3], &swapped, &expected), 0.0);
        swapped[0] = 70.0;
        let difference = Difference::of(&[answer(&[1, 8, 3], &swapped)], &[answer(&[1, 8, 3], &expected)], BOUND);
        assert_eq!((difference.alone, difference.rows), (1, 8));
    }
}
