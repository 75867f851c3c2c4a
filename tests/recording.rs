//! What `firstlight run` keeps on a disk: played by ffprobe after an end, a kill and a full disk.

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Running, firstlight, get, poll};

const RUN: [&str; 6] = ["run", "--source", "demo:?fps=30", "--listen", "127.0.0.1:0", "-c"];

/// A configuration with pictures and video below `dir`.
fn config(dir: &Path) -> String {
    let path = dir.join("device.toml");
    let [pictures, video] = ["pictures", "video"].map(|name| dir.join("data").join(name));
    let text = format!(
        "[output]\njson = \"none\"\n[recording]\nquality = 70\n[recording.pictures]\ndir = {pictures:?}\nevery_s = 0.5\n\
         [recording.video]\ndir = {video:?}\nfps = 10\nsegment_s = 2\nsize_mb = 100\n"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn run(config: &str) -> Running {
    firstlight(&[&RUN[..], &[config]].concat()).start()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Pictures and seconds of a video.
fn length(path: &Path) -> (usize, f64) {
    let arguments = ["-v", "error", "-show_entries", "frame=pts_time", "-of", "csv=p=0"];
    let output = Command::new("ffprobe").args(arguments).arg(path).output().expect("ffprobe of Debian's ffmpeg");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{}: {said}", path.display());
    let text = String::from_utf8(output.stdout).unwrap();
    let times: Vec<f64> = text.lines().map(|line| line.trim_end_matches(',').parse().unwrap()).collect();
    (times.len(), times.last().copied().unwrap_or_default())
}

fn frames(address: &str) -> u64 {
    serde_json::from_slice::<Value>(&get(address, "/status").1).unwrap()["loop"]["frames"].as_u64().unwrap()
}

#[test]
fn an_end_closes_what_is_open_and_a_kill_leaves_it_readable() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    let (pictures, video) = (dir.path().join("data/pictures"), dir.path().join("data/video"));
    let config = config(dir.path());
    let mut segments = 0;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let mut running = run(&config);
        let address = running.address();
        // Two whole segments and a bit of the third, however long this machine takes.
        poll(&address, "/status", |_, _| files(&video).len() >= segments + 3);
        let so_far = frames(&address);
        poll(&address, "/status", |_, _| frames(&address) > so_far + 20);
        running.signal(signal);
        running.exit();
        let videos = files(&video);
        for path in &videos {
            let (count, seconds) = length(path);
            // Ten a second at most, and the time of the last is within the segment.
            assert!(count > 0 && count <= 20 && seconds < 2.0, "{}: {count} in {seconds} s", path.display());
        }
        segments = videos.len();
    }
    // Only the one that was killed had no index; the next start has written it.
    for path in files(&video) {
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.windows(4).any(|four| four == b"idx1"), "{}", path.display());
    }
    assert!(files(&pictures).len() > 4);
    for path in files(&pictures) {
        let picture = image::open(&path).unwrap();
        assert_eq!((picture.width(), picture.height()), (640, 480), "{}", path.display());
    }
}

#[test]
fn a_full_disk_degrades_and_recovers_and_frames_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("data");
    std::fs::create_dir(&mount).unwrap();
    let config = config(dir.path());
    // The mount lives in the namespace of the process that is tested, and is reached through it.
    let script = r#"mount -t tmpfs -o size=16m none "$1" && shift && exec "$@""#;
    let mut unshare = firstlight(&[]);
    unshare.command = Command::new("unshare");
    let mount = mount.to_str().unwrap();
    unshare
        .command
        .args(["-rm", "sh", "-c", script, "sh", mount, env!("CARGO_BIN_EXE_firstlight")])
        .args(RUN)
        .arg(config);
    let running = unshare.start();
    let address = running.address();
    let inside = Path::new("/proc").join(running.child.id().to_string()).join("root").join(&mount[1..]);
    let state = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap();
    poll(&address, "/status", |_, body| state(body)["state"] == "running" && !files(&inside.join("video")).is_empty());

    let filler = inside.join("filler");
    let file = std::fs::File::create(&filler).unwrap();
    poll(&address, "/status", |_, body| {
        while (&file).write_all(&[0; 4096]).is_ok() {}
        let status = state(body);
        status["state"] == "degraded"
            && status["reasons"].to_string().contains("recording.")
            && status["reasons"].to_string().contains("No space left on device")
    });
    let stuck = frames(&address);
    poll(&address, "/status", |_, _| frames(&address) > stuck + 20);
    let before = files(&inside.join("video")).len();
    std::fs::remove_file(&filler).unwrap();
    drop(file);
    poll(&address, "/status", |_, body| {
        state(body)["state"] == "running" && files(&inside.join("video")).len() > before
    });
    std::thread::sleep(Duration::from_millis(500));
    let videos = files(&inside.join("video"));
    assert!(videos.iter().all(|path| length(path).0 > 0), "none is empty: {videos:?}");
}
