//! A folder beside the models in which something is made ready before it is seen, or put before it is deleted: on the same
//! file system, so that it comes and goes by a rename.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::Error;
use crate::durable;

/// Below the cache root; a dot keeps it out of the way of whoever lists models.
pub const FOLDER: &str = ".firstlight/staging";

/// Makes names of one process different.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The folder; removed with all that is in it when dropped, and by `cache gc` where that did not come to pass.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    /// Locked: it is not abandoned.
    _lock: File,
}

impl Staging {
    /// A new one below a cache root, which is made where it is missing; `what` is done, for its name.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn new(root: &Path, what: &str) -> Result<Self, Error> {
        let name = format!("{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let dir = root.join(FOLDER).join(name);
        fs::create_dir_all(&dir).map_err(Error::io(&dir, "made"))?;
        let lock = File::open(&dir).map_err(Error::io(&dir, "opened"))?;
        // Where the file system knows no locks, its age must do.
        let _ = durable::lock(&lock);
        Ok(Self { dir, _lock: lock })
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes a file or folder away from where it is seen, at once and as a whole. A link goes, not what it leads to.
    ///
    /// # Errors
    /// The disk refuses; then it is where it was.
    pub fn take(&self, path: &Path) -> Result<(), Error> {
        let name = format!("taken-{}", COUNT.fetch_add(1, Relaxed));
        fs::rename(path, self.dir.join(name)).map_err(Error::io(path, "taken away"))?;
        durable::sync_directory(&durable::RealDisk, path.parent().unwrap_or(Path::new(".")))?;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is a leftover.
        let _ = fs::remove_dir_all(&self.dir);
        // The folders above go when nobody uses them.
        for above in self.dir.ancestors().skip(1).take(2) {
            let _ = fs::remove_dir(above);
        }
    }
}

/// Whether a folder of [`FOLDER`] is in use by a process that lives.
#[must_use]
pub fn is_alive(dir: &Path) -> bool {
    File::open(dir).is_ok_and(|file| matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_all_that_was_taken() {
        let root = tempfile::tempdir().unwrap();
        let model = root.path().join("parts/1");
        fs::create_dir_all(&model).unwrap();
        fs::write(model.join("weights.onnx"), "x").unwrap();
        let staging = Staging::new(root.path(), "rm").unwrap();
        assert!(is_alive(staging.dir()));
        staging.take(&model).unwrap();
        assert!(!model.exists() && staging.dir().is_dir());
        drop(staging);
        let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["parts"]);
    }
}
