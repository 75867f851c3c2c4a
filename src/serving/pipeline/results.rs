//! Results of a pipeline, kept until a client takes them: as many as it asked for, within a bound of memory, the oldest
//! giving way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::journal::{Journal, State};
use super::outputs::{Rendered, Renderer};
use crate::pipeline::Telemetry;
use crate::pipeline::status::State as Health;
use crate::sink::{Error, Outcome, Sink};

/// Memory that the results of one pipeline may take: a thousand frames of forty objects each. A frame whose answer is
/// larger (thousands of outlines) is still kept, alone.
const RESULTS_BYTES_MAX: usize = 8 << 20;

/// Answers to one frame of each source, by its number; `None` where a source had none in time.
pub type Batch = Vec<Option<Taken>>;

/// The answer to one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub fields: Rendered,
    /// Number of the frame in its source, from 1.
    pub frame_id: u64,
    pub frame_at: SystemTime,
}

impl Taken {
    /// A JSON object of its fields, but for the `excluded`.
    #[must_use]
    pub fn json(&self, excluded: &[String]) -> String {
        let mut object = String::from("{");
        for (name, value) in
            self.fields.iter().filter(|(name, _)| !excluded.iter().any(|excluded| **excluded == **name))
        {
            let comma = if object.len() > 1 { "," } else { "" };
            object.push_str(&format!("{comma}{}:{value}", json!(**name)));
        }
        object.push('}');
        object
    }

    fn bytes(&self) -> usize {
        self.fields.iter().map(|(name, json)| name.len() + json.len()).sum()
    }
}

/// The store.
#[derive(Debug)]
pub struct Results {
    store: Mutex<Store>,
    batches_max: usize,
}

#[derive(Debug)]
struct Store {
    queue: VecDeque<Batch>,
    bytes: usize,
    taken_at: Instant,
}

impl Results {
    /// Of at most `batches_max` frames of each source.
    #[must_use]
    pub fn new(batches_max: usize) -> Self {
        let store = Store { queue: VecDeque::new(), bytes: 0, taken_at: Instant::now() };
        Self { store: Mutex::new(store), batches_max }
    }

    fn put(&self, batch: Batch) {
        let mut store = self.lock();
        store.bytes += bytes(&batch);
        store.queue.push_back(batch);
        while store.queue.len() > self.batches_max || (store.bytes > RESULTS_BYTES_MAX && store.queue.len() > 1) {
            let oldest = store.queue.pop_front();
            store.bytes -= oldest.map_or(0, |oldest| bytes(&oldest));
        }
    }

    /// The oldest results.
    #[must_use]
    pub fn take(&self) -> Option<Batch> {
        let mut store = self.lock();
        let oldest = store.queue.pop_front()?;
        store.bytes -= bytes(&oldest);
        store.taken_at = Instant::now();
        Some(oldest)
    }

    /// How long nobody has taken a result. Looking for one that is not there does not count, as with Roboflow.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.lock().taken_at.elapsed()
    }

    /// A thread that panicked with the lock left the store whole, or its count too high by one result.
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes(batch: &Batch) -> usize {
    batch.iter().flatten().map(Taken::bytes).sum()
}

/// Puts the answers of the loop into the store, those to the frames of several sources together: once each source that
/// runs has one, or one has its second. So they wait for each other for less than the time between two frames, and no
/// source for one that is slow or away.
#[derive(Debug)]
pub struct Collector {
    pub results: Arc<Results>,
    pub journal: Arc<Journal>,
    pub telemetry: Arc<Telemetry>,
    pub renderer: Renderer,
    /// What is gathered, with a place for each source.
    pub batch: Batch,
}

impl Collector {
    fn gather(&mut self, source: usize, taken: Taken) {
        if self.batch[source].is_some() {
            self.put();
        }
        self.batch[source] = Some(taken);
        let complete =
            |(source, taken): (usize, &Option<Taken>)| taken.is_some() || self.journal.state(source) == State::Ended;
        if self.batch.iter().enumerate().all(complete) {
            self.put();
        }
    }

    fn put(&mut self) {
        self.results.put(self.batch.iter_mut().map(Option::take).collect());
    }
}

impl Sink for Collector {
    fn name(&self) -> &'static str {
        "results"
    }

    fn deliver(&mut self, outcome: &Outcome<'_>) -> Result<(), Error> {
        let (source, number) = (outcome.frame.source_id as usize, outcome.frame.id + 1);
        match outcome.result {
            Ok(predictions) => {
                let fields = self.renderer.render(source, predictions, outcome.latency.as_secs_f64());
                let age = outcome.frame.captured_at.elapsed();
                let frame_at = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
                self.gather(source, Taken { fields, frame_id: number, frame_at });
                self.journal.completed(source, number, outcome.latency);
            }
            Err(why) => self.journal.inference_failed(Some(source), why),
        }
        Ok(())
    }
}

impl Drop for Collector {
    /// The loop lets go of its sinks when it ends, for whatever reason.
    fn drop(&mut self) {
        if self.batch.iter().any(Option::is_some) {
            self.put();
        }
        let health = self.telemetry.health();
        if health.state == Health::Failed {
            self.journal.inference_failed(None, health.reasons.first().map_or("", |reason| reason.as_str()));
        } else if std::thread::panicking() {
            self.journal.inference_failed(None, "an internal error while results were delivered");
        }
        self.journal.inference_ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, Task};
    use crate::pipeline::telemetry::HealthLimits;
    use crate::serving::pipeline::outputs::Outputs;

    const LIMITS: HealthLimits = HealthLimits { frame_age_max: Duration::MAX, start_grace: Duration::MAX };

    fn taken(frame_id: u64, bytes: usize) -> Taken {
        Taken { fields: vec![("f".into(), "x".repeat(bytes))], frame_id, frame_at: SystemTime::UNIX_EPOCH }
    }

    fn result(frame_id: u64, bytes: usize) -> Batch {
        vec![Some(taken(frame_id, bytes))]
    }

    fn batches(results: &Results) -> Vec<Vec<u64>> {
        let ids = |batch: Batch| batch.iter().map(|one| one.as_ref().map_or(0, |one| one.frame_id)).collect();
        std::iter::from_fn(|| results.take()).map(ids).collect()
    }

    fn ids(results: &Results) -> Vec<u64> {
        batches(results).concat()
    }

    #[test]
    fn the_oldest_give_way() {
        let results = Results::new(3);
        for id in 1..=5 {
            results.put(result(id, 10));
        }
        assert_eq!(ids(&results), [3, 4, 5]);
        assert_eq!(results.take(), None);
        assert_eq!(results.lock().bytes, 0);
    }

    #[test]
    fn a_result_is_an_object_of_the_fields_that_are_wanted() {
        let fields = vec![("a".into(), "[1]".into()), ("b\"".into(), "2".into()), ("c".into(), "null".into())];
        let taken = Taken { fields, ..taken(1, 0) };
        assert_eq!(taken.json(&[]), r#"{"a":[1],"b\"":2,"c":null}"#);
        assert_eq!(taken.json(&["a".into(), "x".into()]), r#"{"b\"":2,"c":null}"#);
        assert_eq!(taken.json(&["a".into(), "b\"".into(), "c".into()]), "{}");
    }

    #[test]
    fn answers_of_several_sources_are_put_together_and_wait_for_nobody() {
        let (results, journal) = (Arc::new(Results::new(100)), Arc::new(Journal::new(3)));
        let labels = Labels::new(Task::ObjectDetection, Vec::new());
        let mut collector = Collector {
            results: Arc::clone(&results),
            journal: Arc::clone(&journal),
            telemetry: Arc::new(Telemetry::new(Instant::now(), LIMITS)),
            renderer: Renderer { outputs: Outputs::Answer, labels, model_id: String::new() },
            batch: vec![None; 3],
        };
        let mut gather = |source, id| {
            collector.gather(source, taken(id, 1));
            batches(&results)
        };
        let none = Vec::<Vec<u64>>::new();
        // All three, in any order.
        assert_eq!((gather(1, 11), gather(0, 1), gather(2, 21)), (none.clone(), none.clone(), vec![vec![1, 11, 21]]));
        // The third is slow, or away.
        assert_eq!((gather(0, 2), gather(1, 12), gather(0, 3)), (none.clone(), none.clone(), vec![vec![2, 12, 0]]));
        // The third has ended, and is not waited for.
        journal.source_ended(2);
        assert_eq!(gather(1, 13), [vec![3, 13, 0]]);
        assert_eq!(gather(1, 14), none);
        drop(collector);
        assert_eq!(batches(&results), [vec![0, 14, 0]]);
    }

    #[test]
    fn memory_is_bounded_and_the_newest_is_always_kept() {
        let results = Results::new(1000);
        for id in 1..=20 {
            results.put(result(id, RESULTS_BYTES_MAX / 4));
            assert!(results.lock().bytes <= RESULTS_BYTES_MAX);
        }
        assert_eq!(ids(&results), [18, 19, 20]);
        results.put(result(1, 10));
        results.put(result(2, 2 * RESULTS_BYTES_MAX));
        assert_eq!(ids(&results), [2]);
    }
}
