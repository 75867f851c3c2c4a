//! From a frame to the network's input, as Roboflow's classic engine goes (SPEC §2.2): static crop, contrast,
//! grayscale, resize, planes of red, green and blue from 0 to 1.

use super::transform::{Fit, Transform};
use super::{Contract, Error, Request};
use crate::cache::{Layout, Package, Preprocessing, ResizeFormat};
use crate::engine::{DeclaredInput, InputShape};
use crate::frame::{
    Arithmetic, CHANNELS, ContrastFilter, Frame, Placement, Region, Resizer, Size, View, grey_in_place,
};

/// Side of a network whose file and package leave it open (SPEC §1.2, "Loading").
const SIDE_DEFAULT: usize = 640;
/// With an open batch, sides that are open too are padded to a multiple of this (SPEC §2.2).
const STRIDE: usize = 32;

/// The steps with their tables and the one intermediate picture, reused from frame to frame.
#[derive(Debug)]
pub struct Preprocessor {
    preprocessing: Preprocessing,
    /// What the picture is resized to.
    resize: Size,
    /// The network's input; larger than `resize` where an open size was padded.
    network: Size,
    resizer: Resizer,
    contrast: ContrastFilter,
    scratch: Frame,
}

impl Preprocessor {
    /// For a package whose network declares `declared` and was loaded at `input`.
    #[must_use]
    pub fn new(package: &Package, _contract: Contract, declared: &DeclaredInput, input: &InputShape) -> Self {
        let Layout::Classic { preprocessing, .. } = &package.layout else { panic!("not yet") };
        let resize = resize_size(declared, preprocessing);
        let network = Size::new(input.width, input.height);
        Self {
            preprocessing: preprocessing.clone(),
            resize,
            network,
            resizer: Resizer::new(),
            contrast: ContrastFilter::default(),
            scratch: Frame::empty(),
        }
    }

    /// Fills `out` (3 × height × width of the network) and says how the image came there.
    ///
    /// # Errors
    /// The frame is empty or too large, or nothing would be left of it.
    pub fn run(&mut self, frame: &Frame, request: &Request, out: &mut [f32]) -> Result<Transform, Error> {
        let disabled = |flag: Option<bool>| flag.unwrap_or(false);
        let crop = self.preprocessing.static_crop.filter(|_| !disabled(request.disable_preproc_static_crop));
        let contrast = self.preprocessing.contrast.filter(|_| !disabled(request.disable_preproc_contrast));
        let grey = self.preprocessing.grayscale && !disabled(request.disable_preproc_grayscale);

        let mut view = frame.view();
        let mut region = Region { left: 0, top: 0, width: frame.width(), height: frame.height() };
        if let Some(crop) = crop {
            region = crop.region(frame.size())?;
            view = view.crop(region)?;
        }
        if contrast.is_some() || grey {
            view.copy_to(&mut self.scratch);
            if let Some(contrast) = contrast {
                self.contrast.apply(contrast, &mut self.scratch);
            }
            if grey {
                grey_in_place(&mut self.scratch);
            }
            view = self.scratch.view();
        }
        place(&mut self.resizer, view, self.preprocessing.resize.format, self.resize, self.network, out)?;
        Ok(Transform {
            image: frame.size(),
            crop: region,
            crop_percent: self.preprocessing.static_crop,
            cropped: crop.is_some(),
            fit: match self.preprocessing.resize.format {
                ResizeFormat::Stretch => Fit::Stretch,
                ResizeFormat::Fit { .. } => Fit::Letterbox,
            },
            network: self.resize,
            pad: [0; 4],
            scale: (1.0, 1.0),
        })
    }
}

/// Resizes into the left top `resize` of the network's input; what lies beyond is zero (SPEC §2.2, dynamic batch).
fn place(
    resizer: &mut Resizer,
    view: View<'_>,
    format: ResizeFormat,
    resize: Size,
    network: Size,
    out: &mut [f32],
) -> Result<(), Error> {
    let (placement, arithmetic, fill) = match format {
        // The classic engine stretches in float, the letterbox works on bytes.
        ResizeFormat::Stretch => (Placement::stretch(resize), Arithmetic::Float, 0.0),
        ResizeFormat::Fit { fill } => {
            (Placement::letterbox(view.size(), resize)?, Arithmetic::Integer, f32::from(fill) / 255.0)
        }
    };
    resizer.place_chw(view, Placement { net: network, ..placement }, arithmetic, fill, out)?;
    if network != resize {
        for plane in out.chunks_exact_mut(network.width * network.height) {
            for row in plane.chunks_exact_mut(network.width).take(resize.height) {
                row[resize.width..].fill(0.0);
            }
            plane[resize.height * network.width..].fill(0.0);
        }
    }
    Ok(())
}

/// The size an image is resized to: the network's own, or where it is open the package's (SPEC §1.2, "Loading").
fn resize_size(declared: &DeclaredInput, preprocessing: &Preprocessing) -> Size {
    let resize = preprocessing.resize;
    Size {
        width: declared.width.or(resize.width).unwrap_or(SIDE_DEFAULT),
        height: declared.height.or(resize.height).unwrap_or(SIDE_DEFAULT),
    }
}

/// The shape a network is loaded at: what it leaves open comes from its package.
#[must_use]
pub fn concrete_shape(declared: &DeclaredInput, layout: &Layout) -> InputShape {
    let Layout::Classic { preprocessing, .. } = layout else { panic!("not yet") };
    let Size { width, height } = resize_size(declared, preprocessing);
    let padded = |fixed: Option<usize>, side: usize| match (declared.batch, fixed) {
        (None, None) => side.next_multiple_of(STRIDE),
        _ => side,
    };
    InputShape {
        batch: declared.batch.unwrap_or(1),
        channels: declared.channels.unwrap_or(CHANNELS),
        height: padded(declared.height, height),
        width: padded(declared.width, width),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Resize;

    #[test]
    fn open_sides_come_from_the_package_and_are_padded_only_with_an_open_batch() {
        let preprocessing = Preprocessing {
            resize: Resize { width: Some(300), height: None, ..Resize::default() },
            ..Preprocessing::default()
        };
        let layout = Layout::Classic { preprocessing, multiclass: false };
        let open = DeclaredInput { batch: None, channels: None, height: None, width: None };
        assert_eq!(concrete_shape(&open, &layout).dims(), [1, 3, 640, 320]);
        let fixed_batch = DeclaredInput { batch: Some(1), ..open };
        assert_eq!(concrete_shape(&fixed_batch, &layout).dims(), [1, 3, 640, 300]);
        let fixed = DeclaredInput { batch: None, channels: Some(3), height: Some(128), width: Some(224) };
        assert_eq!(concrete_shape(&fixed, &layout).dims(), [1, 3, 128, 224]);
    }
}
