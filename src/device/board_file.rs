//! Board files: what is known of each supported board, written down in `boards/*.toml` and part of the binary.
//!
//! `scripts/image` reads the same files. May not know: who acts on them.

mod machine;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::board;
use super::slot::Mechanism;
use crate::config::text;
use crate::error::did_you_mean;

pub use machine::{Match, MatchedBy};

/// A board file larger than this is not one.
const BYTES_MAX: u64 = 64 << 10;

/// Name and text of every board file in the binary.
const EMBEDDED: &[(&str, &str)] = &[
    ("generic-aarch64", include_str!("../../boards/generic-aarch64.toml")),
    ("generic-x86_64", include_str!("../../boards/generic-x86_64.toml")),
    ("jetson-orin-nano", include_str!("../../boards/jetson-orin-nano.toml")),
    ("jetson-xavier-nx", include_str!("../../boards/jetson-xavier-nx.toml")),
    ("qemu-virt", include_str!("../../boards/qemu-virt.toml")),
    ("raspberry-pi-4", include_str!("../../boards/raspberry-pi-4.toml")),
    ("raspberry-pi-5", include_str!("../../boards/raspberry-pi-5.toml")),
    ("raspberry-pi-zero-2", include_str!("../../boards/raspberry-pi-zero-2.toml")),
];

/// What can be wrong with a board file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("board file {path}: cannot be read: {cause}")]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("board file {path}: {bytes} bytes; a board file has at most {BYTES_MAX}")]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("board file {path}: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("board file {path}: {key} = {found}: expected {expected}")]
    Value { path: PathBuf, key: &'static str, found: String, expected: &'static str },
}

/// One board.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardFile {
    /// Kebab-case, and the name of the file.
    pub name: String,
    pub title: String,
    /// Strings of the device tree's `/compatible`, any of which is this board.
    pub compatible: Vec<String>,
    /// `{sys_vendor} {product_name}` of a firmware that has SMBIOS and no device tree.
    #[serde(default)]
    pub dmi: Vec<String>,
    /// As Rust calls it: `aarch64` or `x86_64`.
    pub architecture: String,
    /// For people.
    pub soc: String,
    /// 0: any number.
    pub cores: usize,
    /// Those of [`board::FEATURES`] that every such board has.
    pub cpu_features: Vec<String>,
    pub kernel: Kernel,
    pub modules: Modules,
    pub console: Console,
    pub watchdog: Watchdog,
    pub storage: Storage,
    pub camera: Camera,
    pub display: Display,
    pub sensors: Sensors,
    pub slots: Slots,
    pub accelerator: Accelerator,
    pub image: Image,
    #[serde(default)]
    pub firmware: Firmware,
}

/// The kernel of an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Debian's package; empty when Debian has none for this board.
    pub package: String,
    /// Command line.
    pub args: String,
    /// File name of the device tree; empty when the firmware brings it.
    pub device_tree: String,
}

/// Kernel modules by name, `-` and `_` being the same; what a kernel has built in may be named.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    /// Loaded before the root is mounted: storage, its file system, the watchdog.
    pub early: Vec<String>,
    /// Loaded beside the loop.
    pub late: Vec<String>,
}

/// The serial line of the kernel's messages.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// Such as `/dev/ttyAMA0`; empty: not known.
    pub device: String,
    pub baud: u32,
}

/// What restarts a machine that hangs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watchdog {
    /// Such as `/dev/watchdog0`; empty: none, or another system's.
    pub device: String,
    /// Seconds without being fed, 1 to 600.
    pub timeout_s: u32,
}

/// Where the image was written to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// Names below `/sys/block` in order of preference.
    pub disks: Vec<String>,
}

/// The camera that comes with the board, or the first of any other.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    pub devices: Vec<String>,
}

/// The screen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Display {
    /// A framebuffer such as `/dev/fb0`; empty: none.
    pub device: String,
}

/// Where the board says how it feels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sensors {
    /// Types of the thermal zones that matter; empty: all zones.
    pub thermal: Vec<String>,
    /// Files, in order of preference, whose low four bits, in hex, say that the board is slowed down now; or
    /// `hwmon:NAME/ATTRIBUTE`.
    pub throttled: Vec<String>,
}

/// How one of two systems is chosen at boot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slots {
    pub mechanism: Mechanism,
}

/// Vendor libraries of an accelerator.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accelerator {
    pub libraries: Vec<Library>,
}

/// One library and where it may lie.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Library {
    pub name: String,
    pub paths: Vec<String>,
}

/// What `scripts/image` makes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    pub kind: ImageKind,
    /// Sizes of a slot's partitions and of the data's, of a disk.
    #[serde(default)]
    pub boot_mib: u32,
    #[serde(default)]
    pub root_mib: u32,
    #[serde(default)]
    pub data_mib: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageKind {
    /// A whole disk.
    Disk,
    /// Files for a vendor's root file system.
    Overlay,
}

/// Of a Raspberry Pi: what its firmware reads beside the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// Files of the firmware in each slot.
    pub files: Vec<String>,
    /// Files of the firmware beside `autoboot.txt`.
    pub select: Vec<String>,
    pub overlays: Vec<String>,
    /// The text of `config.txt`.
    pub config: String,
}

impl BoardFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, lacks a key, has an unknown one (the message names the nearest valid one)
    /// or a value out of range.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let read = |cause| Error::Read { path: path.into(), cause };
        let bytes = std::fs::metadata(path).map_err(read)?.len();
        if bytes > BYTES_MAX {
            return Err(Error::TooLarge { path: path.into(), bytes });
        }
        Self::parse(&std::fs::read_to_string(path).map_err(read)?, path)
    }

    fn parse(content: &str, path: &Path) -> Result<Self, Error> {
        let file: Self = text::read(content).map_err(|message| Error::Parse { path: path.into(), message })?;
        match file.fault() {
            Some((key, found, expected)) => Err(Error::Value { path: path.into(), key, found, expected }),
            None => Ok(file),
        }
    }

    /// The first value that makes no sense: its key, what it is and what it should be.
    fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        let feature = self.cpu_features.iter().find(|feature| !board::FEATURES.contains(&feature.as_str()));
        if let Some(feature) = feature {
            return Some(("cpu_features", feature.clone(), "features that decide which kernel of ours runs"));
        }
        if !(1..=600).contains(&self.watchdog.timeout_s) {
            return Some(("watchdog.timeout_s", self.watchdog.timeout_s.to_string(), "1 to 600 seconds"));
        }
        let image = &self.image;
        let is_disk = image.kind == ImageKind::Disk;
        if is_disk != (image.boot_mib > 0 && image.root_mib > 0 && image.data_mib > 0) {
            let found = format!("{}, {} and {} MiB", image.boot_mib, image.root_mib, image.data_mib);
            return Some(("image", found, "sizes of boot, root and data for a disk, and for nothing else"));
        }
        if is_disk != matches!(self.slots.mechanism, Mechanism::UBoot | Mechanism::Tryboot) {
            let found = format!("{:?}", self.slots.mechanism);
            return Some(("slots.mechanism", found, "u-boot or tryboot for a disk, external or none for an overlay"));
        }
        None
    }

    /// The board file of a name.
    ///
    /// # Errors
    /// There is none in the binary; says which there are.
    pub fn named(name: &str) -> Result<Self, String> {
        let names = || EMBEDDED.iter().map(|(name, _)| *name);
        let unknown = || {
            let known: Vec<&str> = names().collect();
            format!("no board `{name}`; there are {}{}", known.join(", "), did_you_mean(name, names()))
        };
        Self::embedded().find(|file| file.name == name).ok_or_else(unknown)
    }

    /// The instruction sets that plans for such boards are made for; of x86, where a board file says little of the CPU, each
    /// that one may have.
    #[must_use]
    pub fn plan_targets(&self) -> &'static [&'static str] {
        if self.architecture == "aarch64" { &["neon"] } else { &["avx512", "avx2", "portable"] }
    }

    /// The board files in the binary.
    fn embedded() -> impl Iterator<Item = Self> {
        EMBEDDED.iter().map(|(name, text)| {
            Self::parse(text, Path::new(name)).expect("a test parses every board file that is in the binary")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(from: &str, to: &str) -> String {
        let (_, text) = EMBEDDED.iter().find(|(name, _)| *name == "qemu-virt").unwrap();
        assert!(text.contains(from), "{from}");
        BoardFile::parse(&text.replacen(from, to, 1), Path::new("board.toml")).unwrap_err().to_string()
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_binary_under_its_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect();
        files.sort();
        let names: Vec<_> = files.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
        assert_eq!(EMBEDDED.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
        for (file, name) in files.iter().zip(names) {
            assert_eq!(BoardFile::read(file).unwrap().name, name);
        }
    }

    #[test]
    fn no_machine_matches_two_files() {
        let mut known: Vec<String> =
            BoardFile::embedded().flat_map(|file| [file.compatible, file.dmi].concat()).collect();
        let all = known.len();
        known.sort();
        known.dedup();
        assert_eq!(known.len(), all);
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let message = changed("timeout_s = 15", "timeuot_s = 15");
        assert!(message.starts_with("board file board.toml: line "), "{message}");
        assert!(message.ends_with("unknown key `timeuot_s`; did you mean `timeout_s`?"), "{message}");
        let message = changed("[console]", "[consle]");
        assert!(message.contains("unknown key `consle`; did you mean `console`?"), "{message}");
        let message = changed("[console]\ndevice = \"/dev/ttyAMA0\"\n", "[console]\n");
        assert!(message.contains("missing field `device`"), "{message}");
        for (from, to, key) in [
            ("timeout_s = 15", "timeout_s = 0", "watchdog.timeout_s"),
            ("cpu_features = [\"asimd\"]", "cpu_features = [\"neon\"]", "cpu_features"),
            ("boot_mib = 96", "boot_mib = 0", "image"),
            ("\"u-boot\"", "\"external\"", "slots.mechanism"),
        ] {
            let message = changed(from, to);
            assert!(message.contains(&format!(": {key} = ")) && message.contains("expected"), "{message}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("board.toml");
        std::fs::write(&path, vec![b'#'; 100_000]).unwrap();
        assert!(BoardFile::read(&path).unwrap_err().to_string().contains("100000 bytes"));
        std::fs::write(&path, b"\xff\xfe").unwrap();
        assert!(matches!(BoardFile::read(&path), Err(Error::Read { .. })));
    }
}
