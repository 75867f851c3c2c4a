//! YUV4MPEG2, what `ffmpeg -f yuv4mpegpipe` writes: a line that says the size, then pictures behind a line each.

use super::cutter::{Fault, Pixels};
use crate::frame::Frame;
use crate::source::video::y4m::parse;

/// Longest line: ffmpeg's have 80 bytes.
const LINE_BYTES_MAX: usize = 1024;

/// A stream on its way to pictures.
#[derive(Default)]
pub struct Stream {
    /// How the pictures lie, once the first line has come.
    pixels: Option<Pixels>,
    buffer: Vec<u8>,
    /// Bytes at the front that are done with.
    done: usize,
}

impl Stream {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.done);
        self.done = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes of a picture that has begun and not ended; they are given up.
    pub fn cut_off(&mut self) -> usize {
        let found = self.buffer.len() - self.done;
        self.done = self.buffer.len();
        found
    }

    pub fn picture(&mut self, frame: &mut Frame) -> Result<bool, Fault> {
        if self.pixels.is_none() {
            let Some(line) = line(&self.buffer[self.done..])? else { return Ok(false) };
            let (size, _) = parse(line).map_err(Fault::Stream)?;
            self.pixels = Some(Pixels::I420(size));
            self.done += line.len() + 1;
        }
        let (Some(pixels), rest) = (self.pixels, &self.buffer[self.done..]) else { return Ok(false) };
        let Some(line) = line(rest)? else { return Ok(false) };
        if !line.starts_with(b"FRAME") {
            return Err(Fault::Stream(format!("Y4M: expected FRAME before a picture, found {}", shown(line))));
        }
        let Some(bytes) = rest.get(line.len() + 1..line.len() + 1 + pixels.bytes()) else { return Ok(false) };
        let read = pixels.read(bytes, frame);
        self.done += line.len() + 1 + bytes.len();
        Ok(read.map(|()| true)?)
    }
}

/// The line at the start of `bytes`, without its end.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, Fault> {
    let head = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    match head.iter().position(|&byte| byte == b'\n') {
        Some(end) => Ok(Some(&head[..end])),
        None if head.len() < LINE_BYTES_MAX => Ok(None),
        None => Err(Fault::Stream(format!("Y4M: a line of more than {LINE_BYTES_MAX} bytes, {}", shown(head)))),
    }
}

/// The first bytes of what should be text.
fn shown(line: &[u8]) -> String {
    format!("`{}`", line[..line.len().min(40)].escape_ascii())
}
