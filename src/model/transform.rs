//! How one image came to its place in the network's input: what pre-processing did, and decoding must undo.

use crate::frame::{CropPercent, Region, Size};

/// Filled by pre-processing for every image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transform {
    /// The image, after EXIF orientation and before any crop.
    pub image: Size,
    /// What the static crop left of it; the whole image when there was none.
    pub crop: Region,
    /// The static crop as the package states it, whether it was applied or not: the classic engine's way back rounds
    /// it anew, and for polygons it does not look at `cropped`.
    pub crop_percent: Option<CropPercent>,
    /// The static crop was applied.
    pub cropped: bool,
    pub fit: Fit,
    /// The size whose pixels boxes come back in: the network's input, or the one in between where there were two
    /// resizes (RF-DETR of a data set that is not square).
    pub network: Size,
    /// Pixels of `network` that the picture leaves free: left, top, right, bottom. Negative where a centre crop cut.
    pub pad: [i32; 4],
    /// Pixels of `network` a pixel of the crop: across, down.
    pub scale: (f64, f64),
}

/// How the picture meets `network`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Stretch,
    Letterbox,
    CenterCrop,
}

impl Transform {
    /// What the static crop left.
    #[must_use]
    pub fn crop_size(&self) -> Size {
        Size::new(self.crop.width, self.crop.height)
    }
}
