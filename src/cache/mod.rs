//! Where weights lie: model ids, the directories they map to, and the packages found there.
//!
//! The cache is input: nothing here writes. May not know: engines, how a package is decoded.

pub mod aliases;
mod environment;
mod error;
mod id;
mod inference_config;
mod package;
mod weights;

use std::path::{Path, PathBuf};

pub use environment::{PALETTE, Preprocessing, Resize, ResizeFormat, Rgb};
pub use error::Error;
pub use id::ModelId;
pub use inference_config::{
    ColorMode, InferenceConfig, NetworkInput, Normalization, PostProcessing, PostProcessingKind, Recommended,
    ResizeMode,
};
pub use package::{Layout, ModelsCache, Package, PackageKind, Skeleton};
pub use weights::Weights;

use crate::error::nearest;

/// First-level names of a cache root that are never a model's directory (SPEC §1.1).
pub const RESERVED: &[&str] = &[
    "_file_locks",
    "auto-resolution-cache",
    "hf_home",
    "huggingface",
    "lora-bases",
    "models-cache",
    "offline-weights-registry",
    "owl-v2-serialized-data",
    "shared-blobs",
    "usage.db",
    "workflow",
];

/// A listing stops here: two orders of magnitude above any device, and a bound for a hostile directory tree.
const ENTRIES_MAX: usize = 10_000;

/// A cache root in Roboflow's classic layout: `{root}/{model id}/`.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// One model directory as `cache ls` shows it.
#[derive(Debug)]
pub struct Entry {
    pub id: String,
    pub dir: PathBuf,
    /// What could be read, or what stood in the way.
    pub package: Result<Package, Error>,
}

impl Cache {
    /// The cache at `root`, which need not exist yet.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the package of a model id lies, or would lie.
    #[must_use]
    pub fn directory(&self, id: &ModelId) -> PathBuf {
        self.root.join(id.directory())
    }

    /// Opens the package of a model id.
    ///
    /// # Errors
    /// The id is malformed; the package is not there (the message names the directory, the missing file and the
    /// nearest ids that are there), leads out of the cache, belongs to another id, or does not parse.
    pub fn open(&self, id: &ModelId) -> Result<Package, Error> {
        Package::read(&self.root, &self.directory(id), Some(id)).map_err(|error| match error {
            Error::Missing { dir, file, .. } => {
                let found = self.ids();
                let near = nearest(id.as_str(), found.iter().map(String::as_str), 3);
                let near = if near.is_empty() { found.iter().map(String::as_str).take(3).collect() } else { near };
                Error::Missing { id: id.as_str().into(), dir, file, nearest: words(&near) }
            }
            other => other,
        })
    }

    /// Every model directory, sorted by id.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self
            .directories()
            .into_iter()
            .map(|dir| {
                let package = Package::read(&self.root, &dir, None);
                let id = match &package {
                    Ok(package) => package.id.clone(),
                    Err(_) => self.id_of(&dir),
                };
                Entry { id, dir, package }
            })
            .collect();
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        entries
    }

    /// Ids of the directories that look like models, cheaply.
    fn ids(&self) -> Vec<String> {
        self.directories().iter().map(|dir| package::owner(dir).unwrap_or_else(|| self.id_of(dir))).collect()
    }

    fn id_of(&self, dir: &Path) -> String {
        dir.strip_prefix(&self.root).unwrap_or(dir).to_string_lossy().into_owned()
    }

    /// Directories one or two levels down that hold at least one file of a package, sorted.
    fn directories(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for first in subdirectories(&self.root) {
            let name = first.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if RESERVED.contains(&name.as_str()) {
                continue;
            }
            let second = subdirectories(&first).into_iter().filter(|dir| package::is_model_directory(dir));
            found.extend(package::is_model_directory(&first).then(|| first.clone()).into_iter().chain(second));
            if found.len() >= ENTRIES_MAX {
                found.truncate(ENTRIES_MAX);
                break;
            }
        }
        found
    }
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<PathBuf> =
        entries.take(ENTRIES_MAX).filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

fn words(ids: &[&str]) -> String {
    if ids.is_empty() { "; no model is there".into() } else { format!("; nearest ids there: {}", ids.join(", ")) }
}
