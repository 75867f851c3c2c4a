//! The plan: a network baked into one file of steps and packed weights, mapped and run with nothing left to decide.
//!
//! The way of a network: tract's typed graph → [`lower()`] → [`graph`] → [`fuse()`] → layout → steps. May not know: images,
//! model families.

mod arena;
mod bake;
mod exec;
pub mod file;
mod fuse;
pub mod graph;
pub mod int8;
mod kernels;
mod layout;
mod lower;
mod program;
mod reference;
mod steps;
mod threads;

pub use fuse::fuse;
pub use lower::{lower, simplify};
