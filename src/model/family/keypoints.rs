//! Key points of an object, named by the package's skeletons; the same for every family.

use crate::model::Semantics;
use crate::model::labels::Labels;
use crate::model::predictions::{Keypoint, Predictions, Shape, Span};

/// Points that a network gives every object: as many as the class with most of them has.
#[must_use]
pub fn slots(labels: &Labels) -> usize {
    labels.skeletons.iter().map(|skeleton| skeleton.names.len()).max().unwrap_or(0)
}

/// Adds the points (x, y in pixels of the image, confidence) of an object of a class, and says where they are. Points
/// beyond those of the class are padding of the network. The classic engine leaves out those of negative confidence,
/// the default engine those of none, too.
pub fn push_keypoints(
    points: impl Iterator<Item = (f64, f64, f32)>,
    class_id: u32,
    semantics: Semantics,
    labels: &Labels,
    into: &mut Predictions,
) -> Shape {
    let named = labels.skeleton(class_id).map_or(0, |skeleton| skeleton.names.len());
    let start = into.keypoints.len();
    for (id, (x, y, confidence)) in (0..).zip(points.take(named)) {
        let seen = match semantics {
            Semantics::Classic => confidence >= 0.0,
            Semantics::Default => confidence > 0.0,
        };
        if seen && x.is_finite() && y.is_finite() && confidence.is_finite() {
            into.keypoints.push(Keypoint { x, y, confidence, id });
        }
    }
    Shape::Keypoints(Span::since(start, into.keypoints.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Skeleton;
    use crate::model::Task;

    #[test]
    fn only_points_that_the_class_names_are_kept() {
        let mut labels = Labels::clone(&Labels::new(Task::KeypointDetection, vec!["a".into(), "b".into()]));
        let names = |count: usize| (0..count).map(|point| point.to_string()).collect();
        labels.skeletons = vec![
            Skeleton { class_id: 0, names: names(1), edges: Vec::new() },
            Skeleton { class_id: 1, names: names(3), edges: Vec::new() },
        ];
        assert_eq!(slots(&labels), 3);
        let points = [(1.0, 2.0, 0.0), (3.0, 4.0, 0.5), (f64::NAN, 0.0, 0.9)];
        let pushed = |class_id, semantics| {
            let mut into = Predictions::default();
            push_keypoints(points.into_iter(), class_id, semantics, &labels, &mut into);
            into.keypoints.iter().map(|point| point.id).collect::<Vec<_>>()
        };
        assert_eq!(pushed(0, Semantics::Classic), [0]);
        assert_eq!(pushed(1, Semantics::Classic), [0, 1]);
        assert_eq!(pushed(1, Semantics::Default), [1]);
        assert!(pushed(2, Semantics::Classic).is_empty());
    }
}
