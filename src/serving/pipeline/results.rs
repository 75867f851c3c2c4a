//! Results of a pipeline, kept until a client takes them: as many as it asked for, within a bound of memory, the oldest
//! giving way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::journal::Journal;
use super::outputs::{Rendered, Renderer};
use crate::pipeline::Telemetry;
use crate::pipeline::status::State as Health;
use crate::sink::{Error, Outcome, Sink};

/// Memory that the results of one pipeline may take: a thousand frames of forty objects each. A frame whose answer is
/// larger (thousands of outlines) is still kept, alone.
const RESULTS_BYTES_MAX: usize = 8 << 20;

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
    frames_max: usize,
}

#[derive(Debug)]
struct Store {
    queue: VecDeque<Taken>,
    bytes: usize,
    taken_at: Instant,
}

impl Results {
    /// Of at most `frames_max` frames.
    #[must_use]
    pub fn new(frames_max: usize) -> Self {
        let store = Store { queue: VecDeque::new(), bytes: 0, taken_at: Instant::now() };
        Self { store: Mutex::new(store), frames_max }
    }

    fn put(&self, result: Taken) {
        let mut store = self.lock();
        store.bytes += result.bytes();
        store.queue.push_back(result);
        while store.queue.len() > self.frames_max || (store.bytes > RESULTS_BYTES_MAX && store.queue.len() > 1) {
            let oldest = store.queue.pop_front();
            store.bytes -= oldest.map_or(0, |oldest| oldest.bytes());
        }
    }

    /// The oldest result.
    #[must_use]
    pub fn take(&self) -> Option<Taken> {
        let mut store = self.lock();
        let oldest = store.queue.pop_front()?;
        store.bytes -= oldest.bytes();
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

/// Puts the answers of the loop into the store.
#[derive(Debug)]
pub struct Collector {
    pub results: Arc<Results>,
    pub journal: Arc<Journal>,
    pub telemetry: Arc<Telemetry>,
    pub renderer: Renderer,
}

impl Sink for Collector {
    fn name(&self) -> &'static str {
        "results"
    }

    fn deliver(&mut self, outcome: &Outcome<'_>) -> Result<(), Error> {
        let number = outcome.frame.id + 1;
        match outcome.result {
            Ok(predictions) => {
                let fields = self.renderer.render(predictions, outcome.latency.as_secs_f64());
                let age = outcome.frame.captured_at.elapsed();
                let frame_at = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
                self.results.put(Taken { fields, frame_id: number, frame_at });
                self.journal.completed(number, outcome.latency);
            }
            Err(why) => self.journal.inference_failed(why),
        }
        Ok(())
    }
}

impl Drop for Collector {
    /// The loop lets go of its sinks when it ends, for whatever reason.
    fn drop(&mut self) {
        let health = self.telemetry.health();
        if health.state == Health::Failed {
            self.journal.inference_failed(health.reasons.first().map_or("", |reason| reason.as_str()));
        } else if std::thread::panicking() {
            self.journal.inference_failed("an internal error while results were delivered");
        }
        self.journal.inference_ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(frame_id: u64, bytes: usize) -> Taken {
        Taken { fields: vec![("f".into(), "x".repeat(bytes))], frame_id, frame_at: SystemTime::UNIX_EPOCH }
    }

    fn ids(results: &Results) -> Vec<u64> {
        std::iter::from_fn(|| results.take()).map(|taken| taken.frame_id).collect()
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
        let taken = Taken { fields, ..result(1, 0) };
        assert_eq!(taken.json(&[]), r#"{"a":[1],"b\"":2,"c":null}"#);
        assert_eq!(taken.json(&["a".into(), "x".into()]), r#"{"b\"":2,"c":null}"#);
        assert_eq!(taken.json(&["a".into(), "b\"".into(), "c".into()]), "{}");
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
