//! Where bundles lie on a device: `bundles` of the state directory, each in a folder named by its root, and `state.json`, which
//! says which of them runs and which ran before. That file is replaced by one rename, and so is what runs.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::archive::MANIFEST;
use super::{BOARD, CACHE, CONFIG, Error, Manifest};
use crate::cache::digest;
use crate::durable::{self, RealDisk};

const STATE: &str = "state.json";
const LOCK: &str = "lock";
/// What is being unpacked; with a dot, so that it is no bundle.
const INCOMING: &str = ".incoming";
/// A larger file of the state is none of ours.
const STATE_BYTES_MAX: u64 = 64 << 10;
/// Largest manifest: that of 4096 files.
pub const MANIFEST_BYTES_MAX: u64 = 2 << 20;
/// Files up to this size are hashed at every start; weights are when they are loaded, plans have sums of their own.
const SMALL_BYTES_MAX: u64 = 256 << 10;
/// Starts that a new bundle has to prove itself: as with slots, one may end by chance.
const STARTS_MAX: u32 = 3;
/// Most bundles that are remembered to have come by a stick.
const ONCE_MAX: usize = 32;
/// Names of the folder that are looked at: three bundles lie there.
const NAMES_MAX: usize = 1000;

/// Which bundle runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// Its root.
    pub current: Option<String>,
    /// The one that ran before.
    pub previous: Option<String>,
    /// How often the current one was started without having proved itself; absent once it has.
    pub starts: Option<u32>,
    /// The last one that was taken back, until another is installed.
    pub taken_back: Option<TakenBack>,
    /// Those that came by a stick, which are not taken from one again.
    pub once: Vec<String>,
}

/// A bundle that did not prove itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakenBack {
    pub root: String,
    pub why: String,
}

/// An unpacked bundle.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub dir: PathBuf,
    pub manifest: Manifest,
}

/// A bundle as a listing shows it.
#[derive(Debug)]
pub struct Listed {
    pub root: String,
    /// `current`, `previous` or `unused`.
    pub role: &'static str,
    pub bundle: Result<Bundle, Error>,
}

/// The folder of all bundles. It need not exist yet.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Bundle {
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.dir.join(CACHE)
    }

    /// The configuration, if it has one.
    #[must_use]
    pub fn config(&self) -> Option<PathBuf> {
        self.manifest.has(CONFIG).then(|| self.dir.join(CONFIG))
    }

    /// The board file, if it has one.
    #[must_use]
    pub fn board(&self) -> Option<PathBuf> {
        self.manifest.has(BOARD).then(|| self.dir.join(BOARD))
    }

    /// Opens an unpacked bundle: all files must be there in their size, and small ones with their digest.
    ///
    /// # Errors
    /// What is missing or another.
    pub fn open(dir: &Path, root: &str) -> Result<Self, Error> {
        Self::check(dir, root, SMALL_BYTES_MAX)
    }

    /// As [`Bundle::open`], with the digest of every file.
    ///
    /// # Errors
    /// As [`Bundle::open`].
    pub fn verify(dir: &Path, root: &str) -> Result<Self, Error> {
        Self::check(dir, root, u64::MAX)
    }

    fn check(dir: &Path, root: &str, hashed_max: u64) -> Result<Self, Error> {
        let path = dir.join(MANIFEST);
        let damaged = |path: &Path, why: String| Error::Damaged { path: path.into(), why };
        let bytes = durable::read_bounded(&path, MANIFEST_BYTES_MAX)?;
        let bytes = bytes.ok_or_else(|| damaged(&path, "is missing".into()))?;
        let manifest = Manifest::parse(&bytes).map_err(|error| damaged(&path, error.to_string()))?;
        if manifest.root != root {
            return Err(damaged(&path, format!("it is of the bundle {}", manifest.root)));
        }
        for file in &manifest.files {
            let path = dir.join(&file.path);
            let found = fs::symlink_metadata(&path).map_err(|cause| damaged(&path, cause.to_string()))?;
            if !found.is_file() || found.len() != file.bytes {
                return Err(damaged(&path, format!("it has {} bytes, its manifest says {}", found.len(), file.bytes)));
            }
            if file.bytes <= hashed_max {
                let (_, sha256) = digest::of_file(&path).map_err(|cause| damaged(&path, cause.to_string()))?;
                if sha256 != file.sha256 {
                    return Err(damaged(&path, format!("it has sha256 {sha256}, its manifest says {}", file.sha256)));
                }
            }
        }
        Ok(Self { dir: dir.into(), manifest })
    }
}

impl Store {
    /// That of a state directory.
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("bundles") }
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a bundle lies.
    #[must_use]
    pub fn path_of(&self, root: &str) -> PathBuf {
        self.dir.join(root)
    }

    /// Which bundle runs; none where none was ever installed.
    ///
    /// # Errors
    /// The file cannot be read or is none of ours.
    pub fn state(&self) -> Result<State, Error> {
        let path = self.dir.join(STATE);
        let Some(bytes) = durable::read_bounded(&path, STATE_BYTES_MAX)? else { return Ok(State::default()) };
        let damaged = |why: String| Error::Damaged { path: path.clone(), why };
        let state: State = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let roots = state.current.iter().chain(&state.previous);
        match roots.into_iter().find(|root| !digest::is_hex(root, 64)) {
            Some(root) => Err(damaged(format!("`{root}` is no root of a bundle"))),
            None => Ok(state),
        }
    }

    /// Changes which bundle runs, at once and for good. One process at a time; each takes milliseconds.
    fn change(&self, change: impl FnOnce(&mut State) -> Result<(), Error>) -> Result<State, Error> {
        let folder = File::open(&self.dir).map_err(durable::Error::io(&self.dir, "opened"))?;
        durable::lock(&folder).map_err(|_| Error::Busy { path: self.dir.clone() })?;
        // What cannot be read says nothing, and would be in the way for ever.
        let mut state = self.state().unwrap_or_default();
        change(&mut state)?;
        let bytes = serde_json::to_vec(&state).expect("texts and numbers are JSON");
        durable::write_durably(&self.dir.join(STATE), &bytes)?;
        Ok(state)
    }

    /// Keeps every other installation out while it is held.
    ///
    /// # Errors
    /// Another has it, or the folder cannot be made.
    pub(super) fn lock(&self) -> Result<File, Error> {
        make_folder(&self.dir)?;
        let path = self.dir.join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(durable::Error::io(&path, "opened"))?;
        durable::lock(&file).map_err(|_| Error::Busy { path: self.dir.clone() })?;
        Ok(file)
    }

    /// Removes what an interrupted installation left, and bundles that neither run nor ran before. Under the lock.
    pub(super) fn tidy(&self) -> Result<(), Error> {
        let Ok(state) = self.state() else { return Ok(()) };
        let entries = fs::read_dir(&self.dir).map_err(durable::Error::io(&self.dir, "read"))?;
        for entry in entries.take(NAMES_MAX).flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let kept = [&state.current, &state.previous].into_iter().flatten().any(|root| *root == name);
            if name == INCOMING || digest::is_hex(&name, 64) && !kept {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(durable::Error::io(&path, "removed"))?;
            }
        }
        Ok(())
    }

    /// As installations do before they begin, when none is going on.
    pub fn tidy_up(&self) {
        if self.dir.is_dir()
            && let Ok(_lock) = self.lock()
        {
            // What cannot be removed now is tried again with the next.
            let _ = self.tidy();
        }
    }

    /// An empty folder to unpack into. Under the lock.
    pub(super) fn incoming(&self) -> Result<PathBuf, Error> {
        let path = self.dir.join(INCOMING);
        remove_folder(&path)?;
        fs::create_dir(&path).map_err(durable::Error::io(&path, "made"))?;
        Ok(path)
    }

    /// Lets what was unpacked and checked run from the next start on, and remembers that it came if it is to come but `once`.
    /// Under the lock.
    pub(super) fn switch(&self, incoming: &Path, root: &str, once: bool) -> Result<(), Error> {
        let place = self.path_of(root);
        // What lies there is damaged, or was used by nobody.
        remove_folder(&place)?;
        fs::rename(incoming, &place).map_err(durable::Error::io(&place, "put in its place"))?;
        durable::sync_directory(&RealDisk, &self.dir)?;
        self.change(|state| {
            if state.current.as_deref() != Some(root) {
                state.previous = state.current.take();
            }
            state.current = Some(root.into());
            state.starts = Some(0);
            state.taken_back = None;
            if once && !state.once.iter().any(|known| known == root) {
                state.once.truncate(ONCE_MAX - 1);
                state.once.insert(0, root.into());
            }
            Ok(())
        })?;
        self.tidy()
    }

    /// Puts the previous one in the place of the current one, and the other way round. Where there was none before, none
    /// runs then.
    ///
    /// # Errors
    /// There is neither.
    pub fn roll_back(&self) -> Result<State, Error> {
        if !self.dir.is_dir() {
            return Err(Error::Nothing("none was ever installed"));
        }
        self.change(|state| {
            if state.current.is_none() && state.previous.is_none() {
                return Err(Error::Nothing("there is neither a current nor a previous one"));
            }
            if let Some(previous) = &state.previous {
                Bundle::verify(&self.path_of(previous), previous)?;
            }
            let (current, previous) = (state.previous.take(), state.current.take());
            state.starts = current.as_ref().map(|_| 0);
            (state.current, state.previous, state.taken_back) = (current, previous, None);
            Ok(())
        })
    }

    /// Counts a start of the current bundle; `false` when a new one has had enough of them.
    ///
    /// # Errors
    /// The state cannot be written.
    pub fn begin_start(&self) -> Result<bool, Error> {
        if self.state()?.starts.is_none() {
            return Ok(true);
        }
        let state = self.change(|state| {
            state.starts = state.starts.map(|starts| starts.saturating_add(1));
            Ok(())
        })?;
        Ok(state.starts.is_none_or(|starts| starts <= STARTS_MAX))
    }

    /// Notes that the current bundle has proved itself.
    ///
    /// # Errors
    /// The state cannot be written.
    pub fn proved(&self, root: &str) -> Result<(), Error> {
        let state = self.state()?;
        if state.starts.is_none() || state.current.as_deref() != Some(root) {
            return Ok(());
        }
        let prove = |state: &mut State| {
            state.starts = state.starts.filter(|_| state.current.as_deref() != Some(root));
            Ok(())
        };
        self.change(prove).map(drop)
    }

    /// Goes back from a bundle that is damaged or does not do what it should, to the previous one or to none.
    ///
    /// # Errors
    /// The state cannot be written.
    pub fn take_back(&self, root: &str, why: &str) -> Result<(), Error> {
        let take_back = |state: &mut State| {
            if state.current.as_deref() == Some(root) {
                state.current = state.previous.take();
                state.starts = None;
                state.taken_back = Some(TakenBack { root: root.into(), why: why.into() });
            }
            Ok(())
        };
        self.change(take_back).map(drop)
    }

    /// Every bundle that lies here, the current one first.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let state = self.state()?;
        let names = fs::read_dir(&self.dir).into_iter().flatten().take(NAMES_MAX).flatten();
        let roots = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let role = |root: &str| match root {
            root if state.current.as_deref() == Some(root) => "current",
            root if state.previous.as_deref() == Some(root) => "previous",
            _ => "unused",
        };
        let listed = roots.filter(|name| digest::is_hex(name, 64)).map(|root| Listed {
            role: role(&root),
            bundle: Bundle::open(&self.path_of(&root), &root),
            root,
        });
        let mut listed: Vec<Listed> = listed.collect();
        listed.sort_by(|a, b| (a.role, &a.root).cmp(&(b.role, &b.root)));
        Ok(listed)
    }
}

/// Makes a folder and those above it.
fn make_folder(path: &Path) -> Result<(), Error> {
    Ok(fs::create_dir_all(path).map_err(durable::Error::io(path, "made"))?)
}

/// Removes a folder with all that is in it, if it is there.
pub(super) fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(durable::Error::io(path, "removed")(cause).into()),
        _ => Ok(()),
    }
}
