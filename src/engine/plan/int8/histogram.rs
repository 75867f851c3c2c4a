//! How often a value takes which numbers, and which of them are worth a byte.

/// Cells of a histogram: those within one 256th of the range can be told apart eight times finer.
const CELLS: usize = 4096;
/// Bytes there are.
const LEVELS: usize = 256;
/// Cells between two cuts that are tried: a 256th of the range.
const CUT: usize = 16;

/// Numbers from `-limit` to `limit` in cells of equal width; it widens itself by powers of two.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    limit: f32,
    cells: Vec<u64>,
    least: f32,
    most: f32,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { limit: 0.0, cells: vec![0; CELLS], least: 0.0, most: 0.0 }
    }
}

impl Histogram {
    /// Adds numbers; what is no number is passed over.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cell, from zero on")]
    pub fn add(&mut self, values: &[f32]) {
        let (least, most) = values.iter().fold((0.0_f32, 0.0_f32), |(least, most), &x| (least.min(x), most.max(x)));
        let reach = most.max(-least);
        if !reach.is_finite() {
            return self.add(&values.iter().copied().filter(|x| x.is_finite()).collect::<Vec<f32>>());
        }
        (self.least, self.most) = (self.least.min(least), self.most.max(most));
        if self.limit == 0.0 {
            self.limit = if reach > 0.0 { reach.log2().ceil().exp2() } else { return };
        }
        while reach > self.limit {
            self.widen();
        }
        let factor = CELLS as f32 / (2.0 * self.limit);
        for x in values {
            self.cells[((x + self.limit) * factor).clamp(0.0, (CELLS - 1) as f32) as usize] += 1;
        }
    }

    /// Twice as wide: two cells become one.
    fn widen(&mut self) {
        let mut cells = vec![0; CELLS];
        for (index, pair) in self.cells.chunks(2).enumerate() {
            cells[CELLS / 4 + index] = pair.iter().sum();
        }
        (self.cells, self.limit) = (cells, self.limit * 2.0);
    }

    /// Where a cell begins.
    fn edge(&self, cell: usize) -> f32 {
        (cell as f32 / CELLS as f32 * 2.0 - 1.0) * self.limit
    }

    /// All that was seen.
    pub fn whole(&self) -> [f32; 2] {
        [self.least, self.most]
    }

    /// All but a share of the numbers on either side: what is above `share` of all on the one, below on the other.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of what was seen")]
    pub fn percentile(&self, share: f64) -> [f32; 2] {
        let total: u64 = self.cells.iter().sum();
        let outside = (total as f64 * (1.0 - share)) as u64;
        let mut passed = [0; 2];
        let mut reaches = |side: usize, cell: usize| {
            passed[side] += self.cells[cell];
            passed[side] > outside
        };
        let first = (0..CELLS).find(|&cell| reaches(0, cell)).unwrap_or(0);
        let last = (0..CELLS).rev().find(|&cell| reaches(1, cell)).unwrap_or(CELLS - 1);
        [self.edge(first).max(self.least).min(0.0), self.edge(last + 1).min(self.most).max(0.0)]
    }

    /// The range whose bytes tell most of the distribution: that of which it diverges least (S. Migacz, 8-bit inference
    /// with TensorRT, 2017). Only the far side is cut; the near one, a few cells below zero for most activations, stays.
    pub fn entropy(&self) -> [f32; 2] {
        let [least, most] = self.percentile(0.999_999);
        if self.limit == 0.0 {
            return [least, most];
        }
        // Seen so that the far side is above.
        let turned = -least > most;
        let cells: Vec<u64> = if turned { self.cells.iter().rev().copied().collect() } else { self.cells.clone() };
        let (near, far) = if turned { (-most, -least) } else { (least, most) };
        let cell = |x: f32| ((x / self.limit + 1.0) / 2.0 * CELLS as f32).clamp(0.0, CELLS as f32);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cell, from zero on")]
        let (first, last) = (cell(near).floor() as usize, (cell(far).ceil() as usize).clamp(1, CELLS));
        let seen = &cells[first..last];
        let start = LEVELS.max(seen.len() / 8);
        let cuts = (start..seen.len()).step_by(CUT).chain([seen.len().max(start)]).filter(|&cut| cut <= seen.len());
        let best = cuts.map(|cut| (divergence(seen, cut), cut)).min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, cut)| cut);
        let cut = best.map_or(far, |cells| (self.edge(first + cells)).min(far));
        if turned { [-cut, -near] } else { [near, cut] }
    }
}

/// Of a distribution whose cells from `kept` on are taken for the last kept one, from what bytes make of it.
fn divergence(cells: &[u64], kept: usize) -> f64 {
    let beyond: u64 = cells[kept..].iter().sum();
    let total: u64 = cells.iter().sum();
    let (mut sum, mut told) = (0.0, 0.0);
    let level = |index: usize| index * kept / LEVELS;
    for index in 0..LEVELS {
        let part = &cells[level(index)..level(index + 1)];
        let count: u64 = part.iter().sum();
        let filled = part.iter().filter(|&&cell| cell > 0).count();
        let share = count as f64 / filled.max(1) as f64;
        told += count as f64;
        for (at, &cell) in part.iter().enumerate() {
            let is_last = index == LEVELS - 1 && at == part.len() - 1;
            let truth = cell as f64 + if is_last { beyond as f64 } else { 0.0 };
            if truth > 0.0 {
                // A cell that only what was cut off fills would be infinitely unlikely.
                sum += truth * (truth / share.max(1e-3)).ln();
            }
        }
    }
    // Both scaled to one.
    sum / total as f64 - (total as f64 / f64::max(told, 1.0)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn ranges_hold_what_they_say() {
        let mut random = Random::new(1);
        let mut histogram = Histogram::default();
        // The second batch is wider than the first.
        for reach in [1.0, 7.0] {
            let values: Vec<f32> = (0..100_000).map(|_| random.uniform(-0.25, reach)).collect();
            histogram.add(&values);
        }
        let [least, most] = histogram.whole();
        assert!((-0.25..-0.249).contains(&least) && (6.99..=7.0).contains(&most));
        assert_eq!(histogram.cells.iter().sum::<u64>(), 200_000);
        let [least, most] = histogram.percentile(0.99);
        assert!((least - -0.2375).abs() < 0.02 && (most - 6.85).abs() < 0.05, "{least} {most}");
        assert_eq!(histogram.percentile(1.0), histogram.whole());
    }

    #[test]
    fn entropy_cuts_a_far_outlier_and_keeps_an_even_distribution() {
        let mut random = Random::new(2);
        let even: Vec<f32> = (0..200_000).map(|_| random.uniform(0.0, 1.0)).collect();
        let mut histogram = Histogram::default();
        histogram.add(&even);
        assert!(histogram.entropy()[1] > 0.95, "{:?}", histogram.entropy());
        histogram.add(&[6.0]);
        let [least, most] = histogram.entropy();
        assert!(least == 0.0 && most < 2.0, "{least} {most}");
        // The same, mirrored.
        let mut mirrored = Histogram::default();
        mirrored.add(&even.iter().map(|x| -x).collect::<Vec<f32>>());
        mirrored.add(&[-6.0]);
        let [least, most] = mirrored.entropy();
        assert!(most == 0.0 && least > -2.0, "{least} {most}");
    }

    #[test]
    fn nothing_and_no_numbers_are_no_range() {
        let mut histogram = Histogram::default();
        histogram.add(&[]);
        histogram.add(&[0.0, 0.0]);
        assert_eq!((histogram.whole(), histogram.entropy(), histogram.percentile(0.5)), ([0.0; 2], [0.0; 2], [0.0; 2]));
        histogram.add(&[f32::INFINITY, 1.0, f32::NAN]);
        assert_eq!(histogram.whole(), [0.0, 1.0]);
    }
}
