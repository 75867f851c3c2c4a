//! The inference loop, and what it says of itself.
//!
//! May not know: who asks (HTTP, serial line), or what a board is.

mod adaptive;
pub mod buffer;
mod capture;
pub mod cells;
mod deliver;
mod infer;
pub mod inference_loop;
mod stage;
pub mod status;
pub mod telemetry;

pub use inference_loop::{Feed, Parts, Pipeline};
pub use telemetry::Telemetry;
