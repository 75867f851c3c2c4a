//! The tracker against supervision's, as `scripts/record_tracks.py` recorded it, and on its own.

use std::collections::HashMap;

use serde::Deserialize;

use super::*;
use crate::model::Shape;

#[derive(Deserialize)]
struct Recorded {
    settings: TrackerConfig,
    /// Left, top, right, bottom, confidence, number of the track or 0.
    frames: Vec<Vec<[f64; 6]>>,
}

#[expect(clippy::cast_possible_truncation, reason = "a confidence")]
fn seen([left, top, right, bottom]: [f64; 4], confidence: f64) -> Detection {
    Detection { corners: [left, top, right, bottom], confidence: confidence as f32, class_id: 0, shape: Shape::Box }
}

/// A box of 40 pixels about a centre.
fn square(x: f64, y: f64) -> Detection {
    seen([x - 20.0, y - 20.0, x + 20.0, y + 20.0], 0.9)
}

fn ids(tracked: &[Option<Tracked>]) -> Vec<Option<u64>> {
    tracked.iter().map(|tracked| tracked.map(|tracked| tracked.id)).collect()
}

#[test]
fn tracks_are_those_of_supervision() {
    let scenes: Vec<Recorded> = serde_json::from_str(include_str!("recorded.json")).unwrap();
    for (number, scene) in scenes.iter().enumerate() {
        let mut tracker = Tracker::new(&scene.settings);
        // Numbers may differ, but each of ours is one of theirs and the other way round.
        let (mut theirs_of, mut ours_of) = (HashMap::new(), HashMap::new());
        let mut followed = 0;
        for (time, frame) in scene.frames.iter().enumerate() {
            let detections: Vec<Detection> = frame
                .iter()
                .map(|&[left, top, right, bottom, score, _]| seen([left, top, right, bottom], score))
                .collect();
            for (at, (ours, theirs)) in ids(tracker.update(&detections, time as f64)).into_iter().zip(frame).enumerate()
            {
                let theirs = (theirs[5] > 0.0).then_some(theirs[5].to_bits());
                let place = format!("scene {number}, frame {time}, detection {at}");
                assert_eq!(ours.is_some(), theirs.is_some(), "{place}");
                if let (Some(ours), Some(theirs)) = (ours, theirs) {
                    assert_eq!(*theirs_of.entry(ours).or_insert(theirs), theirs, "{place}");
                    assert_eq!(*ours_of.entry(theirs).or_insert(ours), ours, "{place}");
                    followed += 1;
                }
            }
        }
        assert!(followed > 200, "scene {number}: {followed}");
    }
}

#[test]
fn a_track_is_found_again_within_its_buffer_and_never_given_to_another() {
    let mut tracker = Tracker::new(&TrackerConfig::default());
    assert_eq!(ids(tracker.update(&[square(100.0, 100.0)], 0.0)), [Some(1)]);
    assert_eq!(ids(tracker.update(&[], 1.0)), []);
    // Thirty frames at 30 frames a second are one second, whether they come or are dropped.
    assert_eq!(ids(tracker.update(&[square(100.0, 100.0)], 31.0)), [Some(1)]);
    assert_eq!(ids(tracker.update(&[square(100.0, 100.0)], 63.0)), [None]);
    assert_eq!(ids(tracker.update(&[square(100.0, 100.0)], 64.0)), [Some(2)]);
}

#[test]
fn dropped_frames_cost_a_moving_object_no_track() {
    let mut tracker = Tracker::new(&TrackerConfig::default());
    let mut at = |frame: f64| ids(tracker.update(&[square(40.0 + 4.0 * frame, 100.0)], frame));
    for frame in 0..30 {
        assert_eq!(at(f64::from(frame)), [Some(1)], "{frame}");
    }
    // Fifteen frames are 60 pixels: more than the object is wide, so that only where it must be by now finds it.
    assert_eq!(at(45.0), [Some(1)]);
}

#[test]
fn classes_are_kept_apart_where_that_is_asked_for() {
    for class_aware in [false, true] {
        let mut tracker = Tracker::new(&TrackerConfig { class_aware, ..TrackerConfig::default() });
        tracker.update(&[square(100.0, 100.0)], 0.0);
        let other = Detection { class_id: 1, ..square(100.0, 100.0) };
        let found = ids(tracker.update(&[other], 1.0));
        assert_eq!(found, [(!class_aware).then_some(1)]);
    }
}

#[test]
fn what_is_no_box_is_no_track_and_a_crowd_has_a_limit() {
    let mut tracker = Tracker::new(&TrackerConfig::default());
    let bad = [
        seen([f64::NAN, 0.0, 10.0, 10.0], 0.9),
        seen([0.0, 0.0, f64::INFINITY, 10.0], 0.9),
        seen([10.0, 10.0, 10.0, 10.0], 0.9),
        seen([10.0, 10.0, 0.0, 0.0], 0.9),
        seen([0.0, 0.0, 10.0, 10.0], f64::NAN),
    ];
    assert_eq!(ids(tracker.update(&bad, 0.0)), [None; 5]);
    let mut tracker = Tracker::new(&TrackerConfig::default());
    let crowd: Vec<Detection> = (0..1000).map(|n| square(50.0 * f64::from(n % 40), 50.0 * f64::from(n / 40))).collect();
    for time in 0..3 {
        let found = ids(tracker.update(&crowd, f64::from(time)));
        assert_eq!((found.len(), found.iter().flatten().count()), (1000, TRACKS_MAX));
    }
    // All of them gone at once, others take their places, and nobody their numbers.
    let others: Vec<Detection> = crowd.iter().map(|of| square(of.corners[0] + 9000.0, of.corners[1])).collect();
    tracker.update(&others, 3.0);
    let found = ids(tracker.update(&others, 4.0));
    assert_eq!(found.iter().flatten().min(), Some(&(TRACKS_MAX as u64 + 1)));
}

#[test]
fn nothing_is_allocated_after_the_start() {
    let mut tracker = Tracker::new(&TrackerConfig::default());
    let crowd: Vec<Detection> = (0..300).map(|n| square(50.0 * f64::from(n % 40), 50.0 * f64::from(n / 40))).collect();
    let sizes = |tracker: &Tracker| {
        let lists = [&tracker.pool, &tracker.unconfirmed, &tracker.strong, &tracker.weak, &tracker.left];
        lists.map(Vec::capacity)
    };
    let before = sizes(&tracker);
    for time in 0..5 {
        tracker.update(if time % 2 == 0 { &crowd } else { &[] }, f64::from(time));
    }
    assert_eq!(sizes(&tracker), before);
}
