//! Heads of everything that finds objects: rows become candidates, candidates are reduced, the rest becomes
//! detections.

use super::{Head, Job, Setup, yolov8};
use crate::model::Error;
use crate::model::geometry::{ClassicInverse, Precision};
use crate::model::nms::{Candidate, Suppressor};
use crate::model::predictions::{Detection, Predictions, Shape};

/// Finds objects.
#[derive(Debug)]
pub struct ObjectHead {
    decoder: yolov8::Decoder,
    candidates: Vec<Candidate>,
    suppressor: Suppressor,
}

impl ObjectHead {
    pub(super) fn yolov8(setup: &Setup<'_>) -> Result<Self, Error> {
        yolov8::check(setup.outputs, setup.labels.class_names.len())?;
        Ok(Self { decoder: yolov8::Decoder::default(), candidates: Vec::new(), suppressor: Suppressor::default() })
    }
}

impl Head for ObjectHead {
    fn decode(&mut self, job: &Job<'_>, into: &mut Predictions) -> Result<(), Error> {
        let Some(output) = job.outputs.first() else { return Ok(()) };
        self.candidates.clear();
        self.decoder.decode(*output, job.threshold.uniform, &mut self.candidates);
        let request = job.request;
        self.suppressor.run(
            &mut self.candidates,
            request.iou_threshold(),
            request.class_agnostic_nms(),
            request.max_detections(),
        );
        let inverse = ClassicInverse::new(job.transform);
        into.detections.extend(self.candidates.iter().filter(|candidate| job.wants(candidate.class_id)).map(
            |candidate| Detection {
                corners: inverse.corners(candidate.corners, Precision::Double),
                confidence: candidate.confidence,
                class_id: candidate.class_id,
                shape: Shape::Box,
            },
        ));
        Ok(())
    }
}
