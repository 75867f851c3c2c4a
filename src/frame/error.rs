//! What can go wrong with pixels. One enum for the room; every message says what was expected and what was found.

use thiserror::Error;

#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// There was nothing to decode.
    #[error("the image is empty: 0 bytes")]
    EmptyInput,
    /// The encoded file is larger than the caller allows.
    #[error("the image file is too large: {found} bytes, at most {limit} are allowed")]
    TooManyBytes { found: usize, limit: usize },
    /// The header declares more pixels than the caller allows; nothing was allocated for them.
    #[error("the image is too large: {width}x{height} pixels, at most {limit} pixels are allowed")]
    TooManyPixels { width: u32, height: u32, limit: u64 },
    /// No decoder knows the first bytes.
    #[error("unknown image format: expected JPEG, PNG, WebP, TIFF, GIF or BMP, found bytes {found:02x?}")]
    UnknownFormat { found: Vec<u8> },
    /// The file ends before its picture does.
    #[error("the {format} image is truncated: {found} bytes end before the picture does")]
    Truncated { format: &'static str, found: usize },
    /// The file is damaged.
    #[error("the {format} image cannot be decoded: {why}")]
    Damaged { format: &'static str, why: String },
    /// The file is in order but of a kind that has no 8-bit colour meaning.
    #[error("the {format} image has pixels of kind {found}: expected 8 or 16 bit grey or colour")]
    UnsupportedPixels { format: &'static str, found: String },
    /// Chroma is kept for pairs of pixels.
    #[error("a {format} picture of {width}x{height} pixels: expected even sides")]
    OddSide { format: &'static str, width: usize, height: usize },
    /// Rows would overlap.
    #[error("a {format} picture {width} pixels wide has rows of {found} bytes: expected at least {expected}")]
    RowTooShort { format: &'static str, width: usize, found: usize, expected: usize },
    /// A picture without pixels cannot be scaled or encoded.
    #[error("{what} is empty: {width}x{height}")]
    EmptyPicture { what: &'static str, width: usize, height: usize },
    /// A side is longer than this room handles.
    #[error("{what} is {width}x{height}, expected sides of at most {limit}")]
    SideTooLong { what: &'static str, width: usize, height: usize, limit: usize },
    /// The aspect ratio is so extreme that the scaled picture would have no pixel on one side.
    #[error(
        "a {width}x{height} picture cannot be fitted into {net_width}x{net_height}: \
         it would be {new_width}x{new_height}"
    )]
    NothingLeft {
        width: usize,
        height: usize,
        net_width: usize,
        net_height: usize,
        new_width: usize,
        new_height: usize,
    },
    /// A rectangle reaches over the edge of what it lies on.
    #[error("region {left},{top} {width}x{height} does not lie within {outer_width}x{outer_height}")]
    RegionOutside { left: usize, top: usize, width: usize, height: usize, outer_width: usize, outer_height: usize },
    /// The bounds of a crop are no percentages, or are the wrong way round.
    #[error("crop {x_min}..{x_max} x {y_min}..{y_max}: expected 0 <= min <= max <= 100 percent")]
    CropBounds { x_min: f64, x_max: f64, y_min: f64, y_max: f64 },
    /// The caller's output slice has the wrong length.
    #[error("the output holds {found} values, expected {expected}")]
    OutputLength { found: usize, expected: usize },
    /// The JPEG encoder refused.
    #[error("cannot encode a {width}x{height} JPEG: {why}")]
    Encode { width: usize, height: usize, why: String },
}
