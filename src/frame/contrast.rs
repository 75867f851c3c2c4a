//! The three contrast steps of Roboflow's engines, each with the bits of what the engine calls: the classic one by way
//! of grey, the default one in colour.
//!
//! May not know: which step a model wants, and in which order with others.

mod adaptive;
mod local;
mod spread;

use super::{CHANNELS, Frame, colour};

/// Values of an 8-bit channel.
const LEVELS: usize = 256;

/// A table from grey level to grey level.
type Table = [u8; LEVELS];

/// Which contrast step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contrast {
    /// "Contrast Stretching": the 2nd to 98th percentile over all channels becomes 0 to 255 (`np.percentile`, then
    /// `skimage.exposure.rescale_intensity`). Keeps colour in both engines.
    Stretching,
    /// "Histogram Equalization": `cv2.equalizeHist` of the grey picture in the classic engine, which loses colour;
    /// `skimage.exposure.equalize_hist` of all channels together in the default engine.
    Histogram,
    /// "Adaptive Equalization": `cv2.createCLAHE(clipLimit=0.03, tileGridSize=(8, 8))` of the grey picture in the
    /// classic engine, which loses colour; `skimage.exposure.equalize_adapthist(clip_limit=0.03)` in the default
    /// engine.
    Adaptive,
}

/// Applies contrast steps in place. Keeps its buffers, so that it allocates only when pictures get larger.
#[derive(Debug, Default)]
pub struct ContrastFilter {
    grey: Vec<u8>,
    tiles: adaptive::Tiles,
    local: local::Local,
}

impl ContrastFilter {
    /// Changes the pixels of `frame` as the classic engine does. An empty frame stays as it is.
    pub fn apply(&mut self, contrast: Contrast, frame: &mut Frame) {
        if frame.pixels().is_empty() {
            return;
        }
        match contrast {
            Contrast::Stretching => {
                let table = stretching_table(&histogram(frame.pixels()));
                map(frame.pixels_mut(), &table);
            }
            Contrast::Histogram => {
                colour::to_grey(frame, &mut self.grey);
                let table = equalizing_table(&histogram(&self.grey));
                map(&mut self.grey, &table);
                colour::from_grey(&self.grey, frame);
            }
            Contrast::Adaptive => {
                colour::to_grey(frame, &mut self.grey);
                let size = frame.size();
                self.tiles.build(&self.grey, size);
                let (pixels, _) = frame.pixels_mut().as_chunks_mut::<CHANNELS>();
                self.tiles.map(&self.grey, size, |at, level| pixels[at] = [level; CHANNELS]);
            }
        }
    }

    /// Changes the pixels of `frame` as the default engine does. An empty frame stays as it is.
    pub fn apply_in_colour(&mut self, contrast: Contrast, frame: &mut Frame) {
        if frame.pixels().is_empty() {
            return;
        }
        match contrast {
            Contrast::Stretching => self.apply(contrast, frame),
            Contrast::Histogram => {
                let table = spread::table(&histogram(frame.pixels()));
                map(frame.pixels_mut(), &table);
            }
            Contrast::Adaptive => self.local.apply(frame),
        }
    }
}

fn map(levels: &mut [u8], table: &Table) {
    for level in levels {
        *level = table[usize::from(*level)];
    }
}

/// How often each level occurs.
fn histogram(levels: &[u8]) -> [usize; LEVELS] {
    // Four histograms, because consecutive equal levels would wait for each other's increment.
    let mut counts = [[0; LEVELS]; 4];
    let (fours, rest) = levels.as_chunks::<4>();
    for four in fours {
        for (counts, &level) in counts.iter_mut().zip(four) {
            counts[usize::from(level)] += 1;
        }
    }
    for &level in rest {
        counts[0][usize::from(level)] += 1;
    }
    std::array::from_fn(|level| counts.iter().map(|counts| counts[level]).sum())
}

/// `np.percentile(levels, fraction * 100)` with linear interpolation, from the histogram of at least one level.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a frame has far fewer than 2^52 values, and 0 <= fraction <= 1"
)]
fn percentile(histogram: &[usize; LEVELS], fraction: f64) -> f64 {
    let total: usize = histogram.iter().sum();
    let position = (total - 1) as f64 * fraction;
    let lower_rank = position.floor();
    let level_of = |rank: usize| {
        let mut seen = 0;
        let holds = |&count: &usize| {
            seen += count;
            seen > rank
        };
        histogram.iter().position(holds).unwrap_or(LEVELS - 1) as f64
    };
    let lower = level_of(lower_rank as usize);
    let upper = level_of((lower_rank as usize + 1).min(total - 1));
    let weight = position - lower_rank;
    // numpy interpolates from the nearer side.
    if weight < 0.5 { lower + (upper - lower) * weight } else { upper - (upper - lower) * (1.0 - weight) }
}

/// `rescale_intensity(levels, in_range=(2nd percentile, 98th percentile))` to 8 bits, by truncation.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "levels are clipped to the range, so what is scaled is 0 to 255"
)]
fn stretching_table(histogram: &[usize; LEVELS]) -> Table {
    let low = percentile(histogram, 2.0 / 100.0);
    let high = percentile(histogram, 98.0 / 100.0);
    table_of(|level| {
        let clipped = f64::from(level).clamp(low, high);
        // skimage leaves a picture of one level as it clipped it.
        let scaled = if low == high { clipped } else { (clipped - low) / (high - low) * 255.0 };
        scaled as u8
    })
}

/// The table of `cv2.equalizeHist`.
fn equalizing_table(histogram: &[usize; LEVELS]) -> Table {
    let total: usize = histogram.iter().sum();
    let darkest = histogram.iter().position(|&count| count > 0).unwrap_or(0);
    let brighter = total - histogram[darkest];
    if brighter == 0 {
        // A picture of one level stays as it is.
        return table_of(|level| level);
    }
    let scale = 255.0 / float(brighter);
    let mut sum = 0;
    table_of(|level| {
        if usize::from(level) > darkest {
            sum += histogram[usize::from(level)];
        }
        saturate(float(sum) * scale)
    })
}

fn table_of(mut level_for: impl FnMut(u8) -> u8) -> Table {
    let mut table = [0; LEVELS];
    for (level, out) in (0..=u8::MAX).zip(&mut table) {
        *out = level_for(level);
    }
    table
}

/// A count as OpenCV's 32-bit floats hold it: rounded over 2^24.
fn float(count: usize) -> f32 {
    count as f32
}

/// OpenCV's `saturate_cast<uchar>`: to the nearest level, halves to the even one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from float saturates, as OpenCV's does"
)]
fn saturate(level: f32) -> u8 {
    level.round_ties_even() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey_frame(levels: &[u8]) -> Frame {
        let pixels = levels.iter().flat_map(|&level| [level; CHANNELS]).collect();
        Frame::from_rgb(levels.len(), 1, pixels)
    }

    fn applied(contrast: Contrast, levels: &[u8]) -> Vec<u8> {
        let mut frame = grey_frame(levels);
        ContrastFilter::default().apply(contrast, &mut frame);
        frame.pixels().iter().step_by(CHANNELS).copied().collect()
    }

    #[test]
    fn percentiles_lie_between_values() {
        let counts = histogram(&[10, 20, 30, 40, 50]);
        assert_eq!(percentile(&counts, 0.5), 30.0);
        // np.percentile([10, 20, 30, 40, 50], [2, 98]) is [10.8, 49.2]
        assert!((percentile(&counts, 0.02) - 10.8).abs() < 1e-12);
        assert!((percentile(&counts, 0.98) - 49.2).abs() < 1e-12);
        assert_eq!(percentile(&histogram(&[7]), 0.98), 7.0);
    }

    #[test]
    fn stretching_reaches_both_ends() {
        let levels: Vec<u8> = (100..200).collect();
        let stretched = applied(Contrast::Stretching, &levels);
        assert_eq!((stretched[0], stretched[99]), (0, 255));
        // 300 values: ranks 5.98 and 293.02 are levels 100 + 1 (two of 3 below it, so 1.98 -> 101) and 197.
        assert!(stretched.is_sorted());
        assert_eq!(applied(Contrast::Stretching, &[9; 12]), [9; 12]);
    }

    #[test]
    fn equalizing_spreads_what_is_there() {
        // The darkest goes to 0; of the other three, 1/3, 2/3 and 3/3 lie at or below.
        assert_eq!(applied(Contrast::Histogram, &[50, 51, 52, 53]), [0, 85, 170, 255]);
        assert_eq!(applied(Contrast::Histogram, &[50; 9]), [50; 9]);
    }

    #[test]
    fn an_empty_frame_stays_empty() {
        for contrast in [Contrast::Stretching, Contrast::Histogram, Contrast::Adaptive] {
            let mut frame = Frame::empty();
            ContrastFilter::default().apply(contrast, &mut frame);
            ContrastFilter::default().apply_in_colour(contrast, &mut frame);
            assert!(frame.pixels().is_empty());
        }
    }
}
