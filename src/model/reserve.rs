//! What a machine keeps for itself: whole cores and memory that jobs are not given, so that the system, the
//! controller and the agent have room on a node that is full.
//!
//! Taken off what was measured, in whole cores, the first in the order of closeness: so the kept cores lie together
//! on the first NUMA nodes, and the kept memory comes from those. Amounts that a person declares
//! ([`super::topology::Declared`]) say what jobs get, so they must fit into what the reserve leaves.

use super::cpu_set::CpuSet;
use super::size::format_mib;
use super::topology::{Declared, Topology};
use std::collections::BTreeSet;

/// Keys of the configuration.
const CPUS: &str = "reserve_cpus";
const MEMORY: &str = "reserve_memory_mib";

/// How much is to be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reserve {
    /// Logical cpus; the cores that hold them are kept whole.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl Reserve {
    /// Whether nothing is kept.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Reserve::default()
    }
}

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// These cpus.
    pub cpus: CpuSet,
    /// So much memory; MiB.
    pub memory_mib: u64,
}

impl Kept {
    /// For people to read; `None` where nothing is kept.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        let cpus = match self.cpus.len() {
            0 => None,
            1 => Some(format!("cpu {}", self.cpus)),
            _ => Some(format!("cpus {}", self.cpus)),
        };
        let memory = (self.memory_mib > 0).then(|| format_mib(self.memory_mib));
        let kept: Vec<String> = [cpus, memory.map(|text| format!("{text} of memory"))]
            .into_iter()
            .flatten()
            .collect();
        (!kept.is_empty()).then(|| {
            format!(
                "reserved for the system and hpc, not given to jobs: {}",
                kept.join(" and ")
            )
        })
    }
}

/// Why a machine cannot keep so much.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// Nothing would be left.
    #[error("{key} = {value} leaves jobs nothing of {has}: write {}", or_less(*most))]
    Everything {
        /// The key.
        key: &'static str,
        /// What was written.
        value: u64,
        /// What the machine has, in words.
        has: String,
        /// The most that leaves something.
        most: u64,
    },
    /// A declared amount is more than what is left.
    #[error(
        "{option} {declared} is more than {key} = {value} leaves of this machine, which is {left}: \
         declare that or less, or leave one of the two out"
    )]
    Declared {
        /// The option.
        option: &'static str,
        /// What was declared, as its option takes it.
        declared: String,
        /// The key.
        key: &'static str,
        /// What was written.
        value: u64,
        /// What is left, as the option takes it.
        left: String,
    },
}

/// A bound in words.
fn or_less(most: u64) -> String {
    match most {
        0 => "0".to_owned(),
        most => format!("{most} or less"),
    }
}

impl Topology {
    /// This topology without the reserve, and what that is.
    ///
    /// # Errors
    /// When nothing would be left, or less than what is declared besides.
    pub fn without(
        mut self,
        reserve: &Reserve,
        declared: &Declared,
    ) -> Result<(Self, Kept), ReserveError> {
        let kept = Kept {
            cpus: self.keep_cpus(reserve.cpus)?,
            memory_mib: reserve.memory_mib,
        };
        self.keep_memory(reserve.memory_mib, &kept.cpus)?;
        let left = u32::try_from(self.cpus.len() - kept.cpus.len() as usize).unwrap_or(u32::MAX);
        if let Some(cpus) = declared.cpus
            && reserve.cpus > 0
            && cpus > left
        {
            return Err(ReserveError::Declared {
                option: "--cpus",
                declared: cpus.to_string(),
                key: CPUS,
                value: reserve.cpus.into(),
                left: left.to_string(),
            });
        }
        if let Some(memory_mib) = declared.memory_mib
            && reserve.memory_mib > 0
            && memory_mib > self.memory_mib
        {
            return Err(ReserveError::Declared {
                option: "--memory",
                declared: format_mib(memory_mib),
                key: MEMORY,
                value: reserve.memory_mib,
                left: format_mib(self.memory_mib),
            });
        }
        let is_kept = |cpu: u32| kept.cpus.contains_id(cpu);
        self.cpus.retain(|cpu| !is_kept(cpu.id));
        for node in &mut self.numa_nodes {
            node.cpus.retain(|cpu| !is_kept(*cpu));
        }
        Ok((self, kept))
    }

    /// Picks the cores that are kept: the first in the order of closeness, each with all its cpus.
    fn keep_cpus(&self, wanted: u32) -> Result<CpuSet, ReserveError> {
        let mut kept = CpuSet::new();
        let mut last_core = None;
        // The most that leaves a core: all but those of the last.
        let mut most = 0;
        for (before, cpu) in self.cpus_by_closeness().into_iter().enumerate() {
            let core = self.cpu(cpu).map(|cpu| cpu.core);
            if core != last_core {
                most = before;
                last_core = core;
                if kept.len() >= wanted {
                    return Ok(kept);
                }
            }
            if let Ok(cpu) = u16::try_from(cpu) {
                kept.insert(cpu);
            }
        }
        if wanted == 0 {
            return Ok(CpuSet::new());
        }
        let cores: BTreeSet<u32> = self.cpus.iter().map(|cpu| cpu.core).collect();
        Err(ReserveError::Everything {
            key: CPUS,
            value: wanted.into(),
            has: format!(
                "this machine's {} cpus in {} core{}, which {} kept whole",
                self.cpus.len(),
                cores.len(),
                if cores.len() == 1 { "" } else { "s" },
                if cores.len() == 1 { "is" } else { "are" },
            ),
            most: most as u64,
        })
    }

    /// Takes memory off the total, and off the NUMA nodes: those of the kept cpus first.
    fn keep_memory(&mut self, mib: u64, cpus: &CpuSet) -> Result<(), ReserveError> {
        if mib > 0 && mib >= self.memory_mib {
            return Err(ReserveError::Everything {
                key: MEMORY,
                value: mib,
                has: format!("this machine's {} MiB", self.memory_mib),
                most: self.memory_mib.saturating_sub(1),
            });
        }
        self.memory_mib -= mib;
        let mut left = mib;
        let mut order: Vec<_> = self.numa_nodes.iter_mut().collect();
        order.sort_by_key(|node| !node.cpus.iter().any(|cpu| cpus.contains_id(*cpu)));
        for node in order {
            let taken = left.min(node.memory_mib);
            node.memory_mib -= taken;
            left -= taken;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::topology::{LogicalCpu, NumaNode};

    /// Two packages with a NUMA node each, ids 0 and 8; two cores of two threads in each. The kernel numbers first
    /// threads before second ones, as x86 machines do.
    fn machine() -> Topology {
        let cpus = (0..8).map(|id| LogicalCpu {
            id,
            core: id % 4,
            package: id % 4 / 2,
            numa: id % 4 / 2 * 8,
            real: true,
        });
        let node = |id, cpus: &[u32]| NumaNode {
            id,
            cpus: cpus.to_vec(),
            memory_mib: 1000,
            distances: Vec::new(),
        };
        Topology {
            cpus: cpus.collect(),
            numa_nodes: vec![node(0, &[0, 1, 4, 5]), node(8, &[2, 3, 6, 7])],
            memory_mib: 2000,
            gpus: Vec::new(),
        }
    }

    fn without(cpus: u32, memory_mib: u64) -> Result<(Topology, Kept), String> {
        let reserve = Reserve { cpus, memory_mib };
        let left = machine().without(&reserve, &Declared::default());
        left.map_err(|error| error.to_string())
    }

    #[test]
    fn whole_cores_are_kept_close_together() {
        for (asked, kept) in [
            (0, ""),
            (1, "0,4"),
            (2, "0,4"),
            (3, "0-1,4-5"),
            (5, "0-2,4-6"),
        ] {
            let (left, found) = without(asked, 0).unwrap();
            assert_eq!(found.cpus.to_string(), kept, "{asked}");
            let ids: CpuSet = left.cpus.iter().map(|cpu| cpu.id).collect();
            assert!(ids.is_disjoint(&found.cpus));
            assert_eq!(ids.len() + found.cpus.len(), 8);
            let in_nodes: usize = left.numa_nodes.iter().map(|node| node.cpus.len()).sum();
            assert_eq!(in_nodes, left.cpus.len());
        }
    }

    #[test]
    fn kept_memory_is_that_beside_the_kept_cores() {
        let memory = |left: &Topology| -> Vec<u64> {
            left.numa_nodes.iter().map(|node| node.memory_mib).collect()
        };
        let (left, _) = without(2, 300).unwrap();
        assert_eq!((left.memory_mib, memory(&left)), (1700, vec![700, 1000]));
        let (left, _) = without(0, 1300).unwrap();
        assert_eq!((left.memory_mib, memory(&left)), (700, vec![0, 700]));
    }

    #[test]
    fn a_reserve_of_everything_names_value_limit_and_way_out() {
        for (cpus, memory_mib, said) in [
            (
                7,
                0,
                "reserve_cpus = 7 leaves jobs nothing of this machine's 8 cpus in 4 cores, which are kept whole: write \
                 6 or less",
            ),
            (9, 0, "write 6 or less"),
            (
                0,
                2000,
                "reserve_memory_mib = 2000 leaves jobs nothing of this machine's 2000 MiB: write 1999 or less",
            ),
        ] {
            let error = without(cpus, memory_mib).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(without(6, 1999).unwrap().0.cpu_count(), 2);
    }

    #[test]
    fn declared_amounts_are_those_of_jobs_and_must_be_there() {
        let reserve = Reserve {
            cpus: 2,
            memory_mib: 500,
        };
        let with = |cpus, memory_mib| {
            let declared = Declared {
                cpus,
                memory_mib,
                gpus: None,
            };
            let left = machine().without(&reserve, &declared);
            left.map(|(left, _)| left.declared(&declared))
                .map_err(|error| error.to_string())
        };
        let left = with(Some(2), Some(1500)).unwrap();
        let ids: Vec<u32> = left.cpus.iter().map(|cpu| cpu.id).collect();
        assert_eq!((ids, left.memory_mib), (vec![1, 5], 1500));
        let error = with(Some(7), None).unwrap_err();
        assert!(
            error.contains(
                "--cpus 7 is more than reserve_cpus = 2 leaves of this machine, which is 6:"
            ),
            "{error}"
        );
        let error = with(None, Some(1501)).unwrap_err();
        assert!(
            error.contains("--memory 1501M") && error.contains("is 1500M"),
            "{error}"
        );
    }

    #[test]
    fn what_is_kept_in_words() {
        let remark = |cpus, memory_mib| without(cpus, memory_mib).unwrap().1.remark();
        assert_eq!(remark(0, 0), None);
        assert_eq!(
            remark(3, 1024).unwrap(),
            "reserved for the system and hpc, not given to jobs: cpus 0-1,4-5 and 1G of memory"
        );
    }
}
