//! `[engine]`: what runs the network, and where accelerators find what they need.

use std::path::PathBuf;

use serde::Deserialize;

/// The least that a library of an accelerator starts with.
const MEMORY_MB_MIN: u64 = 256;
/// An inference that takes longer is none that a device could use.
const DEADLINE_MS_MAX: u64 = 600_000;

/// See the head of this file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// `plan` or `tract`; absent: the best that runs the model here.
    pub name: Option<String>,
    /// `fp32`, `fp16` or `int8`; absent: `fp32`. Without a plan in it the model runs in fp32, and the device is degraded.
    pub precision: Option<String>,
    /// Threads of a CPU engine; absent: one a core.
    pub threads: Option<usize>,
    /// Engines that are not to be used, by name.
    pub forbid: Vec<String>,
    /// ONNX Runtime's library; absent: looked for where the board, the distribution and `pip` put it.
    pub onnxruntime: Option<PathBuf>,
    /// TensorFlow Lite's library with its C API; absent: looked for likewise.
    pub tflite: Option<PathBuf>,
    /// A delegate of TensorFlow Lite, a library; absent: XNNPACK.
    pub delegate: Option<PathBuf>,
    /// The program that loads the worker of accelerators, with its arguments; empty: the system's loader of glibc's programs.
    pub loader: Vec<String>,
    /// Memory that a worker may fill with data, megabytes; absent: 3221.
    pub memory_mb: Option<u64>,
    /// How long one inference of a worker may take, milliseconds; absent: ten times what the first ones took, at least 1000.
    pub deadline_ms: Option<u64>,
}

impl EngineConfig {
    /// The first value that is out of its range: key, value, what was expected.
    pub(super) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        if let Some(mb) = self.memory_mb.filter(|&mb| mb < MEMORY_MB_MIN) {
            return Some(("engine.memory_mb", mb.to_string(), "at least 256"));
        }
        let ms = self.deadline_ms.filter(|ms| !(1..=DEADLINE_MS_MAX).contains(ms))?;
        Some(("engine.deadline_ms", ms.to_string(), "1 to 600000"))
    }
}
