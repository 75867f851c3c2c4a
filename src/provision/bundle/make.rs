//! Making a bundle: of the same files comes the same bundle, but for the signature, which is another each time by its nature.

use std::fs::File;
use std::io::{BufWriter, Cursor, Read, Write};
use std::path::{Path, PathBuf};

use minisign::SecretKey;
use sha2::{Digest, Sha256};

use super::archive::{self, MANIFEST, SIGNATURE};
use super::manifest::{self, Manifest, Model};
use super::{Error, signature};
use crate::cache::digest;
use crate::durable::{self, Disk, RealDisk};

/// What is read at once.
const PIECE_BYTES: usize = 1 << 20;

/// What is to be in a bundle.
#[derive(Debug, Default)]
pub struct Content {
    pub version: String,
    pub boards: Vec<String>,
    pub models: Vec<Model>,
    pub workflows: Vec<String>,
    /// Path in the bundle, and the file whose content it is.
    pub files: Vec<(String, PathBuf)>,
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    pub manifest: Manifest,
    /// Of the whole file.
    pub bytes: u64,
}

/// Makes a bundle and puts it in its place when it is whole. `progress` is told bytes that are done, and of how many: each
/// counts twice, when it is hashed and when it is written.
///
/// # Errors
/// A file cannot be read or changes meanwhile, or the bundle cannot be written.
pub fn make(
    content: Content,
    key: Option<&SecretKey>,
    output: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Made, Error> {
    let Content { version, boards, models, workflows, mut files } = content;
    files.sort();
    files.dedup();
    let size = |(_, path): &(String, PathBuf)| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let (total, mut done) = (2 * files.iter().map(size).sum::<u64>(), 0);
    let mut tell = |piece: &[u8]| {
        done += piece.len() as u64;
        progress(done, total);
    };
    let mut entries = Vec::with_capacity(files.len());
    for (path, from) in &files {
        let (mut sha256, mut bytes) = (Sha256::new(), 0);
        read(from, &mut |piece| {
            sha256.update(piece);
            bytes += piece.len() as u64;
            tell(piece);
            Ok(())
        })?;
        entries.push(manifest::File { path: path.clone(), bytes, sha256: digest::hex(&sha256.finalize()) });
    }
    let manifest = Manifest::new(&version, boards, models, workflows, entries)?;
    let json = manifest.to_bytes();
    // What a device would not read is not made.
    Manifest::parse(&json)?;
    let signature = key.map(|key| sign(&json, &manifest.root, key)).transpose()?;
    let temporary = durable::temporary_name(output);
    let written = write(&temporary, &manifest, &json, signature.as_deref(), &files, &mut tell).and_then(|bytes| {
        RealDisk.rename(&temporary, output).map_err(durable::Error::io(output, "put in its place"))?;
        Ok(bytes)
    });
    if written.is_err() {
        let _ = RealDisk.remove(&temporary);
    }
    Ok(Made { bytes: written?, manifest })
}

fn sign(json: &[u8], root: &str, key: &SecretKey) -> Result<Vec<u8>, Error> {
    let comment = signature::trusted_comment(root);
    let signed = minisign::sign(None, key, Cursor::new(json), Some(&comment), Some(signature::COMMENT));
    signed.map(|signed| signed.to_bytes()).map_err(|error| Error::Content(format!("signing: {error}")))
}

fn write(
    path: &Path,
    manifest: &Manifest,
    json: &[u8],
    signature: Option<&[u8]>,
    files: &[(String, PathBuf)],
    tell: &mut dyn FnMut(&[u8]),
) -> Result<u64, Error> {
    let failed = |cause| Error::from(durable::Error::io(path, "written")(cause));
    let mut to = BufWriter::new(RealDisk.create(path).map_err(durable::Error::io(path, "created"))?);
    for (name, content) in [(MANIFEST, Some(json)), (SIGNATURE, signature)] {
        let Some(content) = content else { continue };
        let bytes = content.len() as u64;
        archive::begin_file(&mut to, name, bytes).and_then(|()| to.write_all(content)).map_err(failed)?;
        archive::end_file(&mut to, bytes).map_err(failed)?;
    }
    // Both are sorted by path.
    for (entry, (_, from)) in manifest.files.iter().zip(files) {
        archive::begin_file(&mut to, &entry.path, entry.bytes).map_err(failed)?;
        let (mut sha256, mut bytes) = (Sha256::new(), 0);
        read(from, &mut |piece| {
            sha256.update(piece);
            bytes += piece.len() as u64;
            tell(piece);
            to.write_all(piece).map_err(failed)
        })?;
        if bytes != entry.bytes || digest::hex(&sha256.finalize()) != entry.sha256 {
            return Err(Error::Content(format!(
                "{}: it has changed while the bundle was made; make it again",
                from.display()
            )));
        }
        archive::end_file(&mut to, bytes).map_err(failed)?;
    }
    archive::end(&mut to).map_err(failed)?;
    let file = to.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok(file.metadata().map_err(failed)?.len())
}

fn read(from: &Path, take: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
    let failed = |cause| Error::from(durable::Error::io(from, "read")(cause));
    let mut file = File::open(from).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(durable::Error::NotAFile { path: from.into() }.into());
    }
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece).map_err(failed)? {
            0 => return Ok(()),
            count => take(&piece[..count])?,
        }
    }
}
