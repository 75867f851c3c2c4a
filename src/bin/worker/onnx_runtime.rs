//! ONNX Runtime: its library loaded at run time, one session, and runs that compute right where the device reads.
//!
//! A tensor of numbers of 32 bits is handed over as the shared memory itself, so that the library copies nothing but to and
//! from a GPU; other types are converted, one copy each way.

mod convert;

use std::ffi::{CStr, CString, c_char};
use std::path::Path;

use libloading::Library;
use ort::AsPointer;
use ort::ep::{self, ExecutionProviderDispatch};
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::sys;
use ort::value::ValueType;

use crate::cuda;
use crate::loading;
use crate::network::{Network, Output};
use crate::protocol::{Facts, Load, Provider};
use convert::Element;

/// What a GPU's kernels may use beside weights and tensors while they are chosen: what Roboflow's engine allows as well.
const WORKSPACE_BYTES: usize = 1 << 30;

/// The library's version, what it was built with, and the GPU beneath.
pub fn probe(library: &Path) -> Result<Facts, String> {
    environment(library)?;
    let providers = available()?;
    let cuda = providers
        .iter()
        .any(|name| [Provider::Cuda, Provider::TensorRt].iter().any(|of| of.of_onnx_runtime() == Some(name)));
    let tensorrt = providers.iter().any(|name| Provider::TensorRt.of_onnx_runtime() == Some(name));
    Ok(Facts {
        version: version(library)?,
        gpu: cuda.then(cuda::gpu),
        tensorrt: tensorrt.then(cuda::tensorrt),
        providers,
        ..Facts::default()
    })
}

/// The one environment of this process, which may be asked for again.
fn environment(library: &Path) -> Result<&'static ort::environment::Environment, String> {
    static ENVIRONMENT: std::sync::OnceLock<Result<ort::environment::Environment, String>> = std::sync::OnceLock::new();
    let made = ENVIRONMENT.get_or_init(|| {
        let words = |error: &dyn std::fmt::Display| one_line(&error.to_string());
        // Once before, for its own words: what is missing, a library of CUDA perhaps.
        // SAFETY: the library's initializers are its own business; it is loaded to be used, and stays.
        std::mem::forget(unsafe { Library::new(library) }.map_err(|error| loading(&error))?);
        let builder = ort::init_from(library).map_err(|error| words(&error))?;
        let environment =
            builder.with_name("firstlight").with_telemetry(false).build().map_err(|error| words(&error))?;
        environment.set_log_level(ort::logging::LogLevel::Error);
        Ok(environment)
    });
    made.as_ref().map_err(Clone::clone)
}

/// The library's own version, such as `1.21.1`: of its build it may know less.
fn version(library: &Path) -> Result<String, String> {
    // SAFETY: it is loaded already, and stays; the function is that of onnxruntime_c_api.h, as is what it gives.
    unsafe {
        let library = Library::new(library).map_err(|error| error.to_string())?;
        let base = library.get::<unsafe extern "C" fn() -> *const sys::OrtApiBase>(b"OrtGetApiBase");
        let base = base.map_err(|error| error.to_string())?();
        let version = base.as_ref().ok_or("no OrtApiBase")?.GetVersionString;
        Ok(CStr::from_ptr(version()).to_string_lossy().into_owned())
    }
}

fn available() -> Result<Vec<String>, String> {
    let api = ort::api();
    let (mut names, mut count) = (std::ptr::null_mut(), 0);
    // SAFETY: both pointers are to variables that outlive the call; what it gives is that many texts, freed below.
    unsafe {
        checked((api.GetAvailableProviders)(&mut names, &mut count))?;
        let len = usize::try_from(count).unwrap_or_default();
        let texts = if len == 0 { &[] } else { std::slice::from_raw_parts(names, len) };
        let found = texts.iter().map(|&text| CStr::from_ptr(text).to_string_lossy().into_owned()).collect();
        checked((api.ReleaseAvailableProviders)(names, count))?;
        Ok(found)
    }
}

/// Makes a network ready.
pub fn load(load: &Load, bytes: &[u8]) -> Result<Box<dyn Network>, String> {
    let environment = environment(&load.library)?;
    let words = |error: ort::Error| one_line(&error.to_string());
    let own = |error: ort::Error<SessionBuilder>| one_line(&error.to_string());
    let builder = Session::builder(environment).map_err(words)?;
    let builder = builder.with_intra_threads(load.threads).map_err(own)?;
    let mut builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(own)?;
    if let Some(provider) = execution_provider(load) {
        builder = builder.with_execution_providers([provider.error_on_failure()]).map_err(own)?;
    }
    let session = match &load.kept {
        // Kernels of the CPU are chosen at once; what is worth keeping is the optimised graph.
        Some(file) if load.provider == Provider::Cpu => optimised(builder, bytes, file)?,
        _ => builder.commit_from_memory(bytes).map_err(words)?,
    };
    Ok(Box::new(Loaded::new(session, load.shape)?))
}

fn execution_provider(load: &Load) -> Option<ExecutionProviderDispatch> {
    Some(match load.provider {
        Provider::TensorRt => {
            let mut tensorrt = ep::TensorRT::default()
                .with_max_workspace_size(WORKSPACE_BYTES)
                .with_fp16(load.fp16)
                // Normalisations overflow in halves: of transformers nothing is left.
                .with_layer_norm_fp32_fallback(true);
            if let Some(folder) = &load.kept {
                let folder = folder.display();
                tensorrt = tensorrt
                    .with_engine_cache(true)
                    .with_engine_cache_path(&folder)
                    .with_timing_cache(true)
                    .with_timing_cache_path(&folder);
            }
            tensorrt.build()
        }
        // TF32 has a mantissa of ten bits: that is not what a network in numbers of 32 bits answers.
        Provider::Cuda => ep::CUDA::default().with_tf32(false).build(),
        Provider::MiGraphX => ep::MIGraphX::default().with_fp16(load.fp16).build(),
        Provider::OpenVino => ep::OpenVINO::default().build(),
        Provider::Qnn => ep::QNN::default().build(),
        Provider::Acl => ep::ACL::default().build(),
        Provider::Cpu | Provider::TfLite => return None,
    })
}

/// The session of a graph that was optimised before, or is now, and kept where the disk takes it.
fn optimised(mut builder: SessionBuilder, bytes: &[u8], file: &Path) -> Result<Session, String> {
    let words = |error: ort::Error| one_line(&error.to_string());
    let own = |error: ort::Error<SessionBuilder>| one_line(&error.to_string());
    if file.exists() {
        let mut builder = builder.with_optimization_level(GraphOptimizationLevel::Disable).map_err(own)?;
        return builder.commit_from_file(file).map_err(words);
    }
    // Whole or not at all, also when this process is killed.
    let draft = file.with_extension("draft");
    let kept = builder.clone().with_optimized_model_path(&draft).map_err(own)?.commit_from_memory(bytes);
    match kept.map_err(words).and_then(|session| {
        std::fs::rename(&draft, file).map(|()| session).map_err(|error| format!("{}: {error}", file.display()))
    }) {
        Ok(session) => Ok(session),
        Err(why) => {
            let _ = std::fs::remove_file(&draft);
            let session = builder.commit_from_memory(bytes).map_err(words)?;
            eprintln!("the optimised network is not kept: {why}");
            Ok(session)
        }
    }
}

/// A session, and all that a run needs beside tensors.
struct Loaded {
    session: Session,
    shape: [usize; 4],
    input: (CString, Element),
    names: Vec<CString>,
    elements: Vec<Element>,
    outputs: Vec<Output>,
    memory: ort::memory::MemoryInfo<'static>,
    /// The input in the file's type, where that is another one.
    converted: Vec<u8>,
}

impl Loaded {
    /// Runs once, on nothing, to learn the shapes that the file leaves open.
    fn new(session: Session, shape: [usize; 4]) -> Result<Self, String> {
        let name = |name: &str| CString::new(name).map_err(|error| error.to_string());
        let [input] = session.inputs() else {
            return Err(format!("the network has {} inputs; expected one", session.inputs().len()));
        };
        let input = (name(input.name())?, element(input.dtype())?);
        let names: Vec<CString> =
            session.outputs().iter().map(|output| name(output.name())).collect::<Result<_, _>>()?;
        let elements = session.outputs().iter().map(|output| element(output.dtype())).collect::<Result<_, _>>()?;
        let memory = ort::memory::MemoryInfo::default();
        let mut loaded =
            Self { session, shape, input, names, elements, outputs: Vec::new(), memory, converted: Vec::new() };
        let nothing = vec![0.0; shape.iter().product()];
        let mut values: Vec<Value> = loaded.names.iter().map(|_| Value::none()).collect();
        loaded.compute(&nothing, &mut values)?;
        let shapes: Vec<Vec<usize>> = values.iter().map(Value::shape).collect::<Result<_, _>>()?;
        drop(values);
        let texts = loaded.names.iter().map(|name| name.to_string_lossy().into_owned());
        loaded.outputs = texts.zip(shapes).map(|(name, shape)| Output { name, shape }).collect();
        Ok(loaded)
    }

    /// Runs into the values that are given, and makes those that are none.
    fn compute(&mut self, input: &[f32], outputs: &mut [Value]) -> Result<(), String> {
        let input = match self.input.1 {
            Element::F32 => Value::over(&self.memory, as_bytes(input), &self.shape, Element::F32)?,
            other => {
                other.narrow(input, &mut self.converted);
                Value::over(&self.memory, &self.converted, &self.shape, other)?
            }
        };
        let names: Vec<*const c_char> = self.names.iter().map(|name| name.as_ptr()).collect();
        let mut values: Vec<*mut sys::OrtValue> = outputs.iter().map(|value| value.0).collect();
        // SAFETY: one name and value of the input, as many names as values of the outputs; all of them outlive the call.
        unsafe {
            checked((ort::api().Run)(
                self.session.ptr_mut(),
                std::ptr::null(),
                &self.input.0.as_ptr(),
                &input.0.cast_const(),
                1,
                names.as_ptr(),
                names.len(),
                values.as_mut_ptr(),
            ))?;
        }
        outputs.iter_mut().zip(values).for_each(|(output, value)| output.0 = value);
        Ok(())
    }
}

impl Network for Loaded {
    fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    fn run(&mut self, input: &[f32], outputs: &mut [&mut [f32]]) -> Result<(), String> {
        let mut values = Vec::with_capacity(outputs.len());
        for ((into, info), element) in outputs.iter_mut().zip(&self.outputs).zip(&self.elements) {
            // Right where it is wanted, or where the library likes, to be converted.
            values.push(match element {
                Element::F32 => Value::over(&self.memory, as_bytes(into), &info.shape, Element::F32)?,
                _ => Value::none(),
            });
        }
        self.compute(input, &mut values)?;
        for (index, value) in values.iter().enumerate() {
            if self.elements[index] == Element::F32 {
                continue;
            }
            let shape = value.shape()?;
            if shape != self.outputs[index].shape {
                let (name, was) = (&self.outputs[index].name, &self.outputs[index].shape);
                return Err(format!("output `{name}` is of shape {shape:?} now; it was {was:?}"));
            }
            // SAFETY: the tensor is of that type and shape, whose volume is the length of its place.
            unsafe { self.elements[index].widen(value.data()?, outputs[index]) };
        }
        Ok(())
    }
}

fn as_bytes(values: &[f32]) -> &[u8] {
    // SAFETY: any bytes of numbers are bytes, as many as the slice has.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

fn element(of: &ValueType) -> Result<Element, String> {
    match of {
        ValueType::Tensor { ty, .. } => {
            Element::of(*ty).ok_or_else(|| format!("a tensor of {ty}, which is not known here"))
        }
        other => Err(format!("{other} instead of a tensor")),
    }
}

/// A value of the library's, freed with it.
struct Value(*mut sys::OrtValue);

impl Value {
    /// Over memory that is somebody else's, and that must outlive it.
    fn over(
        memory: &ort::memory::MemoryInfo<'_>,
        bytes: &[u8],
        shape: &[usize],
        element: Element,
    ) -> Result<Self, String> {
        let dims: Vec<i64> = shape.iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect();
        let mut value = std::ptr::null_mut();
        // SAFETY: the memory is as long as is said, the shape is copied, and the library checks one by the other.
        unsafe {
            checked((ort::api().CreateTensorWithDataAsOrtValue)(
                memory.ptr(),
                bytes.as_ptr().cast_mut().cast(),
                bytes.len(),
                dims.as_ptr(),
                dims.len(),
                element.tensor_type().into(),
                &mut value,
            ))?;
        }
        Ok(Self(value))
    }

    /// In place of one that the library makes.
    fn none() -> Self {
        Self(std::ptr::null_mut())
    }

    fn shape(&self) -> Result<Vec<usize>, String> {
        let api = ort::api();
        let (mut info, mut rank) = (std::ptr::null_mut(), 0);
        // SAFETY: the value is a tensor; what is asked for is written to variables that outlive the calls, as many
        // dimensions as there are.
        unsafe {
            checked((api.GetTensorTypeAndShape)(self.0, &mut info))?;
            let mut dims = Vec::new();
            let found = checked((api.GetDimensionsCount)(info, &mut rank)).and_then(|()| {
                dims = vec![0; rank];
                checked((api.GetDimensions)(info, dims.as_mut_ptr(), rank))
            });
            (api.ReleaseTensorTypeAndShapeInfo)(info);
            found?;
            let known = |dim: i64| usize::try_from(dim).map_err(|_| format!("a dimension of {dim}"));
            dims.into_iter().map(known).collect()
        }
    }

    /// Where its values begin.
    fn data(&self) -> Result<*const u8, String> {
        let mut data = std::ptr::null_mut();
        // SAFETY: the value is a tensor in the CPU's memory, where outputs that nobody bound elsewhere are.
        unsafe { checked((ort::api().GetTensorMutableData)(self.0, &mut data))? };
        Ok(data.cast_const().cast())
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: made by the library, and given up nowhere else.
            unsafe { (ort::api().ReleaseValue)(self.0) };
        }
    }
}

/// The library's status as a result; frees it.
///
/// # Safety
/// `status` was just given by the library.
unsafe fn checked(status: sys::OrtStatusPtr) -> Result<(), String> {
    // SAFETY: by the caller's word.
    unsafe { ort::Error::result_from_status(status) }.map_err(|error| one_line(&error.to_string()))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
