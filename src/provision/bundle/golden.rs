//! What a network answers to the golden frame, in few numbers: written down where a bundle is made, compared where it is
//! installed and again at every start.
//!
//! The numbers are of whole outputs, so that candidates that two engines list in another order make no difference.

use serde::{Deserialize, Serialize};

use super::{Error, Model};
use crate::engine::{Precision, Session};
use crate::model::{self, Predictions, Request};
use crate::serving::loader::golden_frame;

/// How far they may be off, in parts of what they were: ten times what plans in numbers were off by at most, and the bound
/// of those in halves. A network of other weights, or a wrong layer, is off by far more.
const OFF_MAX_FP32: f32 = 0.01;
const OFF_MAX_FP16: f32 = 0.05;
/// Most outputs of a network.
const OUTPUTS_MAX: usize = 64;

/// Of one output.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    pub mean: f32,
    /// Root of the mean square.
    pub rms: f32,
    /// Largest magnitude.
    pub peak: f32,
}

impl Model {
    /// Whether the golden answers are numbers of a network.
    pub(super) fn is_sound(&self) -> bool {
        let sound = |of: &Fingerprint| [of.mean, of.rms, of.peak].iter().all(|value| value.is_finite());
        self.golden.len() <= OUTPUTS_MAX && self.golden.iter().all(sound)
    }
}

/// Shows a model the golden frame; what its network answers.
///
/// # Errors
/// It fails, or answers what is no number.
pub fn fingerprint(model: &mut model::Model) -> Result<Vec<Fingerprint>, Error> {
    let id = model.id().to_owned();
    let failed = |why: String| Error::Golden { id: id.clone(), why };
    let inferred = model.infer(&golden_frame(), &Request::default(), &mut Predictions::default());
    inferred.map_err(|error| failed(error.to_string()))?;
    let outputs = of_outputs(model.session());
    match outputs.iter().all(|of| of.peak.is_finite()) && outputs.len() <= OUTPUTS_MAX {
        true => Ok(outputs),
        false => Err(failed("it answers the golden frame with what is no number".into())),
    }
}

fn of_outputs(session: &dyn Session) -> Vec<Fingerprint> {
    (0..session.outputs().len()).map(|index| of_values(session.output(index).data)).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a few digits are kept")]
fn of_values(values: &[f32]) -> Fingerprint {
    let count = values.len().max(1) as f64;
    let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
    let squares: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
    // A value that is no number must not be lost, as it would be by `max`.
    let peak = values.iter().fold(0.0_f32, |peak, &value| if value.is_nan() { value } else { peak.max(value.abs()) });
    let peak = if squares.is_finite() { peak } else { f32::NAN };
    Fingerprint {
        mean: rounded((sum / count) as f32),
        rms: rounded((squares / count).sqrt() as f32),
        peak: rounded(peak),
    }
}

/// To four digits: more differ between machines, and so would bundles of the same content.
fn rounded(value: f32) -> f32 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// Whether a network answers as it did where its bundle was made.
///
/// # Errors
/// In which output it does not, and by how much.
pub fn same(id: &str, now: &[Fingerprint], then: &[Fingerprint], precision: Precision) -> Result<(), Error> {
    let failed = |why: String| Err(Error::Golden { id: id.into(), why });
    let bound = match precision {
        Precision::Fp32 => OFF_MAX_FP32,
        Precision::Fp16 => OFF_MAX_FP16,
        // Such a plan is compared with what it answered itself when it was judged.
        Precision::Int8 => return Ok(()),
    };
    if now.len() != then.len() {
        return failed(format!("it has {} outputs, and had {}", now.len(), then.len()));
    }
    for (index, (now, then)) in now.iter().zip(then).enumerate() {
        let off = |now: f32, then: f32, of: f32| (now - then).abs() > bound * of.abs().max(f32::MIN_POSITIVE);
        if off(now.mean, then.mean, then.rms) || off(now.rms, then.rms, then.rms) || off(now.peak, then.peak, then.peak)
        {
            let words = |of: &Fingerprint| format!("mean {:e}, rms {:e}, peak {:e}", of.mean, of.rms, of.peak);
            return failed(format!("output {index} of the golden frame has {}; it had {}", words(now), words(then)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let values: Vec<f32> = (0..1000).map(|n| (n as f32).sin()).collect();
        let then = [of_values(&values)];
        let same_as = |values: &[f32], precision| same("m", &[of_values(values)], &then, precision).is_ok();
        let scaled = |by: f32| values.iter().map(|value| value * by).collect::<Vec<_>>();
        let turned: Vec<f32> = values.iter().rev().copied().collect();
        assert!(same_as(&turned, Precision::Fp32), "the order plays no part");
        assert!(same_as(&scaled(1.005), Precision::Fp32));
        assert!(!same_as(&scaled(1.02), Precision::Fp32) && same_as(&scaled(1.02), Precision::Fp16));
        assert!(!same_as(&scaled(1.1), Precision::Fp16));
        assert!(!same_as(&[0.0; 1000], Precision::Fp32));
        assert!(same("m", &[], &then, Precision::Fp32).is_err());
        let zeros = [of_values(&[0.0; 3])];
        assert!(same("m", &zeros, &zeros, Precision::Fp32).is_ok());
    }

    #[test]
    fn what_is_no_number_is_seen() {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for values in [[odd, 1.0, 2.0], [1.0, odd, 2.0], [1.0, 2.0, odd]] {
                assert!(!of_values(&values).peak.is_finite(), "{values:?}");
            }
        }
    }
}
