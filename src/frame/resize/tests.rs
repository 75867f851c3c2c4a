//! The resize against numbers worked out by hand and against itself; `tests/opencv_parity.rs` has OpenCV itself.

use super::*;
use crate::random::Random;

fn noise(width: usize, height: usize) -> Frame {
    let mut random = Random::new(1);
    let pixels = (0..width * height * CHANNELS).map(|_| random.bits().to_le_bytes()[0]);
    Frame::from_rgb(width, height, pixels.collect())
}

fn grey(levels: &[&[u8]]) -> Frame {
    let pixels = levels.iter().flat_map(|row| row.iter().flat_map(|&level| [level; 3]));
    Frame::from_rgb(levels[0].len(), levels.len(), pixels.collect())
}

fn resized(source: &Frame, width: usize, height: usize) -> Frame {
    let mut result = Frame::empty();
    Resizer::new().resize(source.view(), Size::new(width, height), &mut result).unwrap();
    result
}

#[test]
fn doubling_two_pixels() {
    // 0 and 100 at 0, 1/4, 3/4 and 1 of the way.
    let expected = grey(&[&[0, 25, 75, 100]]);
    assert_eq!(resized(&grey(&[&[0, 100]]), 4, 1).pixels(), expected.pixels());
}

#[test]
fn halving_is_the_rounded_mean_of_four() {
    let source = noise(62, 34);
    let half = resized(&source, 31, 17);
    for y in 0..17 {
        for x in 0..31 * CHANNELS {
            let (pixel, channel) = (x / CHANNELS, x % CHANNELS);
            let at = |dx: usize, dy: usize| u32::from(source.row(2 * y + dy)[(2 * pixel + dx) * CHANNELS + channel]);
            let mean = (at(0, 0) + at(1, 0) + at(0, 1) + at(1, 1) + 2) >> 2;
            assert_eq!(u32::from(half.row(y)[x]), mean, "OpenCV takes INTER_AREA here");
        }
    }
}

#[test]
fn the_same_size_is_a_copy() {
    let source = noise(37, 23);
    assert_eq!(resized(&source, 37, 23).pixels(), source.pixels());
}

#[test]
fn all_kernels_give_the_same_pictures() {
    for (from, to) in [((1, 1), (5, 7)), ((37, 23), (64, 64)), ((200, 101), (33, 90))] {
        let source = noise(from.0, from.1);
        let size = Size::new(to.0, to.1);
        let mut scalar = Resizer::with_kernel(Kernel::SCALAR);
        let mut fastest = Resizer::new();
        for arithmetic in [Arithmetic::Integer, Arithmetic::Float] {
            let mut planes = [0, 1].map(|_| vec![0.0; size.width * size.height * CHANNELS]);
            scalar.stretch_chw(source.view(), size, arithmetic, &mut planes[0]).unwrap();
            fastest.stretch_chw(source.view(), size, arithmetic, &mut planes[1]).unwrap();
            assert_eq!(planes[0], planes[1]);
        }
    }
}

#[test]
fn the_planes_hold_the_resized_picture() {
    let source = noise(90, 50);
    let net = Size::new(64, 48);
    let mut out = vec![-1.0; 3 * 64 * 48];
    let placement = Resizer::new().letterbox_chw(source.view(), net, 114, &mut out).unwrap();
    // 64 / (90 / 50) = 35.6
    assert_eq!(placement.picture, Region { left: 0, top: 6, width: 64, height: 35 });
    let picture = resized(&source, 64, 35);
    for (i, &value) in out.iter().enumerate() {
        let (channel, y, x) = (i / (64 * 48), i / 64 % 48, i % 64);
        let level = match y.checked_sub(6) {
            Some(y) if y < 35 => picture.row(y)[x * CHANNELS + channel],
            _ => 114,
        };
        assert_eq!(value, f32::from(level) / 255.0, "channel {channel}, row {y}, column {x}");
    }
}

#[test]
fn an_odd_pixel_of_padding_goes_right_and_down() {
    let tall = Placement::letterbox(Size::new(3, 10), Size::new(20, 20)).unwrap();
    assert_eq!(tall.picture, Region { left: 7, top: 0, width: 6, height: 20 });
    let wide = Placement::letterbox(Size::new(100, 49), Size::new(30, 31)).unwrap();
    // 30 / (100 / 49) = 14.7
    assert_eq!(wide.picture, Region { left: 0, top: 8, width: 30, height: 14 });
}

#[test]
fn floats_are_not_rounded_to_levels() {
    let source = grey(&[&[0, 1]]);
    let mut out = [0.0; 12];
    let net = Size::new(4, 1);
    Resizer::new().stretch_chw(source.view(), net, Arithmetic::Float, &mut out).unwrap();
    assert_eq!(out[..4], [0.0, 0.25 / 255.0, 0.75 / 255.0, 1.0 / 255.0]);
}

#[test]
fn one_resizer_serves_pictures_of_many_sizes() {
    let mut resizer = Resizer::new();
    let net = Size::new(40, 30);
    let mut out = vec![0.0; 3 * 40 * 30];
    for (width, height) in [(50, 20), (20, 50), (50, 20)] {
        let source = noise(width, height);
        for arithmetic in [Arithmetic::Integer, Arithmetic::Float] {
            resizer.stretch_chw(source.view(), net, arithmetic, &mut out).unwrap();
            let mut fresh = vec![0.0; out.len()];
            Resizer::new().stretch_chw(source.view(), net, arithmetic, &mut fresh).unwrap();
            assert_eq!(out, fresh);
        }
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let mut resizer = Resizer::new();
    let (source, net) = (noise(8, 6), Size::new(4, 4));
    let mut out = vec![0.0; 47];
    let wrong = resizer.letterbox_chw(source.view(), net, 0, &mut out).unwrap_err();
    assert!(matches!(wrong, Error::OutputLength { found: 47, expected: 48 }), "{wrong}");
    let empty = resizer.letterbox_chw(Frame::empty().view(), net, 0, &mut out).unwrap_err();
    assert!(matches!(empty, Error::EmptyPicture { .. }), "{empty}");
    let thin = noise(1000, 1);
    let thin = resizer.letterbox_chw(thin.view(), net, 0, &mut out).unwrap_err();
    assert!(matches!(thin, Error::NothingLeft { new_width: 4, new_height: 0, .. }), "{thin}");
    let beyond = Placement { net, picture: Region { left: 2, top: 0, width: 3, height: 4 } };
    let beyond = resizer.place_chw(source.view(), beyond, Arithmetic::Integer, 0.0, &mut out).unwrap_err();
    assert!(matches!(beyond, Error::RegionOutside { .. }), "{beyond}");
    let long = Size::new(SIDE_MAX + 1, 1);
    let long = resizer.resize(source.view(), long, &mut Frame::empty()).unwrap_err();
    assert!(matches!(long, Error::SideTooLong { .. }), "{long}");
}
