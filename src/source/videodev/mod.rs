//! The part of Linux's `<linux/videodev2.h>` that cameras and decoders need, as 64-bit Linux lays it out.
//!
//! Fields have the kernel's order and whole words for names; those that nobody here needs are sent as zeros, which mean
//! the driver's choice, and not looked at. Knows the shape of the calls and nothing of their meaning: what a driver
//! answers is checked where it is used.
//!
//! A driver speaks of pictures in one plane or in several, with structs and buffer types of its own for each. Of the
//! second kind only those whose picture lies in one buffer all the same are taken, and look like the first here.
//!
//! A decoder has two queues behind one open file: that of pictures, which is a camera's, and that of coded data, which the
//! kernel calls its output because it comes out of us.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::errno::Errno;

/// Makes one of the calls of `mod call` with a value of the type that it was made for, again when a signal came between.
macro_rules! ask {
    ($call:ident, $device:expr, $argument:expr) => {
        loop {
            // SAFETY: the wrapper's type is that of the argument, whose layout is the kernel's (the tests below) and
            // which lives until the call is over; the kernel reads and writes no further than its size, and than the
            // arrays that it points to, which live as long and have the lengths that it says.
            match unsafe { call::$call($device.file().as_raw_fd(), $argument) } {
                Err(nix::errno::Errno::EINTR) => {}
                result => break result.map(drop),
            }
        }
    };
}

mod buffer;
mod control;
mod decoder;
mod mode;

pub use buffer::{
    Buffer, FLAG_ERROR, FLAG_LAST, dequeue_buffer, map, map_mut, query_buffer, queue_buffer, queue_coded,
    request_buffers,
};
pub use control::{ControlKind, RawControl, control_value, menu_entry, next_control, set_control, state};
pub use decoder::{Command, Rectangle, command, resolution_changed, subscribe_resolution, visible, wanted_pictures};
pub use mode::{Rates, Sizes, enum_rates, enum_sizes};

// Times and pointers in these structs are shorter on 32-bit systems.
const _: () = assert!(size_of::<usize>() == 8, "the V4L2 structs are those of 64-bit Linux");

/// `V4L2_BUF_TYPE_VIDEO_CAPTURE`: capture through the structs for one plane.
const CAPTURE: u32 = 1;
/// `V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE`: capture through the structs for several.
const CAPTURE_MPLANE: u32 = 9;
/// `V4L2_BUF_TYPE_VIDEO_OUTPUT` and its like for several planes: data for the device.
const OUTPUT: u32 = 2;
const OUTPUT_MPLANE: u32 = 10;
/// `VIDEO_MAX_PLANES`.
const PLANES_MAX: usize = 8;

pub const CAP_VIDEO_CAPTURE: u32 = 0x1;
pub const CAP_VIDEO_CAPTURE_MPLANE: u32 = 0x1000;
/// A device between memory and memory, such as a decoder.
pub const CAP_VIDEO_M2M: u32 = 0x8000;
pub const CAP_VIDEO_M2M_MPLANE: u32 = 0x4000;
pub const CAP_STREAMING: u32 = 0x0400_0000;
/// `device_caps` is filled, and is about this node alone.
pub const CAP_DEVICE_CAPS: u32 = 0x8000_0000;
/// `V4L2_CAP_TIMEPERFRAME`: the rate can be set.
pub const PARM_TIME_PER_FRAME: u32 = 0x1000;

/// The four letters of a pixel format as the number that the kernel uses.
pub const fn fourcc(letters: [u8; 4]) -> u32 {
    u32::from_le_bytes(letters)
}

/// The letters of a pixel format, for people.
pub fn fourcc_text(fourcc: u32) -> String {
    let letter = |byte: u8| if byte.is_ascii_graphic() { char::from(byte) } else { '?' };
    fourcc.to_le_bytes().map(letter).iter().collect()
}

/// The text in a fixed field of the driver's, without what could play tricks on a terminal.
pub fn field_text(field: &[u8]) -> String {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).chars().filter(|letter| !letter.is_control()).collect()
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

/// The first of `struct v4l2_pix_format_mplane`, and its number of planes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct PlanesFormat {
    width: u32,
    height: u32,
    pixel_format: u32,
    field: u32,
    colorspace: u32,
    /// Of the first plane, as is what follows.
    size_image: u32,
    bytes_per_line: u32,
    further_planes: [u8; 152],
    planes: u8,
    rest: [u8; 11],
}

impl From<PictureFormat> for PlanesFormat {
    fn from(picture: PictureFormat) -> Self {
        let PictureFormat { width, height, pixel_format, size_image, .. } = picture;
        Self {
            width,
            height,
            pixel_format,
            field: 0,
            colorspace: 0,
            size_image,
            bytes_per_line: 0,
            further_planes: [0; 152],
            planes: 1,
            rest: [0; 11],
        }
    }
}

impl PlanesFormat {
    /// As a picture in one plane; `EMEDIUMTYPE` where it has several, which no driver says by itself.
    fn in_one(&self) -> nix::Result<PictureFormat> {
        let Self { width, height, pixel_format, size_image, bytes_per_line, planes, .. } = *self;
        let picture =
            PictureFormat { width, height, pixel_format, size_image, bytes_per_line, ..PictureFormat::default() };
        if planes > 1 { Err(SEVERAL_PLANES) } else { Ok(picture) }
    }
}

/// What [`set_format`] says of a picture that lies in several buffers.
pub const SEVERAL_PLANES: Errno = Errno::EMEDIUMTYPE;

/// `struct v4l2_format`: a kind and a union of 200 bytes, which begins at 8 because one of its members holds pointers.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
struct Format<P, const REST: usize> {
    kind: u32,
    padding: u32,
    picture: P,
    rest: [u8; REST],
}

type OneFormat = Format<PictureFormat, 152>;
type SeveralFormat = Format<PlanesFormat, 8>;

impl<P, const REST: usize> Format<P, REST> {
    fn of(kind: u32, picture: P) -> Self {
        Self { kind, padding: 0, picture, rest: [0; REST] }
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

/// The calls themselves: each is unsafe because the kernel trusts the pointer. The numbers stand apart from the
/// wrappers so that the tests see the very ones that are used.
mod call {
    use libc::c_int;
    use nix::sys::ioctl::ioctl_num_type as Number;

    use super::{Capability, FormatDescription, OneFormat, SeveralFormat, StreamParameters};

    pub const QUERYCAP: Number = nix::request_code_read!(b'V', 0, size_of::<Capability>());
    pub const ENUM_FMT: Number = nix::request_code_readwrite!(b'V', 2, size_of::<FormatDescription>());
    pub const G_FMT: Number = nix::request_code_readwrite!(b'V', 4, size_of::<OneFormat>());
    pub const S_FMT: Number = nix::request_code_readwrite!(b'V', 5, size_of::<OneFormat>());
    pub const STREAMON: Number = nix::request_code_write!(b'V', 18, size_of::<c_int>());
    pub const STREAMOFF: Number = nix::request_code_write!(b'V', 19, size_of::<c_int>());
    pub const G_PARM: Number = nix::request_code_readwrite!(b'V', 21, size_of::<StreamParameters>());
    pub const S_PARM: Number = nix::request_code_readwrite!(b'V', 22, size_of::<StreamParameters>());

    nix::ioctl_read_bad!(query_capability, QUERYCAP, Capability);
    nix::ioctl_readwrite_bad!(enum_format, ENUM_FMT, FormatDescription);
    nix::ioctl_readwrite_bad!(get_format, G_FMT, OneFormat);
    nix::ioctl_readwrite_bad!(get_format_of_planes, G_FMT, SeveralFormat);
    nix::ioctl_readwrite_bad!(set_format, S_FMT, OneFormat);
    nix::ioctl_readwrite_bad!(set_format_of_planes, S_FMT, SeveralFormat);
    nix::ioctl_write_ptr_bad!(stream_on, STREAMON, c_int);
    nix::ioctl_write_ptr_bad!(stream_off, STREAMOFF, c_int);
    nix::ioctl_readwrite_bad!(get_parameters, G_PARM, StreamParameters);
    nix::ioctl_readwrite_bad!(set_parameters, S_PARM, StreamParameters);
}

/// A node under `/dev`, and which of the two kinds of structs its driver speaks.
#[derive(Debug)]
pub struct Device {
    file: Arc<File>,
    planes: bool,
    /// The calls are about the queue of data for the device.
    coded: bool,
}

impl Device {
    /// A node that speaks of pictures in one plane, until [`Device::speaks_of_planes`] is said.
    pub fn new(file: File) -> Self {
        Self { file: Arc::new(file), planes: false, coded: false }
    }

    /// The same open file, whose calls are about the queue of coded data.
    pub fn coded(&self) -> Self {
        Self { file: Arc::clone(&self.file), planes: self.planes, coded: true }
    }

    pub fn speaks_of_planes(&mut self, planes: bool) {
        self.planes = planes;
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    fn kind(&self) -> u32 {
        match (self.coded, self.planes) {
            (false, false) => CAPTURE,
            (false, true) => CAPTURE_MPLANE,
            (true, false) => OUTPUT,
            (true, true) => OUTPUT_MPLANE,
        }
    }
}

pub fn query_capability(device: &Device) -> nix::Result<Capability> {
    let mut capability = Capability::default();
    ask!(query_capability, device, &raw mut capability).map(|()| capability)
}

/// The pixel format number `index` that the device offers; `EINVAL` after the last.
pub fn enum_format(device: &Device, index: u32) -> nix::Result<u32> {
    let mut description = FormatDescription { index, kind: device.kind(), ..FormatDescription::default() };
    ask!(enum_format, device, &raw mut description).map(|()| description.pixel_format)
}

/// What is set now; of a picture in several planes the first counts.
pub fn get_format(device: &Device) -> nix::Result<PictureFormat> {
    if device.planes {
        let mut format = SeveralFormat::of(device.kind(), PictureFormat::default().into());
        ask!(get_format_of_planes, device, &raw mut format)?;
        format.picture.planes = 1;
        return format.picture.in_one();
    }
    let mut format = OneFormat::of(device.kind(), PictureFormat::default());
    ask!(get_format, device, &raw mut format).map(|()| format.picture)
}

/// Asks for a format and returns what there is instead; [`SEVERAL_PLANES`] where the picture lies in several buffers.
pub fn set_format(device: &Device, asked: PictureFormat) -> nix::Result<PictureFormat> {
    if device.planes {
        let mut format = SeveralFormat::of(device.kind(), asked.into());
        ask!(set_format_of_planes, device, &raw mut format)?;
        return format.picture.in_one();
    }
    let mut format = OneFormat::of(device.kind(), asked);
    ask!(set_format, device, &raw mut format).map(|()| format.picture)
}

pub fn get_parameters(device: &Device) -> nix::Result<CaptureParameters> {
    let mut parameters =
        StreamParameters { kind: device.kind(), capture: CaptureParameters::default(), rest: [0; 160] };
    ask!(get_parameters, device, &raw mut parameters).map(|()| parameters.capture)
}

/// Asks for frames `frame_seconds` (a fraction) apart and returns what there is instead.
pub fn set_parameters(device: &Device, frame_seconds: [u32; 2]) -> nix::Result<CaptureParameters> {
    let capture = CaptureParameters { frame_seconds, ..CaptureParameters::default() };
    let mut parameters = StreamParameters { kind: device.kind(), capture, rest: [0; 160] };
    ask!(set_parameters, device, &raw mut parameters).map(|()| parameters.capture)
}

pub fn stream_on(device: &Device) -> nix::Result<()> {
    let kind = device.kind().cast_signed();
    ask!(stream_on, device, &raw const kind)
}

pub fn stream_off(device: &Device) -> nix::Result<()> {
    let kind = device.kind().cast_signed();
    ask!(stream_off, device, &raw const kind)
}

/// That calls have these numbers. Their type is signed or wider with some C libraries; the kernel looks at four bytes.
#[cfg(test)]
fn assert_numbers<const N: usize>(calls: [(nix::sys::ioctl::ioctl_num_type, u32); N]) {
    for (number, expected) in calls {
        assert_eq!(number.to_le_bytes()[..4], expected.to_le_bytes(), "{expected:#x}");
    }
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
        assert_eq!((size_of::<OneFormat>(), align_of::<OneFormat>()), (208, 8));
        assert_eq!((size_of::<SeveralFormat>(), align_of::<SeveralFormat>()), (208, 8));
        assert_eq!((offset_of!(OneFormat, picture), offset_of!(SeveralFormat, picture)), (8, 8));
        assert_eq!(size_of::<PlanesFormat>(), 192);
        assert_eq!(offset_of!(PlanesFormat, size_image), 20);
        assert_eq!(offset_of!(PlanesFormat, bytes_per_line), 24);
        assert_eq!(offset_of!(PlanesFormat, planes), 180);
        assert_eq!(size_of::<CaptureParameters>(), 40);
        assert_eq!(offset_of!(CaptureParameters, frame_seconds), 8);
        assert_eq!(size_of::<StreamParameters>(), 204);
        assert_eq!(offset_of!(StreamParameters, capture), 4);
    }

    /// As a C compiler prints the `VIDIOC_` constants.
    #[test]
    fn calls_have_the_kernels_numbers() {
        assert_numbers([
            (call::QUERYCAP, 0x8068_5600),
            (call::ENUM_FMT, 0xc040_5602),
            (call::G_FMT, 0xc0d0_5604),
            (call::S_FMT, 0xc0d0_5605),
            (call::STREAMON, 0x4004_5612),
            (call::STREAMOFF, 0x4004_5613),
            (call::G_PARM, 0xc0cc_5615),
            (call::S_PARM, 0xc0cc_5616),
        ]);
    }

    #[test]
    fn letters_are_the_kernels_numbers() {
        assert_eq!(fourcc(*b"YUYV"), 0x5659_5559);
        assert_eq!(fourcc(*b"MJPG"), 0x4750_4a4d);
        assert_eq!(fourcc_text(fourcc(*b"NV12")), "NV12");
        assert_eq!(fourcc_text(fourcc(*b"Y16\x1b")), "Y16?");
    }

    #[test]
    fn a_picture_in_several_planes_is_no_picture_in_one() {
        let asked = PictureFormat { width: 64, height: 48, pixel_format: fourcc(*b"NV12"), ..PictureFormat::default() };
        let mut got = PlanesFormat { bytes_per_line: 64, size_image: 4608, ..asked.into() };
        let picture = got.in_one().unwrap();
        assert_eq!((picture.width, picture.height, picture.bytes_per_line, picture.size_image), (64, 48, 64, 4608));
        assert_eq!(picture.pixel_format, asked.pixel_format);
        got.planes = 2;
        assert_eq!(got.in_one().unwrap_err(), SEVERAL_PLANES);
    }

    #[test]
    fn a_name_plays_no_tricks() {
        assert_eq!(field_text(b"Cam\x1b[2J\0\xff\xff"), "Cam[2J");
        assert_eq!(field_text(&[b'a'; 32]), "a".repeat(32));
    }
}
