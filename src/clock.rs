//! Time. Since the machine started, which every board knows; and the wall clock, which one without a battery does not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// 2024-01-01: a wall clock before this was never set (boards without a battery start in 1970).
const PLAUSIBLE_UNIX_S: u64 = 1_704_067_200;

/// A moment on both clocks, for what is written down.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Stamp {
    /// Seconds since the kernel started; together with the boot id it names a moment for ever.
    pub monotonic_s: f64,
    /// Seconds since 1970; only true when `clock_set`.
    pub unix_s: f64,
    pub clock_set: bool,
}

impl Stamp {
    /// This moment, to the millisecond.
    #[must_use]
    pub fn now() -> Self {
        let unix = unix();
        let rounded = |time: Duration| (time.as_secs_f64() * 1e3).round() / 1e3;
        Self { monotonic_s: rounded(since_boot()), unix_s: rounded(unix), clock_set: plausible(unix) }
    }
}

/// Since the kernel started, on the clock of [`std::time::Instant`].
#[must_use]
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

/// Whether the wall clock can be believed.
#[must_use]
pub fn is_set() -> bool {
    plausible(unix())
}

fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn plausible(unix: Duration) -> bool {
    unix.as_secs() >= PLAUSIBLE_UNIX_S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_is_not_believed() {
        assert!(!plausible(Duration::ZERO));
        assert!(!plausible(Duration::from_secs(PLAUSIBLE_UNIX_S - 1)));
        assert!(plausible(Duration::from_secs(PLAUSIBLE_UNIX_S)));
    }

    #[test]
    fn both_clocks_go_forward() {
        let (first, second) = (Stamp::now(), Stamp::now());
        assert!(first.monotonic_s > 0.0 && second.monotonic_s >= first.monotonic_s);
    }
}
