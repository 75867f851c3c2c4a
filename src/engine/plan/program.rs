//! A whole plan: its steps, its packed weights, and how much memory it works in.

use serde::{Deserialize, Serialize};

use super::steps::Step;

/// What a plan says beside its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Values of the arena.
    pub arena: usize,
    pub input: Tensor,
    pub outputs: Vec<Tensor>,
    pub steps: Vec<Named>,
}

/// A step and the node of the network it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    pub node: String,
    pub step: Step,
}

/// An input or output: dense, in C order, at an offset of the arena.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub offset: usize,
}

impl Tensor {
    pub fn volume(&self) -> usize {
        self.shape.iter().product()
    }
}
