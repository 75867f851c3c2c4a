//! A serial port: opened without waiting, in raw mode, at a given speed.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::termios::{self, BaudRate, SetArg};

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

/// Opens a port for reading and writing, neither of which ever waits. Anything that is no terminal (a file, a pipe in a
/// test) is only written to, at its end.
///
/// # Errors
/// The device cannot be opened or set up.
pub fn open(device: &Path, baud: u32) -> Result<File, Error> {
    let options = |read: bool| {
        let mut options = OpenOptions::new();
        options.read(read).append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        options
    };
    let port = options(true).open(device).or_else(|_| options(false).open(device));
    let port = port.map_err(|cause| Error::Open { device: device.into(), cause })?;
    set_up(&port, device, baud)?;
    Ok(port)
}

/// Puts a port into raw mode at a speed. Returns whether it is one: a file or a pipe is left as it is.
///
/// # Errors
/// It cannot be set up so.
pub fn set_up(port: &File, device: &Path, baud: u32) -> Result<bool, Error> {
    let Ok(mut settings) = termios::tcgetattr(port) else { return Ok(false) };
    let rate = baud_rate(baud).ok_or_else(|| Error::Baud { device: device.into(), baud })?;
    termios::cfmakeraw(&mut settings);
    termios::cfsetspeed(&mut settings, rate)
        .and_then(|()| termios::tcsetattr(port, SetArg::TCSANOW, &settings))
        .map_err(|cause| Error::Setup { device: device.into(), cause })?;
    Ok(true)
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

/// Writes all of `bytes`, or gives up at `deadline`; what was not taken is left in them. Anything that does not wait may be
/// the port.
///
/// # Errors
/// The port failed, or did not take the bytes in time.
pub fn write_within(port: &mut File, bytes: &mut &[u8], deadline: Instant) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match port.write(bytes) {
            Ok(written) => *bytes = &bytes[written..],
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
