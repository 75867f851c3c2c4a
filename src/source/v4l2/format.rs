//! Which pixel formats are taken, which one is asked for, and what a driver's answer means.
//!
//! May not know: devices. Everything here is a function of what a driver said, which is not trusted.

use super::abi::{PictureFormat, fourcc, fourcc_text};
use super::control::Setting;
use crate::frame::{self, Frame, Limits, Orientation, RawFormat, RawLayout, Size, decode_into};

/// What `?format=` may say.
pub const NAMES: &str = "yuyv, mjpeg, nv12, grey or rgb";

/// Above this many pixels a frame, JPEG is preferred. Uncompressed 640x480 at 30 frames a second is 18 MB/s and fits
/// USB 2 (about 40); 1280x720 would be 55 and does not, so cameras offer that at 10 frames a second or fewer.
const RAW_PIXELS_MAX: u64 = 640 * 480;

/// A pixel format that can be turned into a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    Yuyv,
    Nv12,
    Rgb,
    Grey,
    Mjpeg,
}

impl PixelFormat {
    /// In the order of preference for small pictures: colour before grey, what every camera has before what few
    /// have, and JPEG last, because it costs the most to decode and has lost detail.
    const ALL: [Self; 5] = [Self::Yuyv, Self::Nv12, Self::Rgb, Self::Grey, Self::Mjpeg];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Yuyv => "yuyv",
            Self::Nv12 => "nv12",
            Self::Rgb => "rgb",
            Self::Grey => "grey",
            Self::Mjpeg => "mjpeg",
        }
    }

    /// The kernel's names of it. Some drivers call the same frames `JPEG`.
    fn fourccs(self) -> &'static [u32] {
        match self {
            Self::Yuyv => const { &[fourcc(*b"YUYV")] },
            Self::Nv12 => const { &[fourcc(*b"NV12")] },
            Self::Rgb => const { &[fourcc(*b"RGB3")] },
            Self::Grey => const { &[fourcc(*b"GREY")] },
            Self::Mjpeg => const { &[fourcc(*b"MJPG"), fourcc(*b"JPEG")] },
        }
    }

    pub fn of_fourcc(fourcc: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.fourccs().contains(&fourcc))
    }

    /// The number to ask for: the first that the device offers.
    fn among(self, offered: &[u32]) -> Option<u32> {
        self.fourccs().iter().copied().find(|fourcc| offered.contains(fourcc))
    }
}

/// What a URI asks for; what it leaves out is the driver's choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub frames_per_second: Option<u32>,
    pub format: Option<PixelFormat>,
    /// In the order of the URI.
    pub controls: Vec<Setting>,
}

impl Wanted {
    /// What to ask of a device that has `current` set and offers the pixel formats `offered`.
    ///
    /// # Errors
    /// It offers none of ours, or not the one that is wanted.
    pub fn choose(&self, current: &PictureFormat, offered: &[u32]) -> Result<PictureFormat, String> {
        let (width, height) = (self.width.unwrap_or(current.width), self.height.unwrap_or(current.height));
        let pixel_format =
            self.pixel_format(u64::from(width) * u64::from(height), current, offered).ok_or_else(|| {
                let wanted = self.format.map_or(NAMES, PixelFormat::name);
                let offered: Vec<String> = offered.iter().copied().map(fourcc_text).collect();
                format!("expected a camera that gives {wanted}, this one offers: {}", offered.join(", "))
            })?;
        Ok(PictureFormat { width, height, pixel_format, ..PictureFormat::default() })
    }

    fn pixel_format(&self, pixels: u64, current: &PictureFormat, offered: &[u32]) -> Option<u32> {
        if let Some(format) = self.format {
            return format.among(offered);
        }
        // With no word about the picture, what somebody set on the device before us stays.
        let untouched = self.width.is_none() && self.height.is_none();
        if untouched && PixelFormat::of_fourcc(current.pixel_format).is_some() {
            return Some(current.pixel_format);
        }
        let large = (pixels > RAW_PIXELS_MAX).then_some(PixelFormat::Mjpeg);
        large.into_iter().chain(PixelFormat::ALL).find_map(|format| format.among(offered))
    }
}

/// How a filled buffer becomes a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picture {
    Raw(RawLayout),
    Jpeg,
}

impl Picture {
    /// What the driver says that it will give.
    ///
    /// # Errors
    /// The pixel format is none of ours, or its numbers do not fit together or exceed [`Limits`].
    pub fn of(format: &PictureFormat) -> Result<Self, String> {
        let raw = match PixelFormat::of_fourcc(format.pixel_format) {
            Some(PixelFormat::Mjpeg) => return Ok(Self::Jpeg),
            Some(PixelFormat::Yuyv) => RawFormat::Yuyv,
            Some(PixelFormat::Nv12) => RawFormat::Nv12,
            Some(PixelFormat::Rgb) => RawFormat::Rgb,
            Some(PixelFormat::Grey) => RawFormat::Grey,
            None => return Err(format!("the driver gives {}, expected {NAMES}", fourcc_text(format.pixel_format))),
        };
        let size = Size::new(format.width as usize, format.height as usize);
        let layout = RawLayout::new(raw, size, format.bytes_per_line as usize, Limits::default());
        layout.map(Self::Raw).map_err(|error| format!("the driver's format cannot be used: {error}"))
    }

    /// Bytes that a buffer must have room for.
    pub fn bytes_min(&self) -> usize {
        match self {
            Self::Raw(layout) => layout.bytes(),
            Self::Jpeg => 1,
        }
    }

    /// Converts what a buffer holds into `frame`. A camera's EXIF orientation does not count: how it hangs is known to
    /// whoever trained the model, and the other formats have none.
    pub fn read(&self, bytes: &[u8], frame: &mut Frame) -> Result<(), frame::Error> {
        match self {
            Self::Raw(layout) => layout.read(bytes, frame),
            Self::Jpeg if bytes.starts_with(&[0xff, 0xd8]) => {
                decode_into(bytes, Orientation::Ignore, Limits::default(), frame)
            }
            Self::Jpeg if bytes.is_empty() => Err(frame::Error::EmptyInput),
            Self::Jpeg => {
                let why = format!("it begins with {:02x?}, expected ff d8", &bytes[..bytes.len().min(2)]);
                Err(frame::Error::Damaged { format: "JPEG", why })
            }
        }
    }
}

/// What was agreed on, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    pub card: String,
    pub width: u32,
    pub height: u32,
    pub format: &'static str,
    /// `None` where the driver does not say.
    pub frames_per_second: Option<f64>,
    /// What the driver offers in this format, and at this size; empty where it does not say.
    pub sizes: String,
    pub rates: String,
    /// Each control that was set, with the value that it has.
    pub controls: Vec<String>,
}

impl Agreement {
    /// One line: what there is and, where it differs, what was asked for and what is offered.
    pub fn describe(&self, wanted: &Wanted) -> String {
        let Self { card, width, height, format, frames_per_second, sizes, rates, controls } = self;
        let rate = match frames_per_second {
            // Two digits tell 29.97 from 30.
            Some(rate) => format!("{} frames a second", (rate * 100.0).round() / 100.0),
            None => "a rate that the driver does not say".into(),
        };
        let mut line = format!("{card}: {width}x{height} {format} at {rate}");
        let (mut asked, mut offers) = (Vec::new(), Vec::new());
        asked.extend(wanted.width.filter(|asked| asked != width).map(|asked| format!("width {asked}")));
        asked.extend(wanted.height.filter(|asked| asked != height).map(|asked| format!("height {asked}")));
        let other = wanted.format.map(PixelFormat::name).filter(|asked| asked != format);
        asked.extend(other.map(|asked| format!("format {asked}")));
        if asked.iter().any(|asked: &String| !asked.starts_with("format")) && !sizes.is_empty() {
            offers.push(format!("{format} in {sizes}"));
        }
        let off = |asked: &u32| frames_per_second.is_none_or(|rate| (rate - f64::from(*asked)).abs() > 0.5);
        if let Some(rate) = wanted.frames_per_second.filter(off) {
            asked.push(format!("{rate} frames a second"));
            if !rates.is_empty() {
                offers.push(format!("{rates} frames a second at this size"));
            }
        }
        if !asked.is_empty() {
            line.push_str(&format!(" (asked for {}", asked.join(", ")));
            if !offers.is_empty() {
                line.push_str(&format!("; it offers {}", offers.join(", and ")));
            }
            line.push(')');
        }
        if !controls.is_empty() {
            line.push_str(&format!("; {}", controls.join(", ")));
        }
        line
    }
}

/// Frames a second of the seconds a frame, a fraction, where the driver says something sensible.
pub fn rate([numerator, denominator]: [u32; 2]) -> Option<f64> {
    (numerator > 0 && denominator > 0).then(|| f64::from(denominator) / f64::from(numerator))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current(letters: [u8; 4], width: u32, height: u32) -> PictureFormat {
        PictureFormat { width, height, pixel_format: fourcc(letters), ..PictureFormat::default() }
    }

    fn chosen(wanted: Wanted, current: PictureFormat, offered: &[&[u8; 4]]) -> Result<(u32, u32, String), String> {
        let offered: Vec<u32> = offered.iter().map(|letters| fourcc(**letters)).collect();
        let asked = wanted.choose(&current, &offered)?;
        Ok((asked.width, asked.height, fourcc_text(asked.pixel_format)))
    }

    #[test]
    fn large_pictures_are_asked_for_as_jpeg_and_small_ones_as_they_are() {
        let sized = |width, height| Wanted { width: Some(width), height: Some(height), ..Wanted::default() };
        let now = current(*b"MJPG", 1920, 1080);
        let webcam: [&[u8; 4]; 2] = [b"MJPG", b"YUYV"];
        assert_eq!(chosen(sized(640, 480), now, &webcam).unwrap(), (640, 480, "YUYV".into()));
        assert_eq!(chosen(sized(1280, 720), now, &webcam).unwrap(), (1280, 720, "MJPG".into()));
        assert_eq!(chosen(sized(1280, 720), now, &[b"YUYV"]).unwrap().2, "YUYV");
        assert_eq!(chosen(sized(320, 240), now, &[b"JPEG", b"GREY"]).unwrap().2, "GREY");
        assert_eq!(chosen(sized(320, 240), now, &[b"JPEG", b"H264"]).unwrap().2, "JPEG");
        // One side alone keeps the other.
        let narrow = Wanted { width: Some(640), ..Wanted::default() };
        assert_eq!(chosen(narrow, now, &webcam).unwrap(), (640, 1080, "MJPG".into()));
    }

    #[test]
    fn what_is_set_stays_when_nothing_is_asked_and_it_can_be_used() {
        let webcam: [&[u8; 4]; 2] = [b"MJPG", b"YUYV"];
        let nothing = Wanted::default();
        assert_eq!(chosen(nothing.clone(), current(*b"MJPG", 320, 240), &webcam).unwrap(), (320, 240, "MJPG".into()));
        assert_eq!(chosen(nothing, current(*b"H264", 320, 240), &webcam).unwrap().2, "YUYV");
        let jpeg = Wanted { format: Some(PixelFormat::Mjpeg), ..Wanted::default() };
        assert_eq!(chosen(jpeg, current(*b"YUYV", 320, 240), &webcam).unwrap().2, "MJPG");
    }

    #[test]
    fn a_camera_without_our_formats_is_told_by_what_it_has() {
        let now = current(*b"pRAA", 3280, 2464);
        let message = chosen(Wanted::default(), now, &[b"pRAA", b"RG10"]).unwrap_err();
        assert!(message.contains("yuyv") && message.contains("pRAA, RG10"), "{message}");
        let grey = Wanted { format: Some(PixelFormat::Grey), ..Wanted::default() };
        let message = chosen(grey, now, &[b"YUYV"]).unwrap_err();
        assert!(message.contains("gives grey") && message.contains("YUYV"), "{message}");
    }

    #[test]
    fn numbers_of_a_driver_that_do_not_fit_are_refused() {
        let good = PictureFormat { bytes_per_line: 1344, ..current(*b"YUYV", 640, 480) };
        assert_eq!(Picture::of(&good).unwrap().bytes_min(), 479 * 1344 + 1280);
        for (bad, word) in [
            (PictureFormat { bytes_per_line: 640, ..good }, "rows of 640 bytes: expected at least 1280"),
            (PictureFormat { width: 0, ..good }, "empty"),
            (PictureFormat { width: 641, ..good }, "even sides"),
            (PictureFormat { width: u32::MAX, height: u32::MAX, ..good }, "too large"),
            (PictureFormat { pixel_format: fourcc(*b"H264"), ..good }, "gives H264"),
        ] {
            let message = Picture::of(&bad).unwrap_err();
            assert!(message.contains(word), "{message}");
        }
    }

    /// Cuts the segments with this marker out of a JPEG's header.
    fn without(jpeg: &[u8], marker: u8) -> Vec<u8> {
        let mut kept = jpeg[..2].to_vec();
        let mut at = 2;
        while jpeg[at + 1] != 0xda {
            let end = at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
            if jpeg[at + 1] != marker {
                kept.extend_from_slice(&jpeg[at..end]);
            }
            at = end;
        }
        kept.extend_from_slice(&jpeg[at..]);
        kept
    }

    #[test]
    fn jpegs_of_webcams_are_read() {
        let pixels: Vec<u8> = (0..48 * 32 * 3).map(|i: u32| (i * 7).to_le_bytes()[0]).collect();
        let mut jpeg = Vec::new();
        let encoder = jpeg_encoder::Encoder::new(&mut jpeg, 80);
        encoder.encode(&pixels, 48, 32, jpeg_encoder::ColorType::Rgb).unwrap();
        let (mut whole, mut frame) = (Frame::empty(), Frame::empty());
        Picture::Jpeg.read(&jpeg, &mut whole).unwrap();
        // Many leave the Huffman tables out, which then are the standard's, and fill the buffer up.
        const HUFFMAN: u8 = 0xc4;
        let mut short = without(&jpeg, HUFFMAN);
        assert!(short.len() < jpeg.len());
        short.extend([0; 100]);
        Picture::Jpeg.read(&short, &mut frame).unwrap();
        assert_eq!((frame.width(), frame.height()), (48, 32));
        assert!(frame.pixels() == whole.pixels());
    }

    #[test]
    fn damaged_jpegs_are_errors_of_their_frame() {
        let mut frame = Frame::empty();
        for (bytes, word) in
            [(&[][..], "empty"), (&[0, 0, 0][..], "begins with"), (&[0xff, 0xd8, 0xff, 0xe0, 0, 16][..], "truncated")]
        {
            let message = Picture::Jpeg.read(bytes, &mut frame).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn what_was_asked_is_told_where_it_differs() {
        let agreement = Agreement {
            card: "Cam".into(),
            width: 640,
            height: 480,
            format: "yuyv",
            frames_per_second: rate([1001, 30_000]),
            sizes: "320x240, 640x480".into(),
            rates: "15, 29.97".into(),
            controls: vec!["gain 5".into()],
        };
        let line = "Cam: 640x480 yuyv at 29.97 frames a second";
        let same = Wanted { width: Some(640), frames_per_second: Some(30), ..Wanted::default() };
        assert_eq!(agreement.describe(&same), format!("{line}; gain 5"));
        let other = Wanted {
            width: Some(650),
            height: Some(480),
            frames_per_second: Some(60),
            format: Some(PixelFormat::Mjpeg),
            ..Wanted::default()
        };
        let asked = " (asked for width 650, format mjpeg, 60 frames a second; \
            it offers yuyv in 320x240, 640x480, and 15, 29.97 frames a second at this size)";
        assert_eq!(agreement.describe(&other), format!("{line}{asked}; gain 5"));
        assert_eq!(rate([0, 30]), None);
    }
}
