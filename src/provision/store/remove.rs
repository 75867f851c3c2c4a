//! `cache rm`: a model with all its packages, what Roboflow's programs noted of it, and what was made from it.

use std::fs;
use std::path::{Path, PathBuf};

use super::collect::{referred, remove_blob, remove_path};
use super::hold::Hold;
use super::state::{Piece, State, names};
use super::{Error, Staging, files, is_lock};
use crate::cache::{self, BLOBS, Cache, MODELS_CACHE, ModelId, REGISTRY};
use crate::durable;

/// Below the cache root: what Roboflow's loader remembers of its choices.
const AUTO_RESOLUTION: &str = "auto-resolution-cache";
/// A larger entry is none.
const ENTRY_BYTES_MAX: u64 = 1 << 20;
const MODEL_TYPE: &str = "model_type.json";

/// What goes with some models.
#[derive(Clone, Debug, Default)]
pub struct Removal {
    pub models: Vec<OfModel>,
    /// Blobs that no other package refers to, with their bytes.
    pub blobs: Vec<(PathBuf, u64)>,
    /// Plans, engines and notes that no other model's weights need.
    pub state: Vec<Piece>,
}

/// What goes with one model.
#[derive(Clone, Debug)]
pub struct OfModel {
    pub id: String,
    /// Directories of its packages.
    pub packages: Vec<PathBuf>,
    /// Records and entries.
    pub texts: Vec<PathBuf>,
    /// Of both; what links lead to is not counted.
    pub bytes: u64,
}

impl Removal {
    /// Finds it, and changes nothing.
    ///
    /// # Errors
    /// A model is not there; or weights cannot be read, so that it is not known what is made from them.
    pub fn new(cache: &Cache, state: &State, ids: &[ModelId]) -> Result<Self, Error> {
        let models = ids.iter().map(|id| OfModel::find(cache, id)).collect::<Result<Vec<_>, _>>()?;
        let packages: Vec<PathBuf> = models.iter().flat_map(|model| model.packages.clone()).collect();
        let (used, others) = (referred_in(&packages), referred(cache.root(), &packages));
        let blobs = used.into_iter().filter(|name| !others.contains(name));
        let blobs = blobs
            .map(|name| cache.root().join(BLOBS).join(name))
            .filter(|path| path.is_file() && files::is_below(cache.root(), path));
        let digests = state.digests(cache)?;
        let but: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
        let own: Vec<&String> =
            digests.of.iter().filter(|(id, _)| but.contains(&id.as_str())).flat_map(|(_, of)| of).collect();
        let made = |piece: &Piece| own.iter().any(|sha256| piece.is_of(sha256)) && !digests.keep(piece, &but);
        Ok(Self {
            blobs: blobs.map(|path| (path.clone(), files::size(&path))).collect(),
            state: state.pieces().into_iter().filter(made).collect(),
            models,
        })
    }

    /// Everything, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let models = self.models.iter().map(|model| model.bytes);
        let state = self.state.iter().map(|piece| piece.bytes);
        models.chain(self.blobs.iter().map(|(_, bytes)| *bytes)).chain(state).sum()
    }
}

impl OfModel {
    fn find(cache: &Cache, id: &ModelId) -> Result<Self, Error> {
        let packages = cache.places_of(id);
        let mut texts = Vec::new();
        let record = cache.root().join(REGISTRY).join(format!("{}.json", id.models_cache_slug()));
        texts.extend(Some(record).filter(|path| path.symlink_metadata().is_ok()));
        texts.extend(resolutions(cache.root(), id));
        // What the default engine's loader wrote where a classic package would be, and nothing else.
        let own = cache.root().join(id.directory());
        let only_a_type = names(&own).iter().all(|name| name == MODEL_TYPE) && own.join(MODEL_TYPE).exists();
        texts.extend(Some(own).filter(|own| only_a_type && !packages.contains(own)));
        if packages.is_empty() && texts.is_empty() {
            // Says what is there instead.
            return Err(match cache.open(id) {
                Err(error) => error.into(),
                Ok(package) => {
                    let (dir, file) = (package.dir, id.as_str().into());
                    cache::Error::Missing { id: id.as_str().into(), dir, file, help: "; it has another id".into() }
                        .into()
                }
            });
        }
        if let Some(path) = packages.iter().chain(&texts).find(|path| !files::is_below(cache.root(), path)) {
            return Err(Error::Outside { path: path.clone(), root: cache.root().into() });
        }
        let bytes = packages.iter().chain(&texts).map(|path| files::size(path)).sum();
        Ok(Self { id: id.as_str().into(), packages, texts, bytes })
    }
}

/// Entries of Roboflow's loader that are of a model.
fn resolutions(root: &Path, id: &ModelId) -> Vec<PathBuf> {
    let folder = root.join(AUTO_RESOLUTION);
    let is_of = |path: &PathBuf| {
        let bytes = durable::read_bounded(path, ENTRY_BYTES_MAX).ok().flatten();
        let entry: Option<serde_json::Value> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let keys = ["model_id", "cache_model_id", "canonical_model_id"];
        entry.is_some_and(|entry| keys.iter().any(|key| entry[key] == id.as_str()))
    };
    names(&folder).into_iter().filter(|name| !is_lock(name)).map(|name| folder.join(name)).filter(is_of).collect()
}

/// Names of the blobs that these packages refer to.
fn referred_in(packages: &[PathBuf]) -> Vec<String> {
    let mut found = Vec::new();
    for package in packages {
        files::walk(package, &mut |path| {
            let target = fs::read_link(path).ok();
            let name = target.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
            found.extend(name.filter(|name| cache::digest::is_md5(name)).map(str::to_owned));
        });
    }
    found.sort();
    found.dedup();
    found
}

/// Removes it. Packages that are in use are found before anything goes.
///
/// # Errors
/// A package is in use, or the disk refuses; what went by then stays gone, and each package is there whole or not at all.
pub fn remove(removal: &Removal, cache: &Cache) -> Result<(), Error> {
    let mut holds = Vec::new();
    for model in &removal.models {
        for package in &model.packages {
            holds.push(Hold::take(cache, &model.id, package)?);
        }
    }
    let staging = Staging::new(cache.root(), "rm")?;
    for model in &removal.models {
        for path in model.packages.iter().chain(&model.texts) {
            staging.take(path)?;
            tidy(cache.root(), path);
        }
    }
    for (blob, _) in &removal.blobs {
        remove_blob(blob)?;
    }
    for piece in &removal.state {
        remove_path(&piece.path)?;
    }
    drop(staging);
    Ok(())
}

/// Removes the directory above when nothing is left in it but locks that nobody can want any more.
fn tidy(root: &Path, path: &Path) {
    let Some(above) = path.parent().filter(|above| above.starts_with(root) && *above != root) else { return };
    let left = names(above);
    if above.parent() == Some(&root.join(MODELS_CACHE)) && left.iter().all(|name| is_lock(name)) {
        let _ = fs::remove_dir_all(above);
    } else if left.is_empty() && above.parent() == Some(root) {
        let _ = fs::remove_dir(above);
    }
}
