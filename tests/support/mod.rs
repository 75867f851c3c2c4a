//! What the tests share: where recordings and fetched files lie, and the binary as a child process.
#![allow(dead_code, reason = "each test uses its part")]

pub mod damage;
pub mod recorded;
pub mod still;

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The folder beside every checkout with the recordings.
pub fn shared() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    std::env::var_os("FIRSTLIGHT_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from)
}

/// The folder into which `scripts/test` fetched what may not be copied.
pub fn fetched() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    std::env::var_os("FIRSTLIGHT_FETCHED").map_or_else(|| root.join("target/fetched"), PathBuf::from)
}

/// The first place that has a file: the given folders, then the fetched ones.
pub fn find_file(folders: &[PathBuf], name: &str) -> Result<PathBuf, String> {
    let places: Vec<PathBuf> = folders.iter().cloned().chain([fetched()]).map(|folder| folder.join(name)).collect();
    places.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
        let places: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
        format!("{name} is missing: looked for {}; scripts/test fetches it", places.join(", "))
    })
}

/// ONNX Runtime's library, where `scripts/test` has brought one; see [`NO_LIBRARY`].
pub fn onnxruntime() -> Option<PathBuf> {
    std::env::var_os("FIRSTLIGHT_TEST_ONNXRUNTIME").map(PathBuf::from)
}

/// Why a test of the worker could not be.
pub const NO_LIBRARY: &str = "FIRSTLIGHT_TEST_ONNXRUNTIME names no libonnxruntime.so; scripts/test brings one";

/// The binary with these arguments, in the checkout, without the caller's settings.
pub fn firstlight(args: &[&str]) -> Firstlight {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firstlight"));
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FIRSTLIGHT_") || name == "MODEL_CACHE_DIR") {
        command.env_remove(name);
    }
    // What a test leaves behind is no other test's, and not the user's.
    command.env("FIRSTLIGHT_STATE_DIR", "off");
    Firstlight { command }
}

pub struct Firstlight {
    pub command: Command,
}

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    pub exit: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Firstlight {
    /// Limits the address space that data may take.
    pub fn memory_kb(mut self, limit: u64) -> Self {
        use std::os::unix::process::CommandExt;
        let set = move || {
            use nix::sys::resource::{Resource, setrlimit};
            setrlimit(Resource::RLIMIT_DATA, limit * 1024, limit * 1024).map_err(std::io::Error::from)
        };
        // SAFETY: setrlimit is async-signal-safe and touches nothing of the parent.
        unsafe { self.command.pre_exec(set) };
        self
    }

    /// Runs to the end.
    pub fn run(mut self) -> Run {
        let output = self.command.stdin(Stdio::null()).output().expect("the binary starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Run { exit: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// The binary at a terminal, where somebody types `answers`: its exit, and what the terminal shows.
pub fn at_a_terminal(args: &[&str], answers: &str) -> (Option<i32>, String) {
    let quoted: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
    let line = format!("{} {}", env!("CARGO_BIN_EXE_firstlight"), quoted.join(" "));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("FIRSTLIGHT_STATE_DIR", "off");
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script is part of bsdutils");
    script.stdin.take().expect("piped").write_all(answers.as_bytes()).expect("it reads");
    let output = script.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A cache directory with the demo model in classic layout.
pub fn parts_cache() -> tempfile::TempDir {
    let cache = tempfile::tempdir().expect("a temporary directory");
    let demo = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/demo");
    let package = cache.path().join("parts/1");
    std::fs::create_dir_all(&package).expect("a directory");
    for (from, to) in [
        ("parts.onnx", "weights.onnx"),
        ("model_type.json", "model_type.json"),
        ("environment.json", "environment.json"),
        ("class_names.txt", "class_names.txt"),
    ] {
        std::fs::copy(demo.join(from), package.join(to)).expect("a demo file");
    }
    cache
}

pub fn copy_package(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a package") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("a file");
    }
}

/// A whole PNG.
pub fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(width, height).write_to(&mut bytes, image::ImageFormat::Png).expect("a PNG");
    bytes.into_inner()
}

/// A PNG that declares a size and holds next to nothing.
pub fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut small = png(1, 1);
    small[16..20].copy_from_slice(&width.to_be_bytes());
    small[20..24].copy_from_slice(&height.to_be_bytes());
    // The header chunk's checksum, or the decoder would stop there.
    let crc = crc32(&small[12..29]);
    small[29..33].copy_from_slice(&crc.to_be_bytes());
    small
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & 0_u32.wrapping_sub(crc & 1)))
    })
}

/// A running binary; ended when dropped.
pub struct Running {
    pub child: Child,
    /// Lines of stderr as they come.
    pub stderr: std::sync::mpsc::Receiver<String>,
    pub stdout: std::sync::mpsc::Receiver<String>,
}

impl Firstlight {
    /// Starts it, reading both outputs.
    pub fn start(mut self) -> Running {
        let mut child =
            self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let stdout = lines(child.stdout.take().expect("piped"));
        let stderr = lines(child.stderr.take().expect("piped"));
        Running { child, stderr, stdout }
    }
}

impl Running {
    /// The address of the page, from the line that announces it.
    pub fn address(&self) -> String {
        let line = wait_for(&self.stderr, |line| line.contains("see http://"));
        line.split("http://").nth(1).expect("an address").trim_end_matches('/').to_owned()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("the child is there");
    }

    /// Waits for the end, at most 20 seconds.
    pub fn exit(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("still running after {PATIENCE:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Longer than anything here takes on a busy machine; it only decides when a hang is called one.
pub const PATIENCE: Duration = Duration::from_secs(20);

fn lines(from: impl Read + Send + 'static) -> std::sync::mpsc::Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The first line that fits.
pub fn wait_for(lines: &std::sync::mpsc::Receiver<String>, fits: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if fits(&line) {
            return line;
        }
        seen.push(line);
    }
    panic!("no such line; there were {seen:?}");
}

/// Asks until the answer fits.
pub fn poll(address: &str, path: &str, fits: impl Fn(u16, &[u8]) -> bool) -> Vec<u8> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, body) = get(address, path);
        if fits(status, &body) {
            return body;
        }
        assert!(Instant::now() < deadline, "{path} stays {status} {}", String::from_utf8_lossy(&body));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Status and body of a GET.
pub fn get(address: &str, path: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, answer[end + 4..].to_vec())
}
