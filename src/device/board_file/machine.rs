//! Which board file a machine matches, and in what it differs from it.

use std::path::{Path, PathBuf};

use super::{BoardFile, Error};
use crate::device::board::{self, Board};

/// A board file of the user's own, which goes before all that is in the binary; below the root.
const OWN: &str = "etc/firstlight/board.toml";

/// What any machine of this architecture is when nothing else matches.
const GENERIC: &str = if cfg!(target_arch = "aarch64") { "generic-aarch64" } else { "generic-x86_64" };

/// The board file of a machine, and by what it was found.
#[derive(Debug)]
pub struct Match {
    pub file: BoardFile,
    pub by: MatchedBy,
    /// Why the user's own board file is not the one, where there is one.
    pub fault: Option<Error>,
}

/// What of a machine led to its board file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatchedBy {
    OwnFile,
    /// The string of the device tree.
    DeviceTree(String),
    Dmi(String),
    /// Nothing did: the generic file.
    Architecture,
}

impl std::fmt::Display for MatchedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OwnFile => write!(f, "/{OWN}"),
            Self::DeviceTree(name) => write!(f, "device tree {name}"),
            Self::Dmi(name) => write!(f, "DMI {name}"),
            Self::Architecture => write!(f, "architecture {}", std::env::consts::ARCH),
        }
    }
}

impl BoardFile {
    /// The board file for the machine below `root`: the user's own, else by device tree, DMI, architecture.
    #[must_use]
    pub fn for_machine(root: &Path) -> Match {
        let own = root.join(OWN);
        let fault = match Self::read(&own) {
            Ok(file) => return Match { file, by: MatchedBy::OwnFile, fault: None },
            Err(Error::Read { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => None,
            // A device with a broken file still runs, and says so.
            Err(error) => Some(error),
        };
        let (file, by) = Self::embedded_for(root);
        Match { file, by, fault }
    }

    fn embedded_for(root: &Path) -> (Self, MatchedBy) {
        let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
        let files: Vec<Self> = Self::embedded().collect();
        let with = |has: &dyn Fn(&Self) -> bool| files.iter().find(|file| has(file)).cloned();
        // The kernel lists the board before its family.
        for name in read("proc/device-tree/compatible").split('\0').filter(|name| !name.is_empty()) {
            if let Some(file) = with(&|file| file.compatible.iter().any(|own| own == name)) {
                return (file, MatchedBy::DeviceTree(name.into()));
            }
        }
        let dmi = board::dmi(root);
        if let Some(file) = with(&|file| file.dmi.contains(&dmi)) {
            return (file, MatchedBy::Dmi(dmi));
        }
        let generic = with(&|file| file.name == GENERIC).expect("the generic files are in the binary");
        (generic, MatchedBy::Architecture)
    }

    /// Whether this is what a machine is when nothing is known of it.
    #[must_use]
    pub fn is_generic(&self) -> bool {
        self.name == GENERIC
    }

    /// In what the machine below `root` differs from this file, a sentence each.
    #[must_use]
    pub fn differences(&self, board: &Board, root: &Path) -> Vec<String> {
        let there = |path: &str| below(root, path).exists();
        let mut found = Vec::new();
        if board.architecture != self.architecture {
            found.push(format!("architecture: {}, expected {}", board.architecture, self.architecture));
        }
        if self.cores != 0 && board.cores != self.cores {
            found.push(format!("cores: {}, expected {}", board.cores, self.cores));
        }
        let lacking = self.cpu_features.iter().filter(|feature| !board.cpu_features.contains(feature));
        found.extend(lacking.map(|feature| format!("cpu: no {feature}")));
        let devices = [("console", &self.console.device), ("watchdog", &self.watchdog.device)];
        for (what, device) in devices.into_iter().filter(|(_, device)| !device.is_empty() && !there(device)) {
            found.push(format!("{what}: {device} is not there"));
        }
        let disks = &self.storage.disks;
        if !disks.is_empty() && !disks.iter().any(|disk| there(&format!("/sys/block/{disk}"))) {
            found.push(format!("storage: none of {} is there", disks.join(", ")));
        }
        let cameras = self.camera.devices.iter().filter(|device| !there(device));
        found.extend(cameras.map(|device| format!("camera: {device} is not there")));
        if !self.sensors.thermal.is_empty() && board::thermal_zones(root, &self.sensors.thermal).is_empty() {
            found.push(format!("temperature: no thermal zone of type {}", self.sensors.thermal.join(", ")));
        }
        if !self.sensors.throttled.is_empty() && board::throttle_source(root, &self.sensors.throttled).is_none() {
            found.push(format!("throttling: none of {} is there", self.sensors.throttled.join(", ")));
        }
        let libraries = self.accelerator.libraries.iter();
        for library in libraries.filter(|library| !library.paths.iter().any(|path| there(path))) {
            found.push(format!("accelerator: {} is at none of {}", library.name, library.paths.join(", ")));
        }
        found
    }
}

/// An absolute path of a board file in the tree at `root`.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::board::{identify, tests::tree};

    fn matched(files: &[(&str, &str)]) -> (String, MatchedBy) {
        let root = tree(files);
        let found = BoardFile::for_machine(root.path());
        assert!(found.fault.is_none());
        (found.file.name, found.by)
    }

    #[test]
    fn each_board_is_found_by_its_device_tree() {
        for (compatible, name) in [
            ("raspberrypi,4-model-b\0brcm,bcm2711\0", "raspberry-pi-4"),
            ("raspberrypi,400\0brcm,bcm2711\0", "raspberry-pi-4"),
            ("raspberrypi,5-model-b\0brcm,bcm2712\0", "raspberry-pi-5"),
            ("raspberrypi,model-zero-2-w\0brcm,bcm2837\0", "raspberry-pi-zero-2"),
            ("nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0", "jetson-orin-nano"),
            ("nvidia,p3449-0000+p3668-0001\0nvidia,p3509-0000+p3668-0001\0nvidia,tegra194\0", "jetson-xavier-nx"),
            ("linux,dummy-virt\0", "qemu-virt"),
        ] {
            let (file, by) = matched(&[("proc/device-tree/compatible", compatible)]);
            assert_eq!(file, name);
            assert!(matches!(by, MatchedBy::DeviceTree(string) if compatible.starts_with(&string)), "{name}");
        }
    }

    #[test]
    fn the_rest_is_found_by_dmi_or_is_generic() {
        let qemu =
            [("sys/class/dmi/id/sys_vendor", "QEMU\n"), ("sys/class/dmi/id/product_name", "KVM Virtual Machine\n")];
        assert_eq!(matched(&qemu), ("qemu-virt".into(), MatchedBy::Dmi("QEMU KVM Virtual Machine".into())));
        // A family alone is not a board: a Raspberry Pi 3 has other files than a Zero 2.
        let other = [("proc/device-tree/compatible", "raspberrypi,3-model-b\0brcm,bcm2837\0")];
        assert_eq!(matched(&other), (GENERIC.into(), MatchedBy::Architecture));
        assert_eq!(matched(&[]), (GENERIC.into(), MatchedBy::Architecture));
    }

    #[test]
    fn the_users_own_file_goes_first_and_a_broken_one_is_said() {
        let own = include_str!("../../../boards/qemu-virt.toml").replace("\"qemu-virt\"", "\"my-board\"");
        let compatible = ("proc/device-tree/compatible", "raspberrypi,5-model-b\0");
        assert_eq!(matched(&[(OWN, &own), compatible]), ("my-board".into(), MatchedBy::OwnFile));
        let root = tree(&[(OWN, "nmae = 1\n"), compatible]);
        let found = BoardFile::for_machine(root.path());
        assert_eq!(found.file.name, "raspberry-pi-5");
        let fault = found.fault.unwrap().to_string();
        assert!(fault.contains("etc/firstlight/board.toml") && fault.contains("did you mean `name`"), "{fault}");
    }

    #[test]
    fn a_machine_as_written_has_no_differences() {
        let root = tree(&[
            ("proc/device-tree/compatible", "raspberrypi,4-model-b\0brcm,bcm2711\0"),
            ("proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd crc32\n"),
            ("dev/ttyS1", ""),
            ("dev/watchdog0", ""),
            ("dev/video0", ""),
            ("sys/block/mmcblk1/size", "1"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/hwmon/hwmon0/name", "cpu_thermal\n"),
            ("sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
            ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n"),
        ]);
        let file = BoardFile::for_machine(root.path()).file;
        let board = Board { cores: 4, architecture: "aarch64", ..identify(root.path()) };
        assert_eq!(file.differences(&board, root.path()), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_said() {
        let root = tree(&[("proc/device-tree/compatible", "raspberrypi,5-model-b\0")]);
        let file = BoardFile::for_machine(root.path()).file;
        let board = Board { cores: 3, architecture: "aarch64", ..identify(root.path()) };
        let found = file.differences(&board, root.path());
        let expected = [
            "cores: 3, expected 4",
            "cpu: no asimd",
            "cpu: no asimdhp",
            "cpu: no asimddp",
            "console: /dev/ttyAMA10 is not there",
            "watchdog: /dev/watchdog0 is not there",
            "storage: none of mmcblk0, nvme0n1, sda is there",
            "camera: /dev/video0 is not there",
            "temperature: no thermal zone of type cpu-thermal",
        ];
        assert_eq!(found[..expected.len()], expected);
        assert!(found[expected.len()].starts_with("throttling: none of /sys/devices/"), "{found:?}");
        assert_eq!(found.len(), expected.len() + 1);

        let root = tree(&[
            ("proc/device-tree/compatible", "nvidia,p3767-0003\0"),
            ("usr/lib/aarch64-linux-gnu/libnvinfer.so.8", ""),
        ]);
        let file = BoardFile::for_machine(root.path()).file;
        let found = file.differences(&Board { architecture: "x86_64", ..identify(root.path()) }, root.path());
        assert!(found.contains(&"architecture: x86_64, expected aarch64".into()), "{found:?}");
        assert!(found.iter().any(|said| said.starts_with("accelerator: cudart is at none of")), "{found:?}");
        assert!(!found.iter().any(|said| said.contains("tensorrt")), "{found:?}");
    }
}
