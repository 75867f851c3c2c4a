//! Are two responses the same, within bounds?

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::outline;

/// How far an answer may be from the recorded one.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of the edges of boxes, and of key points.
    pixels: f64,
    confidence: f64,
    /// Of a polygon's outline from the other's, either way.
    outline: f64,
    /// Run lengths must be equal.
    exact: bool,
}

impl Bounds {
    /// Decode-only networks answer the same whatever they see, so only the last bit of a float may differ. For others a
    /// pixel, because whole-pixel rounding can fall the other way, and what tract's sums may differ from ONNX Runtime's.
    pub fn of(case: &Value) -> Self {
        match case["kind"].as_str() {
            Some("const") => Self { pixels: 1e-4, confidence: 1e-4, outline: 1e-3, exact: true },
            _ => Self { pixels: 1.0, confidence: 0.01, outline: 1.5, exact: false },
        }
    }
}

/// Least overlap of two masks, intersection over union.
const MASK_IOU_MIN: f64 = 0.99;

/// The recorded and the found response, without ids and times.
pub fn responses(expected: &Value, found: &Value, bounds: Bounds) -> Result<(), String> {
    let keys = |value: &Value| {
        let mut keys: Vec<String> = value.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
        keys.sort();
        keys
    };
    if keys(expected) != keys(found) {
        return Err(format!("fields {:?}, expected {:?}", keys(found), keys(expected)));
    }
    for field in ["image", "original_image", "mask_metadata", "top", "predicted_classes"] {
        if expected.get(field) != found.get(field) {
            return Err(format!("{field}: found {:?}, expected {:?}", found.get(field), expected.get(field)));
        }
    }
    let drift = number(expected, "confidence") - number(found, "confidence");
    if drift.abs() > bounds.confidence {
        return Err(format!("confidence {}, expected {}", found["confidence"], expected["confidence"]));
    }
    match (&expected["predictions"], &found["predictions"]) {
        (Value::Array(expected), Value::Array(found)) if expected.iter().all(|entry| entry.get("x").is_none()) => {
            classes(expected, found, bounds)
        }
        (Value::Array(wanted), Value::Array(found)) => objects(wanted, found, bounds),
        (Value::Object(expected), Value::Object(found)) if expected.contains_key("segmentation_mask") => {
            semantic(expected, found)
        }
        (Value::Object(expected), Value::Object(found)) => labels(expected, found, bounds),
        (expected, found) => Err(format!("predictions: found {found}, expected {expected}")),
    }
}

fn number(value: &Value, key: &str) -> f64 {
    value.get(key).and_then(Value::as_f64).unwrap_or(0.0)
}

/// Classes of one label, in their order.
fn classes(expected: &[Value], found: &[Value], bounds: Bounds) -> Result<(), String> {
    let same = expected.len() == found.len()
        && expected.iter().zip(found).all(|(want, have)| {
            want["class"] == have["class"]
                && want["class_id"] == have["class_id"]
                && (number(want, "confidence") - number(have, "confidence")).abs() <= bounds.confidence
        });
    // Equal scores may stand in either order.
    let swapped = |list: &[Value]| {
        let mut list: Vec<String> = list.iter().map(|entry| entry.to_string()).collect();
        list.sort();
        list
    };
    if same || swapped(expected) == swapped(found) {
        Ok(())
    } else {
        Err(format!("found {found:?}, expected {expected:?}"))
    }
}

/// Every class of many labels.
fn labels(expected: &Map<String, Value>, found: &Map<String, Value>, bounds: Bounds) -> Result<(), String> {
    let same = |(name, want): (&String, &Value)| {
        found.get(name).is_some_and(|have| {
            let drift = (number(want, "confidence") - number(have, "confidence")).abs();
            // The classic engine answers logits, which are not between 0 and 1.
            drift <= bounds.confidence * number(want, "confidence").abs().max(1.0)
                && want["class_id"] == have["class_id"]
        })
    };
    let all = expected.len() == found.len() && expected.iter().all(same);
    if all { Ok(()) } else { Err(format!("found {found:?}, expected {expected:?}")) }
}

/// Pixels of both maps: classes equal, confidences to one level of 255.
fn semantic(expected: &Map<String, Value>, found: &Map<String, Value>) -> Result<(), String> {
    for field in ["class_map", "present_class_ids"] {
        if expected.get(field) != found.get(field) {
            return Err(format!("{field}: found {:?}, expected {:?}", found.get(field), expected.get(field)));
        }
    }
    for (field, levels_max) in [("segmentation_mask", 0), ("confidence_mask", 1)] {
        let [want, have] = [expected, found].map(|map| pixels(map.get(field)));
        let (want, have) = (want?, have?);
        if want.dimensions() != have.dimensions() {
            return Err(format!("{field}: {:?}, expected {:?}", have.dimensions(), want.dimensions()));
        }
        let different = want.pixels().zip(have.pixels()).filter(|(a, b)| a[0].abs_diff(b[0]) > levels_max).count();
        if different > 0 {
            return Err(format!("{field}: {different} of {} pixels differ by more than {levels_max}", want.len()));
        }
    }
    Ok(())
}

fn pixels(png: Option<&Value>) -> Result<image::GrayImage, String> {
    let bytes = STANDARD.decode(png.and_then(Value::as_str).ok_or("no picture")?).map_err(|error| error.to_string())?;
    Ok(image::load_from_memory(&bytes).map_err(|error| error.to_string())?.into_luma8())
}

/// Same count and classes, everything within bounds. Each expected object takes the free one of its class that is
/// nearest, so equal scores may come in another order.
fn objects(expected: &[Value], found: &[Value], bounds: Bounds) -> Result<(), String> {
    if expected.len() != found.len() {
        return Err(format!("{} predictions, expected {}", found.len(), expected.len()));
    }
    let mut free: Vec<&Value> = found.iter().collect();
    for want in expected {
        let drift = |have: &Value| (number(have, "confidence") - number(want, "confidence")).abs();
        // Equal boxes may differ in their masks.
        let shape = |have: &Value| if shapes(want, have, bounds).is_ok() { 0.0 } else { 0.5 };
        let score = |have: &Value| distance(want, have) + drift(have) + shape(have);
        let same_class = free.iter().enumerate().filter(|(_, have)| have["class"] == want["class"]);
        let scored = same_class.map(|(index, have)| (index, have, score(have)));
        let Some((index, have, _)) = scored.min_by(|(.., a), (.., b)| a.total_cmp(b)) else {
            return Err(format!("no {} left for {}", want["class"], brief(want)));
        };
        if distance(want, have) > bounds.pixels
            || drift(have) > bounds.confidence
            || want["class_id"] != have["class_id"]
        {
            return Err(format!(
                "{} off by {:.4} px and {:.5} confidence: found {}, expected {}",
                want["class"],
                distance(want, have),
                drift(have),
                brief(have),
                brief(want)
            ));
        }
        shapes(want, have, bounds).map_err(|why| format!("{}: {why}", brief(want)))?;
        free.swap_remove(index);
    }
    Ok(())
}

/// Of the edges, not of centre and size: rounding moves an edge by a pixel, and with it a width.
fn distance(want: &Value, have: &Value) -> f64 {
    let edges = |value: &Value| {
        let (half_w, half_h) = (number(value, "width") / 2.0, number(value, "height") / 2.0);
        let (x, y) = (number(value, "x"), number(value, "y"));
        [x - half_w, y - half_h, x + half_w, y + half_h]
    };
    edges(want).iter().zip(edges(have)).map(|(want, have)| (have - want).abs()).fold(0.0, f64::max)
}

fn shapes(want: &Value, have: &Value, bounds: Bounds) -> Result<(), String> {
    if want["mask_format"] != have["mask_format"] {
        return Err(format!("mask_format {}, expected {}", have["mask_format"], want["mask_format"]));
    }
    match (&want["keypoints"], &have["keypoints"]) {
        (Value::Array(want), Value::Array(have)) => keypoints(want, have, bounds)?,
        (want, have) if want != have => return Err(format!("keypoints {have}, expected {want}")),
        _ => {}
    }
    match (&want["points"], &have["points"]) {
        (Value::Array(want), Value::Array(have)) => polygons(&points(want), &points(have), bounds)?,
        (want, have) if want != have => return Err(format!("points {have}, expected {want}")),
        _ => {}
    }
    match (&want["rle"], &have["rle"]) {
        (want, have) if want == have => Ok(()),
        (want, have) if bounds.exact || want["size"] != have["size"] => Err(format!("rle {have}, expected {want}")),
        (want, have) => overlap(&outline::decode_rle(want)?, &outline::decode_rle(have)?),
    }
}

fn keypoints(want: &[Value], have: &[Value], bounds: Bounds) -> Result<(), String> {
    let same = |(want, have): (&Value, &Value)| {
        ["x", "y"].iter().all(|axis| (number(want, axis) - number(have, axis)).abs() <= bounds.pixels)
            && (number(want, "confidence") - number(have, "confidence")).abs() <= bounds.confidence
            && want["class"] == have["class"]
            && want["class_id"] == have["class_id"]
    };
    let all = want.len() == have.len() && want.iter().zip(have).all(same);
    if all { Ok(()) } else { Err(format!("keypoints {have:?}, expected {want:?}")) }
}

fn points(list: &[Value]) -> Vec<[f64; 2]> {
    list.iter().map(|point| [number(point, "x"), number(point, "y")]).collect()
}

fn polygons(want: &[[f64; 2]], have: &[[f64; 2]], bounds: Bounds) -> Result<(), String> {
    if bounds.exact && want.len() != have.len() {
        return Err(format!("{} points, expected {}", have.len(), want.len()));
    }
    if bounds.exact {
        let far = |(a, b): (&[f64; 2], &[f64; 2])| (a[0] - b[0]).abs().max((a[1] - b[1]).abs());
        let worst = want.iter().zip(have).map(far).fold(0.0, f64::max);
        return if worst <= bounds.outline { Ok(()) } else { Err(format!("a point is off by {worst}")) };
    }
    if want.is_empty() != have.is_empty() {
        return Err(format!("{} points, expected {}", have.len(), want.len()));
    }
    let apart = outline::distance(want, have);
    if apart > bounds.outline {
        return Err(format!("outlines are {apart:.2} px apart"));
    }
    let (want, have) = outline::fill_both(want, have);
    overlap(&want, &have)
}

fn overlap(want: &[bool], have: &[bool]) -> Result<(), String> {
    let count = |both: fn(bool, bool) -> bool| want.iter().zip(have).filter(|&(&a, &b)| both(a, b)).count();
    let (shared, all) = (count(|a, b| a && b), count(|a, b| a || b));
    let iou = if all == 0 { 1.0 } else { shared as f64 / all as f64 };
    // A few pixels of a mask of a few hundred are below the bound and within the outline's.
    if iou >= MASK_IOU_MIN || all - shared <= 2 {
        Ok(())
    } else {
        Err(format!("mask IoU {iou:.4} ({} of {all} pixels differ)", all - shared))
    }
}

/// Without its long lists.
fn brief(value: &Value) -> String {
    let mut value = value.clone();
    if let Some(map) = value.as_object_mut() {
        map.retain(|key, _| !["points", "rle", "keypoints"].contains(&key.as_str()));
    }
    value.to_string()
}
