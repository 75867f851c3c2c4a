//! The status line on the serial port: `FIRSTLIGHT {…}`, every few seconds and at once when the state changes.
//!
//! A cable that nobody reads must not hold up anything: the port is opened non-blocking, and a line that cannot be
//! written within a bound is given up.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::termios::{self, BaudRate, SetArg};

use crate::config::{self, SerialConfig};
use crate::pipeline::Telemetry;
use crate::pipeline::status::{RENDERED_BYTES_MAX, State};

/// How often a change of state is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// A line of 1 kB takes 90 ms at 115,200 baud; a port that takes ten times longer is not being read.
const WRITE_MAX: Duration = Duration::from_secs(1);
const PREFIX: &[u8] = b"FIRSTLIGHT ";

/// What can go wrong with the port.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("serial {device}: cannot be opened: {cause}", device = .device.display())]
    Open { device: PathBuf, cause: std::io::Error },
    #[error("serial {device}: {baud} baud is not a rate of Linux's serial ports; 115200 is usual", device = .device.display())]
    Baud { device: PathBuf, baud: u32 },
    #[error("serial {device}: cannot be set up: {cause}", device = .device.display())]
    Setup { device: PathBuf, cause: nix::Error },
}

/// The thread that writes; ends when dropped, after a last line.
#[derive(Debug)]
pub struct SerialLine {
    stop: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SerialLine {
    /// Opens the configured device and starts writing.
    ///
    /// # Errors
    /// The device cannot be opened or set up, or the system gives no thread.
    pub fn start(device: &Path, config: &SerialConfig, telemetry: Arc<Telemetry>) -> Result<Self, Error> {
        let mut port = open(device, config.baud)?;
        let interval = config::seconds(config.interval_s);
        let (stop, stopped) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("serial".into()).spawn(move || {
            let mut state: Option<State> = None;
            let mut due = Instant::now();
            loop {
                let now = Some(telemetry.health().state);
                if now != state || Instant::now() >= due {
                    state = now;
                    due = Instant::now() + interval;
                    write_status(&mut port, &telemetry);
                }
                if stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                    write_status(&mut port, &telemetry);
                    return;
                }
            }
        });
        let thread = thread.map_err(|cause| Error::Open { device: device.into(), cause })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for SerialLine {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // Ends within LOOK and two bounded writes.
            let _ = thread.join();
        }
    }
}

fn open(device: &Path, baud: u32) -> Result<File, Error> {
    let port = OpenOptions::new()
        .append(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(device)
        .map_err(|cause| Error::Open { device: device.into(), cause })?;
    // Anything that is no terminal (a file, a pipe in a test) is written to as it is.
    let Ok(mut settings) = termios::tcgetattr(&port) else { return Ok(port) };
    let rate = baud_rate(baud).ok_or_else(|| Error::Baud { device: device.into(), baud })?;
    termios::cfmakeraw(&mut settings);
    termios::cfsetspeed(&mut settings, rate)
        .and_then(|()| termios::tcsetattr(&port, SetArg::TCSANOW, &settings))
        .map_err(|cause| Error::Setup { device: device.into(), cause })?;
    Ok(port)
}

fn baud_rate(baud: u32) -> Option<BaudRate> {
    Some(match baud {
        9_600 => BaudRate::B9600,
        19_200 => BaudRate::B19200,
        38_400 => BaudRate::B38400,
        57_600 => BaudRate::B57600,
        115_200 => BaudRate::B115200,
        230_400 => BaudRate::B230400,
        460_800 => BaudRate::B460800,
        921_600 => BaudRate::B921600,
        1_500_000 => BaudRate::B1500000,
        _ => return None,
    })
}

/// One line, or as much of it as the port takes in time. Raw mode needs the carriage return.
fn write_status(port: &mut File, telemetry: &Telemetry) {
    let mut buffer = [0; RENDERED_BYTES_MAX];
    let document = telemetry.status();
    let deadline = Instant::now() + WRITE_MAX;
    for part in [PREFIX, document.render(&mut buffer), b"\r\n"] {
        if write_within(port, part, deadline).is_err() {
            return;
        }
    }
}

fn write_within(port: &mut File, mut bytes: &[u8], deadline: Instant) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match port.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let left = deadline.saturating_duration_since(Instant::now());
                let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
                let mut ready = [PollFd::new(port.as_fd(), PollFlags::POLLOUT)];
                if left.is_zero() || nix::poll::poll(&mut ready, timeout)? == 0 {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
