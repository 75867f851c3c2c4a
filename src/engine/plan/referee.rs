//! tract is the referee: a plan is trusted when all its outputs are those of tract.
//!
//! The error of an output is `max |ours - tract's| / max |tract's|`, for each channel by itself: a box coordinate in
//! pixels says nothing about the score beside it. Channels lie along the shorter of the two dimensions of a list
//! (`[N, 84, 8400]`, `[N, 300, 6]`), along the second of pictures (`[N, 32, 160, 160]`), and a plain row of values is
//! one channel. A channel that is silent everywhere is measured against a millionth of its output.
//!
//! Networks that list their best candidates order them by score, and scores that differ by less than rounding may swap.
//! So where values differ in their places, and all outputs list as many candidates, each of tract's candidates is paired
//! with its own across all outputs before they are compared by the same bound.
//!
//! Which candidates are listed, and whatever else is chosen inside a network, can hang on less than rounding as well. An
//! input after a nudge of which tract's own answers break the bound decides nothing: another one is tried.

use super::file::{Compared, Referee};
use crate::engine::{InputShape, Session};
use crate::random::Random;

/// The agreed bound.
pub const BOUND: f32 = 1e-3;
/// Of its output's largest value: what a silent channel is measured against.
const SILENT: f32 = 1e-6;
/// Most candidates that are paired: the longest list of the families served has 900.
const ROWS_MAX: usize = 1024;
/// Inputs of noise that are tried until one decides.
const SEEDS: u64 = 3;
/// How far each value of an input is nudged, relative: a tenth of the bound, so that what a network makes more than ten
/// times as large counts as undecided.
const NUDGE: f32 = BOUND / 10.0;

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
    picture: Option<&mut dyn FnMut(InputShape, &mut [f32]) -> Result<(), String>>,
) -> Result<Referee, String> {
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
    let picture_there = picture.is_some();
    if let Some(picture) = picture {
        picture(shape, &mut values)?;
        let (errors, place) = on(plan, tract, &values)?;
        broken(&errors).map_or(Ok(()), |why| Err(format!("on the golden frame {why}{place}")))?;
        note(errors);
    }
    let mut decided = picture_there;
    for seed in 1..=SEEDS {
        let mut random = Random::new(seed);
        values.fill_with(|| random.uniform(0.0, 1.0));
        let (errors, place) = on(plan, tract, &values)?;
        match broken(&errors) {
            None => {
                note(errors);
                decided = true;
                break;
            }
            Some(why) if decides(tract, &mut values, &mut random)? => return Err(format!("on noise {why}{place}")),
            Some(_) => {}
        }
    }
    match decided {
        true => Ok(Referee { bound: BOUND, outputs: worst }),
        false => Err(format!("on none of {SEEDS} inputs of noise do its answers hang on more than rounding")),
    }
}

/// Whether tract's answers to what it has just inferred stay the same when that is nudged.
fn decides(tract: &mut dyn Session, values: &mut [f32], random: &mut Random) -> Result<bool, String> {
    let before = answers(tract);
    values.iter_mut().for_each(|value| *value *= 1.0 + NUDGE * random.sign());
    run(tract, values)?;
    Ok(broken(&errors(&answers(tract), &before).0).is_none())
}

/// The first output that breaks the bound, in words.
fn broken(errors: &[Compared]) -> Option<String> {
    // Not a number is beyond every bound.
    let beyond = errors.iter().find(|output| output.error.is_nan() || output.error > BOUND)?;
    Some(format!("output `{}` is off by {:.1e} of tract's; at most {BOUND:.0e} is trusted", beyond.name, beyond.error))
}

fn run(session: &mut dyn Session, input: &[f32]) -> Result<(), String> {
    session.input_mut().copy_from_slice(input);
    session.run().map_err(|error| error.to_string())
}

fn on(plan: &mut dyn Session, tract: &mut dyn Session, input: &[f32]) -> Result<(Vec<Compared>, String), String> {
    run(plan, input)?;
    run(tract, input)?;
    let (found, expected) = (answers(plan), answers(tract));
    if found.len() != expected.len() || found.iter().zip(&expected).any(|(a, b)| a.shape != b.shape) {
        let shapes = |answers: &[Answer]| answers.iter().map(|answer| answer.shape.clone()).collect::<Vec<_>>();
        return Err(format!("the outputs are {:?}, tract's are {:?}", shapes(&found), shapes(&expected)));
    }
    Ok(errors(&found, &expected))
}

/// The error of each output, and how they were compared when it was not value by value.
pub fn errors(found: &[Answer], expected: &[Answer]) -> (Vec<Compared>, String) {
    let scales: Vec<Scale> = expected.iter().map(Scale::of).collect();
    let named = |errors: Vec<f32>| {
        expected.iter().zip(errors).map(|(output, error)| Compared { name: output.name.clone(), error }).collect()
    };
    let in_place: Vec<f32> = found
        .iter()
        .zip(expected)
        .zip(&scales)
        .map(|((found, expected), scale)| {
            let places = found.values.iter().zip(&expected.values).enumerate();
            places.fold(0.0, |worst: f32, (index, (&found, &expected))| worst.max(scale.off(index, found, expected)))
        })
        .collect();
    if in_place.iter().all(|&error| error <= BOUND) {
        return (named(in_place), String::new());
    }
    match paired(found, expected, &scales) {
        Some(errors) => (named(errors), ", each candidate compared with its own".into()),
        None => (named(in_place), String::new()),
    }
}

/// The largest magnitude of each channel of an expected output.
struct Scale {
    /// Values in a row that are of one channel.
    run: usize,
    largest: Vec<f32>,
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
        let mut scale = Self { run: run.max(1), largest: vec![0.0; channels.max(1)] };
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
        if off == 0.0 || found == expected {
            return 0.0;
        }
        let off = off / self.largest[self.channel(index)];
        if off.is_nan() { f32::INFINITY } else { off }
    }
}

/// The errors once every candidate is paired with its own; `None` where the outputs list no candidates.
fn paired(found: &[Answer], expected: &[Answer], scales: &[Scale]) -> Option<Vec<f32>> {
    let (images, rows) = match expected.first()?.shape[..] {
        // More candidates than there are numbers to each: what is not so is a list of channels, which have an order.
        [images, rows, columns] if rows > columns && rows <= ROWS_MAX => (images, rows),
        _ => return None,
    };
    if expected.iter().any(|output| output.shape.len() < 2 || output.shape[..2] != [images, rows]) {
        return None;
    }
    // Up to `enough`, beyond which how far exactly does not matter.
    let off = |output: usize, have: usize, want: usize, enough: f32| {
        let (found, expected, scale) = (&found[output].values, &expected[output].values, &scales[output]);
        let length = expected.len() / (images * rows);
        let mut worst = 0.0_f32;
        for place in 0..length {
            let want = want * length + place;
            worst = worst.max(scale.off(want, found[have * length + place], expected[want]));
            if worst > enough {
                break;
            }
        }
        worst
    };
    let all = |have: usize, want: usize, enough: f32| {
        (0..expected.len()).fold(0.0_f32, |worst, output| if worst > enough { worst } else { worst.max(off(output, have, want, enough)) })
    };
    let mut errors = vec![0.0_f32; expected.len()];
    for image in 0..images {
        let mut free: Vec<usize> = (image * rows..(image + 1) * rows).collect();
        for want in free.clone() {
            let mut best = (f32::INFINITY, 0);
            // Its own place first: where that fits nothing else is looked at.
            let own = free.iter().position(|&have| have == want);
            for position in own.into_iter().chain(0..free.len()) {
                let distance = all(free[position], want, best.0);
                if distance < best.0 {
                    best = (distance, position);
                }
                if distance <= BOUND {
                    break;
                }
            }
            let have = free.swap_remove(best.1);
            for (output, error) in errors.iter_mut().enumerate() {
                *error = error.max(off(output, have, want, f32::INFINITY));
            }
        }
    }
    Some(errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(shape: &[usize], values: &[f32]) -> Answer {
        Answer { name: "output0".into(), shape: shape.to_vec(), values: values.to_vec() }
    }

    fn error(shape: &[usize], found: &[f32], expected: &[f32]) -> f32 {
        errors(&[answer(shape, found)], &[answer(shape, expected)]).0[0].error
    }

    #[test]
    fn each_channel_is_measured_by_itself() {
        let expected = [640.0, 320.0, 10.0, 0.5, 0.1, 0.0];
        assert_eq!(error(&[1, 2, 3], &expected, &expected), 0.0);
        let found = [640.0, 320.0, 10.0, 0.5, 0.1, 0.01];
        assert!((error(&[1, 2, 3], &found, &expected) - 0.02).abs() < 1e-6);
        // The same values as three rows of two channels.
        assert!((error(&[1, 3, 2], &[640.0, 320.0, 10.0, 0.5, 0.1, 0.64], &expected) - 0.002).abs() < 1e-3);
    }

    #[test]
    fn not_a_number_and_silence_are_no_excuse() {
        assert_eq!(error(&[1, 2], &[f32::NAN, 1.0], &[0.0, 1.0]), f32::INFINITY);
        assert!(error(&[1, 2, 3], &[1.0, 1.0, 1.0, 0.0, 0.0, 1e-5], &[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]) > BOUND);
        assert!(broken(&[Compared { name: "a".into(), error: f32::NAN }]).is_some());
    }

    #[test]
    fn candidates_that_swapped_are_the_same_candidates() {
        let expected: Vec<f32> = (0..8).flat_map(|row| [f32::from(row as u8), 10.0, 0.9]).collect();
        let mut swapped = expected.clone();
        swapped.rotate_left(3);
        assert_eq!(error(&[1, 8, 3], &swapped, &expected), 0.0);
        swapped[0] = 70.0;
        assert!(error(&[1, 8, 3], &swapped, &expected) > BOUND);
    }
}
