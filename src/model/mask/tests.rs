//! Small masks by hand. That whole masks are equal to the engines' was checked against the engines themselves.

use super::*;
use crate::frame::Region;
use crate::model::{Fit, Labels, MaskDecodeMode, Request, Task, Threshold, Transform};

const NETWORK: Size = Size::new(16, 16);
const SHAPE: [usize; 3] = [1, 4, 4];

fn transform(image: Size) -> Transform {
    Transform {
        image,
        crop: Region { left: 0, top: 0, width: image.width, height: image.height },
        crop_percent: None,
        cropped: false,
        fit: Fit::Stretch,
        network: NETWORK,
        pad: [0; 4],
        scale: (to_f64(NETWORK.width) / to_f64(image.width), to_f64(NETWORK.height) / to_f64(image.height)),
    }
}

fn candidate(corners: [f32; 4], class_id: u32) -> Candidate {
    Candidate { corners, confidence: 0.5, class_id, index: 0 }
}

struct Case {
    transform: Transform,
    request: Request,
    smoothing: bool,
    candidates: Vec<Candidate>,
}

impl Case {
    fn new(image: Size, candidates: &[Candidate]) -> Self {
        let request = Request::default();
        Self { transform: transform(image), request, smoothing: true, candidates: candidates.to_vec() }
    }

    /// Masks of one prototype, each with coefficient 1.
    fn run(&self, semantics: Semantics, proto: &[f32; 16]) -> Result<Predictions, Error> {
        let labels = Labels::new(Task::InstanceSegmentation, vec!["a".into(), "b".into()]);
        let job = Job {
            outputs: &[],
            transform: &self.transform,
            request: &self.request,
            threshold: Threshold::uniform(0.4),
            labels: &labels,
        };
        let coefficients = vec![1.0; self.candidates.len()];
        let masks = Prototypes {
            smoothing: self.smoothing,
            precision: Precision::Double,
            coefficients: &coefficients,
            protos: TensorView { shape: &SHAPE, data: proto },
        };
        let mut into = Predictions::default();
        into.clear(self.transform.image);
        MaskAssembler::default().prototypes(semantics, &masks, &self.candidates, &job, &mut into)?;
        Ok(into)
    }
}

#[test]
fn classic_masks_end_with_their_box_in_the_networks_pixels() {
    let case = Case::new(Size::new(32, 32), &[candidate([2.0, 3.5, 9.0, 8.0], 0)]);
    let found = case.run(Semantics::Classic, &[9.0; 16]).unwrap();
    // Columns 2 to 8 and rows 4 to 7 of the network, twice as large in the image.
    assert_eq!(found.points, [[4.0, 8.0], [4.0, 14.0], [16.0, 14.0], [16.0, 8.0]]);
    assert_eq!(found.detections[0].corners, [4.0, 7.0, 18.0, 16.0]);
}

#[test]
fn classic_modes_choose_the_grid() {
    let mut case = Case::new(NETWORK, &[candidate([4.0, 4.0, 16.0, 16.0], 0)]);
    case.request.mask_decode_mode = Some(MaskDecodeMode::Fast);
    let found = case.run(Semantics::Classic, &[9.0; 16]).unwrap();
    assert_eq!(found.points, [[4.0, 4.0], [4.0, 12.0], [12.0, 12.0], [12.0, 4.0]]);
    case.request.mask_decode_mode = Some(MaskDecodeMode::Tradeoff);
    case.request.tradeoff_factor = Some(0.5);
    // Ten cells, of 1.6 pixels.
    let found = case.run(Semantics::Classic, &[9.0; 16]).unwrap();
    assert_eq!(found.points[2], [f64::from(9.0 * 1.6_f32); 2]);
}

#[test]
fn default_masks_end_with_a_quarter_of_their_box_on_the_grid() {
    let mut case = Case::new(NETWORK, &[candidate([4.0, 4.0, 12.0, 12.0], 1)]);
    case.request.response_mask_format = Some(MaskFormat::Rle);
    case.request.allow_reduced_mask_resolution = Some(true);
    case.request.mask_decode_mode = Some(MaskDecodeMode::Fast);
    let found = case.run(Semantics::Default, &[9.0; 16]).unwrap();
    assert_eq!(found.mask_grid, Some(Size::new(4, 4)));
    assert_eq!(rle::runs(&found.rle).collect::<Vec<_>>(), [5, 2, 2, 2, 5]);
    assert_eq!(found.detections[0].corners, [1.0, 1.0, 3.0, 3.0]);
}

#[test]
fn logits_spread_beyond_the_box_and_probabilities_do_not() {
    let mut case = Case::new(NETWORK, &[candidate([4.0, 4.0, 12.0, 12.0], 0)]);
    let ends = |found: &Predictions| {
        let across = || found.points.iter().map(|point| point[0]);
        (across().fold(f64::MAX, f64::min), across().fold(0.0, f64::max))
    };
    assert_eq!(ends(&case.run(Semantics::Default, &[9.0; 16]).unwrap()), (4.0, 11.0));
    case.smoothing = false;
    assert_eq!(ends(&case.run(Semantics::Default, &[9.0; 16]).unwrap()), (2.0, 13.0));
}

#[test]
fn masks_of_a_crop_lie_in_the_canvas_of_the_image() {
    let mut case = Case::new(NETWORK, &[candidate([0.0, 0.0, 16.0, 16.0], 0)]);
    case.transform.image = Size::new(24, 20);
    (case.transform.crop.left, case.transform.crop.top) = (5, 2);
    let found = case.run(Semantics::Default, &[9.0; 16]).unwrap();
    assert_eq!(found.points, [[5.0, 2.0], [5.0, 17.0], [20.0, 17.0], [20.0, 2.0]]);
    assert_eq!(found.detections[0].corners, [5.0, 2.0, 21.0, 18.0]);
}

#[test]
fn an_empty_mask_is_answered_and_an_unwanted_class_is_not() {
    let boxes = [candidate([0.0, 0.0, 9.0, 9.0], 0), candidate([0.0, 0.0, 9.0, 9.0], 1)];
    let mut case = Case::new(NETWORK, &boxes);
    case.request.class_filter = Some(vec!["b".into()]);
    for semantics in [Semantics::Classic, Semantics::Default] {
        let found = case.run(semantics, &[-9.0; 16]).unwrap();
        assert_eq!((found.detections.len(), found.points.len()), (1, 0));
        assert_eq!(found.detections[0].class_id, 1);
    }
}

#[test]
fn wrong_arguments_are_refused_when_the_engine_looks_at_them() {
    let mut case = Case::new(NETWORK, &[]);
    case.request.mask_decode_mode = Some(MaskDecodeMode::Tradeoff);
    case.request.tradeoff_factor = Some(1.5);
    let proto = [0.0; 16];
    assert!(matches!(case.run(Semantics::Default, &proto), Err(Error::MaskArgument)));
    assert!(case.run(Semantics::Classic, &proto).is_ok());
    case.candidates = vec![candidate([0.0; 4], 0)];
    assert!(matches!(case.run(Semantics::Classic, &proto), Err(Error::MaskArgument)));
    case.request.mask_decode_mode = Some(MaskDecodeMode::Unknown);
    assert!(matches!(case.run(Semantics::Classic, &proto), Err(Error::MaskArgument)));
}

#[test]
fn numbers_that_are_none_panic_nowhere() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        let boxes = [candidate([value; 4], 0), candidate([-value, 0.0, value, 9.0], 7)];
        for smoothing in [true, false] {
            let case = Case { smoothing, ..Case::new(Size::new(9, 31), &boxes) };
            for semantics in [Semantics::Classic, Semantics::Default] {
                assert_eq!(case.run(semantics, &[value; 16]).unwrap().detections.len(), 2);
            }
        }
    }
}

#[test]
fn queries_take_the_mask_of_their_query() {
    let transform = transform(Size::new(8, 8));
    let labels = Labels::new(Task::InstanceSegmentation, vec!["a".into()]);
    let request = Request::default();
    let job = Job {
        outputs: &[],
        transform: &transform,
        request: &request,
        threshold: Threshold::uniform(0.4),
        labels: &labels,
    };
    let masks: Vec<f32> = std::iter::repeat_n(-1.0, 4).chain([1.0, -1.0, -1.0, -1.0]).collect();
    let masks = TensorView { shape: &[2, 2, 2], data: &masks };
    let second = [Candidate { index: 1, ..candidate([1.0, 2.0, 3.0, 4.0], 0) }];
    for (semantics, corners) in [(Semantics::Classic, [1.0, 2.0, 3.0, 4.0]), (Semantics::Default, [0.0, 1.0, 2.0, 2.0])]
    {
        let mut into = Predictions::default();
        into.clear(transform.image);
        MaskAssembler::default().queries(semantics, &second, masks, &job, &mut into).unwrap();
        assert_eq!(into.points[0], [0.0, 0.0]);
        assert_eq!(into.detections[0].corners, corners);
    }
    let third = [Candidate { index: 2, ..second[0] }];
    let refused =
        MaskAssembler::default().queries(Semantics::Default, &third, masks, &job, &mut Predictions::default());
    assert!(matches!(refused, Err(Error::OutputShape { .. })));
}
