//! `TFLite_Detection_PostProcess`, with which every SSD of TensorFlow ends: boxes relative to anchors become corners, and
//! the strongest that do not overlap are kept.

use tract_onnx::tract_core::internal::*;

use super::options::Options;

/// Most detections that a file may ask for; exports ask for 10 to 100.
const DETECTIONS_MAX: f64 = 1000.0;
/// What counts without `detections_per_class`.
const PER_CLASS: f64 = 100.0;

/// Top, left, bottom, right, as shares of the picture.
type Corners = [f32; 4];

/// The operator. Inputs: `[1, boxes, 4 or more]` of y, x, height, width against their anchors; `[1, boxes, classes]` of
/// scores, with or without one of the background before; `[boxes, 4]` of anchors. Outputs: corners, classes, scores, count.
#[derive(Clone, Debug, PartialEq)]
pub struct Detections {
    detections: usize,
    /// Classes reported of one box.
    classes_of_box: usize,
    /// Kept of each class, where each is looked at by itself.
    per_class: Option<usize>,
    score_min: f32,
    overlap_max: f32,
    classes: usize,
    /// Of y, x, height, width.
    scales: [f64; 4],
}

// Of finite numbers: see `new`.
impl Eq for Detections {}

impl Detections {
    /// # Errors
    /// An option is missing or out of bounds.
    pub fn new(options: &[u8]) -> TractResult<Self> {
        let options = Options::read(options).context("its options are no map")?;
        let number = |name: &str| options.number(name).with_context(|| format!("the option {name} is missing"));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to a limit")]
        let count = |name: &str, value: f64, limit: f64| {
            ensure!((1.0..=limit).contains(&value), "{name} is {value}; expected 1 to {limit}");
            Ok(value as usize)
        };
        let limited = |name: &str, limit: f64| count(name, number(name)?, limit);
        let scale = |name: &str| -> TractResult<f64> {
            let scale = number(name)?;
            ensure!(scale.is_finite() && scale > 0.0, "{name} is {scale}");
            Ok(scale)
        };
        let per_class = options.number("detections_per_class").unwrap_or(PER_CLASS);
        let regular = options.number("use_regular_nms").is_some_and(|flag| flag != 0.0);
        let (score_min, overlap_max) = (number("nms_score_threshold")?, number("nms_iou_threshold")?);
        ensure!(!score_min.is_nan() && overlap_max > 0.0 && overlap_max <= 1.0, "an overlap of {overlap_max}");
        #[expect(clippy::cast_possible_truncation, reason = "TensorFlow Lite compares in 32 bits")]
        let (score_min, overlap_max) = (score_min as f32, overlap_max as f32);
        Ok(Self {
            detections: limited("max_detections", DETECTIONS_MAX)?,
            classes_of_box: limited("max_classes_per_detection", DETECTIONS_MAX)?,
            per_class: regular.then(|| count("detections_per_class", per_class, DETECTIONS_MAX)).transpose()?,
            score_min,
            overlap_max,
            classes: limited("num_classes", 1e6)?,
            scales: [scale("y_scale")?, scale("x_scale")?, scale("h_scale")?, scale("w_scale")?],
        })
    }

    /// Rows of the answer: some are left empty where boxes have fewer classes than are asked for.
    fn rows(&self) -> usize {
        self.detections * self.classes_of_box
    }

    /// Rounded to 32 bits where TensorFlow Lite does.
    #[expect(clippy::cast_possible_truncation, reason = "rounding to 32 bits is the purpose")]
    fn corners(&self, encoded: &[f32], anchor: &[f32]) -> Corners {
        let [y, x, height, width] = std::array::from_fn(|index| f64::from(encoded[index]) / self.scales[index]);
        let [anchor_y, anchor_x, anchor_height, anchor_width] = std::array::from_fn(|index| f64::from(anchor[index]));
        let (y, x) = ((y * anchor_height + anchor_y) as f32, (x * anchor_width + anchor_x) as f32);
        let (half_height, half_width) =
            ((0.5 * height.exp() * anchor_height) as f32, (0.5 * width.exp() * anchor_width) as f32);
        [y - half_height, x - half_width, y + half_height, x + half_width]
    }

    /// The strongest boxes that do not overlap stronger ones, at most so many, strongest first.
    fn strongest(&self, boxes: &[Corners], scores: &[f32], most: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..boxes.len()).filter(|&index| scores[index] >= self.score_min).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let mut kept: Vec<usize> = Vec::new();
        for index in order {
            if kept.len() == most {
                break;
            }
            if kept.iter().all(|&other| overlap(&boxes[other], &boxes[index]) <= self.overlap_max) {
                kept.push(index);
            }
        }
        kept
    }

    /// Box, class and score of each row, and how many boxes these are of.
    fn select(&self, boxes: &[Corners], scores: &[f32], stride: usize) -> (Vec<(usize, usize, f32)>, usize) {
        let background = stride - self.classes;
        let of = |index: usize| &scores[index * stride + background..][..self.classes];
        let mut rows: Vec<(usize, usize, f32)> = Vec::new();
        if let Some(per_class) = self.per_class {
            for class in 0..self.classes {
                let scores: Vec<f32> = (0..boxes.len()).map(|index| of(index)[class]).collect();
                let kept = self.strongest(boxes, &scores, per_class);
                rows.extend(kept.into_iter().map(|index| (index, class, scores[index])));
                rows.sort_by(|a, b| b.2.total_cmp(&a.2));
                rows.truncate(self.detections);
            }
            let count = rows.len();
            return (rows, count);
        }
        let best: Vec<f32> =
            (0..boxes.len()).map(|index| of(index).iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect();
        let kept = self.strongest(boxes, &best, self.detections);
        for &index in &kept {
            let scores = of(index);
            let mut classes: Vec<usize> = (0..self.classes).collect();
            classes.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            let classes = classes.into_iter().take(self.classes_of_box).map(|class| (index, class, scores[class]));
            rows.extend(classes);
            // What a box has too few classes for stays empty.
            rows.resize(rows.len().next_multiple_of(self.classes_of_box), (index, 0, 0.0));
        }
        (rows, kept.len())
    }
}

/// Share of the common area in that of both.
fn overlap(a: &Corners, b: &Corners) -> f32 {
    let area = |[top, left, bottom, right]: &Corners| (bottom - top) * (right - left);
    let (area_a, area_b) = (area(a), area(b));
    if area_a <= 0.0 || area_b <= 0.0 {
        return 0.0;
    }
    let side = |axis: usize| (a[axis + 2].min(b[axis + 2]) - a[axis].max(b[axis])).max(0.0);
    let common = side(0) * side(1);
    common / (area_a + area_b - common)
}

impl Op for Detections {
    fn name(&self) -> StaticName {
        "Detections".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Detections {
    op_out_of_plan!();

    #[expect(clippy::cast_precision_loss, reason = "counts and class numbers, below 2^24")]
    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (encoded, scores, anchors) = args_3!(inputs);
        let (columns, stride) = (encoded.shape()[2], scores.shape()[2]);
        let [encoded, scores, anchors] =
            [&encoded, &scores, &anchors].map(|tensor| tensor.to_plain_array_view::<f32>());
        let (encoded, scores, anchors) = (encoded?, scores?, anchors?);
        let slice = |view| ndarray_slice(view);
        let (encoded, scores, anchors) = (slice(&encoded)?, slice(&scores)?, slice(&anchors)?);
        let pairs = encoded.chunks_exact(columns).zip(anchors.chunks_exact(4));
        let boxes: Vec<Corners> = pairs.map(|(encoded, anchor)| self.corners(encoded, anchor)).collect();
        ensure!(boxes.iter().all(|b| !(b[0] > b[2] || b[1] > b[3])), "a box of negative size");
        let (rows, count) = self.select(&boxes, scores, stride);
        let total = self.rows();
        let (mut corners, mut classes, mut confidences) = (vec![0.0; total * 4], vec![0.0; total], vec![0.0; total]);
        for (row, (index, class, score)) in rows.into_iter().take(total).enumerate() {
            corners[row * 4..][..4].copy_from_slice(&boxes[index]);
            (classes[row], confidences[row]) = (class as f32, score);
        }
        Ok(tvec!(
            Tensor::from_shape(&[1, total, 4], &corners)?.into_tvalue(),
            Tensor::from_shape(&[1, total], &classes)?.into_tvalue(),
            Tensor::from_shape(&[1, total], &confidences)?.into_tvalue(),
            tensor1(&[count as f32]).into_tvalue(),
        ))
    }
}

/// The values of a view in C order.
fn ndarray_slice<'a, D: tract_ndarray::Dimension>(
    view: &'a tract_ndarray::ArrayView<'_, f32, D>,
) -> TractResult<&'a [f32]> {
    view.as_slice().context("C order")
}

impl TypedOp for Detections {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 3, "{} inputs; expected three", inputs.len());
        ensure!(inputs.iter().all(|fact| fact.datum_type == DatumType::F32), "inputs that are not real numbers");
        let shape = |index: usize| inputs[index].shape.as_concrete().context("a shape that depends on the picture");
        let (&[1, boxes, columns], &[1, of_scores, stride], &[of_anchors, 4]) = (shape(0)?, shape(1)?, shape(2)?)
        else {
            bail!("inputs of {:?}, {:?} and {:?}", shape(0)?, shape(1)?, shape(2)?);
        };
        ensure!(columns >= 4 && boxes == of_scores && boxes == of_anchors, "{boxes}, {of_scores}, {of_anchors} boxes");
        ensure!(stride == self.classes || stride == self.classes + 1, "{stride} scores for {} classes", self.classes);
        let rows = self.rows();
        Ok(tvec!(f32::fact([1, rows, 4]), f32::fact([1, rows]), f32::fact([1, rows]), f32::fact([1])))
    }
}
