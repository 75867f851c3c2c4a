//! Which board this is, read from what the kernel says of it; and the readings of its sensors.
//!
//! Everything here is a file below a root directory (`/` in life, a made-up tree in tests).

use std::path::{Path, PathBuf};

/// What is known of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// Kebab-case, such as `raspberry-pi-5`; `generic-{architecture}` when the kernel names no board.
    pub name: String,
    /// The name as the vendor writes it; empty when there is none.
    pub model: String,
    pub architecture: &'static str,
    pub cores: usize,
    /// Of the first processor, as `/proc/cpuinfo` lists them, those that matter to a kernel of ours.
    pub cpu_features: Vec<String>,
    pub memory_mb: u64,
    /// Release of a Jetson's Linux for Tegra, such as `36.3.0`.
    pub l4t_version: Option<String>,
}

/// CPU features that decide which kernel runs.
const FEATURES: &[&str] = &["avx2", "fma", "avx512f", "avx512_vnni", "asimd", "asimdhp", "asimddp", "sve"];

/// Reads the board from the tree at `root`.
#[must_use]
pub fn identify(root: &Path) -> Board {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let device_tree = read("proc/device-tree/model");
    let vendor = read("sys/class/dmi/id/sys_vendor");
    let product = read("sys/class/dmi/id/product_name");
    let model = match device_tree.trim_matches(['\0', '\n', ' ']) {
        "" => format!("{} {}", vendor.trim(), product.trim()).trim().to_owned(),
        model => model.to_owned(),
    };
    let cpuinfo = read("proc/cpuinfo");
    let listed = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags").or_else(|| line.strip_prefix("Features")))
        .and_then(|line| line.split_once(':'))
        .map_or("", |(_, flags)| flags);
    let memory_kb = read("proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    Board {
        name: board_name(&model, !device_tree.is_empty()),
        model,
        architecture: std::env::consts::ARCH,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        cpu_features: listed.split_whitespace().filter(|flag| FEATURES.contains(flag)).map(str::to_owned).collect(),
        memory_mb: memory_kb.unwrap_or(0) / 1024,
        l4t_version: l4t_version(&read("etc/nv_tegra_release")),
    }
}

/// `# R36 (release), REVISION: 3.0, …` → `36.3.0`.
fn l4t_version(release: &str) -> Option<String> {
    let (_, rest) = release.split_once("# R")?;
    let major = rest.split_whitespace().next()?;
    let (_, rest) = rest.split_once("REVISION:")?;
    let minor = rest.split(',').next()?.trim();
    let numbers = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (numbers(major) && numbers(minor)).then(|| format!("{major}.{minor}"))
}

/// `Raspberry Pi 5 Model B Rev 1.0` → `raspberry-pi-5`; a PC's product name says nothing that a board file could use.
fn board_name(model: &str, from_device_tree: bool) -> String {
    if !from_device_tree {
        return format!("generic-{}", std::env::consts::ARCH);
    }
    let end = [" Model ", " Rev ", " Developer Kit", " Engineering"].iter().filter_map(|word| model.find(word)).min();
    let words = model[..end.unwrap_or(model.len())].to_lowercase();
    let kebab: String = words.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    kebab.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

/// This boot's id from the kernel; empty where there is none.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Resident memory of this process, kB; 0 where `/proc` is not mounted.
#[must_use]
pub fn rss_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Files of the sensors that were found, so that reading them again costs only the reading.
#[derive(Debug)]
pub struct Sensors {
    temperatures: Vec<PathBuf>,
    throttled: Option<PathBuf>,
}

/// Most thermal zones read: a Jetson has about ten.
const ZONES_MAX: usize = 32;

impl Sensors {
    /// Finds the sensors below `root`.
    #[must_use]
    pub fn find(root: &Path) -> Self {
        let zones = std::fs::read_dir(root.join("sys/class/thermal")).ok();
        let temperatures = zones.into_iter().flatten().filter_map(|zone| Some(zone.ok()?.path()));
        let temperatures = temperatures
            .filter(|zone| zone.file_name().is_some_and(|name| name.to_string_lossy().starts_with("thermal_zone")))
            .map(|zone| zone.join("temp"))
            .take(ZONES_MAX)
            .collect();
        let throttled = root.join("sys/devices/platform/soc/soc:firmware/get_throttled");
        Self { temperatures, throttled: throttled.exists().then_some(throttled) }
    }

    /// The hottest zone, °C.
    #[must_use]
    pub fn temperature_c(&self) -> Option<f32> {
        let zones = self.temperatures.iter().filter_map(|zone| std::fs::read_to_string(zone).ok()?.trim().parse().ok());
        // Some zones of sleeping units answer absurd values; no silicon runs outside these.
        let plausible = zones.filter(|milli: &i32| (-60_000..=200_000).contains(milli));
        #[expect(clippy::cast_precision_loss, reason = "at most 200,000")]
        plausible.max().map(|milli| milli as f32 / 1000.0)
    }

    /// Whether the firmware throttles or sees too low a voltage now (Raspberry Pi: the low four bits).
    #[must_use]
    pub fn throttled(&self) -> Option<bool> {
        let text = std::fs::read_to_string(self.throttled.as_ref()?).ok()?;
        let bits = u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()?;
        Some(bits & 0xF != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn a_jetson_says_its_release() {
        let release = "# R36 (release), REVISION: 3.0, GCID: 36191598, BOARD: generic, EABI: aarch64\n";
        let root = tree(&[("etc/nv_tegra_release", release)]);
        assert_eq!(identify(root.path()).l4t_version.as_deref(), Some("36.3.0"));
        for odd in ["", "# R", "# Rx, REVISION: 3.0", "# R36 (release)", "# R36 (release), REVISION: , "] {
            assert_eq!(l4t_version(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_raspberry_pi_is_recognised() {
        let root = tree(&[
            ("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0"),
            ("proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd asimdhp crc32 asimddp\n"),
            ("proc/meminfo", "MemTotal:        8245760 kB\n"),
            ("sys/class/thermal/thermal_zone0/temp", "61500\n"),
            ("sys/class/thermal/thermal_zone1/temp", "-274000\n"),
            ("sys/class/thermal/cooling_device0/temp", "99000\n"),
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n"),
        ]);
        let board = identify(root.path());
        assert_eq!(board.name, "raspberry-pi-5");
        assert_eq!(board.cpu_features, ["asimd", "asimdhp", "asimddp"]);
        assert_eq!(board.memory_mb, 8052);
        let sensors = Sensors::find(root.path());
        assert_eq!(sensors.temperature_c(), Some(61.5));
        assert_eq!(sensors.throttled(), Some(true));
    }

    #[test]
    fn names_are_short_and_a_pc_is_generic() {
        assert_eq!(board_name("NVIDIA Jetson Orin Nano Developer Kit", true), "nvidia-jetson-orin-nano");
        assert_eq!(board_name("Raspberry Pi Zero 2 W Rev 1.0", true), "raspberry-pi-zero-2-w");
        assert!(board_name("Some PC", false).starts_with("generic-"));
        let nothing = tree(&[]);
        let sensors = Sensors::find(nothing.path());
        assert_eq!((sensors.temperature_c(), sensors.throttled()), (None, None));
        assert!(rss_kb() > 0);
        assert!(identify(nothing.path()).name.starts_with("generic-"));
    }
}
