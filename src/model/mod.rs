//! A package made runnable: pixels in, predictions out, as Roboflow's engine for that package would answer.
//!
//! May not know: where frames come from, where predictions go.

mod accuracy;
mod annotate;
pub mod family;
pub mod geometry;
mod judge;
mod labels;
pub mod mask;
pub mod nms;
mod predictions;
mod preprocess;
pub mod registry;
mod request;
mod response;
mod semantics;
mod threshold;
mod transform;
mod verify;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use accuracy::{Accuracy, accuracy};
pub use annotate::Annotator;
pub use judge::Judge;
pub use labels::Labels;
pub use predictions::{ClassMap, ClassScore, Detection, Keypoint, Predictions, Shape, Span};
pub use preprocess::{Preprocessor, concrete_shape};
pub use registry::{Contract, Family, Task, contract};
pub use request::{Confidence, ConfidenceWord, MaskDecodeMode, MaskFormat, Request, RequestError};
pub use response::{Answer, ResolvedModel, Response};
pub use semantics::Semantics;
pub use threshold::{Bound, Threshold, Thresholds};
pub use transform::{Fit, Transform};
pub use verify::verify;

use crate::cache::{self, Layout, Package};
use crate::engine::{self, DeclaredInput, Engine, InputShape, LoadOptions, Network, Precision, Session, TensorInfo};
use crate::frame::{self, CHANNELS, Frame, Orientation, Size};
use family::{Head, Job, Setup};

/// Why a model cannot be made or cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "model `{id}`: task `{task}`, type `{model_type}` cannot be run: {why}; `firstlight models` lists what can"
    )]
    Unsupported { id: String, task: String, model_type: String, why: String },
    #[error("the network has {network} classes (outputs {shape:?}), but there are {names} names in class_names.txt")]
    ClassCount { names: usize, network: usize, shape: Vec<Vec<usize>> },
    #[error("the network's outputs are {found:?}; expected {expected}")]
    OutputShape { expected: String, found: Vec<Vec<usize>> },
    #[error(
        "Invalid mask decode argument sent. tradeoff_factor must be in [0.0, 1.0], mask_decode_mode: must be one of \
         ['accurate', 'fast', 'tradeoff']"
    )]
    MaskArgument,
    #[error("the network takes {0:?}; expected one image of three channels")]
    InputShape([usize; 4]),
    #[error(
        "the network takes images of {}x{} pixels, but its package prepares {}x{}",
        network.width, network.height, package.width, package.height
    )]
    InputSize { network: Size, package: Size },
    #[error("normalization by mean {mean:?} and deviation {std:?}: expected finite numbers, and no deviation of 0")]
    Normalization { mean: [f32; CHANNELS], std: [f32; CHANNELS] },
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

/// A frame that lies in the network's input.
#[derive(Clone, Copy, Debug)]
pub struct Prepared {
    transform: Transform,
    took: Duration,
}

impl Prepared {
    /// How long it took to prepare.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }
}

/// A loaded model with all its buffers.
#[derive(Debug)]
pub struct Model {
    resolved: ResolvedModel,
    labels: Arc<Labels>,
    thresholds: Thresholds,
    /// Whether EXIF orientation counts, unless a request says otherwise.
    auto_orient: bool,
    preprocessor: Preprocessor,
    session: Box<dyn Session>,
    /// Of the images in hand.
    transforms: Vec<Transform>,
    head: Box<dyn Head>,
    /// The package stays in use as long as the model is there.
    _lease: Option<Arc<cache::Lease>>,
}

/// Draws a picture such as models see.
pub type Draw<'a> = &'a dyn Fn() -> Frame;

/// Hands on the network of a package with what its package says of it: the size, and how a picture becomes its input.
///
/// # Errors
/// The package's task and type are not supported.
pub fn with_network<T>(
    package: &Package,
    picture: Option<Draw<'_>>,
    then: impl FnOnce(&Network<'_>) -> T,
) -> Result<T, Error> {
    let contract = contract(package)?;
    let draw = |declared: &DeclaredInput, shape: &InputShape, values: &mut [f32]| {
        let Some(draw) = picture else { return Err("there is no picture".into()) };
        let frame = draw();
        let mut fill = || -> Result<(), Error> {
            if shape.batch == 0 || shape.channels != CHANNELS {
                return Err(Error::InputShape(shape.dims()));
            }
            let mut preprocessor = Preprocessor::new(package, contract, declared, shape)?;
            for place in values.chunks_exact_mut(shape.volume() / shape.batch) {
                preprocessor.run(&frame, &Request::default(), place)?;
            }
            Ok(())
        };
        fill().map_err(|error| error.to_string())
    };
    let prebuilt: Vec<engine::Prebuilt<'_>> = package.prebuilt.iter().map(prebuilt).collect();
    Ok(then(&Network {
        bytes: package.weights.bytes(),
        origin: package.weights.path().into(),
        shape: &|declared| concrete_shape(declared, &package.layout, contract),
        picture: picture.is_some().then_some(&draw),
        prebuilt: &prebuilt,
    }))
}

fn prebuilt(of: &cache::Prebuilt) -> engine::Prebuilt<'_> {
    engine::Prebuilt {
        name: &of.package_id,
        origin: of.engine.path(),
        bytes: of.engine.bytes(),
        precision: [Precision::Fp32, Precision::Fp16].into_iter().find(|known| known.as_str() == of.quantization),
        batch: of.batch.clone(),
    }
}

impl Model {
    /// Loads the network of a package.
    ///
    /// # Errors
    /// The package's task and type are not supported, the network cannot be loaded, or its shapes or class count do
    /// not fit the package.
    pub fn load(package: &Package, engine: &dyn Engine, options: LoadOptions) -> Result<Self, Error> {
        Self::load_with(package, engine, options, None)
    }

    /// As [`Model::load`]; an engine that compares itself with another does so on this picture too.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_with(
        package: &Package,
        engine: &dyn Engine,
        options: LoadOptions,
        picture: Option<Draw<'_>>,
    ) -> Result<Self, Error> {
        let contract = contract(package)?;
        let mut labels = Labels::of(package, contract);
        let session = with_network(package, picture, |network| engine.load(network, options))??;
        let shape = session.input_shape();
        if shape.batch == 0 || shape.channels != CHANNELS {
            return Err(Error::InputShape(shape.dims()));
        }
        let outputs: Vec<Vec<usize>> =
            session.outputs().iter().map(|info| family::without_batch(&info.shape, shape.batch).to_vec()).collect();
        if contract.task == Task::Raw {
            let named = session.outputs().iter().zip(&outputs);
            let info = |(info, shape): (&TensorInfo, &Vec<usize>)| TensorInfo {
                name: info.name.clone(),
                shape: shape.clone(),
            };
            Arc::make_mut(&mut labels).outputs = named.map(info).collect();
        }
        let semantics = Semantics::of(package);
        let head =
            family::head(&Setup { contract, semantics, package, labels: &labels, input: shape, outputs: &outputs })?;
        let (auto_orient, resolved) = match &package.layout {
            Layout::Classic { preprocessing, .. } => (preprocessing.auto_orient, ResolvedModel::default()),
            Layout::Tflite(_) => (true, ResolvedModel { backend: Some("tflite".into()), ..ResolvedModel::default() }),
            Layout::ModelsCache(package) => (
                true,
                ResolvedModel {
                    model_package_id: Some(package.package_id.clone()),
                    backend: Some(package.backend.clone()),
                    quantization: Some(package.quantization.clone()),
                    ..ResolvedModel::default()
                },
            ),
        };
        Ok(Self {
            resolved: ResolvedModel { model_id: package.id.clone(), ..resolved },
            thresholds: Thresholds::new(package, contract.task, contract.family, &labels.class_names),
            labels,
            auto_orient,
            preprocessor: Preprocessor::new(package, contract, &session.declared(), &shape)?,
            session,
            transforms: Vec::new(),
            head,
            _lease: package.lease.clone(),
        })
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.resolved.model_id
    }

    #[must_use]
    pub fn resolved(&self) -> &ResolvedModel {
        &self.resolved
    }

    #[must_use]
    pub fn labels(&self) -> &Arc<Labels> {
        &self.labels
    }

    #[must_use]
    pub fn session(&self) -> &dyn Session {
        &*self.session
    }

    /// Whether an image file's EXIF orientation counts for this model and request.
    #[must_use]
    pub fn orientation(&self, request: &Request) -> Orientation {
        let disabled = request.disable_preproc_auto_orient.unwrap_or(false) && self.preprocessor.heeds_requests();
        if self.auto_orient && !disabled { Orientation::Apply } else { Orientation::Ignore }
    }

    /// Images that the network takes at once; most take one.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.session.input_shape().batch
    }

    /// What is to be seen in a frame. Allocates nothing once `into` and the buffers have grown to their size, besides
    /// what the engine itself allocates.
    ///
    /// # Errors
    /// The picture cannot be brought to the network's size, the engine fails, or the request has a value that is
    /// refused; `into` is then empty.
    pub fn infer(&mut self, frame: &Frame, request: &Request, into: &mut Predictions) -> Result<Timing, Error> {
        self.infer_batch(&[frame], request, std::slice::from_mut(into))
    }

    /// Brings a frame into the network's input, with nothing beside it. After [`Model::begin`] this may be done for the
    /// next frame, before [`Model::finish`].
    ///
    /// # Errors
    /// The picture cannot be brought to the network's size.
    pub fn prepare(&mut self, frame: &Frame, request: &Request) -> Result<Prepared, Error> {
        let started = Instant::now();
        let image_len = self.session.input_shape().volume() / self.batch();
        let (place, rest) = self.session.input_mut().split_at_mut(image_len);
        let transform = self.preprocessor.run(frame, request, place)?;
        rest.fill(0.0);
        Ok(Prepared { transform, took: started.elapsed() })
    }

    /// Infers what was prepared.
    ///
    /// # Errors
    /// The engine fails.
    pub fn run(&mut self) -> Result<(), Error> {
        Ok(self.session.run()?)
    }

    /// Begins to infer what was prepared, where the engine does so beside this thread; see [`Session::begin`].
    ///
    /// # Errors
    /// The engine fails.
    pub fn begin(&mut self) -> Result<bool, Error> {
        Ok(self.session.begin()?)
    }

    /// Waits for what was begun.
    ///
    /// # Errors
    /// The engine fails.
    pub fn finish(&mut self) -> Result<(), Error> {
        Ok(self.session.finish()?)
    }

    /// What is to be seen in a frame that was prepared and inferred.
    ///
    /// # Errors
    /// The request has a value that is refused; `into` is then empty.
    pub fn decode(&mut self, prepared: &Prepared, request: &Request, into: &mut Predictions) -> Result<(), Error> {
        into.clear(prepared.transform.image);
        let threshold = self.thresholds.of(request);
        let outputs = family::outputs_of(&*self.session, 0);
        let transform = &prepared.transform;
        self.head.decode(&Job { outputs: &outputs, transform, request, threshold, labels: &self.labels }, into)
    }

    /// What is to be seen in each of several frames, as many at a time as the network takes; places of its batch that
    /// no frame fills are black.
    ///
    /// # Errors
    /// As [`Model::infer`], for the first frame that fails; answers of the others may be missing then.
    ///
    /// # Panics
    /// When there are not as many frames as answers.
    pub fn infer_batch(
        &mut self,
        frames: &[&Frame],
        request: &Request,
        into: &mut [Predictions],
    ) -> Result<Timing, Error> {
        assert_eq!(frames.len(), into.len(), "one answer a frame");
        let mut timing = Timing::default();
        for (frame, into) in frames.iter().zip(into.iter_mut()) {
            into.clear(frame.size());
        }
        let batch = self.batch();
        for (frames, into) in frames.chunks(batch).zip(into.chunks_mut(batch)) {
            let one = self.infer_chunk(frames, request, into)?;
            timing.preprocess += one.preprocess;
            timing.infer += one.infer;
            timing.decode += one.decode;
        }
        Ok(timing)
    }

    /// At most one batch.
    fn infer_chunk(&mut self, frames: &[&Frame], request: &Request, into: &mut [Predictions]) -> Result<Timing, Error> {
        let started = Instant::now();
        let image_len = self.session.input_shape().volume() / self.batch();
        self.transforms.clear();
        let mut places = self.session.input_mut().chunks_exact_mut(image_len);
        for (frame, place) in frames.iter().zip(&mut places) {
            self.transforms.push(self.preprocessor.run(frame, request, place)?);
        }
        places.for_each(|place| place.fill(0.0));
        let preprocessed = Instant::now();
        self.session.run()?;
        let inferred = Instant::now();
        let threshold = self.thresholds.of(request);
        for (index, (transform, into)) in self.transforms.iter().zip(into).enumerate() {
            let outputs = family::outputs_of(&*self.session, index);
            let job = Job { outputs: &outputs, transform, request, threshold, labels: &self.labels };
            self.head.decode(&job, into)?;
        }
        Ok(Timing { preprocess: preprocessed - started, infer: inferred - preprocessed, decode: inferred.elapsed() })
    }
}
