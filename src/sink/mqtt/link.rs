//! The bytes to and from a broker, over TCP or TLS, each wait with its bound.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::clock;
use crate::config::MqttAddress;

/// For a connection to stand, and for bytes to be taken: a broker at the far end of a mobile network answers within a
/// second or two.
const PATIENCE: Duration = Duration::from_secs(10);
/// Shortest wait that the system knows.
const SHORTEST: Duration = Duration::from_millis(1);

pub struct Link {
    stream: Stream,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Link {
    /// Connects, with TLS where there is a configuration of it.
    ///
    /// # Errors
    /// In words.
    pub fn connect(address: &MqttAddress, tls: Option<Arc<ClientConfig>>) -> Result<Self, String> {
        let socket = open(address)?;
        let Some(config) = tls else { return Ok(Self { stream: Stream::Plain(socket) }) };
        let name =
            ServerName::try_from(address.host.clone()).map_err(|_| format!("{} is no name of a host", address.host))?;
        let connection = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|cause| {
                let clock = if clock::is_set() { "" } else { "; the clock of this device is not set" };
                format!("no TLS: {}{clock}", said(&cause))
            })?;
        }
        Ok(Self { stream: Stream::Tls(Box::new(stream)) })
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// In words; part of them may have been sent.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
        written.map_err(|cause| said(&cause))
    }

    /// What has come, waiting at most `wait` for it; 0 bytes: nothing has.
    ///
    /// # Errors
    /// In words.
    pub fn read(&mut self, buffer: &mut [u8], wait: Duration) -> Result<usize, String> {
        let socket = match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &stream.sock,
        };
        socket.set_read_timeout(Some(wait.max(SHORTEST))).map_err(|cause| said(&cause))?;
        let read = match &mut self.stream {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        };
        match read {
            Ok(0) => Err("it has closed the connection".into()),
            Ok(count) => Ok(count),
            Err(cause)
                if matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
            {
                Ok(0)
            }
            Err(cause) => Err(said(&cause)),
        }
    }
}

/// The first of its addresses that answers.
fn open(address: &MqttAddress) -> Result<TcpStream, String> {
    let found = (address.host.as_str(), address.port).to_socket_addrs();
    let found = found.map_err(|cause| format!("its name cannot be resolved: {cause}"))?;
    let mut why = "its name has no address".to_owned();
    for candidate in found {
        let opened = TcpStream::connect_timeout(&candidate, PATIENCE).and_then(|socket| {
            socket.set_nodelay(true)?;
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        });
        match opened {
            Ok(socket) => return Ok(socket),
            Err(cause) => why = said(&cause),
        }
    }
    Err(why)
}

fn said(cause: &io::Error) -> String {
    match cause.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("no answer within {} s", PATIENCE.as_secs()),
        ErrorKind::UnexpectedEof => "it has closed the connection".into(),
        _ => cause.to_string(),
    }
}
