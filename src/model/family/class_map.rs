//! Semantic segmentation by DeepLabV3+, YOLO26 and RF-DETR: one output `[classes, height, width]` of logits, on a grid
//! of the network's own (SPEC §3.3). The class of a pixel is that of the greatest logit, its confidence the softmax of
//! it; RF-DETR, whose classes were trained one by one, has the sigmoid of it.
//!
//! The classic engine decides on the network's grid and takes the nearest cell for each pixel of the image. The default
//! engine takes padding off, resizes the logits, decides for each pixel, and gives what stays below the threshold, and
//! what a static crop cut off, to the background.

use super::{Head, Job, Setup};
use crate::frame::Size;
use crate::model::mask::real::Real;
use crate::model::mask::taps::{Kernel, Taps};
use crate::model::mask::{Planes, Stripped};
use crate::model::predictions::{ClassMap, Predictions};
use crate::model::{Error, Family, Semantics};

/// Class ids are bytes in a class map.
const CLASSES_MAX: usize = 256;

/// Name of the class that is no object, in any case of letters.
const BACKGROUND: &str = "background";

/// Decodes class maps.
#[derive(Debug)]
pub struct ClassMapHead {
    semantics: Semantics,
    background: u8,
    /// The class of each plane of the output.
    classes: Vec<u8>,
    best: Best,
    across: Taps<f32>,
    down: Taps<f32>,
    /// Rows of the source resized across, all planes of one row together; a row's place is its number modulo the
    /// count of places.
    rows: Vec<f32>,
    /// Which source row each place holds.
    held: Vec<Option<usize>>,
    blend: Vec<f32>,
    /// One row of the source with what padding puts beside it.
    padded: Vec<f32>,
    /// Classes and confidences on the network's grid.
    grid: ClassMap,
    /// The column of the grid that each column of the image takes.
    columns: Vec<usize>,
}

impl ClassMapHead {
    /// # Errors
    /// The network does not have one output of three axes, or has more classes than a byte can tell; or the default
    /// engine's package does not name a background and a class before it.
    pub fn new(setup: &Setup<'_>) -> Result<Self, Error> {
        let expected = || Error::OutputShape {
            expected: format!("one output [classes, height, width] of 1 to {CLASSES_MAX} classes"),
            found: setup.outputs.to_vec(),
        };
        let [output] = setup.outputs else { return Err(expected()) };
        let [planes @ 1..=CLASSES_MAX, height, width] = output[..] else { return Err(expected()) };
        if height == 0 || width == 0 {
            return Err(expected());
        }
        let names = &setup.labels.class_names;
        let background = match setup.semantics {
            Semantics::Classic => 0,
            Semantics::Default => {
                let found = names.iter().position(|name| name.to_lowercase() == BACKGROUND);
                found.filter(|_| names.len() > 1).ok_or_else(|| Error::Unsupported {
                    id: setup.package.id.clone(),
                    task: setup.package.kind.task.clone(),
                    model_type: setup.package.kind.model_type.clone(),
                    why: "class_names.txt must name `background` and at least one other class".into(),
                })?
            }
        };
        // A network without a plane for the background has one class less than there are names.
        let skipping = setup.semantics == Semantics::Default && (planes == 1 || names.len() == planes + 1);
        let class = |plane: usize| if skipping && plane >= background { plane + 1 } else { plane };
        let classes = (0..planes).map(|plane| byte(class(plane))).collect();
        let activation = match setup.contract.family {
            Family::RfDetr => Activation::Sigmoid,
            _ => Activation::Softmax,
        };
        Ok(Self::with(setup.semantics, byte(background), classes, activation))
    }

    fn with(semantics: Semantics, background: u8, classes: Vec<u8>, activation: Activation) -> Self {
        Self {
            semantics,
            background,
            classes,
            best: Best { activation, single_is_probability: semantics == Semantics::Default, ..Best::default() },
            across: Taps::default(),
            down: Taps::default(),
            rows: Vec::new(),
            held: Vec::new(),
            blend: Vec::new(),
            padded: Vec::new(),
            grid: ClassMap::default(),
            columns: Vec::new(),
        }
    }

    fn classic(&mut self, planes: Planes<'_>, image: Size, into: &mut ClassMap) {
        let grid = planes.size;
        self.grid.class_ids.clear();
        self.grid.confidence.clear();
        for y in 0..grid.height {
            self.blend.clear();
            (0..planes.count()).for_each(|plane| self.blend.extend_from_slice(planes.row(plane, y)));
            self.best.run(&mut self.blend, grid.width);
            self.grid.class_ids.extend(self.best.plane.iter().map(|&plane| self.classes[plane]));
            let levels = self.best.confidence.iter().map(|confidence| level((confidence * 255.0).round_ties_even()));
            self.grid.confidence.extend(levels);
        }
        self.columns.clear();
        self.columns.extend((0..image.width).map(|x| nearest(x, grid.width, image.width)));
        for y in 0..image.height {
            let row = nearest(y, grid.height, image.height) * grid.width;
            into.class_ids.extend(self.columns.iter().map(|x| self.grid.class_ids[row + x]));
            into.confidence.extend(self.columns.iter().map(|x| self.grid.confidence[row + x]));
        }
    }

    fn default_engine(&mut self, planes: Planes<'_>, job: &Job<'_>, into: &mut ClassMap) {
        let crop = job.transform.crop;
        // Only a crop that begins elsewhere is laid back into the image.
        into.size = if crop.left > 0 || crop.top > 0 { job.transform.image } else { job.transform.crop_size() };
        into.class_ids.resize(into.size.width * into.size.height, self.background);
        into.confidence.resize(into.size.width * into.size.height, 0);
        let source = Stripped::new(planes.size, job.transform);
        self.across.rebuild(source.size.width, crop.width, Kernel::Antialias);
        self.down.rebuild(source.size.height, crop.height, Kernel::Antialias);
        self.hold((0..crop.height).map(|y| self.down.get(y).0.len()).max().unwrap_or(1));
        for y in 0..crop.height {
            self.blend_row(planes, source, y, crop.width);
            self.best.run(&mut self.blend, crop.width);
            let start = (crop.top + y) * into.size.width + crop.left;
            let ids = &mut into.class_ids[start..start + crop.width];
            let levels = &mut into.confidence[start..start + crop.width];
            let found = self.best.plane.iter().zip(&self.best.confidence);
            for ((id, into), (&plane, &confidence)) in ids.iter_mut().zip(levels).zip(found) {
                let class = self.classes[plane];
                if confidence >= job.threshold.of(u32::from(class)) {
                    (*id, *into) = (class, level(confidence * 255.0));
                }
            }
        }
    }

    /// Makes places for as many rows as one row of the result needs at once, all empty.
    fn hold(&mut self, places: usize) {
        self.held.clear();
        self.held.resize(places, None);
    }

    /// Row `y` of the result, all planes, `width` each, to `blend`.
    fn blend_row(&mut self, planes: Planes<'_>, source: Stripped, y: usize, width: usize) {
        let len = planes.count() * width;
        self.rows.resize(self.held.len() * len, 0.0);
        let range = self.down.get(y).0;
        for row in range {
            let place = row % self.held.len();
            if self.held[place] != Some(row) {
                self.held[place] = Some(row);
                self.resize_across(planes, source, row, width, place * len);
            }
        }
        self.blend.clear();
        self.blend.resize(len, 0.0);
        let (range, weights) = self.down.get(y);
        for (row, &weight) in range.zip(weights) {
            let values = &self.rows[row % self.held.len() * len..][..len];
            for (sum, &value) in self.blend.iter_mut().zip(values) {
                *sum = sum.plus_product(weight, value);
            }
        }
    }

    /// Row `row` of the source, all planes, resized across, to `rows` from `start` on.
    fn resize_across(&mut self, planes: Planes<'_>, source: Stripped, row: usize, width: usize, start: usize) {
        let inside = |at: usize, strip: i64, len: usize| {
            let moved = i64::try_from(at).unwrap_or(i64::MAX).saturating_add(strip);
            usize::try_from(moved).ok().filter(|&moved| moved < len)
        };
        let from = inside(row, source.strip.1, planes.size.height);
        for (plane, out) in self.rows[start..].chunks_exact_mut(width).take(planes.count()).enumerate() {
            self.padded.clear();
            // What a centre crop cut off is given the background's number as its logit, as odd as that is.
            self.padded.extend((0..source.size.width).map(|x| {
                let at = inside(x, source.strip.0, planes.size.width);
                from.zip(at).map_or(f32::from(self.background), |(y, x)| planes.row(plane, y)[x])
            }));
            for (x, out) in out.iter_mut().enumerate() {
                let (range, weights) = self.across.get(x);
                *out = self.padded[range]
                    .iter()
                    .zip(weights)
                    .fold(0.0_f32, |sum, (&value, &weight)| sum.plus_product(weight, value));
            }
        }
    }
}

impl Head for ClassMapHead {
    fn decode(&mut self, job: &Job<'_>, into: &mut Predictions) -> Result<(), Error> {
        let Some(planes) = job.outputs.first().and_then(|&output| Planes::new(output)) else { return Ok(()) };
        if planes.count() != self.classes.len() {
            return Ok(());
        }
        match self.semantics {
            Semantics::Classic => self.classic(planes, job.transform.image, &mut into.class_map),
            Semantics::Default => self.default_engine(planes, job, &mut into.class_map),
        }
        Ok(())
    }
}

/// What makes a confidence of a pixel's logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Activation {
    #[default]
    Softmax,
    /// Of the greatest.
    Sigmoid,
}

/// The best plane of each pixel of a row, and how sure it is.
#[derive(Debug, Default)]
struct Best {
    activation: Activation,
    /// A single plane is the logit of one class against nothing, and goes through a sigmoid.
    single_is_probability: bool,
    plane: Vec<usize>,
    confidence: Vec<f32>,
    greatest: Vec<f32>,
    sum: Vec<f32>,
}

impl Best {
    /// Of logits, plane after plane, `width` each. They are overwritten.
    fn run(&mut self, logits: &mut [f32], width: usize) {
        let single = self.single_is_probability && logits.len() == width;
        self.plane.clear();
        self.plane.resize(width, 0);
        self.confidence.clear();
        if single {
            self.confidence.extend(logits.iter().map(|logit| logit.sigmoid()));
            return;
        }
        self.greatest.clear();
        self.greatest.resize(width, f32::NEG_INFINITY);
        match self.activation {
            Activation::Softmax => self.softmax(logits, width),
            Activation::Sigmoid => self.sigmoid(logits, width),
        }
    }

    fn sigmoid(&mut self, logits: &[f32], width: usize) {
        for (number, plane) in logits.chunks_exact(width).enumerate() {
            for ((&logit, best), greatest) in plane.iter().zip(&mut self.plane).zip(&mut self.greatest) {
                if logit > *greatest {
                    (*best, *greatest) = (number, logit);
                }
            }
        }
        self.confidence.extend(self.greatest.iter().map(|logit| logit.sigmoid()));
    }

    fn softmax(&mut self, logits: &mut [f32], width: usize) {
        self.confidence.resize(width, 0.0);
        for plane in logits.chunks_exact(width) {
            for (greatest, &logit) in self.greatest.iter_mut().zip(plane) {
                *greatest = greatest.max(logit);
            }
        }
        self.sum.clear();
        self.sum.resize(width, 0.0);
        for plane in logits.chunks_exact_mut(width) {
            for ((logit, greatest), sum) in plane.iter_mut().zip(&self.greatest).zip(&mut self.sum) {
                *logit = (*logit - greatest).exp();
                *sum += *logit;
            }
        }
        // Of probabilities, not of logits: those that round to the same number are a tie, and the first has it.
        for (number, plane) in logits.chunks_exact(width).enumerate() {
            let found = self.plane.iter_mut().zip(&mut self.confidence);
            for ((&power, sum), (best, confidence)) in plane.iter().zip(&self.sum).zip(found) {
                let probability = power / sum;
                if probability > *confidence {
                    (*best, *confidence) = (number, probability);
                }
            }
        }
    }
}

/// The cell of `source` that is nearest to cell `at` of `result`: PyTorch's, which rounds down in 32-bit floats.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "sides are far below 2^24"
)]
fn nearest(at: usize, source: usize, result: usize) -> usize {
    let scale = source as f32 / result as f32;
    ((at as f32 * scale) as usize).min(source - 1)
}

/// Cut to a byte.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, and cuts on purpose")]
fn level(value: f32) -> u8 {
    value as u8
}

fn byte(class: usize) -> u8 {
    u8::try_from(class).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::TensorView;
    use crate::frame::Region;
    use crate::model::{Fit, Labels, Request, Task, Threshold, Transform};

    fn transform(image: Size, crop: Region, network: Size, pad: [i32; 4]) -> Transform {
        Transform {
            image,
            crop,
            crop_percent: None,
            cropped: false,
            fit: Fit::Stretch,
            network,
            pad,
            scale: (1.0, 1.0),
        }
    }

    fn decode(head: &mut ClassMapHead, shape: [usize; 3], data: &[f32], transform: &Transform, limit: f32) -> ClassMap {
        let labels = Labels::new(Task::SemanticSegmentation, vec!["background".into(), "a".into(), "b".into()]);
        let outputs = [TensorView { shape: &shape, data }];
        let job = Job {
            outputs: &outputs,
            transform,
            request: &Request::default(),
            threshold: Threshold::uniform(f64::from(limit)),
            labels: &labels,
        };
        let mut into = Predictions::default();
        head.decode(&job, &mut into).unwrap();
        into.class_map
    }

    const fn whole(size: Size) -> Region {
        Region { left: 0, top: 0, width: size.width, height: size.height }
    }

    #[test]
    fn classic_takes_the_nearest_cell_and_knows_no_threshold() {
        let mut head = ClassMapHead::with(Semantics::Classic, 0, vec![0, 1], Activation::Softmax);
        let image = Size::new(4, 2);
        let map = decode(
            &mut head,
            [2, 1, 2],
            &[0.0, 1.0, 0.0, -1.0],
            &transform(image, whole(image), Size::new(2, 1), [0; 4]),
            0.9,
        );
        assert_eq!(map.class_ids, [0; 8]);
        // A tie is the first class's, at one half of 255, rounded to even; the other is 1 / (1 + exp(-2)).
        assert_eq!(map.confidence, [128, 128, 225, 225, 128, 128, 225, 225]);
    }

    #[test]
    fn what_is_below_the_threshold_or_outside_the_crop_is_background() {
        let mut head = ClassMapHead::with(Semantics::Default, 2, vec![0, 1], Activation::Softmax);
        let image = Size::new(4, 2);
        let crop = Region { left: 1, top: 1, width: 2, height: 1 };
        let transform = transform(image, crop, Size::new(2, 1), [0; 4]);
        let map = decode(&mut head, [2, 1, 2], &[0.0, 0.1, 3.0, 0.0], &transform, 0.9);
        assert_eq!(map.class_ids, [2, 2, 2, 2, 2, 1, 2, 2]);
        assert_eq!(map.confidence, [0, 0, 0, 0, 0, 242, 0, 0]);
    }

    #[test]
    fn padding_is_taken_off_before_the_resize() {
        let mut head = ClassMapHead::with(Semantics::Default, 0, vec![0, 1], Activation::Softmax);
        let image = Size::new(2, 4);
        let transform = transform(image, whole(image), Size::new(8, 8), [2, 0, 2, 0]);
        // On a grid of 4 by 4, one column at each side is padding.
        let foreground: Vec<f32> = (0..16).map(|cell| if cell % 4 == 1 { 5.0 } else { -5.0 }).collect();
        let data: Vec<f32> = std::iter::repeat_n(0.0, 16).chain(foreground).collect();
        let map = decode(&mut head, [2, 4, 4], &data, &transform, 0.5);
        assert_eq!(map.class_ids, [1, 0, 1, 0, 1, 0, 1, 0]);
    }

    #[test]
    fn a_sigmoid_looks_at_the_greatest_logit_alone() {
        let mut head = ClassMapHead::with(Semantics::Default, 0, vec![0, 1, 2], Activation::Sigmoid);
        let image = Size::new(2, 1);
        let logits = [-3.0, 90.0, 1.0, 80.0, 1.0, 90.0];
        let map = decode(&mut head, [3, 1, 2], &logits, &transform(image, whole(image), image, [0; 4]), 0.7);
        // 1 / (1 + exp(-1)) of 255, cut; a softmax of the two equal ones would not have reached the threshold.
        assert_eq!((map.class_ids, map.confidence), (vec![1, 0], vec![186, 255]));
    }

    #[test]
    fn numbers_that_are_none_panic_nowhere() {
        let image = Size::new(3, 3);
        let transform = transform(image, whole(image), Size::new(4, 4), [-9, 90, 0, -3]);
        let softmax = [Semantics::Classic, Semantics::Default].map(|semantics| (semantics, Activation::Softmax));
        for (semantics, activation) in softmax.into_iter().chain([(Semantics::Default, Activation::Sigmoid)]) {
            let mut head = ClassMapHead::with(semantics, 0, vec![0, 1], activation);
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let map = decode(&mut head, [2, 2, 2], &[value; 8], &transform, 0.5);
                assert_eq!(map.class_ids, [0; 9]);
            }
        }
    }
}
