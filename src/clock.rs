//! Time. Since the machine started, which every board knows; and the wall clock, which one without a battery does not.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
        Self::ago(Duration::ZERO)
    }

    /// A moment of the past, as the clocks now go.
    #[must_use]
    pub fn at(moment: Instant) -> Self {
        Self::ago(moment.elapsed())
    }

    fn ago(passed: Duration) -> Self {
        let unix = unix();
        let rounded = |time: Duration| (time.saturating_sub(passed).as_secs_f64() * 1e3).round() / 1e3;
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

/// Whether a moment was taken by a wall clock that was set.
#[must_use]
pub fn is_plausible(at: SystemTime) -> bool {
    plausible(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A moment of the wall clock as Python's `datetime.isoformat` writes it, in UTC, to the microsecond.
#[must_use]
pub fn iso(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil(since.as_secs() / 86_400);
    let second = since.as_secs() % 86_400;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}", since.subsec_micros())
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar (Hinnant, "chrono-compatible
/// low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    // Days since 0000-03-01, so that the leap day is a year's last; eras of 400 years have 146,097 days.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + 400 * era + u64::from(month <= 2), month, day)
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
    fn a_moment_is_written_as_python_writes_it() {
        for (unix_us, written) in [
            (0, "1970-01-01T00:00:00.000000"),
            (951_782_399_000_001, "2000-02-28T23:59:59.000001"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000"),
            (1_735_689_599_999_999, "2024-12-31T23:59:59.999999"),
            (4_107_542_400_500_000, "2100-03-01T00:00:00.500000"),
        ] {
            assert_eq!(iso(UNIX_EPOCH + Duration::from_micros(unix_us)), written);
        }
    }

    #[test]
    fn both_clocks_go_forward() {
        let (first, second) = (Stamp::now(), Stamp::now());
        assert!(first.monotonic_s > 0.0 && second.monotonic_s >= first.monotonic_s);
    }
}
