//! What a camera offers, for `probe --camera`: formats, sizes, rates, controls. Changes nothing of it, and may be asked
//! while another program streams.

use std::path::Path;

use serde::Serialize;

use super::abi::{self, Sizes};
use super::camera::{self, Identity};
use super::control::{self, Control};
use super::format::PixelFormat;
use super::modes::{rates, rates_text, sizes, sizes_text};

/// Everything that a camera says of itself.
#[derive(Debug, Serialize)]
pub struct Description {
    pub card: String,
    pub driver: String,
    /// Whether its driver speaks of pictures in several planes.
    pub planes: bool,
    pub formats: Vec<Format>,
    pub controls: Vec<Control>,
}

/// A pixel format.
#[derive(Debug, Serialize)]
pub struct Format {
    /// The kernel's four letters.
    pub fourcc: String,
    /// What `?format=` calls it; none where it cannot be taken.
    pub name: Option<&'static str>,
    pub sizes: Vec<Size>,
}

/// A size, or a range of sizes, with its rates.
#[derive(Debug, Serialize)]
pub struct Size {
    /// Pixels, `640x480` or `48x27 to 3840x2160`.
    pub pixels: String,
    /// Frames a second, `5, 10, 30` or `1 to 60`; of a range those of its largest size.
    pub frames_per_second: String,
}

/// Asks the camera at `path`.
///
/// # Errors
/// It is no camera, or cannot be opened.
pub fn describe(path: &Path) -> Result<Description, String> {
    let told = |fault: camera::Fault| format!("camera {}: {fault}", path.display());
    let mut device = abi::Device::new(camera::open(path).map_err(told)?);
    let Identity { card, driver, planes } = camera::identify(&device).map_err(told)?;
    device.speaks_of_planes(planes);
    let formats = camera::offered(&device).into_iter().map(|fourcc| {
        let size = |offer: Sizes| {
            let (Sizes::One(largest) | Sizes::Range(_, largest)) = offer;
            Size { pixels: sizes_text(&[offer]), frames_per_second: rates_text(&rates(&device, fourcc, largest)) }
        };
        let name = PixelFormat::of_fourcc(fourcc).map(PixelFormat::name);
        Format { fourcc: abi::fourcc_text(fourcc), name, sizes: sizes(&device, fourcc).into_iter().map(size).collect() }
    });
    Ok(Description { formats: formats.collect(), controls: control::list(&device), card, driver, planes })
}
