//! The tract backend: the CPU engine that runs everything, and the referee of every faster one.
//!
//! tract trusts its input in places (an unknown output name panics, a shape is allocated as declared), so a file is
//! first admitted by [`admission`], then built behind a [`fence`] that turns a panic into an error and gives up after
//! a time.

mod admission;
pub(super) mod fence;
mod grid_sample;
pub(super) mod half;
mod tflite;

use std::sync::Arc;
use std::time::Duration;

use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::plan::SimpleState;
use tract_onnx::tract_hir::infer::Factoid;

use super::{
    DeclaredInput, Engine, Error, Footprint, Format, InputShape, LoadOptions, Network, Session, TensorInfo, TensorView,
};

type Plan = Arc<TypedSimplePlan>;
/// Makes the plan of an admitted file at one shape, once.
type Build = Box<dyn FnOnce(InputShape) -> Result<(Plan, Rounding), String> + Send>;
type State = SimpleState<TypedFact, Box<dyn TypedOp>>;

/// A load that takes longer is given up. RF-DETR, the slowest to optimise of the families this project serves, takes
/// seconds on a desktop; a Pi is ten times slower.
const LOAD_SECONDS_MAX: u64 = 120;

/// The backend; it has no state of its own.
#[derive(Clone, Copy, Debug)]
pub struct Tract;

impl Engine for Tract {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn version(&self) -> String {
        "0.23.9".into()
    }

    fn probe(&self) -> Result<(), String> {
        Ok(())
    }

    fn takes(&self, _: Format) -> bool {
        true
    }

    fn load(&self, network: &Network<'_>, _: LoadOptions) -> Result<Box<dyn Session>, Error> {
        let origin = || network.origin.clone();
        let malformed = |why: String| Error::Malformed { origin: origin(), why };
        let (declared, bytes, build): (DeclaredInput, u64, Build) = match network.format() {
            Format::Onnx => {
                let admission::Admitted { mut proto, declared } =
                    admission::admit(network.bytes).map_err(|why| malformed(why.to_string()))?;
                (declared, network.bytes.len() as u64, Box::new(move |shape| build(&mut proto, shape)))
            }
            Format::Tflite => {
                let tflite::Admitted { declared, bytes } = tflite::admit(network.bytes).map_err(malformed)?;
                let file = network.bytes.to_vec();
                (declared, bytes, Box::new(move |shape| Ok((tflite::build(&file, shape)?, Rounding::None))))
            }
        };
        let shape = (network.shape)(&declared);
        admission::check_shape(&declared, &shape).map_err(malformed)?;
        let (plan, rounding) = fence::within(Duration::from_secs(LOAD_SECONDS_MAX), move || build(shape)).map_err(
            |failure| match failure {
                fence::Failure::Timeout => {
                    Error::LoadTimeout { origin: origin(), engine: self.name(), limit_s: LOAD_SECONDS_MAX }
                }
                fence::Failure::Error(why) => Error::Load { origin: origin(), engine: self.name(), why },
            },
        )?;
        let mut session = TractSession::new(plan, rounding, declared, shape).map_err(|why| Error::Load {
            origin: origin(),
            engine: self.name(),
            why,
        })?;
        // As read, and as packed for its kernels; its buffers come and go.
        session.bytes = 2 * bytes;
        Ok(Box::new(session))
    }
}

/// What happens to the input before a network sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rounding {
    None,
    /// The file declares an f16 input: each value becomes the nearest one of those.
    ToHalf,
}

/// A network as the plan takes it: typed at its concrete shape, and not rewritten by tract.
#[derive(Debug)]
pub(super) struct FrontEnd<T> {
    pub declared: DeclaredInput,
    pub shape: InputShape,
    pub f16_input: bool,
    /// What `then` made of it, or why it made nothing.
    pub made: Result<T, String>,
}

/// Admits, parses and types a network, and hands it to `then`, behind the same fence as a load: what is done to a network
/// may panic, or take for ever.
///
/// # Errors
/// As [`Engine::load`]; what `then` says is no error of the network.
pub(super) fn front_end<T: Send + 'static>(
    network: &Network<'_>,
    then: impl FnOnce(TypedModel) -> Result<T, String> + Send + 'static,
) -> Result<FrontEnd<T>, Error> {
    let origin = || network.origin.clone();
    let malformed = |why: String| Error::Malformed { origin: origin(), why };
    let admission::Admitted { mut proto, declared } =
        admission::admit(network.bytes).map_err(|why| malformed(why.to_string()))?;
    let shape = (network.shape)(&declared);
    admission::check_shape(&declared, &shape).map_err(malformed)?;
    let f16_input = half::widen(&mut proto);
    let made = fence::within(Duration::from_secs(LOAD_SECONDS_MAX), move || {
        let words = |error: TractError| one_line(&format!("{error:#}"));
        let onnx = onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
        let mut model = onnx.parse(&proto, None).map_err(words)?.model;
        drop(proto);
        model.set_input_fact(0, InferenceFact::dt_shape(DatumType::F32, shape.dims())).map_err(words)?;
        then(model.into_typed().map_err(words)?)
    });
    match made {
        Ok(made) => Ok(FrontEnd { declared, shape, f16_input, made: Ok(made) }),
        Err(fence::Failure::Error(why)) => Ok(FrontEnd { declared, shape, f16_input, made: Err(why) }),
        Err(fence::Failure::Timeout) => {
            Err(Error::LoadTimeout { origin: origin(), engine: "plan", limit_s: LOAD_SECONDS_MAX })
        }
    }
}

/// Parses, types, declutters and optimises the network at one shape.
fn build(proto: &mut ModelProto, shape: InputShape) -> Result<(Plan, Rounding), String> {
    let rounding = if half::widen(proto) { Rounding::ToHalf } else { Rounding::None };
    let onnx = onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let optimize = || -> TractResult<Plan> {
        let parsed = onnx.parse(proto, None)?;
        if !parsed.unresolved_inputs.is_empty() {
            tract_onnx::tract_core::internal::bail!("nothing produces {:?}", parsed.unresolved_inputs);
        }
        let mut model = parsed.model;
        let datum_type = model.input_fact(0)?.datum_type.concretize().unwrap_or(DatumType::F32);
        model.set_input_fact(0, InferenceFact::dt_shape(datum_type, shape.dims()))?;
        let mut model = model.into_typed()?.into_decluttered()?;
        grid_sample::replace(&mut model);
        let model = model.into_optimized()?;
        TypedSimplePlan::new(model)
    };
    optimize().map(|plan| (plan, rounding)).map_err(|error| one_line(&format!("{error:#}")))
}

/// A plan with its state and buffers.
struct TractSession {
    state: State,
    declared: DeclaredInput,
    shape: InputShape,
    rounding: Rounding,
    input_type: DatumType,
    /// Filled by the caller; handed to tract by reference count, so it is not copied when the network takes f32.
    input: Arc<Tensor>,
    infos: Vec<TensorInfo>,
    outputs: TVec<TValue>,
    /// Roughly what its weights take.
    bytes: u64,
}

impl std::fmt::Debug for TractSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TractSession({:?})", self.shape)
    }
}

impl TractSession {
    fn new(plan: Plan, rounding: Rounding, declared: DeclaredInput, shape: InputShape) -> Result<Self, String> {
        let describe = |error: TractError| one_line(&format!("{error:#}"));
        let model = plan.model();
        let input_type = model.input_fact(0).map_err(describe)?.datum_type;
        if !input_type.is_float() {
            return Err(format!("the input is {input_type:?}; expected a float type"));
        }
        let mut infos = Vec::new();
        for (index, outlet) in model.output_outlets().map_err(describe)?.iter().enumerate() {
            let fact = model.output_fact(index).map_err(describe)?;
            let name = model.outlet_label(*outlet).unwrap_or_default().to_owned();
            let Some(shape) = fact.shape.as_concrete() else {
                return Err(format!("output `{name}` has the shape {:?}, which depends on the picture", fact.shape));
            };
            infos.push(TensorInfo { name, shape: shape.to_vec() });
        }
        let state = State::new(&plan).map_err(describe)?;
        let input = Tensor::zero::<f32>(&shape.dims()).map_err(describe)?;
        Ok(Self {
            state,
            declared,
            shape,
            rounding,
            input_type,
            input: Arc::new(input),
            infos,
            outputs: tvec!(),
            bytes: 0,
        })
    }

    fn infer(&mut self) -> TractResult<()> {
        self.outputs.clear();
        if self.rounding == Rounding::ToHalf {
            half::round(self.input_mut());
        }
        let input: TValue = match self.input_type {
            DatumType::F32 => Arc::clone(&self.input).into_tvalue(),
            other => self.input.cast_to_dt(other)?.into_owned().into_tvalue(),
        };
        self.outputs = self.state.run(tvec!(input))?;
        for (output, info) in self.outputs.iter_mut().zip(&self.infos) {
            if output.datum_type() != DatumType::F32 {
                *output = output.cast_to::<f32>()?.into_owned().into_tvalue();
            }
            if output.shape() != info.shape {
                tract_onnx::tract_core::internal::bail!(
                    "{} came as {:?}, not {:?}",
                    info.name,
                    output.shape(),
                    info.shape
                );
            }
        }
        Ok(())
    }
}

impl Session for TractSession {
    fn declared(&self) -> DeclaredInput {
        self.declared
    }

    fn input_shape(&self) -> InputShape {
        self.shape
    }

    fn outputs(&self) -> &[TensorInfo] {
        &self.infos
    }

    fn threads(&self) -> usize {
        // Its threads inside a product cost 2.5 MB of code; it is the referee, and what is left when there is no plan.
        1
    }

    fn input_mut(&mut self) -> &mut [f32] {
        let view = Arc::make_mut(&mut self.input).to_plain_array_view_mut::<f32>().expect("made as f32 in new()");
        view.into_slice().expect("made in C order in new()")
    }

    fn footprint(&self) -> Footprint {
        Footprint { shared: 0, own: self.bytes }
    }

    fn run(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        let fenced = fence::catch(|| {
            result = self.infer().map_err(|error| one_line(&format!("{error:#}")));
        });
        fenced.and(result).map_err(|why| Error::Run { engine: "tract", why })
    }

    fn output(&self, index: usize) -> TensorView<'_> {
        match self.outputs.get(index) {
            Some(output) => {
                let data = output.to_plain_array_view::<f32>().expect("cast to f32 in infer()");
                TensorView { shape: output.shape(), data: data.to_slice().expect("tract's outputs are in C order") }
            }
            None => TensorView { shape: &[], data: &[] },
        }
    }
}

/// tract's error chains quote whole nodes; the first words tell.
fn one_line(message: &str) -> String {
    const CHARS_MAX: usize = 400;
    let mut words = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = words.char_indices().nth(CHARS_MAX) {
        words.truncate(cut);
        words.push('…');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_locked_one() {
        let lock = include_str!("../../../Cargo.lock");
        let locked = lock.split("[[package]]").find(|package| package.contains("name = \"tract-core\""));
        let version = format!("version = \"{}\"", Tract.version());
        assert!(locked.is_some_and(|package| package.contains(&version)), "not {version}: {locked:?}");
    }
}
