//! Points, polygons and lines of rules, in whatever units a rule has.

/// A point: x to the right, y down.
pub type Point = [f64; 2];

/// On which side of the line from `a` to `b` a point lies, and how far, times the line's length: below 0 to the left as
/// one sees it in the picture.
#[must_use]
pub fn side(a: Point, b: Point, point: Point) -> f64 {
    (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0])
}

/// Whether a point lies in a polygon, by the even-odd rule. Of two polygons that share an edge, a point on it is in one.
#[must_use]
pub fn contains(polygon: &[Point], [x, y]: Point) -> bool {
    let edges = polygon.iter().zip(polygon.iter().cycle().skip(1));
    let crossed =
        edges.filter(|([ax, ay], [bx, by])| (*ay > y) != (*by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax);
    crossed.count() % 2 == 1
}

/// Twice the area of a polygon, whichever way round it goes.
#[must_use]
pub fn double_area(polygon: &[Point]) -> f64 {
    let edges = polygon.iter().zip(polygon.iter().cycle().skip(1));
    edges.map(|([ax, ay], [bx, by])| ax * by - bx * ay).sum::<f64>().abs()
}

/// Whether two edges of a polygon that are not neighbours touch.
#[must_use]
pub fn crosses_itself(polygon: &[Point]) -> bool {
    let count = polygon.len();
    let edge = |at: usize| (polygon[at], polygon[(at + 1) % count]);
    let neighbours = |a: usize, b: usize| a == b || (a + 1) % count == b || (b + 1) % count == a;
    (0..count).any(|a| (0..a).any(|b| !neighbours(a, b) && touch(edge(a), edge(b))))
}

/// Whether two segments have a point in common.
fn touch((a, b): (Point, Point), (c, d): (Point, Point)) -> bool {
    let (to_c, to_d, to_a, to_b) = (side(a, b, c), side(a, b, d), side(c, d, a), side(c, d, b));
    let apart = |one: f64, other: f64| (one > 0.0 && other > 0.0) || (one < 0.0 && other < 0.0);
    if to_c == 0.0 && to_d == 0.0 {
        let overlap =
            |axis: usize| a[axis].min(b[axis]) <= c[axis].max(d[axis]) && c[axis].min(d[axis]) <= a[axis].max(b[axis]);
        return overlap(0) && overlap(1);
    }
    !apart(to_c, to_d) && !apart(to_a, to_b)
}

/// Whether the way from one point to another goes through the segment from `a` to `b`, and if so whether to its left. A
/// point on the line counts as to its right, and the end `b` is not part of it, so that of lines that follow each other one
/// is crossed.
#[must_use]
pub fn crossing([a, b]: [Point; 2], from: Point, to: Point) -> Option<bool> {
    let (before, after) = (side(a, b, from), side(a, b, to));
    if (before < 0.0) == (after < 0.0) {
        return None;
    }
    let share = before / (before - after);
    let at = [from[0] + share * (to[0] - from[0]), from[1] + share * (to[1] - from[1])];
    let (along, whole) = (dot(a, b, at), dot(a, b, b));
    (0.0..whole).contains(&along).then_some(after < 0.0)
}

/// How far a point lies from the segment from `a` to `b`.
#[must_use]
pub fn distance([a, b]: [Point; 2], point: Point) -> f64 {
    let share = (dot(a, b, point) / dot(a, b, b)).clamp(0.0, 1.0);
    let nearest = [a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])];
    f64::hypot(point[0] - nearest[0], point[1] - nearest[1])
}

/// How far along the line from `a` to `b` a point lies, times the line's length.
fn dot(a: Point, b: Point, point: Point) -> f64 {
    (b[0] - a[0]) * (point[0] - a[0]) + (b[1] - a[1]) * (point[1] - a[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn point(random: &mut Random) -> Point {
        [0, 0].map(|_: i32| f64::from(random.uniform(0.0, 1.0)))
    }

    #[test]
    fn a_polygon_contains_what_its_triangles_contain() {
        // A star-shaped polygon is its triangles about the centre, and a triangle's inside is three sides of the same sign.
        let mut random = Random::new(3);
        for _ in 0..300 {
            let corners = 3 + random.below(8);
            let centre = [0.5, 0.5];
            let polygon: Vec<Point> = (0..corners)
                .map(|corner| {
                    let angle = std::f64::consts::TAU * corner as f64 / corners as f64;
                    let radius = f64::from(random.uniform(0.1, 0.5));
                    [0.5 + radius * angle.cos(), 0.5 + radius * angle.sin()]
                })
                .collect();
            assert!(!crosses_itself(&polygon));
            let triangles: Vec<[Point; 3]> =
                (0..corners).map(|at| [centre, polygon[at], polygon[(at + 1) % corners]]).collect();
            let areas: f64 = triangles.iter().map(|triangle| double_area(triangle)).sum();
            assert!((double_area(&polygon) - areas).abs() < 1e-9);
            for _ in 0..50 {
                let at = point(&mut random);
                let inside = triangles.iter().any(|&[a, b, c]| {
                    let sides = [side(a, b, at), side(b, c, at), side(c, a, at)];
                    sides.iter().all(|side| *side > 0.0) || sides.iter().all(|side| *side < 0.0)
                });
                assert_eq!(contains(&polygon, at), inside, "{at:?} of {polygon:?}");
                let reversed: Vec<Point> = polygon.iter().rev().copied().collect();
                assert_eq!(contains(&reversed, at), inside);
            }
        }
    }

    #[test]
    fn a_closed_walk_crosses_a_line_as_often_one_way_as_the_other_or_goes_round_its_ends() {
        let mut random = Random::new(11);
        for _ in 0..500 {
            // So long that nobody goes round.
            let line = [[f64::from(random.uniform(0.2, 0.8)), -9.0], [f64::from(random.uniform(0.2, 0.8)), 9.0]];
            let walk: Vec<Point> = (0..20).map(|_| point(&mut random)).collect();
            let steps = walk.iter().zip(walk.iter().cycle().skip(1));
            let crossings: Vec<bool> = steps.filter_map(|(&from, &to)| crossing(line, from, to)).collect();
            let left = crossings.iter().filter(|left| **left).count();
            assert_eq!(2 * left, crossings.len());
            assert!(crossings.windows(2).all(|pair| pair[0] != pair[1]), "twice the same way: {crossings:?}");
        }
    }

    #[test]
    fn lines_that_follow_each_other_are_crossed_once() {
        let mut random = Random::new(17);
        for _ in 0..2000 {
            let (a, b) = ([0.5, -9.0], [0.5, 9.0]);
            let joint = [0.5, f64::from(random.uniform(0.0, 1.0))];
            let (from, to) = (point(&mut random), point(&mut random));
            let parts = [crossing([a, joint], from, to), crossing([joint, b], from, to)];
            let whole = Vec::from_iter(crossing([a, b], from, to));
            assert_eq!(parts.into_iter().flatten().collect::<Vec<_>>(), whole, "{from:?} to {to:?} by {joint:?}");
        }
    }

    #[test]
    fn directions_are_those_of_the_picture() {
        let rightwards = [[0.0, 0.5], [1.0, 0.5]];
        assert_eq!(crossing(rightwards, [0.5, 0.9], [0.5, 0.1]), Some(true), "up is to the left of rightwards");
        assert_eq!(crossing(rightwards, [0.5, 0.1], [0.5, 0.9]), Some(false));
        assert_eq!(crossing(rightwards, [1.5, 0.1], [1.5, 0.9]), None, "past its end");
        assert_eq!(crossing(rightwards, [0.1, 0.1], [0.9, 0.1]), None);
        // Onto the line and back is no crossing; onto it and on is one, wherever it paused.
        assert_eq!(crossing(rightwards, [0.5, 0.9], [0.5, 0.5]), None);
        assert_eq!(crossing(rightwards, [0.5, 0.5], [0.5, 0.1]), Some(true));
        assert!((distance(rightwards, [0.5, 0.75]) - 0.25).abs() < 1e-12);
        assert!((distance(rightwards, [4.0, 4.5]) - 5.0).abs() < 1e-12);
    }

    #[test]
    fn bow_ties_and_spikes_cross_themselves() {
        assert!(crosses_itself(&[[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]));
        assert!(!crosses_itself(&[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]));
        assert!(!crosses_itself(&[[0.0, 0.0], [1.0, 0.0], [0.5, 1.0]]));
    }
}
