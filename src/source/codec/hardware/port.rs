//! A V4L2 decoder behind its device node: its buffers mapped, pictures copied out of them. All of it ends when the value is
//! dropped.
//!
//! Trusts the kernel with memory and no driver with numbers: an index, a length or a size is checked before use.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use memmap2::{Mmap, MmapMut};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::layout::{self, Layout};
use super::stateful::{Port, Taken};
use crate::source::videodev::{self as abi, Buffer, Command, Device, PictureFormat};

/// Buffers for access units: one at work, and some ahead so that the device need not wait for us.
const UNITS: u32 = 4;
/// Room for an access unit: a byte a pixel is many times what the standard's levels allow, and at least this.
const UNIT_BYTES_MIN: u32 = 256 << 10;
/// Buffers for pictures beyond what the stream needs: one being copied, and one ahead.
const PICTURES_AHEAD: u32 = 2;
/// Pictures that a stream needs where the driver does not say: those that the standard lets a decoder keep, less what no
/// small board has memory for.
const PICTURES_DEFAULT: u32 = 6;
/// Most buffers of a queue: `VIDEO_MAX_FRAME` of the kernel.
const BUFFERS_MAX: u32 = 32;
/// Longest buffer: several times a picture of level 5.2.
const BUFFER_BYTES_MAX: usize = 64 << 20;
/// Most pixel formats that are looked at.
const FORMATS_MAX: u32 = 64;

/// An open decoder.
pub struct DevicePort {
    pictures: Device,
    units: Device,
    unit_buffers: Vec<MmapMut>,
    free: Vec<u32>,
    picture_buffers: Vec<Mmap>,
    layout: Option<Layout>,
    /// Access units that the device called damaged.
    damaged: Vec<u64>,
}

/// A node that is a stateful decoder of `coded`, and its card's name.
pub fn identify(path: &Path, coded: u32) -> Result<(Device, String), String> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    let mut device = Device::new(file.map_err(|error| format!("opening it: {error}"))?);
    let capability = abi::query_capability(&device).map_err(|_| "is no video device")?;
    let of_node = capability.capabilities & abi::CAP_DEVICE_CAPS != 0;
    let can = if of_node { capability.device_caps } else { capability.capabilities };
    let between = can & (abi::CAP_VIDEO_M2M | abi::CAP_VIDEO_M2M_MPLANE);
    if between == 0 || can & abi::CAP_STREAMING == 0 {
        return Err("is no device from memory to memory".into());
    }
    device.speaks_of_planes(between & abi::CAP_VIDEO_M2M == 0);
    let units = device.coded();
    let name = abi::fourcc_text(coded);
    if !offered(&units).any(|format| format == coded) {
        return Err(format!("decodes no {name} by itself"));
    }
    abi::set_format(&units, PictureFormat { pixel_format: coded, ..PictureFormat::default() }).map_err(of(&name))?;
    if !offered(&device).any(|format| layout::KNOWN.contains(&format)) {
        return Err("gives neither NV12 nor YU12".into());
    }
    Ok((device, abi::field_text(&capability.card)))
}

fn offered(device: &Device) -> impl Iterator<Item = u32> {
    (0..FORMATS_MAX).map_while(|index| abi::enum_format(device, index).ok())
}

/// Asks for buffers and maps them, each with room for `bytes_min`.
fn buffers<M>(
    device: &Device,
    count: u32,
    bytes_min: usize,
    map: impl Fn(&Device, &Buffer) -> io::Result<M>,
) -> Result<Vec<M>, String> {
    let count = abi::request_buffers(device, count).map_err(of("asking for buffers"))?;
    if !(1..=BUFFERS_MAX).contains(&count) {
        return Err(format!("the driver gives {count} buffers, expected 1 to {BUFFERS_MAX}"));
    }
    let map = |index| {
        let buffer = abi::query_buffer(device, index).map_err(of("asking for a buffer"))?;
        if !(bytes_min..=BUFFER_BYTES_MAX).contains(&(buffer.length as usize)) {
            let expected = format!("{bytes_min} to {BUFFER_BYTES_MAX}");
            return Err(format!("the driver's buffers have {} bytes, expected {expected}", buffer.length));
        }
        map(device, &buffer).map_err(|error| format!("mapping a buffer: {error}"))
    };
    (0..count).map(map).collect()
}

/// Puts a failed call into words.
fn of(what: &str) -> impl Fn(Errno) -> String {
    move |errno| match errno {
        Errno::EBUSY => format!("{what}: another program has it"),
        errno => format!("{what}: {}", errno.desc()),
    }
}

impl DevicePort {
    /// Opens the decoder at `path` for `coded` data of pictures of `size`, pixels with those that are cut off.
    pub fn open(path: &Path, coded: u32, size: [u32; 2]) -> Result<Self, String> {
        let (pictures, _) = identify(path, coded)?;
        let units = pictures.coded();
        let [width, height] = size;
        let size_image = width.saturating_mul(height).max(UNIT_BYTES_MIN);
        let asked = PictureFormat { width, height, pixel_format: coded, size_image, ..PictureFormat::default() };
        let got = abi::set_format(&units, asked).map_err(of("setting its format"))?;
        if got.width < width || got.height < height {
            return Err(format!("it takes up to {}x{} pixels, not {width}x{height}", got.width, got.height));
        }
        abi::subscribe_resolution(&pictures).map_err(of("asking to be told the size"))?;
        let unit_buffers = buffers(&units, UNITS, 1, abi::map_mut)?;
        abi::stream_on(&units).map_err(of("starting it"))?;
        let free = (0..).take(unit_buffers.len()).collect();
        Ok(Self { pictures, units, unit_buffers, free, picture_buffers: Vec::new(), layout: None, damaged: Vec::new() })
    }

    /// The size that the device is at, with the pixel format as it is.
    fn current(&self) -> Result<Layout, String> {
        let format = abi::get_format(&self.pictures).map_err(of("asking for the size"))?;
        let visible = abi::visible(&self.pictures).map_err(of("asking which part of its pictures is to be seen"))?;
        Layout::new(&format, visible)
    }

    /// The same after asking for a pixel format that is understood here.
    fn agreed(&self) -> Result<Layout, String> {
        let format = abi::get_format(&self.pictures).map_err(of("asking for the size"))?;
        if !layout::KNOWN.contains(&format.pixel_format) {
            let pixel_format = layout::KNOWN.into_iter().find(|known| offered(&self.pictures).any(|one| one == *known));
            let pixel_format = pixel_format.ok_or("it gives neither NV12 nor YU12 for this stream")?;
            let asked =
                PictureFormat { pixel_format, width: format.width, height: format.height, ..Default::default() };
            abi::set_format(&self.pictures, asked).map_err(of("setting its pictures' format"))?;
        }
        self.current()
    }

    fn give_pictures(&self) -> Result<(), String> {
        for index in (0..).take(self.picture_buffers.len()) {
            abi::queue_buffer(&self.pictures, index).map_err(of("giving it a buffer"))?;
        }
        abi::stream_on(&self.pictures).map_err(of("starting its pictures"))
    }

    /// Takes back the buffers of access units that the device is done with.
    fn reclaim(&mut self) -> Result<(), String> {
        loop {
            match abi::dequeue_buffer(&self.units) {
                Ok(done) if done.index as usize >= self.unit_buffers.len() || self.free.contains(&done.index) => {
                    return Err(format!("the driver gave back buffer {}, which it did not have", done.index));
                }
                Ok(done) => {
                    self.free.push(done.index);
                    if done.flags & abi::FLAG_ERROR != 0 {
                        self.damaged.push(done.id);
                    }
                }
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(of("taking a buffer back")(errno)),
            }
        }
    }

    /// The picture in a buffer, copied.
    fn read(&self, filled: &Buffer) -> Result<Taken, String> {
        let buffer = self.picture_buffers.get(filled.index as usize);
        let (Some(buffer), Some(layout)) = (buffer, &self.layout) else {
            return Err(format!("the driver gave buffer {} of {}", filled.index, self.picture_buffers.len()));
        };
        let (empty, damaged) = (filled.bytes_used <= filled.starts_at, filled.flags & abi::FLAG_ERROR != 0);
        let picture = if empty || damaged {
            None
        } else {
            let end = filled.bytes_used as usize;
            let bytes = buffer.get(filled.starts_at as usize..end).unwrap_or_default();
            Some(layout.picture(bytes).ok_or_else(|| format!("the driver gave a picture of {} bytes", bytes.len()))?)
        };
        Ok(Taken { id: filled.id, picture, damaged, last: filled.flags & abi::FLAG_LAST != 0 })
    }
}

impl Port for DevicePort {
    fn wait(&mut self, bound: Duration) -> Result<bool, String> {
        let timeout = PollTimeout::try_from(bound).unwrap_or(PollTimeout::MAX);
        let wanted = PollFlags::POLLIN | PollFlags::POLLOUT | PollFlags::POLLPRI;
        let mut ready = [PollFd::new(self.pictures.file().as_fd(), wanted)];
        match nix::poll::poll(&mut ready, timeout) {
            Ok(0) => return Ok(false),
            Err(Errno::EINTR) => return Ok(true),
            Ok(_) => {}
            Err(errno) => return Err(of("waiting for it")(errno)),
        }
        let events = ready[0].revents().unwrap_or(PollFlags::POLLERR);
        self.reclaim()?;
        Ok(events.intersects(wanted))
    }

    fn give(&mut self, unit: &[u8], id: u64) -> Result<bool, String> {
        self.reclaim()?;
        let Some(index) = self.free.pop() else { return Ok(false) };
        let buffer = &mut self.unit_buffers[index as usize];
        let length = buffer.len();
        let room = buffer.get_mut(..unit.len());
        room.ok_or_else(|| format!("an access unit has {} bytes, its buffers {length}", unit.len()))?
            .copy_from_slice(unit);
        let bytes = u32::try_from(unit.len()).unwrap_or(u32::MAX);
        abi::queue_coded(&self.units, index, bytes, id).map_err(of("giving it an access unit")).map(|()| true)
    }

    fn resized(&mut self) -> Result<bool, String> {
        let mut announced = false;
        loop {
            match abi::resolution_changed(&self.pictures) {
                Ok(changed) => announced |= changed,
                Err(Errno::ENOENT | Errno::EAGAIN) => break,
                Err(errno) => return Err(of("asking for events")(errno)),
            }
        }
        // Word may come twice, and after the size was taken over.
        Ok(announced && (self.layout.is_none() || self.current().ok() != self.layout))
    }

    fn set_up(&mut self) -> Result<(), String> {
        if self.layout.take().is_some() {
            abi::stream_off(&self.pictures).map_err(of("stopping its pictures"))?;
            self.picture_buffers.clear();
            abi::request_buffers(&self.pictures, 0).map_err(of("giving its buffers up"))?;
        }
        let layout = self.agreed()?;
        let count = abi::wanted_pictures(&self.pictures).unwrap_or(PICTURES_DEFAULT).saturating_add(PICTURES_AHEAD);
        self.picture_buffers = buffers(&self.pictures, count.min(BUFFERS_MAX), layout.bytes(), abi::map)?;
        self.layout = Some(layout);
        self.give_pictures()
    }

    fn take(&mut self) -> Result<Option<Taken>, String> {
        if let Some(id) = self.damaged.pop() {
            return Ok(Some(Taken { id, damaged: true, ..Taken::default() }));
        }
        match abi::dequeue_buffer(&self.pictures) {
            Ok(filled) => {
                let taken = self.read(&filled)?;
                abi::queue_buffer(&self.pictures, filled.index).map_err(of("giving it a buffer"))?;
                Ok(Some(taken))
            }
            Err(Errno::EAGAIN) => Ok(None),
            // All pictures up to the last have been taken.
            Err(Errno::EPIPE) => Ok(Some(Taken { last: true, ..Taken::default() })),
            Err(errno) => Err(of("taking a picture")(errno)),
        }
    }

    fn stop(&mut self) -> Result<(), String> {
        abi::command(&self.pictures, Command::Stop).map_err(of("telling it the end of the stream"))
    }

    fn start(&mut self) -> Result<(), String> {
        abi::command(&self.pictures, Command::Start).map_err(of("telling it to go on"))
    }

    fn restart(&mut self) -> Result<(), String> {
        abi::stream_off(&self.units).map_err(of("stopping it"))?;
        self.free = (0..).take(self.unit_buffers.len()).collect();
        self.damaged.clear();
        if self.layout.is_some() {
            abi::stream_off(&self.pictures).map_err(of("stopping its pictures"))?;
            self.give_pictures()?;
        }
        abi::stream_on(&self.units).map_err(of("starting it"))
    }
}

impl Drop for DevicePort {
    fn drop(&mut self) {
        // Of a device that has failed this fails as well, and closing it does the same.
        let _ = abi::stream_off(&self.units);
        let _ = abi::stream_off(&self.pictures);
    }
}
