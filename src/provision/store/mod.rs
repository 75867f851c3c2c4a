//! What lies in a cache and in the state that was made from it, and how it goes: `cache rm`, `gc` and `du`.
//!
//! Nothing outside of the cache's root and of the state directory is ever touched: of what a link leads to, only the link goes.

mod collect;
pub mod files;
mod hold;
mod remove;
mod staging;
mod state;
mod usage;

use std::path::{Path, PathBuf};

pub use collect::{Garbage, Kind, collect};
pub use remove::{Removal, remove};
pub use staging::{FOLDER, Staging};
pub use state::State;
pub use usage::{Usage, usage};

use super::lock;
use crate::cache::{Cache, ModelId};
use crate::durable;

/// Below the cache root: locks of whoever clears or downloads a classic package.
const FILE_LOCKS: &str = "_file_locks";

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: cannot be {step}: {cause}", path = .path.display())]
    Io { path: PathBuf, step: &'static str, cause: std::io::Error },
    #[error("{dir}: {needed_mb} MB are needed and {free_mb} MB are free; nothing was written", dir = .dir.display())]
    NoRoom { dir: PathBuf, needed_mb: u64, free_mb: u64 },
    #[error(
        "{path}: lies outside of the cache {root}, behind a link; nothing was removed: remove the link by hand",
        path = .path.display(), root = .root.display()
    )]
    Outside { path: PathBuf, root: PathBuf },
    #[error("model `{id}` is in use{by}: {dir}; nothing was removed", dir = .dir.display())]
    InUse { id: String, dir: PathBuf, by: String },
    #[error(transparent)]
    Durable(#[from] durable::Error),
    #[error(transparent)]
    Lock(#[from] lock::Error),
    #[error(transparent)]
    Cache(#[from] crate::cache::Error),
}

impl Error {
    /// Names the path and what was being done to it.
    pub(crate) fn io(path: &Path, step: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |cause| Self::Io { path: path.into(), step, cause }
    }
}

/// The directories of a model's packages.
#[must_use]
pub fn places(cache: &Cache, id: &ModelId) -> Vec<PathBuf> {
    cache.places_of(id)
}

/// The lock of who fills a package of the models-cache.
#[must_use]
pub fn materialization_lock(model: &Path, package: &str) -> PathBuf {
    model.join(format!(".{package}.materialization.lock"))
}

/// The lock of who clears or fills a directory below the root, by the last two parts of its whole path.
#[must_use]
pub fn classic_lock(root: &Path, own: &Path) -> PathBuf {
    let dir = root.join(own);
    let parts = dir.components().count().saturating_sub(2);
    let mut path: PathBuf = root.join(FILE_LOCKS).join(dir.components().skip(parts).collect::<PathBuf>());
    path.as_mut_os_string().push(".lock");
    path
}

/// Whether a file's name is that of a lock that lies beside what it locks.
#[must_use]
pub fn is_lock(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first as Roboflow's programs left it in a recorded cache (SPEC §1.1).
    #[test]
    fn locks_are_named_as_roboflow_names_them() {
        let lock = |own: &str| classic_lock(Path::new("/tmp/cache"), Path::new(own));
        assert_eq!(lock("my-project/3"), Path::new("/tmp/cache/_file_locks/my-project/3.lock"));
        assert_eq!(lock("~A-1-ff"), Path::new("/tmp/cache/_file_locks/cache/~A-1-ff.lock"));
        let package = materialization_lock(Path::new("/tmp/cache/models-cache/v2-a"), "p1");
        assert!(package.ends_with("v2-a/.p1.materialization.lock"));
        assert!(is_lock(".weights.onnx.lock") && !is_lock("weights.lock"));
    }
}
