//! Image files: bytes in, within a bound, and pictures out.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Frame, Limits, encode_jpeg};

/// Quality of a JPEG that is kept: annotated pictures are looked at closely.
const JPEG_QUALITY: u8 = 92;

/// Reads a whole file into `bytes`, at most one byte more than [`Limits`] allow, so that the decoder refuses it.
///
/// # Errors
/// The file cannot be opened or read.
pub fn read_file(path: &Path, limits: Limits, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    bytes.clear();
    File::open(path)?.take(limits.bytes_max as u64 + 1).read_to_end(bytes)?;
    Ok(())
}

/// Writes a frame as PNG when the name ends so, as JPEG otherwise.
///
/// # Errors
/// The frame cannot be encoded, or the file not written.
pub fn write_file(frame: &Frame, path: &Path) -> std::io::Result<()> {
    let is_png = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    let mut bytes = Vec::new();
    if is_png {
        let (width, height) = (u32::try_from(frame.width()), u32::try_from(frame.height()));
        let (Ok(width), Ok(height)) = (width, height) else {
            return Err(std::io::Error::other("the picture is too large for PNG"));
        };
        let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
        image::ImageEncoder::write_image(encoder, frame.pixels(), width, height, image::ExtendedColorType::Rgb8)
            .map_err(std::io::Error::other)?;
    } else {
        encode_jpeg(frame, JPEG_QUALITY, &mut bytes).map_err(std::io::Error::other)?;
    }
    std::fs::write(path, bytes)
}
