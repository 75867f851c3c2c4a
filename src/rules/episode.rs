//! From a condition that flickers to an event that begins and ends.

use std::sync::Arc;

use super::Moment;
use crate::clock::Stamp;

/// One rule at one source.
#[derive(Debug, Default)]
pub struct Episode {
    open: Option<Open>,
    /// Since when the condition says otherwise than the event.
    otherwise: Option<Moment>,
    /// Until when no other begins, seconds.
    quiet_until: Option<f64>,
}

/// The event that lasts.
#[derive(Debug)]
struct Open {
    id: Arc<str>,
    started: Stamp,
}

/// How patient a rule is.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub hold_s: f64,
    pub cooldown_s: f64,
}

/// An event that has begun, or ended.
#[derive(Debug)]
pub struct Change {
    pub id: Arc<str>,
    pub started: Stamp,
    pub ended: Option<Stamp>,
}

impl Episode {
    /// Takes the condition of a frame into account.
    pub fn step(&mut self, holds: bool, now: Moment, times: Times, id: impl FnOnce() -> Arc<str>) -> Option<Change> {
        if holds == self.open.is_some() {
            self.otherwise = None;
            return None;
        }
        let since = *self.otherwise.get_or_insert(now);
        let quiet = holds && self.quiet_until.is_some_and(|until| now.seconds < until);
        if now.seconds - since.seconds < times.hold_s || quiet {
            return None;
        }
        self.otherwise = None;
        if let Some(Open { id, started }) = self.open.take() {
            self.quiet_until = Some(now.seconds + times.cooldown_s);
            return Some(Change { id, started, ended: Some(since.stamp) });
        }
        let (id, started) = (id(), since.stamp);
        self.open = Some(Open { id: Arc::clone(&id), started });
        Some(Change { id, started, ended: None })
    }

    /// After a pause in which nobody looked: what lasted before it is over since its last frame.
    pub fn interrupt(&mut self, last: Stamp) -> Option<Change> {
        self.otherwise = None;
        self.open.take().map(|Open { id, started }| Change { id, started, ended: Some(last) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn moment(seconds: f64) -> Moment {
        Moment { seconds, stamp: Stamp { monotonic_s: seconds, unix_s: 0.0, clock_set: false } }
    }

    /// Start and end of every event over conditions that come ten a second.
    fn events(conditions: &[bool], times: Times) -> Vec<(f64, Option<f64>)> {
        let (mut episode, mut events) = (Episode::default(), Vec::new());
        for (frame, &holds) in conditions.iter().enumerate() {
            let now = moment(frame as f64 / 10.0);
            if let Some(change) = episode.step(holds, now, times, || "id".into()) {
                let ended = change.ended.map(|ended| ended.monotonic_s);
                match ended {
                    None => events.push((change.started.monotonic_s, None)),
                    Some(_) => events.last_mut().expect("a start").1 = ended,
                }
            }
        }
        events
    }

    fn pattern(text: &str) -> Vec<bool> {
        text.chars().map(|c| c == '#').collect()
    }

    #[test]
    fn blinks_neither_begin_nor_end_anything() {
        let times = Times { hold_s: 0.3, cooldown_s: 0.0 };
        assert_eq!(events(&pattern("..##...###.."), times), []);
        assert_eq!(events(&pattern("..####.##.#..##....."), times), [(0.2, Some(1.5))]);
        assert_eq!(events(&pattern("####"), times), [(0.0, None)]);
        let at_once = Times { hold_s: 0.0, cooldown_s: 0.0 };
        assert_eq!(events(&pattern(".#.##"), at_once), [(0.1, Some(0.2)), (0.3, None)]);
    }

    #[test]
    fn after_an_event_there_is_a_rest() {
        let times = Times { hold_s: 0.0, cooldown_s: 0.5 };
        assert_eq!(events(&pattern("#.#.#.#.#"), times), [(0.0, Some(0.1)), (0.6, Some(0.7))]);
        // What began in the rest and still lasts after it is an event since it began.
        assert_eq!(events(&pattern("#.########"), times), [(0.0, Some(0.1)), (0.2, None)]);
    }

    #[test]
    fn starts_and_ends_take_turns_whatever_comes() {
        let mut random = Random::new(9);
        for _ in 0..300 {
            let times =
                Times { hold_s: f64::from(random.uniform(0.0, 0.6)), cooldown_s: f64::from(random.uniform(0.0, 0.6)) };
            let conditions: Vec<bool> = (0..200).map(|_| random.chance(0.5)).collect();
            let events = events(&conditions, times);
            let ends = events.iter().map(|(_, ended)| ended.unwrap_or(f64::INFINITY));
            for (at, ((started, _), ended)) in events.iter().zip(ends).enumerate() {
                assert!(ended - started >= times.hold_s.min(0.1) - 1e-9, "{events:?}");
                assert!(events.get(at + 1).is_none_or(|(next, _)| *next >= ended), "{events:?}");
            }
        }
    }

    #[test]
    fn a_pause_ends_what_lasted_at_its_last_frame() {
        let (mut episode, times) = (Episode::default(), Times { hold_s: 0.0, cooldown_s: 0.0 });
        assert!(episode.interrupt(moment(0.0).stamp).is_none());
        episode.step(true, moment(1.0), times, || "1".into()).unwrap();
        let change = episode.interrupt(moment(2.0).stamp).unwrap();
        assert_eq!((&*change.id, change.ended.map(|ended| ended.monotonic_s)), ("1", Some(2.0)));
        assert_eq!(&*episode.step(true, moment(60.0), times, || "2".into()).unwrap().id, "2");
    }
}
