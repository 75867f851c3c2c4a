//! Which board this is, read from what the kernel says of it; and the readings of its sensors.
//!
//! Everything here is a file below a root directory (`/` in life, a made-up tree in tests).

use std::path::{Path, PathBuf};

use super::board_file::{BoardFile, Sensors as SensorFiles};

/// What is known of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// Of its board file, such as `raspberry-pi-5`. Of a board without one its model in kebab-case, and
    /// `generic-{architecture}` when the kernel names no board.
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
pub const FEATURES: &[&str] = &["avx2", "fma", "avx512f", "avx512_vnni", "asimd", "asimdhp", "asimddp", "sve"];

/// Reads the board from the tree at `root`.
#[must_use]
pub fn identify(root: &Path) -> Board {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let device_tree = read("proc/device-tree/model");
    let model = match device_tree.trim_matches(['\0', '\n', ' ']) {
        "" => dmi(root),
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
    let file = BoardFile::for_machine(root).file;
    Board {
        name: if file.is_generic() { board_name(&model, !device_tree.is_empty()) } else { file.name },
        model,
        architecture: std::env::consts::ARCH,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        cpu_features: listed.split_whitespace().filter(|flag| FEATURES.contains(flag)).map(str::to_owned).collect(),
        memory_mb: memory_kb.unwrap_or(0) / 1024,
        l4t_version: l4t_version(&read("etc/nv_tegra_release")),
    }
}

/// Maker and product as the firmware's SMBIOS says them; empty when it has none.
pub(super) fn dmi(root: &Path) -> String {
    let read = |name| std::fs::read_to_string(root.join("sys/class/dmi/id").join(name)).unwrap_or_default();
    format!("{} {}", read("sys_vendor").trim(), read("product_name").trim()).trim().to_owned()
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
    /// Finds the sensors that a board file names below `root`; where it names no thermal zone that is there, all zones.
    #[must_use]
    pub fn find(root: &Path, files: &SensorFiles) -> Self {
        let mut zones = thermal_zones(root, &files.thermal);
        if zones.is_empty() {
            zones = thermal_zones(root, &[]);
        }
        let temperatures = zones.into_iter().map(|zone| zone.join("temp")).collect();
        Self { temperatures, throttled: throttle_source(root, &files.throttled) }
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

/// The thermal zones of some types, or of every type when none is named.
pub(super) fn thermal_zones(root: &Path, types: &[String]) -> Vec<PathBuf> {
    let zones = std::fs::read_dir(root.join("sys/class/thermal")).ok();
    let zones = zones.into_iter().flatten().filter_map(|zone| Some(zone.ok()?.path()));
    let is_zone =
        |zone: &PathBuf| zone.file_name().is_some_and(|name| name.to_string_lossy().starts_with("thermal_zone"));
    let is_wanted = |zone: &PathBuf| {
        let kind = std::fs::read_to_string(zone.join("type")).unwrap_or_default();
        types.is_empty() || types.iter().any(|wanted| wanted == kind.trim())
    };
    zones.filter(is_zone).filter(is_wanted).take(ZONES_MAX).collect()
}

/// The first source of a board file that is there: a path, or `hwmon:NAME/ATTRIBUTE`, whose number changes from boot
/// to boot.
pub(super) fn throttle_source(root: &Path, sources: &[String]) -> Option<PathBuf> {
    sources.iter().find_map(|source| match source.strip_prefix("hwmon:").and_then(|rest| rest.split_once('/')) {
        Some((name, attribute)) => {
            let chips = std::fs::read_dir(root.join("sys/class/hwmon")).ok()?;
            let chips = chips.filter_map(|chip| Some(chip.ok()?.path()));
            let is_it = |chip: &PathBuf| std::fs::read_to_string(chip.join("name")).is_ok_and(|own| own.trim() == name);
            let path = chips.into_iter().find(is_it)?.join(attribute);
            path.exists().then_some(path)
        }
        None => Some(root.join(source.trim_start_matches('/'))).filter(|path| path.exists()),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
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
            ("proc/device-tree/compatible", "raspberrypi,5-model-b\0brcm,bcm2712\0"),
            ("proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd asimdhp crc32 asimddp\n"),
            ("proc/meminfo", "MemTotal:        8245760 kB\n"),
            ("sys/class/thermal/thermal_zone0/temp", "61500\n"),
            ("sys/class/thermal/thermal_zone1/temp", "-274000\n"),
            ("sys/class/thermal/cooling_device0/temp", "99000\n"),
            ("sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled", "50005\n"),
        ]);
        let board = identify(root.path());
        assert_eq!(board.name, "raspberry-pi-5");
        assert_eq!(board.cpu_features, ["asimd", "asimdhp", "asimddp"]);
        assert_eq!(board.memory_mb, 8052);
        let files = BoardFile::for_machine(root.path()).file.sensors;
        let sensors = Sensors::find(root.path(), &files);
        assert_eq!(sensors.temperature_c(), Some(61.5));
        assert_eq!(sensors.throttled(), Some(true));
    }

    #[test]
    fn a_board_file_says_which_zone_counts_and_which_chip_throttles() {
        let root = tree(&[
            ("sys/class/thermal/thermal_zone0/temp", "48000\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone1/temp", "99000\n"),
            ("sys/class/thermal/thermal_zone1/type", "nvme\n"),
            ("sys/class/hwmon/hwmon0/name", "nvme\n"),
            ("sys/class/hwmon/hwmon3/name", "rpi_volt\n"),
            ("sys/class/hwmon/hwmon3/in0_lcrit_alarm", "1\n"),
        ]);
        let files = SensorFiles {
            thermal: vec!["cpu-thermal".into()],
            throttled: vec!["/sys/nowhere".into(), "hwmon:rpi_volt/in0_lcrit_alarm".into()],
        };
        let sensors = Sensors::find(root.path(), &files);
        assert_eq!((sensors.temperature_c(), sensors.throttled()), (Some(48.0), Some(true)));
        let sensors = Sensors::find(root.path(), &SensorFiles::default());
        assert_eq!((sensors.temperature_c(), sensors.throttled()), (Some(99.0), None));
    }

    #[test]
    fn a_board_without_a_file_keeps_the_name_of_its_model() {
        let root =
            tree(&[("proc/device-tree/model", "Radxa ROCK 5B\0"), ("proc/device-tree/compatible", "radxa,rock-5b\0")]);
        assert_eq!(identify(root.path()).name, "radxa-rock-5b");
    }

    #[test]
    fn names_are_short_and_a_pc_is_generic() {
        assert_eq!(board_name("NVIDIA Jetson Orin Nano Developer Kit", true), "nvidia-jetson-orin-nano");
        assert_eq!(board_name("Raspberry Pi Zero 2 W Rev 1.0", true), "raspberry-pi-zero-2-w");
        assert!(board_name("Some PC", false).starts_with("generic-"));
        let nothing = tree(&[]);
        let sensors = Sensors::find(nothing.path(), &SensorFiles::default());
        assert_eq!((sensors.temperature_c(), sensors.throttled()), (None, None));
        assert!(rss_kb() > 0);
        assert!(identify(nothing.path()).name.starts_with("generic-"));
    }
}
