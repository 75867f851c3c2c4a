//! Networks run by TensorFlow Lite, through its C API, from a shared library that is found at run time: the worker starts
//! without it. XNNPACK is at work wherever the library was built with it, which TensorFlow Lite does by itself; another
//! delegate is a library of its own (an NPU's vendor ships it) with the two functions that its external delegates have.

mod api;
mod convert;

use std::ffi::{CStr, c_char};
use std::path::Path;
use std::ptr::NonNull;

use crate::network::{Network, Output};
use api::{Api, Delegate, Interpreter, Model, Tensor};
use convert::{Element, Scale};

/// What the library says it is, such as `2.14.1`.
///
/// # Errors
/// It cannot be loaded, or is no TensorFlow Lite.
pub fn version(library: &Path) -> Result<String, String> {
    Ok(Api::load(library)?.version())
}

/// Makes a network ready: `model` is the whole file.
///
/// # Errors
/// The library cannot be loaded, does not take the file, or the delegate refuses it.
pub fn load(
    library: &Path,
    model: Vec<u8>,
    threads: usize,
    delegate: Option<&Path>,
) -> Result<Box<dyn Network>, String> {
    let api = Api::load(library)?;
    // SAFETY: `Loaded` keeps the bytes until after the model is deleted.
    let made = unsafe { (api.model_create)(model.as_ptr().cast(), model.len()) };
    let made =
        NonNull::new(made).ok_or("TensorFlow Lite does not take the file: it is damaged or of a newer version")?;
    let mut loaded = Loaded { interpreter: None, delegate: None, model: made, api, _bytes: model };
    loaded.delegate = delegate.map(Plugin::load).transpose()?;
    loaded.interpret(threads)?;
    let (input, dims) = loaded.input()?;
    let mut network = TfliteNetwork { loaded, input, dims, outputs: Vec::new(), elements: Vec::new() };
    // Some operators know only after a run how large their results are.
    network.loaded.invoke()?;
    network.describe()?;
    Ok(Box::new(network))
}

/// A delegate's library and what it made.
struct Plugin {
    destroy: api::DestroyDelegate,
    made: NonNull<Delegate>,
    /// Its code is in use until the delegate is destroyed.
    _library: libloading::Library,
}

thread_local! {
    /// What a delegate said while it was made.
    static COMPLAINT: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

extern "C" fn complain(text: *const c_char) {
    if !text.is_null() {
        // SAFETY: a string of C, by the contract of the plugin's interface.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        COMPLAINT.with_borrow_mut(|complaint| complaint.push_str(&text));
    }
}

impl Plugin {
    fn load(path: &Path) -> Result<Self, String> {
        let fail = |error: libloading::Error| format!("delegate {}: {error}", path.display());
        // SAFETY: a delegate that the configuration names, trusted as the other libraries that this process exists for.
        let library = unsafe { libloading::Library::new(path) }.map_err(fail)?;
        // SAFETY: both have these types in every library of an external delegate (external_delegate_interface.h).
        let (create, destroy) = unsafe {
            let create = *library.get::<api::CreateDelegate>(c"tflite_plugin_create_delegate").map_err(fail)?;
            (create, *library.get::<api::DestroyDelegate>(c"tflite_plugin_destroy_delegate").map_err(fail)?)
        };
        COMPLAINT.take();
        // SAFETY: no options, so no lists; the function for errors lives as long as the program.
        let made = unsafe { create(std::ptr::null(), std::ptr::null(), 0, complain) };
        let made = NonNull::new(made)
            .ok_or_else(|| format!("delegate {}: cannot work here: {}", path.display(), COMPLAINT.take()))?;
        Ok(Self { destroy, made, _library: library })
    }
}

/// What the library holds for a file; let go in the order in which the parts need each other.
struct Loaded {
    interpreter: Option<NonNull<Interpreter>>,
    delegate: Option<Plugin>,
    model: NonNull<Model>,
    api: Api,
    /// The model points into it.
    _bytes: Vec<u8>,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: each was made by its library, is deleted once, and after what uses it.
        unsafe {
            if let Some(interpreter) = self.interpreter.take() {
                (self.api.interpreter_delete)(interpreter.as_ptr());
            }
            if let Some(plugin) = self.delegate.take() {
                (plugin.destroy)(plugin.made.as_ptr());
            }
            (self.api.model_delete)(self.model.as_ptr());
        }
    }
}

impl Loaded {
    fn interpret(&mut self, threads: usize) -> Result<(), String> {
        let api = &self.api;
        // SAFETY: options live until the interpreter is made, which copies them; the delegate outlives the interpreter.
        let made = unsafe {
            let options = (api.options_create)();
            if options.is_null() {
                return Err("TensorFlow Lite gives no options".into());
            }
            (api.options_set_threads)(options, i32::try_from(threads).unwrap_or(1).max(1));
            if let Some(plugin) = &self.delegate {
                (api.options_add_delegate)(options, plugin.made.as_ptr());
            }
            let made = (api.interpreter_create)(self.model.as_ptr(), options);
            (api.options_delete)(options);
            made
        };
        let made = NonNull::new(made).ok_or(
            "TensorFlow Lite cannot run the network: it knows not all of its operators, or the delegate refuses it",
        )?;
        self.interpreter = Some(made);
        // SAFETY: made above.
        match unsafe { (self.api.allocate_tensors)(made.as_ptr()) } {
            0 => Ok(()),
            status => Err(format!("TensorFlow Lite cannot prepare the network: status {status}")),
        }
    }

    fn interpreter(&self) -> *mut Interpreter {
        self.interpreter.map_or(std::ptr::null_mut(), NonNull::as_ptr)
    }

    fn invoke(&mut self) -> Result<(), String> {
        // SAFETY: `load` made the interpreter.
        match unsafe { (self.api.invoke)(self.interpreter()) } {
            0 => Ok(()),
            status => Err(format!("TensorFlow Lite: inference failed with status {status}")),
        }
    }

    fn input_tensor(&self) -> *const Tensor {
        // SAFETY: as for `invoke`; `input` found that there is one.
        unsafe { (self.api.input_tensor)(self.interpreter(), 0) }
    }

    fn output_tensor(&self, index: usize) -> *const Tensor {
        let index = i32::try_from(index).unwrap_or(i32::MAX);
        // SAFETY: as for `invoke`; of an index that is not there, null.
        unsafe { (self.api.output_tensor)(self.interpreter(), index) }
    }

    /// The one image input: its type, and batch, height, width, channels.
    fn input(&self) -> Result<(Element, [usize; 4]), String> {
        // SAFETY: as for `invoke`.
        let count = unsafe { (self.api.input_count)(self.interpreter()) };
        if count != 1 {
            return Err(format!("the network has {count} inputs; expected one, which is the image"));
        }
        let tensor = self.input_tensor();
        let shape = self.api.shape(tensor)?;
        let dims =
            <[usize; 4]>::try_from(shape).map_err(|shape| format!("the input is {shape:?}; expected N H W C"))?;
        let element = Element::of(self.api.kind(tensor)?)?;
        match element.can_be_input() {
            true => Ok((element, dims)),
            false => Err(format!("the input is of {element:?}; expected floats or bytes")),
        }
    }
}

struct TfliteNetwork {
    loaded: Loaded,
    input: Element,
    /// Batch, height, width, channels.
    dims: [usize; 4],
    outputs: Vec<Output>,
    elements: Vec<Element>,
}

impl TfliteNetwork {
    /// Finds out what the outputs are.
    fn describe(&mut self) -> Result<(), String> {
        let Loaded { api, .. } = &self.loaded;
        // SAFETY: as for `invoke`.
        let count = usize::try_from(unsafe { (api.output_count)(self.loaded.interpreter()) }).unwrap_or(0);
        for index in 0..count {
            let tensor = self.loaded.output_tensor(index);
            let output = Output { name: api.name(tensor)?, shape: api.shape(tensor)? };
            let element = Element::of(api.kind(tensor)?).map_err(|why| format!("output `{}`: {why}", output.name))?;
            self.outputs.push(output);
            self.elements.push(element);
        }
        Ok(())
    }
}

impl Network for TfliteNetwork {
    fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    fn run(&mut self, input: &[f32], outputs: &mut [&mut [f32]]) -> Result<(), String> {
        let Loaded { api, .. } = &self.loaded;
        let tensor = self.loaded.input_tensor();
        let scale = api.scale(tensor)?;
        // SAFETY: of this interpreter, which nothing else uses meanwhile.
        let bytes = unsafe { api.bytes_mut(tensor.cast_mut())? };
        convert::write_image(input, self.dims, self.input, scale, bytes)?;
        self.loaded.invoke()?;
        let api = &self.loaded.api;
        if outputs.len() != self.outputs.len() {
            return Err(format!("{} places for {} outputs", outputs.len(), self.outputs.len()));
        }
        for (index, values) in outputs.iter_mut().enumerate() {
            let tensor = self.loaded.output_tensor(index);
            // SAFETY: as above.
            let bytes = unsafe { api.bytes(tensor)? };
            convert::read_values(bytes, self.elements[index], api.scale(tensor)?, values)
                .map_err(|why| format!("output `{}`: {why}", self.outputs[index].name))?;
        }
        Ok(())
    }
}
