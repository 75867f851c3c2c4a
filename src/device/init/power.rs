//! The end: an orderly restart or power-off, and the power button.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::reboot::{RebootMode, reboot};

use super::events::{Event, Reporter};

/// How long file systems may take to write back; a card that hangs must not keep the machine from restarting.
const SYNC_MAX: Duration = Duration::from_secs(10);

/// How the machine ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Restart,
    /// Restart with a word for the firmware (Raspberry Pi: `0 tryboot`).
    RestartWith(&'static CStr),
    PowerOff,
}

/// Writes everything back, within a bound, and ends the machine. Returns only when the kernel refuses, after which
/// PID 1 can do nothing but stop feeding the watchdog.
pub fn end(end: &End) {
    let (done, wait) = std::sync::mpsc::channel();
    let syncing = crate::thread::spawn("sync", move || {
        nix::unistd::sync();
        let _ = done.send(());
    });
    if syncing.is_ok() {
        let _ = wait.recv_timeout(SYNC_MAX);
    }
    let refused = match end {
        End::Restart => reboot(RebootMode::RB_AUTOBOOT).err(),
        End::PowerOff => reboot(RebootMode::RB_POWER_OFF).err(),
        End::RestartWith(word) => restart_with(word).err(),
    };
    eprintln!("firstlight: the kernel does not restart the machine: {refused:?}");
}

/// `reboot(2)` with an argument, which no wrapper has.
fn restart_with(word: &CStr) -> nix::Result<libc::c_long> {
    // SAFETY: the magic numbers of reboot(2), and a string that outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_reboot,
            libc::LINUX_REBOOT_MAGIC1,
            libc::LINUX_REBOOT_MAGIC2,
            libc::LINUX_REBOOT_CMD_RESTART2,
            word.as_ptr(),
        )
    };
    nix::errno::Errno::result(result)
}

/// `KEY_POWER` of `<linux/input-event-codes.h>`, and `EV_KEY`.
const KEY_POWER: u16 = 116;
const EV_KEY: u16 = 1;
/// `struct input_event` where `long` has 64 bits: two times of 8 bytes, then type, code and value.
const INPUT_EVENT_BYTES: usize = 24;
/// Buttons appear with their kernel modules, some seconds after the start, and with a USB plug.
const LOOK_AGAIN_MS: u16 = 5000;
/// Most input devices looked at.
const INPUTS_MAX: usize = 32;

/// Reports each press of a power button, for ever.
pub fn watch_buttons(reporter: &Reporter) {
    loop {
        let mut buttons: Vec<File> = (0..INPUTS_MAX).filter(|&n| has_power_key(n)).filter_map(open).collect();
        let mut waited: Vec<PollFd> = buttons.iter().map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN)).collect();
        let ready = nix::poll::poll(&mut waited, PollTimeout::from(LOOK_AGAIN_MS)).unwrap_or(0);
        if ready == 0 {
            continue;
        }
        let pressed = buttons.iter_mut().any(|button| {
            let mut event = [0; INPUT_EVENT_BYTES * 16];
            // Descriptors are non-blocking: one without an event answers at once.
            let read = button.read(&mut event).unwrap_or(0);
            event[..read].chunks_exact(INPUT_EVENT_BYTES).any(is_press)
        });
        if pressed {
            reporter.send(Event::PowerButton);
        }
    }
}

fn open(n: usize) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options.open(format!("/dev/input/event{n}")).ok()
}

/// The key bitmap is words of 64 bits in hex, the lowest last.
fn has_power_key(n: usize) -> bool {
    let path = format!("/sys/class/input/event{n}/device/capabilities/key");
    std::fs::read_to_string(Path::new(&path)).is_ok_and(|text| bitmap_has(&text, KEY_POWER))
}

fn bitmap_has(text: &str, bit: u16) -> bool {
    let word = text.split_whitespace().rev().nth(usize::from(bit / 64));
    word.and_then(|word| u64::from_str_radix(word, 16).ok()).is_some_and(|word| word >> (bit % 64) & 1 == 1)
}

fn is_press(event: &[u8]) -> bool {
    let number = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
    number(16) == EV_KEY && number(18) == KEY_POWER && number(20) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_button_is_told_from_a_mouse() {
        assert!(bitmap_has("10000000000000 0", KEY_POWER));
        assert!(!bitmap_has("1f0000 0 0 0 0", KEY_POWER));
        assert!(!bitmap_has("", KEY_POWER));
        let mut event = [0_u8; INPUT_EVENT_BYTES];
        event[16] = 1;
        event[18] = 116;
        assert!(!is_press(&event), "a release");
        event[20] = 1;
        assert!(is_press(&event));
    }
}
