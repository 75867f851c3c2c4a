//! Live streams through the binary, against real peers: gst-rtsp-server, ffmpeg, an HTTP camera, a producer of shared
//! memory. What is seen in a stream must be what is seen in the pictures that went into it.

#[path = "../support/mod.rs"]
mod support;

mod http;
mod reconnect;
mod rtsp;
mod shm;
mod stdin;

use std::io::BufRead;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use firstlight::frame::Frame;
use firstlight::source::demo::Conveyor;
use serde_json::Value;
use support::{Firstlight, PATIENCE, Running, firstlight, get};

/// Pictures of the scene, far enough apart to differ in every detection.
const PICTURES: usize = 4;
const PICTURE_STEP: usize = 40;
/// Detections below this may come and go with what a codec loses; the model's threshold is 0.4.
const SURE: f64 = 0.7;
/// Pixels that a box may move by the same.
const NEAR: f64 = 8.0;

/// Known pictures, as files, and what the model sees in each.
struct Known {
    dir: tempfile::TempDir,
    seen: Vec<Value>,
}

impl Known {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (mut conveyor, mut frame) = (Conveyor::new(7), Frame::empty());
        for index in 0..PICTURES {
            (0..PICTURE_STEP).for_each(|_| conveyor.render(&mut frame));
            let [width, height] = [frame.width(), frame.height()].map(|side| u32::try_from(side).unwrap());
            let picture = image::RgbImage::from_raw(width, height, frame.pixels().to_vec()).unwrap();
            picture.save(dir.path().join(format!("{index}.png"))).unwrap();
        }
        let source = format!("file:{}/*.png", dir.path().display());
        let mut known = Self { dir, seen: Vec::new() };
        let run = known.firstlight(&["run", "--listen", "off", "--source", &source]).run();
        known.seen = lines(&run.stdout);
        assert_eq!(known.seen.len(), PICTURES, "{}", run.stderr);
        (0..PICTURES).for_each(|index| assert_eq!(known.which(&known.seen[index]), Some(index), "they differ"));
        known
    }

    /// The binary, running the model by the plan by which these pictures were seen: how a convolution is computed is raced
    /// when a plan is made, and by another plan answers may differ in the seventh digit.
    fn firstlight(&self, args: &[&str]) -> Firstlight {
        let mut binary = firstlight(args);
        binary.command.env("FIRSTLIGHT_STATE_DIR", self.dir.path().join("state"));
        binary
    }

    /// A printf pattern of the files.
    fn pattern(&self) -> String {
        self.dir.path().join("%d.png").display().to_string()
    }

    /// The one picture that a line is about.
    fn which(&self, line: &Value) -> Option<usize> {
        let fits: Vec<usize> = (0..self.seen.len()).filter(|&index| alike(line, &self.seen[index])).collect();
        if let [one] = fits[..] { Some(one) } else { None }
    }

    /// Asserts that lines are about pictures in turn, from any on, and that few were missed.
    fn assert_in_turn(&self, lines: &[Value]) {
        let mut last: Option<(u64, usize)> = None;
        for line in lines {
            let id = line["frame_id"].as_u64().unwrap();
            let which = self.which(line).unwrap_or_else(|| panic!("none of the pictures: {line}"));
            if let Some((last_id, last_which)) = last {
                assert!(id > last_id, "{lines:?}");
                let expected = (last_which + usize::try_from(id - last_id).unwrap()) % PICTURES;
                assert_eq!(which, expected, "picture of frame {id} after {last_which} of frame {last_id}");
            }
            last = Some((id, which));
        }
    }
}

/// Whether two lines show the same objects, but for what a codec loses.
fn alike(one: &Value, other: &Value) -> bool {
    let list = |line: &Value| line["predictions"].as_array().cloned().unwrap_or_default();
    let (one, other) = (list(one), list(other));
    let sure = |list: &[Value]| -> Vec<Value> {
        list.iter().filter(|found| found["confidence"].as_f64().unwrap() >= SURE).cloned().collect()
    };
    let near = |a: &Value, b: &Value| {
        a["class"] == b["class"]
            && ["x", "y", "width", "height"]
                .iter()
                .all(|side| (a[side].as_f64().unwrap() - b[side].as_f64().unwrap()).abs() <= NEAR)
    };
    let all_in = |found: &[Value], among: &[Value]| found.iter().all(|a| among.iter().any(|b| near(a, b)));
    !sure(&one).is_empty() && all_in(&sure(&one), &other) && all_in(&sure(&other), &one)
}

fn lines(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The next `count` lines of a running binary.
fn next_lines(running: &Running, count: usize) -> Vec<Value> {
    let line = || running.stdout.recv_timeout(PATIENCE).expect("a line");
    (0..count).map(|_| serde_json::from_str(&line()).expect("a line of JSON")).collect()
}

/// Waits until `/status` fits, longer than the longest pause before a source is opened again.
fn wait_for_status(address: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE + PATIENCE;
    loop {
        let status: Value = serde_json::from_slice(&get(address, "/status").1).unwrap();
        if fits(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "never {what}: {status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until it is degraded for a reason that holds `word`.
fn wait_for_reason(address: &str, word: &str) {
    wait_for_status(address, word, |status| {
        let reasons = status["reasons"].as_array().unwrap();
        reasons.iter().any(|reason| reason.as_str().unwrap().contains(word))
            && status["state"].as_str().is_some_and(|state| state == "degraded" || state == "starting")
    });
}

/// Waits until frames flow and nothing is wrong.
fn wait_for_recovery(address: &str) {
    let frames = |status: &Value| status["loop"]["frames"].as_u64().unwrap();
    let before = frames(&serde_json::from_slice(&get(address, "/status").1).unwrap());
    wait_for_status(address, "running", |status| status["state"] == "running" && frames(status) > before + 3);
}

/// A peer: a process that is killed when dropped.
struct Peer(Child);

impl Peer {
    /// Starts a program of which `package` of Debian has what is missing.
    fn spawn(command: &mut Command, package: &str) -> Self {
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}; tests/packages.sh installs {package}")))
    }

    /// Starts one that says `ready` on its stdout; what else it says goes to `log`.
    fn ready(command: &mut Command, package: &str, log: Option<std::sync::mpsc::Sender<String>>) -> Self {
        let mut peer = Self::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()), package);
        let stdout = std::io::BufReader::new(peer.0.stdout.take().expect("piped"));
        let mut said = stdout.lines().map_while(Result::ok);
        let first = said.next();
        assert_eq!(first.as_deref(), Some("ready"), "{command:?} did not start; tests/packages.sh installs {package}");
        std::thread::spawn(move || said.for_each(|line| drop(log.as_ref().map(|log| log.send(line)))));
        peer
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        nix::sys::signal::kill(pid, signal).expect("it is there");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // SIGKILL, which a stopped process takes as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error"]).stdin(Stdio::null());
    command
}

/// A file of this folder.
fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams").join(name)
}

/// A port that nobody listens at, which may be listened at again and again.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
