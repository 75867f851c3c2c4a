//! The H.264 decoder: access units in, pictures in the order of presentation out.
//!
//! `rust_h264` decodes, bit-equal to ffmpeg. This file adds what a stream that may be damaged needs: what it cannot decode is
//! refused by name, a damaged picture is never shown, and after one the decoder waits for a picture that needs no other.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rust_h264::decoder::{Decoder, Frame};
use rust_h264::error::DecodeError;
use rust_h264::nal::{NalUnit, NalUnitType, parse_annex_b, parse_sps_info};

use super::dimensions::Sequence;
use super::order::{Order, Reorder};
use super::{Error, Picture, damaged};

/// Most slices of an access unit. Cameras that fit a slice into a network packet send about 200 for a large picture; each
/// but the first costs a copy of the decoder's state, so a hostile stream of empty slices would take minutes a picture.
const SLICES_MAX: usize = 512;

/// A decoder of one stream.
pub struct H264Decoder {
    decoder: Decoder,
    reorder: Reorder,
    sequence: Option<Sequence>,
    /// Pictures are passed over until one that needs no other.
    awaits_key: bool,
    /// Pictures still to be passed over: a refresh that goes on over several is not complete.
    incomplete: u32,
    /// The next picture is where decoding began within a stream: those shown before it miss their references.
    begins: bool,
    first_shown: Option<i32>,
    /// Stamp of the picture that the decoder is at, which is known to be complete only when the next one begins.
    building: Option<i64>,
}

impl std::fmt::Debug for H264Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H264Decoder").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl H264Decoder {
    #[must_use]
    pub fn new(order: Order) -> Self {
        Self {
            decoder: Decoder::new(),
            reorder: Reorder::new(order),
            sequence: None,
            awaits_key: true,
            incomplete: 0,
            begins: false,
            first_shown: None,
            building: None,
        }
    }

    /// Decodes one access unit in Annex B, that is, all slices of one picture and the parameter sets before them, or
    /// parameter sets alone. Pictures that became ready are had from [`Self::picture`]; `stamp` comes back with that of
    /// this unit.
    ///
    /// A unit that needs pictures which are not there is passed over without an error.
    ///
    /// # Errors
    /// The unit is damaged, or the stream is of a kind that is not decoded.
    pub fn decode(&mut self, unit: &[u8], stamp: i64) -> Result<(), Error> {
        let mut is_reference = true;
        let decoded = catch_unwind(AssertUnwindSafe(|| self.decode_unit(unit, stamp, &mut is_reference)))
            .unwrap_or_else(|_| Err(damaged("the decoder gave up")));
        if decoded.is_err() {
            // What it has of the picture, with which nothing can be done.
            _ = catch_unwind(AssertUnwindSafe(|| self.decoder.flush()));
            self.building = None;
            if is_reference {
                self.lost();
            }
        }
        decoded
    }

    /// The next picture in the order of presentation, if one is ready.
    pub fn picture(&mut self) -> Option<Picture> {
        self.reorder.pop()
    }

    /// Says that data before the next access unit is missing: pictures are passed over until one that needs no other.
    pub fn lost(&mut self) {
        self.awaits_key = true;
        self.reorder.restart();
    }

    /// Says that the stream has ended: all pictures become ready. A stream that begins after it may be decoded next.
    ///
    /// # Errors
    /// The last picture is damaged.
    pub fn flush(&mut self) -> Result<(), Error> {
        let last = catch_unwind(AssertUnwindSafe(|| self.decoder.flush())).unwrap_or_default();
        let accepted = last.map_or(Ok(()), |frame| self.accept(frame));
        self.lost();
        accepted
    }

    /// Forgets all pictures, as before a jump in the stream; parameter sets stay.
    pub fn reset(&mut self) {
        _ = catch_unwind(AssertUnwindSafe(|| self.decoder.flush()));
        self.building = None;
        self.awaits_key = true;
        self.reorder.clear();
    }

    fn decode_unit(&mut self, unit: &[u8], stamp: i64, is_reference: &mut bool) -> Result<(), Error> {
        let mut slices = 0;
        let mut recovery = None;
        for nal in &parse_annex_b(unit) {
            match nal.nal_unit_type {
                NalUnitType::Sps => self.begin_sequence(nal)?,
                NalUnitType::Pps => _ = self.decoder.decode_nal(nal).map_err(error)?,
                NalUnitType::Sei => recovery = recovery_point(&nal.rbsp).or(recovery),
                NalUnitType::SliceDataA => {
                    return Err(partitioned());
                }
                NalUnitType::Slice | NalUnitType::SliceIdr => {
                    *is_reference = nal.nal_ref_idc != 0;
                    if slices == 0 && !self.may_begin(nal, recovery)? {
                        return Ok(());
                    }
                    slices += 1;
                    if slices > SLICES_MAX {
                        return Err(damaged(format!("more than {SLICES_MAX} slices in a picture")));
                    }
                    self.decode_slice(nal, stamp)?;
                }
                _ => {}
            }
        }
        // A picture in frames is complete with its access unit; the second of two fields may come in the next.
        if self.sequence.is_some_and(|sequence| sequence.fields) {
            return Ok(());
        }
        match self.decoder.flush() {
            Some(frame) => self.accept(frame),
            None => Ok(()),
        }
    }

    fn begin_sequence(&mut self, nal: &NalUnit) -> Result<(), Error> {
        // Profile, constraints, level: the first three bytes.
        let level = nal.rbsp.get(2).copied().unwrap_or_default();
        let sequence = Sequence::new(&parse_sps_info(nal).map_err(error)?, level)?;
        self.decoder.decode_nal(nal).map_err(error)?;
        if self.sequence != Some(sequence) {
            self.reorder.restart();
            self.reorder.configure(sequence.reorder, sequence.reorder_max);
            self.sequence = Some(sequence);
        }
        Ok(())
    }

    /// Whether the picture of this first slice can be decoded, or must be passed over.
    fn may_begin(&mut self, nal: &NalUnit, recovery: Option<u32>) -> Result<bool, Error> {
        let is_idr = nal.nal_unit_type == NalUnitType::SliceIdr;
        if is_idr {
            (self.incomplete, self.first_shown, self.begins) = (0, None, false);
        } else if self.awaits_key {
            let Some(pictures) = recovery else { return Ok(false) };
            (self.incomplete, self.first_shown, self.begins) = (pictures, None, true);
        }
        if !is_first(&nal.rbsp) {
            return Err(headless());
        }
        self.awaits_key = false;
        Ok(true)
    }

    fn decode_slice(&mut self, nal: &NalUnit, stamp: i64) -> Result<(), Error> {
        let previous = self.decoder.decode_nal(nal).map_err(error)?;
        let mut accepted = Ok(());
        if let Some(frame) = previous {
            accepted = self.accept(frame);
        }
        if nal.nal_unit_type == NalUnitType::SliceIdr && is_first(&nal.rbsp) {
            self.reorder.restart();
        }
        self.building.get_or_insert(stamp);
        accepted
    }

    /// Takes a decoded picture, unless nobody may see it.
    fn accept(&mut self, frame: Frame) -> Result<(), Error> {
        let stamp = self.building.take().unwrap_or_default();
        let count = frame.pic_order_cnt;
        let sequence = self.sequence.ok_or_else(|| damaged("a picture before its parameter sets"))?;
        let picture = Picture {
            width: frame.width as usize,
            height: frame.height as usize,
            y: frame.y,
            u: frame.u,
            v: frame.v,
            full_range: sequence.full_range,
            stamp,
        };
        if picture.has_holes() {
            return Err(damaged("a part of the picture is missing"));
        }
        if std::mem::take(&mut self.begins) {
            self.first_shown = Some(count);
        }
        if self.incomplete > 0 {
            self.incomplete -= 1;
            return Ok(());
        }
        if self.first_shown.is_none_or(|first| count >= first) {
            self.reorder.push(count, picture);
        }
        Ok(())
    }
}

/// Whether a slice begins its picture: its first macroblock is number 0, which is a single bit, set.
pub(super) fn is_first(slice: &[u8]) -> bool {
    slice.first().is_some_and(|byte| byte & 0x80 != 0)
}

pub(super) fn headless() -> Error {
    damaged("the first slice of the picture is missing")
}

pub(super) fn partitioned() -> Error {
    Error::Unsupported { found: "H.264 with data partitioning (Extended profile)".into() }
}

pub(super) fn error(error: DecodeError) -> Error {
    match error {
        DecodeError::Unsupported(found) => Error::Unsupported { found: format!("H.264 with {found}") },
        other => damaged(other.to_string()),
    }
}

/// Pictures from a recovery point to where all of the picture is right again, if this SEI message announces one.
pub(super) fn recovery_point(message: &[u8]) -> Option<u32> {
    const RECOVERY_POINT: usize = 6;
    let mut rest = message;
    loop {
        let kind = sum_of_bytes(&mut rest)?;
        let length = sum_of_bytes(&mut rest)?;
        let (payload, after) = rest.split_at_checked(length)?;
        if kind == RECOVERY_POINT {
            return exponential_golomb(payload);
        }
        rest = after;
    }
}

/// A number as SEI messages write it: bytes of 255, and one that is less.
fn sum_of_bytes(bytes: &mut &[u8]) -> Option<usize> {
    let mut sum = 0;
    loop {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        sum += usize::from(byte);
        if byte != 0xff {
            return Some(sum);
        }
    }
}

/// The unsigned exponential Golomb code at the start of `bytes`, if it is short enough to matter.
pub(super) fn exponential_golomb(bytes: &[u8]) -> Option<u32> {
    let mut head = [0; 4];
    let length = bytes.len().min(4);
    head[..length].copy_from_slice(&bytes[..length]);
    let bits = u32::from_be_bytes(head);
    let zeros = bits.leading_zeros();
    (zeros < 16).then(|| (bits >> (31 - 2 * zeros)) - 1)
}

#[cfg(test)]
mod tests;
