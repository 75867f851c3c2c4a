//! What waits in a watched directory: told by inotify, and by looking through it at the start, when events were lost
//! and now and then.

use std::collections::{BinaryHeap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::place::Place;
use crate::durable;
use crate::source::file::ends_as_image;

/// Names kept in memory; of a directory with more the first by name, and it is looked through again for the rest. A
/// million images are looked through 250 times, which together take as long as decoding some thousands of them.
pub const QUEUE_MAX: usize = 4096;
/// How often the directory is looked through when nothing is told of it: not every file system tells.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Least time between two looks that found nothing to take.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// Where the system does not say whether somebody writes: an image is left alone until it has not changed for so long.
const QUIET: Duration = Duration::from_secs(2);

/// A directory under watch, locked against other processes of this program.
#[derive(Debug)]
pub struct Inbox {
    dir: PathBuf,
    /// The directory itself, locked.
    lock: File,
    inotify: Inotify,
    queue: VecDeque<OsString>,
    /// The queue is not all there is.
    more: bool,
    looked_at: Option<Instant>,
    /// Whether anything was taken since.
    taken: bool,
}

/// What became of a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// It lies in the work directory.
    Taken,
    /// It is not ready, and nothing will tell when it is.
    Later,
    /// It is no image, has gone, or will be told of again.
    Not,
}

impl Inbox {
    pub fn open(dir: &Path) -> Result<Self, String> {
        let told = |what: &str, error: io::Error| format!("{}: {what}: {error}", dir.display());
        let lock = File::open(dir).map_err(|error| told("cannot be opened", error))?;
        durable::lock(&lock).map_err(|error| match error {
            fs::TryLockError::WouldBlock => format!("{}: another process watches it", dir.display()),
            fs::TryLockError::Error(error) => told("cannot be locked", error),
        })?;
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .and_then(|inotify| inotify.add_watch(dir, events).map(|_| inotify))
            .map_err(|errno| told("cannot be watched", errno.into()))?;
        let (queue, more, looked_at, taken) = (VecDeque::new(), true, None, true);
        Ok(Self { dir: dir.into(), lock, inotify, queue, more, looked_at, taken })
    }

    /// Waits until something is told, at most `bound`, and takes note of it.
    pub fn look(&mut self, bound: Duration) -> Result<(), String> {
        self.listen(bound)?;
        // Asked for, not told: of a removed directory nothing is told while the lock holds it.
        let identity = |found: &fs::Metadata| (found.dev(), found.ino());
        match (fs::metadata(&self.dir), self.lock.metadata()) {
            (Ok(there), Ok(watched)) if identity(&there) == identity(&watched) => Ok(()),
            _ => Err(format!("{}: the directory was removed or renamed", self.dir.display())),
        }
    }

    fn listen(&mut self, bound: Duration) -> Result<(), String> {
        let timeout = PollTimeout::try_from(bound).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut ready, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(()),
            Ok(_) => {}
            Err(errno) => return Err(format!("{}: waiting for images: {errno}", self.dir.display())),
        }
        let events = match self.inotify.read_events() {
            Ok(events) => events,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
            Err(errno) => return Err(format!("{}: reading what was told: {errno}", self.dir.display())),
        };
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                self.more = true;
            }
            if let Some(name) = event.name.filter(|name| is_image_name(name)) {
                if self.queue.len() < QUEUE_MAX {
                    self.queue.push_back(name);
                } else {
                    self.more = true;
                }
            }
        }
        Ok(())
    }

    /// The next name that may be one of an image.
    pub fn next(&mut self) -> Result<Option<OsString>, String> {
        if let Some(name) = self.queue.pop_front() {
            return Ok(Some(name));
        }
        let since = self.looked_at.map_or(Duration::MAX, |looked_at| looked_at.elapsed());
        let due = if self.more { self.taken || since >= LOOK_PAUSE } else { since >= LOOK_EVERY };
        if due {
            self.look_through().map_err(|error| format!("{}: cannot be listed: {error}", self.dir.display()))?;
        }
        Ok(self.queue.pop_front())
    }

    /// Says that the directory holds more than was told.
    pub fn look_again(&mut self) {
        self.more = true;
    }

    /// Fills the queue with the first names of the directory.
    fn look_through(&mut self) -> io::Result<()> {
        let mut first: BinaryHeap<OsString> = BinaryHeap::new();
        self.more = false;
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            if !is_image_name(&name) {
                continue;
            }
            if first.len() == QUEUE_MAX {
                self.more = true;
                if first.peek().is_some_and(|last| *last <= name) {
                    continue;
                }
                first.pop();
            }
            first.push(name);
        }
        self.queue.extend(first.into_sorted_vec());
        self.looked_at = Some(Instant::now());
        self.taken = false;
        Ok(())
    }

    /// Takes an image into the work directory, if it is one and nobody writes to it.
    pub fn claim(&mut self, place: &Place, name: &OsStr) -> Result<Claim, String> {
        let path = self.dir.join(name);
        let told = |error: io::Error| match error.kind() {
            ErrorKind::NotFound => Ok(Claim::Not),
            _ => Err(format!("{}: cannot be taken: {error}", path.display())),
        };
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) => return told(error),
        };
        if !found.is_file() {
            return Ok(Claim::Not);
        }
        match writers(&path) {
            Ok(Writers::None) => {}
            // Its closing will be told; where it is not, the directory is looked through all the same.
            Ok(Writers::Some) => return Ok(Claim::Not),
            Ok(Writers::Unknown) if changed_within(QUIET, &found) => return Ok(Claim::Later),
            Ok(Writers::Unknown) => {}
            Err(error) => return told(error),
        }
        if let Err(error) = fs::rename(&path, place.in_work(name)) {
            return told(error);
        }
        self.taken = true;
        Ok(Claim::Taken)
    }
}

/// Whether a name may be one of an image that is ready: half-written files are hidden, or end in something else.
fn is_image_name(name: &OsStr) -> bool {
    !name.as_encoded_bytes().starts_with(b".") && ends_as_image(Path::new(name))
}

/// Whether somebody has a file open for writing.
enum Writers {
    None,
    Some,
    /// The file is another user's, or its file system cannot say.
    Unknown,
}

/// `F_SETSIG` of `<linux/fcntl.h>`, which `libc` lacks.
const F_SETSIG: libc::c_int = 10;

/// Asks for a read lease, which the kernel gives only while nobody has the file open for writing, and gives it back.
fn writers(path: &Path) -> io::Result<Writers> {
    let file = match File::open(path) {
        // It is taken all the same, and fails with this reason.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(Writers::Unknown),
        opened => opened?,
    };
    let lease = |command: libc::c_int, argument: libc::c_int| {
        // SAFETY: the descriptor is open, and both commands take a number.
        Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), command, argument) })
    };
    // Whoever opens the file while the lease is held makes the kernel send a signal: one that is ignored, in place of
    // one that ends the process.
    if lease(F_SETSIG, libc::SIGURG).is_err() {
        return Ok(Writers::Unknown);
    }
    Ok(match lease(libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(_) => {
            // Closing the file gives it back too.
            let _ = lease(libc::F_SETLEASE, libc::F_UNLCK);
            Writers::None
        }
        Err(Errno::EAGAIN) => Writers::Some,
        Err(_) => Writers::Unknown,
    })
}

/// Whether a file changed just now. One that changed far in the future lies on a disk with another clock.
fn changed_within(period: Duration, found: &fs::Metadata) -> bool {
    let Ok(changed) = found.modified() else { return false };
    let now = SystemTime::now();
    let off = now.duration_since(changed).or_else(|_| changed.duration_since(now));
    off.is_ok_and(|off| off < period)
}
