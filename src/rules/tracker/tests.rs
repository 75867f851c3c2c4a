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
            let detections: Vec<Detection> =
                frame.iter().map(|&[left, top, right, bottom, score, _]| seen([left, top, right, bottom], score)).collect();
            for (at, (ours, theirs)) in ids(tracker.update(&detections, time as f64)).into_iter().zip(frame).enumerate() {
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
