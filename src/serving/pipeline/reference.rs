//! A client's `video_reference` made a source: a camera of this machine, the demo scene, files from the directories that
//! the configuration names, or a stream from a host that it names. Everything else is refused, by its kind.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::Error;
use super::fields::Fields;
use crate::config::SOURCES_MAX;
use crate::frame::Orientation;
use crate::source::{self, FileSource, Source, VideoSource};

/// Kinds of streams that can be read.
const STREAMS: &[&str] = &["rtsp", "http", "https"];
/// Where cameras are.
const DEVICES: &str = "/dev/";

/// What a client may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A `v4l2:` URI, and the device in it.
    Camera { uri: String, device: PathBuf },
    /// A `demo:` URI.
    Demo(String),
    /// A `file:` URI.
    Files(String),
    /// A URL.
    Stream(String),
}

/// Where a client may have a pipeline read from besides cameras.
#[derive(Clone, Copy, Debug)]
pub struct Allowed<'a> {
    /// Directories with files.
    pub dirs: &'a [PathBuf],
    /// Hosts with streams, as [`crate::config::ServingConfig::streams`] has them.
    pub streams: &'a [String],
}

impl Reference {
    /// Of `video_configuration`: one, or a list of up to [`SOURCES_MAX`].
    ///
    /// # Errors
    /// None or too many, or one of a kind that cannot be read here.
    pub fn read(video: &Fields<'_>) -> Result<Vec<Self>, Error> {
        let given = video.need("video_reference")?;
        let references = given.as_array().map_or(std::slice::from_ref(given), Vec::as_slice);
        if !(1..=SOURCES_MAX).contains(&references.len()) {
            let count = references.len();
            return Err(Error::Invalid(format!("video_reference: {count} sources; a pipeline has 1 to {SOURCES_MAX}")));
        }
        references.iter().map(|reference| Self::of_value(reference, video)).collect()
    }

    fn of_value(reference: &Value, video: &Fields<'_>) -> Result<Self, Error> {
        match reference {
            Value::Number(number) => match number.as_u64() {
                Some(number) => Self::camera(&format!("{DEVICES}video{number}"), video),
                None => Err(Error::Invalid(format!("video_reference: there is no camera {number}"))),
            },
            Value::String(text) => Self::of_text(text, video),
            _ => Err(video.fault("video_reference", "string_type", "Input should be a valid string, integer or list")),
        }
    }

    fn of_text(text: &str, video: &Fields<'_>) -> Result<Self, Error> {
        if let Some((kind, _)) = text.split_once("://") {
            if STREAMS.contains(&kind) {
                return Ok(Self::Stream(text.into()));
            }
            return Err(Error::NotYet(format!(
                "video_reference: streams of {kind}:// cannot be read here; rtsp://, http:// and https://, cameras, demo: and \
                 files can"
            )));
        }
        if text.starts_with("demo:") {
            if text.contains("stall_after") {
                return Err(Error::Invalid("video_reference: the option stall_after is for the command line".into()));
            }
            return Ok(Self::Demo(text.into()));
        }
        let device = text.strip_prefix("v4l2:").unwrap_or(text);
        if device.starts_with(DEVICES) || text.starts_with("v4l2:") {
            return Self::camera(device, video);
        }
        let name = text.strip_prefix("file:").unwrap_or(text);
        if name.is_empty() {
            return Err(Error::Invalid("video_reference is empty".into()));
        }
        Ok(Self::Files(format!("file:{name}")))
    }

    /// `device` may have options of ours; what `video_source_properties` says of size and rate is added to them.
    fn camera(device: &str, video: &Fields<'_>) -> Result<Self, Error> {
        let (path, options) = device.split_once('?').unwrap_or((device, ""));
        let named = path.strip_prefix(DEVICES).is_some_and(|rest| {
            let by_name = rest.strip_prefix("v4l/by-id/").or_else(|| rest.strip_prefix("v4l/by-path/"));
            let number = rest.strip_prefix("video");
            by_name.is_some_and(|name| !name.is_empty() && !name.contains('/') && !name.starts_with('.'))
                || number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        });
        if !named {
            return Err(Error::Invalid(format!("video_reference {path}: no camera; one is named like /dev/video0")));
        }
        let mut options: Vec<String> = options.split('&').filter(|option| !option.is_empty()).map(Into::into).collect();
        if let Some(properties) = video.object("video_source_properties")? {
            for (name, option) in [("frame_width", "width"), ("frame_height", "height"), ("fps", "fps")] {
                if let Some(value) = properties.number(name)? {
                    options.push(format!("{option}={value}"));
                }
            }
            let strange =
                properties.map().keys().find(|name| !["frame_width", "frame_height", "fps"].contains(&name.as_str()));
            if let Some(name) = strange {
                return Err(Error::NotYet(format!(
                    "video_source_properties: {name} cannot be set here; frame_width, frame_height and fps can"
                )));
            }
        }
        let query = if options.is_empty() { String::new() } else { format!("?{}", options.join("&")) };
        Ok(Self::Camera { uri: format!("v4l2:{path}{query}"), device: path.into() })
    }

    /// As the client named it, for people; a password is left out.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Camera { device, .. } => device.display().to_string(),
            Self::Demo(uri) => uri.clone(),
            Self::Files(uri) => uri.strip_prefix("file:").unwrap_or(uri).into(),
            Self::Stream(url) => source::shown(url),
        }
    }

    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self, Self::Files(_))
    }

    /// Opens it. Files must lie in one of the directories wherever links lead.
    ///
    /// # Errors
    /// There is nothing there, or it may not be read.
    pub fn open(&self, allowed: Allowed<'_>, orientation: Orientation) -> Result<Box<dyn Source>, Error> {
        let dirs = allowed.dirs;
        match self {
            Self::Stream(url) if !stream_is_allowed(url, allowed.streams) => Err(Error::Invalid(format!(
                "video_reference: streams are read only from the hosts of serving.streams; {}",
                listed(allowed.streams)
            ))),
            Self::Stream(url) => Ok(source::open(url, orientation)?),
            Self::Camera { device, .. } if !device.exists() => Err(Error::Invalid(format!(
                "video_reference: there is no camera {}; is it plugged in?",
                device.display()
            ))),
            Self::Camera { uri, .. } | Self::Demo(uri) => Ok(source::open(uri, orientation)?),
            Self::Files(uri) => {
                let name = uri.strip_prefix("file:").unwrap_or(uri);
                // The directories decide before anything else is said: who may not look must not learn what is there.
                let path = Path::new(name.split_once('?').map_or(name, |(path, _)| path));
                confine(path, dirs)?;
                if path.is_file() && source::is_video(path) {
                    let own = path.canonicalize().ok().filter(|own| dirs_hold(dirs, own));
                    let own = own.ok_or_else(|| outside(&path.to_string_lossy(), dirs))?;
                    return Ok(Box::new(VideoSource::open(uri, &own)?));
                }
                let files = FileSource::open(uri, orientation)?;
                let files = files
                    .resolved(|path| dirs_hold(dirs, path))
                    .map_err(|path| outside(&path.to_string_lossy(), dirs))?;
                Ok(Box::new(files))
            }
        }
    }
}

/// That what a path or pattern names can only lie in one of the directories.
fn confine(path: &Path, dirs: &[PathBuf]) -> Result<(), Error> {
    let climbs = path.components().any(|part| part == Component::ParentDir);
    let is_pattern = |part: &Path| part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    let fixed = path.ancestors().filter(|part| !is_pattern(part) || part.exists());
    // What is there of it, with its links followed: the part that is not there yet cannot lead elsewhere.
    let there = fixed.filter(|part| part.is_absolute()).find_map(|part| part.canonicalize().ok());
    match there {
        Some(there) if !climbs && dirs_hold(dirs, &there) => Ok(()),
        _ => Err(outside(&path.to_string_lossy(), dirs)),
    }
}

/// Whether one of `streams` has the kind and the host of a URL, with its port if it names one; who speaks to it, and on
/// which path, is the client's affair.
fn stream_is_allowed(url: &str, streams: &[String]) -> bool {
    let Some((kind, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    !host.is_empty()
        && streams.iter().filter_map(|stream| stream.split_once("://")).any(|(allowed_kind, allowed)| {
            let same_host = allowed == "*" || allowed.eq_ignore_ascii_case(host);
            let same_without_port = || {
                host.rsplit_once(':')
                    .is_some_and(|(name, _)| !allowed.contains(':') && allowed.eq_ignore_ascii_case(name))
            };
            allowed_kind == kind && (same_host || same_without_port())
        })
}

fn listed(allowed: &[String]) -> String {
    if allowed.is_empty() { "none is set".into() } else { format!("it has {}", allowed.join(", ")) }
}

fn dirs_hold(dirs: &[PathBuf], path: &Path) -> bool {
    dirs.iter().any(|dir| dir.canonicalize().is_ok_and(|dir| path.starts_with(dir)))
}

fn outside(name: &str, dirs: &[PathBuf]) -> Error {
    let allowed = listed(&dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>());
    Error::Invalid(format!(
        "video_reference {name}: files are read only from the directories of serving.images.dirs by their whole path; {allowed}"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(reference: Value) -> Result<Reference, Error> {
        read_with(reference, json!(null))
    }

    fn read_with(reference: Value, properties: Value) -> Result<Reference, Error> {
        let mut references = read_all(reference, properties)?;
        assert_eq!(references.len(), 1);
        Ok(references.remove(0))
    }

    fn read_all(reference: Value, properties: Value) -> Result<Vec<Reference>, Error> {
        let video = json!({"video_reference": reference, "video_source_properties": properties});
        Reference::read(&Fields::of_body(&video).unwrap())
    }

    fn camera(uri: &str) -> Reference {
        let device = uri.split_once('?').map_or(uri, |(base, _)| base).trim_start_matches("v4l2:").into();
        Reference::Camera { uri: uri.into(), device }
    }

    #[test]
    fn cameras_files_and_the_demo_are_told_apart() {
        assert_eq!(read(json!(2)).unwrap(), camera("v4l2:/dev/video2"));
        assert_eq!(read(json!(["/dev/video0"])).unwrap(), camera("v4l2:/dev/video0"));
        assert_eq!(read(json!("v4l2:/dev/video0?width=640")).unwrap(), camera("v4l2:/dev/video0?width=640"));
        assert_eq!(read(json!("/dev/v4l/by-id/usb-cam")).unwrap(), camera("v4l2:/dev/v4l/by-id/usb-cam"));
        let sized = read_with(json!(0), json!({"frame_width": 640, "fps": 25.0})).unwrap();
        assert_eq!(sized, camera("v4l2:/dev/video0?width=640&fps=25"));
        assert_eq!(read(json!("demo:?fps=0")).unwrap(), Reference::Demo("demo:?fps=0".into()));
        assert_eq!(read(json!("/data/*.jpg")).unwrap(), Reference::Files("file:/data/*.jpg".into()));
        assert_eq!(read(json!("file:/data?loop=true")).unwrap().name(), "/data?loop=true");
        let two = read_all(json!([1, "demo:"]), json!(null)).unwrap();
        assert_eq!(two, [camera("v4l2:/dev/video1"), Reference::Demo("demo:".into())]);
        assert!(!read(json!("rtsp://me:secret@camera/")).unwrap().name().contains("secret"));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_its_kind() {
        for (reference, word) in [(json!("rtmp://camera/1"), "rtmp://"), (json!("srt://10.0.0.1:9000"), "srt://")] {
            let error = read(reference).unwrap_err();
            assert!(matches!(&error, Error::NotYet(said) if said.contains(word)), "{error}");
        }
        for reference in [
            json!("/dev/sda"),
            json!("v4l2:/etc/passwd"),
            json!("/dev/video0/../sda"),
            json!("/dev/v4l/by-id/../../sda"),
            json!("/dev/video"),
            json!(-1),
            json!(1.5),
            json!(""),
            json!("demo:?stall_after=1"),
            json!([0, "/dev/sda"]),
            json!([]),
            json!(vec![0; SOURCES_MAX + 1]),
        ] {
            assert!(matches!(read(reference.clone()), Err(Error::Invalid(_))), "{reference}");
        }
        assert!(matches!(read(json!(true)), Err(Error::Field { .. })));
        assert!(matches!(read(json!([[0]])), Err(Error::Field { .. })));
        let property = read_with(json!(0), json!({"gain": 3})).unwrap_err();
        assert!(property.to_string().contains("gain"), "{property}");
    }

    #[test]
    fn files_are_read_only_from_the_named_directories() {
        let root = tempfile::tempdir().unwrap();
        let (inside, outside) = (root.path().join("inside"), root.path().join("outside"));
        for dir in [&inside, &outside] {
            std::fs::create_dir(dir).unwrap();
            std::fs::write(dir.join("a.png"), b"not judged here").unwrap();
        }
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.join("a.png"), inside.join("b.png")).unwrap();
        let dirs = [inside.clone()];
        let open = |dirs: &[PathBuf], name: String| {
            let allowed = Allowed { dirs, streams: &[] };
            Reference::Files(format!("file:{name}"))
                .open(allowed, Orientation::Apply)
                .map(|source| source.facts().frames)
        };
        assert_eq!(open(&dirs, format!("{}/a.png", inside.display())).unwrap(), Some(1));
        assert_eq!(open(&dirs, format!("{}/a*.png", inside.display())).unwrap(), Some(1));
        let refused = |dirs: &[PathBuf], name: String| {
            let error = open(dirs, name.clone()).unwrap_err();
            assert!(matches!(&error, Error::Invalid(said) if said.contains("serving.images.dirs")), "{name}: {error}");
        };
        for name in [
            outside.join("a.png").display().to_string(),
            outside.join("nothing.png").display().to_string(),
            outside.join("*.png").display().to_string(),
            inside.join("../outside/a.png").display().to_string(),
            inside.join("link/a.png").display().to_string(),
            inside.join("link/nothing.png").display().to_string(),
            inside.join("l*/a.png").display().to_string(),
            inside.join("b.png").display().to_string(),
            inside.display().to_string(),
            "inside/a.png".into(),
            "/".into(),
        ] {
            refused(&dirs, name);
        }
        refused(&[], format!("{}/a.png", inside.display()));
        let missing = open(&dirs, format!("{}/nothing.png", inside.display())).unwrap_err();
        assert!(missing.to_string().contains("no such file"), "{missing}");
    }

    #[test]
    fn streams_are_read_only_from_the_named_hosts() {
        let allowed = |url: &str, streams: &[&str]| {
            stream_is_allowed(url, &streams.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert!(allowed("rtsp://camera.local/main", &["http://other", "rtsp://camera.local"]));
        assert!(allowed("rtsp://user:word@Camera.local:8554/main?x=1", &["rtsp://camera.local"]));
        assert!(allowed("http://10.0.0.7:8080", &["http://10.0.0.7:8080"]));
        assert!(allowed("rtsp://anything/", &["rtsp://*"]));
        for (url, stream) in [
            ("rtsp://camera.local/", "http://camera.local"),
            ("rtsp://camera.local.evil.org/", "rtsp://camera.local"),
            ("rtsp://evil.org/rtsp://camera.local", "rtsp://camera.local"),
            ("rtsp://camera.local@evil.org/", "rtsp://camera.local"),
            ("rtsp://evil.org\\@camera.local/", "rtsp://camera.local"),
            ("rtsp://evil.org#@camera.local/", "rtsp://camera.local"),
            ("http://10.0.0.7:9090", "http://10.0.0.7:8080"),
            ("rtsp://", "rtsp://*"),
        ] {
            assert!(!allowed(url, &[stream]), "{url} by {stream}");
        }
        let Err(error) =
            Reference::Stream("rtsp://a/".into()).open(Allowed { dirs: &[], streams: &[] }, Orientation::Apply)
        else {
            panic!("opened")
        };
        assert!(error.to_string().contains("serving.streams"), "{error}");
    }
}
