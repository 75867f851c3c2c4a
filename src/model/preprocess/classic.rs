//! The way of Roboflow's classic engine (SPEC §2.2): static crop, contrast, grayscale, resize, levels from 0 to 1,
//! and for families that want it a normalisation, which RF-DETR has before the resize and the others after it.

use super::edits::Edits;
use super::{SIDE_DEFAULT, normalise};
use crate::cache::{Normalization, Preprocessing, ResizeFormat};
use crate::engine::DeclaredInput;
use crate::frame::{Arithmetic, CHANNELS, Frame, Levels, Limits, Placement, Region, Resizer, Size, View};
use crate::model::semantics::normalization;
use crate::model::transform::{Fit, Transform};
use crate::model::{Contract, Error, Family, Request, Semantics, Task};

/// With an open batch, sides that are open too are padded to a multiple of this (SPEC §2.2).
const STRIDE: usize = 32;

/// The steps, with what they keep from frame to frame.
#[derive(Debug)]
pub struct ClassicEngine {
    preprocessing: Preprocessing,
    /// What the picture is resized to.
    resize: Size,
    /// The network's input; larger than `resize` where an open size was padded.
    network: Size,
    /// Semantic segmentation does not look at a request's `disable_preproc_*`.
    pub heeds_requests: bool,
    values: Values,
    edits: Edits,
    resizer: Resizer,
}

/// What becomes of the levels, and how.
#[derive(Debug)]
enum Values {
    /// From 0 to 1, and then normalised or not: fused with the resize.
    Unit(Option<Normalization>),
    /// From 0 to 255 by table, blue first.
    Raw { levels: Levels, resized: Frame },
    /// By table, and then resized as floats; by way of the data set's size where that is not square.
    Detr { levels: Levels, between: Option<Size>, planes: Vec<f32> },
}

impl Values {
    fn of(contract: Contract, between: Option<Size>) -> Self {
        let normalised = normalization(contract);
        match (contract.family, normalised) {
            (Family::YoloX, _) => {
                let levels = Levels::new([2, 1, 0], |_, level| level);
                Values::Raw { levels, resized: Frame::empty() }
            }
            (Family::RfDetr, Some(Normalization { mean, std })) => {
                let value = |plane: usize, level: f32| (level / 255.0 - mean[plane]) / std[plane];
                Values::Detr { levels: Levels::new([0, 1, 2], value), between, planes: Vec::new() }
            }
            _ => Values::Unit(normalised),
        }
    }
}

impl ClassicEngine {
    pub fn new(
        preprocessing: Preprocessing,
        contract: Contract,
        declared: &DeclaredInput,
        network: Size,
    ) -> Result<Self, Error> {
        let resize = resize_size(declared, &preprocessing);
        let between = between_size(&preprocessing, resize).filter(|_| contract.family == Family::RfDetr);
        let limit = Limits::default().pixels_max;
        let fits = resize.width <= network.width && resize.height <= network.height;
        for size in [Some(resize), between].into_iter().flatten() {
            let pixels = (size.width as u64).saturating_mul(size.height as u64);
            if !fits || pixels == 0 || pixels > limit {
                return Err(Error::InputSize { network, package: size });
            }
        }
        Ok(Self {
            preprocessing,
            resize,
            network,
            heeds_requests: contract.task != Task::SemanticSegmentation,
            values: Values::of(contract, between),
            edits: Edits::new(Semantics::Classic),
            resizer: Resizer::new(),
        })
    }

    pub fn run(&mut self, frame: &Frame, request: &Request, out: &mut [f32]) -> Result<Transform, Error> {
        let disabled = |flag: Option<bool>| self.heeds_requests && flag.unwrap_or(false);
        let crop = self.preprocessing.static_crop.filter(|_| !disabled(request.disable_preproc_static_crop));
        let contrast = self.preprocessing.contrast.filter(|_| !disabled(request.disable_preproc_contrast));
        let grey = self.preprocessing.grayscale && !disabled(request.disable_preproc_grayscale);

        let whole = Region { left: 0, top: 0, width: frame.width(), height: frame.height() };
        let region = crop.map_or(Ok(whole), |crop| crop.region(frame.size()))?;
        let view = self.edits.apply(frame.view().crop(region)?, contrast, grey);
        let format = self.preprocessing.resize.format;
        let network = match self.values {
            Values::Detr { between: Some(between), .. } => between,
            _ => self.resize,
        };
        let (placement, scale) = match format {
            ResizeFormat::Stretch => (Placement::stretch(network), None),
            ResizeFormat::Fit { .. } => {
                let placement = Placement::letterbox(view.size(), network)?;
                (placement, Some(ratio(network, view.size())))
            }
        };
        place(&mut self.values, &mut self.resizer, view, format, (placement, self.network), out)?;
        if self.network != self.resize {
            clear_padding(out, self.network, self.resize);
        }
        let size = view.size();
        Ok(Transform {
            image: frame.size(),
            crop: region,
            crop_percent: self.preprocessing.static_crop,
            cropped: crop.is_some(),
            fit: if scale.is_some() { Fit::Letterbox } else { Fit::Stretch },
            network,
            pad: super::margins(placement),
            scale: scale.map_or_else(|| super::ratios(network, size), |scale| (scale, scale)),
        })
    }
}

fn ratio(network: Size, picture: Size) -> f64 {
    let (across, down) = super::ratios(network, picture);
    across.min(down)
}

/// Resizes into the left top of the network's input.
fn place(
    values: &mut Values,
    resizer: &mut Resizer,
    view: View<'_>,
    format: ResizeFormat,
    (inner, network): (Placement, Size),
    out: &mut [f32],
) -> Result<(), Error> {
    let level = match format {
        ResizeFormat::Stretch => 0.0,
        ResizeFormat::Fit { fill } => f32::from(fill),
    };
    let outer = Placement { net: network, ..inner };
    match values {
        Values::Unit(normalization) => {
            // The classic engine stretches in float, the letterbox works on bytes.
            let arithmetic = match format {
                ResizeFormat::Stretch => Arithmetic::Float,
                ResizeFormat::Fit { .. } => Arithmetic::Integer,
            };
            resizer.place_chw(view, outer, arithmetic, level / 255.0, out)?;
            if let Some(normalization) = *normalization {
                normalise(out, normalization);
            }
        }
        Values::Raw { levels, resized } => match format {
            ResizeFormat::Stretch => resizer.place_levels(view, levels, outer, level, out)?,
            ResizeFormat::Fit { .. } => {
                resizer.resize(view, Size::new(outer.picture.width, outer.picture.height), resized)?;
                levels.place(resized.view(), outer, [level; CHANNELS], out)?;
            }
        },
        Values::Detr { levels, between: None, .. } => resizer.place_levels(view, levels, outer, level, out)?,
        Values::Detr { levels, between: Some(between), planes } => {
            // Padding is written as it is, into what is normalised already.
            planes.resize(CHANNELS * between.width * between.height, 0.0);
            resizer.place_levels(view, levels, inner, level, planes)?;
            resizer.stretch_planes(planes, *between, network, out)?;
        }
    }
    Ok(())
}

/// Zeroes what lies right of and below the resized picture (SPEC §2.2, dynamic batch).
fn clear_padding(out: &mut [f32], network: Size, resize: Size) {
    for plane in out.chunks_exact_mut(network.width * network.height) {
        for row in plane.chunks_exact_mut(network.width).take(resize.height) {
            row[resize.width..].fill(0.0);
        }
        plane[resize.height * network.width..].fill(0.0);
    }
}

/// The size an image is resized to: the network's own, or, as soon as one side of that is open, the package's
/// (SPEC §1.2, "Loading").
fn resize_size(declared: &DeclaredInput, preprocessing: &Preprocessing) -> Size {
    match (declared.width, declared.height) {
        (Some(width), Some(height)) => Size { width, height },
        _ => Size {
            width: preprocessing.resize.width.unwrap_or(SIDE_DEFAULT),
            height: preprocessing.resize.height.unwrap_or(SIDE_DEFAULT),
        },
    }
}

/// The data set's size, where RF-DETR fits a picture into that before it is stretched to a square network.
fn between_size(preprocessing: &Preprocessing, resize: Size) -> Option<Size> {
    let between = Size {
        width: preprocessing.resize.width.unwrap_or(resize.width),
        height: preprocessing.resize.height.unwrap_or(resize.height),
    };
    let fits = preprocessing.resize.format != ResizeFormat::Stretch;
    (fits && between.width != between.height && resize.width == resize.height).then_some(between)
}

/// The size a network is loaded at.
pub fn network_size(declared: &DeclaredInput, preprocessing: &Preprocessing, contract: Contract) -> Size {
    let resize = resize_size(declared, preprocessing);
    let pads = declared.batch.is_none()
        && contract.family != Family::RfDetr
        && matches!(contract.task, Task::ObjectDetection | Task::KeypointDetection);
    let side = |fixed: Option<usize>, side: usize| {
        let padded = if pads { side.checked_next_multiple_of(STRIDE).unwrap_or(side) } else { side };
        fixed.unwrap_or(padded)
    };
    Size { width: side(declared.width, resize.width), height: side(declared.height, resize.height) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Resize;
    use crate::frame::CropPercent;

    const FIXED: DeclaredInput = DeclaredInput { batch: Some(1), channels: Some(3), height: Some(2), width: Some(2) };
    const NET: Size = Size::new(2, 2);

    fn resized(format: ResizeFormat) -> Preprocessing {
        Preprocessing {
            resize: Resize { format, width: Some(2), height: Some(2), ..Resize::default() },
            ..Preprocessing::default()
        }
    }

    fn contract(task: Task, family: Family) -> Contract {
        Contract { task, family }
    }

    /// A picture of one colour, through it all.
    fn run(preprocessing: &Preprocessing, contract: Contract, frame: &Frame) -> (Transform, Vec<f32>) {
        let mut engine = ClassicEngine::new(preprocessing.clone(), contract, &FIXED, NET).unwrap();
        let mut out = vec![f32::NAN; 12];
        let request = Request { disable_preproc_static_crop: Some(true), ..Request::default() };
        (engine.run(frame, &request, &mut out).unwrap(), out)
    }

    fn firsts(out: &[f32]) -> [f32; 3] {
        [out[0], out[4], out[8]]
    }

    #[test]
    fn each_family_has_its_values() {
        let frame = Frame::from_rgb(2, 2, [255, 51, 0].repeat(4));
        let values = |task, family| firsts(&run(&resized(ResizeFormat::Stretch), contract(task, family), &frame).1);
        let imagenet = [(1.0 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0.0 - 0.406) / 0.225];
        assert_eq!(values(Task::ObjectDetection, Family::YoloV8), [1.0, 0.2, 0.0]);
        assert_eq!(values(Task::ObjectDetection, Family::RtDetr), [1.0, 0.2, 0.0]);
        assert_eq!(values(Task::ObjectDetection, Family::YoloX), [0.0, 51.0, 255.0]);
        assert_eq!(values(Task::Classification, Family::YoloV8), [1.0, (0.2 - 0.5) / 0.5, -1.0]);
        assert_eq!(values(Task::MultiLabelClassification, Family::Vit), [1.0, (0.2 - 0.5) / 0.5, -1.0]);
        assert_eq!(values(Task::Classification, Family::ResNet), imagenet);
        assert_eq!(values(Task::Classification, Family::DinoV3), imagenet);
        assert_eq!(values(Task::SemanticSegmentation, Family::DeepLab), imagenet);
        assert_eq!(values(Task::InstanceSegmentation, Family::RfDetr), imagenet);
    }

    #[test]
    fn rf_detr_pads_after_the_normalisation_and_the_others_before() {
        // One row of pixels in the upper half, one of padding below.
        let frame = Frame::from_rgb(2, 1, vec![51; 6]);
        let grey = resized(ResizeFormat::Fit { fill: 114 });
        let (transform, out) = run(&grey, contract(Task::ObjectDetection, Family::RfDetr), &frame);
        let red = (51.0 / 255.0 - 0.485) / 0.229;
        assert_eq!(out[..4], [red, red, 114.0, 114.0]);
        assert_eq!((transform.fit, transform.pad, transform.scale), (Fit::Letterbox, [0, 0, 0, 1], (1.0, 1.0)));
        let (_, out) = run(&grey, contract(Task::Classification, Family::Vit), &frame);
        assert_eq!(out[2], (114.0 / 255.0 - 0.5) / 0.5);
        let (_, out) = run(&grey, contract(Task::ObjectDetection, Family::YoloX), &frame);
        assert_eq!(out[..4], [51.0, 51.0, 114.0, 114.0]);
    }

    #[test]
    fn rf_detr_goes_by_way_of_a_data_set_that_is_not_square() {
        let mut wide = resized(ResizeFormat::Fit { fill: 0 });
        wide.resize.width = Some(4);
        let frame = Frame::from_rgb(2, 2, vec![255; 12]);
        let (transform, out) = run(&wide, contract(Task::ObjectDetection, Family::RfDetr), &frame);
        assert_eq!((transform.network, transform.pad), (Size::new(4, 2), [1, 0, 1, 0]));
        // Half of each pixel of the network is padding.
        assert_eq!(out[..4], [(1.0 - 0.485) / 0.229 / 2.0; 4]);
        let (transform, _) = run(&wide, contract(Task::ObjectDetection, Family::YoloV8), &frame);
        assert_eq!(transform.network, NET, "no other family does");
    }

    #[test]
    fn semantic_segmentation_does_not_heed_the_request() {
        let crop = CropPercent { x_min: 0.0, x_max: 50.0, y_min: 0.0, y_max: 100.0 };
        let cropping = Preprocessing { static_crop: Some(crop), ..resized(ResizeFormat::Stretch) };
        let frame = Frame::new(4, 2);
        let (transform, _) = run(&cropping, contract(Task::SemanticSegmentation, Family::DeepLab), &frame);
        assert!(transform.cropped && transform.crop.width == 2);
        let (transform, _) = run(&cropping, contract(Task::InstanceSegmentation, Family::YoloV8), &frame);
        assert!(!transform.cropped && transform.crop.width == 4 && transform.crop_percent == Some(crop));
    }

    #[test]
    fn padding_of_an_open_batch_is_black_and_normalised_by_nobody() {
        let preprocessing = resized(ResizeFormat::Fit { fill: 255 });
        let open = DeclaredInput { batch: None, channels: None, height: None, width: None };
        let contract = contract(Task::ObjectDetection, Family::YoloV8);
        let network = network_size(&open, &preprocessing, contract);
        assert_eq!(network, Size::new(32, 32));
        let mut engine = ClassicEngine::new(preprocessing, contract, &open, network).unwrap();
        let mut out = vec![f32::NAN; 3 * 32 * 32];
        let transform = engine.run(&Frame::new(1, 2), &Request::default(), &mut out).unwrap();
        assert_eq!(transform.network, NET);
        // A black column, a white one beside it, then zeroes.
        assert_eq!((out[0], out[1], out[2], out[33], out[64]), (0.0, 1.0, 0.0, 1.0, 0.0));
        assert_eq!(out.iter().sum::<f32>(), 6.0);
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let yolo = contract(Task::ObjectDetection, Family::YoloV8);
        let detr = contract(Task::ObjectDetection, Family::RfDetr);
        let open = DeclaredInput { batch: Some(1), channels: Some(3), height: Some(2), width: None };
        for (width, contract, declared) in
            [(0, yolo, open), (3, yolo, open), (usize::MAX, yolo, open), (usize::MAX, detr, FIXED), (0, detr, FIXED)]
        {
            let mut preprocessing = resized(ResizeFormat::Fit { fill: 0 });
            preprocessing.resize.width = Some(width);
            let refused = ClassicEngine::new(preprocessing, contract, &declared, NET).unwrap_err();
            assert!(matches!(refused, Error::InputSize { .. }), "{width}: {refused}");
        }
    }

    #[test]
    fn frames_of_which_nothing_is_left_are_errors() {
        let stretch = resized(ResizeFormat::Stretch);
        let crop = CropPercent { x_min: 10.0, x_max: 20.0, y_min: 0.0, y_max: 100.0 };
        let cropping = Preprocessing { static_crop: Some(crop), ..stretch.clone() };
        let fitting = resized(ResizeFormat::Fit { fill: 0 });
        for family in [Family::YoloV8, Family::YoloX, Family::RfDetr] {
            for (preprocessing, frame) in
                [(&stretch, Frame::empty()), (&cropping, Frame::new(3, 3)), (&fitting, Frame::new(1, 1000))]
            {
                let contract = contract(Task::ObjectDetection, family);
                let mut engine = ClassicEngine::new(preprocessing.clone(), contract, &FIXED, NET).unwrap();
                let refused = engine.run(&frame, &Request::default(), &mut [0.0; 12]).unwrap_err();
                assert!(matches!(refused, Error::Frame(_)), "{refused}");
            }
        }
    }
}
