//! Power cuts, simulated: a ring on a disk that goes dark at its Nth operation, for every N, and is opened again.
//!
//! What a cut leaves behind is what a journalling file system may leave: changes of names reach the disk in order but
//! only a sync makes sure of them, so any number of the newest are undone; a file that was not synced is cut short or
//! zeroed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::reader::segments;
use super::ring::{Place, Ring};
use super::segment::file_name;
use crate::durable::{Disk, RealDisk};
use crate::random::Random;

/// A change of names that no sync has made sure of.
enum Change {
    Created(PathBuf),
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<Vec<u8>> },
    Removed { path: PathBuf, content: Vec<u8> },
}

/// A disk that loses power.
pub struct CutDisk {
    /// Operations until then.
    left: Cell<u32>,
    random: RefCell<Random>,
    /// Inodes of the files that were written and not synced.
    unsynced: RefCell<HashSet<u64>>,
    changes: RefCell<Vec<Change>>,
    /// A writer that forgets to sync files, to see that the simulation would tell.
    pub forgets_files: bool,
    /// Likewise directories.
    pub forgets_directories: bool,
}

impl CutDisk {
    /// One that goes dark at its operation `left`.
    pub fn new(left: u32, seed: u64) -> Self {
        Self {
            left: Cell::new(left),
            random: RefCell::new(Random::new(seed)),
            unsynced: RefCell::default(),
            changes: RefCell::default(),
            forgets_files: false,
            forgets_directories: false,
        }
    }

    /// Whether it has.
    pub fn dark(&self) -> bool {
        self.left.get() == 0
    }

    fn chance(&self) -> bool {
        self.random.borrow_mut().chance(0.5)
    }

    /// Counts an operation; the one at which the power goes may or may not have been done.
    fn step(&self, operation: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let gone = || Err(io::Error::other("the power is gone"));
        match self.left.get() {
            0 => return gone(),
            left => self.left.set(left - 1),
        }
        if !self.dark() {
            return operation();
        }
        if self.chance() {
            operation()?;
        }
        gone()
    }

    /// Leaves the directory as the cut does.
    pub fn lose_power(&self, dir: &Path) {
        let mut random = self.random.borrow_mut();
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if self.unsynced.borrow().contains(&entry.metadata().unwrap().ino()) {
                let mut content = fs::read(entry.path()).unwrap();
                let length = content.len();
                match random.below(3) {
                    0 => content.truncate(random.below(length + 1)),
                    1 => content.fill(0),
                    _ => {}
                }
                fs::write(entry.path(), content).unwrap();
            }
        }
        let mut changes = self.changes.borrow_mut();
        let undone = random.below(changes.len() + 1);
        for change in changes.drain(..).rev().take(undone) {
            match change {
                Change::Created(path) => fs::remove_file(path).unwrap(),
                Change::Renamed { from, to, replaced } => {
                    fs::rename(&to, from).unwrap();
                    if let Some(content) = replaced {
                        fs::write(to, content).unwrap();
                    }
                }
                Change::Removed { path, content } => fs::write(path, content).unwrap(),
            }
        }
    }
}

impl Disk for CutDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.step(|| {
            let existed = path.exists();
            let inode = RealDisk.create(path)?.metadata()?.ino();
            self.unsynced.borrow_mut().insert(inode);
            if !existed {
                self.changes.borrow_mut().push(Change::Created(path.into()));
            }
            Ok(())
        })?;
        RealDisk.create(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let written = if self.left.get() == 1 { self.random.borrow_mut().below(bytes.len()) } else { bytes.len() };
        self.step(|| RealDisk.write(file, &bytes[..written]))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.step(|| {
            let found = file.metadata()?;
            if found.is_dir() && !self.forgets_directories {
                self.changes.borrow_mut().clear();
            } else if found.is_file() && !self.forgets_files {
                self.unsynced.borrow_mut().remove(&found.ino());
            }
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|| {
            let replaced = fs::read(to).ok();
            RealDisk.rename(from, to)?;
            self.changes.borrow_mut().push(Change::Renamed { from: from.into(), to: to.into(), replaced });
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|| {
            let content = fs::read(path)?;
            RealDisk.remove(path)?;
            self.changes.borrow_mut().push(Change::Removed { path: path.into(), content });
            Ok(())
        })
    }
}

/// The real disk without its waits, which tests that lose no power can do without.
pub struct Swift;

impl Disk for Swift {
    fn sync(&self, _: &File) -> io::Result<()> {
        Ok(())
    }
}

const BATCHES: u64 = 12;
/// Seven blocks, so that the script below comes round.
const BYTES_MAX: u64 = 7 * 4096;

fn place(dir: &Path) -> Place {
    Place { dir: dir.into(), bytes_max: BYTES_MAX, boot_id: "b00".into() }
}

/// One to three records that no other batch has, some of them longer than a block.
fn batch(number: u64) -> (Vec<u8>, u64) {
    let count = number % 3 + 1;
    let line = |i: u64| format!("{{\"batch\":{number},\"i\":{i},\"pad\":\"{}\"}}\n", "x".repeat(40 << (number % 8)));
    ((0..count).map(line).collect::<String>().into_bytes(), count)
}

/// What was said to be committed.
#[derive(Default)]
struct Committed {
    /// By number.
    records: BTreeMap<u64, String>,
    /// Bytes on the disk, by the number of the first record.
    segments: BTreeMap<u64, u64>,
}

/// Commits the batches until the disk refuses.
fn commit_all(disk: &dyn Disk, place: &Place, batches: std::ops::Range<u64>) -> Committed {
    let mut committed = Committed::default();
    let Ok(mut ring) = Ring::open(disk, place) else { return committed };
    for number in batches {
        let (records, count) = batch(number);
        let first = ring.last() + 1;
        if ring.commit(&records, count).is_err() {
            break;
        }
        let text = String::from_utf8(records).unwrap();
        committed.records.extend((first..).zip(text.lines().map(str::to_owned)));
        committed.segments.insert(first, blocks(&place.dir.join(file_name(first))));
        if ring.prune().is_err() {
            break;
        }
    }
    committed
}

/// What a file takes on the disk.
fn blocks(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len().next_multiple_of(4096)
}

/// The records of a directory by number; or what is wrong with it.
fn records(dir: &Path) -> Result<BTreeMap<u64, String>, String> {
    let mut records = BTreeMap::new();
    for segment in segments(dir).unwrap() {
        if let Some(fault) = segment.fault() {
            return Err(fault);
        }
        let text = String::from_utf8(segment.contents.unwrap().records).unwrap();
        records.extend((segment.first..).zip(text.lines().map(str::to_owned)));
    }
    Ok(records)
}

/// What must be true of a directory after a cut, when these records had been committed.
fn judge(dir: &Path, committed: &Committed) -> Result<(), String> {
    let place = place(dir);
    let ring = Ring::open(&Swift, &place).map_err(|error| error.to_string())?;
    if let Some(damage) = ring.damage() {
        return Err(damage.into());
    }
    let last = ring.last();
    drop(ring);
    let found = records(dir)?;
    if found.keys().next_back().copied().unwrap_or(0) != last {
        return Err(format!("the numbers go on from {last}; found {:?}", found.keys()));
    }
    for (number, line) in &committed.records {
        match found.get(number) {
            Some(same) if same == line => {}
            Some(other) => return Err(format!("record {number} was {line}, is {other}")),
            // The oldest may go, when the others fill the ring.
            None if found.keys().next().is_some_and(|first| number < first) => {}
            None => return Err(format!("record {number} is lost; {:?} are there", found.keys())),
        }
    }
    let bytes: u64 = fs::read_dir(dir).unwrap().map(|entry| blocks(&entry.unwrap().path())).sum();
    let gone = committed.segments.iter().rfind(|(first, _)| !found.contains_key(first));
    if let Some((first, room)) = gone.filter(|(_, room)| bytes + *room <= BYTES_MAX) {
        return Err(format!("segment {first} of {room} bytes was removed when {bytes} bytes are there"));
    }
    let mut paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    if let Some(leftover) = paths.find(|path| path.extension() != Some("jsonl".as_ref())) {
        return Err(format!("left over: {}", leftover.display()));
    }
    let more = commit_all(&Swift, &place, 100..103);
    let fits = more.records.keys().next() == Some(&(last + 1))
        && records(dir)?.values().last() == more.records.values().last();
    if fits { Ok(()) } else { Err(format!("after {last} came {:?}", more.records.keys())) }
}

/// Cuts at every operation of the script, with several outcomes each, and returns what went wrong and how many
/// operations there are.
fn cut_everywhere(forgets_files: bool, forgets_directories: bool) -> (Vec<String>, u32) {
    let mut faults = Vec::new();
    for n in 1.. {
        let mut reached = false;
        for seed in 0..6 {
            let dir = tempfile::tempdir().unwrap();
            let place = place(dir.path());
            // Some history, so that the script also removes what an earlier run has written.
            let mut committed = commit_all(&Swift, &place, 0..4);
            let disk = CutDisk { forgets_files, forgets_directories, ..CutDisk::new(n, u64::from(n) * 100 + seed) };
            let second = commit_all(&disk, &place, 4..BATCHES);
            committed.records.extend(second.records);
            committed.segments.extend(second.segments);
            reached |= disk.dark();
            disk.lose_power(dir.path());
            let judged = judge(dir.path(), &committed);
            faults.extend(judged.err().map(|fault| format!("cut at operation {n}, seed {seed}: {fault}")));
        }
        if !reached {
            return (faults, n);
        }
    }
    unreachable!("the script ends")
}

#[test]
fn a_cut_at_any_operation_loses_nothing_that_was_committed() {
    let (faults, operations) = cut_everywhere(false, false);
    assert!(faults.is_empty(), "{faults:#?}");
    // Eight commits of six operations and some removals: the script did run.
    assert!((50..100).contains(&operations), "{operations} operations");
}

#[test]
fn the_simulation_tells_when_a_sync_is_forgotten() {
    let (faults, _) = cut_everywhere(true, false);
    assert!(faults.iter().any(|fault| fault.contains("damaged")), "{faults:?}");
    let (faults, _) = cut_everywhere(false, true);
    assert!(faults.iter().any(|fault| fault.contains("is lost")), "{faults:?}");
}

/// A disk that refuses one operation, counted from 1, and works again.
struct HiccupDisk {
    at: u32,
    done: Cell<u32>,
}

impl HiccupDisk {
    fn step(&self) -> io::Result<()> {
        self.done.set(self.done.get() + 1);
        if self.done.get() == self.at { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Disk for HiccupDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.step().and_then(|()| RealDisk.create(path))
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        self.step().and_then(|()| RealDisk.write(file, bytes))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.step().and_then(|()| Swift.sync(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step().and_then(|()| RealDisk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| RealDisk.remove(path))
    }
}

#[test]
fn a_refusal_at_any_operation_is_tried_again_and_every_record_is_there_once() {
    for at in 1.. {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { bytes_max: u64::MAX, ..place(dir.path()) };
        let disk = HiccupDisk { at, done: Cell::new(0) };
        let mut ring = Ring::open(&disk, &place).or_else(|_| Ring::open(&disk, &place)).unwrap();
        let mut expected = String::new();
        for number in 0..4 {
            let (records, count) = batch(number);
            if ring.commit(&records, count).is_err() {
                ring.commit(&records, count).unwrap();
            }
            expected.push_str(std::str::from_utf8(&records).unwrap());
        }
        let found: String = records(dir.path()).unwrap().values().map(|line| format!("{line}\n")).collect();
        assert_eq!(found, expected, "refused at {at}");
        if disk.done.get() < at {
            assert!(at > 20, "only {at} operations");
            return;
        }
    }
}
