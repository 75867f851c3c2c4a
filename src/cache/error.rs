//! What can be wrong with a cache, a package or an id.

use std::path::PathBuf;

/// Every message names the id or the file, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("model id `{id}`: {why}; an id is `project/version` or an alias such as `yolov8n-640`")]
    InvalidId { id: String, why: &'static str },
    #[error("model `{id}` is not in the cache: {dir}/{file} is missing{nearest}", dir = .dir.display())]
    Missing { id: String, dir: PathBuf, file: String, nearest: String },
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
    #[error("{dir}: belongs to model `{owner}` (its model_type.json says so), not to `{id}`", dir = .dir.display())]
    Owner { dir: PathBuf, owner: String, id: String },
}
