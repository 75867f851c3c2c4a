//! Sizes and rates that a driver says it offers.

use std::os::fd::AsRawFd;

use super::Device;

/// `V4L2_FRMSIZE_TYPE_DISCRETE`, and of intervals the same number; the others are ranges.
const DISCRETE: u32 = 1;

/// `struct v4l2_frmsizeenum`. A discrete size is the first two numbers of `range`; else these are the least width, the
/// greatest and its step, and the same of height.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct SizeEnum {
    index: u32,
    pixel_format: u32,
    kind: u32,
    range: [u32; 6],
    reserved: [u32; 2],
}

/// `struct v4l2_frmivalenum`. Fractions: one, or the shortest, the longest and the step.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct IntervalEnum {
    index: u32,
    pixel_format: u32,
    width: u32,
    height: u32,
    kind: u32,
    fractions: [[u32; 2]; 3],
    reserved: [u32; 2],
}

mod call {
    use nix::sys::ioctl::ioctl_num_type as Number;

    use super::{IntervalEnum, SizeEnum};

    pub const ENUM_FRAMESIZES: Number = nix::request_code_readwrite!(b'V', 74, size_of::<SizeEnum>());
    pub const ENUM_FRAMEINTERVALS: Number = nix::request_code_readwrite!(b'V', 75, size_of::<IntervalEnum>());

    nix::ioctl_readwrite_bad!(enum_sizes, ENUM_FRAMESIZES, SizeEnum);
    nix::ioctl_readwrite_bad!(enum_intervals, ENUM_FRAMEINTERVALS, IntervalEnum);
}

/// Sizes, pixels: width and height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    One([u32; 2]),
    /// From one to another.
    Range([u32; 2], [u32; 2]),
}

/// Seconds a frame, each a numerator and a denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rates {
    One([u32; 2]),
    /// From the shortest to the longest.
    Range([u32; 2], [u32; 2]),
}

/// The entry number `index` of the sizes that a pixel format has; `EINVAL` after the last.
pub fn enum_sizes(device: &Device, pixel_format: u32, index: u32) -> nix::Result<Sizes> {
    let mut sizes = SizeEnum { index, pixel_format, ..SizeEnum::default() };
    ask!(enum_sizes, device, &raw mut sizes)?;
    let [least_width, width, _, least_height, height, _] = sizes.range;
    Ok(match sizes.kind {
        DISCRETE => Sizes::One([sizes.range[0], sizes.range[1]]),
        _ => Sizes::Range([least_width, least_height], [width, height]),
    })
}

/// The entry number `index` of the rates that a pixel format has at a size; `EINVAL` after the last.
pub fn enum_rates(device: &Device, pixel_format: u32, [width, height]: [u32; 2], index: u32) -> nix::Result<Rates> {
    let mut rates = IntervalEnum { index, pixel_format, width, height, ..IntervalEnum::default() };
    ask!(enum_intervals, device, &raw mut rates)?;
    Ok(match rates.kind {
        DISCRETE => Rates::One(rates.fractions[0]),
        _ => Rates::Range(rates.fractions[0], rates.fractions[1]),
    })
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;
    use crate::source::videodev::assert_numbers;

    /// As a C compiler with `<linux/videodev2.h>` prints them.
    #[test]
    fn structs_and_calls_are_the_kernels() {
        assert_eq!((size_of::<SizeEnum>(), offset_of!(SizeEnum, range)), (44, 12));
        assert_eq!((size_of::<IntervalEnum>(), offset_of!(IntervalEnum, fractions)), (52, 20));
        assert_numbers([(call::ENUM_FRAMESIZES, 0xc02c_564a), (call::ENUM_FRAMEINTERVALS, 0xc034_564b)]);
    }
}
