//! When the loop is started again, as a plain value: nothing here waits or touches the machine, so that the rule can be
//! tested with made-up times.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::{RestartsConfig, seconds};

/// First and longest pause before the loop is started again: at once for a rare fault, and calm for one that is there
/// to stay; the sum over all restarts stays below the watchdog's patience.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_LONGEST: Duration = Duration::from_secs(4);
/// A loop that ran this long had a new fault, not the same one again.
const STEADY: Duration = Duration::from_secs(60);

/// What follows the end of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    StartAfter(Duration),
    /// It ended too often: the machine is restarted.
    GiveUp,
}

/// Counts how often the loop ends.
#[derive(Debug)]
pub struct Restarts {
    max: usize,
    window: Duration,
    ends: VecDeque<Instant>,
    pause: Duration,
    total: u32,
}

impl Restarts {
    #[must_use]
    pub fn new(config: &RestartsConfig) -> Self {
        Self {
            max: usize::try_from(config.max).unwrap_or(usize::MAX),
            window: seconds(config.window_s),
            ends: VecDeque::new(),
            pause: PAUSE_FIRST,
            total: 0,
        }
    }

    /// The loop ended at `now` after `ran`.
    pub fn ended(&mut self, now: Instant, ran: Duration) -> Next {
        self.total = self.total.saturating_add(1);
        while self.ends.front().is_some_and(|&end| now.saturating_duration_since(end) > self.window) {
            self.ends.pop_front();
        }
        if self.ends.len() >= self.max {
            return Next::GiveUp;
        }
        self.ends.push_back(now);
        if ran >= STEADY {
            self.pause = PAUSE_FIRST;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_LONGEST);
        Next::StartAfter(pause)
    }

    /// Ends so far.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn restarts_back_off_and_have_a_bound() {
        let mut restarts = Restarts::new(&RestartsConfig { max: 5, window_s: 600.0 });
        let start = Instant::now();
        let pauses: Vec<Next> = (0..6).map(|n| restarts.ended(start + n * SECOND, SECOND)).collect();
        let after = |ms| Next::StartAfter(Duration::from_millis(ms));
        assert_eq!(pauses, [after(250), after(500), after(1000), after(2000), after(4000), Next::GiveUp]);
        assert_eq!(restarts.total(), 6);
    }

    #[test]
    fn rare_ends_are_forgiven() {
        let mut restarts = Restarts::new(&RestartsConfig { max: 5, window_s: 600.0 });
        let start = Instant::now();
        for n in 0..100 {
            let next = restarts.ended(start + n * 300 * SECOND, 299 * SECOND);
            assert_eq!(next, Next::StartAfter(PAUSE_FIRST), "end {n}");
        }
    }
}
