//! Access units cut out of a raw H.264 stream as it comes, in pieces of any length.
//!
//! May not know: where the bytes come from. They are not trusted: what is kept has a bound, and every byte is looked at
//! once.

use super::nal::{Unit, next_start};
use super::{Error, damaged};

/// Longest access unit: twice what a camera's largest key frame takes at its highest quality.
const UNIT_BYTES_MAX: usize = 8 << 20;

/// Cuts a stream. A unit is known to be whole when the next one begins.
#[derive(Debug, Default)]
pub struct AccessUnits {
    buffer: Vec<u8>,
    /// Bytes at the front that have been given out.
    done: usize,
    /// What is before has been looked at.
    at: usize,
    has_slice: bool,
}

impl AccessUnits {
    /// Adds bytes that have come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.done);
        self.at -= self.done;
        self.done = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole access unit, with the parameter sets before it; `None` while there is none.
    ///
    /// # Errors
    /// A unit is longer than it may be, and passed over.
    pub fn next(&mut self) -> Result<Option<&[u8]>, Error> {
        while let Some((start, payload)) = next_start(&self.buffer[self.at..]) {
            let (start, payload) = (self.at + start, self.at + payload);
            let &[header, first, ..] = &self.buffer[payload..] else {
                // As much as says what begins here has not come.
                self.at = start;
                return self.bounded();
            };
            let unit = Unit::new(header, Some(first));
            self.at = payload;
            if self.has_slice && unit.opens {
                self.has_slice = unit.is_slice;
                // The zero before the three bytes belongs to the start code.
                let end = if self.buffer[start - 1] == 0 { start - 1 } else { start };
                let begin = std::mem::replace(&mut self.done, end);
                return Ok(Some(&self.buffer[begin..end]));
            }
            self.has_slice |= unit.is_slice;
        }
        // What is left may be the first bytes of a start code.
        self.at = self.at.max(self.buffer.len().saturating_sub(2));
        self.bounded()
    }

    /// The last access unit, after the end of the stream.
    pub fn finish(&mut self) -> &[u8] {
        let begin = std::mem::replace(&mut self.done, self.buffer.len());
        self.at = self.buffer.len();
        &self.buffer[begin..]
    }

    fn bounded(&mut self) -> Result<Option<&[u8]>, Error> {
        let kept = self.buffer.len() - self.done;
        if kept <= UNIT_BYTES_MAX {
            return Ok(None);
        }
        (self.done, self.at, self.has_slice) = (self.buffer.len(), self.buffer.len(), false);
        Err(damaged(format!("an access unit of more than {UNIT_BYTES_MAX} bytes")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::access_units;
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
            while let Some(unit) = units.next().unwrap() {
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
        assert_eq!(access_units(&clean).count(), 30);
        for round in 0..200 {
            let mut stream = clean.clone();
            for _ in 0..random.below(6) {
                let at = random.below(stream.len());
                stream[at] = [0, 1, 9, 0x65][random.below(4)];
            }
            let piece = [1, 2, 5, 100, 1 << 20][round % 5];
            let whole: Vec<Vec<u8>> = access_units(&stream).map(<[u8]>::to_vec).collect();
            assert_eq!(cut(&stream, piece), whole, "round {round}, in pieces of {piece}");
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
            units.next().is_err()
        });
        assert!(refused.count() > 5);
    }
}
