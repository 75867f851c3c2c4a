//! What has been asked of each model since the start, for `/metrics`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Models that are counted; there are as many in the cache of a device as it has tasks.
const MODELS_MAX: usize = 256;

/// Counts of one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Images that were answered.
    pub inferences: u64,
    /// Requests that failed after the model was there.
    pub errors: u64,
    /// Time of all inferences, pre- and post-processing included.
    pub busy: Duration,
}

/// Counts by id.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<BTreeMap<String, Usage>>);

impl Ledger {
    pub(super) fn count(&self, id: &str, change: impl FnOnce(&mut Usage)) {
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(usage) = models.get_mut(id) {
            change(usage);
        } else if models.len() < MODELS_MAX {
            change(models.entry(id.to_owned()).or_default());
        }
    }

    pub(super) fn all(&self) -> Vec<(String, Usage)> {
        let models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        models.iter().map(|(id, usage)| (id.clone(), *usage)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_by_model_and_their_number_is_bounded() {
        let ledger = Ledger::default();
        for _ in 0..2 {
            ledger.count("b/1", |usage| usage.inferences += 1);
        }
        ledger.count("a/1", |usage| usage.errors += 1);
        let all = ledger.all();
        assert_eq!(all[0], ("a/1".into(), Usage { errors: 1, ..Usage::default() }));
        assert_eq!(all[1].1.inferences, 2);
        for number in 0..2 * MODELS_MAX {
            ledger.count(&format!("m/{number}"), |usage| usage.inferences += 1);
        }
        assert_eq!(ledger.all().len(), MODELS_MAX);
    }
}
