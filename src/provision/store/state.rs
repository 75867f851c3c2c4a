//! What was made from models and lies in the state directory, or beside the models: plans, engines, notes. Each piece is known
//! by the SHA-256 of the weights that it was made from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{Error, files};
use crate::cache::{self, Cache, ModelId, Weights, digest};
use crate::demo;
use crate::durable;
use crate::engine::plan::Shelf;

/// Ends of names in a folder of plans.
const PLAN: &str = ".plan";
const REFUSED: &str = ".refused";
const NOTE: &str = ".weights";
/// Digits of a digest that the name of an engine's folder begins with.
const ENGINE_DIGITS: usize = 16;
const SHA256_DIGITS: usize = 64;
/// A larger note is none.
const NOTE_BYTES_MAX: u64 = 64 * 1024;
/// Ends of the files that a network or an engine lies in.
const NETWORKS: [&str; 3] = [".onnx", ".tflite", ".plan"];

/// Where state lies.
#[derive(Clone, Debug)]
pub struct State {
    /// Our own, or none where nothing is kept.
    dir: Option<PathBuf>,
    shelf: Shelf,
}

/// What a piece of state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A plan, or the note that there is none.
    Plan,
    /// Engines, timing caches and records of an accelerator.
    Engine,
    /// That a weights file was hashed.
    Note,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Piece {
    pub path: PathBuf,
    pub what: What,
    /// Of the weights: all digits of their SHA-256, or the first of them.
    pub digits: String,
    pub bytes: u64,
}

impl Piece {
    /// Whether it was made from these weights.
    #[must_use]
    pub fn is_of(&self, sha256: &str) -> bool {
        sha256.starts_with(&self.digits)
    }
}

/// Digests of weights that are there.
#[derive(Clone, Debug, Default)]
pub struct Digests {
    /// By model.
    pub of: BTreeMap<String, BTreeSet<String>>,
    /// Of weights outside of this cache that are known to be there.
    pub elsewhere: BTreeSet<String>,
}

impl Digests {
    /// Whether a piece was made from weights that are there, of any model but these.
    #[must_use]
    pub fn keep(&self, piece: &Piece, but: &[&str]) -> bool {
        let models = self.of.iter().filter(|(id, _)| !but.contains(&id.as_str()));
        let mut all = models.flat_map(|(_, digests)| digests).chain(&self.elsewhere);
        all.any(|sha256| piece.is_of(sha256))
    }
}

impl State {
    /// Of a cache and a state directory; `shelf` says where plans lie.
    #[must_use]
    pub fn new(dir: Option<PathBuf>, shelf: Shelf) -> Self {
        Self { dir, shelf }
    }

    /// The state directory, where there is one.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Folders of plans.
    pub fn plans(&self) -> impl Iterator<Item = &PathBuf> {
        self.shelf.own.iter().chain(&self.shelf.others)
    }

    /// The folder of engines.
    #[must_use]
    pub fn engines(&self) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join("engines"))
    }

    /// Everything that was made here.
    #[must_use]
    pub fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for folder in self.plans() {
            pieces.extend(names(folder).into_iter().filter_map(|name| of_plans(folder, &name)));
        }
        if let Some(folder) = self.engines() {
            pieces.extend(names(&folder).into_iter().filter_map(|name| of_engines(&folder, &name)));
        }
        pieces
    }

    /// Digests of the weights of all models in a cache, as noted while their files are the same; and of those elsewhere
    /// that a note says were run from here and that are still there.
    ///
    /// # Errors
    /// Weights that are there cannot be read, so that it is not known what is made from them.
    pub fn digests(&self, cache: &Cache) -> Result<Digests, Error> {
        let mut digests = Digests::default();
        digests.elsewhere.insert(digest::sha256(demo::PARTS_ONNX));
        for id in cache.ids() {
            let Ok(parsed) = ModelId::parse(&id) else { continue };
            let mut of = BTreeSet::new();
            for place in cache.places_of(&parsed) {
                for path in networks(cache, &place) {
                    match Weights::map(&path) {
                        Ok(weights) => of.insert(self.shelf.sha256(&path, weights.bytes())),
                        // Nothing was made from what is empty, or larger than can be run.
                        Err(cache::Error::Empty { .. } | cache::Error::TooLarge { .. }) => false,
                        Err(error) => return Err(error.into()),
                    };
                }
            }
            digests.of.entry(id).or_default().extend(of);
        }
        let root = cache.root().canonicalize().unwrap_or_else(|_| cache.root().into());
        for note in self.pieces().into_iter().filter(|piece| piece.what == What::Note) {
            let elsewhere = noted(&note.path).filter(|(path, _)| path.exists() && !path.starts_with(&root));
            digests.elsewhere.extend(elsewhere.map(|(_, sha256)| sha256));
        }
        Ok(digests)
    }

    /// Whether the file of a note is gone.
    #[must_use]
    pub fn is_stale(note: &Piece) -> bool {
        noted(&note.path).is_none_or(|(path, _)| !path.exists())
    }
}

/// Files of a package that a network or an engine lies in, where their content lies.
#[must_use]
pub fn networks(cache: &Cache, place: &Path) -> Vec<PathBuf> {
    let is_network = |name: &String| NETWORKS.iter().any(|end| name.ends_with(end));
    let content = |name: String| cache::resolved(cache.root(), place, &name).ok();
    names(place).into_iter().filter(is_network).filter_map(content).collect()
}

/// Path and digest of a hashed file.
fn noted(note: &Path) -> Option<(PathBuf, String)> {
    let bytes = durable::read_bounded(note, NOTE_BYTES_MAX).ok()??;
    let note: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    Some((note["path"].as_str()?.into(), note["sha256"].as_str()?.into()))
}

fn of_plans(folder: &Path, name: &str) -> Option<Piece> {
    let path = folder.join(name);
    let (what, digits) = match name.ends_with(NOTE) {
        true => (What::Note, noted(&path).map(|(_, sha256)| sha256).unwrap_or_default()),
        false if name.ends_with(PLAN) || name.ends_with(REFUSED) => (What::Plan, name.split('.').next()?.to_owned()),
        false => return None,
    };
    // A name that is none of ours is nobody's rubbish.
    if what == What::Plan && !digest::is_hex(&digits, SHA256_DIGITS) {
        return None;
    }
    let bytes = path.symlink_metadata().map_or(0, |metadata| metadata.len());
    Some(Piece { path, what, digits, bytes })
}

fn of_engines(folder: &Path, name: &str) -> Option<Piece> {
    let digits = name.split('-').next().filter(|digits| digest::is_hex(digits, ENGINE_DIGITS))?.to_owned();
    let path = folder.join(name);
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()).then(|| {
        let bytes = files::size(&path);
        Piece { path, what: What::Engine, digits, bytes }
    })
}

/// Names in a directory, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().take(files::NAMES_MAX).filter_map(Result::ok);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_known_by_their_names() {
        let state = tempfile::tempdir().unwrap();
        let (plans, engines) = (state.path().join("plans"), state.path().join("engines"));
        fs::create_dir_all(engines.join(format!("{}-tensorrt-fp16-0123456789abcdef", "ab".repeat(8)))).unwrap();
        fs::create_dir_all(engines.join("somebody-elses")).unwrap();
        fs::create_dir_all(&plans).unwrap();
        let sha256 = "ab".repeat(32);
        for name in
            [format!("{sha256}.avx2.fp32.1x3x64x64.plan"), format!("{sha256}.neon.refused"), "letter.plan".into()]
        {
            fs::write(plans.join(name), "12345").unwrap();
        }
        let note = format!(r#"{{"path": "/nowhere/x.onnx", "sha256": "{sha256}"}}"#);
        fs::write(plans.join("00.weights"), note).unwrap();
        let shelf = Shelf { own: Some(plans), ..Shelf::default() };
        let pieces = State::new(Some(state.path().into()), shelf).pieces();
        let kinds: Vec<What> = pieces.iter().map(|piece| piece.what).collect();
        assert_eq!(kinds, [What::Note, What::Plan, What::Plan, What::Engine]);
        assert!(pieces.iter().all(|piece| piece.is_of(&sha256)) && State::is_stale(&pieces[0]));
        let mut digests = Digests::default();
        digests.of.insert("a/1".into(), BTreeSet::from([sha256]));
        assert!(digests.keep(&pieces[1], &[]) && !digests.keep(&pieces[1], &["a/1"]));
    }
}
