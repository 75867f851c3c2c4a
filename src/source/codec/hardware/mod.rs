//! H.264 by a decoder of the board: what Linux offers as a stateful V4L2 decoder.
//!
//! Same rules as of the software: what is not decoded is refused by name, a damaged picture is never shown nor what builds
//! on it, and after a loss the decoder waits for a picture that needs no other. The device puts pictures into the order of
//! presentation.
//!
//! Files: `stateful` the order of calls, `port` one open device, `layout` its pictures in memory, `find` which device.

mod find;
mod layout;
mod port;
mod sets;
mod stateful;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rust_h264::nal::{NalUnitType, parse_annex_b, parse_sps_info};

pub use find::{Found, choose, decoders};
pub(super) use find::{chosen, failed};
use sets::ParameterSets;
use stateful::{Port, Stateful, Taken};

use super::dimensions::Sequence;
use super::{Error, Order, Picture, damaged, h264, nal};

/// Longest that a call waits for the device: a source's own bound.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How long the picture of an access unit is waited for where the newest counts: what a camera takes for the next at 25 a
/// second. A decoder that holds pictures back is waited for once.
const PICTURE_WAIT_MAX: Duration = Duration::from_millis(40);
/// Most access units that are remembered: a device holds back fewer, and the others are second fields.
const UNITS_MAX: usize = 64;
/// How many access units may have been given after one whose picture is still to come: so many pictures may wait for their
/// turn in a device. One that is older has none.
const BEHIND_MAX: u64 = 16;
/// So often in a row may a device call the picture damaged that decoding begins with, once it has made one: the stream is to
/// blame then, and before that its kind, which the device cannot decode.
const DAMAGED_MAX: u32 = 2;

/// Opens the device for pictures of a size, pixels with those that are cut off.
pub(super) type Opener = Box<dyn Fn([u32; 2]) -> Result<Box<dyn Port>, String> + Send>;

/// Why an access unit gave no picture.
#[derive(Debug)]
pub(super) enum Failure {
    /// The stream is to blame, and the device goes on.
    Stream(Error),
    /// The device is of no use for this stream.
    Device(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Stream(error)
    }
}

/// An access unit that the device has.
#[derive(Debug)]
struct Unit {
    id: u64,
    stamp: i64,
    full_range: bool,
    is_reference: bool,
    is_idr: bool,
    /// Decoding began with it.
    begins: bool,
    shown: bool,
}

/// What the device must be told of an access unit, and we must know.
#[derive(Debug, Default)]
struct Contents {
    has_slice: bool,
    is_idr: bool,
    is_reference: bool,
    /// Its first slice is that of the picture.
    is_whole: bool,
    recovery: Option<u32>,
}

/// A decoder of one stream.
pub(super) struct HardwareDecoder {
    open: Opener,
    /// From the first key picture on.
    stateful: Option<Stateful>,
    order: Order,
    sets: ParameterSets,
    sequence: Option<(Sequence, [u32; 2])>,
    /// Pictures are passed over until one that needs no other.
    awaits_key: bool,
    /// Where decoding began within a stream: pictures given after it and shown before it miss their references.
    begins: Option<u64>,
    /// Pictures still to be passed over: a refresh that goes on over several is not complete.
    incomplete: u32,
    next_id: u64,
    units: VecDeque<Unit>,
    /// Access units that the device usually holds back.
    held: usize,
    /// How often it may still call where decoding begins damaged.
    patience: u32,
    /// In the order of presentation, with the ids of their units.
    ready: VecDeque<(u64, Picture)>,
    data: Vec<u8>,
}

impl HardwareDecoder {
    pub fn new(order: Order, open: Opener) -> Self {
        Self {
            open,
            stateful: None,
            order,
            sets: ParameterSets::default(),
            sequence: None,
            awaits_key: true,
            begins: None,
            incomplete: 0,
            // Some drivers take a time of 0 for none.
            next_id: 1,
            units: VecDeque::new(),
            held: 0,
            patience: 0,
            ready: VecDeque::new(),
            data: Vec::new(),
        }
    }

    /// As the software's; waits at most [`WAIT_MAX`].
    pub fn decode(&mut self, unit: &[u8], stamp: i64) -> Result<(), Failure> {
        let deadline = Instant::now() + WAIT_MAX;
        let earlier = match self.collect() {
            Err(Failure::Device(why)) => return Err(Failure::Device(why)),
            earlier => earlier,
        };
        let contents = self.scan(unit).inspect_err(|_| self.lost())?;
        if !contents.has_slice {
            return earlier;
        }
        let begins = self.awaits_key;
        if !self.may_begin(&contents)? {
            return earlier;
        }
        self.send(unit, stamp, &contents, begins, deadline)?;
        earlier.and(self.wait_for_picture(deadline))
    }

    /// Gives the device an access unit; behind the parameter sets where decoding begins.
    fn send(
        &mut self,
        unit: &[u8],
        stamp: i64,
        contents: &Contents,
        begins: bool,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let Some((sequence, size)) = self.sequence else {
            self.lost();
            return Err(damaged("a picture before its parameter sets").into());
        };
        self.data.clear();
        if begins {
            self.sets.append_to(&mut self.data);
        }
        self.data.extend_from_slice(unit);
        let (id, shown) = (self.next_id, self.incomplete == 0);
        (self.next_id, self.incomplete) = (id + 1, self.incomplete.saturating_sub(1));
        self.held = self.held.min(self.units.len());
        if self.units.len() == UNITS_MAX {
            self.units.pop_front();
        }
        let Contents { is_reference, is_idr, .. } = *contents;
        let full_range = sequence.full_range;
        self.units.push_back(Unit { id, stamp, full_range, is_reference, is_idr, begins, shown });
        let stateful = match &mut self.stateful {
            Some(stateful) => stateful,
            none => none.insert(Stateful::new((self.open)(size).map_err(Failure::Device)?)),
        };
        stateful.send(&self.data, id, deadline).map_err(Failure::Device)
    }

    /// Takes what the device has decoded; where the newest counts, waits a little for the picture that is due.
    fn wait_for_picture(&mut self, deadline: Instant) -> Result<(), Failure> {
        let until = match self.order {
            Order::Live => deadline.min(Instant::now() + PICTURE_WAIT_MAX),
            // The more access units a device has, the faster it is.
            Order::Exact => Instant::now(),
        };
        let mut accepted = self.collect();
        while self.units.len() > self.held {
            let Some(stateful) = &mut self.stateful else { break };
            let may_come = stateful.pause(until).map_err(Failure::Device)?;
            accepted = accepted.and(self.accept_all());
            if !may_come {
                self.held = self.units.len();
            }
        }
        accepted
    }

    /// Takes what the device has decoded, without waiting.
    fn collect(&mut self) -> Result<(), Failure> {
        self.stateful.as_mut().map_or(Ok(()), Stateful::collect).map_err(Failure::Device)?;
        self.accept_all()
    }

    fn accept_all(&mut self) -> Result<(), Failure> {
        let mut accepted = Ok(());
        while let Some(taken) = self.stateful.as_mut().and_then(Stateful::take) {
            accepted = accepted.and(self.accept(taken));
        }
        accepted
    }

    /// Takes a decoded picture, unless nobody may see it.
    fn accept(&mut self, taken: Taken) -> Result<(), Failure> {
        let Taken { id, picture, damaged: is_damaged, .. } = taken;
        let known = self.units.iter().position(|unit| unit.id == id).and_then(|at| self.units.remove(at));
        let Some(unit) = known else {
            // One whose other field, or whose damage, has been heard of; or so old that it was forgotten.
            if (1..self.next_id).contains(&id) {
                return Ok(());
            }
            return Err(Failure::Device("it does not say which access unit a picture is of".into()));
        };
        if self.begins == Some(id) {
            self.begins = None;
        }
        if is_damaged {
            if unit.begins {
                let left = self.patience.checked_sub(1);
                self.patience = left.ok_or_else(|| Failure::Device("it makes no picture of this stream".into()))?;
            }
            if unit.is_reference {
                self.give_up_after(id);
            }
            return Err(damaged("the device could not make a picture of it").into());
        }
        if picture.is_some() {
            self.patience = DAMAGED_MAX;
        }
        let leads = self.begins.is_some_and(|begins| id > begins);
        if let Some(picture) = picture.filter(|_| unit.shown && !leads) {
            self.ready.push_back((id, Picture { stamp: unit.stamp, full_range: unit.full_range, ..picture }));
        }
        Ok(())
    }

    /// Has nothing shown that builds on this access unit.
    fn give_up_after(&mut self, id: u64) {
        let next_key = self.units.iter().find(|later| later.id > id && later.is_idr).map(|key| key.id);
        let lost = id + 1..next_key.unwrap_or(u64::MAX);
        self.units.iter_mut().filter(|unit| lost.contains(&unit.id)).for_each(|unit| unit.shown = false);
        self.ready.retain(|(ready, _)| !lost.contains(ready));
        if next_key.is_none() {
            self.lost();
        }
    }

    /// The next picture, unless it may turn out to build on a damaged one: that is shown after it, and not heard of yet.
    pub fn picture(&mut self) -> Option<Picture> {
        let &(id, _) = self.ready.front()?;
        let is_open = |unit: &Unit| unit.is_reference && unit.id < id && unit.id + BEHIND_MAX > self.next_id;
        // Of two fields that make a picture, one is never heard of.
        let in_fields = self.sequence.is_some_and(|(sequence, _)| sequence.fields);
        if !in_fields && self.units.iter().any(is_open) {
            return None;
        }
        self.ready.pop_front().map(|(_, picture)| picture)
    }

    pub fn lost(&mut self) {
        self.awaits_key = true;
    }

    /// As the software's; waits at most [`WAIT_MAX`].
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.lost();
        let Some(stateful) = &mut self.stateful else { return Ok(()) };
        let drained = stateful.drain(Instant::now() + WAIT_MAX).map_err(Failure::Device);
        let collected = self.accept_all();
        self.units.clear();
        drained.and(collected)
    }

    pub fn reset(&mut self) -> Result<(), Failure> {
        self.lost();
        self.units.clear();
        self.ready.clear();
        self.stateful.as_mut().map_or(Ok(()), Stateful::restart).map_err(Failure::Device)
    }

    /// What another decoder needs to know before it goes on with the stream.
    pub fn parameter_sets(&self) -> Vec<u8> {
        let mut sets = Vec::new();
        self.sets.append_to(&mut sets);
        sets
    }

    fn scan(&mut self, unit: &[u8]) -> Result<Contents, Failure> {
        let mut contents = Contents::default();
        for bytes in nal::units(unit) {
            let units = parse_annex_b(bytes);
            let Some(nal) = units.first() else { continue };
            match nal.nal_unit_type {
                NalUnitType::Sps => {
                    let info = parse_sps_info(nal).map_err(h264::error)?;
                    let level = nal.rbsp.get(2).copied().unwrap_or_default();
                    self.sequence = Some((Sequence::new(&info, level)?, [info.coded_width, info.coded_height]));
                    self.sets.keep(nal, bytes);
                }
                NalUnitType::Pps => self.sets.keep(nal, bytes),
                NalUnitType::Sei => contents.recovery = h264::recovery_point(&nal.rbsp).or(contents.recovery),
                NalUnitType::SliceDataA => return Err(h264::partitioned().into()),
                NalUnitType::Slice | NalUnitType::SliceIdr if !contents.has_slice => {
                    contents.has_slice = true;
                    contents.is_idr = nal.nal_unit_type == NalUnitType::SliceIdr;
                    contents.is_reference = nal.nal_ref_idc != 0;
                    contents.is_whole = h264::is_first(&nal.rbsp);
                }
                _ => {}
            }
        }
        Ok(contents)
    }

    /// Whether this access unit can be decoded, or must be passed over.
    fn may_begin(&mut self, contents: &Contents) -> Result<bool, Failure> {
        if contents.is_idr {
            (self.incomplete, self.begins) = (0, None);
        } else if self.awaits_key {
            let Some(pictures) = contents.recovery else { return Ok(false) };
            (self.incomplete, self.begins) = (pictures, Some(self.next_id));
        }
        if !contents.is_whole {
            if contents.is_reference {
                self.lost();
            }
            return Err(h264::headless().into());
        }
        self.awaits_key = false;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
