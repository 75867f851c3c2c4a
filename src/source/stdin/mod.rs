//! `stdin:` what another process writes: `rpicam-vid -t 0 --inline -o - | firstlight --source 'stdin:?format=h264'`.
//!
//! A pipe holds its writer back, so every picture is taken; with `live=true` the loop drops what it has no time for, and
//! the writer is never held back by the model. The end of the stream is the end of the source. H.264 comes a picture late:
//! one is known to be whole when the next begins.
//!
//! Files: `options` the URI, `cutter` and `y4m` bytes to pictures. Only this file touches the system.

mod cutter;
mod options;
mod y4m;

use std::io::{Error as IoError, IsTerminal};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::cutter::{Cutter, Fault};
use super::{Error, Next, Source};
use crate::frame::{Frame, Orientation};

/// Longest wait for bytes before the loop may look whether it should stop, in milliseconds.
const WAIT_MS: u16 = 1000;
/// Bytes read at once: what a pipe holds.
const PIECE_BYTES: usize = 64 << 10;

/// Whether a source reads standard input: two would each get a part of it.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Standard input.
pub struct StdinSource {
    uri: String,
    live: bool,
    input: Box<dyn AsFd + Send>,
    _claim: Option<Claim>,
    cutter: Cutter,
    piece: Vec<u8>,
    ended: bool,
    /// Nothing more can be made of what comes.
    given_up: bool,
    frames: u64,
}

impl StdinSource {
    /// Opens `stdin:?format=F` with `width` and `height` for formats that do not tell their size, and `live`.
    ///
    /// # Errors
    /// A wrong option, a terminal, or another source has it.
    pub fn open(uri: &str, orientation: Orientation) -> Result<Self, Error> {
        let (cutter, live) = options::parse(uri, orientation)?;
        let fail = |why: &str| Error::Open { uri: uri.into(), why: why.into() };
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Err(fail("standard input is a terminal: expected a pipe from a program, or a file"));
        }
        let claim = Claim::new().ok_or_else(|| fail("another source reads standard input"))?;
        Ok(Self { _claim: Some(claim), ..Self::over(Box::new(stdin), uri, cutter, live) })
    }

    fn over(input: Box<dyn AsFd + Send>, uri: &str, cutter: Cutter, live: bool) -> Self {
        let piece = vec![0; PIECE_BYTES];
        Self { uri: uri.into(), live, input, _claim: None, cutter, piece, ended: false, given_up: false, frames: 0 }
    }

    /// Reads what has come, and waits for some if there is none; `false` if nothing came in time.
    fn read(&mut self) -> Result<bool, IoError> {
        let mut waiting = [PollFd::new(self.input.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::from(WAIT_MS)) {
            Ok(0) | Err(Errno::EINTR) => return Ok(false),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let bytes = match nix::unistd::read(self.input.as_fd(), &mut self.piece) {
            Ok(bytes) => bytes,
            Err(Errno::EINTR | Errno::EAGAIN) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        self.ended = bytes == 0;
        self.cutter.push(&self.piece[..bytes]);
        Ok(true)
    }
}

impl std::fmt::Debug for StdinSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StdinSource({})", self.uri)
    }
}

/// The right to read standard input.
struct Claim(());

impl Claim {
    fn new() -> Option<Self> {
        (!TAKEN.swap(true, Ordering::Relaxed)).then_some(Self(()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Relaxed);
    }
}

impl Source for StdinSource {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn live(&self) -> bool {
        self.live
    }

    fn next(&mut self, frame: &mut Frame, origin: &mut String) -> Result<Next, Error> {
        if origin != &self.uri {
            origin.clone_from(&self.uri);
        }
        let decoded = loop {
            if self.given_up {
                return Ok(Next::End);
            }
            let decoded = if self.ended { self.cutter.last(frame) } else { self.cutter.picture(frame) };
            match decoded {
                Ok(true) => break Ok(()),
                Ok(false) if self.ended => return Ok(Next::End),
                Ok(false) => {}
                Err(Fault::Frame(cause)) => break Err(cause),
                Err(Fault::Stream(why)) => {
                    self.given_up = true;
                    return Err(Error::Open { uri: self.uri.clone(), why });
                }
            }
            match self.read() {
                Ok(true) => {}
                Ok(false) => return Ok(Next::Nothing),
                Err(cause) => {
                    self.given_up = true;
                    return Err(Error::Read { path: PathBuf::from(&self.uri), cause });
                }
            }
        };
        frame.id = self.frames;
        frame.captured_at = Instant::now();
        self.frames += 1;
        decoded.map(|()| Next::Frame).map_err(|cause| Error::Frame { path: PathBuf::from(&self.uri), cause })
    }
}

#[cfg(test)]
mod tests;
