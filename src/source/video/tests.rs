//! Every container from files that ffmpeg made, and from what becomes of them on a bad disk.

use std::hash::Hasher;
use std::path::PathBuf;

use super::*;
use crate::frame::{Orientation, decode};
use crate::random::Random;

const H264: &[u8] = include_bytes!("fixtures/h264.mp4");
const FRAGMENTS: &[u8] = include_bytes!("fixtures/fragments.mp4");
const STREAM: &[u8] = include_bytes!("fixtures/h264.h264");
const AVI: &[u8] = include_bytes!("fixtures/jpeg.avi");
const MJPEG: &[u8] = include_bytes!("fixtures/jpeg.mjpeg");
const Y4M: &[u8] = include_bytes!("fixtures/i420.y4m");
const ALL: [(&str, &[u8]); 6] =
    [("a.mp4", H264), ("b.mp4", FRAGMENTS), ("c.h264", STREAM), ("d.avi", AVI), ("e.mjpeg", MJPEG), ("f.y4m", Y4M)];

/// CRC-32 of all pixels of `h264.mp4`, and of `i420.y4m`, as `cv2.VideoCapture` gives them.
const H264_CRC: u64 = 0x416e_2c26;
const Y4M_CRC: u64 = 0x795a_0e7a;

/// What came of a source until its end.
#[derive(Debug, Default)]
struct Seen {
    frames: u64,
    errors: Vec<String>,
    crc: u64,
    size: (usize, usize),
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn open(&self, name: &str, bytes: &[u8], options: &str) -> Result<VideoSource, Error> {
        let path = self.write(name, bytes);
        VideoSource::open(&format!("file:{}{options}", path.display()), &path)
    }

    /// Shows all of a video, which ends soon however damaged it is.
    fn show(&self, name: &str, bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        let mut source = match self.open(name, bytes, "") {
            Ok(source) => source,
            Err(error) => {
                seen.errors.push(error.to_string());
                return seen;
            }
        };
        let (mut frame, mut origin) = (Frame::empty(), String::new());
        let mut crc = crc32fast::Hasher::new();
        for calls in 0.. {
            assert!(calls < 1000, "{name} does not end");
            match source.next(&mut frame, &mut origin) {
                Ok(Next::Frame) => {
                    assert_eq!(frame.id, seen.frames + seen.errors.len() as u64);
                    seen.frames += 1;
                    crc.write(frame.pixels());
                }
                Ok(Next::Nothing | Next::Idle) => {}
                Ok(Next::End) => break,
                Err(error) => seen.errors.push(error.to_string()),
            }
        }
        seen.crc = u64::from(crc.finalize());
        seen.size = (frame.width(), frame.height());
        seen
    }
}

/// The offset of what follows a box's kind.
fn body_of(mp4: &[u8], kind: &[u8; 4]) -> usize {
    mp4.windows(4).position(|window| window == kind).unwrap() + 4
}

#[test]
fn h264_is_the_same_from_every_container_and_the_same_as_opencv_sees() {
    let folder = Folder::new();
    for (name, bytes) in [("a.mp4", H264), ("b.mp4", FRAGMENTS), ("c.h264", STREAM)] {
        let seen = folder.show(name, bytes);
        assert_eq!((seen.frames, seen.crc, seen.size), (12, H264_CRC, (48, 32)), "{name}: {:?}", seen.errors);
    }
    let facts = folder.open("a.mp4", H264, "").unwrap().facts();
    assert_eq!(facts, Facts { fps: Some(10.0), frames: Some(12), size: Some(Size::new(48, 32)) });
}

#[test]
fn y4m_is_what_opencv_sees() {
    let folder = Folder::new();
    let seen = folder.show("a.y4m", Y4M);
    assert_eq!((seen.frames, seen.crc, seen.size), (2, Y4M_CRC, (48, 32)), "{:?}", seen.errors);
    let facts = folder.open("a.y4m", Y4M, "").unwrap().facts();
    assert_eq!(facts, Facts { fps: Some(10.0), frames: Some(2), size: Some(Size::new(48, 32)) });
}

#[test]
fn jpegs_are_those_of_the_file() {
    let folder = Folder::new();
    let starts: Vec<usize> = (0..MJPEG.len()).filter(|&at| MJPEG[at..].starts_with(&[0xff, 0xd8, 0xff])).collect();
    assert_eq!(starts.len(), 4);
    let mut crc = crc32fast::Hasher::new();
    for start in starts {
        crc.write(decode(&MJPEG[start..], Orientation::Ignore, frame::Limits::default()).unwrap().pixels());
    }
    let crc = u64::from(crc.finalize());
    for (name, bytes) in [("a.mjpeg", MJPEG), ("b.avi", AVI)] {
        let seen = folder.show(name, bytes);
        assert_eq!((seen.frames, seen.crc, seen.size), (4, crc, (48, 32)), "{name}: {:?}", seen.errors);
    }
    // Padding between pictures, as cameras write it.
    let padded: Vec<u8> = [MJPEG, &[0; 100], MJPEG].concat();
    assert_eq!(folder.show("c.mjpeg", &padded).frames, 8);
}

#[test]
fn a_loop_starts_again_and_unknown_options_are_refused() {
    let folder = Folder::new();
    for (name, bytes) in ALL {
        let mut source = folder.open(name, bytes, "?loop=true").unwrap();
        assert_eq!((source.facts().frames, source.live()), (None, false));
        let (mut frame, mut origin) = (Frame::empty(), String::new());
        let mut first = None;
        for _ in 0..200 {
            if source.next(&mut frame, &mut origin).unwrap() == Next::Frame {
                let first = first.get_or_insert_with(|| frame.pixels().to_vec());
                // 12, 4 and 2 frames: every 12th is the first again.
                assert!(frame.id % 12 != 0 || first == frame.pixels(), "{name} frame {}", frame.id);
            }
        }
        assert!(frame.id > 24, "{name}");
    }
    for (options, word) in [("?speed=2", "unknown option `speed`"), ("?loop=maybe", "true or false")] {
        let message = folder.open("a.mp4", H264, options).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
    let paced = folder.open("a.mp4", H264, "?realtime=true").unwrap();
    assert!(paced.live());
}

#[test]
fn in_real_time_a_film_lasts_as_long_as_it_does() {
    let folder = Folder::new();
    let mut source = folder.open("a.mp4", H264, "?realtime=true").unwrap();
    let (mut frame, mut origin) = (Frame::empty(), String::new());
    let started = Instant::now();
    while source.next(&mut frame, &mut origin).unwrap() != Next::End {}
    // 12 frames at 10 a second: 1.1 s from the first to the last.
    assert_eq!(frame.id, 11);
    assert!(started.elapsed().as_millis() >= 1000);
}

#[test]
fn a_matrix_turns_the_picture_and_one_that_mirrors_is_refused() {
    let folder = Folder::new();
    let with = |cells: [i32; 4]| {
        let mut bytes = H264.to_vec();
        let matrix = body_of(&bytes, b"tkhd") + 4 + 36;
        for (index, cell) in [0, 1, 3, 4].into_iter().zip(cells) {
            bytes[matrix + 4 * index..][..4].copy_from_slice(&(cell << 16).to_be_bytes());
        }
        bytes
    };
    let upright = with([1, 0, 0, 1]);
    assert_eq!(folder.show("a.mp4", &upright).crc, H264_CRC);
    let mut source = folder.open("b.mp4", &with([0, 1, -1, 0]), "").unwrap();
    assert_eq!(source.facts().size, Some(Size::new(32, 48)));
    let (mut frame, mut origin) = (Frame::empty(), String::new());
    source.next(&mut frame, &mut origin).unwrap();
    let mut stored = Frame::empty();
    folder.open("a.mp4", &upright, "").unwrap().next(&mut stored, &mut origin).unwrap();
    // By 90 degrees clockwise: what was at the lower left is at the upper left.
    assert_eq!((frame.width(), frame.height()), (32, 48));
    assert_eq!(frame.row(0)[..3], stored.row(31)[..3]);
    assert_eq!(frame.row(47)[31 * 3..], stored.row(0)[47 * 3..]);
    assert_eq!(folder.show("c.mp4", &with([-1, 0, 0, -1])).size, (48, 32));
    let mirrored = folder.show("d.mp4", &with([-1, 0, 0, 1]));
    assert!(mirrored.errors[0].contains("mirrored"), "{mirrored:?}");
}

#[test]
fn an_edit_list_cuts_both_ends_off() {
    let folder = Folder::new();
    let mut bytes = H264.to_vec();
    let entry = body_of(&bytes, b"elst") + 8;
    // Half a second of the film's 1.2, from its third picture on; B pictures shift times by two pictures of 1024 ticks.
    bytes[entry..entry + 4].copy_from_slice(&500_u32.to_be_bytes());
    bytes[entry + 4..entry + 8].copy_from_slice(&(4 * 1024_u32).to_be_bytes());
    let seen = folder.show("a.mp4", &bytes);
    assert_eq!((seen.frames, seen.errors.len()), (5, 0));
    assert_eq!(folder.open("a.mp4", &bytes, "").unwrap().facts().frames, Some(5));
}

#[test]
fn a_damaged_picture_is_one_error_and_the_next_key_picture_goes_on() {
    let folder = Folder::new();
    // The second packet is a picture that the others of its group refer to.
    let slices: Vec<usize> =
        (0..STREAM.len() - 3).filter(|&at| STREAM[at..].starts_with(&[0, 0, 1, 0x41])).map(|at| at + 4).collect();
    let mut bytes = STREAM.to_vec();
    bytes[slices[0]..slices[0] + 12].fill(0xff);
    let seen = folder.show("a.h264", &bytes);
    assert_eq!((seen.frames, seen.errors.len()), (1 + 6, 1), "{:?}", seen.errors);
    assert!(seen.errors[0].contains("a.h264") && seen.errors[0].contains("H.264"), "{}", seen.errors[0]);
}

#[test]
fn a_stream_that_begins_in_the_middle_begins_with_its_first_key_picture() {
    let folder = Folder::new();
    let second = STREAM.windows(4).enumerate().filter(|(_, window)| window == &[0, 0, 1, 0x67]).nth(1).unwrap().0;
    let first_slice = STREAM.windows(4).position(|window| window == [0, 0, 1, 0x41]).unwrap();
    // Without the first key picture, but with its parameter sets further on.
    let cut = &STREAM[first_slice..];
    assert!(first_slice < second);
    let seen = folder.show("a.h264", cut);
    assert_eq!((seen.frames, seen.errors.len()), (6, 0), "{:?}", seen.errors);
}

#[test]
fn what_is_cut_off_anywhere_ends_and_shows_no_more_than_there_was() {
    let folder = Folder::new();
    for (name, bytes) in ALL {
        let whole = folder.show(name, bytes).frames;
        let step = if bytes.len() > 4000 { 5 } else { 1 };
        for length in (0..bytes.len()).step_by(step) {
            let seen = folder.show(name, &bytes[..length]);
            assert!(seen.frames <= whole && seen.errors.len() <= 2, "{name} of {length} bytes: {seen:?}");
        }
    }
}

#[test]
fn what_is_damaged_anywhere_ends() {
    let folder = Folder::new();
    for (name, bytes) in ALL {
        for seed in 0..150 {
            let mut random = Random::new(seed);
            let mut damaged = bytes.to_vec();
            for _ in 0..=random.bits() % 6 {
                let at = usize::try_from(random.bits() % bytes.len() as u64).unwrap();
                let [value, many, ..] = random.bits().to_le_bytes();
                match many % 3 {
                    0 => damaged[at] = value,
                    1 => damaged[at] ^= 1 << (value % 8),
                    _ => damaged[at..].iter_mut().take(4).for_each(|byte| *byte = 0xff),
                }
            }
            folder.show(name, &damaged);
        }
    }
}

#[test]
fn tables_that_promise_more_than_the_file_holds_cost_nothing() {
    let folder = Folder::new();
    let patched = |kind: &[u8; 4], at: usize, values: &[u32]| {
        let mut bytes = H264.to_vec();
        let body = body_of(&bytes, kind) + at;
        for (index, value) in values.iter().enumerate() {
            bytes[body + 4 * index..][..4].copy_from_slice(&value.to_be_bytes());
        }
        bytes
    };
    for (what, bytes) in [
        ("four billion samples", patched(b"stsz", 8, &[u32::MAX])),
        ("four billion samples of a byte", patched(b"stsz", 4, &[1, u32::MAX])),
        ("four billion chunks", patched(b"stco", 4, &[u32::MAX])),
        ("a chunk of four billion samples", patched(b"stsc", 12, &[u32::MAX])),
        ("samples of four gigabytes", patched(b"stsz", 4, &[u32::MAX])),
        ("a chunk beyond the end", patched(b"stco", 8, &[u32::MAX])),
    ] {
        let seen = folder.show("a.mp4", &bytes);
        assert!(seen.frames <= 12 && seen.errors.len() <= 400, "{what}: {seen:?}");
    }
}
