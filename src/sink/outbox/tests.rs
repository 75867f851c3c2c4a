//! The outbox with a peer that the test holds in its hand, and a directory that somebody has spoilt.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::store::Store;
use super::{Deliver, Delivered, Outbox, RECORD_BYTES_MAX, Record, Refused, Settings};
use crate::durable::{Disk, RealDisk};
use crate::random::Random;
use crate::sink::spool::cut::Swift;
use crate::sink::spool::ring::Place;
use crate::sink::spool::segment::file_name;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A peer whose mood the test decides.
#[derive(Clone, Default)]
struct Peer {
    away: Arc<AtomicBool>,
    /// Most records that it takes of a batch; 0: all.
    takes: Arc<AtomicUsize>,
    /// A text that it never takes.
    poison: Arc<Mutex<Option<String>>>,
    /// Ids and lines, as they came.
    has: Arc<Mutex<Vec<(String, String)>>>,
}

impl Peer {
    fn lines(&self) -> Vec<String> {
        self.has.lock().unwrap().iter().map(|(_, line)| line.clone()).collect()
    }

    /// Without what came again under the same id; panics if another record has the same.
    fn distinct(&self) -> Vec<String> {
        let mut seen = std::collections::BTreeMap::new();
        let mut lines = Vec::new();
        for (id, line) in &*self.has.lock().unwrap() {
            match seen.insert(id.clone(), line.clone()) {
                None => lines.push(line.clone()),
                Some(before) => assert_eq!(&before, line, "{id}"),
            }
        }
        lines
    }
}

impl Deliver for Peer {
    fn batch_max(&self) -> usize {
        4
    }

    fn deliver(&mut self, records: &[Record]) -> Result<Delivered, Refused> {
        if self.away.load(Relaxed) {
            return Err(Refused::because("away"));
        }
        let takes = match self.takes.load(Relaxed) {
            0 => records.len(),
            takes => takes.min(records.len()),
        };
        let poison = self.poison.lock().unwrap().clone();
        for (delivered, record) in records[..takes].iter().enumerate() {
            let line = String::from_utf8(record.line.clone()).unwrap();
            if poison.as_ref() == Some(&line) {
                return Ok(Delivered { delivered, refused: Some((1, "poison".into())) });
            }
            self.has.lock().unwrap().push((record.id("d"), line));
        }
        Ok(Delivered { delivered: takes, refused: None })
    }
}

fn settings(dir: Option<&Path>, bytes_max: u64) -> Settings {
    let interval = Duration::from_millis(100);
    Settings { dir: dir.map(PathBuf::from), bytes_max, interval, boot_id: "b00".into() }
}

fn start(dir: Option<&Path>, peer: &Peer) -> Outbox {
    Outbox::start("test", settings(dir, u64::MAX), Box::new(peer.clone())).unwrap()
}

fn push(outbox: &Outbox, range: std::ops::Range<u64>) {
    for n in range {
        outbox.push(format!("{{\"n\":{n}}}\n").as_bytes(), n % 3 == 0).unwrap();
    }
}

fn lines(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| format!("{{\"n\":{n}}}")).collect()
}

fn wait_for(what: &str, mut fits: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fits() {
        assert!(Instant::now() < deadline, "never {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn figures(outbox: &Outbox) -> (u64, u64, u64) {
    let gauge = outbox.gauge();
    (gauge.delivered.load(Relaxed), gauge.waiting.load(Relaxed), gauge.dropped.load(Relaxed))
}

/// Waits until so many records were committed.
fn wait_committed(dir: &Path, count: u64) {
    wait_for("committed", || {
        let found = crate::sink::spool::reader::segments(dir);
        found.is_ok_and(|mut all| all.any(|segment| segment.contents.is_ok_and(|contents| contents.last >= count)))
    });
}

#[test]
fn with_and_without_a_directory_every_record_comes_once_and_in_order() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("outbox");
    for dir in [None, Some(&*dir)] {
        let peer = Peer::default();
        peer.takes.store(3, Relaxed);
        let outbox = start(dir, &peer);
        push(&outbox, 0..100);
        wait_for("delivered", || peer.lines().len() == 100);
        assert_eq!(peer.lines(), lines(0..100));
        wait_for("counted", || figures(&outbox) == (100, 0, 0));
        assert_eq!(outbox.trouble(), None);
    }
}

#[test]
fn an_absent_peer_is_said_and_what_waits_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let peer = Peer::default();
    peer.away.store(true, Relaxed);
    let outbox = start(Some(dir.path()), &peer);
    push(&outbox, 0..50);
    wait_for("said", || outbox.trouble().is_some_and(|why| why == "away"));
    drop(outbox);
    assert!(peer.lines().is_empty());
    let outbox = start(Some(dir.path()), &peer);
    wait_for("counted", || figures(&outbox).1 == 50);
    push(&outbox, 50..60);
    peer.away.store(false, Relaxed);
    wait_for("delivered", || peer.lines().len() == 60);
    wait_for("cleared", || outbox.trouble().is_none());
    drop(outbox);
    assert_eq!(peer.lines(), lines(0..60));
    // What was acknowledged is remembered by an end that is asked for, and its segments are gone but for the newest.
    let outbox = start(Some(dir.path()), &peer);
    push(&outbox, 60..61);
    wait_for("delivered", || peer.lines().len() == 61);
    drop(outbox);
    assert_eq!(peer.lines(), lines(0..61));
    let segments = fs::read_dir(dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension() == Some("jsonl".as_ref()));
    assert_eq!(segments.count(), 1);
}

#[test]
fn a_poisonous_record_is_dropped_and_said_and_blocks_none() {
    let peer = Peer::default();
    *peer.poison.lock().unwrap() = Some("{\"n\":5}".into());
    let outbox = start(None, &peer);
    push(&outbox, 0..6);
    wait_for("said", || outbox.trouble().is_some_and(|why| why == "1 records were dropped: poison"));
    push(&outbox, 6..10);
    wait_for("delivered", || figures(&outbox) == (9, 0, 1));
    wait_for("cleared", || outbox.trouble().is_none());
    let expected: Vec<String> = lines(0..10).into_iter().filter(|line| line != "{\"n\":5}").collect();
    assert_eq!(peer.lines(), expected);
}

#[test]
fn over_its_bytes_the_oldest_give_way_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let peer = Peer::default();
    peer.away.store(true, Relaxed);
    let outbox = Outbox::start("test", settings(Some(dir.path()), 4 * 4096), Box::new(peer.clone())).unwrap();
    for n in 0..8 {
        push(&outbox, n * 10..n * 10 + 10);
        wait_committed(dir.path(), n * 10 + 10);
    }
    wait_for("dropped", || figures(&outbox).2 > 0);
    peer.away.store(false, Relaxed);
    wait_for("delivered", || {
        let (delivered, waiting, dropped) = figures(&outbox);
        waiting == 0 && delivered + dropped == 80
    });
    let kept = peer.lines();
    assert!((10..80).contains(&kept.len()), "{}", kept.len());
    // The first few were in the sender's hands already.
    assert!(kept.ends_with(&lines(60..80)), "{kept:?}");
    assert_eq!(kept.iter().collect::<std::collections::BTreeSet<_>>().len(), kept.len());
    let all = lines(0..80);
    assert!(kept.is_sorted_by_key(|line| all.iter().position(|known| known == line)), "{kept:?}");
    let bytes: u64 = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= 6 * 4096, "{bytes}");
}

#[test]
fn without_a_directory_the_oldest_give_way_too() {
    let peer = Peer::default();
    peer.away.store(true, Relaxed);
    let outbox = start(None, &peer);
    let text = "x".repeat(RECORD_BYTES_MAX - 20);
    for n in 0..12 {
        outbox.push(format!("{{\"n\":{n},\"t\":\"{text}\"}}\n").as_bytes(), true).unwrap();
    }
    peer.away.store(false, Relaxed);
    wait_for("delivered", || {
        let (delivered, waiting, dropped) = figures(&outbox);
        waiting == 0 && delivered + dropped == 12
    });
    let (_, _, dropped) = figures(&outbox);
    assert!((4..12).contains(&dropped), "{dropped}");
    let large = vec![b'x'; RECORD_BYTES_MAX + 1];
    assert!(outbox.push(&large, false).unwrap_err().contains("at most 262144"));
    assert_eq!(figures(&outbox).2, dropped + 1);
}

/// A disk that is full while the test says so.
struct Full(Arc<AtomicBool>);

impl Disk for Full {
    fn create(&self, path: &Path) -> io::Result<File> {
        if self.0.load(Relaxed) { Err(ErrorKind::StorageFull.into()) } else { RealDisk.create(path) }
    }
}

#[test]
fn a_full_disk_is_passed_by_and_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (peer, full) = (Peer::default(), Arc::new(AtomicBool::new(false)));
    let disk = Box::new(Full(Arc::clone(&full)));
    let outbox = Outbox::start_on(disk, "test", settings(Some(dir.path()), u64::MAX), Box::new(peer.clone())).unwrap();
    push(&outbox, 0..20);
    wait_for("delivered", || peer.lines().len() == 20);
    full.store(true, Relaxed);
    push(&outbox, 20..40);
    wait_for("delivered past the disk", || peer.lines().len() == 40);
    wait_for("said", || {
        outbox.trouble().is_some_and(|why| why.contains("in memory only") && why.contains("cannot be created"))
    });
    full.store(false, Relaxed);
    wait_for("cleared", || outbox.trouble().is_none());
    push(&outbox, 40..60);
    wait_for("delivered", || figures(&outbox) == (60, 0, 0));
    assert_eq!(peer.distinct(), lines(0..60));
    assert_eq!(peer.lines(), lines(0..60));
}

#[test]
fn a_directory_that_comes_late_holds_the_older_records_and_they_come_first() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    fs::create_dir(&data).unwrap();
    let peer = Peer::default();
    peer.away.store(true, Relaxed);
    let outbox = start(Some(&data.join("outbox")), &peer);
    push(&outbox, 0..5);
    drop(outbox);
    peer.away.store(false, Relaxed);
    fs::rename(&data, parent.path().join("away")).unwrap();
    let outbox = start(Some(&data.join("outbox")), &peer);
    push(&outbox, 5..10);
    wait_for("said", || outbox.trouble().is_some_and(|why| why.contains("mounted?")));
    assert!(peer.lines().is_empty(), "older ones may come with the partition");
    fs::rename(parent.path().join("away"), &data).unwrap();
    wait_for("delivered", || peer.lines().len() == 10);
    assert_eq!(peer.lines(), lines(0..10));
}

#[test]
fn an_outbox_has_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (Peer::default(), Peer::default());
    let one = start(Some(dir.path()), &first);
    push(&one, 0..3);
    wait_for("delivered", || first.lines().len() == 3);
    let two = start(Some(dir.path()), &second);
    push(&two, 3..5);
    wait_for("said", || two.trouble().is_some_and(|why| why.contains("another process")));
    drop(one);
    wait_for("delivered", || second.lines().len() == 2);
    drop(two);
    assert_eq!(second.lines(), lines(3..5));
}

#[test]
fn a_hostile_directory_stops_nothing_and_no_number_means_two_records() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let dir = tempfile::tempdir().unwrap();
        let place = Place { dir: dir.path().into(), bytes_max: u64::MAX, boot_id: "b00".into() };
        let mut store = Store::open(&Swift, &place).unwrap();
        for n in 0..5 {
            let records: String = lines(n * 3..n * 3 + 3).join("\n") + "\n";
            store.commit(records.as_bytes(), 3).unwrap();
        }
        store.acknowledge(4).unwrap();
        let stream = store.stream().to_owned();
        drop(store);
        let names = [file_name(4), file_name(7), file_name(13), "cursor.json".into()];
        let path = dir.path().join(&names[random.below(names.len())]);
        match random.below(4) {
            // The newest carries the numbers on; that one can only be damaged.
            0 if !path.ends_with(file_name(13)) => fs::remove_file(&path).unwrap(),
            1 => fs::write(&path, "{\"format\":1,\"stream\":\"0000000000\",\"acknowledged\":9}").unwrap(),
            2 => fs::write(&path, vec![b'x'; 2000]).unwrap(),
            _ => {
                let mut bytes = fs::read(&path).unwrap();
                let at = random.below(bytes.len());
                bytes[at] ^= 0x10;
                fs::write(&path, bytes).unwrap();
            }
        }
        let peer = Peer::default();
        let outbox = start(Some(dir.path()), &peer);
        push(&outbox, 100..103);
        wait_for("delivered", || peer.lines().ends_with(&lines(100..103)));
        drop(outbox);
        let has = peer.has.lock().unwrap();
        let mut ids: Vec<&String> = has.iter().map(|(id, _)| id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), has.len(), "seed {seed}");
        for (id, line) in has.iter().filter(|(id, _)| id.starts_with(&format!("d-{stream}-"))) {
            let number: u64 = id.rsplit('-').next().unwrap().parse().unwrap();
            assert!(number > 15 || *line == format!("{{\"n\":{}}}", number - 1), "seed {seed}: {id} is {line}");
        }
    }
}

#[test]
fn numbers_go_on_when_every_segment_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place { dir: dir.path().into(), bytes_max: u64::MAX, boot_id: "b00".into() };
    let mut store = Store::open(&Swift, &place).unwrap();
    store.commit(b"{}\n{}\n", 2).unwrap();
    store.acknowledge(2).unwrap();
    drop(store);
    fs::remove_file(dir.path().join(file_name(1))).unwrap();
    let mut store = Store::open(&Swift, &place).unwrap();
    store.commit(b"{}\n", 1).unwrap();
    assert_eq!((store.last(), store.acknowledged()), (3, 2));
}
