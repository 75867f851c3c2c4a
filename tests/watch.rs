//! `watch:` through the binary: images that come by rename and by slow writes, a process that is killed at seeded
//! moments, and directories that are not there. Every image is answered, one at most twice for each kill, and none is
//! lost. `FIRSTLIGHT_FULL=1` for the whole counts.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firstlight::random::Random;
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{PATIENCE, Running, firstlight, get, poll};

/// A watched directory, and the file that takes the answers.
struct Rig {
    root: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("in")).unwrap();
        // Limits that an idle hour would exceed many times over.
        let limits = "[health]\nframe_age_max_s = 1.0\nstart_grace_s = 5.0\n";
        fs::write(root.path().join("device.toml"), limits).unwrap();
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn start(&self, answers: &Path) -> Running {
        let source = format!("watch:{}?done={}", self.path("in").display(), self.path("done").display());
        let config = self.path("device.toml");
        let (config, answers) = (config.display().to_string(), answers.display().to_string());
        let args = ["run", "--engine", "tract", "--threads", "1", "--listen", "127.0.0.1:0", "-c", &config];
        firstlight(&[&args[..], &["--source", &source, "--json", &answers]].concat()).start()
    }

    /// How often each image was answered, and each reason why one has no answer.
    fn answers(&self) -> (BTreeMap<String, usize>, Vec<String>) {
        let (mut count, mut failures) = (BTreeMap::new(), Vec::new());
        for line in fs::read_to_string(self.path("answers")).unwrap_or_default().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let origin = Path::new(line["source"].as_str().unwrap());
            assert_eq!(origin.parent().unwrap(), self.path("in"), "the image's own name, wherever it lies now");
            *count.entry(origin.file_name().unwrap().to_str().unwrap().to_owned()).or_default() += 1;
            failures.extend(line["error"].as_str().map(str::to_owned));
        }
        (count, failures)
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(dir)) else { return Vec::new() };
        let files = entries.map(|entry| entry.unwrap()).filter(|entry| entry.file_type().unwrap().is_file());
        let mut names: Vec<String> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn state_is(address: &str, state: &str, word: &str) {
    poll(address, "/status", |status, body| {
        let status_document: Value = if status == 200 { serde_json::from_slice(body).unwrap() } else { return false };
        status_document["state"] == state && status_document["reasons"].to_string().contains(word)
    });
}

/// Puts image `number` into the directory: renamed there whole, or written in place with pauses; one in ten is cut off.
fn produce(random: &mut Random, dir: &Path, number: usize, golden: &[u8]) {
    let name = format!("{number:05}.png");
    let bytes = if number % 10 == 9 { &golden[..golden.len() / 2] } else { golden };
    if random.below(2) == 0 {
        let temporary = dir.join(format!(".{name}.part"));
        fs::write(&temporary, bytes).unwrap();
        fs::rename(temporary, dir.join(name)).unwrap();
    } else {
        let mut file = fs::File::create(dir.join(name)).unwrap();
        for part in bytes.chunks(bytes.len() / 4 + 1) {
            file.write_all(part).unwrap();
            std::thread::sleep(Duration::from_millis(random.below(30) as u64));
        }
    }
}

#[test]
fn every_image_is_answered_across_kills_and_one_at_most_twice_for_each() {
    let (images, kills) = if std::env::var_os("FIRSTLIGHT_FULL").is_some() { (1000, 60) } else { (60, 5) };
    let rig = Rig::new();
    let golden = fs::read("src/demo/golden.png").unwrap();
    let dir = rig.path("in");
    let producer = std::thread::spawn(move || {
        let mut random = Random::new(7);
        for number in 0..images {
            produce(&mut random, &dir, number, &golden);
        }
    });
    let mut random = Random::new(8);
    let settled = |rig: &Rig| rig.names("done").len() + rig.names("in/failed").len() / 2;
    for _ in 0..kills {
        let running = rig.start(&rig.path("answers"));
        // Not before it works, or a slow machine would kill it at its start each time.
        let goal = (settled(&rig) + 1 + random.below(8)).min(images);
        until(&format!("{goal} images are settled"), PATIENCE * 2, || settled(&rig) >= goal);
        std::thread::sleep(Duration::from_millis(random.below(300) as u64));
        running.signal(Signal::SIGKILL);
    }
    producer.join().unwrap();
    let mut running = rig.start(&rig.path("answers"));
    // However slow the machine is, one after the other is settled.
    for count in settled(&rig)..images {
        until(&format!("more than {count} of {images} images are settled"), PATIENCE, || settled(&rig) > count);
    }
    running.signal(Signal::SIGTERM);
    running.exit();

    let names: Vec<String> = (0..images).map(|number| format!("{number:05}.png")).collect();
    let (cut, whole): (Vec<_>, Vec<_>) = names.iter().cloned().enumerate().partition(|(number, _)| number % 10 == 9);
    assert_eq!(rig.names("done"), whole.into_iter().map(|(_, name)| name).collect::<Vec<_>>());
    let aside: Vec<String> = cut.iter().flat_map(|(_, name)| [name.clone(), format!("{name}.txt")]).collect();
    assert_eq!(rig.names("in/failed"), aside);
    assert!(rig.names("in").is_empty() && rig.names("in/.firstlight-work").is_empty());
    let (answers, failures) = rig.answers();
    assert_eq!(answers.keys().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>(), "each image, and no other");
    assert!(answers.values().all(|count| *count >= 1));
    let repeated = answers.values().sum::<usize>() - images;
    println!("{images} images, {kills} kills, {repeated} answered again");
    assert!(repeated <= kills, "{repeated} repeated for {kills} kills: {answers:?}");
    assert!(failures.len() >= cut.len() && failures.iter().all(|why| why.contains("truncated")), "{failures:?}");
    let reason = fs::read_to_string(rig.path("in/failed").join(format!("{}.txt", cut[0].1))).unwrap();
    assert!(reason.contains("truncated"), "{reason}");
}

#[test]
fn an_empty_directory_is_no_fault_and_one_that_goes_and_comes_is_told() {
    let rig = Rig::new();
    fs::remove_dir(rig.path("in")).unwrap();
    let running = rig.start(&rig.path("answers"));
    let address = running.address();
    state_is(&address, "degraded", "no such directory");
    fs::create_dir(rig.path("in")).unwrap();
    state_is(&address, "running", "[]");
    // Longer than the limits on the age of a frame.
    let calm_until = Instant::now() + Duration::from_secs(7);
    while Instant::now() < calm_until {
        let status: Value = serde_json::from_slice(&get(&address, "/status").1).unwrap();
        assert_eq!(status["state"], "running", "{status}");
        assert_eq!(get(&address, "/healthz").0, 200);
        std::thread::sleep(Duration::from_millis(100));
    }
    fs::copy("src/demo/golden.png", rig.path("in/1.png")).unwrap();
    until("the image is answered", PATIENCE, || rig.names("done") == ["1.png"]);
    fs::remove_dir_all(rig.path("in")).unwrap();
    state_is(&address, "degraded", "was removed");
    fs::create_dir(rig.path("in")).unwrap();
    fs::copy("src/demo/golden.png", rig.path("in/2.png")).unwrap();
    until("the image is answered", PATIENCE, || rig.names("done") == ["1.png", "2.png"]);
    state_is(&address, "running", "[]");
    assert_eq!(rig.answers().0.values().copied().collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn an_image_whose_answer_no_output_takes_is_kept_for_one_that_does() {
    let rig = Rig::new();
    fs::copy("src/demo/golden.png", rig.path("in/1.png")).unwrap();
    let running = rig.start(Path::new("/dev/full"));
    state_is(&running.address(), "degraded", "/dev/full");
    assert_eq!(rig.names("in/.firstlight-work"), ["1.png"]);
    assert!(rig.names("done").is_empty());
    drop(running);
    let _running = rig.start(&rig.path("answers"));
    until("the image is answered", PATIENCE, || rig.names("done") == ["1.png"]);
    assert_eq!(rig.answers().0["1.png"], 1);
}

#[test]
fn a_directory_for_answered_images_that_cannot_take_them_holds_new_ones_back() {
    let rig = Rig::new();
    let running = rig.start(&rig.path("answers"));
    let address = running.address();
    state_is(&address, "running", "[]");
    fs::remove_dir(rig.path("done")).unwrap();
    fs::write(rig.path("done"), b"in the way").unwrap();
    fs::copy("src/demo/golden.png", rig.path("in/1.png")).unwrap();
    state_is(&address, "degraded", "cannot be moved");
    fs::copy("src/demo/golden.png", rig.path("in/2.png")).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(rig.names("in"), ["2.png"], "nothing is taken that could not be moved afterwards");
    fs::remove_file(rig.path("done")).unwrap();
    until("both are settled", PATIENCE, || rig.names("done") == ["1.png", "2.png"]);
    state_is(&address, "running", "[]");
    assert_eq!(rig.answers().0.values().copied().collect::<Vec<_>>(), [1, 1]);
}
