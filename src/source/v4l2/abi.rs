//! The part of Linux's `<linux/videodev2.h>` that a capture needs, as 64-bit Linux lays it out.
//!
//! Fields have the kernel's order and whole words for names; those that nobody here needs are sent as zeros, which mean
//! the driver's choice, and not looked at. Knows the shape of the calls and nothing of their meaning: what a driver
//! answers is checked where it is used.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

// Times and pointers in these structs are shorter on 32-bit systems.
const _: () = assert!(size_of::<usize>() == 8, "the V4L2 structs are those of 64-bit Linux");

/// `V4L2_BUF_TYPE_VIDEO_CAPTURE`: single-planar capture, the only kind here.
const CAPTURE: u32 = 1;
/// `V4L2_MEMORY_MMAP`: the driver's buffers, mapped.
const MEMORY_MMAP: u32 = 1;

pub const CAP_VIDEO_CAPTURE: u32 = 0x1;
pub const CAP_VIDEO_CAPTURE_MPLANE: u32 = 0x1000;
pub const CAP_STREAMING: u32 = 0x0400_0000;
/// `device_caps` is filled, and is about this node alone.
pub const CAP_DEVICE_CAPS: u32 = 0x8000_0000;
/// `V4L2_CAP_TIMEPERFRAME`: the rate can be set.
pub const PARM_TIME_PER_FRAME: u32 = 0x1000;
/// The picture is damaged.
pub const FLAG_ERROR: u32 = 0x40;
const FLAG_TIMESTAMP_MASK: u32 = 0xe000;
const FLAG_TIMESTAMP_MONOTONIC: u32 = 0x2000;

/// The four letters of a pixel format as the number that the kernel uses.
pub const fn fourcc(letters: [u8; 4]) -> u32 {
    u32::from_le_bytes(letters)
}

/// The letters of a pixel format, for people.
pub fn fourcc_text(fourcc: u32) -> String {
    let letter = |byte: u8| if byte.is_ascii_graphic() { char::from(byte) } else { '?' };
    fourcc.to_le_bytes().map(letter).iter().collect()
}

/// `struct v4l2_capability`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Capability {
    pub driver: [u8; 16],
    pub card: [u8; 32],
    pub bus_info: [u8; 32],
    pub version: u32,
    pub capabilities: u32,
    pub device_caps: u32,
    pub reserved: [u32; 3],
}

/// `struct v4l2_fmtdesc`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct FormatDescription {
    index: u32,
    kind: u32,
    flags: u32,
    description: [u8; 32],
    pixel_format: u32,
    mbus_code: u32,
    reserved: [u32; 3],
}

/// `struct v4l2_pix_format`. Zeros mean the driver's choice.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PictureFormat {
    pub width: u32,
    pub height: u32,
    pub pixel_format: u32,
    pub field: u32,
    pub bytes_per_line: u32,
    pub size_image: u32,
    pub colorspace: u32,
    pub private: u32,
    pub flags: u32,
    pub ycbcr_encoding: u32,
    pub quantization: u32,
    pub transfer: u32,
}

/// `struct v4l2_format`: a kind and a union of 200 bytes, which begins at 8 because one of its members holds pointers.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
struct Format {
    kind: u32,
    padding: u32,
    picture: PictureFormat,
    rest: [u8; 152],
}

impl Format {
    fn of(picture: PictureFormat) -> Self {
        Self { kind: CAPTURE, padding: 0, picture, rest: [0; 152] }
    }
}

/// `struct v4l2_captureparm`; `frame_seconds` is a numerator and a denominator.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CaptureParameters {
    pub capability: u32,
    pub mode: u32,
    pub frame_seconds: [u32; 2],
    pub extended_mode: u32,
    pub read_buffers: u32,
    pub reserved: [u32; 4],
}

/// `struct v4l2_streamparm`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct StreamParameters {
    kind: u32,
    capture: CaptureParameters,
    rest: [u8; 160],
}

impl StreamParameters {
    fn of(capture: CaptureParameters) -> Self {
        Self { kind: CAPTURE, capture, rest: [0; 160] }
    }
}

/// `struct v4l2_requestbuffers`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct RequestBuffers {
    count: u32,
    kind: u32,
    memory: u32,
    capabilities: u32,
    flags: u8,
    reserved: [u8; 3],
}

/// `struct v4l2_buffer`. C's padding is spelt out; of the union `m` only `offset` is used.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Buffer {
    pub index: u32,
    pub kind: u32,
    pub bytes_used: u32,
    pub flags: u32,
    pub field: u32,
    pub padding: u32,
    pub seconds: i64,
    pub microseconds: i64,
    pub timecode: [u32; 4],
    pub sequence: u32,
    pub memory: u32,
    pub offset: u32,
    pub offset_padding: u32,
    pub length: u32,
    pub reserved: u32,
    pub request: u32,
    pub end_padding: u32,
}

impl Buffer {
    fn numbered(index: u32) -> Self {
        Self { index, kind: CAPTURE, memory: MEMORY_MMAP, ..Self::default() }
    }

    /// When the picture was taken, on the monotonic clock, if the driver says so.
    pub fn monotonic(&self) -> Option<std::time::Duration> {
        if self.flags & FLAG_TIMESTAMP_MASK != FLAG_TIMESTAMP_MONOTONIC {
            return None;
        }
        let nanoseconds = u32::try_from(self.microseconds).ok().filter(|us| *us < 1_000_000)? * 1000;
        Some(std::time::Duration::new(u64::try_from(self.seconds).ok()?, nanoseconds))
    }
}

/// The calls themselves: each is unsafe because the kernel trusts the pointer. The numbers stand apart from the
/// wrappers so that the tests see the very ones that are used.
mod call {
    use libc::c_int;
    use nix::sys::ioctl::ioctl_num_type as Number;

    use super::{Buffer, Capability, Format, FormatDescription, RequestBuffers, StreamParameters};

    pub const QUERYCAP: Number = nix::request_code_read!(b'V', 0, size_of::<Capability>());
    pub const ENUM_FMT: Number = nix::request_code_readwrite!(b'V', 2, size_of::<FormatDescription>());
    pub const G_FMT: Number = nix::request_code_readwrite!(b'V', 4, size_of::<Format>());
    pub const S_FMT: Number = nix::request_code_readwrite!(b'V', 5, size_of::<Format>());
    pub const REQBUFS: Number = nix::request_code_readwrite!(b'V', 8, size_of::<RequestBuffers>());
    pub const QUERYBUF: Number = nix::request_code_readwrite!(b'V', 9, size_of::<Buffer>());
    pub const QBUF: Number = nix::request_code_readwrite!(b'V', 15, size_of::<Buffer>());
    pub const DQBUF: Number = nix::request_code_readwrite!(b'V', 17, size_of::<Buffer>());
    pub const STREAMON: Number = nix::request_code_write!(b'V', 18, size_of::<c_int>());
    pub const STREAMOFF: Number = nix::request_code_write!(b'V', 19, size_of::<c_int>());
    pub const G_PARM: Number = nix::request_code_readwrite!(b'V', 21, size_of::<StreamParameters>());
    pub const S_PARM: Number = nix::request_code_readwrite!(b'V', 22, size_of::<StreamParameters>());

    nix::ioctl_read_bad!(query_capability, QUERYCAP, Capability);
    nix::ioctl_readwrite_bad!(enum_format, ENUM_FMT, FormatDescription);
    nix::ioctl_readwrite_bad!(get_format, G_FMT, Format);
    nix::ioctl_readwrite_bad!(set_format, S_FMT, Format);
    nix::ioctl_readwrite_bad!(request_buffers, REQBUFS, RequestBuffers);
    nix::ioctl_readwrite_bad!(query_buffer, QUERYBUF, Buffer);
    nix::ioctl_readwrite_bad!(queue_buffer, QBUF, Buffer);
    nix::ioctl_readwrite_bad!(dequeue_buffer, DQBUF, Buffer);
    nix::ioctl_write_ptr_bad!(stream_on, STREAMON, c_int);
    nix::ioctl_write_ptr_bad!(stream_off, STREAMOFF, c_int);
    nix::ioctl_readwrite_bad!(get_parameters, G_PARM, StreamParameters);
    nix::ioctl_readwrite_bad!(set_parameters, S_PARM, StreamParameters);
}

/// Makes one of the calls above with a value of the type that it was made for, again when a signal came between.
macro_rules! control {
    ($call:ident, $device:expr, $argument:expr) => {
        loop {
            // SAFETY: the wrapper's type is that of the argument, whose layout is the kernel's (the tests below) and
            // which lives until the call is over; the kernel reads and writes no further than its size.
            match unsafe { call::$call($device.as_raw_fd(), $argument) } {
                Err(Errno::EINTR) => {}
                result => break result.map(drop),
            }
        }
    };
}

pub fn query_capability(device: &File) -> nix::Result<Capability> {
    let mut capability = Capability::default();
    control!(query_capability, device, &raw mut capability).map(|()| capability)
}

/// The pixel format number `index` that the device offers; `EINVAL` after the last.
pub fn enum_format(device: &File, index: u32) -> nix::Result<u32> {
    let mut description = FormatDescription { index, kind: CAPTURE, ..FormatDescription::default() };
    control!(enum_format, device, &raw mut description).map(|()| description.pixel_format)
}

pub fn get_format(device: &File) -> nix::Result<PictureFormat> {
    let mut format = Format::of(PictureFormat::default());
    control!(get_format, device, &raw mut format).map(|()| format.picture)
}

/// Asks for a format and returns what there is instead.
pub fn set_format(device: &File, asked: PictureFormat) -> nix::Result<PictureFormat> {
    let mut format = Format::of(asked);
    control!(set_format, device, &raw mut format).map(|()| format.picture)
}

pub fn get_parameters(device: &File) -> nix::Result<CaptureParameters> {
    let mut parameters = StreamParameters::of(CaptureParameters::default());
    control!(get_parameters, device, &raw mut parameters).map(|()| parameters.capture)
}

/// Asks for frames `frame_seconds` (a fraction) apart and returns what there is instead.
pub fn set_parameters(device: &File, frame_seconds: [u32; 2]) -> nix::Result<CaptureParameters> {
    let asked = CaptureParameters { frame_seconds, ..CaptureParameters::default() };
    let mut parameters = StreamParameters::of(asked);
    control!(set_parameters, device, &raw mut parameters).map(|()| parameters.capture)
}

/// Asks for buffers and returns how many there are.
pub fn request_buffers(device: &File, count: u32) -> nix::Result<u32> {
    let mut request = RequestBuffers { count, kind: CAPTURE, memory: MEMORY_MMAP, ..RequestBuffers::default() };
    control!(request_buffers, device, &raw mut request).map(|()| request.count)
}

/// Where buffer `index` is to be mapped, and how long it is.
pub fn query_buffer(device: &File, index: u32) -> nix::Result<Buffer> {
    let mut buffer = Buffer::numbered(index);
    control!(query_buffer, device, &raw mut buffer).map(|()| buffer)
}

/// Gives a buffer to the driver to be filled.
pub fn queue_buffer(device: &File, index: u32) -> nix::Result<()> {
    let mut buffer = Buffer::numbered(index);
    control!(queue_buffer, device, &raw mut buffer)
}

/// Takes the oldest filled buffer; `EAGAIN` when none is (the device is open non-blocking).
pub fn dequeue_buffer(device: &File) -> nix::Result<Buffer> {
    let mut buffer = Buffer::numbered(0);
    control!(dequeue_buffer, device, &raw mut buffer).map(|()| buffer)
}

pub fn stream_on(device: &File) -> nix::Result<()> {
    let kind = CAPTURE.cast_signed();
    control!(stream_on, device, &raw const kind)
}

pub fn stream_off(device: &File) -> nix::Result<()> {
    let kind = CAPTURE.cast_signed();
    control!(stream_off, device, &raw const kind)
}

#[cfg(test)]
mod tests {
    use std::mem::{align_of, offset_of, size_of};

    use super::*;

    /// `sizeof` and `offsetof` of a C compiler with `<linux/videodev2.h>`, the same on x86-64 and aarch64.
    #[test]
    fn structs_are_laid_out_as_in_c() {
        assert_eq!(size_of::<Capability>(), 104);
        assert_eq!(offset_of!(Capability, capabilities), 84);
        assert_eq!(size_of::<FormatDescription>(), 64);
        assert_eq!(offset_of!(FormatDescription, pixel_format), 44);
        assert_eq!(size_of::<PictureFormat>(), 48);
        assert_eq!(offset_of!(PictureFormat, private), 28);
        assert_eq!(offset_of!(PictureFormat, transfer), 44);
        assert_eq!((size_of::<Format>(), align_of::<Format>()), (208, 8));
        assert_eq!(offset_of!(Format, picture), 8);
        assert_eq!(size_of::<CaptureParameters>(), 40);
        assert_eq!(offset_of!(CaptureParameters, frame_seconds), 8);
        assert_eq!(size_of::<StreamParameters>(), 204);
        assert_eq!(offset_of!(StreamParameters, capture), 4);
        assert_eq!(size_of::<RequestBuffers>(), 20);
        assert_eq!((size_of::<Buffer>(), align_of::<Buffer>()), (88, 8));
        assert_eq!(offset_of!(Buffer, seconds), 24);
        assert_eq!(offset_of!(Buffer, timecode), 40);
        assert_eq!(offset_of!(Buffer, sequence), 56);
        assert_eq!(offset_of!(Buffer, memory), 60);
        assert_eq!(offset_of!(Buffer, offset), 64);
        assert_eq!(offset_of!(Buffer, length), 72);
        assert_eq!(offset_of!(Buffer, reserved), 76);
    }

    /// As a C compiler prints the `VIDIOC_` constants.
    #[test]
    fn calls_have_the_kernels_numbers() {
        for (number, expected) in [
            (call::QUERYCAP, 0x8068_5600_u32),
            (call::ENUM_FMT, 0xc040_5602_u32),
            (call::G_FMT, 0xc0d0_5604_u32),
            (call::S_FMT, 0xc0d0_5605_u32),
            (call::REQBUFS, 0xc014_5608_u32),
            (call::QUERYBUF, 0xc058_5609_u32),
            (call::QBUF, 0xc058_560f_u32),
            (call::DQBUF, 0xc058_5611_u32),
            (call::STREAMON, 0x4004_5612_u32),
            (call::STREAMOFF, 0x4004_5613_u32),
            (call::G_PARM, 0xc0cc_5615_u32),
            (call::S_PARM, 0xc0cc_5616_u32),
        ] {
            // The number's type is signed or wider with some C libraries; the kernel looks at these four bytes.
            assert_eq!(number.to_le_bytes()[..4], expected.to_le_bytes(), "{expected:#x}");
        }
    }

    #[test]
    fn letters_are_the_kernels_numbers() {
        assert_eq!(fourcc(*b"YUYV"), 0x5659_5559);
        assert_eq!(fourcc(*b"MJPG"), 0x4750_4a4d);
        assert_eq!(fourcc_text(fourcc(*b"NV12")), "NV12");
        assert_eq!(fourcc_text(fourcc(*b"Y16\x1b")), "Y16?");
    }

    #[test]
    fn a_time_is_believed_when_it_is_monotonic_and_one() {
        let buffer = |flags, seconds, microseconds| Buffer { flags, seconds, microseconds, ..Buffer::default() };
        let time = std::time::Duration::from_millis(2_500);
        assert_eq!(buffer(0x2000, 2, 500_000).monotonic(), Some(time));
        assert_eq!(buffer(0x1_2000, 2, 500_000).monotonic(), Some(time));
        for other in [
            buffer(0, 2, 5),
            buffer(0x4000, 2, 5),
            buffer(0x2000, -1, 5),
            buffer(0x2000, 2, -1),
            buffer(0x2000, 2, 1_000_000),
        ] {
            assert_eq!(other.monotonic(), None, "{other:?}");
        }
    }
}
