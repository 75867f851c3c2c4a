//! An update: a signed bundle, streamed into the idle slot.
//!
//! The bundle is read once, from whatever it comes from, and never lies anywhere whole. Its signature, its board and its
//! sizes are checked before anything is written; the slot is marked `writing` before its first byte, and `ready:` only
//! when every part was read back from the disk and has the digest that the manifest states. Whatever happens between
//! (an error, a power cut at any byte) leaves a slot that nobody starts, and the committed slot as it was.
//!
//! May not know: who asked for it, and when the device reboots.

mod bundle;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::Sha256;
use sha2::digest::Digest;
use tar::Archive;

use self::bundle::{Manifest, Part};
use super::slot::{self, Disk, Region, SlotName};
use crate::cache::digest::hex;
use crate::{config, public_key};

pub use crate::public_key::PublicKey;

/// What is read and written at once. Tests have small parts and want many pieces.
const PIECE_BYTES: usize = if cfg!(test) { 4 << 10 } else { 1 << 20 };
/// Pieces between two syncs: a card that writes 10 MB/s and owes no more than 4 MiB holds up the other writers (the
/// spool, the log) for less than half a second.
const PIECES_UNSYNCED_MAX: u64 = 4;

/// What an image says of itself: TOML with `board` and `version`.
const RELEASE: &str = "/etc/firstlight/release";

/// Why there is no update. When it is about the bundle's begin, nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Slot(#[from] slot::Error),
    #[error("key {path}: {why}; expected the public key file that `minisign -G` makes", path = .path.display())]
    Key { path: PathBuf, why: String },
    #[error("{path}: {why}; it says which board this system was made for", path = RELEASE)]
    Release { why: String },
    #[error("the bundle cannot be read: {0}")]
    Read(io::Error),
    #[error("the bundle has {found} where {expected} should be; make it with `tar --format=ustar`, in the right order")]
    Entry { expected: String, found: String },
    #[error("the bundle's {name} has {bytes} bytes; at most {limit} are read")]
    TooLong { name: &'static str, bytes: u64, limit: u64 },
    #[error("the bundle's manifest.json is not signed by this device's key: {0}")]
    Signature(minisign_verify::Error),
    #[error("the bundle's manifest.json: {0}")]
    Manifest(String),
    #[error("the bundle is for board `{found}`, this is `{expected}`")]
    Board { expected: String, found: String },
    #[error("the bundle's {file} has {bytes} bytes; partition {partition} holds {available}")]
    TooLarge { file: String, bytes: u64, partition: u8, available: u64 },
    #[error("the bundle's {file} has {found} bytes, its manifest says {expected}")]
    Size { file: String, expected: u64, found: u64 },
    #[error("the bundle's {file} has sha256 {found}, its manifest says {expected}; it was damaged on its way")]
    Digest { file: String, expected: String, found: String },
    #[error("partition {partition} reads back as sha256 {found}, written was {expected}; the disk is failing")]
    ReadBack { partition: u8, expected: String, found: String },
}

impl Error {
    /// Whether a signature or a digest was wrong.
    #[must_use]
    pub fn is_verification(&self) -> bool {
        matches!(self, Self::Signature(_) | Self::Digest { .. } | Self::ReadBack { .. })
    }
}

/// What was installed. Nothing is armed by it: see [`slot::try_slot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    pub slot: SlotName,
    pub version: String,
    /// Of both parts.
    pub bytes: u64,
}

/// Reads a minisign public key file.
///
/// # Errors
/// It cannot be read, or is no such file.
pub fn load_key(path: &Path) -> Result<PublicKey, Error> {
    public_key::read(path).map_err(|why| Error::Key { path: path.into(), why })
}

/// The board that this system was made for.
///
/// # Errors
/// It does not say: this is no image of ours.
pub fn own_board() -> Result<String, Error> {
    #[derive(serde::Deserialize)]
    struct Release {
        board: String,
    }
    let text = std::fs::read_to_string(RELEASE).map_err(|cause| Error::Release { why: cause.to_string() })?;
    let release: Release = config::text::read(&text).map_err(|why| Error::Release { why })?;
    Ok(release.board)
}

/// Installs a bundle into the slot of `disk` that neither runs nor is committed. The disk must be open for
/// [`slot::Access::Change`], which keeps a second update out. `progress` is told after every piece, in bytes and of how
/// many: each byte counts twice, when it is written and when it is read back.
///
/// # Errors
/// The bundle is refused, or the disk fails; the idle slot is then as it was or `writing`, never `ready:`.
pub fn install(
    bundle: &mut dyn Read,
    disk: &Disk,
    board: &str,
    key: &PublicKey,
    running: SlotName,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Installed, Error> {
    let idle = disk.state()?.idle(running).map_err(slot::Error::from)?;
    let mut archive = Archive::new(bundle);
    let mut entries = archive.entries().map_err(Error::Read)?.raw(true);
    let manifest = bundle::read_manifest(&mut entries, key)?;
    if manifest.board != board {
        return Err(Error::Board { expected: board.into(), found: manifest.board });
    }
    let regions = places(&manifest, disk, idle)?;
    let bytes = manifest.parts.iter().map(|part| part.bytes).sum();
    let mut progress = Progress { done: 0, total: 2 * bytes, tell: progress };
    let mut begun = false;
    for (part, (partition, region)) in manifest.parts.iter().zip(regions) {
        let mut entry = bundle::next_part(&mut entries, part)?;
        if !begun {
            disk.set_state(&disk.state()?.begin_update(idle).map_err(slot::Error::from)?)?;
            begun = true;
        }
        write(&mut entry, part, disk, region, &mut progress)?;
        read_back(part, disk, partition, region, &mut progress)?;
    }
    bundle::end(&mut entries)?;
    disk.set_state(&disk.state()?.finish_update(idle, &manifest.version).map_err(slot::Error::from)?)?;
    Ok(Installed { slot: idle, version: manifest.version, bytes })
}

/// Where the parts go: number and place of each one's partition, large enough.
fn places(manifest: &Manifest, disk: &Disk, slot: SlotName) -> Result<[(u8, Region); 2], Error> {
    let numbers = [slot.boot_partition(), slot.root_partition()];
    let regions = [disk.partition(numbers[0])?, disk.partition(numbers[1])?];
    for ((part, partition), region) in manifest.parts.iter().zip(numbers).zip(regions) {
        if part.bytes > region.bytes {
            let (file, bytes, available) = (part.file.clone(), part.bytes, region.bytes);
            return Err(Error::TooLarge { file, bytes, partition, available });
        }
    }
    Ok([(numbers[0], regions[0]), (numbers[1], regions[1])])
}

struct Progress<'a> {
    done: u64,
    total: u64,
    tell: &'a mut dyn FnMut(u64, u64),
}

impl Progress<'_> {
    fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        (self.tell)(self.done, self.total);
    }
}

/// Offset and length of each piece of a part.
fn pieces(bytes: u64) -> impl Iterator<Item = (u64, usize)> {
    let length = move |at: u64| usize::try_from(bytes - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
    (0..bytes).step_by(PIECE_BYTES).map(move |at| (at, length(at)))
}

fn write(
    entry: &mut dyn Read,
    part: &Part,
    disk: &Disk,
    region: Region,
    progress: &mut Progress<'_>,
) -> Result<(), Error> {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut digest = Sha256::new();
    for (count, (at, length)) in (1..).zip(pieces(part.bytes)) {
        let piece = &mut buffer[..length];
        entry.read_exact(piece).map_err(Error::Read)?;
        digest.update(&*piece);
        disk.write(region, at, piece)?;
        if count % PIECES_UNSYNCED_MAX == 0 {
            disk.sync()?;
        }
        progress.add(length);
    }
    disk.sync()?;
    let found = hex(&digest.finalize());
    if found != part.sha256 {
        return Err(Error::Digest { file: part.file.clone(), expected: part.sha256.clone(), found });
    }
    Ok(())
}

fn read_back(
    part: &Part,
    disk: &Disk,
    partition: u8,
    region: Region,
    progress: &mut Progress<'_>,
) -> Result<(), Error> {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut digest = Sha256::new();
    disk.forget(region);
    for (at, length) in pieces(part.bytes) {
        let piece = &mut buffer[..length];
        disk.read(region, at, piece)?;
        digest.update(&*piece);
        progress.add(length);
    }
    let found = hex(&digest.finalize());
    if found != part.sha256 {
        return Err(Error::ReadBack { partition, expected: part.sha256.clone(), found });
    }
    Ok(())
}
