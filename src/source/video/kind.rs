//! Which container a file is, by its first bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::y4m;

/// Bytes that tell.
const HEAD_BYTES: u64 = 64;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Mp4,
    Avi,
    Y4m,
    H264,
    Mjpeg,
    /// Video that is not read, by its name.
    Other(&'static str),
}

/// The kind of a file; `None` for one that is no video, or cannot be read.
pub fn detect(path: &Path) -> Option<Kind> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(HEAD_BYTES).read_to_end(&mut head).ok()?;
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase).unwrap_or_default();
    of(&head, &ending)
}

fn of(head: &[u8], ending: &str) -> Option<Kind> {
    /// Kinds of the first box of MP4 and MOV.
    const FIRST_BOXES: [&[u8]; 6] = [b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"];
    let after_start_code =
        head.strip_prefix(&[0, 0, 0, 1]).or_else(|| head.strip_prefix(&[0, 0, 1])).and_then(<[u8]>::first);
    match head {
        _ if head.get(4..8).is_some_and(|kind| FIRST_BOXES.contains(&kind)) => Some(Kind::Mp4),
        _ if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"AVI ") => Some(Kind::Avi),
        _ if y4m::is_magic(head) => Some(Kind::Y4m),
        // An image is one too, so here the name decides.
        [0xff, 0xd8, ..] if matches!(ending, "mjpeg" | "mjpg") => Some(Kind::Mjpeg),
        [0x1a, 0x45, 0xdf, 0xa3, ..] => Some(Kind::Other("Matroska or WebM")),
        [b'F', b'L', b'V', ..] => Some(Kind::Other("Flash video")),
        [0x30, 0x26, 0xb2, 0x75, ..] => Some(Kind::Other("Windows Media")),
        [b'O', b'g', b'g', b'S', ..] => Some(Kind::Other("Ogg")),
        [0x47, ..] if matches!(ending, "ts" | "m2ts" | "mts") => Some(Kind::Other("MPEG transport stream")),
        [0, 0, 1, 0xb3 | 0xba, ..] => Some(Kind::Other("MPEG-1 or MPEG-2")),
        _ => match after_start_code? {
            // The types of NAL units that a stream begins with: slices, SEI, parameter sets, a delimiter.
            header if matches!(header & 0x9f, 1 | 5..=9) && !matches!(ending, "h265" | "265" | "hevc") => {
                Some(Kind::H264)
            }
            _ => Some(Kind::Other("H.265 or another raw stream")),
        },
    }
}
