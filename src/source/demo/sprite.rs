//! A small picture that changes the belt beneath it, kept as one multiply and one add a pixel.
//!
//! A body with its edge and its shadow, a seam that darkens, a scratch that brightens: all of them are
//! `belt * keep + add`, so whatever lies on the belt is blended by the same few integer instructions.

/// Fraction bits of [`Texel::keep`].
const KEEP_BITS: u32 = 8;

/// Fraction bits of [`Texel::add`]: ±255 grey levels must fit an `i16`.
const ADD_BITS: u32 = 6;

/// What one pixel of a sprite does to the pixel beneath: `belt * keep + add`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Texel {
    /// 256ths of the belt that remain visible, 0..=256.
    keep: u16,
    /// 64ths of grey levels to add to red, green and blue.
    add: [i16; 3],
}

impl Texel {
    /// The texel that changes nothing.
    pub(super) const CLEAR: Self = Self { keep: 1 << KEEP_BITS, add: [0; 3] };

    /// Keeps `keep` (0..=1) of the belt and adds `add` grey levels (-255..=255).
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both are clamped to what their type holds, and `as` on a float saturates"
    )]
    pub(super) fn new(keep: f32, add: [f32; 3]) -> Self {
        let keep = (keep.clamp(0.0, 1.0) * 256.0).round() as u16;
        Self { keep, add: add.map(|levels| (levels.clamp(-255.0, 255.0) * 64.0).round() as i16) }
    }

    #[expect(clippy::cast_sign_loss, reason = "clamped to 0..=255 on the same line")]
    fn over(self, pixel: [u8; 3]) -> [u8; 3] {
        std::array::from_fn(|channel| {
            let kept = i32::from(pixel[channel]) * i32::from(self.keep);
            let added = i32::from(self.add[channel]) << (KEEP_BITS - ADD_BITS);
            ((kept + added + (1 << (KEEP_BITS - 1))) >> KEEP_BITS).clamp(0, 255) as u8
        })
    }
}

/// The part of a sprite's row that changes anything.
#[derive(Clone, Copy)]
struct Span {
    /// Column of the first texel.
    column: i32,
    /// Where it lies in the sprite's texels, and one past the last.
    from: usize,
    to: usize,
}

/// Rows of texels, each cut to the span that does something.
#[derive(Clone, Default)]
pub(super) struct Sprite {
    spans: Vec<Span>,
    texels: Vec<Texel>,
}

impl Sprite {
    /// Replaces the sprite by `width`×`height` texels of (column, row), reusing its buffers.
    pub(super) fn paint(&mut self, width: i32, height: i32, mut texel: impl FnMut(i32, i32) -> Texel) {
        self.spans.clear();
        self.texels.clear();
        for row in 0..height {
            let from = self.texels.len();
            let (mut column, mut to) = (0, from);
            for x in 0..width {
                let texel = texel(x, row);
                if texel == Texel::CLEAR && self.texels.len() == from {
                    continue;
                }
                if self.texels.len() == from {
                    column = x;
                }
                self.texels.push(texel);
                if texel != Texel::CLEAR {
                    to = self.texels.len();
                }
            }
            self.texels.truncate(to);
            self.spans.push(Span { column, from, to });
        }
    }

    /// Blends row `row` of the sprite into `pixels`, a row of RGB whose column 0 is the sprite's column `-left`.
    ///
    /// A row that the sprite does not have, and columns outside `pixels`, are left alone.
    pub(super) fn blend_row(&self, row: i32, left: i32, pixels: &mut [u8]) {
        let Some(span) = usize::try_from(row).ok().and_then(|row| self.spans.get(row)) else { return };
        let texels = &self.texels[span.from..span.to];
        let start = left + span.column;
        let hidden = usize::try_from(-start).unwrap_or(0).min(texels.len());
        let first = usize::try_from(start).unwrap_or(0);
        let (row, _) = pixels.as_chunks_mut::<3>();
        for (pixel, texel) in row.iter_mut().skip(first).zip(&texels[hidden..]) {
            *pixel = texel.over(*pixel);
        }
    }
}

impl std::fmt::Debug for Sprite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sprite({} rows, {} texels)", self.spans.len(), self.texels.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows of four: one opaque texel in the middle of the first, nothing in the second.
    fn dot() -> Sprite {
        let mut sprite = Sprite::default();
        let opaque = Texel::new(0.0, [10.0, 20.0, 300.0]);
        sprite.paint(4, 2, |x, y| if (1..3).contains(&x) && y == 0 { opaque } else { Texel::CLEAR });
        sprite
    }

    #[test]
    fn only_what_changes_is_kept() {
        let sprite = dot();
        assert_eq!((sprite.texels.len(), sprite.spans.len()), (2, 2));
    }

    #[test]
    fn blending_is_clipped_at_both_ends_of_the_row() {
        let expected = [10, 20, 255];
        for (left, hit) in [(-1, vec![0, 1]), (-2, vec![0]), (-3, vec![]), (1, vec![2]), (0, vec![1, 2]), (9, vec![])] {
            let mut row = [7_u8; 9];
            dot().blend_row(0, left, &mut row);
            for (x, pixel) in row.as_chunks::<3>().0.iter().enumerate() {
                assert_eq!(*pixel, if hit.contains(&x) { expected } else { [7; 3] }, "left {left}, column {x}");
            }
        }
    }

    #[test]
    fn rows_outside_the_sprite_change_nothing() {
        let mut row = [7_u8; 9];
        for y in [-1, 1, 2, i32::MAX] {
            dot().blend_row(y, 0, &mut row);
        }
        assert_eq!(row, [7; 9]);
    }

    #[test]
    fn half_kept_and_half_added_is_the_mean() {
        assert_eq!(Texel::new(0.5, [50.0, 0.0, -20.0]).over([100, 100, 100]), [100, 50, 30]);
        assert_eq!(Texel::new(1.0, [-200.0, 200.0, 0.0]).over([100, 100, 100]), [0, 255, 100]);
    }
}
