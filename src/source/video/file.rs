//! Reading a video file where a container says, and nowhere else.
//!
//! Plain reads and no mapping: a file that is cut short while it is read is an error, where a mapping would be a signal.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Most bytes of one packet or table: an uncompressed picture of 40 megapixels, or the tables of three days at 25 frames a
/// second.
pub const READ_BYTES_MAX: u64 = 64 << 20;

/// A file whose length is known.
#[derive(Debug)]
pub struct VideoFile {
    file: File,
    length: u64,
}

impl VideoFile {
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }

    /// Bytes of the file when it was opened.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Replaces `bytes` by the `length` bytes from `offset` on.
    ///
    /// # Errors
    /// The file ends before, they are more than one packet may have, or the disk fails.
    pub fn read(&self, offset: u64, length: u64, bytes: &mut Vec<u8>) -> Result<(), String> {
        bytes.clear();
        if length > READ_BYTES_MAX {
            return Err(format!("{length} bytes at byte {offset}: at most {READ_BYTES_MAX} are read at once"));
        }
        if offset.checked_add(length).is_none_or(|end| end > self.length) {
            return Err(format!("the file ends at byte {}, before {length} bytes at byte {offset} do", self.length));
        }
        bytes.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
        self.file.read_exact_at(bytes, offset).map_err(|error| format!("byte {offset} cannot be read: {error}"))
    }

    /// The next bytes as an array, or `None` at the end of the file.
    pub fn array<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    /// Appends what follows `offset` to `bytes`, at most `length` of it; less only at the end of the file.
    ///
    /// # Errors
    /// The disk fails.
    pub fn append(&self, offset: u64, length: usize, bytes: &mut Vec<u8>) -> Result<(), String> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let start = bytes.len();
        bytes.resize(start + length.min(left), 0);
        let read = self.file.read_exact_at(&mut bytes[start..], offset);
        read.map_err(|error| format!("byte {offset} cannot be read: {error}"))
    }
}
