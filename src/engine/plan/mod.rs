//! The plan: a network baked into one file of steps and packed weights, mapped and run with nothing left to decide.
//!
//! The way of a network: tract's typed graph → [`lower()`] → [`graph`] → [`fuse()`] → layout → steps. May not know: images,
//! model families.

mod arena;
mod bake;
mod engine;
mod exec;
mod file;
mod fuse;
pub mod graph;
mod kernels;
mod layout;
mod lower;
mod make;
mod profile;
mod program;
mod reference;
mod referee;
mod shelf;
mod steps;
mod target;
mod threads;
mod weights;

pub use engine::Plan;
pub use file::{Binding, Compared, Head, Plan as Mapped, Referee};
pub use fuse::fuse;
pub use kernels::Kernels;
pub use lower::{lower, simplify};
pub use make::{Failure, Made, Stage, make, outlook, told};
pub use shelf::{Found, Listed, Shelf};
pub use kernels::native;
pub use target::{NATIVE, kernels_of};
