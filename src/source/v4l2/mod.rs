//! `v4l2:`, a camera behind Linux's V4L2: `v4l2:/dev/video0?width=640&height=480&fps=30&format=mjpeg`.
//!
//! Live: the newest picture counts. A camera that is missing, busy or pulled out never ends the process: the source
//! says that it is lost, and is opened again with what was asked for, whatever comes back. Of `cv2.VideoCapture` it
//! keeps the conversions, to the bit, because models were trained and tuned behind it.
//!
//! Files: `camera` one open device, `queue` the newest buffer, `format` what is asked for and what the answers mean,
//! `control` exposure and its like, `modes` sizes and rates on offer, `options` the URI, `describe` what `probe` tells.
//! Only `camera` touches the system.

mod camera;
mod control;
mod describe;
mod format;
mod modes;
mod options;
mod queue;

pub use describe::describe;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use self::camera::{Camera, Fault};
use self::format::Wanted;
use self::queue::{Numbering, moment, newest};
use super::{Error, Next, Source, videodev as abi};
use crate::frame::Frame;

/// Longest wait for a frame before the loop may look whether it should stop.
const WAIT: Duration = Duration::from_secs(1);
/// A camera that gives nothing for so long is lost: the slowest rate that can be asked for is one frame a second.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// The same for the first frame: some cameras need seconds to start their sensor and find the exposure.
const START_MAX: Duration = Duration::from_secs(5);

/// A camera, there or not.
#[derive(Debug)]
pub struct V4l2Source {
    uri: String,
    path: PathBuf,
    wanted: Wanted,
    /// The open camera, or why there is none.
    camera: Result<Camera, String>,
    numbering: Numbering,
    /// When the camera was opened or gave its last frame, and how long it may be silent from then.
    silent_since: Instant,
    silence_max: Duration,
    /// Pictures that the driver called damaged since then.
    damaged: u32,
    /// What was last told on stderr: the agreed format, or why the camera is lost.
    told: String,
}

impl V4l2Source {
    /// Opens `v4l2:DEVICE` with any of `width`, `height` (pixels), `fps` (frames a second), `format` and controls; what is
    /// left out is the driver's. A camera that is not there yet is no error: [`Source::next`] says that it is lost.
    ///
    /// # Errors
    /// A wrong option, or something at the path that is no capture device or cannot give what is asked for.
    pub fn open(uri: &str) -> Result<Self, Error> {
        let (path, wanted) = options::parse(uri)?;
        let mut source = Self {
            uri: uri.into(),
            path,
            wanted,
            camera: Err("not opened yet".into()),
            numbering: Numbering::default(),
            silent_since: Instant::now(),
            silence_max: START_MAX,
            damaged: 0,
            told: String::new(),
        };
        match source.connect() {
            Ok(()) => {}
            Err(Fault::Unfit(why)) => return Err(Error::Open { uri: uri.into(), why }),
            Err(Fault::Gone(why)) => source.lose(&why),
        }
        Ok(source)
    }

    /// Opens the camera and tells what was agreed on.
    fn connect(&mut self) -> Result<(), Fault> {
        let camera = Camera::open(&self.path, &self.wanted)?;
        self.tell(camera.agreement().describe(&self.wanted));
        self.camera = Ok(camera);
        self.numbering.restart();
        self.silent_since = Instant::now();
        self.silence_max = START_MAX;
        self.damaged = 0;
        Ok(())
    }

    /// Closes the camera, at once: while it is held, one that is plugged in again gets another name.
    fn lose(&mut self, why: &str) {
        self.camera = Err(format!("camera {}: {why}", self.path.display()));
        self.tell(why.into());
    }

    /// A line for people, if it is news: a camera that stays away is tried again and again.
    fn tell(&mut self, line: String) {
        if line != self.told {
            eprintln!("firstlight: camera {}: {line}", self.path.display());
            self.told = line;
        }
    }

    /// The next picture, if there is one in time; without a frame to put it in, it is only taken off the camera.
    fn capture(&mut self, frame: Option<&mut Frame>) -> Result<Next, Failure> {
        let Ok(camera) = &mut self.camera else { return Err(Failure::Closed) };
        if camera.wait(WAIT.min(self.silence_max))? {
            let buffers = camera.buffers();
            let drained = newest(camera, buffers)?;
            self.damaged = self.damaged.saturating_add(drained.damaged);
            if let Some(filled) = drained.newest {
                self.silent_since = Instant::now();
                self.silence_max = SILENCE_MAX;
                self.damaged = 0;
                let id = self.numbering.number(filled.sequence);
                let read = frame.map_or(Ok(()), |frame| {
                    frame.id = id;
                    frame.captured_at = filled.taken_at.map_or(self.silent_since, since_boot);
                    camera.picture().read(camera.bytes(&filled), frame)
                });
                queue::Queue::give(camera, filled.index)?;
                return read.map(|()| Next::Frame).map_err(Failure::Frame);
            }
        }
        let silence = self.silent_since.elapsed();
        if silence < self.silence_max {
            return Ok(Next::Nothing);
        }
        let damaged = match self.damaged {
            0 => String::new(),
            damaged => format!("; {damaged} came damaged: look at the cable"),
        };
        Err(Fault::Gone(format!("no frame for {:.1} s{damaged}", silence.as_secs_f64())).into())
    }
}

/// Why [`V4l2Source::capture`] gave no picture.
enum Failure {
    /// There is no open camera.
    Closed,
    Camera(Fault),
    Frame(crate::frame::Error),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Camera(fault)
    }
}

impl Source for V4l2Source {
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
        match self.capture(Some(frame)) {
            Ok(next) => return Ok(next),
            Err(Failure::Frame(cause)) => return Err(Error::Frame { path: self.path.clone(), cause }),
            Err(Failure::Camera(fault)) => self.lose(&fault.to_string()),
            Err(Failure::Closed) => {}
        }
        Err(Error::Lost(self.camera.as_ref().err().cloned().unwrap_or_default()))
    }

    fn skip(&mut self) -> bool {
        match self.capture(None) {
            Ok(next) => next == Next::Frame,
            Err(Failure::Camera(fault)) => {
                self.lose(&fault.to_string());
                false
            }
            Err(_) => false,
        }
    }

    fn reopen(&mut self) -> Result<(), Error> {
        // The old one, if there is one, lets go of the device first.
        self.camera = Err("being opened again".into());
        self.connect().map_err(|fault| {
            self.lose(&fault.to_string());
            Error::Lost(self.camera.as_ref().err().cloned().unwrap_or_default())
        })
    }
}

/// The moment of a time of the monotonic clock, which is the one of [`Instant`] too.
pub(super) fn since_boot(taken_at: Duration) -> Instant {
    let now = Instant::now();
    match clock_gettime(ClockId::CLOCK_MONOTONIC) {
        Ok(clock) => moment(taken_at, clock.into(), now),
        Err(_) => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_that_is_not_there_is_lost_and_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let uri = format!("v4l2:{}/video0?width=640&height=480", dir.path().display());
        let mut source = V4l2Source::open(&uri).unwrap();
        assert!(source.live());
        assert_eq!(source.uri(), uri);
        let (mut frame, mut origin) = (Frame::empty(), String::new());
        for _ in 0..2 {
            let error = source.next(&mut frame, &mut origin).unwrap_err();
            assert!(matches!(&error, Error::Lost(why) if why.contains("is the camera plugged in?")), "{error}");
            let error = source.reopen().unwrap_err();
            assert!(matches!(&error, Error::Lost(why) if why.contains("/video0")), "{error}");
        }
        // What comes instead of it is no reason to end either.
        std::fs::write(dir.path().join("video0"), b"").unwrap();
        let error = source.reopen().unwrap_err();
        assert!(matches!(&error, Error::Lost(why) if why.contains("is a file")), "{error}");
    }

    #[test]
    fn what_is_there_and_no_camera_is_said_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("video0");
        std::fs::write(&file, b"").unwrap();
        for (path, word) in [
            (dir.path().to_str().unwrap(), "is a directory, expected a capture device"),
            (file.to_str().unwrap(), "is a file"),
            ("/dev/null", "is no video device"),
        ] {
            let error = V4l2Source::open(&format!("v4l2:{path}")).unwrap_err();
            assert!(matches!(&error, Error::Open { why, .. } if why.contains(word)), "{error}");
        }
    }

    #[test]
    fn the_monotonic_clock_is_that_of_instants() {
        let clock: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().into();
        let before = Instant::now();
        let off = since_boot(clock).max(before) - since_boot(clock).min(before);
        assert!(off < Duration::from_millis(100), "{off:?}");
        let second_ago = since_boot(clock - Duration::from_secs(1));
        assert!(before - second_ago > Duration::from_millis(900));
    }
}
