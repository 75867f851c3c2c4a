//! Models for clients: loaded when first asked for, kept within a budget of memory, the least recently used unloaded first.
//!
//! Unloading frees memory and nothing else: the cache is input, and no file is touched. A model has as many sessions as
//! are in use at once, up to a limit; whoever finds all of them busy waits for one.

mod state;

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::state::{Leaving, Loaded, State};
use super::usage::{Ledger, Usage};
use super::{Error, Loader};
use crate::cache::{Entry, ModelId};
use crate::config::ServingConfig;
use crate::model::{self, Model, Task};
use crate::{demo, log};

/// Names of one model, and routes it was asked by, that are remembered: more than there are.
const NAMES_MAX: usize = 16;
/// How long a model that could not be loaded is not tried again: whoever repeats a request must not keep a core busy with
/// a file that is broken.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Models that could not be loaded, remembered at once.
const FAILURES_MAX: usize = 64;
/// The part of the machine's memory that models may take where nothing is said: the loop, its frames and the system have
/// the rest.
const MEMORY_SHARE: u64 = 4;
/// Where the machine does not say how much it has: what a small board can spare.
const MEMORY_UNKNOWN_BYTES: u64 = 256_000_000;

/// A loaded model, for people and for `/model/registry`.
#[derive(Clone, Debug)]
pub struct Description {
    pub model_id: String,
    pub task: Task,
    /// Images that the network takes at once.
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    /// Memory of all its sessions.
    pub bytes: u64,
    pub pinned: bool,
    pub sessions: usize,
    /// The engine that runs it.
    pub engine: &'static str,
    /// Other names by which it was asked for.
    pub aliases: Vec<String>,
    /// Routes by which it was asked for.
    pub paths: Vec<String>,
}

/// What is to be said of a model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachedState {
    Loaded,
    Cached,
    /// It cannot run, and why.
    Broken(String),
}

/// A model in the cache.
#[derive(Clone, Debug)]
pub struct Cached {
    pub id: String,
    pub task: Option<String>,
    pub state: CachedState,
    pub pinned: bool,
    /// Memory it takes; 0 while it is not loaded.
    pub bytes: u64,
}

/// All models of the API.
#[derive(Debug)]
pub struct Models {
    loader: Loader,
    sessions_max: usize,
    budget_bytes: u64,
    pinned: Vec<String>,
    /// To be loaded at the start, pinned ones first.
    preload: Vec<String>,
    state: Mutex<State>,
    /// A session came back, a model was loaded or unloaded.
    changed: Condvar,
    ledger: Ledger,
}

impl Models {
    /// None loaded yet; see [`Models::preload`].
    ///
    /// # Errors
    /// An id of the configuration is none.
    pub fn new(loader: Loader, config: &ServingConfig) -> Result<Arc<Self>, Error> {
        let ids = |ids: &[String]| -> Result<Vec<String>, Error> {
            ids.iter().map(|id| Ok(ModelId::parse(id)?.as_str().to_owned())).collect()
        };
        let pinned = ids(&config.pinned)?;
        let mut preload = pinned.clone();
        preload.extend(ids(&config.preload)?.into_iter().filter(|id| !pinned.contains(id)));
        Ok(Arc::new(Self {
            loader,
            sessions_max: config.sessions,
            budget_bytes: config.memory_mb.map_or_else(default_budget, |mb| mb * 1_000_000),
            pinned,
            state: Mutex::new(State { preloaded: preload.is_empty(), ..State::default() }),
            preload,
            changed: Condvar::new(),
            ledger: Ledger::default(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, at most until `deadline`; `None` when that is over.
    fn wait<'s>(&self, state: MutexGuard<'s, State>, deadline: Instant) -> Option<MutexGuard<'s, State>> {
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        Some(self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0)
    }

    /// What opens packages and loads them.
    #[must_use]
    pub fn loader(&self) -> &Loader {
        &self.loader
    }

    /// Loads what the configuration names. What cannot be loaded is returned with the reason; the rest is there.
    pub fn preload(self: &Arc<Self>, limit: Duration) -> Vec<(String, Error)> {
        let load = |id: &String| Some((id.clone(), self.lease(id, Instant::now() + limit).err()?));
        let failed = self.preload.iter().filter_map(load).collect();
        self.lock().preloaded = true;
        failed
    }

    /// Whether preloading is over.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.lock().preloaded
    }

    /// A session of a model, which is loaded first if need be. Waits until `deadline` for others, not for a load that it
    /// does itself.
    ///
    /// # Errors
    /// The id is none, the model is not there or does not run, there is not the memory, or others were busy for too long.
    pub fn lease(self: &Arc<Self>, id: &str, deadline: Instant) -> Result<Lease, Error> {
        let id = ModelId::parse(id)?.as_str().to_owned();
        let busy = |why| Error::Busy { id: id.clone(), why };
        let mut state = self.lock();
        loop {
            if let Some(failure) = state.failure(&id) {
                return Err(Error::Again { kind: failure.kind, why: failure.why.clone() });
            }
            state.uses += 1;
            let uses = state.uses;
            match state.position(&id) {
                Some(at) => {
                    let entry = &mut state.entries[at];
                    entry.last_use = uses;
                    if let Some(model) = entry.idle.pop() {
                        let load = entry.load;
                        return Ok(self.leased(&id, model, load, None));
                    }
                    let (own, sessions) = (entry.footprint.own, entry.description.sessions);
                    // Another session, where that does not cost another model its place.
                    let wanted = entry.may_grow && sessions < self.sessions_max && state.loading.is_none();
                    if wanted && state.bytes() + own <= self.budget_bytes {
                        if let Some(lease) = self.load_more(state, &id) {
                            return Ok(lease);
                        }
                        state = self.lock();
                        continue;
                    }
                    state = self.wait(state, deadline).ok_or_else(|| busy("all its sessions are busy"))?;
                }
                None if state.loading.is_some() => {
                    state = self.wait(state, deadline).ok_or_else(|| busy("a model is being loaded"))?;
                }
                None => return self.load_first(state, &id, deadline),
            }
        }
    }

    fn leased(self: &Arc<Self>, id: &str, model: Model, load: u64, loaded_in: Option<Duration>) -> Lease {
        Lease { models: Arc::clone(self), id: id.into(), model: Some(model), load, loaded_in }
    }

    /// Loads a model that is not there, and takes its first session.
    fn load_first(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        id: &str,
        deadline: Instant,
    ) -> Result<Lease, Error> {
        state.loading = Some(id.into());
        drop(state);
        let loading = Loading(self);
        let started = Instant::now();
        let loaded = self.loader.open(id).and_then(|package| self.loader.load(&package));
        let (model, chosen) = loaded.inspect_err(|error| self.lock().fail(id, error))?;
        let took = started.elapsed();
        let shape = model.session().input_shape();
        let footprint = model.session().footprint();
        let needed = footprint.shared + footprint.own;
        // Before the lock, to be dropped after it.
        let mut freed = Vec::new();
        let mut state = self.lock();
        while !state.make_room(needed, self.budget_bytes, id, &mut freed) {
            // What is in use now may be idle soon; what is pinned stays.
            let pinned = state.entries.iter().filter(|entry| entry.description.pinned);
            if pinned.map(Loaded::bytes).sum::<u64>() + needed > self.budget_bytes {
                let mb = |bytes: u64| bytes.div_ceil(1_000_000);
                let error =
                    Error::Budget { id: id.into(), needed_mb: mb(needed), limit_mb: self.budget_bytes / 1_000_000 };
                state.fail(id, &error);
                return Err(error);
            }
            let busy = || Error::Busy { id: id.into(), why: "other models are in use and leave no memory for it" };
            state = self.wait(state, deadline).ok_or_else(busy)?;
        }
        state.uses += 1;
        state.loads += 1;
        let (last_use, load) = (state.uses, state.loads);
        let description = Description {
            model_id: id.into(),
            task: model.labels().task,
            batch: shape.batch,
            height: shape.height,
            width: shape.width,
            bytes: needed,
            pinned: self.pinned.iter().any(|pinned| pinned == id),
            sessions: 1,
            engine: chosen.name,
            aliases: Vec::new(),
            paths: Vec::new(),
        };
        state.entries.push(Loaded { description, load, footprint, idle: Vec::new(), may_grow: true, last_use });
        drop(state);
        drop(loading);
        log::say(&format!("api: model {id} loaded in {:.2} s on engine {}", took.as_secs_f64(), chosen.name));
        Ok(self.leased(id, model, load, Some(took)))
    }

    /// Loads one more session of a model that is there; `None` when that fails, and those that are there must do.
    fn load_more(self: &Arc<Self>, mut state: MutexGuard<'_, State>, id: &str) -> Option<Lease> {
        state.loading = Some(id.into());
        let load = state.position(id).map(|at| state.entries[at].load);
        drop(state);
        let _loading = Loading(self);
        let loaded = self.loader.open(id).and_then(|package| self.loader.load(&package));
        let mut state = self.lock();
        let (model, _) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                log::say(&format!("api: model {id}: no further session: {error}"));
                if let Some(at) = state.position(id) {
                    state.entries[at].may_grow = false;
                }
                return None;
            }
        };
        match state.position(id) {
            Some(at) if Some(state.entries[at].load) == load => state.entries[at].description.sessions += 1,
            // Unloaded meanwhile: this session leaves as soon as it has done its work.
            _ => {
                let footprint = model.session().footprint();
                state.leaving.push(Leaving { load: load.unwrap_or_default(), footprint, sessions: 1 });
            }
        }
        drop(state);
        Some(self.leased(id, model, load.unwrap_or_default(), None))
    }

    /// Frees the memory of a model, of a session at work as soon as that is done. No file is touched.
    pub fn remove(&self, id: &str) {
        let Ok(id) = ModelId::parse(id) else { return };
        let mut state = self.lock();
        let freed = state.position(id.as_str()).map(|at| state.unload(at));
        drop(state);
        drop(freed);
        self.changed.notify_all();
    }

    /// As [`Models::remove`], for all.
    pub fn clear(&self) {
        let mut state = self.lock();
        let freed: Vec<Loaded> = (0..state.entries.len()).map(|_| state.unload(0)).collect();
        drop(state);
        drop(freed);
        self.changed.notify_all();
    }

    /// What is loaded, in the order of loading.
    #[must_use]
    pub fn list(&self) -> Vec<Description> {
        let state = self.lock();
        let describe = |entry: &Loaded| Description { bytes: entry.bytes(), ..entry.description.clone() };
        state.entries.iter().map(describe).collect()
    }

    /// Remembers by which route, and by which other name, a loaded model was asked for.
    pub fn note_request(&self, id: &str, path: &str) {
        let Ok(parsed) = ModelId::parse(id) else { return };
        let mut state = self.lock();
        let Some(at) = state.position(parsed.as_str()) else { return };
        let Description { aliases, paths, .. } = &mut state.entries[at].description;
        let remember = |names: &mut Vec<String>, name: &str| {
            if names.len() < NAMES_MAX && !names.iter().any(|known| known == name) {
                names.push(name.into());
                names.sort();
            }
        };
        remember(paths, path);
        if id != parsed.as_str() {
            remember(aliases, id);
        }
    }

    /// Counts an answer: how many images, and the time that they took.
    pub fn note_inferences(&self, id: &str, images: u64, took: Duration) {
        self.ledger.count(id, |usage| {
            usage.inferences += images;
            usage.busy += took;
        });
    }

    /// Counts a request that failed although its model was there.
    pub fn note_error(&self, id: &str) {
        self.ledger.count(id, |usage| usage.errors += 1);
    }

    /// Counts of every model since the start.
    #[must_use]
    pub fn usage(&self) -> Vec<(String, Usage)> {
        self.ledger.all()
    }

    /// Memory of all loaded models, and how much they may take, bytes.
    #[must_use]
    pub fn memory(&self) -> (u64, u64) {
        (self.lock().bytes(), self.budget_bytes)
    }

    /// What is in the cache, sorted by id, and the model in the binary. Reads the packages: on a worker only.
    #[must_use]
    pub fn cached(&self) -> Vec<Cached> {
        let mut found: Vec<Cached> = Vec::new();
        for entry in self.loader.cache.entries() {
            // A model may have several packages: one that can run makes it one that can.
            let cached = self.described(&entry);
            match found.iter_mut().find(|known| known.id == cached.id) {
                Some(known) if matches!(known.state, CachedState::Broken(_)) => *known = cached,
                Some(_) => {}
                None => found.push(cached),
            }
        }
        if !found.iter().any(|cached| cached.id == demo::MODEL_ID) {
            let task = Some(Task::ObjectDetection.as_str().to_owned());
            found.push(self.with_state(demo::MODEL_ID.into(), task, CachedState::Cached));
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found
    }

    fn described(&self, entry: &Entry) -> Cached {
        let task = entry.kind.as_ref().map(|kind| kind.task.clone());
        let broken = match &entry.package {
            Err(error) => Some(error.to_string()),
            Ok(package) => model::contract(package).err().map(|error| error.to_string()),
        };
        let state = broken.map_or(CachedState::Cached, CachedState::Broken);
        self.with_state(entry.id.clone(), task, state)
    }

    fn with_state(&self, id: String, task: Option<String>, state: CachedState) -> Cached {
        let shared = self.lock();
        let loaded = shared.position(&id).map(|at| shared.entries[at].bytes());
        let state = match (loaded, shared.failure(&id)) {
            (Some(_), _) => CachedState::Loaded,
            (None, Some(failure)) => CachedState::Broken(failure.why.clone()),
            (None, None) => state,
        };
        let pinned = self.pinned.contains(&id);
        Cached { id, task, state, pinned, bytes: loaded.unwrap_or(0) }
    }

    fn give_back(&self, id: &str, load: u64, model: Model) {
        let mut state = self.lock();
        match state.position(id) {
            Some(at) if state.entries[at].load == load => state.entries[at].idle.push(model),
            _ => state.left(load),
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// Says that a load is over, however it ended.
struct Loading<'m>(&'m Models);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.lock().loading = None;
        self.0.changed.notify_all();
    }
}

/// A session of a model, for as long as this is held.
#[derive(Debug)]
pub struct Lease {
    models: Arc<Models>,
    id: String,
    /// Always there but while it is dropped.
    model: Option<Model>,
    load: u64,
    loaded_in: Option<Duration>,
}

impl Lease {
    /// How long the load took, where this request was the one to wait for it.
    #[must_use]
    pub fn loaded_in(&self) -> Option<Duration> {
        self.loaded_in
    }

    /// The id in the cache, whatever name it was asked for by.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Deref for Lease {
    type Target = Model;

    fn deref(&self) -> &Model {
        self.model.as_ref().expect("taken only when dropped")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Model {
        self.model.as_mut().expect("taken only when dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(model) = self.model.take() {
            self.models.give_back(&self.id, self.load, model);
        }
    }
}

fn default_budget() -> u64 {
    let bytes = nix::sys::sysinfo::sysinfo().map(|info| info.ram_total());
    bytes.map_or(MEMORY_UNKNOWN_BYTES, |bytes| bytes / MEMORY_SHARE)
}

#[cfg(test)]
mod tests;
