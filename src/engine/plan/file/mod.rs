//! A plan as a file: what it was made for and its program as JSON text, its weights as they are used, mapped.
//!
//! [`sections`] describes the bytes. Whatever they are, [`open`] gives back the plan that was written, checked so that
//! running it touches nothing but its own memory, or says what is wrong with them. May not know: graphs, the cache.
//!
//! Texts are read before they are checked, and belong to us from then on; weights stay in the page cache, where whoever
//! may write the file can change them. Then results are wrong, but nothing else: what tables among them point to is
//! confined each time it is read. Who shortens the file while it is mapped ends the process (SIGBUS): plans are replaced
//! by renaming, never written in place.

mod head;
mod sections;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap, MmapOptions};
use serde::de::DeserializeOwned;

pub use head::{Binding, Compared, Golden, Head, Judged, Measure, REMEMBERED_MAX, Referee, Refereed, Trust};
use sections::{HEADER, Header, MAGIC, NAMES};

use super::kernels::Isa;
use super::program::{Invalid, Program};
use crate::engine::Precision;

/// Version of plans: of the frame, of what steps mean, and of how weights are packed for them. A change of any of these
/// is a new version; plans of another version are baked again.
pub const VERSION: u32 = 2;

/// Most bytes of the head, which is a page of text.
const HEAD_MAX: u64 = 1 << 20;
/// Most bytes of the program: a step takes about 400, and there are at most some thousands.
const PROGRAM_MAX: u64 = 32 << 20;

// Weights are used as they lie in the file.
const _: () = assert!(cfg!(target_endian = "little"), "plans are little-endian");

/// A file that cannot be run as the plan that is wanted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: not a plan: it begins with {found:02x?}; remove it and bake with `firstlight cache bake ID`", path = .path.display())]
    NotAPlan { path: PathBuf, found: Vec<u8> },
    #[error(
        "{path}: a plan of version {found}, which is {age} than version {expected} of this program; bake it again with `firstlight cache bake ID`",
        path = .path.display(), age = if found > expected { "newer" } else { "older" }
    )]
    Version { path: PathBuf, expected: u32, found: u32 },
    #[error("{path}: cut short: {expected} bytes expected, {found} found; bake it again with `firstlight cache bake ID`", path = .path.display())]
    Truncated { path: PathBuf, expected: u64, found: u64 },
    #[error("{path}: damaged: {part}: {expected} expected, {found} found; bake it again with `firstlight cache bake ID`", path = .path.display())]
    Damaged { path: PathBuf, part: &'static str, expected: String, found: String },
    #[error("{path}: made for another model: sha256 {expected} expected, {found} found; bake it again with `firstlight cache bake ID`", path = .path.display())]
    OtherModel { path: PathBuf, expected: String, found: String },
    #[error("{path}: made for another input: {expected:?} expected, {found:?} found; bake it again with `firstlight cache bake ID`", path = .path.display())]
    OtherShape { path: PathBuf, expected: [usize; 4], found: [usize; 4] },
    #[error("{path}: made for another CPU: {expected} expected, {found} found; bake it again with `firstlight cache bake ID`", path = .path.display())]
    OtherIsa { path: PathBuf, expected: String, found: String },
    #[error("{path}: made in another precision: {expected} expected, {found} found; bake it again with `firstlight cache bake ID`", path = .path.display())]
    OtherPrecision { path: PathBuf, expected: Precision, found: Precision },
    #[error("{path}: step {step:?} cannot be run: {fault}; bake it again with `firstlight cache bake ID`", path = .path.display())]
    Invalid { path: PathBuf, step: String, fault: String },
    #[error("{path}: cannot be read: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A plan, ready to be run.
#[derive(Debug)]
pub struct Plan {
    pub head: Head,
    pub program: Program,
    pub weights: Mapped,
}

/// Weights in the page cache, aligned to 64 bytes.
pub struct Mapped(Mmap);

impl AsRef<[f32]> for Mapped {
    fn as_ref(&self) -> &[f32] {
        // SAFETY: the mapping lives as long as `self`, begins at a multiple of 64 bytes, and any bits are an f32.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() / size_of::<f32>()) }
    }
}

impl std::fmt::Debug for Mapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mapped({} values)", self.as_ref().len())
    }
}

/// Writes a plan.
///
/// # Errors
/// What `to` said; or the plan is one that could not be read again.
pub fn write(to: &mut impl io::Write, head: &Head, program: &Program, weights: &[f32]) -> io::Result<()> {
    // JSON has no words for these, so they would be found only by who reads it.
    if let Some(fault) = head.trust.fault() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, fault));
    }
    assemble(to, VERSION, &serde_json::to_vec(head)?, &serde_json::to_vec(program)?, weights)
}

/// Writes the frame around these texts and weights.
fn assemble(to: &mut impl io::Write, version: u32, head: &[u8], program: &[u8], weights: &[f32]) -> io::Result<()> {
    let too_large = || io::Error::new(io::ErrorKind::InvalidInput, "a plan larger than any file");
    if head.len() as u64 > HEAD_MAX || program.len() as u64 > PROGRAM_MAX {
        return Err(too_large());
    }
    let lengths = [head.len(), program.len(), size_of_val(weights)].map(|length| length as u64);
    let mut header = Header::of(lengths, [0; 3]).ok_or_else(too_large)?;
    let texts = [head, program].map(|text| {
        let mut text = text.to_vec();
        text.resize(text.len().next_multiple_of(sections::ALIGNMENT), 0);
        text
    });
    for (section, text) in header.sections.iter_mut().zip(&texts) {
        section.checksum = crc32fast::hash(text);
    }
    let mut checksum = crc32fast::Hasher::new();
    each_chunk(weights, |chunk| {
        checksum.update(chunk);
        Ok(())
    })?;
    header.sections[2].checksum = checksum.finalize();
    to.write_all(&header.encode(version))?;
    texts.iter().try_for_each(|text| to.write_all(text))?;
    each_chunk(weights, |chunk| to.write_all(chunk))
}

/// Calls `f` with the bytes of all values, some thousands at once.
fn each_chunk(values: &[f32], mut f: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    values.chunks(4096).try_for_each(|chunk| {
        let bytes: Vec<u8> = chunk.iter().flat_map(|value| value.to_le_bytes()).collect();
        f(&bytes)
    })
}

/// Opens the plan that is expected, in this precision, for these kernels.
///
/// # Errors
/// It is another one, or none.
pub fn open(path: &Path, expected: &Binding, precision: Precision, isa: &Isa) -> Result<Plan, Error> {
    let reader = Reader::open(path)?;
    let head: Head = reader.text(0, HEAD_MAX)?;
    check_binding(path, &head, expected, isa)?;
    let found = head.trust.precision();
    if found != precision {
        return Err(Error::OtherPrecision { path: path.into(), expected: precision, found });
    }
    if let Some(fault) = head.trust.fault() {
        return Err(reader.invalid(Invalid { part: NAMES[0].into(), fault }));
    }
    let program: Program = reader.text(1, PROGRAM_MAX)?;
    if let Some(foreign) = program.foreign(precision) {
        let fault = format!("{foreign} steps in a plan of {precision}");
        return Err(reader.invalid(Invalid { part: NAMES[1].into(), fault }));
    }
    let weights = reader.weights()?;
    if program.input.shape != head.binding.input {
        return Err(reader.invalid(Invalid {
            part: program.input.name,
            fault: format!("{:?} in a plan for {:?}", program.input.shape, head.binding.input),
        }));
    }
    program.check(weights.as_ref().len(), isa).map_err(|invalid| reader.invalid(invalid))?;
    Ok(Plan { head, program, weights })
}

/// What a plan says about itself, without a look at its weights.
///
/// # Errors
/// It is no plan of this version, or its first page is damaged.
pub fn read_head(path: &Path) -> Result<Head, Error> {
    Reader::open(path)?.text(0, HEAD_MAX)
}

/// What a plan says, for people. It was not checked whether it can be run.
///
/// # Errors
/// It is no plan of this version, or its texts are damaged.
pub fn read_texts(path: &Path) -> Result<(Head, Program), Error> {
    let reader = Reader::open(path)?;
    Ok((reader.text(0, HEAD_MAX)?, reader.text(1, PROGRAM_MAX)?))
}

fn check_binding(path: &Path, head: &Head, expected: &Binding, isa: &Isa) -> Result<(), Error> {
    let (path, found) = (path.to_owned(), &head.binding);
    if found.model_sha256 != expected.model_sha256 {
        let (expected, found) = (expected.model_sha256.clone(), found.model_sha256.clone());
        return Err(Error::OtherModel { path, expected, found });
    }
    if found.input != expected.input {
        return Err(Error::OtherShape { path, expected: expected.input, found: found.input });
    }
    let tiles = isa.tiles();
    if found.isa != expected.isa || head.tiles != tiles {
        let say = |isa: &str, tiles: &[[usize; 2]]| format!("{isa} with panels (lanes, pixels) {tiles:?}");
        let (expected, found) = (say(&expected.isa, &tiles), say(&found.isa, &head.tiles));
        return Err(Error::OtherIsa { path, expected, found });
    }
    Ok(())
}

/// A file whose header is sound.
struct Reader<'p> {
    path: &'p Path,
    file: File,
    header: Header,
}

impl<'p> Reader<'p> {
    fn open(path: &'p Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        // Whatever lies there, a pipe too, opening it does not wait.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(io)?;
        let found = file.metadata().map_err(io)?;
        if !found.is_file() {
            return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let (path_owned, length) = (path.to_owned(), found.len());
        let mut bytes = [0; HEADER];
        let there = usize::try_from(length).map_or(HEADER, |length| length.min(HEADER));
        file.read_exact_at(&mut bytes[..there], 0).map_err(io)?;
        let start = there.min(MAGIC.len());
        if bytes[..start] != MAGIC[..start] {
            return Err(Error::NotAPlan { path: path_owned, found: bytes[..start].to_vec() });
        }
        if there < HEADER {
            return Err(Error::Truncated { path: path_owned, expected: HEADER as u64, found: length });
        }
        let header = Header::decode(&bytes, VERSION).map_err(|fault| match fault {
            sections::Fault::Magic => Error::NotAPlan { path: path_owned.clone(), found: bytes[..8].to_vec() },
            sections::Fault::Version(found) => Error::Version { path: path_owned.clone(), expected: VERSION, found },
            sections::Fault::Checksum { expected, found } => damaged(path, "header", expected, found),
            sections::Fault::Layout => Error::Damaged {
                path: path_owned.clone(),
                part: "header",
                expected: "sections one after the other".into(),
                found: "others".into(),
            },
        })?;
        if length < header.length {
            return Err(Error::Truncated { path: path_owned, expected: header.length, found: length });
        }
        if length > header.length {
            let say = |length: u64| format!("{length} bytes");
            let (expected, found) = (say(header.length), say(length));
            return Err(Error::Damaged { path: path_owned, part: "length", expected, found });
        }
        Ok(Self { path, file, header })
    }

    fn io(&self, source: io::Error) -> Error {
        Error::Io { path: self.path.to_owned(), source }
    }

    fn invalid(&self, Invalid { part, fault }: Invalid) -> Error {
        Error::Invalid { path: self.path.to_owned(), step: part, fault }
    }

    /// What a section says.
    fn text<T: DeserializeOwned>(&self, index: usize, bytes_max: u64) -> Result<T, Error> {
        let (section, extent) = (self.header.sections[index], self.header.extent(index));
        let invalid = |fault| self.invalid(Invalid { part: NAMES[index].into(), fault });
        if section.length > bytes_max {
            return Err(invalid(format!("{} bytes of text; at most {bytes_max}", section.length)));
        }
        // No more than the file has.
        let size = |bytes: u64| usize::try_from(bytes).expect("some megabytes at most");
        let mut bytes = vec![0; size(extent)];
        self.file.read_exact_at(&mut bytes, section.offset).map_err(|source| self.io(source))?;
        let found = crc32fast::hash(&bytes);
        if found != section.checksum {
            return Err(damaged(self.path, NAMES[index], section.checksum, found));
        }
        serde_json::from_slice(&bytes[..size(section.length)]).map_err(|why| invalid(why.to_string()))
    }

    fn weights(&self) -> Result<Mapped, Error> {
        let section = self.header.sections[2];
        if !section.length.is_multiple_of(size_of::<f32>() as u64) {
            let fault = format!("{} bytes are no whole number of values", section.length);
            return Err(self.invalid(Invalid { part: NAMES[2].into(), fault }));
        }
        let length = usize::try_from(section.length).map_err(|_| self.io(io::ErrorKind::OutOfMemory.into()))?;
        let mut options = MmapOptions::new();
        options.offset(section.offset).len(length);
        // SAFETY: all of it is inside the file. Another process that writes to the file makes results wrong and no
        // more: no weight is trusted as an offset or a size. Plans are replaced by renaming.
        let map = unsafe { options.map_copy_read_only(&self.file) }.map_err(|source| self.io(source))?;
        // All of it is about to be read; that this is only advice is no loss.
        let _ = map.advise(Advice::WillNeed);
        let found = crc32fast::hash(&map);
        if found != section.checksum {
            return Err(damaged(self.path, NAMES[2], section.checksum, found));
        }
        Ok(Mapped(map))
    }
}

fn damaged(path: &Path, part: &'static str, expected: u32, found: u32) -> Error {
    let say = |checksum: u32| format!("checksum {checksum:08x}");
    Error::Damaged { path: path.to_owned(), part, expected: say(expected), found: say(found) }
}
