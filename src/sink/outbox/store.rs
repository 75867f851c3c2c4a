//! The records of an outbox on the disk: a ring of segments, and a cursor that says what need not be sent again.
//!
//! The cursor may be older than what was acknowledged, never newer: after a cut some records are sent twice, under the
//! numbers they had. May not know: threads, who sends, or where.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable::{self, Disk};
use crate::sink::spool::ring::{Error, Place, Ring};
use crate::sink::spool::segment::{DAMAGED, NUMBER_MAX};

/// The only format so far; a cursor of another is damaged.
const FORMAT: u32 = 1;
/// A cursor has about 70 bytes.
const CURSOR_BYTES_MAX: u64 = 512;
const CURSOR: &str = "cursor.json";
/// Hex digits of a stream's name.
const STREAM_CHARS: usize = 8;

/// The name of a new sequence of numbers: no two sequences of one device have the same.
pub fn new_stream() -> String {
    let mut name = uuid::Uuid::new_v4().simple().to_string();
    name.truncate(STREAM_CHARS);
    name
}

/// What is remembered beside the segments.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    format: u32,
    /// Names the numbers of this directory: in another they mean other records.
    stream: String,
    /// Number of the last record that need not be sent again; 0 before the first.
    acknowledged: u64,
}

impl Cursor {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let cursor: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let named = cursor.stream.len() == STREAM_CHARS && cursor.stream.bytes().all(|byte| byte.is_ascii_hexdigit());
        match cursor {
            Self { format, .. } if format != FORMAT => Err(format!("format {format}; this version reads {FORMAT}")),
            Self { acknowledged, .. } if acknowledged >= NUMBER_MAX => Err(format!("record {acknowledged}")),
            _ if !named => Err(format!("stream {:?}", cursor.stream)),
            cursor => Ok(cursor),
        }
    }
}

/// An open store; no other process can open it meanwhile.
pub struct Store<'a> {
    disk: &'a dyn Disk,
    ring: Ring<'a>,
    path: PathBuf,
    cursor: Cursor,
    /// What was found damaged at opening.
    damage: Option<String>,
}

impl<'a> Store<'a> {
    /// Opens the directory; what is damaged is moved aside. When this has returned, the stream has its name for good.
    ///
    /// # Errors
    /// The directory is not there, is in use, or fails.
    pub fn open(disk: &'a dyn Disk, place: &'a Place) -> Result<Self, Error> {
        let mut ring = Ring::open(disk, place)?;
        let path = place.dir.join(CURSOR);
        let mut damage = ring.damage().map(str::to_owned);
        let found = match durable::read_bounded(&path, CURSOR_BYTES_MAX) {
            Ok(found) => found.map(|bytes| Cursor::parse(&bytes)).transpose(),
            Err(durable::Error::TooLarge { bytes, .. }) => Err(format!("{bytes} bytes")),
            Err(error) => return Err(error.into()),
        };
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                let mut aside = path.clone().into_os_string();
                aside.push(DAMAGED);
                disk.rename(&path, Path::new(&aside)).map_err(durable::Error::io(&path, "moved aside"))?;
                damage.get_or_insert(format!("{}: damaged, moved aside: {why}", path.display()));
                None
            }
        };
        let known = found.is_some();
        let cursor = found.unwrap_or_else(|| Cursor { format: FORMAT, stream: new_stream(), acknowledged: 0 });
        // Segments that are gone altogether took their numbers with them.
        ring.skip_to(cursor.acknowledged + 1);
        let mut store = Self { disk, ring, path, cursor, damage };
        if !known {
            store.write()?;
        }
        Ok(store)
    }

    /// Whether the directory still is the one that was opened.
    pub fn in_place(&self) -> bool {
        self.ring.in_place()
    }

    /// Name of the sequence of its numbers.
    pub fn stream(&self) -> &str {
        &self.cursor.stream
    }

    /// Number of the last record that need not be sent again, as the disk has it.
    pub fn acknowledged(&self) -> u64 {
        self.cursor.acknowledged
    }

    /// Number of the last committed record; 0 before the first.
    pub fn last(&self) -> u64 {
        self.ring.last()
    }

    /// Numbers of the records of each segment, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = RangeInclusive<u64>> {
        self.ring.segments()
    }

    /// What was moved aside at opening, in words.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Adds `count` records. When this has returned, they outlive a power cut.
    ///
    /// # Errors
    /// They are not committed; the next commit takes the same numbers.
    pub fn commit(&mut self, records: &[u8], count: u64) -> Result<(), Error> {
        self.ring.commit(records, count)
    }

    /// Removes the oldest records while all are over their bytes.
    ///
    /// # Errors
    /// A file cannot be removed; the next call tries again.
    pub fn prune(&mut self) -> Result<(), Error> {
        self.ring.prune()
    }

    /// Remembers that no record up to this number need be sent again, and makes room.
    ///
    /// # Errors
    /// It may be forgotten; the next call tries again.
    pub fn acknowledge(&mut self, number: u64) -> Result<(), Error> {
        self.cursor.acknowledged = number;
        self.write()?;
        self.ring.release(number)
    }

    fn write(&mut self) -> Result<(), Error> {
        let text = serde_json::to_vec(&self.cursor).expect("numbers and text always serialise");
        Ok(durable::write_on(self.disk, &self.path, &[&text])?)
    }
}
