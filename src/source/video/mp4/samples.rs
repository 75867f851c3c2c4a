//! The sample tables of a track: where each sample lies, how long it is, and when it is shown.
//!
//! The tables stay as they are in the file and are walked, so that a count costs nothing that its entries do not.

use std::ops::Range;

use super::boxes::{find, i32_at, u32_at, u64_at};

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub offset: u64,
    pub size: u32,
    /// When it is shown, in ticks of the track.
    pub time: i64,
}

/// A table of entries of the same length.
#[derive(Debug, Default)]
struct Table {
    bytes: Vec<u8>,
    entry_bytes: usize,
}

impl Table {
    /// The table of a box with a version and a count before its entries; empty where there is no such box.
    fn new(boxes: &[u8], kind: &[u8; 4], entry_bytes: usize) -> Self {
        let body = find(boxes, kind).unwrap_or_default();
        let counted = u32_at(body, 4).unwrap_or(0) as usize;
        let entries = body.get(8..).unwrap_or_default();
        let length = entries.len().min(counted.saturating_mul(entry_bytes));
        Self { bytes: entries[..length].to_vec(), entry_bytes }
    }

    fn entry(&self, index: usize) -> Option<&[u8]> {
        self.bytes.get(index.checked_mul(self.entry_bytes)?..)?.get(..self.entry_bytes)
    }

    fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.entry_bytes.max(1))
    }
}

/// The tables in `stbl`.
#[derive(Debug, Default)]
pub struct Tables {
    count: u32,
    /// Size of every sample, or 0 when each has its own in `sizes`.
    size: u32,
    sizes: Table,
    chunks: Table,
    /// First chunk, samples a chunk, description.
    runs: Table,
    /// Samples and ticks that each lasts.
    durations: Table,
    /// Samples and ticks from decoding to showing.
    delays: Table,
}

impl Tables {
    /// The tables of a file of `file_bytes`.
    ///
    /// # Errors
    /// The samples are of several kinds.
    pub fn parse(stbl: &[u8], file_bytes: u64) -> Result<Self, String> {
        let stsz = find(stbl, b"stsz").unwrap_or_default();
        let mut chunks = Table::new(stbl, b"stco", 4);
        if chunks.bytes.is_empty() {
            chunks = Table::new(stbl, b"co64", 8);
        }
        let runs = Table::new(stbl, b"stsc", 12);
        if runs.entries().any(|run| u32_at(run, 8) != Some(1)) {
            return Err("the video changes its codec or size in the middle".into());
        }
        // `stsz` has the common size before its count.
        let sizes = stsz.get(12..).unwrap_or_default().to_vec();
        let size = u32_at(stsz, 4).unwrap_or(0);
        // Samples of a common size take no entries each, only their place in the file.
        let counted = u32_at(stsz, 8).unwrap_or(0);
        let count = u32::try_from(file_bytes / u64::from(size.max(1))).map_or(counted, |fit| fit.min(counted));
        Ok(Self {
            count,
            size,
            sizes: Table { bytes: sizes, entry_bytes: 4 },
            chunks,
            runs,
            durations: Table::new(stbl, b"stts", 8),
            delays: Table::new(stbl, b"ctts", 8),
        })
    }

    /// Samples a tick, on the average.
    pub fn samples_per_tick(&self) -> Option<f64> {
        let (mut samples, mut ticks) = (0.0, 0.0);
        for entry in self.durations.entries() {
            let [count, delta] = [0, 4].map(|at| f64::from(u32_at(entry, at).unwrap_or(0)));
            (samples, ticks) = (samples + count, ticks + count * delta);
        }
        (ticks > 0.0).then_some(samples / ticks)
    }

    /// Samples that are shown within a range of ticks.
    pub fn count_within(&self, shown: &Range<i64>) -> u64 {
        let mut cursor = Cursor::default();
        let samples = std::iter::from_fn(|| cursor.next(self).ok().flatten());
        samples.filter(|sample| shown.contains(&sample.time)).count() as u64
    }
}

/// A place in a table whose entries hold for a number of samples.
#[derive(Debug, Default)]
struct Run {
    index: usize,
    used: u32,
}

impl Run {
    /// The value for the next sample; beyond the table 0.
    fn next(&mut self, table: &Table) -> i32 {
        while let Some(entry) = table.entry(self.index) {
            if self.used < u32_at(entry, 0).unwrap_or(0) {
                self.used += 1;
                return i32_at(entry, 4).unwrap_or(0);
            }
            (self.index, self.used) = (self.index + 1, 0);
        }
        0
    }
}

/// A place in the tables.
#[derive(Debug, Default)]
pub struct Cursor {
    sample: u32,
    /// Number of the next chunk, from 0.
    chunk: usize,
    run: usize,
    /// Samples left in the chunk at hand, and where the next one lies.
    left: u32,
    offset: u64,
    duration: Run,
    delay: Run,
    decoded_at: i64,
}

impl Cursor {
    /// The next sample; `None` after the last.
    ///
    /// # Errors
    /// There are fewer places or sizes than samples; there is no further sample then.
    pub fn next(&mut self, tables: &Tables) -> Result<Option<Sample>, String> {
        if self.sample >= tables.count {
            return Ok(None);
        }
        let number = std::mem::replace(&mut self.sample, tables.count);
        let short =
            |what| format!("the MP4's tables count {} samples and have no {what} for number {number}", tables.count);
        while self.left == 0 {
            self.next_chunk(tables).ok_or_else(|| short("place"))?;
        }
        let size = match tables.size {
            0 => tables.sizes.entry(number as usize).and_then(|entry| u32_at(entry, 0)).ok_or_else(|| short("size"))?,
            size => size,
        };
        let offset = self.offset;
        self.offset = offset.saturating_add(u64::from(size));
        self.left -= 1;
        self.sample = number + 1;
        let time = self.decoded_at.saturating_add(i64::from(self.delay.next(&tables.delays)));
        let duration = u32::from_ne_bytes(self.duration.next(&tables.durations).to_ne_bytes());
        self.decoded_at = self.decoded_at.saturating_add(i64::from(duration));
        Ok(Some(Sample { offset, size, time }))
    }

    fn next_chunk(&mut self, tables: &Tables) -> Option<()> {
        let chunk = tables.chunks.entry(self.chunk)?;
        self.offset = if chunk.len() == 8 { u64_at(chunk, 0)? } else { u64::from(u32_at(chunk, 0)?) };
        self.chunk += 1;
        // Chunks are counted from 1, and a run goes on until the first chunk of the next.
        let begins = |run: &[u8]| u32_at(run, 0).is_some_and(|first| first as usize <= self.chunk);
        while tables.runs.entry(self.run + 1).is_some_and(begins) {
            self.run += 1;
        }
        self.left = u32_at(tables.runs.entry(self.run)?, 4)?;
        Some(())
    }
}
