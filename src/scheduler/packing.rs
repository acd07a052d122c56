//! Which node a task goes to, and which of its GPUs, so that what is left can still be used. Pure.
//!
//! A task asks for a part of one GPU, for whole GPUs, or for none. What a rule says of a node depends on that node and
//! the task alone, as a cost: the node of the least cost is taken, of equal ones the first, and on it of equal GPUs the
//! first. Costs are whole numbers, so the same tasks always land in the same places.
//!
//! Read [`Rule`] (the rules), [`Mix`] (what fragmentation is), [`Measure`] (a rule at work) and [`Packer`] (the same, over
//! nodes that fill up). The simulator alone calls them so far: [`place`](super::place) counts GPUs of the live cluster
//! whole.

mod mix;

pub use mix::Mix;

use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Thousandths of a whole GPU.
pub const GPU: u16 = 1000;
/// Most GPUs of a node.
pub const GPUS_MAX: usize = 128;
/// Most memory of a node; with it no cost overflows.
pub const MEMORY_MAX_MIB: u64 = 1 << 40;
/// Most different tasks whose costs a [`Packer`] remembers.
const REMEMBERED_MAX: usize = 256;

/// What is free on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Thousandths of a cpu.
    pub cpu_milli: u32,
    /// Memory; at most [`MEMORY_MAX_MIB`].
    pub memory_mib: u64,
    /// Thousandths of each GPU, at most [`GPU`]; at most [`GPUS_MAX`] of them.
    pub gpus: SmallVec<[u16; 8]>,
    /// Of which model the GPUs are, as a number of the caller's.
    pub model: Option<u16>,
}

/// How much of GPUs a task asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GpuAsk {
    /// Nothing.
    None,
    /// So many thousandths of one GPU, less than all.
    Share(u16),
    /// So many whole ones.
    Whole(u16),
}

/// What a task asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Task {
    /// Of GPUs.
    pub gpus: GpuAsk,
    /// Which models will do; none named: any.
    pub models: Vec<u16>,
    /// Thousandths of a cpu.
    pub cpu_milli: u32,
    /// Memory.
    pub memory_mib: u64,
}

/// By which rule a place is chosen, among those that hold the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The first node, and its first GPUs.
    FirstFit,
    /// The node with the least left, cpus, memory and GPUs each as a share of the largest node's; the fullest GPU.
    BestFit,
    /// The node with the least left of what the task asks for much of: the smallest product of both as vectors, each
    /// again as a share of the largest node's; the fullest GPU. So Weng et al. compare (see [`Mix`]).
    DotProduct,
    /// The node and GPU where fragmentation grows least, as [`Mix`] defines it.
    Fragmentation,
}

/// Where a task goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Which node, counted from 0.
    pub node: usize,
    /// Which of its GPUs.
    pub gpus: Vec<usize>,
}

impl GpuAsk {
    /// Thousandths, of all GPUs together.
    #[must_use]
    pub fn milli(self) -> u64 {
        match self {
            GpuAsk::None => 0,
            GpuAsk::Share(milli) => milli.into(),
            GpuAsk::Whole(count) => u64::from(count) * u64::from(GPU),
        }
    }

    /// How many GPUs with how much free each it takes.
    fn needs(self) -> (usize, u16) {
        match self {
            GpuAsk::None => (0, 0),
            GpuAsk::Share(milli) => (1, milli),
            GpuAsk::Whole(count) => (count.into(), GPU),
        }
    }
}

impl Task {
    /// Whether GPUs of this model will do.
    fn accepts(&self, model: Option<u16>) -> bool {
        self.models.is_empty() || model.is_some_and(|model| self.models.contains(&model))
    }
}

impl Node {
    /// Free thousandths of all its GPUs.
    #[must_use]
    pub fn gpu_milli(&self) -> u64 {
        self.gpus.iter().map(|free| u64::from(*free)).sum()
    }

    /// Whether the task fits here now.
    #[must_use]
    pub fn holds(&self, task: &Task) -> bool {
        let (count, milli) = task.gpus.needs();
        self.cpu_milli >= task.cpu_milli
            && self.memory_mib >= task.memory_mib
            && task.accepts(self.model)
            && self.gpus.iter().filter(|free| **free >= milli).count() >= count
    }

    /// Gives the task what it asks for, with these GPUs.
    ///
    /// # Panics
    /// When there is not so much: [`Node::holds`] says so before.
    pub fn take(&mut self, task: &Task, gpus: &[usize]) {
        let (count, milli) = task.gpus.needs();
        assert_eq!(gpus.len(), count, "a task has the GPUs that it asks for");
        self.cpu_milli = rest(self.cpu_milli.checked_sub(task.cpu_milli));
        self.memory_mib = rest(self.memory_mib.checked_sub(task.memory_mib));
        for gpu in gpus {
            self.gpus[*gpu] = rest(self.gpus[*gpu].checked_sub(milli));
        }
    }
}

fn rest<N>(amount: Option<N>) -> N {
    amount.expect("what is taken was free")
}

/// What a place costs under a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    /// The least is best.
    value: i64,
    /// For a share, its GPU. Whole GPUs are the first free ones: free ones of a node are all alike.
    gpu: usize,
}

/// A rule, with what it measures by.
#[derive(Debug, Clone)]
pub struct Measure<'a> {
    rule: Rule,
    mix: &'a Mix,
    largest: Largest,
}

/// The most of each that any node has when it is empty.
#[derive(Debug, Clone, Copy)]
struct Largest {
    cpu_milli: u64,
    memory_mib: u64,
    gpu_milli: u64,
}

impl<'a> Measure<'a> {
    /// For these nodes, which are empty; only fragmentation looks at the mix.
    #[must_use]
    pub fn new(rule: Rule, empty: &[Node], mix: &'a Mix) -> Self {
        let most = |of: fn(&Node) -> u64| empty.iter().map(of).max().unwrap_or(0).max(1);
        Measure {
            rule,
            mix,
            largest: Largest {
                cpu_milli: most(|node| node.cpu_milli.into()),
                memory_mib: most(|node| node.memory_mib),
                gpu_milli: most(Node::gpu_milli),
            },
        }
    }

    /// Where the task goes; `None` when no node holds it.
    #[must_use]
    pub fn place(&self, nodes: &[Node], task: &Task) -> Option<Placement> {
        let costs = nodes.iter().map(|node| self.cost(node, task));
        least(costs).map(|(node, cost)| placement(node, &nodes[node], task, cost))
    }

    /// What it costs to place the task on this node, at its best; `None` when it does not fit.
    fn cost(&self, node: &Node, task: &Task) -> Option<Cost> {
        if !node.holds(task) {
            return None;
        }
        let GpuAsk::Share(milli) = task.gpus else {
            let value = self.value(node, task, &first_whole(node, task));
            return Some(Cost { value, gpu: 0 });
        };
        let on = |gpu: usize| Cost {
            value: self.value(node, task, &[gpu]),
            gpu,
        };
        let mut holding = (0..node.gpus.len()).filter(|gpu| node.gpus[*gpu] >= milli);
        match self.rule {
            Rule::FirstFit => holding.next().map(on),
            Rule::BestFit | Rule::DotProduct => holding.min_by_key(|gpu| node.gpus[*gpu]).map(on),
            Rule::Fragmentation => holding
                // GPUs with as much free cost the same, and the first of them is taken.
                .filter(|gpu| !node.gpus[..*gpu].contains(&node.gpus[*gpu]))
                .map(on)
                .min_by_key(|cost| cost.value),
        }
    }

    /// What it costs with these GPUs.
    fn value(&self, node: &Node, task: &Task, gpus: &[usize]) -> i64 {
        match self.rule {
            Rule::FirstFit => 0,
            Rule::BestFit => {
                let left = self.parts(
                    node.cpu_milli - task.cpu_milli,
                    node.memory_mib - task.memory_mib,
                    node.gpu_milli() - task.gpus.milli(),
                );
                left.iter().sum()
            }
            Rule::DotProduct => {
                let free = self.parts(node.cpu_milli, node.memory_mib, node.gpu_milli());
                let asked = self.parts(task.cpu_milli, task.memory_mib, task.gpus.milli());
                free.iter().zip(asked).map(|(a, b)| a * b).sum()
            }
            Rule::Fragmentation => {
                let mut after = node.clone();
                after.take(task, gpus);
                self.mix.fragmentation(&after) - self.mix.fragmentation(node)
            }
        }
    }

    /// In millionths of what the largest node has of each.
    fn parts(&self, cpu_milli: u32, memory_mib: u64, gpu_milli: u64) -> [i64; 3] {
        let part = |amount: u64, largest: u64| {
            i64::try_from(amount * 1_000_000 / largest).unwrap_or(i64::MAX)
        };
        [
            part(cpu_milli.into(), self.largest.cpu_milli),
            part(memory_mib, self.largest.memory_mib),
            part(gpu_milli, self.largest.gpu_milli),
        ]
    }
}

/// The first node of least cost.
fn least(costs: impl Iterator<Item = Option<Cost>>) -> Option<(usize, Cost)> {
    costs
        .enumerate()
        .filter_map(|(node, cost)| Some((node, cost?)))
        .min_by_key(|(_, cost)| cost.value)
}

fn first_whole(node: &Node, task: &Task) -> SmallVec<[usize; 8]> {
    let (count, milli) = task.gpus.needs();
    (0..node.gpus.len())
        .filter(|gpu| node.gpus[*gpu] >= milli)
        .take(count)
        .collect()
}

fn placement(at: usize, node: &Node, task: &Task, cost: Cost) -> Placement {
    Placement {
        node: at,
        gpus: match task.gpus {
            GpuAsk::None | GpuAsk::Whole(_) => first_whole(node, task).to_vec(),
            GpuAsk::Share(_) => vec![cost.gpu],
        },
    }
}

/// Nodes that fill up under one rule. It remembers what tasks cost on each node, and works out anew only what has
/// changed since, so its places are those of [`Measure::place`].
#[derive(Debug)]
pub struct Packer<'a> {
    measure: Measure<'a>,
    nodes: Vec<Node>,
    /// How often each node has changed.
    changes: Vec<u32>,
    remembered: BTreeMap<Task, Vec<Remembered>>,
}

/// What a task costs on a node, as of so many changes.
#[derive(Debug, Clone, Copy)]
struct Remembered {
    as_of: u32,
    cost: Option<Cost>,
}

impl<'a> Packer<'a> {
    /// Over these nodes, which are empty.
    #[must_use]
    pub fn new(rule: Rule, empty: Vec<Node>, mix: &'a Mix) -> Self {
        Packer {
            measure: Measure::new(rule, &empty, mix),
            changes: vec![0; empty.len()],
            nodes: empty,
            remembered: BTreeMap::new(),
        }
    }

    /// What is free now.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Finds the task its place and puts it there; `None` when no node holds it.
    pub fn place(&mut self, task: &Task) -> Option<Placement> {
        let placement = self.find(task)?;
        self.nodes[placement.node].take(task, &placement.gpus);
        self.changes[placement.node] += 1;
        Some(placement)
    }

    fn find(&mut self, task: &Task) -> Option<Placement> {
        if !self.remembered.contains_key(task) {
            if self.remembered.len() >= REMEMBERED_MAX {
                return self.measure.place(&self.nodes, task);
            }
            let never = Remembered {
                as_of: u32::MAX,
                cost: None,
            };
            self.remembered
                .insert(task.clone(), vec![never; self.nodes.len()]);
        }
        let remembered = self.remembered.get_mut(task)?;
        for ((entry, node), changes) in remembered.iter_mut().zip(&self.nodes).zip(&self.changes) {
            if entry.as_of != *changes {
                entry.as_of = *changes;
                entry.cost = self.measure.cost(node, task);
            }
        }
        let (at, cost) = least(remembered.iter().map(|entry| entry.cost))?;
        Some(placement(at, &self.nodes[at], task, cost))
    }
}

#[cfg(test)]
mod tests;
