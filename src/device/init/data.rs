//! The data partition: the only thing that is written. Without it the device sees, degraded.

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::MsFlags;
use nix::sys::statvfs::{FsFlags, statvfs};

use super::events::{Event, Part, Reporter};
use super::mounts;
use crate::config::DataConfig;

/// Its number in the image.
pub const PARTITION: u32 = 7;
/// Where the partition is mounted.
pub const DATA: &str = "/data";
/// A freshly made file system of the partition's size: what reformatting writes.
const TEMPLATE: &str = "/data.ext4";
const KIND: &str = "ext4";
/// How long the partition may take to appear: a slow card behind a module that is still being loaded.
const APPEAR_MAX: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);
/// How often the mounted partition is looked at.
const CHECK_EVERY: Duration = Duration::from_secs(15);
/// Below this share of free space the partition is in trouble: a spool of ours never fills it, so something else does.
const FREE_SHARE_MIN: f64 = 0.02;

/// Everything about the partition for as long as the machine runs, on a thread of its own: `mounted` is told once it is.
pub fn keep(reporter: &Reporter, config: &DataConfig, partition: &Path, mounted: impl FnOnce(&Reporter)) {
    let mut mounted = Some(mounted);
    let mut reformat = config.reformat;
    loop {
        match mount(partition, reformat, reporter) {
            Ok(()) => break,
            Err(problem) => reporter.problem(Part::Data, Some(format!("{problem}; nothing is kept"))),
        }
        // Once is enough: a partition that does not take a new file system is broken hardware.
        reformat = false;
        std::thread::sleep(CHECK_EVERY);
    }
    reporter.problem(Part::Data, None);
    if let Some(mounted) = mounted.take() {
        mounted(reporter);
    }
    let mut last = None;
    loop {
        let problem = trouble(partition);
        if problem != last {
            reporter.problem(Part::Data, problem.clone());
            last = problem;
        }
        std::thread::sleep(CHECK_EVERY);
    }
}

fn mount(partition: &Path, reformat: bool, reporter: &Reporter) -> Result<(), String> {
    let deadline = Instant::now() + APPEAR_MAX;
    while !partition.exists() {
        if Instant::now() > deadline {
            return Err(format!("{} is not there", partition.display()));
        }
        std::thread::sleep(LOOK);
    }
    let first = match try_mount(partition) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    if !reformat {
        return Err(format!("{first}; `device.data.reformat = true` would write a new file system"));
    }
    reporter.log(format!("data: {first}; writing a new file system, what was there is lost"));
    let written = write_template(Path::new(TEMPLATE), partition);
    written.map_err(|error| format!("a new file system cannot be written to {}: {error}", partition.display()))?;
    try_mount(partition)
}

/// Mounts (ext4 replays its journal by itself) and checks that it takes a write.
fn try_mount(partition: &Path) -> Result<(), String> {
    let flags = MsFlags::MS_NOATIME | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let source = partition.to_string_lossy();
    // A file system that finds itself damaged stops taking writes, and says so, instead of going on.
    mounts::mount_one(&source, Path::new(DATA), KIND, flags, "errors=remount-ro").map_err(|error| error.to_string())?;
    let probe = Path::new(DATA).join("state/.probe");
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(Path::new(DATA).join("state"))?;
        let mut file = fs::File::create(&probe)?;
        file.write_all(b"firstlight")?;
        file.sync_all()?;
        fs::remove_file(&probe)
    };
    write().map_err(|error| {
        let _ = nix::mount::umount(DATA);
        format!("{} does not take a write: {error}", partition.display())
    })
}

/// What is wrong with the mounted partition.
fn trouble(partition: &Path) -> Option<String> {
    let name = partition.file_name()?.to_string_lossy().into_owned();
    let errors = fs::read_to_string(Path::new("/sys/fs/ext4").join(name).join("errors_count"));
    let errors = errors.ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
    let state = statvfs(DATA).ok()?;
    if state.flags().contains(FsFlags::ST_RDONLY) {
        return Some(format!("the file system found {errors} errors in itself and takes no more writes"));
    }
    if errors > 0 {
        return Some(format!("the file system found {errors} errors in itself"));
    }
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let free = state.blocks_available() as f64 / state.blocks().max(1) as f64;
    (free < FREE_SHARE_MIN).then(|| format!("{:.0} % full", (1.0 - free) * 100.0))
}

/// Copies `template` to `partition`, holes as zeros: the file system relies on what it says is zero.
fn write_template(template: &Path, partition: &Path) -> std::io::Result<()> {
    let mut from = fs::File::open(template)?;
    let mut to = fs::OpenOptions::new().write(true).open(partition)?;
    std::io::copy(&mut from, &mut to)?;
    to.sync_all()?;
    reread_partition(&to);
    Ok(())
}

/// Drops what the kernel has cached of the device, so that the next mount reads what was written.
fn reread_partition(device: &fs::File) {
    nix::ioctl_none!(flush_buffers, 0x12, 97);
    // SAFETY: an open descriptor and a call without arguments; a plain file answers ENOTTY.
    let _ = unsafe { flush_buffers(device.as_raw_fd()) };
}

/// The path of partition `number` of a disk: `/dev/vda` and 7 are `/dev/vda7`, `/dev/mmcblk0` and 7 `/dev/mmcblk0p7`.
#[must_use]
pub fn partition(disk: &Path, number: u32) -> PathBuf {
    let name = disk.to_string_lossy();
    let infix = if name.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    format!("{name}{infix}{number}").into()
}

/// Why the machine restarted, remembered on the data partition.
pub mod resets {
    use std::path::Path;
    use std::sync::{Mutex, PoisonError};

    use serde::{Deserialize, Serialize};

    use super::{DATA, Event, Reporter};
    use crate::durable;
    use crate::pipeline::status::RESETS_MAX;

    const NAME: &str = "state/boots.json";
    /// A file larger than this is not one.
    const BYTES_MAX: u64 = 16 * 1024;

    /// The file: the boot that wrote it, and why those before it ended.
    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Boots {
        boot_id: String,
        /// Why this boot is about to end, when it knows.
        ending: Option<String>,
        /// Newest first.
        resets: Vec<String>,
    }

    /// Learns how the boot before ended, from what it left and from the watchdog's flags, and begins this one.
    pub fn begin(reporter: &Reporter, boot_id: &str, flags: &[&str]) {
        let path = Path::new(DATA).join(NAME);
        let read = durable::read_bounded(&path, BYTES_MAX).ok().flatten();
        let before: Option<Boots> = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let resets = history(before, boot_id, flags);
        reporter.send(Event::Resets(resets.clone()));
        write(reporter, &Boots { boot_id: boot_id.into(), ending: None, resets });
    }

    /// Notes why this boot is about to end. With `None` the note is taken back.
    pub fn note_ending(reporter: &Reporter, boot_id: &str, why: Option<&str>, resets: &[String]) {
        let ending = why.map(str::to_owned);
        write(reporter, &Boots { boot_id: boot_id.into(), ending, resets: resets.to_vec() });
    }

    /// One at a time: a note of the main loop may meet another, or the begin.
    fn write(reporter: &Reporter, boots: &Boots) {
        static WRITING: Mutex<()> = Mutex::new(());
        let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let path = Path::new(DATA).join(NAME);
        let bytes = serde_json::to_vec(boots).expect("strings are JSON");
        if let Err(error) = durable::write_durably(&path, &bytes) {
            reporter.log(format!("data: {error}"));
        }
    }

    /// The list with the latest end in front.
    fn history(before: Option<Boots>, boot_id: &str, flags: &[&str]) -> Vec<String> {
        let flagged = flags.join(", ");
        let Some(before) = before else {
            return if flagged.is_empty() { Vec::new() } else { vec![flagged] };
        };
        let mut resets = before.resets;
        if before.boot_id != boot_id {
            let latest = match (flagged.as_str(), before.ending) {
                ("", Some(ending)) => ending,
                ("", None) => "power loss, or a crash without a word".into(),
                (flagged, Some(ending)) => format!("{flagged}: {ending}"),
                (flagged, None) => flagged.into(),
            };
            resets.insert(0, latest);
        }
        resets.truncate(RESETS_MAX);
        resets
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn boots(ending: Option<&str>) -> Option<Boots> {
            let resets = (0..RESETS_MAX).map(|n| format!("older {n}")).collect();
            Some(Boots { boot_id: "one".into(), ending: ending.map(str::to_owned), resets })
        }

        #[test]
        fn the_end_of_the_boot_before_is_told() {
            assert_eq!(history(boots(Some("asked over HTTP")), "two", &[])[0], "asked over HTTP");
            assert_eq!(
                history(boots(Some("no frame for 12 s")), "two", &["watchdog"])[0],
                "watchdog: no frame for 12 s"
            );
            assert_eq!(history(boots(None), "two", &["watchdog"])[0], "watchdog");
            assert!(history(boots(None), "two", &[])[0].contains("power loss"));
            assert_eq!(history(boots(None), "two", &[]).len(), RESETS_MAX);
            assert_eq!(history(boots(None), "one", &[])[0], "older 0", "the same boot, read twice");
            assert!(history(None, "two", &[]).is_empty());
            assert_eq!(history(None, "two", &["watchdog"]), ["watchdog"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_as_the_kernel_names_them() {
        assert_eq!(partition(Path::new("/dev/vda"), 7), Path::new("/dev/vda7"));
        assert_eq!(partition(Path::new("/dev/mmcblk0"), 5), Path::new("/dev/mmcblk0p5"));
        assert_eq!(partition(Path::new("/dev/nvme0n1"), 5), Path::new("/dev/nvme0n1p5"));
    }

    #[test]
    fn a_template_is_copied_with_its_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (template, partition) = (dir.path().join("template"), dir.path().join("partition"));
        let mut file = fs::File::create(&template).unwrap();
        file.write_all(&[7; 5000]).unwrap();
        file.set_len(1 << 20).unwrap();
        fs::write(&partition, vec![1; 2 << 20]).unwrap();
        write_template(&template, &partition).unwrap();
        let written = fs::read(&partition).unwrap();
        assert_eq!(written[..5000], [7; 5000]);
        assert!(written[5000..1 << 20].iter().all(|&byte| byte == 0), "what was there before must not shine through");
        assert_eq!(written[1 << 20], 1);
    }
}
