//! `/dev/watchdog`: hardware that restarts the machine unless it is fed (Linux, `Documentation/watchdog/watchdog-api`).
//!
//! Opening it arms it. It is fed only by whoever knows that frames flow, so a dead camera, a hung engine, a crashed
//! loop and a frozen kernel all end the same way: a restart, within the timeout.
//! May not know: what a frame is.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::libc;

/// What can go wrong with the watchdog.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("watchdog {device}: cannot be opened: {cause}; is its kernel module loaded?", device = .device.display())]
    Open { device: PathBuf, cause: std::io::Error },
    #[error("watchdog: cannot be fed: {0}")]
    Feed(std::io::Error),
}

/// `struct watchdog_info` of `<linux/watchdog.h>`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Info {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

mod ioctl {
    use super::{Info, libc};
    nix::ioctl_read!(get_support, b'W', 0, Info);
    nix::ioctl_read!(get_boot_status, b'W', 2, libc::c_int);
    nix::ioctl_read!(keep_alive, b'W', 5, libc::c_int);
    nix::ioctl_readwrite!(set_timeout, b'W', 6, libc::c_int);
    nix::ioctl_readwrite!(set_pretimeout, b'W', 8, libc::c_int);
}

/// Bits of `options` and of the boot status.
const WDIOF_OVERHEAT: u32 = 0x0001;
const WDIOF_POWERUNDER: u32 = 0x0010;
const WDIOF_CARDRESET: u32 = 0x0020;
const WDIOF_POWEROVER: u32 = 0x0040;
const WDIOF_MAGICCLOSE: u32 = 0x0100;
const WDIOF_PRETIMEOUT: u32 = 0x0200;

/// An armed watchdog. Dropping it without [`Watchdog::disarm`] leaves it armed, which is what a crash must do.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
    options: u32,
    /// What the hardware took, seconds.
    timeout_s: u32,
    pretimeout_s: Option<u32>,
    identity: String,
    /// Cannot be disarmed any more, by the kernel's or the driver's setting.
    no_way_out: bool,
}

impl Watchdog {
    /// Opens and arms a watchdog. The hardware may take another timeout than the wanted one: see
    /// [`Watchdog::description`].
    ///
    /// # Errors
    /// There is none, or somebody else holds it.
    pub fn open(device: &Path, timeout_s: u32) -> Result<Self, Error> {
        let file = OpenOptions::new().write(true).open(device);
        let file = file.map_err(|cause| Error::Open { device: device.into(), cause })?;
        Ok(Self::over(file, device, timeout_s))
    }

    /// Takes over a watchdog that was opened before this program was executed in place of another.
    ///
    /// # Safety
    /// `fd` is an open descriptor of a watchdog that nothing else in this process owns.
    pub unsafe fn inherit(fd: RawFd, device: &Path, timeout_s: u32) -> Self {
        // SAFETY: the caller hands over the descriptor.
        let file = unsafe { File::from_raw_fd(fd) };
        Self::over(file, device, timeout_s)
    }

    fn over(file: File, device: &Path, timeout_s: u32) -> Self {
        let fd = file.as_raw_fd();
        let mut info = Info::default();
        // SAFETY: an open descriptor and a structure of the kernel's layout; a driver without the call answers ENOTTY.
        let _ = unsafe { ioctl::get_support(fd, &raw mut info) };
        let set = |wanted: u32, call: unsafe fn(RawFd, *mut libc::c_int) -> nix::Result<libc::c_int>| {
            let mut seconds = libc::c_int::try_from(wanted).unwrap_or(libc::c_int::MAX);
            // SAFETY: as above, with an int that the kernel reads and writes.
            unsafe { call(fd, &raw mut seconds) }.ok().and_then(|_| u32::try_from(seconds).ok())
        };
        let timeout_s = set(timeout_s, ioctl::set_timeout).unwrap_or(timeout_s);
        // A third before the end: long enough that the log still leaves over the serial line.
        let pretimeout_s = (info.options & WDIOF_PRETIMEOUT != 0)
            .then(|| set((timeout_s / 3).max(1), ioctl::set_pretimeout))
            .flatten();
        let name: Vec<u8> = info.identity.iter().copied().take_while(|&byte| byte != 0).collect();
        Self {
            no_way_out: no_way_out(device),
            device: file,
            options: info.options,
            timeout_s,
            pretimeout_s,
            identity: String::from_utf8_lossy(&name).into_owned(),
        }
    }

    /// Puts off the restart by another timeout.
    ///
    /// # Errors
    /// The driver refuses; the machine will restart.
    pub fn feed(&mut self) -> Result<(), Error> {
        let mut unused = 0;
        // SAFETY: an open descriptor and an int that outlives the call.
        match unsafe { ioctl::keep_alive(self.device.as_raw_fd(), &raw mut unused) } {
            Ok(_) => Ok(()),
            // Old drivers know the write only; any byte but the magic one feeds.
            Err(_) => self.device.write_all(b"f").map_err(Error::Feed),
        }
    }

    /// Why the machine last restarted, as far as this hardware knows.
    #[must_use]
    pub fn boot_status(&self) -> Vec<&'static str> {
        let mut flags = 0;
        // SAFETY: an open descriptor and an int that the kernel writes.
        if unsafe { ioctl::get_boot_status(self.device.as_raw_fd(), &raw mut flags) }.is_err() {
            return Vec::new();
        }
        words(u32::try_from(flags).unwrap_or(0))
    }

    /// Stops the watchdog by the magic close, before an orderly power-off. Says whether it stopped: one that has no
    /// way out, or no magic close, stays armed.
    pub fn disarm(mut self) -> bool {
        let stops = self.options & WDIOF_MAGICCLOSE != 0 && !self.no_way_out;
        stops && self.device.write_all(b"V").is_ok()
    }

    /// One line for the log.
    #[must_use]
    pub fn description(&self) -> String {
        let pretimeout = self.pretimeout_s.map(|s| format!(", warns {s} s before")).unwrap_or_default();
        let way_out = if self.no_way_out { ", no way out" } else { "" };
        format!("watchdog armed: {}, {} s{pretimeout}{way_out}", self.identity, self.timeout_s)
    }

    /// The descriptor, to be handed to the program that is executed in place of this one. The watchdog stays armed.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.device.into()
    }
}

/// `/sys/class/watchdog/watchdogN/nowayout` of `/dev/watchdogN`; the plain `/dev/watchdog` is number 0.
fn no_way_out(device: &Path) -> bool {
    let name = device.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = if name == "watchdog" { "watchdog0".to_owned() } else { name };
    let setting = std::fs::read_to_string(Path::new("/sys/class/watchdog").join(name).join("nowayout"));
    setting.is_ok_and(|text| text.trim() == "1")
}

fn words(flags: u32) -> Vec<&'static str> {
    [
        (WDIOF_CARDRESET, "watchdog"),
        (WDIOF_OVERHEAT, "overheat"),
        (WDIOF_POWERUNDER, "under-voltage"),
        (WDIOF_POWEROVER, "over-voltage"),
    ]
    .into_iter()
    .filter(|(flag, _)| flags & flag != 0)
    .map(|(_, word)| word)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_status_in_words() {
        assert_eq!(words(WDIOF_CARDRESET | WDIOF_OVERHEAT | 0x8000), ["watchdog", "overheat"]);
        assert!(words(0).is_empty());
    }

    #[test]
    fn what_is_no_watchdog_is_said() {
        let message = Watchdog::open(Path::new("/nowhere/watchdog0"), 15).unwrap_err().to_string();
        assert!(message.contains("/nowhere/watchdog0") && message.contains("module"), "{message}");
        assert!(!no_way_out(Path::new("/nowhere/watchdog9")));
    }
}
