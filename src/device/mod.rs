//! The machine around the loop: which board this is, how it feels, its serial line, the slots its system lies in, the
//! updates into them, and PID 1.
//!
//! May not know: models, engines, HTTP.

mod board;
mod board_file;
pub mod display;
pub mod gate;
pub mod init;
mod monitor;
pub mod notify;
mod process;
mod prompt;
mod room;
mod serial;
pub mod slot;
pub mod update;
mod watchdog;

pub use board::{Board, boot_id, identify, rss_kb};
pub use board_file::{BoardFile, Error as BoardFileError, Match, MatchedBy};
pub use monitor::Monitor;
pub use process::Process;
pub use room::Room;
pub use serial::SerialLine;

pub use crate::tty::Error;
