//! Chance from a seed: integers alone, so that a seed gives the same everywhere.

/// Numbers at random: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct Draw(u64);

/// Most runs of numbers that are drawn for one span: one more is needed once in e^64 times.
const RUNS_MAX: u32 = 64;

impl Draw {
    /// Those of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Draw(seed)
    }

    /// Those of one of many streams of a seed: what is drawn from one does not move the others.
    #[must_use]
    pub fn stream(seed: u64, stream: u64) -> Self {
        let mut first = Draw(seed);
        Draw(first.number() ^ Draw(stream).number())
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// One of the numbers below `count`, each as likely as any other but for `count` in 2^64.
    pub fn below(&mut self, count: u64) -> u64 {
        let wide = u128::from(self.number()) * u128::from(count);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// One of the numbers from `least` to `most`.
    pub fn between(&mut self, least: i64, most: i64) -> i64 {
        let span = u64::try_from(most.saturating_sub(least).max(0)).unwrap_or(0);
        let more = self.below(span.saturating_add(1));
        least.saturating_add(i64::try_from(more).unwrap_or(0))
    }

    /// A span of exponential distribution with this mean, at least 1.
    ///
    /// Von Neumann's method (1951), which only compares: numbers are drawn while each is below the one before. When the
    /// run had an odd number of them, its first is the part behind the point; else one is added before the point and a new
    /// run is drawn.
    pub fn exponential(&mut self, mean: i64) -> i64 {
        let mean = u128::try_from(mean).unwrap_or(0);
        for whole in 0..RUNS_MAX {
            let first = self.number();
            let (mut last, mut length) = (first, 1_u32);
            loop {
                let next = self.number();
                if next >= last {
                    break;
                }
                last = next;
                length += 1;
            }
            if length % 2 == 1 {
                let span = mean * u128::from(whole) + ((mean * u128::from(first)) >> 64);
                return i64::try_from(span).unwrap_or(i64::MAX).max(1);
            }
        }
        i64::try_from(mean * u128::from(RUNS_MAX))
            .unwrap_or(i64::MAX)
            .max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_splitmix64() {
        // The first numbers of the generator's own reference for the seed 1234567.
        let mut draw = Draw::new(1_234_567);
        assert_eq!(draw.number(), 6_457_827_717_110_365_317);
        assert_eq!(draw.number(), 3_203_168_211_198_807_973);
        assert!((0..1000).all(|_| draw.below(3) < 3));
        assert!((0..1000).all(|_| (5..=7).contains(&draw.between(5, 7))));
        assert_eq!(draw.between(4, 4), 4);
        assert_ne!(
            Draw::stream(1, 2).number(),
            Draw::stream(1, 3).number(),
            "streams differ"
        );
    }

    #[test]
    fn spans_are_of_exponential_distribution() {
        let mut draw = Draw::new(7);
        let spans: Vec<i64> = (0..40_000).map(|_| draw.exponential(1_000_000)).collect();
        let mean = spans.iter().sum::<i64>() / 40_000;
        assert!((985_000..1_015_000).contains(&mean), "{mean}");
        // A part of 1/e is longer than the mean, and 1/e^3 longer than three of it.
        let longer = |than: i64| spans.iter().filter(|span| **span > than).count();
        assert!((14_400..15_050).contains(&longer(1_000_000)));
        assert!((1_850..2_150).contains(&longer(3_000_000)));
        assert_eq!(draw.exponential(0), 1);
    }
}
