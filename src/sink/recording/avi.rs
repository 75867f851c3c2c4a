//! Video as JPEG pictures in an AVI file that can be read whenever it ends: `RIFF AVI ( hdrl, movi ( 00dc … ), idx1 )`.
//!
//! While it grows its lengths say 0, which players take for "up to the end of the file". Its end writes the index and the
//! true lengths; [`finish`] does the same to a file that a power cut has left. The rate is constant: a moment without a new
//! picture is a chunk without bytes, which players show as the picture before.
//! May not know: what is in the pictures.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::frame::Size;

/// Bytes before the first chunk.
const HEADER_BYTES: usize = 224;
/// Where the list of chunks begins, from whose four letters offsets in the index count.
const MOVI: u64 = 220;
/// Of a chunk: four letters and a length.
const CHUNK_HEAD: usize = 8;
/// A chunk of compressed video of the first stream.
const FRAME: [u8; 4] = *b"00dc";
/// Longest file: players take lengths for signed.
pub const BYTES_MAX: u64 = 1 << 30;
/// Most pictures of a file: hours at any rate that is recorded. The index in memory has eight bytes for each.
pub const FRAMES_MAX: usize = 200_000;
/// Of an entry of the index: a picture that stands by itself.
const KEYFRAME: u32 = 0x10;

/// A file that grows.
#[derive(Debug)]
pub struct Avi {
    file: File,
    size: Size,
    fps: u32,
    index: Index,
}

/// Where each chunk lies.
#[derive(Debug, Default)]
struct Index {
    /// Bytes of the file up to the end of the last whole chunk.
    end: u64,
    /// Offset and length of each.
    chunks: Vec<(u32, u32)>,
}

impl Index {
    fn empty() -> Self {
        Self { end: HEADER_BYTES as u64, chunks: Vec::new() }
    }

    /// Notes a chunk of `length` bytes behind the last; `false` when the file would become too long.
    fn add(&mut self, length: u32) -> bool {
        let end = self.end + CHUNK_HEAD as u64 + padded(length);
        let (true, Ok(offset)) = (end <= BYTES_MAX && self.chunks.len() < FRAMES_MAX, u32::try_from(self.end - MOVI))
        else {
            return false;
        };
        self.chunks.push((offset, length));
        self.end = end;
        true
    }
}

impl Avi {
    /// A new file for pictures of a size, so many a second.
    ///
    /// # Errors
    /// As the system says; so with the others.
    pub fn create(path: &Path, size: Size, fps: u32) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        if let Err(cause) = file.write_all_at(&header(size, fps, None), 0) {
            let _ = std::fs::remove_file(path);
            return Err(cause);
        }
        Ok(Self { file, size, fps, index: Index::empty() })
    }

    /// Adds a picture; with no bytes, the one before stays for another moment. `false` when the file is full.
    ///
    /// # Errors
    /// It was not added, and what is there can still be read.
    pub fn push(&mut self, jpeg: &[u8]) -> io::Result<bool> {
        let at = self.index.end;
        let Ok(length) = u32::try_from(jpeg.len()) else { return Ok(false) };
        if !self.index.add(length) {
            return Ok(false);
        }
        let written = self.write(at, jpeg, length);
        if written.is_err() {
            self.index.chunks.pop();
            self.index.end = at;
            // What cannot be cut off is no whole chunk, and passed over by whoever reads it.
            let _ = self.file.set_len(at);
        }
        written.map(|()| true)
    }

    fn write(&self, at: u64, jpeg: &[u8], length: u32) -> io::Result<()> {
        let [a, b, c, d] = length.to_le_bytes();
        let [f, g, h, i] = FRAME;
        self.file.write_all_at(jpeg, at + CHUNK_HEAD as u64)?;
        if jpeg.len() % 2 == 1 {
            self.file.write_all_at(&[0], at + (CHUNK_HEAD + jpeg.len()) as u64)?;
        }
        // Last, so that a chunk with a head is whole, as far as the file system keeps the order.
        self.file.write_all_at(&[f, g, h, i, a, b, c, d], at)
    }

    pub fn size(&self) -> Size {
        self.size
    }

    /// Bytes of the file so far.
    pub fn bytes(&self) -> u64 {
        self.index.end
    }

    /// Makes what was added outlive a power cut.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Writes the index and the true lengths, and returns the bytes of the file.
    pub fn close(self) -> io::Result<u64> {
        close(&self.file, self.size, self.fps, &self.index)
    }
}

fn close(file: &File, size: Size, fps: u32, index: &Index) -> io::Result<u64> {
    let mut bytes = Vec::with_capacity(CHUNK_HEAD + 16 * index.chunks.len());
    let length = u32::try_from(16 * index.chunks.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(b"idx1");
    bytes.extend_from_slice(&length.to_le_bytes());
    for &(offset, length) in &index.chunks {
        bytes.extend_from_slice(&FRAME);
        for word in [if length > 0 { KEYFRAME } else { 0 }, offset, length] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    file.write_all_at(&bytes, index.end)?;
    let end = index.end + bytes.len() as u64;
    file.set_len(end)?;
    // First the index, then the lengths that say it is there.
    file.sync_data()?;
    file.write_all_at(&header(size, fps, Some(index)), 0)?;
    file.sync_all()?;
    Ok(end)
}

fn padded(length: u32) -> u64 {
    u64::from(length) + u64::from(length % 2)
}

/// All that stands before the first chunk; without an index the lengths that are not known yet are 0.
fn header(size: Size, fps: u32, index: Option<&Index>) -> Vec<u8> {
    let side = |side: usize| u32::try_from(side).unwrap_or(0);
    let (width, height) = (side(size.width), side(size.height));
    let word = |value: u64| u32::try_from(value).unwrap_or(0);
    let frames = index.map_or(0, |index| word(index.chunks.len() as u64));
    let movi = index.map_or(0, |index| word(index.end - MOVI));
    let whole = index.map_or(0, |index| word(index.end - 8) + 8 + 16 * frames);
    let largest = index.and_then(|index| index.chunks.iter().map(|&(_, length)| length).max()).unwrap_or(0);
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    let mut put = |letters: &[u8], words: &[u32]| {
        bytes.extend_from_slice(letters);
        words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    };
    put(b"RIFF", &[whole]);
    put(b"AVI LIST", &[192]);
    put(b"hdrlavih", &[56]);
    // Microseconds a picture, bytes a second, padding, flags (has an index), pictures, first, streams, buffer, sides.
    put(b"", &[1_000_000 / fps.max(1), 0, 0, 0x10, frames, 0, 1, largest, width, height, 0, 0, 0, 0]);
    put(b"LIST", &[116]);
    put(b"strlstrh", &[56]);
    // Flags, priority, first, scale, rate, start, length, buffer, quality, sample size, and the rectangle.
    put(b"vidsMJPG", &[0, 0, 0, 1, fps, 0, frames, largest, u32::MAX, 0, 0, width | height << 16]);
    put(b"strf", &[40, 40, width, height, 1 | 24 << 16]);
    put(b"MJPG", &[width * height * 3, 0, 0, 0, 0]);
    put(b"LIST", &[movi]);
    put(b"movi", &[]);
    debug_assert_eq!(bytes.len(), HEADER_BYTES, "the header");
    bytes
}

/// Writes the index and the lengths of a file that was not closed, after its last whole picture. Returns how many
/// pictures it has; `None` for a file that is whole already, or none of ours.
///
/// # Errors
/// It cannot be read or written.
pub fn finish(path: &Path) -> io::Result<Option<usize>> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let mut head = [0; HEADER_BYTES];
    let mut read = BufReader::new(&file);
    if length < HEADER_BYTES as u64 {
        // Cut before its first picture.
        return Ok(Some(0));
    }
    read.read_exact(&mut head)?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (size, fps) = (Size::new(word(64) as usize, word(68) as usize), word(132));
    let ours = head == *header(size, fps, None);
    if !ours {
        return Ok(None);
    }
    let mut index = Index::empty();
    while index.end + CHUNK_HEAD as u64 <= length {
        let mut chunk = [0; CHUNK_HEAD];
        read.read_exact(&mut chunk)?;
        let [letters @ .., a, b, c, d] = chunk;
        let bytes = u32::from_le_bytes([a, b, c, d]);
        let end = index.end + CHUNK_HEAD as u64 + padded(bytes);
        if letters != FRAME || end > length || !whole(&mut read, bytes)? || !index.add(bytes) {
            break;
        }
    }
    drop(read);
    let frames = index.chunks.len();
    if frames > 0 {
        close(&file, size, fps, &index)?;
    }
    Ok(Some(frames))
}

/// Whether the bytes that follow begin and end as a JPEG does: what a cut left of a file may be zeros. Reads past them.
fn whole(read: &mut BufReader<&File>, bytes: u32) -> io::Result<bool> {
    if bytes == 0 {
        return Ok(true);
    }
    let (mut first, mut last) = ([0; 2], [0; 2]);
    if bytes < 4 {
        return Ok(false);
    }
    read.read_exact(&mut first)?;
    read.seek_relative(i64::from(bytes) - 4)?;
    read.read_exact(&mut last)?;
    read.seek_relative(i64::from(bytes % 2))?;
    Ok(first == [0xff, 0xd8] && last == [0xff, 0xd9])
}
