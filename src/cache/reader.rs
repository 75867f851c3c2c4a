//! Files of one package directory, read with bounds; no link may lead out of the cache.

use std::path::{Path, PathBuf};

use super::digest::is_md5;
use super::{Error, Weights, digest};

/// Largest text file of a package that is read; the largest real one, a class map of 20,000 names, is under 1 MB.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Where the models-cache layout keeps the content of its files, by MD5.
pub(crate) const BLOBS: &str = "shared-blobs";

/// Reads files of one directory that may not lead out of the cache root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub root: &'a Path,
    pub dir: &'a Path,
}

impl Reader<'_> {
    /// The path of a file that exists, and whose links, if any, end below the root.
    pub fn inside(&self, file: &str) -> Result<PathBuf, Error> {
        let path = self.dir.join(file);
        self.below_root(&path).map_err(|error| match error {
            Error::Read { cause, .. } => self.missing_or(file, cause),
            other => other,
        })
    }

    /// The path of a file whose content the cache also keeps under its MD5.
    ///
    /// The default engine writes absolute links, which dangle or lead elsewhere once a cache is moved or copied. So a
    /// link to a blob means the blob of that name in *this* cache. A file that is gone altogether is the blob that the
    /// manifest names.
    pub fn blob(&self, file: &str, md5: Option<&str>) -> Result<PathBuf, Error> {
        let path = self.dir.join(file);
        let linked = std::fs::read_link(&path).ok().and_then(|target| blob_name(&target));
        if let Some(name) = &linked
            && let Some(expected) = md5
            && name != expected
        {
            return Err(Error::Digest { path, expected: expected.into(), found: name.clone() });
        }
        let gone = || path.canonicalize().is_err();
        let name = linked.or_else(|| md5.filter(|_| gone()).map(str::to_owned));
        let Some(name) = name else { return self.inside(file) };
        let blob = self.root.join(BLOBS).join(&name);
        match self.below_root(&blob) {
            Err(Error::Read { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => match self.inside(file) {
                Err(Error::Missing { id, dir, .. }) => {
                    let file = format!("{file} (blob {BLOBS}/{name})");
                    Err(Error::Missing { id, dir, file, help: String::new() })
                }
                found => found,
            },
            found => found,
        }
    }

    /// The text of a file of this directory.
    pub fn text(&self, file: &str) -> Result<String, Error> {
        text_of(&self.inside(file)?)
    }

    /// The text of a file whose content has a known digest, which is checked.
    pub fn blob_text(&self, file: &str, md5: Option<&str>) -> Result<String, Error> {
        let path = self.blob(file, md5)?;
        let text = text_of(&path)?;
        match md5 {
            Some(expected) => match digest::md5(text.as_bytes()) {
                found if found == expected => Ok(text),
                found => Err(Error::Digest { path, expected: expected.into(), found }),
            },
            None => Ok(text),
        }
    }

    /// A file whose content has a known digest, which is checked, as a mapping.
    pub fn blob_mapped(&self, file: &str, md5: Option<&str>) -> Result<Weights, Error> {
        let weights = Weights::map(&self.blob(file, md5)?)?;
        let Some(expected) = md5 else { return Ok(weights) };
        match digest::md5(weights.bytes()) {
            found if found == expected => Ok(weights),
            found => Err(Error::Digest { path: weights.path().into(), expected: expected.into(), found }),
        }
    }

    fn below_root(&self, path: &Path) -> Result<PathBuf, Error> {
        let read = |path: &Path, cause| Error::Read { path: path.into(), cause };
        let target = path.canonicalize().map_err(|cause| read(path, cause))?;
        let root = self.root.canonicalize().map_err(|cause| read(self.root, cause))?;
        if !target.starts_with(&root) {
            return Err(Error::Escapes { path: path.into(), target, root });
        }
        Ok(path.into())
    }

    fn missing_or(&self, file: &str, cause: std::io::Error) -> Error {
        match cause.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Error::Missing {
                id: self.dir.strip_prefix(self.root).unwrap_or(self.dir).to_string_lossy().into_owned(),
                dir: self.dir.into(),
                file: file.into(),
                help: String::new(),
            },
            _ => Error::Read { path: self.dir.join(file), cause },
        }
    }
}

/// Where the content of a package's file lies in the cache at `root`: its blob, or itself.
pub(crate) fn resolved(root: &Path, dir: &Path, file: &str) -> Result<PathBuf, Error> {
    Reader { root, dir }.blob(file, None)
}

/// The text of a file of bounded size.
fn text_of(path: &Path) -> Result<String, Error> {
    let read = |cause| Error::Read { path: path.into(), cause };
    let metadata = std::fs::metadata(path).map_err(read)?;
    if !metadata.is_file() {
        return Err(read(std::io::Error::other("not a regular file")));
    }
    if metadata.len() > TEXT_BYTES_MAX {
        return Err(Error::TooLarge { path: path.into(), bytes: metadata.len(), limit: TEXT_BYTES_MAX });
    }
    std::fs::read_to_string(path).map_err(read)
}

/// The MD5 that a link into `shared-blobs` ends in.
pub(super) fn blob_name(target: &Path) -> Option<String> {
    let name = target.file_name()?.to_str()?;
    let folder = target.parent()?.file_name()?;
    (folder == BLOBS && is_md5(name)).then(|| name.to_owned())
}
