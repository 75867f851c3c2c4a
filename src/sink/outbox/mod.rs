//! The outbox: records that wait for a peer on the network, numbered, in order, each delivered at least once.
//!
//! The delivering thread only copies a line into a bounded queue. A writer commits what waits there to a directory on
//! the data partition, within a bound; a sender hands what is committed to the peer and remembers what it has. So a
//! record that was committed outlives a power cut, and is sent again under the same number if the cut came before that
//! was remembered. Over its bytes the oldest records give way and are counted.
//!
//! Without a directory, or while it is missing, full or failing, records go from the queue straight to the peer, under
//! numbers of a stream of their own; what has not been sent then is lost with the power.
//! May not know: what the peer speaks.

#[cfg(test)]
mod cut;
mod reader;
mod record;
mod sender;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Gauge;
use super::spool::queue::Queue;
use super::spool::ring::Place;
use crate::durable::{Disk, RealDisk};

pub use record::{Kind, RECORD_BYTES_MAX, Record, Writer as RecordWriter};
pub use sender::{Deliver, Delivered, Refused};

/// A card that tidies up answers within seconds; one that takes longer is in trouble.
const BUSY_MAX: Duration = Duration::from_secs(10);
/// How long a directory that was never there is waited for before records pass it by: a data partition is mounted within
/// seconds, and may hold older records, which come first.
const APPEARS_MAX: Duration = Duration::from_secs(60);
/// How long the end waits for the last commit and the peer; less than the loop allows for its own end.
const STOP_MAX: Duration = Duration::from_secs(2);

/// Where records wait, and how many.
#[derive(Clone, Debug)]
pub struct Settings {
    /// On the data partition; `None`: in memory only.
    pub dir: Option<PathBuf>,
    /// Of all records on the disk, each commit rounded up to blocks.
    pub bytes_max: u64,
    /// Longest time until a record that is not urgent is committed.
    pub interval: Duration,
    /// The boot that writes.
    pub boot_id: String,
}

/// The threads and what they share. Its end commits what waits and gives the peer a moment.
#[derive(Debug)]
pub struct Outbox {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the delivering thread, the writer and the sender share.
#[derive(Debug)]
struct Shared {
    /// `None`: in memory only.
    dir: Option<PathBuf>,
    started: Instant,
    state: Mutex<State>,
    changed: Condvar,
    gauge: Arc<Gauge>,
}

/// Only ever locked for as long as it takes to copy a batch.
#[derive(Debug)]
struct State {
    queue: Queue,
    /// Whether something in the queue is to be committed at once.
    urgent: bool,
    stop: bool,
    /// Whether the writer has committed what it could before the end, and whether the sender has then sent what it could.
    last_commit_done: bool,
    last_sent: bool,
    /// Whether the writer holds a copy of the oldest in the queue.
    writing: bool,
    /// Since when the writer has been working.
    busy_since: Option<Instant>,
    /// What the store holds, once it was opened.
    stored: Option<Stored>,
    /// Why nothing is committed.
    disk_trouble: Option<String>,
    /// What was found damaged, until the next commit.
    damage: Option<String>,
    /// Why nothing is delivered, or what was refused.
    peer_trouble: Option<String>,
}

/// What the reader needs to know of the store.
#[derive(Debug)]
struct Stored {
    stream: Arc<str>,
    /// Numbers of the records of each segment, oldest first.
    segments: VecDeque<RangeInclusive<u64>>,
    /// Number of the last record that need not be sent again.
    acknowledged: u64,
    /// Number of the last record that the reader has taken into memory.
    read: u64,
}

impl Outbox {
    /// Starts the threads, called `name`. The directory need not be there yet, nor the peer.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(name: &str, settings: Settings, peer: Box<dyn Deliver>) -> std::io::Result<Self> {
        Self::start_on(Box::new(RealDisk), name, settings, peer)
    }

    fn start_on(
        disk: Box<dyn Disk + Send>,
        name: &str,
        settings: Settings,
        peer: Box<dyn Deliver>,
    ) -> std::io::Result<Self> {
        let state = State {
            queue: Queue::new(),
            urgent: false,
            stop: false,
            last_commit_done: settings.dir.is_none(),
            last_sent: false,
            writing: false,
            busy_since: None,
            stored: None,
            disk_trouble: None,
            damage: None,
            peer_trouble: None,
        };
        let shared = Arc::new(Shared {
            dir: settings.dir.clone(),
            started: Instant::now(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            gauge: Arc::default(),
        });
        let mut outbox = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        let reader = reader::Reader::new(Arc::clone(&shared));
        outbox.spawn(name, move || sender::run(reader, peer))?;
        if let Some(dir) = settings.dir {
            let place = Place { dir, bytes_max: settings.bytes_max, boot_id: settings.boot_id };
            let writer = writer::Writer { shared, disk, place, interval: settings.interval };
            outbox.spawn(&format!("{name}-spool"), move || writer.run())?;
        }
        Ok(outbox)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(crate::thread::spawn(name, work)?);
        Ok(())
    }

    /// Its figures, for as long as anybody wants them.
    #[must_use]
    pub fn gauge(&self) -> Arc<Gauge> {
        Arc::clone(&self.shared.gauge)
    }

    /// Adds a record, a line with its line feed; `urgent`: to be committed at once. One that is too large is dropped.
    ///
    /// # Errors
    /// In words.
    pub fn push(&self, line: &[u8], urgent: bool) -> Result<(), String> {
        if line.len() > RECORD_BYTES_MAX {
            self.shared.gauge.dropped.fetch_add(1, Relaxed);
            return Err(format!("a record of {} bytes; at most {RECORD_BYTES_MAX} are sent", line.len()));
        }
        self.shared.gauge.waiting.fetch_add(1, Relaxed);
        let mut state = self.shared.lock();
        let lost = state.queue.push(line, Instant::now());
        state.urgent |= urgent;
        drop(state);
        self.shared.drop_records(lost);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// What is wrong, in words.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if self.threads.iter().any(JoinHandle::is_finished) {
            return Some("a thread of it died of an internal error".into());
        }
        let state = self.shared.lock();
        if state.busy_since.is_some_and(|since| since.elapsed() > BUSY_MAX) {
            return Some(format!("the disk has not answered for more than {} s", BUSY_MAX.as_secs()));
        }
        let volatile = |why: &String| format!("what waits is in memory only: {why}");
        let disk_trouble = state.disk_trouble.as_ref().map(volatile);
        state.peer_trouble.clone().or(disk_trouble).or_else(|| state.damage.clone())
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        let deadline = Instant::now() + STOP_MAX;
        while !self.threads.iter().all(JoinHandle::is_finished) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Shared {
    /// A thread that panicked while holding the lock left the state whole enough: at worst a batch is written twice.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, at most so long.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, at_most: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, at_most).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits for `pause`, or until it is time to stop.
    fn wait_for_stop(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        while !state.stop && Instant::now() < until {
            state = self.wait(state, until.saturating_duration_since(Instant::now()));
        }
    }

    /// Counts records that gave way or were refused.
    fn drop_records(&self, count: u64) {
        self.gauge.dropped.fetch_add(count, Relaxed);
        subtract(&self.gauge.waiting, count);
    }

    /// Counts records that the peer has.
    fn deliver_records(&self, count: u64) {
        self.gauge.delivered.fetch_add(count, Relaxed);
        subtract(&self.gauge.waiting, count);
    }

    /// Whether records may go from the queue straight to the peer: nothing that is older can be on the disk.
    fn passes_disk(&self, state: &State) -> bool {
        let appears = state.stored.is_none() && self.started.elapsed() < APPEARS_MAX;
        self.dir.is_none() || (state.disk_trouble.is_some() && !appears)
    }
}

/// A count that is only nearly exact after a directory was replaced does not go below none.
fn subtract(cell: &AtomicU64, count: u64) {
    let _ = cell.fetch_update(Relaxed, Relaxed, |value| Some(value.saturating_sub(count)));
}
