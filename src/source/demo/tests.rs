//! The conveyor as a whole: that it repeats itself exactly, tells the truth, and never grows.

use std::collections::HashSet;

use super::*;
use crate::frame::CHANNELS;

fn rendered(seed: u64, frames: usize) -> (Conveyor, Frame) {
    let (mut conveyor, mut frame) = (Conveyor::new(seed), Frame::empty());
    for _ in 0..frames {
        conveyor.render(&mut frame);
    }
    (conveyor, frame)
}

/// The extent (left, top, right, bottom) of the pixels in which two frames differ.
fn difference(a: &Frame, b: &Frame) -> Option<[usize; 4]> {
    let pixels = a.pixels().as_chunks::<CHANNELS>().0.iter().zip(b.pixels().as_chunks::<CHANNELS>().0);
    let changed = pixels.enumerate().filter(|(_, (a, b))| a != b).map(|(index, _)| (index % WIDTH, index / WIDTH));
    changed.fold(None, |extent: Option<[usize; 4]>, (x, y)| {
        let [left, top, right, bottom] = extent.unwrap_or([x, y, x, y]);
        Some([left.min(x), top.min(y), right.max(x + 1), bottom.max(y + 1)])
    })
}

#[test]
fn a_seed_gives_the_same_frames_every_time() {
    let (first, again) = (rendered(11, 40), rendered(11, 40));
    assert_eq!(first.1.pixels(), again.1.pixels());
    assert_eq!(first.0.truth(), again.0.truth());
    assert_eq!(first.1.id, 39);
    assert_ne!(first.1.pixels(), rendered(12, 40).1.pixels());
    assert_ne!(first.1.pixels(), rendered(11, 41).1.pixels());
}

#[test]
fn the_buffer_it_is_given_does_not_matter() {
    let mut conveyor = Conveyor::new(3);
    let mut other = conveyor.clone();
    let (mut empty, mut used) = (Frame::empty(), Frame::from_rgb(800, 600, vec![77; 800 * 600 * CHANNELS]));
    conveyor.render(&mut empty);
    other.render(&mut used);
    assert_eq!(empty.pixels(), used.pixels());
}

#[test]
fn everything_moves_right_by_one_step() {
    let (mut conveyor, mut frame) = rendered(5, 10);
    let before = conveyor.truth().to_vec();
    conveyor.render(&mut frame);
    let step = u16::try_from(STEP_PX).unwrap();
    let whole = before.iter().filter(|part| part.left > 0 && part.right + step <= 640);
    for part in whole {
        let moved = Truth { left: part.left + step, right: part.right + step, ..*part };
        assert!(conveyor.truth().contains(&moved), "{moved:?}");
    }
}

#[test]
fn the_truth_is_where_the_pixels_are() {
    let shadow = (usize::try_from(SHADOW.0).unwrap(), usize::try_from(SHADOW.1).unwrap());
    let (mut checked, mut conveyor, mut frame) = (0, Conveyor::new(21), Frame::empty());
    let mut without = Frame::empty();
    for _ in 0..12 {
        // Far enough that most parts are new ones.
        for _ in 0..70 {
            conveyor.advance();
        }
        conveyor.render(&mut frame);
        for index in 0..conveyor.parts.len() {
            let Some(truth) = conveyor.parts[index].truth().filter(Truth::is_target) else { continue };
            let mut other = conveyor.clone();
            other.parts.remove(index);
            // The frame counter has moved on, and the noise and the stripes depend on it.
            other.frames -= 1;
            other.compose(&mut without);
            let [left, top, right, bottom] = difference(&frame, &without).expect("a part changes pixels");
            let [l, t, r, b] = [truth.left, truth.top, truth.right, truth.bottom].map(usize::from);
            // The half-covered pixels of the edge belong to the picture but not to the box.
            assert!(left <= l && l <= left + 2, "{truth:?}: drawn from column {left}");
            assert!(top <= t && t <= top + 2, "{truth:?}: drawn from row {top}");
            assert!(r <= right && right <= r + shadow.0 + 2, "{truth:?}: drawn to column {right}");
            assert!(b <= bottom && bottom <= b + shadow.1 + 2, "{truth:?}: drawn to row {bottom}");
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked}");
}

#[test]
fn truth_stays_inside_the_frame_and_is_sound() {
    let mut conveyor = Conveyor::new(8);
    let mut classes = HashSet::new();
    let mut visible = 0;
    for _ in 0..2000 {
        conveyor.advance();
        for part in conveyor.truth() {
            assert!(part.left < part.right && part.right <= 640, "{part:?}");
            assert!(part.top < part.bottom && part.bottom <= 480, "{part:?}");
            assert!(part.visible > 0.0 && part.visible <= 1.0, "{part:?}");
            classes.insert(part.class_id);
        }
        visible += conveyor.truth().iter().filter(|part| part.is_target()).count();
    }
    assert_eq!(classes, HashSet::from([0, 1, 2]));
    let mean = visible as f64 / 2000.0;
    assert!((3.0..10.0).contains(&mean), "{mean} parts a frame");
}

#[test]
fn five_thousand_frames_take_no_more_room_than_the_first() {
    let mut conveyor = Conveyor::new(13);
    let room = [&conveyor.parts, &conveyor.spare_parts].map(Vec::capacity);
    for _ in 0..5000 {
        conveyor.advance();
        assert!(conveyor.parts.len() + conveyor.spare_parts.len() <= PARTS_MAX);
        assert!(conveyor.marks.len() + conveyor.spare_marks.len() <= MARKS_MAX);
    }
    assert_eq!([&conveyor.parts, &conveyor.spare_parts].map(Vec::capacity), room);
    assert!(conveyor.parts.len() > 3, "the belt still carries parts");
}

#[test]
fn a_year_of_frames_is_like_the_first() {
    let (mut conveyor, mut frame) = rendered(2, 1);
    conveyor.frames = 25 * 3600 * 24 * 365;
    for _ in 0..20 {
        conveyor.render(&mut frame);
    }
    assert_eq!(frame.id, 25 * 3600 * 24 * 365 + 19);
    assert!(conveyor.truth().iter().any(|part| part.visible > 0.99));
    conveyor.frames = u64::MAX - 1;
    conveyor.render(&mut frame);
    assert_eq!(frame.id, u64::MAX - 1);
}
