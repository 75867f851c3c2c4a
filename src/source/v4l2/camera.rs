//! One open camera: asked who it is, agreed with on a format, its buffers mapped, its stream on. All of it ends when
//! the value is dropped, so that a camera that comes back finds its old name free.
//!
//! Trusts the kernel with memory and no driver with numbers: an index, a length or a size is checked before use.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use memmap2::Mmap;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::abi::{self, Buffer, Device, RawControl};
use super::control::{self, Panel};
use super::format::{Agreement, Picture, PixelFormat, Wanted, rate};
use super::modes::{rates, rates_text, sizes, sizes_text};
use super::queue::Queue;

/// Buffers to ask for: one being read, one being filled, one filled and waiting, and one in hand so that a camera does
/// not lose a frame when the reader is late by one. More would only make frames older.
const BUFFERS: u32 = 4;
/// Most buffers that a driver may give instead: `VIDEO_MAX_FRAME` of the kernel.
const BUFFERS_MAX: u32 = 32;
/// Longest buffer: twice what the largest picture of [`crate::frame::Limits`] has as RGB.
const BUFFER_BYTES_MAX: usize = 300 << 20;
/// Most pixel formats that are looked at: more than the about 100 of `vivid`, the kernel's test driver.
const FORMATS_MAX: u32 = 256;

/// Why there is no camera.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// What is there is no camera of ours, and trying again will not make it one.
    #[error("{0}")]
    Unfit(String),
    /// It is not there, in use, or has failed: it may come back.
    #[error("{0}")]
    Gone(String),
}

impl Fault {
    /// A call that failed; the errors in `unfit` say something about the device for good, all others may pass.
    pub fn of(what: &str, errno: Errno, unfit: &[Errno]) -> Self {
        let hint = match errno {
            Errno::EBUSY => "; another program has it",
            Errno::EACCES | Errno::EPERM => "; whoever runs this needs the right to, often by the group `video`",
            Errno::ENOSPC => "; the USB bus has no room left: ask for a smaller picture, a lower rate or mjpeg",
            _ => "",
        };
        let why = format!("{what}: {}{hint}", errno.desc());
        if unfit.contains(&errno) { Self::Unfit(why) } else { Self::Gone(why) }
    }
}

/// A camera that streams.
#[derive(Debug)]
pub struct Camera {
    device: Device,
    buffers: Vec<Mmap>,
    picture: Picture,
    agreement: Agreement,
}

impl Camera {
    /// Opens the device at `path` and starts it.
    pub fn open(path: &Path, wanted: &Wanted) -> Result<Self, Fault> {
        let mut device = Device::new(open(path)?);
        let Identity { card, planes, .. } = identify(&device)?;
        device.speaks_of_planes(planes);
        let (picture, agreement) = agree(&device, wanted, card)?;
        let buffers = map_buffers(&device, picture.bytes_min())?;
        for index in (0..).take(buffers.len()) {
            abi::queue_buffer(&device, index).map_err(|errno| Fault::of("giving it a buffer", errno, &[]))?;
        }
        abi::stream_on(&device).map_err(|errno| Fault::of("starting it", errno, &[]))?;
        Ok(Self { device, buffers, picture, agreement })
    }

    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    pub fn picture(&self) -> &Picture {
        &self.picture
    }

    /// How many buffers go round.
    pub fn buffers(&self) -> usize {
        self.buffers.len()
    }

    /// Waits until there is something to dequeue, at most `bound`; whether there is.
    pub fn wait(&self, bound: Duration) -> Result<bool, Fault> {
        let timeout = PollTimeout::try_from(bound).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(self.device.file().as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut ready, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(false),
            Ok(_) => {}
            Err(errno) => return Err(Fault::of("waiting for a frame", errno, &[])),
        }
        let events = ready[0].revents().unwrap_or(PollFlags::POLLERR);
        if events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL) {
            return Err(Fault::Gone("it no longer streams; unplugged?".into()));
        }
        Ok(events.contains(PollFlags::POLLIN))
    }

    /// What the driver has put into a buffer; empty where its numbers cannot be.
    pub fn bytes(&self, filled: &Buffer) -> &[u8] {
        let buffer = self.buffers.get(filled.index as usize);
        let picture = filled.starts_at as usize..filled.bytes_used as usize;
        buffer.and_then(|buffer| buffer.get(picture)).unwrap_or_default()
    }
}

impl Queue for Camera {
    fn take(&mut self) -> Result<Option<Buffer>, Fault> {
        match abi::dequeue_buffer(&self.device) {
            Ok(buffer) => Ok(Some(buffer)),
            Err(Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(Fault::of("taking a frame", errno, &[])),
        }
    }

    fn give(&mut self, index: u32) -> Result<(), Fault> {
        abi::queue_buffer(&self.device, index).map_err(|errno| Fault::of("giving it a buffer", errno, &[]))
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        // Of a camera that was pulled this fails, and closing it does the same.
        let _ = abi::stream_off(&self.device);
    }
}

/// Opens a character device for reading and writing, which V4L2 asks of whoever streams.
pub fn open(path: &Path) -> Result<File, Fault> {
    let fault = |what: &str, error: &io::Error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        Fault::of(what, errno, &[Errno::EACCES, Errno::EPERM, Errno::ENOTDIR, Errno::ELOOP])
    };
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Fault::Gone("there is no such device; is the camera plugged in?".into()),
        _ => fault("looking at it", &error),
    })?;
    if !metadata.file_type().is_char_device() {
        let kind = if metadata.is_dir() { "a directory" } else { "a file" };
        return Err(Fault::Unfit(format!("is {kind}, expected a capture device such as /dev/video0")));
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|error| fault("opening it", &error))
}

/// Who a camera is.
#[derive(Debug)]
pub struct Identity {
    pub card: String,
    pub driver: String,
    /// Its driver speaks of pictures in several planes.
    pub planes: bool,
}

/// Who the camera is, if it is one.
pub fn identify(device: &Device) -> Result<Identity, Fault> {
    let capability = abi::query_capability(device).map_err(|errno| match errno {
        Errno::ENOTTY | Errno::EINVAL => Fault::Unfit("is no video device".into()),
        errno => Fault::of("asking what it is", errno, &[]),
    })?;
    let (card, driver) = (abi::field_text(&capability.card), abi::field_text(&capability.driver));
    let of_node = capability.capabilities & abi::CAP_DEVICE_CAPS != 0;
    let can = if of_node { capability.device_caps } else { capability.capabilities };
    let why = if can & (abi::CAP_VIDEO_CAPTURE | abi::CAP_VIDEO_CAPTURE_MPLANE) == 0 {
        "does not capture video; a camera has several nodes, often the first of them does"
    } else if can & abi::CAP_STREAMING == 0 {
        "cannot stream into memory"
    } else {
        return Ok(Identity { card, driver, planes: can & abi::CAP_VIDEO_CAPTURE == 0 });
    };
    Err(Fault::Unfit(format!("{card} (driver {driver}) {why}")))
}

/// The pixel formats that a camera has.
pub fn offered(device: &Device) -> Vec<u32> {
    (0..FORMATS_MAX).map_while(|index| abi::enum_format(device, index).ok()).collect()
}

impl Panel for Device {
    fn next(&self, id: u32) -> nix::Result<RawControl> {
        abi::next_control(self, id)
    }

    fn entry(&self, id: u32, index: u32) -> nix::Result<[u8; 32]> {
        abi::menu_entry(self, id, index)
    }

    fn get(&self, control: &RawControl) -> nix::Result<i64> {
        abi::control_value(self, control)
    }

    fn set(&self, control: &RawControl, value: i64) -> nix::Result<i64> {
        abi::set_control(self, control, value)
    }
}

/// Sets the format that suits `wanted` best, the rate and the controls, and takes what the driver makes of it.
fn agree(device: &Device, wanted: &Wanted, card: String) -> Result<(Picture, Agreement), Fault> {
    let current =
        abi::get_format(device).map_err(|errno| Fault::of("asking for its format", errno, &[Errno::EINVAL]))?;
    let asked = wanted.choose(&current, &offered(device)).map_err(Fault::Unfit)?;
    let got = abi::set_format(device, asked).map_err(|errno| match errno {
        abi::SEVERAL_PLANES => Fault::Unfit(format!(
            "gives {} in several buffers, which is not supported: try another format",
            abi::fourcc_text(asked.pixel_format)
        )),
        errno => Fault::of("setting its format", errno, &[Errno::EINVAL]),
    })?;
    let picture = Picture::of(&got).map_err(Fault::Unfit)?;
    let format = PixelFormat::of_fourcc(got.pixel_format).map_or("unknown", PixelFormat::name);
    let frames_per_second = agree_on_rate(device, wanted.frames_per_second);
    // Last, because what exposure may be hangs on the format and the rate of many a sensor.
    let controls = control::apply(device, &wanted.controls)?;
    let size = [got.width, got.height];
    let agreement = Agreement {
        card,
        width: got.width,
        height: got.height,
        format,
        frames_per_second,
        sizes: sizes_text(&sizes(device, got.pixel_format)),
        rates: rates_text(&rates(device, got.pixel_format, size)),
        controls,
    };
    Ok((picture, agreement))
}

/// Sets the rate where it can be set, and says which there is. Another rate is no reason to refuse a camera: many
/// sensors have one alone.
fn agree_on_rate(device: &Device, wanted: Option<u32>) -> Option<f64> {
    let current = abi::get_parameters(device).ok()?;
    let settable = current.capability & abi::PARM_TIME_PER_FRAME != 0;
    let set = wanted.filter(|_| settable).and_then(|rate| abi::set_parameters(device, [1, rate]).ok());
    rate(set.unwrap_or(current).frame_seconds)
}

/// Asks for buffers and maps them, each with room for a picture.
fn map_buffers(device: &Device, bytes_min: usize) -> Result<Vec<Mmap>, Fault> {
    let count = abi::request_buffers(device, BUFFERS)
        .map_err(|errno| Fault::of("asking for buffers", errno, &[Errno::EINVAL]))?;
    if !(1..=BUFFERS_MAX).contains(&count) {
        return Err(Fault::Gone(format!("the driver gives {count} buffers, expected 1 to {BUFFERS_MAX}")));
    }
    let map = |index| {
        let buffer = abi::query_buffer(device, index).map_err(|errno| Fault::of("asking for a buffer", errno, &[]))?;
        let length = buffer.length as usize;
        if !(bytes_min..=BUFFER_BYTES_MAX).contains(&length) {
            let expected = format!("{bytes_min} to {BUFFER_BYTES_MAX}");
            return Err(Fault::Unfit(format!("the driver's buffers have {length} bytes, expected {expected}")));
        }
        abi::map(device, &buffer).map_err(|error| Fault::Gone(format!("mapping a buffer: {error}")))
    };
    (0..count).map(map).collect()
}
