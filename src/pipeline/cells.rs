//! What is counted of each source and each output: cells that their threads write and anyone reads without a lock.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::status::{SinkFacts, SourceFacts, text};
use crate::sink::Gauge;

/// One source.
#[derive(Debug)]
pub struct SourceCell {
    uri: String,
    live: bool,
    /// Frames until its end, as it declares.
    total: Option<u64>,
    /// Frames it gave, whatever became of them.
    captured: AtomicU64,
    /// Of these, how many others were preferred to.
    dropped: AtomicU64,
    /// How often it was lost.
    lost: AtomicU64,
    /// When it last said that there is nothing to do.
    idle_at: ArcSwapOption<Instant>,
    problem: ArcSwapOption<String>,
}

impl SourceCell {
    /// Of the source that a URI names, `live` or not, and of how many frames if it has an end.
    #[must_use]
    pub fn new(uri: &str, live: bool, total: Option<u64>) -> Self {
        Self {
            uri: uri.into(),
            live,
            total,
            captured: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            idle_at: ArcSwapOption::empty(),
            problem: ArcSwapOption::empty(),
        }
    }

    /// Counts a frame. Returns whether the source was in trouble until now.
    pub fn frame_captured(&self) -> bool {
        self.captured.fetch_add(1, Relaxed);
        self.problem.load().is_some() && self.problem.swap(None).is_some()
    }

    /// Says that it is in order, and has nothing to do.
    pub fn set_idle(&self) {
        self.idle_at.store(Some(Arc::new(Instant::now())));
        self.problem.store(None);
    }

    /// How long ago it last had nothing to do; `None` for one that never said so.
    #[must_use]
    pub fn idle_age(&self) -> Option<Duration> {
        self.idle_at.load().as_deref().map(Instant::elapsed)
    }

    pub fn frames_dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Relaxed);
    }

    /// Says that it is gone, or still is.
    pub fn set_lost(&self, why: String) {
        if self.problem.swap(Some(Arc::new(why))).is_none() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    #[must_use]
    pub fn problem(&self) -> Option<Arc<String>> {
        self.problem.load_full()
    }

    #[must_use]
    pub fn captured(&self) -> u64 {
        self.captured.load(Relaxed)
    }

    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// How often it was lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    #[must_use]
    pub fn facts(&self) -> SourceFacts {
        SourceFacts {
            uri: text(&self.uri),
            live: self.live,
            captured: self.captured(),
            total: self.total,
            dropped: self.dropped(),
            lost: self.lost(),
            problem: self.problem().map(|why| text(&why)),
        }
    }
}

/// One output.
#[derive(Debug)]
pub struct SinkCell {
    name: String,
    gauge: Option<Arc<Gauge>>,
    problem: ArcSwapOption<String>,
}

impl SinkCell {
    #[must_use]
    pub fn new(name: &str, gauge: Option<Arc<Gauge>>) -> Self {
        Self { name: name.into(), gauge, problem: ArcSwapOption::empty() }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its figures, where it has a thread of its own.
    #[must_use]
    pub fn gauge(&self) -> Option<&Gauge> {
        self.gauge.as_deref()
    }

    /// Says that it is in trouble, or no longer is. Allocates only when that is news.
    pub fn set_problem(&self, why: Option<&dyn std::fmt::Display>) {
        match why {
            None if self.problem.load().is_some() => self.problem.store(None),
            None => {}
            Some(why) => {
                let why = why.to_string();
                if self.problem.load().as_deref() != Some(&why) {
                    self.problem.store(Some(Arc::new(why)));
                }
            }
        }
    }

    #[must_use]
    pub fn problem(&self) -> Option<Arc<String>> {
        self.problem.load_full()
    }

    #[must_use]
    pub fn facts(&self) -> SinkFacts {
        let count = |pick: fn(&Gauge) -> &AtomicU64| self.gauge().map(|gauge| pick(gauge).load(Relaxed));
        SinkFacts {
            name: text(&self.name),
            delivered: count(|gauge| &gauge.delivered),
            waiting: count(|gauge| &gauge.waiting),
            dropped: count(|gauge| &gauge.dropped),
            problem: self.problem().map(|why| text(&why)),
        }
    }
}
