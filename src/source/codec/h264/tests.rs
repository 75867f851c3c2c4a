//! Streams whole, cut, damaged and of the wrong kind; bit-equality with OpenCV is tested where files are opened.

use super::*;
use crate::source::codec::access_units;

/// Twelve pictures, two key pictures, B pictures; see the folder for how it was made.
const STREAM: &[u8] = include_bytes!("../../video/fixtures/h264.h264");

fn units() -> Vec<&'static [u8]> {
    access_units(STREAM)
}

/// Stamps of the pictures that come, and the errors.
fn decode(order: Order, units: &[&[u8]]) -> (Vec<i64>, Vec<Error>) {
    let mut decoder = H264Decoder::new(order);
    let (mut stamps, mut errors) = (Vec::new(), Vec::new());
    for (stamp, unit) in (0..).zip(units) {
        errors.extend(decoder.decode(unit, stamp).err());
        stamps.extend(std::iter::from_fn(|| decoder.picture()).map(|picture| picture.stamp));
    }
    errors.extend(decoder.flush().err());
    stamps.extend(std::iter::from_fn(|| decoder.picture()).map(|picture| picture.stamp));
    (stamps, errors)
}

#[test]
fn pictures_come_in_the_order_of_presentation_with_their_stamps() {
    let units = units();
    assert_eq!(units.len(), 12);
    // I B B P B P: what is shown before a P comes after it in the stream.
    for order in [Order::Exact, Order::Live] {
        let (stamps, errors) = decode(order, &units);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(stamps[..2], [0, 2]);
        let mut sorted = stamps.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..12).collect::<Vec<_>>());
        assert!(stamps[..6].iter().all(|&stamp| stamp < 6), "{stamps:?}");
    }
}

#[test]
fn after_a_loss_nothing_comes_before_the_next_key_picture() {
    let units = units();
    let mut decoder = H264Decoder::new(Order::Exact);
    decoder.decode(units[0], 0).unwrap();
    decoder.decode(units[1], 1).unwrap();
    decoder.lost();
    for (stamp, unit) in (2..).zip(&units[2..]) {
        decoder.decode(unit, stamp).unwrap();
    }
    decoder.flush().unwrap();
    let mut stamps: Vec<i64> = std::iter::from_fn(|| decoder.picture()).map(|picture| picture.stamp).collect();
    stamps.sort_unstable();
    assert_eq!(stamps, [0, 1, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn a_damaged_picture_to_which_none_refers_is_missed_alone() {
    let units = units();
    // A B picture with `nal_ref_idc` 0: its slice is replaced by its header and ones.
    let at = units.iter().position(|unit| unit.windows(4).any(|window| window == [0, 0, 1, 0x01])).unwrap();
    let start = units[at].windows(4).position(|window| window == [0, 0, 1, 0x01]).unwrap();
    let mut damaged = units[at].to_vec();
    damaged[start + 5..].fill(0xff);
    let mut units = units.clone();
    units[at] = &damaged;
    let (stamps, errors) = decode(Order::Exact, &units);
    assert_eq!((stamps.len(), errors.len()), (11, 1), "{errors:?}");
    assert!(!stamps.contains(&i64::try_from(at).unwrap()));
}

#[test]
fn profiles_that_are_not_decoded_are_named() {
    for (sps, words) in [
        ("676e001fa6cd940c012684000003000400000300503c60c658", "High 10 (4:2:0, 10 bits)"),
        ("677a001fbcd940c0126840000003004000000503c60c6580", "High 4:2:2 (4:2:2, 8 bits)"),
    ] {
        let bytes = (0..sps.len()).step_by(2).map(|at| u8::from_str_radix(&sps[at..at + 2], 16).unwrap());
        let unit: Vec<u8> = [0, 0, 0, 1].into_iter().chain(bytes).collect();
        let error = H264Decoder::new(Order::Live).decode(&unit, 0).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }));
        assert!(error.to_string().contains(words) && error.to_string().contains("ffmpeg"), "{error}");
    }
}

#[test]
fn a_picture_of_endless_slices_is_given_up() {
    let first = units()[0];
    let slice = first.windows(4).position(|window| window == [0, 0, 1, 0x65]).unwrap();
    let mut unit = first.to_vec();
    for _ in 0..=SLICES_MAX {
        // As the first slice, but beginning at macroblock 1.
        unit.extend_from_slice(&first[slice..slice + 4]);
        unit.extend([0x44, 0x44]);
    }
    let error = H264Decoder::new(Order::Live).decode(&unit, 0).unwrap_err().to_string();
    assert!(error.contains("slices"), "{error}");
}

#[test]
fn recovery_points_are_found_among_other_messages() {
    assert_eq!(recovery_point(&[5, 2, 9, 9, 6, 1, 0x80]), Some(0));
    assert_eq!(recovery_point(&[6, 1, 0b0010_0100]), Some(3));
    for none in [&[][..], &[5, 200, 1], &[6, 0], &[0xff], &[6, 1, 0]] {
        assert_eq!(recovery_point(none), None, "{none:?}");
    }
}
