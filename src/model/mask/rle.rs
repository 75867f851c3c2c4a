//! COCO's compressed run lengths, as pycocotools writes them.
//!
//! A mask is read column by column; runs of zeros and ones take turns, zeros first. From the third on, a run is
//! written as its difference from the one before last. A number is groups of five bits, lowest first, each a
//! character from 48 (`0`) on; bit 5 says that another group follows, bit 4 of the last group is the sign.

use crate::frame::Size;
use crate::frame::contour::Bitmap;

const FIRST: u8 = 48;
const GROUP_BITS: u32 = 5;
const MORE: i64 = 0x20;
const SIGN: i64 = 0x10;

/// Appends runs to a text.
struct Writer<'a> {
    text: &'a mut String,
    written: usize,
    /// The last two runs, the older first.
    before: [i64; 2],
    /// Where the last run ended, in pixels from the first.
    at: usize,
}

impl Writer<'_> {
    fn run_until(&mut self, end: usize) {
        let run = i64::try_from(end - self.at).unwrap_or(i64::MAX);
        let number = if self.written > 2 { run - self.before[0] } else { run };
        self.before = [self.before[1], run];
        (self.written, self.at) = (self.written + 1, end);
        self.number(number);
    }

    fn number(&mut self, mut number: i64) {
        loop {
            let group = number & 0x1f;
            number >>= GROUP_BITS;
            let done = if group & SIGN == 0 { number == 0 } else { number == -1 };
            let group = if done { group } else { group | MORE };
            self.text.push(char::from(FIRST + u8::try_from(group).unwrap_or(0)));
            if done {
                return;
            }
        }
    }
}

/// Appends the mask that `bitmap` is a window of to `text`; `size` is of the whole mask.
pub fn encode(bitmap: &Bitmap, size: Size, text: &mut String) {
    let window = bitmap.window();
    let mut writer = Writer { text, written: 0, before: [0; 2], at: 0 };
    let mut inside = false;
    for x in 0..window.width {
        let column = (window.left + x) * size.height + window.top;
        for y in 0..window.height {
            if bitmap.get(x, y) != inside {
                inside = !inside;
                writer.run_until(column + y);
            }
        }
        // Below and right of the window are zeros; in a window of full height the next column follows at once.
        if inside && (window.height < size.height || x + 1 == window.width) {
            inside = false;
            writer.run_until(column + window.height);
        }
    }
    let end = size.width * size.height;
    if writer.at < end {
        writer.run_until(end);
    }
}

/// The runs of a text, zeros first. Ends at the first run that makes no sense.
pub fn runs(text: &str) -> impl Iterator<Item = usize> {
    let mut bytes = text.bytes();
    let mut before = [0_i64; 2];
    let mut read = 0;
    std::iter::from_fn(move || {
        let number = number(&mut bytes)?;
        let run = if read > 2 { number.checked_add(before[0])? } else { number };
        before = [before[1], run];
        read += 1;
        usize::try_from(run).ok()
    })
}

fn number(bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let mut number = 0_i64;
    for shift in (0..i64::BITS).step_by(GROUP_BITS as usize) {
        let group = i64::from(bytes.next()?.checked_sub(FIRST).filter(|group| *group < 1 << (GROUP_BITS + 1))?);
        number |= (group & 0x1f) << shift;
        if group & MORE == 0 {
            let sign = if group & SIGN == 0 { 0 } else { (-1_i64).checked_shl(shift + GROUP_BITS).unwrap_or(0) };
            return Some(number | sign);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Region;

    fn text(rows: &[&str], window: Region, size: Size) -> String {
        let mut bitmap = Bitmap::default();
        bitmap.reset(window);
        for (y, row) in rows.iter().enumerate() {
            for (cell, letter) in bitmap.row_mut(y).iter_mut().zip(row.chars()) {
                *cell = i8::from(letter == '#');
            }
        }
        let mut text = String::new();
        encode(&bitmap, size, &mut text);
        text
    }

    const fn region(left: usize, top: usize, width: usize, height: usize) -> Region {
        Region { left, top, width, height }
    }

    #[test]
    fn masks_are_written_as_pycocotools_writes_them() {
        let size = Size::new(40, 40);
        assert_eq!(text(&[], region(0, 0, 0, 0), size), "Pb1");
        // Two columns of three pixels: 3 rows down, 40 a column.
        let square = text(&["##", "##", "##"], region(5, 7, 2, 3), size);
        assert_eq!(square, "_63U10QY1");
        assert_eq!(runs(&square).collect::<Vec<_>>(), [207, 3, 37, 3, 1350]);
    }

    #[test]
    fn a_mask_that_begins_at_once_has_an_empty_first_run() {
        let size = Size::new(2, 2);
        assert_eq!(runs(&text(&["##", "##"], region(0, 0, 2, 2), size)).collect::<Vec<_>>(), [0, 4]);
        assert_eq!(runs(&text(&["#"], region(0, 0, 1, 1), size)).collect::<Vec<_>>(), [0, 1, 3]);
        // Columns of full height run on from one to the next, and end with the last.
        assert_eq!(runs(&text(&["##", "##"], region(0, 0, 2, 2), Size::new(3, 2))).collect::<Vec<_>>(), [0, 4, 2]);
        assert_eq!(runs(&text(&["#", "#"], region(1, 0, 1, 2), size)).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn nonsense_ends_the_runs() {
        for nonsense in ["", "~~~~~~~~~~~~~~~~~~~~", "\u{0}", "P", "O"] {
            assert!(runs(nonsense).count() < 3, "{nonsense:?}");
        }
    }
}
