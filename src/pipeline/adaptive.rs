//! Which frames are not worth decoding: those of a source that gives more than the loop uses.
//!
//! Roboflow's adaptive filling has two rules. One we keep: while frames are decoded faster than they are used, by more than
//! five a second, some are only taken off the camera. The other, to skip while a camera gives less than it declares, we do
//! not: that is what every camera does in the dark, and ours hand out the newest picture anyway.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Frames over which a pace is taken: two seconds at 30 a second.
const SAMPLES: usize = 64;
/// Fewest of them that say anything: of fewer, one more or less used looks like five a second.
const SAMPLES_MIN: usize = 32;
/// By how many frames a second decoding may be ahead, as Roboflow's.
const AHEAD_MAX: f64 = 5.0;
/// Most frames skipped one after the other, as Roboflow's: a picture a second remains of any camera.
const SKIPPED_MAX: u32 = 16;

/// How fast something happens.
#[derive(Debug)]
struct Pace {
    /// How often it had happened at a moment, the last few.
    seen: VecDeque<(Instant, u64)>,
}

impl Pace {
    fn new() -> Self {
        Self { seen: VecDeque::with_capacity(SAMPLES) }
    }

    fn note(&mut self, now: Instant, count: u64) {
        if self.seen.len() == SAMPLES {
            self.seen.pop_front();
        }
        self.seen.push_back((now, count));
    }

    /// Times a second; `None` before there is enough to say.
    fn per_s(&self) -> Option<f64> {
        if self.seen.len() < SAMPLES_MIN {
            return None;
        }
        let ((first, from), (last, to)) = (self.seen.front()?, self.seen.back()?);
        let span = last.saturating_duration_since(*first).max(Duration::from_micros(1));
        #[expect(clippy::cast_precision_loss, reason = "a few frames")]
        Some((to - from) as f64 / span.as_secs_f64())
    }
}

/// The choice for one source.
#[derive(Debug)]
pub struct Adaptive {
    decoded: Pace,
    used: Pace,
    count: u64,
    skipped: u32,
}

impl Adaptive {
    #[must_use]
    pub fn new() -> Self {
        Self { decoded: Pace::new(), used: Pace::new(), count: 0, skipped: 0 }
    }

    /// A frame was decoded, when `used` had been used.
    pub fn decoded(&mut self, now: Instant, used: u64) {
        self.count += 1;
        self.skipped = 0;
        self.decoded.note(now, self.count);
        self.used.note(now, used);
    }

    /// Whether the next frame should not be decoded; it counts as skipped if so.
    pub fn skips(&mut self) -> bool {
        let (Some(decoded), Some(used)) = (self.decoded.per_s(), self.used.per_s()) else { return false };
        let skips = decoded - used > AHEAD_MAX && self.skipped < SKIPPED_MAX;
        self.skipped += u32::from(skips);
        skips
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many frames a second, of which so many are used, those that are decoded in ten seconds.
    fn decoded(frames_per_s: u32, used_per_s: u32) -> u32 {
        let (mut adaptive, start, mut decoded) = (Adaptive::new(), Instant::now(), 0);
        let (mut used, mut fresh) = (0, false);
        for frame in 0..frames_per_s * 10 {
            if !adaptive.skips() {
                let now = start + Duration::from_secs(1) * frame / frames_per_s;
                decoded += 1;
                fresh = true;
                adaptive.decoded(now, used);
            }
            // The reader takes the newest whenever it is ready for one.
            let ready = (frame + 1) * used_per_s / frames_per_s > frame * used_per_s / frames_per_s;
            if ready && std::mem::take(&mut fresh) {
                used += 1;
            }
        }
        decoded
    }

    #[test]
    fn what_is_used_is_decoded() {
        assert_eq!(decoded(30, 30), 300);
        assert_eq!(decoded(30, 27), 300);
    }

    #[test]
    fn most_of_what_nobody_uses_is_not() {
        let decoded = decoded(60, 10);
        assert!((100..330).contains(&decoded), "{decoded} of 600 decoded for 100 that are used");
    }

    #[test]
    fn a_reader_that_stands_still_costs_a_picture_now_and_then() {
        let decoded = decoded(60, 0);
        assert!((40..100).contains(&decoded), "{decoded} of 600");
    }
}
