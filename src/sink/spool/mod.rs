//! The spool: the newest answers, kept over power cuts in a ring of segment files.
//!
//! The delivering thread only copies a line into a bounded queue; a writer of its own commits what waits there, and
//! tries again for ever when the disk is missing, full or failing. Meanwhile the newest records are kept in memory, the
//! oldest give way and are counted, and every delivery says what is wrong.
//! May not know: what the status document looks like, or where the data partition comes from.

#[cfg(test)]
pub(super) mod cut;
pub(super) mod queue;
pub mod reader;
pub(super) mod ring;
pub(super) mod segment;
#[cfg(test)]
pub(super) mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::line::Lines;
use super::{Error, Outcome, Sink};
use crate::config::{OutputConfig, seconds};
use crate::durable::{Disk, RealDisk};
use crate::model::Labels;
use crate::thread::wait_for_end;
use queue::Queue;
use ring::{Place, Ring};
use segment::RECORDS_BYTES_MAX;

/// First and longest pause before another try: soon for a partition that is being mounted, and often enough for one
/// that somebody makes room on.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// A card that tidies up answers within seconds; one that takes longer is in trouble.
const BUSY_MAX: Duration = Duration::from_secs(10);
/// How long the end waits for the last commit; less than the loop allows for its own end.
const STOP_MAX: Duration = Duration::from_secs(3);

/// What the spool has done, for the status document.
#[derive(Debug, Default)]
pub struct SpoolGauge {
    committed: AtomicU64,
    last: AtomicU64,
    dropped: AtomicU64,
}

impl SpoolGauge {
    /// Records that this process has committed.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed.load(Relaxed)
    }

    /// Number of the last record that is safe, whoever wrote it; 0 for none, or before the directory was read.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last.load(Relaxed)
    }

    /// Records that gave way before they could be written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

/// The sink. Its end commits what waits, within a bound.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    lines: Lines,
    line: Vec<u8>,
    /// Between two records.
    period: Duration,
    /// When the next outcome is recorded.
    due_at: Instant,
    shared: Arc<Shared>,
    writer: JoinHandle<()>,
}

/// What the delivering thread and the writer share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    gauge: Arc<SpoolGauge>,
}

/// Only ever locked for as long as it takes to copy a batch.
#[derive(Debug)]
struct State {
    queue: Queue,
    stop: bool,
    /// What is wrong, for whoever delivers.
    trouble: Option<String>,
    /// Since when the writer has been working.
    busy_since: Option<Instant>,
}

impl Spool {
    /// Starts the writer. The directory need not be there yet.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(dir: &Path, config: &OutputConfig, boot_id: String, labels: Arc<Labels>) -> Result<Self, Error> {
        Self::start_on(Box::new(RealDisk), dir, config, boot_id, Lines { labels })
    }

    fn start_on(
        disk: Box<dyn Disk + Send>,
        dir: &Path,
        config: &OutputConfig,
        boot_id: String,
        lines: Lines,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { queue: Queue::new(), stop: false, trouble: None, busy_since: None }),
            changed: Condvar::new(),
            gauge: Arc::default(),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            disk,
            place: Place { dir: dir.into(), bytes_max: config.spool_mb * 1_000_000, boot_id },
            interval: seconds(config.spool_interval_s),
        };
        let writer = crate::thread::spawn("spool", move || writer.run())
            .map_err(|cause| Error::Spool(format!("{}: no thread: {cause}", dir.display())))?;
        let period = Duration::from_secs_f64(config.spool_per_s.recip());
        Ok(Self { dir: dir.into(), lines, line: Vec::new(), period, due_at: Instant::now(), shared, writer })
    }

    /// Its figures, for as long as anybody wants them.
    #[must_use]
    pub fn counters(&self) -> Arc<SpoolGauge> {
        Arc::clone(&self.shared.gauge)
    }
}

impl Sink for Spool {
    fn name(&self) -> &'static str {
        "spool"
    }

    fn deliver(&mut self, outcome: &Outcome<'_>) -> Result<(), Error> {
        let now = Instant::now();
        let trouble = |what: &str| Err(Error::Spool(format!("{}: {what}", self.dir.display())));
        let recorded = now >= self.due_at;
        if recorded {
            self.due_at = now + self.period;
            self.lines.render(outcome, &mut self.line);
            if self.line.len() > RECORDS_BYTES_MAX {
                self.shared.gauge.dropped.fetch_add(1, Relaxed);
                return trouble(&format!(
                    "a record of {} bytes; at most {RECORDS_BYTES_MAX} are kept",
                    self.line.len()
                ));
            }
        }
        let mut state = self.shared.lock();
        if recorded {
            let lost = state.queue.push(&self.line, now);
            self.shared.changed.notify_all();
            if lost > 0 {
                self.shared.gauge.dropped.fetch_add(lost, Relaxed);
                state.trouble.get_or_insert_with(|| {
                    format!("{}: the disk does not keep up; the oldest records are dropped", self.dir.display())
                });
            }
        }
        if self.writer.is_finished() {
            return trouble("its writer died of an internal error");
        }
        if state.busy_since.is_some_and(|since| now.saturating_duration_since(since) > BUSY_MAX) {
            return trouble(&format!("the disk has not answered for more than {} s", BUSY_MAX.as_secs()));
        }
        state.trouble.clone().map_or(Ok(()), |what| Err(Error::Spool(what)))
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        wait_for_end(&self.writer, STOP_MAX);
    }
}

impl Shared {
    /// A thread that panicked while holding the lock left the state whole enough: at worst a batch is written twice.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is time to commit or to stop.
    fn wait_until_due(&self, interval: Duration) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if state.stop || state.queue.due(now, interval) {
                return;
            }
            // With nothing waiting a push or the end wakes; a minute only bounds the wait.
            let wait = state.queue.due_in(now, interval).unwrap_or(Duration::from_secs(60));
            (state, _) = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for `pause`, or until it is time to stop.
    fn wait_for_stop(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        while !state.stop && Instant::now() < until {
            let wait = until.saturating_duration_since(Instant::now());
            (state, _) = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The thread that writes.
struct Writer {
    shared: Arc<Shared>,
    disk: Box<dyn Disk + Send>,
    place: Place,
    interval: Duration,
}

impl Writer {
    fn run(self) {
        let (mut ring, mut batch, mut pause) = (None, Vec::with_capacity(RECORDS_BYTES_MAX), RETRY_FIRST);
        loop {
            let stopping = {
                let mut state = self.shared.lock();
                state.busy_since = Some(Instant::now());
                state.stop
            };
            let worked = self.work(&mut ring, &mut batch, stopping);
            let mut state = self.shared.lock();
            state.busy_since = None;
            if let Err(error) = &worked {
                let lost = state.queue.failed();
                self.shared.gauge.dropped.fetch_add(lost, Relaxed);
                state.trouble = Some(error.to_string());
            }
            drop(state);
            if stopping {
                return;
            }
            if worked.is_ok() {
                pause = RETRY_FIRST;
                self.shared.wait_until_due(self.interval);
            } else {
                self.shared.wait_for_stop(pause);
                pause = (pause * 2).min(RETRY_LONGEST);
            }
        }
    }

    /// Commits whatever is due, and at the end whatever waits.
    fn work<'a>(&'a self, ring: &mut Option<Ring<'a>>, batch: &mut Vec<u8>, all: bool) -> Result<(), ring::Error> {
        if !ring.as_ref().is_some_and(Ring::in_place) {
            // First, or its lock would stand in the way.
            *ring = None;
            let opened = Ring::open(&*self.disk, &self.place)?;
            self.shared.gauge.last.store(opened.last(), Relaxed);
            self.shared.lock().trouble = opened.damage().map(str::to_owned);
            *ring = Some(opened);
        }
        let ring = ring.as_mut().expect("opened above");
        while let Some(count) = self.take(batch, all) {
            ring.commit(batch, count)?;
            self.shared.gauge.committed.fetch_add(count, Relaxed);
            self.shared.gauge.last.store(ring.last(), Relaxed);
            let mut state = self.shared.lock();
            state.queue.committed();
            if state.queue.short() {
                state.trouble = None;
            }
            drop(state);
            ring.prune()?;
        }
        Ok(())
    }

    /// A copy of the oldest records, if it is time to commit them.
    fn take(&self, batch: &mut Vec<u8>, all: bool) -> Option<u64> {
        let mut state = self.shared.lock();
        let now = Instant::now();
        let due = state.queue.due(now, self.interval) || (all && !state.queue.is_empty());
        due.then(|| state.queue.copy_batch(batch, now))
    }
}
