//! The disk that the slots are on: a block device, or an image of one in a file.
//!
//! May not know: what an update is.

use std::fmt::Debug;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::environment::{self, Environment};
use super::mbr::{self, LABEL_ID, Numbered, Region};
use super::{Error, SlotState};

/// Where bytes are kept. A seam: tests put a disk here whose power can be cut.
pub(in crate::device) trait Medium: Debug + Send + Sync {
    fn size(&self) -> io::Result<u64>;
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns when everything written is on the disk.
    fn sync(&self) -> io::Result<()>;
    /// Drops what memory holds of a synced range, so that reading it reads the disk.
    fn forget(&self, offset: u64, bytes: u64);
}

impl Medium for File {
    fn size(&self) -> io::Result<u64> {
        // A block device has no length, but an end.
        let mut file = self;
        file.seek(SeekFrom::End(0))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn forget(&self, offset: u64, bytes: u64) {
        let (Ok(offset), Ok(bytes)) = (offset.try_into(), bytes.try_into()) else { return };
        // A hint: without it the digest is of what memory holds, which is still a check of what was received.
        let _ = posix_fadvise(self, offset, bytes, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
}

/// What a disk is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Waits for nobody and holds up nobody.
    Read,
    /// One at a time: an update, and whatever else writes the slot environment.
    Change,
}

/// An opened disk of ours. Opened for a change it is locked (`flock`) until it is dropped.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    medium: Box<dyn Medium>,
    partitions: Vec<Numbered>,
}

impl Disk {
    /// Opens a block device or an image and reads its partition table.
    ///
    /// # Errors
    /// It cannot be opened, somebody else is changing it, or it is none of ours.
    pub fn open(path: &Path, access: Access) -> Result<Self, Error> {
        let failed = |doing| move |cause| Error::Io { path: path.into(), doing, cause };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(access == Access::Change).open(path).map_err(failed("opened"))?;
        if access == Access::Change {
            file.try_lock().map_err(|error| match error {
                TryLockError::WouldBlock => Error::Busy { path: path.into() },
                TryLockError::Error(cause) => failed("locked")(cause),
            })?;
        }
        Self::over(Box::new(file), path)
    }

    pub(in crate::device) fn over(medium: Box<dyn Medium>, path: &Path) -> Result<Self, Error> {
        let partitions = mbr::read(&*medium).map_err(|why| Error::NotOurs { path: path.into(), why })?;
        Ok(Self { path: path.into(), medium, partitions })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a partition lies.
    ///
    /// # Errors
    /// The disk has none of this number.
    pub fn partition(&self, number: u8) -> Result<Region, Error> {
        let found = self.partitions.iter().find(|(other, _)| *other == number);
        found
            .map(|(_, region)| *region)
            .ok_or_else(|| Error::NotOurs { path: self.path.clone(), why: format!("it has no partition {number}") })
    }

    /// What the slot environment says; the default when there is none.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn state(&self) -> Result<SlotState, Error> {
        Ok(self.environment()?.state())
    }

    /// Writes the slot environment, both copies; other keys in it are kept. On the disk when this returns.
    ///
    /// # Errors
    /// It does not fit, or the disk cannot be written; the old state or the new is there nevertheless.
    pub fn set_state(&self, state: &SlotState) -> Result<(), Error> {
        let mut environment = self.environment()?;
        environment.set_state(state);
        let block = environment.encode()?;
        environment::store(&*self.medium, &block).map_err(self.failed("written"))
    }

    fn environment(&self) -> Result<Environment, Error> {
        environment::load(&*self.medium).map_err(self.failed("read"))
    }

    fn failed(&self, doing: &'static str) -> impl Fn(io::Error) -> Error {
        move |cause| Error::Io { path: self.path.clone(), doing, cause }
    }

    /// Writes into a partition, `at` bytes from its begin. Not on the disk before [`Self::sync`].
    ///
    /// # Errors
    /// The bytes reach beyond the partition, or the disk cannot be written.
    pub(in crate::device) fn write(&self, region: Region, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let write = |offset| self.medium.write_all_at(bytes, offset);
        inside(region, at, bytes.len()).and_then(write).map_err(self.failed("written"))
    }

    /// Reads from a partition, `at` bytes from its begin.
    ///
    /// # Errors
    /// The bytes reach beyond the partition, or the disk cannot be read.
    pub(in crate::device) fn read(&self, region: Region, at: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let length = buffer.len();
        let read = |offset| self.medium.read_exact_at(buffer, offset);
        inside(region, at, length).and_then(read).map_err(self.failed("read"))
    }

    /// Returns when everything written is on the disk.
    ///
    /// # Errors
    /// The disk did not take it.
    pub(in crate::device) fn sync(&self) -> Result<(), Error> {
        self.medium.sync().map_err(self.failed("synced"))
    }

    /// Drops what memory holds of a synced partition, so that reading it reads the disk.
    pub(in crate::device) fn forget(&self, region: Region) {
        self.medium.forget(region.offset, region.bytes);
    }
}

/// The offset on the disk of a range that does not leave its partition.
fn inside(region: Region, at: u64, length: usize) -> io::Result<u64> {
    match at.checked_add(length as u64) {
        Some(end) if end <= region.bytes => Ok(region.offset + at),
        _ => Err(io::Error::other(format!("{length} bytes at {at} of a partition of {}", region.bytes))),
    }
}

/// Kinds of block devices that never hold our disk and may be many, or slow to open: memory, files, floppies, discs.
const NEVER: &[&str] = &["ram", "loop", "zram", "nbd", "fd", "sr", "dm-", "md", "mtdblock"];
/// Most disks looked at; a device has two or three.
const DISKS_MAX: usize = 32;

/// Finds the disk of this device in the tree at `root` by its label-id: the block devices of `preferred` (names such as
/// `mmcblk0`) in their order, then the others by name.
///
/// # Errors
/// None is ours; the message says which were looked at. A disk may appear later: ask again, within a bound.
pub fn find_disk(root: &Path, preferred: &[String]) -> Result<PathBuf, Error> {
    let listed = std::fs::read_dir(root.join("sys/block")).into_iter().flatten();
    let names = listed.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !NEVER.iter().any(|kind| name.starts_with(kind))).collect();
    let rank = |name: &String| preferred.iter().position(|other| other == name).unwrap_or(preferred.len());
    names.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.cmp(b)));
    names.truncate(DISKS_MAX);
    let mut seen = Vec::new();
    for name in names {
        let path = root.join("dev").join(&name);
        match first_sector(&path).map(|sector| mbr::label_id(&sector)) {
            Ok(Some(LABEL_ID)) => return Ok(path),
            Ok(Some(other)) => seen.push(format!("{name} has {other:#010x}")),
            Ok(None) => seen.push(format!("{name} has no MBR")),
            Err(cause) => seen.push(format!("{name}: {cause}")),
        }
    }
    let seen = if seen.is_empty() { "there is no disk".into() } else { seen.join(", ") };
    Err(Error::NoDisk { root: root.into(), seen })
}

fn first_sector(path: &Path) -> io::Result<[u8; 512]> {
    let mut sector = [0; 512];
    FileExt::read_exact_at(&File::open(path)?, &mut sector, 0)?;
    Ok(sector)
}

#[cfg(test)]
mod tests {
    use super::super::testing::disk_bytes;
    use super::super::{Content, SlotName};
    use super::*;

    fn image() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.img");
        std::fs::write(&path, disk_bytes()).unwrap();
        (dir, path)
    }

    #[test]
    fn the_state_of_an_image_is_kept() {
        let (_dir, path) = image();
        let disk = Disk::open(&path, Access::Change).unwrap();
        assert_eq!(disk.state().unwrap(), SlotState::default());
        let state = SlotState { committed: SlotName::B, b: Content::Ready("2".into()), ..SlotState::default() };
        disk.set_state(&state).unwrap();
        assert_eq!(Disk::open(&path, Access::Read).unwrap().state().unwrap(), state);
        let too_long = SlotState { why: "w".repeat(600), ..state.clone() };
        assert!(matches!(disk.set_state(&too_long), Err(Error::TooLong(_))));
        assert_eq!(disk.state().unwrap(), state);
    }

    #[test]
    fn one_changes_a_disk_at_a_time_and_anybody_reads() {
        let (_dir, path) = image();
        let first = Disk::open(&path, Access::Change).unwrap();
        assert!(matches!(Disk::open(&path, Access::Change), Err(Error::Busy { .. })));
        let reader = Disk::open(&path, Access::Read).unwrap();
        assert!(matches!(reader.set_state(&SlotState::default()), Err(Error::Io { doing: "written", .. })));
        drop(first);
        Disk::open(&path, Access::Change).unwrap();
    }

    #[test]
    fn nothing_is_written_beyond_a_partition() {
        let (_dir, path) = image();
        let disk = Disk::open(&path, Access::Change).unwrap();
        let region = disk.partition(2).unwrap();
        disk.write(region, region.bytes - 3, &[1, 2, 3]).unwrap();
        disk.sync().unwrap();
        disk.forget(region);
        let mut end = [0; 3];
        disk.read(region, region.bytes - 3, &mut end).unwrap();
        assert_eq!(end, [1, 2, 3]);
        assert!(disk.write(region, region.bytes - 2, &[1, 2, 3]).is_err());
        assert!(disk.read(region, u64::MAX, &mut end).is_err());
        assert!(matches!(disk.partition(4), Err(Error::NotOurs { .. })), "the extended one holds no bytes of its own");
    }

    #[test]
    fn a_file_that_is_no_disk_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        assert!(matches!(Disk::open(&path, Access::Read), Err(Error::Io { doing: "opened", .. })));
        std::fs::write(&path, "notes").unwrap();
        let error = Disk::open(&path, Access::Read).unwrap_err().to_string();
        assert!(error.contains("notes.txt") && error.contains("sector 0"), "{error}");
    }

    #[test]
    fn the_disk_is_found_by_its_label_in_the_order_of_the_board() {
        let root = tempfile::tempdir().unwrap();
        for name in ["sda", "sdb", "mmcblk0", "loop0", "vda"] {
            std::fs::create_dir_all(root.path().join("sys/block").join(name)).unwrap();
        }
        std::fs::create_dir_all(root.path().join("dev")).unwrap();
        let dev = |name: &str| root.path().join("dev").join(name);
        let ours = disk_bytes();
        let mut theirs = ours[..512].to_vec();
        theirs[440] = 0;
        std::fs::write(dev("sda"), &theirs).unwrap();
        std::fs::write(dev("loop0"), &ours[..512]).unwrap();
        std::fs::write(dev("vda"), "short").unwrap();
        std::fs::write(dev("sdb"), [0; 512]).unwrap();
        let error = find_disk(root.path(), &[]).unwrap_err().to_string();
        for word in ["sda has 0x464c5300", "sdb has no MBR", "mmcblk0: ", "vda: ", "0x464c5354", "--disk"] {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
        assert!(!error.contains("loop0"));
        std::fs::write(dev("sdb"), &ours[..512]).unwrap();
        assert_eq!(find_disk(root.path(), &[]).unwrap(), dev("sdb"));
        std::fs::write(dev("vda"), &ours[..512]).unwrap();
        assert_eq!(find_disk(root.path(), &["mmcblk0".into(), "vda".into()]).unwrap(), dev("vda"));
        assert_eq!(find_disk(root.path(), &[]).unwrap(), dev("sdb"));
        let empty = tempfile::tempdir().unwrap();
        assert!(find_disk(empty.path(), &[]).unwrap_err().to_string().contains("there is no disk"));
    }
}
