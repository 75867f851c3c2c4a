//! The way of Roboflow's classic engine (SPEC §2.2): static crop, contrast, grayscale, resize, levels from 0 to 1,
//! and for families that want it a normalisation, which RF-DETR has before the resize and the others after it.

use super::edits::Edits;
use super::{IMAGENET, SIDE_DEFAULT, normalise};
use crate::cache::{Normalization, Preprocessing, ResizeFormat};
use crate::engine::DeclaredInput;
use crate::frame::{Arithmetic, CHANNELS, Frame, Levels, Limits, Placement, Region, Resizer, Size, View};
use crate::model::transform::{Fit, Transform};
use crate::model::{Contract, Error, Family, Request, Semantics, Task};

/// With an open batch, sides that are open too are padded to a multiple of this (SPEC §2.2).
const STRIDE: usize = 32;

/// Classifiers of the base class, ViT and YOLO.
const HALF: Normalization = Normalization { mean: [0.5; CHANNELS], std: [0.5; CHANNELS] };

#[derive(Debug)]
pub struct Classic {
    preprocessing: Preprocessing,
    /// What the picture is resized to.
    resize: Size,
    /// The network's input; larger than `resize` where an open size was padded.
    network: Size,
    /// Semantic segmentation does not look at a request's `disable_preproc_*`.
    heeds_request: bool,
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
        let normalised = match (contract.task, contract.family) {
            (_, Family::YoloX) => {
                let levels = Levels::new([2, 1, 0], |_, level| level);
                return Values::Raw { levels, resized: Frame::empty() };
            }
            (_, Family::RfDetr) => {
                let Normalization { mean, std } = IMAGENET;
                let value = |plane: usize, level: f32| (level / 255.0 - mean[plane]) / std[plane];
                return Values::Detr { levels: Levels::new([0, 1, 2], value), between, planes: Vec::new() };
            }
            (Task::Classification | Task::MultiLabelClassification, Family::ResNet | Family::DinoV3)
            | (Task::SemanticSegmentation, Family::DeepLab) => Some(IMAGENET),
            (Task::Classification | Task::MultiLabelClassification | Task::SemanticSegmentation, _) => Some(HALF),
            (Task::ObjectDetection | Task::InstanceSegmentation | Task::KeypointDetection, _) => None,
        };
        Values::Unit(normalised)
    }
}

impl Classic {
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
            heeds_request: contract.task != Task::SemanticSegmentation,
            values: Values::of(contract, between),
            edits: Edits::new(Semantics::Classic),
            resizer: Resizer::new(),
        })
    }

    pub fn run(&mut self, frame: &Frame, request: &Request, out: &mut [f32]) -> Result<Transform, Error> {
        let disabled = |flag: Option<bool>| self.heeds_request && flag.unwrap_or(false);
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
