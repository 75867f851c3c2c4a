//! `stdin:?format=…` taken apart.

use super::cutter::Cutter;
use crate::frame::{Limits, Orientation, RawFormat, RawLayout, Size};
use crate::source::{Error, options};

const FORMATS: &str = "mjpeg, h264, y4m, rgb, yuyv, nv12, i420 or grey";
/// Longest side that can be asked for, as of the other sources.
const SIDE_MAX: usize = 32_768;

/// How the bytes become pictures, and whether the newest counts.
///
/// # Errors
/// An option is missing, unknown or out of range.
pub fn parse(uri: &str, orientation: Orientation) -> Result<(Cutter, bool), Error> {
    let (base, pairs) = options(uri);
    let open = |why: String| Error::Open { uri: uri.into(), why };
    if base != "stdin:" {
        return Err(open("takes options only; for instance stdin:?format=mjpeg".into()));
    }
    let (mut format, mut live, mut sides) = (None, false, [None, None]);
    for (option, value) in pairs {
        let fail = |option, expected| Error::Option { uri: uri.into(), option, found: value.into(), expected };
        let side = |option| {
            let parsed = value.parse().ok().filter(|side| (1..=SIDE_MAX).contains(side));
            parsed.map(Some).ok_or_else(|| fail(option, "1 to 32768 pixels"))
        };
        match (option, value) {
            ("format", "mjpeg" | "h264" | "y4m" | "rgb" | "yuyv" | "nv12" | "i420" | "grey") => format = Some(value),
            ("format", _) => return Err(fail("format", FORMATS)),
            ("live", "true" | "1" | "") => live = true,
            ("live", "false" | "0") => live = false,
            ("live", _) => return Err(fail("live", "true or false")),
            ("width", _) => sides[0] = side("width")?,
            ("height", _) => sides[1] = side("height")?,
            _ => {
                let valid = "format, width, height, live";
                return Err(Error::UnknownOption { uri: uri.into(), option: option.into(), valid });
            }
        }
    }
    let format = format.ok_or_else(|| open(format!("names no format; expected ?format= {FORMATS}")))?;
    let tells_size = matches!(format, "mjpeg" | "h264" | "y4m");
    let size = match sides {
        [None, None] if tells_size => Size::new(0, 0),
        [Some(width), Some(height)] if !tells_size => Size::new(width, height),
        _ if tells_size => return Err(open(format!("{format} tells its size itself; leave out width and height"))),
        _ => return Err(open(format!("{format} does not tell its size; expected &width=W&height=H"))),
    };
    let raw = |format| {
        RawLayout::new(format, size, 0, Limits::default()).map(Cutter::raw).map_err(|cause| open(cause.to_string()))
    };
    let cutter = match format {
        "mjpeg" => Cutter::mjpeg(orientation),
        "h264" => Cutter::h264(live),
        "y4m" => Cutter::y4m(),
        "rgb" => raw(RawFormat::Rgb)?,
        "yuyv" => raw(RawFormat::Yuyv)?,
        "nv12" => raw(RawFormat::Nv12)?,
        "grey" => raw(RawFormat::Grey)?,
        _ => Cutter::i420(size, Limits::default()).map_err(|cause| open(cause.to_string()))?,
    };
    Ok((cutter, live))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_with_what_is_right() {
        for (uri, word) in [
            ("stdin:", "names no format; expected ?format= mjpeg"),
            ("stdin:cam?format=mjpeg", "takes options only"),
            ("stdin:?format=vp9", "option format=vp9: expected mjpeg, h264"),
            ("stdin:?format=mjpeg&width=3&height=3", "leave out width and height"),
            ("stdin:?format=rgb&width=3", "expected &width=W&height=H"),
            ("stdin:?format=rgb&width=0&height=3", "1 to 32768"),
            ("stdin:?format=nv12&width=3&height=2", "even sides"),
            ("stdin:?format=rgb&width=32768&height=32768", "too large"),
            ("stdin:?format=i420&width=32768&height=32768", "too large"),
            ("stdin:?format=mjpeg&live=maybe", "true or false"),
            ("stdin:?format=mjpeg&fps=3", "unknown option `fps`; valid here: format, width, height, live"),
        ] {
            let message = parse(uri, Orientation::Apply).err().unwrap().to_string();
            assert!(message.contains(word), "{uri}: {message}");
        }
        for format in ["rgb", "yuyv", "nv12", "i420", "grey"] {
            parse(&format!("stdin:?format={format}&width=4&height=2"), Orientation::Apply).unwrap();
        }
        assert!(parse("stdin:?format=h264&live=true", Orientation::Apply).unwrap().1);
    }
}
