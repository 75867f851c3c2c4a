//! The files of one directory, numbered: the newest are added, the oldest removed when they are too many bytes or too old.
//! Numbers go on over restarts, so that a listing is in order whatever the clocks say.
//!
//! May not know: threads, or what is in the files.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::avi;
use crate::clock::{self, Stamp};
use crate::config::{Keep, seconds};
use crate::durable;

/// Most files that are kept: more would make the scan at power-on slow.
const FILES_MAX: usize = 20_000;
/// Most names looked at in the directory, which is the recording's own.
const ENTRIES_MAX: usize = 4 * FILES_MAX;
/// What a file takes on a disk is a multiple of this.
const BLOCK_BYTES: u64 = 4096;
/// Digits of a number: a picture every tenth of a second for three years.
const DIGITS: usize = 9;
/// What belongs to a recording; anything else in the directory is somebody's own.
const KINDS: [&str; 3] = ["jpg", "avi", "json"];
/// First and longest pause before a directory that cannot be used is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(10);

/// Where a ring lies, and how large it may be.
#[derive(Clone, Debug)]
pub struct Place {
    pub dir: PathBuf,
    /// Of all files, each rounded up to blocks.
    pub bytes_max: u64,
    pub age_max: Option<Duration>,
    boot: String,
}

impl Place {
    pub fn new(keep: Keep, dir: &Path, boot_id: &str) -> Self {
        let boot = boot_id.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let age_max = keep.age_h.map(|hours| seconds(hours * 3600.0));
        Self { dir: dir.into(), bytes_max: keep.size_mb * 1_000_000, age_max, boot }
    }
}

/// A ring that is opened when it is needed, and again when it has failed or its directory has gone, with growing pauses.
#[derive(Debug)]
pub struct Home {
    place: Place,
    ring: Option<Ring>,
    /// Why it is closed, and when it is tried again.
    closed: Option<(String, Instant)>,
    pause: Duration,
}

impl Home {
    pub fn new(place: Place) -> Self {
        Self { place, ring: None, closed: None, pause: RETRY_FIRST }
    }

    /// Whether what was begun in the ring can go on; if not, it is to be forgotten.
    pub fn is_open(&mut self) -> bool {
        if self.ring.as_ref().is_some_and(|ring| !ring.in_place()) {
            // First, or its lock would stand in the way.
            self.ring = None;
        }
        self.ring.is_some()
    }

    /// The ring, opened now if it is time.
    pub fn ring(&mut self) -> Result<&mut Ring, String> {
        if !self.is_open() {
            if let Some((why, _)) = self.closed.as_ref().filter(|(_, again_at)| Instant::now() < *again_at) {
                return Err(why.clone());
            }
            match Ring::open(&self.place) {
                Ok(ring) => self.ring = Some(ring),
                Err(why) => {
                    self.failed(&why);
                    return Err(why);
                }
            }
        }
        Ok(self.ring.as_mut().expect("opened above"))
    }

    /// Closes it for a while.
    pub fn failed(&mut self, why: &str) {
        self.ring = None;
        self.closed = Some((why.into(), Instant::now() + self.pause));
        self.pause = (self.pause * 2).min(RETRY_LONGEST);
    }

    /// Something was written: the next failure is a new one.
    pub fn worked(&mut self) {
        self.pause = RETRY_FIRST;
    }
}

/// An open ring; no other process can open it meanwhile.
#[derive(Debug)]
pub struct Ring {
    place: Place,
    /// Keeps the lock, and says whether the directory still is the one that was opened.
    handle: File,
    /// Oldest first.
    kept: VecDeque<Kept>,
    bytes: u64,
    next: u64,
}

/// One file.
#[derive(Debug)]
struct Kept {
    name: String,
    bytes: u64,
    /// By the wall clock; `None` where it was not set.
    made: Option<SystemTime>,
    /// Since this boot, where it was made in it.
    since_boot: Option<Duration>,
}

impl Ring {
    /// Opens a directory; its last part is made when only that is missing. What a cut has left is finished or removed.
    pub fn open(place: &Place) -> Result<Self, String> {
        let dir = &place.dir;
        match fs::create_dir(dir) {
            Err(cause) if cause.kind() != ErrorKind::AlreadyExists => {
                return Err(format!("cannot be made: {cause}; is its disk mounted?"));
            }
            _ => {}
        }
        let handle = File::open(dir).map_err(|cause| format!("cannot be opened: {cause}"))?;
        match durable::lock(&handle) {
            Err(TryLockError::WouldBlock) => return Err("another recording writes there; each has its own".into()),
            Err(TryLockError::Error(cause)) => return Err(format!("cannot be locked: {cause}")),
            Ok(()) => {}
        }
        durable::remove_leftovers(dir).map_err(super::told)?;
        let mut ring = Self { place: place.clone(), handle, kept: VecDeque::new(), bytes: 0, next: 1 };
        ring.index()?;
        ring.prune()?;
        Ok(ring)
    }

    /// Whether the directory still is the one that was opened: a disk may be unplugged, or mounted over it.
    fn in_place(&self) -> bool {
        let identity = |found: fs::Metadata| (found.dev(), found.ino());
        match (self.handle.metadata(), fs::metadata(&self.place.dir)) {
            (Ok(opened), Ok(there)) => identity(opened) == identity(there),
            _ => false,
        }
    }

    /// Finds what is there.
    fn index(&mut self) -> Result<(), String> {
        let read = |cause| format!("cannot be read: {cause}");
        let mut names = Vec::new();
        for (count, entry) in fs::read_dir(&self.place.dir).map_err(read)?.enumerate() {
            if count >= ENTRIES_MAX {
                return Err(format!("more than {ENTRIES_MAX} files; a recording has a directory of its own"));
            }
            let name = entry.map_err(read)?.file_name();
            names.extend(name.into_string().ok().filter(|name| number_of(name).is_some()));
        }
        names.sort_unstable();
        for name in names {
            let path = self.place.dir.join(&name);
            // What cannot be finished, on a full disk, can be read as it is.
            if name.ends_with(".avi") && matches!(avi::finish(&path), Ok(Some(0))) {
                fs::remove_file(&path).map_err(|cause| format!("{name}: cannot be removed: {cause}"))?;
                continue;
            }
            let found = fs::metadata(&path).map_err(|cause| format!("{name}: {cause}"))?;
            let made = found.modified().ok().filter(|made| clock::is_plausible(*made));
            self.next = self.next.max(number_of(&name).unwrap_or(0) + 1);
            self.bytes += blocks(found.len());
            self.kept.push_back(Kept { name, bytes: found.len(), made, since_boot: None });
        }
        Ok(())
    }

    /// A name that was never given, without its ending: number, wall clock, boot and its seconds, source and frame.
    pub fn name(&mut self, stamp: Stamp, source_id: u32, frame_id: u64) -> String {
        let number = self.next;
        self.next += 1;
        let unix = Duration::try_from_secs_f64(stamp.unix_s).unwrap_or_default();
        let wall = if stamp.clock_set { compact(UNIX_EPOCH + unix) } else { "unset".into() };
        let Stamp { monotonic_s, .. } = stamp;
        format!(
            "{number:0DIGITS$}_{wall}_boot-{}-{monotonic_s:.3}_source-{source_id}_frame-{frame_id}",
            self.place.boot
        )
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.dir.join(name)
    }

    /// Notes a file that was made, or that has another length now, and removes the oldest when there are too many bytes.
    pub fn note(&mut self, name: &str, bytes: u64) -> Result<(), String> {
        // What grows is among the newest.
        if let Some(kept) = self.kept.iter_mut().rev().take(64).find(|kept| kept.name == name) {
            self.bytes = self.bytes - blocks(kept.bytes) + blocks(bytes);
            kept.bytes = bytes;
        } else {
            let made = Some(SystemTime::now()).filter(|_| clock::is_set());
            self.bytes += blocks(bytes);
            self.kept.push_back(Kept { name: name.into(), bytes, made, since_boot: Some(clock::since_boot()) });
        }
        self.prune()
    }

    /// Removes the oldest while there are too many bytes, too many files, or they are too old.
    pub fn prune(&mut self) -> Result<(), String> {
        let (now, since_boot) = (SystemTime::now(), clock::since_boot());
        while let Some(oldest) = self.kept.front() {
            let age = oldest.since_boot.map(|made| since_boot.saturating_sub(made)).or_else(|| {
                // A clock that is not set says nothing of an age.
                oldest.made.filter(|_| clock::is_set()).and_then(|made| now.duration_since(made).ok())
            });
            let old = self.place.age_max.zip(age).is_some_and(|(max, age)| age > max);
            // The newest stays, however long it is: it may be the one that is written.
            let over = self.bytes > self.place.bytes_max || self.kept.len() > FILES_MAX;
            if !(old || over) || self.kept.len() == 1 {
                break;
            }
            match fs::remove_file(self.place.dir.join(&oldest.name)) {
                Err(cause) if cause.kind() != ErrorKind::NotFound => {
                    return Err(format!("{}: cannot be removed: {cause}", oldest.name));
                }
                _ => {}
            }
            self.bytes -= blocks(oldest.bytes);
            self.kept.pop_front();
        }
        Ok(())
    }
}

/// A moment to the millisecond in letters that every file system takes: `20261122T101500.123Z`.
fn compact(at: SystemTime) -> String {
    let iso = clock::iso(at);
    iso[..iso.len() - 3].replace(['-', ':'], "") + "Z"
}

/// Number of a file of a recording.
fn number_of(name: &str) -> Option<u64> {
    let (stem, kind) = name.rsplit_once('.')?;
    let (number, _) = stem.split_once('_')?;
    let number =
        Some(number).filter(|number| number.len() == DIGITS && number.bytes().all(|byte| byte.is_ascii_digit()));
    number.filter(|_| KINDS.contains(&kind))?.parse().ok()
}

fn blocks(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES)
}
