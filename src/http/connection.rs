//! One client's connection: what it may send and how long it may take.
//!
//! Each connection carries a [`Meter`] that says which phase it is in and since when. The server's loop looks at all
//! meters once a [`SWEEP_EVERY`] and drops who is over a limit: one timer for everybody, none a request.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::TcpStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol::Async;
use smol::io::{AsyncRead, AsyncWrite};
use smol_hyper::rt::FuturesIo;

use super::door::{Kind, Stream};
use super::payload::Payload;
use super::routes::Routes;

/// Connections open at once: a handful of watchers and programs that ask with many connections each; at about 20 kB each
/// this is 5 MB. What their requests may hold besides is bounded for all together.
pub const CONNECTIONS_MAX: usize = 256;
/// Bytes of a request line and its headers, else 431: browsers send under 2 KiB, and we set no cookies.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Bytes of the body of a request that needs none, else 413; some client libraries send `{}` with a GET. An update and the
/// API have bodies, with bounds of their own.
pub const BODY_BYTES_MAX: u64 = 1024;
/// From a request's first byte (or the connection's start) to its last header, and for the handshake of TLS before:
/// ample for a bad radio link, and a client that sends a byte a second is gone after it.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// Between two requests: twice Prometheus' usual 15 s, so that a scraper keeps its connection.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(30);
/// From an answer's start until the kernel has taken all of it: a 500 kB picture at 20 kB/s.
pub const WRITE_TIME_MAX: Duration = Duration::from_secs(25);
/// From our end of a connection until the client's: to read on what a client still sends, who would otherwise lose an
/// answer that says why nobody wants it.
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);
/// How often limits are looked at; they are seconds, so half a second late is near enough.
pub(super) const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// Bytes hyper may buffer in each direction; holds the longest head and the longest status document, and limits how
/// many pipelined requests wait in memory (they are answered one after the other).
const BUFFER_BYTES_MAX: usize = 16 * 1024;

/// What a connection is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for the rest of a handshake, or of a request's head.
    Head,
    /// Its request is being answered.
    Answer,
    /// The answer waits for the client to take it.
    Write,
    /// An answer that comes in pieces is under way and the client takes them.
    Stream,
    /// As before, and the client has let a piece lie since then.
    Stuck,
    /// Nothing asked.
    Idle,
    /// Closed by us and not yet by the client.
    Linger,
}

/// Where a connection stands. Shared by the connection and the server's loop on one thread, hence cells.
#[derive(Debug)]
pub(super) struct Meter {
    phase: Cell<Phase>,
    since: Cell<Instant>,
}

impl Meter {
    fn new() -> Self {
        Self { phase: Cell::new(Phase::Head), since: Cell::new(Instant::now()) }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(Instant::now());
    }

    /// Whether this connection took longer than it may in its phase.
    pub(super) fn overdue(&self, now: Instant) -> bool {
        let limit = match self.phase.get() {
            Phase::Head => HEAD_TIME_MAX,
            Phase::Idle => IDLE_TIME_MAX,
            Phase::Linger => LINGER_TIME_MAX,
            Phase::Write | Phase::Stuck => WRITE_TIME_MAX,
            // Routes bound their own time, that of a body on its way included.
            Phase::Answer | Phase::Stream => return false,
        };
        now.saturating_duration_since(self.since.get()) > limit
    }

    /// Notes whether the kernel took something of an answer in pieces: each piece starts the client's time anew.
    fn wrote<T>(&self, written: &Poll<T>) {
        match (self.phase.get(), written) {
            (Phase::Stream, Poll::Pending) => self.enter(Phase::Stuck),
            (Phase::Stuck, Poll::Ready(_)) => self.enter(Phase::Stream),
            _ => {}
        }
    }

    /// An answer in pieces has no more of them: what is left to do is to send the last.
    fn ended(&self) {
        if matches!(self.phase.get(), Phase::Stream | Phase::Stuck) {
            self.enter(Phase::Write);
        }
    }

    /// Since when the client has let us wait for a request; `None` while one is being answered.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        matches!(self.phase.get(), Phase::Head | Phase::Idle | Phase::Linger).then(|| self.since.get())
    }
}

/// The stream, reporting to the meter: of TLS what is inside, so that a phase means the same with it and without.
struct Metered {
    socket: Stream,
    meter: Rc<Meter>,
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        if read > 0 && self.meter.phase.get() == Phase::Idle {
            self.meter.enter(Phase::Head);
        }
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.meter.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.meter.wrote(&written);
        written
    }

    /// hyper flushes the socket when its own buffer is empty: then the kernel has the whole answer.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        if self.meter.phase.get() == Phase::Write {
            self.meter.enter(Phase::Idle);
        }
        Poll::Ready(Ok(()))
    }

    /// Closes our direction, then reads on until the client has closed its own: a socket that is dropped with unread bytes
    /// resets the connection, and takes with it an answer that the client has not read yet.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.meter.phase.get() != Phase::Linger {
            ready!(Pin::new(&mut self.socket).poll_close(cx))?;
            self.meter.enter(Phase::Linger);
        }
        // A few pieces, then the others have their turn.
        for _ in 0..16 {
            if ready!(Pin::new(&mut self.socket).poll_read(cx, &mut [0; 4 * 1024]))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The body of an answer, reporting its end to the meter.
struct Watched {
    payload: Payload,
    meter: Rc<Meter>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = ready!(Pin::new(&mut self.payload).poll_frame(cx));
        if frame.is_none() {
            self.meter.ended();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.payload.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.payload.size_hint()
    }
}

impl Drop for Watched {
    /// The answer to a HEAD is never asked for a piece.
    fn drop(&mut self) {
        self.meter.ended();
    }
}

/// A meter and the future that serves `socket`, which came to an address of that `kind`, until either side is done.
pub(super) fn serve(socket: Async<TcpStream>, kind: Kind, routes: Rc<Routes>) -> (Rc<Meter>, impl Future<Output = ()>) {
    let meter = Rc::new(Meter::new());
    let peer = socket.get_ref().peer_addr().ok();
    let (opened, served) = (meter.clone(), meter.clone());
    let future = async move {
        let Some(socket) = Stream::open(socket, &kind).await else { return };
        opened.enter(Phase::Head);
        let io = FuturesIo::new(Metered { socket, meter: opened });
        let health_only = matches!(kind, Kind::Health);
        let service = service_fn(move |request| {
            let (routes, meter) = (routes.clone(), served.clone());
            async move {
                meter.enter(Phase::Answer);
                let response =
                    if health_only { routes.answer_health(&request) } else { routes.answer(peer, request).await };
                meter.enter(if response.body().is_whole() { Phase::Write } else { Phase::Stream });
                Ok::<_, Infallible>(response.map(|payload| Watched { payload, meter }))
            }
        });
        let connection = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .header_read_timeout(None)
            // A board without a battery does not know the date, and such a server must not send one (RFC 9110, 6.6.1).
            .auto_date_header(false)
            .serve_connection(io, service);
        // A client that breaks off, sends garbage or is too slow is its own affair: hyper has answered what it could.
        let _ = connection.await;
    };
    (meter, future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_its_own_patience() {
        for (phase, limit) in [
            (Phase::Head, HEAD_TIME_MAX),
            (Phase::Idle, IDLE_TIME_MAX),
            (Phase::Write, WRITE_TIME_MAX),
            (Phase::Stuck, WRITE_TIME_MAX),
            (Phase::Linger, LINGER_TIME_MAX),
        ] {
            let meter = Meter::new();
            meter.enter(phase);
            let entered = meter.since.get();
            assert!(!meter.overdue(entered + limit), "{phase:?}");
            assert!(meter.overdue(entered + limit + SWEEP_EVERY), "{phase:?}");
        }
    }

    #[test]
    fn whoever_is_being_answered_is_neither_overdue_nor_in_the_way() {
        let meter = Meter::new();
        assert!(meter.waiting_since().is_some(), "a client that has sent nothing yet may have to make room");
        meter.enter(Phase::Answer);
        assert!(!meter.overdue(meter.since.get() + WRITE_TIME_MAX * 100));
        assert!(meter.waiting_since().is_none());
        meter.enter(Phase::Write);
        assert!(meter.waiting_since().is_none());
    }

    #[test]
    fn an_answer_in_pieces_may_flow_for_ever_but_not_stick() {
        let (meter, flows, sticks) = (Meter::new(), Poll::Ready(()), Poll::<()>::Pending);
        meter.enter(Phase::Stream);
        meter.wrote(&flows);
        assert!(!meter.overdue(Instant::now() + WRITE_TIME_MAX * 100));
        assert!(meter.waiting_since().is_none(), "a viewer makes no room for others");
        meter.wrote(&sticks);
        let stuck_at = meter.since.get();
        meter.wrote(&sticks);
        assert_eq!(meter.since.get(), stuck_at, "counted from the first refusal");
        assert!(meter.overdue(stuck_at + WRITE_TIME_MAX + SWEEP_EVERY));
        meter.wrote(&flows);
        assert!(!meter.overdue(stuck_at + WRITE_TIME_MAX * 100));
    }
}
