//! Suppression as Roboflow's classic engine does it (SPEC §2.5).
//!
//! It is not the textbook's: the overlap of two boxes is their intersection over the *weaker box's own area*, with one
//! pixel added to every width and height, so that a small box inside a large one is removed although their IoU is
//! small. Overlaps are computed in f64 from f32 corners, as numpy's were.

use super::argsort::argsort;
use super::{Candidate, keep_strongest};

/// Buffers kept from frame to frame.
#[derive(Debug, Default)]
pub struct ClassicSuppressor {
    ranking: Ranking,
    /// Candidates of the class in hand that may still be removed: corners, area, and where they stand.
    alive: Vec<Alive>,
    kept: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Alive {
    corners: [f64; 4],
    area: f64,
    position: usize,
}

/// Sorts by confidence with numpy's order of ties.
#[derive(Debug, Default)]
struct Ranking {
    keys: Vec<f64>,
    order: Vec<u32>,
    sorted: Vec<Candidate>,
}

impl Ranking {
    /// `candidates[argsort(sign * confidence)]`.
    fn sort(&mut self, candidates: &mut [Candidate], sign: f64) {
        self.keys.clear();
        self.keys.extend(candidates.iter().map(|candidate| sign * f64::from(candidate.confidence)));
        argsort(&self.keys, &mut self.order);
        self.sorted.clear();
        self.sorted.extend(self.order.iter().map(|&index| candidates[index as usize]));
        candidates.copy_from_slice(&self.sorted);
    }
}

impl ClassicSuppressor {
    /// Reduces `candidates` to at most `max_detections` that do not overlap by more than `overlap_max`, strongest
    /// first; one class at a time, or all at once when `class_agnostic`.
    pub fn run(
        &mut self,
        candidates: &mut Vec<Candidate>,
        overlap_max: f64,
        class_agnostic: bool,
        max_detections: usize,
    ) {
        let group = |candidate: &Candidate| if class_agnostic { 0 } else { candidate.class_id };
        candidates.sort_unstable_by_key(|candidate| (group(candidate), candidate.index));
        self.kept.clear();
        for class in candidates.chunk_by_mut(|a, b| group(a) == group(b)) {
            // The original sorts falling, then rising, and reads from the end.
            self.ranking.sort(class, -1.0);
            self.ranking.sort(class, 1.0);
            class.reverse();
            self.suppress(class, overlap_max);
        }
        self.ranking.sort(&mut self.kept, -1.0);
        self.kept.truncate(max_detections);
        std::mem::swap(candidates, &mut self.kept);
    }

    /// Greedy suppression of candidates sorted by falling confidence; survivors go to `kept`.
    fn suppress(&mut self, sorted: &[Candidate], overlap_max: f64) {
        self.alive.clear();
        self.alive.extend(sorted.iter().enumerate().map(|(position, candidate)| {
            let corners = candidate.corners.map(f64::from);
            let [left, top, right, bottom] = corners;
            Alive { corners, area: (right - left + 1.0) * (bottom - top + 1.0), position }
        }));
        // A NaN (no area times no intersection) is not above the limit, and the candidate stays.
        let suppresses = |stronger: &Alive, other: &Alive| overlap(&stronger.corners, other) > overlap_max;
        keep_strongest(&mut self.alive, suppresses, |alive| self.kept.push(sorted[alive.position]));
    }
}

/// Intersection with a stronger box over the candidate's own area.
fn overlap(stronger: &[f64; 4], candidate: &Alive) -> f64 {
    let other = &candidate.corners;
    let width = (stronger[2].min(other[2]) - stronger[0].max(other[0]) + 1.0).max(0.0);
    let height = (stronger[3].min(other[3]) - stronger[1].max(other[1]) + 1.0).max(0.0);
    width * height / candidate.area
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(corners: [f32; 4], confidence: f32, class_id: u32, index: u32) -> Candidate {
        Candidate { corners, confidence, class_id, index }
    }

    fn run(mut candidates: Vec<Candidate>, overlap: f64, agnostic: bool, max: usize) -> Vec<u32> {
        ClassicSuppressor::default().run(&mut candidates, overlap, agnostic, max);
        candidates.iter().map(|candidate| candidate.index).collect()
    }

    #[test]
    fn a_small_box_inside_a_large_one_goes_although_the_iou_is_small() {
        let large = candidate([0.0, 0.0, 100.0, 100.0], 0.9, 0, 0);
        let small = candidate([10.0, 10.0, 20.0, 20.0], 0.8, 0, 1);
        assert_eq!(run(vec![small, large], 0.3, false, 300), [0]);
        // The other way round the large one is the candidate, and little of its own area is covered.
        let small_first = candidate([10.0, 10.0, 20.0, 20.0], 0.95, 0, 1);
        assert_eq!(run(vec![small_first, large], 0.3, false, 300), [1, 0]);
    }

    #[test]
    fn classes_do_not_suppress_each_other_unless_told() {
        let one = candidate([0.0, 0.0, 10.0, 10.0], 0.9, 0, 0);
        let two = candidate([0.0, 0.0, 10.0, 10.0], 0.8, 1, 1);
        assert_eq!(run(vec![one, two], 0.3, false, 300), [0, 1]);
        assert_eq!(run(vec![one, two], 0.3, true, 300), [0]);
    }

    #[test]
    fn one_pixel_is_added_to_sides() {
        // 10 wide by their corners, 11 by this engine; 5 + 1 of them shared: 66 / 121 = 0.545.
        let one = candidate([0.0, 0.0, 10.0, 10.0], 0.9, 0, 0);
        let two = candidate([5.0, 0.0, 15.0, 10.0], 0.8, 0, 1);
        assert_eq!(run(vec![one, two], 0.546, false, 300), [0, 1]);
        assert_eq!(run(vec![one, two], 0.545, false, 300), [0]);
    }

    #[test]
    fn the_strongest_remain_when_there_are_too_many() {
        let apart =
            |i: u32, confidence| candidate([i as f32 * 100.0, 0.0, i as f32 * 100.0 + 9.0, 9.0], confidence, i, i);
        assert_eq!(run(vec![apart(0, 0.5), apart(1, 0.9), apart(2, 0.7)], 0.3, false, 2), [1, 2]);
        assert_eq!(run(vec![apart(0, 0.5)], 0.3, false, 0), [0_u32; 0]);
    }
}
