//! RF-DETR detection, segmentation and key points: boxes `[queries, 4]`, logits `[queries, classes]`, and then masks
//! `[queries, height, width]` or key points `[queries, classes × points, 8]` (SPEC §2.6).
//!
//! Boxes are centre x, centre y, width, height as shares of the picture; a sigmoid makes scores of logits. Every pair
//! of a query and a class is a candidate; the strongest are kept, and nothing suppresses. Of a key point's eight
//! numbers the first two are its place, the third the logit of its being findable, the fifth to seventh the Cholesky
//! factors of its precision, by which the score of its object is fused.

use super::keypoints::{self, push_keypoints};
use super::{Head, Job, Setup, output_shape, sigmoid};
use crate::model::geometry::DefaultInverse;
use crate::model::labels::is_removed;
use crate::model::mask::MaskAssembler;
use crate::model::nms::Candidate;
use crate::model::predictions::{Detection, Predictions, Shape};
use crate::model::registry::Task;
use crate::model::threshold::Bound;
use crate::model::transform::{Fit, Transform};
use crate::model::{Error, Semantics};

/// Numbers of a key point.
const KEYPOINT: usize = 8;
/// How much an object's score depends on how sharply its points are placed.
const SHARPNESS_EXPONENT: f32 = 0.2;

/// Finds objects by queries.
#[derive(Debug)]
pub struct RfDetr {
    semantics: Semantics,
    task: Task,
    /// What each logit's class is called in answers; `None` for one that is not answered.
    class_of_logit: Vec<Option<u32>>,
    /// Key points of a query and class; 0 without.
    points: usize,
    scores: Vec<f32>,
    order: Vec<u32>,
    candidates: Vec<Candidate>,
    masks: MaskAssembler,
}

impl RfDetr {
    /// # Errors
    /// As [`super::head`].
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, Error> {
        let (queries, logits) = match setup.outputs {
            [boxes, logits, ..] => match (&boxes[..], &logits[..]) {
                (&[queries, 4], &[other, logits]) if queries == other && logits > 0 => (queries, logits),
                _ => return output_shape("[queries, 4] and [queries, classes]".into(), setup.outputs),
            },
            _ => return output_shape("[queries, 4] and [queries, classes]".into(), setup.outputs),
        };
        let mut points = 0;
        match (setup.contract.task, setup.outputs.get(2).map(Vec::as_slice)) {
            (Task::ObjectDetection, _) => {}
            (Task::InstanceSegmentation, Some(&[found, _, _])) if found == queries => {}
            (Task::InstanceSegmentation, _) => {
                return output_shape(format!("third [{queries}, height, width]"), setup.outputs);
            }
            (_, third) => {
                points = keypoints::slots(setup.labels);
                if third != Some(&[queries, logits * points, KEYPOINT]) {
                    return output_shape(format!("third [{queries}, {}, {KEYPOINT}]", logits * points), setup.outputs);
                }
            }
        }
        Ok(Self {
            semantics: setup.semantics,
            task: setup.contract.task,
            class_of_logit: classes_of_logits(setup, logits),
            points,
            scores: Vec::new(),
            order: Vec::new(),
            candidates: Vec::new(),
            masks: MaskAssembler::default(),
        })
    }

    /// The `most` strongest pairs, strongest first; equal ones in the order of the output.
    fn strongest(&mut self, most: usize) {
        let scores = &self.scores;
        let before = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
        self.order.clear();
        self.order.extend((0..).take(scores.len()));
        if most < self.order.len() {
            if most > 0 {
                self.order.select_nth_unstable_by(most - 1, before);
            }
            self.order.truncate(most);
        }
        self.order.sort_unstable_by(before);
    }

    /// Fills `candidates` with what is to be answered, strongest first; corners as shares of the picture.
    fn select(&mut self, job: &Job<'_>) {
        let [boxes, logits, ..] = job.outputs else { return };
        let classes = self.class_of_logit.len();
        self.scores.clear();
        self.scores.extend(logits.data.iter().map(|&logit| sigmoid(logit)));
        let queries = boxes.shape[0];
        let most = job.request.max_detections();
        match (self.semantics, self.points) {
            (Semantics::Classic, _) => self.strongest(most),
            (Semantics::Default, 0) => self.strongest(queries),
            (Semantics::Default, _) => self.strongest(usize::MAX),
        }
        self.candidates.clear();
        for &pair in &self.order {
            let (query, logit) = (pair as usize / classes, pair as usize % classes);
            let Some(class_id) = self.class_of_logit[logit] else { continue };
            let confidence = match self.points {
                0 => self.scores[pair as usize],
                points => fused_score(self.scores[pair as usize], points_of(job, query, logit, points)),
            };
            let [x, y, width, height] = std::array::from_fn(|side| boxes.data[query * 4 + side]);
            let (half_w, half_h) = (0.5 * width, 0.5 * height);
            let corners = [x - half_w, y - half_h, x + half_w, y + half_h];
            let passes = Bound::Above.passes(confidence, job.threshold.of(class_id));
            if passes && confidence.is_finite() && corners.iter().all(|corner| !corner.is_nan()) {
                self.candidates.push(Candidate { corners, confidence, class_id, index: pair });
            }
        }
        if self.points > 0 {
            self.candidates.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        }
        if self.semantics == Semantics::Default && self.task == Task::InstanceSegmentation {
            self.candidates.truncate(most);
        }
    }
}

impl Head for RfDetr {
    fn decode(&mut self, job: &Job<'_>, into: &mut Predictions) -> Result<(), Error> {
        self.select(job);
        let (width, height) = (to_f32(job.transform.network.width), to_f32(job.transform.network.height));
        for candidate in &mut self.candidates {
            let [left, top, right, bottom] = candidate.corners;
            candidate.corners = match self.semantics {
                Semantics::Classic => classic_corners(candidate.corners, job.transform),
                Semantics::Default => [left * width, top * height, right * width, bottom * height],
            };
        }
        match (self.task, job.outputs.get(2)) {
            (Task::InstanceSegmentation, Some(masks)) => {
                let classes = to_u32(self.class_of_logit.len());
                self.candidates.iter_mut().for_each(|candidate| candidate.index /= classes);
                self.masks.queries(self.semantics, &self.candidates, *masks, job, into)
            }
            _ => {
                self.finish(job, (width, height), into);
                Ok(())
            }
        }
    }
}

impl RfDetr {
    /// Boxes, with key points where there are any.
    fn finish(&self, job: &Job<'_>, (width, height): (f32, f32), into: &mut Predictions) {
        let classes = self.class_of_logit.len();
        let inverse = DefaultInverse::new(job.transform);
        for candidate in self.candidates.iter().filter(|candidate| job.wants(candidate.class_id)) {
            let Candidate { corners, confidence, class_id, index } = *candidate;
            let corners = match self.semantics {
                Semantics::Classic => corners.map(f64::from),
                Semantics::Default => inverse.whole_corners(corners),
            };
            let shape = match self.points {
                0 => Shape::Box,
                count => {
                    let pair = index as usize;
                    let points = points_of(job, pair / classes, pair % classes, count).iter().map(|point| {
                        let [x, y] = inverse.clip(inverse.point([point[0] * width, point[1] * height]));
                        let place = |side: f32| f64::from(side.round_ties_even());
                        (place(x), place(y), sigmoid(point[2]))
                    });
                    push_keypoints(points, class_id, self.semantics, keypoints::CONFIDENCE_MIN, job.labels, into)
                }
            };
            into.detections.push(Detection { corners, confidence, class_id, shape });
        }
    }
}

/// Classes that are removed have no number, and those after them move up; both engines drop what has no name.
fn classes_of_logits(setup: &Setup<'_>, logits: usize) -> Vec<Option<u32>> {
    let mut next = 0;
    let mut classes: Vec<Option<u32>> = setup
        .package
        .class_names
        .iter()
        .map(|name| {
            let kept = !is_removed(&setup.package.layout, setup.contract, name);
            next += u32::from(kept);
            kept.then(|| next - 1)
        })
        .collect();
    classes.resize(logits, None);
    classes
}

/// The points of a query for one of its classes.
fn points_of<'a>(job: &Job<'a>, query: usize, logit: usize, points: usize) -> &'a [[f32; KEYPOINT]] {
    let Some(output) = job.outputs.get(2) else { return &[] };
    let per_query = output.shape[1];
    let start = query * per_query + logit * points;
    &output.data.as_chunks::<KEYPOINT>().0[start..start + points]
}

/// The score of an object times the sharpness of its points: the findable-weighted mean of their expected squared
/// errors to the power -0.2, brought to 0 to 1. In logarithms, as the original, so that nothing overflows.
fn fused_score(score: f32, points: &[[f32; KEYPOINT]]) -> f32 {
    let logsumexp = |terms: &mut dyn Iterator<Item = f32>| {
        let (mut largest, mut sum) = (f32::NEG_INFINITY, 0.0_f32);
        for term in terms {
            if term > largest {
                sum = sum * (largest - term).exp() + 1.0;
                largest = term;
            } else {
                sum += (term - largest).exp();
            }
        }
        largest + sum.ln()
    };
    let weight = |point: &[f32; KEYPOINT]| sigmoid(point[2]).max(1e-12).ln();
    let trace = |point: &[f32; KEYPOINT]| {
        let (across, down) = (-2.0 * point[4], -2.0 * point[6]);
        let skew = 2.0 * point[5].abs().max(1e-12).ln() + across + down;
        logsumexp(&mut [across, down, skew].into_iter())
    };
    let weighted = logsumexp(&mut points.iter().map(|point| trace(point) + weight(point)));
    let mean = weighted - logsumexp(&mut points.iter().map(weight));
    let fused = score * (-SHARPNESS_EXPONENT * mean).exp();
    fused / (1.0 + fused)
}

/// The classic engine's way back has no rounding, and does not look at static crops.
fn classic_corners([left, top, right, bottom]: [f32; 4], transform: &Transform) -> [f32; 4] {
    let (image_w, image_h) = (to_f32(transform.image.width), to_f32(transform.image.height));
    let corners = match transform.fit {
        Fit::Stretch => [left * image_w, top * image_h, right * image_w, bottom * image_h],
        Fit::Letterbox | Fit::CenterCrop => {
            let (net_w, net_h) = (transform.network.width as f64, transform.network.height as f64);
            let (wide, high) = (f64::from(image_w), f64::from(image_h));
            let scale = (net_w / wide).min(net_h / high);
            #[expect(clippy::cast_possible_truncation, reason = "the engine's arrays hold 32-bit floats")]
            let [pad_x, pad_y, scale, net_w, net_h] =
                [(net_w - (wide * scale).trunc()) / 2.0, (net_h - (high * scale).trunc()) / 2.0, scale, net_w, net_h]
                    .map(|value| value as f32);
            let x = |share: f32| (share * net_w - pad_x) / scale;
            let y = |share: f32| (share * net_h - pad_y) / scale;
            [x(left), y(top), x(right), y(bottom)]
        }
    };
    let [left, top, right, bottom] = corners;
    [left.clamp(0.0, image_w), top.clamp(0.0, image_h), right.clamp(0.0, image_w), bottom.clamp(0.0, image_h)]
}

#[expect(clippy::cast_precision_loss, reason = "sides of images are far below 2^24")]
fn to_f32(side: usize) -> f32 {
    side as f32
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
