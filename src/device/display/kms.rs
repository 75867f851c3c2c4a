//! A screen behind a kernel mode setting driver (`/dev/dri/card0`): two dumb buffers, shown in turn.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use drm::Device;
use drm::buffer::{Buffer, DrmFourcc};
use drm::control::connector::{self, State};
use drm::control::dumbbuffer::DumbBuffer;
use drm::control::{Device as Control, Mode, ModeTypeFlags, PageFlipFlags, crtc, framebuffer};
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::Surface;
use super::pixels::{Layout, PixelFormat, Rotation};
use crate::frame::{Frame, Size};

/// A screen of 24 Hz shows a picture within 42 ms; a driver that takes this long shows none any more.
const FLIP_MAX_MS: u16 = 1000;
/// How often it is looked whether the cable is still there.
const CABLE: Duration = Duration::from_secs(1);
/// What every driver has as a dumb buffer: XRGB8888.
const DEPTH: u32 = 24;
const BITS: u32 = 32;

/// The file of a card.
struct Card(File);

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Device for Card {}
impl Control for Card {}

/// A connector with a mode, and what drives it.
pub struct Output {
    card: Card,
    connector: connector::Handle,
    crtc: crtc::Handle,
    mode: Mode,
    /// What was shown before.
    before: crtc::Info,
    buffers: [(DumbBuffer, framebuffer::Handle); 2],
    /// The one that is shown; `None` before the first picture.
    front: Option<usize>,
    looked_at: Instant,
    rotation: Rotation,
    row: Vec<u8>,
}

impl Output {
    /// Takes a card; `connector` and `size` are as in [`super::Kind::Drm`].
    pub fn open(
        device: &Path,
        connector: Option<&str>,
        size: Option<Size>,
        rotation: Rotation,
    ) -> Result<Self, String> {
        let file = OpenOptions::new().read(true).write(true).open(device);
        let card = Card(file.map_err(|cause| format!("cannot be opened: {cause}"))?);
        let found = choose_connector(&card, connector)?;
        let preferred = |mode: &Mode| mode.mode_type().contains(ModeTypeFlags::PREFERRED);
        let modes: Vec<_> = found.modes().iter().map(|mode| (size_of(*mode), preferred(mode))).collect();
        let mode = found.modes()[choose_mode(&modes, size)?];
        let crtc = choose_crtc(&card, &found)?;
        let before = card.get_crtc(crtc).map_err(|cause| failed("asked", &cause))?;
        let buffers = [buffer(&card, mode)?, buffer(&card, mode)?];
        let (connector, looked_at) = (found.handle(), Instant::now());
        Ok(Self { card, connector, crtc, mode, before, buffers, front: None, looked_at, rotation, row: Vec::new() })
    }

    /// Shows a buffer from now on: at once the first time, later with the next picture of the screen.
    fn present(&self, framebuffer: framebuffer::Handle) -> Result<(), String> {
        if self.front.is_some() && self.card.page_flip(self.crtc, framebuffer, PageFlipFlags::EVENT, None).is_ok() {
            return self.wait_for_flip();
        }
        // A driver that cannot flip still can be set anew.
        self.card
            .set_crtc(self.crtc, Some(framebuffer), (0, 0), &[self.connector], Some(self.mode))
            .map_err(|cause| failed("set up; perhaps another program drives it", &cause))
    }

    fn wait_for_flip(&self) -> Result<(), String> {
        let mut ready = [PollFd::new(self.card.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut ready, PollTimeout::from(FLIP_MAX_MS)) {
            Ok(0) => Err(format!("took no picture for {FLIP_MAX_MS} ms")),
            Ok(_) => self.card.receive_events().map(drop).map_err(|cause| failed("read", &cause)),
            Err(cause) => Err(failed("read", &cause.into())),
        }
    }
}

impl Surface for Output {
    fn size(&self) -> Size {
        size_of(self.mode)
    }

    fn show(&mut self, frame: &Frame) -> Result<(), String> {
        if self.looked_at.elapsed() >= CABLE {
            self.looked_at = Instant::now();
            let found = self.card.get_connector(self.connector, false).map_err(|cause| failed("asked", &cause))?;
            if found.state() == State::Disconnected {
                return Err(format!("{}: the screen was unplugged", name(&found)));
            }
        }
        let back = self.front.map_or(0, |front| 1 - front);
        let (buffer, framebuffer) = &mut self.buffers[back];
        let layout =
            Layout { size: size_of(self.mode), stride: buffer.pitch() as usize, format: PixelFormat::XRGB8888 };
        let framebuffer = *framebuffer;
        let mut memory = self.card.map_dumb_buffer(buffer).map_err(|cause| failed("mapped", &cause))?;
        layout.write(frame, self.rotation, &mut self.row, memory.as_mut());
        drop(memory);
        self.present(framebuffer)?;
        self.front = Some(back);
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.front.is_none() {
            return;
        }
        // The console comes back by itself where there was nothing before; buffers go with the file.
        let mode = self.before.mode();
        let connectors: &[_] = if mode.is_some() { &[self.connector] } else { &[] };
        let _ = self.card.set_crtc(self.crtc, self.before.framebuffer(), self.before.position(), connectors, mode);
    }
}

fn failed(step: &str, cause: &std::io::Error) -> String {
    format!("cannot be {step}: {cause}")
}

fn name(connector: &connector::Info) -> String {
    format!("{}-{}", connector.interface().as_str(), connector.interface_id())
}

fn size_of(mode: Mode) -> Size {
    let (width, height) = mode.size();
    Size::new(width.into(), height.into())
}

/// The connector of a name, or the first that has a screen.
fn choose_connector(card: &Card, wanted: Option<&str>) -> Result<connector::Info, String> {
    let handles = card.resource_handles().map_err(|cause| format!("has no screens: {cause}"))?;
    let all = handles.connectors().iter().filter_map(|&handle| card.get_connector(handle, true).ok());
    let all: Vec<connector::Info> = all.collect();
    let plugged = |found: &&connector::Info| found.state() != State::Disconnected && !found.modes().is_empty();
    let names = || all.iter().map(name).collect::<Vec<_>>().join(", ");
    let found = match wanted {
        None => all.iter().find(plugged).ok_or_else(|| format!("no screen is plugged into {}", names()))?,
        Some(wanted) => {
            let found = all.iter().find(|found| name(found) == wanted);
            let found = found.ok_or_else(|| format!("has no connector {wanted}; it has {}", names()))?;
            Some(found).filter(plugged).ok_or_else(|| format!("no screen is plugged into {wanted}"))?
        }
    };
    Ok(found.clone())
}

/// Which of the modes, each a size and whether the screen prefers it: the first of a size, or the preferred one.
fn choose_mode(modes: &[(Size, bool)], wanted: Option<Size>) -> Result<usize, String> {
    let Some(wanted) = wanted else {
        let first = if modes.is_empty() { Err("the screen has no mode".into()) } else { Ok(0) };
        return modes.iter().position(|&(_, preferred)| preferred).map_or(first, Ok);
    };
    modes.iter().position(|&(size, _)| size == wanted).ok_or_else(|| {
        let mut sizes: Vec<String> = modes.iter().map(|(size, _)| format!("{}x{}", size.width, size.height)).collect();
        sizes.dedup();
        format!("the screen has no mode {}x{}; it has {}", wanted.width, wanted.height, sizes.join(", "))
    })
}

/// What drives the connector now, else the first that can.
fn choose_crtc(card: &Card, connector: &connector::Info) -> Result<crtc::Handle, String> {
    let encoders = connector.current_encoder().into_iter().chain(connector.encoders().iter().copied());
    let encoders: Vec<_> = encoders.filter_map(|handle| card.get_encoder(handle).ok()).collect();
    if let Some(crtc) = encoders.iter().find_map(|encoder| encoder.crtc()) {
        return Ok(crtc);
    }
    let handles = card.resource_handles().map_err(|cause| failed("asked", &cause))?;
    let mut possible = encoders.iter().flat_map(|encoder| handles.filter_crtcs(encoder.possible_crtcs()));
    possible.next().ok_or_else(|| format!("nothing can drive {}", name(connector)))
}

fn buffer(card: &Card, mode: Mode) -> Result<(DumbBuffer, framebuffer::Handle), String> {
    let (width, height) = mode.size();
    let made = card.create_dumb_buffer((width.into(), height.into()), DrmFourcc::Xrgb8888, BITS);
    let buffer = made.map_err(|cause| format!("has no memory for {width}x{height}: {cause}"))?;
    let framebuffer = card.add_framebuffer(&buffer, DEPTH, BITS).map_err(|cause| failed("given a picture", &cause))?;
    Ok((buffer, framebuffer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_mode_is_taken_or_the_one_asked_for() {
        let modes = [(1920, 1080, false), (1280, 720, true), (1280, 720, false), (640, 480, false)];
        let modes = modes.map(|(width, height, preferred)| (Size::new(width, height), preferred));
        assert_eq!(choose_mode(&modes, None), Ok(1));
        assert_eq!(choose_mode(&modes, Some(Size::new(640, 480))), Ok(3));
        let why = choose_mode(&modes, Some(Size::new(800, 600))).unwrap_err();
        assert!(why.contains("no mode 800x600; it has 1920x1080, 1280x720, 640x480"), "{why}");
        assert_eq!(choose_mode(&modes[..1], None), Ok(0));
        assert!(choose_mode(&[], None).is_err());
    }

    #[test]
    fn what_is_no_card_is_said() {
        let open = |path: &str| Output::open(Path::new(path), None, None, Rotation::None).err().unwrap();
        assert!(open("/dev/dri/card99").contains("cannot be opened"));
        assert!(open("/dev/null").contains("has no screens"));
    }
}
