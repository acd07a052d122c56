//! In what order groups of jobs are looked at: tier of the partition, priority, submission, number.

use super::nodes::Totals;
use super::priority::{self, Factors, Parts, Weights, age, size};
use super::queue::{Class, GroupKey, Head, Mark, Member};
use super::shares::Standings;
use crate::model::ids::JobId;
use crate::model::resource::Request;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use std::sync::Arc;

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

/// What the order owes to whose a job is: the same for all of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassRank {
    tier: i64,
    /// Points for fair share, partition and QOS.
    points: i64,
}

/// Ranks jobs at one time.
#[derive(Debug, Clone, Copy)]
pub struct Ranker<'a> {
    rules: &'a Rules,
    standings: &'a Standings,
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

/// What the place of the first job of a group was worked out from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Basis {
    rank: ClassRank,
    nice: i32,
    takes_nothing: bool,
    submitted: Timestamp,
    id: JobId,
}

/// Places of first jobs, as they were found in the same second: who was not changed since has the same.
#[derive(Debug, Clone, Default)]
pub struct Orders {
    /// Jobs are ordered as at this time, whatever the time is.
    pinned: Option<Timestamp>,
    second: i64,
    weights: Weights,
    known: Vec<Option<(Basis, OrderKey)>>,
    /// By shape: the first of the groups that ask for it and its place, as long as the mark is the same.
    firsts: Vec<Option<(Mark, OrderKey, usize)>>,
    /// What the order owed to each class then.
    ranks: Vec<ClassRank>,
}

impl Orders {
    /// For passes of a forecast: all age alike meanwhile, so the order is the one of its beginning.
    #[must_use]
    pub fn pinned(at: Timestamp) -> Self {
        Orders {
            pinned: Some(at),
            ..Orders::default()
        }
    }

    /// The time at which jobs are ordered.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Timestamp {
        self.pinned.unwrap_or(now)
    }

    /// Those that were found in another second, or with other weights, are forgotten.
    pub fn renew(&mut self, now: Timestamp, weights: Weights, count: usize) {
        let second = self.at(now).0.div_euclid(1000);
        if self.second != second || self.weights != weights {
            self.known.clear();
            self.firsts.clear();
            (self.second, self.weights) = (second, weights);
        }
        self.known.resize(count, None);
    }

    /// The first of so many shapes that were found when the order owed something else to a class are forgotten; whether any
    /// are known.
    pub fn renew_rows(&mut self, ranks: &[ClassRank], shapes: usize) -> bool {
        if self.ranks != ranks {
            self.firsts.clear();
            self.ranks = ranks.to_vec();
        }
        let known = !self.firsts.is_empty();
        self.firsts.resize(shapes, None);
        known
    }

    /// The first of the groups that ask for a shape and its place, if it was found and nothing has happened to them since.
    #[must_use]
    pub fn first_of(&self, shape: usize, mark: &Mark) -> Option<(OrderKey, usize)> {
        let (known, order, at) = self.firsts.get(shape)?.as_ref()?;
        known.is(mark).then_some((*order, *at))
    }

    /// It is not known who is the first of the groups that ask for a shape.
    pub fn forget_first(&mut self, shape: usize) {
        if let Some(first) = self.firsts.get_mut(shape) {
            *first = None;
        }
    }

    /// This is the first of the groups that ask for a shape.
    pub fn keep_first(&mut self, shape: usize, mark: &Mark, (order, at): (OrderKey, usize)) {
        if let Some(first) = self.firsts.get_mut(shape) {
            *first = Some((mark.clone(), order, at));
        }
    }
}

impl<'a> Ranker<'a> {
    /// Whether what a job asks for makes a difference.
    #[must_use]
    pub fn counts_size(&self) -> bool {
        let weights = &self.weights;
        weights.size > 0 || weights.tres_cpu > 0 || weights.tres_gpu > 0
    }

    /// The place of the first job of the group at this place among the heads, as [`Ranker::head`] has it.
    pub fn head_at(
        &self,
        orders: &mut Orders,
        at: usize,
        rank: &ClassRank,
        head: &Head,
        key: impl FnOnce() -> Option<Arc<GroupKey>>,
    ) -> OrderKey {
        let by_size = self.counts_size();
        let known = orders.known.get_mut(at).filter(|_| !by_size);
        let Some(known) = known else {
            return self.head(rank, head, key);
        };
        let basis = Basis {
            rank: *rank,
            nice: head.nice,
            takes_nothing: head.takes_nothing,
            submitted: head.first.submitted,
            id: head.first.id,
        };
        match known {
            Some((same, order)) if *same == basis => *order,
            _ => {
                let order = self.head(rank, head, key);
                *known = Some((basis, order));
                order
            }
        }
    }

    /// By these rules and standings, on a cluster of that size.
    #[must_use]
    pub fn new(
        rules: &'a Rules,
        standings: &'a Standings,
        totals: Totals,
        weights: Weights,
        now: Timestamp,
    ) -> Self {
        let partitions = rules.partitions.values();
        let qos = rules.qos.values();
        Ranker {
            rules,
            standings,
            weights,
            // Ages are counted in whole seconds, and so is the time: in one second nobody ages.
            now: Timestamp(now.0.div_euclid(1000) * 1000),
            whole: size::Whole {
                nodes: totals.nodes,
                cpus: totals.cpus,
            },
            gpus: totals.gpus,
            partition_most: partitions.map(|one| one.priority).max().unwrap_or(0),
            qos_most: qos.map(|one| one.priority).max().unwrap_or(0),
        }
    }

    fn class_factors(&self, class: &Class) -> Factors {
        let rules = self.rules;
        let partition = rules.partitions.get(class.partition.as_str());
        let qos = rules.qos.get(class.qos.as_str());
        let member = (class.account.clone(), Arc::clone(&class.user));
        Factors {
            fair_share: self.standings.factor(&member),
            partition: ratio(partition.map_or(0, |one| one.priority), self.partition_most),
            qos: ratio(qos.map_or(0, |one| one.priority), self.qos_most),
            ..Factors::default()
        }
    }

    fn size_factors(&self, request: &Request, limit_s: Option<u32>) -> Factors {
        let asked = size::Asked {
            nodes_min: request.nodes_min,
            cpus: request.cpus_total(),
            limit_s,
        };
        Factors {
            size: size::factor(self.weights.size_rule, &asked, &self.whole),
            cpus: ratio(asked.cpus, self.whole.cpus),
            gpus: ratio(request.gpus_total(), self.gpus),
            ..Factors::default()
        }
    }

    fn age_factor(&self, submitted: Timestamp) -> f64 {
        age::factor(self.now.minus(submitted) / 1000, self.weights.max_age_s)
    }

    /// The priority of a job of this group, submitted then, term by term.
    #[must_use]
    pub fn parts(&self, key: &GroupKey, submitted: Timestamp) -> Parts {
        let of_class = self.class_factors(&key.class);
        let of_size = self.size_factors(&key.request, key.limit_s);
        let factors = Factors {
            age: self.age_factor(submitted),
            size: of_size.size,
            cpus: of_size.cpus,
            gpus: of_size.gpus,
            nice: key.nice,
            ..of_class
        };
        priority::sum(&self.weights, &factors)
    }

    /// What the order owes to a class.
    #[must_use]
    pub fn class(&self, class: &Class) -> ClassRank {
        let factors = self.class_factors(class);
        let partition = self.rules.partitions.get(class.partition.as_str());
        let weights = &self.weights;
        ClassRank {
            tier: partition.map_or(1, |one| i64::from(one.tier)),
            points: priority::term(weights.fair_share, factors.fair_share)
                + priority::term(weights.partition, factors.partition)
                + priority::term(weights.qos, factors.qos),
        }
    }

    /// The place of a job of this group in the order, its class's part being known.
    #[must_use]
    pub fn key(&self, class: &ClassRank, key: &GroupKey, job: &Member) -> OrderKey {
        let nothing = key.request.takes_nothing();
        self.place(class, nothing, key.nice, job, || {
            self.size_points(&key.request, key.limit_s)
        })
    }

    /// The place of the first job of a group; `request` and limit are looked up where size counts.
    #[must_use]
    pub fn head(
        &self,
        class: &ClassRank,
        head: &Head,
        key: impl FnOnce() -> Option<Arc<GroupKey>>,
    ) -> OrderKey {
        let size = || key().map_or(0, |key| self.size_points(&key.request, key.limit_s));
        self.place(class, head.takes_nothing, head.nice, &head.first, size)
    }

    fn size_points(&self, request: &Request, limit_s: Option<u32>) -> i64 {
        let weights = &self.weights;
        let factors = self.size_factors(request, limit_s);
        priority::term(weights.size, factors.size)
            + priority::term(weights.tres_cpu, factors.cpus)
            + priority::term(weights.tres_gpu, factors.gpus)
    }

    fn place(
        &self,
        class: &ClassRank,
        takes_nothing: bool,
        nice: i32,
        job: &Member,
        size: impl FnOnce() -> i64,
    ) -> OrderKey {
        let (submitted, id) = (job.submitted, job.id);
        // It keeps nobody waiting, so it need not wait for anybody.
        if takes_nothing {
            return OrderKey {
                tier_negated: i64::MIN,
                priority_negated: i64::MIN,
                submitted,
                id,
            };
        }
        let weights = &self.weights;
        let mut points = class.points + priority::term(weights.age, self.age_factor(submitted))
            - i64::from(nice);
        if self.counts_size() {
            points += size();
        }
        OrderKey {
            tier_negated: -class.tier,
            priority_negated: -priority::total(points),
            submitted,
            id,
        }
    }
}
