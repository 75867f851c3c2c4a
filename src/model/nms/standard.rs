//! The textbook's suppression, as Roboflow's default engine has it from torchvision's `batched_nms` (SPEC §2.5): a
//! box goes when its IoU with a stronger one of its class is above the limit.
//!
//! Up to a thousand boxes are suppressed in one run, classes kept apart by moving each class's boxes away by its id
//! times the largest coordinate plus one; more boxes go class by class. The first way rounds moved coordinates to 32
//! bits, and does not keep classes apart where coordinates are far below zero. Both show in answers, so both are here.

use super::{Candidate, keep_strongest};

/// Boxes that torchvision suppresses in one run on a CPU: 4,000 numbers.
const MOVED_BOXES_MAX: usize = 1_000;

/// Buffers kept from frame to frame.
#[derive(Debug, Default)]
pub struct StandardSuppressor {
    alive: Vec<Alive>,
    kept: Vec<Candidate>,
}

/// A candidate that may still be removed.
#[derive(Clone, Copy, Debug)]
struct Alive {
    /// Moved away from other classes' boxes.
    corners: [f32; 4],
    area: f32,
    candidate: Candidate,
}

impl StandardSuppressor {
    /// Reduces `candidates` to at most `max_detections`, strongest first; one class at a time, or all at once when
    /// `class_agnostic`.
    pub fn run(&mut self, candidates: &mut Vec<Candidate>, iou_max: f64, class_agnostic: bool, max_detections: usize) {
        let class = |candidate: &Candidate| if class_agnostic { 0 } else { candidate.class_id };
        self.kept.clear();
        if candidates.len() > MOVED_BOXES_MAX {
            candidates.sort_unstable_by_key(|candidate| (class(candidate), candidate.index));
            for class in candidates.chunk_by(|a, b| class(a) == class(b)) {
                self.alive.clear();
                self.alive.extend(class.iter().map(|candidate| alive(candidate, 0.0)));
                self.suppress(iou_max);
            }
            sort_by_confidence(&mut self.kept, |kept| kept);
        } else {
            let largest = candidates.iter().flat_map(|candidate| candidate.corners).fold(f32::MIN, f32::max);
            #[expect(clippy::cast_precision_loss, reason = "the original converts class ids to 32-bit floats, too")]
            let offset = |candidate: &Candidate| class(candidate) as f32 * (largest + 1.0);
            self.alive.clear();
            self.alive.extend(candidates.iter().map(|candidate| alive(candidate, offset(candidate))));
            self.suppress(iou_max);
        }
        self.kept.truncate(max_detections);
        std::mem::swap(candidates, &mut self.kept);
    }

    /// Greedy suppression of what is in `alive`; survivors go to `kept`, strongest first.
    fn suppress(&mut self, iou_max: f64) {
        sort_by_confidence(&mut self.alive, |alive| &alive.candidate);
        // A NaN (no area against no area) is not above the limit, and the box stays.
        let suppresses = |stronger: &Alive, other: &Alive| f64::from(iou(stronger, other)) > iou_max;
        keep_strongest(&mut self.alive, suppresses, |alive| self.kept.push(alive.candidate));
    }
}

fn alive(candidate: &Candidate, offset: f32) -> Alive {
    let corners = candidate.corners.map(|corner| corner + offset);
    let [left, top, right, bottom] = corners;
    Alive { corners, area: (right - left) * (bottom - top), candidate: *candidate }
}

/// Falling; equal confidences in the order of the network's output.
fn sort_by_confidence<T>(entries: &mut [T], candidate: impl Fn(&T) -> &Candidate) {
    entries.sort_unstable_by(|a, b| {
        let (a, b) = (candidate(a), candidate(b));
        b.confidence.total_cmp(&a.confidence).then(a.index.cmp(&b.index))
    });
}

fn iou(a: &Alive, b: &Alive) -> f32 {
    let width = (a.corners[2].min(b.corners[2]) - a.corners[0].max(b.corners[0])).max(0.0);
    let height = (a.corners[3].min(b.corners[3]) - a.corners[1].max(b.corners[1])).max(0.0);
    let intersection = width * height;
    intersection / (a.area + b.area - intersection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(corners: [f32; 4], confidence: f32, class_id: u32, index: u32) -> Candidate {
        Candidate { corners, confidence, class_id, index }
    }

    fn run(mut candidates: Vec<Candidate>, iou: f64, agnostic: bool, max: usize) -> Vec<u32> {
        StandardSuppressor::default().run(&mut candidates, iou, agnostic, max);
        candidates.iter().map(|candidate| candidate.index).collect()
    }

    #[test]
    fn a_small_box_inside_a_large_one_stays() {
        let large = candidate([0.0, 0.0, 100.0, 100.0], 0.9, 0, 0);
        let small = candidate([10.0, 10.0, 20.0, 20.0], 0.8, 0, 1);
        assert_eq!(run(vec![small, large], 0.3, false, 300), [0, 1]);
    }

    #[test]
    fn overlap_is_intersection_over_union() {
        // 50 of 150 shared.
        let one = candidate([0.0, 0.0, 10.0, 10.0], 0.9, 0, 0);
        let two = candidate([5.0, 0.0, 15.0, 10.0], 0.8, 0, 1);
        assert_eq!(run(vec![one, two], 0.34, false, 300), [0, 1]);
        assert_eq!(run(vec![one, two], 0.33, false, 300), [0]);
    }

    #[test]
    fn classes_are_apart_and_ties_keep_their_order() {
        let box_of = |confidence, class, index| candidate([0.0, 0.0, 10.0, 10.0], confidence, class, index);
        assert_eq!(run(vec![box_of(0.5, 0, 0), box_of(0.5, 1, 1)], 0.3, false, 300), [0, 1]);
        assert_eq!(run(vec![box_of(0.5, 0, 0), box_of(0.5, 1, 1)], 0.3, true, 300), [0]);
        assert_eq!(run(vec![box_of(0.5, 0, 0), box_of(0.5, 1, 1)], 0.3, false, 1), [0]);
    }

    #[test]
    fn more_than_a_thousand_boxes_go_class_by_class() {
        let boxes = |count: u32| -> Vec<Candidate> {
            let row = |i: u32| {
                let left = (i / 2) as f32 * 20.0;
                candidate([left, 0.0, left + 10.0, 10.0], 0.9 - i as f32 * 1e-4, i % 2, i)
            };
            (0..count).map(row).collect()
        };
        assert_eq!(run(boxes(1_002), 0.3, false, 2_000).len(), 1_002);
        assert_eq!(run(boxes(1_002), 0.3, true, 2_000).len(), 501);
        assert_eq!(run(boxes(1_002), 0.3, true, 3), [0, 2, 4]);
        assert_eq!(run(boxes(998), 0.3, true, 2_000).len(), 499);
    }
}
