//! Amounts that are forgotten: what a user or an account has used, how often a node has failed.
//!
//! One halves every half-life, a sum of charges each fading by itself: U(t) = sum of u * 2^(-(t - t_u)/h). Slurm
//! multiplies everybody's usage in a loop every few minutes and so depends on when the loop ran; here the amount is kept
//! with the time at which it held, and looked at lazily. That costs nothing while nobody asks, and gives the same
//! answer however often anybody does.

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// Terms of the exponential's series: the last is below 2^-61 for every exponent that is asked for.
const TERMS: u32 = 20;
/// The exponent field of 1.0, and below how many bits it lies (IEEE 754, binary64).
const EXPONENT_OF_ONE: u64 = 1023;
const FRACTION_BITS: u32 = 52;

/// A fading amount, and when it was that much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Fading {
    /// How much: CPU-seconds or whatever else is billed for a second, failures.
    pub amount: f64,
    /// When it was that much.
    pub at: Timestamp,
}

/// What is kept is a number ([`counted`]), so each is equal to itself.
impl Eq for Fading {}

impl Fading {
    /// Whether it is an amount, for one that was stored.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.amount.is_finite() && self.amount >= 0.0
    }

    /// What is left of it at a later time, with this half-life in seconds; 0 never forgets. An earlier `now`, as after
    /// the clock was set back, finds the amount as it is.
    #[must_use]
    pub fn at(&self, now: Timestamp, half_life_s: u32) -> f64 {
        counted(self.amount) * left(now.minus(self.at), half_life_s)
    }

    /// Charges an amount at `now`. Where `now` is earlier than the last charge the clock was set back: the amount is
    /// added in full, since one that had faded would be a present to whoever runs jobs until the clock catches up.
    pub fn add(&mut self, amount: f64, now: Timestamp, half_life_s: u32) {
        let sum = self.at(now, half_life_s) + counted(amount);
        self.amount = counted(sum);
        self.at = self.at.max(now);
    }
}

/// Amounts are not negative and have an end; what is no number counts as nothing.
fn counted(amount: f64) -> f64 {
    if amount.is_nan() {
        0.0
    } else {
        amount.clamp(0.0, f64::MAX)
    }
}

/// 2^(-elapsed/half-life): which part is left.
///
/// Whole half-lives are taken off the exponent, so that they halve exactly. The rest is a series in plain arithmetic,
/// not `exp2`, whose last bits differ between libraries: two users close to each other would change places with them.
fn left(elapsed_ms: i64, half_life_s: u32) -> f64 {
    let half_life_ms = i64::from(half_life_s) * 1000;
    if elapsed_ms <= 0 || half_life_ms == 0 {
        return 1.0;
    }
    let halvings = (elapsed_ms / half_life_ms).unsigned_abs();
    // After 1023 of them nothing is left: the field is 0, and so is the number.
    let halved = f64::from_bits(EXPONENT_OF_ONE.saturating_sub(halvings) << FRACTION_BITS);
    let rest = (elapsed_ms % half_life_ms) as f64 / half_life_ms as f64;
    halved * exp_of_minus(rest * std::f64::consts::LN_2)
}

/// e^-x for x between 0 and ln 2: 1 - x/1 (1 - x/2 (1 - x/3 (..))).
fn exp_of_minus(x: f64) -> f64 {
    (1..=TERMS)
        .rev()
        .fold(1.0, |inner, term| 1.0 - x / f64::from(term) * inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WEEK_S: u32 = 604_800;

    fn usage(amount: f64, at_s: i64) -> Fading {
        Fading {
            amount,
            at: Timestamp::from_seconds(at_s),
        }
    }

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() <= 1e-9 * one.abs().max(other.abs())
    }

    #[test]
    fn halves_exactly_after_each_half_life() {
        for (amount, half_life_s) in [(1.0, 1), (0.1, 7), (12_345.678, WEEK_S), (1e17, u32::MAX)] {
            let used = usage(amount, 1_000);
            let after = |halves: i64| {
                let now = 1_000 + halves * i64::from(half_life_s);
                used.at(Timestamp::from_seconds(now), half_life_s)
            };
            assert_eq!(after(0), amount);
            assert_eq!(after(1), amount / 2.0);
            assert_eq!(after(2), amount / 4.0);
            assert_eq!(after(10), amount / 1024.0);
        }
    }

    #[test]
    fn between_half_lives_it_follows_the_curve() {
        let used = usage(1.0, 0);
        let half = used.at(Timestamp::from_seconds(50), 100);
        assert!((half - 0.5_f64.sqrt()).abs() < 1e-15);
        let quarter = used.at(Timestamp(25_000), 100);
        assert!((quarter - 0.5_f64.powf(0.25)).abs() < 1e-15);
        let next = used.at(Timestamp(100_001), 100);
        assert!(next < 0.5 && next > 0.499_99);
    }

    #[test]
    fn without_a_half_life_or_before_its_time_it_stays() {
        let used = usage(8.0, 1_000);
        for (now_s, half_life_s) in [(1 << 40, 0), (999, 10), (0, 10), (1_000, 10)] {
            assert_eq!(used.at(Timestamp::from_seconds(now_s), half_life_s), 8.0);
        }
        assert_eq!(used.at(Timestamp(i64::MIN), 1), 8.0);
    }

    #[test]
    fn in_the_end_nothing_is_left() {
        let used = usage(f64::MAX, 0);
        assert!(used.at(Timestamp::from_seconds(1022), 1) > 0.0);
        assert_eq!(used.at(Timestamp::from_seconds(1023), 1), 0.0);
        assert_eq!(used.at(Timestamp(i64::MAX), 1), 0.0);
    }

    #[test]
    fn charges_add_to_what_is_left() {
        let mut used = Fading::default();
        used.add(100.0, Timestamp::from_seconds(0), 60);
        used.add(10.0, Timestamp::from_seconds(60), 60);
        assert_eq!(used, usage(60.0, 60));
        // The clock was set back: in full, and the time stays.
        used.add(4.0, Timestamp::from_seconds(0), 60);
        assert_eq!(used, usage(64.0, 60));
        assert_eq!(used.at(Timestamp::from_seconds(120), 60), 32.0);
    }

    #[test]
    fn what_is_no_amount_is_not_charged() {
        let mut used = usage(5.0, 0);
        for nothing in [f64::NAN, -1.0, f64::NEG_INFINITY, 0.0] {
            used.add(nothing, Timestamp(0), 60);
            assert_eq!(used.amount, 5.0);
        }
        used.add(f64::INFINITY, Timestamp(0), 60);
        used.add(f64::MAX, Timestamp(0), 60);
        assert_eq!(used.amount, f64::MAX);
        assert_eq!(usage(f64::NAN, 0).at(Timestamp(1), 60), 0.0);
    }

    #[test]
    fn is_stored_in_few_bytes() {
        let used = usage(1.5, 1_769_860_800);
        let bytes = postcard::to_stdvec(&used).unwrap();
        assert!(bytes.len() <= 16);
        assert_eq!(postcard::from_bytes::<Fading>(&bytes), Ok(used));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_series_is_the_exponential(part in 0.0..1.0) {
            let x = part * std::f64::consts::LN_2;
            prop_assert!((exp_of_minus(x) - (-x).exp()).abs() < 5e-16);
        }

        /// Looking at it, or writing down what was seen, at any times between makes no difference.
        #[test]
        fn does_not_depend_on_when_it_is_looked_at(
            amount in 0.001..1e15, start in any::<u32>(), half_life_s in 1_u32..,
            steps in prop::collection::vec(0_i64..400_000_000_000, 0..8),
        ) {
            let first = usage(amount, i64::from(start));
            let mut looked_at = first;
            for step in &steps {
                looked_at.add(0.0, looked_at.at.plus_ms(*step), half_life_s);
            }
            let last = first.at.plus_ms(steps.iter().sum());
            prop_assert_eq!(looked_at.at, last);
            let (often, once) = (looked_at.at(last, half_life_s), first.at(last, half_life_s));
            // Below this the last bits of tiny numbers are gone, which no comparison of users will notice.
            prop_assert!(close(often, once) || once < 1e-280, "{often} {once}");
        }

        /// What is left is the sum of what is left of each charge.
        #[test]
        fn charges_fade_each_by_itself(
            charges in prop::collection::vec((0.0..1e9, 0_i64..10_000_000), 1..10), half_life_s in 1000_u32..10_000_000,
        ) {
            let mut used = Fading::default();
            let (mut now, mut each) = (Timestamp(0), Vec::new());
            for (amount, wait_s) in charges {
                now = now.plus_ms(wait_s * 1000);
                used.add(amount, now, half_life_s);
                each.push(Fading { amount, at: now });
            }
            let end = now.plus_ms(86_400_000);
            let sum: f64 = each.iter().map(|charge| charge.at(end, half_life_s)).sum();
            prop_assert!(close(used.at(end, half_life_s), sum));
        }

        #[test]
        fn never_grows_and_is_never_negative(
            bits in any::<u64>(), at in any::<i64>(), now in any::<i64>(), later in any::<i64>(), half_life_s in any::<u32>(),
        ) {
            let used = Fading { amount: f64::from_bits(bits), at: Timestamp(at) };
            let before = used.at(Timestamp(now.min(later)), half_life_s);
            let after = used.at(Timestamp(now.max(later)), half_life_s);
            prop_assert!(after >= 0.0 && before <= f64::MAX);
            prop_assert!(after <= before * (1.0 + 1e-15));
        }
    }
}
