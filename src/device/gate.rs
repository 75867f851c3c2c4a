//! The health gate: when something new has shown enough to be kept. PID 1 asks it about a trial slot, `firstlight gate`
//! about the service that somebody else's updater has renewed.
//!
//! Nothing here waits or touches the machine, so that the rule can be tested with made-up times.

use std::time::{Duration, Instant};

use crate::config::{TrialConfig, seconds};

/// What was shown so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Wait,
    Keep,
    Fail(String),
}

/// The health gate.
#[derive(Debug)]
pub struct Gate {
    inferences: u64,
    healthy_for: Duration,
    deadline: Instant,
    deadline_s: f64,
    healthy_since: Option<Instant>,
    /// Of loops that have ended, and of the present one.
    inferred: u64,
}

impl Gate {
    #[must_use]
    pub fn new(config: &TrialConfig, now: Instant) -> Self {
        Self {
            inferences: config.inferences,
            healthy_for: seconds(config.healthy_s),
            deadline: now + seconds(config.deadline_s),
            deadline_s: config.deadline_s,
            healthy_since: None,
            inferred: 0,
        }
    }

    /// Looks at the present loop: its inferences, and whether it says `running`; `why` is what is wrong otherwise.
    pub fn observe(&mut self, now: Instant, inferences: u64, healthy: bool, why: &str) -> Verdict {
        self.inferred = inferences;
        if healthy {
            self.healthy_since.get_or_insert(now);
        } else {
            self.healthy_since = None;
        }
        let healthy_for = self.healthy_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if inferences >= self.inferences && healthy_for >= self.healthy_for {
            return Verdict::Keep;
        }
        if now < self.deadline {
            return Verdict::Wait;
        }
        let why = if why.is_empty() { "too slow" } else { why };
        Verdict::Fail(format!(
            "{inferences} of {} inferences and {:.0} of {:.0} s of health within {:.0} s: {why}",
            self.inferences,
            healthy_for.as_secs_f64(),
            self.healthy_for.as_secs_f64(),
            self.deadline_s
        ))
    }

    /// How far it is, for the status.
    #[must_use]
    pub fn progress(&self, now: Instant) -> String {
        let healthy = self.healthy_since.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64());
        format!(
            "on trial: {} of {} inferences, {healthy:.0} of {:.0} s of health",
            self.inferred.min(self.inferences),
            self.inferences,
            self.healthy_for.as_secs_f64()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn gate(now: Instant) -> Gate {
        Gate::new(&TrialConfig { inferences: 10, healthy_s: 5.0, deadline_s: 60.0 }, now)
    }

    #[test]
    fn a_trial_needs_inferences_and_unbroken_health() {
        let start = Instant::now();
        let mut trial = gate(start);
        assert_eq!(trial.observe(start, 20, true, ""), Verdict::Wait, "not healthy for long enough");
        assert_eq!(trial.observe(start + 4 * SECOND, 20, false, "camera"), Verdict::Wait);
        assert_eq!(trial.observe(start + 5 * SECOND, 20, true, ""), Verdict::Wait, "health was broken");
        assert_eq!(trial.observe(start + 9 * SECOND, 9, true, ""), Verdict::Wait);
        assert_eq!(trial.observe(start + 10 * SECOND, 9, true, ""), Verdict::Wait, "too few inferences");
        assert_eq!(trial.observe(start + 11 * SECOND, 10, true, ""), Verdict::Keep);
        assert!(trial.progress(start + 11 * SECOND).contains("10 of 10 inferences, 6 of 5 s"));
    }

    #[test]
    fn a_trial_has_a_deadline_and_says_why_it_failed() {
        let start = Instant::now();
        let mut trial = gate(start);
        assert_eq!(trial.observe(start + 59 * SECOND, 0, false, "no model"), Verdict::Wait);
        let Verdict::Fail(why) = trial.observe(start + 60 * SECOND, 0, false, "no model") else { panic!("no verdict") };
        assert!(why.contains("0 of 10 inferences") && why.ends_with("no model"), "{why}");
    }
}
