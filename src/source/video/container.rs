//! What every container has in common: a track of packets with a time.

use std::ops::Range;

use crate::frame::Size;
use crate::source::codec::AvcConfig;

/// Packets of one video track, in the order of the file.
pub trait Container: Send + std::fmt::Debug {
    /// Replaces `bytes` by the next packet and returns its time in ticks; `None` at the end.
    ///
    /// # Errors
    /// The next packet cannot be had; whatever comes after it still can.
    fn next(&mut self, bytes: &mut Vec<u8>) -> Result<Option<i64>, String>;

    /// Starts again at the first packet.
    fn rewind(&mut self);
}

/// What a container says of its video track.
#[derive(Clone, Debug)]
pub struct Track {
    pub codec: Codec,
    /// Declared size in pixels, before it is turned.
    pub size: Option<Size>,
    /// Declared frames a second.
    pub fps: Option<f64>,
    /// Declared number of frames.
    pub frames: Option<u64>,
    /// Ticks a second of the packets' times.
    pub ticks_per_second: f64,
    /// Ticks that are shown: an edit list may cut a beginning and an end off.
    pub shown: Range<i64>,
    /// How the picture must be turned to stand upright: an EXIF orientation, 1 for not at all.
    pub turn: u32,
}

impl Track {
    /// A track that is shown whole and stands upright.
    pub fn new(codec: Codec, ticks_per_second: f64) -> Self {
        let shown = i64::MIN..i64::MAX;
        Self { codec, size: None, fps: None, frames: None, ticks_per_second, shown, turn: 1 }
    }
}

/// How the packets of a track are coded.
#[derive(Clone, Debug)]
pub enum Codec {
    /// Access units: with a configuration length-prefixed, without one in Annex B.
    H264(Option<AvcConfig>),
    /// A JPEG each.
    Jpeg,
    /// Uncompressed planes of 4:2:0.
    I420(Size),
}

impl Codec {
    /// As it is called in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::H264(_) => "H.264",
            Self::Jpeg => "JPEG",
            Self::I420(_) => "I420",
        }
    }
}

/// Says that a track's codec is not decoded; `code` is what the container calls it.
pub fn not_decoded(code: [u8; 4]) -> String {
    let name = match &code {
        b"hvc1" | b"hev1" | b"HEVC" | b"H265" => "H.265 ",
        b"av01" | b"AV01" => "AV1 ",
        b"vp08" | b"VP80" => "VP8 ",
        b"vp09" | b"VP90" => "VP9 ",
        b"mp4v" | b"FMP4" | b"XVID" | b"xvid" | b"DIVX" | b"DX50" => "MPEG-4 part 2 ",
        b"DIV3" | b"div3" | b"MP43" => "MSMPEG-4 ",
        b"apcn" | b"apch" | b"apcs" | b"apco" | b"ap4h" => "ProRes ",
        b"encv" => "encrypted ",
        _ => "",
    };
    format!("{name}video ({})", code.escape_ascii())
}
