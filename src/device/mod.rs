//! The machine around the loop: which board this is, how it feels, and its serial line.
//!
//! May not know: models, engines, HTTP.

mod board;
mod board_file;
mod monitor;
mod serial;

pub use board::{Board, boot_id, identify, rss_kb};
pub use board_file::{BoardFile, Error as BoardFileError, Match, MatchedBy, SlotMechanism};
pub use monitor::Monitor;
pub use serial::{Error, SerialLine};
