//! AVI: RIFF chunks, one a packet.
//!
//! The chunks of the pictures are walked from the first to the last, so that neither an index nor the sizes of the lists
//! are needed: a recording that was cut off shows all it has.

use super::container::{Codec, Container, Track, not_decoded};
use super::file::VideoFile;
use crate::frame::Size;
use crate::source::codec::AvcConfig;

/// Most bytes of the header lists: a few hundred are common, with an index of OpenDML some ten thousand.
const HEADER_BYTES_MAX: u64 = 1 << 20;
/// An id and a size; and with the type of a list.
const CHUNK: u64 = 8;
const LIST: u64 = 12;

/// The packets of an AVI file.
#[derive(Debug)]
pub struct Avi {
    file: VideoFile,
    /// Number of the video stream, as the ids of its chunks have it.
    stream: [u8; 2],
    /// Where the pictures begin.
    first: u64,
    position: u64,
    /// Pictures passed, which is the time.
    pictures: i64,
}

impl Avi {
    /// # Errors
    /// It is no AVI, has no video, or none that is decoded.
    pub fn open(file: VideoFile) -> Result<(Self, Track), String> {
        let mut position = LIST;
        let mut track = None;
        let mut bytes = Vec::new();
        while let Some((id, size)) = header(&file, position) {
            let kind = file.array::<4>(position + CHUNK).unwrap_or_default();
            match (&id, &kind) {
                (b"LIST", b"movi") => {
                    let (stream, track) = track.ok_or("the AVI has no video stream before its pictures")?;
                    let first = position + LIST;
                    return Ok((Self { file, stream, first, position: first, pictures: 0 }, track));
                }
                (b"LIST", b"hdrl") => {
                    let size = size.min(file.length().saturating_sub(position + CHUNK));
                    if size > HEADER_BYTES_MAX {
                        return Err(format!("the AVI header has {size} bytes, expected at most {HEADER_BYTES_MAX}"));
                    }
                    file.read(position + CHUNK, size, &mut bytes)?;
                    track = Some(video_stream(bytes.get(4..).unwrap_or_default())?);
                }
                _ => {}
            }
            position = after(position, size);
        }
        Err("the AVI ends before its pictures".into())
    }
}

impl Container for Avi {
    fn next(&mut self, bytes: &mut Vec<u8>) -> Result<Option<i64>, String> {
        while let Some((id, size)) = header(&self.file, self.position) {
            let start = self.position;
            if matches!(&id, b"LIST" | b"RIFF") {
                let kind = self.file.array::<4>(start + CHUNK).unwrap_or_default();
                let has_pictures = matches!(&kind, b"movi" | b"rec " | b"AVIX");
                self.position = if has_pictures { start + LIST } else { after(start, size) };
                continue;
            }
            self.position = after(start, size);
            // `00dc` is compressed, `00db` not; both are pictures of stream 0.
            if id[..2] == self.stream && matches!(&id[2..], b"dc" | b"db" | b"DC" | b"DB") {
                self.pictures += 1;
                // An empty chunk says that the picture before stays.
                if size > 0 {
                    self.file.read(start + CHUNK, size, bytes)?;
                    return Ok(Some(self.pictures - 1));
                }
            }
        }
        Ok(None)
    }

    fn rewind(&mut self) {
        (self.position, self.pictures) = (self.first, 0);
    }
}

/// Id and size of the chunk at a place; `None` at the end of the file.
fn header(file: &VideoFile, position: u64) -> Option<([u8; 4], u64)> {
    let [a, b, c, d, size @ ..] = file.array::<8>(position)?;
    Some(([a, b, c, d], u64::from(u32::from_le_bytes(size))))
}

/// Where the next chunk is: at an even byte.
fn after(position: u64, size: u64) -> u64 {
    position + CHUNK + size + size % 2
}

/// Number and track of the first video stream among the chunks of `hdrl`.
fn video_stream(mut chunks: &[u8]) -> Result<([u8; 2], Track), String> {
    let mut streams = 0;
    let mut rate = None;
    while let Some((head, rest)) = chunks.split_first_chunk::<8>() {
        let [a, b, c, d, size @ ..] = *head;
        let size = usize::try_from(u32::from_le_bytes(size)).unwrap_or(usize::MAX);
        let body = &rest[..size.min(rest.len())];
        chunks = match &[a, b, c, d] {
            // Its chunks follow its type.
            b"LIST" => rest.get(4..).unwrap_or_default(),
            kind => {
                if kind == b"strh" {
                    rate = body.starts_with(b"vids").then(|| stream_rate(body));
                    streams += 1;
                } else if let (b"strf", Some((fps, frames))) = (kind, rate) {
                    let mut track = Track::new(stream_codec(body)?, fps);
                    track.size = stream_size(body);
                    (track.fps, track.frames) = (Some(fps), frames);
                    let number = format!("{:02}", streams - 1).into_bytes();
                    let number = number.try_into().map_err(|_| "the AVI has more than 100 streams")?;
                    return Ok((number, track));
                }
                rest.get(size.saturating_add(size % 2)..).unwrap_or_default()
            }
        };
    }
    Err("the AVI has no video stream".into())
}

/// Pictures a second and in all, as a stream header declares them.
fn stream_rate(header: &[u8]) -> (f64, Option<u64>) {
    /// What pictures are shown at when nothing sensible is declared.
    const FPS: f64 = 25.0;
    let [scale, rate, frames] = [20, 24, 32].map(|at| number(header, at).unwrap_or(0));
    let fps = if scale > 0 && rate > 0 { f64::from(rate) / f64::from(scale) } else { FPS };
    (fps, (frames > 0).then(|| u64::from(frames)))
}

fn stream_size(format: &[u8]) -> Option<Size> {
    let [width, height] = [4, 8].map(|at| number(format, at).map(|side| side.cast_signed().unsigned_abs()));
    Some(Size::new(usize::try_from(width?).ok()?, usize::try_from(height?).ok()?))
}

/// The codec that a `BITMAPINFOHEADER` names.
fn stream_codec(format: &[u8]) -> Result<Codec, String> {
    /// Bytes before what belongs to the codec.
    const HEADER: usize = 40;
    let code = number(format, 16).ok_or("the AVI's video format is cut off")?.to_le_bytes();
    match &code.map(|byte| byte.to_ascii_uppercase()) {
        b"MJPG" | b"JPEG" | b"LJPG" | b"AVRN" => Ok(Codec::Jpeg),
        b"H264" | b"X264" | b"AVC1" | b"DAVC" | b"VSSH" => {
            let configuration = format.get(HEADER..).filter(|bytes| bytes.first() == Some(&1));
            let configuration = configuration.map(AvcConfig::parse).transpose().map_err(|error| error.to_string())?;
            Ok(Codec::H264(configuration))
        }
        _ => Err(not_decoded(code)),
    }
}

/// The little-endian number at a place.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
