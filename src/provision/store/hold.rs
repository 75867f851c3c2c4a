//! A package held alone, so that it can go: nobody runs it, and no program of Roboflow's is filling or clearing it.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Error, classic_lock, materialization_lock};
use crate::cache::{Cache, MODELS_CACHE};
use crate::durable;
use crate::provision::lock::Lock;

/// Released when dropped.
#[derive(Debug)]
pub struct Hold {
    _package: File,
    _lock: Option<Lock>,
}

impl Hold {
    /// Of a package of a model.
    ///
    /// # Errors
    /// It is in use; another program holds its lock; or the disk refuses.
    pub fn take(cache: &Cache, id: &str, dir: &Path) -> Result<Self, Error> {
        let package = File::open(dir).map_err(Error::io(dir, "opened"))?;
        match durable::lock(&package) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::InUse { id: id.into(), dir: dir.into(), by: users(&package) });
            }
            // A file system without locks has no leases either.
            Err(TryLockError::Error(_)) => {}
        }
        let below = dir.strip_prefix(cache.root()).unwrap_or(dir);
        let path = match (dir.parent(), dir.file_name()) {
            (Some(model), Some(name)) if below.starts_with(MODELS_CACHE) => {
                materialization_lock(model, &name.to_string_lossy())
            }
            _ => classic_lock(cache.root(), below),
        };
        // Where nobody ever locked it there is nothing to wait for, and nothing is made that would have to go again.
        let lock = path.exists().then(|| Lock::acquire(&path, &|| 0)).transpose()?;
        Ok(Self { _package: package, _lock: lock })
    }
}

/// ` by process 123, 456` of those that have a lock on a file; nothing where the system does not say.
fn users(file: &File) -> String {
    let Ok(inode) = file.metadata().map(|metadata| metadata.ino().to_string()) else { return String::new() };
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let user = |line: &str| {
        let mut fields = line.split_whitespace().skip(4);
        let (pid, place) = (fields.next()?, fields.next()?);
        (place.rsplit(':').next() == Some(inode.as_str())).then(|| pid.to_owned())
    };
    let mut users: Vec<String> = locks.lines().filter_map(user).collect();
    users.sort();
    users.dedup();
    if users.is_empty() { String::new() } else { format!(" by process {}", users.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Lease;

    #[test]
    fn what_is_leased_is_not_held_and_says_by_whom() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("parts/1");
        fs::create_dir_all(&dir).unwrap();
        let cache = Cache::at(root.path());
        let lease = Lease::share(&dir).unwrap();
        let second = Lease::share(&dir).unwrap();
        let error = Hold::take(&cache, "parts/1", &dir).unwrap_err().to_string();
        assert!(error.contains("parts/1") && error.contains("in use"), "{error}");
        drop(lease);
        assert!(Hold::take(&cache, "parts/1", &dir).is_err());
        drop(second);
        let hold = Hold::take(&cache, "parts/1", &dir).unwrap();
        assert!(Lease::share(&dir).is_none());
        drop(hold);
        assert!(Lease::share(&dir).is_some());
    }
}
