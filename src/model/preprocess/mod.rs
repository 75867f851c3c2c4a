//! From a frame to the network's input: static crop, contrast, grayscale, resize, scaling, one file an engine of
//! Roboflow's. The layout of a package decides whose way is gone.

mod classic;
mod default;
mod edits;

use classic::Classic;
use default::Default as DefaultEngine;

use super::transform::Transform;
use super::{Contract, Error, Request};
use crate::cache::{Layout, Normalization, Package};
use crate::engine::{DeclaredInput, InputShape};
use crate::frame::{CHANNELS, Frame, Placement, Region, Size};

/// Side of a network whose file and package leave it open (SPEC §1.2, "Loading").
const SIDE_DEFAULT: usize = 640;

/// Mean and deviation of the levels of ImageNet, from 0 to 1: what most backbones were trained with.
const IMAGENET: Normalization = Normalization { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/// The steps with their tables and pictures in between, reused from frame to frame.
#[derive(Debug)]
pub struct Preprocessor(Way);

#[derive(Debug)]
enum Way {
    Classic(Classic),
    Default(Box<DefaultEngine>),
}

impl Preprocessor {
    /// For a package whose network declares `declared` and was loaded at `input`.
    ///
    /// # Errors
    /// [`Error::InputSize`]: the package prepares images of another size than the network takes, or of none that can
    /// be handled; [`Error::Normalization`].
    pub fn new(
        package: &Package,
        contract: Contract,
        declared: &DeclaredInput,
        input: &InputShape,
    ) -> Result<Self, Error> {
        let network = Size::new(input.width, input.height);
        Ok(Self(match &package.layout {
            Layout::Classic { preprocessing, .. } => {
                Way::Classic(Classic::new(preprocessing.clone(), contract, declared, network)?)
            }
            Layout::ModelsCache(package) => {
                Way::Default(Box::new(DefaultEngine::new(&package.config, contract, declared, network)?))
            }
        }))
    }

    /// Fills `out` (3 × height × width of the network: one image of a batch) and says how the image came there.
    ///
    /// # Errors
    /// The frame is empty or too large, or nothing would be left of it.
    pub fn run(&mut self, frame: &Frame, request: &Request, out: &mut [f32]) -> Result<Transform, Error> {
        match &mut self.0 {
            Way::Classic(classic) => classic.run(frame, request, out),
            Way::Default(default) => default.run(frame, request, out),
        }
    }
}

/// The shape a network is loaded at: what it leaves open comes from its package.
#[must_use]
pub fn concrete_shape(declared: &DeclaredInput, layout: &Layout, contract: Contract) -> InputShape {
    let size = match layout {
        Layout::Classic { preprocessing, .. } => classic::network_size(declared, preprocessing, contract),
        Layout::ModelsCache(package) => default::network_size(declared, package.config.network_input.size),
    };
    InputShape {
        batch: declared.batch.unwrap_or(1),
        channels: declared.channels.unwrap_or(CHANNELS),
        height: size.height,
        width: size.width,
    }
}

/// Normalises three planes in place, with the two roundings a value that numpy and torch have.
fn normalise(planes: &mut [f32], Normalization { mean, std }: Normalization) {
    let area = planes.len() / CHANNELS;
    for ((plane, mean), std) in planes.chunks_exact_mut(area.max(1)).zip(mean).zip(std) {
        for value in plane {
            *value = (*value - mean) / std;
        }
    }
}

/// Pixels that the picture leaves free: left, top, right, bottom.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "sides are at most SIDE_MAX")]
fn margins(Placement { net, picture }: Placement) -> [i32; 4] {
    let Region { left, top, width, height } = picture;
    [left, top, net.width - width - left, net.height - height - top].map(|side| side as i32)
}

/// Pixels of `to` a pixel of `from`: across, down.
fn ratios(to: Size, from: Size) -> (f64, f64) {
    (to.width as f64 / from.width as f64, to.height as f64 / from.height as f64)
}
