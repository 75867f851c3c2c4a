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
                let Movie { track, tables, fragments } = Movie::parse(&bytes)?;
                return Ok((Self { file, tables, cursor: Cursor::default(), fragments }, track));
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
        let Some(Sample { offset, size, time }) = self.next_sample()? else { return Ok(None) };
        self.file.read(offset, u64::from(size), bytes)?;
        Ok(Some(time))
    }

    fn rewind(&mut self) {
        self.cursor = Cursor::default();
        self.fragments.rewind();
    }
}
