//! Files on their way into a cache: copied with their digests, synced, put in place as a whole, and only where there is room.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use md5::Md5;
use nix::sys::statvfs::{FsFlags, statvfs};
use sha2::{Digest, Sha256};

use super::Error;
use crate::cache::digest::hex;
use crate::durable::{RealDisk, sync_directory};

/// Left free beside what is written: names, texts, what others write meanwhile.
const MARGIN_BYTES: u64 = 4 << 20;
/// Deeper folders are no cache.
pub const DEPTH_MAX: usize = 8;
/// Most names of a tree that are looked at: ten times what a large cache has.
pub const NAMES_MAX: usize = 100_000;

/// Digests of a file that was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    pub md5: String,
    pub sha256: String,
}

/// Bytes that are free for us on a file system, and whether it can be written at all.
///
/// # Errors
/// It cannot be asked.
pub fn free(dir: &Path) -> Result<(u64, bool), Error> {
    let stat = statvfs(dir).map_err(|cause| Error::io(dir, "asked for its free space")(cause.into()))?;
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    Ok((free, !stat.flags().contains(FsFlags::ST_RDONLY)))
}

/// Refuses what would not fit.
///
/// # Errors
/// There is too little room, or the file system cannot be written.
pub fn require_room(dir: &Path, bytes: u64) -> Result<(), Error> {
    match free(dir)? {
        (_, false) => Err(Error::io(dir, "written")(ErrorKind::ReadOnlyFilesystem.into())),
        (free, true) if free < bytes.saturating_add(MARGIN_BYTES) => {
            Err(Error::NoRoom { dir: dir.into(), needed_mb: mb(bytes + MARGIN_BYTES), free_mb: free / 1_000_000 })
        }
        _ => Ok(()),
    }
}

fn mb(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}

/// Copies a regular file; when this has returned, the copy outlives a power cut.
///
/// # Errors
/// One of the two cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<Digests, Error> {
    let mut source = File::open(from).map_err(Error::io(from, "read"))?;
    if !source.metadata().map_err(Error::io(from, "read"))?.is_file() {
        return Err(Error::io(from, "read")(std::io::Error::other("not a regular file")));
    }
    let mut target = File::create(to).map_err(Error::io(to, "created"))?;
    let (mut md5, mut sha256, mut piece) = (Md5::new(), Sha256::new(), vec![0; 1 << 18]);
    loop {
        let read = source.read(&mut piece).map_err(Error::io(from, "read"))?;
        if read == 0 {
            break;
        }
        md5.update(&piece[..read]);
        sha256.update(&piece[..read]);
        target.write_all(&piece[..read]).map_err(Error::io(to, "written"))?;
    }
    target.sync_all().map_err(Error::io(to, "synced"))?;
    Ok(Digests { md5: hex(&md5.finalize()), sha256: hex(&sha256.finalize()) })
}

/// Writes a small file; it outlives a power cut.
///
/// # Errors
/// The disk refuses.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(Error::io(dir, "made"))?;
    }
    let mut file = File::create(path).map_err(Error::io(path, "created"))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io(path, "written"))
}

/// Puts a folder in place at once, and what was there before where the new one was; both outlive a power cut.
///
/// # Errors
/// The disk refuses; then nothing has changed.
pub fn put(new: &Path, place: &Path) -> Result<(), Error> {
    let above = place.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(above).map_err(Error::io(above, "made"))?;
    sync_directory(&RealDisk, new)?;
    if place.symlink_metadata().is_ok() {
        exchange(new, place).map_err(Error::io(place, "replaced"))?;
    } else {
        fs::rename(new, place).map_err(Error::io(place, "put in its place"))?;
    }
    sync_directory(&RealDisk, above)?;
    Ok(())
}

/// Swaps two names. A file system that cannot do that at once gets three renames.
fn exchange(a: &Path, b: &Path) -> std::io::Result<()> {
    let name = |path: &Path| std::ffi::CString::new(path.as_os_str().as_bytes());
    let (from, to) = (name(a)?, name(b)?);
    // SAFETY: the kernel reads two C strings that live until it returns.
    let swapped = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    };
    if swapped == 0 {
        return Ok(());
    }
    match std::io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::ENOTSUP)) => {
            let aside = a.with_extension("aside");
            fs::rename(b, &aside)?;
            let renamed = fs::rename(a, b);
            if renamed.is_err() {
                let _ = fs::rename(&aside, b);
            }
            renamed?;
            fs::rename(&aside, a)
        }
        error => Err(error),
    }
}

/// Whether a name lies in a directory below a root, wherever links on the way to it lead. What the name itself links to does
/// not matter.
#[must_use]
pub fn is_below(root: &Path, path: &Path) -> bool {
    let dir = path.parent().and_then(|dir| dir.canonicalize().ok());
    let root = root.canonicalize().ok();
    dir.zip(root).is_some_and(|(dir, root)| dir.starts_with(root))
}

/// Bytes of all files of a tree; links count for themselves.
#[must_use]
pub fn size(path: &Path) -> u64 {
    let mut sum = 0_u64;
    walk(path, &mut |path| sum += path.symlink_metadata().map_or(0, |metadata| metadata.len()));
    sum
}

/// Calls `each` for every file and link of a tree, within bounds; folders that links lead to are not entered.
pub fn walk(path: &Path, each: &mut dyn FnMut(&Path)) {
    let mut left = NAMES_MAX;
    walk_on(path, DEPTH_MAX, &mut left, each);
}

fn walk_on(path: &Path, depth: usize, left: &mut usize, each: &mut dyn FnMut(&Path)) {
    let is_dir = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    if !is_dir {
        return each(path);
    }
    let Some(depth) = depth.checked_sub(1) else { return };
    for entry in fs::read_dir(path).into_iter().flatten().filter_map(Result::ok) {
        let Some(rest) = left.checked_sub(1) else { return };
        *left = rest;
        walk_on(&entry.path(), depth, left, each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_bytes_and_their_digests() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "abc").unwrap();
        let digests = copy(&from, &to).unwrap();
        assert_eq!(digests.md5, "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(fs::read(&to).unwrap(), b"abc");
        assert!(copy(dir.path(), &to).unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn folders_change_places() {
        let dir = tempfile::tempdir().unwrap();
        let (new, place) = (dir.path().join("new"), dir.path().join("a/place"));
        for text in ["old", "new"] {
            fs::create_dir_all(&new).unwrap();
            fs::write(new.join("file"), text).unwrap();
            put(&new, &place).unwrap();
            assert_eq!(fs::read_to_string(place.join("file")).unwrap(), text);
        }
        assert_eq!(fs::read_to_string(new.join("file")).unwrap(), "old");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_figures() {
        let dir = tempfile::tempdir().unwrap();
        require_room(dir.path(), 1).unwrap();
        let error = require_room(dir.path(), 1 << 60).unwrap_err().to_string();
        assert!(error.contains("MB") && error.contains(dir.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn trees_are_measured_without_following_links() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), "12345").unwrap();
        let before = size(dir.path());
        assert_eq!(before, 5);
        std::os::unix::fs::symlink("/usr", dir.path().join("link")).unwrap();
        assert_eq!(size(dir.path()), 5 + 4);
        let (root, outside) = (dir.path().join("sub"), dir.path());
        assert!(is_below(&root, &root.join("file")) && is_below(&root, &root.join("none")));
        std::os::unix::fs::symlink(outside, root.join("out")).unwrap();
        assert!(is_below(&root, &root.join("out")) && !is_below(&root, &root.join("out/sub")));
    }
}
