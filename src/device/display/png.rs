//! A screen that is a PNG file, for tests and for people far away: replaced as a whole, once a second at most.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Surface;
use super::pixels::{Channel, Layout, PixelFormat, Rotation};
use crate::durable::temporary_name;
use crate::frame::{CHANNELS, Frame, Size, write_file};

/// A file is for looking at, and a card for less than ten pictures a second.
const PAUSE: Duration = Duration::from_secs(1);

/// The file.
pub struct Picture {
    path: PathBuf,
    /// As on a screen: after turning.
    turned: Frame,
    rotation: Rotation,
    row: Vec<u8>,
}

impl Picture {
    pub fn new(path: &Path, size: Size, rotation: Rotation) -> Self {
        Self { path: path.into(), turned: Frame::new(size.width, size.height), rotation, row: Vec::new() }
    }
}

impl Surface for Picture {
    fn size(&self) -> Size {
        self.turned.size()
    }

    fn show(&mut self, frame: &Frame) -> Result<(), String> {
        // Red first in memory, as a frame has it.
        let channels = [0, 8, 16].map(|shift| Channel { shift, bits: 8 });
        let format = PixelFormat::new(24, channels)?;
        let size = self.turned.size();
        let layout = Layout { size, stride: size.width * CHANNELS, format };
        layout.write(frame, self.rotation, &mut self.row, self.turned.pixels_mut());
        // Whole, and not safe from a power cut: the next second has another.
        let temporary = temporary_name(&self.path).with_extension("png");
        let put = write_file(&self.turned, &temporary).and_then(|()| std::fs::rename(&temporary, &self.path));
        if put.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        put.map_err(|cause| format!("cannot be written: {cause}"))
    }

    fn pause(&self) -> Duration {
        PAUSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_and_nothing_lies_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("screen.png");
        let mut picture = Picture::new(&path, Size::new(200, 160), Rotation::Quarter);
        let mut frame = Frame::new(160, 200);
        frame.pixels_mut()[..3].copy_from_slice(&[250, 20, 30]);
        for _ in 0..2 {
            picture.show(&frame).unwrap();
            let found = image::open(&path).unwrap().to_rgb8();
            assert_eq!((found.dimensions(), found.get_pixel(199, 0).0), ((200, 160), [250, 20, 30]));
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
        let mut nowhere = Picture::new(&dir.path().join("none/screen.png"), Size::new(200, 160), Rotation::None);
        assert!(nowhere.show(&Frame::new(200, 160)).unwrap_err().contains("No such file"));
    }
}
