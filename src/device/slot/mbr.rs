//! The MBR partition table, with the logical partitions in an extended one.
//!
//! May not know: what lies in the partitions.

use super::disk::Medium;
use super::environment::{BLOCK_BYTES, COPY_OFFSETS};

/// Disk signature ("label-id" in `sfdisk`) of our disks: `FLST`.
pub const LABEL_ID: u32 = 0x464c_5354;
/// An MBR counts in these, whatever the disk's own sector is.
const SECTOR_BYTES: u64 = 512;
/// Logical partitions followed, at most: ours has three, and a chain that bites its tail must end.
const LOGICAL_MAX: u8 = 16;

/// Where a partition lies, bytes from the disk's begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    pub offset: u64,
    pub bytes: u64,
}

impl Region {
    pub(super) fn end(self) -> u64 {
        self.offset + self.bytes
    }

    fn overlaps(self, other: Self) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }
}

/// A partition and its number, as the kernel counts: 1 to 4 primary, from 5 logical. The extended one is not listed.
pub type Numbered = (u8, Region);

type Sector = [u8; 512];

/// One of the four entries of a table.
#[derive(Clone, Copy)]
struct Entry {
    kind: u8,
    start: u64,
    sectors: u64,
}

impl Entry {
    fn is_extended(self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    fn is_data(self) -> bool {
        self.kind != 0 && self.sectors != 0 && !self.is_extended()
    }

    /// The table's numbers have 32 bits, so nothing here overflows 64.
    fn region(self, base: u64) -> Region {
        Region { offset: (base + self.start) * SECTOR_BYTES, bytes: self.sectors * SECTOR_BYTES }
    }
}

fn entries(sector: &Sector) -> [Entry; 4] {
    let number =
        |at: usize| u64::from(u32::from_le_bytes([sector[at], sector[at + 1], sector[at + 2], sector[at + 3]]));
    [446, 462, 478, 494].map(|at| Entry { kind: sector[at + 4], start: number(at + 8), sectors: number(at + 12) })
}

/// The label-id of a first sector; `None` when it is no MBR.
#[must_use]
pub fn label_id(sector: &Sector) -> Option<u32> {
    is_table(sector).then(|| u32::from_le_bytes([sector[440], sector[441], sector[442], sector[443]]))
}

fn is_table(sector: &Sector) -> bool {
    sector[510..] == [0x55, 0xaa]
}

/// Reads the partitions of one of our disks.
///
/// # Errors
/// The reason, for a message that names the disk: no MBR, another label-id, a partition beyond the end or over another.
pub fn read(medium: &dyn Medium) -> Result<Vec<Numbered>, String> {
    let first = table(medium, 0)?;
    match label_id(&first) {
        Some(LABEL_ID) => {}
        found => return Err(format!("its label-id is {:#010x}, ours is {LABEL_ID:#010x}", found.unwrap_or(0))),
    }
    let mut partitions = Vec::new();
    for (number, entry) in (1..).zip(entries(&first)) {
        if entry.is_data() {
            partitions.push((number, entry.region(0)));
        }
    }
    if let Some(extended) = entries(&first).into_iter().find(|entry| entry.is_extended()) {
        logical(medium, extended.start, &mut partitions)?;
    }
    let size = medium.size().map_err(|cause| format!("its size is not known: {cause}"))?;
    check(&partitions, size)?;
    Ok(partitions)
}

/// Follows the chain: each table has a partition, counted from the table, and the next table, counted from the begin
/// of the extended partition.
fn logical(medium: &dyn Medium, extended: u64, partitions: &mut Vec<Numbered>) -> Result<(), String> {
    let mut at = extended;
    for number in 5..5 + LOGICAL_MAX {
        let sector = table(medium, at)?;
        let [partition, next, ..] = entries(&sector);
        if partition.is_data() {
            partitions.push((number, partition.region(at)));
        }
        if !next.is_extended() {
            return Ok(());
        }
        at = extended + next.start;
    }
    Err(format!("its extended partition has more than {LOGICAL_MAX} logical ones"))
}

fn table(medium: &dyn Medium, at: u64) -> Result<Sector, String> {
    let mut sector = [0; 512];
    medium.read_exact_at(&mut sector, at * SECTOR_BYTES).map_err(|cause| format!("sector {at}: {cause}"))?;
    if is_table(&sector) { Ok(sector) } else { Err(format!("sector {at} is no MBR partition table")) }
}

fn check(partitions: &[Numbered], size: u64) -> Result<(), String> {
    let reserved = Region { offset: COPY_OFFSETS[0], bytes: COPY_OFFSETS[1] - COPY_OFFSETS[0] + BLOCK_BYTES as u64 };
    for (index, (number, region)) in partitions.iter().enumerate() {
        if region.end() > size {
            let end = region.end();
            return Err(format!("partition {number} ends at byte {end}, the disk at {size}; is the image cut short?"));
        }
        if region.overlaps(reserved) {
            return Err(format!("partition {number} lies over the slot environment at byte {}", reserved.offset));
        }
        if let Some((other, _)) = partitions[..index].iter().find(|(_, other)| other.overlaps(*region)) {
            return Err(format!("partitions {other} and {number} overlap"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{PowerCut, disk_bytes, put_entry};
    use super::*;
    use crate::random::Random;

    fn partitions(bytes: Vec<u8>) -> Result<Vec<Numbered>, String> {
        read(&PowerCut::new(bytes))
    }

    #[test]
    fn primary_and_logical_partitions_are_found() {
        let found = partitions(disk_bytes()).unwrap();
        assert_eq!(found.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3, 5, 6, 7]);
        assert_eq!(found[0].1, Region { offset: (1 << 20) + (128 << 10), bytes: 16 << 10 });
        let begins = |number: u8| found.iter().find(|(other, _)| *other == number).unwrap().1.offset;
        assert!(begins(2) < begins(3) && begins(3) < begins(5) && begins(5) < begins(6) && begins(6) < begins(7));
    }

    /// The first sectors that matter of an image made by `sfdisk` with the layout of our disks (boot 96 MiB, root 256).
    #[test]
    fn a_table_made_by_sfdisk_is_read() {
        let mut bytes = vec![0; 1 << 20];
        bytes[..512].copy_from_slice(&include_bytes!("fixtures/sfdisk.bin")[..512]);
        assert!(partitions(bytes).unwrap_err().contains("sector"), "an image that ends before its tables");
        let sfdisk = super::super::testing::Sparse::from_listing(include_bytes!("fixtures/sfdisk.bin"));
        let mib = |offset: u64, bytes: u64| Region { offset: offset << 20, bytes: bytes << 20 };
        let expected = [
            (1, mib(4, 16)),
            (2, mib(20, 96)),
            (3, mib(116, 96)),
            (5, mib(213, 256)),
            (6, mib(470, 256)),
            (7, mib(727, 64)),
        ];
        assert_eq!(read(&sfdisk).unwrap(), expected);
    }

    #[test]
    fn what_is_not_our_disk_is_refused_with_the_reason() {
        let with = |change: fn(&mut Vec<u8>)| {
            let mut bytes = disk_bytes();
            change(&mut bytes);
            partitions(bytes).unwrap_err()
        };
        assert!(with(|bytes| bytes[440] = 0).contains("0x464c5300"));
        assert!(with(|bytes| bytes[511] = 0).contains("no MBR"));
        assert!(with(|bytes| bytes.truncate(bytes.len() - 1)).contains("cut short"));
        assert!(with(|bytes| bytes.truncate(100)).contains("sector 0"));
        // Partition 3 laid over partition 2.
        assert!(with(|bytes| bytes.copy_within(462..478, 478)).contains("2 and 3 overlap"));
        // Partition 1 from byte 1 MiB.
        assert!(with(|bytes| put_entry(bytes, 446, 0x0c, 2048, 1)).contains("slot environment"));
        // The extended partition begins where no table is.
        assert!(with(|bytes| bytes[494 + 8] += 1).contains("is no MBR"));
    }

    #[test]
    fn a_chain_that_bites_its_tail_ends() {
        let mut bytes = disk_bytes();
        let extended = usize::try_from(entries(bytes[..512].try_into().unwrap())[3].start).unwrap();
        // The first table is its own successor.
        put_entry(&mut bytes, extended * 512 + 462, 0x05, 0, 1);
        assert!(partitions(bytes).unwrap_err().contains("more than 16"));
    }

    #[test]
    fn no_table_makes_the_reader_panic() {
        let mut random = Random::new(2);
        let bytes = disk_bytes();
        let tables: Vec<usize> =
            (0..bytes.len()).step_by(512).filter(|at| bytes[at + 510..at + 512] == [0x55, 0xaa]).collect();
        assert_eq!(tables.len(), 4);
        let disk = PowerCut::new(bytes);
        let mut refused = 0;
        for _ in 0..2000 {
            let at = tables[random.below(4)] + 440 + random.below(70);
            let byte = u64::try_from(at).unwrap();
            let mut old = [0];
            disk.read_exact_at(&mut old, byte).unwrap();
            disk.write_all_at(&[[0, 0xff, random.bits().to_le_bytes()[0]][random.below(3)]], byte).unwrap();
            refused += usize::from(read(&disk).is_err());
            disk.write_all_at(&old, byte).unwrap();
        }
        assert!(refused > 200, "{refused}");
    }
}
