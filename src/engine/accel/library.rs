//! Where the vendors' libraries lie.

use std::path::{Path, PathBuf};

/// A library that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// For people.
    pub name: &'static str,
    /// The setting that names it.
    pub setting: &'static str,
    /// Its file, of which a version may follow.
    file: &'static str,
    /// Below a folder of Python's packages.
    package: &'static str,
}

pub const ONNX_RUNTIME: Wanted = Wanted {
    name: "ONNX Runtime",
    setting: "engine.onnxruntime",
    file: "libonnxruntime.so",
    package: "onnxruntime/capi",
};
pub const TFLITE: Wanted = Wanted {
    name: "TensorFlow Lite",
    setting: "engine.tflite",
    // As Debian and TensorFlow's own build call it.
    file: "libtensorflow",
    package: "tensorflow/lite",
};

/// Where distributions and vendors put libraries.
const FOLDERS: [&str; 5] =
    ["/usr/local/lib", "/usr/lib", "/usr/lib64", "/opt/onnxruntime/lib", "/usr/local/cuda/lib64"];
/// Of Debian's and NVIDIA's systems.
#[cfg(target_arch = "aarch64")]
const OF_ARCHITECTURE: &str = "/usr/lib/aarch64-linux-gnu";
#[cfg(not(target_arch = "aarch64"))]
const OF_ARCHITECTURE: &str = "/usr/lib/x86_64-linux-gnu";

impl Wanted {
    /// The one that was named, else the first that is found.
    ///
    /// # Errors
    /// It is not there, and which setting names it.
    pub fn find(&self, named: Option<&Path>, places: &[PathBuf]) -> Result<PathBuf, String> {
        if let Some(named) = named {
            return match named.is_file() {
                true => Ok(named.into()),
                false => Err(format!("{} = {}: no such file", self.setting, named.display())),
            };
        }
        // A place may be the library itself, as a board's file names it.
        if let Some(place) = places.iter().find(|place| self.is(place) && place.is_file()) {
            return Ok(place.clone());
        }
        let folders = places.iter().map(PathBuf::as_path).chain([Path::new(OF_ARCHITECTURE)]);
        let folders = folders.chain(FOLDERS.iter().map(Path::new)).map(Path::to_path_buf).chain(self.of_python());
        folders.into_iter().find_map(|folder| self.inside(&folder)).ok_or_else(|| {
            format!(
                "{} is not here: no {}* where boards, distributions and pip put it; {} names it",
                self.name, self.file, self.setting
            )
        })
    }

    fn is(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let rest = name.strip_prefix(self.file);
        // `libonnxruntime.so.1.21.1`, `libtensorflow-lite.so.2.14.1`, `libtensorflowlite_c.so`, and no other library of the
        // same beginning.
        rest.is_some_and(|rest| {
            let plain = self.file.ends_with(".so") && (rest.is_empty() || rest.starts_with('.'));
            let lite = ["-lite.so", "lite_c.so", "lite.so"].iter().any(|end| rest.starts_with(end));
            plain || lite
        })
    }

    fn inside(&self, folder: &Path) -> Option<PathBuf> {
        let entries = std::fs::read_dir(folder).ok()?;
        let mut found: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| self.is(path) && path.is_file())
            .collect();
        found.sort();
        found.into_iter().next_back()
    }

    fn of_python(&self) -> Vec<PathBuf> {
        let bases = ["/usr/local/lib", "/usr/lib"].iter().flat_map(|base| {
            ["dist", "site"].iter().map(move |kind| format!("{base}/python3*/{kind}-packages/{}", self.package))
        });
        bases.filter_map(|pattern| glob::glob(&pattern).ok()).flatten().filter_map(Result::ok).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_found_by_name_and_version_and_no_other() {
        for (name, is) in [
            ("libonnxruntime.so", true),
            ("libonnxruntime.so.1.21.1", true),
            ("libonnxruntime_providers_shared.so", false),
            ("libonnx.so", false),
        ] {
            assert_eq!(ONNX_RUNTIME.is(Path::new(name)), is, "{name}");
        }
        for (name, is) in [
            ("libtensorflow-lite.so.2.14.1", true),
            ("libtensorflowlite_c.so", true),
            ("libtensorflow.so.2", false),
            ("libtensorflow_framework.so", false),
        ] {
            assert_eq!(TFLITE.is(Path::new(name)), is, "{name}");
        }
    }

    #[test]
    fn what_is_named_or_lies_where_it_should_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so.1.22.0");
        let places = [folder.path().to_path_buf()];
        std::fs::write(folder.path().join("libonnxruntime.so.1.21.0"), "").unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(ONNX_RUNTIME.find(None, &places).as_ref(), Ok(&path));
        assert_eq!(ONNX_RUNTIME.find(None, std::slice::from_ref(&path)).as_ref(), Ok(&path));
        assert_eq!(ONNX_RUNTIME.find(Some(&path), &[]).as_ref(), Ok(&path));
        let missing = ONNX_RUNTIME.find(Some(Path::new("/nowhere/lib.so")), &places).unwrap_err();
        assert_eq!(missing, "engine.onnxruntime = /nowhere/lib.so: no such file");
    }
}
