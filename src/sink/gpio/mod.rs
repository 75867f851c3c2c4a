//! A GPIO line that shows the events of a rule. It is set by a thread of its own, which also finds the chip again, and is
//! inactive before the first event, at the end, and while nobody looks.
//!
//! A process that is killed leaves the line as it is: the kernel releases it without setting it.

mod pin;
mod signal;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Error, Gauge, Outcome, Sink};
use crate::config::{GpioConfig, seconds};
use crate::thread::wait_for_end;
use pin::{Find, Pin};
use signal::Signal;

/// First and longest pause before a chip is looked for again; as often, one that is there is set again, so that one that is
/// gone is noticed.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// Setting a line takes microseconds, on an expander behind a slow bus milliseconds.
const STOP_MAX: Duration = Duration::from_secs(1);

/// The sink of one line.
#[derive(Debug)]
pub struct Gpio {
    name: String,
    rule: String,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    gauge: Arc<Gauge>,
}

#[derive(Debug)]
struct State {
    signal: Signal,
    stop: bool,
    trouble: Option<String>,
}

impl Gpio {
    /// Starts the thread. The chip need not be there yet.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(config: &GpioConfig) -> Result<Self, Error> {
        Self::start_on(pin::find(config), config)
    }

    fn start_on(find: Find, config: &GpioConfig) -> Result<Self, Error> {
        let name = format!("gpio:{}:{}", config.chip, config.line);
        let shared = Arc::new(Shared {
            state: Mutex::new(State { signal: Signal::new(config.pulse_s.map(seconds)), stop: false, trouble: None }),
            changed: Condvar::new(),
            gauge: Arc::default(),
        });
        let work = Arc::clone(&shared);
        let thread = crate::thread::spawn("gpio", move || work.run(find));
        let thread = thread.map_err(|cause| Error::Open { target: name.clone(), cause })?;
        Ok(Self { name, rule: config.rule.clone(), shared, thread })
    }
}

impl Sink for Gpio {
    fn name(&self) -> &str {
        &self.name
    }

    fn deliver(&mut self, outcome: &Outcome<'_>) -> Result<(), Error> {
        let now = Instant::now();
        let mut state = self.shared.lock();
        if outcome.result.is_ok() {
            state.signal.frame(outcome.frame.source_id, now);
        }
        for event in outcome.events.iter().filter(|event| *event.rule == *self.rule) {
            state.signal.event(event, now);
            self.shared.changed.notify_all();
        }
        let dead = self.thread.is_finished().then(|| "its thread died of an internal error".to_owned());
        let trouble = dead.or_else(|| state.trouble.clone());
        trouble.map_or(Ok(()), |why| Err(Error::Trouble { target: self.name.clone(), why }))
    }

    fn gauge(&self) -> Option<Arc<Gauge>> {
        Some(Arc::clone(&self.shared.gauge))
    }
}

impl Drop for Gpio {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        wait_for_end(&self.thread, STOP_MAX);
    }
}

impl Shared {
    /// A thread that panicked while holding the lock left a signal that is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the line as the signal is, until the end.
    fn run(&self, mut find: Find) {
        let (mut pin, mut shown, mut pause) = (None, false, RETRY_FIRST);
        loop {
            let now = Instant::now();
            let (level, stop) = {
                let state = self.lock();
                (state.signal.level(now), state.stop)
            };
            let active = level.0 && !stop;
            let set = show(&mut pin, &mut find, active);
            if set.is_ok() && active != shown {
                shown = active;
                self.gauge.delivered.fetch_add(1, Relaxed);
            }
            pause = if set.is_ok() { RETRY_FIRST } else { (pause * 2).min(RETRY_LONGEST) };
            if stop {
                return;
            }
            let retry = if set.is_ok() { RETRY_LONGEST } else { pause };
            let due = level.1.map_or(now + retry, |until| until.min(now + retry));
            let failed = set.is_err();
            let mut state = self.lock();
            state.trouble = set.err();
            // What changes meanwhile is shown at once, by a chip that is there.
            while !state.stop && Instant::now() < due && (failed || state.signal.level(Instant::now()).0 == active) {
                let wait = due.saturating_duration_since(Instant::now());
                (state, _) = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// Sets the line, which is looked for if it is not there.
fn show(pin: &mut Option<Box<dyn Pin>>, find: &mut Find, active: bool) -> Result<(), String> {
    let mut found = match pin.take() {
        Some(found) => found,
        None => find()?,
    };
    found.set(active)?;
    *pin = Some(found);
    Ok(())
}

#[cfg(test)]
mod tests;
