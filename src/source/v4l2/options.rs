//! `v4l2:DEVICE?width=…&height=…&fps=…&format=…` taken apart.

use std::path::PathBuf;

use super::control::Setting;
use super::format::{NAMES, PixelFormat, Wanted};
use crate::source::{Error, options};

/// Longest side that can be asked for: twice that of the largest sensors, and far below where a product overflows.
const SIDE_MAX: u32 = 32_768;
/// Highest rate that can be asked for, as of the other sources.
const FPS_MAX: u32 = 1000;

const VALID: &str = "width, height, fps, format, exposure, gain, brightness, contrast, saturation, white_balance, \
    focus, power_line, ctrl.NAME";

/// The device that a URI names, and what it asks of it.
///
/// # Errors
/// No device, an unknown option, or a value out of range.
pub fn parse(uri: &str) -> Result<(PathBuf, Wanted), Error> {
    let (base, pairs) = options(uri);
    let device = base.strip_prefix("v4l2:").unwrap_or(base);
    if device.is_empty() {
        return Err(Error::Open { uri: uri.into(), why: "names no device; for instance v4l2:/dev/video0".into() });
    }
    let mut wanted = Wanted::default();
    for (option, value) in pairs {
        let fail = |option, expected| Error::Option { uri: uri.into(), option, found: value.into(), expected };
        let number = |max| value.parse().ok().filter(|number| (1..=max).contains(number));
        let side = |option| number(SIDE_MAX).ok_or_else(|| fail(option, "1 to 32768 pixels"));
        match option {
            "width" => wanted.width = Some(side("width")?),
            "height" => wanted.height = Some(side("height")?),
            "fps" => {
                let rate = number(FPS_MAX).ok_or_else(|| fail("fps", "a whole number, 1 to 1000"))?;
                wanted.frames_per_second = Some(rate);
            }
            "format" => wanted.format = Some(PixelFormat::named(value).ok_or_else(|| fail("format", NAMES))?),
            _ => match Setting::parse(option, value) {
                Some(setting) => {
                    wanted.controls.push(setting.map_err(|(option, expected)| fail(option, expected))?);
                }
                None => return Err(Error::UnknownOption { uri: uri.into(), option: option.into(), valid: VALID }),
            },
        }
    }
    Ok((device.into(), wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_may_be_left_out() {
        let (device, wanted) = parse("v4l2:/dev/v4l/by-id/usb-cam").unwrap();
        assert_eq!((device, wanted), ("/dev/v4l/by-id/usb-cam".into(), Wanted::default()));
        let (device, wanted) = parse("v4l2:/dev/video2?width=1280&height=720&fps=25&format=mjpeg").unwrap();
        let expected = Wanted {
            width: Some(1280),
            height: Some(720),
            frames_per_second: Some(25),
            format: Some(PixelFormat::Mjpeg),
            ..Wanted::default()
        };
        assert_eq!((device, wanted), ("/dev/video2".into(), expected));
        let (_, wanted) = parse("v4l2:/dev/video2?exposure=auto&gain=-3&power_line=50&ctrl.Hue=0x10").unwrap();
        assert_eq!(wanted.controls.len(), 4);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_right() {
        for (uri, word) in [
            ("v4l2:", "v4l2:/dev/video0"),
            ("v4l2:?width=3", "v4l2:/dev/video0"),
            ("v4l2:/dev/video0?width=0", "option width=0: expected 1 to 32768"),
            ("v4l2:/dev/video0?height=-1", "option height=-1"),
            ("v4l2:/dev/video0?height=99999999999", "1 to 32768"),
            ("v4l2:/dev/video0?fps=29.97", "option fps=29.97: expected a whole number"),
            ("v4l2:/dev/video0?format=h264", "option format=h264: expected yuyv, mjpeg, nv12, grey or rgb"),
            ("v4l2:/dev/video0?speed=3", "unknown option `speed`; valid here: width, height, fps, format, exposure"),
            ("v4l2:/dev/video0?exposure=1.5", "option exposure=1.5: expected a whole number of 100 µs, or auto"),
            ("v4l2:/dev/video0?contrast=auto", "option contrast=auto: expected a whole number"),
            ("v4l2:/dev/video0?power_line=55", "option power_line=55: expected 50, 60, auto or off"),
            ("v4l2:/dev/video0?ctrl.=5", "option ctrl.NAME=5: expected the name of a control"),
        ] {
            let message = parse(uri).unwrap_err().to_string();
            assert!(message.contains(word), "{uri}: {message}");
        }
    }
}
