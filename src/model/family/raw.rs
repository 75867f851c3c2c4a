//! Outputs as they are, for whoever decodes them elsewhere.

use super::{Head, Job, OUTPUTS_MAX, Setup, output_shape};
use crate::model::Error;
use crate::model::predictions::Predictions;

/// Values of one answer, which is about a megabyte of JSON.
const VALUES_MAX: usize = 1 << 16;

/// See the head of this file.
#[derive(Debug)]
pub struct Raw;

impl Raw {
    /// # Errors
    /// There are more outputs or values than fit an answer.
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, Error> {
        let values = setup.outputs.iter().map(|shape| shape.iter().product::<usize>());
        if setup.outputs.len() > OUTPUTS_MAX || values.fold(0, usize::saturating_add) > VALUES_MAX {
            let expected = format!("at most {OUTPUTS_MAX} outputs of {VALUES_MAX} values together, for the task `raw`");
            return output_shape(expected, setup.outputs);
        }
        Ok(Self)
    }
}

impl Head for Raw {
    fn decode(&mut self, job: &Job<'_>, into: &mut Predictions) -> Result<(), Error> {
        job.outputs.iter().for_each(|output| into.values.extend_from_slice(output.data));
        Ok(())
    }
}
