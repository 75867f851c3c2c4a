//! What is true now, for the messages that a broker keeps: counts, rates, and which rules see something.
//!
//! Written by the delivering thread, read by the one that speaks to the broker; each holds the lock for microseconds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::Rule;
use crate::clock::Stamp;
use crate::model::Labels;
use crate::rules::Phase;
use crate::sink::{Gauge, Outcome};

/// The state; clones share it.
#[derive(Clone, Debug)]
pub struct Live {
    labels: Arc<Labels>,
    now: Arc<Mutex<Now>>,
}

#[derive(Debug)]
struct Now {
    frames: u64,
    failed: u64,
    /// Objects in the last frame, by class.
    counts: Vec<u32>,
    latency_ms: f64,
    /// By name.
    rules: Vec<(String, RuleState)>,
}

/// What has become of a rule's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleState {
    /// Events that have begun and not ended.
    pub lasting: u32,
    /// Events that were over when they began.
    pub moments: u64,
}

/// Frames a second, between two looks.
#[derive(Debug)]
pub struct Rate {
    looked_at: Instant,
    frames: u64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { looked_at: Instant::now(), frames: 0 }
    }
}

impl Live {
    pub fn new(labels: Arc<Labels>, rules: &[Rule]) -> Self {
        let rule = |rule: &Rule| (rule.name.clone(), RuleState::default());
        let counts = vec![0; labels.class_names.len()];
        let rules = rules.iter().map(rule).collect();
        Self { labels, now: Arc::new(Mutex::new(Now { frames: 0, failed: 0, counts, latency_ms: 0.0, rules })) }
    }

    /// Takes in what the loop has delivered.
    pub fn observe(&self, outcome: &Outcome<'_>) {
        let mut now = self.lock();
        now.latency_ms = (outcome.latency.as_secs_f64() * 1e5).round() / 1e2;
        match outcome.result {
            Err(_) => now.failed += 1,
            Ok(predictions) => {
                now.frames += 1;
                now.counts.fill(0);
                for class in predictions.detections.iter().map(|detection| detection.class_id as usize) {
                    if let Some(count) = now.counts.get_mut(class) {
                        *count += 1;
                    }
                }
            }
        }
        for event in outcome.events {
            let found = now.rules.iter_mut().find(|(name, _)| **name == *event.rule);
            let Some((_, state)) = found else { continue };
            match event.phase {
                Phase::Start => state.lasting = state.lasting.saturating_add(1),
                Phase::End => state.lasting = state.lasting.saturating_sub(1),
                Phase::Once => state.moments += 1,
            }
        }
    }

    /// Of each rule, in their order.
    pub fn rules(&self) -> Vec<RuleState> {
        self.lock().rules.iter().map(|(_, state)| *state).collect()
    }

    /// The status as JSON; `device` is what else is known of it.
    pub fn status(&self, rate: &mut Rate, gauge: &Gauge, device: Option<Value>) -> Vec<u8> {
        use std::sync::atomic::Ordering::Relaxed;
        let now = self.lock();
        let elapsed = rate.looked_at.elapsed().as_secs_f64().max(1e-3);
        let fps = (now.frames.saturating_sub(rate.frames) as f64 / elapsed * 10.0).round() / 10.0;
        *rate = Rate { looked_at: Instant::now(), frames: now.frames };
        let names = self.labels.class_names.iter().zip(&now.counts);
        let classes: Map<String, Value> = names.map(|(name, count)| (name.clone(), (*count).into())).collect();
        let mut status = json!({
            "stamp": Stamp::now(),
            "fps": fps,
            "latency_ms": now.latency_ms,
            "frames": now.frames,
            "failed": now.failed,
            "counts": { "total": now.counts.iter().sum::<u32>(), "classes": classes },
            "records": {
                "delivered": gauge.delivered.load(Relaxed),
                "waiting": gauge.waiting.load(Relaxed),
                "dropped": gauge.dropped.load(Relaxed),
            },
        });
        if let Some(device) = device {
            status["device"] = device;
        }
        status.to_string().into_bytes()
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
