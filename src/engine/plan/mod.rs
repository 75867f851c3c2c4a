//! The plan: a network baked into one file of steps and packed weights, mapped and run with nothing left to decide.
//!
//! The way of a network: tract's typed graph → [`lower()`] → [`graph`] → [`fuse()`] → layout → steps. May not know: images,
//! model families.

#[cfg(test)]
mod exec;
mod fuse;
pub mod graph;
#[cfg(test)]
mod kernels;
#[cfg(test)]
mod layout;
mod lower;
mod reference;

pub use fuse::fuse;
pub use lower::{lower, simplify};
