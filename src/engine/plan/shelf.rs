//! Where plans lie, and what is known of the weights they were made from.
//!
//! A plan is found by the SHA-256 of its model's weights, its instruction set, its precision and its input, which are its
//! name, so that nothing is parsed to find it. Beside the plans lie two kinds of notes: of weights files that were hashed, and of
//! networks that have no plan. All three can be deleted at any time; they come back by themselves.
//!
//! What the note of a hashed file protects against, and against what not: it stands for the file while path, device,
//! inode, size, times of modification and of change, and the digest of a sample of its content are the same. A file that
//! is replaced, edited, restored from a backup or copied over is hashed again. Only who can set the clock or write to
//! the disk below the file system can change weights unnoticed, and then the old plan runs, which is what its own
//! checksum says it is. On file systems that are mounted read-only the times say nothing (an image's are all the same),
//! and another image may have another model in the same place: there the file is hashed at every start.

use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sys::statvfs::{FsFlags, statvfs};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::file::{self, Binding, Head};
use super::kernels::Isa;
use super::program::Program;
use crate::cache::digest;
use crate::durable::{self, Disk, RealDisk};
use crate::engine::{DeclaredInput, InputShape, Precision};

/// End of the name of a plan.
const PLAN: &str = "plan";
/// End of the name of the note that a network has none.
const REFUSED: &str = "refused";
/// End of the name of the note of a hashed file.
const WEIGHTS: &str = "weights";
/// A larger note is none of ours.
const NOTE_BYTES_MAX: u64 = 64 * 1024;
/// Names of a folder that are looked at: a hundred times what a device has.
const NAMES_MAX: usize = 10_000;
/// Pieces of a file that are looked at in place of the whole, spread over it, and their size: less than a millisecond.
const SAMPLES: usize = 16;
const SAMPLE_BYTES: usize = 4096;
/// A plan that is being written for longer was given up: by a power cut, or by who stopped the process.
const WRITING_MAX: Duration = Duration::from_secs(15 * 60);

/// How often it is looked whether our own folder has appeared.
const LOOK: Duration = Duration::from_millis(20);

/// Says whether a start had to make a plan, which takes longer than a start should: for who supervises it.
#[derive(Clone, Debug, Default)]
pub struct Making(Arc<AtomicBool>);

impl Making {
    /// How much longer such a start may take. RF-DETR nano's plan is made in 3 to 6 s by an x86 core with seventeen times
    /// the arithmetic of a Cortex-A72, the slowest that a board has.
    pub const TIME_MAX: Duration = Duration::from_secs(5 * 60);

    pub fn begin(&self) {
        self.0.store(true, Relaxed);
    }

    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// The folders of this process. Without any, plans are made anew each time and kept in memory.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    /// What is written goes here, and here is looked first.
    pub own: Option<PathBuf>,
    /// How long the folder above that one may take to appear.
    pub own_appears: Duration,
    /// Folders that others filled, such as the one beside the models of an image.
    pub others: Vec<PathBuf>,
    pub making: Making,
}

/// Why a network has no plan, as noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    /// Another version of this program may know better.
    made_by: String,
    why: String,
}

/// A hashed weights file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hashed {
    path: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
    changed_ns: i128,
    sample: String,
    sha256: String,
}

/// What the shelf has for a network.
#[derive(Debug)]
pub enum Found {
    Plan(Box<file::Plan>, PathBuf),
    Refused(String),
    Nothing,
}

/// A plan of a model, as listings show it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub path: PathBuf,
    pub bytes: u64,
    pub head: Result<Head, String>,
}

/// This program, as plans and notes name it. A note of another build is void, and the size tells most builds apart.
pub fn made_by() -> String {
    let size = fs::metadata("/proc/self/exe").map_or(0, |metadata| metadata.len());
    format!("firstlight {} ({size} bytes)", env!("CARGO_PKG_VERSION"))
}

impl Shelf {
    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        self.own.iter().chain(&self.others)
    }

    /// Looks for a plan, or for the note that there is none. What is there and cannot be used is said to `complain`.
    pub fn find(
        &self,
        sha256: &str,
        isa: &Isa,
        precision: Precision,
        shape: &dyn Fn(&DeclaredInput) -> InputShape,
        complain: &mut dyn FnMut(String),
    ) -> Found {
        let begin = format!("{sha256}.{}.{precision}.", isa.name);
        for folder in self.folders() {
            for path in named(folder, &begin, PLAN) {
                let opened = file::read_head(&path).map_err(|error| error.to_string()).and_then(|head| {
                    let declared = declared(&head);
                    let input = shape(&declared).dims();
                    let binding = Binding { model_sha256: sha256.into(), input, isa: isa.name.into() };
                    if path.file_name() != Some(name(&binding, precision).as_ref()) {
                        // Of another size of the same network, which is as it should be.
                        return Ok(None);
                    }
                    file::open(&path, &binding, precision, isa).map(Some).map_err(|error| error.to_string())
                });
                match opened {
                    Ok(Some(plan)) => return Found::Plan(Box::new(plan), path),
                    Ok(None) => {}
                    Err(why) => complain(why),
                }
            }
        }
        // Only of numbers is it noted that there can be none: bytes are refused where they are asked for.
        let noted = || self.refusal(sha256, isa.name);
        match (precision == Precision::Fp32).then(noted).flatten() {
            Some(why) => Found::Refused(why),
            None => Found::Nothing,
        }
    }

    /// Waits for the folder above our own; whether it has appeared meanwhile.
    pub fn own_appeared(&self) -> bool {
        let Some(above) = self.own.as_deref().and_then(Path::parent).filter(|above| !above.exists()) else {
            return false;
        };
        let deadline = Instant::now() + self.own_appears;
        while !above.exists() && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
        above.exists()
    }

    /// Why this build makes no plan of a network, where that is noted.
    pub fn refusal(&self, sha256: &str, isa: &str) -> Option<String> {
        let note = self.own.as_ref()?.join(format!("{sha256}.{isa}.{REFUSED}"));
        let refused: Refused = read_note(&note)?;
        (refused.made_by == made_by()).then_some(refused.why)
    }

    /// Notes that a network has no plan, so that the next start does not try. Best effort: without it that one does.
    pub fn refuse(&self, sha256: &str, isa: &str, why: &str) {
        if let Some(own) = &self.own {
            let note = Refused { made_by: made_by(), why: why.to_owned() };
            let _ = write_note(own, &format!("{sha256}.{isa}.{REFUSED}"), &note);
        }
    }

    /// Writes a plan into a folder, whole or not at all. It takes at most half of what is free there: on the small
    /// partition of a device lies the spool as well, and it comes first.
    ///
    /// # Errors
    /// The folder or the file cannot be written, or there is not enough room.
    pub fn write(folder: &Path, head: &Head, program: &Program, weights: &[f32]) -> Result<PathBuf, durable::Error> {
        fs::create_dir_all(folder).map_err(durable::Error::io(folder, "made"))?;
        let binding = &head.binding;
        let precision = head.trust.precision();
        let path = folder.join(name(binding, precision));
        remove_abandoned(folder);
        let free = statvfs(folder).map(|stat| stat.blocks_available() * stat.fragment_size());
        if free.is_ok_and(|free| free / 2 < size_of_val(weights) as u64) {
            let cause = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(durable::Error::io(&path, "written: half of what is free there is too little")(cause));
        }
        // Two processes that start at once may both bake; the last to end wins, and both have a whole file.
        let temporary = path.with_extension(format!("{}{}", std::process::id(), durable::TEMPORARY));
        let filled = || -> Result<(), durable::Error> {
            let file = RealDisk.create(&temporary).map_err(durable::Error::io(&temporary, "created"))?;
            let mut to = BufWriter::new(file);
            file::write(&mut to, head, program, weights)
                .and_then(|()| to.flush())
                .and_then(|()| RealDisk.sync(to.get_ref()))
                .and_then(|()| RealDisk.rename(&temporary, &path))
                .map_err(durable::Error::io(&path, "written"))
        };
        let filled = filled();
        if filled.is_err() {
            let _ = RealDisk.remove(&temporary);
        }
        filled?;
        if precision == Precision::Fp32 {
            let _ = RealDisk.remove(&folder.join(format!("{}.{}.{REFUSED}", binding.model_sha256, binding.isa)));
        }
        durable::sync_directory(&RealDisk, folder)?;
        Ok(path)
    }

    /// The plans of a model, of all instruction sets, precisions and inputs.
    pub fn list(&self, sha256: &str) -> Vec<Listed> {
        let paths = self.folders().flat_map(|folder| named(folder, &format!("{sha256}."), PLAN));
        paths
            .map(|path| Listed {
                bytes: fs::metadata(&path).map_or(0, |metadata| metadata.len()),
                head: file::read_head(&path).map_err(|error| error.to_string()),
                path,
            })
            .collect()
    }

    /// The SHA-256 of weights: as noted while the file at `path` is the same, else of `bytes`, its content.
    pub fn sha256(&self, path: &Path, bytes: &[u8]) -> String {
        let Some(own) = &self.own else { return digest::sha256(bytes) };
        let Some(mut hashed) = Hashed::identify(path, bytes) else { return digest::sha256(bytes) };
        let note = format!("{}.{WEIGHTS}", &digest::sha256(hashed.path.as_os_str().as_encoded_bytes())[..32]);
        if let Some(known) = read_note::<Hashed>(&own.join(&note)) {
            hashed.sha256.clone_from(&known.sha256);
            if hashed == known && digest::is_hex(&known.sha256, 64) {
                return known.sha256;
            }
        }
        hashed.sha256 = digest::sha256(bytes);
        // Unless it changed meanwhile, or cannot be kept: then the next start hashes it again.
        if Hashed::identify(path, bytes).is_some_and(|now| Hashed { sha256: hashed.sha256.clone(), ..now } == hashed) {
            let _ = write_note(own, &note, &hashed);
        }
        hashed.sha256
    }
}

impl Hashed {
    /// What a file is known by, but for its digest; `None` where that says nothing.
    fn identify(path: &Path, bytes: &[u8]) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let read_only = statvfs(path).ok()?.flags().contains(FsFlags::ST_RDONLY);
        if read_only || metadata.len() != bytes.len() as u64 {
            return None;
        }
        let mut sample = Sha256::new();
        let last = bytes.len().saturating_sub(SAMPLE_BYTES);
        for index in 0..SAMPLES {
            let at = last * index / (SAMPLES - 1);
            sample.update(&bytes[at..bytes.len().min(at + SAMPLE_BYTES)]);
        }
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Some(Self {
            path: path.canonicalize().ok()?,
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            sample: digest::hex(&sample.finalize()),
            sha256: String::new(),
        })
    }
}

/// The input as the network of a plan declares it.
pub fn declared(head: &Head) -> DeclaredInput {
    let [batch, channels, height, width] = head.declared;
    DeclaredInput { batch, channels, height, width }
}

fn name(Binding { model_sha256, input, isa }: &Binding, precision: Precision) -> String {
    let [batch, channels, height, width] = input;
    format!("{model_sha256}.{isa}.{precision}.{batch}x{channels}x{height}x{width}.{PLAN}")
}

/// Files of a folder whose names begin and end so, sorted.
fn named(folder: &Path, begin: &str, end: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(begin) && path.extension().is_some_and(|extension| extension == end)
    };
    let paths = entries.take(NAMES_MAX).filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = paths.filter(fits).collect();
    paths.sort();
    paths
}

fn remove_abandoned(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.take(NAMES_MAX).flatten() {
        let old = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if entry.file_name().to_string_lossy().ends_with(durable::TEMPORARY)
            && old().is_some_and(|old| old > WRITING_MAX)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn read_note<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    let bytes = durable::read_bounded(path, NOTE_BYTES_MAX).ok()??;
    serde_json::from_slice(&bytes).ok()
}

fn write_note(folder: &Path, name: &str, note: &impl Serialize) -> Result<(), durable::Error> {
    fs::create_dir_all(folder).map_err(durable::Error::io(folder, "made"))?;
    let bytes = serde_json::to_vec(note).expect("strings and numbers are JSON");
    durable::write_durably(&folder.join(name), &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_hashed_again_when_they_are_others() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf { own: Some(dir.path().join("plans")), ..Shelf::default() };
        let path = dir.path().join("weights.onnx");
        let digest_of = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            shelf.sha256(&path, bytes)
        };
        let (first, second) = (vec![1; 100_000], [vec![1; 99_999], vec![2]].concat());
        assert_eq!(digest_of(&first), digest::sha256(&first));
        // The note is believed: with other bytes in hand between the samples it still says what it said.
        let mut between = first.clone();
        between[5_000] = 9;
        assert_eq!(shelf.sha256(&path, &between), digest::sha256(&first));
        assert_eq!(digest_of(&second), digest::sha256(&second));
        // The same size and the time of modification put back: the time of change tells.
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        fs::write(&path, &between).unwrap();
        fs::File::open(&path).unwrap().set_modified(modified).unwrap();
        assert_eq!(shelf.sha256(&path, &between), digest::sha256(&between));
        // A note that is damaged counts as none.
        for entry in fs::read_dir(dir.path().join("plans")).unwrap() {
            fs::write(entry.unwrap().path(), b"{").unwrap();
        }
        assert_eq!(shelf.sha256(&path, &between), digest::sha256(&between));
        assert_eq!(Shelf::default().sha256(Path::new("(embedded)"), b"abc"), digest::sha256(b"abc"));
    }

    #[test]
    fn a_folder_that_appears_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("data/state");
        let own = Some(state.join("plans"));
        assert!(!Shelf { own: own.clone(), ..Shelf::default() }.own_appeared());
        let shelf = Shelf { own, own_appears: Duration::from_secs(20), ..Shelf::default() };
        let mount = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            fs::create_dir_all(state).unwrap();
        });
        assert!(shelf.own_appeared());
        mount.join().unwrap();
        // It was there before.
        assert!(!shelf.own_appeared());
    }

    #[test]
    fn a_refusal_holds_for_this_build() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf { own: Some(dir.path().into()), ..Shelf::default() };
        assert_eq!(shelf.refusal("ab", "neon"), None);
        shelf.refuse("ab", "neon", "Gelu is not known");
        assert_eq!(shelf.refusal("ab", "neon").as_deref(), Some("Gelu is not known"));
        assert_eq!(shelf.refusal("ab", "avx2"), None);
        let old = Refused { made_by: "firstlight 0.0.1 (5 bytes)".into(), why: "old".into() };
        write_note(dir.path(), "ab.neon.refused", &old).unwrap();
        assert_eq!(shelf.refusal("ab", "neon"), None);
    }
}
