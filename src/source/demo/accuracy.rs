//! How well a detector did against the truth: hits, false alarms and misses.

use super::truth::Truth;

/// Intersection over union from which a detection counts as having found a part.
const IOU: f32 = 0.5;

/// Part of a detection's own area that must lie on a barely visible part for the detection to be left out of account.
const ON_SLIVER: f32 = 0.5;

/// What a detector reported: a box in frame pixels. Whoever makes it has applied the confidence threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detected {
    pub class_id: usize,
    pub left: f32,
    pub top: f32,
    pub right: f32,
    pub bottom: f32,
    /// 0..=1; only the order matters here.
    pub confidence: f32,
}

/// Counts over any number of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Parts found: right class, intersection over union at least 0.5.
    pub true_positives: u64,
    /// Detections of nothing, of the wrong class, or of a part already found.
    pub false_positives: u64,
    /// Parts not found.
    pub misses: u64,
}

impl Score {
    /// Adds one frame.
    ///
    /// Detections are matched greedily by falling confidence, each to the free target of its class that it overlaps
    /// most. Parts visible to less than [`super::MIN_VISIBLE`] need not be found, and a detection that lies on one
    /// (half of its area or more, whatever its class) is no error.
    pub fn add(&mut self, truth: &[Truth], detections: &[Detected]) {
        let mut order: Vec<&Detected> = detections.iter().collect();
        order.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        let mut open: Vec<&Truth> = truth.iter().filter(|part| part.is_target()).collect();
        for detected in order {
            let same_class = open.iter().enumerate().filter(|(_, part)| part.class_id == detected.class_id);
            let overlaps = same_class.map(|(index, part)| (index, intersection_over_union(part, detected)));
            match overlaps.filter(|(_, overlap)| *overlap >= IOU).max_by(|a, b| a.1.total_cmp(&b.1)) {
                Some((index, _)) => {
                    open.swap_remove(index);
                    self.true_positives += 1;
                }
                None if truth.iter().any(|part| is_on_sliver(part, detected)) => {}
                None => self.false_positives += 1,
            }
        }
        self.misses += open.len() as u64;
    }

    /// Detections that were right over all detections, 0..=1; 1 when there were none.
    #[must_use]
    pub fn precision(&self) -> f64 {
        fraction(self.true_positives, self.false_positives)
    }

    /// Parts that were found over all parts, 0..=1; 1 when there were none.
    #[must_use]
    pub fn recall(&self) -> f64 {
        fraction(self.true_positives, self.misses)
    }
}

fn fraction(hits: u64, others: u64) -> f64 {
    if hits + others == 0 { 1.0 } else { hits as f64 / (hits + others) as f64 }
}

fn is_on_sliver(part: &Truth, detected: &Detected) -> bool {
    !part.is_target() && intersection(part, detected) >= ON_SLIVER * area(detected)
}

fn intersection_over_union(part: &Truth, detected: &Detected) -> f32 {
    let common = intersection(part, detected);
    let own = f32::from(part.right - part.left) * f32::from(part.bottom - part.top);
    common / (own + area(detected) - common)
}

fn intersection(part: &Truth, detected: &Detected) -> f32 {
    let width = detected.right.min(f32::from(part.right)) - detected.left.max(f32::from(part.left));
    let height = detected.bottom.min(f32::from(part.bottom)) - detected.top.max(f32::from(part.top));
    width.max(0.0) * height.max(0.0)
}

fn area(detected: &Detected) -> f32 {
    (detected.right - detected.left).max(0.0) * (detected.bottom - detected.top).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(class_id: usize, left: u16, visible: f32) -> Truth {
        Truth { class_id, left, top: 10, right: left + 20, bottom: 30, visible }
    }

    fn found(class_id: usize, left: f32, confidence: f32) -> Detected {
        Detected { class_id, left, top: 10.0, right: left + 20.0, bottom: 30.0, confidence }
    }

    fn score(truth: &[Truth], detections: &[Detected]) -> (u64, u64, u64) {
        let mut score = Score::default();
        score.add(truth, detections);
        (score.true_positives, score.false_positives, score.misses)
    }

    #[test]
    fn an_exact_box_of_the_right_class_is_a_hit() {
        assert_eq!(score(&[part(1, 40, 1.0)], &[found(1, 40.0, 0.9)]), (1, 0, 0));
        assert_eq!(score(&[part(1, 40, 1.0)], &[found(2, 40.0, 0.9)]), (0, 1, 1));
    }

    #[test]
    fn the_overlap_must_reach_one_half() {
        // Moved by 6 of 20 pixels: 14 / 26 = 0.54. By 7: 13 / 27 = 0.48.
        assert_eq!(score(&[part(1, 40, 1.0)], &[found(1, 46.0, 0.9)]), (1, 0, 0));
        assert_eq!(score(&[part(1, 40, 1.0)], &[found(1, 47.0, 0.9)]), (0, 1, 1));
    }

    #[test]
    fn a_part_is_found_once() {
        assert_eq!(score(&[part(1, 40, 1.0)], &[found(1, 40.0, 0.8), found(1, 41.0, 0.9)]), (1, 1, 0));
    }

    #[test]
    fn the_more_confident_detection_chooses_first() {
        // The better box is 40's own; 44 overlaps both, and being surer it takes the part it overlaps more.
        let truth = [part(1, 40, 1.0), part(1, 50, 1.0)];
        assert_eq!(score(&truth, &[found(1, 44.0, 0.9), found(1, 50.0, 0.5)]), (2, 0, 0));
        assert_eq!(score(&truth, &[found(1, 46.0, 0.9), found(1, 50.0, 0.5)]), (1, 1, 1));
    }

    #[test]
    fn a_sliver_is_neither_a_target_nor_an_error() {
        let sliver = Truth { right: 50, ..part(1, 40, 0.39) };
        assert_eq!(score(&[sliver], &[]), (0, 0, 0));
        assert_eq!(score(&[sliver], &[found(0, 40.0, 0.9)]), (0, 0, 0));
        assert_eq!(score(&[sliver], &[found(0, 41.0, 0.9)]), (0, 1, 0));
        assert_eq!(score(&[part(1, 40, 0.40)], &[]), (0, 0, 1));
    }

    #[test]
    fn fractions_are_over_all_frames_and_defined_without_any() {
        let mut score = Score::default();
        assert_eq!((score.precision().to_bits(), score.recall().to_bits()), (1.0_f64.to_bits(), 1.0_f64.to_bits()));
        score.add(&[part(0, 40, 1.0), part(0, 80, 1.0)], &[found(0, 40.0, 0.9)]);
        score.add(&[part(0, 40, 1.0)], &[found(0, 40.0, 0.9), found(2, 90.0, 0.6)]);
        assert!((score.precision() - 2.0 / 3.0).abs() < 1e-9);
        assert!((score.recall() - 2.0 / 3.0).abs() < 1e-9);
    }
}
