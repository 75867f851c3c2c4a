//! The plan: a network baked into one file of steps and packed weights, mapped and run with nothing left to decide.
//!
//! The way of a network: tract's typed graph → [`lower`] → [`graph`] → fusion → layout → steps. May not know: images,
//! model families.

pub mod graph;
mod lower;

pub use lower::lower;
