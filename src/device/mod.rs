//! The machine around the loop: which board this is, how it feels, its serial line, the slots its system lies in, and
//! the updates into them.
//!
//! May not know: models, engines, HTTP.

mod board;
mod monitor;
mod serial;
pub mod slot;
pub mod update;

pub use board::{Board, boot_id, identify, rss_kb};
pub use monitor::Monitor;
pub use serial::{Error, SerialLine};
