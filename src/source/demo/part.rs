//! Bolts, nuts, washers and the plain discs among them: their dimensions, outlines and shading.
//!
//! Shapes and formulas are those of section 4 of `src/demo/SCENE.md`. Of its ranges the sizes are the upper part: below
//! 36 pixels a nut and a washer are hard to tell apart at the network's 320 pixels, and a demo should not show that.

use std::f32::consts::{FRAC_PI_3, TAU};

use super::stencil::{Position, Stencil};
use crate::random::Random;

/// Inscribed over circumscribed radius of a hexagon.
const HEXAGON: f32 = 0.866_025_4;

/// Unit vector towards the light, opposite to the shadow's offset of (4, 3).
const LIGHT: Position = (-0.8, -0.6);

/// What a part is, with the dimensions that only its kind has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Bolt {
        /// Head thickness, head width and shank width over the total length.
        head_length: f32,
        head_width: f32,
        shank_width: f32,
        /// Fraction of the shank without thread, and pixels from turn to turn on the rest.
        plain: f32,
        pitch: f32,
    },
    /// `hole` over the inscribed radius.
    Nut { hole: f32 },
    /// `hole` over the outer radius.
    Washer { hole: f32 },
    /// Never a target: a disc that must stay silent.
    Disc,
}

/// One part, without its place on the belt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) kind: Kind,
    /// Total length, size across corners, or diameter; pixels.
    size: f32,
    /// Cosine and sine of the angle at which it lies, clockwise as seen on the picture.
    axis: Position,
    /// Red, green, blue, grey levels.
    color: [f32; 3],
    /// How much brighter the side towards the light is, and how dark facets and rims are.
    slope: f32,
    rim: f32,
}

impl Part {
    /// A part of any kind; one in nine is a disc.
    pub(super) fn random(random: &mut Random) -> Self {
        let (kind, size) = match random.below(9) {
            0 => (Kind::Disc, random.uniform(20.0, 56.0)),
            1..=3 => (Kind::Nut { hole: random.uniform(0.48, 0.64) }, random.uniform(42.0, 64.0)),
            4..=6 => (Kind::Washer { hole: random.uniform(0.40, 0.60) }, random.uniform(40.0, 70.0)),
            _ => (bolt(random), random.uniform(58.0, 90.0)),
        };
        let (sin, cos) = random.uniform(0.0, TAU).sin_cos();
        let dark = kind == Kind::Disc && random.chance(0.4);
        Self {
            kind,
            size,
            axis: (cos, sin),
            color: if dark { rubber(random) } else { metal(random) },
            slope: random.uniform(0.06, 0.14),
            rim: random.uniform(0.76, 0.88),
        }
    }

    /// The class the detector should report, or none for a disc.
    pub(super) fn class_id(&self) -> Option<usize> {
        match self.kind {
            Kind::Bolt { .. } => Some(0),
            Kind::Nut { .. } => Some(1),
            Kind::Washer { .. } => Some(2),
            Kind::Disc => None,
        }
    }

    /// Half width and half height of the part's axis-aligned extent, pixels.
    pub(super) fn half_extent(&self) -> (f32, f32) {
        let (half, (cos, sin)) = (self.size / 2.0, self.axis);
        match self.kind {
            Kind::Washer { .. } | Kind::Disc => (half, half),
            Kind::Nut { .. } => hexagon(half).fold((0.0, 0.0), |(width, height), (u, v)| {
                ((u * cos - v * sin).abs().max(width), (u * sin + v * cos).abs().max(height))
            }),
            Kind::Bolt { head_width, .. } => {
                let (cos, sin, across) = (cos.abs(), sin.abs(), head_width * half);
                (cos * half + sin * across, sin * half + cos * across)
            }
        }
    }

    /// Draws the outline around `centre`.
    pub(super) fn outline(&self, centre: Position, stencil: &mut Stencil) {
        let half = self.size / 2.0;
        match self.kind {
            Kind::Disc => stencil.fill_circle(centre, half),
            Kind::Washer { hole } => {
                stencil.fill_circle(centre, half);
                stencil.clear_circle(centre, hole * half);
            }
            Kind::Nut { hole } => {
                self.polygon(centre, (0.0, 0.0), hexagon(half), stencil);
                stencil.clear_circle(centre, hole * half * HEXAGON);
            }
            Kind::Bolt { head_length, head_width, shank_width, .. } => {
                let (head, width) = (head_length * self.size, head_width * half);
                let cut = 0.22 * 2.0 * width;
                let corners = [(0.0, cut - width), (cut, -width), (head, -width)];
                let corners = corners.into_iter().chain(corners.into_iter().rev().map(|(t, v)| (t, -v)));
                self.polygon(centre, (head / 2.0 - half, 0.0), corners.map(|(t, v)| (t - half, v)), stencil);
                let shank = shank_width * half;
                let round = 0.45 * shank;
                let corners = [(head - 1.0 - half, shank), (half - round, shank), (half, shank - round)];
                let corners = corners.into_iter().chain(corners.into_iter().rev().map(|(u, v)| (u, -v)));
                self.polygon(centre, (head / 2.0, 0.0), corners, stencil);
                for v in [shank - round, round - shank] {
                    stencil.fill_circle(self.place(centre, (half - round, v)), round);
                }
            }
        }
    }

    /// The colour at (`dx`, `dy`) pixels from the centre, grey levels.
    pub(super) fn color_at(&self, dx: f32, dy: f32) -> [f32; 3] {
        let half = self.size / 2.0;
        let towards_light = 1.0 + self.slope * (dx * LIGHT.0 + dy * LIGHT.1) / half;
        let shade = towards_light * self.facet(dx, dy);
        self.color.map(|levels| levels * shade)
    }

    /// Brightness of the surface at (`dx`, `dy`) apart from which way it faces.
    fn facet(&self, dx: f32, dy: f32) -> f32 {
        let (half, rho) = (self.size / 2.0, dx.hypot(dy));
        let rim = |is_rim: bool| if is_rim { self.rim } else { 1.0 };
        match self.kind {
            Kind::Disc => rim(rho > 0.90 * half),
            Kind::Washer { hole } => {
                let edge = 0.14 * half * (1.0 - hole) + 0.6;
                rim(half - rho < edge || rho - hole * half < edge)
            }
            Kind::Nut { hole } => {
                let inscribed = half * HEXAGON;
                let thread = if rho < (hole + 0.10) * inscribed { 0.72 } else { 1.0 };
                rim(rho > 0.97 * inscribed) * thread
            }
            Kind::Bolt { head_length, head_width, shank_width, plain, pitch } => {
                let (cos, sin) = self.axis;
                let (t, v) = (dx * cos + dy * sin + half, dy * cos - dx * sin);
                let head = head_length * self.size;
                if t < head {
                    return rim(v.abs() > head_width * self.size / 4.0);
                }
                let across = v / (shank_width * half);
                let is_threaded = t > head + plain * (self.size - head);
                let is_groove = is_threaded && (t + 0.25 * v).rem_euclid(pitch) < 0.45 * pitch;
                (1.06 - 0.34 * across * across) * if is_groove { 0.62 } else { 1.0 }
            }
        }
    }

    /// Fills the polygon of `corners` around `inside`, both along and across the part.
    fn polygon(
        &self,
        centre: Position,
        inside: Position,
        corners: impl Iterator<Item = Position>,
        stencil: &mut Stencil,
    ) {
        let corners: heapless::Vec<Position, 6> = corners.map(|corner| self.place(centre, corner)).collect();
        stencil.fill_polygon(self.place(centre, inside), &corners);
    }

    /// The position `u` along and `v` across the part from its centre.
    fn place(&self, (x, y): Position, (u, v): Position) -> Position {
        let (cos, sin) = self.axis;
        (x + u * cos - v * sin, y + u * sin + v * cos)
    }
}

fn bolt(random: &mut Random) -> Kind {
    Kind::Bolt {
        head_length: random.uniform(0.20, 0.28),
        head_width: random.uniform(0.36, 0.48),
        shank_width: random.uniform(0.16, 0.24),
        plain: random.uniform(0.0, 0.5),
        pitch: random.uniform(3.6, 5.5),
    }
}

/// Steel, or brass one time in four.
fn metal(random: &mut Random) -> [f32; 3] {
    if random.chance(0.25) {
        let level = random.uniform(165.0, 225.0);
        [level, level * random.uniform(0.80, 0.90), level * random.uniform(0.44, 0.64)]
    } else {
        let level = random.uniform(128.0, 205.0);
        [level * random.uniform(0.96, 1.0), level, level * random.uniform(1.0, 1.06)]
    }
}

/// Rubber or plastic, dark and of any hue.
fn rubber(random: &mut Random) -> [f32; 3] {
    let level = random.uniform(20.0, 120.0);
    [(); 3].map(|()| level * random.uniform(0.8, 1.2))
}

/// The corners of a hexagon of circumscribed radius `radius`.
fn hexagon(radius: f32) -> impl Iterator<Item = Position> {
    (0_u8..6).map(move |corner| {
        let (sin, cos) = (f32::from(corner) * FRAC_PI_3).sin_cos();
        (radius * cos, radius * sin)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outline_fills_the_extent_and_no_more() {
        let (mut random, mut stencil) = (Random::new(3), Stencil::empty());
        for _ in 0..200 {
            let part = Part::random(&mut random);
            let (half_width, half_height) = part.half_extent();
            stencil.reset(128, 128);
            part.outline((64.0, 64.0), &mut stencil);
            let covered = (0..128 * 128).map(|i| (i % 128, i / 128)).filter(|&(x, y)| stencil.coverage(x, y) > 0.0);
            let (mut width, mut height) = (0.0_f32, 0.0_f32);
            for (x, y) in covered {
                width = width.max((x as f32 + 0.5 - 64.0).abs());
                height = height.max((y as f32 + 0.5 - 64.0).abs());
            }
            assert!(width < half_width + 1.0 && height < half_height + 1.0, "{part:?}");
            // A bolt's extent is that of its rectangle, which its own corners do not always reach.
            let slack = if part.class_id() == Some(0) { 14.0 } else { 1.5 };
            assert!(width > half_width - slack && height > half_height - slack, "{part:?}: {width}, {height}");
        }
    }

    #[test]
    fn the_belt_shows_through_nuts_and_washers_only() {
        let (mut random, mut stencil) = (Random::new(4), Stencil::empty());
        for _ in 0..100 {
            let part = Part::random(&mut random);
            stencil.reset(128, 128);
            part.outline((64.0, 64.0), &mut stencil);
            let is_ring = matches!(part.kind, Kind::Nut { .. } | Kind::Washer { .. });
            assert_eq!(stencil.is_solid(63, 63), !is_ring, "{part:?}");
        }
    }

    #[test]
    fn colours_stay_within_a_byte_and_above_the_belt() {
        let mut random = Random::new(5);
        for _ in 0..300 {
            let part = Part::random(&mut random);
            let levels = part.color_at(random.uniform(-5.0, 5.0), random.uniform(-5.0, 5.0));
            assert!(levels.iter().all(|level| (0.0..=255.0).contains(level)), "{part:?}: {levels:?}");
            assert!(part.class_id().is_none() || levels[1] > 60.0, "{part:?}: {levels:?}");
        }
    }
}
