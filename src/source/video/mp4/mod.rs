//! MP4 and MOV: boxes in boxes. One file a concern: walking boxes, reading the movie's, the sample tables, fragments.
//!
//! A file is not trusted: what a table counts is what its bytes hold, and only the tables of one track are kept.

mod boxes;
mod fragments;
mod movie;
mod samples;

use self::boxes::{Head, top_level};
use self::fragments::Fragments;
use self::movie::Movie;
use self::samples::{Cursor, Sample, Tables};
use super::container::{Container, Track};
use super::file::{READ_BYTES_MAX, VideoFile};

/// The samples of the first video track, first those of the movie's tables, then those of the fragments.
#[derive(Debug)]
pub struct Mp4 {
    file: VideoFile,
    tables: Tables,
    cursor: Cursor,
    fragments: Fragments,
    /// The sample before lies beyond the end of the file, which was said.
    cut_off: bool,
}

impl Mp4 {
    /// # Errors
    /// It is no MP4, has no video, or none that is decoded.
    pub fn open(file: VideoFile) -> Result<(Self, Track), String> {
        let mut position = 0;
        while let Some(head) = top_level(&file, position) {
            if head.kind == *b"moov" {
                let Head { body, end, .. } = head;
                let size = end - body;
                if size > READ_BYTES_MAX {
                    return Err(format!("the MP4's tables take {size} bytes, expected at most {READ_BYTES_MAX}"));
                }
                let mut bytes = Vec::new();
                file.read(body, size, &mut bytes)?;
                let Movie { track, tables, fragments } = Movie::parse(&bytes, file.length())?;
                return Ok((Self { file, tables, cursor: Cursor::default(), fragments, cut_off: false }, track));
            }
            position = head.end;
        }
        Err("the MP4 has no `moov` box, as when a recording was cut off before it was finished".into())
    }

    fn next_sample(&mut self) -> Result<Option<Sample>, String> {
        match self.cursor.next(&self.tables)? {
            Some(sample) => Ok(Some(sample)),
            None => self.fragments.next(&self.file),
        }
    }
}

impl Container for Mp4 {
    fn next(&mut self, bytes: &mut Vec<u8>) -> Result<Option<i64>, String> {
        while let Some(Sample { offset, size, time }) = self.next_sample()? {
            let ends = offset.saturating_add(u64::from(size));
            if ends <= self.file.length() {
                self.cut_off = false;
                self.file.read(offset, u64::from(size), bytes)?;
                return Ok(Some(time));
            }
            // Of a file that was cut off all samples behind the cut are missing, which is one fault.
            if !std::mem::replace(&mut self.cut_off, true) {
                return Err(format!("the file ends at byte {}, before its pictures do", self.file.length()));
            }
        }
        Ok(None)
    }

    fn rewind(&mut self) {
        (self.cursor, self.cut_off) = (Cursor::default(), false);
        self.fragments.rewind();
    }
}
