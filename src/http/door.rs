//! One listening address: what is served there, and the stream that a client of it speaks through, plain or TLS.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_rustls::server::TlsStream;
use smol::Async;
use smol::io::{AsyncRead, AsyncWrite};

use super::Error;
use super::connection::{CONNECTIONS_MAX, HEAD_BYTES_MAX};
use super::tls::Tls;

/// Connections at once at an address of health. Apart from the others, so that no crowd there keeps a monitor out.
const HEALTH_CONNECTIONS_MAX: usize = 16;

/// What a client gets that speaks plain HTTP where TLS is spoken.
const PLAIN_AT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n\
    content-length: 51\r\n\r\n{\"message\":\"this port speaks TLS: ask by https://\"}";

/// What is served at an address, and how.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Everything, unencrypted.
    Plain,
    /// Everything, encrypted.
    Tls(Tls),
    /// Health only, unencrypted.
    Health,
}

/// An address that is listened on.
#[derive(Debug)]
pub struct Door {
    pub(super) listener: Async<TcpListener>,
    local_addr: SocketAddr,
    pub(super) kind: Kind,
}

impl Door {
    /// Listens on `address`; port 0 takes any free one.
    ///
    /// # Errors
    /// [`Error::Bind`]: the address cannot be had.
    pub fn open(address: SocketAddr, kind: Kind) -> Result<Self, Error> {
        let bind = |source| Error::Bind { address, source };
        let listener = TcpListener::bind(address).map_err(bind)?;
        let local_addr = listener.local_addr().map_err(bind)?;
        Ok(Self { listener: Async::new(listener).map_err(bind)?, local_addr, kind })
    }

    /// The address in use, with the real port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// How a person reaches it; `None` where there is nothing to see.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        match self.kind {
            Kind::Plain => Some(format!("http://{}/", self.local_addr)),
            Kind::Tls(_) => Some(format!("https://{}/", self.local_addr)),
            Kind::Health => None,
        }
    }

    /// Connections that this address may have at once.
    pub(super) fn connections_max(&self) -> usize {
        match self.kind {
            Kind::Plain | Kind::Tls(_) => CONNECTIONS_MAX,
            Kind::Health => HEALTH_CONNECTIONS_MAX,
        }
    }
}

/// What a client speaks through.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Async<TcpStream>),
    Tls(Box<TlsStream<Async<TcpStream>>>),
}

impl Stream {
    /// Shakes hands where the address wants that. `None`: the client is not one for this address, and gone. Waits as
    /// long as the client lets it: whoever calls keeps the time.
    pub(super) async fn open(socket: Async<TcpStream>, kind: &Kind) -> Option<Self> {
        let Kind::Tls(tls) = kind else { return Some(Self::Plain(socket)) };
        let mut first = [0];
        socket.peek(&mut first).await.ok().filter(|read| *read > 0)?;
        // A handshake begins with 22, a request line with a letter.
        if first[0].is_ascii_alphabetic() {
            say_at_once(socket.get_ref(), PLAIN_AT_TLS);
            return None;
        }
        let stream = tls.acceptor().await?.accept(socket).await.ok()?;
        Some(Self::Tls(Box::new(stream)))
    }
}

/// Says something without waiting. What the client has already sent is read first, for closing a socket with unread
/// bytes resets the connection and may cost the client the answer.
pub(super) fn say_at_once(mut socket: &TcpStream, answer: &[u8]) {
    let _ = socket.read(&mut [0; HEAD_BYTES_MAX]);
    let _ = socket.write(answer);
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Closes our direction of the connection: a client that waits for the end of an answer sees it now.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = match self.get_mut() {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => {
                ready!(Pin::new(&mut **stream).poll_close(cx))?;
                stream.get_ref().0
            }
        };
        // The socket's own poll_close only flushes.
        Poll::Ready(socket.get_ref().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_states_its_own_length() {
        let text = std::str::from_utf8(PLAIN_AT_TLS).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("\r\ncontent-length: {}", body.len())), "{} bytes", body.len());
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }

    #[test]
    fn a_person_is_shown_where_there_is_something_to_see() {
        let door = |kind| Door::open("127.0.0.1:0".parse().unwrap(), kind).unwrap();
        let plain = door(Kind::Plain);
        assert_eq!(plain.url().unwrap(), format!("http://{}/", plain.local_addr()));
        assert_eq!(door(Kind::Health).url(), None);
    }
}
