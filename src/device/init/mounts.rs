//! What PID 1 mounts, and how it leaves the initramfs for the root of the slot.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, statfs};

/// `RAMFS_MAGIC` of `<linux/magic.h>`: an initramfs is a ramfs, or a tmpfs where the kernel has that.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
const TMPFS_MAGIC: FsType = FsType(0x0102_1994);

/// A mount that failed, or what had to be done for it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{source_name} cannot be mounted on {target} as {kind}: {cause}", target = .target.display())]
    Mount { source_name: String, target: PathBuf, kind: String, cause: nix::Error },
    #[error("switching to the root of the slot: {step}: {cause}")]
    SwitchRoot { step: &'static str, cause: nix::Error },
}

/// The kernel's own file systems and the volatile ones: source, target, kind, flags, data.
const BASICS: [(&str, &str, &str, MsFlags, &str); 5] = [
    ("devtmpfs", "/dev", "devtmpfs", MsFlags::MS_NOSUID, "mode=0755"),
    ("proc", "/proc", "proc", QUIET, ""),
    ("sysfs", "/sys", "sysfs", QUIET, ""),
    // Sizes: what may be written in memory must never take the memory that inference needs.
    ("tmpfs", "/run", "tmpfs", QUIET, "mode=0755,size=8m"),
    ("tmpfs", "/tmp", "tmpfs", QUIET, "mode=1777,size=32m"),
];
const QUIET: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Whether the root is still the initramfs.
#[must_use]
pub fn in_initramfs() -> bool {
    statfs("/").is_ok_and(|root| [RAMFS_MAGIC, TMPFS_MAGIC].contains(&root.filesystem_type()))
}

/// Mounts what is not mounted yet of the kernel's file systems and the volatile ones.
///
/// # Errors
/// The first that cannot be mounted; the others are tried all the same.
pub fn mount_basics() -> Result<(), Error> {
    let mut first = Ok(());
    for (source, target, kind, flags, data) in BASICS {
        if is_mount_point(Path::new(target)) {
            continue;
        }
        let result = mount_one(source, Path::new(target), kind, flags, data);
        if first.is_ok() {
            first = result;
        }
    }
    first
}

/// Mounts one file system; the target is made if it is not there.
///
/// # Errors
/// Names source, target and kind.
pub fn mount_one(source: &str, target: &Path, kind: &str, flags: MsFlags, data: &str) -> Result<(), Error> {
    // A read-only root has its mount points already.
    let _ = fs::DirBuilder::new().mode(0o755).create(target);
    mount(Some(source), target, Some(kind), flags, Some(data)).map_err(|cause| Error::Mount {
        source_name: source.into(),
        target: target.into(),
        kind: kind.into(),
        cause,
    })
}

/// Whether another file system begins at `path`: its device differs from its parent's.
fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|data| data.dev()).ok();
    device(path).is_some() && device(path) != device(&path.join(".."))
}

/// Tries to write into the root, which must fail: the kernel's refusal in words.
///
/// # Errors
/// The write succeeded, so that a power cut can damage the system.
pub fn root_is_read_only() -> Result<String, String> {
    const PROBE: &str = "/etc/.firstlight-probe";
    match fs::File::create(PROBE) {
        Err(error) => Ok(format!("writing {PROBE}: {error}")),
        Ok(_) => {
            let _ = fs::remove_file(PROBE);
            Err("it is writable: a power cut can damage the system".into())
        }
    }
}

/// Makes `new_root` the root, takes the mounts of the kernel along, and frees the memory of the initramfs.
///
/// # Errors
/// Names the step that failed; the machine is then in between and must be restarted.
pub fn switch_root(new_root: &Path) -> Result<(), Error> {
    for (_, target, ..) in BASICS {
        let inside = new_root.join(target.trim_start_matches('/'));
        if is_mount_point(Path::new(target)) {
            step("moving a mount", mount(Some(target), &inside, None::<&str>, MsFlags::MS_MOVE, None::<&str>))?;
        }
    }
    // Files of the initramfs are memory: those of this program and its modules are some twenty megabytes.
    let _ = fs::remove_file("/init");
    let _ = fs::remove_dir_all("/lib");
    step("entering it", nix::unistd::chdir(new_root))?;
    step("moving it", mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>))?;
    step("changing root", nix::unistd::chroot("."))?;
    step("entering the root", nix::unistd::chdir("/"))
}

fn step(step: &'static str, result: nix::Result<()>) -> Result<(), Error> {
    result.map_err(|cause| Error::SwitchRoot { step, cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_recognised() {
        assert!(is_mount_point(Path::new("/proc")));
        assert!(!is_mount_point(Path::new("/nowhere")));
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_mount_point(dir.path()));
        assert!(!in_initramfs());
    }
}
