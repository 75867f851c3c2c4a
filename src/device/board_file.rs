//! TEMPORARY stand-in, replaced by the boards branch.
#[derive(Debug, Default)]
pub struct BoardFile {
    pub name: String,
    pub modules: Mods,
    pub console: Con,
    pub watchdog: Wd,
    pub storage: St,
}
#[derive(Debug, Default)]
pub struct Mods {
    pub early: Vec<String>,
    pub late: Vec<String>,
}
#[derive(Debug, Default)]
pub struct Con {
    pub device: String,
    pub baud: u32,
}
#[derive(Debug, Default)]
pub struct Wd {
    pub device: String,
    pub timeout_s: u32,
}
#[derive(Debug, Default)]
pub struct St {
    pub disks: Vec<String>,
}
impl BoardFile {
    pub fn of_this_machine() -> Self {
        let v = |s: &str| s.split(' ').map(str::to_owned).collect::<Vec<_>>();
        Self {
            name: "qemu-virt".into(),
            modules: Mods {
                early: v("virtio_pci virtio_mmio virtio_blk squashfs i6300esb"),
                late: v("ext4 virtio_net gpio_keys evdev"),
            },
            console: Con { device: "/dev/ttyAMA0".into(), baud: 115200 },
            watchdog: Wd { device: "/dev/watchdog0".into(), timeout_s: 15 },
            storage: St { disks: v("vda vdb") },
        }
    }
}
