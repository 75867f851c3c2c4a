//! `shm:PATH`, frames that another process writes into a file in memory: `shm:/dev/shm/camera`.
//!
//! Live: the newest frame counts. The file is read and not mapped: one that its producer cuts short would end a process
//! that has it mapped; one copy more of a frame is little beside inference. A
//! frame that is written over while it is read is read again. May not know: the producer, but by its header.

mod layout;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::layout::{HEADER_BYTES, Header, Layout, SLOT_HEAD_BYTES, STAMP_BYTES, Stamp};
use super::v4l2::since_boot;
use super::{Error, Next, Source};
use crate::clock;
use crate::frame::Frame;
use crate::log;

/// Longest wait for a frame before the loop may look whether it should stop.
const WAIT: Duration = Duration::from_secs(1);
/// Step in which a new frame is looked for: a tenth of what a fast camera takes for one.
const LOOK: Duration = Duration::from_millis(1);
/// A producer that has not shown for so long that it lives is gone: four times what it may take.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How often in a row a frame is read that is written over meanwhile, before the producer gets its turn.
const TRIES_MAX: usize = 4;
/// Longest jump in a producer's numbers that is a gap; a larger one is a producer that counts in some other way.
const GAP_MAX: u64 = 1_000_000;

/// Frames of another process, there or not.
#[derive(Debug)]
pub struct ShmSource {
    uri: String,
    path: PathBuf,
    /// The open file, or why there is none.
    file: Result<Shared, String>,
    bytes: Vec<u8>,
    /// Number of the next frame.
    next_id: u64,
    told: String,
}

/// An open file of a producer.
#[derive(Debug)]
struct Shared {
    file: File,
    layout: Layout,
    /// Frames that were written when one was last taken.
    seen: u64,
}

impl ShmSource {
    /// Opens `shm:PATH`. A producer that is not there yet is no error.
    ///
    /// # Errors
    /// No path, or an option.
    pub fn open(uri: &str) -> Result<Self, Error> {
        let (base, mut options) = super::options(uri);
        if let Some((option, _)) = options.next() {
            let valid = "none; the producer says what its frames are";
            return Err(Error::UnknownOption { uri: uri.into(), option: option.into(), valid });
        }
        let path = base.strip_prefix("shm:").unwrap_or(base);
        if path.is_empty() {
            return Err(Error::Open { uri: uri.into(), why: "names no file; for instance shm:/dev/shm/camera".into() });
        }
        let path = PathBuf::from(path);
        let file = Shared::open(&path);
        Ok(Self { uri: uri.into(), path, file, bytes: Vec::new(), next_id: 0, told: String::new() })
    }

    fn take(&mut self, frame: &mut Frame) -> Result<Next, String> {
        let shared = self.file.as_mut().map_err(|why| why.clone())?;
        shared.check_path(&self.path)?;
        let deadline = Instant::now() + WAIT;
        loop {
            let header = shared.header()?;
            if header.layout != shared.layout || header.written < shared.seen {
                return Err("there is a new producer".into());
            }
            let mut tries = if header.written > shared.seen { TRIES_MAX } else { 0 };
            while tries > 0 {
                tries -= 1;
                let Some((number, stamp)) = shared.read_newest(&mut self.bytes)? else { continue };
                // What the loop missed leaves a gap.
                let missed = number - shared.seen;
                shared.seen = number + 1;
                frame.id = self.next_id + if missed <= GAP_MAX { missed } else { 0 };
                self.next_id = frame.id + 1;
                let taken = Duration::from_nanos(stamp.taken_ns);
                frame.captured_at = if taken.is_zero() { Instant::now() } else { since_boot(taken) };
                shared.layout.pixels.read(&self.bytes, frame).map_err(|cause| cause.to_string())?;
                return Ok(Next::Frame);
            }
            let silence = clock::since_boot().saturating_sub(Duration::from_nanos(header.alive_ns));
            if silence > SILENCE_MAX {
                return Err(format!("its producer has shown no sign of life for {:.1} s", silence.as_secs_f64()));
            }
            if Instant::now() >= deadline {
                return Ok(Next::Nothing);
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Shared {
    fn open(path: &Path) -> Result<Self, String> {
        // Without O_NONBLOCK a pipe of that name would hold us until somebody writes to it.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = file.map_err(|error| format!("cannot be opened: {error}"))?;
        let Header { layout, written, .. } = header(&file)?;
        // What was written before we came may be as old as its producer is dead.
        Ok(Self { file, layout, seen: written })
    }

    fn header(&self) -> Result<Header, String> {
        header(&self.file)
    }

    /// Whether the file of that name is still this one.
    fn check_path(&self, path: &Path) -> Result<(), String> {
        let named = std::fs::metadata(path).map_err(|error| format!("the file is gone: {error}"))?;
        let ours = self.file.metadata().map_err(|error| error.to_string())?;
        if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) {
            return Ok(());
        }
        Err("there is a new file of that name".into())
    }

    /// Reads the pixels of the newest frame; `None` when they were written over meanwhile. Returns its number.
    fn read_newest(&self, bytes: &mut Vec<u8>) -> Result<Option<(u64, Stamp)>, String> {
        let Some(number) = self.header()?.written.checked_sub(1).filter(|&number| number >= self.seen) else {
            return Ok(None);
        };
        let at = self.layout.slot_at(number);
        let stamp = self.stamp(at)?;
        if !stamp.is_whole(number) {
            return Ok(None);
        }
        bytes.resize(self.layout.pixels.bytes(), 0);
        read_at(&self.file, bytes, at + SLOT_HEAD_BYTES)?;
        Ok((self.stamp(at)? == stamp).then_some((number, stamp)))
    }

    fn stamp(&self, at: u64) -> Result<Stamp, String> {
        let mut bytes = [0; STAMP_BYTES];
        read_at(&self.file, &mut bytes, at)?;
        Ok(Stamp::parse(&bytes))
    }
}

fn header(file: &File) -> Result<Header, String> {
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("is no file".into());
    }
    let mut bytes = [0; HEADER_BYTES];
    read_at(file, &mut bytes, 0)?;
    Header::parse(&bytes, metadata.len())
}

fn read_at(file: &File, bytes: &mut [u8], at: u64) -> Result<(), String> {
    file.read_exact_at(bytes, at).map_err(|error| format!("cannot be read at byte {at}: {error}"))
}

impl Source for ShmSource {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn live(&self) -> bool {
        true
    }

    fn next(&mut self, frame: &mut Frame, origin: &mut String) -> Result<Next, Error> {
        if origin != &self.uri {
            origin.clone_from(&self.uri);
        }
        match self.take(frame) {
            Ok(next) => {
                if next == Next::Frame {
                    self.told.clear();
                }
                Ok(next)
            }
            Err(why) => {
                // Closed at once: the memory of a file that was removed is free only then.
                self.file = Err(why.clone());
                let lost = format!("{}: {why}", self.uri);
                if lost != self.told {
                    log::say(&lost);
                    self.told.clone_from(&lost);
                }
                Err(Error::Lost(lost))
            }
        }
    }

    fn reopen(&mut self) -> Result<(), Error> {
        self.file = Shared::open(&self.path);
        match &self.file {
            Ok(_) => Ok(()),
            Err(why) => Err(Error::Lost(format!("{}: {why}", self.uri))),
        }
    }
}

#[cfg(test)]
mod tests;
