//! What NVIDIA's driver and TensorRT say of themselves, so that a rejection can give the true reason.

use std::ffi::{CStr, c_char, c_int, c_uint};

use libloading::Library;

use crate::loading;
use crate::protocol::Gpu;

/// Versions of TensorRT's library, newest first: that of JetPack 6, and those of JetPack 5.
const TENSORRT: [&str; 2] = ["libnvinfer.so.10", "libnvinfer.so.8"];
const DRIVER: &str = "libcuda.so.1";
const SUCCESS: c_int = 0;
// `CUdevice_attribute` of cuda.h.
const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;

/// The first CUDA device.
pub fn gpu() -> Result<Gpu, String> {
    // SAFETY: the driver's initializers are its own business; it is what every CUDA program loads.
    let driver = unsafe { Library::new(DRIVER) }.map_err(|error| format!("no NVIDIA driver: {}", loading(&error)))?;
    let gpu = Driver { driver: &driver }.gpu();
    // Some drivers do not survive being unloaded, and the library will load it again.
    std::mem::forget(driver);
    gpu
}

/// The driver's functions, by cuda.h.
struct Driver<'a> {
    driver: &'a Library,
}

impl Driver<'_> {
    fn gpu(&self) -> Result<Gpu, String> {
        let (mut count, mut version, mut major, mut minor) = (0, 0, 0, 0);
        let mut name = [0 as c_char; 256];
        // SAFETY: the signatures are those of cuda.h, and every pointer is to a variable that outlives the call.
        unsafe {
            self.call("cuInit", |symbol| {
                let init: libloading::Symbol<'_, unsafe extern "C" fn(c_uint) -> c_int> = self.driver.get(symbol)?;
                Ok(init(0))
            })?;
            type GetInt = unsafe extern "C" fn(*mut c_int) -> c_int;
            for (symbol, into) in [("cuDeviceGetCount", &mut count), ("cuDriverGetVersion", &mut version)] {
                self.call(symbol, |symbol| Ok(self.driver.get::<GetInt>(symbol)?(into)))?;
            }
            if count == 0 {
                return Err("the NVIDIA driver knows no GPU".into());
            }
            type GetName = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
            self.call("cuDeviceGetName", |symbol| Ok(self.driver.get::<GetName>(symbol)?(name.as_mut_ptr(), 255, 0)))?;
            type GetAttribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;
            for (which, into) in [(COMPUTE_CAPABILITY_MAJOR, &mut major), (COMPUTE_CAPABILITY_MINOR, &mut minor)] {
                let get = |symbol: &[u8]| Ok(self.driver.get::<GetAttribute>(symbol)?(into, which, 0));
                self.call("cuDeviceGetAttribute", get)?;
            }
        }
        // SAFETY: the last byte was left 0.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        let kernel = std::fs::read_to_string("/sys/module/nvidia/version").unwrap_or_default();
        let driver = format!("{} CUDA {}.{}", kernel.trim(), version / 1000, version % 1000 / 10);
        let capability = |number: c_int| u32::try_from(number).unwrap_or_default();
        let compute_capability = (capability(major), capability(minor));
        Ok(Gpu { name, compute_capability, driver: driver.trim_start().into() })
    }

    /// One call, and what its failure is called.
    fn call(&self, name: &str, call: impl FnOnce(&[u8]) -> Result<c_int, libloading::Error>) -> Result<(), String> {
        match call(name.as_bytes()) {
            Ok(SUCCESS) => Ok(()),
            Ok(code) => Err(format!("the NVIDIA driver: {name}: {}", self.error_name(code))),
            Err(error) => Err(format!("the NVIDIA driver: {}", loading(&error))),
        }
    }

    fn error_name(&self, code: c_int) -> String {
        let mut name: *const c_char = std::ptr::null();
        type GetErrorName = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;
        // SAFETY: the signature is that of cuda.h; what it gives is a constant text, or nothing.
        let found = unsafe {
            let get = self.driver.get::<GetErrorName>(b"cuGetErrorName");
            get.is_ok_and(|get| get(code, &mut name) == SUCCESS) && !name.is_null()
        };
        if !found {
            return format!("error {code}");
        }
        // SAFETY: it was checked to be there.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }
}

/// TensorRT's version.
pub fn tensorrt() -> Result<String, String> {
    let mut why = String::new();
    for name in TENSORRT {
        // SAFETY: as for the driver.
        let library = match unsafe { Library::new(name) } {
            Ok(library) => library,
            Err(error) => {
                if why.is_empty() {
                    why = loading(&error);
                }
                continue;
            }
        };
        // SAFETY: the signature is that of NvInferRuntime.h.
        let version = unsafe { library.get::<unsafe extern "C" fn() -> c_int>(b"getInferLibVersion").map(|get| get()) };
        std::mem::forget(library);
        return version.map(words).map_err(|error| loading(&error));
    }
    Err(why)
}

/// `NV_TENSORRT_VERSION`: until 9 it had three digits for minor and patch, from 10 on four.
fn words(number: c_int) -> String {
    let (major, rest, minor) =
        if number >= 10_000 { (number / 10_000, number % 10_000, 100) } else { (number / 1000, number % 1000, 100) };
    format!("{major}.{}.{}", rest / minor, rest % minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensorrt_says_its_version_in_one_number() {
        assert_eq!(words(8602), "8.6.2");
        assert_eq!(words(100_300), "10.3.0");
    }

    #[test]
    fn without_a_driver_the_reason_says_so() {
        if let Err(why) = gpu() {
            assert!(why.contains("NVIDIA driver"), "{why}");
        }
    }
}
