//! The live pictures as one answer that does not end: `multipart/x-mixed-replace`, which browsers show in an `<img>`
//! and video programs open as MJPEG.
//!
//! Nothing runs for a viewer: the connection asks for the next piece when the kernel has taken the last one. So a slow
//! viewer gets fewer pictures, nothing is queued for it, and one that leaves takes everything with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header;
use smol::Timer;
use smol::lock::{Semaphore, SemaphoreGuardArc};
use smol::stream::{self, Stream, StreamExt};

use super::payload::Payload;
use super::reply::{Answer, NO_STORE, detail, with_type};
use super::snapshot::{PICTURE_AGE_MIN, Pictures};

/// Viewers at once. Each holds a connection for as long as it likes; people before one device are fewer than this.
pub const VIEWERS_MAX: usize = 4;
/// Between two pictures of one viewer: there are no younger ones.
const PICTURE_EVERY: Duration = PICTURE_AGE_MIN;
/// While nothing new is seen the last picture is sent again this often, so that a viewer knows that it is still served.
const REPEAT_EVERY: Duration = Duration::from_secs(2);
/// Pause after a picture that could not be had: an encoder in trouble is not asked ten times a second.
const RETRY_AFTER: Duration = Duration::from_secs(1);

const CONTENT_TYPE: &str = "multipart/x-mixed-replace; boundary=firstlight";
/// Sent right after each picture and not before the next one: browsers show a part once they see its end.
const BOUNDARY: &[u8] = b"\r\n--firstlight\r\n";

/// The pictures, and who may still come.
pub(super) struct Live {
    pictures: Arc<Pictures>,
    seats: Arc<Semaphore>,
}

/// One viewer. Dropping it frees its seat.
struct Viewer {
    pictures: Arc<Pictures>,
    _seat: SemaphoreGuardArc,
    /// Number of the last picture sent, and when; `None` before the first.
    last: Option<(u64, Instant)>,
}

impl Live {
    pub(super) fn new(pictures: Arc<Pictures>) -> Self {
        Self { pictures, seats: Arc::new(Semaphore::new(VIEWERS_MAX)) }
    }

    /// The stream, or why there is none. Waits for the encoder once, so that a viewer of nothing hears why.
    pub(super) async fn answer(&self) -> Answer {
        let Some(seat) = self.seats.try_acquire_arc() else {
            let mut full = detail(
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"message":"too many viewers: the live stream has 4 at most; /snapshot.jpg gives single pictures"}"#,
            );
            full.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            return full;
        };
        if let Err(missing) = self.pictures.newest().await {
            return missing.answer();
        }
        let viewer = Viewer { pictures: self.pictures.clone(), _seat: seat, last: None };
        let mut answer = with_type(StatusCode::OK, CONTENT_TYPE, Payload::pieces(viewer.pieces()));
        answer.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
        answer
    }
}

impl Viewer {
    fn pieces(self) -> impl Stream<Item = Bytes> + Send {
        let first = stream::once(Bytes::from_static(&BOUNDARY[2..]));
        let parts = stream::unfold(self, async |mut viewer| Some((viewer.next().await, viewer)));
        first.chain(parts.flat_map(|jpeg| {
            let head = format!("content-type: image/jpeg\r\ncontent-length: {}\r\n\r\n", jpeg.len());
            // Three pieces and no copy: the picture is shared by all viewers.
            stream::iter([head.into(), jpeg, Bytes::from_static(BOUNDARY)])
        }))
    }

    /// The next picture, once it is time for one.
    async fn next(&mut self) -> Bytes {
        while let Some((seen, sent_at)) = self.last {
            Timer::after(PICTURE_EVERY.saturating_sub(sent_at.elapsed())).await;
            if self.pictures.number() != Some(seen) || sent_at.elapsed() >= REPEAT_EVERY {
                break;
            }
            Timer::after(PICTURE_EVERY).await;
        }
        loop {
            match self.pictures.newest().await {
                Ok(picture) => {
                    self.last = Some((picture.number, Instant::now()));
                    return picture.jpeg;
                }
                Err(_) => Timer::after(RETRY_AFTER).await,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use http_body_util::BodyExt;
    use smol::future;

    use super::*;
    use crate::http::snapshot::Snapshot;

    /// A camera that has a new picture whenever it is asked, or stands still.
    #[derive(Default)]
    struct Camera {
        number: AtomicU64,
        still: bool,
    }

    impl Snapshot for Camera {
        fn newest(&self) -> Option<u64> {
            Some(if self.still { 1 } else { self.number.fetch_add(1, SeqCst) })
        }

        fn jpeg(&self) -> Option<Bytes> {
            Some(Bytes::from_static(b"JPEG"))
        }
    }

    fn live(still: bool) -> Live {
        Live::new(Arc::new(Pictures::new(Arc::new(Camera { still, ..Camera::default() }))))
    }

    /// What a viewer receives within `time`.
    fn watch(live: &Live, time: Duration) -> String {
        let mut seen = Vec::new();
        smol::block_on(async {
            let mut body = live.answer().await.into_body();
            let all = async {
                while let Some(Ok(frame)) = body.frame().await {
                    seen.extend(frame.into_data().unwrap());
                }
            };
            let end = async {
                Timer::after(time).await;
            };
            future::or(all, end).await;
        });
        String::from_utf8(seen).unwrap()
    }

    const PART: &str = "content-type: image/jpeg\r\ncontent-length: 4\r\n\r\nJPEG\r\n--firstlight\r\n";

    #[test]
    fn each_picture_is_a_part_that_ends_at_once() {
        let seen = watch(&live(true), PICTURE_EVERY * 3);
        assert_eq!(seen, format!("--firstlight\r\n{PART}"), "and one that was seen is not sent again so soon");
    }

    #[test]
    fn ten_pictures_a_second_at_most() {
        let seen = watch(&live(false), PICTURE_EVERY * 5);
        let parts = seen.matches(PART).count();
        assert!((2..=5).contains(&parts), "{parts} pictures");
    }

    #[test]
    fn a_picture_that_stays_is_sent_again_now_and_then() {
        let seen = watch(&live(true), REPEAT_EVERY + PICTURE_EVERY * 5);
        assert_eq!(seen.matches(PART).count(), 2);
    }

    #[test]
    fn a_seat_is_free_again_when_its_viewer_leaves() {
        let live = live(true);
        smol::block_on(async {
            let mut viewers = Vec::new();
            for _ in 0..VIEWERS_MAX {
                viewers.push(live.answer().await);
            }
            assert!(viewers.iter().all(|viewer| viewer.status() == StatusCode::OK));
            let full = live.answer().await;
            assert_eq!(full.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(full.headers()[header::RETRY_AFTER], "1");
            viewers.pop();
            assert_eq!(live.answer().await.status(), StatusCode::OK);
        });
    }
}
