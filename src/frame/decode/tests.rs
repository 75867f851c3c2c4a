//! Decoding of small files made here, whole and damaged; `tests/golden_frame.rs` has real ones.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::*;

fn png(width: u32, height: u32, colour: ExtendedColorType, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    PngEncoder::new(&mut out).write_image(bytes, width, height, colour).unwrap();
    out
}

fn open(bytes: &[u8]) -> Result<Frame, Error> {
    decode(bytes, Orientation::Apply, Limits::default())
}

/// A little-endian EXIF block that holds nothing but an orientation.
fn exif(turn: u8) -> Vec<u8> {
    let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([turn, 0, 0, 0, 0, 0, 0, 0]);
    exif
}

fn png_with_exif(turn: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = PngEncoder::new(&mut out);
    encoder.set_exif_metadata(exif(turn)).unwrap();
    // 3x2: 1 2 3 / 4 5 6
    encoder.write_image(&[1, 2, 3, 4, 5, 6], 3, 2, ExtendedColorType::L8).unwrap();
    out
}

fn jpeg(width: u16, height: u16) -> Vec<u8> {
    let pixels = vec![90; usize::from(width) * usize::from(height)];
    let mut out = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut out, 90);
    encoder.encode(&pixels, width, height, jpeg_encoder::ColorType::Luma).unwrap();
    out
}

#[test]
fn every_layout_becomes_rgb() {
    use ExtendedColorType::{L8, L16, La8, Rgb16, Rgba8};
    // The PNG encoder takes 16-bit samples in the machine's byte order.
    let wide: Vec<u8> = [0x12ff_u16, 0x3400, 0x5680].iter().flat_map(|sample| sample.to_ne_bytes()).collect();
    let cases: [(ExtendedColorType, &[u8], [u8; 3]); 5] = [
        (L8, &[7], [7, 7, 7]),
        (La8, &[7, 0], [7, 7, 7]),
        (Rgba8, &[1, 2, 3, 0], [1, 2, 3]),
        (L16, &wide[..2], [0x12; 3]),
        (Rgb16, &wide, [0x12, 0x34, 0x56]),
    ];
    for (colour, pixel, expected) in cases {
        assert_eq!(open(&png(1, 1, colour, pixel)).unwrap().pixels(), expected, "{colour:?}");
    }
}

#[test]
fn all_orientations_are_turned_upright() {
    let expected: [(u8, usize, [u8; 6]); 9] = [
        (1, 3, [1, 2, 3, 4, 5, 6]),
        (2, 3, [3, 2, 1, 6, 5, 4]),
        (3, 3, [6, 5, 4, 3, 2, 1]),
        (4, 3, [4, 5, 6, 1, 2, 3]),
        (5, 2, [1, 4, 2, 5, 3, 6]),
        (6, 2, [4, 1, 5, 2, 6, 3]),
        (7, 2, [6, 3, 5, 2, 4, 1]),
        (8, 2, [3, 6, 2, 5, 1, 4]),
        (9, 3, [1, 2, 3, 4, 5, 6]),
    ];
    for (turn, width, levels) in expected {
        let frame = open(&png_with_exif(turn)).unwrap();
        assert_eq!(frame.width(), width);
        let found: Vec<u8> = frame.pixels().iter().step_by(CHANNELS).copied().collect();
        assert_eq!(found, levels, "orientation {turn}");
    }
    let stored = decode(&png_with_exif(6), Orientation::Ignore, Limits::default()).unwrap();
    assert_eq!((stored.width(), stored.pixels()[3]), (3, 2));
}

#[test]
fn a_declared_size_over_the_limit_is_refused_before_memory_is_taken() {
    let mut bomb = png(1, 1, ExtendedColorType::L8, &[0]);
    // Width and height of the header chunk, and its checksum.
    bomb[16..24].copy_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20]);
    let checksum = crc32(&bomb[12..29]).to_be_bytes();
    bomb[29..33].copy_from_slice(&checksum);
    let error = open(&bomb).unwrap_err();
    assert!(matches!(error, Error::TooManyPixels { width: 20_000, height: 20_000, .. }), "{error}");
    let limits = Limits { bytes_max: 10, ..Limits::default() };
    let error = decode(&bomb, Orientation::Apply, limits).unwrap_err();
    assert!(matches!(error, Error::TooManyBytes { limit: 10, .. }), "{error}");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn every_truncation_is_an_error() {
    let noisy: Vec<u8> = (0..40 * 30 * 3u32).map(|i| (i * i % 251).to_le_bytes()[0]).collect();
    let frame = Frame::from_rgb(40, 30, noisy);
    let mut jpeg = Vec::new();
    crate::frame::encode::encode_jpeg(&frame, 90, &mut jpeg).unwrap();
    let png = png(40, 30, ExtendedColorType::Rgb8, frame.pixels());
    // The end chunk of a PNG holds nothing of the picture.
    for (file, needed) in [(&jpeg, jpeg.len()), (&png, png.len() - 12)] {
        assert_eq!(open(file).unwrap().size(), frame.size());
        for length in 0..needed {
            let error = open(&file[..length]).expect_err("a part is not the whole");
            if length >= needed / 2 {
                assert!(matches!(error, Error::Truncated { .. }), "{length}: {error}");
            }
        }
    }
}

#[test]
fn a_thumbnail_does_not_complete_a_jpeg() {
    let mut file = jpeg(16, 16);
    let thumbnail = jpeg(8, 8);
    let length = u16::try_from(thumbnail.len() + 2).unwrap().to_be_bytes();
    let segment = [&[0xff, 0xe1], &length[..], &thumbnail].concat();
    file.splice(2..2, segment);
    assert_eq!(open(&file).unwrap().width(), 16);
    assert!(matches!(open(&file[..file.len() - 2]), Err(Error::Truncated { .. })));
    // Cameras pad their pictures after the end.
    file.extend([0; 32]);
    assert_eq!(open(&file).unwrap().width(), 16);
}

#[test]
fn damaged_bytes_never_panic() {
    let files = [jpeg(24, 17), png_with_exif(6), png(9, 9, ExtendedColorType::Rgba8, &[200; 9 * 9 * 4])];
    let mut state = 1u32;
    for file in files {
        for _ in 0..400 {
            let mut broken = file.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let [value, _, low, high] = state.to_le_bytes();
                let at = usize::from(u16::from_le_bytes([low, high])) % broken.len();
                broken[at] = value;
            }
            let limits = Limits { pixels_max: 1 << 20, ..Limits::default() };
            let _ = decode(&broken, Orientation::Apply, limits);
        }
    }
}

#[test]
fn what_is_no_image_is_said() {
    assert!(matches!(open(&[]), Err(Error::EmptyInput)));
    let error = open(b"hello, world").unwrap_err();
    assert!(error.to_string().contains("[68, 65, 6c, 6c, 6f, 2c, 20, 77]"), "{error}");
}

#[test]
fn a_frame_is_refilled_in_place() {
    let mut frame = Frame::new(40, 40);
    let before = frame.pixels().as_ptr();
    let file = png(3, 2, ExtendedColorType::Rgb8, &[9; 18]);
    decode_into(&file, Orientation::Apply, Limits::default(), &mut frame).unwrap();
    assert_eq!((frame.width(), frame.height(), frame.pixels()), (3, 2, &[9; 18][..]));
    assert_eq!(frame.pixels().as_ptr(), before);
}
