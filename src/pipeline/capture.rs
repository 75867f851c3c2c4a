//! The capturing thread of one source: brings frames into its lane of the buffer, and a source that is lost back.

use std::time::{Duration, Instant};

use super::adaptive::Adaptive;
use super::buffer::{Slot, Taken};
use super::cells::SourceCell;
use super::inference_loop::Shared;
use crate::config::Discipline;
use crate::source::{self, Next, Source};

/// First and longest pause before a lost source is opened again: quick for a cable that wobbles, calm for a camera
/// that is gone.
const REOPEN_FIRST: Duration = Duration::from_millis(200);
const REOPEN_LONGEST: Duration = Duration::from_secs(5);

/// What the thread works with.
#[derive(Debug)]
pub struct Capture {
    lane: usize,
    source: Box<dyn Source>,
    adaptive: Option<Adaptive>,
    /// Before the next try to open a lost source.
    pause: Duration,
}

/// What became of a slot.
enum Went {
    On,
    /// The source has ended.
    End,
}

impl Capture {
    pub fn new(lane: usize, source: Box<dyn Source>, discipline: Discipline) -> Self {
        let adaptive = discipline.adaptive.then(Adaptive::new);
        Self { lane, source, adaptive, pause: REOPEN_FIRST }
    }

    /// Until the source ends or the loop does.
    pub fn run(mut self, shared: &Shared) {
        while !shared.stopping() {
            if self.adaptive.as_mut().is_some_and(Adaptive::skips) && self.skip(shared) {
                continue;
            }
            let slot = match shared.buffer.take_free(self.lane) {
                Taken::Slot(slot) => slot,
                Taken::Nothing => continue,
                Taken::Closed => break,
            };
            if matches!(self.fill(slot, shared), Went::End) {
                break;
            }
        }
        shared.buffer.end_capture(self.lane);
    }

    fn cell<'a>(&self, shared: &'a Shared) -> &'a SourceCell {
        &shared.telemetry.sources()[self.lane]
    }

    /// Passes over a frame that nobody would use, where the source can; what is wrong with it then shows at the next one.
    fn skip(&mut self, shared: &Shared) -> bool {
        let skipped = self.source.skip();
        if skipped {
            let cell = self.cell(shared);
            cell.frame_captured();
            cell.frames_dropped(1);
        }
        skipped
    }

    fn fill(&mut self, mut slot: Slot, shared: &Shared) -> Went {
        slot.error.clear();
        match self.source.next(&mut slot.frame, &mut slot.origin) {
            Ok(Next::Frame) => {}
            Ok(Next::Nothing) => {
                shared.buffer.put_free(slot);
                return Went::On;
            }
            Ok(Next::Idle) => {
                shared.buffer.put_free(slot);
                self.cell(shared).set_idle();
                self.pause = REOPEN_FIRST;
                return Went::On;
            }
            Ok(Next::End) => {
                shared.buffer.put_free(slot);
                return Went::End;
            }
            Err(source::Error::Lost(why)) => {
                shared.buffer.put_free(slot);
                self.bring_back(why, shared);
                return Went::On;
            }
            Err(error) => slot.error.push_str(&error.to_string()),
        }
        slot.frame.source_id = u32::try_from(self.lane).expect("a handful of sources");
        let cell = self.cell(shared);
        if cell.frame_captured() {
            self.pause = REOPEN_FIRST;
        }
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.decoded(Instant::now(), shared.buffer.used(self.lane));
        }
        cell.frames_dropped(shared.buffer.put_captured(slot));
        Went::On
    }

    /// One try, after a pause that grows from one to the next until a frame has come.
    fn bring_back(&mut self, why: String, shared: &Shared) {
        self.cell(shared).set_lost(why);
        shared.pause(self.pause);
        self.pause = (self.pause * 2).min(REOPEN_LONGEST);
        if let Err(error) = self.source.reopen() {
            self.cell(shared).set_lost(error.to_string());
        }
    }
}
