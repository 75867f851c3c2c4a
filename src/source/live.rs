//! A live stream of a network peer: a thread that connects, reads and decodes, and the loop that takes its newest
//! picture.
//!
//! The thread decodes every picture, because later ones refer to earlier ones; it never waits for the loop. Two pictures
//! go back and forth: one that is being filled, and the newest that is whole. A thread lives as long as its connection:
//! whatever a peer left behind ends with it.
//!
//! May not know: protocols.

use std::convert::Infallible;
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use smol::channel::{Receiver, Sender, bounded};

use super::{Error, Next, Source};
use crate::frame::{self, Frame};
use crate::log;
use crate::thread::wait_for_end;

/// How long a connection may take, name look-up and all.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a peer may be silent before it is lost: the slowest camera worth watching gives a picture a second.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How long a peer may take over the goodbye. A thread that is to end is waited for a little longer than that.
pub const GOODBYE_TIME_MAX: Duration = Duration::from_secs(1);
const END_TIME_MAX: Duration = Duration::from_millis(1500);
/// Longest wait for a picture before the loop may look whether it should stop.
const WAIT: Duration = Duration::from_secs(1);

/// The other end of a stream, which comes and goes.
pub trait Peer: Debug + Send + Sync + 'static {
    /// What its threads are called.
    fn thread_name(&self) -> &'static str;

    /// Connects, hands over pictures until the stream ends or [`Feed::stopped`], and returns why it ended.
    fn stream(&self, feed: &mut Feed) -> String;
}

/// A peer as a source.
#[derive(Debug)]
pub struct LiveStream {
    uri: String,
    peer: Arc<dyn Peer>,
    worker: Result<Worker, String>,
    /// Number of the first picture of this connection.
    first_id: u64,
    /// Number of the next.
    next_id: u64,
    /// What was last said of a loss.
    told: String,
}

impl LiveStream {
    /// Starts the first attempt to connect, and waits for nothing. `uri` is what may be shown.
    pub fn start(uri: &str, peer: impl Peer) -> Self {
        let peer: Arc<dyn Peer> = Arc::new(peer);
        let worker = Worker::start(uri, &peer);
        Self { uri: uri.into(), peer, worker, first_id: 0, next_id: 0, told: String::new() }
    }
}

impl Source for LiveStream {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn live(&self) -> bool {
        true
    }

    fn next(&mut self, frame: &mut Frame, origin: &mut String) -> Result<Next, Error> {
        if origin != &self.uri {
            origin.clone_from(&self.uri);
        }
        let taken = match &self.worker {
            Ok(worker) => worker.newest.take(frame),
            Err(why) => Taken::Ended(why.clone()),
        };
        let decoded = match taken {
            Taken::Picture(decoded) => decoded,
            Taken::Nothing => return Ok(Next::Nothing),
            Taken::Ended(why) => {
                let why = format!("{}: {why}", self.uri);
                if why != self.told {
                    log::say(&why);
                    self.told.clone_from(&why);
                }
                return Err(Error::Lost(why));
            }
        };
        frame.id += self.first_id;
        self.next_id = frame.id + 1;
        self.told.clear();
        decoded.map(|()| Next::Frame).map_err(|cause| Error::Frame { path: PathBuf::from(&self.uri), cause })
    }

    fn reopen(&mut self) -> Result<(), Error> {
        self.first_id = self.next_id;
        // The old thread lets go of the peer before the new one comes.
        self.worker = Err("being opened again".into());
        self.worker = Worker::start(&self.uri, &self.peer);
        Ok(())
    }
}

/// The thread of one connection; dropping it ends the thread.
#[derive(Debug)]
struct Worker {
    newest: Arc<Newest>,
    /// Closed to say that the thread is to end.
    stop: Sender<Infallible>,
    thread: JoinHandle<()>,
}

impl Worker {
    fn start(uri: &str, peer: &Arc<dyn Peer>) -> Result<Self, String> {
        let newest = Arc::new(Newest::default());
        let (stop, stopped) = bounded(1);
        let mut feed =
            Feed { uri: uri.into(), newest: Arc::clone(&newest), filling: Frame::empty(), count: 0, stopped };
        let (name, peer) = (peer.thread_name(), Arc::clone(peer));
        let work = move || {
            let streamed = std::panic::catch_unwind(AssertUnwindSafe(|| peer.stream(&mut feed)));
            feed.newest.end(streamed.unwrap_or_else(|_| "its thread died of an internal error".into()));
        };
        let thread = crate::thread::spawn(name, work);
        let thread = thread.map_err(|error| format!("no thread for it: {error}"))?;
        Ok(Self { newest, stop, thread })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.close();
        wait_for_end(&self.thread, END_TIME_MAX);
    }
}

/// What a peer's thread gives its pictures to.
#[derive(Debug)]
pub struct Feed {
    uri: String,
    newest: Arc<Newest>,
    filling: Frame,
    count: u64,
    stopped: Receiver<Infallible>,
}

impl Feed {
    /// Resolves when the thread is to end.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let stopped = self.stopped.clone();
        async move {
            let _ = stopped.recv().await;
        }
    }

    /// The frame to decode the next picture into.
    pub fn filling(&mut self) -> &mut Frame {
        &mut self.filling
    }

    /// Hands over the picture that was decoded, or why it could not be. `captured_at`: when it had come.
    pub fn hand_over(&mut self, decoded: Result<(), frame::Error>, captured_at: Instant) {
        self.filling.id = self.count;
        self.filling.captured_at = captured_at;
        self.count += 1;
        self.newest.give(&mut self.filling, decoded);
    }

    /// A line for people: what was agreed on with the peer.
    pub fn say(&self, line: &str) {
        log::say(&format!("{}: {line}", self.uri));
    }
}

/// The newest picture of a connection.
#[derive(Debug, Default)]
struct Newest {
    place: Mutex<Place>,
    changed: Condvar,
}

#[derive(Debug)]
struct Place {
    frame: Frame,
    /// How the frame was decoded, until it is taken.
    decoded: Option<Result<(), frame::Error>>,
    /// Why there will be no more.
    ended: Option<String>,
}

impl Default for Place {
    fn default() -> Self {
        Self { frame: Frame::empty(), decoded: None, ended: None }
    }
}

/// What was there to take.
enum Taken {
    Picture(Result<(), frame::Error>),
    Nothing,
    Ended(String),
}

impl Newest {
    /// Puts a picture in the place of the one before, taken or not, and gives back the other frame.
    fn give(&self, frame: &mut Frame, decoded: Result<(), frame::Error>) {
        let mut place = self.lock();
        std::mem::swap(&mut place.frame, frame);
        place.decoded = Some(decoded);
        self.changed.notify_one();
    }

    fn end(&self, why: String) {
        self.lock().ended = Some(why);
        self.changed.notify_one();
    }

    /// Exchanges `frame` for the newest picture, and waits for one at most [`WAIT`].
    fn take(&self, frame: &mut Frame) -> Taken {
        let waiting = |place: &mut Place| place.decoded.is_none() && place.ended.is_none();
        let waited = self.changed.wait_timeout_while(self.lock(), WAIT, waiting);
        let mut place = waited.unwrap_or_else(PoisonError::into_inner).0;
        if let Some(decoded) = place.decoded.take() {
            place.frame.source_id = frame.source_id;
            std::mem::swap(&mut place.frame, frame);
            return Taken::Picture(decoded);
        }
        place.ended.clone().map_or(Taken::Nothing, Taken::Ended)
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives as many pictures as it is told to, each a pixel wider than the last, then waits or ends.
    #[derive(Debug)]
    struct Camera {
        pictures: usize,
        stays: bool,
    }

    impl Peer for Camera {
        fn thread_name(&self) -> &'static str {
            "camera"
        }

        fn stream(&self, feed: &mut Feed) -> String {
            for width in 1..=self.pictures {
                feed.filling().reshape(width, 1);
                feed.hand_over(Ok(()), Instant::now());
            }
            if self.stays {
                smol::block_on(feed.stopped());
            }
            "unplugged".into()
        }
    }

    /// The next answer that is not `Nothing`.
    fn next(source: &mut LiveStream, frame: &mut Frame) -> Result<Next, Error> {
        loop {
            match source.next(frame, &mut String::new()) {
                Ok(Next::Nothing | Next::Idle) => {}
                answer => return answer,
            }
        }
    }

    #[test]
    fn the_newest_picture_is_taken_and_missed_ones_leave_a_gap() {
        let mut source = LiveStream::start("camera:", Camera { pictures: 5, stays: false });
        while !source.worker.as_ref().unwrap().thread.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut frame = Frame::empty();
        frame.source_id = 7;
        assert_eq!(next(&mut source, &mut frame).unwrap(), Next::Frame);
        assert_eq!((frame.id, frame.width(), frame.source_id), (4, 5, 7));
        let lost = next(&mut source, &mut frame).unwrap_err().to_string();
        assert_eq!(lost, "lost: camera:: unplugged");
        // The next connection counts on.
        source.reopen().unwrap();
        assert_eq!(next(&mut source, &mut frame).unwrap(), Next::Frame);
        assert!((5..10).contains(&frame.id), "{}", frame.id);
    }

    #[test]
    fn a_thread_ends_with_its_source_and_nothing_is_no_loss() {
        let mut source = LiveStream::start("camera:", Camera { pictures: 0, stays: true });
        assert_eq!(source.next(&mut Frame::empty(), &mut String::new()).unwrap(), Next::Nothing);
        let newest = Arc::downgrade(&source.worker.as_ref().unwrap().newest);
        drop(source);
        assert!(newest.upgrade().is_none(), "the thread is still there");
    }

    #[test]
    fn a_bug_in_a_thread_is_a_loss() {
        #[derive(Debug)]
        struct Broken;
        impl Peer for Broken {
            fn thread_name(&self) -> &'static str {
                "broken"
            }
            fn stream(&self, _: &mut Feed) -> String {
                panic!("a bug")
            }
        }
        let lost = next(&mut LiveStream::start("x:", Broken), &mut Frame::empty()).unwrap_err().to_string();
        assert!(lost.contains("internal error"), "{lost}");
    }
}
