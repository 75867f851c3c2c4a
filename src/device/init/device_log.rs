//! The log of the device: a ring in memory for the prompt, and two files on tmpfs that the HTTP port shows as `/logs`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::clock::Stamp;
use crate::log::{BYTES_MAX, Ring};

/// The newer file, and the one before it.
const NAMES: [&str; 2] = ["log", "log.1"];

/// The lines of PID 1, of the loop it supervises, and the kernel's warnings.
#[derive(Debug)]
pub struct DeviceLog {
    ring: Ring,
    dir: PathBuf,
    /// Bytes in the newer file.
    written: usize,
}

impl DeviceLog {
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { ring: Ring::new(), dir: dir.into(), written: 0 }
    }

    /// Keeps a line, and returns it as it is shown: with the time since the kernel started, and the date when it is
    /// known.
    pub fn push(&mut self, line: &str) -> String {
        let now = Stamp::now();
        let date = if now.clock_set { format!(" {:.0}", now.unix_s) } else { String::new() };
        let line = format!("[{:10.3}{date}] {line}", now.monotonic_s);
        self.ring.push(&line);
        // A full tmpfs loses the copy for HTTP, not the line.
        let _ = self.append(&line);
        line
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> impl Iterator<Item = &str> {
        self.ring.tail(count)
    }

    fn append(&mut self, line: &str) -> std::io::Result<()> {
        if self.written > BYTES_MAX {
            fs::rename(self.dir.join(NAMES[0]), self.dir.join(NAMES[1]))?;
            self.written = 0;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(self.dir.join(NAMES[0]))?;
        self.written += line.len() + 1;
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")
    }
}

/// Both files, the older first; empty where PID 1 is another program.
#[must_use]
pub fn read(dir: &Path) -> String {
    NAMES.iter().rev().filter_map(|name| fs::read_to_string(dir.join(name)).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_bounded_and_hold_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = DeviceLog::new(dir.path());
        for n in 0..5000 {
            log.push(&format!("line {n} of a device that says a lot"));
        }
        let text = read(dir.path());
        assert!(text.len() <= 2 * (BYTES_MAX + 2048), "{} bytes", text.len());
        assert!(text.ends_with("line 4999 of a device that says a lot\n"));
        assert!(log.tail(2).next().unwrap().contains("line 4998"));
    }
}
