//! In what order jobs wait: many wishes, each a factor between 0 and 1, weighed and added up to one integer.
//!
//! The terms are those of Slurm's multifactor priority, so that its users find their knobs again (Slurm's
//! documentation, "Multifactor Priority Plugin"). Each factor comes from a file of its own: [`age`], [`size`] and
//! [`fair_share`], which ranks users by [`Usage`] that fades away. Partition and QOS are quotients that the caller
//! knows. [`sum`] rounds every term to an integer before anything is compared, so that neither an optimiser nor a
//! processor can put two jobs in another order.
//!
//! Nothing here orders a queue: that is done by whoever holds it, with what [`sum`] says, then submission and number.

pub mod age;
pub mod fair_share;
pub mod size;

pub use crate::model::fading::Fading as Usage;
pub use fair_share::{Node, Standing, fair_tree};
pub use size::SizeRule;

const DAY_S: u32 = 86_400;
/// The least that a job which is not held has: 0 means held, as in Slurm.
const SUM_MIN: i64 = 1;
/// The most: Slurm's users expect priorities of 32 bits.
const SUM_MAX: i64 = u32::MAX as i64;

/// How many points of priority each factor is worth at 1, and what the factors are measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// Points for having waited `max_age_s`.
    pub age: u32,
    /// Points for the user who is furthest below the promised share.
    pub fair_share: u32,
    /// Points for the size that `size_rule` favours most.
    pub size: u32,
    /// Points for the partition with the highest priority.
    pub partition: u32,
    /// Points for the QOS with the highest priority.
    pub qos: u32,
    /// Points for asking for every CPU.
    pub tres_cpu: u32,
    /// Points for asking for every GPU.
    pub tres_gpu: u32,
    /// How long a wait still adds to the age factor; seconds.
    pub max_age_s: u32,
    /// Which jobs `size` favours.
    pub size_rule: SizeRule,
}

impl Default for Weights {
    /// For a lab: shares decide, a QOS can lift a job over half of the ranks, a partition or a week's wait over a tenth,
    /// and no size is favoured.
    fn default() -> Self {
        Self {
            age: 10_000,
            fair_share: 100_000,
            size: 0,
            partition: 10_000,
            qos: 50_000,
            tres_cpu: 0,
            tres_gpu: 0,
            max_age_s: 7 * DAY_S,
            size_rule: SizeRule::Large,
        }
    }
}

/// What is known of one job. Factors count as 0 to 1: less is 0, more is 1, and what is no number is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Factors {
    /// How long it has waited, of the longest wait that counts: [`age::factor`].
    pub age: f64,
    /// Its user's rank among all users: [`Standing::factor`].
    pub fair_share: f64,
    /// How much it is of the favoured size: [`size::factor`].
    pub size: f64,
    /// Its partition's priority, of the highest partition's.
    pub partition: f64,
    /// Its QOS's priority, of the highest QOS's.
    pub qos: f64,
    /// The CPUs it asks for, of all.
    pub cpus: f64,
    /// The GPUs it asks for, of all.
    pub gpus: f64,
    /// What its user takes off, or an administrator adds where negative; points.
    pub nice: i32,
    /// What the site adds by rules of its own; points.
    pub site: i64,
}

/// A job's priority term by term, in points, for `hpc job N --priority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// For its wait.
    pub age: i64,
    /// For its user's fair share.
    pub fair_share: i64,
    /// For its size.
    pub size: i64,
    /// For its partition.
    pub partition: i64,
    /// For its QOS.
    pub qos: i64,
    /// For the CPUs and GPUs it asks for.
    pub tres: i64,
    /// What the site adds.
    pub site: i64,
    /// What is taken off: it is shown as it was asked for, and subtracted.
    pub nice: i64,
    /// All of them, but at least 1 and at most 2^32 - 1. This alone is compared.
    pub sum: i64,
}

/// Weighs the factors of a job and adds them up.
#[must_use]
pub fn sum(weights: &Weights, factors: &Factors) -> Parts {
    let mut parts = Parts {
        age: term(weights.age, factors.age),
        fair_share: term(weights.fair_share, factors.fair_share),
        size: term(weights.size, factors.size),
        partition: term(weights.partition, factors.partition),
        qos: term(weights.qos, factors.qos),
        tres: term(weights.tres_cpu, factors.cpus) + term(weights.tres_gpu, factors.gpus),
        site: factors.site,
        nice: i64::from(factors.nice),
        sum: 0,
    };
    // Eight terms of at most 33 bits each: only what the site adds could leave the range.
    let own = parts.age + parts.fair_share + parts.size + parts.partition + parts.qos + parts.tres
        - parts.nice;
    parts.sum = total(own.saturating_add(parts.site));
    parts
}

/// A sum of points within its bounds.
pub(super) fn total(points: i64) -> i64 {
    points.clamp(SUM_MIN, SUM_MAX)
}

/// One factor's points, to the nearest integer.
pub(super) fn term(weight: u32, factor: f64) -> i64 {
    let points = f64::from(weight) * unit(factor);
    // Cutting off behind one half is rounding, and a tenth of its cost; four thousand groups are ranked in each pass.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a number between 0 and 2^32"
    )]
    let points = (points + 0.5) as i64;
    points
}

/// Between 0 and 1; what is no number is 0.
fn unit(factor: f64) -> f64 {
    if factor.is_nan() {
        0.0
    } else {
        factor.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONES: Factors = Factors {
        age: 1.0,
        fair_share: 1.0,
        size: 1.0,
        partition: 1.0,
        qos: 1.0,
        cpus: 1.0,
        gpus: 1.0,
        nice: 0,
        site: 0,
    };

    fn weights() -> Weights {
        Weights {
            age: 1000,
            fair_share: 200,
            size: 30,
            partition: 5,
            qos: 10_000,
            tres_cpu: 7,
            tres_gpu: 100,
            ..Weights::default()
        }
    }

    #[test]
    fn terms_are_weighed_rounded_and_added() {
        let factors = Factors {
            age: 0.25,         // 250
            fair_share: 0.501, // 100.2
            size: 0.05,        // 1.5, away from zero
            partition: 0.29,   // 1.45
            qos: 1.0,
            cpus: 0.5,  // 3.5
            gpus: 0.25, // 25
            nice: 50,
            site: 2,
        };
        let parts = sum(&weights(), &factors);
        let expected = Parts {
            age: 250,
            fair_share: 100,
            size: 2,
            partition: 1,
            qos: 10_000,
            tres: 29,
            site: 2,
            nice: 50,
            sum: 10_334,
        };
        assert_eq!(parts, expected);
    }

    #[test]
    fn factors_outside_their_range_count_as_its_ends() {
        let hostile = Factors {
            age: 2.0,
            fair_share: f64::NAN,
            size: -1.0,
            partition: f64::INFINITY,
            qos: f64::NEG_INFINITY,
            cpus: -0.0,
            gpus: f64::MAX,
            ..Factors::default()
        };
        let parts = sum(&weights(), &hostile);
        assert_eq!((parts.age, parts.fair_share, parts.size), (1000, 0, 0));
        assert_eq!((parts.partition, parts.qos, parts.tres), (5, 0, 100));
        assert_eq!(parts.sum, 1105);
    }

    #[test]
    fn the_sum_has_a_floor_and_a_cap() {
        let with = |nice, site| {
            let factors = Factors { nice, site, ..ONES };
            sum(&weights(), &factors).sum
        };
        assert_eq!(with(0, 0), 11_342);
        assert_eq!(with(-8, 0), 11_350);
        assert_eq!(with(11_340, 0), 2);
        for (nice, site) in [
            (11_341, 0),
            (11_342, 0),
            (i32::MAX, 0),
            (i32::MAX, i64::MIN),
        ] {
            assert_eq!(with(nice, site), 1, "{nice} {site}");
        }
        assert_eq!(with(0, 4_294_967_295 - 11_342), 4_294_967_295);
        assert_eq!(with(1, 4_294_967_296 - 11_342), 4_294_967_295);
        assert_eq!(with(1, 4_294_967_295 - 11_342), 4_294_967_294);
        assert_eq!(with(i32::MIN, i64::MAX), 4_294_967_295);
        let most = Weights {
            age: u32::MAX,
            fair_share: u32::MAX,
            ..Weights::default()
        };
        let parts = sum(&most, &ONES);
        assert_eq!(
            (parts.age, parts.fair_share),
            (4_294_967_295, 4_294_967_295)
        );
        assert_eq!(parts.sum, 4_294_967_295);
        assert_eq!(sum(&most, &Factors::default()).sum, 1);
    }

    #[test]
    fn a_lab_gets_shares_first() {
        let weights = Weights::default();
        let of = |fair_share, age, partition| {
            let factors = Factors {
                fair_share,
                age,
                partition,
                ..Factors::default()
            };
            sum(&weights, &factors).sum
        };
        assert!(of(0.5, 0.0, 0.0) > of(0.25, 1.0, 1.0));
        assert_eq!(weights.max_age_s, 604_800);
    }

    /// Any bits at all, and often something between 0 and 1.
    fn any_factor() -> impl Strategy<Value = f64> {
        prop_oneof![
            0.0..=1.0,
            any::<f64>(),
            any::<u64>().prop_map(f64::from_bits)
        ]
    }

    fn any_factors() -> impl Strategy<Value = Factors> {
        let seven = prop::array::uniform7(any_factor());
        (seven, any::<i32>(), any::<i64>()).prop_map(|(values, nice, site)| {
            let [age, fair_share, size, partition, qos, cpus, gpus] = values;
            Factors {
                age,
                fair_share,
                size,
                partition,
                qos,
                cpus,
                gpus,
                nice,
                site,
            }
        })
    }

    fn any_weights() -> impl Strategy<Value = Weights> {
        prop::array::uniform7(any::<u32>()).prop_map(|values| {
            let [age, fair_share, size, partition, qos, tres_cpu, tres_gpu] = values;
            Weights {
                age,
                fair_share,
                size,
                partition,
                qos,
                tres_cpu,
                tres_gpu,
                ..Weights::default()
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn parts_are_in_range_and_add_up(weights in any_weights(), factors in any_factors()) {
            let parts = sum(&weights, &factors);
            prop_assert_eq!(parts, sum(&weights, &factors));
            let terms = [parts.age, parts.fair_share, parts.size, parts.partition, parts.qos];
            let most = [weights.age, weights.fair_share, weights.size, weights.partition, weights.qos];
            for (term, most) in terms.into_iter().zip(most) {
                prop_assert!((0..=i64::from(most)).contains(&term));
            }
            let exact = terms.into_iter().chain([parts.tres, parts.site]).map(i128::from).sum::<i128>()
                - i128::from(parts.nice);
            prop_assert_eq!(i128::from(parts.sum), exact.clamp(1, i128::from(u32::MAX)));
        }

        #[test]
        fn more_of_a_factor_is_never_less_priority(
            weights in any_weights(), factors in any_factors(), more in 0.0..=1.0, nice in any::<i32>(),
        ) {
            let base = sum(&weights, &factors).sum;
            let raise = |factor: f64| unit(factor).max(more);
            for raised in [
                Factors { age: raise(factors.age), ..factors },
                Factors { fair_share: raise(factors.fair_share), ..factors },
                Factors { size: raise(factors.size), ..factors },
                Factors { partition: raise(factors.partition), ..factors },
                Factors { qos: raise(factors.qos), ..factors },
                Factors { cpus: raise(factors.cpus), ..factors },
                Factors { gpus: raise(factors.gpus), ..factors },
                Factors { nice: factors.nice.min(nice), ..factors },
            ] {
                prop_assert!(sum(&weights, &raised).sum >= base);
            }
        }
    }
}
