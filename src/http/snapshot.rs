//! The last picture as JPEG: encoded off the server's thread, one at a time, and kept for whoever asks next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::body::Bytes;
use smol::future;
use smol::lock::Mutex;

use super::reply::{Answer, detail};
use crate::sink;

/// Youngest picture that is encoded anew: ten a second at most, however many clients ask, because encoding takes the
/// processor from the loop (about 10 ms for a megapixel on a Raspberry Pi 5).
pub const PICTURE_AGE_MIN: Duration = Duration::from_millis(100);
/// Longest a client waits for a picture; an encoder that takes longer is in trouble, and the client should hear so.
pub const ENCODE_TIME_MAX: Duration = Duration::from_secs(2);

/// Whoever has the last annotated frame.
pub trait Snapshot: Send + Sync {
    /// Number of the newest picture, `None` while there is none. Called on the server's thread: it must not wait.
    fn newest(&self) -> Option<u64>;

    /// The newest picture as JPEG. Called on a helper thread, never twice at once; may take its time encoding.
    fn jpeg(&self) -> Option<Bytes>;
}

impl Snapshot for sink::Snapshot {
    fn newest(&self) -> Option<u64> {
        sink::Snapshot::newest(self)
    }

    fn jpeg(&self) -> Option<Bytes> {
        sink::Snapshot::jpeg(self).map(Bytes::from)
    }
}

/// Why there is no picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPicture {
    NotYet,
    Late,
    Broken,
}

impl NoPicture {
    /// What a client who wants one is told.
    pub(super) fn answer(self) -> Answer {
        let why = match self {
            Self::NotYet => r#"{"message":"no picture yet: no frame has been inferred"}"#,
            Self::Late => r#"{"message":"no picture: the encoder takes too long"}"#,
            Self::Broken => r#"{"message":"no picture: the encoder failed"}"#,
        };
        detail(StatusCode::SERVICE_UNAVAILABLE, why)
    }
}

/// A picture that was encoded.
#[derive(Clone)]
pub(super) struct Picture {
    /// At least the frame's; the picture may be of one that came while it was encoded.
    pub number: u64,
    encoded_at: Instant,
    pub jpeg: Bytes,
}

/// The encoder with a memory of one picture.
pub(super) struct Pictures {
    snapshot: Arc<dyn Snapshot>,
    /// Held while encoding, also past the patience of the client who asked, so that encodings never overlap.
    last: Arc<Mutex<Option<Picture>>>,
}

impl Pictures {
    pub(super) fn new(snapshot: Arc<dyn Snapshot>) -> Self {
        Self { snapshot, last: Arc::default() }
    }

    /// Number of the newest picture, encoded or not; `None` while there is none.
    pub(super) fn number(&self) -> Option<u64> {
        self.snapshot.newest()
    }

    /// The newest picture, or one that is younger than [`PICTURE_AGE_MIN`].
    pub(super) async fn newest(&self) -> Result<Picture, NoPicture> {
        let late = async {
            smol::Timer::after(ENCODE_TIME_MAX).await;
            Err(NoPicture::Late)
        };
        future::or(self.encode(), late).await
    }

    async fn encode(&self) -> Result<Picture, NoPicture> {
        let mut last = self.last.lock_arc().await;
        // Asked before encoding: if a newer one comes meanwhile, the next client sees that ours is old.
        let number = self.snapshot.newest().ok_or(NoPicture::NotYet)?;
        if let Some(picture) = last.as_ref()
            && (picture.number == number || picture.encoded_at.elapsed() < PICTURE_AGE_MIN)
        {
            return Ok(picture.clone());
        }
        let snapshot = self.snapshot.clone();
        let encode = move || {
            // A defect in drawing or encoding must not end the status port.
            let jpeg = catch_unwind(AssertUnwindSafe(|| snapshot.jpeg())).map_err(|_| NoPicture::Broken)?;
            let jpeg = jpeg.ok_or(NoPicture::NotYet)?;
            Ok(last.insert(Picture { number, encoded_at: Instant::now(), jpeg }).clone())
        };
        smol::unblock(encode).await
    }
}
