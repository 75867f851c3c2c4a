//! The sink of every peer on the network: makes records of what the loop delivers and puts them into an outbox.
//!
//! May not know: what the peer speaks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::line::Lines;
use super::outbox::{Deliver, Outbox, RecordWriter, Settings};
use super::{Error, Gauge, Outcome, Sink};
use crate::log;
use crate::model::Labels;

/// What of the loop's outcomes becomes a record.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    /// Whether events do, all of them.
    pub events: bool,
    /// Most answers a second: the first of each such interval; 0: none.
    pub answers_per_s: f64,
}

/// Looks at every outcome before records are made of it.
pub type Watch = Box<dyn FnMut(&Outcome<'_>) + Send>;

/// The sink.
pub struct Forward {
    name: String,
    records: RecordWriter,
    events: bool,
    /// Between two answers; `None`: none.
    period: Option<Duration>,
    /// When the next answer is recorded.
    due_at: Instant,
    watch: Option<Watch>,
    outbox: Outbox,
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Forward({})", self.name)
    }
}

impl Forward {
    /// Starts the threads of the outbox, called `name`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        name: &str,
        selection: Selection,
        settings: Settings,
        labels: Arc<Labels>,
        peer: Box<dyn Deliver>,
        watch: Option<Watch>,
    ) -> Result<Self, Error> {
        if settings.dir.is_none() {
            log::say(&format!(
                "{name}: no spool is configured: what waits is kept in memory and is lost with the power"
            ));
        }
        let outbox = Outbox::start(name.split(' ').next().unwrap_or(name), settings, peer)
            .map_err(|cause| Error::Trouble { target: name.into(), why: format!("no thread: {cause}") })?;
        let answers = selection.answers_per_s;
        Ok(Self {
            name: name.into(),
            records: RecordWriter::new(Lines { labels }),
            events: selection.events,
            period: (answers > 0.0).then(|| Duration::from_secs_f64(answers.recip())),
            due_at: Instant::now(),
            watch,
            outbox,
        })
    }
}

impl Sink for Forward {
    fn name(&self) -> &str {
        &self.name
    }

    fn deliver(&mut self, outcome: &Outcome<'_>) -> Result<(), Error> {
        if let Some(watch) = &mut self.watch {
            watch(outcome);
        }
        let mut pushed = Ok(());
        if self.events {
            for event in outcome.events {
                pushed = pushed.and(self.outbox.push(self.records.event(event), true));
            }
        }
        let now = Instant::now();
        if let Some(period) = self.period.filter(|_| now >= self.due_at) {
            self.due_at = now + period;
            pushed = pushed.and(self.outbox.push(self.records.answer(outcome), false));
        }
        match pushed.err().or_else(|| self.outbox.trouble()) {
            None => Ok(()),
            Some(why) => Err(Error::Trouble { target: self.name.clone(), why }),
        }
    }

    fn gauge(&self) -> Option<Arc<Gauge>> {
        Some(self.outbox.gauge())
    }
}
