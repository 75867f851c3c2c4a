//! Packets to pictures, whatever they are coded with.

use super::container::Codec;
use crate::frame::{self, Frame, Limits, Orientation, Planar, Size, decode_into};
use crate::source::codec::{self, Order, Picture, VideoDecoder, length_prefixed_to_annex_b};

/// A decoder of one track.
#[derive(Debug)]
pub enum Decoder {
    H264 {
        decoder: Box<VideoDecoder>,
        /// Bytes of the length before each NAL unit; `None`: Annex B.
        length_bytes: Option<usize>,
        annex_b: Vec<u8>,
        parameter_sets: Vec<u8>,
    },
    /// Every packet is a picture.
    Jpeg,
    I420(Size),
}

/// A picture whose turn has come.
#[derive(Debug)]
pub enum Ready {
    Decoded(Picture),
    /// The packet that was decoded last.
    Packet,
}

impl Decoder {
    /// # Errors
    /// The stream's parameter sets are damaged, or of a kind that is not decoded.
    pub fn new(codec: &Codec) -> Result<Self, codec::Error> {
        Ok(match codec {
            Codec::H264(configuration) => {
                let mut decoder = Box::new(VideoDecoder::new(Order::Exact));
                let parameter_sets =
                    configuration.as_ref().map(|found| found.parameter_sets.clone()).unwrap_or_default();
                decoder.decode(&parameter_sets, 0)?;
                let length_bytes = configuration.as_ref().map(|found| found.length_bytes);
                Self::H264 { decoder, length_bytes, annex_b: Vec::new(), parameter_sets }
            }
            Codec::Jpeg => Self::Jpeg,
            Codec::I420(size) => Self::I420(*size),
        })
    }

    /// Takes a packet and its time. A picture that is ready at once, as no other comes before it, is returned.
    ///
    /// # Errors
    /// The packet is damaged.
    pub fn decode(&mut self, packet: &[u8], time: i64) -> Result<Option<Ready>, codec::Error> {
        let Self::H264 { decoder, length_bytes, annex_b, .. } = self else { return Ok(Some(Ready::Packet)) };
        match *length_bytes {
            Some(length_bytes) => {
                length_prefixed_to_annex_b(packet, length_bytes, annex_b).inspect_err(|_| decoder.lost())?;
                decoder.decode(annex_b, time)?;
            }
            None => decoder.decode(packet, time)?,
        }
        Ok(None)
    }

    /// Says that a packet is missing.
    pub fn lost(&mut self) {
        if let Self::H264 { decoder, .. } = self {
            decoder.lost();
        }
    }

    /// The next decoded picture and its time.
    pub fn picture(&mut self) -> Option<Picture> {
        match self {
            Self::H264 { decoder, .. } => decoder.picture(),
            Self::Jpeg | Self::I420(_) => None,
        }
    }

    /// Says that the packets have ended: all pictures become ready.
    ///
    /// # Errors
    /// The last picture is damaged.
    pub fn flush(&mut self) -> Result<(), codec::Error> {
        match self {
            Self::H264 { decoder, parameter_sets, .. } => {
                let flushed = decoder.flush();
                // A stream that changed them in the middle begins with these again.
                decoder.decode(parameter_sets, 0)?;
                flushed
            }
            Self::Jpeg | Self::I420(_) => Ok(()),
        }
    }

    /// Fills a frame with a ready picture.
    ///
    /// # Errors
    /// The packet is no picture.
    pub fn show(&self, ready: &Ready, packet: &[u8], frame: &mut Frame) -> Result<(), frame::Error> {
        match (self, ready) {
            (_, Ready::Decoded(picture)) => picture.read(frame),
            (&Self::I420(Size { width, height }), Ready::Packet) => {
                let (y, chroma) = packet.split_at_checked(width * height).unwrap_or_default();
                let (u, v) = chroma.split_at_checked(width.div_ceil(2) * height.div_ceil(2)).unwrap_or_default();
                Planar { width, height, y, u, v, full_range: false }.read(frame)
            }
            (_, Ready::Packet) => decode_into(packet, Orientation::Ignore, Limits::default(), frame),
        }
    }
}
