//! Streams without a container: `.h264` (Annex B) and `.mjpeg` (one JPEG after the other).

use std::ops::Range;

use super::container::{Codec, Container, Track};
use super::file::{READ_BYTES_MAX, VideoFile};
use crate::frame::jpeg_length;
use crate::source::codec::access_unit_end;

/// Bytes that are read first; more are read, twice as many each time, until they hold a whole packet.
const READ_BYTES: usize = 1 << 16;
/// Frames a second that such a stream is shown at, as it has no times.
const FPS: f64 = 25.0;
const JPEG_START: [u8; 2] = [0xff, 0xd8];

/// What a stream is cut into.
#[derive(Clone, Copy, Debug)]
enum Cut {
    AccessUnits,
    Jpegs,
}

/// The packets of a stream.
#[derive(Debug)]
pub struct Raw {
    file: VideoFile,
    cut: Cut,
    /// What has been read; from `used` on it is not yet handed out.
    ahead: Vec<u8>,
    used: usize,
    /// Where in the file `ahead` ends.
    position: u64,
    packets: i64,
}

impl Raw {
    pub fn h264(file: VideoFile) -> (Self, Track) {
        (Self::new(file, Cut::AccessUnits), Track::new(Codec::H264(None), FPS))
    }

    pub fn mjpeg(file: VideoFile) -> (Self, Track) {
        (Self::new(file, Cut::Jpegs), Track::new(Codec::Jpeg, FPS))
    }

    fn new(file: VideoFile, cut: Cut) -> Self {
        Self { file, cut, ahead: Vec::new(), used: 0, position: 0, packets: 0 }
    }

    /// Where the first packet in `ahead` is, if it ends there, or if the file does.
    fn packet(&self) -> Option<Range<usize>> {
        let ahead = &self.ahead[self.used..];
        let (start, length) = match self.cut {
            Cut::AccessUnits => (0, access_unit_end(ahead)),
            Cut::Jpegs => {
                // What lies between two pictures is padding.
                let start = ahead.windows(2).position(|bytes| bytes == JPEG_START).unwrap_or(ahead.len());
                (start, jpeg_length(&ahead[start..]))
            }
        };
        let ended = self.position >= self.file.length();
        let length = length.or_else(|| ended.then_some(ahead.len() - start))?;
        Some(self.used + start..self.used + start + length)
    }

    /// Reads as much again as there is ahead.
    fn read_on(&mut self) -> Result<(), String> {
        self.ahead.drain(..std::mem::take(&mut self.used));
        let length = self.ahead.len();
        if length as u64 > READ_BYTES_MAX {
            // Nothing in the rest can be told apart either.
            self.ahead.clear();
            self.position = self.file.length();
            return Err(format!("no packet ends within {READ_BYTES_MAX} bytes"));
        }
        self.file.append(self.position, length.max(READ_BYTES), &mut self.ahead)?;
        self.position += (self.ahead.len() - length) as u64;
        Ok(())
    }
}

impl Container for Raw {
    fn next(&mut self, bytes: &mut Vec<u8>) -> Result<Option<i64>, String> {
        let packet = loop {
            match self.packet() {
                Some(packet) => break packet,
                None => self.read_on()?,
            }
        };
        self.used = packet.end;
        if packet.is_empty() {
            return Ok(None);
        }
        bytes.clear();
        bytes.extend_from_slice(&self.ahead[packet]);
        self.packets += 1;
        Ok(Some(self.packets - 1))
    }

    fn rewind(&mut self) {
        self.ahead.clear();
        (self.used, self.position, self.packets) = (0, 0, 0);
    }
}
