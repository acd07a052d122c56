//! The size factor: whether wide jobs or narrow ones come first.
//!
//! A wide job finds its place rarely, and a queue of narrow ones can keep it waiting; favouring it counters that. The
//! formulas are those of Slurm's job size factor, with its PriorityFavorSmall and SMALL_RELATIVE_TO_TIME (Slurm's
//! documentation, "Multifactor Priority Plugin"), so that a site's experience with them holds.

/// Which jobs the size factor favours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SizeRule {
    /// Those that ask for many nodes and CPUs.
    #[default]
    Large,
    /// Those that ask for few nodes and CPUs.
    Small,
    /// Those that ask for many CPUs for each minute of their limit.
    LargeRelative,
    /// Those that ask for few CPUs for each minute of their limit.
    SmallRelative,
}

/// What a job asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The fewest nodes that it can start on.
    pub nodes_min: u32,
    /// CPUs on all its nodes together.
    pub cpus: u32,
    /// Its time limit in seconds; none is without end.
    pub limit_s: Option<u32>,
}

/// What the cluster has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// Nodes.
    pub nodes: u32,
    /// CPUs on all nodes together.
    pub cpus: u32,
}

/// How much a job is of the favoured size: 0 to 1. It is 0 where the cluster has nothing to compare with.
#[must_use]
pub fn factor(rule: SizeRule, asked: &Asked, whole: &Whole) -> f64 {
    if whole.nodes == 0 || whole.cpus == 0 {
        return 0.0;
    }
    let of_nodes = f64::from(asked.nodes_min) / f64::from(whole.nodes);
    let of_cpus = f64::from(asked.cpus) / f64::from(whole.cpus);
    // Slurm's ((N - n)/N + (C - c)/C)/2 is one minus the mean of both shares.
    let size = match rule {
        SizeRule::Large => f64::midpoint(of_nodes, of_cpus),
        SizeRule::Small => 1.0 - f64::midpoint(of_nodes, of_cpus),
        SizeRule::LargeRelative => of_nodes.max(of_cpus) / minutes(asked.limit_s),
        SizeRule::SmallRelative => 1.0 - of_nodes.max(of_cpus) / minutes(asked.limit_s),
    };
    size.clamp(0.0, 1.0)
}

/// A limit in minutes; less than one counts as one, so that the shortest jobs do not outgrow the scale.
fn minutes(limit_s: Option<u32>) -> f64 {
    limit_s.map_or(f64::INFINITY, |seconds| {
        (f64::from(seconds) / 60.0).max(1.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use SizeRule::{Large, LargeRelative, Small, SmallRelative};
    use proptest::prelude::*;

    const WHOLE: Whole = Whole { nodes: 8, cpus: 64 };

    #[test]
    fn formulas() {
        let table = [
            // 2 of 8 nodes and 32 of 64 CPUs: (1/4 + 1/2) / 2, and (6/8 + 32/64) / 2.
            (Large, 2, 32, Some(600), 0.375),
            (Small, 2, 32, Some(600), 0.625),
            // Two nodes stand for 16 CPUs, 32 are more: 32 / 10 minutes / 64; then 16 CPUs are more than 8.
            (LargeRelative, 2, 32, Some(600), 0.05),
            (LargeRelative, 2, 8, Some(600), 0.025),
            (SmallRelative, 2, 32, Some(600), 0.95),
            (LargeRelative, 2, 32, Some(90), 1.0 / 3.0),
            (LargeRelative, 2, 32, Some(1), 0.5),
            (LargeRelative, 2, 32, Some(0), 0.5),
            (LargeRelative, 8, 64, None, 0.0),
            (SmallRelative, 8, 64, None, 1.0),
            (Large, 8, 64, None, 1.0),
            (Small, 8, 64, None, 0.0),
            (Large, 0, 0, None, 0.0),
            (Small, 0, 0, None, 1.0),
            // More than there is, as when nodes were taken away.
            (Large, 16, 64, None, 1.0),
            (Small, 16, 640, None, 0.0),
            (SmallRelative, 16, 64, Some(60), 0.0),
        ];
        for (rule, nodes_min, cpus, limit_s, expected) in table {
            let asked = Asked {
                nodes_min,
                cpus,
                limit_s,
            };
            let found = factor(rule, &asked, &WHOLE);
            assert!(
                (found - expected).abs() < 1e-15,
                "{rule:?} {asked:?}: {found}"
            );
        }
    }

    #[test]
    fn an_empty_cluster_favours_nobody() {
        let asked = Asked {
            nodes_min: 1,
            cpus: 1,
            limit_s: None,
        };
        for rule in [Large, Small, LargeRelative, SmallRelative] {
            for (nodes, cpus) in [(0, 0), (0, 1), (1, 0)] {
                assert_eq!(factor(rule, &asked, &Whole { nodes, cpus }), 0.0);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn wider_is_larger_and_both_rules_mirror(
            nodes_min in any::<u32>(), cpus in any::<u32>(), limit_s in any::<Option<u32>>(),
            nodes in any::<u32>(), all in any::<u32>(), more in any::<u32>(),
        ) {
            let whole = Whole { nodes, cpus: all };
            let asked = Asked { nodes_min, cpus, limit_s };
            let wider = Asked { cpus: cpus.saturating_add(more), ..asked };
            for (large, small) in [(Large, Small), (LargeRelative, SmallRelative)] {
                let of = |rule, asked| factor(rule, asked, &whole);
                prop_assert!((0.0..=1.0).contains(&of(large, &asked)));
                prop_assert!(of(large, &wider) >= of(large, &asked));
                prop_assert!(of(small, &wider) <= of(small, &asked));
                if nodes > 0 && all > 0 {
                    prop_assert!((of(large, &asked) + of(small, &asked) - 1.0).abs() < 1e-12);
                }
            }
        }
    }
}
