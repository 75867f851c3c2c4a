//! Bytes of a stream to pictures, one way for each format.
//!
//! May not know: where the bytes come from. They are not trusted: what is kept has a bound, nothing makes it panic.

use std::collections::VecDeque;

use super::y4m;
use crate::frame::{self, Frame, Limits, Orientation, Planar, RawLayout, Size, decode_into};
use crate::source::codec::{self, AccessUnits, Order, Picture, VideoDecoder};
use crate::source::jpeg_stream::JpegStream;

/// Why there is no picture.
#[derive(Debug)]
pub enum Fault {
    /// This one cannot be had; the next may be.
    Frame(frame::Error),
    /// There will be none any more.
    Stream(String),
}

impl From<frame::Error> for Fault {
    fn from(error: frame::Error) -> Self {
        Self::Frame(error)
    }
}

/// A stream on its way to pictures.
pub enum Cutter {
    Jpeg { stream: JpegStream, orientation: Orientation },
    H264 { units: AccessUnits, decoder: Box<VideoDecoder>, pictures: VecDeque<Picture> },
    Raw { pixels: Pixels, bytes: Vec<u8> },
    Y4m(y4m::Stream),
}

/// How an uncompressed picture lies in its bytes.
#[derive(Clone, Copy)]
pub enum Pixels {
    Packed(RawLayout),
    I420(Size),
}

impl Pixels {
    /// I420 of a size within `limits`.
    pub fn i420(size: Size, limits: Limits) -> Result<Self, frame::Error> {
        let Size { width, height } = size;
        if width == 0 || height == 0 {
            return Err(frame::Error::EmptyPicture { what: "the picture", width, height });
        }
        if width.saturating_mul(height) as u64 > limits.pixels_max {
            let [width, height] = [width, height].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
            return Err(frame::Error::TooManyPixels { width, height, limit: limits.pixels_max });
        }
        Ok(Self::I420(size))
    }

    /// Bytes of a picture.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Packed(layout) => layout.bytes(),
            Self::I420(size) => size.width * size.height + 2 * chroma_bytes(*size),
        }
    }

    pub fn read(&self, bytes: &[u8], frame: &mut Frame) -> Result<(), frame::Error> {
        match *self {
            Self::Packed(layout) => layout.read(bytes, frame),
            Self::I420(size @ Size { width, height }) => {
                let short = || frame::Error::Truncated { format: "I420", found: bytes.len() };
                let (y, chroma) = bytes.split_at_checked(width * height).ok_or_else(short)?;
                let (u, v) = chroma.split_at_checked(chroma_bytes(size)).ok_or_else(short)?;
                Planar { width, height, y, u, v, full_range: false }.read(frame)
            }
        }
    }
}

fn chroma_bytes(size: Size) -> usize {
    size.width.div_ceil(2) * size.height.div_ceil(2)
}

impl Cutter {
    pub fn mjpeg(orientation: Orientation) -> Self {
        Self::Jpeg { stream: JpegStream::new(Limits::default().bytes_max), orientation }
    }

    pub fn h264(live: bool) -> Self {
        let order = if live { Order::Live } else { Order::Exact };
        let decoder = Box::new(VideoDecoder::new(order));
        Self::H264 { units: AccessUnits::default(), decoder, pictures: VecDeque::new() }
    }

    pub fn y4m() -> Self {
        Self::Y4m(y4m::Stream::default())
    }

    pub fn raw(layout: RawLayout) -> Self {
        Self::Raw { pixels: Pixels::Packed(layout), bytes: Vec::new() }
    }

    pub fn i420(size: Size, limits: Limits) -> Result<Self, frame::Error> {
        Ok(Self::Raw { pixels: Pixels::i420(size, limits)?, bytes: Vec::new() })
    }

    /// Adds bytes that have come. All pictures of those before have been taken.
    pub fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::Jpeg { stream, .. } => stream.push(bytes),
            Self::H264 { units, .. } => units.push(bytes),
            Self::Raw { bytes: kept, .. } => kept.extend_from_slice(bytes),
            Self::Y4m(stream) => stream.push(bytes),
        }
    }

    /// Fills `frame` with the next picture of what has come; `false` when there is none.
    pub fn picture(&mut self, frame: &mut Frame) -> Result<bool, Fault> {
        match self {
            Self::Jpeg { stream, orientation } => {
                let Some(jpeg) = stream.next()? else { return Ok(false) };
                decode_into(jpeg, *orientation, Limits::default(), frame)?;
                Ok(true)
            }
            Self::H264 { units, decoder, pictures } => {
                while pictures.is_empty() {
                    let Some(unit) = units.take().map_err(damaged)? else { return Ok(false) };
                    let decoded = decoder.decode(unit, 0);
                    pictures.extend(std::iter::from_fn(|| decoder.picture()));
                    decoded.map_err(damaged)?;
                }
                show(pictures, frame)
            }
            Self::Raw { pixels, bytes } => {
                let length = pixels.bytes();
                if bytes.len() < length {
                    return Ok(false);
                }
                let read = pixels.read(bytes, frame);
                bytes.drain(..length);
                Ok(read.map(|()| true)?)
            }
            Self::Y4m(stream) => stream.picture(frame),
        }
    }

    /// As [`Self::picture`], after the end of the stream; what the end cut off is an error, once.
    pub fn last(&mut self, frame: &mut Frame) -> Result<bool, Fault> {
        match self {
            Self::Jpeg { stream, .. } => match stream.cut_off() {
                0 => Ok(false),
                found => Err(frame::Error::Truncated { format: "JPEG", found }.into()),
            },
            Self::H264 { units, decoder, pictures } => {
                if pictures.is_empty() {
                    let decoded = match units.finish() {
                        [] => Ok(()),
                        unit => {
                            let decoded = decoder.decode(unit, 0);
                            decoded.and(decoder.flush())
                        }
                    };
                    pictures.extend(std::iter::from_fn(|| decoder.picture()));
                    decoded.map_err(damaged)?;
                }
                show(pictures, frame)
            }
            Self::Raw { bytes, .. } => match std::mem::take(bytes).len() {
                0 => Ok(false),
                found => Err(frame::Error::Truncated { format: "raw", found }.into()),
            },
            Self::Y4m(stream) => match stream.cut_off() {
                0 => Ok(false),
                found => Err(frame::Error::Truncated { format: "Y4M", found }.into()),
            },
        }
    }
}

fn show(pictures: &mut VecDeque<Picture>, frame: &mut Frame) -> Result<bool, Fault> {
    let Some(picture) = pictures.pop_front() else { return Ok(false) };
    picture.read(frame)?;
    Ok(true)
}

fn damaged(error: codec::Error) -> Fault {
    match error {
        codec::Error::Unsupported { .. } => Fault::Stream(error.to_string()),
        codec::Error::Damaged { why } => frame::Error::Damaged { format: "H.264", why }.into(),
    }
}
