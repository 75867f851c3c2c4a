//! How frames lie in the file that a producer and we share. The producer is not trusted: what its header says is
//! checked, and what it changes while we read is noticed.
//!
//! All numbers are little-endian. `scripts/shm_producer.py` writes it.
//!
//! | header, at | bytes | holds |
//! |---|---|---|
//! | 0 | 8 | `FLFRAMES` |
//! | 8 | 4 | version of this layout, 1 |
//! | 12 | 4 | slots, 2 to 64 |
//! | 16 | 4 | width in pixels |
//! | 20 | 4 | height in pixels |
//! | 24 | 4 | bytes from one row to the next; 0: rows follow each other without padding |
//! | 28 | 4 | pixels, as V4L2 calls them: `RGB3`, `YUYV`, `NV12` or `GREY` |
//! | 32 | 8 | bytes from one slot to the next |
//! | 40 | 8 | process id of the producer, or anything else that the next producer does not share |
//! | 48 | 8 | frames written so far; the last of them, number N - 1, is in slot (N - 1) mod slots |
//! | 56 | 8 | nanoseconds of `CLOCK_MONOTONIC` when the producer was last alive; to be renewed twice a second |
//!
//! | slot, at | bytes | holds |
//! |---|---|---|
//! | 0 | 8 | 2N + 1 while frame N is being written, 2N + 2 once it is whole |
//! | 8 | 8 | nanoseconds of `CLOCK_MONOTONIC` when the frame was taken; 0: not known |
//! | 16 | 48 | nothing |
//! | 64 | | the pixels |
//!
//! The first slot begins at byte 64. A new producer makes a new file and renames it over the old one.

use crate::frame::{Limits, RawFormat, RawLayout, Size};

pub const HEADER_BYTES: usize = 64;
/// Bytes before the pixels of a slot; those of [`Stamp`] come first.
pub const SLOT_HEAD_BYTES: u64 = 64;
pub const STAMP_BYTES: usize = 16;
const MAGIC: &[u8; 8] = b"FLFRAMES";
const VERSION: u32 = 1;
/// With one slot every frame would be torn; more than 64 only make frames old.
const SLOTS: std::ops::RangeInclusive<u32> = 2..=64;

/// What a header says that stays as long as its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub pixels: RawLayout,
    slots: u32,
    slot_bytes: u64,
    producer: u64,
}

/// A header at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub layout: Layout,
    /// Frames written so far.
    pub written: u64,
    /// Nanoseconds of the monotonic clock.
    pub alive_ns: u64,
}

impl Header {
    /// Reads a header of a file of `file_bytes`.
    ///
    /// # Errors
    /// What cannot be, or does not lie within the file.
    pub fn parse(bytes: &[u8; HEADER_BYTES], file_bytes: u64) -> Result<Self, String> {
        if bytes[..8] != *MAGIC {
            let found = bytes[..8].escape_ascii();
            return Err(format!("begins with `{found}`: expected FLFRAMES, as scripts/shm_producer.py writes it"));
        }
        let version = number(bytes, 8);
        if version != VERSION {
            return Err(format!("has layout version {version}: expected {VERSION}"));
        }
        let format = match &bytes[28..32] {
            b"RGB3" => RawFormat::Rgb,
            b"YUYV" => RawFormat::Yuyv,
            b"NV12" => RawFormat::Nv12,
            b"GREY" => RawFormat::Grey,
            other => {
                return Err(format!("holds pixels `{}`: expected RGB3, YUYV, NV12 or GREY", other.escape_ascii()));
            }
        };
        let [width, height, stride] = [16, 20, 24].map(|at| number(bytes, at) as usize);
        let pixels = RawLayout::new(format, Size::new(width, height), stride, Limits::default());
        let pixels = pixels.map_err(|cause| format!("declares what cannot be: {cause}"))?;
        let (slots, slot_bytes) = (number(bytes, 12), long(bytes, 32));
        if !SLOTS.contains(&slots) {
            return Err(format!("has {slots} slots: expected 2 to 64"));
        }
        let least = SLOT_HEAD_BYTES.saturating_add(pixels.bytes() as u64);
        if slot_bytes < least {
            return Err(format!("has slots of {slot_bytes} bytes: expected at least {least}"));
        }
        let whole = slot_bytes.checked_mul(u64::from(slots)).and_then(|all| all.checked_add(HEADER_BYTES as u64));
        if whole.is_none_or(|whole| whole > file_bytes) {
            return Err(format!("has {file_bytes} bytes, too few for {slots} slots of {slot_bytes}"));
        }
        let layout = Layout { pixels, slots, slot_bytes, producer: long(bytes, 40) };
        Ok(Self { layout, written: long(bytes, 48), alive_ns: long(bytes, 56) })
    }
}

impl Layout {
    /// Where the slot of frame `number` begins.
    pub fn slot_at(&self, number: u64) -> u64 {
        // Within the file, as `parse` has checked.
        HEADER_BYTES as u64 + number % u64::from(self.slots) * self.slot_bytes
    }
}

/// The head of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    sequence: u64,
    /// Nanoseconds of the monotonic clock; 0 if not known.
    pub taken_ns: u64,
}

impl Stamp {
    pub fn parse(bytes: &[u8; STAMP_BYTES]) -> Self {
        Self { sequence: long(bytes, 0), taken_ns: long(bytes, 8) }
    }

    /// Whether the slot holds frame `number`, whole.
    pub fn is_whole(&self, number: u64) -> bool {
        self.sequence == number.wrapping_mul(2).wrapping_add(2)
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::random::Random;

    /// A header of 4x2 grey pixels in three slots of 72 bytes.
    pub fn header(written: u64, alive_ns: u64) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        for (at, value) in [(8, VERSION), (12, 3), (16, 4), (20, 2), (24, 0)] {
            bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        }
        bytes[28..32].copy_from_slice(b"GREY");
        for (at, value) in [(32, 72), (40, 7), (48, written), (56, alive_ns)] {
            bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
        }
        bytes
    }

    pub const FILE_BYTES: u64 = 64 + 3 * 72;

    #[test]
    fn a_frame_lies_in_its_slot() {
        let header = Header::parse(&header(5, 9), FILE_BYTES).unwrap();
        assert_eq!((header.written, header.alive_ns, header.layout.pixels.bytes()), (5, 9, 8));
        assert_eq!([0, 1, 2, 3, u64::MAX].map(|n| header.layout.slot_at(n)), [64, 136, 208, 64, 64]);
        let stamp = |sequence: u64| Stamp::parse(&[sequence.to_le_bytes(), [0; 8]].concat().try_into().unwrap());
        assert!(stamp(10).is_whole(4) && !stamp(9).is_whole(4) && !stamp(16).is_whole(4));
    }

    #[test]
    fn what_cannot_be_is_said() {
        let cases: [(usize, &[u8], &str); 9] = [
            (0, b"x", "begins with `xLFRAMES`: expected FLFRAMES"),
            (8, &[2], "layout version 2: expected 1"),
            (12, &[1], "1 slots: expected 2 to 64"),
            (16, &[0], "cannot be: the picture is empty"),
            (20, &[255; 4], "too large"),
            (24, &[3], "rows of 3 bytes"),
            (28, b"RGB4", "pixels `RGB4`: expected RGB3"),
            (32, &[71], "slots of 71 bytes: expected at least 72"),
            (32, &[255; 8], "too few for 3 slots"),
        ];
        for (at, damage, word) in cases {
            let mut bytes = header(1, 1);
            bytes[at..at + damage.len()].copy_from_slice(damage);
            let why = Header::parse(&bytes, FILE_BYTES).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
        assert!(Header::parse(&header(1, 1), FILE_BYTES - 1).unwrap_err().contains("has 279 bytes, too few"));
    }

    #[test]
    fn no_header_leads_out_of_its_file() {
        let mut random = Random::new(0x5113);
        let mut accepted = 0;
        for _ in 0..100_000 {
            let mut bytes = header(random.bits(), random.bits());
            for _ in 0..random.below(4) {
                let at = 8 + random.below(HEADER_BYTES - 8);
                bytes[at] = u8::try_from(random.below(256)).unwrap();
            }
            let file_bytes = random.bits() >> random.below(64);
            let Ok(header) = Header::parse(&bytes, file_bytes) else { continue };
            accepted += 1;
            let end = header.layout.slot_at(random.bits()) + SLOT_HEAD_BYTES + header.layout.pixels.bytes() as u64;
            assert!(end <= file_bytes, "{header:?}");
        }
        assert!(accepted > 1000, "{accepted}");
    }
}
