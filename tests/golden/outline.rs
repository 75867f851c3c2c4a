//! Polygons and run lengths, for comparing masks.

use serde_json::Value;

/// Largest distance of a corner of either polygon from the other's outline, pixels.
pub fn distance(a: &[[f64; 2]], b: &[[f64; 2]]) -> f64 {
    let one_way =
        |from: &[[f64; 2]], to: &[[f64; 2]]| from.iter().map(|&point| to_outline(point, to)).fold(0.0, f64::max);
    one_way(a, b).max(one_way(b, a))
}

fn to_outline(point: [f64; 2], outline: &[[f64; 2]]) -> f64 {
    let next = outline.iter().cycle().skip(1);
    outline.iter().zip(next).map(|(&start, &end)| to_segment(point, start, end)).fold(f64::INFINITY, f64::min)
}

fn to_segment(point: [f64; 2], start: [f64; 2], end: [f64; 2]) -> f64 {
    let (dx, dy) = (end[0] - start[0], end[1] - start[1]);
    let length = dx * dx + dy * dy;
    let along = ((point[0] - start[0]) * dx + (point[1] - start[1]) * dy) / length;
    let along = if length == 0.0 { 0.0 } else { along.clamp(0.0, 1.0) };
    (point[0] - start[0] - along * dx).hypot(point[1] - start[1] - along * dy)
}

/// Both polygons' pixels on one grid.
pub fn fill_both(a: &[[f64; 2]], b: &[[f64; 2]]) -> (Vec<bool>, Vec<bool>) {
    let all = || a.iter().chain(b);
    let bound = |axis: usize, pick: fn(f64, f64) -> f64, from: f64| all().map(|p| p[axis]).fold(from, pick);
    let (left, top) = (bound(0, f64::min, f64::INFINITY).floor(), bound(1, f64::min, f64::INFINITY).floor());
    let (right, bottom) = (bound(0, f64::max, f64::NEG_INFINITY), bound(1, f64::max, f64::NEG_INFINITY));
    let fill = |polygon: &[[f64; 2]]| {
        let mut pixels = Vec::new();
        let mut y = top + 0.5;
        while y < bottom {
            let mut crossings: Vec<f64> = Vec::new();
            for (start, end) in polygon.iter().zip(polygon.iter().cycle().skip(1)) {
                if (start[1] <= y) != (end[1] <= y) {
                    crossings.push(start[0] + (y - start[1]) / (end[1] - start[1]) * (end[0] - start[0]));
                }
            }
            let mut x = left + 0.5;
            while x < right {
                pixels.push(crossings.iter().filter(|&&crossing| crossing < x).count() % 2 == 1);
                x += 1.0;
            }
            y += 1.0;
        }
        pixels
    };
    (fill(a), fill(b))
}

/// COCO's compressed run lengths as pixels, column by column.
pub fn decode_rle(rle: &Value) -> Result<Vec<bool>, String> {
    let counts = rle["counts"].as_str().ok_or("no counts")?.as_bytes();
    let side = |index: usize| rle["size"][index].as_u64().and_then(|side| usize::try_from(side).ok()).ok_or("no size");
    let mut runs: Vec<i64> = Vec::new();
    let mut at = 0;
    while at < counts.len() {
        let (mut run, mut shift) = (0_i64, 0);
        loop {
            let digit = i64::from(*counts.get(at).ok_or("counts end early")?) - 48;
            run |= (digit & 0x1f) << shift;
            (at, shift) = (at + 1, shift + 5);
            if digit & 0x20 == 0 {
                if digit & 0x10 != 0 {
                    run |= -1 << shift;
                }
                break;
            }
        }
        if runs.len() > 2 {
            run += runs[runs.len() - 2];
        }
        runs.push(run);
    }
    let mut pixels = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        pixels.extend(std::iter::repeat_n(index % 2 == 1, usize::try_from(*run).map_err(|error| error.to_string())?));
    }
    if pixels.len() == side(0)? * side(1)? { Ok(pixels) } else { Err(format!("{} pixels", pixels.len())) }
}
