//! A Raspberry Pi's own A/B start: `autoboot.txt` on the first partition, and a flag in the reboot.
//!
//! From the Raspberry Pi documentation (github.com/raspberrypi/documentation,
//! `documentation/asciidoc/computers/config_txt/autoboot.adoc`):
//!
//! > `autoboot.txt` is limited to 512 bytes and supports the `[all]`, `[none]` and `[tryboot]` conditional filters.
//!
//! > `boot_partition`: Specifies the partition number for booting unless the partition number was already specified as a
//! > parameter to the `reboot` command (e.g. `sudo reboot 2`).
//!
//! > The `[tryboot]` filter: This filter passes if the system was booted with the `tryboot` flag set.
//! > `sudo reboot "0 tryboot"`
//!
//! > `tryboot_a_b`: Set this property to `1` to load the normal `config.txt` and `boot.img` files instead of
//! > `tryboot.txt` and `tryboot.img` when the `tryboot` flag is set.
//!
//! > Normal reboot - partition 2 is still the default boot partition because the `tryboot` flag is automatically
//! > cleared.
//!
//! The file is made by the image builder with exactly 512 bytes and is only ever written in place: one sector of one
//! cluster, which a disk writes whole, so a power cut leaves the old choice or the new. A new file and a rename would
//! change the directory and the FAT as well, and FAT has no journal.

use std::ffi::CStr;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Error, SlotName};

/// Size of the file: one sector, and the most that the firmware reads.
pub const AUTOBOOT_BYTES: usize = 512;

/// Argument of the reboot that starts the `[tryboot]` partition once; `0` is "the default partition".
pub const REBOOT_ARGUMENT: &CStr = c"0 tryboot";

/// The file that starts `committed`, and the other slot when asked to try. Padded with empty lines.
#[must_use]
pub fn autoboot(committed: SlotName) -> [u8; AUTOBOOT_BYTES] {
    let (default, trial) = (committed.boot_partition(), committed.other().boot_partition());
    let text = format!("[all]\ntryboot_a_b=1\nboot_partition={default}\n[tryboot]\nboot_partition={trial}\n");
    let mut file = [b'\n'; AUTOBOOT_BYTES];
    file[..text.len()].copy_from_slice(text.as_bytes());
    file
}

/// Makes `committed` the slot that the firmware starts. The file must be there, on the mounted first partition; it is
/// not written when it says so already.
///
/// # Errors
/// The file cannot be read or written, or has not 512 bytes.
pub(super) fn follow(path: &Path, committed: SlotName) -> Result<(), Error> {
    let failed = |doing| move |cause| Error::Io { path: path.into(), doing, cause };
    let read = || -> io::Result<[u8; AUTOBOOT_BYTES]> {
        let bytes = std::fs::read(path)?;
        let found = bytes.len();
        let other_size =
            |_| io::Error::other(format!("{found} bytes; it is made with {AUTOBOOT_BYTES}, to stay one sector"));
        bytes.try_into().map_err(other_size)
    };
    let wanted = autoboot(committed);
    if read().map_err(failed("read"))? == wanted {
        return Ok(());
    }
    let write = || -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.write_all_at(&wanted, 0)?;
        file.sync_all()
    };
    write().map_err(failed("written"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_that_of_the_documentation() {
        let file = autoboot(SlotName::A);
        let text = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n";
        assert_eq!(std::str::from_utf8(&file).unwrap().trim_end(), text.trim_end());
        assert!(std::str::from_utf8(&autoboot(SlotName::B)).unwrap().contains("=3\n[tryboot]\nboot_partition=2\n"));
    }

    #[test]
    fn the_file_is_changed_in_place_and_only_when_it_must() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("autoboot.txt");
        assert!(matches!(follow(&path, SlotName::A), Err(Error::Io { doing: "read", .. })));
        std::fs::write(&path, autoboot(SlotName::A)).unwrap();
        let inode = std::fs::metadata(&path).unwrap().ino();
        let mut read_only = std::fs::metadata(&path).unwrap().permissions();
        read_only.set_readonly(true);
        std::fs::set_permissions(&path, read_only).unwrap();
        follow(&path, SlotName::A).unwrap();
        let mut writable = std::fs::metadata(&path).unwrap().permissions();
        #[expect(clippy::permissions_set_readonly_false, reason = "a temporary file of this test")]
        writable.set_readonly(false);
        std::fs::set_permissions(&path, writable).unwrap();
        follow(&path, SlotName::B).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), autoboot(SlotName::B));
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode);
        std::fs::write(&path, "[all]\nboot_partition=2\n").unwrap();
        let error = follow(&path, SlotName::B).unwrap_err().to_string();
        assert!(error.contains("23 bytes") && error.contains("512"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap().len(), 23, "left as it was");
    }
}
