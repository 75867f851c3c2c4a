//! JPEGs cut out of a stream of bytes: one after the other as a camera program writes them to a pipe, or with the
//! boundaries and headers of `multipart/x-mixed-replace` in between.
//!
//! The pictures' own markers say where each begins and ends, so it does not matter how a camera spells its boundary or
//! whether it tells a length. Segments are passed over by their length: a thumbnail in one is no picture of its own.
//!
//! May not know: where the bytes come from. They are not trusted: what grows has a bound, and every byte is looked at
//! once.

use std::ops::Range;

use crate::frame;

/// First bytes of a JPEG: start of image, and the first byte of the marker that follows.
const START: [u8; 3] = [0xff, 0xd8, 0xff];

/// Cuts a stream.
#[derive(Debug)]
pub struct JpegStream {
    buffer: Vec<u8>,
    bytes_max: usize,
    /// Where the picture at hand begins, if one has.
    start: Option<usize>,
    /// What is before has been looked at; beyond the end of the buffer while a segment has not come whole.
    at: usize,
}

impl JpegStream {
    /// For pictures of at most `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        Self { buffer: Vec::new(), bytes_max, start: None, at: 0 }
    }

    /// Adds bytes that have come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.discard();
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole picture, `None` while there is none; it is forgotten with the next [`Self::push`].
    ///
    /// # Errors
    /// A picture is longer than it may be, and passed over.
    pub fn next(&mut self) -> Result<Option<&[u8]>, frame::Error> {
        let Some(picture) = self.find() else {
            let begun = self.start.map_or(0, |start| self.buffer.len() - start);
            if begun > self.bytes_max {
                return Err(frame::Error::TooManyBytes { found: self.cut_off(), limit: self.bytes_max });
            }
            return Ok(None);
        };
        if picture.len() > self.bytes_max {
            return Err(frame::Error::TooManyBytes { found: picture.len(), limit: self.bytes_max });
        }
        Ok(Some(&self.buffer[picture]))
    }

    /// Bytes of a picture that has begun and not ended; they are given up.
    pub fn cut_off(&mut self) -> usize {
        let found = self.start.map_or(0, |start| self.buffer.len() - start);
        (self.start, self.at) = (None, self.buffer.len());
        found
    }

    /// Forgets what is done with, and makes room in front.
    fn discard(&mut self) {
        let done = self.start.unwrap_or(self.at).min(self.buffer.len());
        self.buffer.drain(..done);
        self.at -= done;
        self.start = self.start.map(|start| start - done);
    }

    fn find(&mut self) -> Option<Range<usize>> {
        loop {
            let Some(start) = self.start else {
                let rest = self.buffer.get(self.at..).unwrap_or_default();
                let Some(found) = rest.windows(START.len()).position(|window| window == START) else {
                    // What is left may be the first bytes of a start.
                    self.at = self.at.max((self.buffer.len() + 1).saturating_sub(START.len()));
                    return None;
                };
                self.start = Some(self.at + found);
                self.at += found + 2;
                continue;
            };
            // Entropy-coded data and padding lie between markers; 0xff within it is followed by 0 or is a restart.
            let rest = self.buffer.get(self.at..)?;
            let Some(marker) = rest.iter().position(|&byte| byte == 0xff) else {
                self.at = self.buffer.len();
                return None;
            };
            self.at += marker;
            match *self.buffer.get(self.at + 1)? {
                0xd9 => {
                    self.at += 2;
                    self.start = None;
                    return Some(start..self.at);
                }
                // The picture before was cut off: this is the next one.
                0xd8 => {
                    self.start = Some(self.at);
                    self.at += 2;
                }
                0xff => self.at += 1,
                0x00 | 0x01 | 0xd0..=0xd7 => self.at += 2,
                _ => {
                    let length = self.buffer.get(self.at + 2..self.at + 4)?;
                    self.at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// A JPEG with a whole other one in its application segment, as cameras store thumbnails.
    fn picture(side: u16) -> Vec<u8> {
        let pixels = vec![128; usize::from(side) * usize::from(side) * 3];
        let encode = |thumbnail: &[u8]| {
            let mut bytes = Vec::new();
            let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 80);
            if !thumbnail.is_empty() {
                encoder.add_app_segment(1, thumbnail.to_vec()).unwrap();
            }
            encoder.encode(&pixels, side, side, jpeg_encoder::ColorType::Rgb).unwrap();
            bytes
        };
        encode(&encode(&[]))
    }

    /// All pictures of a stream that comes in pieces of at most `piece` bytes.
    fn cut(stream: &[u8], piece: usize, bytes_max: usize) -> (Vec<Vec<u8>>, usize) {
        let (mut cutter, mut pictures, mut refused) = (JpegStream::new(bytes_max), Vec::new(), 0);
        for piece in stream.chunks(piece) {
            cutter.push(piece);
            loop {
                match cutter.next() {
                    Ok(Some(picture)) => pictures.push(picture.to_vec()),
                    Ok(None) => break,
                    Err(_) => refused += 1,
                }
            }
            assert!(cutter.buffer.len() <= bytes_max + piece.len() + START.len(), "it grows: {}", cutter.buffer.len());
        }
        (pictures, refused)
    }

    #[test]
    fn pictures_come_out_as_they_went_in_whatever_lies_between() {
        let wanted: Vec<Vec<u8>> = [8, 16, 24].into_iter().map(picture).collect();
        let part = |head: &str, picture: &[u8]| [head.as_bytes(), picture].concat();
        let streams = [
            wanted.concat(),
            wanted.iter().flat_map(|p| part("\r\n--b\r\nContent-Type: image/jpeg\r\n\r\n", p)).collect(),
            wanted.iter().flat_map(|p| part(&format!("--b\nContent-length:{}\n\n", p.len()), p)).collect(),
            wanted.iter().flat_map(|p| part("----b\r\n\r\n", &[p.as_slice(), b"\r\n\r\n\0\0"].concat())).collect(),
        ];
        for stream in streams {
            for piece in [1, 2, 3, 7, 100, 1 << 20] {
                assert!(cut(&stream, piece, 1 << 20) == (wanted.clone(), 0), "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_too_long_costs_that_picture_only() {
        let (small, large) = (picture(8), picture(64));
        let stream = [&small, &large[..large.len() - 4], &small, &large, &small].concat();
        for piece in [1, 64, 1 << 20] {
            let (pictures, refused) = cut(&stream, piece, large.len() - 1);
            assert!(pictures == vec![small.clone(); 3] && refused == 1, "in pieces of {piece}: {}", pictures.len());
        }
    }

    #[test]
    fn damage_costs_neither_memory_nor_the_stream() {
        let clean: Vec<u8> = (0..20).flat_map(|side| picture(8 + side)).collect();
        let last = picture(40);
        let mut random = Random::new(0x19E6);
        for round in 0..300 {
            let mut stream = clean.clone();
            for _ in 0..1 + random.below(8) {
                let at = random.below(stream.len());
                let end = (at + 1 + random.below(40)).min(stream.len());
                match random.below(3) {
                    0 => stream[at..end].fill([0x00, 0xd8, 0xff][random.below(3)]),
                    1 => stream[at] ^= 1 << random.below(8),
                    _ => drop(stream.drain(at..end)),
                }
            }
            // Beyond the longest segment, whose length may have been forged, the stream is in step again.
            stream.extend((0..80).flat_map(|_| last.iter().copied()));
            let (pictures, _) = cut(&stream, 1 + random.below(5000), 1 << 17);
            assert!(pictures.iter().filter(|&picture| *picture == last).count() > 10, "round {round}");
        }
    }
}
