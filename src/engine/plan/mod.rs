//! The plan: a network baked into one file of steps and packed weights, mapped and run with nothing left to decide.
//!
//! The way of a network: tract's typed graph → [`lower()`] → [`graph`] → [`fuse()`] → layout → steps. May not know: images,
//! model families.

mod arena;
mod bake;
mod engine;
mod exec;
pub mod file;
mod fuse;
pub mod graph;
pub mod int8;
mod kernels;
mod layout;
mod lower;
mod make;
mod make_fp16;
mod make_int8;
mod profile;
mod program;
mod referee;
mod reference;
mod shelf;
mod steps;
mod target;
mod threads;
mod weights;

pub use engine::Plan;
pub use file::{Judged, Measure, Referee, Trust};
pub use fuse::fuse;
pub use lower::{lower, simplify};
pub use make::{Failure, Made, Stage, compare, make, outlook, recognize, remember, told};
pub use make_fp16::make_fp16;
pub use make_int8::{Judging, make_int8, recall};
pub use shelf::{Found, Listed, Making, Shelf};
pub use target::{NATIVE, Target, native};
