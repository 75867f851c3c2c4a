//! The functions of TensorFlow Lite's C API (`tensorflow/lite/c/c_api.h`) that are used, as they lie in the library.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;

use libloading::Library;

use super::Scale;

/// Most dimensions of a tensor that are believed.
const RANK_MAX: usize = 16;

#[repr(C)]
pub struct Model([u8; 0]);
#[repr(C)]
pub struct Options([u8; 0]);
#[repr(C)]
pub struct Interpreter([u8; 0]);
#[repr(C)]
pub struct Tensor([u8; 0]);
#[repr(C)]
pub struct Delegate([u8; 0]);

/// `TfLiteQuantizationParams`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Quantization {
    scale: f32,
    zero_point: i32,
}

pub type ReportError = extern "C" fn(*const c_char);
pub type CreateDelegate =
    unsafe extern "C" fn(*const *const c_char, *const *const c_char, usize, ReportError) -> *mut Delegate;
pub type DestroyDelegate = unsafe extern "C" fn(*mut Delegate);

/// The library, and its functions for as long as it is there.
pub struct Api {
    version: unsafe extern "C" fn() -> *const c_char,
    pub model_create: unsafe extern "C" fn(*const c_void, usize) -> *mut Model,
    pub model_delete: unsafe extern "C" fn(*mut Model),
    pub options_create: unsafe extern "C" fn() -> *mut Options,
    pub options_delete: unsafe extern "C" fn(*mut Options),
    pub options_set_threads: unsafe extern "C" fn(*mut Options, i32),
    pub options_add_delegate: unsafe extern "C" fn(*mut Options, *mut Delegate),
    pub interpreter_create: unsafe extern "C" fn(*const Model, *const Options) -> *mut Interpreter,
    pub interpreter_delete: unsafe extern "C" fn(*mut Interpreter),
    pub allocate_tensors: unsafe extern "C" fn(*mut Interpreter) -> c_int,
    pub invoke: unsafe extern "C" fn(*mut Interpreter) -> c_int,
    pub input_count: unsafe extern "C" fn(*const Interpreter) -> i32,
    pub input_tensor: unsafe extern "C" fn(*const Interpreter, i32) -> *mut Tensor,
    pub output_count: unsafe extern "C" fn(*const Interpreter) -> i32,
    pub output_tensor: unsafe extern "C" fn(*const Interpreter, i32) -> *const Tensor,
    tensor_type: unsafe extern "C" fn(*const Tensor) -> c_int,
    tensor_rank: unsafe extern "C" fn(*const Tensor) -> i32,
    tensor_dim: unsafe extern "C" fn(*const Tensor, i32) -> i32,
    tensor_bytes: unsafe extern "C" fn(*const Tensor) -> usize,
    tensor_data: unsafe extern "C" fn(*const Tensor) -> *mut c_void,
    tensor_name: unsafe extern "C" fn(*const Tensor) -> *const c_char,
    tensor_quantization: unsafe extern "C" fn(*const Tensor) -> Quantization,
    _library: Library,
}

impl Api {
    pub fn load(path: &Path) -> Result<Self, String> {
        let fail = |error: libloading::Error| format!("{}: {error}", path.display());
        // SAFETY: running its initialisers is what this process exists for.
        let library = unsafe { Library::new(path) }.map_err(fail)?;
        /// A function of the library under the type that its field has.
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: c_api.h declares it with the type of its field; these have not changed since TensorFlow 2.3.
                *unsafe { library.get($name) }.map_err(fail)?
            };
        }
        Ok(Self {
            version: function!(c"TfLiteVersion"),
            model_create: function!(c"TfLiteModelCreate"),
            model_delete: function!(c"TfLiteModelDelete"),
            options_create: function!(c"TfLiteInterpreterOptionsCreate"),
            options_delete: function!(c"TfLiteInterpreterOptionsDelete"),
            options_set_threads: function!(c"TfLiteInterpreterOptionsSetNumThreads"),
            options_add_delegate: function!(c"TfLiteInterpreterOptionsAddDelegate"),
            interpreter_create: function!(c"TfLiteInterpreterCreate"),
            interpreter_delete: function!(c"TfLiteInterpreterDelete"),
            allocate_tensors: function!(c"TfLiteInterpreterAllocateTensors"),
            invoke: function!(c"TfLiteInterpreterInvoke"),
            input_count: function!(c"TfLiteInterpreterGetInputTensorCount"),
            input_tensor: function!(c"TfLiteInterpreterGetInputTensor"),
            output_count: function!(c"TfLiteInterpreterGetOutputTensorCount"),
            output_tensor: function!(c"TfLiteInterpreterGetOutputTensor"),
            tensor_type: function!(c"TfLiteTensorType"),
            tensor_rank: function!(c"TfLiteTensorNumDims"),
            tensor_dim: function!(c"TfLiteTensorDim"),
            tensor_bytes: function!(c"TfLiteTensorByteSize"),
            tensor_data: function!(c"TfLiteTensorData"),
            tensor_name: function!(c"TfLiteTensorName"),
            tensor_quantization: function!(c"TfLiteTensorQuantizationParams"),
            _library: library,
        })
    }

    pub fn version(&self) -> String {
        // SAFETY: a constant string of the library.
        unsafe { text((self.version)()) }
    }

    pub fn name(&self, tensor: *const Tensor) -> Result<String, String> {
        present(tensor)?;
        // SAFETY: a tensor of an interpreter, as `present` asks of its callers.
        Ok(unsafe { text((self.tensor_name)(tensor)) })
    }

    pub fn kind(&self, tensor: *const Tensor) -> Result<c_int, String> {
        present(tensor)?;
        // SAFETY: as for `name`.
        Ok(unsafe { (self.tensor_type)(tensor) })
    }

    pub fn shape(&self, tensor: *const Tensor) -> Result<Vec<usize>, String> {
        present(tensor)?;
        // SAFETY: as for `name`.
        let rank = unsafe { (self.tensor_rank)(tensor) };
        if !usize::try_from(rank).is_ok_and(|rank| rank <= RANK_MAX) {
            return Err(format!("a tensor of {rank} dimensions"));
        }
        // SAFETY: as for `name`, below the rank.
        let dims = (0..rank).map(|axis| unsafe { (self.tensor_dim)(tensor, axis) });
        dims.map(|dim| usize::try_from(dim).map_err(|_| format!("a dimension of {dim}"))).collect()
    }

    /// How a tensor's integers stand for real numbers.
    pub fn scale(&self, tensor: *const Tensor) -> Result<Scale, String> {
        present(tensor)?;
        // SAFETY: as for `name`.
        let Quantization { scale, zero_point } = unsafe { (self.tensor_quantization)(tensor) };
        Ok(Scale::new(scale, zero_point))
    }

    /// # Safety
    /// The tensor is of an interpreter, and nothing runs it or writes to the tensor while the bytes are looked at.
    pub unsafe fn bytes<'a>(&self, tensor: *const Tensor) -> Result<&'a [u8], String> {
        // SAFETY: as the caller promises.
        unsafe { self.bytes_mut(tensor.cast_mut()) }.map(|bytes| &*bytes)
    }

    /// # Safety
    /// As for `bytes`, and nothing else looks at them.
    pub unsafe fn bytes_mut<'a>(&self, tensor: *mut Tensor) -> Result<&'a mut [u8], String> {
        present(tensor)?;
        // SAFETY: as the caller promises.
        let (data, len) = unsafe { ((self.tensor_data)(tensor), (self.tensor_bytes)(tensor)) };
        match data.is_null() {
            true => Err("a tensor without memory".into()),
            // SAFETY: the interpreter's memory for this tensor, of that size.
            false => Ok(unsafe { std::slice::from_raw_parts_mut(data.cast(), len) }),
        }
    }
}

/// The library answers null for a tensor that is not there.
fn present(tensor: *const Tensor) -> Result<(), String> {
    if tensor.is_null() { Err("a tensor is not there".into()) } else { Ok(()) }
}

/// # Safety
/// `text` is a string of C, or null.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
