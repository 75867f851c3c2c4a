//! `firstlight cache pull`: weights from Roboflow into a cache, in either of its layouts, so that devices need no network.
//!
//! The one thing in this program that reaches out by itself; a device's build leaves it out.

mod classic;
mod download;
mod error;
mod http;
mod offer;
mod packages;

/// What an API may answer, as both layouts read it; for tests/fuzz.
#[cfg(fuzzing)]
pub mod fuzzing {
    pub fn answer(answer: &serde_json::Value) {
        let _ = super::classic::Offer::parse("my-project/3", answer);
        if let Ok(page) = super::offer::Page::parse("my-project/3", answer) {
            let _ = (page.offer.offered(), page.offer.listed(), page.offer.recorded_packages());
        }
    }
}

use std::fs;
use std::path::{Path, PathBuf};

use ureq::http::StatusCode;
use url::Url;

pub use error::Error;
use http::Http;

use crate::cache::{LayoutKind, ModelId};

/// Whoever shows how far it is. Called from several threads.
pub trait Watch: Sync {
    /// A file is fetched: its number, its name, its size and what was there of it, bytes.
    fn begun(&self, file: usize, name: &str, bytes: Option<u64>, had: u64);
    /// So many of its bytes are there.
    fn moved(&self, file: usize, bytes: u64);
    fn ended(&self, file: usize);
}

/// Which of a model's packages are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choose {
    /// The one that a CPU runs best.
    Best,
    Named(Vec<String>),
    All,
}

/// Where to, and with what.
#[derive(Clone, Debug)]
pub struct Settings {
    pub root: PathBuf,
    /// Of the weights API and of the older one.
    pub api: (Url, Url),
    pub key: Option<String>,
    /// PEM file of the roots that are trusted instead of the web's.
    pub roots: Option<PathBuf>,
}

/// What was fetched, or was there already.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Pulled {
    /// As the cache has it.
    pub id: String,
    pub layout: LayoutKind,
    pub packages: Vec<String>,
    pub dir: PathBuf,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Puller {
    settings: Settings,
    http: Http,
}

/// One package as the API offers it, for a list.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Listed {
    pub package: String,
    pub backend: String,
    pub quantization: String,
    pub files: usize,
}

impl Puller {
    /// Reaches out to nobody yet.
    ///
    /// # Errors
    /// The roots or the environment's proxy cannot be used; the cache's root cannot be made.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let http = Http::new(settings.roots.as_deref(), settings.key.clone())?;
        create(&settings.root)?;
        // Links in the cache are absolute, as Roboflow's loader writes them.
        let root = fs::canonicalize(&settings.root).map_err(Error::io(&settings.root))?;
        Ok(Self { settings: Settings { root, ..settings }, http })
    }

    /// What Roboflow offers of a model.
    ///
    /// # Errors
    /// As [`Self::pull`].
    pub fn list(&self, id: &ModelId) -> Result<Vec<Listed>, Error> {
        let offer = packages::offer(&self.http, &self.settings.api.0, self.settings.key.is_some(), id)?;
        Ok(offer.listed())
    }

    /// Fetches a model's packages and writes them so that `prove`, which opens and runs what was fetched, decides whether
    /// they are recorded as proven.
    ///
    /// # Errors
    /// Roboflow refuses or does not answer; a file is not what it should be; the disk refuses or is too small. What is in
    /// the cache is whole: a file appears under its name only when it is checked.
    pub fn pull(
        &self,
        id: &ModelId,
        layout: LayoutKind,
        choose: &Choose,
        watch: &dyn Watch,
        prove: &dyn Fn(&Pulled) -> bool,
    ) -> Result<Pulled, Error> {
        let Settings { root, api, key, .. } = &self.settings;
        if layout == LayoutKind::Classic {
            let pulled = classic::pull(&self.http, &api.1, key.as_deref(), root, id, watch)?;
            prove(&pulled);
            return Ok(pulled);
        }
        let offer = packages::offer(&self.http, &api.0, key.is_some(), id)?;
        let pulled = packages::pull(&self.http, root, id, &offer, choose, watch)?;
        if prove(&pulled) {
            packages::record(root, id, &offer, Some(&pulled.packages))?;
        }
        Ok(pulled)
    }
}

/// What a status says of a model and the key.
fn status_error(id: &str, status: StatusCode, has_key: bool) -> Result<(), Error> {
    let id = id.to_owned();
    match status.as_u16() {
        401 | 403 if has_key => Err(Error::KeyRefused { id, status: status.as_u16() }),
        401 | 403 => Err(Error::KeyMissing { id }),
        404 => Err(Error::Unknown { id }),
        _ => Ok(()),
    }
}

fn create(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::io(folder))
}
