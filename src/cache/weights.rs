//! The weights of one package: a read-only mapping of a file, or bytes inside the binary.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::{Error, digest};

/// Largest weights file that is opened: protobuf, and so ONNX, cannot hold more in one message.
pub const WEIGHTS_BYTES_MAX: u64 = 2 << 30;

/// Bytes of a network, not copied.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Embedded(&'static [u8]),
}

impl Weights {
    /// Maps a file read-only.
    ///
    /// # Errors
    /// The file cannot be opened or mapped, is empty, or is larger than [`WEIGHTS_BYTES_MAX`].
    pub fn map(path: &Path) -> Result<Self, Error> {
        let read = |cause| Error::Read { path: path.into(), cause };
        let file = File::open(path).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        if !metadata.is_file() {
            return Err(read(std::io::Error::other("not a regular file")));
        }
        match metadata.len() {
            0 => return Err(Error::Empty { path: path.into() }),
            bytes if bytes > WEIGHTS_BYTES_MAX => {
                return Err(Error::TooLarge { path: path.into(), bytes, limit: WEIGHTS_BYTES_MAX });
            }
            _ => {}
        }
        // SAFETY: the mapping is private and read-only. A file that another process truncates meanwhile would fault;
        // the cache is input that nothing rewrites in place (Roboflow, too, replaces files by rename).
        let map = unsafe { Mmap::map(&file) }.map_err(read)?;
        Ok(Self { path: path.into(), bytes: Bytes::Mapped(map) })
    }

    /// Bytes that are part of this binary; `name` stands in for the path.
    #[must_use]
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Self {
        Self { path: name.into(), bytes: Bytes::Embedded(bytes) }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Embedded(bytes) => bytes,
        }
    }

    /// SHA-256 of the bytes, hex. Reads all of them.
    #[must_use]
    pub fn sha256(&self) -> String {
        digest::sha256(self.bytes())
    }
}
