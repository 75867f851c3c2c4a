//! What only decoders have: word that the stream has another size, the visible part of a picture, stopping and starting.

use std::os::fd::AsRawFd;

use super::{CAPTURE, Device, RawControl, control_value};

/// `V4L2_EVENT_SOURCE_CHANGE`, and that it is about the size.
const SOURCE_CHANGE: u32 = 5;
const RESOLUTION: u32 = 1;
/// `V4L2_SEL_TGT_COMPOSE`: the part of a decoded picture that is to be seen.
const TARGET_COMPOSE: u32 = 0x100;
/// `V4L2_CID_MIN_BUFFERS_FOR_CAPTURE`.
const MIN_PICTURES: u32 = 0x0098_0927;
/// `V4L2_CTRL_TYPE_INTEGER`.
const INTEGER: u32 = 1;

/// `struct v4l2_event_subscription`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Subscription {
    kind: u32,
    id: u32,
    flags: u32,
    reserved: [u32; 5],
}

/// `struct v4l2_event`. C's padding is spelt out; of the union, which a number of 8 bytes aligns, only the first word is
/// looked at.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Event {
    kind: u32,
    padding: u32,
    changes: u64,
    rest: [u64; 7],
    pending: u32,
    sequence: u32,
    time: [i64; 2],
    id: u32,
    reserved: [u32; 8],
    end_padding: u32,
}

/// `struct v4l2_rect`, pixels.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rectangle {
    pub left: i32,
    pub top: i32,
    pub width: u32,
    pub height: u32,
}

/// `struct v4l2_selection`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Selection {
    kind: u32,
    target: u32,
    flags: u32,
    rectangle: Rectangle,
    reserved: [u32; 9],
}

/// `struct v4l2_decoder_cmd`; zeros in its union mean normal speed, and to decode what was given before a stop.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct DecoderCommand {
    command: u32,
    flags: u32,
    rest: [u64; 8],
}

/// `V4L2_DEC_CMD_START` and `_STOP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Start = 0,
    /// Decodes all that it was given, and flags the last picture.
    Stop = 1,
}

mod call {
    use nix::sys::ioctl::ioctl_num_type as Number;

    use super::{DecoderCommand, Event, Selection, Subscription};

    pub const DQEVENT: Number = nix::request_code_read!(b'V', 89, size_of::<Event>());
    pub const SUBSCRIBE_EVENT: Number = nix::request_code_write!(b'V', 90, size_of::<Subscription>());
    pub const G_SELECTION: Number = nix::request_code_readwrite!(b'V', 94, size_of::<Selection>());
    pub const DECODER_CMD: Number = nix::request_code_readwrite!(b'V', 96, size_of::<DecoderCommand>());

    nix::ioctl_read_bad!(dequeue_event, DQEVENT, Event);
    nix::ioctl_write_ptr_bad!(subscribe_event, SUBSCRIBE_EVENT, Subscription);
    nix::ioctl_readwrite_bad!(get_selection, G_SELECTION, Selection);
    nix::ioctl_readwrite_bad!(decoder_command, DECODER_CMD, DecoderCommand);
}

/// Asks for word of changes of size, which a decoder that follows the stateful interface has.
pub fn subscribe_resolution(device: &Device) -> nix::Result<()> {
    let subscription = Subscription { kind: SOURCE_CHANGE, ..Subscription::default() };
    ask!(subscribe_event, device, &raw const subscription)
}

/// Takes the oldest event, and says whether it is a change of size; `ENOENT` when there is none.
pub fn resolution_changed(device: &Device) -> nix::Result<bool> {
    let mut event = Event::default();
    ask!(dequeue_event, device, &raw mut event)?;
    let [a, b, c, d, ..] = event.changes.to_ne_bytes();
    Ok(event.kind == SOURCE_CHANGE && u32::from_ne_bytes([a, b, c, d]) & RESOLUTION != 0)
}

/// The part of a decoded picture that is to be seen.
pub fn visible(device: &Device) -> nix::Result<Rectangle> {
    // Drivers of several planes take this kind as well, and older ones no other.
    let mut selection = Selection { kind: CAPTURE, target: TARGET_COMPOSE, ..Selection::default() };
    ask!(get_selection, device, &raw mut selection).map(|()| selection.rectangle)
}

/// Buffers for pictures that the stream needs, as far as the driver says.
pub fn wanted_pictures(device: &Device) -> Option<u32> {
    let value = control_value(device, &RawControl::named(MIN_PICTURES, INTEGER, "")).ok()?;
    u32::try_from(value).ok()
}

pub fn command(device: &Device, command: Command) -> nix::Result<()> {
    let mut command = DecoderCommand { command: command as u32, ..DecoderCommand::default() };
    ask!(decoder_command, device, &raw mut command)
}

#[cfg(test)]
mod tests {
    use std::mem::{align_of, offset_of, size_of};

    use super::*;
    use crate::source::videodev::assert_numbers;

    /// `sizeof` and `offsetof` of a C compiler with `<linux/videodev2.h>`, the same on x86-64 and aarch64.
    #[test]
    fn structs_are_laid_out_as_in_c() {
        assert_eq!(size_of::<Subscription>(), 32);
        assert_eq!((size_of::<Event>(), align_of::<Event>()), (136, 8));
        assert_eq!(offset_of!(Event, changes), 8);
        assert_eq!(offset_of!(Event, pending), 72);
        assert_eq!(offset_of!(Event, time), 80);
        assert_eq!(offset_of!(Event, id), 96);
        assert_eq!((size_of::<Selection>(), offset_of!(Selection, rectangle)), (64, 12));
        assert_eq!((size_of::<DecoderCommand>(), offset_of!(DecoderCommand, rest)), (72, 8));
    }

    /// As a C compiler prints the `VIDIOC_` constants.
    #[test]
    fn calls_have_the_kernels_numbers() {
        assert_numbers([
            (call::DQEVENT, 0x8088_5659),
            (call::SUBSCRIBE_EVENT, 0x4020_565a),
            (call::G_SELECTION, 0xc040_565e),
            (call::DECODER_CMD, 0xc048_5660),
        ]);
    }
}
