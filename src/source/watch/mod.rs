//! `watch:DIR`, a directory whose images are answered as they come: `watch:/data/in?done=/data/done&failed=/data/failed`.
//!
//! Where an image lies says what is known of it, and no other record is kept. In `DIR` it waits. Taken, it is renamed
//! into `DIR/.firstlight-work`, so that no producer can put another under its name. When its answer was handed to every
//! output it is renamed into `done`, or removed; one that is no image goes into `failed`, beside a text that says why.
//! After a `kill -9` what lies in the work directory is answered again: most of it had no answer yet, and at most the
//! one whose answer was being handed over has two. After a power cut it is those of about the last second.
//!
//! Files: `inbox` what waits in the directory, `desk` what is being answered, `place` names and moves.

mod desk;
mod inbox;
mod place;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::desk::{Desk, Hold};
use self::inbox::{Claim, Inbox};
use self::place::Place;
use super::{Error, Next, Receipts, Source, options};
use crate::frame::{Frame, Limits, Orientation, decode_into, read_file};

/// Longest wait for an image before the loop may look whether it should stop.
const WAIT: Duration = Duration::from_secs(1);
/// Pause before an image is handed out again whose answer no output took: it may be a full disk that took none.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// A watched directory, there or not.
#[derive(Debug)]
pub struct WatchSource {
    uri: String,
    place: Arc<Place>,
    orientation: Orientation,
    /// What waits, or why the directory cannot be watched.
    inbox: Result<Inbox, String>,
    /// Taken before, and not answered.
    leftovers: VecDeque<OsString>,
    desk: Arc<Hold>,
    /// When images whose answer was not taken were last handed out again.
    again_at: Instant,
    bytes: Vec<u8>,
    frames: u64,
}

/// Why nothing is watched.
#[derive(Debug)]
pub enum Fault {
    /// The URI cannot be meant so.
    Unfit(String),
    /// It may come back.
    Gone(String),
}

impl WatchSource {
    /// Opens `watch:DIR` with any of `done`, `failed` (directories on the file system of `DIR`, made if only their last
    /// part is missing; default `DIR/done`, `DIR/failed`) and `keep` (`false` removes answered images instead). A
    /// directory that is not there yet is no error: [`Source::next`] says that it is lost.
    ///
    /// # Errors
    /// A wrong option, or something at the path that is no directory; the system gives no thread.
    pub fn open(uri: &str, orientation: Orientation) -> Result<Self, Error> {
        let place = Arc::new(parse(uri)?);
        let desk = Desk::start(Arc::clone(&place)).map_err(|cause| Error::Open {
            uri: uri.into(),
            why: format!("the thread that moves what is answered cannot be started: {cause}"),
        })?;
        let mut source = Self {
            uri: uri.into(),
            place,
            orientation,
            inbox: Err("not opened yet".into()),
            leftovers: VecDeque::new(),
            desk: Arc::new(desk),
            again_at: Instant::now(),
            bytes: Vec::new(),
            frames: 0,
        };
        match source.connect() {
            Ok(()) => {}
            Err(Fault::Unfit(why)) => return Err(Error::Open { uri: uri.into(), why }),
            Err(Fault::Gone(why)) => source.inbox = Err(why),
        }
        Ok(source)
    }

    /// Makes the directories, takes the lock and begins to watch; what was taken before comes first.
    fn connect(&mut self) -> Result<(), Fault> {
        self.place.prepare()?;
        let inbox = Inbox::open(self.place.dir()).map_err(Fault::Gone)?;
        let taken = self.place.taken().map_err(Fault::Gone)?;
        self.leftovers = taken.into_iter().filter(|name| !self.desk.holds(name)).collect();
        self.inbox = Ok(inbox);
        Ok(())
    }

    /// The name of the next image, which then lies in the work directory.
    fn claim(&mut self) -> Result<Option<OsString>, String> {
        if self.again_at.elapsed() >= AGAIN_AFTER {
            self.again_at = Instant::now();
            self.leftovers.extend(self.desk.again());
        }
        if let Some(name) = self.leftovers.pop_front() {
            return Ok(Some(name));
        }
        let inbox = self.inbox.as_mut().map_err(|why| why.clone())?;
        inbox.look(Duration::ZERO)?;
        let mut waited = false;
        loop {
            let Some(name) = inbox.next()? else {
                if std::mem::replace(&mut waited, true) {
                    return Ok(None);
                }
                inbox.look(WAIT)?;
                continue;
            };
            let claim = if self.desk.holds(&name) { Claim::Later } else { inbox.claim(&self.place, &name)? };
            match claim {
                Claim::Taken => return Ok(Some(name)),
                Claim::Later => inbox.look_again(),
                Claim::Not => {}
            }
        }
    }

    /// Reads the image, which from here on is the desk's: whatever comes of it, the outputs hear of it.
    fn read(&mut self, name: &OsStr, frame: &mut Frame) -> Result<(), Error> {
        let path = self.place.in_work(name);
        let shown = self.place.dir().join(name);
        let limits = Limits::default();
        read_file(&path, limits, &mut self.bytes).map_err(|cause| Error::Read { path: shown.clone(), cause })?;
        decode_into(&self.bytes, self.orientation, limits, frame)
            .map_err(|cause| Error::Frame { path: shown, cause })?;
        frame.captured_at = Instant::now();
        Ok(())
    }
}

impl Source for WatchSource {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn live(&self) -> bool {
        false
    }

    fn next(&mut self, frame: &mut Frame, origin: &mut String) -> Result<Next, Error> {
        // While what was answered cannot be moved, nothing is taken: it would have to be answered again.
        if let Some(trouble) = self.desk.trouble() {
            return Err(Error::Lost(trouble));
        }
        let Some(name) = self.claim().map_err(|why| {
            self.inbox = Err(why.clone());
            Error::Lost(why)
        })?
        else {
            return Ok(if self.desk.is_empty() { Next::Idle } else { Next::Nothing });
        };
        frame.id = self.frames;
        self.frames += 1;
        origin.clear();
        origin.push_str(&self.place.dir().join(&name).to_string_lossy());
        self.desk.take(frame.id, &name);
        self.read(&name, frame).map(|()| Next::Frame)
    }

    fn reopen(&mut self) -> Result<(), Error> {
        self.desk.retry().map_err(Error::Lost)?;
        if self.inbox.is_ok() {
            return Ok(());
        }
        self.connect().map_err(|fault| {
            let (Fault::Unfit(why) | Fault::Gone(why)) = fault;
            self.inbox = Err(why.clone());
            Error::Lost(why)
        })
    }

    fn receipts(&mut self) -> Option<Box<dyn Receipts>> {
        Some(Box::new(Arc::clone(&self.desk)))
    }
}

/// The directories that a URI names.
fn parse(uri: &str) -> Result<Place, Error> {
    let (base, pairs) = options(uri);
    let dir = base.strip_prefix("watch:").unwrap_or(base);
    if dir.is_empty() {
        return Err(Error::Open { uri: uri.into(), why: "names no directory; for instance watch:/data/in".into() });
    }
    let (mut done, mut failed, mut keep) = (None, None, true);
    for (option, value) in pairs {
        let fail = |option, expected| Error::Option { uri: uri.into(), option, found: value.into(), expected };
        match (option, value) {
            ("done", "") => return Err(fail("done", "a directory")),
            ("failed", "") => return Err(fail("failed", "a directory")),
            ("done", value) => done = Some(value),
            ("failed", value) => failed = Some(value),
            ("keep", "true" | "1") => keep = true,
            ("keep", "false" | "0") => keep = false,
            ("keep", _) => return Err(fail("keep", "true or false")),
            _ => {
                let valid = "done, failed, keep";
                return Err(Error::UnknownOption { uri: uri.into(), option: option.into(), valid });
            }
        }
    }
    if !keep && done.is_some() {
        let why = "keep=false removes what is answered, done= says where it goes: expected one of them".into();
        return Err(Error::Open { uri: uri.into(), why });
    }
    let place = Place::new(Path::new(dir), done.filter(|_| keep).map(Path::new), failed.map(Path::new), keep);
    place.check().map_err(|why| Error::Open { uri: uri.into(), why })?;
    Ok(place)
}
