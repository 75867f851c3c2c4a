//! The inference loop and what it says of itself.
pub mod status;
pub mod telemetry;
