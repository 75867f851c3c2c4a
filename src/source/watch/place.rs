//! The directories of a watched one, and the moves between them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Fault;

/// Hidden, so that nobody takes what lies in it for input.
const WORK: &str = ".firstlight-work";
/// Most names that are looked at in the work directory: far more than the loop can have in hand.
const TAKEN_MAX: usize = 1024;
/// Names that are tried for an image whose own name is taken where it goes.
const NAMES_MAX: u32 = 100;

/// Where images wait, are worked on, and go.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
    work: PathBuf,
    /// `None`: answered images are removed.
    done: Option<PathBuf>,
    failed: PathBuf,
}

impl Place {
    pub fn new(dir: &Path, done: Option<&Path>, failed: Option<&Path>, keep: bool) -> Self {
        let or_within = |given: Option<&Path>, name: &str| given.map_or_else(|| dir.join(name), Path::to_path_buf);
        Self {
            dir: dir.into(),
            work: dir.join(WORK),
            done: keep.then(|| or_within(done, "done")),
            failed: or_within(failed, "failed"),
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn in_work(&self, name: &OsStr) -> PathBuf {
        self.work.join(name)
    }

    /// What can be said without the directories: none of them may be another, or images would go round.
    pub fn check(&self) -> Result<(), String> {
        let ends = self.done.iter().chain([&self.failed]);
        match ends.into_iter().find(|end| **end == self.dir || **end == self.work) {
            Some(end) => Err(format!("{}: is the watched directory or within its work: name another", end.display())),
            None => Ok(()),
        }
    }

    /// Makes the directories that are missing, all but the watched one.
    pub fn prepare(&self) -> Result<(), Fault> {
        let device = directory(&self.dir)?;
        for end in self.done.iter().chain([&self.work, &self.failed]) {
            make(end).map_err(|error| Fault::Gone(format!("{}: cannot be made: {error}", end.display())))?;
            if directory(end)? != device {
                let (end, dir) = (end.display(), self.dir.display());
                let why = format!(
                    "{end}: expected a directory on the file system of {dir}, or images could not be moved there at once"
                );
                return Err(Fault::Unfit(why));
            }
        }
        Ok(())
    }

    /// What lies in the work directory, sorted.
    pub fn taken(&self) -> Result<Vec<OsString>, String> {
        let told = |error: io::Error| format!("{}: cannot be listed: {error}", self.work.display());
        let entries = fs::read_dir(&self.work).map_err(told)?;
        let names = entries.take(TAKEN_MAX).map(|entry| entry.map(|entry| entry.file_name()));
        let mut names: Vec<OsString> = names.collect::<io::Result<_>>().map_err(told)?;
        names.sort();
        Ok(names)
    }

    /// Moves an image out of the work directory: an answered one, or one that failed for the reason given. One that has
    /// gone meanwhile is settled too.
    pub fn settle(&self, name: &OsStr, failure: Option<&str>) -> Result<(), String> {
        let from = self.in_work(name);
        let inode = match fs::symlink_metadata(&from) {
            Ok(found) => found.ino(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(format!("{}: {error}", from.display())),
        };
        let end = match (failure, &self.done) {
            (Some(_), _) => &self.failed,
            (None, Some(done)) => done,
            (None, None) => {
                return fs::remove_file(&from)
                    .map_err(|error| format!("{}: cannot be removed: {error}", from.display()));
            }
        };
        let moved = || {
            make(end)?;
            let to = free_name(end, name, inode)?;
            if let Some(why) = failure {
                fs::write(with_ending(&to, ".txt"), format!("{why}\n"))?;
            }
            fs::rename(&from, to)
        };
        moved().map_err(|error: io::Error| {
            let (from, end) = (from.display(), end.display());
            format!("{from}: was answered and cannot be moved to {end}: {error}")
        })
    }

    /// Waits until the moves are on the disk.
    pub fn sync(&self) -> io::Result<()> {
        // The rename is one change of the file system's journal: with one of its two directories the other is synced.
        let end = self.done.as_ref().unwrap_or(&self.work);
        fs::File::open(end)?.sync_all()
    }
}

/// The device that a directory lies on.
fn directory(path: &Path) -> Result<u64, Fault> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(found.dev()),
        Ok(_) => Err(Fault::Unfit(format!("{}: is no directory", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Fault::Gone(format!("{}: there is no such directory", path.display())))
        }
        Err(error) => Err(Fault::Gone(format!("{}: {error}", path.display()))),
    }
}

/// Makes a directory, if only its last part is missing.
fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        // A directory on a disk that is only read, and there.
        Err(_) if path.is_dir() => Ok(()),
        made => made,
    }
}

/// A path in `dir` that nothing has: with the name of the image, or with its inode between the name and its ending.
/// Nobody else moves images there while the watched directory is locked.
fn free_name(dir: &Path, name: &OsStr, inode: u64) -> io::Result<PathBuf> {
    let own = dir.join(name);
    let numbered = (0..NAMES_MAX).map(|number| {
        let mut other = own.file_stem().unwrap_or_default().to_owned();
        other.push(if number == 0 { format!(".{inode}") } else { format!(".{inode}-{number}") });
        if let Some(extension) = own.extension() {
            other.push(".");
            other.push(extension);
        }
        own.with_file_name(other)
    });
    let mut names = std::iter::once(own.clone()).chain(numbered);
    let free = names.find(|path| fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound));
    free.ok_or_else(|| io::Error::other(format!("{} and {NAMES_MAX} names like it are taken", own.display())))
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
