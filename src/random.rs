//! Seeded random numbers: splitmix64, so that a seed means the same scene, picture or wound in every build.

/// A splitmix64 generator (Steele, Lea and Flood, 2014): one word of state, full period, good enough to scatter bolts.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator whose numbers depend on `seed` only.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `low..high`.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        // 24 bits are what an f32 holds exactly, so the result cannot round up to `high` from 1.0.
        let unit = (self.bits() >> 40) as f32 / 16_777_216.0;
        low + unit * (high - low)
    }

    /// True with the given probability, 0..=1.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.uniform(0.0, 1.0) < probability
    }

    /// Plus or minus one, even odds.
    pub fn sign(&mut self) -> f32 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }

    /// Standard normal to within what an eye sees: the sum of twelve uniforms, which needs no logarithm and so comes
    /// out the same on every platform. Never beyond ±6.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform(0.0, 1.0)).sum::<f32>() - 6.0
    }

    /// A whole number in `0..count`.
    ///
    /// # Panics
    /// When `count` is 0.
    pub fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.bits() % count as u64).expect("a remainder of a usize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_gives_its_published_sequence() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.bits(), 6_457_827_717_110_365_317);
        assert_eq!(random.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn numbers_stay_in_their_range_and_spread_over_it() {
        let mut random = Random::new(7);
        let mut sum = 0.0;
        for _ in 0..10_000 {
            let value = random.uniform(-2.0, 6.0);
            assert!((-2.0..6.0).contains(&value));
            sum += value;
            assert!(random.below(3) < 3);
            assert!(random.normal().abs() <= 6.0);
        }
        assert!((sum / 10_000.0 - 2.0).abs() < 0.1);
    }
}
