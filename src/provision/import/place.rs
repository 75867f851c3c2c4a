//! Puts what lies ready in a staging folder, laid out as a cache of its own, into the cache: each model at once, and nothing
//! before all that it refers to.

use std::fs;
use std::path::{Path, PathBuf};

use super::Error;
use crate::cache::{BLOBS, MODELS_CACHE, REGISTRY};
use crate::provision::lock::{self, Lock};
use crate::provision::store::{self, Staging, files};

/// Places all packages of one model that lie below `staging`, where its directory is `own`. With `others`, what else
/// there is of the model is taken away.
///
/// # Errors
/// Another program holds a lock, or the disk refuses. What was placed by then is whole and stays.
pub fn place(staging: &Staging, root: &Path, own: &Path, slug: &str, others: &[PathBuf]) -> Result<(), Error> {
    let staged = staging.dir();
    for blob in names(&staged.join(BLOBS)) {
        place_blob(&staged.join(BLOBS).join(&blob), &root.join(BLOBS).join(&blob))?;
    }
    let model = root.join(MODELS_CACHE).join(slug);
    for package in names(&staged.join(MODELS_CACHE).join(slug)) {
        make(&model)?;
        let _lock = Lock::acquire(&store::materialization_lock(&model, &package), &|| 0)?;
        files::put(&staged.join(MODELS_CACHE).join(slug).join(&package), &model.join(&package))?;
    }
    let record = PathBuf::from(REGISTRY).join(format!("{slug}.json"));
    if staged.join(&record).exists() {
        replace_file(&staged.join(&record), &root.join(&record))?;
    }
    // Whatever goes, one of the two can be opened all the time: a classic package comes first, a mere type last.
    let only_a_type = names(&staged.join(own)).len() == 1;
    if !only_a_type {
        place_own(staged, root, own)?;
    }
    for other in others.iter().filter(|other| other.symlink_metadata().is_ok()) {
        staging.take(other)?;
    }
    if only_a_type { place_own(staged, root, own) } else { Ok(()) }
}

/// A classic package, or the type that the default engine's loader keeps where one would be.
fn place_own(staged: &Path, root: &Path, own: &Path) -> Result<(), Error> {
    let (new, place) = (staged.join(own), root.join(own));
    if !new.is_dir() {
        return Ok(());
    }
    let path = store::classic_lock(root, own);
    make(path.parent().unwrap_or(root))?;
    let _lock = Lock::acquire(&path, &|| 0)?;
    match names(&new)[..] {
        [ref only] if place.is_dir() => replace_file(&new.join(only), &place.join(only)),
        _ => Ok(files::put(&new, &place)?),
    }
}

/// What is there under its digest is the same, unless it is damaged.
fn place_blob(new: &Path, place: &Path) -> Result<(), Error> {
    make(place.parent().unwrap_or(Path::new(".")))?;
    let _lock = Lock::acquire(&lock::beside(place), &|| 0)?;
    let name = place.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let whole = crate::cache::digest::of_file(place).is_ok_and(|(md5, _)| md5 == name);
    if whole { Ok(()) } else { rename(new, place) }
}

fn replace_file(new: &Path, place: &Path) -> Result<(), Error> {
    make(place.parent().unwrap_or(Path::new(".")))?;
    let _lock = Lock::acquire(&lock::beside(place), &|| 0)?;
    rename(new, place)
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(store::Error::io(to, "put in its place"))?;
    let above = to.parent().unwrap_or(Path::new("."));
    Ok(crate::durable::sync_directory(&crate::durable::RealDisk, above).map_err(store::Error::from)?)
}

fn make(dir: &Path) -> Result<(), Error> {
    Ok(fs::create_dir_all(dir).map_err(store::Error::io(dir, "made"))?)
}

/// Names in a directory, sorted, lock files left out.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !store::is_lock(name));
    names.sort();
    names
}
