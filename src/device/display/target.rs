//! Where the screen is: `fb:/dev/fb0`, `drm:/dev/dri/card0`, `png:FILE` or `off`, with options behind a `?`.

use std::path::PathBuf;

use super::Error;
use super::pixels::Rotation;
use crate::error::did_you_mean;
use crate::frame::Size;

const KINDS: [&str; 4] = ["fb", "drm", "png", "off"];
/// Of a `png:` without a size: a small panel's, and small to look at.
const PNG_SIZE: Size = Size { width: 640, height: 400 };
/// Smallest and longest side: below, nothing can be read; above, no screen is.
const SIDES: std::ops::RangeInclusive<usize> = 160..=8192;

/// A display that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As it was written.
    pub name: String,
    pub kind: Kind,
    pub rotation: Rotation,
}

/// What kind of display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Framebuffer {
        device: PathBuf,
    },
    Drm {
        device: PathBuf,
        /// Such as `HDMI-A-1`; absent: the first that something is plugged into.
        connector: Option<String>,
        /// Absent: the one that the screen prefers.
        mode: Option<Size>,
    },
    Png {
        path: PathBuf,
        size: Size,
    },
}

/// The display that a setting names; `None` for `off`.
///
/// # Errors
/// Another kind, no path, an unknown option, or a value that is none.
pub fn parse(name: &str) -> Result<Option<Target>, Error> {
    if name == "off" {
        return Ok(None);
    }
    let fault = |why: String| Error::Target { name: name.into(), why };
    let (base, query) = name.split_once('?').unwrap_or((name, ""));
    let (word, path) = base.split_once(':').unwrap_or((base, ""));
    let mut kind = match word {
        "fb" => Kind::Framebuffer { device: path.into() },
        "drm" => Kind::Drm { device: path.into(), connector: None, mode: None },
        "png" => Kind::Png { path: path.into(), size: PNG_SIZE },
        _ => {
            let near = did_you_mean(word, KINDS);
            return Err(fault(format!("unknown kind; expected fb:DEVICE, drm:DEVICE, png:FILE or off{near}")));
        }
    };
    if path.is_empty() {
        return Err(fault("names no device or file; for instance fb:/dev/fb0, drm:/dev/dri/card0".into()));
    }
    let mut rotation = Rotation::None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (option, value) = pair.split_once('=').unwrap_or((pair, ""));
        let wrong = |expected: &str| fault(format!("option {option}={value}: expected {expected}"));
        let pixels = || size(value).ok_or_else(|| wrong("WIDTHxHEIGHT, sides of 160 to 8192 pixels"));
        match (option, &mut kind) {
            ("rotate", _) => rotation = Rotation::of(value).ok_or_else(|| wrong("0, 90, 180 or 270 degrees"))?,
            ("connector", Kind::Drm { connector, .. }) if !value.is_empty() => *connector = Some(value.into()),
            ("connector", Kind::Drm { .. }) => return Err(wrong("a connector such as HDMI-A-1")),
            ("mode", Kind::Drm { mode, .. }) => *mode = Some(pixels()?),
            ("size", Kind::Png { size, .. }) => *size = pixels()?,
            (_, kind) => {
                let valid = match kind {
                    Kind::Framebuffer { .. } => "rotate",
                    Kind::Drm { .. } => "connector, mode, rotate",
                    Kind::Png { .. } => "size, rotate",
                };
                return Err(fault(format!("unknown option `{option}`; valid here: {valid}")));
            }
        }
    }
    Ok(Some(Target { name: name.into(), kind, rotation }))
}

/// Of `1280x720`.
fn size(text: &str) -> Option<Size> {
    let (width, height) = text.split_once('x')?;
    let side = |side: &str| side.parse().ok().filter(|side| SIDES.contains(side));
    Some(Size::new(side(width)?, side(height)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_with_its_options() {
        let target = |name| parse(name).unwrap().unwrap();
        assert_eq!(parse("off").unwrap(), None);
        assert_eq!(target("fb:/dev/fb0").kind, Kind::Framebuffer { device: "/dev/fb0".into() });
        let found = target("drm:/dev/dri/card1?connector=HDMI-A-1&mode=1280x720&rotate=270");
        let (connector, mode) = (Some("HDMI-A-1".into()), Some(Size::new(1280, 720)));
        assert_eq!(found.kind, Kind::Drm { device: "/dev/dri/card1".into(), connector, mode });
        assert_eq!(found.rotation, Rotation::ThreeQuarters);
        let found = target("png:/tmp/screen.png");
        assert_eq!(found.kind, Kind::Png { path: "/tmp/screen.png".into(), size: PNG_SIZE });
        assert_eq!(found.rotation, Rotation::None);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_right() {
        for (name, word) in [
            ("", "expected fb:DEVICE, drm:DEVICE, png:FILE or off"),
            ("hdmi", "unknown kind"),
            ("drn:/dev/dri/card0", "did you mean `drm`?"),
            ("/dev/fb0", "expected fb:DEVICE"),
            ("fb:", "names no device"),
            ("fb", "names no device"),
            ("fb:/dev/fb0?rotate=45", "option rotate=45: expected 0, 90, 180 or 270"),
            ("fb:/dev/fb0?mode=640x480", "unknown option `mode`; valid here: rotate"),
            ("drm:/dev/dri/card0?mode=1080p", "option mode=1080p: expected WIDTHxHEIGHT"),
            ("drm:/dev/dri/card0?connector=", "HDMI-A-1"),
            ("png:x.png?size=0x9", "160 to 8192"),
            ("png:x.png?fps=1", "unknown option `fps`; valid here: size, rotate"),
        ] {
            let message = parse(name).unwrap_err().to_string();
            assert!(message.contains(word) && message.contains("display"), "{name}: {message}");
        }
    }
}
