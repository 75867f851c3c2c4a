//! What can be wrong with a cache, a package or an id.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Longest message of what a file says; a file may hold megabytes where a word was expected.
const MESSAGE_CHARS_MAX: usize = 400;

/// Every message names the id or the file, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("model id `{id}`: {why}; an id is `project/version` or an alias such as `yolov8n-640`")]
    InvalidId { id: String, why: &'static str },
    /// A file, and with it a model or a package, is not there; `help` says what is.
    #[error("model `{id}` is not in the cache: {dir}/{file} is missing{help}", dir = .dir.display())]
    Missing { id: String, dir: PathBuf, file: String, help: String },
    #[error("{path}: leads to {target}, out of the cache {root}; refused", path = .path.display(), target = .target.display(), root = .root.display())]
    Escapes { path: PathBuf, target: PathBuf, root: PathBuf },
    #[error("{path}: cannot be read: {cause}", path = .path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("{path}: {bytes} bytes; at most {limit} are read", path = .path.display())]
    TooLarge { path: PathBuf, bytes: u64, limit: u64 },
    #[error("{path}: is empty", path = .path.display())]
    Empty { path: PathBuf },
    #[error("{path}: {message}", path = .path.display())]
    Parse { path: PathBuf, message: String },
    #[error(
        "{path}: its content has digest {found}, its manifest says {expected}; the file is damaged, copy it again",
        path = .path.display()
    )]
    Digest { path: PathBuf, expected: String, found: String },
    #[error("{dir}: belongs to model `{owner}` (its {file} says so), not to `{id}`", dir = .dir.display())]
    Owner { dir: PathBuf, file: &'static str, owner: String, id: String },
    /// A package is in order, but nothing here runs it.
    #[error("model `{id}`: package {package_id} does not run here: {why}")]
    NotForThisBoard { id: String, package_id: String, why: String },
    #[error("model `{id}`: no package of it in {dir} runs here: {reasons}", dir = .dir.display())]
    NoPackage { id: String, dir: PathBuf, reasons: String },
}

impl Error {
    /// A file whose content is wrong, in words that may quote it.
    pub(super) fn parse(path: &Path, message: impl Display) -> Self {
        Self::Parse { path: path.into(), message: short(&message.to_string(), MESSAGE_CHARS_MAX) }
    }
}

/// The first characters of a text, and a mark when there are more.
pub(super) fn short(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}
