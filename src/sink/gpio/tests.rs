//! The line's thread on a stand-in for the chip.

use super::*;
use crate::clock::Stamp;
use crate::config::LineName;
use crate::frame::Frame;
use crate::model::Predictions;
use crate::rules::{Event, Phase};

/// Only decides when a hang is called one.
const PATIENCE: Duration = Duration::from_secs(20);

/// A chip that the test pulls and plugs.
#[derive(Clone, Debug, Default)]
struct Board {
    state: Arc<Mutex<Plugged>>,
}

#[derive(Debug, Default)]
struct Plugged {
    there: bool,
    /// What the line was set to, when that changed.
    levels: Vec<bool>,
}

impl Pin for Board {
    fn set(&mut self, active: bool) -> Result<(), String> {
        let mut state = self.state.lock().unwrap();
        if !state.there {
            return Err("the chip is gone".into());
        }
        if state.levels.last() != Some(&active) {
            state.levels.push(active);
        }
        Ok(())
    }
}

impl Board {
    fn find(&self) -> Find {
        let board = self.clone();
        Box::new(move || match board.state.lock().unwrap().there {
            true => Ok(Box::new(board.clone()) as Box<dyn Pin>),
            false => Err("no such chip".into()),
        })
    }

    fn plug(&self, there: bool) {
        self.state.lock().unwrap().there = there;
    }

    fn levels(&self) -> Vec<bool> {
        self.state.lock().unwrap().levels.clone()
    }

    fn wait_for(&self, levels: &[bool]) {
        until(|| self.levels() == levels, || format!("{:?} instead of {levels:?}", self.levels()));
    }
}

fn until(fits: impl Fn() -> bool, found: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !fits() {
        assert!(Instant::now() < deadline, "{}", found());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn start(board: &Board, pulse_s: Option<f64>) -> Gpio {
    let config =
        GpioConfig { chip: "board".into(), line: LineName::Number(4), rule: "door".into(), active_low: false, pulse_s };
    Gpio::start_on(board.find(), &config).unwrap()
}

fn deliver(gpio: &mut Gpio, rule: &str, phase: Option<Phase>) -> Result<(), Error> {
    let event = |phase| Event {
        event_id: "1".into(),
        rule: rule.into(),
        phase,
        source_id: 0,
        frame_id: 0,
        started: Stamp::now(),
        ended: None,
        count: 1,
        track_id: None,
        class: None,
        direction: None,
    };
    let events = Vec::from_iter(phase.map(event));
    let (frame, predictions) = (Frame::empty(), Predictions::default());
    gpio.deliver(&Outcome { events: &events, ..Outcome::new(&frame, "", Ok(&predictions), Duration::ZERO) })
}

#[test]
fn it_follows_its_rule_and_is_inactive_at_the_end() {
    let board = Board::default();
    board.plug(true);
    let mut gpio = start(&board, None);
    board.wait_for(&[false]);
    deliver(&mut gpio, "window", Some(Phase::Start)).unwrap();
    deliver(&mut gpio, "door", Some(Phase::Start)).unwrap();
    board.wait_for(&[false, true]);
    deliver(&mut gpio, "window", Some(Phase::End)).unwrap();
    deliver(&mut gpio, "door", Some(Phase::End)).unwrap();
    board.wait_for(&[false, true, false]);
    deliver(&mut gpio, "door", Some(Phase::Start)).unwrap();
    board.wait_for(&[false, true, false, true]);
    drop(gpio);
    assert_eq!(board.levels(), [false, true, false, true, false]);
}

#[test]
fn a_pulse_ends_by_itself() {
    let board = Board::default();
    board.plug(true);
    let mut gpio = start(&board, Some(0.05));
    board.wait_for(&[false]);
    deliver(&mut gpio, "door", Some(Phase::Once)).unwrap();
    board.wait_for(&[false, true, false]);
    assert_eq!(gpio.gauge().unwrap().delivered.load(Relaxed), 2);
}

#[test]
fn a_chip_that_is_absent_is_said_and_found_when_it_comes() {
    let board = Board::default();
    let mut gpio = start(&board, None);
    let deadline = Instant::now() + PATIENCE;
    let trouble = loop {
        match deliver(&mut gpio, "door", None) {
            Err(error) => break error.to_string(),
            Ok(()) => assert!(Instant::now() < deadline, "never in trouble"),
        }
    };
    assert_eq!(trouble, "gpio:board:4: no such chip");
    deliver(&mut gpio, "door", Some(Phase::Start)).unwrap_err();
    board.plug(true);
    board.wait_for(&[true]);
    // Gone, noticed with the next change, and back with what is true by then.
    board.plug(false);
    let _ = deliver(&mut gpio, "door", Some(Phase::End));
    until(|| gpio.shared.lock().trouble.is_some(), || "never missed".into());
    board.plug(true);
    board.wait_for(&[true, false]);
    until(|| gpio.shared.lock().trouble.is_none(), || "never well again".into());
}
