//! Which slot was started, as the boot loader told the kernel.

use std::path::Path;

use super::{Mechanism, SlotName};

/// The slot that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    pub slot: SlotName,
    /// The loader started it for this boot only.
    pub trial: bool,
    /// Who said so, and so who decides at the next boot.
    pub mechanism: Mechanism,
}

/// Reads the running slot from the tree at `root`: `firstlight.slot=` and `firstlight.trial=` on the kernel command line
/// (U-Boot), else the partition and the flag that a Raspberry Pi's firmware leaves in the device tree. `None` when
/// neither says: the system was not started from a slot.
#[must_use]
pub fn running_slot(root: &Path) -> Option<Running> {
    let command_line = std::fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
    let argument = |key: &str| command_line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key));
    if let Some(slot) = argument("firstlight.slot=").and_then(|slot| slot.parse().ok()) {
        return Some(Running { slot, trial: argument("firstlight.trial=") == Some("1"), mechanism: Mechanism::UBoot });
    }
    let node = root.join("proc/device-tree/chosen/bootloader");
    let number = |property: &str| {
        let bytes = std::fs::read(node.join(property)).ok()?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let partition = number("partition")?;
    let slot = [SlotName::A, SlotName::B].into_iter().find(|slot| u32::from(slot.boot_partition()) == partition)?;
    Some(Running { slot, trial: number("tryboot") == Some(1), mechanism: Mechanism::Tryboot })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(command_line: &str, partition: &[u8], tryboot: &[u8]) -> Option<Running> {
        let root = tempfile::tempdir().unwrap();
        let node = root.path().join("proc/device-tree/chosen/bootloader");
        std::fs::create_dir_all(&node).unwrap();
        std::fs::write(root.path().join("proc/cmdline"), command_line).unwrap();
        std::fs::write(node.join("partition"), partition).unwrap();
        std::fs::write(node.join("tryboot"), tryboot).unwrap();
        running_slot(root.path())
    }

    #[test]
    fn the_command_line_says_it_first() {
        let line = "console=ttyAMA0 firstlight.slot=B firstlight.trial=1 panic=5\n";
        let told = Running { slot: SlotName::B, trial: true, mechanism: Mechanism::UBoot };
        assert_eq!(running(line, &[0, 0, 0, 2], &[]), Some(told));
        let line = "firstlight.slot=A firstlight.trial=0";
        let told = Running { slot: SlotName::A, trial: false, mechanism: Mechanism::UBoot };
        assert_eq!(running(line, &[], &[]), Some(told));
    }

    #[test]
    fn a_pis_firmware_says_it_in_the_device_tree() {
        let told = |slot, trial| Some(Running { slot, trial, mechanism: Mechanism::Tryboot });
        assert_eq!(running("quiet", &[0, 0, 0, 2], &[0, 0, 0, 0]), told(SlotName::A, false));
        assert_eq!(running("firstlight.slot=C", &[0, 0, 0, 3], &[0, 0, 0, 1]), told(SlotName::B, true));
        for odd in [&[][..], &[0, 0, 0, 1], &[3], &[0, 0, 0, 3, 0]] {
            assert_eq!(running("", odd, &[]), None, "{odd:?}");
        }
        assert_eq!(running_slot(Path::new("/nowhere")), None);
    }
}
