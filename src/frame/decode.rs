//! Encoded still images to frames, as `cv2.imdecode(bytes, IMREAD_COLOR)` of OpenCV 4.12 sees them.
//!
//! May not know: where the bytes come from. They are not trusted: what a header declares is checked against
//! [`Limits`] before memory is taken for it, and no input makes it panic.

mod jpeg;

use std::io::{Cursor, ErrorKind};

use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader};

use self::jpeg::Refused;
use super::{CHANNELS, Error, Frame};

/// What to do with the orientation that a camera wrote into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orientation {
    /// Turn the picture upright: `IMREAD_COLOR`.
    Apply,
    /// Leave it as stored: `IMREAD_COLOR | IMREAD_IGNORE_ORIENTATION`.
    Ignore,
}

/// How large an image may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of the encoded file.
    pub bytes_max: usize,
    /// Width times height that the header may declare.
    pub pixels_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // An uncompressed 20-megapixel bitmap still fits; no camera's JPEG comes near.
            bytes_max: 64 << 20,
            // The largest common phone and machine-vision sensors; 150 MB of RGB is what the smallest boards can give.
            pixels_max: 50_000_000,
        }
    }
}

/// Decodes a JPEG, PNG, WebP, TIFF, GIF or BMP to 8-bit RGB.
///
/// Grey becomes three equal channels, alpha is dropped without blending, of 16 bits the upper 8 are taken, and of an
/// animation the first frame. As in OpenCV 4.12, [`Orientation`] concerns JPEG and PNG; WebP is never turned and TIFF
/// always. Unlike OpenCV, which fills up what is missing, a truncated file is an error.
///
/// # Errors
/// Says what was expected and found for anything that is not an image within `limits`.
pub fn decode(bytes: &[u8], orientation: Orientation, limits: Limits) -> Result<Frame, Error> {
    let mut frame = Frame::empty();
    decode_into(bytes, orientation, limits, &mut frame)?;
    Ok(frame)
}

/// As [`decode`], into a frame whose buffer is reused; its id and time stay. After an error the size and pixels of the
/// frame are unspecified.
///
/// # Errors
/// As [`decode`].
pub fn decode_into(bytes: &[u8], orientation: Orientation, limits: Limits, frame: &mut Frame) -> Result<(), Error> {
    let format = check_file(bytes, limits)?;
    let name = format_name(format);
    let damaged = |error: ImageError| image_error(name, bytes.len(), &error);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut image_limits = image::Limits::no_limits();
    // The widest pixel has four 16-bit channels; decoders keep at most that and one more copy.
    image_limits.max_alloc = Some(limits.pixels_max.saturating_mul(16).max(1 << 20));
    reader.limits(image_limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;

    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.pixels_max {
        return Err(Error::TooManyPixels { width, height, limit: limits.pixels_max });
    }
    let [width, height] = [width, height].map(|side| usize::try_from(side).unwrap_or(usize::MAX));
    if width == 0 || height == 0 {
        return Err(Error::EmptyPicture { what: "the image", width, height });
    }
    let turn = turn_of(&mut decoder, format, orientation);
    let colour = decoder.color_type();
    if format == ImageFormat::Jpeg {
        frame.reshape(width, height);
        match jpeg::read_rgb(bytes, frame.pixels_mut()) {
            Ok(()) if turn == UPRIGHT => return Ok(()),
            Ok(()) => {
                let stored = frame.pixels().to_vec();
                Layout::RGB.unpack(&stored, (width, height), turn, frame);
                return Ok(());
            }
            Err(Refused::Damaged(why)) => return Err(Error::Damaged { format: name, why }),
            // The one kind that the other decoder reads instead.
            Err(Refused::Cmyk) => {}
        }
    }
    if colour == ColorType::Rgb8 && turn == UPRIGHT {
        frame.reshape(width, height);
        return decoder.read_image(frame.pixels_mut()).map_err(damaged);
    }
    let mut stored = vec![0; width * height * usize::from(colour.bytes_per_pixel())];
    decoder.read_image(&mut stored).map_err(damaged)?;
    let layout =
        Layout::of(colour).ok_or_else(|| Error::UnsupportedPixels { format: name, found: format!("{colour:?}") })?;
    layout.unpack(&stored, (width, height), turn, frame);
    Ok(())
}

/// Size, kind and completeness: what can be told without decoding.
fn check_file(bytes: &[u8], limits: Limits) -> Result<ImageFormat, Error> {
    if bytes.is_empty() {
        return Err(Error::EmptyInput);
    }
    if bytes.len() > limits.bytes_max {
        return Err(Error::TooManyBytes { found: bytes.len(), limit: limits.bytes_max });
    }
    let format =
        image::guess_format(bytes).map_err(|_| Error::UnknownFormat { found: bytes[..bytes.len().min(8)].to_vec() })?;
    if format == ImageFormat::Jpeg && jpeg_length(bytes).is_none() {
        return Err(Error::Truncated { format: "JPEG", found: bytes.len() });
    }
    Ok(format)
}

fn format_name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        other => other.extensions_str().first().copied().unwrap_or("unknown"),
    }
}

fn image_error(format: &'static str, found: usize, error: &ImageError) -> Error {
    if let ImageError::IoError(io) = error
        && io.kind() == ErrorKind::UnexpectedEof
    {
        return Error::Truncated { format, found };
    }
    Error::Damaged { format, why: error.to_string() }
}

/// Where the JPEG that `bytes` begin with ends, after its end-of-image marker; `None` if that is missing. The decoder would
/// silently paint what is missing grey, and a marker search from the end would find the one of a thumbnail in the header.
#[must_use]
pub fn jpeg_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        // Entropy-coded data and padding lie between markers; 0xff within it is followed by 0 or is a restart.
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        at += match *bytes.get(at + 1)? {
            0xd9 => return Some(at + 2),
            0xff => 1,
            0x00 | 0x01 | 0xd0..=0xd8 => 2,
            _ => 2 + usize::from(u16::from_be_bytes(*bytes.get(at + 2..)?.first_chunk()?)).max(2),
        };
    }
}

/// Writes `stored`, turned by an EXIF orientation from 1 to 8, to `frame`, whose id and time stay.
///
/// # Errors
/// There is nothing to turn.
pub fn turn(stored: &Frame, orientation: u32, frame: &mut Frame) -> Result<(), Error> {
    let (width, height) = (stored.width(), stored.height());
    if width == 0 || height == 0 {
        return Err(Error::EmptyPicture { what: "the image", width, height });
    }
    Layout::RGB.unpack(stored.pixels(), (width, height), orientation, frame);
    Ok(())
}

/// EXIF orientation 1: stored as seen.
const UPRIGHT: u32 = 1;

/// The EXIF orientation to apply, 1 to 8.
fn turn_of(decoder: &mut impl ImageDecoder, format: ImageFormat, wanted: Orientation) -> u32 {
    match (format, wanted) {
        (ImageFormat::Tiff, _) => decoder.orientation().map_or(UPRIGHT, |found| u32::from(found.to_exif())),
        (ImageFormat::Jpeg | ImageFormat::Png, Orientation::Apply) => {
            // A damaged EXIF block is no reason to refuse the picture.
            let exif = decoder.exif_metadata().ok().flatten();
            exif.and_then(exif_orientation).unwrap_or(UPRIGHT)
        }
        _ => UPRIGHT,
    }
}

fn exif_orientation(raw: Vec<u8>) -> Option<u32> {
    let mut reader = exif::Reader::new();
    reader.continue_on_error(true);
    let exif = reader.read_raw(raw).or_else(|error| error.distill_partial_result(|_| {})).ok()?;
    let field = exif.get_field(exif::Tag::Orientation, exif::In::PRIMARY)?;
    field.value.get_uint(0).filter(|turn| (1..=8).contains(turn))
}

/// How a decoder lays out a pixel.
struct Layout {
    bytes_per_pixel: usize,
    /// Where in a pixel the 8 bits of red, green and blue are that are kept.
    kept: [usize; CHANNELS],
}

impl Layout {
    const RGB: Self = Self { bytes_per_pixel: CHANNELS, kept: [0, 1, 2] };

    fn of(colour: ColorType) -> Option<Self> {
        // 16-bit samples are in the machine's byte order, and the upper byte is the one that counts.
        let upper = usize::from(cfg!(target_endian = "little"));
        let kept = match colour {
            ColorType::L8 | ColorType::La8 => [0; CHANNELS],
            ColorType::Rgb8 | ColorType::Rgba8 => [0, 1, 2],
            ColorType::L16 | ColorType::La16 => [upper; CHANNELS],
            ColorType::Rgb16 | ColorType::Rgba16 => [upper, 2 + upper, 4 + upper],
            _ => return None,
        };
        Some(Self { bytes_per_pixel: usize::from(colour.bytes_per_pixel()), kept })
    }

    /// Writes `stored` pixels of `width`×`height`, turned by an EXIF orientation, to `frame`.
    fn unpack(&self, stored: &[u8], (width, height): (usize, usize), turn: u32, frame: &mut Frame) {
        let along = 1;
        let down = width.cast_signed();
        let (last_column, last_row) = (width - 1, (height - 1) * width);
        // First stored pixel of the upright picture, and the steps to its right and lower neighbour.
        let (origin, step_right, step_down) = match turn {
            2 => (last_column, -along, down),
            3 => (last_row + last_column, -along, -down),
            4 => (last_row, along, -down),
            5 => (0, down, along),
            6 => (last_row, -down, along),
            7 => (last_row + last_column, -down, -along),
            8 => (last_column, down, -along),
            _ => (0, along, down),
        };
        if turn >= 5 {
            frame.reshape(height, width);
        } else {
            frame.reshape(width, height);
        }
        let row_bytes = frame.width() * CHANNELS;
        let mut row_start = origin;
        for row in frame.pixels_mut().chunks_exact_mut(row_bytes) {
            let mut at = row_start;
            for pixel in row.as_chunks_mut::<CHANNELS>().0 {
                let stored = &stored[at * self.bytes_per_pixel..][..self.bytes_per_pixel];
                *pixel = self.kept.map(|byte| stored[byte]);
                // Past the last pixel of a turned row this is outside, and unused.
                at = at.wrapping_add_signed(step_right);
            }
            row_start = row_start.wrapping_add_signed(step_down);
        }
    }
}

#[cfg(test)]
mod tests;
