//! The loop as a process of its own, as PID 1 sees it.
//!
//! A process and not threads: PID 1 must outlive a segmentation fault in a C decoder, an allocation that fails, and the
//! kernel's out-of-memory killer, none of which can be caught inside a process; and what is started anew shall have no
//! memory of what went wrong.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::device::notify::Message;
use crate::log::LINE_BYTES_MAX;

/// Bytes read from a pipe in one turn of the main loop, so that a process that shouts does not hold it up.
const READ_BYTES: usize = 16 * 1024;

/// A process of ours with what it says.
#[derive(Debug)]
pub struct Child {
    pub pid: Pid,
    pub started_at: Instant,
    pub stdout: Lines,
    pub stderr: Lines,
    /// Its last message, and when it last was a sign of life.
    pub message: Message,
    pub alive_at: Instant,
    /// Its last words on stderr: why it ends, when it ends.
    pub last_words: String,
}

impl Child {
    /// Starts a process.
    ///
    /// # Errors
    /// The system gives none.
    pub fn start(command: &mut Command) -> std::io::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let now = Instant::now();
        // Only the number is kept: PID 1 reaps all processes alike, orphans too.
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        Ok(Self {
            pid,
            started_at: now,
            stdout: Lines::over(child.stdout.take().map(Into::into)),
            stderr: Lines::over(child.stderr.take().map(Into::into)),
            message: Message::default(),
            alive_at: now,
            last_words: String::new(),
        })
    }

    /// Takes in what it says of itself.
    pub fn heard(&mut self, message: Message, now: Instant) {
        if message.alive {
            self.alive_at = now;
        }
        if message.state.is_some() {
            self.message = message;
        }
    }

    /// Since when it gives no sign of life.
    #[must_use]
    pub fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.alive_at)
    }

    pub fn signal(&self, signal: Signal) {
        // It may have ended already.
        let _ = kill(self.pid, signal);
    }
}

/// How a process ended, in words.
#[must_use]
pub fn ending(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("ended with exit code {code}"),
        WaitStatus::Signaled(_, signal, _) => format!("was ended by {signal}"),
        other => format!("ended: {other:?}"),
    }
}

/// A pipe that is read line by line without waiting.
#[derive(Debug)]
pub struct Lines {
    pipe: Option<File>,
    partial: Vec<u8>,
}

impl Lines {
    fn over(pipe: Option<OwnedFd>) -> Self {
        // Of a pipe that cannot be made non-blocking nothing is read: waiting for it would be worse.
        let usable = |pipe: &OwnedFd| fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok();
        Self { pipe: pipe.filter(usable).map(File::from), partial: Vec::new() }
    }

    /// The descriptor to wait for, until the other end is closed.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// The lines that have come.
    pub fn read(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buffer = [0; READ_BYTES];
        let Some(Ok(read)) = self.pipe.as_mut().map(|pipe| pipe.read(&mut buffer)) else { return lines };
        if read == 0 {
            self.pipe = None;
        }
        for &byte in &buffer[..read] {
            match byte {
                b'\n' => lines.push(self.line()),
                // A longer line is cut; lines of answers are longer than those of the log, and are forwarded whole.
                _ if self.partial.len() < READ_BYTES => self.partial.push(byte),
                _ => {}
            }
        }
        if self.pipe.is_none() && !self.partial.is_empty() {
            lines.push(self.line());
        }
        lines
    }

    fn line(&mut self) -> String {
        let line = String::from_utf8_lossy(&self.partial).trim_end().to_owned();
        self.partial.clear();
        line
    }
}

/// A line of stderr as it is kept: without the name that every one begins with.
#[must_use]
pub fn plain(line: &str) -> &str {
    let line = line.strip_prefix("firstlight: ").unwrap_or(line);
    &line[..line.floor_char_boundary(LINE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_the_end_is_noticed() {
        let mut command = Command::new("sh");
        command.args(["-c", "printf 'one\\ntw'; sleep 0.1; printf 'o\\nthree'; echo firstlight: words >&2; exit 3"]);
        let mut child = Child::start(&mut command).unwrap();
        let mut lines = Vec::new();
        while child.stdout.fd().is_some() {
            lines.extend(child.stdout.read());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(lines, ["one", "two", "three"]);
        assert_eq!(plain(&child.stderr.read()[0]), "words");
        let status = nix::sys::wait::waitpid(child.pid, None).unwrap();
        assert_eq!(ending(status), "ended with exit code 3");
    }

    #[test]
    fn silence_is_measured_from_the_last_sign_of_life() {
        let mut child = Child::start(&mut Command::new("true")).unwrap();
        let start = child.started_at;
        let second = Duration::from_secs(1);
        child.heard(Message { alive: true, ..Message::default() }, start + 3 * second);
        child.heard(Message::default(), start + 5 * second);
        assert_eq!(child.silent_for(start + 7 * second), 4 * second);
        let _ = nix::sys::wait::waitpid(child.pid, None);
    }
}
