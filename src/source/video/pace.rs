//! Shows pictures when their times say.

use std::time::{Duration, Instant};

/// Longest sleep, so that whoever waits for a frame can stop meanwhile.
const SLEEP_MAX: Duration = Duration::from_millis(200);
/// Longest pause between two pictures; a time further ahead is taken to be wrong.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// What a loop may be late before the film waits for it instead of catching up in a burst.
const LATE_MAX: Duration = Duration::from_millis(100);

/// The clock of a film.
#[derive(Debug)]
pub struct Pace {
    ticks_per_second: f64,
    /// When a picture was shown, and its time in ticks.
    since: Option<(Instant, i64)>,
}

impl Pace {
    pub fn new(ticks_per_second: f64) -> Self {
        Self { ticks_per_second, since: None }
    }

    /// Forgets the times so far, as before the film starts again.
    pub fn restart(&mut self) {
        self.since = None;
    }

    /// Waits a while for the picture of that time; whether it is due.
    pub fn wait(&mut self, time: i64) -> bool {
        let now = Instant::now();
        let Some(due) = self.due(time).filter(|&due| due < now + PAUSE_MAX && due + LATE_MAX > now) else {
            self.since = Some((now, time));
            return true;
        };
        std::thread::sleep(due.saturating_duration_since(now).min(SLEEP_MAX));
        Instant::now() >= due
    }

    fn due(&self, time: i64) -> Option<Instant> {
        let (shown_at, shown) = self.since?;
        #[expect(clippy::cast_precision_loss, reason = "ticks of a film stay below 2^53")]
        let seconds = time.saturating_sub(shown) as f64 / self.ticks_per_second;
        shown_at.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_not_due_before_its_time_and_no_time_is_waited_for_without_bound() {
        let mut pace = Pace::new(1000.0);
        assert!(pace.wait(5_000));
        let started = Instant::now();
        while !pace.wait(5_300) {}
        assert!(started.elapsed() >= Duration::from_millis(250));
        for odd in [i64::MAX, 0, i64::MIN, 60_000] {
            assert!(pace.wait(odd), "{odd}");
        }
    }
}
