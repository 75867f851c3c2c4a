//! One worker: started from memory, asked with a deadline, killed when it does not keep it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::protocol::{Channel, Reply, Request};
use super::{embedded, nursery};

/// How the worker is started, and what it may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The program that loads the worker, with its arguments, such as `/opt/glibc/lib/ld-linux-aarch64.so.1 --library-path
    /// /opt/glibc/lib`; none: the one that the system has for glibc's programs.
    pub loader: Vec<String>,
    /// Memory that it may fill with data.
    pub memory_bytes: u64,
}

/// The system's loader of glibc's programs.
#[cfg(target_arch = "aarch64")]
const SYSTEM_LOADER: &str = "/lib/ld-linux-aarch64.so.1";
#[cfg(not(target_arch = "aarch64"))]
const SYSTEM_LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
/// Files that a driver opens for a GPU, with room.
const FILES_OPEN_MAX: u64 = 1024;
/// What a worker's last words may be worth in a reason.
const LAST_WORDS_BYTES_MAX: usize = 300;

/// Why a worker did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It lives, and says why not.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Lost(String),
}

/// A running worker; killed when dropped.
#[derive(Debug)]
pub struct Process {
    socket: OwnedFd,
    channel: Channel,
    /// Until it is buried.
    child: Option<Child>,
    stderr: File,
}

impl Process {
    /// Starts one.
    ///
    /// # Errors
    /// This build has none, or it cannot be started here.
    pub fn start(start: &Start) -> Result<Self, String> {
        let program = embedded::program()?;
        if start.loader.is_empty() && !Path::new(SYSTEM_LOADER).exists() {
            return Err(format!("no {SYSTEM_LOADER} here: engine.loader names the loader of glibc's programs"));
        }
        Self::spawn(program, start).map_err(|error| format!("the worker cannot be started: {error}"))
    }

    fn spawn(program: BorrowedFd<'static>, start: &Start) -> io::Result<Self> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let (stderr, words) = io::pipe()?;
        // What it says is for its last words: it must not wait for a reader, and we not for it.
        for end in [stderr.as_fd(), words.as_fd()] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let path = format!("/proc/self/fd/{}", program.as_raw_fd());
        let mut command = match start.loader.split_first() {
            None => Command::new(path),
            Some((loader, arguments)) => {
                let mut command = Command::new(loader);
                command.args(arguments).arg(path);
                command
            }
        };
        // Its socket is its standard input.
        command.stdin(theirs).stdout(Stdio::null()).stderr(words);
        let (program, memory) = (program.as_raw_fd(), start.memory_bytes);
        // SAFETY: between fork and exec only system calls are made, which take numbers and allocate nothing.
        unsafe { command.pre_exec(move || prepare(program, memory)) };
        let child = nursery::start(command)?;
        Ok(Self {
            socket: ours,
            channel: Channel::default(),
            child: Some(child),
            stderr: File::from(OwnedFd::from(stderr)),
        })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// It refuses, or it has gone, hangs or speaks nonsense: then it is killed.
    pub fn ask(&mut self, request: &Request, files: &[BorrowedFd<'_>], limit: Duration) -> Result<Reply, Failure> {
        self.tell(request, files)?;
        self.answer(Instant::now() + limit)
    }

    /// Asks, and does not wait.
    ///
    /// # Errors
    /// It has gone, or takes nothing any more.
    pub fn tell(&mut self, request: &Request, files: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        let sent = self.channel.send(self.socket.as_fd(), request, files);
        sent.map_err(|error| self.lost(&format!("it takes no request: {error}")))
    }

    /// Waits for the answer to what it was told.
    ///
    /// # Errors
    /// As [`Process::ask`].
    pub fn answer(&mut self, deadline: Instant) -> Result<Reply, Failure> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.lost("it did not answer in time"));
            }
            // A part of a millisecond is one.
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) | Err(nix::Error::EINTR) => {}
                Ok(_) => break,
                Err(error) => return Err(self.lost(&format!("waiting for it: {error}"))),
            }
        }
        match self.channel.receive::<Reply>(self.socket.as_fd()) {
            Ok((Reply::Failed { why }, _)) => Err(Failure::Refused(why)),
            Ok((reply, _)) => Ok(reply),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.lost("it ended")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(self.lost("it ended")),
            Err(error) => Err(self.lost(&format!("it said what is no answer: {error}"))),
        }
    }

    /// Kills it, and says why with how it ended, where it ended by itself, and its last words.
    pub fn lost(&mut self, why: &str) -> Failure {
        let mut words = format!("the worker is lost: {why}");
        if let Some(mut child) = self.child.take() {
            if let Some(end) = ended(&mut child) {
                words += &format!(" ({end})");
            }
            nursery::bury(child);
        }
        let said = self.last_words();
        if !said.is_empty() {
            words += &format!("; it said: {said}");
        }
        Failure::Lost(words)
    }

    /// What it has said on stderr, in one line, the end of it.
    fn last_words(&mut self) -> String {
        let mut said = Vec::new();
        // Nothing there is an error of a pipe that does not wait, and no more than that.
        let _ = (&self.stderr).take(64 * 1024).read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let from = line.len().saturating_sub(LAST_WORDS_BYTES_MAX);
        let from = (from..=line.len()).find(|&from| line.is_char_boundary(from)).unwrap_or(line.len());
        line[from..].to_owned()
    }

    /// Forgets what it said so far: a library that loads is talkative.
    pub fn forget_words(&mut self) {
        self.last_words();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            nursery::bury(child);
        }
    }
}

/// How a process ended, if it has: just now, perhaps.
fn ended(child: &mut Child) -> Option<String> {
    /// Between the end of its socket and its own.
    const ENDING: Duration = Duration::from_millis(20);
    let mut status = child.try_wait().ok()?;
    if status.is_none() {
        std::thread::sleep(ENDING);
        status = child.try_wait().ok()?;
    }
    let status = status?;
    match status.signal() {
        Some(signal) => {
            let name =
                Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string());
            Some(format!("killed by {name}"))
        }
        None => Some(status.to_string()),
    }
}

/// In the new process, before its program: its limits, and that it dies with us.
fn prepare(program: RawFd, memory_bytes: u64) -> io::Result<()> {
    let checked = |result: libc::c_int| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: numbers, and texts that are constants.
    unsafe {
        // A loader opens the program by its descriptor after the exec.
        checked(libc::fcntl(program, libc::F_SETFD, 0))?;
        checked(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        // When memory is short, this is the process to do without.
        let score = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if score >= 0 {
            libc::write(score, b"1000".as_ptr().cast(), 4);
            libc::close(score);
        }
    }
    let limit = |resource, most: u64| setrlimit(resource, most, most).map_err(io::Error::from);
    limit(Resource::RLIMIT_CORE, 0)?;
    limit(Resource::RLIMIT_NOFILE, FILES_OPEN_MAX)?;
    limit(Resource::RLIMIT_DATA, memory_bytes)
}
