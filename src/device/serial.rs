//! The serial line of a process that is not PID 1: `FIRSTLIGHT {…}` every few seconds and at once when the state
//! changes, and a short prompt on Enter.
//!
//! A cable that nobody reads must not hold up anything: the port is opened non-blocking, and a line that cannot be
//! written within a bound is given up.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command as Process;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::notify::{self, Ask};
use super::prompt::{self, Command, Prompt};
use crate::config::{self, SerialConfig};
use crate::log;
use crate::pipeline::Telemetry;
use crate::pipeline::status::{RENDERED_BYTES_MAX, State};
use crate::tty::{self, Error, write_within};

/// How often a change of state and a key are looked for.
const LOOK: Duration = Duration::from_millis(100);
/// A line of 1 kB takes 90 ms at 115,200 baud; a port that takes ten times longer is not being read.
const WRITE_MAX: Duration = Duration::from_secs(1);
/// Before each status document.
pub const PREFIX: &str = "FIRSTLIGHT ";
/// Lines of the log that a person is shown.
pub const LOG_LINES: usize = 40;

/// The thread that writes; ends when dropped, after a last line.
#[derive(Debug)]
pub struct SerialLine {
    stop: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SerialLine {
    /// Opens the configured device and starts writing.
    ///
    /// # Errors
    /// The device cannot be opened or set up, or the system gives no thread.
    pub fn start(device: &Path, config: &SerialConfig, telemetry: Arc<Telemetry>) -> Result<Self, Error> {
        let port = tty::open(device, config.baud)?;
        let interval = config::seconds(config.interval_s);
        let (stop, stopped) = mpsc::sync_channel(1);
        let mut line = Line { port, telemetry, prompt: Prompt::default() };
        let thread = crate::thread::spawn("serial", move || {
            let mut state: Option<State> = None;
            let mut due = Instant::now();
            loop {
                line.answer();
                let now = Some(line.telemetry.health().state);
                if (now != state || Instant::now() >= due) && !line.prompt.is_open(Instant::now()) {
                    state = now;
                    due = Instant::now() + interval;
                    line.write_status();
                }
                if stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                    line.write_status();
                    return;
                }
            }
        });
        let thread = thread.map_err(|cause| Error::Open { device: device.into(), cause })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for SerialLine {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // Ends within LOOK and a few bounded writes; a self-test in hand is bounded as well.
            let _ = thread.join();
        }
    }
}

/// The port and who may be typing at it.
struct Line {
    port: File,
    telemetry: Arc<Telemetry>,
    prompt: Prompt,
}

impl Line {
    fn write(&mut self, text: &str) {
        // Given up when nobody reads: the next line is fresher.
        let _ = write_within(&mut self.port, &mut text.as_bytes(), Instant::now() + WRITE_MAX);
    }

    /// One line, or as much of it as the port takes in time. Raw mode needs the carriage return.
    fn write_status(&mut self) {
        let document = self.document();
        self.write(&format!("{PREFIX}{document}\r\n"));
    }

    fn document(&self) -> String {
        let mut buffer = [0; RENDERED_BYTES_MAX];
        String::from_utf8_lossy(self.telemetry.status().render(&mut buffer)).into_owned()
    }

    /// Answers what was typed since the last look.
    fn answer(&mut self) {
        let mut typed = [0; 64];
        let Ok(read) = self.port.read(&mut typed) else { return };
        let (echo, commands) = self.prompt.feed(&typed[..read], Instant::now());
        self.write(&String::from_utf8_lossy(&echo));
        for command in commands {
            for line in self.lines(&command) {
                self.write(&format!("{line}\r\n"));
            }
            let prompt = self.prompt.text();
            self.write(prompt);
        }
    }

    fn lines(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Status | Command::Slot => prompt::summary(&self.document()),
            Command::Log => log::tail(LOG_LINES),
            Command::Selftest => selftest_output(),
            Command::Reboot => vec![reboot()],
            Command::Help => vec![prompt::HELP.into()],
            Command::Unknown(word) => vec![format!("`{word}`? {}", prompt::HELP)],
        }
    }
}

fn reboot() -> String {
    notify::ask(Ask::Reboot).map_or_else(|error| format!("not restarted: {error}"), |()| "restarting".into())
}

/// The self-test as a process of its own, so that it cannot harm the loop; short, and at the lowest priority.
#[must_use]
pub fn selftest() -> Process {
    use std::os::unix::process::CommandExt;
    let mut process = Process::new("/proc/self/exe");
    process.args(["selftest", "--frames", "4", "--threads", "1"]);
    let lowest = || {
        // SAFETY: a system call without pointers, which POSIX allows between fork and exec.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
        Ok(())
    };
    // SAFETY: the closure makes one system call and touches nothing of the parent.
    unsafe { process.pre_exec(lowest) };
    process
}

fn selftest_output() -> Vec<String> {
    match selftest().output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
        }
        Err(error) => vec![format!("selftest: cannot be started: {error}")],
    }
}
