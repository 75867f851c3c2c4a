//! `cache gc`: what nothing refers to any more, and what was never finished.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::state::{Digests, State, What, names};
use super::{Error, files, is_lock, staging};
use crate::cache::{BLOBS, Cache, MODELS_CACHE, ModelId, REGISTRY, digest};
use crate::durable;
use crate::provision::lock;

/// What is being written is younger; a slow line takes minutes for the largest file.
const AGE_MIN: Duration = Duration::from_secs(60 * 60);
/// Ends of names under which programs write before they rename.
const UNFINISHED: [&str; 4] = [".tmp", ".part", ".partial", ".incomplete"];
/// A larger manifest is none.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;
const MD5_DIGITS: usize = 32;

/// Why something is garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A plan whose weights are gone.
    Plan,
    /// An accelerator's engine whose weights are gone.
    Engine,
    /// A note of a weights file that is gone.
    Note,
    /// A file in `shared-blobs` that no package refers to.
    Blob,
    /// What an interrupted write left.
    Leftover,
}

impl Kind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Plan => "plan",
            Kind::Engine => "engine",
            Kind::Note => "note",
            Kind::Blob => "blob",
            Kind::Leftover => "leftover",
        }
    }
}

/// A file or folder that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    pub kind: Kind,
    pub path: PathBuf,
    pub bytes: u64,
}

/// Everything of a cache and its state that may go.
///
/// # Errors
/// Weights cannot be read, so that it is not known what is made from them.
pub fn collect(cache: &Cache, state: &State) -> Result<Vec<Garbage>, Error> {
    let digests = state.digests(cache)?;
    let mut garbage = of_state(state, &digests);
    let referred = referred(cache.root(), &[]);
    let blobs = cache.root().join(BLOBS);
    let unreferred = names(&blobs).into_iter().filter(|name| digest::is_md5(name) && !referred.contains(name));
    let unreferred = unreferred.map(|name| blobs.join(name)).filter(|path| is_old(path));
    let here = unreferred.filter(|path| files::is_below(cache.root(), path));
    garbage.extend(here.map(|path| of(Kind::Blob, path)));
    garbage.extend(leftovers(cache, state).into_iter().map(|path| of(Kind::Leftover, path)));
    Ok(garbage)
}

impl Garbage {
    /// Removes it, unless somebody has just begun to use it; whether it is gone.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn remove(&self) -> Result<bool, Error> {
        if self.kind == Kind::Blob {
            return remove_blob(&self.path);
        }
        remove_path(&self.path).map(|()| true)
    }
}

/// Removes a blob under its lock; `false` where another program has that.
pub fn remove_blob(path: &Path) -> Result<bool, Error> {
    let lock = fs::OpenOptions::new().write(true).open(lock::beside(path));
    if lock.as_ref().is_ok_and(|lock| matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock))) {
        return Ok(false);
    }
    remove_path(path).map(|()| true)
}

/// Removes a file, a link or a folder; one that is gone is as it should be.
pub fn remove_path(path: &Path) -> Result<(), Error> {
    let is_dir = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    match if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) } {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "removed")(error)),
        _ => Ok(()),
    }
}

fn of(kind: Kind, path: PathBuf) -> Garbage {
    Garbage { kind, bytes: files::size(&path), path }
}

fn of_state(state: &State, digests: &Digests) -> Vec<Garbage> {
    let gone = state.pieces().into_iter().filter_map(|piece| {
        let kind = match piece.what {
            What::Note => State::is_stale(&piece).then_some(Kind::Note),
            What::Plan => (!digests.keep(&piece, &[])).then_some(Kind::Plan),
            What::Engine => (!digests.keep(&piece, &[])).then_some(Kind::Engine),
        }?;
        Some(Garbage { kind, bytes: piece.bytes, path: piece.path })
    });
    gone.collect()
}

/// Names of the blobs that packages refer to, but for the packages in these directories: by a link, or by a digest in their
/// manifest, which need not parse.
pub fn referred(root: &Path, but: &[PathBuf]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let models = root.join(MODELS_CACHE);
    files::walk(&models, &mut |path| {
        if but.iter().any(|dir| path.starts_with(dir)) {
            return;
        }
        match fs::read_link(path) {
            Ok(target) => found.extend(target.file_name().and_then(|name| name.to_str()).map(str::to_owned)),
            Err(_) if path.extension().is_some_and(|extension| extension == "json") => {
                let text = durable::read_bounded(path, MANIFEST_BYTES_MAX).ok().flatten().unwrap_or_default();
                let words = text.split(|byte| !byte.is_ascii_alphanumeric()).filter(|word| word.len() == MD5_DIGITS);
                found.extend(words.filter_map(|word| String::from_utf8(word.into()).ok()));
            }
            Err(_) => {}
        }
    });
    found
}

fn is_old(path: &Path) -> bool {
    let changed = path.symlink_metadata().and_then(|metadata| metadata.modified());
    changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age >= AGE_MIN))
}

fn leftovers(cache: &Cache, state: &State) -> Vec<PathBuf> {
    let root = cache.root();
    let staged = root.join(staging::FOLDER);
    let abandoned = names(&staged).into_iter().map(|name| staged.join(name)).filter(|dir| !staging::is_alive(dir));
    let mut found: Vec<PathBuf> = abandoned.collect();
    let mut folders: Vec<PathBuf> = [BLOBS, MODELS_CACHE, REGISTRY].iter().map(|name| root.join(name)).collect();
    let ids = cache.ids().into_iter().filter_map(|id| ModelId::parse(&id).ok());
    folders.extend(ids.flat_map(|id| cache.places_of(&id)).filter(|dir| !dir.starts_with(root.join(MODELS_CACHE))));
    folders.extend(state.plans().cloned());
    folders.extend(state.engines());
    for folder in folders {
        files::walk(&folder, &mut |path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let ours = name.ends_with(durable::TEMPORARY);
            let unfinished = ours || UNFINISHED.iter().any(|end| name.ends_with(end));
            if unfinished && !is_lock(name) && is_old(path) {
                found.push(path.into());
            }
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::SystemTime;

    use super::*;
    use crate::engine::plan::Shelf;

    fn old(path: &Path) {
        let then = SystemTime::now() - 2 * AGE_MIN;
        fs::File::options().write(true).open(path).unwrap().set_times(fs::FileTimes::new().set_modified(then)).unwrap();
    }

    #[test]
    fn only_what_is_old_and_unreferred_is_garbage() {
        let root = tempfile::tempdir().unwrap();
        let blobs = root.path().join(BLOBS);
        let package = root.path().join(MODELS_CACHE).join("v2-a/p1");
        fs::create_dir_all(&package).unwrap();
        fs::create_dir_all(&blobs).unwrap();
        let names: Vec<String> = (0..4).map(|digit| digit.to_string().repeat(MD5_DIGITS)).collect();
        for name in &names {
            fs::write(blobs.join(name), "x").unwrap();
        }
        symlink(format!("/elsewhere/{BLOBS}/{}", names[0]), package.join("weights.onnx")).unwrap();
        // No JSON at all, but it names a blob.
        fs::write(package.join("model_config.json"), format!("{{broken \"{}\"", names[1])).unwrap();
        fs::write(blobs.join("x.part"), "x").unwrap();
        fs::write(blobs.join("young.part"), "x").unwrap();
        for name in [&names[0], &names[1], &names[2], "x.part"] {
            old(&blobs.join(name));
        }
        let state = State::new(None, Shelf::default());
        let garbage = collect(&Cache::at(root.path()), &state).unwrap();
        let paths: Vec<&Path> = garbage.iter().map(|garbage| garbage.path.as_path()).collect();
        assert_eq!(paths, [blobs.join(&names[2]), blobs.join("x.part")]);
        // Somebody is about to use it again.
        let lock = fs::File::create(lock::beside(&blobs.join(&names[2]))).unwrap();
        lock.lock().unwrap();
        assert!(!garbage[0].remove().unwrap());
        drop(lock);
        assert!(garbage.iter().all(|garbage| garbage.remove().unwrap()));
        assert!(collect(&Cache::at(root.path()), &state).unwrap().is_empty());
    }

    #[test]
    fn an_abandoned_staging_folder_goes_and_one_in_use_stays() {
        let root = tempfile::tempdir().unwrap();
        let abandoned = root.path().join(staging::FOLDER).join("import-1-0");
        fs::create_dir_all(abandoned.join("models-cache")).unwrap();
        let alive = super::super::Staging::new(root.path(), "import").unwrap();
        let state = State::new(None, Shelf::default());
        let garbage = collect(&Cache::at(root.path()), &state).unwrap();
        assert_eq!(garbage.iter().map(|garbage| &garbage.path).collect::<Vec<_>>(), [&abandoned]);
        assert!(garbage[0].remove().unwrap() && alive.dir().is_dir());
    }
}
