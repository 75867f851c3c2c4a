//! A USB stick that brings a bundle of models: mounted read-only, read, and let go of.
//!
//! The bundle is installed by a process of its own, which knows models; here it is only found. A stick that stays in is looked
//! at once, and a bundle that came by one is not taken from it again, so that going back from it lasts.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, umount2};

use super::data::DATA;
use super::events::Reporter;
use super::{CONFIG_PATH, DEVICE_DIR, mounts};
use crate::env;

/// How often it is looked for one: a person waits so long without wondering.
const LOOK: Duration = Duration::from_secs(2);
/// What sticks are formatted with; ext4 may have to replay its journal, which a device that is read-only refuses.
const KINDS: [(&str, &str); 3] = [("vfat", ""), ("exfat", ""), ("ext4", "noload")];
/// Most bundles that are tried of one stick, and most names that are looked at.
const BUNDLES_MAX: usize = 4;
const NAMES_MAX: usize = 1000;
/// Most that is read of what the installation says.
const WORDS_BYTES_MAX: u64 = 16 << 10;

/// Looks for sticks for as long as the machine runs, on a thread of its own. For who has mounted the data partition.
pub fn watch(reporter: &Reporter) {
    let mut seen = BTreeSet::new();
    loop {
        let there = sticks(Path::new("/sys/class/block"));
        for name in there.difference(&seen) {
            look_at(&Path::new("/dev").join(name), reporter);
        }
        // One that was pulled and comes back is looked at again.
        seen = there;
        std::thread::sleep(LOOK);
    }
}

/// Disks and partitions that hang on USB, by name.
fn sticks(class: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(class).into_iter().flatten().take(NAMES_MAX).flatten();
    let on_usb = |path: &Path| {
        let target = fs::read_link(path).unwrap_or_default();
        target.components().any(|part| part.as_os_str().to_string_lossy().starts_with("usb"))
    };
    entries
        .filter(|entry| on_usb(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn look_at(device: &Path, reporter: &Reporter) {
    let place = Path::new(DEVICE_DIR).join("stick");
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let source = device.to_string_lossy();
    let mut mounted = KINDS.iter().map(|(kind, data)| mounts::mount_one(&source, &place, kind, flags, data));
    // A disk whose partitions have the file systems is none itself.
    if !mounted.any(|mounted| mounted.is_ok()) {
        return;
    }
    for bundle in bundles(&place) {
        let name = bundle.strip_prefix(&place).unwrap_or(&bundle).display().to_string();
        reporter.log(format!("stick: {source} has {name}; verifying it"));
        reporter.log(format!("stick: {name}: {}", install(&bundle)));
    }
    if let Err(error) = umount2(&place, MntFlags::MNT_DETACH) {
        reporter.log(format!("stick: {source} cannot be let go of: {error}"));
    } else {
        reporter.log(format!("stick: {source} may be pulled"));
    }
}

/// Bundles at the top of a stick, or in its folder `firstlight`.
fn bundles(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [top.to_path_buf(), top.join("firstlight")] {
        let entries = fs::read_dir(folder).into_iter().flatten().take(NAMES_MAX).flatten();
        let is_file = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file());
        let paths = entries.filter(is_file).map(|entry| entry.path());
        found.extend(
            paths.filter(|path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("flb"))),
        );
    }
    found.sort();
    found.truncate(BUNDLES_MAX);
    found
}

/// Has a bundle installed; what came of it, in words. The loop sees by itself when there is another one.
fn install(bundle: &Path) -> String {
    let mut command = Command::new("/proc/self/exe");
    command.args(["bundle", "install", "--once"]).arg(bundle).stdin(Stdio::null()).stdout(Stdio::null());
    command.env(env::STATE_DIR.name, Path::new(DATA).join("state"));
    if Path::new(CONFIG_PATH).exists() {
        command.env(env::CONFIG.name, CONFIG_PATH);
    }
    let mut child = match command.stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => return format!("not installed: {error}"),
    };
    let mut words = Vec::new();
    // Until it ends; the main loop reaps it, as it does all processes.
    if let Some(said) = child.stderr.take() {
        let _ = said.take(WORDS_BYTES_MAX).read_to_end(&mut words);
    }
    let words = String::from_utf8_lossy(&words);
    words.lines().last().unwrap_or("its installation said nothing").trim_start_matches("firstlight: ").to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_hangs_on_usb_is_a_stick() {
        let class = tempfile::tempdir().unwrap();
        for (name, target) in [
            ("sda", "../../devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host0/target0:0:0/0:0:0:0/block/sda"),
            ("sda1", "../../devices/platform/xhci/usb1/1-1/block/sda/sda1"),
            ("vda", "../../devices/pci0000:00/0000:00:04.0/virtio1/block/vda"),
            ("mmcblk0p7", "../../devices/platform/soc/mmc_host/mmc0/block/mmcblk0/mmcblk0p7"),
        ] {
            symlink(target, class.path().join(name)).unwrap();
        }
        assert_eq!(sticks(class.path()).into_iter().collect::<Vec<_>>(), ["sda", "sda1"]);
        assert!(sticks(Path::new("/nowhere")).is_empty());
    }

    #[test]
    fn bundles_lie_at_the_top_or_in_our_folder() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("firstlight/deeper")).unwrap();
        fs::create_dir(top.path().join("folder.flb")).unwrap();
        for name in ["b.FLB", "a.flb", "a.txt", "firstlight/c.flb", "firstlight/deeper/d.flb"] {
            fs::write(top.path().join(name), "").unwrap();
        }
        symlink("/etc/passwd", top.path().join("link.flb")).unwrap();
        let found: Vec<_> = bundles(top.path());
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(top.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.flb", "b.FLB", "firstlight/c.flb"]);
    }
}
