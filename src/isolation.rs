//! A process without a network, to prove what needs none.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

/// An address of nobody (RFC 5737).
const NOBODY: &str = "192.0.2.1:9";
const ANSWER_MAX: Duration = Duration::from_millis(200);

/// Takes the network away from this process, for good: not even loopback is up. It must have one thread only.
///
/// # Errors
/// The system allows neither a network namespace nor one of users around it.
pub fn leave_the_network() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)
        .or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET))
        .map_err(io::Error::from)?;
    let nobody: SocketAddr = NOBODY.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    match TcpStream::connect_timeout(&nobody, ANSWER_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NetworkUnreachable => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("the network is still there")),
    }
}
