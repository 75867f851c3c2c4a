//! Access units cut out of a raw H.264 stream as it comes, in pieces of any length.
//!
//! May not know: where the bytes come from. They are not trusted: what is kept has a bound.

use super::{Error, access_unit_end, damaged};

/// Longest access unit: twice what a camera's largest key frame takes at its highest quality.
const UNIT_BYTES_MAX: usize = 8 << 20;

/// Cuts a stream. A unit is known to be whole when the next one begins.
#[derive(Debug, Default)]
pub struct AccessUnits {
    buffer: Vec<u8>,
    /// Bytes at the front that have been given out.
    done: usize,
}

impl AccessUnits {
    /// Adds bytes that have come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.done);
        self.done = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole access unit, with the parameter sets before it; `None` while there is none.
    ///
    /// # Errors
    /// A unit is longer than it may be, and passed over.
    pub fn take(&mut self) -> Result<Option<&[u8]>, Error> {
        if let Some(length) = access_unit_end(&self.buffer[self.done..]) {
            let begin = self.done;
            self.done += length;
            return Ok(Some(&self.buffer[begin..self.done]));
        }
        if self.buffer.len() - self.done > UNIT_BYTES_MAX {
            self.done = self.buffer.len();
            return Err(damaged(format!("an access unit of more than {UNIT_BYTES_MAX} bytes")));
        }
        Ok(None)
    }

    /// The last access unit, after the end of the stream.
    pub fn finish(&mut self) -> &[u8] {
        let begin = std::mem::replace(&mut self.done, self.buffer.len());
        &self.buffer[begin..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// A stream of pictures of one or two slices, some behind parameter sets, with data that holds no start code.
    fn stream(random: &mut Random) -> Vec<u8> {
        let mut stream = Vec::new();
        for picture in 0..30 {
            let units: &[(u8, u8)] = match picture % 10 {
                0 => &[(9, 0x10), (7, 0x42), (8, 0xce), (5, 0x88), (5, 0x05)],
                3 => &[(6, 5), (1, 0x9a)],
                _ => &[(1, 0x9a), (1, 0x1a)],
            };
            for (kind, first) in units {
                stream.extend_from_slice(&[0, 0, 0, 1][random.below(2)..]);
                stream.extend_from_slice(&[0x60 | kind, *first]);
                stream.extend((0..random.below(300)).map(|_| u8::try_from(1 + random.below(255)).unwrap()));
            }
        }
        stream
    }

    fn cut(stream: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let (mut units, mut found) = (AccessUnits::default(), Vec::new());
        for piece in stream.chunks(piece) {
            units.push(piece);
            while let Some(unit) = units.take().unwrap() {
                found.push(unit.to_vec());
            }
        }
        found.push(units.finish().to_vec());
        found
    }

    #[test]
    fn pieces_are_cut_as_the_whole_is() {
        let mut random = Random::new(0xA11E);
        let clean = stream(&mut random);
        assert_eq!(cut(&clean, 100).len(), 30);
        for round in 0..60 {
            let mut stream = clean.clone();
            for _ in 0..random.below(6) {
                let at = random.below(stream.len());
                stream[at] = [0, 1, 9, 0x65][random.below(4)];
            }
            let piece = [3, 7, 100, 1 << 20][round % 4];
            assert_eq!(cut(&stream, piece), cut(&stream, stream.len()), "round {round}, in pieces of {piece}");
        }
    }

    #[test]
    fn what_never_ends_is_given_up() {
        let mut units = AccessUnits::default();
        units.push(&[0, 0, 1, 0x65, 0x88]);
        let piece = vec![0x55; 1 << 20];
        let refused = (0..64).filter(|_| {
            units.push(&piece);
            assert!(units.buffer.len() <= UNIT_BYTES_MAX + piece.len());
            units.take().is_err()
        });
        assert!(refused.count() > 5);
    }
}
