//! Where frames come from: one file a kind. A source fills frames that the loop owns; it never allocates one a frame.
//!
//! May not know: models, sinks, the loop's buffer.

mod address;
pub mod codec;
pub mod demo;
mod file;
mod http;
mod jpeg_stream;
mod live;
mod paced;
mod rtsp;
mod shm;
mod stdin;
mod v4l2;
mod video;
mod videodev;
mod watch;

use std::path::{Path, PathBuf};

use crate::error::nearest;
use crate::frame::{self, Frame, Orientation, Size};

pub use address::shown;
pub use file::{FileSource, find};
pub use paced::{Pace, Paced};
pub use shm::ShmSource;
pub use stdin::StdinSource;
pub use v4l2::{V4l2Source, describe as describe_camera};
pub use video::{VideoSource, is_video};
pub use watch::WatchSource;

/// Longest origin kept with a frame; paths are cut beyond it in output, never in use.
pub const ORIGIN_BYTES_MAX: usize = 4096;

/// What a source's URI may begin with.
const KINDS: [&str; 10] = ["demo", "file", "http", "https", "rtsp", "rtsps", "shm", "stdin", "v4l2", "watch"];

/// What can go wrong with a source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("source `{uri}`: unknown kind; expected one of {}:{hint}", KINDS.join(":, "))]
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

/// What a source declares of itself; a file may be wrong about it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts {
    /// Frames a second, as recorded.
    pub fps: Option<f64>,
    /// Frames until the end; `None` for a source without one.
    pub frames: Option<u64>,
    pub size: Option<Size>,
}

/// A source of frames.
pub trait Source: Send {
    /// The URI it was opened by.
    fn uri(&self) -> &str;

    /// A live source goes on by itself, so a loop that is late must drop frames; any other waits.
    fn live(&self) -> bool;

    /// What is known of it before the first frame.
    fn facts(&self) -> Facts {
        Facts::default()
    }

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
        Some(("file", _)) => {
            let path = Path::new(file::name(uri));
            Ok(if path.is_file() && is_video(path) {
                Box::new(VideoSource::open(uri, path)?)
            } else {
                Box::new(FileSource::open(uri, orientation)?)
            })
        }
        Some(("http" | "https", _)) => Ok(Box::new(http::open(uri, orientation)?)),
        Some(("rtsp" | "rtsps", _)) => Ok(Box::new(rtsp::open(uri, orientation)?)),
        Some(("shm", _)) => Ok(Box::new(ShmSource::open(uri)?)),
        Some(("stdin", _)) => Ok(Box::new(StdinSource::open(uri, orientation)?)),
        Some(("watch", _)) => Ok(Box::new(WatchSource::open(uri, orientation)?)),
        Some(("v4l2", _)) => Ok(Box::new(V4l2Source::open(uri)?)),
        kind => {
            let kind = kind.map_or(uri, |(kind, _)| kind);
            let hint = match nearest(kind, KINDS, 1).first() {
                Some(near) => format!("; did you mean `{near}:`?"),
                None if Path::new(uri).exists() => format!("; for the file write `file:{uri}`"),
                None => String::new(),
            };
            Err(Error::UnknownKind { uri: shown(uri), hint })
        }
    }
}

/// Splits `?key=value&key=value` off a URI.
fn options(uri: &str) -> (&str, impl Iterator<Item = (&str, &str)>) {
    let (base, query) = uri.split_once('?').unwrap_or((uri, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    (base, pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))))
}

/// The value of an option that is on or off; without a value it is on.
fn flag(uri: &str, option: &'static str, value: &str) -> Result<bool, Error> {
    match value {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Error::Option { uri: uri.into(), option, found: value.into(), expected: "true or false" }),
    }
}
