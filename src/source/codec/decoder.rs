//! The decoder of a stream: the board's, or software where there is none or it fails.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use super::hardware::{self, Failure, HardwareDecoder, Opener};
use super::{Error, H264Decoder, Order, Picture};
use crate::log;

/// A decoder of one stream of H.264.
pub struct VideoDecoder {
    order: Order,
    by: By,
    /// What a device had decoded when it failed.
    ready: VecDeque<Picture>,
}

enum By {
    Software(Box<H264Decoder>),
    /// And its name.
    Hardware(Box<HardwareDecoder>, String),
}

impl std::fmt::Debug for VideoDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VideoDecoder").field("by", &self.name()).finish_non_exhaustive()
    }
}

impl VideoDecoder {
    /// One as the configuration says; the first in the process is told to people.
    #[must_use]
    pub fn new(order: Order) -> Self {
        static TOLD: AtomicBool = AtomicBool::new(false);
        let decoder = match hardware::chosen() {
            Some(found) => Self::by_device(order, found.opener(), found.to_string()),
            None => Self::of(order, By::Software(Box::new(H264Decoder::new(order)))),
        };
        if !TOLD.swap(true, Ordering::Relaxed) {
            log::say(&format!("sources: H.264 by {}", decoder.name()));
        }
        decoder
    }

    pub(super) fn by_device(order: Order, open: Opener, name: String) -> Self {
        Self::of(order, By::Hardware(Box::new(HardwareDecoder::new(order, open)), name))
    }

    fn of(order: Order, by: By) -> Self {
        Self { order, by, ready: VecDeque::new() }
    }

    fn name(&self) -> &str {
        match &self.by {
            By::Software(_) => "software",
            By::Hardware(_, name) => name,
        }
    }

    /// Decodes one access unit in Annex B, that is, all slices of one picture and the parameter sets before them, or
    /// parameter sets alone. Pictures that became ready are had from [`Self::picture`]; `stamp` comes back with that of
    /// this unit. Waits at most about a second for a device, which may be at work on a few units.
    ///
    /// A unit that needs pictures which are not there is passed over without an error.
    ///
    /// # Errors
    /// This or an earlier unit is damaged, or the stream is of a kind that is not decoded.
    pub fn decode(&mut self, unit: &[u8], stamp: i64) -> Result<(), Error> {
        match &mut self.by {
            By::Software(decoder) => decoder.decode(unit, stamp),
            By::Hardware(decoder, _) => match decoder.decode(unit, stamp) {
                Err(Failure::Device(why)) => {
                    self.fall_back(&why);
                    // Passed over unless it is a key picture; a device that failed at one has cost nothing.
                    self.decode(unit, stamp)
                }
                Err(Failure::Stream(error)) => Err(error),
                Ok(()) => Ok(()),
            },
        }
    }

    /// The next picture in the order of presentation, if one is ready.
    pub fn picture(&mut self) -> Option<Picture> {
        self.ready.pop_front().or_else(|| match &mut self.by {
            By::Software(decoder) => decoder.picture(),
            By::Hardware(decoder, _) => decoder.picture(),
        })
    }

    /// Says that data before the next access unit is missing: pictures are passed over until one that needs no other.
    pub fn lost(&mut self) {
        match &mut self.by {
            By::Software(decoder) => decoder.lost(),
            By::Hardware(decoder, _) => decoder.lost(),
        }
    }

    /// Says that the stream has ended: all pictures become ready. A stream that begins after it may be decoded next.
    ///
    /// # Errors
    /// The last picture is damaged.
    pub fn flush(&mut self) -> Result<(), Error> {
        let flushed = match &mut self.by {
            By::Software(decoder) => return decoder.flush(),
            By::Hardware(decoder, _) => decoder.flush(),
        };
        self.settle(flushed)
    }

    /// Forgets all pictures, as before a jump in the stream; parameter sets stay.
    pub fn reset(&mut self) {
        self.ready.clear();
        match &mut self.by {
            By::Software(decoder) => decoder.reset(),
            By::Hardware(decoder, _) => {
                let reset = decoder.reset();
                _ = self.settle(reset);
            }
        }
    }

    fn settle(&mut self, done: Result<(), Failure>) -> Result<(), Error> {
        match done {
            Ok(()) => Ok(()),
            Err(Failure::Stream(error)) => Err(error),
            Err(Failure::Device(why)) => {
                self.fall_back(&why);
                Ok(())
            }
        }
    }

    /// Goes on in software, from the next key picture on.
    fn fall_back(&mut self, why: &str) {
        let By::Hardware(decoder, name) = &mut self.by else { return };
        self.ready.extend(std::iter::from_fn(|| decoder.picture()));
        let left = if hardware::failed() { "; it is left alone now" } else { "" };
        log::say(&format!("sources: H.264 by software from the next key picture on: {name}: {why}{left}"));
        let mut software = Box::new(H264Decoder::new(self.order));
        // What is wrong with them is said with the picture that needs them.
        _ = software.decode(&decoder.parameter_sets(), 0);
        self.by = By::Software(software);
    }
}
