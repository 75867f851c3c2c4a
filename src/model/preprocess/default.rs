//! The way of Roboflow's default engine, `inference-models` (SPEC §2.3): static crop, grayscale, contrast, resize of
//! whole levels, channel order, scaling, normalisation. RF-DETR resizes as its training did, with Pillow.

use super::edits::Edits;
use super::{SIDE_DEFAULT, margins, normalise, ratios};
use crate::cache::{ColorMode, InferenceConfig, NetworkInput, Normalization, ResizeMode};
use crate::engine::DeclaredInput;
use crate::frame::{
    Antialias, Arithmetic, CHANNELS, Contrast, CropPercent, Frame, Levels, Limits, Placement, Region, Resizer, Size,
    View,
};
use crate::model::transform::{Fit, Transform};
use crate::model::{Contract, Error, Family, Request, Semantics};

#[derive(Debug)]
pub struct Default {
    static_crop: Option<CropPercent>,
    contrast: Option<Contrast>,
    grayscale: bool,
    mode: ResizeMode,
    network: Size,
    values: Values,
    edits: Edits,
    resizer: Resizer,
    resized: Frame,
}

/// What becomes of the levels, and how.
#[derive(Debug)]
enum Values {
    /// From 0 to 1, red first, and then normalised or not: fused with the resize. `fill` is what is left free, from 0
    /// to 1 too.
    Unit { normalization: Option<Normalization>, fill: f32 },
    /// By table, one value a plane for what is left free.
    Table { levels: Levels, fill: [f32; CHANNELS] },
    /// Stretched with Pillow, then by table.
    Detr { levels: Levels, stretch: Antialias, data_set: Option<DataSet> },
}

/// The resize that a data set's version had, replayed before RF-DETR's own.
#[derive(Debug)]
struct DataSet {
    size: Size,
    /// Level of what the picture leaves free.
    fill: u8,
    canvas: Frame,
}

/// Which part of the edited picture goes where.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Geometry {
    part: Region,
    placement: Placement,
    fit: Fit,
    pad: [i32; 4],
    scale: (f64, f64),
}

impl Default {
    pub fn new(
        config: &InferenceConfig,
        contract: Contract,
        declared: &DeclaredInput,
        network: Size,
    ) -> Result<Self, Error> {
        let input = &config.network_input;
        let (mode, padding) = substituted(input.resize, input.padding, contract.family);
        let fixed = declared.width.is_some() && declared.height.is_some();
        // RF-DETR's own size counts, and nobody asks the package; the others fail when the two differ.
        let size = input.size.filter(|_| !(fixed && contract.family == Family::RfDetr)).unwrap_or(network);
        if size != network || network.width == 0 || network.height == 0 {
            return Err(Error::InputSize { network, package: size });
        }
        if let Some(Normalization { mean, std }) = input.normalization
            && (std.contains(&0.0) || mean.iter().chain(&std).any(|value| !value.is_finite()))
        {
            return Err(Error::Normalization { mean, std });
        }
        let values = if contract.family == Family::RfDetr {
            let data_set = input.dataset_size.filter(|_| mode != ResizeMode::Stretch);
            detr(input, data_set.map(|size| DataSet::new(size, padding, network)).transpose()?)
        } else {
            plain(input, padding)
        };
        Ok(Self {
            static_crop: config.static_crop,
            contrast: config.contrast,
            grayscale: config.grayscale,
            mode,
            network,
            values,
            edits: Edits::new(Semantics::Default),
            resizer: Resizer::new(),
            resized: Frame::empty(),
        })
    }

    pub fn run(&mut self, frame: &Frame, request: &Request, out: &mut [f32]) -> Result<Transform, Error> {
        let disabled = |flag: Option<bool>| flag.unwrap_or(false);
        let crop = self.static_crop.filter(|_| !disabled(request.disable_preproc_static_crop));
        let contrast = self.contrast.filter(|_| !disabled(request.disable_preproc_contrast));
        let grey = self.grayscale && !disabled(request.disable_preproc_grayscale);

        let whole = Region { left: 0, top: 0, width: frame.width(), height: frame.height() };
        let region = crop.map_or(Ok(whole), |crop| crop.region(frame.size()))?;
        let view = self.edits.apply(frame.view().crop(region)?, contrast, grey);
        let (mode, network) = match &self.values {
            Values::Detr { data_set: Some(data_set), .. } => (self.mode, data_set.size),
            Values::Detr { .. } => (ResizeMode::Stretch, self.network),
            _ => (self.mode, self.network),
        };
        let geometry = Geometry::new(mode, view.size(), network)?;
        place(&mut self.values, (&mut self.resizer, &mut self.resized), view, geometry, (self.network, out))?;
        Ok(Transform {
            image: frame.size(),
            crop: region,
            crop_percent: self.static_crop,
            cropped: crop.is_some(),
            fit: geometry.fit,
            network,
            pad: geometry.pad,
            scale: geometry.scale,
        })
    }
}

impl DataSet {
    fn new(size: Size, padding: f32, network: Size) -> Result<Self, Error> {
        let pixels = (size.width as u64).saturating_mul(size.height as u64);
        if pixels == 0 || pixels > Limits::default().pixels_max {
            return Err(Error::InputSize { network, package: size });
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a remainder of 256")]
        let fill = padding.trunc().rem_euclid(256.0) as u8;
        Ok(Self { size, fill, canvas: Frame::empty() })
    }

    /// Puts a resized picture in its place.
    fn draw(&mut self, picture: View<'_>, Region { left, top, width, .. }: Region) -> View<'_> {
        self.canvas.reshape(self.size.width, self.size.height);
        self.canvas.pixels_mut().fill(self.fill);
        for (y, row) in picture.rows().enumerate() {
            self.canvas.row_mut(top + y)[left * CHANNELS..(left + width) * CHANNELS].copy_from_slice(row);
        }
        self.canvas.view()
    }
}

impl Geometry {
    /// Of a picture in a network's input, or in the size of a data set.
    fn new(mode: ResizeMode, picture: Size, net: Size) -> Result<Self, Error> {
        let part = Region { left: 0, top: 0, width: picture.width, height: picture.height };
        let geometry = |placement, fit, scale| Self { part, placement, fit, pad: margins(placement), scale };
        match mode {
            // Fit-longer-edge was substituted: no family takes it.
            ResizeMode::Stretch | ResizeMode::FitLongerEdge => {
                Ok(geometry(Placement::stretch(net), Fit::Stretch, ratios(net, picture)))
            }
            ResizeMode::Letterbox | ResizeMode::LetterboxReflectEdges => {
                let (placement, scale) = Placement::letterbox_scaled(picture, net)?;
                Ok(geometry(placement, Fit::Letterbox, (scale, scale)))
            }
            ResizeMode::CenterCrop => Ok(Self::center_crop(picture, net)),
        }
    }

    /// No resize: what is too long is cut on both sides, what is too short is padded.
    fn center_crop(picture: Size, net: Size) -> Self {
        let placement = Placement::centred(picture, net);
        // The same in the other direction: where the network's input lies in the picture.
        let cut = Placement::centred(net, picture);
        let (added, taken) = (margins(placement), margins(cut));
        let pad = std::array::from_fn(|side| added[side] - taken[side]);
        Self { part: cut.picture, placement, fit: Fit::CenterCrop, pad, scale: (1.0, 1.0) }
    }
}

fn place(
    values: &mut Values,
    (resizer, resized): (&mut Resizer, &mut Frame),
    view: View<'_>,
    geometry: Geometry,
    (network, out): (Size, &mut [f32]),
) -> Result<(), Error> {
    let (part, placement) = (view.crop(geometry.part)?, geometry.placement);
    let size = Size::new(placement.picture.width, placement.picture.height);
    match values {
        Values::Unit { normalization, fill } => {
            resizer.place_chw(part, placement, Arithmetic::Integer, *fill, out)?;
            if let Some(normalization) = *normalization {
                normalise(out, normalization);
            }
        }
        Values::Table { levels, fill } => {
            resizer.resize(part, size, resized)?;
            levels.place(resized.view(), placement, *fill, out)?;
        }
        Values::Detr { levels, stretch, data_set } => {
            let source = match data_set {
                Some(data_set) => {
                    resizer.resize(part, size, resized)?;
                    data_set.draw(resized.view(), placement.picture)
                }
                None => part,
            };
            stretch.resize(source, network, resized)?;
            levels.place(resized.view(), Placement::stretch(network), [0.0; CHANNELS], out)?;
        }
    }
    Ok(())
}

/// What each family makes of fit-longer-edge, which needs a network of any size; and the level it pads with.
fn substituted(mode: ResizeMode, padding: f32, family: Family) -> (ResizeMode, f32) {
    match (mode, family) {
        (ResizeMode::FitLongerEdge, Family::Vit | Family::ResNet | Family::DinoV3 | Family::RfDetr) => {
            (ResizeMode::Stretch, 0.0)
        }
        (ResizeMode::FitLongerEdge, Family::DeepLab) => (ResizeMode::Letterbox, 0.0),
        (ResizeMode::FitLongerEdge, _) => (ResizeMode::Letterbox, 127.0),
        // Padded with black, whatever the package says.
        (ResizeMode::CenterCrop, _) => (mode, 0.0),
        _ => (mode, padding),
    }
}

/// Which channel each plane shows.
fn channels(color: ColorMode) -> [usize; CHANNELS] {
    match color {
        ColorMode::Rgb => [0, 1, 2],
        ColorMode::Bgr => [2, 1, 0],
    }
}

#[expect(clippy::float_cmp, reason = "255 is what is written in packages")]
fn plain(input: &NetworkInput, padding: f32) -> Values {
    if input.color == ColorMode::Rgb && input.scaling == Some(255.0) {
        return Values::Unit { normalization: input.normalization, fill: padding / 255.0 };
    }
    let value = |plane: usize, level: f32| {
        let scaled = input.scaling.map_or(level, |scaling| level / scaling);
        input.normalization.map_or(scaled, |by| (scaled - by.mean[plane]) / by.std[plane])
    };
    let fill = std::array::from_fn(|plane| value(plane, padding));
    Values::Table { levels: Levels::new(channels(input.color), value), fill }
}

#[expect(clippy::float_cmp, reason = "255 is what is written in packages")]
#[expect(clippy::cast_possible_truncation, reason = "torch multiplies by a 32-bit float")]
fn detr(input: &NetworkInput, data_set: Option<DataSet>) -> Values {
    let value = |plane: usize, level: f32| {
        let unit = level / 255.0;
        match (input.normalization, input.scaling) {
            (Some(by), _) => (unit - by.mean[plane]) / by.std[plane],
            (None, Some(scaling)) if scaling != 255.0 => unit * (255.0 / f64::from(scaling)) as f32,
            (None, _) => unit,
        }
    };
    Values::Detr { levels: Levels::new(channels(input.color), value), stretch: Antialias::default(), data_set }
}

/// The size a network is loaded at: its own, else the package's; never padded.
pub fn network_size(declared: &DeclaredInput, size: Option<Size>) -> Size {
    Size {
        width: declared.width.or(size.map(|size| size.width)).unwrap_or(SIDE_DEFAULT),
        height: declared.height.or(size.map(|size| size.height)).unwrap_or(SIDE_DEFAULT),
    }
}
