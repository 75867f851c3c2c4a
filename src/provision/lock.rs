//! Locks that Roboflow's programs respect as well: files of their names, held by `flock`, as their `filelock` does. The files
//! stay: who removes one takes it from under somebody who waits for it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often it is looked whether a lock is free: what `filelock` does.
const LOOK: Duration = Duration::from_millis(50);
/// How long one is waited for that nobody seems to use: Roboflow's own patience.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A lock that is held as long as this lives.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "open is held")] File);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: another process has held it for {waited_s} s; when it has ended, try again", path = .path.display())]
    Held { path: PathBuf, waited_s: u64 },
    #[error("{path}: cannot be locked: {cause}", path = .path.display())]
    Io { path: PathBuf, cause: io::Error },
}

impl Lock {
    /// Waits for a lock file, which is made where there is none. `sign` gives what grows while the other one works: as long
    /// as it does, the wait goes on.
    ///
    /// # Errors
    /// Somebody has held it for [`PATIENCE`] without a sign of life; or the disk refuses the file.
    pub fn acquire(path: &Path, sign: &dyn Fn() -> u64) -> Result<Self, Error> {
        let failed = |cause| Error::Io { path: path.into(), cause };
        let (mut seen, mut since) = (sign(), Instant::now());
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(failed)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::Error(cause)) => return Err(failed(cause)),
                Err(TryLockError::WouldBlock) => {}
            }
            let now = sign();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            if since.elapsed() >= PATIENCE {
                return Err(Error::Held { path: path.into(), waited_s: PATIENCE.as_secs() });
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// The lock file beside a file or folder, named as Roboflow's loader names it.
#[must_use]
pub fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_one_and_free_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = beside(&dir.path().join("weights.onnx"));
        assert!(path.ends_with(".weights.onnx.lock"));
        let first = Lock::acquire(&path, &|| 0).unwrap();
        assert!(File::open(&path).unwrap().try_lock().is_err());
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || Lock::acquire(&path, &|| 0).map(drop)
        });
        drop(first);
        waiting.join().unwrap().unwrap();
        assert!(path.is_file());
    }

    #[test]
    fn what_cannot_be_locked_is_named() {
        let error = Lock::acquire(Path::new("/nowhere/x.lock"), &|| 0).unwrap_err().to_string();
        assert!(error.contains("/nowhere/x.lock"), "{error}");
    }
}
