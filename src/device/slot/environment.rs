//! The slot environment block: 512 bytes in U-Boot's environment format, kept twice.
//!
//! 4 bytes CRC-32 (little-endian, over the other 508), then `key=value\0` a key, a further `\0`, and padding (zeros from
//! us, 0xff from `mkenvimage`). Keys that are not ours are kept: a boot script may have its own.
//!
//! Of the two copies one is right at any time. Copy 0 is written first and copy 1 only when copy 0 is on the disk, so a
//! reader that takes the first with a right CRC sees the old state or the new one. A power cut can leave copy 1 old or
//! torn; it is made equal to copy 0 before copy 0 is written again, or a second cut could leave none, or an old one.

use super::disk::Medium;
use super::state::{Content, SlotName, SlotState};

/// Size of a copy: one sector, the unit that a disk writes whole.
pub const BLOCK_BYTES: usize = 512;
/// Where the copies lie, bytes from the disk's begin. 64 KiB apart, so that no page of flash holds both.
pub const COPY_OFFSETS: [u64; 2] = [1 << 20, (1 << 20) + (64 << 10)];
const CRC_BYTES: usize = 4;

type Block = [u8; BLOCK_BYTES];

/// The block does not hold all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the slot environment needs {needed} bytes; {available} fit", available = BLOCK_BYTES - CRC_BYTES)]
pub struct TooLong {
    needed: usize,
}

/// Keys and values, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Environment {
    /// Reads a block; `None` when its CRC is wrong or its end is missing. An entry without a key or a `=` is passed
    /// over, as U-Boot does; of two with one key the last counts.
    #[must_use]
    pub fn decode(block: &Block) -> Option<Self> {
        let (crc, data) = block.split_at(CRC_BYTES);
        if crc != crc32fast::hash(data).to_le_bytes() {
            return None;
        }
        let mut environment = Self::default();
        let mut rest = data;
        loop {
            let end = rest.iter().position(|byte| *byte == 0)?;
            let (entry, after) = rest.split_at(end);
            if entry.is_empty() {
                return Some(environment);
            }
            match entry.iter().position(|byte| *byte == b'=') {
                None | Some(0) => {}
                Some(equals) => environment.set(&entry[..equals], &entry[equals + 1..]),
            }
            rest = &after[1..];
        }
    }

    /// The block that says this.
    ///
    /// # Errors
    /// It needs more than 508 bytes.
    pub fn encode(&self) -> Result<Block, TooLong> {
        let mut data = Vec::with_capacity(BLOCK_BYTES);
        for (key, value) in &self.entries {
            data.extend_from_slice(key);
            data.push(b'=');
            data.extend_from_slice(value);
            data.push(0);
        }
        data.push(0);
        if data.len() > BLOCK_BYTES - CRC_BYTES {
            return Err(TooLong { needed: data.len() });
        }
        let mut block = [0; BLOCK_BYTES];
        block[CRC_BYTES..][..data.len()].copy_from_slice(&data);
        let crc = crc32fast::hash(&block[CRC_BYTES..]);
        block[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
        Ok(block)
    }

    fn get(&self, key: &str) -> &[u8] {
        let found = self.entries.iter().find(|(name, _)| name == key.as_bytes());
        found.map_or(&[], |(_, value)| value)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        match self.entries.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value.into(),
            None => self.entries.push((key.into(), value.into())),
        }
    }

    /// What our keys say. A value that is none of the allowed ones counts as one that is not there, as it does in the
    /// boot script: `slot=A`, no trial, an empty slot.
    #[must_use]
    pub fn state(&self) -> SlotState {
        let name = |key: &str| match self.get(key) {
            b"A" => Some(SlotName::A),
            b"B" => Some(SlotName::B),
            _ => None,
        };
        let content = |key: &str| match self.get(key) {
            b"writing" => Content::Writing,
            value => value.strip_prefix(b"ready:").map_or(Content::Empty, |version| Content::Ready(lossy(version))),
        };
        SlotState {
            committed: name("slot").unwrap_or(SlotName::A),
            trial: name("trial"),
            tried: self.get("tried") == b"1",
            why: lossy(self.get("why")),
            a: content("a"),
            b: content("b"),
        }
    }

    /// Changes our keys and leaves the others.
    pub fn set_state(&mut self, state: &SlotState) {
        self.set(b"slot", state.committed.as_str().as_bytes());
        self.set(b"trial", state.trial.map_or("", SlotName::as_str).as_bytes());
        self.set(b"tried", if state.tried { b"1" } else { b"0" });
        self.set(b"why", state.why.as_bytes());
        self.set(b"a", state.a.to_string().as_bytes());
        self.set(b"b", state.b.to_string().as_bytes());
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads the block: copy 0 if it is right, else copy 1, else the default.
///
/// # Errors
/// Neither copy can be read from the disk, which is not the same as nothing being there.
pub(super) fn load(medium: &dyn Medium) -> std::io::Result<Environment> {
    let copies = COPY_OFFSETS.map(|offset| read(medium, offset));
    let decoded = copies.iter().find_map(|copy| copy.as_ref().ok().and_then(Environment::decode));
    match (decoded, copies) {
        (Some(environment), _) => Ok(environment),
        (None, [Err(cause), Err(_)]) => Err(cause),
        (None, _) => Ok(Environment::default()),
    }
}

/// Writes both copies, each on the disk before the next is begun. Nothing is written when nothing changes.
///
/// # Errors
/// A copy cannot be written. One of them is right nevertheless, with the old state or the new.
pub(super) fn store(medium: &dyn Medium, block: &Block) -> std::io::Result<()> {
    let [first, second] = COPY_OFFSETS.map(|offset| read(medium, offset).ok());
    if first.as_ref() == Some(block) && second.as_ref() == Some(block) {
        return Ok(());
    }
    if let Some(current) = first.filter(|first| second.as_ref() != Some(first) && Environment::decode(first).is_some())
    {
        write(medium, COPY_OFFSETS[1], &current)?;
    }
    COPY_OFFSETS.iter().try_for_each(|offset| write(medium, *offset, block))
}

fn read(medium: &dyn Medium, offset: u64) -> std::io::Result<Block> {
    let mut block = [0; BLOCK_BYTES];
    medium.read_exact_at(&mut block, offset)?;
    Ok(block)
}

fn write(medium: &dyn Medium, offset: u64, block: &Block) -> std::io::Result<()> {
    medium.write_all_at(block, offset)?;
    medium.sync()
}

#[cfg(test)]
mod tests {
    use super::super::testing::PowerCut;
    use super::*;
    use crate::random::Random;

    fn block_of(data: &[u8]) -> Block {
        let mut block = [0; BLOCK_BYTES];
        block[CRC_BYTES..][..data.len()].copy_from_slice(data);
        let crc = crc32fast::hash(&block[CRC_BYTES..]).to_le_bytes();
        block[..CRC_BYTES].copy_from_slice(&crc);
        block
    }

    fn encoded(state: &SlotState) -> Block {
        let mut environment = Environment::default();
        environment.set_state(state);
        environment.encode().unwrap()
    }

    fn full_state() -> SlotState {
        SlotState {
            committed: SlotName::B,
            trial: Some(SlotName::A),
            tried: true,
            why: "no frame in 30 s".into(),
            a: Content::Ready("1.2.0".into()),
            b: Content::Writing,
        }
    }

    /// Made with U-Boot's own tool from a text file with these lines, `mkenvimage -s 512`, which pads with 0xff.
    #[test]
    fn u_boots_own_block_is_read_and_its_other_keys_are_kept() {
        let block = include_bytes!("fixtures/mkenvimage.bin");
        let mut environment = Environment::decode(block).unwrap();
        assert_eq!(environment.state(), full_state());
        assert_eq!(environment.get("bootdelay"), b"2");
        environment.set_state(&SlotState::default());
        let again = Environment::decode(&environment.encode().unwrap()).unwrap();
        assert_eq!(
            (again.get("bootdelay"), again.get("slot"), again.state()),
            (&b"2"[..], &b"A"[..], SlotState::default())
        );
    }

    #[test]
    fn the_block_is_as_written_down() {
        let block = encoded(&full_state());
        let text = b"slot=B\0trial=A\0tried=1\0why=no frame in 30 s\0a=ready:1.2.0\0b=writing\0\0";
        assert_eq!(block, block_of(text));
        assert_eq!(&encoded(&SlotState::default())[4..][..37], b"slot=A\0trial=\0tried=0\0why=\0a=empty\0b=");
    }

    #[test]
    fn what_is_odd_counts_as_not_there() {
        let decode = |data: &[u8]| Environment::decode(&block_of(data)).map(|environment| environment.state());
        assert_eq!(decode(b"\0"), Some(SlotState::default()));
        assert_eq!(decode(b"slot=C\0trial=AB\0tried=yes\0a=ready\0=x\0nothing\0\0"), Some(SlotState::default()));
        assert_eq!(decode(b"slot=A\0slot=B\0\0").unwrap().committed, SlotName::B);
        assert_eq!(decode(b"why=\xff=\xfe\0\0").unwrap().why, "\u{fffd}=\u{fffd}");
        assert_eq!(decode(&[b'x'; 508]), None, "no end");
        assert_eq!(Environment::decode(&[0; BLOCK_BYTES]), None, "zeros have another CRC");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut environment = Environment::default();
        // `k=` and two NULs beside the value.
        environment.set(b"k", &[b'v'; 504]);
        assert_eq!(Environment::decode(&environment.encode().unwrap()).as_ref(), Some(&environment));
        environment.set(b"k", &[b'v'; 505]);
        assert_eq!(environment.encode(), Err(TooLong { needed: 509 }));
    }

    /// The largest state of our own must always fit.
    #[test]
    fn the_longest_state_fits_with_room_for_others() {
        let long = || Content::Ready("9".repeat(super::super::state::VERSION_BYTES_MAX));
        let why = "w".repeat(super::super::state::WHY_BYTES_MAX);
        let state = SlotState { why, a: long(), b: long(), ..full_state() };
        let mut environment = Environment::decode(&encoded(&state)).unwrap();
        environment.set(b"boot_script", &[b'x'; 100]);
        assert_eq!(environment.encode().map(|block| Environment::decode(&block).unwrap().state()), Ok(state));
    }

    #[test]
    fn no_512_bytes_make_a_reader_panic_and_what_is_read_can_be_written() {
        let mut random = Random::new(1);
        let mut read = 0;
        for round in 0..20_000 {
            let mut block = encoded(&full_state());
            if round % 3 == 0 {
                block.fill_with(|| random.bits().to_le_bytes()[0]);
            } else {
                for _ in 0..=random.below(8) {
                    block[random.below(BLOCK_BYTES)] = [0, b'=', 0xff, random.bits().to_le_bytes()[0]][random.below(4)];
                }
            }
            let damaged = block != encoded(&full_state());
            assert!(!damaged || Environment::decode(&block).is_none(), "a wrong CRC was taken");
            // The same bytes from a writer who got the CRC right.
            let block = block_of(&block[CRC_BYTES..]);
            if let Some(environment) = Environment::decode(&block) {
                read += 1;
                let _ = environment.state();
                assert_eq!(Environment::decode(&environment.encode().unwrap()), Some(environment));
            }
        }
        assert!(read > 10_000, "{read}");
    }

    /// Two changes of state, a power cut at every operation of each, and every fate of what was not yet synced: the
    /// block always says the state before or after the change that was cut.
    #[test]
    fn two_power_cuts_leave_the_state_before_or_after() {
        // Long, so that most of a torn block matters.
        let states = ["1st", "2nd", "3rd"].map(|why| SlotState { why: why.repeat(50), ..full_state() });
        let blocks = states.each_ref().map(encoded);
        let size = usize::try_from(COPY_OFFSETS[1]).unwrap() + BLOCK_BYTES;
        let fresh = PowerCut::new(vec![0; size]);
        store(&fresh, &blocks[0]).unwrap();
        let start = fresh.after_cut(0);
        // At most three writes with a sync each; the last round is not cut.
        for (first_cut, second_cut, seed) in
            (0..7).flat_map(|i| (0..7).flat_map(move |j| (0..12).map(move |s| (i, j, s))))
        {
            let disk = PowerCut::new(start.clone());
            disk.cut_at_operation(first_cut);
            let _ = store(&disk, &blocks[1]);
            let disk = PowerCut::new(disk.after_cut(seed));
            let between = load(&disk).unwrap().state();
            assert!(states[..2].contains(&between), "{first_cut}: {between:?}");
            disk.cut_at_operation(second_cut);
            let done = store(&disk, &blocks[2]).is_ok();
            let disk = PowerCut::new(disk.after_cut(seed + 1));
            let after = load(&disk).unwrap().state();
            assert!(after == states[2] || (!done && after == between), "{first_cut} {second_cut}: {after:?}");
        }
    }

    #[test]
    fn an_unchanged_block_is_not_written_and_a_lost_copy_is_made_again() {
        let size = usize::try_from(COPY_OFFSETS[1]).unwrap() + BLOCK_BYTES;
        let block = encoded(&full_state());
        for lost in COPY_OFFSETS {
            let disk = PowerCut::new(vec![0; size]);
            store(&disk, &block).unwrap();
            let operations = disk.operations();
            store(&disk, &block).unwrap();
            assert_eq!(disk.operations(), operations);
            disk.write_all_at(&[7; 9], lost).unwrap();
            assert_eq!(load(&disk).unwrap().state(), full_state());
            store(&disk, &block).unwrap();
            assert_eq!(COPY_OFFSETS.map(|offset| read(&disk, offset).unwrap()), [block; 2]);
        }
        assert!(load(&PowerCut::new(Vec::new())).is_err(), "a disk that cannot be read is not an empty one");
    }
}
