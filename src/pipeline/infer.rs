//! The thread of the network: takes frames, prepares, infers and decodes them, and hands them on.
//!
//! An engine that computes somewhere else leaves this thread free: then the next frame is prepared while one is inferred. It
//! is waited for no longer than the one in flight is expected to take, so that its answer does not wait for a camera.

use std::time::{Duration, Instant};

use super::buffer::{Slot, Taken};
use super::inference_loop::Shared;
use super::telemetry::{Part, Stage};
use crate::model::{self, Model, Prepared, Request};

/// See the head of this file.
pub(super) struct Infer<'a> {
    shared: &'a Shared,
    model: Model,
    request: Request,
    frames_max: Option<u64>,
    inferred: u64,
    engine_failed: bool,
    /// Changes of who answers that were told.
    standing: u64,
    /// The frame that is inferred, and since when.
    flying: Option<(Slot, Prepared, Instant)>,
    /// How long the last one took.
    took: Duration,
}

impl<'a> Infer<'a> {
    pub fn new(shared: &'a Shared, model: Model, request: Request, frames_max: Option<u64>) -> Self {
        Self {
            shared,
            model,
            request,
            frames_max,
            inferred: 0,
            engine_failed: false,
            standing: 0,
            flying: None,
            took: Duration::ZERO,
        }
    }

    /// Until enough was inferred, nothing more comes, or somebody asks to stop.
    pub fn run(mut self) {
        self.tell_standing();
        while !self.shared.stopping() && self.may_begin() {
            let taken = match &self.flying {
                Some((.., since)) => self.shared.buffer.take_captured_within(self.took.saturating_sub(since.elapsed())),
                None => self.shared.buffer.take_captured(),
            };
            match taken {
                Taken::Slot(slot) => self.take(slot),
                Taken::Nothing => self.land(),
                Taken::Closed if self.flying.is_some() => self.land(),
                Taken::Closed => break,
            }
        }
        self.land();
        self.shared.end_inference();
    }

    /// Whether another frame may be begun: what flies will count.
    fn may_begin(&self) -> bool {
        let flying = u64::from(self.flying.is_some());
        self.frames_max.is_none_or(|max| self.inferred + flying < max)
    }

    /// Prepares a frame, beside the one that flies, and begins with it when that has landed.
    fn take(&mut self, slot: Slot) {
        self.shared.telemetry.sources()[slot.lane].frames_dropped(slot.passed_over);
        if !slot.error.is_empty() {
            self.land();
            return self.hand_on(slot);
        }
        let prepared = match self.model.prepare(&slot.frame, &self.request) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.land();
                return self.fail(slot, &error);
            }
        };
        let landed = self.flying.take().map(|(slot, prepared, since)| (slot, prepared, since, self.model.finish()));
        if let Some((.., since, _)) = &landed {
            self.took = since.elapsed();
        }
        let begun = self.model.begin();
        if let Some((slot, prepared, since, finished)) = landed {
            self.decode(slot, &prepared, since, finished);
        }
        let since = Instant::now();
        match begun {
            Ok(true) => self.flying = Some((slot, prepared, since)),
            Ok(false) => {
                let ran = self.model.run();
                self.decode(slot, &prepared, since, ran);
            }
            Err(error) => self.fail(slot, &error),
        }
    }

    /// Waits for the frame that flies.
    fn land(&mut self) {
        if let Some((slot, prepared, since)) = self.flying.take() {
            let finished = self.model.finish();
            self.took = since.elapsed();
            self.decode(slot, &prepared, since, finished);
        }
    }

    /// What the network answered, made predictions.
    fn decode(&mut self, mut slot: Slot, prepared: &Prepared, since: Instant, finished: Result<(), model::Error>) {
        let infer = since.elapsed();
        let decoding = Instant::now();
        let decoded = finished.and_then(|()| self.model.decode(prepared, &self.request, &mut slot.predictions));
        self.tell_standing();
        if let Err(error) = decoded {
            return self.fail(slot, &error);
        }
        let telemetry = &self.shared.telemetry;
        slot.latency = slot.frame.captured_at.elapsed();
        telemetry.stage_done(Stage::Preprocess, prepared.took());
        telemetry.stage_done(Stage::Infer, infer);
        telemetry.stage_done(Stage::Decode, decoding.elapsed());
        telemetry.frame_done(slot.frame.captured_at);
        self.inferred += 1;
        if std::mem::take(&mut self.engine_failed) {
            telemetry.set_problem(Part::Engine, None);
        }
        self.hand_on(slot);
    }

    fn fail(&mut self, mut slot: Slot, error: &model::Error) {
        slot.predictions.clear(slot.frame.size());
        slot.error.push_str(&error.to_string());
        if matches!(error, model::Error::Engine(_)) {
            self.engine_failed = true;
            self.shared.telemetry.set_problem(Part::Engine, Some(error.to_string()));
        }
        self.hand_on(slot);
    }

    fn hand_on(&self, slot: Slot) {
        if !slot.error.is_empty() {
            self.shared.telemetry.frame_failed();
        }
        if !self.shared.buffer.put_done(slot) {
            self.shared.telemetry.answer_dropped();
        }
    }

    /// Says who answers, when that has changed.
    fn tell_standing(&mut self) {
        let Some(standing) = self.model.session().standing() else { return };
        if standing.changes != self.standing {
            self.standing = standing.changes;
            self.shared.telemetry.set_engine(standing.engine, &standing.version);
            self.shared.telemetry.set_problem(Part::Accelerator, standing.trouble.clone());
        }
    }
}
