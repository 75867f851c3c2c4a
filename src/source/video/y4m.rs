//! YUV4MPEG2: a line of text, and for each picture another one before its planes.

use super::container::{Codec, Container, Track};
use super::file::VideoFile;
use crate::frame::{Limits, Size};

/// Longest line of the file and of a picture; both are a few words.
const LINE_BYTES_MAX: usize = 1024;
const MAGIC: &[u8] = b"YUV4MPEG2";
const PICTURE: &[u8] = b"FRAME";

/// The pictures of a Y4M file.
#[derive(Debug)]
pub struct Y4m {
    file: VideoFile,
    first: u64,
    position: u64,
    /// Bytes of the planes of a picture.
    picture_bytes: u64,
    pictures: i64,
    line: Vec<u8>,
}

impl Y4m {
    /// # Errors
    /// The first line is damaged, or the samples are not 8-bit 4:2:0.
    pub fn open(file: VideoFile) -> Result<(Self, Track), String> {
        let mut line = Vec::new();
        let first = read_line(&file, 0, &mut line)?;
        let (size, fps) = parse(&line)?;
        let chroma = size.width.div_ceil(2) * size.height.div_ceil(2);
        let picture_bytes = (size.width * size.height + 2 * chroma) as u64;
        let mut track = Track::new(Codec::I420(size), fps.unwrap_or(25.0));
        let with_line = picture_bytes + PICTURE.len() as u64 + 1;
        (track.size, track.fps, track.frames) = (Some(size), fps, Some((file.length() - first) / with_line));
        Ok((Self { file, first, position: first, picture_bytes, pictures: 0, line }, track))
    }
}

impl Container for Y4m {
    fn next(&mut self, bytes: &mut Vec<u8>) -> Result<Option<i64>, String> {
        if self.position >= self.file.length() {
            return Ok(None);
        }
        // There is no way to find the next picture after what is not one.
        let start = std::mem::replace(&mut self.position, u64::MAX);
        let planes = read_line(&self.file, start, &mut self.line)?;
        if !self.line.starts_with(PICTURE) {
            return Err(format!("byte {start}: expected FRAME, found `{}`", self.line.escape_ascii()));
        }
        self.file.read(planes, self.picture_bytes, bytes)?;
        self.position = planes + self.picture_bytes;
        self.pictures += 1;
        Ok(Some(self.pictures - 1))
    }

    fn rewind(&mut self) {
        (self.position, self.pictures) = (self.first, 0);
    }
}

/// Reads the line at a place, without its end, and returns where the next one begins.
fn read_line(file: &VideoFile, start: u64, line: &mut Vec<u8>) -> Result<u64, String> {
    line.clear();
    file.append(start, LINE_BYTES_MAX, line)?;
    let end = line.iter().position(|&byte| byte == b'\n');
    let end = end.ok_or_else(|| format!("byte {start}: no line ends within {} bytes", line.len()))?;
    line.truncate(end);
    Ok(start + end as u64 + 1)
}

/// Size and frames a second of a header line.
pub fn parse(line: &[u8]) -> Result<(Size, Option<f64>), String> {
    let line = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix("YUV4MPEG2 "));
    let line = line.ok_or("the first line is not that of a Y4M file")?;
    let (mut width, mut height, mut fps) = (0, 0, None);
    for word in line.split(' ').filter(|word| !word.is_empty()) {
        let (tag, value) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
        let side = || value.parse().map_err(|_| format!("Y4M with {word}: expected a number of pixels"));
        match tag {
            "W" => width = side()?,
            "H" => height = side()?,
            "F" => {
                let rate = value.split_once(':').and_then(|(n, d)| Some((n.parse().ok()?, d.parse().ok()?)));
                fps = rate
                    .map(|(n, d): (u32, u32)| f64::from(n) / f64::from(d))
                    .filter(|&fps| fps > 0.0 && fps <= 1000.0);
            }
            // 420jpeg, 420mpeg2 and 420paldv differ in where chroma lies, which no conversion here looks at.
            "C" if !matches!(value, "420" | "420jpeg" | "420mpeg2" | "420paldv") => {
                return Err(format!("Y4M with {word}: expected 8-bit 4:2:0 (C420)"));
            }
            _ => {}
        }
    }
    let limit = Limits::default().pixels_max;
    if width == 0 || height == 0 || (width as u64).saturating_mul(height as u64) > limit {
        return Err(format!("Y4M of {width}x{height} pixels: expected at least one and at most {limit}"));
    }
    Ok((Size::new(width, height), fps))
}

/// Whether a file begins so.
pub fn is_magic(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}
