//! Where frames come from: one file a kind. A source fills frames that the loop owns; it never allocates one a frame.
//!
//! May not know: models, sinks, the loop's buffer.

pub mod demo;
mod file;
mod paced;
mod v4l2;
mod watch;

use std::path::PathBuf;

use crate::error::nearest;
use crate::frame::{self, Frame, Orientation};

pub use file::{FileSource, find};
pub use paced::{Pace, Paced};
pub use v4l2::{V4l2Source, describe as describe_camera};
pub use watch::WatchSource;

/// Longest origin kept with a frame; paths are cut beyond it in output, never in use.
pub const ORIGIN_BYTES_MAX: usize = 4096;

/// What can go wrong with a source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "source `{uri}`: unknown kind; expected demo:, file:PATH, file:DIR, file:GLOB, watch:DIR or v4l2:DEVICE{hint}"
    )]
    UnknownKind { uri: String, hint: String },
    #[error("source `{uri}`: unknown option `{option}`; valid here: {valid}")]
    UnknownOption { uri: String, option: String, valid: &'static str },
    #[error("source `{uri}`: option {option}={found}: expected {expected}")]
    Option { uri: String, option: &'static str, found: String, expected: &'static str },
    #[error("source `{uri}`: {why}")]
    Open { uri: String, why: String },
    /// One frame could not be had; the source goes on with the next.
    #[error("{path}: {cause}", path = .path.display())]
    Frame { path: PathBuf, cause: frame::Error },
    #[error("{path}: cannot be read: {cause}", path = .path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    /// The source is gone for now; the loop opens it again, with growing pauses.
    #[error("lost: {0}")]
    Lost(String),
}

/// What [`Source::next`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The frame is filled.
    Frame,
    /// Nothing came in time; ask again. The frame's pixels are those from before.
    Nothing,
    /// Nothing is there, nothing given out is unanswered, and that may last: no reason to call anything late.
    Idle,
    /// There will be no more.
    End,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate<'a> {
    /// Its answer was handed to every output.
    Answered,
    /// So was the reason why it has none.
    Failed(&'a str),
    /// An output did not take either.
    NotTaken,
}

/// Where a source hears what became of its frames.
pub trait Receipts: Send {
    /// Says it of one frame, right after it was handed over, in the order of frame ids. A frame that was dropped on the
    /// way is never said. Waits at most a fraction of a second.
    fn settle(&mut self, frame_id: u64, fate: Fate<'_>);
}

/// A source of frames.
pub trait Source: Send {
    /// The URI it was opened by.
    fn uri(&self) -> &str;

    /// A live source goes on by itself, so a loop that is late must drop frames; any other waits.
    fn live(&self) -> bool;

    /// Fills the next frame and says where it came from. Waits at most about a second, or until a paced frame is due.
    ///
    /// # Errors
    /// [`Error::Frame`] and [`Error::Read`] concern this frame only; [`Error::Lost`] means that the source must be
    /// opened again by [`Source::reopen`].
    fn next(&mut self, frame: &mut Frame, origin: &mut String) -> Result<Next, Error>;

    /// Takes the next frame off a live source without decoding it. Waits as [`Source::next`] does. Returns whether that was
    /// done; a source that cannot, or has none, says no.
    fn skip(&mut self) -> bool {
        false
    }

    /// Tries to bring a lost source back.
    ///
    /// # Errors
    /// It is still lost.
    fn reopen(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Who is to be told what became of each frame, where the source wants to know. Asked for once, before the first.
    fn receipts(&mut self) -> Option<Box<dyn Receipts>> {
        None
    }
}

impl std::fmt::Debug for dyn Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({})", self.uri())
    }
}

/// Opens the source that a URI names; see the README for the kinds and their options. `orientation` says whether the
/// EXIF orientation of image files counts, which is up to the model.
///
/// # Errors
/// The kind or an option is unknown, or there is nothing there.
pub fn open(uri: &str, orientation: Orientation) -> Result<Box<dyn Source>, Error> {
    match uri.split_once(':') {
        Some(("demo", _)) => Ok(Box::new(demo::DemoSource::open(uri)?)),
        Some(("file", _)) => Ok(Box::new(FileSource::open(uri, orientation)?)),
        Some(("watch", _)) => Ok(Box::new(WatchSource::open(uri, orientation)?)),
        Some(("v4l2", _)) => Ok(Box::new(V4l2Source::open(uri)?)),
        kind => {
            let kind = kind.map_or(uri, |(kind, _)| kind);
            let hint = match nearest(kind, ["demo", "file", "v4l2", "watch"], 1).first() {
                Some(near) => format!("; did you mean `{near}:`?"),
                None if std::path::Path::new(uri).exists() => format!("; for the file write `file:{uri}`"),
                None => String::new(),
            };
            Err(Error::UnknownKind { uri: uri.into(), hint })
        }
    }
}

/// Splits `?key=value&key=value` off a URI.
fn options(uri: &str) -> (&str, impl Iterator<Item = (&str, &str)>) {
    let (base, query) = uri.split_once('?').unwrap_or((uri, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    (base, pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))))
}
