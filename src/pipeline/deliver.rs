//! The delivering thread: judges each answer by the rules, gives it to every output, and settles it with its source.

use std::fmt::Display;
use std::time::Instant;

use super::buffer::{Slot, Taken};
use super::cells::SinkCell;
use super::inference_loop::Shared;
use super::telemetry::Stage;
use crate::rules::{Observed, Rules};
use crate::sink::{Error, Outcome, Sink};
use crate::source::{Fate, Receipts};

/// What the thread works with.
pub struct Delivery {
    pub rules: Option<Rules>,
    pub sinks: Vec<Box<dyn Sink>>,
    /// Of each source, by its lane; `None` of one that does not ask.
    pub receipts: Vec<Option<Box<dyn Receipts>>>,
}

/// How a slot was received.
struct Handed {
    /// Whether anybody still reads.
    read: bool,
    /// Whether every output has it, or keeps it until its receiver does.
    taken: bool,
}

impl Delivery {
    /// Until nothing more is inferred, or nobody reads.
    pub fn run(mut self, shared: &Shared) {
        loop {
            let slot = match shared.buffer.take_done() {
                Taken::Slot(slot) => slot,
                Taken::Nothing => continue,
                Taken::Closed => break,
            };
            let started = Instant::now();
            let Handed { read, taken } = self.hand_over(&slot, shared.telemetry.sinks());
            self.settle(&slot, taken);
            shared.telemetry.stage_done(Stage::Deliver, started.elapsed());
            shared.buffer.put_free(slot);
            if !read {
                shared.end();
                break;
            }
        }
        shared.buffer.end_delivery();
    }

    /// Gives a slot to every sink, also after one has failed.
    fn hand_over(&mut self, slot: &Slot, cells: &[SinkCell]) -> Handed {
        let result = if slot.error.is_empty() { Ok(&slot.predictions) } else { Err(slot.error.as_str()) };
        let Observed { tracks, events } = match (&mut self.rules, result) {
            (Some(rules), Ok(predictions)) => rules.judge(&slot.frame, predictions),
            _ => Observed::default(),
        };
        let outcome = Outcome { tracks, events, ..Outcome::new(&slot.frame, &slot.origin, result, slot.latency) };
        let mut handed = Handed { read: true, taken: true };
        for (sink, cell) in self.sinks.iter_mut().zip(cells) {
            let delivered = sink.deliver(&outcome);
            handed.taken &= !matches!(delivered, Err(Error::Write { .. } | Error::Held { .. } | Error::Closed { .. }));
            match delivered {
                Err(Error::Closed { .. }) => handed.read = false,
                delivered => cell.set_problem(delivered.as_ref().err().map(|error| error as &dyn Display)),
            }
        }
        handed
    }

    fn settle(&mut self, slot: &Slot, taken: bool) {
        let Some(receipts) = &mut self.receipts[slot.lane] else { return };
        let fate = match slot.error.as_str() {
            _ if !taken => Fate::NotTaken,
            "" => Fate::Answered,
            why => Fate::Failed(why),
        };
        receipts.settle(slot.frame.id, fate);
    }
}
