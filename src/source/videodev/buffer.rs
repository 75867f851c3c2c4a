//! Buffers: asked for, given to the driver, and taken back filled.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use memmap2::{Mmap, MmapMut, MmapOptions};

use super::{Device, PLANES_MAX};

/// `V4L2_MEMORY_MMAP`: the driver's buffers, mapped.
const MEMORY_MMAP: u32 = 1;
/// The picture is damaged.
pub const FLAG_ERROR: u32 = 0x40;
/// No picture comes after this one before the stream is started or set up again.
pub const FLAG_LAST: u32 = 0x10_0000;
/// `V4L2_FIELD_NONE`: whole pictures.
const FIELD_NONE: u32 = 1;
const FLAG_TIMESTAMP_MASK: u32 = 0xe000;
const FLAG_TIMESTAMP_MONOTONIC: u32 = 0x2000;

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

/// `struct v4l2_buffer`. C's padding is spelt out; the union `m` is an offset, or a pointer to planes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct RawBuffer {
    index: u32,
    kind: u32,
    bytes_used: u32,
    flags: u32,
    field: u32,
    padding: u32,
    seconds: i64,
    microseconds: i64,
    timecode: [u32; 4],
    sequence: u32,
    memory: u32,
    place: u64,
    length: u32,
    reserved: u32,
    request: u32,
    end_padding: u32,
}

/// `struct v4l2_plane`; of its union only `mem_offset` is used.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Plane {
    bytes_used: u32,
    length: u32,
    offset: u32,
    offset_padding: u32,
    data_offset: u32,
    reserved: [u32; 11],
}

/// One of a driver's buffers, and what it says of the picture in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Buffer {
    pub index: u32,
    pub flags: u32,
    /// Where the picture begins and ends in the buffer, bytes.
    pub starts_at: u32,
    pub bytes_used: u32,
    /// Driver's count of pictures.
    pub sequence: u32,
    /// When the picture was taken, on the monotonic clock, if the driver says so.
    pub taken_at: Option<Duration>,
    /// What [`queue_coded`] was given with the data that this came of.
    pub id: u64,
    /// Where it is to be mapped, and how long it is.
    pub offset: u32,
    pub length: u32,
}

mod call {
    use nix::sys::ioctl::ioctl_num_type as Number;

    use super::{RawBuffer, RequestBuffers};

    pub const REQBUFS: Number = nix::request_code_readwrite!(b'V', 8, size_of::<RequestBuffers>());
    pub const QUERYBUF: Number = nix::request_code_readwrite!(b'V', 9, size_of::<RawBuffer>());
    pub const QBUF: Number = nix::request_code_readwrite!(b'V', 15, size_of::<RawBuffer>());
    pub const DQBUF: Number = nix::request_code_readwrite!(b'V', 17, size_of::<RawBuffer>());

    nix::ioctl_readwrite_bad!(request_buffers, REQBUFS, RequestBuffers);
    nix::ioctl_readwrite_bad!(query_buffer, QUERYBUF, RawBuffer);
    nix::ioctl_readwrite_bad!(queue_buffer, QBUF, RawBuffer);
    nix::ioctl_readwrite_bad!(dequeue_buffer, DQBUF, RawBuffer);
}

/// A buffer and its planes, as a call takes both.
struct Argument {
    raw: RawBuffer,
    planes: [Plane; PLANES_MAX],
}

impl Argument {
    fn numbered(device: &Device, index: u32) -> Self {
        let raw = RawBuffer { index, kind: device.kind(), memory: MEMORY_MMAP, ..RawBuffer::default() };
        Self { raw, planes: [Plane::default(); PLANES_MAX] }
    }

    /// The address for the call; of planes only while this stays where it is.
    fn place(&mut self, device: &Device) -> *mut RawBuffer {
        if device.planes {
            self.raw.place = self.planes.as_mut_ptr().expose_provenance() as u64;
            self.raw.length = u32::try_from(PLANES_MAX).unwrap_or_default();
        }
        &raw mut self.raw
    }

    fn answer(&self, device: &Device) -> Buffer {
        let RawBuffer { index, flags, bytes_used, sequence, length, .. } = self.raw;
        let taken_at = self.raw.monotonic();
        let id = self.raw.id();
        if device.planes {
            let Plane { bytes_used, length, offset, data_offset, .. } = self.planes[0];
            return Buffer { index, flags, starts_at: data_offset, bytes_used, sequence, taken_at, id, offset, length };
        }
        // The union's first four bytes.
        let [a, b, c, d, ..] = self.raw.place.to_ne_bytes();
        let offset = u32::from_ne_bytes([a, b, c, d]);
        Buffer { index, flags, starts_at: 0, bytes_used, sequence, taken_at, id, offset, length }
    }
}

impl RawBuffer {
    fn monotonic(&self) -> Option<Duration> {
        if self.flags & FLAG_TIMESTAMP_MASK != FLAG_TIMESTAMP_MONOTONIC {
            return None;
        }
        let nanoseconds = u32::try_from(self.microseconds).ok().filter(|us| *us < 1_000_000)? * 1000;
        Some(Duration::new(u64::try_from(self.seconds).ok()?, nanoseconds))
    }

    /// The time, µs, which decoders copy and do not look at.
    fn id(&self) -> u64 {
        let [seconds, microseconds] = [self.seconds, self.microseconds].map(|part| u64::try_from(part).unwrap_or(0));
        seconds.saturating_mul(MICROSECONDS).saturating_add(microseconds)
    }

    /// Whole microseconds survive drivers that count in them, or in nanoseconds.
    fn set_id(&mut self, id: u64) {
        [self.seconds, self.microseconds] = [id / MICROSECONDS, id % MICROSECONDS].map(u64::cast_signed);
    }
}

/// In a second.
const MICROSECONDS: u64 = 1_000_000;

/// Asks for buffers and returns how many there are.
pub fn request_buffers(device: &Device, count: u32) -> nix::Result<u32> {
    let mut request = RequestBuffers { count, kind: device.kind(), memory: MEMORY_MMAP, ..RequestBuffers::default() };
    ask!(request_buffers, device, &raw mut request).map(|()| request.count)
}

/// Where buffer `index` is to be mapped, and how long it is.
pub fn query_buffer(device: &Device, index: u32) -> nix::Result<Buffer> {
    let mut buffer = Argument::numbered(device, index);
    ask!(query_buffer, device, buffer.place(device)).map(|()| buffer.answer(device))
}

/// Maps a buffer that the driver fills, to be read while the driver does not hold it.
pub fn map(device: &Device, buffer: &Buffer) -> io::Result<Mmap> {
    // SAFETY: the memory is the driver's, which writes to it only while it holds the buffer, that is from `queue_buffer` to
    // `dequeue_buffer`; it is read only between the latter and the former. No length of a file stands behind it that could
    // shrink.
    unsafe { place(buffer).map(device.file()) }
}

/// Maps a buffer that is filled for the driver, while the driver does not hold it.
pub fn map_mut(device: &Device, buffer: &Buffer) -> io::Result<MmapMut> {
    // SAFETY: as above, but that the driver only reads, and only what it was given by `queue_coded`.
    unsafe { place(buffer).map_mut(device.file()) }
}

fn place(buffer: &Buffer) -> MmapOptions {
    MmapOptions::new().offset(buffer.offset.into()).len(buffer.length as usize).clone()
}

/// Gives a buffer to the driver to be filled.
pub fn queue_buffer(device: &Device, index: u32) -> nix::Result<()> {
    let mut buffer = Argument::numbered(device, index);
    ask!(queue_buffer, device, buffer.place(device))
}

/// Gives a buffer with `bytes` of coded data to a decoder; what comes of them bears `id`.
pub fn queue_coded(device: &Device, index: u32, bytes: u32, id: u64) -> nix::Result<()> {
    let mut buffer = Argument::numbered(device, index);
    (buffer.raw.bytes_used, buffer.raw.field) = (bytes, FIELD_NONE);
    buffer.planes[0].bytes_used = bytes;
    buffer.raw.set_id(id);
    ask!(queue_buffer, device, buffer.place(device))
}

/// Takes the oldest filled buffer; `EAGAIN` when none is (the device is open non-blocking).
pub fn dequeue_buffer(device: &Device) -> nix::Result<Buffer> {
    let mut buffer = Argument::numbered(device, 0);
    ask!(dequeue_buffer, device, buffer.place(device)).map(|()| buffer.answer(device))
}

#[cfg(test)]
mod tests {
    use std::mem::{align_of, offset_of, size_of};

    use super::*;
    use crate::source::videodev::assert_numbers;

    /// `sizeof` and `offsetof` of a C compiler with `<linux/videodev2.h>`, the same on x86-64 and aarch64.
    #[test]
    fn structs_are_laid_out_as_in_c() {
        assert_eq!(size_of::<RequestBuffers>(), 20);
        assert_eq!((size_of::<RawBuffer>(), align_of::<RawBuffer>()), (88, 8));
        assert_eq!(offset_of!(RawBuffer, seconds), 24);
        assert_eq!(offset_of!(RawBuffer, timecode), 40);
        assert_eq!(offset_of!(RawBuffer, sequence), 56);
        assert_eq!(offset_of!(RawBuffer, memory), 60);
        assert_eq!(offset_of!(RawBuffer, place), 64);
        assert_eq!(offset_of!(RawBuffer, length), 72);
        assert_eq!(offset_of!(RawBuffer, reserved), 76);
        assert_eq!(size_of::<Plane>(), 64);
        assert_eq!(offset_of!(Plane, offset), 8);
        assert_eq!(offset_of!(Plane, data_offset), 16);
    }

    /// As a C compiler prints the `VIDIOC_` constants.
    #[test]
    fn calls_have_the_kernels_numbers() {
        assert_numbers([
            (call::REQBUFS, 0xc014_5608),
            (call::QUERYBUF, 0xc058_5609),
            (call::QBUF, 0xc058_560f),
            (call::DQBUF, 0xc058_5611),
        ]);
    }

    #[test]
    fn an_id_is_what_it_was() {
        for id in [1, 999_999, 1_000_000, 123_456_789_012] {
            let mut buffer = RawBuffer::default();
            buffer.set_id(id);
            assert_eq!(buffer.id(), id);
            assert!(buffer.microseconds < 1_000_000);
        }
        assert_eq!(RawBuffer { seconds: -1, microseconds: -1, ..RawBuffer::default() }.id(), 0);
    }

    #[test]
    fn a_time_is_believed_when_it_is_monotonic_and_one() {
        let buffer = |flags, seconds, microseconds| RawBuffer { flags, seconds, microseconds, ..RawBuffer::default() };
        let time = Duration::from_millis(2_500);
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
