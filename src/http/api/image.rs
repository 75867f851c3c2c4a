//! An image as a client gives it, made a frame: base64 in the request, or a file below a directory that the configuration
//! names. Nothing is fetched from elsewhere, and nothing a client sends is run or unpickled.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::fault::Fault;
use super::fields::Image;
use super::json::Json;
use crate::frame::{self, Frame, Limits, Orientation};

/// Padding may be there or not; some clients cut it off.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
/// Longest beginning of a text that is looked at for `data:image/…;base64,`.
const DATA_PREFIX_MAX: usize = 100;
/// What Roboflow's server says of a text that is no image, whatever is wrong with it.
const MALFORMED: &str = "Malformed base64 input image.";

/// Reads images; the buffers stay from request to request.
#[derive(Debug)]
pub(super) struct Reader<'d> {
    /// Directories whose files may be named.
    pub dirs: &'d [PathBuf],
    pub orientation: Orientation,
}

impl Reader<'_> {
    /// The pixels of an image; `encoded` is a buffer for its bytes.
    pub(super) fn read(&self, image: &Image<'_>, encoded: &mut Vec<u8>, frame: &mut Frame) -> Result<(), Fault> {
        match image.kind.to_ascii_lowercase().as_str() {
            "base64" => match &image.value {
                Json::Text(text) => self.base64(text.as_bytes(), encoded, frame),
                _ => Err(Fault::image(MALFORMED, Some("expected a string as `value`".into()))),
            },
            "file" => match &image.value {
                Json::Text(path) => self.file(Path::new(&**path), encoded, frame),
                _ => Err(Fault::image("expected a path as `value` of an image of type `file`.", None)),
            },
            "url" => Err(no_url()),
            "numpy" | "numpy_object" => Err(no_numpy()),
            "pil" => Err(Fault::image("PIL images cannot be sent over HTTP; send them as `base64`.", None)),
            "multipart" => {
                let why = "A multipart image is a part named `file` of a POST to /{project}/{version}.";
                Err(Fault::image(why, None))
            }
            _ => Err(Fault::image("Image declaration contains not recognised image type.", None)),
        }
    }

    /// An image in base64, with or without the prefix of a data URL.
    pub(super) fn base64(&self, text: &[u8], encoded: &mut Vec<u8>, frame: &mut Frame) -> Result<(), Fault> {
        let malformed = |why: String| Fault::image(MALFORMED, Some(why));
        decode_base64(text, encoded).map_err(malformed)?;
        self.decode(encoded, frame).map_err(|error| malformed(error.to_string()))
    }

    /// An image as it lies in a file.
    pub(super) fn decode(&self, encoded: &[u8], frame: &mut Frame) -> Result<(), frame::Error> {
        frame::decode_into(encoded, self.orientation, Limits::default(), frame)
    }

    fn file(&self, path: &Path, encoded: &mut Vec<u8>, frame: &mut Frame) -> Result<(), Fault> {
        if self.dirs.is_empty() {
            let why = "Loading images from the local filesystem is disabled.";
            let advice = "`serving.images.dirs` in the configuration names directories whose files may be read";
            return Err(Fault::image(why, Some(advice.into())));
        }
        let limit = Limits::default().bytes_max as u64 + 1;
        let file = open_below(self.dirs, path).ok_or_else(|| {
            // The same words for all, so that nobody learns what lies elsewhere.
            Fault::image("There is no such file below a directory of `serving.images.dirs`.", None)
        })?;
        encoded.clear();
        let read = file.take(limit).read_to_end(encoded);
        read.map_err(|error| Fault::image(format_args!("The file cannot be read: {error}"), None))?;
        self.decode(encoded, frame).map_err(|error| Fault::image(error, None))
    }
}

/// Nothing leaves this device to fetch an image, whatever the configuration.
pub(super) fn no_url() -> Fault {
    let why = "Cannot load an image from URL while OFFLINE_MODE is enabled.";
    Fault::image(why, Some("this server fetches nothing; send the image as `base64`".into()))
}

pub(super) fn no_numpy() -> Fault {
    let why = "NumPy image type is not supported in this configuration of `inference`.";
    Fault::image(why, Some("it is a pickle, which can run any code; send the image as `base64`".into()))
}

/// A regular file that lies below one of `dirs` after all links are followed.
fn open_below(dirs: &[PathBuf], path: &Path) -> Option<File> {
    // Each time anew: a data partition may be mounted later than this starts.
    let dirs: Vec<PathBuf> = dirs.iter().filter_map(|dir| dir.canonicalize().ok()).collect();
    let is_below = |path: &Path| dirs.iter().any(|dir| path.starts_with(dir));
    let path = path.canonicalize().ok().filter(|path| is_below(path) && path.is_file())?;
    // Not to wait for a pipe's other end, should the file have become one.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    // What was opened, and not what the path meant a moment ago, is what must lie there.
    let opened = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    (is_below(&opened) && file.metadata().ok()?.is_file()).then_some(file)
}

/// Decodes as Python's `b64decode` does, which passes over what is not of the alphabet.
fn decode_base64(text: &[u8], into: &mut Vec<u8>) -> Result<(), String> {
    let text = without_data_prefix(text).trim_ascii();
    into.clear();
    if BASE64.decode_vec(text, into).is_ok() {
        return Ok(());
    }
    let is_of_it = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let end = text.iter().position(|byte| *byte == b'=').unwrap_or(text.len());
    let kept: Vec<u8> = text[..end].iter().copied().filter(is_of_it).collect();
    into.clear();
    BASE64.decode_vec(kept, into).map_err(|error| error.to_string())
}

fn without_data_prefix(text: &[u8]) -> &[u8] {
    let Some(rest) = text.trim_ascii_start().strip_prefix(b"data:") else { return text };
    let comma = rest.iter().take(DATA_PREFIX_MAX).position(|byte| *byte == b',');
    comma.filter(|comma| rest[..*comma].ends_with(b";base64")).map_or(text, |comma| &rest[comma + 1..])
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    fn png() -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(5, 3).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn read(dirs: &[PathBuf], kind: &str, value: Json<'_>) -> Result<(usize, usize), String> {
        let reader = Reader { dirs, orientation: Orientation::Apply };
        let mut frame = Frame::empty();
        let image = Image { kind: kind.into(), value };
        match reader.read(&image, &mut Vec::new(), &mut frame) {
            Ok(()) => Ok((frame.width(), frame.height())),
            Err(fault) => {
                let answer = fault.into_answer();
                assert_eq!(answer.status(), 400);
                let body = smol::block_on(http_body_util::BodyExt::collect(answer.into_body())).unwrap().to_bytes();
                let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                let message = body["message"].as_str().unwrap();
                Err(message.strip_prefix("Could not load input image. Cause: ").unwrap().to_owned())
            }
        }
    }

    fn base64(text: &str) -> Result<(usize, usize), String> {
        read(&[], "base64", Json::Text(text.into()))
    }

    #[test]
    fn base64_is_read_as_python_reads_it() {
        let text = BASE64_STANDARD.encode(png());
        let (head, tail) = text.split_at(40);
        for text in [
            text.clone(),
            format!("data:image/png;base64,{text}"),
            format!(" {head}\r\n{tail}\n"),
            format!("{head}\u{e9}-_{tail}"),
            text.trim_end_matches('=').to_owned(),
            format!("{text}=="),
        ] {
            assert_eq!(base64(&text), Ok((5, 3)), "{text}");
        }
        assert_eq!(read(&[], "BASE64", Json::Text(text.into())), Ok((5, 3)));
        for text in ["", "aGVsbG8=", "data:image/png;base64,", "data:,", "====", "x"] {
            assert_eq!(base64(text), Err(MALFORMED.into()), "{text}");
        }
        assert_eq!(read(&[], "base64", Json::Int(7)), Err(MALFORMED.into()));
    }

    #[test]
    fn what_is_not_taken_is_named() {
        for (kind, words) in [
            ("url", "from URL"),
            ("numpy", "NumPy"),
            ("Numpy_Object", "NumPy"),
            ("pil", "PIL"),
            ("multipart", "part named `file`"),
            ("file", "disabled"),
            ("bogus", "not recognised image type"),
        ] {
            let refused = read(&[], kind, Json::Text("x".into())).unwrap_err();
            assert!(refused.contains(words), "{kind}: {refused}");
        }
    }

    #[test]
    fn files_are_read_below_named_directories_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (open, closed) = (root.join("open"), root.join("open-not"));
        for dir in [&open, &closed] {
            std::fs::create_dir(dir).unwrap();
            std::fs::write(dir.join("a.png"), png()).unwrap();
        }
        std::os::unix::fs::symlink(open.join("a.png"), open.join("inside")).unwrap();
        std::os::unix::fs::symlink(closed.join("a.png"), open.join("outside")).unwrap();
        nix::unistd::mkfifo(&open.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(open.join("text"), "text").unwrap();
        let dirs = [open.clone()];
        let file = |path: PathBuf| read(&dirs, "file", Json::Text(path.to_str().unwrap().into()));
        assert_eq!(file(open.join("a.png")), Ok((5, 3)));
        assert_eq!(file(open.join("inside")), Ok((5, 3)));
        for path in [
            closed.join("a.png"),
            open.join("outside"),
            open.join("../open-not/a.png"),
            open.join("pipe"),
            open.clone(),
            open.join("missing"),
            "/dev/zero".into(),
            "".into(),
        ] {
            let refused = file(path.clone()).unwrap_err();
            assert!(refused.starts_with("There is no such file"), "{path:?}: {refused}");
        }
        assert!(file(open.join("text")).unwrap_err().starts_with("unknown image format"));
    }
}
