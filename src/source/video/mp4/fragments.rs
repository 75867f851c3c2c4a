//! Fragments: `moof` boxes after the movie, each with the samples of a second or so.

use super::boxes::{boxes, find, i32_at, top_level, u32_at, u64_at, versioned};
use super::samples::Sample;
use crate::source::video::file::VideoFile;

/// Most samples of a fragment: an hour at 25 frames a second. What each takes in the file bounds nothing, as all its
/// values may be defaults.
const SAMPLES_MAX: usize = 90_000;

/// Values that hold for a sample that has none of its own.
#[derive(Clone, Copy, Debug, Default)]
struct Defaults {
    duration: u32,
    size: u32,
}

/// The samples of one track in all fragments of a file.
#[derive(Debug)]
pub struct Fragments {
    track: u32,
    /// `None`: the movie declares no fragments.
    defaults: Option<Defaults>,
    /// Where the next top-level box is.
    position: u64,
    /// Samples of the fragment at hand, the next one last.
    samples: Vec<Sample>,
    /// When the next sample is decoded, unless its fragment says so.
    decoded_at: i64,
    bytes: Vec<u8>,
}

impl Fragments {
    pub fn new(track: u32, mvex: Option<&[u8]>) -> Self {
        let defaults = mvex.map(|mvex| {
            let extends = boxes(mvex).filter(|(kind, _)| kind == b"trex");
            let own = extends.into_iter().find(|(_, trex)| u32_at(trex, 4) == Some(track));
            let value = |at| own.and_then(|(_, trex)| u32_at(trex, at)).unwrap_or(0);
            Defaults { duration: value(12), size: value(16) }
        });
        Self { track, defaults, position: 0, samples: Vec::new(), decoded_at: 0, bytes: Vec::new() }
    }

    /// Whether the movie declares fragments, so that its own tables are not all.
    pub fn expected(&self) -> bool {
        self.defaults.is_some()
    }

    pub fn rewind(&mut self) {
        (self.position, self.decoded_at) = (0, 0);
        self.samples.clear();
    }

    /// The next sample; `None` after the last.
    ///
    /// # Errors
    /// A fragment is damaged; the next call goes on after it.
    pub fn next(&mut self, file: &VideoFile) -> Result<Option<Sample>, String> {
        let Some(defaults) = self.defaults else { return Ok(None) };
        while self.samples.is_empty() {
            let Some(head) = top_level(file, self.position) else { return Ok(None) };
            self.position = head.end;
            if head.kind == *b"moof" {
                file.read(head.body, head.end - head.body, &mut self.bytes)?;
                let moof = std::mem::take(&mut self.bytes);
                let parsed = self.parse(&moof, head.start, defaults);
                self.bytes = moof;
                parsed.inspect_err(|_| self.samples.clear())?;
                self.samples.reverse();
            }
        }
        Ok(self.samples.pop())
    }

    fn parse(&mut self, moof: &[u8], start: u64, defaults: Defaults) -> Result<(), String> {
        let trafs = boxes(moof).filter_map(|(kind, body)| (kind == *b"traf").then_some(body));
        for traf in trafs {
            let Some((_, flags, tfhd)) = find(traf, b"tfhd").and_then(versioned) else { continue };
            if u32_at(tfhd, 0) != Some(self.track) {
                continue;
            }
            let mut at = 4;
            let mut optional = |flag: u32, length: usize| {
                let there = flags & flag != 0;
                let field = if there { at } else { usize::MAX };
                at += if there { length } else { 0 };
                field
            };
            let [base, _, duration, size] =
                [optional(0x01, 8), optional(0x02, 4), optional(0x08, 4), optional(0x10, 4)];
            let base = u64_at(tfhd, base).unwrap_or(start);
            let defaults = Defaults {
                duration: u32_at(tfhd, duration).unwrap_or(defaults.duration),
                size: u32_at(tfhd, size).unwrap_or(defaults.size),
            };
            if let Some((version, _, tfdt)) = find(traf, b"tfdt").and_then(versioned) {
                let time = if version == 1 { u64_at(tfdt, 0) } else { u32_at(tfdt, 0).map(u64::from) };
                self.decoded_at = i64::try_from(time.unwrap_or(0)).unwrap_or(i64::MAX);
            }
            let mut offset = base;
            for (_, run) in boxes(traf).filter(|(kind, _)| kind == b"trun") {
                self.run(run, base, &mut offset, defaults)?;
            }
        }
        Ok(())
    }

    /// Appends the samples of a run; `offset` is where the run before ended.
    fn run(&mut self, run: &[u8], base: u64, offset: &mut u64, defaults: Defaults) -> Result<(), String> {
        let Some((_, flags, body)) = versioned(run) else { return Ok(()) };
        let count = u32_at(body, 0).unwrap_or(0) as usize;
        if self.samples.len().saturating_add(count) > SAMPLES_MAX {
            return Err(format!("a fragment of {count} samples: expected at most {SAMPLES_MAX}"));
        }
        let mut at = 4;
        if flags & 0x01 != 0 {
            *offset = base.saturating_add_signed(i64::from(i32_at(body, at).unwrap_or(0)));
            at += 4;
        }
        if flags & 0x04 != 0 {
            at += 4;
        }
        for _ in 0..count {
            let mut field = |flag: u32| {
                let there = flags & flag != 0;
                let value = if there { u32_at(body, at) } else { None };
                at += if there { 4 } else { 0 };
                value
            };
            let [duration, size, _, delay] = [field(0x100), field(0x200), field(0x400), field(0x800)];
            let size = size.unwrap_or(defaults.size);
            let delay = delay.unwrap_or(0).cast_signed();
            let time = self.decoded_at.saturating_add(i64::from(delay));
            self.samples.push(Sample { offset: *offset, size, time });
            *offset = offset.saturating_add(u64::from(size));
            let duration = duration.unwrap_or(defaults.duration);
            self.decoded_at = self.decoded_at.saturating_add(i64::from(duration));
        }
        Ok(())
    }
}
