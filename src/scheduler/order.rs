//! In what order groups of jobs are looked at: tier of the partition, priority, submission, number.

use super::nodes::NodePool;
use super::priority::{self, Factors, Parts, Weights, age, size};
use super::queue::GroupKey;
use super::view::View;
use crate::model::ids::JobId;
use crate::model::time::Timestamp;

/// A job's place in the order: the smaller the sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderKey {
    /// The tier of its partition, negated.
    pub tier_negated: i64,
    /// Its priority, negated.
    pub priority_negated: i64,
    /// Its submission.
    pub submitted: Timestamp,
    /// Its number.
    pub id: JobId,
}

/// Ranks jobs of one view at one time.
#[derive(Debug, Clone, Copy)]
pub struct Ranker<'a> {
    view: View<'a>,
    weights: Weights,
    now: Timestamp,
    whole: size::Whole,
    gpus: u32,
    partition_most: u32,
    qos_most: u32,
}

fn ratio(part: u32, whole: u32) -> f64 {
    if whole == 0 {
        0.0
    } else {
        f64::from(part) / f64::from(whole)
    }
}

impl<'a> Ranker<'a> {
    /// Of this view, with these weights.
    #[must_use]
    pub fn new(view: View<'a>, pool: &NodePool<'_>, weights: Weights, now: Timestamp) -> Self {
        let nodes = pool.sites().iter().map(|site| site.node);
        let (mut cpus, mut gpus, mut count) = (0u32, 0u32, 0u32);
        for node in nodes {
            cpus = cpus.saturating_add(node.cpus_total());
            let there = node.inventory.topology.gpus.len();
            gpus = gpus.saturating_add(u32::try_from(there).unwrap_or(u32::MAX));
            count += 1;
        }
        let partitions = view.rules.partitions.values();
        let qos = view.rules.qos.values();
        Ranker {
            view,
            weights,
            now,
            whole: size::Whole { nodes: count, cpus },
            gpus,
            partition_most: partitions.map(|one| one.priority).max().unwrap_or(0),
            qos_most: qos.map(|one| one.priority).max().unwrap_or(0),
        }
    }

    /// The priority of a job of this group, submitted then, term by term.
    #[must_use]
    pub fn parts(&self, key: &GroupKey, submitted: Timestamp) -> Parts {
        let class = &key.class;
        let rules = self.view.rules;
        let partition = rules.partitions.get(class.partition.as_str());
        let qos = rules.qos.get(class.qos.as_str());
        let member = (class.account.clone(), std::sync::Arc::clone(&class.user));
        let waited_s = self.now.minus(submitted) / 1000;
        let asked = size::Asked {
            nodes_min: key.request.nodes_min,
            cpus: key.request.cpus_total(),
            limit_s: key.limit_s,
        };
        let factors = Factors {
            age: age::factor(waited_s, self.weights.max_age_s),
            fair_share: self.view.standings.factor(&member),
            size: size::factor(self.weights.size_rule, &asked, &self.whole),
            partition: ratio(partition.map_or(0, |one| one.priority), self.partition_most),
            qos: ratio(qos.map_or(0, |one| one.priority), self.qos_most),
            cpus: ratio(asked.cpus, self.whole.cpus),
            gpus: ratio(key.request.gpus_total(), self.gpus),
            nice: key.nice,
            site: 0,
        };
        priority::sum(&self.weights, &factors)
    }

    /// The place of a job of this group in the order.
    #[must_use]
    pub fn key(&self, key: &GroupKey, submitted: Timestamp, id: JobId) -> OrderKey {
        // It keeps nobody waiting, so it need not wait for anybody.
        if key.request.takes_nothing() {
            return OrderKey {
                tier_negated: i64::MIN,
                priority_negated: i64::MIN,
                submitted,
                id,
            };
        }
        let partition = self.view.rules.partitions.get(key.class.partition.as_str());
        OrderKey {
            tier_negated: -i64::from(partition.map_or(1, |one| one.tier)),
            priority_negated: -self.parts(key, submitted).sum,
            submitted,
            id,
        }
    }
}
