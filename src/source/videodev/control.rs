//! Controls: exposure, gain and whatever else a driver has, asked about and set.

use std::os::fd::AsRawFd;

use super::Device;

/// What [`RawControl::flags`] may say.
pub mod state {
    pub const DISABLED: u32 = 0x1;
    pub const GRABBED: u32 = 0x2;
    pub const READ_ONLY: u32 = 0x4;
    pub const INACTIVE: u32 = 0x10;
    pub const WRITE_ONLY: u32 = 0x40;
    /// Its value is no number but lies in memory.
    pub const HAS_PAYLOAD: u32 = 0x100;
}

/// Asks for the control with the next higher id.
const FLAG_NEXT: u32 = 0x8000_0000;

/// `enum v4l2_ctrl_type`, as far as it is about numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlKind {
    Integer,
    Boolean,
    Menu,
    IntegerMenu,
    Bitmask,
    /// A button, a text, an array: nothing that has a value to set here.
    Other,
}

/// `struct v4l2_query_ext_ctrl`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RawControl {
    pub id: u32,
    kind: u32,
    pub name: [u8; 32],
    pub minimum: i64,
    pub maximum: i64,
    pub step: u64,
    pub default: i64,
    pub flags: u32,
    element_size: u32,
    elements: u32,
    dimension_count: u32,
    dimensions: [u32; 4],
    reserved: [u32; 32],
}

impl RawControl {
    /// One with an id, the kernel's number of its kind and a name of at most 32 bytes; all else is 0.
    pub fn named(id: u32, kind: u32, name: &str) -> Self {
        let mut field = [0; 32];
        field.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        Self {
            id,
            kind,
            name: field,
            minimum: 0,
            maximum: 0,
            step: 0,
            default: 0,
            flags: 0,
            element_size: 0,
            elements: 0,
            dimension_count: 0,
            dimensions: [0; 4],
            reserved: [0; 32],
        }
    }

    pub fn kind(&self) -> ControlKind {
        match self.kind {
            1 | 5 => ControlKind::Integer,
            2 => ControlKind::Boolean,
            3 => ControlKind::Menu,
            8 => ControlKind::Bitmask,
            9 => ControlKind::IntegerMenu,
            _ => ControlKind::Other,
        }
    }
}

/// `struct v4l2_querymenu`, packed in C: the union is a name, or a number of 8 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct MenuEntry {
    id: u32,
    index: u32,
    name: [u8; 32],
    reserved: u32,
}

/// `struct v4l2_ext_control`, packed in C: the union is a number of 4 or 8 bytes, or a pointer.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
struct ExtControl {
    id: u32,
    size: u32,
    reserved: u32,
    value: i64,
}

/// `struct v4l2_ext_controls`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct ExtControls {
    /// 0: the current values.
    which: u32,
    count: u32,
    error_index: u32,
    request: i32,
    reserved: [u32; 2],
    controls: u64,
}

mod call {
    use nix::sys::ioctl::ioctl_num_type as Number;

    use super::{ExtControls, MenuEntry, RawControl};

    pub const QUERYMENU: Number = nix::request_code_readwrite!(b'V', 37, size_of::<MenuEntry>());
    pub const G_EXT_CTRLS: Number = nix::request_code_readwrite!(b'V', 71, size_of::<ExtControls>());
    pub const S_EXT_CTRLS: Number = nix::request_code_readwrite!(b'V', 72, size_of::<ExtControls>());
    pub const QUERY_EXT_CTRL: Number = nix::request_code_readwrite!(b'V', 103, size_of::<RawControl>());

    nix::ioctl_readwrite_bad!(query_menu, QUERYMENU, MenuEntry);
    nix::ioctl_readwrite_bad!(get_controls, G_EXT_CTRLS, ExtControls);
    nix::ioctl_readwrite_bad!(set_controls, S_EXT_CTRLS, ExtControls);
    nix::ioctl_readwrite_bad!(query_control, QUERY_EXT_CTRL, RawControl);
}

/// The control with the first id above `id`; `EINVAL` after the last.
pub fn next_control(device: &Device, id: u32) -> nix::Result<RawControl> {
    let mut control = RawControl::named(id | FLAG_NEXT, 0, "");
    ask!(query_control, device, &raw mut control).map(|()| control)
}

/// The entry `index` of a menu: its name, of which the first 8 bytes are the number of an integer menu; `EINVAL` where
/// the menu leaves this one out.
pub fn menu_entry(device: &Device, id: u32, index: u32) -> nix::Result<[u8; 32]> {
    let mut entry = MenuEntry { id, index, ..MenuEntry::default() };
    ask!(query_menu, device, &raw mut entry).map(|()| entry.name)
}

/// The value that a control has now.
pub fn control_value(device: &Device, control: &RawControl) -> nix::Result<i64> {
    let mut one = ExtControl { id: control.id, ..ExtControl::default() };
    let mut all = list_of(&mut one);
    ask!(get_controls, device, &raw mut all).map(|()| value_of(&one, control))
}

/// Sets a control, and returns the value that it has then.
pub fn set_control(device: &Device, control: &RawControl, value: i64) -> nix::Result<i64> {
    let mut one = ExtControl { id: control.id, value, ..ExtControl::default() };
    let mut all = list_of(&mut one);
    ask!(set_controls, device, &raw mut all).map(|()| value_of(&one, control))
}

/// One control as the list that the calls take; good as long as it stays where it is.
fn list_of(one: &mut ExtControl) -> ExtControls {
    let controls = (&raw mut *one).expose_provenance() as u64;
    ExtControls { count: 1, controls, ..ExtControls::default() }
}

/// Drivers write only the 4 bytes of a small number, which has a sign unless it is bits.
fn value_of(one: &ExtControl, control: &RawControl) -> i64 {
    const INTEGER64: u32 = 5;
    let value = one.value;
    let [a, b, c, d, ..] = value.to_le_bytes();
    match control.kind() {
        _ if control.kind == INTEGER64 => value,
        ControlKind::Bitmask => u32::from_le_bytes([a, b, c, d]).into(),
        _ => i32::from_le_bytes([a, b, c, d]).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{align_of, offset_of, size_of};

    use super::*;
    use crate::source::videodev::assert_numbers;

    /// `sizeof` and `offsetof` of a C compiler with `<linux/videodev2.h>`, the same on x86-64 and aarch64.
    #[test]
    fn structs_are_laid_out_as_in_c() {
        assert_eq!((size_of::<RawControl>(), align_of::<RawControl>()), (232, 8));
        assert_eq!(offset_of!(RawControl, minimum), 40);
        assert_eq!(offset_of!(RawControl, flags), 72);
        assert_eq!(offset_of!(RawControl, reserved), 104);
        assert_eq!((size_of::<MenuEntry>(), offset_of!(MenuEntry, name)), (44, 8));
        assert_eq!((size_of::<ExtControl>(), offset_of!(ExtControl, value)), (20, 12));
        assert_eq!((size_of::<ExtControls>(), offset_of!(ExtControls, controls)), (32, 24));
        assert_eq!(offset_of!(ExtControls, error_index), 8);
    }

    #[test]
    fn small_numbers_have_four_bytes_and_bits_no_sign() {
        let of_kind =
            |kind, value| value_of(&ExtControl { value, ..ExtControl::default() }, &RawControl::named(1, kind, ""));
        let garbage_above = 0x0123_4567_ffff_fffe;
        assert_eq!(of_kind(1, garbage_above), -2);
        assert_eq!(of_kind(5, garbage_above), garbage_above);
        assert_eq!(of_kind(8, garbage_above), 0xffff_fffe);
    }

    /// As a C compiler prints the `VIDIOC_` constants.
    #[test]
    fn calls_have_the_kernels_numbers() {
        assert_numbers([
            (call::QUERYMENU, 0xc02c_5625),
            (call::G_EXT_CTRLS, 0xc020_5647),
            (call::S_EXT_CTRLS, 0xc020_5648),
            (call::QUERY_EXT_CTRL, 0xc0e8_5667),
        ]);
    }
}
