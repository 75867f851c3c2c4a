//! The frame of the file: a header that says where each section lies, and checksums over every byte.
//!
//! ```text
//!   0  magic            8 bytes
//!   8  version          u32
//!  12  checksum         u32, CRC-32 of the header with zeros here
//!  16  length           u64, of the whole file
//!  24  sections         3 × { offset u64, length u64, checksum u32, zero u32 }: head, program, weights
//!  96  zeros            to 128
//! ```
//!
//! All numbers are little-endian. Sections follow each other in this order, each at the next multiple of 64 bytes; the
//! checksum of a section covers the zeros up to the next one, and the file ends with the weights. May not know: what is
//! in a section.

/// Not text (the first byte), and spoilt by whatever converts line ends (the last two).
pub const MAGIC: [u8; 8] = *b"\x89FLPLAN\n";

/// Bytes of the header.
pub const HEADER: usize = 128;

/// To which sections are aligned, in bytes: a cache line, and the widest vector.
pub const ALIGNMENT: usize = 64;

/// Names of the sections, in their order.
pub const NAMES: [&str; 3] = ["head", "program", "weights"];

/// Where a section lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    pub offset: u64,
    /// Bytes of its content.
    pub length: u64,
    /// CRC-32 of its content, and of the zeros after it.
    pub checksum: u32,
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Of the whole file.
    pub length: u64,
    pub sections: [Section; 3],
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Magic,
    Version(u32),
    Checksum {
        expected: u32,
        found: u32,
    },
    /// It is as it was written, but says what no header says.
    Layout,
}

impl Header {
    /// For contents of these lengths; `None` when they are longer than any file.
    pub fn of(lengths: [u64; 3], checksums: [u32; 3]) -> Option<Self> {
        let mut next = HEADER as u64;
        let mut sections = [Section { offset: 0, length: 0, checksum: 0 }; 3];
        for (section, (length, checksum)) in sections.iter_mut().zip(lengths.into_iter().zip(checksums)) {
            *section = Section { offset: next.checked_next_multiple_of(ALIGNMENT as u64)?, length, checksum };
            next = section.offset.checked_add(length)?;
        }
        Some(Self { length: next, sections })
    }

    /// Bytes from the beginning of a section to that of the next one, or to the end.
    pub fn extent(&self, index: usize) -> u64 {
        let end = self.sections.get(index + 1).map_or(self.length, |next| next.offset);
        end - self.sections[index].offset
    }

    pub fn encode(&self, version: u32) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.length.to_le_bytes());
        for (place, section) in bytes[24..96].chunks_exact_mut(24).zip(&self.sections) {
            place[..8].copy_from_slice(&section.offset.to_le_bytes());
            place[8..16].copy_from_slice(&section.length.to_le_bytes());
            place[16..20].copy_from_slice(&section.checksum.to_le_bytes());
        }
        let checksum = crc32fast::hash(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// # Errors
    /// They are no header of this version.
    pub fn decode(bytes: &[u8; HEADER], version: u32) -> Result<Self, Fault> {
        if bytes[..8] != MAGIC {
            return Err(Fault::Magic);
        }
        // What another version's checksum covers is not known here.
        if u32_at(bytes, 8) != version {
            return Err(Fault::Version(u32_at(bytes, 8)));
        }
        let mut covered = *bytes;
        covered[12..16].fill(0);
        let (expected, found) = (u32_at(bytes, 12), crc32fast::hash(&covered));
        if found != expected {
            return Err(Fault::Checksum { expected, found });
        }
        let table = |index: usize| 24 + 24 * index;
        let lengths = [0, 1, 2].map(|index| u64_at(bytes, table(index) + 8));
        let checksums = [0, 1, 2].map(|index| u32_at(bytes, table(index) + 16));
        // There is one layout for three lengths; anything else was not written by us.
        let header = Self::of(lengths, checksums).ok_or(Fault::Layout)?;
        if header.encode(version) == *bytes { Ok(header) } else { Err(Fault::Layout) }
    }
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
