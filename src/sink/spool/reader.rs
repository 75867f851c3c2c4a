//! Reads a spool, also one that is being written: what `firstlight spool` shows.
//!
//! May not know: who writes, or how to print.

use std::io::ErrorKind;
use std::path::Path;

use super::ring;
use super::segment::{self, DAMAGED, Fault, file_name};
use crate::sink::Error;

/// A segment as it was found.
#[derive(Debug)]
pub struct Segment {
    /// Of the file.
    pub name: String,
    /// Number of its first record.
    pub first: u64,
    /// Of the file; 0 when it cannot be read.
    pub bytes: u64,
    /// Its records, or why they cannot be had.
    pub contents: Result<Contents, String>,
    /// Number that its first record would have if none were missing before it.
    pub expected: Option<u64>,
}

/// What a whole segment holds.
#[derive(Debug)]
pub struct Contents {
    /// Number of its last record.
    pub last: u64,
    /// A line each.
    pub records: Vec<u8>,
}

impl Segment {
    /// What is wrong with it, in words that name the file.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        if let Err(why) = &self.contents {
            return Some(format!("{}: damaged: {why}", self.name));
        }
        let expected = self.expected.filter(|&expected| expected != self.first)?;
        Some(format!("{}: record {expected} should be its first; it begins at {}", self.name, self.first))
    }
}

/// The segments of a directory in the order of their numbers, those that were moved aside among them. Each is read and
/// checked when its turn comes, so that only one is in memory.
///
/// # Errors
/// The directory cannot be read.
pub fn segments(dir: &Path) -> Result<impl Iterator<Item = Segment>, Error> {
    let names = ring::names(dir).map_err(|error| Error::Spool(error.to_string()))?;
    let whole = names.segments.into_iter().map(|first| (first, file_name(first)));
    let aside = names.damaged.into_iter().map(|first| (first, file_name(first) + DAMAGED));
    let mut files: Vec<(u64, String)> = whole.chain(aside).collect();
    files.sort_unstable();
    let dir = dir.to_owned();
    let mut expected = None;
    Ok(files.into_iter().filter_map(move |(first, name)| {
        let path = dir.join(&name);
        let contents = match segment::read(&path, first) {
            // The writer has removed it meanwhile: the ring has moved on.
            Err(Fault::Unreadable(cause)) if cause.kind() == ErrorKind::NotFound => {
                expected = None;
                return None;
            }
            found => found.map(|(header, records)| Contents { last: header.last(), records }),
        };
        let contents = contents.map_err(|fault| fault.to_string());
        let bytes = std::fs::metadata(&path).map_or(0, |found| found.len());
        let last = contents.as_ref().ok().map(|contents| contents.last + 1);
        let segment = Segment { name, first, bytes, contents, expected };
        expected = last.or(expected);
        Some(segment)
    }))
}
