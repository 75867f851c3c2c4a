//! The parameter sets that a stream has given: a decoder that begins in the middle needs them again.

use rust_h264::nal::{NalUnit, NalUnitType};

use crate::source::codec::h264::exponential_golomb;

/// Most sets, and longest. Streams have one or two of some 30 bytes.
const SETS_MAX: usize = 64;
const SET_BYTES_MAX: usize = 1024;

/// Whether it is of a sequence, its id, and its bytes with their start code.
#[derive(Debug, Default)]
pub struct ParameterSets(Vec<(bool, Option<u32>, Vec<u8>)>);

impl ParameterSets {
    /// Keeps a set instead of the one with its id.
    pub fn keep(&mut self, nal: &NalUnit<'_>, bytes: &[u8]) {
        let of_sequence = nal.nal_unit_type == NalUnitType::Sps;
        // Profile, constraints and level come before the id of a sequence.
        let id = exponential_golomb(nal.rbsp.get(if of_sequence { 3 } else { 0 }..).unwrap_or_default());
        if bytes.len() > SET_BYTES_MAX {
            return;
        }
        match self.0.iter().position(|(kind, known, _)| (*kind, *known) == (of_sequence, id)) {
            Some(at) => bytes.clone_into(&mut self.0[at].2),
            None if self.0.len() < SETS_MAX => self.0.push((of_sequence, id, bytes.to_vec())),
            None => {}
        }
    }

    /// All of them, those of sequences first.
    pub fn append_to(&self, data: &mut Vec<u8>) {
        for wanted in [true, false] {
            let sets = self.0.iter().filter(|(of_sequence, ..)| *of_sequence == wanted);
            sets.for_each(|(.., bytes)| data.extend_from_slice(bytes));
        }
    }
}
