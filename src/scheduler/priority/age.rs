//! The age factor: who has waited longer comes first, up to a longest wait that counts.
//!
//! Below that longest wait every job gains at the same slope, so it is tempting to order a queue once by priority minus
//! slope times now. That is not done: the sum is compared in whole points, and rounding lets two jobs whose exact sums
//! differ by less than a point be equal at one instant and one point apart at the next (there is a test of it).

/// How much of the longest wait that counts this is: 0 to 1. With a longest wait of 0 every wait is the longest.
#[must_use]
pub fn factor(waited_s: i64, max_age_s: u32) -> f64 {
    let waited = u64::try_from(waited_s).unwrap_or(0);
    match u32::try_from(waited) {
        Ok(waited) if waited < max_age_s => f64::from(waited) / f64::from(max_age_s),
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Factors, Weights, sum};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn grows_to_the_longest_wait() {
        let week = 604_800;
        let table = [
            (0, week, 0.0),
            (302_400, week, 0.5),
            (604_799, week, 604_799.0 / 604_800.0),
            (604_800, week, 1.0),
            (604_801, week, 1.0),
            (i64::MAX, week, 1.0),
            (1 << 32, u32::MAX, 1.0),
            (-1, week, 0.0),
            (i64::MIN, week, 0.0),
            (0, 0, 1.0),
        ];
        for (waited_s, max_age_s, expected) in table {
            assert_eq!(factor(waited_s, max_age_s), expected, "{waited_s}");
        }
    }

    /// Why there is no key that orders jobs once and for all: only the time passes, and the order changes.
    #[test]
    fn rounded_sums_change_their_order_while_time_passes() {
        let weights = Weights::default();
        let at = |now: i64, submitted: i64, site: i64| {
            let age = factor(now - submitted, weights.max_age_s);
            let factors = Factors {
                age,
                site,
                ..Factors::default()
            };
            sum(&weights, &factors).sum
        };
        // The later job has one point more, and 59 seconds less, which are worth 0.98 points.
        let lead: Vec<i64> = (1000..1100)
            .map(|now| at(now, 59, 1) - at(now, 0, 0))
            .collect();
        assert_eq!(lead.iter().min(), Some(&0));
        assert_eq!(lead.iter().max(), Some(&1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn longer_is_never_less(one in any::<i64>(), other in any::<i64>(), max_age_s in any::<u32>()) {
            let (less, more) = (factor(one.min(other), max_age_s), factor(one.max(other), max_age_s));
            prop_assert!(0.0 <= less && less <= more && more <= 1.0);
        }
    }
}
