//! What lines are sent through: a file, a device, a pipe, a socket. Nothing here waits longer than it is told.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::net::{ToSocketAddrs, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;

use crate::tty;

/// A line of 1 kB takes 90 ms at 115,200 baud; a peer that takes ten times longer is not reading.
const SEND_MAX: Duration = Duration::from_secs(1);

/// How often it is looked whether a file is still where it was: soon enough for whoever waits for a log to be let go.
const LOOK: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file, a named pipe, or a serial device at a speed.
    Path { path: PathBuf, baud: u32 },
    /// A socket that somebody listens on.
    Unix(PathBuf),
    /// `HOST:PORT`.
    Udp(String),
}

/// A way there that is open.
#[derive(Debug)]
pub enum Wire {
    Stream {
        file: File,
        kind: Kind,
        /// When it was last looked whether the path of a file still leads to it.
        looked_at: Instant,
    },
    Datagrams(UdpSocket),
}

/// What is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It keeps what it has of a line that broke off because the disk was full.
    File,
    /// It is slow, and wants no lines that are old.
    Serial,
    Peer,
    /// Likewise none that are old.
    Datagrams,
}

impl Wire {
    /// Opens the way to a place; a name of a host is looked up, which may take as long as the system lets it.
    pub fn open(place: &Place) -> Result<Self> {
        match place {
            Place::Path { path, baud } => open_path(path, *baud),
            Place::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                let file = File::from(OwnedFd::from(stream));
                Ok(Wire::Stream { file, kind: Kind::Peer, looked_at: Instant::now() })
            }
            Place::Udp(address) => {
                let nowhere = || Error::new(ErrorKind::NotFound, "the name has no address");
                let peer = address.to_socket_addrs()?.next().ok_or_else(nowhere)?;
                let socket = UdpSocket::bind(if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
                socket.set_broadcast(true)?;
                socket.connect(peer)?;
                socket.set_nonblocking(true)?;
                Ok(Wire::Datagrams(socket))
            }
        }
    }

    /// Sends what is left of a line, within a bound; what may be tried again stays in it.
    pub fn send(&mut self, left: &mut &[u8]) -> Result<()> {
        match self {
            Wire::Stream { file, .. } => tty::write_within(file, left, Instant::now() + SEND_MAX),
            Wire::Datagrams(socket) => {
                // A datagram is sent once, or lost: nobody wants old ones in a burst.
                let bytes = std::mem::take(left);
                match socket.send(bytes) {
                    // That came back for an earlier one; this one is yet to go.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => socket.send(bytes).and(Err(error)),
                    sent => sent.map(drop),
                }
            }
        }
    }

    /// Whether this is a file that was removed, renamed by whoever rotates logs, or covered by what was mounted over it. Looks
    /// once a second.
    pub fn has_moved(&mut self, place: &Place) -> bool {
        let (Wire::Stream { file, kind: Kind::File, looked_at }, Place::Path { path, .. }) = (self, place) else {
            return false;
        };
        if looked_at.elapsed() < LOOK {
            return false;
        }
        *looked_at = Instant::now();
        let identity = |found: Metadata| (found.dev(), found.ino());
        file.metadata().map(identity).ok() != std::fs::metadata(path).map(identity).ok()
    }

    pub fn kind(&self) -> Kind {
        match self {
            Wire::Stream { kind, .. } => *kind,
            Wire::Datagrams(_) => Kind::Datagrams,
        }
    }
}

/// Whether a path is a device's, which may be unplugged: it must not come to be a file, into which lines go that nobody
/// reads.
fn is_device(path: &Path) -> bool {
    let of_device = |path: &Path| path.starts_with("/dev") && !path.starts_with("/dev/shm");
    of_device(path) || std::fs::read_link(path).is_ok_and(|target| of_device(&target))
}

fn open_path(path: &Path, baud: u32) -> Result<Wire> {
    let mut options = OpenOptions::new();
    options.append(true).create(!is_device(path)).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => Error::new(ErrorKind::NotConnected, "nobody reads it"),
        _ => error,
    })?;
    let is_serial = tty::set_up(&file, path, baud).map_err(Error::other)?;
    let kind = match file.metadata()?.is_file() {
        true => Kind::File,
        false if is_serial => Kind::Serial,
        false => Kind::Peer,
    };
    Ok(Wire::Stream { file, kind, looked_at: Instant::now() })
}
