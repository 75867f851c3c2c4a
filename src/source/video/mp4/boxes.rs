//! Boxes: a size, a kind, and a body; in a file and in bytes. Numbers are big-endian.

use crate::source::video::file::VideoFile;

/// A box of the file.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub kind: [u8; 4],
    /// Where the box, its body and the next box begin.
    pub start: u64,
    pub body: u64,
    pub end: u64,
}

/// The box at a place of the file; `None` where there is none.
pub fn top_level(file: &VideoFile, start: u64) -> Option<Head> {
    let [a, b, c, d, kind @ ..] = file.array::<8>(start)?;
    let (header, size) = match u32::from_be_bytes([a, b, c, d]) {
        // To the end of the file.
        0 => (8, file.length() - start),
        1 => (16, u64::from_be_bytes(file.array(start + 8)?)),
        size => (8, u64::from(size)),
    };
    let end = start.checked_add(size)?;
    (size >= header).then_some(Head { kind, start, body: start + header, end })
}

/// Kinds and bodies of the boxes in a body; a box that reaches beyond it is cut to it.
pub fn boxes(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (&[a, b, c, d, kind @ ..], after) = rest.split_first_chunk::<8>()?;
        let (header, size) = match u32::from_be_bytes([a, b, c, d]) {
            0 => (8, rest.len()),
            1 => (16, usize::try_from(u64::from_be_bytes(*after.first_chunk()?)).ok()?),
            size => (8, usize::try_from(size).ok()?),
        };
        let size = size.min(rest.len());
        let body = rest.get(header..size)?;
        rest = &rest[size..];
        Some((kind, body))
    })
}

/// The body of the first box of a kind.
pub fn find<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find_map(|(found, body)| (found == *kind).then_some(body))
}

/// The body of the first box at the end of a path of kinds.
pub fn descend<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |bytes, kind| find(bytes, kind))
}

pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    u32_at(bytes, at).map(u32::cast_signed)
}

pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The body of a box with a version, its flags and the version.
pub fn versioned(body: &[u8]) -> Option<(u8, u32, &[u8])> {
    let flags = u32_at(body, 0)?;
    Some((body[0], flags & 0x00ff_ffff, &body[4..]))
}
