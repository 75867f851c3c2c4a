//! The serial console of PID 1: what is said goes out as the line allows, what is typed comes in, and neither waits.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Instant;

use crate::device::prompt::{Command, Prompt};
use crate::tty;

/// Bytes that may wait for the line: three seconds at 115,200 baud. What does not fit is dropped, whole lines at a time.
const QUEUE_BYTES_MAX: usize = 32 * 1024;
/// Taken up again for people when nobody types.
const FALLBACK: &str = "/dev/console";

/// The port with its queue.
#[derive(Debug)]
pub struct Console {
    port: Option<File>,
    queue: VecDeque<u8>,
    dropped: u64,
    prompt: Prompt,
}

impl Console {
    /// Opens the board's console, else the kernel's; with neither the device is mute, and sees all the same.
    /// The second value says what went wrong.
    #[must_use]
    pub fn open(device: &Path, baud: u32) -> (Self, Option<String>) {
        let (port, problem) = match tty::open(device, baud) {
            Ok(port) => (Some(port), None),
            Err(error) => (tty::open(Path::new(FALLBACK), baud).ok(), Some(error.to_string())),
        };
        (Self { port, queue: VecDeque::new(), dropped: 0, prompt: Prompt::default() }, problem)
    }

    /// The descriptor to wait for, and whether something waits to be written.
    #[must_use]
    pub fn fd(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.port.as_ref().map(|port| (port.as_fd(), !self.queue.is_empty()))
    }

    /// Queues a line that a person should see, unless somebody is typing and it can wait (it is in the log as well).
    pub fn say(&mut self, line: &str, now: Instant) {
        if !self.prompt.is_open(now) {
            self.push(line);
        }
    }

    /// Queues a line of an answer.
    pub fn push(&mut self, line: &str) {
        if !self.fits(line.len() + 2) {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            let note = format!("({} lines did not fit the line's speed)\r\n", self.dropped);
            self.dropped = 0;
            self.queue.extend(note.as_bytes());
        }
        self.queue.extend(line.as_bytes());
        self.queue.extend(b"\r\n");
        self.flush();
    }

    /// Shows the prompt again after an answer.
    pub fn show_prompt(&mut self) {
        self.offer(self.prompt.text().as_bytes());
    }

    fn fits(&self, bytes: usize) -> bool {
        self.queue.len() + bytes <= QUEUE_BYTES_MAX
    }

    /// Queues echo and prompt, which a line that takes nothing may lose: typing at it must not make memory.
    fn offer(&mut self, bytes: &[u8]) {
        if self.fits(bytes.len()) {
            self.queue.extend(bytes);
        }
        self.flush();
    }

    /// Writes what the port takes now.
    pub fn flush(&mut self) {
        let Some(port) = &mut self.port else { return self.queue.clear() };
        while !self.queue.is_empty() {
            let (front, _) = self.queue.as_slices();
            match port.write(front) {
                Ok(written) => drop(self.queue.drain(..written)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // A console that fails (a USB adapter pulled out) has nobody to tell.
                Err(_) => return self.queue.clear(),
            }
        }
    }

    /// Takes what was typed, and returns the commands in it.
    pub fn read(&mut self, now: Instant) -> Vec<Command> {
        let mut typed = [0; 64];
        let Some(Ok(read)) = self.port.as_mut().map(|port| port.read(&mut typed)) else { return Vec::new() };
        let (echo, commands) = self.prompt.feed(&typed[..read], now);
        self.offer(&echo);
        commands
    }
}
