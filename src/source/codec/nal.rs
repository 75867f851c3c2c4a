//! NAL units: how a stream is cut into them and how containers frame them.

use super::{Error, damaged};

/// Types of NAL units that this room tells apart.
mod kind {
    pub const SLICE: u8 = 1;
    /// The first part of a partitioned slice, of the Extended profile.
    pub const PARTITION_A: u8 = 2;
    pub const SLICE_IDR: u8 = 5;
    pub const SEI: u8 = 6;
    pub const SPS: u8 = 7;
    pub const PPS: u8 = 8;
    pub const DELIMITER: u8 = 9;
}

/// What separates NAL units in Annex B.
const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The first start code: where it begins and where it ends.
fn next_start(bytes: &[u8]) -> Option<(usize, usize)> {
    let at = bytes.windows(3).position(|window| window == &START_CODE[1..])?;
    Some((at, at + 3))
}

/// The NAL units of a stream, each with its start code.
pub(super) fn units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = next_start(stream).map_or(&[][..], |(start, _)| &stream[start..]);
    std::iter::from_fn(move || {
        let (_, after) = next_start(rest)?;
        let end = next_start(&rest[after..]).map_or(rest.len(), |(start, _)| after + start);
        let (unit, following) = rest.split_at(end);
        rest = following;
        Some(unit)
    })
}

/// Where the first access unit of a raw `.h264` stream ends: before the first NAL unit after its slices that opens another;
/// `None` if that is not in `stream`.
#[must_use]
pub fn access_unit_end(stream: &[u8]) -> Option<usize> {
    let (mut has_slice, mut at) = (false, 0);
    while let Some((start, after)) = next_start(&stream[at..]) {
        let start = at + start;
        at += after;
        let [header, first, ..] = stream[at..] else { break };
        let kind = header & 0x1f;
        let is_slice = matches!(kind, kind::SLICE | kind::PARTITION_A | kind::SLICE_IDR);
        let opens = match kind {
            kind::SEI | kind::SPS | kind::PPS | kind::DELIMITER => true,
            // The first macroblock is number 0, which is a single bit, set.
            _ => is_slice && first & 0x80 != 0,
        };
        if has_slice && opens {
            // The zero before the three bytes belongs to the start code.
            return Some(if stream[start - 1] == 0 { start - 1 } else { start });
        }
        has_slice |= is_slice;
    }
    None
}

/// What `avcC` of MP4 and the `extradata` of RTSP clients hold: how units are framed, and the parameter sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvcConfig {
    /// Bytes of the length before each NAL unit: 1, 2, 3 or 4.
    pub length_bytes: usize,
    /// SPS and PPS in Annex B, to be decoded before the first access unit.
    pub parameter_sets: Vec<u8>,
}

impl AvcConfig {
    /// Reads an `AVCDecoderConfigurationRecord`.
    ///
    /// # Errors
    /// It is of another version, or ends too early.
    pub fn parse(record: &[u8]) -> Result<Self, Error> {
        let [1, _, _, _, lengths, after @ ..] = record else {
            return Err(damaged(format!("avcC of {} bytes, expected version 1 and at least 7 bytes", record.len())));
        };
        let (mut rest, mut parameter_sets) = (after, Vec::new());
        // The upper bits of the first count are reserved.
        for mask in [0x1f, 0xff] {
            let (&count, after) = rest.split_first().ok_or_else(|| damaged("avcC ends before its parameter sets"))?;
            rest = after;
            for _ in 0..count & mask {
                let (unit, after) = split_length(rest, 2).ok_or_else(|| damaged("avcC ends within a parameter set"))?;
                append(&mut parameter_sets, unit);
                rest = after;
            }
        }
        Ok(Self { length_bytes: usize::from(lengths & 3) + 1, parameter_sets })
    }
}

/// An access unit of length-prefixed NAL units (MP4, RTSP clients) in Annex B; `annex_b` is emptied first.
///
/// # Errors
/// A length reaches beyond the end; `annex_b` holds the units before it.
pub fn length_prefixed_to_annex_b(unit: &[u8], length_bytes: usize, annex_b: &mut Vec<u8>) -> Result<(), Error> {
    annex_b.clear();
    let mut rest = unit;
    while !rest.is_empty() {
        let (nal, after) = split_length(rest, length_bytes).ok_or_else(|| {
            damaged(format!(
                "a NAL unit at byte {} reaches beyond the {} of its access unit",
                unit.len() - rest.len(),
                unit.len()
            ))
        })?;
        append(annex_b, nal);
        rest = after;
    }
    Ok(())
}

/// A NAL unit behind its length, and what follows it.
fn split_length(bytes: &[u8], length_bytes: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(length_bytes)?;
    rest.split_at_checked(length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)))
}

fn append(annex_b: &mut Vec<u8>, unit: &[u8]) {
    annex_b.extend_from_slice(&START_CODE);
    annex_b.extend_from_slice(unit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_before_what_opens_a_picture() {
        // Parameter sets, a picture of two slices, a delimiter, a picture, the first of another.
        let stream = [
            &[0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 1, 0x65, 0x80, 3, 0, 0, 1, 0x65, 0x40, 4][..],
            &[0, 0, 0, 1, 9, 0x10, 0, 0, 1, 0x41, 0x80, 5],
            &[0, 0, 1, 0x41, 0x80],
        ];
        let whole = stream.concat();
        let first = access_unit_end(&whole).unwrap();
        assert_eq!(first, stream[0].len());
        assert_eq!(access_unit_end(&whole[first..]), Some(stream[1].len()));
        assert_eq!(access_unit_end(stream[2]), None);
        assert_eq!(access_unit_end(&[0, 0, 1]), None);
    }

    #[test]
    fn units_are_cut_at_their_start_codes() {
        let stream = [7, 0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 0, 0, 1];
        assert_eq!(units(&stream).collect::<Vec<_>>(), [&[0, 0, 1, 0x67, 1][..], &[0, 0, 1, 0x68], &[0, 0, 1]]);
        assert_eq!(units(&stream[..3]).count(), 0);
    }

    #[test]
    fn avcc_gives_its_parameter_sets_and_ends_nowhere_else() {
        let record = [1, 100, 0, 10, 0xff, 0xe1, 0, 2, 0x67, 7, 1, 0, 1, 0x68, 0xfd, 0xf8];
        let parsed = AvcConfig::parse(&record).unwrap();
        assert_eq!(parsed, AvcConfig { length_bytes: 4, parameter_sets: vec![0, 0, 0, 1, 0x67, 7, 0, 0, 0, 1, 0x68] });
        for length in 0..14 {
            AvcConfig::parse(&record[..length]).unwrap_err();
        }
    }

    #[test]
    fn lengths_become_start_codes() {
        let mut annex_b = vec![9];
        length_prefixed_to_annex_b(&[0, 2, 0x65, 1, 0, 1, 0x41], 2, &mut annex_b).unwrap();
        assert_eq!(annex_b, [0, 0, 0, 1, 0x65, 1, 0, 0, 0, 1, 0x41]);
        for odd in [&[0, 3, 0x65, 1][..], &[0], &[0xff, 0xff, 0xff]] {
            let error = length_prefixed_to_annex_b(odd, 2, &mut annex_b).unwrap_err().to_string();
            assert!(error.contains("beyond"), "{error}");
        }
    }
}
