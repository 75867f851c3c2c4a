//! What is loaded, how much memory it takes, and who makes room for whom.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Description, FAILURES_MAX, RETRY_AFTER};
use crate::engine::Footprint;
use crate::log;
use crate::model::Model;
use crate::serving::{Error, Kind};

#[derive(Debug, Default)]
pub(super) struct State {
    pub entries: Vec<Loaded>,
    /// The id that is being loaded: one at a time, because a load takes all that a board has.
    pub loading: Option<String>,
    /// Sessions whose model was unloaded while they worked; as many as there are workers at most.
    pub leaving: Vec<Leaving>,
    /// Counts uses, to know which was last.
    pub uses: u64,
    /// Counts loads, so that a session knows whether its model is still the same.
    pub loads: u64,
    pub failures: VecDeque<Failure>,
    pub preloaded: bool,
}

#[derive(Debug)]
pub(super) struct Failure {
    pub id: String,
    pub kind: Kind,
    pub why: String,
    pub at: Instant,
}

#[derive(Debug)]
pub(super) struct Loaded {
    pub description: Description,
    pub load: u64,
    pub footprint: Footprint,
    pub idle: Vec<Model>,
    /// Whether further sessions may be made: not once one could not.
    pub may_grow: bool,
    pub last_use: u64,
}

/// What is left of a model that was unloaded at work.
#[derive(Debug)]
pub(super) struct Leaving {
    pub load: u64,
    pub footprint: Footprint,
    pub sessions: usize,
}

fn bytes_of(footprint: Footprint, sessions: usize) -> u64 {
    footprint.shared + footprint.own * sessions as u64
}

impl Loaded {
    pub(super) fn bytes(&self) -> u64 {
        bytes_of(self.footprint, self.description.sessions)
    }

    pub(super) fn unused(&self) -> bool {
        self.idle.len() == self.description.sessions
    }
}

impl State {
    pub(super) fn position(&self, id: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.description.model_id == id)
    }

    pub(super) fn bytes(&self) -> u64 {
        let leaving = self.leaving.iter().map(|leaving| bytes_of(leaving.footprint, leaving.sessions));
        leaving.chain(self.entries.iter().map(Loaded::bytes)).sum()
    }

    /// The models that were used longest ago, unloaded until `needed` more bytes fit; whether they do. They go to `freed`:
    /// giving back their memory takes time, which who holds the lock should not take.
    pub(super) fn make_room(&mut self, needed: u64, budget: u64, keep: &str, freed: &mut Vec<Loaded>) -> bool {
        while self.bytes() + needed > budget {
            let idle =
                self.entries.iter().enumerate().filter(|(_, entry)| {
                    entry.unused() && !entry.description.pinned && entry.description.model_id != keep
                });
            let Some((oldest, _)) = idle.min_by_key(|(_, entry)| entry.last_use) else { return false };
            let entry = self.entries.remove(oldest);
            log::say(&format!("api: model {} unloaded to make room; its files stay", entry.description.model_id));
            freed.push(entry);
        }
        true
    }

    /// Forgets a model; its idle sessions are the caller's, to be dropped without the lock.
    pub(super) fn unload(&mut self, position: usize) -> Loaded {
        let entry = self.entries.remove(position);
        let sessions = entry.description.sessions - entry.idle.len();
        if sessions > 0 {
            self.leaving.push(Leaving { load: entry.load, footprint: entry.footprint, sessions });
        }
        entry
    }

    /// A session of a model that was unloaded has done its work.
    pub(super) fn left(&mut self, load: u64) {
        if let Some(at) = self.leaving.iter().position(|leaving| leaving.load == load) {
            self.leaving[at].sessions -= 1;
            if self.leaving[at].sessions == 0 {
                self.leaving.swap_remove(at);
            }
        }
    }

    /// Remembers what cost time to find out. A model that is not there may be copied there at any moment.
    pub(super) fn fail(&mut self, id: &str, error: &Error) {
        if matches!(error.kind(), Kind::Missing | Kind::InvalidId) {
            return;
        }
        self.failures.retain(|failure| failure.id != id && failure.at.elapsed() < RETRY_AFTER);
        if self.failures.len() == FAILURES_MAX {
            self.failures.pop_front();
        }
        let (kind, why) = (error.kind(), error.to_string());
        self.failures.push_back(Failure { id: id.into(), kind, why, at: Instant::now() });
    }

    pub(super) fn failure(&self, id: &str) -> Option<&Failure> {
        self.failures.iter().find(|failure| failure.id == id && failure.at.elapsed() < RETRY_AFTER)
    }
}
