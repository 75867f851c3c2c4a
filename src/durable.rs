//! Files that outlive a power cut: written under a temporary name, synced, renamed, and the directory synced.
//!
//! After a cut such a file is there whole, as it was before or as it was written, and perhaps a leftover lies beside it
//! under the temporary name. One writer a path: two would share that name.
//! May not know: what the bytes mean, or anything above floor 0.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Starting a process takes milliseconds, on a busy board tens of them.
const LOCK_WAIT: Duration = Duration::from_millis(200);
const LOCK_LOOK: Duration = Duration::from_millis(5);
/// End of a temporary name; long, so that no other program's file is taken for ours.
pub(crate) const TEMPORARY: &str = ".firstlight-tmp";

/// What can go wrong with such a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: cannot be {step}: {cause}", path = .path.display())]
    Io { path: PathBuf, step: &'static str, cause: io::Error },
    #[error("{path}: is not a regular file", path = .path.display())]
    NotAFile { path: PathBuf },
    #[error("{path}: {bytes} bytes; a file of its kind has at most {bytes_max}", path = .path.display())]
    TooLarge { path: PathBuf, bytes: u64, bytes_max: u64 },
}

impl Error {
    /// Names the file and what was being done to it.
    pub(crate) fn io(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { path: path.into(), step, cause }
    }
}

/// The operations that decide what outlives a cut. The provided ones are the real ones; a test fails or cuts between
/// them.
pub trait Disk {
    /// An empty file to write to, in place of what is there.
    ///
    /// # Errors
    /// As the system says; so with the others.
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    }

    /// Appends all of `bytes`.
    ///
    /// # Errors
    /// Part of them may have been written.
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    /// Waits until a file's bytes, or a directory's names, are on the disk.
    ///
    /// # Errors
    /// It is not known what is.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    /// Gives a file another name in the same directory, in place of what has it.
    ///
    /// # Errors
    /// Nothing was renamed.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// It is still there, or never was.
    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug)]
pub struct RealDisk;

impl Disk for RealDisk {}

/// Replaces the file at `path` by `bytes`. When this has returned, they outlive a power cut.
///
/// # Errors
/// A step failed. The file is as it was before; or, when only the sync of the directory failed, it may be the new one.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_on(&RealDisk, path, &[bytes])
}

/// The same of several pieces, on any disk.
///
/// # Errors
/// As [`write_durably`].
pub(crate) fn write_on(disk: &dyn Disk, path: &Path, pieces: &[&[u8]]) -> Result<(), Error> {
    let temporary = temporary_name(path);
    let renamed = fill(disk, &temporary, pieces)
        .and_then(|()| disk.rename(&temporary, path).map_err(Error::io(path, "put in its place")));
    if renamed.is_err() {
        // A full disk gets its room back at once. What cannot be removed now is a leftover.
        let _ = disk.remove(&temporary);
    }
    renamed?;
    sync_directory(disk, directory_of(path))
}

fn fill(disk: &dyn Disk, path: &Path, pieces: &[&[u8]]) -> Result<(), Error> {
    let mut file = disk.create(path).map_err(Error::io(path, "created"))?;
    for piece in pieces {
        disk.write(&mut file, piece).map_err(Error::io(path, "written"))?;
    }
    disk.sync(&file).map_err(Error::io(path, "synced"))
}

/// Waits until the names in a directory are on the disk.
///
/// # Errors
/// It cannot be opened or synced.
pub(crate) fn sync_directory(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let handle = File::open(dir).map_err(Error::io(dir, "opened"))?;
    disk.sync(&handle).map_err(Error::io(dir, "synced"))
}

/// Reads a file of at most `bytes_max` bytes; `None` when there is none.
///
/// # Errors
/// It is no regular file, is larger, or cannot be read.
pub fn read_bounded(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, Error> {
    // Asked before it is opened: opening a pipe would wait for its writer.
    let found = match std::fs::metadata(path) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        found => found.map_err(Error::io(path, "read"))?,
    };
    if !found.is_file() {
        return Err(Error::NotAFile { path: path.into() });
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Error::TooLarge { path: path.into(), bytes: found.len().max(bytes.len() as u64), bytes_max });
    }
    Ok(Some(bytes))
}

/// Removes what an interrupted [`write_durably`] left behind in `dir`, and returns how many files that were. Only
/// before the first write: one that is under way has such a file too.
///
/// # Errors
/// The directory cannot be read, or a leftover not be removed.
pub fn remove_leftovers(dir: &Path) -> Result<usize, Error> {
    let mut removed = 0;
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir, "read"))? {
        let entry = entry.map_err(Error::io(dir, "read"))?;
        if is_leftover(&entry.file_name().to_string_lossy()) {
            let path = entry.path();
            RealDisk.remove(&path).map_err(Error::io(&path, "removed"))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Locks a file or directory for this process alone, as long as it is open. Waits a moment for a lock that has just been let
/// go: a process that another thread is starting has a copy of it until it runs its own program.
///
/// # Errors
/// Another has it, or the file system knows no locks.
pub(crate) fn lock(file: &File) -> Result<(), TryLockError> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_LOOK),
            locked => return locked,
        }
    }
}

/// Whether a file's name is a temporary one.
pub(crate) fn is_leftover(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(TEMPORARY)
}

/// Hidden and fixed: a pattern such as `*.jsonl` does not find it, and the next write of the same file takes it over.
pub(crate) fn temporary_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(TEMPORARY);
    path.with_file_name(name)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A disk that refuses the operation of one number, counted from 1.
    struct Refusing {
        at: u32,
        done: Cell<u32>,
    }

    impl Refusing {
        fn step(&self) -> io::Result<()> {
            self.done.set(self.done.get() + 1);
            if self.done.get() == self.at { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl Disk for Refusing {
        fn create(&self, path: &Path) -> io::Result<File> {
            self.step().and_then(|()| RealDisk.create(path))
        }

        fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
            self.step().and_then(|()| RealDisk.write(file, bytes))
        }

        fn sync(&self, file: &File) -> io::Result<()> {
            self.step().and_then(|()| RealDisk.sync(file))
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.step().and_then(|()| RealDisk.rename(from, to))
        }
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.toml");
        assert_eq!(read_bounded(&path, 3).unwrap(), None);
        write_durably(&path, b"old").unwrap();
        write_durably(&path, b"new").unwrap();
        assert_eq!(read_bounded(&path, 3).unwrap().unwrap(), b"new");
        assert_eq!(names(dir.path()), ["state.toml"]);
    }

    #[test]
    fn a_step_that_fails_leaves_the_old_file_or_the_new_one() {
        for (at, step, left) in [
            (1, "created", "old"),
            (2, "written", "old"),
            (3, "synced", "old"),
            (4, "put in its place", "old"),
            (5, "synced", "new"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state.toml");
            write_durably(&path, b"old").unwrap();
            let error = write_on(&Refusing { at, done: Cell::new(0) }, &path, &[b"new"]).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(dir.path().to_str().unwrap()) && message.contains(step), "{message}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), left);
            assert_eq!(names(dir.path()), ["state.toml"]);
        }
    }

    #[test]
    fn leftovers_are_removed_and_other_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.toml");
        for path in [&temporary_name(&path), &path, &dir.path().join(".other.tmp")] {
            std::fs::write(path, "x").unwrap();
        }
        assert_eq!(remove_leftovers(dir.path()).unwrap(), 1);
        assert_eq!(names(dir.path()), [".other.tmp", "state.toml"]);
        assert!(remove_leftovers(&dir.path().join("none")).unwrap_err().to_string().contains("none: cannot be read"));
    }

    #[test]
    fn what_is_read_is_a_regular_file_within_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.toml");
        write_durably(&path, b"1234").unwrap();
        assert!(read_bounded(&path, 3).unwrap_err().to_string().contains("4 bytes"));
        assert!(matches!(read_bounded(dir.path(), 3), Err(Error::NotAFile { .. })));
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read_bounded(&pipe, 3), Err(Error::NotAFile { .. })));
    }

    #[test]
    fn a_bare_name_lies_in_the_working_directory() {
        assert_eq!(directory_of(Path::new("state.toml")), Path::new("."));
        assert_eq!(directory_of(Path::new("/data/state.toml")), Path::new("/data"));
    }
}
