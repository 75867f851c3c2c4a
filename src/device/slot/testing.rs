//! A small disk of ours, and a disk whose power is cut: for the tests of slots and of updates.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::Medium;
use crate::random::Random;

const MIB: usize = 1 << 20;
const SECTOR: usize = 512;
/// The test disk is small, so that thousands of them can be made: its partitions begin just behind the environment.
const FIRST: usize = MIB + (128 << 10);
const BOOT_BYTES: usize = 16 << 10;
const ROOT_BYTES: usize = 32 << 10;

/// Writes an entry of a partition table; `start` and `sectors` in sectors.
pub fn put_entry(bytes: &mut [u8], at: usize, kind: u8, start: usize, sectors: usize) {
    let number = |value: usize| u32::try_from(value).unwrap().to_le_bytes();
    bytes[at + 4] = kind;
    bytes[at + 8..at + 12].copy_from_slice(&number(start));
    bytes[at + 12..at + 16].copy_from_slice(&number(sectors));
}

/// The bytes of a disk with our layout, its partitions full of noise.
pub fn disk_bytes() -> Vec<u8> {
    let primary = [(1, BOOT_BYTES), (2, BOOT_BYTES), (3, BOOT_BYTES)];
    let logical = [ROOT_BYTES, ROOT_BYTES, BOOT_BYTES];
    let extended = FIRST + 3 * BOOT_BYTES;
    // Each logical partition begins one sector behind its table, as close as it may.
    let size = extended + logical.iter().map(|bytes| bytes + SECTOR).sum::<usize>();
    let mut bytes = vec![0; size];
    let mut random = Random::new(3);
    for word in bytes[FIRST..].chunks_exact_mut(8) {
        word.copy_from_slice(&random.bits().to_le_bytes());
    }
    bytes[440..444].copy_from_slice(&super::mbr::LABEL_ID.to_le_bytes());
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let mut at = FIRST;
    for (number, length) in primary {
        put_entry(&mut bytes, 446 + 16 * (number - 1), 0x0c, at / SECTOR, length / SECTOR);
        at += length;
    }
    put_entry(&mut bytes, 494, 0x05, extended / SECTOR, (size - extended) / SECTOR);
    for (index, length) in logical.into_iter().enumerate() {
        bytes[at..at + SECTOR].fill(0);
        put_entry(&mut bytes, at + 446, 0x83, 1, length / SECTOR);
        if index + 1 < logical.len() {
            let next = at + SECTOR + length - extended;
            put_entry(&mut bytes, at + 462, 0x05, next / SECTOR, (logical[index + 1] + SECTOR) / SECTOR);
        }
        bytes[at + 510..at + 512].copy_from_slice(&[0x55, 0xaa]);
        at += SECTOR + length;
    }
    bytes
}

/// A disk in memory that keeps apart what is on it and what is only in its cache, and whose power can be cut.
#[derive(Debug)]
pub struct PowerCut {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// What a reader sees.
    cached: Vec<u8>,
    /// What has been synced.
    durable: Vec<u8>,
    /// Written since, in order.
    pending: Vec<(usize, Vec<u8>)>,
    operations: usize,
    bytes_written: u64,
    /// Writes and syncs until the cut.
    operations_left: Option<usize>,
    /// Written bytes until the cut.
    bytes_left: Option<usize>,
    /// The begin of each write that got through.
    write_offsets: Vec<u64>,
    /// A byte that reads as its opposite, once it was synced.
    worn_out: Option<usize>,
}

impl PowerCut {
    pub fn new(bytes: Vec<u8>) -> Self {
        let inner = Inner {
            durable: bytes.clone(),
            cached: bytes,
            pending: Vec::new(),
            operations: 0,
            bytes_written: 0,
            operations_left: None,
            bytes_left: None,
            write_offsets: Vec::new(),
            worn_out: None,
        };
        Self { inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// The next `count` writes and syncs succeed, and nothing after them.
    pub fn cut_at_operation(&self, count: usize) {
        self.inner().operations_left = Some(count);
    }

    /// The next `count` bytes are written, and nothing after them.
    pub fn cut_at_byte(&self, count: usize) {
        self.inner().bytes_left = Some(count);
    }

    /// From the next sync on this byte does not keep what is written to it.
    pub fn wear_out(&self, offset: u64) {
        self.inner().worn_out = Some(usize::try_from(offset).unwrap());
    }

    /// Writes and syncs so far.
    pub fn operations(&self) -> usize {
        self.inner().operations
    }

    pub fn bytes_written(&self) -> u64 {
        self.inner().bytes_written
    }

    /// Where each write so far began.
    pub fn write_offsets(&self) -> Vec<u64> {
        self.inner().write_offsets.clone()
    }

    /// What the disk holds when the power is back: all that was synced, and of what was not, by `seed`: nothing, all, any
    /// of its sectors, or the begin of each sector, which is worse than a disk should do.
    pub fn after_cut(&self, seed: u64) -> Vec<u8> {
        let inner = self.inner();
        let mut bytes = inner.durable.clone();
        let mut random = Random::new(seed);
        for (offset, data) in &inner.pending {
            for (index, sector) in data.chunks(SECTOR).enumerate() {
                let survives = match seed % 4 {
                    0 => 0,
                    1 => sector.len(),
                    2 => [0, sector.len()][random.below(2)],
                    // Early enough that what is torn is not only padding.
                    _ => random.below(SECTOR / 4).min(sector.len()),
                };
                bytes[offset + index * SECTOR..][..survives].copy_from_slice(&sector[..survives]);
            }
        }
        bytes
    }
}

fn off() -> io::Error {
    io::Error::other("the power is off")
}

/// Whether the power is still on; counts the operation.
fn step(inner: &mut Inner) -> io::Result<()> {
    if inner.operations_left == Some(0) || inner.bytes_left == Some(0) {
        return Err(off());
    }
    inner.operations_left = inner.operations_left.map(|left| left - 1);
    inner.operations += 1;
    Ok(())
}

impl Medium for PowerCut {
    fn size(&self) -> io::Result<u64> {
        Ok(self.inner().cached.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let inner = self.inner();
        let begin = usize::try_from(offset).unwrap();
        let found = inner.cached.get(begin..begin + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(found);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.inner();
        step(&mut inner)?;
        let whole = bytes.len();
        let bytes = &bytes[..whole.min(inner.bytes_left.unwrap_or(whole))];
        inner.bytes_left = inner.bytes_left.map(|left| left - bytes.len());
        let begin = usize::try_from(offset).unwrap();
        let place = inner.cached.get_mut(begin..begin + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        place.copy_from_slice(bytes);
        inner.pending.push((begin, bytes.into()));
        inner.bytes_written += bytes.len() as u64;
        inner.write_offsets.push(offset);
        if bytes.len() < whole { Err(off()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.inner();
        step(&mut inner)?;
        let Inner { cached, durable, pending, worn_out, .. } = &mut *inner;
        for (offset, data) in pending.drain(..) {
            durable[offset..offset + data.len()].copy_from_slice(&data);
            if let Some(worn_out) = worn_out.filter(|worn_out| (offset..offset + data.len()).contains(worn_out)) {
                cached[worn_out] = !cached[worn_out];
            }
        }
        Ok(())
    }

    fn forget(&self, _offset: u64, _bytes: u64) {}
}

/// Shared with the disk that is made of it.
impl Medium for Arc<PowerCut> {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        (**self).write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        (**self).sync()
    }

    fn forget(&self, offset: u64, bytes: u64) {
        (**self).forget(offset, bytes);
    }
}

/// A disk of any size that holds a few sectors and zeros.
#[derive(Debug)]
pub struct Sparse {
    sectors: BTreeMap<u64, [u8; SECTOR]>,
}

impl Sparse {
    /// Sectors one after another: each 512 bytes and its number (8 bytes, little-endian).
    pub fn from_listing(listing: &[u8]) -> Self {
        let records = listing.chunks_exact(SECTOR + 8);
        let sectors = records.map(|record| {
            let (sector, number) = record.split_at(SECTOR);
            (u64::from_le_bytes(number.try_into().unwrap()), sector.try_into().unwrap())
        });
        Self { sectors: sectors.collect() }
    }
}

impl Medium for Sparse {
    fn size(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        assert!(offset.is_multiple_of(SECTOR as u64) && buffer.len() == SECTOR, "a whole sector");
        buffer.copy_from_slice(self.sectors.get(&(offset / SECTOR as u64)).unwrap_or(&[0; SECTOR]));
        Ok(())
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn forget(&self, _: u64, _: u64) {}
}
