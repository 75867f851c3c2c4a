//! `cache import`: a network in ONNX, or another cache, becomes packages of this cache.
//!
//! Everything is made ready in a staging folder that is laid out as a cache of its own, looked at there as a package is
//! that runs, and only then put in its place.

mod copy;
mod facts;
mod kind;
mod literal;
mod names;
mod package;
mod place;
mod recipe;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

pub use copy::{Copied, Copying, Outcome, copy};

use super::lock;
use super::store::{self, Staging, files};
use crate::cache::{self, BLOBS, Cache, LayoutKind, MODELS_CACHE, ModelId, Package, REGISTRY, ResizeMode, Weights};
use crate::durable;
use crate::frame::Size;
use facts::Facts;
pub use recipe::Recipe;

/// Largest file with names of classes; 20,000 long names are under 1 MB.
const NAMES_BYTES_MAX: u64 = 4 << 20;
/// What the texts of a package take at most.
const TEXTS_BYTES: u64 = 1 << 20;
/// As Roboflow's loader makes its manifests.
const MANIFEST_MODE: u32 = 0o600;

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Usage(String),
    /// What a file says is not enough, or cannot be.
    #[error("{0}")]
    File(String),
    #[error("it is not clear {}: {} says ({}); found: {}", .0.what, .0.flag, .0.choices.join(", "), .0.found)]
    Unclear(Question),
    #[error("task `{task}`, type `{model_type}` does not run here: {why}; --task and --type decide")]
    Unsupported { task: String, model_type: String, why: String },
    #[error("model `{id}` is in the cache already: {dir}; --replace puts the new one in its place, --id gives another name", dir = .dir.display())]
    Exists { id: String, dir: PathBuf },
    /// It is in order as a file, and does not run as this package.
    #[error("nothing was imported, the package does not run: {0}")]
    Check(String),
    #[error(transparent)]
    Cache(#[from] cache::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Lock(#[from] lock::Error),
}

/// What must be known and no file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The flag that answers it.
    pub flag: &'static str,
    pub what: String,
    /// What the file says of itself.
    pub found: String,
    /// Possible answers, or their forms.
    pub choices: Vec<String>,
}

/// What is asked for beside what the file says.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    pub id: Option<String>,
    pub task: Option<String>,
    pub model_type: Option<String>,
    pub classes: Option<Vec<String>>,
    pub size: Option<Size>,
    pub resize: Option<ResizeMode>,
    pub layout: Option<LayoutKind>,
}

/// A network that was read and understood, and is not in the cache yet.
#[derive(Debug)]
pub struct Draft {
    pub id: ModelId,
    pub recipe: Recipe,
    weights: Weights,
}

/// What was made of it.
#[derive(Debug)]
pub struct Imported {
    pub dir: PathBuf,
    pub bytes: u64,
    pub sha256: String,
}

/// Names of classes from `a,b,c`, from a file with one a line, or COCO's.
///
/// # Errors
/// The file cannot be read.
pub fn classes(said: &str) -> Result<Vec<String>, Error> {
    if said == names::COCO_WORD {
        return Ok(names::coco());
    }
    let path = Path::new(said);
    let read =
        durable::read_bounded(path, NAMES_BYTES_MAX).map_err(|error| Error::Usage(format!("--classes: {error}")))?;
    match read {
        Some(bytes) => {
            let text = String::from_utf8(bytes)
                .map_err(|_| Error::Usage(format!("--classes {said}: the file is no text in UTF-8")))?;
            Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
        }
        None if said.contains('/') => Err(Error::Usage(format!("--classes {said}: there is no such file"))),
        None => Ok(said.split(',').map(|name| name.trim().to_owned()).collect()),
    }
}

/// A size from `WxH`.
///
/// # Errors
/// It is none.
pub fn parse_size(said: &str) -> Result<Size, Error> {
    let sides = said
        .split_once(['x', 'X'])
        .and_then(|(width, height)| Some(Size::new(width.trim().parse().ok()?, height.trim().parse().ok()?)));
    sides
        .filter(|size| size.width > 0 && size.height > 0)
        .ok_or_else(|| Error::Usage(format!("--size {said}: expected WIDTHxHEIGHT in pixels, such as 640x480")))
}

impl Draft {
    /// Reads a network and finds out what it is; `ask` is asked what neither the file nor the wishes say.
    ///
    /// # Errors
    /// It cannot be read, is of a kind that does not run, or something stays unclear.
    pub fn new(path: &Path, wishes: &Wishes, ask: &dyn Fn(&Question) -> Option<String>) -> Result<Self, Error> {
        let named = |why: String| Error::File(format!("{}: {why}", path.display()));
        let weights = Weights::map(path)?;
        let facts = Facts::read(weights.bytes()).map_err(named)?;
        let recipe = Recipe::new(&facts, wishes, ask).map_err(|error| match error {
            Error::File(why) => named(why),
            other => other,
        })?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let id = wishes.id.clone().unwrap_or_else(|| recipe::default_id(&stem, &facts));
        let id = ModelId::parse(&id)?;
        if crate::model::registry::foundation(id.as_str()).is_some() {
            return Err(Error::Usage(format!("--id {}: this names a foundation model of Roboflow's", id.as_str())));
        }
        Ok(Self { id, recipe, weights })
    }

    /// Puts the package into a cache, after `check` has found that it runs.
    ///
    /// # Errors
    /// The id is taken and nothing says to replace it, it does not run, there is no room, or the disk refuses. In each case
    /// the cache is as it was.
    pub fn import(
        &self,
        cache: &Cache,
        replace: bool,
        check: &dyn Fn(&Package) -> Result<(), String>,
    ) -> Result<Imported, Error> {
        let root = cache.root();
        let old = store::places(cache, &self.id);
        if let Some(dir) = old.first().filter(|_| !replace) {
            return Err(Error::Exists { id: self.id.as_str().into(), dir: dir.clone() });
        }
        std::fs::create_dir_all(root).map_err(store::Error::io(root, "made"))?;
        let root = &root.canonicalize().map_err(store::Error::io(root, "found"))?;
        let bytes = self.weights.bytes().len() as u64;
        files::require_room(root, bytes + TEXTS_BYTES)?;
        let staging = Staging::new(root, "import")?;
        let (own, slug) = (self.id.directory(), self.id.models_cache_slug());
        let (staged, sha256) = match self.recipe.layout {
            LayoutKind::Classic => self.stage_classic(staging.dir())?,
            _ => self.stage_models_cache(staging.dir(), root)?,
        };
        let package = Cache::at(staging.dir()).open_as(&self.id, Some(self.recipe.layout))?;
        check(&package).map_err(Error::Check)?;
        drop(package);
        // Only what the new one does not take the place of.
        let dir = root.join(&staged);
        let old = store::places(&Cache::at(root), &self.id).into_iter().filter(|old| *old != dir);
        let old: Vec<PathBuf> = old.collect();
        place::place(&staging, root, &own, &slug, &old)?;
        Ok(Imported { dir, bytes, sha256 })
    }

    /// Answers with the package's directory below a root, and the digest of its weights.
    fn stage_classic(&self, staged: &Path) -> Result<(PathBuf, String), Error> {
        let recipe = &self.recipe;
        let own = self.id.directory();
        let dir = staged.join(&own);
        files::write(&dir.join("model_type.json"), &package::model_type(recipe, &self.id))?;
        files::write(&dir.join("environment.json"), &package::environment(recipe))?;
        files::write(&dir.join("class_names.txt"), &package::class_names(recipe))?;
        if let Some(points) = package::keypoints(recipe) {
            files::write(&dir.join("keypoints_metadata.json"), &points)?;
        }
        let digests = files::copy(self.weights.path(), &dir.join(recipe.kind.weights_file()))?;
        Ok((own, digests.sha256))
    }

    fn stage_models_cache(&self, staged: &Path, root: &Path) -> Result<(PathBuf, String), Error> {
        let recipe = &self.recipe;
        let (slug, package_id) = (self.id.models_cache_slug(), package::package_id(recipe));
        let below = Path::new(MODELS_CACHE).join(&slug).join(&package_id);
        let (dir, blobs) = (staged.join(&below), staged.join(BLOBS));
        for folder in [&dir, &blobs] {
            std::fs::create_dir_all(folder).map_err(store::Error::io(folder, "made"))?;
        }
        let weights = blobs.join("weights");
        let digests = files::copy(self.weights.path(), &weights)?;
        let blob = blobs.join(&digests.md5);
        std::fs::rename(&weights, &blob).map_err(store::Error::io(&blob, "named"))?;
        let mut artifacts = vec![("weights.onnx".to_owned(), digests.md5)];
        let texts = [
            ("class_names.txt", Some(package::class_names(recipe))),
            ("inference_config.json", Some(package::inference_config(recipe))),
            ("keypoints_metadata.json", package::keypoints(recipe)),
        ];
        for (file, text) in texts.into_iter().filter_map(|(file, text)| Some((file, text?))) {
            let md5 = cache::digest::md5(&text);
            files::write(&blobs.join(&md5), &text)?;
            artifacts.push((file.to_owned(), md5));
        }
        for (file, md5) in &artifacts {
            // To where it will lie: as Roboflow writes them.
            let (link, target) = (dir.join(file), root.join(BLOBS).join(md5));
            symlink(target, &link).map_err(store::Error::io(&link, "made"))?;
        }
        let manifest = dir.join("model_config.json");
        files::write(&manifest, &package::manifest(recipe, &self.id, &artifacts))?;
        std::fs::set_permissions(&manifest, std::fs::Permissions::from_mode(MANIFEST_MODE))
            .map_err(store::Error::io(&manifest, "given its mode"))?;
        let record = staged.join(REGISTRY).join(format!("{slug}.json"));
        files::write(&record, &package::record(recipe, &self.id, &package_id, &artifacts))?;
        let own = staged.join(self.id.directory());
        files::write(&own.join("model_type.json"), &package::model_type(recipe, &self.id))?;
        Ok((below, digests.sha256))
    }
}
