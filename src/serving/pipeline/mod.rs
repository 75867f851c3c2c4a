//! Pipelines that clients start (`/inference_pipelines/*`): our own loop around sources, a model and a store of results,
//! in this process. A second one costs its buffers: the weights of a plan are mapped and shared.
//!
//! Everything has a bound: pipelines, results, events, waits. Their threads give way to the camera loop like all work for
//! clients. A pipeline whose sources have ended keeps its results until they are taken or it is terminated.
//!
//! May not know: HTTP.

mod fields;
mod journal;
mod order;
mod outputs;
mod reference;
mod results;
mod run;
mod valve;
mod workflow;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde_json::Value;

pub use order::Order;
pub use results::{Batch, Taken};
pub use run::{Latency, Pace, Run};

use self::reference::Allowed;
use super::{CLIENTS_NICE, Models};
use crate::config::ServingConfig;
use crate::priority::give_way;
use crate::{log, serving, source};

/// How often it is looked whether a pipeline has ended or has no reader any more, as Roboflow's manager does.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why something cannot be done with a pipeline.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field that is missing or of the wrong type, with the way to it and FastAPI's word for the fault.
    #[error("{}: {message}", path.join("."))]
    Field { path: Vec<&'static str>, kind: &'static str, message: String },
    /// A value that means nothing.
    #[error("{0}")]
    Invalid(String),
    /// Roboflow's server would do it.
    #[error("{0}")]
    NotYet(String),
    #[error("Could not find InferencePipeline with id={0}.")]
    Unknown(String),
    #[error("the pipeline's sources have ended; it can be read and terminated")]
    Ended,
    #[error(
        "there are {0} pipelines, counting those that have ended, and no more may be (serving.pipelines_max); terminate one"
    )]
    Full(usize),
    #[error(transparent)]
    Serving(#[from] serving::Error),
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error("the pipeline's threads: {0}")]
    Threads(#[from] std::io::Error),
}

/// All pipelines of the API. They end when this is dropped.
#[derive(Debug)]
pub struct Pipelines {
    models: Arc<Models>,
    /// From which files may be read.
    dirs: Vec<PathBuf>,
    /// From which hosts streams may be read.
    streams: Vec<String>,
    pipelines_max: usize,
    /// Of the annotated pictures, 1 to 100.
    quality: u8,
    table: Mutex<Table>,
    /// Held while a model is loaded: a load takes all that a board has.
    loading: Mutex<()>,
}

#[derive(Debug, Default)]
struct Table {
    /// In the order of their start.
    runs: Vec<Arc<Run>>,
    /// Terminated, but not ended yet: a camera driver may hang.
    leaving: Vec<Arc<Run>>,
    starting: usize,
    /// Whether a thread looks after them.
    kept: bool,
}

impl Pipelines {
    #[must_use]
    pub fn new(models: Arc<Models>, config: &ServingConfig, quality: u8) -> Arc<Self> {
        Arc::new(Self {
            models,
            dirs: config.images.dirs.clone(),
            streams: config.streams.clone(),
            pipelines_max: config.pipelines_max,
            quality,
            table: Mutex::default(),
            loading: Mutex::default(),
        })
    }

    /// Starts a pipeline and says its id. Loads a model: on a worker only. Lowers the priority of the calling thread,
    /// which the pipeline's threads inherit.
    ///
    /// # Errors
    /// There are too many pipelines, or the model or the source cannot be had.
    pub fn start(self: &Arc<Self>, order: Order) -> Result<String, Error> {
        give_way(CLIENTS_NICE);
        let place = self.reserve()?;
        let loader = self.models.loader();
        let (model, _) = {
            let _one = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
            loader.load(&loader.open(&order.work.model_id)?)?
        };
        let task = model.labels().task;
        if let Some(tasks) = order.work.tasks.filter(|tasks| !tasks.contains(&task)) {
            let [id, has] = [model.id(), task.as_str()];
            let words: Vec<&str> = tasks.iter().map(|task| task.as_str()).collect();
            return Err(Error::Invalid(format!(
                "model `{id}` is for {has}; the block of its step is for {}",
                words.join(", ")
            )));
        }
        let allowed = Allowed { dirs: &self.dirs, streams: &self.streams };
        let orientation = model.orientation(&order.work.request);
        let sources = order.references.iter().map(|reference| reference.open(allowed, orientation));
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        let run = Run::start(order, sources, model, self.quality)?;
        let id = run.id.clone();
        place.fill(run);
        Ok(id)
    }

    /// Ids, in the order of their start.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.lock().runs.iter().map(|run| run.id.clone()).collect()
    }

    /// How fast each is, in the order of their start.
    #[must_use]
    pub fn paces(&self) -> Vec<Pace> {
        let runs = self.lock().runs.clone();
        runs.iter().map(|run| run.pace()).collect()
    }

    /// A pipeline, running or ended.
    ///
    /// # Errors
    /// There is none of that id.
    pub fn get(&self, id: &str) -> Result<Arc<Run>, Error> {
        let found = self.lock().runs.iter().find(|run| run.id == id).cloned();
        found.ok_or_else(|| Error::Unknown(id.into()))
    }

    /// Holds the frames of a pipeline back.
    ///
    /// # Errors
    /// There is none of that id, or it has ended.
    pub fn pause(&self, id: &str) -> Result<(), Error> {
        if self.get(id)?.pause() { Ok(()) } else { Err(Error::Ended) }
    }

    /// Lets the frames of a paused pipeline flow again.
    ///
    /// # Errors
    /// As [`Pipelines::pause`].
    pub fn resume(&self, id: &str) -> Result<(), Error> {
        if self.get(id)?.resume() { Ok(()) } else { Err(Error::Ended) }
    }

    /// What Roboflow's watchdog reports of a pipeline.
    ///
    /// # Errors
    /// There is none of that id.
    pub fn report(&self, id: &str) -> Result<Value, Error> {
        Ok(self.get(id)?.report())
    }

    /// The oldest results that nobody has taken yet, of one frame of each source.
    ///
    /// # Errors
    /// There is no pipeline of that id.
    pub fn consume(&self, id: &str) -> Result<Option<Batch>, Error> {
        Ok(self.get(id)?.take())
    }

    /// Takes a pipeline off the list and asks it to end, without waiting for it: [`Run::over`] says when it has. Until
    /// then it counts as one.
    ///
    /// # Errors
    /// There is none of that id.
    pub fn terminate(&self, id: &str) -> Result<Arc<Run>, Error> {
        let mut table = self.lock();
        let Some(index) = table.runs.iter().position(|run| run.id == id) else { return Err(Error::Unknown(id.into())) };
        let run = table.runs.remove(index);
        run.terminate();
        table.leaving.push(Arc::clone(&run));
        Ok(run)
    }

    /// A place for one more.
    fn reserve(self: &Arc<Self>) -> Result<Place<'_>, Error> {
        let mut table = self.lock();
        table.leaving.retain(|run| !run.over());
        let count = table.runs.len() + table.leaving.len() + table.starting;
        if count >= self.pipelines_max {
            return Err(Error::Full(count));
        }
        if !table.kept {
            let pipelines = Arc::downgrade(self);
            crate::thread::spawn("pipelines", move || keep(&pipelines))?;
            table.kept = true;
        }
        table.starting += 1;
        Ok(Place { pipelines: self })
    }

    /// Lets go of what has ended, and ends what nobody reads. Returns whether there is anything left to look after.
    fn tidy(&self) -> bool {
        let runs = self.lock().runs.clone();
        for run in runs {
            if let Some(limit) = run.unread_too_long() {
                let limit_s = limit.as_secs_f64();
                log::say(&format!("pipeline {}: no result was taken for {limit_s} s; terminated", run.id));
                // Another thread may have been faster.
                let _ = self.terminate(&run.id);
            }
            run.over();
        }
        let mut table = self.lock();
        table.leaving.retain(|run| !run.over());
        table.kept = !table.runs.is_empty() || !table.leaving.is_empty() || table.starting > 0;
        table.kept
    }

    /// A thread that panicked with the lock left the table whole: each change is one push or removal.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pipelines {
    fn drop(&mut self) {
        let table = self.table.get_mut().unwrap_or_else(PoisonError::into_inner);
        table.runs.iter().for_each(|run| run.terminate());
    }
}

/// Looks after pipelines as long as there are any.
fn keep(pipelines: &Weak<Pipelines>) {
    loop {
        std::thread::sleep(LOOK_EVERY);
        match pipelines.upgrade() {
            Some(pipelines) if pipelines.tidy() => {}
            _ => return,
        }
    }
}

/// A place in the table, given back if nothing comes of it.
struct Place<'a> {
    pipelines: &'a Pipelines,
}

impl Place<'_> {
    fn fill(self, run: Run) {
        self.pipelines.lock().runs.push(Arc::new(run));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pipelines.lock().starting -= 1;
    }
}

#[cfg(test)]
mod tests;
