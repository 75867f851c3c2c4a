//! The thread of an outbox that commits: what waits, within its bound; what was acknowledged, now and then.
//!
//! It tries again for ever when the disk is missing, full or failing. May not know: who sends.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::store::Store;
use super::{Shared, State, Stored};
use crate::durable::Disk;
use crate::log;
use crate::sink::spool::ring::{Error, Place};

/// First and longest pause before another try: soon for a partition that is being mounted, and often enough for one
/// that somebody makes room on.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// Least time between two commits: a storm of events makes ten segments a second, not one of each.
const COMMIT_GAP: Duration = Duration::from_millis(100);
/// With nothing due a push or the end wakes; a minute only bounds the wait.
const IDLE: Duration = Duration::from_secs(60);

pub struct Writer {
    pub shared: Arc<Shared>,
    pub disk: Box<dyn Disk + Send>,
    pub place: Place,
    /// Longest time until a record is committed, and shortest between two cursors.
    pub interval: Duration,
}

/// What the writer has in its hands.
struct Work<'a> {
    store: Option<Store<'a>>,
    batch: Vec<u8>,
    committed_at: Instant,
    remembered_at: Instant,
}

impl Writer {
    pub fn run(self) {
        let now = Instant::now();
        let mut work = Work { store: None, batch: Vec::new(), committed_at: now, remembered_at: now };
        let mut pause = RETRY_FIRST;
        loop {
            let stopping = {
                let mut state = self.shared.lock();
                state.busy_since = Some(Instant::now());
                state.stop
            };
            let worked = self.work(&mut work, stopping);
            let mut state = self.shared.lock();
            state.busy_since = None;
            state.disk_trouble = worked.as_ref().err().map(ToString::to_string);
            let lost = if std::mem::take(&mut state.writing) { state.queue.failed() } else { 0 };
            drop(state);
            self.shared.drop_records(lost);
            // Whoever reads may have to pass the disk by from now on.
            self.shared.changed.notify_all();
            if stopping {
                return;
            }
            if worked.is_ok() {
                pause = RETRY_FIRST;
                self.wait_until_due(&work);
            } else {
                self.shared.wait_for_stop(pause);
                pause = (pause * 2).min(RETRY_LONGEST);
            }
        }
    }

    /// Commits whatever is due, and at the end whatever waits; then remembers what was acknowledged.
    fn work<'a>(&'a self, work: &mut Work<'a>, all: bool) -> Result<(), Error> {
        if !work.store.as_ref().is_some_and(Store::in_place) {
            // First, or its lock would stand in the way.
            work.store = None;
            work.store = Some(self.open()?);
        }
        let store = work.store.as_mut().expect("opened above");
        while let Some(count) = self.take(&mut work.batch, work.committed_at, all) {
            let first = store.last() + 1;
            store.commit(&work.batch, count)?;
            work.committed_at = Instant::now();
            let mut state = self.shared.lock();
            state.queue.committed();
            state.writing = false;
            state.damage = None;
            if let Some(stored) = &mut state.stored {
                stored.segments.push_back(first..=store.last());
            }
            drop(state);
            self.shared.changed.notify_all();
            let pruned = store.prune();
            self.forget(store);
            pruned?;
        }
        let state = self.shared.lock();
        let acknowledged = state.stored.as_ref().map_or(0, |stored| stored.acknowledged);
        // In trouble it is written all the same: that shows whether the disk works again.
        let due = acknowledged > store.acknowledged() && (all || work.remembered_at.elapsed() >= self.interval);
        let due = due || state.disk_trouble.is_some();
        drop(state);
        if due {
            work.remembered_at = Instant::now();
            let released = store.acknowledge(acknowledged);
            self.forget(store);
            released?;
        }
        Ok(())
    }

    /// Opens the store and says what it holds.
    fn open(&self) -> Result<Store<'_>, Error> {
        let store = Store::open(&*self.disk, &self.place)?;
        if let Some(damage) = store.damage() {
            log::say(&format!("outbox {damage}"));
        }
        let mut state = self.shared.lock();
        let known = state.stored.take().filter(|stored| *stored.stream == *store.stream());
        let (sent, read) = known.map_or((0, 0), |stored| (stored.acknowledged, stored.read));
        let stored = Stored {
            stream: store.stream().into(),
            segments: store.segments().collect(),
            acknowledged: store.acknowledged().max(sent),
            read,
        };
        let backlog = stored.segments.iter().map(|range| count_after(range, stored.acknowledged)).sum::<u64>();
        self.shared.gauge.waiting.store(backlog + state.queue.len() as u64, Relaxed);
        state.stored = Some(stored);
        state.damage = store.damage().map(str::to_owned);
        Ok(store)
    }

    /// Lets the reader forget the segments that are gone, and counts what nobody will send.
    fn forget(&self, store: &Store<'_>) {
        let oldest = store.segments().next().map_or(u64::MAX, |range| *range.start());
        let mut state = self.shared.lock();
        let Some(stored) = &mut state.stored else { return };
        let mut lost = 0;
        while let Some(gone) = stored.segments.pop_front_if(|range| *range.start() < oldest) {
            lost += count_after(&gone, stored.acknowledged.max(stored.read));
        }
        drop(state);
        self.shared.drop_records(lost);
    }

    /// A copy of the oldest records, if it is time to commit them.
    fn take(&self, batch: &mut Vec<u8>, committed_at: Instant, all: bool) -> Option<u64> {
        let mut state = self.shared.lock();
        let now = Instant::now();
        let due = self.due_in(&state, committed_at, now).is_some_and(|due_in| due_in.is_zero());
        if state.queue.is_empty() || !(due || all) {
            return None;
        }
        state.writing = true;
        state.urgent = false;
        Some(state.queue.copy_batch(batch, now))
    }

    /// How long until it is time to commit; `None` when nothing waits.
    fn due_in(&self, state: &State, committed_at: Instant, now: Instant) -> Option<Duration> {
        let due_in = state.queue.due_in(now, self.interval)?;
        if state.queue.due(now, self.interval) {
            return Some(Duration::ZERO);
        }
        let gap = (committed_at + COMMIT_GAP).saturating_duration_since(now);
        Some(if state.urgent { gap.min(due_in) } else { due_in })
    }

    /// Waits until it is time to commit, to remember or to stop.
    fn wait_until_due(&self, work: &Work<'_>) {
        let mut state = self.shared.lock();
        loop {
            let now = Instant::now();
            let commit_in = self.due_in(&state, work.committed_at, now);
            let acknowledged = state.stored.as_ref().map_or(0, |stored| stored.acknowledged);
            let unknown = work.store.as_ref().is_some_and(|store| acknowledged > store.acknowledged());
            let remember_in = unknown.then(|| (work.remembered_at + self.interval).saturating_duration_since(now));
            let wait = [commit_in, remember_in].into_iter().flatten().min().unwrap_or(IDLE);
            if state.stop || wait.is_zero() {
                return;
            }
            state = self.shared.wait(state, wait);
        }
    }
}

/// How many numbers of a range come after this one.
fn count_after(range: &std::ops::RangeInclusive<u64>, number: u64) -> u64 {
    (range.end() + 1).saturating_sub(number.saturating_add(1).max(*range.start()))
}
