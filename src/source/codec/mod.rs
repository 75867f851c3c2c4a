//! Compressed video to pictures: H.264 for whoever has access units, from a file or from a network. `decoder` is what they
//! hold: a decoder of the board (`hardware`), or software (`h264`).
//!
//! May not know: containers, protocols, sources.

mod annex_b;
mod decoder;
mod dimensions;
mod h264;
mod hardware;
mod nal;
mod order;
mod picture;

pub use annex_b::AccessUnits;
pub use decoder::VideoDecoder;
pub use hardware::{Found, choose, decoders};
pub use nal::{AvcConfig, access_unit_end, length_prefixed_to_annex_b};
pub use order::Order;
pub use picture::Picture;

use h264::H264Decoder;

/// Why an access unit gave no picture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream is of a kind that no picture can be had of, now or later.
    #[error("{found} is not decoded; expected H.264 of 8 bits and 4:2:0 up to level 5.2: {FIX}")]
    Unsupported { found: String },
    /// This unit is damaged; unless nothing refers to its picture, none comes before the next key picture.
    #[error("the access unit is damaged: {why}")]
    Damaged { why: String },
}

/// What helps against [`Error::Unsupported`].
const FIX: &str = "set the camera to H.264 Baseline, Main or High, or convert the file with \
                   `ffmpeg -i IN -c:v libx264 -pix_fmt yuv420p OUT.mp4`";

fn damaged(why: impl Into<String>) -> Error {
    Error::Damaged { why: why.into() }
}

/// The access units of a stream in Annex B.
#[cfg(test)]
fn access_units(stream: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut units) = (stream, Vec::new());
    while let Some(end) = access_unit_end(rest) {
        let (unit, after) = rest.split_at(end);
        units.push(unit);
        rest = after;
    }
    units.push(rest);
    units
}
