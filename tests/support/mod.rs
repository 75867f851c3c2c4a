//! What the tests share: where recordings and fetched files lie, and the binary as a child process.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

/// The binary with these arguments, in the checkout, without the caller's settings.
pub fn firstlight(args: &[&str]) -> Firstlight {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firstlight"));
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FIRSTLIGHT_") || name == "MODEL_CACHE_DIR") {
        command.env_remove(name);
    }
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
