//! Reads the bodies of requests into memory, within bounds: of one body, of all bodies together, and of time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes};
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use smol::{Timer, future};

use super::fault::Fault;
use crate::http::reply::Answer;

/// Bytes of one body: 64 pictures of half a megabyte each, in base64, or one that is as large as the decoder takes.
pub const REQUEST_BYTES_MAX: usize = 48 << 20;
/// Bytes of all bodies that are being read or wait for their turn: two of the largest, or some hundred usual ones; with
/// what is decoded from them still a part of the smallest board's memory.
pub const REQUESTS_BYTES_MAX: usize = 96 << 20;
/// From here on a body must have come at [`BYTES_PER_SECOND_MIN`]; ample for a radio link that starts slowly.
const GRACE: Duration = Duration::from_secs(5);
/// A picture of 130 kB over the worst link that anybody infers over takes 3 s.
const BYTES_PER_SECOND_MIN: u32 = 50_000;
/// What memory is first taken for a body: a usual one fits, and 256 connections that declare much and send nothing stay
/// within the bound.
const FIRST_BYTES: usize = 256 << 10;

/// The memory that bodies have taken.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    taken: Arc<AtomicUsize>,
}

/// A whole body, whose memory counts until it is dropped.
#[derive(Debug)]
pub(super) struct Whole {
    pub bytes: Bytes,
    _share: Share,
}

#[cfg(test)]
impl Whole {
    /// A body that counts nowhere.
    pub(super) fn of(bytes: Bytes) -> Self {
        Self { bytes, _share: Share { taken: Arc::default(), bytes: 0 } }
    }
}

/// A part of the memory for all bodies.
#[derive(Debug)]
struct Share {
    taken: Arc<AtomicUsize>,
    bytes: usize,
}

impl Share {
    /// Takes more, up to `bytes` altogether; whether there was as much.
    fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let fits = |taken: usize| Some(taken + more).filter(|sum| *sum <= REQUESTS_BYTES_MAX);
        let grown = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if grown {
            self.bytes += more;
        }
        grown
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    TooLarge,
    /// Other bodies have the memory.
    NoRoom,
    TooSlow,
    /// It does not come as its head says.
    Broken,
}

impl Unread {
    /// The answer, after which the connection ends: what is left of the body is nobody's.
    pub(super) fn into_answer(self) -> Answer {
        let fault = match self {
            Self::TooLarge => {
                let words = format!("Request body too large: at most {REQUEST_BYTES_MAX} bytes are read.");
                Fault::told(StatusCode::PAYLOAD_TOO_LARGE, words)
            }
            Self::NoRoom => Fault::busy("the requests in hand have all the memory that there is for them")
                .with_status(StatusCode::INSUFFICIENT_STORAGE),
            Self::TooSlow => {
                let words = format!("Request body too slow: expected at least {BYTES_PER_SECOND_MIN} bytes a second.");
                Fault::told(StatusCode::REQUEST_TIMEOUT, words)
            }
            Self::Broken => Fault::told(StatusCode::BAD_REQUEST, "Request body ends early or is malformed."),
        };
        let mut answer = fault.into_answer();
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        answer
    }
}

/// Says when a body is too late.
struct Pace {
    started: Instant,
    timer: Timer,
}

impl Pace {
    fn new() -> Self {
        Self { started: Instant::now(), timer: Timer::never() }
    }

    /// The next piece of a body, after `received` bytes of it.
    async fn next<B: Body<Data = Bytes> + Unpin>(
        &mut self,
        body: &mut B,
        received: usize,
    ) -> Result<Option<Bytes>, Unread> {
        let earned = Duration::from_secs(u64::try_from(received).unwrap_or(u64::MAX)) / BYTES_PER_SECOND_MIN;
        self.timer.set_at(self.started + GRACE + earned);
        loop {
            let late = async {
                (&mut self.timer).await;
                Err(Unread::TooSlow)
            };
            match future::or(async { Ok(body.frame().await) }, late).await? {
                None => return Ok(None),
                Some(Err(_)) => return Err(Unread::Broken),
                // Trailers mean nothing here.
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
            }
        }
    }
}

impl Bodies {
    /// Reads a whole body, be its length declared or not.
    pub(super) async fn read<B>(&self, headers: &HeaderMap, mut body: B) -> Result<Whole, Unread>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let declared = declared(headers, &body)?;
        let mut share = Share { taken: self.taken.clone(), bytes: 0 };
        let mut bytes = Vec::new();
        let mut pace = Pace::new();
        while let Some(piece) = pace.next(&mut body, bytes.len()).await? {
            let needed = bytes.len() + piece.len();
            if needed > REQUEST_BYTES_MAX {
                return Err(Unread::TooLarge);
            }
            if needed > bytes.capacity() {
                // Twice as much each time, but never more than was declared.
                let wanted = (2 * bytes.capacity()).max(FIRST_BYTES).min(declared.unwrap_or(REQUEST_BYTES_MAX));
                let wanted = wanted.max(needed);
                if !share.grow(wanted) {
                    return Err(Unread::NoRoom);
                }
                bytes.reserve_exact(wanted - bytes.len());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Whole { bytes: bytes.into(), _share: share })
    }

    /// Reads a body that nobody wants, so that the client hears the answer and the connection can go on.
    pub(super) async fn skip<B>(headers: &HeaderMap, mut body: B) -> Result<(), Unread>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        declared(headers, &body)?;
        let (mut pace, mut received) = (Pace::new(), 0);
        while let Some(piece) = pace.next(&mut body, received).await? {
            received += piece.len();
            if received > REQUEST_BYTES_MAX {
                return Err(Unread::TooLarge);
            }
        }
        Ok(())
    }
}

/// How long a body says that it is; too long is refused before it is sent.
fn declared(headers: &HeaderMap, body: &impl Body) -> Result<Option<usize>, Unread> {
    // hyper has checked the header against the other rules of framing.
    let stated = headers.get(header::CONTENT_LENGTH).is_some().then(|| body.size_hint().exact()).flatten();
    match stated.map(usize::try_from) {
        None => Ok(None),
        Some(Ok(bytes)) if bytes <= REQUEST_BYTES_MAX => Ok(Some(bytes)),
        Some(_) => Err(Unread::TooLarge),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;
    use smol::stream;

    use super::*;

    fn length(bytes: usize) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from(bytes))])
    }

    fn read(bodies: &Bodies, headers: &HeaderMap, body: impl Body<Data = Bytes> + Unpin) -> Result<Whole, Unread> {
        smol::block_on(bodies.read(headers, body))
    }

    /// A body in pieces of `piece` bytes.
    fn pieces(piece: usize, count: usize) -> impl Body<Data = Bytes> + Unpin {
        let piece = Bytes::from(vec![7; piece]);
        StreamBody::new(stream::iter(
            (0..count).map(move |_| Ok::<_, std::convert::Infallible>(Frame::data(piece.clone()))),
        ))
    }

    #[test]
    fn bodies_are_read_whole_and_their_memory_is_given_back() {
        let bodies = Bodies::default();
        let body = read(&bodies, &length(5), Full::from("hello")).unwrap();
        assert_eq!((&*body.bytes, bodies.taken.load(Ordering::Relaxed)), (&b"hello"[..], 5));
        let chunked = read(&bodies, &HeaderMap::new(), pieces(100_000, 7)).unwrap();
        assert_eq!(chunked.bytes.len(), 700_000);
        assert!(bodies.taken.load(Ordering::Relaxed) >= 700_000);
        drop((body, chunked));
        assert_eq!(bodies.taken.load(Ordering::Relaxed), 0);
        assert!(read(&bodies, &HeaderMap::new(), Full::from("")).unwrap().bytes.is_empty());
    }

    #[test]
    fn a_body_that_is_too_large_is_refused_also_without_a_length() {
        let bodies = Bodies::default();
        let piece = 1 << 20;
        let refused = read(&bodies, &HeaderMap::new(), pieces(piece, REQUEST_BYTES_MAX / piece + 1)).unwrap_err();
        assert_eq!((refused, bodies.taken.load(Ordering::Relaxed)), (Unread::TooLarge, 0));
        let large = Full::from(vec![0; REQUEST_BYTES_MAX + 1]);
        assert_eq!(read(&bodies, &length(REQUEST_BYTES_MAX + 1), large).unwrap_err(), Unread::TooLarge);
        let skipped = smol::block_on(Bodies::skip(&HeaderMap::new(), pieces(piece, REQUEST_BYTES_MAX / piece + 1)));
        assert_eq!(skipped, Err(Unread::TooLarge));
    }

    #[test]
    fn all_bodies_together_have_a_bound() {
        let bodies = Bodies::default();
        let large = || read(&bodies, &length(REQUEST_BYTES_MAX), Full::from(vec![0; REQUEST_BYTES_MAX]));
        let held = [large().unwrap(), large().unwrap()];
        assert_eq!(read(&bodies, &length(1), Full::from("x")).unwrap_err(), Unread::NoRoom);
        let answer = Unread::NoRoom.into_answer();
        assert_eq!((answer.status().as_u16(), answer.headers()["connection"].to_str()), (507, Ok("close")));
        drop(held);
        assert!(read(&bodies, &length(1), Full::from("x")).is_ok());
    }

    #[test]
    fn a_body_that_stops_coming_is_given_up() {
        let stuck = StreamBody::new(stream::pending::<Result<Frame<Bytes>, std::convert::Infallible>>());
        let mut pace = Pace { started: Instant::now().checked_sub(GRACE).unwrap(), timer: Timer::never() };
        let mut stuck = Box::pin(stuck);
        assert_eq!(smol::block_on(pace.next(&mut stuck, 1)), Err(Unread::TooSlow));
    }

    #[test]
    fn a_body_that_breaks_off_is_no_body() {
        let broken = stream::iter([Ok(Frame::data(Bytes::from_static(b"a"))), Err(std::io::Error::other("gone"))]);
        assert_eq!(read(&Bodies::default(), &HeaderMap::new(), StreamBody::new(broken)).unwrap_err(), Unread::Broken);
    }
}
