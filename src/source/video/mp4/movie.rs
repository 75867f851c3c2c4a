//! The `moov` box: the first video track, what it is coded with, and how it is shown.

use std::ops::Range;

use super::boxes::{boxes, descend, find, i32_at, u16_at, u32_at, u64_at, versioned};
use super::fragments::Fragments;
use super::samples::Tables;
use crate::frame::Size;
use crate::source::codec::AvcConfig;
use crate::source::video::container::{Codec, Track, not_decoded};

/// What is needed of a movie.
#[derive(Debug)]
pub struct Movie {
    pub track: Track,
    pub tables: Tables,
    pub fragments: Fragments,
}

impl Movie {
    /// The movie of a file of `file_bytes`.
    ///
    /// # Errors
    /// There is no video track, or it is coded or shown in a way that is not supported.
    pub fn parse(moov: &[u8], file_bytes: u64) -> Result<Self, String> {
        let is_video = |trak: &&[u8]| {
            let handler = descend(trak, &[b"mdia", b"hdlr"]);
            handler.is_some_and(|hdlr| hdlr.get(8..12) == Some(b"vide"))
        };
        let traks = boxes(moov).filter_map(|(kind, body)| (kind == *b"trak").then_some(body));
        let trak = traks.into_iter().find(is_video).ok_or("the MP4 has no video track")?;
        let missing = |what: &str| format!("the MP4's video track has no `{what}`");
        let stbl = descend(trak, &[b"mdia", b"minf", b"stbl"]).ok_or_else(|| missing("stbl"))?;
        let tkhd = find(trak, b"tkhd").ok_or_else(|| missing("tkhd"))?;
        let mdhd = descend(trak, &[b"mdia", b"mdhd"]).ok_or_else(|| missing("mdhd"))?;
        let ticks = timescale(mdhd).filter(|&ticks| ticks > 0).ok_or_else(|| missing("timescale"))?;
        let (codec, size) = description(find(stbl, b"stsd").ok_or_else(|| missing("stsd"))?)?;
        let tables = Tables::parse(stbl, file_bytes)?;

        let mut track = Track::new(codec, f64::from(ticks));
        track.size = Some(size);
        track.turn = turn(tkhd)?;
        let movie_ticks = find(moov, b"mvhd").and_then(timescale).unwrap_or(ticks);
        if let Some(elst) = descend(trak, &[b"edts", b"elst"]) {
            track.shown = shown(elst, ticks, movie_ticks)?;
        }
        let id = track_id(tkhd).ok_or_else(|| missing("track_ID"))?;
        let fragments = Fragments::new(id, find(moov, b"mvex"));
        if !fragments.expected() {
            track.fps = tables.samples_per_tick().map(|rate| rate * f64::from(ticks));
            track.frames = Some(tables.count_within(&track.shown));
        }
        Ok(Self { track, tables, fragments })
    }
}

/// Ticks a second, of `mvhd` or `mdhd`.
fn timescale(header: &[u8]) -> Option<u32> {
    let (version, _, body) = versioned(header)?;
    u32_at(body, if version == 1 { 16 } else { 8 })
}

fn track_id(tkhd: &[u8]) -> Option<u32> {
    let (version, _, body) = versioned(tkhd)?;
    u32_at(body, if version == 1 { 16 } else { 8 })
}

/// The EXIF orientation of a track's matrix.
fn turn(tkhd: &[u8]) -> Result<u32, String> {
    let (version, _, body) = versioned(tkhd).unwrap_or_default();
    // Before it: times, id and duration, 16 reserved bytes.
    let matrix = if version == 1 { 48 } else { 36 };
    let cell = |index: usize| i32_at(body, matrix + 4 * index).unwrap_or(0);
    // The upper left two by two; in the third column and row are no turns.
    match [cell(0), cell(1), cell(3), cell(4)].map(i32::signum) {
        [1, 0, 0, 1] => Ok(1),
        [-1, 0, 0, -1] => Ok(3),
        [0, 1, -1, 0] => Ok(6),
        [0, -1, 1, 0] => Ok(8),
        // No matrix at all.
        [0, 0, 0, 0] => Ok(1),
        _ => Err(format!(
            "the MP4 shows its video mirrored or askew (matrix {} {} {} {}): expected turns by 90 degrees",
            cell(0),
            cell(1),
            cell(3),
            cell(4)
        )),
    }
}

/// The ticks that an edit list shows.
fn shown(elst: &[u8], ticks: u32, movie_ticks: u32) -> Result<Range<i64>, String> {
    let (version, _, body) = versioned(elst).unwrap_or_default();
    let entry_bytes = if version == 1 { 20 } else { 12 };
    let counted = u32_at(body, 0).unwrap_or(0) as usize;
    let entries = body.get(4..).unwrap_or_default().chunks_exact(entry_bytes).take(counted);
    let mut shown = None;
    for entry in entries {
        let (duration, start) = match version {
            1 => (u64_at(entry, 0), u64_at(entry, 8).map(u64::cast_signed)),
            _ => (u32_at(entry, 0).map(u64::from), i32_at(entry, 4).map(i64::from)),
        };
        // An empty edit delays the video, which shows nothing.
        let Some(start) = start.filter(|&start| start >= 0) else { continue };
        if shown.is_some() {
            return Err("the MP4 is cut together from several parts of its video: expected one edit".into());
        }
        let length = u128::from(duration.unwrap_or(0)) * u128::from(ticks) / u128::from(movie_ticks.max(1));
        // No duration: to the end.
        let length = if length == 0 { i64::MAX } else { i64::try_from(length).unwrap_or(i64::MAX) };
        shown = Some(start..start.saturating_add(length));
    }
    Ok(shown.unwrap_or(i64::MIN..i64::MAX))
}

/// Codec and size of the first sample description.
fn description(stsd: &[u8]) -> Result<(Codec, Size), String> {
    /// Bytes of a visual description before its own boxes.
    const VISUAL: usize = 78;
    let entries = stsd.get(8..).unwrap_or_default();
    let (code, entry) = boxes(entries).next().ok_or("the MP4 does not say what its video is coded with")?;
    let [width, height] = [24, 26].map(|at| usize::from(u16_at(entry, at).unwrap_or(0)));
    let inner = entry.get(VISUAL..).unwrap_or_default();
    let codec = match &code {
        b"avc1" | b"avc3" => {
            let record = find(inner, b"avcC").ok_or("the MP4 has H.264 without an `avcC` box")?;
            Codec::H264(Some(AvcConfig::parse(record).map_err(|error| error.to_string())?))
        }
        b"jpeg" | b"MJPG" | b"mjpg" | b"mjpa" | b"AVDJ" | b"dmb1" => Codec::Jpeg,
        b"mp4v" if find(inner, b"esds").and_then(object_type) == Some(OBJECT_JPEG) => Codec::Jpeg,
        _ => return Err(not_decoded(code)),
    };
    Ok((codec, Size::new(width, height)))
}

/// JPEG among the object types of MPEG-4.
const OBJECT_JPEG: u8 = 0x6c;

/// The object type in an `esds` box: after the version a descriptor with an id and flags, in it another.
fn object_type(esds: &[u8]) -> Option<u8> {
    let elementary = descriptor(esds.get(4..)?, 3)?;
    descriptor(elementary.get(3..)?, 4)?.first().copied()
}

/// The body of a descriptor with that tag; its length is in groups of seven bits.
fn descriptor(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (&found, mut rest) = bytes.split_first()?;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte & 0x80 == 0 {
            return (found == tag).then_some(rest);
        }
    }
    None
}
