//! What is kept of networks that were made ready for an accelerator: engines and timing caches of TensorRT, optimised graphs of
//! ONNX Runtime, and the record that they were found right.
//!
//! A folder a network and everything that its engine depends on, named by the digest of both. It can be deleted at any
//! time, and is made anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::protocol::{Facts, Provider};
use crate::cache::digest;
use crate::durable;
use crate::engine::Precision;
use crate::engine::plan::Referee;

const RECORD: &str = "record.json";
/// A larger one is none of ours: each output has at most a few hundred remembered values.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// All that an engine file depends on: another driver, another library, another GPU, another engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub model_sha256: String,
    pub provider: Provider,
    /// N C H W.
    pub shape: [usize; 4],
    pub precision: String,
    /// Of the library, TensorRT and the GPU, as far as the provider uses them.
    pub library: String,
    pub tensorrt: Option<String>,
    pub gpu: Option<String>,
    pub compute_capability: Option<(u32, u32)>,
    pub driver: Option<String>,
    /// ONNX Runtime's own kernels are chosen by the CPU.
    pub cpu: Option<String>,
    pub made_by: String,
    /// SHA-256 of the engine's file, where it was built elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prebuilt: Option<String>,
}

impl Identity {
    pub fn new(model_sha256: &str, provider: Provider, shape: [usize; 4], precision: Precision, facts: &Facts) -> Self {
        let gpu = facts.gpu.as_ref().and_then(|gpu| gpu.as_ref().ok()).filter(|_| provider.needs_cuda());
        let tensorrt = facts.tensorrt.as_ref().and_then(|version| version.as_ref().ok());
        Self {
            model_sha256: model_sha256.into(),
            provider,
            shape,
            precision: precision.as_str().into(),
            library: facts.version.clone(),
            tensorrt: tensorrt.filter(|_| provider == Provider::TensorRt).cloned(),
            gpu: gpu.map(|gpu| gpu.name.clone()),
            compute_capability: gpu.map(|gpu| gpu.compute_capability),
            driver: gpu.map(|gpu| gpu.driver.clone()),
            cpu: (provider == Provider::Cpu).then(|| crate::engine::plan::native().isa.name.to_owned()),
            made_by: env!("CARGO_PKG_VERSION").into(),
            prebuilt: None,
        }
    }
}

/// That an engine was found right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub identity: Identity,
    /// How its outputs compare with tract's.
    pub referee: Referee,
    /// Some of its answers to the golden frame.
    pub answers: Vec<Vec<f32>>,
    /// How long it took to make, seconds: what the next one may take.
    pub seconds: f64,
}

/// The folder of one network and engine.
#[derive(Clone, Debug)]
pub struct Kept {
    folder: PathBuf,
    identity: Identity,
}

impl Kept {
    /// Below `root`, made if it is missing; folders of the same network and engine whose identity is another are removed.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn open(root: &Path, identity: Identity) -> Result<Self, String> {
        let text = serde_json::to_string(&identity).map_err(|error| error.to_string())?;
        // An engine that is built here does not take the place of one that was built elsewhere, nor the other way round.
        let prebuilt = if identity.prebuilt.is_some() { "prebuilt-" } else { "" };
        let (network, provider) = (&identity.model_sha256[..16], identity.provider.name());
        let kind = format!("{network}-{provider}-{prebuilt}{}", identity.precision);
        let name = format!("{kind}-{}", &digest::sha256(text.as_bytes())[..16]);
        let folder = root.join(&name);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let others = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
        for other in
            others.filter(|other| other.file_name().to_str().is_some_and(|of| of.starts_with(&kind) && of != name))
        {
            // One of another size of input is of the same network, and stays.
            let shape = read(&other.path()).map(|record| record.identity.shape);
            if shape.is_none_or(|shape| shape == identity.shape) {
                let _ = fs::remove_dir_all(other.path());
            }
        }
        Ok(Self { folder, identity })
    }

    /// What the provider keeps: a file, or a folder of them.
    #[must_use]
    pub fn place(&self) -> PathBuf {
        match self.identity.provider {
            Provider::Cpu => self.folder.join("optimised.onnx"),
            _ => self.folder.clone(),
        }
    }

    /// Whether an engine is there, so that loading it is no building.
    #[must_use]
    pub fn has_engine(&self) -> bool {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok);
        let ends = |name: &str| [".engine", ".onnx"].iter().any(|end| name.ends_with(end));
        entries.into_iter().any(|entry| entry.file_name().to_str().is_some_and(ends))
    }

    /// The record of the engine that is there.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        read(&self.folder).filter(|record| record.identity == self.identity)
    }

    /// Writes that the engine was found right.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn accept(&self, referee: Referee, answers: Vec<Vec<f32>>, seconds: f64) -> Result<(), String> {
        let record = Record { identity: self.identity.clone(), referee, answers, seconds };
        let text = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
        durable::write_durably(&self.folder.join(RECORD), &text).map_err(|error| error.to_string())
    }

    /// Removes an engine that was found wrong, so that nobody loads it again.
    pub fn reject(&self) {
        if let Err(error) = fs::remove_dir_all(&self.folder).and_then(|()| fs::create_dir_all(&self.folder)) {
            crate::log::say(&format!(
                "{}: an engine that is not right cannot be removed: {error}",
                self.folder.display()
            ));
        }
    }

    /// How long the last one took: of this network, or else of any other with the same engine.
    #[must_use]
    pub fn took(&self) -> Option<Duration> {
        let folders = fs::read_dir(self.folder.parent()?).ok()?.filter_map(Result::ok);
        let records = folders.filter_map(|folder| read(&folder.path()));
        let same = records.filter(|Record { identity, .. }| {
            identity.provider == self.identity.provider
                && identity.prebuilt.is_some() == self.identity.prebuilt.is_some()
        });
        let of_this = |record: &Record| record.identity.model_sha256 == self.identity.model_sha256;
        let best = same.max_by(|a, b| of_this(a).cmp(&of_this(b)).then(a.seconds.total_cmp(&b.seconds)))?;
        Duration::try_from_secs_f64(best.seconds).ok()
    }

    /// For words.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn read(folder: &Path) -> Option<Record> {
    let bytes = durable::read_bounded(&folder.join(RECORD), RECORD_BYTES_MAX).ok()??;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(prebuilt: Option<&str>) -> Identity {
        let shape = [1, 3, 64, 64];
        let own = Identity::new(&"ab".repeat(32), Provider::TensorRt, shape, Precision::Fp32, &Facts::default());
        Identity { prebuilt: prebuilt.map(str::to_owned), ..own }
    }

    #[test]
    fn an_engine_built_elsewhere_and_one_built_here_do_not_take_each_others_place() {
        let root = tempfile::tempdir().unwrap();
        let own = Kept::open(root.path(), identity(None)).unwrap();
        fs::write(own.folder().join("x.engine"), "").unwrap();
        let first = Kept::open(root.path(), identity(Some("first"))).unwrap();
        assert_ne!(own.folder(), first.folder());
        assert!(own.has_engine() && !first.has_engine());
        Kept::open(root.path(), identity(None)).unwrap();
        assert!(first.folder().is_dir());
        // Another engine for the same does.
        let second = Kept::open(root.path(), identity(Some("second"))).unwrap();
        assert!(second.folder().is_dir() && !first.folder().exists() && own.has_engine());
    }

    #[test]
    fn what_was_found_out_of_one_says_nothing_of_the_other() {
        let root = tempfile::tempdir().unwrap();
        let referee = Referee { bound: 1e-3, outputs: Vec::new() };
        let prebuilt = Kept::open(root.path(), identity(Some("first"))).unwrap();
        prebuilt.accept(referee, vec![vec![1.0]], 3.0).unwrap();
        let own = Kept::open(root.path(), identity(None)).unwrap();
        assert_eq!((own.record(), own.took()), (None, None));
        assert_eq!(prebuilt.took(), Some(Duration::from_secs(3)));
        // A record of a version that knew of no engines built elsewhere is still read.
        let text = serde_json::to_string(&identity(None)).unwrap();
        assert!(!text.contains("prebuilt"));
        assert_eq!(serde_json::from_str::<Identity>(&text).unwrap(), identity(None));
    }
}
