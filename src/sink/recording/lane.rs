//! A recording's own thread and the queue before it: a fixed number of frames that go round. The loop only copies pixels
//! into a free one, and drops what finds none.
//!
//! May not know: what is kept, or where.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Keeper;
use super::ring::{Home, Place, Ring};
use crate::clock::Stamp;
use crate::frame::Frame;
use crate::model::Predictions;
use crate::priority::{VIEWER_NICE, give_way};
use crate::rules::{Event, Phase};
use crate::sink::{Error, Gauge, Outcome, Sink};
use crate::thread::wait_for_end;

/// Frames that go round: one in hand while two wait. More would only hide a disk that is too slow, and of a large camera
/// each takes 25 MB.
const SHOTS: usize = 3;
/// How often what has lasted long enough is looked for.
const TICK: Duration = Duration::from_secs(1);
/// A card that tidies up answers within seconds; one that takes longer is in trouble.
const BUSY_MAX: Duration = Duration::from_secs(10);
/// How long the end waits for what is open to be closed; less than the loop allows for its own end.
const STOP_MAX: Duration = Duration::from_secs(3);
/// Most events that wait with one shot: a frame in which more begin or end is no scene for rules.
const EVENTS_MAX: usize = 64;

/// One frame with what was seen in it, on its way.
pub struct Shot {
    pub frame: Frame,
    pub predictions: Predictions,
    pub events: Vec<Event>,
    pub stamp: Stamp,
    /// Number of the moment at the rate of the recording, since it was opened.
    pub moment: u64,
}

/// Says of each outcome whether it is to be kept, and its moment. Called for every frame, by the loop.
pub type Wanted = Box<dyn FnMut(&Outcome<'_>) -> Option<u64> + Send>;

/// One frame of each moment and each source; with `events`, also one in which something begins or ends.
pub fn at_rate(fps: u32, events: bool) -> Wanted {
    let opened = Instant::now();
    let mut last: HashMap<u32, u64> = HashMap::new();
    Box::new(move |outcome| {
        let moment = moment(outcome.frame.captured_at.saturating_duration_since(opened), fps);
        let new = last.insert(outcome.frame.source_id, moment).is_none_or(|last| moment > last);
        (new || (events && !outcome.events.is_empty())).then_some(moment)
    })
}

/// Rounded, so that frames at just the rate fall each into a moment of their own.
fn moment(since: Duration, fps: u32) -> u64 {
    u64::try_from((since.as_micros() * u128::from(fps) + 500_000) / 1_000_000).unwrap_or(u64::MAX)
}

/// Whether something begins in a frame.
pub fn begins(events: &[Event]) -> bool {
    events.iter().any(|event| event.phase == Phase::Start)
}

/// The sink. Its end closes what is open, within a bound.
pub struct Lane {
    name: &'static str,
    dir: PathBuf,
    wanted: Wanted,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    gauge: Arc<Gauge>,
}

/// Only ever locked for as long as it takes to move a shot.
struct State {
    free: Vec<Shot>,
    waiting: VecDeque<Shot>,
    stop: bool,
    trouble: Option<String>,
    /// Since when the thread has been working.
    busy_since: Option<Instant>,
}

impl Lane {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives none.
    pub fn start(
        name: &'static str,
        place: Place,
        wanted: Wanted,
        keeper: impl Keeper + 'static,
    ) -> Result<Self, Error> {
        let shot = || {
            let (frame, predictions, events) = (Frame::empty(), Predictions::default(), Vec::new());
            Shot { frame, predictions, events, stamp: Stamp::now(), moment: 0 }
        };
        let free = std::iter::repeat_with(shot).take(SHOTS).collect();
        let state =
            State { free, waiting: VecDeque::with_capacity(SHOTS), stop: false, trouble: None, busy_since: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), gauge: Arc::default() });
        let (theirs, dir) = (Arc::clone(&shared), place.dir.clone());
        let thread = crate::thread::spawn(name, move || {
            give_way(VIEWER_NICE);
            theirs.run(Work { home: Home::new(place), keeper });
        });
        let thread = thread.map_err(|cause| Error::Open { target: name.into(), cause })?;
        Ok(Self { name, dir, wanted, shared, thread })
    }

    fn trouble(&self, why: impl std::fmt::Display) -> Result<(), Error> {
        Err(Error::Trouble { target: self.name.into(), why: format!("{}: {why}", self.dir.display()) })
    }
}

impl Sink for Lane {
    fn name(&self) -> &str {
        self.name
    }

    fn deliver(&mut self, outcome: &Outcome<'_>) -> Result<(), Error> {
        let moment = outcome.result.ok().and_then(|predictions| Some((predictions, (self.wanted)(outcome)?)));
        let mut state = self.shared.lock();
        if let Some((predictions, moment)) = moment {
            if let Some(mut shot) = state.free.pop() {
                // The pixels are copied without the lock.
                drop(state);
                shot.frame.copy_from(outcome.frame);
                shot.predictions.copy_from(predictions);
                shot.events.clear();
                shot.events.extend(outcome.events.iter().take(EVENTS_MAX).cloned());
                (shot.stamp, shot.moment) = (Stamp::now(), moment);
                state = self.shared.lock();
                state.waiting.push_back(shot);
                self.shared.gauge.waiting.store(state.waiting.len() as u64, Relaxed);
                self.shared.changed.notify_all();
            } else {
                self.shared.gauge.dropped.fetch_add(1, Relaxed);
            }
        }
        let (trouble, busy_since) = (state.trouble.clone(), state.busy_since);
        drop(state);
        if self.thread.is_finished() {
            return self.trouble("its thread died of an internal error");
        }
        if busy_since.is_some_and(|since| since.elapsed() > BUSY_MAX) {
            return self.trouble(format_args!("the disk has not answered for more than {} s", BUSY_MAX.as_secs()));
        }
        trouble.map_or(Ok(()), |why| self.trouble(why))
    }

    fn gauge(&self) -> Option<Arc<Gauge>> {
        Some(Arc::clone(&self.shared.gauge))
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        wait_for_end(&self.thread, STOP_MAX);
    }
}

impl Shared {
    /// A thread that panicked while holding the lock left the queues whole enough: at worst a shot is missing.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut work: Work<impl Keeper>) {
        let mut ticked_at = Instant::now();
        self.settle(work.with_ring(|keeper, ring| keeper.tick(ring, ticked_at)), 0);
        loop {
            let (shot, stop) = self.next();
            let mut failed = 0;
            if let Some(mut shot) = shot {
                let kept = work.with_ring(|keeper, ring| keeper.keep(ring, &mut shot));
                failed = u64::from(kept.is_err());
                self.settle(kept, failed);
                self.lock().free.push(shot);
            } else if stop {
                self.settle(work.with_ring(|keeper, ring| keeper.end(ring)), 0);
                return;
            }
            let now = Instant::now();
            // Not behind a failure: the tick of a lost disk has no better news, and would hide it.
            if failed == 0 && now.saturating_duration_since(ticked_at) >= TICK {
                ticked_at = now;
                let tick = |keeper: &mut _, ring: &mut Ring| {
                    ring.prune()?;
                    Keeper::tick(keeper, ring, now)
                };
                self.settle(work.with_ring(tick), 0);
            }
        }
    }

    /// The next shot, or none after a while; and whether it is time to stop.
    fn next(&self) -> (Option<Shot>, bool) {
        let mut state = self.lock();
        state.busy_since = None;
        if state.waiting.is_empty() && !state.stop {
            (state, _) = self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner);
        }
        let shot = state.waiting.pop_front();
        self.gauge.waiting.store(state.waiting.len() as u64, Relaxed);
        state.busy_since = Some(Instant::now());
        (shot, state.stop)
    }

    fn settle(&self, result: Result<u64, String>, dropped: u64) {
        self.gauge.dropped.fetch_add(dropped, Relaxed);
        let trouble = match result {
            Ok(delivered) => {
                self.gauge.delivered.fetch_add(delivered, Relaxed);
                None
            }
            Err(why) => Some(why),
        };
        self.lock().trouble = trouble;
    }
}

/// A keeper and its ring.
struct Work<K> {
    home: Home,
    keeper: K,
}

impl<K: Keeper> Work<K> {
    /// Does something in the ring, if it is there. After a failure everything begins anew.
    fn with_ring(&mut self, mut work: impl FnMut(&mut K, &mut Ring) -> Result<u64, String>) -> Result<u64, String> {
        if !self.home.is_open() {
            self.keeper.forget();
        }
        let done = work(&mut self.keeper, self.home.ring()?);
        match &done {
            Ok(0) => {}
            Ok(_) => self.home.worked(),
            Err(why) => {
                self.keeper.forget();
                self.home.failed(why);
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_at_the_rate_each_have_a_moment() {
        for (us, jitter) in [(100_000, 0), (100_000, 40_000), (100_000, -40_000_i64)] {
            let moments = (0..100_u64).map(|i| {
                let at = i * us + if i % 2 == 1 { jitter.max(0).unsigned_abs() } else { 0 };
                moment(Duration::from_micros(at), 10)
            });
            assert_eq!(moments.collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_faster_source_gives_one_frame_a_moment_and_sources_do_not_share_them() {
        let (mut wanted, start) = (at_rate(5, true), Instant::now());
        let (predictions, mut frame) = (Predictions::default(), Frame::new(8, 8));
        let mut taken = 0;
        for i in 0..60 {
            for source in 0..2 {
                frame.source_id = source;
                frame.captured_at = start + Duration::from_micros(33_333 * i);
                taken += u32::from(wanted(&Outcome::new(&frame, "", Ok(&predictions), Duration::ZERO)).is_some());
            }
        }
        assert!((20..=22).contains(&taken), "two seconds of two sources at 5 fps: {taken}");
    }
}
