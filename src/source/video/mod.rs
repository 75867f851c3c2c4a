//! `file:` a video: MP4, MOV, AVI, Y4M, `.h264` or `.mjpeg`, from its first picture to its last.
//!
//! Every picture comes once, in the order of presentation. `?loop=true` starts again at the end; `?realtime=true` shows
//! pictures when their times say, as a camera would. One file a container; the decoders are behind `decoder.rs`.

mod avi;
mod container;
mod decoder;
mod file;
mod kind;
mod mp4;
mod pace;
mod raw;
pub mod y4m;

use std::path::{Path, PathBuf};
use std::time::Instant;

use self::container::{Container, Track};
use self::decoder::{Decoder, Ready};
use self::file::VideoFile;
use self::kind::Kind;
use self::pace::Pace;
use super::codec;
use super::{Error, Facts, Next, Source, flag, options};
use crate::frame::{self, Frame, Size, turn};

/// Packets that are looked at before the caller is asked whether to go on: those without a picture may be many, where a
/// damaged stream is passed over.
const PACKETS_MAX: usize = 64;

/// What an error about a video ends with.
const CONVERT: &str = "expected H.264 or JPEG in MP4, MOV or AVI, Y4M, .h264 or .mjpeg; convert it with \
                       `ffmpeg -i IN -c:v libx264 -pix_fmt yuv420p OUT.mp4`";

/// Why the next picture cannot be had.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Container(String),
    #[error(transparent)]
    Codec(#[from] codec::Error),
}

/// The pictures of a video file.
#[derive(Debug)]
pub struct VideoSource {
    uri: String,
    path: PathBuf,
    container: Box<dyn Container>,
    track: Track,
    decoder: Decoder,
    repeat: bool,
    pace: Option<Pace>,
    packet: Vec<u8>,
    /// The picture that is next, and its time.
    next: Option<(i64, Ready)>,
    /// What was wrong with the first packet, which was looked at when the file was opened.
    trouble: Option<Trouble>,
    /// The packets have ended, and the decoder knows.
    flushed: bool,
    /// Pictures of this pass through the file: a film without any is not looped.
    shown: u64,
    frames: u64,
    /// As stored, where the picture must be turned.
    stored: Frame,
}

/// Whether a file is a video, readable here or not.
#[must_use]
pub fn is_video(path: &Path) -> bool {
    kind::detect(path).is_some()
}

impl VideoSource {
    /// Opens `path`, which `uri` names with `?loop=true` and `?realtime=true` or not.
    ///
    /// # Errors
    /// An option is unknown, or the file is no video that is decoded.
    pub fn open(uri: &str, path: &Path) -> Result<Self, Error> {
        let (mut repeat, mut realtime) = (false, false);
        // A file whose name has a question mark has no options.
        let pairs = (!uri.ends_with(&*path.to_string_lossy())).then(|| options(uri).1);
        for (option, value) in pairs.into_iter().flatten() {
            match option {
                "loop" => repeat = flag(uri, "loop", value)?,
                "realtime" => realtime = flag(uri, "realtime", value)?,
                _ => {
                    let valid = "loop, realtime";
                    return Err(Error::UnknownOption { uri: uri.into(), option: option.into(), valid });
                }
            }
        }
        let refused = |why| Error::Open { uri: uri.into(), why };
        let (container, track) = open_container(path).map_err(refused)?;
        let decoder = Decoder::new(&track.codec).map_err(|error| refused(error.to_string()))?;
        let mut source = Self {
            uri: uri.into(),
            path: path.into(),
            container,
            pace: realtime.then(|| Pace::new(track.ticks_per_second)),
            track,
            decoder,
            repeat,
            packet: Vec::new(),
            next: None,
            trouble: None,
            flushed: false,
            shown: 0,
            frames: 0,
            stored: Frame::empty(),
        };
        // Some streams say only in their first packet what they are.
        source.trouble = source.advance().err();
        match source.trouble {
            Some(Trouble::Codec(error @ codec::Error::Unsupported { .. })) => Err(refused(error.to_string())),
            _ => Ok(source),
        }
    }

    /// Finds the next picture; `false` at the end of the file.
    fn advance(&mut self) -> Result<bool, Trouble> {
        if let Some(trouble) = self.trouble.take() {
            return Err(trouble);
        }
        if let Some(picture) = self.decoder.picture() {
            self.next = Some((picture.stamp, Ready::Decoded(picture)));
        } else if self.flushed {
            return Ok(false);
        } else if let Some(time) = self.next_packet()? {
            let ready = self.decoder.decode(&self.packet, time)?;
            self.next = ready.map(|ready| (time, ready));
        } else {
            self.flushed = true;
            self.decoder.flush()?;
        }
        // What an edit list cuts off was decoded, as later pictures may refer to it.
        self.next.take_if(|(time, _)| !self.track.shown.contains(time));
        Ok(true)
    }

    /// Reads the next packet and returns its time.
    fn next_packet(&mut self) -> Result<Option<i64>, Trouble> {
        self.container.next(&mut self.packet).map_err(|why| {
            self.decoder.lost();
            Trouble::Container(why)
        })
    }

    fn rewind(&mut self) {
        self.container.rewind();
        (self.flushed, self.shown) = (false, 0);
        if let Some(pace) = &mut self.pace {
            pace.restart();
        }
    }

    /// Fills `frame` with the next picture.
    fn show(&mut self, ready: &Ready, frame: &mut Frame) -> Result<(), frame::Error> {
        if self.track.turn == 1 {
            return self.decoder.show(ready, &self.packet, frame);
        }
        self.decoder.show(ready, &self.packet, &mut self.stored)?;
        turn(&self.stored, self.track.turn, frame)
    }
}

impl Source for VideoSource {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn live(&self) -> bool {
        self.pace.is_some()
    }

    fn facts(&self) -> Facts {
        let frames = self.track.frames.filter(|_| !self.repeat);
        let size =
            self.track.size.map(|size| if self.track.turn >= 5 { Size::new(size.height, size.width) } else { size });
        Facts { fps: self.track.fps, frames, size }
    }

    fn next(&mut self, frame: &mut Frame, origin: &mut String) -> Result<Next, Error> {
        if self.frames == 0 || origin.is_empty() {
            origin.clear();
            origin.push_str(&self.path.to_string_lossy());
        }
        for _ in 0..PACKETS_MAX {
            if let Some((time, ready)) = self.next.take() {
                if self.pace.as_mut().is_some_and(|pace| !pace.wait(time)) {
                    self.next = Some((time, ready));
                    return Ok(Next::Nothing);
                }
                frame.id = self.frames;
                self.frames += 1;
                self.show(&ready, frame).map_err(|cause| Error::Frame { path: self.path.clone(), cause })?;
                self.shown += 1;
                frame.captured_at = Instant::now();
                return Ok(Next::Frame);
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) if self.repeat && self.shown > 0 => self.rewind(),
                Ok(false) => return Ok(Next::End),
                Err(trouble) => {
                    frame.id = self.frames;
                    self.frames += 1;
                    let (format, why) = (self.track.codec.name(), trouble.to_string());
                    let cause = frame::Error::Damaged { format, why };
                    return Err(Error::Frame { path: self.path.clone(), cause });
                }
            }
        }
        Ok(Next::Nothing)
    }
}

fn open_container(path: &Path) -> Result<(Box<dyn Container>, Track), String> {
    let file = VideoFile::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    fn boxed<C: Container + 'static>((container, track): (C, Track)) -> (Box<dyn Container>, Track) {
        (Box::new(container), track)
    }
    match kind::detect(path) {
        Some(Kind::Mp4) => mp4::Mp4::open(file).map(boxed),
        Some(Kind::Avi) => avi::Avi::open(file).map(boxed),
        Some(Kind::Y4m) => y4m::Y4m::open(file).map(boxed),
        Some(Kind::H264) => Ok(boxed(raw::Raw::h264(file))),
        Some(Kind::Mjpeg) => Ok(boxed(raw::Raw::mjpeg(file))),
        Some(Kind::Other(name)) => Err(name.into()),
        None => Err("no video".into()),
    }
    .map_err(|why| format!("{why}: {CONVERT}"))
}
