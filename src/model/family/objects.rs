//! Heads of networks that find objects in rows: rows become candidates, candidates are reduced, and what remains
//! becomes detections, with masks or key points where the network has them.

use std::fmt::Debug;

use super::keypoints::{self, push_keypoints};
use super::yolo_lite::YoloLite;
use super::yolo_nas::YoloNas;
use super::yolov5::{Reading, YoloV5};
use super::yolov8::YoloV8;
use super::yolov10::FinalRows;
use super::{Head, Job, Setup, output_shape, rt_detr, tflite, yolox};
use crate::cache::{Answers, Layout};
use crate::engine::TensorView;
use crate::model::geometry::{ClassicInverse, DefaultInverse, Precision};
use crate::model::mask::{MaskAssembler, Prototypes};
use crate::model::nms::{Candidate, ClassicSuppressor, StandardSuppressor};
use crate::model::predictions::{Detection, Predictions, Shape};
use crate::model::registry::{Family, Task};
use crate::model::threshold::{Bound, Threshold};
use crate::model::transform::Transform;
use crate::model::{Error, Semantics};

/// Numbers of a key point: x, y, confidence.
const KEYPOINT: usize = 3;

/// Which output of YOLOv7 segmentation has the prototypes (SPEC §2.6).
const YOLOV7_PROTOTYPES: usize = 4;

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
    Keypoints {
        confidence_min: f32,
    },
    Masks {
        assembler: Box<MaskAssembler>,
        /// Which output has the prototypes.
        prototypes: usize,
        smoothing: bool,
    },
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
        let (finish, extras) = match contract.task {
            Task::KeypointDetection => {
                let unseen = matches!(contract.family, Family::Yolo26 | Family::Tflite);
                let confidence_min = if unseen { keypoints::CONFIDENCE_MIN } else { 0.0 };
                (Finish::Keypoints { confidence_min }, KEYPOINT * keypoints::slots(labels))
            }
            Task::InstanceSegmentation => {
                let prototypes = if contract.family == Family::YoloV7 { YOLOV7_PROTOTYPES } else { 1 };
                let coefficients = coefficients(outputs, prototypes)?;
                let smoothing = contract.family == Family::YoloV8;
                (Finish::Masks { assembler: Box::default(), prototypes, smoothing }, coefficients)
            }
            _ => (Finish::Boxes, 0),
        };
        let (rows, selection) = rows_and_selection(setup, extras)?;
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
        if let Finish::Masks { assembler, prototypes, smoothing } = &mut self.finish {
            self.extras.clear();
            for candidate in &self.candidates {
                self.rows.extras(job.outputs, candidate, &mut self.extras);
            }
            let Some(&protos) = job.outputs.get(*prototypes) else { return Ok(()) };
            let (smoothing, precision, coefficients) = (*smoothing, self.precision, &self.extras[..]);
            let masks = Prototypes { smoothing, precision, coefficients, protos };
            return assembler.prototypes(self.semantics, &masks, &self.candidates, job, into);
        }
        let inverse = Inverse::new(self.semantics, self.precision, job.transform);
        for candidate in self.candidates.iter().filter(|candidate| job.wants(candidate.class_id)) {
            let Candidate { corners, confidence, class_id, .. } = *candidate;
            let shape = match self.finish {
                Finish::Keypoints { confidence_min } => {
                    self.extras.clear();
                    self.rows.extras(job.outputs, candidate, &mut self.extras);
                    let points = self.extras.as_chunks::<KEYPOINT>().0.iter().map(|&[x, y, confidence]| {
                        let (x, y) = inverse.keypoint(x, y);
                        (x, y, confidence)
                    });
                    push_keypoints(points, class_id, self.semantics, confidence_min, job.labels, into)
                }
                _ => Shape::Box,
            };
            into.detections.push(Detection { corners: inverse.corners(corners), confidence, class_id, shape });
        }
        Ok(())
    }
}

/// How a family's objects are read, with so many numbers after their scores, and who decides between them.
fn rows_and_selection(setup: &Setup<'_>, extras: usize) -> Result<(Box<dyn Rows>, Selection), Error> {
    let Setup { contract, semantics, labels, input, outputs, .. } = *setup;
    let classes = labels.class_names.len();
    let classic = semantics == Semantics::Classic;
    let bound = |classic_bound, default_bound| if classic { classic_bound } else { default_bound };
    let suppressed = || match semantics {
        Semantics::Classic => Selection::Classic(ClassicSuppressor::default()),
        Semantics::Default => Selection::Standard(StandardSuppressor::default()),
    };
    Ok(match contract.family {
        Family::YoloV8 => {
            let bound = bound(Bound::AtLeast, Bound::Above);
            (Box::new(YoloV8::new(outputs, classes, extras, bound)?), suppressed())
        }
        Family::YoloV5 | Family::YoloV7 => {
            let reading = match (semantics, contract.task, contract.family) {
                (Semantics::Classic, ..) => Reading::Classic,
                (_, Task::InstanceSegmentation, Family::YoloV7) => Reading::SegmentationV7,
                (_, Task::InstanceSegmentation, _) => Reading::SegmentationV5,
                _ => Reading::Detection,
            };
            (Box::new(YoloV5::new(outputs, classes, extras, reading)?), suppressed())
        }
        Family::YoloNas => {
            let bound = bound(Bound::AtLeast, Bound::Above);
            (Box::new(YoloNas::new(outputs, classes, bound)?), suppressed())
        }
        Family::YoloLite if fused(setup) => {
            (Box::new(FinalRows::new(outputs, extras, Bound::AtLeast)?), Selection::None { limited: false })
        }
        Family::YoloLite => (Box::new(YoloLite::new(outputs, classes)?), suppressed()),
        Family::YoloV10 => {
            (Box::new(FinalRows::new(outputs, extras, Bound::Above)?), Selection::None { limited: true })
        }
        Family::Yolo26 => {
            let bound = bound(Bound::Above, Bound::AtLeast);
            (Box::new(FinalRows::new(outputs, extras, bound)?), Selection::None { limited: false })
        }
        // Not Roboflow's: suppressed as their own tools do.
        Family::YoloX => {
            (Box::new(yolox::check(outputs, classes, input)?), Selection::Standard(StandardSuppressor::default()))
        }
        Family::RtDetr => (Box::new(rt_detr::check(outputs, classes, input)?), Selection::None { limited: true }),
        Family::Tflite => {
            let rows: Box<dyn Rows> = match answers(setup) {
                Some(Answers::Boxes(order)) => Box::new(tflite::Detections::new(outputs, input, order)?),
                Some(Answers::Pose) => Box::new(tflite::Pose::new(outputs, input, extras / KEYPOINT)?),
                _ => return Err(setup.unsupported()),
            };
            (rows, Selection::None { limited: true })
        }
        _ => return Err(setup.unsupported()),
    })
}

/// What the outputs are, by the manifest of a package of ours.
fn answers(setup: &Setup<'_>) -> Option<Answers> {
    match &setup.package.layout {
        Layout::Tflite(package) => Some(package.answers),
        Layout::Classic { .. } | Layout::ModelsCache(_) => None,
    }
}

/// The way back of either engine.
enum Inverse {
    Classic(ClassicInverse, Precision),
    Default(DefaultInverse),
}

impl Inverse {
    fn new(semantics: Semantics, precision: Precision, transform: &Transform) -> Self {
        match semantics {
            Semantics::Classic => Inverse::Classic(ClassicInverse::new(transform), precision),
            Semantics::Default => Inverse::Default(DefaultInverse::new(transform)),
        }
    }

    fn corners(&self, corners: [f32; 4]) -> [f64; 4] {
        match self {
            Inverse::Classic(inverse, precision) => inverse.corners(corners, *precision),
            Inverse::Default(inverse) => inverse.whole_corners(corners),
        }
    }

    fn keypoint(&self, x: f32, y: f32) -> (f64, f64) {
        match self {
            Inverse::Classic(inverse, precision) => inverse.keypoint(x, y, *precision),
            Inverse::Default(inverse) => {
                let [x, y] = inverse.point([x, y]).map(|side| f64::from(side.round_ties_even()));
                (x, y)
            }
        }
    }
}

/// Whether the network suppresses by itself, which a package of the default engine may say.
fn fused(setup: &Setup<'_>) -> bool {
    matches!(&setup.package.layout, Layout::ModelsCache(package) if package.config.post_processing.fused)
}

/// Mask coefficients of a candidate: as many as there are prototypes.
fn coefficients(outputs: &[Vec<usize>], prototypes: usize) -> Result<usize, Error> {
    match outputs.get(prototypes).map(Vec::as_slice) {
        Some(&[coefficients, _, _]) => Ok(coefficients),
        _ => output_shape(format!("output {prototypes} [coefficients, height, width]"), outputs),
    }
}
