//! `cache du`: what models take, with all that was made from them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::state::{State, What, networks};
use super::{Error, files};
use crate::cache::{self, BLOBS, Cache, ModelId};

/// Bytes of one model.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct OfModel {
    pub id: String,
    /// Networks and engines of its packages.
    pub weights: u64,
    /// Their other files.
    pub texts: u64,
    /// What of both it shares with other models.
    pub shared: u64,
    pub plans: u64,
    /// What accelerators keep.
    pub engines: u64,
}

/// A place where things lie, and its file system.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Disk {
    pub path: PathBuf,
    pub free: u64,
}

/// Of a whole cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    pub models: Vec<OfModel>,
    /// What is shared is counted once.
    pub total: u64,
    /// State of models that are not in this cache.
    pub others: u64,
    pub disks: Vec<Disk>,
}

/// Measures it.
///
/// # Errors
/// Weights cannot be read, so that it is not known what is made from them.
pub fn usage(cache: &Cache, state: &State) -> Result<Usage, Error> {
    let digests = state.digests(cache)?;
    let pieces = state.pieces();
    // Where the content of each model's files lies, once a model.
    let mut contents: BTreeMap<String, BTreeMap<PathBuf, bool>> = BTreeMap::new();
    for (id, parsed) in cache.ids().into_iter().filter_map(|id| Some((id.clone(), ModelId::parse(&id).ok()?))) {
        let of = contents.entry(id).or_default();
        for place in cache.places_of(&parsed) {
            let networks = networks(cache, &place);
            files::walk(&place, &mut |path| {
                let file = path.strip_prefix(&place).unwrap_or(path).to_string_lossy().into_owned();
                let path = cache::resolved(cache.root(), &place, &file).unwrap_or_else(|_| path.into());
                let is_network = networks.contains(&path);
                of.insert(path, is_network);
            });
        }
    }
    let mut users: BTreeMap<&Path, usize> = BTreeMap::new();
    for path in contents.values().flat_map(BTreeMap::keys) {
        *users.entry(path).or_default() += 1;
    }
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let mut models = Vec::new();
    for (id, files) in &contents {
        let mut of = OfModel { id: id.clone(), ..OfModel::default() };
        for (path, is_network) in files {
            let bytes = length(path);
            *if *is_network { &mut of.weights } else { &mut of.texts } += bytes;
            let is_shared = users.get(path.as_path()).is_some_and(|users| *users > 1);
            of.shared += if is_shared && path.starts_with(cache.root().join(BLOBS)) { bytes } else { 0 };
        }
        let own = digests.of.get(id);
        for piece in pieces.iter().filter(|piece| own.is_some_and(|own| own.iter().any(|sha256| piece.is_of(sha256)))) {
            match piece.what {
                What::Engine => of.engines += piece.bytes,
                What::Plan | What::Note => of.plans += piece.bytes,
            }
        }
        models.push(of);
    }
    let all_pieces: u64 = pieces.iter().map(|piece| piece.bytes).sum();
    let is_of_a_model = |sha: &super::state::Piece| digests.of.values().flatten().any(|sha256| sha.is_of(sha256));
    let others = pieces.iter().filter(|piece| !is_of_a_model(piece)).map(|piece| piece.bytes).sum();
    let total = users.keys().map(|path| length(path)).sum::<u64>() + all_pieces;
    let mut disks = Vec::new();
    for path in [Some(cache.root()), state.dir()].into_iter().flatten().filter(|path| path.exists()) {
        disks.push(Disk { path: path.into(), free: files::free(path)?.0 });
    }
    Ok(Usage { models, total, others, disks })
}
