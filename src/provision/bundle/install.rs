//! Installing: a bundle is read once, from whatever it comes from, and never lies anywhere whole. It is unpacked beside what
//! runs, and nothing of that changes before every byte was checked and every model has shown what it does.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use minisign_verify::PublicKey;
use nix::sys::statvfs::statvfs;
use sha2::{Digest, Sha256};

use super::archive::{self, Archive, MANIFEST, SIGNATURE};
use super::store::{MANIFEST_BYTES_MAX, remove_folder};
use super::{BOARD, Bundle, CONFIG, Error, Manifest, Store, settings, signature};
use crate::cache::digest;
use crate::durable::{self, RealDisk};

/// Bytes between two syncs: a card that writes 10 MB/s and owes no more than that holds up the other writers (the spool, the
/// log) for less than half a second.
const UNSYNCED_BYTES_MAX: u64 = 4 << 20;
/// What a file takes on the disk beyond its size, at most: the rest of its last block, and its share of folders.
const FILE_OVERHEAD_BYTES: u64 = 8 << 10;
/// What is left free for the spool and the state.
const RESERVE_BYTES: u64 = 1 << 20;

/// Whose bundles are taken.
#[derive(Debug)]
pub enum Trust {
    /// Those that this key has signed.
    Signed(Box<PublicKey>),
    /// Anybody's.
    Any,
}

/// Told after every piece: bytes that are done, and of how many.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// What is to be installed, and how.
pub struct Request<'a> {
    pub bundle: &'a mut dyn Read,
    pub store: &'a Store,
    pub trust: &'a Trust,
    /// The name of this board.
    pub board: &'a str,
    /// Not if it came this way before, whatever became of it.
    pub once: bool,
    /// Shows each model the golden frame, where the bundle was unpacked.
    pub try_it: &'a dyn Fn(&Bundle) -> Result<(), Error>,
    pub progress: Progress<'a>,
}

/// What was installed.
#[derive(Debug)]
pub struct Installed {
    pub bundle: Bundle,
    /// It was the current one before, and whole: nothing was written.
    pub already: bool,
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("store", &self.store).field("board", &self.board).finish_non_exhaustive()
    }
}

/// Installs a bundle: from the next start on it runs.
///
/// # Errors
/// It is refused, or the disk fails; what runs is as it was.
pub fn install(request: Request<'_>) -> Result<Installed, Error> {
    let Request { bundle, store, trust, board, once, try_it, progress } = request;
    let _lock = store.lock()?;
    store.tidy()?;
    let mut archive = Archive::new(bundle);
    let head = Head::read(&mut archive, trust)?;
    let manifest = &head.manifest;
    if !manifest.boards.is_empty() && !manifest.boards.iter().any(|name| name == board) {
        return Err(Error::Board { expected: board.into(), found: manifest.boards.join(", ") });
    }
    // A state that cannot be read is replaced by what this installation comes to.
    let state = store.state().unwrap_or_default();
    if once && state.once.contains(&manifest.root) {
        return Err(Error::Known);
    }
    let current = state.current;
    if current.as_ref() == Some(&manifest.root)
        && let Ok(bundle) = Bundle::verify(&store.path_of(&manifest.root), &manifest.root)
    {
        return Ok(Installed { bundle, already: true });
    }
    check_room(store, manifest)?;
    let incoming = store.incoming()?;
    let root = manifest.root.clone();
    let installed = unpack(&mut archive, head, &incoming, progress).and_then(|bundle| {
        check_settings(&bundle)?;
        try_it(&bundle)?;
        store.switch(&incoming, &root, once)?;
        Ok(bundle)
    });
    if installed.is_err() {
        // A full disk gets its room back at once. What cannot be removed now is a leftover.
        let _ = remove_folder(&incoming);
    }
    Ok(Installed { bundle: Bundle { dir: store.path_of(&root), ..installed? }, already: false })
}

/// What comes before the files.
struct Head {
    manifest: Manifest,
    json: Vec<u8>,
    signature: Option<Vec<u8>>,
    /// The header of the first file, where it was read in the place of a signature.
    begun: Option<[u8; 512]>,
}

impl Head {
    /// Reads the manifest and believes it as far as it is to be trusted.
    fn read(archive: &mut Archive<'_>, trust: &Trust) -> Result<Self, Error> {
        let json = match archive.small(MANIFEST, MANIFEST_BYTES_MAX)? {
            Ok(json) => json,
            Err(found) => return Err(archive::unexpected(&found, MANIFEST)),
        };
        let (signature, begun) = match archive.small(SIGNATURE, signature::BYTES_MAX)? {
            Ok(signature) => (Some(signature), None),
            Err(found) => (None, Some(found)),
        };
        // A stranger's manifest is not even parsed.
        let comment = match (trust, &signature) {
            (Trust::Any, _) => None,
            (Trust::Signed(_), None) => return Err(Error::Unsigned),
            (Trust::Signed(key), Some(signature)) => Some(signature::verify(&json, signature, key)?),
        };
        let manifest = Manifest::parse(&json)?;
        if comment.is_some_and(|comment| comment != signature::trusted_comment(&manifest.root)) {
            return Err(Error::Signature("the signature is of another root".into()));
        }
        Ok(Self { manifest, json, signature, begun })
    }
}

fn check_room(store: &Store, manifest: &Manifest) -> Result<(), Error> {
    let files = manifest.files.len() as u64 + 2;
    let needed =
        manifest.bytes() + files * FILE_OVERHEAD_BYTES + MANIFEST_BYTES_MAX.min(manifest.bytes()) + RESERVE_BYTES;
    let found = statvfs(store.dir()).map_err(std::io::Error::from);
    let found = found.map_err(durable::Error::io(store.dir(), "asked for its free space"))?;
    let free = found.blocks_available().saturating_mul(found.fragment_size());
    if free < needed {
        return Err(Error::Full { path: store.dir().into(), needed, free });
    }
    Ok(())
}

/// Writes all files of a bundle below `place`, each with the digest that its manifest states.
fn unpack(archive: &mut Archive<'_>, head: Head, place: &Path, progress: Progress<'_>) -> Result<Bundle, Error> {
    let Head { manifest, json, signature, mut begun } = head;
    let (mut done, total) = (0, manifest.bytes());
    let mut folders = BTreeSet::from([place.to_path_buf()]);
    for file in &manifest.files {
        let path = place.join(&file.path);
        make_folders(place, &path, &mut folders)?;
        let mut to = File::create_new(&path).map_err(durable::Error::io(&path, "created"))?;
        let (mut sha256, mut unsynced) = (Sha256::new(), 0);
        archive.file(&file.path, file.bytes, begun.take(), &mut |piece| {
            sha256.update(piece);
            to.write_all(piece).map_err(durable::Error::io(&path, "written"))?;
            unsynced += piece.len() as u64;
            if unsynced >= UNSYNCED_BYTES_MAX {
                to.sync_data().map_err(durable::Error::io(&path, "synced"))?;
                unsynced = 0;
            }
            done += piece.len() as u64;
            progress(done, total);
            Ok(())
        })?;
        let found = digest::hex(&sha256.finalize());
        if found != file.sha256 {
            return Err(Error::Digest { file: file.path.clone(), expected: file.sha256.clone(), found });
        }
        to.sync_all().map_err(durable::Error::io(&path, "synced"))?;
    }
    archive.end()?;
    durable::write_durably(&place.join(MANIFEST), &json)?;
    if let Some(signature) = signature {
        durable::write_durably(&place.join(SIGNATURE), &signature)?;
    }
    for folder in &folders {
        durable::sync_directory(&RealDisk, folder)?;
    }
    Ok(Bundle { dir: place.into(), manifest })
}

/// Makes the folders of a file that are not there yet.
fn make_folders(place: &Path, path: &Path, folders: &mut BTreeSet<PathBuf>) -> Result<(), Error> {
    let Some(folder) = path.parent().filter(|folder| !folders.contains(*folder)) else { return Ok(()) };
    fs::create_dir_all(folder).map_err(durable::Error::io(folder, "made"))?;
    folders.extend(folder.ancestors().take_while(|above| *above != place).map(Path::to_path_buf));
    Ok(())
}

/// What is read at every start must be readable.
fn check_settings(bundle: &Bundle) -> Result<(), Error> {
    let text = |path: PathBuf, file| {
        fs::read_to_string(path).map_err(|cause| Error::Settings { file, why: cause.to_string() })
    };
    if let Some(path) = bundle.config() {
        settings::check_model(&settings::check(&text(path, CONFIG)?)?, &bundle.manifest.models)?;
    }
    // What a board file says is judged by who knows boards; that it is text is known here.
    bundle.board().map(|path| text(path, BOARD)).transpose().map(drop)
}
