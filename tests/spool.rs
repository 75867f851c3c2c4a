//! The spool of `firstlight run` as a device sees it: killed at any moment, its disk full, its partition late.

mod support;

use std::io::Write;
use std::path::Path;

use firstlight::random::Random;
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Running, firstlight, get, poll};

/// A configuration that keeps as much as it may, as soon as it may.
fn config(dir: &Path, spool: &str) -> String {
    let path = dir.join("device.toml");
    let output =
        format!("json = \"none\"\nspool = {spool:?}\nspool_mb = 4\nspool_interval_s = 0.1\nspool_per_s = 1000.0");
    std::fs::write(&path, format!("[output]\n{output}\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

const RUN: [&str; 6] = ["run", "--source", "demo:?fps=0", "--listen", "127.0.0.1:0", "-c"];

fn run(config: &str) -> Running {
    firstlight(&[&RUN[..], &[config]].concat()).start()
}

fn status(address: &str) -> Value {
    serde_json::from_slice(&get(address, "/status").1).unwrap()
}

/// Number of the last record that is safe; 0 while the model is being loaded.
fn last(status: &Value) -> u64 {
    status["spool"]["last"].as_u64().unwrap_or(0)
}

/// Whether the status says `degraded` for this reason.
fn degraded(body: &[u8], why: &str) -> bool {
    let status: Value = serde_json::from_slice(body).unwrap();
    let reasons = status["reasons"].as_array().unwrap();
    status["state"] == "degraded" && reasons.iter().any(|reason| reason.as_str().unwrap().contains(why))
}

fn running(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).unwrap()["state"] == "running"
}

/// Lines of `spool ls` without the head, which must find nothing wrong.
fn list(dir: &str) -> Vec<Vec<String>> {
    let run = firstlight(&["spool", "ls", dir]).run();
    assert_eq!(run.exit, Some(0), "{} {}", run.stdout, run.stderr);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    run.stdout.lines().skip(1).map(words).collect()
}

#[test]
fn what_was_said_to_be_committed_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool").to_str().unwrap().to_owned();
    let config = config(dir.path(), &spool);
    let mut random = Random::new(4);
    let mut before = 0;
    for round in 0..6 {
        let mut running = run(&config);
        let address = running.address();
        poll(&address, "/status", |_, body| last(&serde_json::from_slice(body).unwrap()) > before);
        // Somewhere between two commits, or within one.
        let until = std::time::Instant::now() + std::time::Duration::from_micros(random.bits() % 400_000);
        let mut said = 0;
        while std::time::Instant::now() < until || said == 0 {
            said = last(&status(&address));
        }
        running.signal(Signal::SIGKILL);
        assert_eq!(running.exit(), None, "killed");

        let segments = list(&spool);
        let found: u64 = segments.last().unwrap()[1].parse().unwrap();
        assert!(found >= said, "round {round}: {said} were said to be committed, {found} are there");
        let first: u64 = segments[0][0].parse().unwrap();
        assert_eq!(first, 1, "the ring is not full yet: nothing may be gone");
        let cat = firstlight(&["spool", "cat", &spool]).run();
        assert_eq!((cat.exit, cat.stdout.lines().count() as u64), (Some(0), found));
        assert!(cat.stdout.lines().all(|line| serde_json::from_str::<Value>(line).unwrap()["predictions"].is_array()));
        before = found;
    }
}

#[test]
fn an_end_that_is_asked_for_keeps_every_answer() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool").to_str().unwrap().to_owned();
    let config = dir.path().join("device.toml");
    let output = format!("[output]\nspool = {spool:?}\nspool_interval_s = 3600\nspool_per_s = 1000\n");
    std::fs::write(&config, output).unwrap();
    let source = "demo:?fps=20";
    let config = config.to_str().unwrap();
    let run = firstlight(&["run", "--source", source, "--listen", "off", "--frames", "9", "-c", config]).run();
    let cat = firstlight(&["spool", "cat", &spool]).run();
    let ids = |lines: &str| -> Vec<Value> {
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["frame_id"].clone()).collect()
    };
    assert_eq!((ids(&cat.stdout), run.exit), (ids(&run.stdout), Some(0)), "{}", run.stderr);
    assert_eq!(list(&spool).len(), 1);
}

#[test]
fn a_full_disk_degrades_and_recovers_and_frames_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("data");
    std::fs::create_dir(&mount).unwrap();
    let config = config(dir.path(), mount.join("spool").to_str().unwrap());
    let binary = env!("CARGO_BIN_EXE_firstlight");
    // The mount lives in the namespace of the process that is tested, and is reached through it.
    let script = r#"mount -t tmpfs -o size=8m none "$1" && shift && exec "$@""#;
    let mut unshare = firstlight(&[]);
    unshare.command = std::process::Command::new("unshare");
    let mount = mount.to_str().unwrap();
    unshare.command.args(["-rm", "sh", "-c", script, "sh", mount, binary]).args(RUN).arg(config);
    let running_loop = unshare.start();
    let address = running_loop.address();
    let inside = Path::new("/proc").join(running_loop.child.id().to_string()).join("root").join(&mount[1..]);
    poll(&address, "/status", |_, body| running(body) && last(&serde_json::from_slice(body).unwrap()) > 0);

    let filler = inside.join("filler");
    let file = std::fs::File::create(&filler).unwrap();
    let block = [0; 4096];
    let degraded = |body: &[u8]| degraded(body, "sink: spool ") && degraded(body, "No space left on device");
    poll(&address, "/status", |_, body| {
        // Again and again: each segment that fails gives its room back.
        while (&file).write_all(&block).is_ok() {}
        degraded(body)
    });
    let stuck = status(&address);
    let frames = |status: &Value| status["loop"]["frames"].as_u64().unwrap();
    poll(&address, "/status", |_, body| {
        let now: Value = serde_json::from_slice(body).unwrap();
        degraded(body) && frames(&now) > frames(&stuck) + 20
    });
    assert_eq!(get(&address, "/healthz").0, 200, "frames flow all the same");
    std::fs::remove_file(&filler).unwrap();
    drop(file);
    poll(&address, "/status", |_, body| running(body) && last(&serde_json::from_slice(body).unwrap()) > last(&stuck));
    let names = std::fs::read_dir(inside.join("spool")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.map(|name| name.into_string().unwrap()).all(|name| !name.contains("damaged")));
}

#[test]
fn a_partition_that_comes_late_is_said_and_used() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let spool = data.join("spool").to_str().unwrap().to_owned();
    let mut late = run(&config(dir.path(), &spool));
    let address = late.address();
    poll(&address, "/status", |_, body| degraded(body, "is the data partition mounted?"));
    std::fs::create_dir(&data).unwrap();
    poll(&address, "/status", |_, body| running(body) && last(&serde_json::from_slice(body).unwrap()) > 0);
    late.signal(Signal::SIGTERM);
    assert_eq!(late.exit(), Some(0));
    // What was seen before the partition came waited in memory.
    let cat = firstlight(&["spool", "cat", &spool]).run();
    let first: Value = serde_json::from_str(cat.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(first["frame_id"], 0);
}

#[test]
fn ls_and_cat_tell_what_is_damaged_or_missing_and_show_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool").to_str().unwrap().to_owned();
    let mut filled = run(&config(dir.path(), &spool));
    let address = filled.address();
    poll(&address, "/status", |_, body| last(&serde_json::from_slice(body).unwrap()) > 0);
    let committed = |body: &[u8]| last(&serde_json::from_slice(body).unwrap());
    for _ in 0..5 {
        let so_far = last(&status(&address));
        poll(&address, "/status", |_, body| committed(body) > so_far);
    }
    filled.signal(Signal::SIGTERM);
    assert_eq!(filled.exit(), Some(0));
    let segments = list(&spool);
    let records = |run: &support::Run| run.stdout.lines().count() as u64;
    let all = records(&firstlight(&["spool", "cat", &spool]).run());

    let file = |segment: &[String]| Path::new(&spool).join(format!("{:0>10}.jsonl", segment[0]));
    let mut bytes = std::fs::read(file(&segments[1])).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file(&segments[1]), bytes).unwrap();
    std::fs::remove_file(file(&segments[3])).unwrap();
    let lost: u64 = [1, 3].iter().map(|&i: &usize| segments[i][2].parse::<u64>().unwrap()).sum();
    let cat = firstlight(&["spool", "cat", &spool]).run();
    assert_eq!((cat.exit, records(&cat)), (Some(4), all - lost), "{}", cat.stderr);
    let ls = firstlight(&["spool", "ls", &spool]).run();
    assert_eq!(ls.exit, Some(4));
    let missing = format!("record {} should be its first; it begins at {}", segments[3][0], segments[4][0]);
    for text in [&ls.stdout, &ls.stderr, &cat.stderr] {
        assert!(text.contains("damaged: its records have SHA-256") && text.contains(&missing), "{text}");
    }

    let none = firstlight(&["spool", "ls", dir.path().join("none").to_str().unwrap()]).run();
    assert_eq!(none.exit, Some(1));
    assert!(none.stderr.contains("none: cannot be read"), "{}", none.stderr);
}
