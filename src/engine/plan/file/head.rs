//! What a plan was made for, by whom, and how well it agrees with the referee.

use serde::{Deserialize, Serialize};

use crate::engine::plan::kernels::Isa;

/// What a plan is bound to: it is of no use for another model, another shape or another instruction set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// Of the ONNX file, in lower-case hexadecimal.
    pub model_sha256: String,
    /// Batch, channels, height, width.
    pub input: [usize; 4],
    /// The name of the kernels.
    pub isa: String,
}

/// What a plan says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub binding: Binding,
    /// The input as the model declares it, so that nobody needs to parse the model for that.
    pub declared: [Option<usize>; 4],
    /// Whether the model declares an f16 input: each value becomes the nearest one of those.
    pub f16_input: bool,
    /// Version of the program that baked it.
    pub made_by: String,
    /// Lanes and pixels of the panels for which the weights were packed.
    pub tiles: Vec<[usize; 2]>,
    pub referee: Referee,
}

impl Head {
    /// Of a plan baked by this program for these kernels.
    #[must_use]
    pub fn new(binding: Binding, declared: [Option<usize>; 4], isa: &Isa, referee: Referee) -> Self {
        Self {
            binding,
            declared,
            f16_input: false,
            made_by: env!("CARGO_PKG_VERSION").into(),
            tiles: isa.tiles(),
            referee,
        }
    }
}

/// How the plan's outputs compare with tract's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Referee {
    /// The largest error that was allowed.
    pub bound: f32,
    pub outputs: Vec<Compared>,
}

impl Referee {
    /// The largest error of all outputs; none where nothing was compared.
    #[must_use]
    pub fn worst(&self) -> Option<f32> {
        self.outputs.iter().map(|output| output.error).reduce(f32::max)
    }
}

/// The largest error of one output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    pub name: String,
    pub error: f32,
}
