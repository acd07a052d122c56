//! What is usual to ask for, and how much of a node's free GPUs it could not use.
//!
//! The measure is that of Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation
//! Gradient Descent", USENIX ATC 2023.

use super::{GpuAsk, Node, Task};
use std::collections::BTreeMap;

/// Most classes of tasks in a mix; rarer ones are left out.
const CLASSES_MAX: usize = 128;

/// How often which tasks come, and with it the fragmentation of Weng et al., USENIX ATC 2023.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    /// Classes that ask for the same of GPUs stand together.
    groups: Vec<Group>,
}

/// Classes that differ in cpus and memory alone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    /// The first of them, for what they have in common.
    task: Task,
    classes: Vec<Class>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Class {
    cpu_milli: u32,
    memory_mib: u64,
    count: u32,
}

impl Mix {
    /// That of these tasks, in any order.
    ///
    /// Tasks without GPUs do not count: they can use no GPU on any node, so what they would add to the cost of a place
    /// is the same for all places.
    #[must_use]
    pub fn of<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> Self {
        let mut counts: BTreeMap<&Task, u32> = BTreeMap::new();
        for task in tasks {
            if task.gpus != GpuAsk::None {
                let count = counts.entry(task).or_default();
                *count = count.saturating_add(1);
            }
        }
        let mut classes: Vec<_> = counts.into_iter().collect();
        // Stable: among equally frequent ones the lesser tasks come first.
        classes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        classes.truncate(CLASSES_MAX);
        classes.sort();
        let mut groups: Vec<Group> = Vec::new();
        for (task, count) in classes {
            let class = Class {
                cpu_milli: task.cpu_milli,
                memory_mib: task.memory_mib,
                count,
            };
            match groups.last_mut() {
                Some(group) if group.task.gpus == task.gpus && group.task.models == task.models => {
                    group.classes.push(class);
                }
                _ => groups.push(Group {
                    task: task.clone(),
                    classes: vec![class],
                }),
            }
        }
        Mix { groups }
    }

    /// Thousandths of free GPUs on this node that a class could not use, times how often it comes, over all classes.
    ///
    /// A class that does not fit can use none. One that fits can use the GPUs that have as much free as it needs of
    /// each: a task for whole GPUs only those that are free altogether.
    #[must_use]
    pub fn fragmentation(&self, node: &Node) -> i64 {
        let total = milli(node.gpu_milli());
        if total == 0 {
            return 0;
        }
        self.groups
            .iter()
            .map(|group| {
                let (count, needed) = group.task.gpus.needs();
                let large = node.gpus.iter().filter(|free| **free >= needed);
                let is_enough = large.clone().count() >= count;
                let useless = if is_enough && group.task.accepts(node.model) {
                    total - milli(large.map(|free| u64::from(*free)).sum())
                } else {
                    total
                };
                let of_class = |class: &Class| {
                    let fits =
                        node.cpu_milli >= class.cpu_milli && node.memory_mib >= class.memory_mib;
                    i64::from(class.count) * if fits { useless } else { total }
                };
                group.classes.iter().map(of_class).sum::<i64>()
            })
            .sum()
    }
}

/// At most 128,000: so often as tasks can come, it is far from overflowing.
fn milli(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}
