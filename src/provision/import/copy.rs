//! Packages of another cache, in either of Roboflow's layouts or in ours, copied into this one.
//!
//! Links are read as links of the cache they lie in, wherever it was when it was written; what is copied is checked
//! against every digest that its cache states.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Error, place};
use crate::cache::{self, BLOBS, Cache, MODELS_CACHE, ModelId, REGISTRY, digest};
use crate::provision::store::{self, Staging, files};

const MODEL_TYPE: &str = "model_type.json";

/// What is copied.
#[derive(Clone, Copy, Debug)]
pub struct Copying<'a> {
    pub from: &'a Cache,
    /// Empty: all models.
    pub ids: &'a [String],
    pub replace: bool,
}

/// What became of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Copied,
    /// The same, file by file.
    There,
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    pub id: String,
    /// Of its files.
    pub bytes: u64,
    pub outcome: Outcome,
}

/// One model of the other cache.
struct Model {
    id: ModelId,
    /// Directories of its packages.
    places: Vec<PathBuf>,
    bytes: u64,
}

/// Copies models; what became of each is given to `each` as well, as soon as it is known.
///
/// # Errors
/// There is nothing to copy, no room for it, or the caches are one and the same. What is wrong with one model is its outcome.
pub fn copy(what: Copying<'_>, to: &Cache, each: &mut dyn FnMut(&Copied)) -> Result<Vec<Copied>, Error> {
    let Copying { from, ids, replace } = what;
    let read = |dir: &Path| dir.canonicalize().map_err(store::Error::io(dir, "found"));
    fs::create_dir_all(to.root()).map_err(store::Error::io(to.root(), "made"))?;
    let (source, root) = (Cache::at(read(from.root())?), Cache::at(read(to.root())?));
    if source.root() == root.root() {
        return Err(Error::Usage(format!("{}: is this cache itself", from.root().display())));
    }
    let ids = if ids.is_empty() { source.ids() } else { ids.to_vec() };
    if ids.is_empty() {
        return Err(Error::Usage(format!(
            "{}: is neither an ONNX file nor a cache with a model",
            from.root().display()
        )));
    }
    let models: Vec<(String, Result<Model, Error>)> =
        ids.into_iter().map(|id| (id.clone(), Model::find(&source, &id))).collect();
    let needed = models.iter().filter_map(|(_, model)| Some(model.as_ref().ok()?.bytes)).sum();
    files::require_room(root.root(), needed)?;
    let mut done = Vec::new();
    for (id, model) in models {
        let bytes = model.as_ref().map_or(0, |model| model.bytes);
        let outcome = model.and_then(|model| model.copy(&source, &root, replace));
        let copied = Copied { id, bytes, outcome: outcome.unwrap_or_else(|error| Outcome::Failed(error.to_string())) };
        each(&copied);
        done.push(copied);
    }
    Ok(done)
}

impl Model {
    fn find(source: &Cache, id: &str) -> Result<Self, Error> {
        let id = ModelId::parse(id)?;
        let places = source.places_of(&id);
        if places.is_empty() {
            // Says what is there.
            source.open(&id)?;
        }
        let mut bytes = 0;
        for place in &places {
            for (_, path) in contents(source.root(), place)? {
                bytes += fs::metadata(&path).map_or(0, |metadata| metadata.len());
            }
        }
        Ok(Self { id, places, bytes })
    }

    fn copy(&self, source: &Cache, to: &Cache, replace: bool) -> Result<Outcome, Error> {
        let there = to.places_of(&self.id);
        if !there.is_empty() {
            if self.is_same(source, to, &there)? {
                return Ok(Outcome::There);
            }
            if !replace {
                return Err(Error::Exists { id: self.id.as_str().into(), dir: there[0].clone() });
            }
        }
        let staging = Staging::new(to.root(), "import")?;
        let staged = Cache::at(staging.dir());
        for place in &self.places {
            stage(source.root(), place, staged.root(), to.root())?;
        }
        self.stage_texts(source.root(), staged.root())?;
        self.check(&staged)?;
        let here: Vec<PathBuf> = self
            .places
            .iter()
            .filter_map(|place| Some(to.root().join(place.strip_prefix(source.root()).ok()?)))
            .collect();
        let others: Vec<PathBuf> = there.into_iter().filter(|place| !here.contains(place)).collect();
        let own = self.own(source);
        place::place(&staging, to.root(), &own, &self.id.models_cache_slug(), &others)?;
        Ok(Outcome::Copied)
    }

    /// The directory outside `models-cache`: an older version's, where the other cache has that.
    fn own(&self, source: &Cache) -> PathBuf {
        let classic = self.places.iter().filter_map(|place| place.strip_prefix(source.root()).ok());
        let mut classic = classic.filter(|place| !place.starts_with(MODELS_CACHE));
        classic.next().map_or_else(|| self.id.directory(), Path::to_path_buf)
    }

    /// What the registry and the default engine's loader say of a model, where they do.
    fn stage_texts(&self, from: &Path, staged: &Path) -> Result<(), Error> {
        let record = PathBuf::from(REGISTRY).join(format!("{}.json", self.id.models_cache_slug()));
        let model_type = self.id.directory().join(MODEL_TYPE);
        for file in [record, model_type] {
            let (source, target) = (from.join(&file), staged.join(&file));
            if !target.exists() && source.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
                let dir = target.parent().unwrap_or(staged);
                fs::create_dir_all(dir).map_err(store::Error::io(dir, "made"))?;
                files::copy(&source, &target)?;
            }
        }
        Ok(())
    }

    fn check(&self, staged: &Cache) -> Result<(), Error> {
        let entries = staged.entries_of(&self.id);
        let faults: Vec<String> =
            entries.iter().flat_map(|entry| staged.faults(entry)).map(|fault| fault.to_string()).collect();
        match faults.is_empty() && !entries.is_empty() {
            true => Ok(()),
            false if entries.is_empty() => Err(Error::Check("it belongs to another model".into())),
            false => Err(Error::Check(faults.join("; "))),
        }
    }

    /// Whether this cache has the same files with the same content.
    fn is_same(&self, source: &Cache, to: &Cache, there: &[PathBuf]) -> Result<bool, Error> {
        let digests = |cache: &Cache, places: &[PathBuf]| -> Result<BTreeMap<PathBuf, String>, Error> {
            let mut all = BTreeMap::new();
            for place in places {
                let below = place.strip_prefix(cache.root()).unwrap_or(place);
                for (file, path) in contents(cache.root(), place)? {
                    let (md5, _) = digest::of_file(&path).map_err(|cause| cache::Error::Read { path, cause })?;
                    all.insert(below.join(file), md5);
                }
            }
            Ok(all)
        };
        Ok(digests(source, &self.places)? == digests(to, there)?)
    }
}

/// Files of a package: their path in it, and where their content lies.
fn contents(root: &Path, dir: &Path) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    let mut found = Vec::new();
    files::walk(dir, &mut |path| {
        if let Ok(file) = path.strip_prefix(dir) {
            found.push(file.to_path_buf());
        }
    });
    found.retain(|file| !file.file_name().and_then(|name| name.to_str()).is_some_and(store::is_lock));
    found.sort();
    let content = |file: PathBuf| {
        let path = cache::resolved(root, dir, &file.to_string_lossy())?;
        Ok((file, path))
    };
    found.into_iter().map(content).collect()
}

/// Copies a package into the staging folder; links into blobs become links into the blobs of the cache at `to`.
fn stage(from: &Path, dir: &Path, staged: &Path, to: &Path) -> Result<(), Error> {
    let below = dir.strip_prefix(from).unwrap_or(dir);
    let made = |path: &Path| fs::create_dir_all(path).map_err(store::Error::io(path, "made"));
    for (file, path) in contents(from, dir)? {
        let target = staged.join(below).join(file);
        made(target.parent().unwrap_or(staged))?;
        let Ok(blob) = path.strip_prefix(from.join(BLOBS)) else {
            files::copy(&path, &target)?;
            let mode = fs::metadata(&path).map_err(store::Error::io(&path, "read"))?.permissions();
            fs::set_permissions(&target, mode).map_err(store::Error::io(&target, "given its mode"))?;
            continue;
        };
        let stored = staged.join(BLOBS).join(blob);
        if !stored.exists() {
            made(stored.parent().unwrap_or(staged))?;
            let digests = files::copy(&path, &stored)?;
            if blob != Path::new(&digests.md5) {
                let expected = blob.to_string_lossy().into_owned();
                return Err(cache::Error::Digest { path, expected, found: digests.md5 }.into());
            }
        }
        symlink(to.join(BLOBS).join(blob), &target).map_err(store::Error::io(&target, "made"))?;
    }
    Ok(())
}
