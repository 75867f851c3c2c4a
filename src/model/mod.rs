//! A package made runnable: pixels in, predictions out, as Roboflow's engine for that package would answer.
//!
//! May not know: where frames come from, where predictions go.

mod annotate;
mod argsort;
pub mod detection;
pub mod geometry;
pub mod nms;
mod predictions;
mod preprocess;
mod registry;
mod request;
mod verify;

use std::time::{Duration, Instant};

pub use annotate::Annotator;
pub use predictions::{Detection, DetectionList, Predictions, ResolvedModel, Response, class_name};
pub use preprocess::Preprocessor;
pub use registry::{Family, family};
pub use request::{Confidence, ConfidenceWord, Request, RequestError};
pub use verify::verify;

use crate::cache::{Package, Preprocessing, Rgb};
use crate::engine::{self, DeclaredInput, Engine, InputShape, LoadOptions, Network, Session};
use crate::frame::{self, CHANNELS, Frame, Orientation, Size};
use detection::yolov8;
use nms::{Candidate, Suppressor};

/// Side of a network whose file and package leave it open (SPEC §1.2, "Loading").
const SIDE_DEFAULT: usize = 640;
/// With an open batch, sides that are open too are padded to a multiple of this (SPEC §2.2).
const STRIDE: usize = 32;

/// Why a model cannot be made or cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "model `{id}`: task `{task}`, type `{model_type}` is not supported by this version; \
         supported: object-detection with {supported}"
    )]
    Unsupported { id: String, task: String, model_type: String, supported: String },
    #[error("the network has {network} classes (output {shape:?}), but there are {names} names in class_names.txt")]
    ClassCount { names: usize, network: usize, shape: Vec<usize> },
    #[error("the network's outputs are {found:?}; expected {expected}")]
    OutputShape { expected: String, found: Vec<Vec<usize>> },
    #[error("the network takes {0:?}; expected one image of three channels")]
    InputShape([usize; 4]),
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error("image: {0}")]
    Frame(#[from] frame::Error),
}

/// How long the steps of one inference took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    pub preprocess: Duration,
    pub infer: Duration,
    pub decode: Duration,
}

impl Timing {
    #[must_use]
    pub fn total(&self) -> Duration {
        self.preprocess + self.infer + self.decode
    }
}

/// A loaded model with all its buffers.
#[derive(Debug)]
pub struct Model {
    id: String,
    task: String,
    class_names: Vec<String>,
    colors: Vec<Rgb>,
    auto_orient: bool,
    preprocessor: Preprocessor,
    session: Box<dyn Session>,
    decoder: yolov8::Decoder,
    candidates: Vec<Candidate>,
    suppressor: Suppressor,
}

impl Model {
    /// Loads the network of a package.
    ///
    /// # Errors
    /// The package's task and type are not supported, the network cannot be loaded, or its shapes or class count do
    /// not fit the package.
    pub fn load(package: &Package, engine: &dyn Engine, options: LoadOptions) -> Result<Self, Error> {
        let Family::YoloV8Detection = family(&package.id, &package.kind)?;
        let preprocessing = &package.preprocessing;
        let session = engine.load(
            &Network {
                bytes: package.weights.bytes(),
                origin: package.weights.path().into(),
                shape: &|declared| concrete_shape(declared, preprocessing),
            },
            options,
        )?;
        let shape = session.input_shape();
        if shape.batch != 1 || shape.channels != CHANNELS {
            return Err(Error::InputShape(shape.dims()));
        }
        let outputs: Vec<Vec<usize>> = session.outputs().iter().map(|info| info.shape.clone()).collect();
        yolov8::check(&outputs, package.class_names.len())?;
        let resize = resize_size(&session.declared(), preprocessing);
        let network = Size { width: shape.width, height: shape.height };
        Ok(Self {
            id: package.id.clone(),
            task: package.kind.task.clone(),
            class_names: package.class_names.clone(),
            colors: package.colors.clone(),
            auto_orient: preprocessing.auto_orient,
            preprocessor: Preprocessor::new(preprocessing.clone(), resize, network),
            session,
            decoder: yolov8::Decoder::default(),
            candidates: Vec::new(),
            suppressor: Suppressor::default(),
        })
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    #[must_use]
    pub fn task(&self) -> &str {
        &self.task
    }

    #[must_use]
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    #[must_use]
    pub fn colors(&self) -> &[Rgb] {
        &self.colors
    }

    #[must_use]
    pub fn session(&self) -> &dyn Session {
        &*self.session
    }

    /// Whether an image file's EXIF orientation counts for this model and request.
    #[must_use]
    pub fn orientation(&self, request: &Request) -> Orientation {
        let disabled = request.disable_preproc_auto_orient.unwrap_or(false);
        if self.auto_orient && !disabled { Orientation::Apply } else { Orientation::Ignore }
    }

    /// What is to be seen in a frame. Allocates nothing once `into` and the buffers have grown to their size, besides
    /// what the engine itself allocates.
    ///
    /// # Errors
    /// The picture cannot be brought to the network's size, or the engine fails; `into` is then empty.
    pub fn infer(&mut self, frame: &Frame, request: &Request, into: &mut Predictions) -> Result<Timing, Error> {
        into.image = frame.size();
        into.detections.clear();
        let started = Instant::now();
        let inverse = self.preprocessor.run(frame, request, self.session.input_mut())?;
        let preprocessed = Instant::now();
        self.session.run()?;
        let inferred = Instant::now();
        self.candidates.clear();
        self.decoder.decode(self.session.output(0), request.confidence(), &mut self.candidates);
        self.suppressor.run(
            &mut self.candidates,
            request.iou_threshold(),
            request.class_agnostic_nms(),
            request.max_detections(),
        );
        let wanted = |class_id: u32| match &request.class_filter {
            Some(names) => names.iter().any(|name| name == class_name(&self.class_names, class_id)),
            None => true,
        };
        into.detections.extend(self.candidates.iter().filter(|candidate| wanted(candidate.class_id)).map(
            |candidate| Detection {
                corners: inverse.apply(candidate.corners),
                confidence: candidate.confidence,
                class_id: candidate.class_id,
            },
        ));
        Ok(Timing { preprocess: preprocessed - started, infer: inferred - preprocessed, decode: inferred.elapsed() })
    }
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
pub fn concrete_shape(declared: &DeclaredInput, preprocessing: &Preprocessing) -> InputShape {
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
        let open = DeclaredInput { batch: None, channels: None, height: None, width: None };
        assert_eq!(concrete_shape(&open, &preprocessing).dims(), [1, 3, 640, 320]);
        let fixed_batch = DeclaredInput { batch: Some(1), ..open };
        assert_eq!(concrete_shape(&fixed_batch, &preprocessing).dims(), [1, 3, 640, 300]);
        let fixed = DeclaredInput { batch: None, channels: Some(3), height: Some(128), width: Some(224) };
        assert_eq!(concrete_shape(&fixed, &preprocessing).dims(), [1, 3, 128, 224]);
    }
}
