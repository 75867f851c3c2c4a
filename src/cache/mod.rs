//! Where weights lie: model ids, the directories they map to, and the packages found there, in both of Roboflow's
//! layouts and in ours for TensorFlow Lite.
//!
//! The cache is input: nothing here writes. May not know: engines, how a package is decoded.

pub mod aliases;
mod choice;
mod classic;
pub(crate) mod digest;
mod environment;
mod error;
mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod hostile;
mod id;
mod inference_config;
mod json;
mod keypoints;
mod lease;
mod manifest;
mod models_cache;
mod package;
mod prebuilt;
mod reader;
mod record;
mod tflite;
mod weights;

use std::path::{Path, PathBuf};

pub use choice::{Cuda, Host, Lazily, PassedOver};
pub use environment::{PALETTE, Preprocessing, Resize, ResizeFormat, Rgb};
pub use error::Error;
pub use files::Located;
pub use id::ModelId;
pub use inference_config::{
    ColorMode, InferenceConfig, NetworkInput, Normalization, PostProcessing, PostProcessingKind, Recommended,
    ResizeMode,
};
pub use keypoints::Skeleton;
pub use lease::Lease;
pub(crate) use models_cache::FOLDER as MODELS_CACHE;
pub use models_cache::{Offered, preferred};
pub use package::{Layout, LayoutKind, ModelsCache, Package, PackageKind};
pub use prebuilt::Prebuilt;
pub(crate) use reader::{BLOBS, resolved};
pub(crate) use record::REGISTRY;
pub use tflite::{Answers, BoxOutputs, Tflite};
pub use weights::{WEIGHTS_BYTES_MAX, Weights};

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

/// A cache root, with packages in either of Roboflow's two layouts, or in ours.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// One package as `cache ls` shows it.
#[derive(Debug)]
pub struct Entry {
    pub id: String,
    pub layout: LayoutKind,
    /// Task and type, where they can be read.
    pub kind: Option<PackageKind>,
    /// Empty in the layouts that have one package a model.
    pub package_id: String,
    pub backend: String,
    /// Empty where nothing says it.
    pub quantization: String,
    pub dir: PathBuf,
    /// What could be read, or what stood in the way.
    pub package: Result<Package, Error>,
}

/// The package that was chosen among those of a model.
#[derive(Debug)]
pub struct Choice {
    pub package: Package,
    /// The others, with the reason of each.
    pub passed_over: Vec<PassedOver>,
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

    /// Opens the package of a model id that a CPU runs best, from the layout that goes first (see [`Cache::choose`]).
    ///
    /// # Errors
    /// As [`Cache::choose`].
    pub fn open(&self, id: &ModelId) -> Result<Package, Error> {
        self.open_as(id, None)
    }

    /// Opens the package of a model id, from one layout if that is wanted.
    ///
    /// # Errors
    /// As [`Cache::choose`].
    pub fn open_as(&self, id: &ModelId, layout: Option<LayoutKind>) -> Result<Package, Error> {
        Ok(self.choose(id, layout, &Host::default())?.package)
    }

    /// Opens the package of a model id that a host runs best.
    ///
    /// Where a model lies in both layouts and none is wanted, the models-cache goes first: it is what the default
    /// engine reads, and a client of a Roboflow server gets the default engine's answers unless it was set up
    /// otherwise. The classic layout follows where no package of the models-cache can be used; a package of ours takes the
    /// place of a classic one. Registry records, API keys and the age of files play no part.
    ///
    /// # Errors
    /// The id is malformed; the package is not there (the message names the directory, the missing file and the
    /// nearest ids that are there), leads out of the cache, belongs to another id, does not parse, has not the digest
    /// that its manifest states, or does not run on this host.
    pub fn choose(&self, id: &ModelId, layout: Option<LayoutKind>, host: &Host) -> Result<Choice, Error> {
        let mut choice = self.choose_unleased(id, layout, host)?;
        choice.package.lease = Lease::share(&choice.package.dir);
        Ok(choice)
    }

    fn choose_unleased(&self, id: &ModelId, layout: Option<LayoutKind>, host: &Host) -> Result<Choice, Error> {
        let outcome = match layout {
            Some(LayoutKind::Classic | LayoutKind::Tflite) => None,
            _ => models_cache::choose(&self.root, id, host),
        };
        let own = self.root.join(id.directory());
        if outcome.as_ref().is_none_or(|outcome| outcome.package.is_err()) && wants_own(layout, &own) {
            let passed_over = outcome.map(|outcome| outcome.passed_over).unwrap_or_default();
            return Ok(Choice { package: tflite::read(&self.root, &own, Some(id))?, passed_over });
        }
        let classic = classic::directory(&self.root, id);
        match outcome {
            Some(models_cache::Outcome { package: Ok(package), mut passed_over }) => {
                let other = match (tflite::is_package(&own), classic::has_more_than_a_type(&classic)) {
                    (true, _) => Some((LayoutKind::Tflite, "tflite")),
                    (false, true) => Some((LayoutKind::Classic, "onnx")),
                    (false, false) => None,
                };
                if let Some((other, backend)) = other.filter(|_| layout.is_none()) {
                    passed_over.push(PassedOver {
                        layout: other,
                        package_id: String::new(),
                        backend: backend.into(),
                        quantization: String::new(),
                        why: "the models-cache layout goes first, as in Roboflow's default engine".into(),
                    });
                }
                Ok(Choice { package, passed_over })
            }
            Some(models_cache::Outcome { package: Err(error), passed_over }) => {
                if layout.is_some() || !classic::has_more_than_a_type(&classic) {
                    return Err(error);
                }
                Ok(Choice { package: classic::read(&self.root, &classic, Some(id))?, passed_over })
            }
            None if layout == Some(LayoutKind::ModelsCache) => {
                let dir = self.root.join(models_cache::FOLDER);
                let help = self.nearest_ids(id);
                Err(Error::Missing { id: id.as_str().into(), dir, file: id.models_cache_slug(), help })
            }
            None => match classic::read(&self.root, &classic, Some(id)) {
                Ok(package) => Ok(Choice { package, passed_over: Vec::new() }),
                Err(Error::Missing { dir, file, .. }) => {
                    let also = match layout {
                        None => format!(", and so is {}/{}", models_cache::FOLDER, id.models_cache_slug()),
                        Some(_) => String::new(),
                    };
                    let help = also + &self.nearest_ids(id);
                    Err(Error::Missing { id: id.as_str().into(), dir, file, help })
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Every package of both layouts, sorted by id.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let classic = self.directories().into_iter().map(|dir| self.entry(dir));
        let mut entries: Vec<Entry> = classic.chain(models_cache::entries(&self.root, &Host::default())).collect();
        entries.sort_by(|a, b| (&a.id, a.layout, &a.package_id).cmp(&(&b.id, b.layout, &b.package_id)));
        entries
    }

    /// Every package of one model, without a look into the files of any other.
    #[must_use]
    pub fn entries_of(&self, id: &ModelId) -> Vec<Entry> {
        let own = Some(self.root.join(id.directory())).filter(|dir| tflite::is_package(dir));
        let classic = own.or_else(|| Some(classic::directory(&self.root, id)).filter(|dir| self.holds_a_package(dir)));
        let classic = classic.into_iter().map(|dir| self.entry(dir));
        let all = classic.chain(models_cache::entries_of(&self.root, id, &Host::default()));
        all.filter(|entry| entry.id == id.as_str()).collect()
    }

    /// Of a directory that holds a classic package, or one of ours.
    fn entry(&self, dir: PathBuf) -> Entry {
        if tflite::is_package(&dir) {
            let (package, kind) = (tflite::read(&self.root, &dir, None), tflite::kind_of(&self.root, &dir));
            let (id, layout, backend) = (self.id_of(&dir), LayoutKind::Tflite, "tflite".into());
            return Entry {
                id,
                layout,
                kind,
                package_id: String::new(),
                backend,
                quantization: String::new(),
                dir,
                package,
            };
        }
        let package = classic::read(&self.root, &dir, None);
        let kind = classic::kind_of(&self.root, &dir);
        let id = match &package {
            Ok(package) => package.id.clone(),
            Err(_) => self.id_of(&dir),
        };
        let (layout, package_id, backend) = (LayoutKind::Classic, String::new(), "onnx".into());
        Entry { id, layout, kind, package_id, backend, quantization: String::new(), dir, package }
    }

    /// Everything that is wrong with the files of a package: each is looked at, also after a fault, and hashed where
    /// a digest of it is recorded.
    #[must_use]
    pub fn faults(&self, entry: &Entry) -> Vec<Error> {
        match entry.layout {
            LayoutKind::Classic => classic::faults(&self.root, &entry.dir),
            LayoutKind::ModelsCache => models_cache::faults(&self.root, &entry.dir, entry.package.is_ok()),
            LayoutKind::Tflite => tflite::faults(&self.root, &entry.dir),
        }
    }

    /// Ids of all models, sorted, without a look into files that are large.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        let mut found = models_cache::ids(&self.root);
        found.extend(self.directories().iter().map(|dir| self.id_stated(dir)));
        found.sort();
        found.dedup();
        found
    }

    /// The directories of a model's packages, in all layouts, without a look into files that are large.
    #[must_use]
    pub fn places_of(&self, id: &ModelId) -> Vec<PathBuf> {
        let own = Some(self.root.join(id.directory())).filter(|dir| tflite::is_package(dir));
        let classic = || Some(classic::directory(&self.root, id)).filter(|dir| self.holds_a_package(dir));
        own.or_else(classic).into_iter().chain(models_cache::places(&self.root, &id.models_cache_slug())).collect()
    }

    fn nearest_ids(&self, id: &ModelId) -> String {
        let found = self.ids();
        let near = nearest(id.as_str(), found.iter().map(String::as_str), 3);
        let near = if near.is_empty() { found.iter().map(String::as_str).take(3).collect() } else { near };
        words(&near)
    }

    fn id_of(&self, dir: &Path) -> String {
        dir.strip_prefix(&self.root).unwrap_or(dir).to_string_lossy().into_owned()
    }

    /// Directories one or two levels down that hold a classic package or one of ours, sorted.
    fn directories(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for first in subdirectories(&self.root) {
            let name = first.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if RESERVED.contains(&name.as_str()) {
                continue;
            }
            let second = subdirectories(&first).into_iter().filter(|dir| self.holds_a_package(dir));
            found.extend(self.holds_a_package(&first).then(|| first.clone()).into_iter().chain(second));
            if found.len() >= ENTRIES_MAX {
                found.truncate(ENTRIES_MAX);
                break;
            }
        }
        found
    }

    /// Whether a directory is a package of ours, or a classic one, and not only the type that the default engine writes
    /// for its own.
    fn holds_a_package(&self, dir: &Path) -> bool {
        tflite::is_package(dir)
            || classic::has_more_than_a_type(dir)
            || classic::is_model_directory(dir) && !models_cache::has(&self.root, &self.id_stated(dir))
    }

    /// The id that a classic directory states as its owner, else the one it is named for.
    fn id_stated(&self, dir: &Path) -> String {
        classic::owner(&self.root, dir).unwrap_or_else(|| self.id_of(dir))
    }
}

/// Whether a package of ours is to be read from its directory: it is there and not unwanted, or nothing else is wanted.
fn wants_own(layout: Option<LayoutKind>, dir: &Path) -> bool {
    match layout {
        None => tflite::is_package(dir),
        Some(layout) => layout == LayoutKind::Tflite,
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
