//! Power cuts, simulated as those of the spool: a store on a disk that goes dark at its Nth operation, for every N.

use std::fs;
use std::path::Path;

use super::store::Store;
use crate::durable::Disk;
use crate::sink::spool::cut::{CutDisk, Swift};
use crate::sink::spool::reader::segments;
use crate::sink::spool::ring::Place;

/// Commits of the script.
const BATCHES: u64 = 10;

fn place(dir: &Path, bytes_max: u64) -> Place {
    Place { dir: dir.into(), bytes_max, boot_id: "b00".into() }
}

/// What was said to be safe.
#[derive(Default)]
struct Said {
    stream: Option<String>,
    /// Records that were committed, from number 1.
    committed: u64,
    /// Number of the last record that the peer has.
    acknowledged: u64,
}

fn line(number: u64) -> String {
    format!("{{\"record\":{number},\"pad\":\"{}\"}}", "x".repeat(usize::try_from(30 << (number % 7)).unwrap()))
}

/// Commits batches of one to three records and acknowledges with every second one, until the disk refuses.
fn run(disk: &dyn Disk, place: &Place, batches: std::ops::Range<u64>, said: &mut Said) {
    let Ok(mut store) = Store::open(disk, place) else { return };
    said.stream.get_or_insert(store.stream().to_owned());
    for batch in batches {
        let first = store.last() + 1;
        let count = batch % 3 + 1;
        let records: String = (first..first + count).map(|number| line(number) + "\n").collect();
        if store.commit(records.as_bytes(), count).is_err() {
            return;
        }
        said.committed = store.last();
        if store.prune().is_err() {
            return;
        }
        if batch % 2 == 1 {
            // The peer has it before the disk knows.
            said.acknowledged = store.last() - 1;
            if store.acknowledge(said.acknowledged).is_err() {
                return;
            }
        }
    }
}

/// What must be true of a directory after a cut; `kept`: nothing gave way to age.
fn judge(dir: &Path, place: &Place, said: &Said, kept: bool) -> Result<(), String> {
    let store = Store::open(&Swift, place).map_err(|error| error.to_string())?;
    if let Some(damage) = store.damage() {
        return Err(damage.into());
    }
    if said.stream.as_ref().is_some_and(|stream| stream != store.stream()) && said.committed > 0 {
        return Err(format!("stream {:?} is now {}", said.stream, store.stream()));
    }
    let cursor = store.acknowledged();
    if cursor > said.acknowledged {
        return Err(format!("{cursor} is acknowledged; the peer has {}", said.acknowledged));
    }
    if store.last() < said.committed {
        return Err(format!("the numbers go on from {}; {} were committed", store.last(), said.committed));
    }
    drop(store);
    let mut expected = cursor + 1;
    for segment in segments(dir).unwrap() {
        if let Some(fault) = segment.fault() {
            return Err(fault);
        }
        let text = String::from_utf8(segment.contents.unwrap().records).unwrap();
        for (number, found) in (segment.first..).zip(text.lines()) {
            if found != line(number) {
                return Err(format!("record {number} is {found}"));
            }
            if number < expected {
                continue;
            }
            // What was acknowledged may be gone although the cursor has forgotten that.
            if number > expected && kept && number > said.acknowledged + 1 {
                return Err(format!("after {} comes {number}", expected - 1));
            }
            expected = number + 1;
        }
    }
    if expected <= said.committed { Err(format!("records from {expected} on are lost")) } else { Ok(()) }
}

/// Cuts at every operation of the script, with several outcomes each; what went wrong, and how many operations there are.
fn cut_everywhere(bytes_max: u64, forgets_files: bool, forgets_directories: bool) -> (Vec<String>, u32) {
    let mut faults = Vec::new();
    for n in 1.. {
        let mut reached = false;
        for seed in 0..6 {
            let dir = tempfile::tempdir().unwrap();
            let place = place(dir.path(), bytes_max);
            let mut said = Said::default();
            // Some history, but not always.
            if seed % 2 == 0 {
                run(&Swift, &place, 0..3, &mut said);
            }
            let mut disk = CutDisk::new(n, u64::from(n) * 100 + seed);
            (disk.forgets_files, disk.forgets_directories) = (forgets_files, forgets_directories);
            run(&disk, &place, 3..BATCHES, &mut said);
            reached |= disk.dark();
            disk.lose_power(dir.path());
            let judged = judge(dir.path(), &place, &said, bytes_max == u64::MAX);
            faults.extend(judged.err().map(|fault| format!("cut at operation {n}, seed {seed}: {fault}")));
            let leftover = fs::read_dir(dir.path())
                .unwrap()
                .any(|entry| entry.unwrap().file_name().to_string_lossy().ends_with("tmp"));
            assert!(!leftover, "cut at operation {n}, seed {seed}: left over");
        }
        if !reached {
            return (faults, n);
        }
    }
    unreachable!("the script ends")
}

#[test]
fn a_cut_at_any_operation_loses_no_record_and_no_number() {
    for bytes_max in [u64::MAX, 3 * 4096] {
        let (faults, operations) = cut_everywhere(bytes_max, false, false);
        assert!(faults.is_empty(), "{faults:#?}");
        assert!((50..200).contains(&operations), "{operations} operations");
    }
}

#[test]
fn the_simulation_tells_when_a_sync_is_forgotten() {
    let (faults, _) = cut_everywhere(u64::MAX, true, false);
    assert!(faults.iter().any(|fault| fault.contains("damaged")), "{faults:?}");
    let (faults, _) = cut_everywhere(u64::MAX, false, true);
    assert!(faults.iter().any(|fault| fault.contains("lost") || fault.contains("go on from")), "{faults:?}");
}
