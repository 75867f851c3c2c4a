//! Kernel modules: `modules.dep` for the order, `finit_module` for the work. No modprobe, no udev.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

/// What can go wrong with a module.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("kernel modules: {path}: {cause}", path = .path.display())]
    Index { path: PathBuf, cause: std::io::Error },
    #[error("kernel module {name}: not in {dir}, and not part of the kernel; name it when the image is made", dir = .dir.display())]
    Missing { name: String, dir: PathBuf },
    #[error("kernel module {name}: {path}: {cause}", path = .path.display())]
    Load { name: String, path: PathBuf, cause: std::io::Error },
}

/// The modules of the running kernel.
#[derive(Debug)]
pub struct Modules {
    dir: PathBuf,
    sys: PathBuf,
    /// By name: the file, and the files it needs, in the order of `modules.dep` (each needs what follows it).
    files: HashMap<String, (PathBuf, Vec<PathBuf>)>,
}

impl Modules {
    /// Reads the index of the running kernel's modules.
    ///
    /// # Errors
    /// There is none, which is fine for a kernel that has everything built in.
    pub fn of_running_kernel() -> Result<Self, Error> {
        let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
        let dir = Path::new("/lib/modules").join(release.unwrap_or_default());
        let index = dir.join("modules.dep");
        let text = fs::read_to_string(&index).map_err(|cause| Error::Index { path: index, cause })?;
        Ok(Self { files: parse(&text, &dir), dir, sys: "/sys/module".into() })
    }

    /// Loads a module and what it needs: a name, then its parameters, such as `vivid n_devs=1`. One that is loaded, or
    /// part of the kernel, is fine.
    ///
    /// # Errors
    /// It is not there, or the kernel refuses it; for a driver that means that its hardware is absent, often.
    pub fn load(&self, line: &str) -> Result<(), Error> {
        let (name, parameters) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let Some((file, needed)) = self.files.get(&canonical(name)) else {
            let built_in = self.sys.join(canonical(name)).exists();
            return if built_in { Ok(()) } else { Err(Error::Missing { name: name.into(), dir: self.dir.clone() }) };
        };
        for needed in needed.iter().rev() {
            insert(name, needed, "")?;
        }
        insert(name, file, parameters)
    }
}

fn insert(name: &str, path: &Path, parameters: &str) -> Result<(), Error> {
    let failed = |cause: std::io::Error| Error::Load { name: name.into(), path: path.into(), cause };
    let file = File::open(path).map_err(failed)?;
    let parameters = CString::new(parameters).map_err(|error| failed(error.into()))?;
    match finit_module(&file, &parameters, ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// `kernel/fs/ext4/ext4.ko: kernel/fs/mbcache.ko kernel/fs/jbd2/jbd2.ko`, a line a module.
fn parse(text: &str, dir: &Path) -> HashMap<String, (PathBuf, Vec<PathBuf>)> {
    let entry = |line: &str| {
        let (file, needed) = line.split_once(':')?;
        let name = Path::new(file).file_name()?.to_str()?.split('.').next()?;
        Some((canonical(name), (dir.join(file), needed.split_whitespace().map(|file| dir.join(file)).collect())))
    };
    text.lines().filter_map(entry).collect()
}

/// The kernel treats both as one.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/mbcache.ko\n\
        kernel/lib/crc16.ko:\nkernel/drivers/net/virtio-net.ko.xz: kernel/a.ko\nnonsense\n";

    #[test]
    fn the_index_is_read() {
        let files = parse(INDEX, Path::new("/m"));
        assert_eq!(files.len(), 3);
        let (file, needed) = &files["ext4"];
        assert_eq!(file, Path::new("/m/kernel/fs/ext4/ext4.ko"));
        assert_eq!(needed, &[PathBuf::from("/m/kernel/lib/crc16.ko"), "/m/kernel/fs/mbcache.ko".into()]);
        assert!(files.contains_key("virtio_net"));
    }

    #[test]
    fn what_is_missing_or_built_in() {
        let sys = tempfile::tempdir().unwrap();
        fs::create_dir(sys.path().join("virtio_pci")).unwrap();
        let modules = Modules { dir: "/m".into(), sys: sys.path().into(), files: parse(INDEX, Path::new("/m")) };
        assert!(modules.load("virtio-pci").is_ok());
        let message = modules.load("vivid n_devs=1").unwrap_err().to_string();
        assert!(message.contains("vivid") && message.contains("/m"), "{message}");
        let message = modules.load("ext4").unwrap_err().to_string();
        assert!(message.contains("/m/kernel/fs/mbcache.ko"), "what it needs is loaded first: {message}");
    }
}
