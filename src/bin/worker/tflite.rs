//! TensorFlow Lite by its C API, loaded at run time.

use std::path::Path;

use crate::network::Network;

pub fn version(_: &Path) -> Result<String, String> {
    Err("not yet".into())
}

pub fn load(_: &Path, _: Vec<u8>, _: usize, _: Option<&Path>) -> Result<Box<dyn Network>, String> {
    Err("not yet".into())
}
