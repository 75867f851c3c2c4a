//! The sink as the loop uses it, and a ring whose files somebody has spoilt.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::cut::Swift;
use super::reader::segments;
use super::ring::{Place, Ring};
use super::segment::{RECORDS_BYTES_MAX, RECORDS_MAX, file_name, number_of};
use super::{Spool, SpoolGauge};
use crate::cache::Package;
use crate::config::OutputConfig;
use crate::durable::{Disk, RealDisk};
use crate::frame::Frame;
use crate::model::{self, Labels};
use crate::random::Random;
use crate::sink::line::Lines;
use crate::sink::{Error, Outcome, Sink};
use crate::{demo, durable};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of the demo model.
pub fn labels() -> Arc<Labels> {
    let (kind, environment, names) = (demo::MODEL_TYPE_JSON, demo::ENVIRONMENT_JSON, demo::CLASS_NAMES);
    let package = Package::embedded(demo::MODEL_ID, kind, environment, names, demo::PARTS_ONNX).unwrap();
    Labels::of(&package, model::contract(&package).unwrap())
}

fn config(interval_s: f64) -> OutputConfig {
    OutputConfig { spool_mb: 1, spool_interval_s: interval_s, spool_per_s: 1000.0, ..OutputConfig::default() }
}

fn start(disk: Box<dyn Disk + Send>, dir: &Path, config: &OutputConfig) -> Spool {
    Spool::start_on(disk, dir, config, "b00".into(), Lines { labels: labels() }).unwrap()
}

/// Delivers a frame that is sure to be recorded; frame `id` says `text`.
fn deliver(spool: &mut Spool, id: u64, text: &str) -> Result<(), Error> {
    std::thread::sleep(spool.due_at.saturating_duration_since(Instant::now()));
    let mut frame = Frame::empty();
    frame.id = id;
    spool.deliver(&Outcome::new(&frame, "test:", Err(text), Duration::ZERO))
}

fn wait_for(what: &str, mut fits: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fits() {
        assert!(Instant::now() < deadline, "never {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Frame ids of all records, in order.
fn frames(dir: &Path) -> Vec<u64> {
    let mut frames = Vec::new();
    for segment in segments(dir).unwrap() {
        assert_eq!(segment.fault(), None);
        let text = String::from_utf8(segment.contents.unwrap().records).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        frames.extend(lines.map(|line| line["frame_id"].as_u64().unwrap()));
    }
    frames
}

fn figures(gauge: &SpoolGauge) -> (u64, u64, u64) {
    (gauge.committed(), gauge.last(), gauge.dropped())
}

/// A disk that is full while the test says so.
struct Full(Arc<AtomicBool>);

impl Disk for Full {
    fn create(&self, path: &Path) -> io::Result<File> {
        if self.0.load(Relaxed) { Err(ErrorKind::StorageFull.into()) } else { RealDisk.create(path) }
    }
}

#[test]
fn the_end_commits_what_waits_and_the_next_start_goes_on() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("spool");
    for run in 0..3 {
        let mut spool = start(Box::new(RealDisk), &dir, &config(3600.0));
        let gauge = spool.counters();
        for id in 0..4 {
            deliver(&mut spool, run * 4 + id, "no picture").unwrap();
        }
        drop(spool);
        assert_eq!(figures(&gauge), (4, (run + 1) * 4, 0));
    }
    assert_eq!(frames(&dir), (0..12).collect::<Vec<_>>());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 3, "a segment a run, and nothing else");
}

#[test]
fn a_record_is_committed_within_the_interval_and_no_more_are_kept_a_second_than_asked() {
    let dir = tempfile::tempdir().unwrap();
    let config = OutputConfig { spool_per_s: 10.0, ..config(0.1) };
    let mut spool = start(Box::new(RealDisk), dir.path(), &config);
    let started = Instant::now();
    let frame = Frame::empty();
    let outcome = Outcome::new(&frame, "test:", Err("no picture"), Duration::ZERO);
    while started.elapsed() < Duration::from_millis(450) {
        spool.deliver(&outcome).unwrap();
    }
    let gauge = spool.counters();
    wait_for("committed without an end", || gauge.committed() > 1);
    drop(spool);
    // Five begin within 450 ms; a busy machine may have slept through some.
    assert!((2..=5).contains(&frames(dir.path()).len()), "{:?}", figures(&gauge));
}

#[test]
fn a_directory_that_is_missing_is_said_and_found_when_it_comes() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let mut spool = start(Box::new(RealDisk), &data.join("spool"), &config(0.1));
    wait_for("said", || {
        let said = deliver(&mut spool, 0, "").err().map(|error| error.to_string()).unwrap_or_default();
        said.contains("data/spool: cannot be made") && said.contains("mounted?")
    });
    fs::create_dir(&data).unwrap();
    wait_for("cleared", || deliver(&mut spool, 1, "").is_ok());
    let gauge = spool.counters();
    drop(spool);
    assert_eq!(frames(&data.join("spool")).len() as u64, gauge.committed());
    assert_eq!(gauge.dropped(), 0);
}

#[test]
fn a_full_disk_keeps_the_newest_in_memory_and_counts_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(true));
    let config = OutputConfig { spool_mb: 4, ..config(0.1) };
    let mut spool = start(Box::new(Full(Arc::clone(&full))), dir.path(), &config);
    let gauge = spool.counters();
    // Two megabytes, twice as much as waits.
    let text = "x".repeat(RECORDS_BYTES_MAX / 32);
    for id in 0..64 {
        let _ = deliver(&mut spool, id, &text);
    }
    wait_for("said", || {
        let said = deliver(&mut spool, 64, &text).err().map(|error| error.to_string()).unwrap_or_default();
        said.contains("0000000001.jsonl") && said.contains("cannot be created")
    });
    full.store(false, Relaxed);
    wait_for("cleared", || deliver(&mut spool, 65, "").is_ok());
    drop(spool);
    let kept = frames(dir.path());
    assert_eq!(kept.len() as u64, gauge.committed(), "numbered without a gap");
    assert!(gauge.dropped() >= 33 && kept[0] == gauge.dropped().min(64), "{kept:?}, {} dropped", gauge.dropped());
    assert!(kept.ends_with(&[65]) && kept.len() >= 30, "{kept:?}");
}

#[test]
fn a_record_larger_than_the_queue_is_said_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = start(Box::new(RealDisk), dir.path(), &config(0.1));
    let error = deliver(&mut spool, 0, &"x".repeat(RECORDS_BYTES_MAX)).unwrap_err().to_string();
    assert!(error.contains("at most 1048576 are kept"), "{error}");
    deliver(&mut spool, 1, "").unwrap();
    let gauge = spool.counters();
    drop(spool);
    assert_eq!((figures(&gauge), frames(dir.path())), ((1, 1, 1), vec![1]));
}

#[test]
fn a_spool_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = start(Box::new(RealDisk), dir.path(), &config(0.1));
    deliver(&mut first, 0, "").unwrap();
    wait_for("committed", || first.counters().committed() == 1);
    let mut second = start(Box::new(RealDisk), dir.path(), &config(0.1));
    wait_for("said", || deliver(&mut second, 1, "").is_err_and(|error| error.to_string().contains("another process")));
    drop(first);
    wait_for("taken over", || deliver(&mut second, 2, "").is_ok());
    drop(second);
    assert!(frames(dir.path()).len() >= 3);
}

#[test]
fn a_directory_that_is_replaced_is_opened_anew() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("spool");
    let mut spool = start(Box::new(RealDisk), &dir, &config(0.1));
    deliver(&mut spool, 0, "").unwrap();
    wait_for("committed", || spool.counters().last() == 1);
    // As when a partition with a spool of its own is mounted there.
    fs::rename(&dir, parent.path().join("below")).unwrap();
    let place = Place { dir: dir.clone(), bytes_max: u64::MAX, boot_id: String::new() };
    Ring::open(&Swift, &place).unwrap().commit(b"{\"frame_id\":70}\n{\"frame_id\":71}\n", 2).unwrap();
    deliver(&mut spool, 1, "").unwrap();
    wait_for("committed", || spool.counters().last() == 3);
    drop(spool);
    assert_eq!(frames(&dir), [70, 71, 1]);
}

#[test]
fn names_are_canonical_numbers() {
    assert_eq!(number_of(&file_name(42)), Some(42));
    assert_eq!(number_of(&file_name(9_007_199_254_740_991)), Some(9_007_199_254_740_991));
    for other in [
        "42.jsonl",
        "00000000042.jsonl",
        "0000000000.jsonl",
        "+000000042.jsonl",
        "0000000042.json",
        "9007199254740992.jsonl",
        "99999999999999999999999.jsonl",
        "0000000042.jsonl.damaged",
        ".0000000042.jsonl.firstlight-tmp",
    ] {
        assert_eq!(number_of(other), None, "{other}");
    }
}

/// A ring of a few segments of three records.
fn ring_of(dir: &Path, segments: u64) -> Place {
    let place = Place { dir: dir.into(), bytes_max: u64::MAX, boot_id: "b00".into() };
    let mut ring = Ring::open(&Swift, &place).unwrap();
    for n in 0..segments {
        ring.commit(format!("{{\"a\":{n}}}\n{{\"b\":{n}}}\n{{\"c\":{n}}}\n").as_bytes(), 3).unwrap();
    }
    drop(ring);
    place
}

#[test]
fn a_damaged_segment_is_moved_aside_and_said_and_no_number_is_given_twice() {
    let dir = tempfile::tempdir().unwrap();
    let place = ring_of(dir.path(), 4);
    fs::write(dir.path().join(file_name(4)), "{}\n").unwrap();
    let newest = dir.path().join(file_name(10));
    let mut bytes = fs::read(&newest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&newest, bytes).unwrap();
    for _ in 0..2 {
        let ring = Ring::open(&Swift, &place).unwrap();
        assert_eq!(ring.last(), 9 + RECORDS_MAX, "the newest may have held so many");
    }
    let states: Vec<(String, Option<String>)> =
        segments(dir.path()).unwrap().map(|segment| (segment.name.clone(), segment.fault())).collect();
    let faults: Vec<&str> = states.iter().map(|(_, fault)| fault.as_deref().unwrap_or("whole")).collect();
    assert!(faults[0] == "whole" && faults[1].contains("damaged: no header"), "{states:?}");
    assert!(faults[2].contains("record 4 should be its first; it begins at 7"), "{states:?}");
    assert!(faults[3].contains("SHA-256"), "{states:?}");
    assert_eq!(states[3].0, "0000000010.jsonl.damaged");
    // In the middle of the ring it costs no numbers.
    let dir = tempfile::tempdir().unwrap();
    let place = ring_of(dir.path(), 4);
    fs::write(dir.path().join(file_name(4)), "").unwrap();
    let ring = Ring::open(&Swift, &place).unwrap();
    assert_eq!(ring.last(), 12);
    assert!(ring.damage().unwrap().contains("0000000004.jsonl: damaged, moved aside: no header"));
}

#[test]
fn few_damaged_segments_are_left_lying() {
    let dir = tempfile::tempdir().unwrap();
    let place = ring_of(dir.path(), 9);
    for first in (1..=22).step_by(3) {
        fs::write(dir.path().join(file_name(first)), "").unwrap();
    }
    assert_eq!(Ring::open(&Swift, &place).unwrap().last(), 27);
    let names = super::ring::names(dir.path()).unwrap();
    assert_eq!((names.segments, names.damaged), (vec![25], vec![13, 16, 19, 22]));
}

/// One to four wounds: flipped bits, runs of one byte, removed pieces, cut ends.
fn wound(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(64)).min(bytes.len());
        match random.below(5) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at..end].fill([0, b'9', b'\n', 0xFF][random.below(4)]),
            3 => drop(bytes.drain(at..end)),
            _ => bytes.truncate(at),
        }
    }
}

#[test]
fn no_damage_stops_the_ring_or_changes_a_record() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let dir = tempfile::tempdir().unwrap();
        let place = ring_of(dir.path(), 5);
        let whole: Vec<Vec<u8>> = segments(dir.path()).unwrap().map(|s| s.contents.unwrap().records).collect();
        for _ in 0..=random.below(3) {
            let path = dir.path().join(file_name([1, 4, 7, 10, 13][random.below(5)]));
            let mut bytes = fs::read(&path).unwrap();
            wound(&mut bytes, &mut random);
            fs::write(&path, bytes).unwrap();
        }
        let mut ring = Ring::open(&Swift, &place).unwrap();
        assert!(ring.last() >= 15, "seed {seed}: goes on from {}", ring.last());
        let next = ring.last() + 1;
        ring.commit(b"{}\n", 1).unwrap();
        for segment in segments(dir.path()).unwrap() {
            let Ok(contents) = &segment.contents else { continue };
            if segment.first == next {
                assert_eq!((contents.last, &*contents.records), (next, &b"{}\n"[..]));
            } else {
                let index = usize::try_from(segment.first / 3).unwrap();
                assert_eq!(contents.records, whole[index], "seed {seed}: {}", segment.name);
            }
        }
    }
}

#[test]
fn other_files_are_left_alone_and_leftovers_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let place = ring_of(dir.path(), 1);
    fs::create_dir(dir.path().join(file_name(77))).unwrap();
    fs::write(dir.path().join("notes.txt"), "").unwrap();
    fs::write(dir.path().join(".0000000004.jsonl.firstlight-tmp"), "half a segm").unwrap();
    assert_eq!(Ring::open(&Swift, &place).unwrap().last(), 3);
    assert!(dir.path().join("notes.txt").exists() && dir.path().join(file_name(77)).exists());
    assert_eq!(durable::remove_leftovers(dir.path()).unwrap(), 0);
}

#[test]
fn the_oldest_segments_give_way_and_the_newest_never() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place { dir: dir.path().into(), bytes_max: 3 * 4096, boot_id: "b00".into() };
    let mut ring = Ring::open(&Swift, &place).unwrap();
    for _ in 0..5 {
        ring.commit(b"{}\n", 1).unwrap();
        ring.prune().unwrap();
    }
    assert_eq!(super::ring::names(dir.path()).unwrap().segments, [3, 4, 5]);
    ring.commit(&[b'\n'; 100_000], 5000).unwrap();
    ring.prune().unwrap();
    assert_eq!(super::ring::names(dir.path()).unwrap().segments, [6]);
}
