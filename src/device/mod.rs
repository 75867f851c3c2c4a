//! The machine around the loop: which board this is, how it feels, and its serial line.
//!
//! May not know: models, engines, HTTP.

mod board;
mod monitor;
pub mod notify;
mod serial;
mod watchdog;

pub use board::{Board, boot_id, identify, rss_kb};
pub use monitor::Monitor;
pub use serial::{Error, SerialLine};
