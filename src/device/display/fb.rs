//! A framebuffer of Linux (`/dev/fb0`): its memory mapped, the picture written into the part that is shown. There is one
//! buffer, so a picture may be seen while it is being written.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;

use memmap2::{MmapMut, MmapOptions};

use super::Surface;
use super::pixels::{Channel, Layout, PixelFormat, Rotation};
use crate::frame::{Frame, Size};

/// Of `fb_fix_screeninfo.visual`: pixels are colours, with or without a table of levels.
const TRUECOLOR: u32 = 2;
const DIRECTCOLOR: u32 = 4;

/// `struct fb_bitfield` of <linux/fb.h>.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bitfield {
    offset: u32,
    length: u32,
    msb_right: u32,
}

/// `struct fb_var_screeninfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Variable {
    xres: u32,
    yres: u32,
    xres_virtual: u32,
    yres_virtual: u32,
    xoffset: u32,
    yoffset: u32,
    bits_per_pixel: u32,
    grayscale: u32,
    red: Bitfield,
    green: Bitfield,
    blue: Bitfield,
    transp: Bitfield,
    /// Timings and other things that are the driver's own.
    rest: [u32; 20],
}

/// `struct fb_fix_screeninfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Fixed {
    id: [u8; 16],
    smem_start: libc::c_ulong,
    smem_len: u32,
    kind: u32,
    type_aux: u32,
    visual: u32,
    xpanstep: u16,
    ypanstep: u16,
    ywrapstep: u16,
    line_length: u32,
    mmio_start: libc::c_ulong,
    mmio_len: u32,
    accel: u32,
    capabilities: u16,
    reserved: [u16; 2],
}

nix::ioctl_read_bad!(get_variable, 0x4600, Variable);
nix::ioctl_read_bad!(get_fixed, 0x4602, Fixed);
nix::ioctl_write_int_bad!(set_console_mode, 0x4b3a);

/// An open framebuffer.
pub struct Framebuffer {
    file: File,
    memory: MmapMut,
    variable: Variable,
    layout: Layout,
    /// Of the first pixel that is shown.
    offset: usize,
    rotation: Rotation,
    row: Vec<u8>,
    _console: Console,
}

impl Framebuffer {
    pub fn open(device: &Path, rotation: Rotation) -> Result<Self, String> {
        let file = OpenOptions::new().read(true).write(true).open(device);
        let file = file.map_err(|cause| format!("cannot be opened: {cause}"))?;
        let (variable, mut fixed) = (variable(&file)?, Fixed::default());
        // SAFETY: the kernel fills the structure, which has its layout and outlives the call.
        unsafe { get_fixed(file.as_raw_fd(), &raw mut fixed) }
            .map_err(|cause| format!("is no framebuffer: {cause}"))?;
        let layout = layout(&fixed, &variable)?;
        let in_page = usize::try_from(fixed.smem_start % page_bytes()).expect("less than a page");
        let offset = in_page + first_byte(&fixed, &variable, &layout)?;
        let length = in_page + fixed.smem_len as usize;
        // SAFETY: the mapping is of device memory that nobody takes away while the file is open; others may write to it,
        // which changes what is seen and nothing else, because it is never read.
        let memory = unsafe { MmapOptions::new().len(length).map_mut(&file) };
        let memory = memory.map_err(|cause| format!("its memory cannot be mapped: {cause}"))?;
        Ok(Self { file, memory, variable, layout, offset, rotation, row: Vec::new(), _console: Console::take() })
    }
}

impl Surface for Framebuffer {
    fn size(&self) -> Size {
        self.layout.size
    }

    fn show(&mut self, frame: &Frame) -> Result<(), String> {
        if variable(&self.file)? != self.variable {
            return Err("its mode has changed".into());
        }
        self.layout.write(frame, self.rotation, &mut self.row, &mut self.memory[self.offset..]);
        Ok(())
    }
}

fn variable(file: &File) -> Result<Variable, String> {
    let mut variable = Variable::default();
    // SAFETY: as with `get_fixed`.
    unsafe { get_variable(file.as_raw_fd(), &raw mut variable) }
        .map_err(|cause| format!("is no framebuffer: {cause}"))?;
    Ok(variable)
}

fn page_bytes() -> libc::c_ulong {
    // SAFETY: no pointers.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    libc::c_ulong::try_from(bytes).unwrap_or(4096)
}

/// How its pixels lie, or why none can be drawn.
fn layout(fixed: &Fixed, variable: &Variable) -> Result<Layout, String> {
    if fixed.kind != 0 || ![TRUECOLOR, DIRECTCOLOR].contains(&fixed.visual) || variable.grayscale != 0 {
        return Err(format!(
            "type {}, visual {}, grayscale {}: expected packed pixels in true colours; choose another mode of the screen",
            fixed.kind, fixed.visual, variable.grayscale
        ));
    }
    let channels = [variable.red, variable.green, variable.blue];
    if channels.iter().any(|channel| channel.msb_right != 0) {
        return Err("its colours have their lowest bit first; expected the highest".into());
    }
    let channels = channels.map(|channel| Channel { shift: channel.offset, bits: channel.length });
    let format = PixelFormat::new(variable.bits_per_pixel, channels)?;
    let size = Size::new(variable.xres as usize, variable.yres as usize);
    Ok(Layout { size, stride: fixed.line_length as usize, format })
}

/// Where in its memory the shown part begins.
fn first_byte(fixed: &Fixed, variable: &Variable, layout: &Layout) -> Result<usize, String> {
    let offset = variable.yoffset as usize * layout.stride + variable.xoffset as usize * layout.pixel_bytes();
    let bytes = layout.bytes().and_then(|bytes| bytes.checked_add(offset));
    match bytes.filter(|&bytes| bytes <= fixed.smem_len as usize) {
        Some(_) => Ok(offset),
        None => Err(format!(
            "{}x{} pixels from {},{} on in rows of {} bytes do not fit its {} bytes of memory",
            variable.xres, variable.yres, variable.xoffset, variable.yoffset, fixed.line_length, fixed.smem_len
        )),
    }
}

/// The kernel's text console on the same screen, which would write over the picture; silent while this is kept. Where there
/// is none, or it is not ours to silence, nothing happens.
struct Console(Option<File>);

impl Console {
    /// KD_GRAPHICS and KD_TEXT of <linux/kd.h>.
    const GRAPHICS: i32 = 1;
    const TEXT: i32 = 0;

    fn take() -> Self {
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty0").ok();
        let silent = |file: &File| {
            // SAFETY: no pointers.
            unsafe { set_console_mode(file.as_raw_fd(), Self::GRAPHICS) }.is_ok()
        };
        Self(terminal.filter(silent))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            // SAFETY: no pointers.
            let _ = unsafe { set_console_mode(file.as_raw_fd(), Self::TEXT) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(offset: u32, length: u32) -> Bitfield {
        Bitfield { offset, length, msb_right: 0 }
    }

    /// A Raspberry Pi's: 16 bits, rows padded, twice as high as what is shown, the lower half shown.
    fn screen() -> (Fixed, Variable) {
        let fixed = Fixed { smem_len: 2 * 480 * 1664, visual: TRUECOLOR, line_length: 1664, ..Fixed::default() };
        let variable = Variable {
            xres: 800,
            yres: 480,
            xres_virtual: 832,
            yres_virtual: 960,
            yoffset: 480,
            bits_per_pixel: 16,
            red: field(11, 5),
            green: field(5, 6),
            blue: field(0, 5),
            ..Variable::default()
        };
        (fixed, variable)
    }

    #[test]
    fn structures_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<Variable>(), 160);
        assert_eq!(size_of::<Fixed>(), if size_of::<libc::c_ulong>() == 8 { 80 } else { 68 });
    }

    #[test]
    fn the_shown_part_of_a_larger_memory_is_written() {
        let (fixed, variable) = screen();
        let layout = layout(&fixed, &variable).unwrap();
        let offset = first_byte(&fixed, &variable, &layout).unwrap();
        assert_eq!((layout.size, layout.stride, offset), (Size::new(800, 480), 1664, 480 * 1664));
        let mut memory = vec![0; fixed.smem_len as usize];
        let mut frame = Frame::new(800, 480);
        frame.pixels_mut().fill(255);
        layout.write(&frame, Rotation::None, &mut Vec::new(), &mut memory[offset..]);
        assert!(memory[..offset].iter().all(|&byte| byte == 0));
        assert!(memory[offset..offset + 1600].iter().all(|&byte| byte == 255));
        assert!(memory[offset + 1600..offset + 1664].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn what_cannot_be_drawn_on_is_said() {
        let broken = |change: fn(&mut Fixed, &mut Variable)| {
            let (mut fixed, mut variable) = screen();
            change(&mut fixed, &mut variable);
            layout(&fixed, &variable).and_then(|layout| first_byte(&fixed, &variable, &layout)).unwrap_err()
        };
        assert!(broken(|fixed, _| fixed.visual = 3).contains("true colours"));
        assert!(broken(|_, variable| variable.bits_per_pixel = 8).contains("8 bits"));
        assert!(broken(|_, variable| variable.red.msb_right = 1).contains("lowest bit first"));
        assert!(broken(|_, variable| variable.yoffset = 481).contains("do not fit"));
        assert!(broken(|_, variable| variable.xres = 900).contains("do not fit"));
        assert!(broken(|fixed, _| fixed.smem_len = 0).contains("do not fit"));
        let absent = Framebuffer::open(Path::new("/dev/fb99"), Rotation::None).err().unwrap();
        assert!(absent.contains("cannot be opened"), "{absent}");
        let other = Framebuffer::open(Path::new("/dev/null"), Rotation::None).err().unwrap();
        assert!(other.contains("is no framebuffer"), "{other}");
    }
}
