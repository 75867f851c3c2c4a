//! What lies on the belt and is no part: seams, scratches and dirt, which the detector must keep silent about.
//!
//! Formulas are those of section 2 of `src/demo/SCENE.md`.

use std::f32::consts::TAU;

use super::{
    HEIGHT,
    sprite::{Sprite, Texel},
    stencil::Stencil,
};
use crate::random::Random;

/// Blank pixels around a mark, for its soft edge.
const MARGIN: i32 = 3;

/// Paints a seam as tall as the frame: a dark band, a little aslant, with a bright lip along its right side.
pub(super) fn seam(random: &mut Random, stencil: &mut Stencil, sprite: &mut Sprite) {
    let height = HEIGHT as f32;
    let (lean, width) = (random.uniform(-0.10, 0.10), random.uniform(2.0, 5.0));
    let (keep, lip) = (random.uniform(0.5, 0.75), random.uniform(6.0, 22.0));
    let reach = (lean * height / 2.0).abs() + width;
    stencil.reset(whole(2.0 * reach) + 2 * MARGIN, whole(height));
    let middle = stencil.width() as f32 / 2.0;
    let end = |y: f32| (middle - lean * (y - height / 2.0), y);
    stencil.line(end(-8.0), end(height + 8.0), width);
    sprite.paint(stencil.width(), stencil.height(), |x, y| {
        let band = stencil.coverage(x, y);
        let beside = (stencil.coverage(x - 1, y) - band).max(0.0);
        Texel::new(1.0 - (1.0 - keep) * band, [lip * beside; 3])
    });
}

/// Paints a straight scratch, brighter or darker than the belt.
pub(super) fn scratch(random: &mut Random, stencil: &mut Stencil, sprite: &mut Sprite) {
    let (sin, cos) = random.uniform(0.0, TAU).sin_cos();
    let (length, width) = (random.uniform(20.0, 150.0), random.uniform(0.8, 2.2));
    let levels = random.sign() * random.uniform(8.0, 28.0);
    let (across, down) = (length * cos.abs(), length * sin.abs());
    stencil.reset(whole(across) + 2 * MARGIN, whole(down) + 2 * MARGIN);
    let (x, y) = (stencil.width() as f32 / 2.0, stencil.height() as f32 / 2.0);
    let (u, v) = (length * cos / 2.0, length * sin / 2.0);
    stencil.line((x - u, y - v), (x + u, y + v), width);
    sprite.paint(stencil.width(), stencil.height(), |x, y| Texel::new(1.0, [levels * stencil.coverage(x, y); 3]));
}

/// Paints a blob of dirt with a soft edge, darker than the belt two times in three.
pub(super) fn dirt(random: &mut Random, stencil: &mut Stencil, sprite: &mut Sprite) {
    const DIRECTIONS: usize = 9;
    let radius = random.uniform(4.0, 18.0);
    let sign = if random.chance(0.67) { -1.0 } else { 1.0 };
    let levels = sign * random.uniform(8.0, 26.0);
    let add = [(); 3].map(|()| levels * random.uniform(0.8, 1.2));
    let side = whole(2.5 * radius) + 2 * MARGIN;
    stencil.reset(side, side);
    let centre = (side as f32 / 2.0, side as f32 / 2.0);
    let rim: [_; DIRECTIONS] = std::array::from_fn(|direction| {
        let (sin, cos) = (TAU * direction as f32 / DIRECTIONS as f32).sin_cos();
        let reach = radius * random.uniform(0.6, 1.25);
        (centre.0 + reach * cos, centre.1 + reach * sin)
    });
    stencil.fill_polygon(centre, &rim);
    sprite.paint(side, side, |x, y| Texel::new(1.0, add.map(|levels| levels * softened(stencil, x, y))));
}

/// Coverage averaged with the four neighbours', which spreads an edge over two pixels.
fn softened(stencil: &Stencil, x: i32, y: i32) -> f32 {
    let beside = stencil.coverage(x - 1, y) + stencil.coverage(x + 1, y);
    let above = stencil.coverage(x, y - 1) + stencil.coverage(x, y + 1);
    (2.0 * stencil.coverage(x, y) + beside + above) / 6.0
}

/// A length in whole pixels, rounded up.
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and no mark is larger than a frame")]
fn whole(length: f32) -> i32 {
    length.ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far the mark moves the levels of a belt of grey 100, at most, and on how many rows it does so.
    fn strength(sprite: &Sprite, stencil: &Stencil) -> (u8, i32) {
        let rows = (0..stencil.height()).map(|y| {
            let mut row = [100_u8; 3 * 640];
            sprite.blend_row(y, 0, &mut row);
            row.iter().map(|level| level.abs_diff(100)).max().unwrap_or(0)
        });
        rows.fold((0, 0), |(most, changed), change| (most.max(change), changed + i32::from(change > 0)))
    }

    #[test]
    fn marks_are_seen_and_fainter_than_parts() {
        let (mut random, mut stencil, mut sprite) = (Random::new(9), Stencil::empty(), Sprite::default());
        for paint in [seam, scratch, dirt] {
            for _ in 0..50 {
                paint(&mut random, &mut stencil, &mut sprite);
                let (most, changed) = strength(&sprite, &stencil);
                assert!((4..=50).contains(&most), "{most} levels");
                assert!(changed > 0 && changed <= stencil.height());
            }
        }
    }

    #[test]
    fn a_seam_runs_from_edge_to_edge() {
        let (mut random, mut stencil, mut sprite) = (Random::new(10), Stencil::empty(), Sprite::default());
        for _ in 0..50 {
            seam(&mut random, &mut stencil, &mut sprite);
            assert_eq!(strength(&sprite, &stencil).1, i32::try_from(HEIGHT).unwrap());
        }
    }
}
