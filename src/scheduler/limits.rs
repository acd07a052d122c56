//! What is in use of each limit, and whether a job may have more.
//!
//! Jobs and what they hold are counted by [`Class`]; there are about as many classes as people. What a limit counts is a
//! sum over some of them: of a user within a QOS, of an account and those below it.

use super::nodes::Parts;
use super::queue::Class;
use crate::model::allocation::Allocation;
use crate::model::job::Job;
use crate::model::limits::{Effect, Level, LimitHit, LimitKind, Whose};
use crate::model::resource::{MemoryRequest, Request};
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use std::collections::BTreeMap;

/// What some jobs hold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Jobs that wait or run; an array counts once.
    pub submitted: u64,
    /// Jobs that run.
    pub running: u64,
    /// Cpus.
    pub cpus: u64,
    /// GPUs.
    pub gpus: u64,
    /// Memory; MiB.
    pub memory_mib: u64,
    /// Nodes, counted for each slot.
    pub nodes: u64,
    /// Sum of cpus times the end of what holds them; seconds.
    cpu_ends_s: i128,
    /// The same of GPUs.
    gpu_ends_s: i128,
}

impl Held {
    /// What a slot holds until then.
    #[must_use]
    pub fn by_slot(allocation: &Allocation, ends: Timestamp) -> Self {
        Held::amounts(
            u64::from(allocation.cpus()),
            u64::from(allocation.gpus()),
            allocation.memory_mib(),
            allocation.nodes.len() as u64,
            ends,
        )
    }

    /// What these parts hold until then.
    #[must_use]
    pub fn by_parts(parts: &Parts, ends: Timestamp) -> Self {
        let mut held = [0u64; 3];
        let nodes = parts.iter().filter(|part| part.is_of_node()).count() as u64;
        for part in parts.iter().filter(|part| part.is_of_node()) {
            let amount = &part.amount;
            held[0] += u64::from(amount.cpus);
            held[1] += amount
                .gpus
                .iter()
                .map(|count| u64::from(*count))
                .sum::<u64>();
            held[2] += amount.memory_mib;
        }
        Held::amounts(held[0], held[1], held[2], nodes, ends)
    }

    /// What one slot of a request would hold until then, as far as that is known before it is placed.
    #[must_use]
    pub fn by_request(request: &Request, ends: Timestamp) -> Self {
        let cpus = u64::from(request.cpus_total());
        let nodes = u64::from(request.nodes_min.max(1));
        let memory_mib = match request.memory {
            MemoryRequest::Default => 0,
            MemoryRequest::PerNode(mib) => mib.saturating_mul(nodes),
            MemoryRequest::PerCpu(mib) => mib.saturating_mul(cpus),
        };
        Held::amounts(
            cpus,
            u64::from(request.gpus_total()),
            memory_mib,
            nodes,
            ends,
        )
    }

    fn amounts(cpus: u64, gpus: u64, memory_mib: u64, nodes: u64, ends: Timestamp) -> Self {
        let ends_s = i128::from(ends.seconds());
        Held {
            submitted: 0,
            running: 0,
            cpus,
            gpus,
            memory_mib,
            nodes,
            cpu_ends_s: i128::from(cpus) * ends_s,
            gpu_ends_s: i128::from(gpus) * ends_s,
        }
    }

    /// A job, and whether it runs.
    #[must_use]
    pub fn by_job(job: &Job) -> Self {
        Held {
            submitted: 1,
            running: u64::from(job.is_running()),
            ..Held::default()
        }
    }

    /// With a job that is new to what waits or runs, and one that is new to what runs.
    #[must_use]
    pub fn with_job(self, is_new: bool, runs_anew: bool) -> Self {
        Held {
            submitted: u64::from(is_new),
            running: u64::from(runs_anew),
            ..self
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Held) -> Held {
        Held {
            submitted: self.submitted + other.submitted,
            running: self.running + other.running,
            cpus: self.cpus + other.cpus,
            gpus: self.gpus + other.gpus,
            memory_mib: self.memory_mib + other.memory_mib,
            nodes: self.nodes + other.nodes,
            cpu_ends_s: self.cpu_ends_s + other.cpu_ends_s,
            gpu_ends_s: self.gpu_ends_s + other.gpu_ends_s,
        }
    }

    /// What is left without the other.
    ///
    /// # Panics
    /// When the other was not part of it: our own mistake in counting.
    #[must_use]
    pub fn minus(self, other: Held) -> Held {
        let less =
            |one: u64, other: u64| one.checked_sub(other).expect("what is taken was counted");
        Held {
            submitted: less(self.submitted, other.submitted),
            running: less(self.running, other.running),
            cpus: less(self.cpus, other.cpus),
            gpus: less(self.gpus, other.gpus),
            memory_mib: less(self.memory_mib, other.memory_mib),
            nodes: less(self.nodes, other.nodes),
            cpu_ends_s: self.cpu_ends_s - other.cpu_ends_s,
            gpu_ends_s: self.gpu_ends_s - other.gpu_ends_s,
        }
    }

    /// What a limit of this kind counts.
    fn of(&self, kind: LimitKind, now: Timestamp) -> u64 {
        let minutes = |ends_s: i128, count: u64| {
            let left_s = ends_s - i128::from(count) * i128::from(now.seconds());
            u64::try_from(left_s.max(0) / 60).unwrap_or(u64::MAX)
        };
        match kind {
            LimitKind::MaxJobsPerUser | LimitKind::MaxJobsPerAccount | LimitKind::GroupJobs => {
                self.running
            }
            LimitKind::MaxSubmitPerUser
            | LimitKind::MaxSubmitPerAccount
            | LimitKind::GroupSubmit => self.submitted,
            LimitKind::MaxCpusPerUser
            | LimitKind::MaxCpusPerAccount
            | LimitKind::GroupCpus
            | LimitKind::MaxCpusPerJob
            | LimitKind::MinCpusPerJob => self.cpus,
            LimitKind::MaxGpusPerUser
            | LimitKind::MaxGpusPerAccount
            | LimitKind::GroupGpus
            | LimitKind::MaxGpusPerJob
            | LimitKind::MinGpusPerJob => self.gpus,
            LimitKind::MaxMemoryPerUser | LimitKind::GroupMemory | LimitKind::MaxMemoryPerJob => {
                self.memory_mib
            }
            LimitKind::MaxNodesPerUser | LimitKind::GroupNodes | LimitKind::MaxNodesPerJob => {
                self.nodes
            }
            LimitKind::GroupRunningCpuMinutes | LimitKind::MaxCpuMinutesPerJob => {
                minutes(self.cpu_ends_s, self.cpus)
            }
            LimitKind::GroupRunningGpuMinutes | LimitKind::MaxGpuMinutesPerJob => {
                minutes(self.gpu_ends_s, self.gpus)
            }
            // The job's own time limit: compared where it is known.
            LimitKind::MaxTime => 0,
        }
    }
}

/// What all hold, by class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<Class, Held>);

impl Tally {
    /// Counts something.
    pub fn add(&mut self, class: &Class, held: Held) {
        match self.0.get_mut(class) {
            Some(known) => *known = known.plus(held),
            None => _ = self.0.insert(class.clone(), held),
        }
    }

    /// Counts it no more.
    ///
    /// # Panics
    /// When it was not counted.
    pub fn remove(&mut self, class: &Class, held: Held) {
        let known = self.0.get_mut(class);
        let known = known.expect("what is taken was counted");
        *known = known.minus(held);
        if *known == Held::default() {
            self.0.remove(class);
        }
    }

    /// The classes.
    pub fn iter(&self) -> impl Iterator<Item = (&Class, &Held)> {
        self.0.iter()
    }

    fn sum(&self, meant: impl Fn(&Class) -> bool) -> Held {
        let held = self.0.iter().filter(|(class, _)| meant(class));
        held.fold(Held::default(), |sum, (_, held)| sum.plus(*held))
    }

    /// What a limit of this kind at this level counts as in use, for this class.
    #[must_use]
    pub fn used(
        &self,
        rules: &Rules,
        level: &Level,
        kind: LimitKind,
        class: &Class,
        now: Timestamp,
    ) -> u64 {
        let within = |known: &Class| match level {
            Level::Partition(name) => **name == *known.partition,
            Level::Qos(name) => **name == *known.qos,
            Level::User(name) => **name == *known.user,
            Level::Account(name) => {
                let mut lineage = rules.lineage(&known.account);
                lineage.any(|above| above.name == *name)
            }
        };
        let held = match kind.whose() {
            Whose::Job => Held::default(),
            Whose::User => self.sum(|known| known.user == class.user && within(known)),
            Whose::Account => self.sum(|known| known.account == class.account && within(known)),
            Whose::All => self.sum(within),
        };
        held.of(kind, now)
    }
}

/// Limits as they apply to what is about to be added.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    /// The rules.
    pub rules: &'a Rules,
    /// What is in use.
    pub tally: &'a Tally,
    /// Now.
    pub now: Timestamp,
}

impl Check<'_> {
    /// The limits that decide for this class: of each kind the first level that says it, of groups all.
    #[must_use]
    pub fn deciding(&self, class: &Class) -> Vec<(Level, LimitKind, u64)> {
        let levels = self
            .rules
            .levels(&class.partition, &class.qos, &class.user, &class.account);
        let mut deciding: Vec<(Level, LimitKind, u64)> = Vec::new();
        for (level, limits) in levels {
            for (kind, limit) in limits.iter() {
                let is_said = deciding.iter().any(|(_, known, _)| *known == kind);
                if kind.is_of_group() || !is_said {
                    deciding.push((level.clone(), kind, limit));
                }
            }
        }
        deciding
    }

    /// The first limit that keeps this from being added to what runs. `more` counts a job that is new to what runs, and
    /// what it takes.
    #[must_use]
    pub fn holds(&self, class: &Class, more: &Held, also: &Tally) -> Option<LimitHit> {
        self.first(class, more, Effect::Holds, also)
    }

    /// The first limit that refuses this job: more jobs than may wait, or one that is larger than any may be.
    #[must_use]
    pub fn refuses(&self, class: &Class, more: &Held, limit_s: Option<u32>) -> Option<LimitHit> {
        let nothing = Tally::default();
        let hit = self.first(class, more, Effect::Refuses, &nothing);
        hit.or_else(|| self.never(class, more, limit_s))
    }

    fn first(&self, class: &Class, more: &Held, effect: Effect, also: &Tally) -> Option<LimitHit> {
        for (level, kind, limit) in self.deciding(class) {
            if kind.effect() != effect || kind == LimitKind::MaxTime {
                continue;
            }
            let wanted = more.of(kind, self.now);
            let used = self.tally.used(self.rules, &level, kind, class, self.now)
                + also.used(self.rules, &level, kind, class, self.now);
            let is_beyond = match kind {
                LimitKind::MinCpusPerJob | LimitKind::MinGpusPerJob => wanted < limit,
                // What adds nothing to it is not kept by it.
                _ => wanted > 0 && used.saturating_add(wanted) > limit,
            };
            if is_beyond {
                return Some(LimitHit {
                    level,
                    kind,
                    limit,
                    used,
                    wanted,
                });
            }
        }
        None
    }

    /// A limit that this job could not keep even alone.
    fn never(&self, class: &Class, more: &Held, limit_s: Option<u32>) -> Option<LimitHit> {
        for (level, kind, limit) in self.deciding(class) {
            let wanted = match kind {
                LimitKind::MaxTime => limit_s.map_or(u64::MAX, u64::from),
                _ if kind.effect() == Effect::Holds => more.of(kind, self.now),
                _ => continue,
            };
            if wanted > limit {
                return Some(LimitHit {
                    level,
                    kind,
                    limit,
                    used: 0,
                    wanted,
                });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rules::{Act, Noun, RuleChange};

    fn class(user: &str, account: &str) -> Class {
        Class {
            partition: "batch".into(),
            account: account.into(),
            qos: "normal".into(),
            user: user.into(),
            uid: 1,
        }
    }

    fn set(rules: &Rules, act: Act, noun: Noun, name: &str, key: &str, value: &str) -> Rules {
        let change = RuleChange {
            noun,
            act,
            name: name.to_owned(),
            settings: vec![(key.to_owned(), value.to_owned())],
        };
        rules.change(&change).unwrap()
    }

    fn job(cpus: u64, minutes: i64) -> Held {
        Held {
            submitted: 1,
            running: 1,
            ..Held::amounts(cpus, 0, 0, 1, Timestamp(minutes * 60_000))
        }
    }

    #[test]
    fn the_first_level_decides_and_groups_hold_everywhere() {
        let mut rules = Rules::initial();
        rules = set(&rules, Act::Add, Noun::Account, "lab", "group-cpus", "10");
        rules = set(&rules, Act::Add, Noun::Account, "optics", "parent", "lab");
        rules = set(
            &rules,
            Act::Set,
            Noun::Account,
            "optics",
            "max-cpus-per-user",
            "4",
        );
        rules = set(
            &rules,
            Act::Set,
            Noun::Qos,
            "normal",
            "max-jobs-per-user",
            "2",
        );
        rules = set(
            &rules,
            Act::Set,
            Noun::User,
            "ann",
            "max-cpus-per-user",
            "6",
        );
        let mut tally = Tally::default();
        let nothing = Tally::default();
        let (ann, bob) = (class("ann", "optics"), class("bob", "optics"));
        let hit = |tally: &Tally, class: &Class, more: Held| {
            let check = Check {
                rules: &rules,
                tally,
                now: Timestamp(0),
            };
            check
                .holds(class, &more, &nothing)
                .map(|hit| hit.to_string())
        };
        assert_eq!(hit(&tally, &ann, job(6, 1)), None);
        let text = "account optics sets max-cpus-per-user=4: 0 in use, 6 more asked for";
        assert_eq!(hit(&tally, &bob, job(6, 1)).as_deref(), Some(text));
        tally.add(&ann, job(5, 1));
        let text = "user ann sets max-cpus-per-user=6: 5 in use, 2 more asked for";
        assert_eq!(hit(&tally, &ann, job(2, 1)).as_deref(), Some(text));
        tally.add(&class("eve", "lab"), job(3, 1));
        let text = "account lab sets group-cpus=10: 8 in use, 3 more asked for";
        assert_eq!(hit(&tally, &bob, job(3, 1)).as_deref(), Some(text));
        tally.add(&bob, job(1, 1));
        tally.add(&bob, job(1, 1));
        let text = "QOS normal sets max-jobs-per-user=2: 2 in use, 1 more asked for";
        assert_eq!(hit(&tally, &bob, job(0, 1)).as_deref(), Some(text));
        tally.remove(&bob, job(1, 1));
        assert_eq!(hit(&tally, &bob, job(0, 1)), None);
    }

    #[test]
    fn minutes_run_down_with_the_clock() {
        let rules = Rules::initial();
        let key = "group-running-cpu-minutes";
        let rules = set(&rules, Act::Set, Noun::Account, "default", key, "100");
        let mut tally = Tally::default();
        let ann = class("ann", "default");
        tally.add(&ann, job(2, 40));
        let nothing = Tally::default();
        let at = |now: i64| {
            let check = Check {
                rules: &rules,
                tally: &tally,
                now: Timestamp(now * 60_000),
            };
            check.holds(&ann, &job(1, now + 30), &nothing).is_some()
        };
        assert!(
            at(0),
            "80 minutes are left of the first, 30 more are too many"
        );
        assert!(!at(5), "70 are left");
    }
}
