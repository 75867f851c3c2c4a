//! Text of any height: the 10×20 font of `embedded-graphics`, enlarged with smooth edges.
//!
//! May not know: where a text goes. Each glyph is drawn from its 200 bits when it is needed, so that no size costs any
//! memory.

use embedded_graphics::image::GetPixel;
use embedded_graphics::mono_font::iso_8859_1::FONT_10X20;
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::*;

use super::Colour;
use crate::frame::{CHANNELS, Frame};

/// Columns and rows of a glyph, with a margin of one bit on every side, so that edges fade out.
const COLUMNS: usize = 10 + 2;
const ROWS: usize = 20 + 2;

/// Tallest letters: those of one line that fills a screen.
const HEIGHT_MAX: usize = 1024;

/// Width in pixels of `characters` letters of a height in pixels.
#[must_use]
pub fn text_width(characters: usize, height: usize) -> usize {
    characters * (height / 2)
}

/// Writes a line of text whose left top corner is at `x`, `y`; what lies outside the frame is left out. Characters outside
/// Latin-1 are shown as question marks. Returns the `x` at which it ends.
pub fn draw_text(frame: &mut Frame, [x, y]: [usize; 2], text: &str, height: usize, colour: Colour) -> usize {
    let height = height.min(HEIGHT_MAX);
    let mut left = x;
    for character in text.chars() {
        if left >= frame.width() {
            break;
        }
        if character != ' ' {
            draw_glyph(frame, [left, y], &bits(character), height, colour);
        }
        left += text_width(1, height);
    }
    left
}

type Bits = [[u8; COLUMNS]; ROWS];

/// The bits of a glyph, 0 or 1, within their margin.
fn bits(character: char) -> Bits {
    let index = FONT_10X20.glyph_mapping.index(character);
    let size = FONT_10X20.character_size;
    let a_row = FONT_10X20.image.size().width / size.width;
    let index = u32::try_from(index).unwrap_or(0);
    let corner = [index % a_row * size.width, index / a_row * size.height].map(|at| i32::try_from(at).unwrap_or(0));
    let mut bits = [[0; COLUMNS]; ROWS];
    for (y, row) in (0..).zip(&mut bits[1..ROWS - 1]) {
        for (x, bit) in (0..).zip(&mut row[1..COLUMNS - 1]) {
            let set = FONT_10X20.image.pixel(Point::new(corner[0] + x, corner[1] + y));
            *bit = u8::from(set == Some(BinaryColor::On));
        }
    }
    bits
}

fn draw_glyph(frame: &mut Frame, [left, top]: [usize; 2], bits: &Bits, height: usize, colour: Colour) {
    let width = text_width(1, height);
    // The wider an edge is in pixels of the screen, the steeper it must be to look as sharp.
    #[expect(clippy::cast_precision_loss, reason = "at most HEIGHT_MAX")]
    let sharpness = (height as f32 / 20.0).max(1.0) * 1.2;
    for y in 0..height.min(frame.height().saturating_sub(top)) {
        let (row, down) = source(y, height, 20);
        let pixels = &mut frame.row_mut(top + y)[left * CHANNELS..];
        for (x, pixel) in pixels.as_chunks_mut::<CHANNELS>().0.iter_mut().take(width).enumerate() {
            let (column, across) = source(x, width, 10);
            let line = |row: usize| {
                let [from, to] = [bits[row][column], bits[row][column + 1]].map(f32::from);
                from + (to - from) * across
            };
            let level = line(row) * (1.0 - down) + line(row + 1) * down;
            let cover = ((level - 0.5) * sharpness + 0.5).clamp(0.0, 1.0);
            if cover > 0.0 {
                blend(pixel, colour, cover);
            }
        }
    }
}

/// The bit before the centre of pixel `at` of `length`, counted with the margin, and how far the centre lies behind it.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most HEIGHT_MAX, and never negative"
)]
fn source(at: usize, length: usize, bits: usize) -> (usize, f32) {
    let place = (at as f32 + 0.5) * bits as f32 / length as f32 + 0.5;
    ((place as usize).min(bits), place.fract())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two levels")]
fn blend(pixel: &mut [u8; CHANNELS], colour: Colour, cover: f32) {
    for (level, colour) in pixel.iter_mut().zip(colour) {
        let ground = f32::from(*level);
        *level = (ground + (f32::from(colour) - ground) * cover + 0.5) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHITE: Colour = [255; CHANNELS];

    fn lit(frame: &Frame) -> usize {
        frame.pixels().iter().filter(|&&level| level > 127).count() / CHANNELS
    }

    #[test]
    fn twice_the_height_covers_four_times_the_area() {
        let of = |height| {
            let mut frame = Frame::new(400, 100);
            let end = draw_text(&mut frame, [0, 0], "Bolt 7", height, WHITE);
            assert_eq!(end, text_width(6, height));
            lit(&frame)
        };
        let (once, twice, thrice) = (of(20), of(40), of(60));
        assert!(once > 100);
        assert!((3 * once..5 * once).contains(&twice), "{once} {twice}");
        assert!((7 * once..11 * once).contains(&thrice), "{once} {thrice}");
    }

    #[test]
    fn at_its_own_height_it_is_the_font_itself() {
        let mut frame = Frame::new(10, 20);
        draw_text(&mut frame, [0, 0], "g", 20, WHITE);
        let bits = bits('g');
        for (y, row) in bits[1..=20].iter().enumerate() {
            for (x, bit) in row[1..=10].iter().enumerate() {
                assert_eq!(frame.row(y)[x * CHANNELS], bit * 255, "{x},{y}");
            }
        }
    }

    #[test]
    fn what_lies_outside_is_left_out() {
        let mut frame = Frame::new(30, 10);
        for (place, height) in
            [([0, 0], 5000), ([29, 9], 20), ([30, 10], 20), ([500, 500], 20), ([5, 5], 0), ([3, 3], 1)]
        {
            draw_text(&mut frame, place, "ÄW€\u{1F980}", height, WHITE);
        }
        assert!(lit(&frame) > 0);
    }
}
