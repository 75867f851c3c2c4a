//! Streams through a real pipe, whole, cut off and damaged.

use std::io::Write;

use super::*;
use crate::frame::encode_jpeg;
use crate::random::Random;

fn source(query: &str) -> (StdinSource, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let uri = format!("stdin:?{query}");
    let (cutter, live) = options::parse(&uri, Orientation::Apply).unwrap();
    (StdinSource::over(Box::new(reader), &uri, cutter, live), writer)
}

/// Sizes of the pictures of a stream, and what was said of those that are none.
fn play(query: &str, stream: &[u8]) -> (Vec<(usize, usize)>, Vec<String>) {
    let (mut source, mut writer) = source(query);
    let stream = stream.to_vec();
    // Who has seen enough closes the pipe.
    let writing = std::thread::spawn(move || drop(writer.write_all(&stream)));
    let (mut frame, mut sizes, mut faults) = (Frame::empty(), Vec::new(), Vec::new());
    loop {
        match source.next(&mut frame, &mut String::new()) {
            Ok(Next::Frame) => sizes.push((frame.width(), frame.height())),
            Ok(Next::Nothing | Next::Idle) => {}
            Ok(Next::End) => break,
            Err(fault) => faults.push(fault.to_string()),
        }
    }
    drop(source);
    writing.join().unwrap();
    (sizes, faults)
}

fn jpeg(width: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_jpeg(&Frame::new(width, 4), 80, &mut bytes).unwrap();
    bytes
}

#[test]
fn every_picture_of_a_pipe_comes_in_order_and_then_the_end() {
    let stream: Vec<u8> = (1..=50).flat_map(jpeg).collect();
    let wanted: Vec<(usize, usize)> = (1..=50).map(|width| (width, 4)).collect();
    assert_eq!(play("format=mjpeg", &stream), (wanted, vec![]));
    for (format, bytes) in [("rgb", 24), ("yuyv", 16), ("nv12", 12), ("i420", 12), ("grey", 8)] {
        let query = format!("format={format}&width=4&height=2");
        assert_eq!(play(&query, &vec![128; bytes * 7]), (vec![(4, 2); 7], vec![]), "{format}");
        let (sizes, faults) = play(&query, &vec![128; bytes * 7 + 1]);
        assert_eq!((sizes.len(), faults.len()), (7, 1), "{format}");
        assert!(faults[0].contains("truncated: 1 bytes"), "{faults:?}");
    }
    let cut_off = &stream[..stream.len() - 1];
    let (sizes, faults) = play("format=mjpeg", cut_off);
    assert!(sizes.len() == 49 && faults.len() == 1 && faults[0].contains("JPEG image is truncated"), "{faults:?}");
    assert_eq!(play("format=mjpeg", b""), (vec![], vec![]));
}

#[test]
fn y4m_says_its_size_and_what_it_cannot_be_is_said_once() {
    let stream = |head: &str, bytes: usize| {
        let frame = [b"FRAME\n".as_slice(), &vec![128; bytes]].concat();
        [format!("YUV4MPEG2 {head}\n").as_bytes(), &frame.repeat(3)].concat()
    };
    for (head, size, bytes) in [
        ("W4 H2 F25:1 Ip A1:1 C420jpeg XYSCSS=420JPEG", (4, 2), 12),
        ("W5 H3 F30000:1001 C420mpeg2", (5, 3), 15 + 2 * 6),
        ("H2 W2", (2, 2), 6),
    ] {
        assert_eq!(play("format=y4m", &stream(head, bytes)), (vec![size; 3], vec![]), "{head}");
    }
    for (head, word) in [
        ("W4 H2 C422", "C422: expected 8-bit 4:2:0"),
        ("W99999999 H99999999", "99999999x99999999 pixels: expected"),
        ("W-1 H2", "expected a number of pixels"),
        ("H2", "Y4M of 0x2 pixels"),
    ] {
        let (sizes, faults) = play("format=y4m", &stream(head, 12));
        assert!(sizes.is_empty() && faults.len() == 1 && faults[0].contains(word), "{head}: {faults:?}");
    }
    let (_, faults) = play("format=y4m", &vec![b'x'; 5000]);
    assert!(faults[0].contains("a line of more than 1024 bytes, `xxx"), "{faults:?}");
    let (sizes, faults) = play("format=y4m", b"YUV4MPEG2 W2 H2\nFRAME\n123456GARBAGE\n");
    assert!(sizes.len() == 1 && faults[0].contains("found `GARBAGE`"), "{faults:?}");
}

#[test]
fn a_quiet_pipe_is_no_end_and_holds_nobody_long() {
    let (mut source, mut writer) = source("format=grey&width=2&height=1");
    let (mut frame, mut origin) = (Frame::empty(), String::new());
    writer.write_all(&[7]).unwrap();
    assert_eq!(source.next(&mut frame, &mut origin).unwrap(), Next::Nothing);
    writer.write_all(&[9]).unwrap();
    assert_eq!(source.next(&mut frame, &mut origin).unwrap(), Next::Frame);
    assert_eq!((frame.pixels(), frame.id), (&[7, 7, 7, 9, 9, 9][..], 0));
    drop(writer);
    assert_eq!(source.next(&mut frame, &mut origin).unwrap(), Next::End);
    assert_eq!(source.next(&mut frame, &mut origin).unwrap(), Next::End);
}

#[test]
fn damage_neither_ends_nor_hangs_it() {
    let mut random = Random::new(0xBAD);
    let mjpeg: Vec<u8> = (0..40).flat_map(|_| jpeg(16)).collect();
    let y4m = [b"YUV4MPEG2 W16 H4\n".as_slice(), &[b"FRAME\n".as_slice(), &[1; 96]].concat().repeat(40)].concat();
    let h264: Vec<u8> = (0..400).flat_map(|_| [0, 0, 1, [0x67, 0x68, 0x65, 0x41][random.below(4)], 0x88, 7]).collect();
    for (format, clean) in [("mjpeg", &mjpeg), ("y4m", &y4m), ("h264", &h264)] {
        for _ in 0..40 {
            let mut stream = clean.clone();
            for _ in 0..=random.below(20) {
                let at = random.below(stream.len());
                stream[at] = u8::try_from(random.below(256)).unwrap();
            }
            let (sizes, faults) = play(&format!("format={format}"), &stream);
            assert!(sizes.len() <= 40 && faults.len() <= 400, "{format}: {} pictures, {}", sizes.len(), faults.len());
        }
    }
}
