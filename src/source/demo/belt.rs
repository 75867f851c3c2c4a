//! The belt itself and the light above it: stripes and mottle that move, illumination and noise that do not.
//!
//! Formulas and demo values are those of sections 1 and 5 of `src/demo/SCENE.md`.

use std::f32::consts::TAU;

use super::{HEIGHT, STEP_PX, WIDTH};
use crate::frame::CHANNELS;
use crate::random::Random;

/// Width of the belt's texture, after which it repeats: whole stripes, whole cells of mottle, wider than the frame.
const TILE: usize = 768;

/// Side of a cell of the mottle, pixels.
const CELL: usize = 24;

const GREY: f32 = 50.0;
const TINT: [f32; CHANNELS] = [0.98, 1.00, 1.03];
const STRIPE_PERIOD: f32 = 32.0;
const STRIPE_LEVELS: f32 = 5.0;
const STRIPE_SLANT: f32 = 0.15;
const MOTTLE_LEVELS: f32 = 2.0;

const GAIN: f32 = 1.05;
const LIGHT_RIGHT: f32 = 0.16;
const LIGHT_DOWN: f32 = -0.12;
const VIGNETTE: f32 = 0.25;

/// Standard deviation of the noise, grey levels.
const NOISE_LEVELS: f32 = 3.0;

/// Pixels of noise before it repeats within a row's reach; each row of each frame starts somewhere else in it.
const NOISE_PIXELS: usize = 8192;

/// Everything about the picture that costs more than a multiply, made once.
#[derive(Clone)]
pub(super) struct Belt {
    /// `HEIGHT` rows of `TILE` RGB pixels.
    texture: Vec<u8>,
    /// Light of each byte of a row, 16384ths; the row's own share is added to it.
    light_columns: Vec<u16>,
    /// What each row adds to the light, 16384ths.
    light_rows: Vec<i16>,
    /// Grey levels in 16ths, the same for the three bytes of a pixel.
    noise: Vec<i16>,
}

impl Belt {
    pub(super) fn new(random: &mut Random) -> Self {
        let columns = (0..WIDTH).map(|x| {
            let across = (x as f32 + 0.5) / WIDTH as f32 - 0.5;
            fixed(GAIN * (1.0 + LIGHT_RIGHT * across - VIGNETTE * across * across), 16_384.0).unsigned_abs()
        });
        let rows = (0..HEIGHT).map(|y| {
            let down = (y as f32 + 0.5) / HEIGHT as f32 - 0.5;
            fixed(GAIN * (LIGHT_DOWN * down - VIGNETTE * down * down), 16_384.0)
        });
        let noise = (0..NOISE_PIXELS).map(|_| fixed(NOISE_LEVELS * random.normal(), 16.0));
        Self {
            light_columns: columns.flat_map(|light| [light; CHANNELS]).collect(),
            light_rows: rows.collect(),
            noise: noise.flat_map(|levels| [levels; CHANNELS]).collect(),
            texture: texture(random),
        }
    }

    /// Copies row `y` of the belt, moved `travelled` (0..`TILE`) pixels to the right, into `row` (`WIDTH` RGB pixels).
    pub(super) fn lay(&self, y: usize, travelled: usize, row: &mut [u8]) {
        let tile = &self.texture[y * TILE * CHANNELS..(y + 1) * TILE * CHANNELS];
        let start = (TILE - travelled) % TILE * CHANNELS;
        let unbroken = (tile.len() - start).min(row.len());
        let (before, after) = row.split_at_mut(unbroken);
        before.copy_from_slice(&tile[start..start + unbroken]);
        after.copy_from_slice(&tile[..after.len()]);
    }

    /// Lights row `y` and adds noise, which `random` picks.
    pub(super) fn light(&self, y: usize, random: &mut Random, row: &mut [u8]) {
        let start = random.below(NOISE_PIXELS - WIDTH) * CHANNELS;
        let noise = &self.noise[start..start + row.len()];
        let own = self.light_rows[y];
        for ((byte, light), noise) in row.iter_mut().zip(&self.light_columns).zip(noise) {
            *byte = lit(*byte, light.wrapping_add_signed(own), *noise);
        }
    }
}

impl std::fmt::Debug for Belt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Belt({TILE}x{HEIGHT})")
    }
}

/// How far the belt has moved after `frames` frames, pixels modulo its texture's width.
pub(super) fn travelled(frames: u64) -> usize {
    let steps = frames % TILE as u64 * u64::from(STEP_PX.unsigned_abs());
    usize::try_from(steps % TILE as u64).expect("a remainder of a usize")
}

/// One byte under `light` (16384ths) with `noise` (16ths of a grey level).
///
/// Sixteen-bit steps all the way, because that is what lets the compiler do eight and more bytes at a time on any CPU.
#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a byte times a light below 4 is below 2^14 in 16ths, and the result is clamped to 0..=255"
)]
fn lit(byte: u8, light: u16, noise: i16) -> u8 {
    let sixteenths = ((u32::from(u16::from(byte) << 6) * u32::from(light)) >> 16) as u16;
    ((sixteenths as i16 + noise + 8) >> 4).clamp(0, 255) as u8
}

/// `value` in units of one `scale`-th.
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and every value here is below 2")]
fn fixed(value: f32, scale: f32) -> i16 {
    (value * scale).round() as i16
}

/// Stripes and mottle, tinted, as bytes.
fn texture(random: &mut Random) -> Vec<u8> {
    let phase = random.uniform(0.0, STRIPE_PERIOD);
    let (across, down) = (TILE / CELL, HEIGHT / CELL);
    let grid: Vec<f32> = (0..across * down).map(|_| MOTTLE_LEVELS * random.normal()).collect();
    let mut texture = Vec::with_capacity(TILE * HEIGHT * CHANNELS);
    for y in 0..HEIGHT {
        for x in 0..TILE {
            let (px, py) = (x as f32 + 0.5, y as f32 + 0.5);
            let wave = (TAU * (px + STRIPE_SLANT * py + phase) / STRIPE_PERIOD).sin();
            let level = GREY + STRIPE_LEVELS * wave + mottle(&grid, across, down, x, y);
            texture.extend(TINT.map(|tint| byte(level * tint)));
        }
    }
    texture
}

/// Bilinear enlargement of `grid`, which repeats from left to right so that the belt has no joint.
fn mottle(grid: &[f32], across: usize, down: usize, x: usize, y: usize) -> f32 {
    let half = CELL / 2;
    let (gx, gy) = (x + TILE - half, (y.max(half) - half).min((down - 1) * CELL));
    let (fx, fy) = ((gx % CELL) as f32 / CELL as f32, (gy % CELL) as f32 / CELL as f32);
    let (left, right) = (gx / CELL % across, (gx / CELL + 1) % across);
    let (top, bottom) = (gy / CELL, (gy / CELL + 1).min(down - 1));
    let at = |row: usize, column: usize| grid[row * across + column];
    let upper = at(top, left) + (at(top, right) - at(top, left)) * fx;
    let lower = at(bottom, left) + (at(bottom, right) - at(bottom, left)) * fx;
    upper + (lower - upper) * fy
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates at 0 and 255")]
fn byte(level: f32) -> u8 {
    level.round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_follows_the_formula_to_one_level() {
        for (byte, light, noise) in [(0_u8, 1.2_f32, 0.0_f32), (50, 0.9, 2.5), (255, 1.2, 0.0), (3, 1.0, -9.0)] {
            let expected = (f32::from(byte) * light + noise).clamp(0.0, 255.0);
            let got = lit(byte, fixed(light, 16_384.0).unsigned_abs(), fixed(noise, 16.0));
            assert!((f32::from(got) - expected).abs() <= 1.0, "{byte} x {light} + {noise}: {got}, not {expected}");
        }
    }

    #[test]
    fn the_belt_moves_right_and_repeats_without_a_joint() {
        let belt = Belt::new(&mut Random::new(1));
        let (mut still, mut moved) = (vec![0; WIDTH * CHANNELS], vec![0; WIDTH * CHANNELS]);
        let step = usize::try_from(STEP_PX).unwrap();
        for frame in [0, 1, 125, 190, 191, u64::MAX / 2] {
            belt.lay(100, travelled(frame), &mut still);
            belt.lay(100, travelled(frame + 1), &mut moved);
            assert_eq!(still[..(WIDTH - step) * CHANNELS], moved[step * CHANNELS..], "frame {frame}");
        }
        // A joint would show as a step that no stripe and no mottle makes.
        belt.lay(100, TILE / 2, &mut still);
        let steps = still.as_chunks::<CHANNELS>().0.windows(2).map(|pair| pair[0][1].abs_diff(pair[1][1]));
        assert!(steps.max() <= Some(3));
    }
}
