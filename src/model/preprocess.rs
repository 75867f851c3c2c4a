//! From a frame to the network's input, as Roboflow's classic engine goes (SPEC §2.2): static crop, contrast,
//! grayscale, resize, planes of red, green and blue from 0 to 1.

use super::geometry::BoxInverse;
use super::{Error, Request};
use crate::cache::{Preprocessing, ResizeFormat};
use crate::frame::{Arithmetic, ContrastFilter, Frame, Placement, Resizer, Size, View, grey_in_place};

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
    #[must_use]
    pub fn new(preprocessing: Preprocessing, resize: Size, network: Size) -> Self {
        Self {
            preprocessing,
            resize,
            network,
            resizer: Resizer::new(),
            contrast: ContrastFilter::default(),
            scratch: Frame::empty(),
        }
    }

    /// Fills `out` (3 × height × width of the network) and returns the way back for boxes.
    ///
    /// # Errors
    /// The frame is empty or too large, or nothing would be left of it.
    pub fn run(&mut self, frame: &Frame, request: &Request, out: &mut [f32]) -> Result<BoxInverse, Error> {
        let disabled = |flag: Option<bool>| flag.unwrap_or(false);
        let crop = self.preprocessing.static_crop.filter(|_| !disabled(request.disable_preproc_static_crop));
        let contrast = self.preprocessing.contrast.filter(|_| !disabled(request.disable_preproc_contrast));
        let grey = self.preprocessing.grayscale && !disabled(request.disable_preproc_grayscale);

        let mut view = frame.view();
        if let Some(crop) = crop {
            view = view.crop(crop.region(frame.size())?)?;
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
        Ok(BoxInverse::new(&self.preprocessing, crop.is_some(), frame.size(), self.resize))
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
