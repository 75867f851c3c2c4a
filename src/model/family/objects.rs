//! Heads of networks that find objects in rows: rows become candidates, candidates are reduced, and what remains
//! becomes detections, with masks or key points where the network has them.

use std::fmt::Debug;

use super::keypoints::push_keypoints;
use super::yolov10::FinalRows;
use super::{Head, Job, Setup, yolo_nas::YoloNas, yolov5, yolov5::YoloV5, yolov8::YoloV8};
use crate::engine::TensorView;
use crate::model::geometry::{ClassicInverse, DefaultInverse, Precision};
use crate::model::nms::{Candidate, ClassicSuppressor, StandardSuppressor};
use crate::model::predictions::{Detection, Predictions, Shape};
use crate::model::registry::{Family, Task};
use crate::model::threshold::{Bound, Threshold};
use crate::model::{Error, Semantics};

/// Numbers of a key point: x, y, confidence.
const KEYPOINT: usize = 3;

/// How a family lays objects in its outputs.
pub trait Rows: Debug + Send {
    /// Appends what passes the threshold, in the order of the output.
    fn candidates(&mut self, outputs: &[TensorView<'_>], threshold: &Threshold<'_>, candidates: &mut Vec<Candidate>);

    /// Appends the numbers of a candidate that follow its scores: mask coefficients or key points.
    fn extras(&self, _outputs: &[TensorView<'_>], _candidate: &Candidate, _extras: &mut Vec<f32>) {}
}

/// Who decides between overlapping candidates.
#[derive(Debug)]
enum Selection {
    Classic(ClassicSuppressor),
    Standard(StandardSuppressor),
    /// The network did.
    None {
        /// `max_detections` counts.
        limited: bool,
    },
}

/// What is made of a candidate.
#[derive(Debug)]
enum Finish {
    Boxes,
    Keypoints,
}

/// Finds objects.
#[derive(Debug)]
pub struct ObjectHead {
    rows: Box<dyn Rows>,
    selection: Selection,
    finish: Finish,
    semantics: Semantics,
    /// Of the classic engine's arrays.
    precision: Precision,
    candidates: Vec<Candidate>,
    extras: Vec<f32>,
}

impl ObjectHead {
    /// The head of a family of rows.
    ///
    /// # Errors
    /// As [`super::head`].
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, Error> {
        let Setup { contract, semantics, labels, outputs, .. } = *setup;
        let classes = labels.class_names.len();
        let classic = semantics == Semantics::Classic;
        let (finish, extras) = match contract.task {
            Task::KeypointDetection => (Finish::Keypoints, KEYPOINT * super::keypoints::slots(labels)),
            _ => (Finish::Boxes, 0),
        };
        let bound = |classic_bound, default_bound| if classic { classic_bound } else { default_bound };
        let suppressed = || match semantics {
            Semantics::Classic => Selection::Classic(ClassicSuppressor::default()),
            Semantics::Default => Selection::Standard(StandardSuppressor::default()),
        };
        let (rows, selection): (Box<dyn Rows>, Selection) = match contract.family {
            Family::YoloV8 => {
                let bound = bound(Bound::AtLeast, Bound::Above);
                (Box::new(YoloV8::new(outputs, classes, extras, bound)?), suppressed())
            }
            Family::YoloV5 => {
                let reading = if classic { yolov5::Reading::Classic } else { yolov5::Reading::Detection };
                (Box::new(YoloV5::new(outputs, classes, extras, reading)?), suppressed())
            }
            Family::YoloNas => {
                let bound = bound(Bound::AtLeast, Bound::Above);
                (Box::new(YoloNas::new(outputs, classes, bound)?), suppressed())
            }
            Family::YoloV10 => {
                (Box::new(FinalRows::new(outputs, extras, Bound::Above)?), Selection::None { limited: true })
            }
            Family::Yolo26 => {
                let bound = bound(Bound::Above, Bound::AtLeast);
                (Box::new(FinalRows::new(outputs, extras, bound)?), Selection::None { limited: false })
            }
            _ => return Err(setup.unsupported()),
        };
        let precision = match selection {
            Selection::None { .. } => Precision::Single,
            _ => Precision::Double,
        };
        let (candidates, extras) = (Vec::new(), Vec::new());
        Ok(Self { rows, selection, finish, semantics, precision, candidates, extras })
    }

    /// Fills `candidates` with what is to be answered, strongest first.
    fn select(&mut self, job: &Job<'_>) {
        self.candidates.clear();
        self.rows.candidates(job.outputs, &job.threshold, &mut self.candidates);
        // What is no number has no place, and JSON no word for it.
        self.candidates.retain(|candidate| {
            candidate.confidence.is_finite() && candidate.corners.iter().all(|corner| !corner.is_nan())
        });
        let request = job.request;
        let (overlap, agnostic, most) =
            (request.iou_threshold(), request.class_agnostic_nms(), request.max_detections());
        match &mut self.selection {
            Selection::Classic(suppressor) => suppressor.run(&mut self.candidates, overlap, agnostic, most),
            Selection::Standard(suppressor) => suppressor.run(&mut self.candidates, overlap, agnostic, most),
            Selection::None { limited: true } => self.candidates.truncate(most),
            Selection::None { limited: false } => {}
        }
    }
}

impl Head for ObjectHead {
    fn decode(&mut self, job: &Job<'_>, into: &mut Predictions) -> Result<(), Error> {
        self.select(job);
        let classic = ClassicInverse::new(job.transform);
        let default = DefaultInverse::new(job.transform);
        for candidate in self.candidates.iter().filter(|candidate| job.wants(candidate.class_id)) {
            let corners = match self.semantics {
                Semantics::Classic => classic.corners(candidate.corners, self.precision),
                Semantics::Default => default.whole_corners(candidate.corners),
            };
            let shape = match self.finish {
                Finish::Boxes => Shape::Box,
                Finish::Keypoints => {
                    self.extras.clear();
                    self.rows.extras(job.outputs, candidate, &mut self.extras);
                    let place = |x: f32, y: f32| match self.semantics {
                        Semantics::Classic => classic.keypoint(x, y, self.precision),
                        Semantics::Default => {
                            let [x, y] = default.point([x, y]).map(|side| f64::from(side.round_ties_even()));
                            (x, y)
                        }
                    };
                    let points = self.extras.as_chunks::<KEYPOINT>().0.iter().map(|&[x, y, confidence]| {
                        let (x, y) = place(x, y);
                        (x, y, confidence)
                    });
                    push_keypoints(points, candidate.class_id, self.semantics, job.labels, into)
                }
            };
            let Candidate { confidence, class_id, .. } = *candidate;
            into.detections.push(Detection { corners, confidence, class_id, shape });
        }
        Ok(())
    }
}
