//! How well detections agree with what they should be: mean average precision as COCO reckons it (T.-Y. Lin et al.,
//! Microsoft COCO, 2014; `pycocotools`, 101 recall points, no areas, no crowds).
//!
//! Of a quantized model the detections should be those that the same model makes in numbers: no labels are needed, and 1
//! says that nobody would see a difference.

use super::Detection;

/// Least overlaps at which a detection counts as found: 0.5, 0.55 … 0.95.
const OVERLAPS: usize = 10;
/// Recalls at which precision is read: 0, 0.01 … 1.
const RECALLS: usize = 101;
/// Detections of an image and a class that count, the surest ones.
const DETECTIONS_MAX: usize = 100;

/// Mean average precision over all classes that should be found.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Accuracy {
    /// At an overlap of at least 0.5.
    pub map_50: f64,
    /// The mean of those at 0.5, 0.55 … 0.95.
    pub map_50_95: f64,
    /// Images that were compared.
    pub images: usize,
    /// Objects that should be found.
    pub objects: usize,
    pub classes: usize,
}

/// Compares what was found with what should be, image by image; `None` where nothing should be found. Those that should
/// be found are all alike, whatever their confidence; leave out those that the model itself is not sure of. Of what was
/// found leave in what is far less sure: precision is read at every recall.
#[must_use]
pub fn accuracy(wanted: &[&[Detection]], found: &[&[Detection]]) -> Option<Accuracy> {
    let mut classes: Vec<u32> = wanted.iter().flat_map(|image| image.iter().map(|object| object.class_id)).collect();
    let objects = classes.len();
    classes.sort_unstable();
    classes.dedup();
    if classes.is_empty() {
        return None;
    }
    let mut means = [0.0; OVERLAPS];
    for &class in &classes {
        for (index, mean) in means.iter_mut().enumerate() {
            let overlap = 0.5 + 0.05 * index as f64;
            *mean += average_precision(wanted, found, class, overlap) / classes.len() as f64;
        }
    }
    let map_50_95 = means.iter().sum::<f64>() / OVERLAPS as f64;
    Some(Accuracy { map_50: means[0], map_50_95, images: wanted.len(), objects, classes: classes.len() })
}

/// Intersection over union.
fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let side = |low: usize| (a[low + 2].min(b[low + 2]) - a[low].max(b[low])).max(0.0);
    let area = |of: &[f64; 4]| (of[2] - of[0]).max(0.0) * (of[3] - of[1]).max(0.0);
    let both = side(0) * side(1);
    let all = area(a) + area(b) - both;
    if all > 0.0 { both / all } else { 0.0 }
}

fn average_precision(wanted: &[&[Detection]], found: &[&[Detection]], class: u32, least: f64) -> f64 {
    // Confidence, and whether an object was found by it.
    let mut hits: Vec<(f32, bool)> = Vec::new();
    let mut objects = 0;
    for (wanted, found) in wanted.iter().zip(found) {
        let of_class = |image: &[Detection]| -> Vec<Detection> {
            image.iter().filter(|detection| detection.class_id == class).copied().collect()
        };
        let (wanted, mut found) = (of_class(wanted), of_class(found));
        found.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        found.truncate(DETECTIONS_MAX);
        objects += wanted.len();
        let mut taken = vec![false; wanted.len()];
        for detection in found {
            // Of the objects that are left the one it covers best.
            let best = wanted
                .iter()
                .enumerate()
                .filter(|&(at, _)| !taken[at])
                .map(|(at, object)| (at, overlap(&object.corners, &detection.corners)))
                .filter(|&(_, overlap)| overlap >= least - 1e-10)
                .max_by(|a, b| a.1.total_cmp(&b.1));
            if let Some((at, _)) = best {
                taken[at] = true;
            }
            hits.push((detection.confidence, best.is_some()));
        }
    }
    if objects == 0 {
        return 0.0;
    }
    hits.sort_by(|a, b| b.0.total_cmp(&a.0));
    // Recall and precision after each detection; then the best precision at that recall or any later one.
    let mut right = 0;
    let mut curve: Vec<(f64, f64)> = hits
        .iter()
        .enumerate()
        .map(|(before, &(_, hit))| {
            right += usize::from(hit);
            (right as f64 / objects as f64, right as f64 / (before + 1) as f64)
        })
        .collect();
    let mut best = 0.0;
    for (_, precision) in curve.iter_mut().rev() {
        best = f64::max(best, *precision);
        *precision = best;
    }
    let at = |recall: f64| {
        curve.iter().find(|(reached, _)| *reached >= recall - 1e-10).map_or(0.0, |(_, precision)| *precision)
    };
    (0..RECALLS).map(|index| at(index as f64 / (RECALLS - 1) as f64)).sum::<f64>() / RECALLS as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Shape;

    fn object(corners: [f64; 4], confidence: f32, class_id: u32) -> Detection {
        Detection { corners, confidence, class_id, shape: Shape::Box }
    }

    fn at(left: f64, confidence: f32) -> Detection {
        object([left, 0.0, left + 10.0, 10.0], confidence, 0)
    }

    fn of(wanted: &[Detection], found: &[Detection]) -> Accuracy {
        accuracy(&[wanted], &[found]).unwrap()
    }

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }

    #[test]
    fn the_same_detections_are_perfect() {
        let objects = [at(0.0, 0.9), at(50.0, 0.3), object([0.0, 0.0, 4.0, 4.0], 0.5, 7)];
        let found = of(&objects, &objects);
        assert_eq!((found.map_50, found.map_50_95, found.objects, found.classes), (1.0, 1.0, 3, 2));
    }

    #[test]
    fn a_missed_object_costs_its_share_of_recall() {
        // Recalls 0 to 0.5 are reached: 51 of 101.
        near(of(&[at(0.0, 0.9), at(50.0, 0.9)], &[at(50.0, 0.4)]).map_50_95, 51.0 / 101.0);
        // A whole class of two.
        let other = object([0.0, 0.0, 4.0, 4.0], 0.5, 7);
        near(of(&[at(0.0, 0.9), other], &[at(0.0, 0.9)]).map_50_95, 0.5);
        near(of(&[other], &[]).map_50, 0.0);
    }

    #[test]
    fn a_surer_wrong_detection_costs_precision_and_a_less_sure_one_nothing() {
        near(of(&[at(0.0, 0.9)], &[at(50.0, 0.9), at(0.0, 0.8)]).map_50, 0.5);
        near(of(&[at(0.0, 0.9)], &[at(50.0, 0.7), at(0.0, 0.8)]).map_50, 1.0);
        // Nor does one of a class that should not be there.
        near(of(&[at(0.0, 0.9)], &[object([0.0; 4], 1.0, 3), at(0.0, 0.8)]).map_50, 1.0);
    }

    #[test]
    fn an_object_is_found_once() {
        // The second one is wrong, but after the recall was reached.
        near(of(&[at(0.0, 0.9)], &[at(0.0, 0.8), at(0.0, 0.7)]).map_50, 1.0);
        // Precision 1, 1/2, 2/3: 51 recalls at 1 and 50 at 2/3.
        let wanted = [at(0.0, 0.9), at(50.0, 0.9)];
        let found = [at(0.0, 0.8), at(0.0, 0.7), at(50.0, 0.6)];
        near(of(&wanted, &found).map_50, (51.0 + 50.0 * 2.0 / 3.0) / 101.0);
    }

    #[test]
    fn overlaps_count_from_a_half_on_in_steps_of_a_twentieth() {
        // 10 × 10 moved by 2.5: 75 of 125, exactly 0.6, which three of ten bounds allow.
        let found = of(&[at(0.0, 0.9)], &[at(2.5, 0.9)]);
        near(found.map_50, 1.0);
        near(found.map_50_95, 0.3);
    }

    #[test]
    fn images_are_ranked_together_but_matched_apart() {
        let (here, there) = (at(0.0, 0.9), at(50.0, 0.9));
        let found = accuracy(&[&[here], &[there]], &[&[there], &[here]]).unwrap();
        near(found.map_50, 0.0);
        assert_eq!(accuracy(&[&[], &[]], &[&[here], &[]]), None);
    }
}
