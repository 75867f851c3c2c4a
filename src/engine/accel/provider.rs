//! The engines that a worker offers: their names, their order, and what each needs.

use super::protocol::Provider;
use crate::engine::{Format, Precision};

/// Best first. The last is asked for by name: our own plans are faster on a CPU. TensorFlow Lite is for its own files.
pub const ALL: [Provider; 8] = [
    Provider::TensorRt,
    Provider::Cuda,
    Provider::MiGraphX,
    Provider::OpenVino,
    Provider::Qnn,
    Provider::Acl,
    Provider::TfLite,
    Provider::Cpu,
];

impl Provider {
    /// The name of the engine.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TensorRt => "tensorrt",
            Self::Cuda => "cuda",
            Self::MiGraphX => "migraphx",
            Self::OpenVino => "openvino",
            Self::Qnn => "qnn",
            Self::Acl => "acl",
            Self::TfLite => "tflite",
            Self::Cpu => "onnxruntime",
        }
    }

    /// Whether it is tried when nobody asks for it. Those that are neither a GPU's nor for their own files are, where the
    /// library was built for them: who installs such a library wants them.
    #[must_use]
    pub fn by_itself(self) -> bool {
        self != Self::Cpu
    }

    /// Whether its absence is worth a word where nothing of it is there: the two that a board with a GPU should have.
    #[must_use]
    pub fn expected(self) -> bool {
        self.needs_cuda()
    }

    /// Whether it computes on an NVIDIA GPU.
    #[must_use]
    pub fn needs_cuda(self) -> bool {
        matches!(self, Self::TensorRt | Self::Cuda)
    }

    /// The format of the files it runs.
    #[must_use]
    pub fn format(self) -> Format {
        if self == Self::TfLite { Format::Tflite } else { Format::Onnx }
    }

    /// Whether it can compute in a precision.
    #[must_use]
    pub fn computes(self, precision: Precision) -> bool {
        match precision {
            Precision::Fp32 => true,
            Precision::Fp16 => matches!(self, Self::TensorRt | Self::MiGraphX),
            Precision::Int8 => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_their_own_and_the_gpu_comes_first() {
        let mut names: Vec<&str> = ALL.iter().map(|provider| provider.name()).collect();
        assert_eq!(names[..2], ["tensorrt", "cuda"]);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
