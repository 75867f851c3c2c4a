//! The body of an answer: whole in memory, or pieces that come while somebody looks.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use smol::stream::Stream;

/// What is sent after the head of an answer.
pub(super) enum Payload {
    /// All of it; empty once sent.
    Whole(Bytes),
    /// Pieces until there are no more. Each is asked for when the client has taken those before it.
    Pieces(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl Payload {
    /// Of any stream: a channel's receiver, or one that makes its pieces when asked.
    pub(super) fn pieces(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self::Pieces(Box::pin(pieces))
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Self::Pieces(_) => f.write_str("Pieces"),
        }
    }
}

impl<T: Into<Bytes>> From<T> for Payload {
    fn from(bytes: T) -> Self {
        Self::Whole(bytes.into())
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => None,
            Self::Whole(bytes) => Some(std::mem::take(bytes)),
            Self::Pieces(pieces) => ready!(pieces.as_mut().poll_next(cx)),
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn a_whole_body_states_its_length_and_comes_in_one_piece() {
        let body = Payload::from("abc");
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(smol::block_on(body.collect()).unwrap().to_bytes(), "abc");
        assert!(Payload::from("").is_end_stream());
    }

    #[test]
    fn pieces_come_until_the_sender_has_gone() {
        let (sender, receiver) = smol::channel::bounded(2);
        sender.try_send(Bytes::from_static(b"a")).unwrap();
        sender.try_send(Bytes::from_static(b"b")).unwrap();
        drop(sender);
        let body = Payload::pieces(receiver);
        assert_eq!(body.size_hint().exact(), None);
        assert_eq!(smol::block_on(body.collect()).unwrap().to_bytes(), "ab");
    }
}
