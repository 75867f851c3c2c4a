//! A source held to a rate: the frames of a file wait for their time, those of a live source in between are dropped.

use std::time::{Duration, Instant};

use super::{Error, Facts, Next, Receipts, Source};
use crate::frame::Frame;

/// How long a frame is waited for at once: after it, the loop looks whether it should stop.
const HOLD: Duration = Duration::from_millis(100);

/// At most so many frames a second.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    period: Duration,
    due: Option<Instant>,
}

impl Pace {
    /// Of `fps` frames a second, more than 0.
    #[must_use]
    pub fn new(fps: f64) -> Self {
        Self { period: Duration::try_from_secs_f64(fps.recip()).unwrap_or(Duration::ZERO), due: None }
    }

    /// When the next frame may pass; `None` before the first.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether a frame of this moment may pass; it counts if so. A source that is late may catch up by one frame, so that
    /// 30 frames a second become 20 and not 15.
    pub fn admits(&mut self, now: Instant) -> bool {
        if self.due.is_some_and(|due| now < due) {
            return false;
        }
        self.due = Some((self.due.unwrap_or(now) + self.period).max(now));
        true
    }
}

/// The source.
#[derive(Debug)]
pub struct Paced {
    source: Box<dyn Source>,
    pace: Pace,
}

impl Paced {
    /// `source` at most at `fps` frames a second, more than 0.
    #[must_use]
    pub fn new(source: Box<dyn Source>, fps: f64) -> Self {
        Self { source, pace: Pace::new(fps) }
    }
}

impl Source for Paced {
    fn uri(&self) -> &str {
        self.source.uri()
    }

    fn live(&self) -> bool {
        self.source.live()
    }

    fn facts(&self) -> Facts {
        self.source.facts()
    }

    fn next(&mut self, frame: &mut Frame, origin: &mut String) -> Result<Next, Error> {
        let early = self.pace.due().and_then(|due| due.checked_duration_since(Instant::now()));
        if let Some(early) = early.filter(|early| !early.is_zero()) {
            if !self.live() {
                std::thread::sleep(early.min(HOLD));
                if early > HOLD {
                    return Ok(Next::Nothing);
                }
            } else if self.source.skip() {
                return Ok(Next::Nothing);
            }
        }
        match self.source.next(frame, origin)? {
            Next::Frame if !self.pace.admits(Instant::now()) => Ok(Next::Nothing),
            next => Ok(next),
        }
    }

    fn skip(&mut self) -> bool {
        self.source.skip()
    }

    fn reopen(&mut self) -> Result<(), Error> {
        self.source.reopen()
    }

    fn receipts(&mut self) -> Option<Box<dyn Receipts>> {
        self.source.receipts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a frame whenever it is asked.
    #[derive(Debug)]
    struct Always {
        live: bool,
        given: u64,
    }

    impl Source for Always {
        fn uri(&self) -> &'static str {
            "always:"
        }

        fn live(&self) -> bool {
            self.live
        }

        fn next(&mut self, frame: &mut Frame, _: &mut String) -> Result<Next, Error> {
            frame.id = self.given;
            self.given += 1;
            Ok(Next::Frame)
        }
    }

    #[test]
    fn a_pace_thins_a_stream_evenly() {
        let start = Instant::now();
        let mut pace = Pace::new(20.0);
        let frames = (0..300).filter(|frame| pace.admits(start + Duration::from_millis(100) * *frame / 3)).count();
        assert!((200..=202).contains(&frames), "{frames} of 300 frames in ten seconds at 20 a second");
        // After a silence of a second it does not catch up in a burst.
        let later = start + Duration::from_secs(11);
        let burst = (0..10).filter(|step| pace.admits(later + Duration::from_millis(*step))).count();
        assert!(burst <= 2, "{burst}");
    }

    #[test]
    fn frames_of_a_file_wait_and_none_is_lost_those_of_a_camera_do_not_wait() {
        let (mut frame, mut origin) = (Frame::empty(), String::new());
        let mut file = Paced::new(Box::new(Always { live: false, given: 0 }), 50.0);
        let mut ids = Vec::new();
        while ids.len() < 3 {
            if file.next(&mut frame, &mut origin).unwrap() == Next::Frame {
                ids.push(frame.id);
            }
        }
        assert_eq!(ids, [0, 1, 2]);
        let mut live = Paced::new(Box::new(Always { live: true, given: 0 }), 0.001);
        let passed = (0..100).filter(|_| live.next(&mut frame, &mut origin).unwrap() == Next::Frame).count();
        assert_eq!(passed, 1);
    }
}
