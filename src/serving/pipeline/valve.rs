//! The valve between a source and its pipeline: it holds frames back while the pipeline is paused, keeps the rate that
//! was asked for, and tells the journal how the source is.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::journal::Journal;
use crate::frame::Frame;
use crate::source::{Error, Facts, Next, Pace, Source};

/// How long the loop is held at once: after it, it looks whether it should stop.
const HOLD: Duration = Duration::from_millis(100);

/// The handle of a valve.
#[derive(Debug, Default)]
pub struct Control {
    position: Mutex<Position>,
    turned: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Position {
    paused: bool,
    terminated: bool,
    /// Frames of a live source from before this are old.
    opened_at: Option<Instant>,
}

/// What the handle says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// Go on.
    Open,
    /// Not now.
    Closed,
    /// Never again.
    Terminated,
}

impl Control {
    pub fn pause(&self) {
        self.lock().paused = true;
        self.turned.notify_all();
    }

    pub fn resume(&self) {
        let mut position = self.lock();
        position.paused = false;
        position.opened_at = Some(Instant::now());
        self.turned.notify_all();
    }

    pub fn terminate(&self) {
        self.lock().terminated = true;
        self.turned.notify_all();
    }

    /// Waits a bounded time for the valve to be open and for the moment `due`.
    fn hold(&self, due: Option<Instant>) -> Said {
        let mut position = self.lock();
        let wait = match due.map(|due| due.saturating_duration_since(Instant::now())) {
            _ if position.terminated => Duration::ZERO,
            _ if position.paused => HOLD,
            due => due.unwrap_or(Duration::ZERO).min(HOLD),
        };
        if !wait.is_zero() {
            (position, _) = self.turned.wait_timeout(position, wait).unwrap_or_else(PoisonError::into_inner);
        }
        if position.terminated {
            Said::Terminated
        } else if position.paused || due.is_some_and(|due| Instant::now() < due) {
            Said::Closed
        } else {
            Said::Open
        }
    }

    fn is_old(&self, captured_at: Instant) -> bool {
        self.lock().opened_at.is_some_and(|opened_at| captured_at < opened_at)
    }

    /// A thread that panicked with the lock left the position whole.
    fn lock(&self) -> MutexGuard<'_, Position> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source behind the valve.
#[derive(Debug)]
pub struct Valve {
    source: Box<dyn Source>,
    /// Number of the source in its pipeline, from 0.
    id: usize,
    control: Arc<Control>,
    journal: Arc<Journal>,
    pace: Option<Pace>,
    ended: bool,
}

impl Valve {
    /// Frames of `source`, the one of number `id` in its pipeline.
    #[must_use]
    pub fn new(source: Box<dyn Source>, id: usize, control: Arc<Control>, journal: Arc<Journal>) -> Self {
        Self { source, id, control, journal, pace: None, ended: false }
    }

    /// At most `fps_max` frames a second (more than 0): those of a file wait for their time, of a live source the others
    /// are dropped.
    #[must_use]
    pub fn with_fps_max(mut self, fps_max: Option<f64>) -> Self {
        self.pace = fps_max.map(Pace::new);
        self
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.journal.source_ended(self.id);
        }
    }
}

impl Source for Valve {
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
        let live = self.source.live();
        let due = self.pace.and_then(|pace| pace.due()).filter(|_| !live);
        match self.control.hold(due) {
            Said::Open => {}
            Said::Closed => return Ok(Next::Nothing),
            Said::Terminated => {
                self.end();
                return Ok(Next::End);
            }
        }
        match self.source.next(frame, origin) {
            Ok(Next::Frame) => {
                self.journal.captured(self.id, frame);
                let admitted = self.pace.as_mut().is_none_or(|pace| pace.admits(Instant::now()));
                let passes = admitted && !(live && self.control.is_old(frame.captured_at));
                Ok(if passes { Next::Frame } else { Next::Nothing })
            }
            Ok(still @ (Next::Nothing | Next::Idle)) => Ok(still),
            Ok(Next::End) => {
                self.end();
                Ok(Next::End)
            }
            Err(Error::Lost(why)) => {
                self.journal.source_lost(self.id, &why);
                Err(Error::Lost(why))
            }
            // A picture that cannot be read is told here: to the loop it would be a frame without an answer.
            Err(error) => {
                self.journal.source_failed(self.id, &error.to_string());
                Ok(Next::Nothing)
            }
        }
    }

    fn skip(&mut self) -> bool {
        matches!(self.control.hold(None), Said::Open) && self.source.skip()
    }

    fn reopen(&mut self) -> Result<(), Error> {
        self.source.reopen()
    }
}

impl Drop for Valve {
    /// The loop lets go of its source when it ends, for whatever reason.
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::pipeline::journal::State;

    /// Gives empty frames, then whatever is next in a list.
    #[derive(Debug)]
    struct Script {
        live: bool,
        steps: Vec<Result<Next, Error>>,
    }

    impl Source for Script {
        fn uri(&self) -> &str {
            "script:"
        }

        fn live(&self) -> bool {
            self.live
        }

        fn next(&mut self, frame: &mut Frame, _: &mut String) -> Result<Next, Error> {
            frame.captured_at = Instant::now();
            if self.steps.is_empty() { Ok(Next::Frame) } else { self.steps.remove(0) }
        }
    }

    fn valve(script: Script, fps_max: Option<f64>) -> (Valve, Arc<Control>, Arc<Journal>) {
        let (control, journal) = (Arc::new(Control::default()), Arc::new(Journal::new(1)));
        let valve = Valve::new(Box::new(script), 0, Arc::clone(&control), Arc::clone(&journal));
        (valve.with_fps_max(fps_max), control, journal)
    }

    fn next(valve: &mut Valve) -> Result<Next, Error> {
        valve.next(&mut Frame::empty(), &mut String::new())
    }

    #[test]
    fn a_paused_valve_gives_nothing_and_a_terminated_one_the_end() {
        let (mut valve, control, journal) = valve(Script { live: false, steps: Vec::new() }, None);
        assert_eq!(next(&mut valve).unwrap(), Next::Frame);
        assert_eq!(journal.state(0), State::Running);
        control.pause();
        assert_eq!(next(&mut valve).unwrap(), Next::Nothing);
        control.resume();
        assert_eq!(next(&mut valve).unwrap(), Next::Frame);
        control.pause();
        control.terminate();
        assert_eq!(next(&mut valve).unwrap(), Next::End);
        assert_eq!(journal.state(0), State::Ended);
    }

    #[test]
    fn what_happens_to_the_source_is_in_the_journal() {
        let broken = Error::Read { path: "a.png".into(), cause: std::io::Error::other("unreadable") };
        let steps = vec![Ok(Next::Frame), Err(broken), Err(Error::Lost("unplugged".into())), Ok(Next::Frame)];
        let (mut valve, _, journal) = valve(Script { live: true, steps }, None);
        assert_eq!(next(&mut valve).unwrap(), Next::Frame);
        assert_eq!(next(&mut valve).unwrap(), Next::Nothing);
        assert!(matches!(next(&mut valve), Err(Error::Lost(_))));
        assert_eq!(journal.state(0), State::Restarting);
        assert_eq!(next(&mut valve).unwrap(), Next::Frame);
        assert_eq!(journal.state(0), State::Running);
        drop(valve);
        assert_eq!(journal.state(0), State::Ended);
        let events = journal.events().to_string();
        assert!(events.contains("unreadable") && events.contains("unplugged"), "{events}");
    }

    #[test]
    fn frames_of_a_file_wait_for_their_time_and_none_is_lost() {
        let (mut valve, ..) = valve(Script { live: false, steps: Vec::new() }, Some(0.01));
        assert_eq!(next(&mut valve).unwrap(), Next::Frame);
        assert_eq!(next(&mut valve).unwrap(), Next::Nothing);
    }
}
