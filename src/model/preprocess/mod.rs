//! From a frame to the network's input: static crop, contrast, grayscale, resize, scaling, one file an engine of
//! Roboflow's. The layout of a package decides whose way is gone.

mod classic;
mod default;
mod edits;

use classic::ClassicEngine;
use default::DefaultEngine;

use super::transform::Transform;
use super::{Contract, Error, Request};
use crate::cache::{Layout, Normalization, Package};
use crate::engine::{DeclaredInput, InputShape};
use crate::frame::{CHANNELS, Frame, Placement, Region, Size};

/// Side of a network whose file and package leave it open (SPEC §1.2, "Loading").
const SIDE_DEFAULT: usize = 640;

/// The steps with their tables and pictures in between, reused from frame to frame.
#[derive(Debug)]
pub struct Preprocessor(Way);

#[derive(Debug)]
enum Way {
    Classic(Box<ClassicEngine>),
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
                let engine = ClassicEngine::new(preprocessing.clone(), contract, declared, network)?;
                Way::Classic(Box::new(engine))
            }
            Layout::ModelsCache(package) => {
                Way::Default(Box::new(DefaultEngine::new(&package.config, contract, declared, network)?))
            }
            Layout::Tflite(package) => {
                Way::Default(Box::new(DefaultEngine::new(&package.config, contract, declared, network)?))
            }
        }))
    }

    /// Whether what a request says of pre-processing counts.
    #[must_use]
    pub fn heeds_requests(&self) -> bool {
        match &self.0 {
            Way::Classic(classic) => classic.heeds_requests,
            Way::Default(_) => true,
        }
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
        // A file of this format says its size; `network_size` has no other to take.
        Layout::Tflite(_) => default::network_size(declared, None),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Preprocessing, Resize};
    use crate::model::{Family, Task};

    #[test]
    fn open_sides_come_from_the_package_and_are_padded_only_with_an_open_batch() {
        let preprocessing = Preprocessing {
            resize: Resize { width: Some(300), height: None, ..Resize::default() },
            ..Preprocessing::default()
        };
        let layout = Layout::Classic { preprocessing, multiclass: false };
        let shape = |declared: &DeclaredInput, task, family| {
            concrete_shape(declared, &layout, Contract { task, family }).dims()
        };
        let open = DeclaredInput { batch: None, channels: None, height: None, width: None };
        let yolo = |declared: &DeclaredInput| shape(declared, Task::ObjectDetection, Family::YoloV8);
        assert_eq!(yolo(&open), [1, 3, 640, 320]);
        assert_eq!(yolo(&DeclaredInput { batch: Some(1), ..open }), [1, 3, 640, 300]);
        let fixed = DeclaredInput { batch: None, channels: Some(3), height: Some(128), width: Some(225) };
        assert_eq!(yolo(&fixed), [1, 3, 128, 225]);
        assert_eq!(shape(&open, Task::KeypointDetection, Family::YoloV8), [1, 3, 640, 320]);
        assert_eq!(shape(&open, Task::InstanceSegmentation, Family::YoloV8), [1, 3, 640, 300]);
        assert_eq!(shape(&open, Task::ObjectDetection, Family::RfDetr), [1, 3, 640, 300]);
    }

    #[test]
    fn values_are_normalised_plane_by_plane() {
        let mut planes = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0];
        normalise(&mut planes, Normalization { mean: [0.0, 1.0, 2.0], std: [1.0, 0.5, 0.25] });
        assert_eq!(planes, [1.0, 2.0, 0.0, 2.0, -4.0, 0.0]);
        normalise(&mut [], Normalization { mean: [0.0; 3], std: [1.0; 3] });
    }
}
