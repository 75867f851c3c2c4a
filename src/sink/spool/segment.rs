//! One segment: a file whose first line says what the rest is, and whose name is the number of its first record.
//!
//! `{"format":1,"first":42,"records":10,"bytes":5210,"boot_id":"…","sha256":"…"}`, then the records, a line each.
//! May not know: the ring it is part of.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cache::digest::sha256;

/// The only format so far; a reader refuses others.
const FORMAT: u32 = 1;
/// Most records in a segment.
pub const RECORDS_MAX: u64 = 8192;
/// Most bytes of records in a segment, which is also what may wait in memory: a megabyte is a quarter of an hour of one
/// line of a kilobyte a second, and more than the line of nearly any frame.
pub const RECORDS_BYTES_MAX: usize = 1 << 20;
/// A header has about 220 bytes.
const HEADER_BYTES_MAX: u64 = 512;
/// A kernel's boot id has 36 characters.
const BOOT_ID_CHARS_MAX: usize = 36;
/// Numbers stay exact for readers that hold them in a double; at 1000 a second there are enough for 285,000 years.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

const EXTENSION: &str = ".jsonl";
/// After the name of a segment that was moved aside.
pub const DAMAGED: &str = ".damaged";

/// The first line of a segment.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    format: u32,
    /// Number of the first record.
    pub first: u64,
    pub records: u64,
    /// Of the records, without this line.
    pub bytes: u64,
    /// The boot in which it was written.
    boot_id: String,
    /// Of the records, lower-case hex.
    sha256: String,
}

impl Header {
    /// Of `count` records, the first of which has the number `first`.
    pub fn of(first: u64, records: &[u8], count: u64, boot_id: &str) -> Self {
        let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
        Self {
            format: FORMAT,
            first,
            records: count,
            bytes: records.len() as u64,
            boot_id: boot_id.chars().filter(plain).take(BOOT_ID_CHARS_MAX).collect(),
            sha256: sha256(records),
        }
    }

    pub fn render(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("numbers and text always serialise");
        line.push(b'\n');
        line
    }

    /// Number of the last record.
    pub fn last(&self) -> u64 {
        self.first + self.records - 1
    }

    /// From the start of the file whose name says `first`; with the length of the line.
    fn parse(start: &[u8], first: u64) -> Result<(Self, u64), Fault> {
        let damaged = |why: String| Err(Fault::Damaged(why));
        let Some(end) = start.iter().position(|&byte| byte == b'\n') else {
            return damaged(format!("no header line in its first {} bytes", start.len()));
        };
        let header: Self = match serde_json::from_slice(&start[..end]) {
            Ok(header) => header,
            Err(error) => return damaged(format!("no header in its first line: {error}")),
        };
        if header.format != FORMAT {
            return damaged(format!("format {}; this version reads {FORMAT}", header.format));
        }
        if header.first != first {
            return damaged(format!("its name says {first}, its header {}", header.first));
        }
        if !(1..=RECORDS_MAX).contains(&header.records) {
            return damaged(format!("{} records; a segment has 1 to {RECORDS_MAX}", header.records));
        }
        if header.bytes > RECORDS_BYTES_MAX as u64 {
            return damaged(format!("{} bytes of records; a segment has at most {RECORDS_BYTES_MAX}", header.bytes));
        }
        Ok((header, end as u64 + 1))
    }
}

/// Why a segment cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Its bytes are not those that were written.
    #[error("{0}")]
    Damaged(String),
    /// Nothing is known of its bytes.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
}

impl From<io::Error> for Fault {
    fn from(cause: io::Error) -> Self {
        // What the medium or the file system has lost does not come back; anything else may.
        match cause.raw_os_error() {
            Some(libc::EIO | libc::EUCLEAN | libc::EBADMSG) => Self::Damaged(format!("cannot be read: {cause}")),
            _ => Self::Unreadable(cause),
        }
    }
}

/// Name of the segment whose first record is `first`.
pub fn file_name(first: u64) -> String {
    format!("{first:010}{EXTENSION}")
}

/// Number of the first record of the segment of this name; `None` for the name of anything else.
pub fn number_of(name: &str) -> Option<u64> {
    let first = name.strip_suffix(EXTENSION)?.parse().ok()?;
    ((1..=NUMBER_MAX).contains(&first) && file_name(first) == name).then_some(first)
}

/// Whether the header and the length of a file are right. Does not look at the records.
pub fn check(path: &Path, first: u64) -> Result<Header, Fault> {
    let file = File::open(path)?;
    let found = file.metadata()?.len();
    let mut start = Vec::new();
    file.take(HEADER_BYTES_MAX).read_to_end(&mut start)?;
    let (header, header_bytes) = Header::parse(&start, first)?;
    let expected = header_bytes + header.bytes;
    if found != expected {
        return Err(Fault::Damaged(format!("{found} bytes; its header says {expected}")));
    }
    Ok(header)
}

/// Reads a segment and checks every byte; the second value is the records.
pub fn read(path: &Path, first: u64) -> Result<(Header, Vec<u8>), Fault> {
    let mut records = Vec::new();
    let bytes_max = HEADER_BYTES_MAX + RECORDS_BYTES_MAX as u64;
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut records)?;
    let start = records.len().min(usize::try_from(HEADER_BYTES_MAX).expect("512"));
    let (header, header_bytes) = Header::parse(&records[..start], first)?;
    records.drain(..usize::try_from(header_bytes).expect("at most 512"));
    let damaged = |why: String| Err(Fault::Damaged(why));
    if records.len() as u64 != header.bytes {
        return damaged(format!("{} bytes of records; its header says {}", records.len(), header.bytes));
    }
    let digest = sha256(&records);
    if digest != header.sha256 {
        return damaged(format!("its records have SHA-256 {digest}; its header says {}", header.sha256));
    }
    let lines = records.iter().filter(|&&byte| byte == b'\n').count() as u64;
    if lines != header.records {
        return damaged(format!("{lines} records; its header says {}", header.records));
    }
    Ok((header, records))
}
