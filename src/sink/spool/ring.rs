//! The segments of one directory: the newest are added, the oldest removed when they are over their bytes or no longer
//! wanted.
//!
//! What [`Ring::commit`] has committed is never changed, and lost only to age. Numbers go on over restarts and cuts and
//! are never given twice. May not know: threads, frames, or what a record says.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::segment::{self, DAMAGED, Fault, Header, NUMBER_MAX, RECORDS_MAX, file_name, number_of};
use crate::durable::{self, Disk};

/// Most segments: a day of one in ten seconds. More would make the scan at power-on slow.
const SEGMENTS_MAX: usize = 10_000;
/// Most names looked at in the directory; a spool has few besides its segments.
const ENTRIES_MAX: usize = 4 * SEGMENTS_MAX;
/// Damaged segments that are left for somebody to look at.
const DAMAGED_MAX: usize = 4;
/// What a file takes on ext4 and f2fs is a multiple of this.
const BLOCK_BYTES: u64 = 4096;

/// What can go wrong with a ring. Nothing is fatal: a ring may be opened again, and a commit tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{dir}: cannot be made: {cause}; is the data partition mounted?", dir = .dir.display())]
    Make { dir: PathBuf, cause: io::Error },
    #[error("{dir}: another process writes there; a spool has one writer", dir = .dir.display())]
    InUse { dir: PathBuf },
    #[error("{dir}: more than {ENTRIES_MAX} files; a spool has a directory of its own", dir = .dir.display())]
    Crowded { dir: PathBuf },
    #[error("{dir}: record {NUMBER_MAX} was the last; empty the directory to begin anew", dir = .dir.display())]
    Exhausted { dir: PathBuf },
    #[error(transparent)]
    Disk(#[from] durable::Error),
}

/// Where a ring lies, and how large it may be.
#[derive(Debug)]
pub struct Place {
    pub dir: PathBuf,
    /// Of all segments, each rounded up to blocks.
    pub bytes_max: u64,
    /// The boot that writes.
    pub boot_id: String,
}

/// An open ring; no other process can open it meanwhile.
pub struct Ring<'a> {
    disk: &'a dyn Disk,
    place: &'a Place,
    /// Keeps the lock, and says whether `dir` still is the directory that was opened.
    handle: File,
    /// Oldest first.
    kept: VecDeque<Kept>,
    bytes: u64,
    next: u64,
    /// What was found damaged at opening.
    damage: Option<String>,
}

struct Kept {
    first: u64,
    last: u64,
    /// Rounded up to blocks.
    bytes: u64,
}

impl Kept {
    fn of(header: &Header) -> Self {
        let bytes = header.render().len() as u64 + header.bytes;
        Self { first: header.first, last: header.last(), bytes: bytes.next_multiple_of(BLOCK_BYTES) }
    }
}

impl<'a> Ring<'a> {
    /// Opens the directory, which is made if only its last part is missing. Leftovers are removed, damaged segments
    /// moved aside.
    ///
    /// # Errors
    /// The directory is not there, is in use, or fails.
    pub fn open(disk: &'a dyn Disk, place: &'a Place) -> Result<Self, Error> {
        let dir = &place.dir;
        match fs::create_dir(dir) {
            Err(cause) if cause.kind() != ErrorKind::AlreadyExists => {
                return Err(Error::Make { dir: dir.clone(), cause });
            }
            _ => {}
        }
        let handle = File::open(dir).map_err(durable::Error::io(dir, "opened"))?;
        match durable::lock(&handle) {
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { dir: dir.clone() }),
            Err(TryLockError::Error(cause)) => return Err(durable::Error::io(dir, "locked")(cause).into()),
            Ok(()) => {}
        }
        let mut ring = Self { disk, place, handle, kept: VecDeque::new(), bytes: 0, next: 1, damage: None };
        let names = ring.tidy()?;
        ring.index(names)?;
        // A directory and names that were seen may be as new as the last moment before a cut.
        durable::sync_directory(disk, &dir.join(".."))?;
        disk.sync(&ring.handle).map_err(durable::Error::io(dir, "synced"))?;
        Ok(ring)
    }

    /// Whether the directory still is the one that was opened: a partition may be mounted over it, or somebody may
    /// remove it.
    pub fn in_place(&self) -> bool {
        let identity = |found: fs::Metadata| (found.dev(), found.ino());
        match (self.handle.metadata(), fs::metadata(&self.place.dir)) {
            (Ok(opened), Ok(there)) => identity(opened) == identity(there),
            _ => false,
        }
    }

    /// Number of the last committed record; 0 before the first.
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// Numbers of the records of each segment, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = RangeInclusive<u64>> {
        self.kept.iter().map(|kept| kept.first..=kept.last)
    }

    /// Goes on from `next`, if it is later than the number that would come now: those before it were given already.
    pub fn skip_to(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// What was moved aside at opening, in words.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Adds `count` records as one segment. When this has returned, they outlive a power cut.
    ///
    /// # Errors
    /// They are not committed; the next commit takes the same numbers.
    pub fn commit(&mut self, records: &[u8], count: u64) -> Result<(), Error> {
        if self.next > NUMBER_MAX {
            return Err(Error::Exhausted { dir: self.place.dir.clone() });
        }
        let header = Header::of(self.next, records, count, &self.place.boot_id);
        let line = header.render();
        durable::write_on(self.disk, &self.path(self.next), &[&line, records])?;
        let kept = Kept::of(&header);
        self.bytes += kept.bytes;
        self.kept.push_back(kept);
        self.next += count;
        Ok(())
    }

    /// Removes the oldest segments while all are over their bytes; after a commit, so that there never are fewer.
    ///
    /// # Errors
    /// A file cannot be removed; the next call tries again.
    pub fn prune(&mut self) -> Result<(), Error> {
        while self.bytes > self.place.bytes_max || self.kept.len() > SEGMENTS_MAX {
            if !self.remove_oldest()? {
                break;
            }
        }
        Ok(())
    }

    /// Removes the segments that hold no record after the one of this number, but never the newest: the numbers go on
    /// from it.
    ///
    /// # Errors
    /// As [`Ring::prune`].
    pub fn release(&mut self, number: u64) -> Result<(), Error> {
        while self.kept.front().is_some_and(|oldest| oldest.last <= number) {
            if !self.remove_oldest()? {
                break;
            }
        }
        Ok(())
    }

    /// Removes the oldest segment, if there is a newer one.
    fn remove_oldest(&mut self) -> Result<bool, Error> {
        let Some(oldest) = self.kept.front().filter(|_| self.kept.len() > 1) else { return Ok(false) };
        let path = self.path(oldest.first);
        match self.disk.remove(&path) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                return Err(durable::Error::io(&path, "removed")(cause).into());
            }
            _ => self.bytes -= oldest.bytes,
        }
        self.kept.pop_front();
        Ok(true)
    }

    fn path(&self, first: u64) -> PathBuf {
        self.place.dir.join(file_name(first))
    }

    /// Removes leftovers and says which segments there are.
    fn tidy(&self) -> Result<Names, Error> {
        let names = names(&self.place.dir)?;
        for name in &names.leftovers {
            let path = self.place.dir.join(name);
            self.disk.remove(&path).map_err(durable::Error::io(&path, "removed"))?;
        }
        Ok(names)
    }

    /// Takes up the segments that are whole and moves the others aside. The newest whole one, from which the numbers go
    /// on, is read to its last byte; of the others only header and length, or power-on would read the whole spool.
    fn index(&mut self, names: Names) -> Result<(), Error> {
        let Names { segments, mut damaged, .. } = names;
        for &first in segments.iter().rev() {
            let path = self.path(first);
            let newest = self.kept.is_empty();
            let checked =
                if newest { segment::read(&path, first).map(|found| found.0) } else { segment::check(&path, first) };
            match checked {
                Ok(header) => {
                    let kept = Kept::of(&header);
                    self.bytes += kept.bytes;
                    self.kept.push_front(kept);
                    self.next = self.next.max(header.last() + 1);
                }
                Err(Fault::Damaged(why)) => {
                    self.move_aside(&path, &why)?;
                    damaged.push(first);
                }
                Err(Fault::Unreadable(cause)) if cause.kind() == ErrorKind::NotFound => {}
                Err(Fault::Unreadable(cause)) => return Err(durable::Error::io(&path, "read")(cause).into()),
            }
        }
        // How many records the newest held, if that is the one, cannot be known; beyond the most that it can have held
        // no number is given twice.
        damaged.sort_unstable();
        if let Some(newest) = damaged.last().filter(|&&newest| newest >= self.next) {
            self.next = newest + RECORDS_MAX;
        }
        for &oldest in &damaged[..damaged.len().saturating_sub(DAMAGED_MAX)] {
            let path = self.place.dir.join(file_name(oldest) + DAMAGED);
            self.disk.remove(&path).map_err(durable::Error::io(&path, "removed"))?;
        }
        Ok(())
    }

    fn move_aside(&mut self, path: &Path, why: &str) -> Result<(), Error> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(DAMAGED);
        self.disk.rename(path, Path::new(&aside)).map_err(durable::Error::io(path, "moved aside"))?;
        self.damage.get_or_insert_with(|| format!("{}: damaged, moved aside: {why}", path.display()));
        Ok(())
    }
}

/// What lies in the directory of a ring.
#[derive(Debug, Default)]
pub struct Names {
    /// First record of each segment, ascending.
    pub segments: Vec<u64>,
    /// Of each that was moved aside, ascending.
    pub damaged: Vec<u64>,
    leftovers: Vec<String>,
}

/// Looks through a directory. Anything that is no regular file of ours is passed over.
///
/// # Errors
/// It cannot be read, or holds too many files.
pub fn names(dir: &Path) -> Result<Names, Error> {
    let mut names = Names::default();
    for (count, entry) in fs::read_dir(dir).map_err(durable::Error::io(dir, "read"))?.enumerate() {
        if count >= ENTRIES_MAX {
            return Err(Error::Crowded { dir: dir.into() });
        }
        let entry = entry.map_err(durable::Error::io(dir, "read"))?;
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let Ok(name) = entry.file_name().into_string() else { continue };
        if let Some(first) = number_of(&name) {
            names.segments.push(first);
        } else if let Some(first) = name.strip_suffix(DAMAGED).and_then(number_of) {
            names.damaged.push(first);
        } else if durable::is_leftover(&name) {
            names.leftovers.push(name);
        }
    }
    names.segments.sort_unstable();
    names.damaged.sort_unstable();
    Ok(names)
}
