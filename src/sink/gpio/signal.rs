//! Whether a line is to be active, by the events of its rule.

use std::time::{Duration, Instant};

use crate::rules::{Event, Phase};

/// An event goes on only while its source gives frames: a lamp that nobody keeps lit goes out. Longer than the slowest
/// model takes for one; the watchdog waits as long.
pub const UNSEEN_MAX: Duration = Duration::from_secs(10);

/// What the line shows.
#[derive(Debug)]
pub struct Signal {
    /// How long it is active from an event's start; `None`: while one lasts.
    pulse: Option<Duration>,
    pulse_until: Option<Instant>,
    /// Events that last: at most one a source.
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    source_id: u32,
    /// When a frame of its source was last judged.
    seen_at: Instant,
}

impl Signal {
    pub fn new(pulse: Option<Duration>) -> Self {
        Self { pulse, pulse_until: None, open: Vec::new() }
    }

    /// A frame of a source was judged.
    pub fn frame(&mut self, source_id: u32, now: Instant) {
        for open in self.open.iter_mut().filter(|open| open.source_id == source_id) {
            open.seen_at = now;
        }
    }

    /// An event of the rule.
    pub fn event(&mut self, event: &Event, now: Instant) {
        self.open.retain(|open| open.source_id != event.source_id);
        match event.phase {
            Phase::End => return,
            Phase::Start => self.open.push(Open { source_id: event.source_id, seen_at: now }),
            Phase::Once => {}
        }
        self.pulse_until = self.pulse.map(|pulse| now + pulse);
    }

    /// Whether it is active, and when to look again if nothing happens.
    pub fn level(&self, now: Instant) -> (bool, Option<Instant>) {
        let until = match self.pulse {
            Some(_) => self.pulse_until,
            None => self.open.iter().map(|open| open.seen_at + UNSEEN_MAX).max(),
        };
        let until = until.filter(|until| now < *until);
        (until.is_some(), until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;

    fn event(source_id: u32, phase: Phase) -> Event {
        Event {
            event_id: "1".into(),
            rule: "r".into(),
            phase,
            source_id,
            frame_id: 0,
            started: Stamp::now(),
            ended: None,
            count: 1,
            track_id: None,
            class: None,
            direction: None,
        }
    }

    #[test]
    fn it_follows_the_events_of_every_source() {
        let (mut signal, now) = (Signal::new(None), Instant::now());
        assert_eq!(signal.level(now), (false, None));
        signal.event(&event(0, Phase::Start), now);
        signal.event(&event(1, Phase::Start), now);
        signal.event(&event(0, Phase::End), now);
        assert!(signal.level(now).0);
        signal.event(&event(1, Phase::End), now);
        assert_eq!(signal.level(now), (false, None));
    }

    #[test]
    fn it_goes_out_when_nobody_looks_and_comes_back_when_somebody_does() {
        let (mut signal, start) = (Signal::new(None), Instant::now());
        signal.event(&event(0, Phase::Start), start);
        let later = start + UNSEEN_MAX / 2;
        signal.frame(0, later);
        signal.frame(1, later + UNSEEN_MAX);
        assert_eq!(signal.level(start + UNSEEN_MAX), (true, Some(later + UNSEEN_MAX)));
        assert_eq!(signal.level(later + UNSEEN_MAX), (false, None));
        signal.frame(0, later + UNSEEN_MAX);
        assert!(signal.level(later + UNSEEN_MAX).0);
    }

    #[test]
    fn a_pulse_is_as_long_as_it_is_and_begins_anew_with_each_event() {
        let pulse = Duration::from_secs(2);
        let (mut signal, start) = (Signal::new(Some(pulse)), Instant::now());
        signal.event(&event(0, Phase::Start), start);
        signal.event(&event(0, Phase::End), start + pulse / 4);
        assert!(signal.level(start + pulse / 2).0, "the end does not cut it short");
        signal.event(&event(0, Phase::Once), start + pulse / 2);
        assert_eq!(signal.level(start + pulse), (true, Some(start + pulse / 2 + pulse)));
        assert_eq!(signal.level(start + pulse / 2 + pulse), (false, None));
    }
}
