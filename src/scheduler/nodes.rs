//! Nodes as a pool: how much is free where, in numbers, and which nodes a job would get.
//!
//! Cpus of a node are as good as each other here, and so are GPUs of one kind; which of them a job gets is decided once
//! it starts ([`super::place`]). So a pool is a few bytes a node, and a policy can copy it to look ahead.
//!
//! One node where one serves: a job without GPUs first where no GPU is free, then the one with the fewest free cpus that
//! still holds all tasks, so that room stays together for wide jobs. Else as few nodes as hold the tasks, those with most
//! room first; each gets at least one task and the first ones are filled (Slurm's order: 3 + 1, not 2 + 2).

use super::pool::Pool;
use crate::model::allocation::NodeShare;
use crate::model::ids::NodeId;
use crate::model::job::Owner;
use crate::model::node::{Node, Serves};
use crate::model::partition::Partition;
use crate::model::resource::{GpuCount, GpuRequest, MemoryRequest, Request};
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::sync::Arc;

/// Kinds of GPU told apart on one node; further ones are not given to jobs.
pub const KINDS: usize = 4;

/// GPUs by kind, in the order of the node's kinds.
pub type Gpus = [u16; KINDS];

fn sum(gpus: &Gpus) -> u32 {
    gpus.iter().map(|count| u32::from(*count)).sum()
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What all nodes of a cluster have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Nodes.
    pub nodes: u32,
    /// Cpus.
    pub cpus: u32,
    /// GPUs.
    pub gpus: u32,
}

/// What is free on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Free {
    /// Cpus.
    pub cpus: u32,
    /// Memory; MiB.
    pub memory_mib: u64,
    /// GPUs.
    pub gpus: Gpus,
}

impl Free {
    fn least(self, other: Free) -> Free {
        let mut gpus = self.gpus;
        for (count, other) in gpus.iter_mut().zip(other.gpus) {
            *count = (*count).min(other);
        }
        Free {
            cpus: self.cpus.min(other.cpus),
            memory_mib: self.memory_mib.min(other.memory_mib),
            gpus,
        }
    }
}

/// What does not change of a node while a pool is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The node's number.
    pub id: NodeId,
    all: Free,
    /// Memory that goes with each cpu where none is asked for; MiB.
    memory_per_cpu: u64,
    kinds: SmallVec<[Arc<str>; 1]>,
    accepts_work: bool,
    serves_everyone: bool,
}

impl Site {
    /// Of this node.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let gpus = &node.inventory.topology.gpus;
        let mut kinds: SmallVec<[Arc<str>; 1]> = SmallVec::new();
        for gpu in gpus {
            if kinds.len() < KINDS && !kinds.iter().any(|kind| **kind == *gpu.kind) {
                kinds.push(gpu.kind.as_str().into());
            }
        }
        let all = Free {
            cpus: node.cpus_total(),
            memory_mib: node.memory_total_mib(),
            gpus: Gpus::default(),
        };
        let mut site = Site {
            id: node.id,
            all,
            memory_per_cpu: all.memory_mib / u64::from(all.cpus.max(1)),
            kinds,
            accepts_work: node.accepts_work(),
            serves_everyone: node.serves == Serves::Everyone,
        };
        let indices: Vec<u32> = gpus.iter().map(|gpu| gpu.index).collect();
        site.all.gpus = site.count_gpus(node, &indices);
        site
    }

    /// GPUs of the node with these indices, by kind.
    fn count_gpus(&self, node: &Node, indices: &[u32]) -> Gpus {
        let mut gpus = Gpus::default();
        if indices.is_empty() {
            return gpus;
        }
        for gpu in &node.inventory.topology.gpus {
            if indices.contains(&gpu.index)
                && let Some(kind) = self.kind_of(&gpu.kind)
            {
                gpus[kind] = gpus[kind].saturating_add(1);
            }
        }
        gpus
    }

    /// What a share of this node holds, in numbers.
    #[must_use]
    pub fn part_of(&self, node: &Node, share: &NodeShare) -> Part {
        Part {
            node: share.node,
            tasks: share.tasks,
            amount: Free {
                cpus: share.cpus.len(),
                memory_mib: share.memory_mib,
                gpus: self.count_gpus(node, &share.gpus),
            },
        }
    }

    /// The place of a kind among the node's.
    #[must_use]
    pub fn kind_of(&self, kind: &str) -> Option<usize> {
        let mut kinds = self.kinds.iter();
        kinds.position(|known| known.eq_ignore_ascii_case(kind))
    }

    /// What this costs, in thousandths of a cpu of this node: the largest of its parts of cpus, memory and GPUs.
    #[must_use]
    pub fn cost_milli(&self, amount: &Free) -> u64 {
        let cpus = u64::from(self.all.cpus);
        let part = |count: u64, all: u64| match all {
            0 => 0,
            all => count.saturating_mul(cpus).saturating_mul(1000) / all,
        };
        let gpus = part(u64::from(sum(&amount.gpus)), u64::from(sum(&self.all.gpus)));
        let memory = part(amount.memory_mib, self.all.memory_mib);
        (u64::from(amount.cpus) * 1000).max(gpus).max(memory)
    }

    fn free_now(&self, node: &Node) -> Free {
        Free {
            cpus: node.cpus_free.len(),
            memory_mib: node.memory_free_mib(),
            gpus: self.count_gpus(node, &node.gpus_free),
        }
    }
}

/// One node's part of what a job is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The node.
    pub node: NodeId,
    /// Tasks there.
    pub tasks: u32,
    /// Cpus, memory and GPUs.
    pub amount: Free,
}

/// What a job is given; the first node leads.
pub type Parts = SmallVec<[Part; 1]>;

/// Places of nodes, a bit each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places(Arc<[u64]>);

impl Places {
    fn of(open: impl Iterator<Item = bool>) -> Self {
        let mut words = Vec::new();
        for (at, open) in open.enumerate() {
            if at % 64 == 0 {
                words.push(0);
            }
            if let Some(word) = words.last_mut().filter(|_| open) {
                *word |= 1 << (at % 64);
            }
        }
        Places(words.into())
    }

    fn has(&self, at: u32) -> bool {
        let word = self.0.get(at as usize / 64);
        word.is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().zip(0u32..).flat_map(|(word, at)| {
            let bits = std::iter::successors((*word != 0).then_some(*word), |word| {
                let rest = word & (word - 1);
                (rest != 0).then_some(rest)
            });
            bits.map(move |word| at * 64 + word.trailing_zeros())
        })
    }
}

/// What a job asks for, and where it may go.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// The amounts.
    pub request: &'a Request,
    /// The nodes that may be given to it now.
    open: Places,
}

/// What all nodes have in common that a pool may know.
#[derive(Debug, Default)]
struct Ground {
    sites: Vec<Site>,
    /// By the number of a node, its place among the sites; `u32::MAX` = it is not there.
    places: Vec<u32>,
    /// Those that accept work.
    accepting: Places,
    serve_everyone: bool,
    all: Free,
}

/// Nodes and what is free on them.
#[derive(Debug, Clone, Default)]
pub struct NodePool {
    ground: Arc<Ground>,
    free: Vec<Free>,
    /// The nodes with a free cpu, as long as nothing is given back.
    loose: Option<Arc<[u32]>>,
}

impl PartialEq for NodePool {
    fn eq(&self, other: &Self) -> bool {
        self.ground.sites == other.ground.sites && self.free == other.free
    }
}

/// Whether this node may serve this job at all, free or not.
#[must_use]
pub fn admits(
    request: &Request,
    owner: &Owner,
    partition: Option<&Partition>,
    node: &Node,
) -> bool {
    let named = |list: &[String]| list.iter().any(|name| name == node.name());
    node.serves.admits(owner)
        && partition.is_none_or(|partition| partition.has_node(node.name()))
        && (request.nodelist.is_empty() || named(&request.nodelist))
        && !named(&request.exclude)
}

/// Whether this node may be given this job now, as far as its state goes. Files are carried from drained nodes too.
#[must_use]
pub fn is_open(request: &Request, node: &Node) -> bool {
    node.accepts_work() || (request.takes_nothing() && node.is_up())
}

fn gpu_count(request: &Request) -> Option<&GpuCount> {
    match &request.gpus {
        GpuRequest::None => None,
        GpuRequest::PerNode(count) | GpuRequest::PerTask(count) | GpuRequest::Total(count) => {
            Some(count)
        }
    }
}

/// How many nodes at least and at most.
fn node_range(request: &Request) -> (usize, usize) {
    let tasks = request.ntasks_or_default();
    let mut least = request.nodes_min.max(1);
    if let Some(per_node) = request.ntasks_per_node {
        least = least.max(tasks.div_ceil(per_node.max(1)));
    }
    if request.nodes_max.is_none() {
        // A list of nodes means all of them, as far as there are tasks for them.
        let listed = narrow(request.nodelist.len());
        least = least.max(listed.min(tasks));
    }
    // Where fewer are allowed than are needed there is no place.
    let most = request.nodes_max.unwrap_or(tasks.max(least));
    (least as usize, most as usize)
}

/// Whether a task of this could be on a node with so much free, if nothing else were in its way. `most` as
/// [`NodePool::most`] says.
#[must_use]
pub fn might_fit(request: &Request, most: &Free) -> bool {
    let per_task = request.cpus_per_task_or_default();
    let memory = match request.memory {
        MemoryRequest::PerNode(mib) => mib,
        MemoryRequest::PerCpu(mib) => mib.saturating_mul(u64::from(per_task)),
        MemoryRequest::Default => 0,
    };
    let gpus = match &request.gpus {
        GpuRequest::PerNode(count) | GpuRequest::PerTask(count) => count.count,
        GpuRequest::Total(_) | GpuRequest::None => 0,
    };
    per_task <= most.cpus && memory <= most.memory_mib && gpus <= u32::from(most.gpus[0])
}

/// What of a request is the same on every node.
struct Wanted<'r> {
    request: &'r Request,
    per_task: u32,
    tasks: u32,
    gpus: Option<&'r GpuCount>,
}

impl<'r> Wanted<'r> {
    fn of(request: &'r Request) -> Self {
        Wanted {
            request,
            per_task: request.cpus_per_task_or_default(),
            tasks: request.ntasks_or_default(),
            gpus: gpu_count(request),
        }
    }

    /// Free GPUs of the kind that is asked for.
    fn gpus_free(&self, site: &Site, free: &Free) -> u32 {
        let Some(wanted) = self.gpus else { return 0 };
        match &wanted.kind {
            None => sum(&free.gpus),
            Some(kind) => site.kind_of(kind).map_or(0, |at| u32::from(free.gpus[at])),
        }
    }

    /// Memory of so many cpus on this node; MiB.
    fn memory(&self, site: &Site, cpus: u32) -> u64 {
        match self.request.memory {
            MemoryRequest::Default => site.memory_per_cpu.saturating_mul(u64::from(cpus)),
            MemoryRequest::PerNode(0) => site.all.memory_mib,
            MemoryRequest::PerNode(mib) => mib,
            MemoryRequest::PerCpu(mib) => mib.saturating_mul(u64::from(cpus)),
        }
    }

    /// How many tasks a node with so much free holds.
    fn capacity(&self, site: &Site, free: &Free) -> u32 {
        let request = self.request;
        if request.exclusive && free.cpus != site.all.cpus {
            return 0;
        }
        let mut tasks = free.cpus.checked_div(self.per_task).unwrap_or(u32::MAX);
        if tasks == 0 {
            return 0;
        }
        let one = self.memory(site, self.per_task);
        match request.memory {
            MemoryRequest::PerNode(_) if one > free.memory_mib => return 0,
            MemoryRequest::PerNode(_) => {}
            MemoryRequest::Default | MemoryRequest::PerCpu(_) => {
                if one.saturating_mul(u64::from(tasks)) > free.memory_mib {
                    let most = free.memory_mib.checked_div(one).unwrap_or(u64::MAX);
                    tasks = tasks.min(u32::try_from(most).unwrap_or(u32::MAX));
                }
            }
        }
        match &request.gpus {
            GpuRequest::None => {}
            GpuRequest::PerNode(wanted) if self.gpus_free(site, free) < wanted.count => return 0,
            GpuRequest::PerTask(wanted) if wanted.count > 0 => {
                tasks = tasks.min(self.gpus_free(site, free) / wanted.count);
            }
            GpuRequest::PerNode(_) | GpuRequest::PerTask(_) | GpuRequest::Total(_) => {}
        }
        request
            .ntasks_per_node
            .map_or(tasks, |most| tasks.min(most))
    }

    /// What so many tasks take on a node; `gpus` of those that are asked for over the whole job.
    fn part(&self, site: &Site, free: &Free, tasks: u32, gpus_total: u32) -> Option<Part> {
        let request = self.request;
        let asked = tasks.saturating_mul(self.per_task);
        let cpus = if request.exclusive { free.cpus } else { asked };
        let memory_mib = if request.exclusive && request.memory == MemoryRequest::Default {
            free.memory_mib
        } else {
            self.memory(site, asked)
        };
        let gpus = match &request.gpus {
            GpuRequest::None => 0,
            GpuRequest::PerNode(wanted) => wanted.count,
            GpuRequest::PerTask(wanted) => wanted.count.saturating_mul(tasks),
            GpuRequest::Total(_) => gpus_total,
        };
        let amount = Free {
            cpus,
            memory_mib,
            gpus: self.take_gpus(site, free, gpus)?,
        };
        let fits = cpus <= free.cpus && memory_mib <= free.memory_mib;
        fits.then_some(Part {
            node: site.id,
            tasks,
            amount,
        })
    }

    fn take_gpus(&self, site: &Site, free: &Free, count: u32) -> Option<Gpus> {
        let mut left = u16::try_from(count).ok()?;
        let mut gpus = Gpus::default();
        let only = match self.gpus.and_then(|wanted| wanted.kind.as_deref()) {
            Some(kind) if left > 0 => Some(site.kind_of(kind)?),
            _ => None,
        };
        for (at, taken) in gpus.iter_mut().enumerate() {
            if only.is_none_or(|only| only == at) {
                *taken = left.min(free.gpus[at]);
                left -= *taken;
            }
        }
        (left == 0).then_some(gpus)
    }

    /// The parts of these nodes with so many tasks each.
    fn parts(&self, chosen: &[(&Site, Free, u32)]) -> Option<Parts> {
        let mut total = match &self.request.gpus {
            GpuRequest::Total(wanted) => wanted.count,
            _ => 0,
        };
        let mut parts = Parts::new();
        for (at, (site, free, tasks)) in chosen.iter().enumerate() {
            // Spread evenly over the nodes that are left, as far as they have them.
            let left = narrow(chosen.len() - at);
            let share = total.div_ceil(left).min(self.gpus_free(site, free));
            parts.push(self.part(site, free, *tasks, share)?);
            total -= share;
        }
        (total == 0).then_some(parts)
    }
}

impl NodePool {
    /// Of these nodes, as they are now.
    pub fn of<'n>(nodes: impl IntoIterator<Item = &'n Node>) -> Self {
        let (mut sites, mut free) = (Vec::new(), Vec::new());
        for node in nodes {
            let site = Site::of(node);
            free.push(site.free_now(node));
            sites.push(site);
        }
        let most = sites.iter().map(|site| site.id.0).max();
        let mut places = vec![u32::MAX; most.map_or(0, |most| most as usize + 1)];
        for (site, at) in sites.iter().zip(0..) {
            places[site.id.0 as usize] = at;
        }
        let mut all = Free::default();
        for site in &sites {
            all.cpus = all.cpus.saturating_add(site.all.cpus);
            all.memory_mib = all.memory_mib.saturating_add(site.all.memory_mib);
            // Kinds of different nodes are not told apart in the sum.
            let gpus = u16::try_from(sum(&site.all.gpus)).unwrap_or(u16::MAX);
            all.gpus[0] = all.gpus[0].saturating_add(gpus);
        }
        let ground = Ground {
            accepting: Places::of(sites.iter().map(|site| site.accepts_work)),
            serve_everyone: sites.iter().all(|site| site.serves_everyone),
            sites,
            places,
            all,
        };
        NodePool {
            ground: Arc::new(ground),
            free,
            loose: None,
        }
    }

    /// As if nothing were granted.
    #[must_use]
    pub fn emptied(&self) -> Self {
        NodePool {
            ground: Arc::clone(&self.ground),
            free: self.ground.sites.iter().map(|site| site.all).collect(),
            loose: None,
        }
    }

    /// The same, for a pass: it knows which nodes have a free cpu.
    #[must_use]
    pub fn for_pass(&self) -> Self {
        let free = self.free.iter().zip(0..);
        let loose = free.filter(|(free, _)| free.cpus > 0).map(|(_, at)| at);
        NodePool {
            loose: Some(loose.collect()),
            ..self.clone()
        }
    }

    /// The nodes.
    #[must_use]
    pub fn sites(&self) -> &[Site] {
        &self.ground.sites
    }

    /// The site of a node.
    #[must_use]
    pub fn site(&self, id: NodeId) -> Option<&Site> {
        self.place(id).map(|at| &self.ground.sites[at])
    }

    /// What all nodes have together.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            nodes: narrow(self.ground.sites.len()),
            cpus: self.ground.all.cpus,
            gpus: u32::from(self.ground.all.gpus[0]),
        }
    }

    /// Whether each node serves everybody, so that it makes no difference who asks.
    #[must_use]
    pub fn serves_everyone(&self) -> bool {
        self.ground.serve_everyone
    }

    /// The most that is free of each thing on any node that accepts work.
    #[must_use]
    pub fn most(&self) -> Free {
        let mut most = Free::default();
        for (free, site) in self.free.iter().zip(&self.ground.sites) {
            if site.accepts_work {
                most.cpus = most.cpus.max(free.cpus);
                most.memory_mib = most.memory_mib.max(free.memory_mib);
                let gpus = free
                    .gpus
                    .iter()
                    .fold(0, |sum: u16, count| sum.saturating_add(*count));
                most.gpus[0] = most.gpus[0].max(gpus);
            }
        }
        most
    }

    /// What is free on this node is as it says now.
    pub fn recount(&mut self, node: &Node) {
        if let Some(at) = self.place(node.id) {
            self.free[at] = self.ground.sites[at].free_now(node);
        }
    }

    fn place(&self, id: NodeId) -> Option<usize> {
        let at = *self.ground.places.get(id.0 as usize)?;
        (at != u32::MAX).then_some(at as usize)
    }

    /// An ask for these amounts, on those of the nodes that `admits`.
    pub fn ask<'r>(&self, request: &'r Request, admits: impl Fn(NodeId) -> bool) -> Ask<'r> {
        let sites = self.ground.sites.iter();
        Ask {
            request,
            open: Places::of(sites.map(|site| admits(site.id))),
        }
    }

    /// An ask for these amounts, on all nodes that accept work.
    #[must_use]
    pub fn ask_anywhere<'r>(&self, request: &'r Request) -> Ask<'r> {
        Ask {
            request,
            open: self.ground.accepting.clone(),
        }
    }

    /// Whether any of this lies where it may be asked for.
    #[must_use]
    pub fn touches(&self, parts: &Parts, ask: &Ask<'_>) -> bool {
        parts.iter().any(|part| {
            let at = self.place(part.node).and_then(|at| u32::try_from(at).ok());
            at.is_some_and(|at| ask.open.has(at))
        })
    }

    /// Places of nodes that may be asked.
    fn candidates<'p>(&'p self, ask: &'p Ask<'_>, per_task: u32) -> Candidates<'p> {
        match &self.loose {
            Some(loose) if per_task > 0 => Candidates::Loose(loose.iter(), &ask.open),
            _ => Candidates::All(Box::new(ask.open.iter())),
        }
    }

    fn least_at(&self, others: &[&Self], at: usize) -> Free {
        let others = others.iter().map(|other| other.free[at]);
        others.fold(self.free[at], Free::least)
    }

    fn choose(
        &self,
        ask: &Ask<'_>,
        free_at: impl Fn(usize) -> Free,
        avoid: impl Fn(usize) -> u32,
    ) -> Option<Parts> {
        let wanted = Wanted::of(ask.request);
        let (least, most) = node_range(ask.request);
        if least <= 1 {
            let mut best: Option<(u32, u32, u32, u32)> = None;
            for at in self.candidates(ask, wanted.per_task) {
                let site = &self.ground.sites[at as usize];
                let free = free_at(at as usize);
                if free.cpus < wanted.per_task || wanted.capacity(site, &free) < wanted.tasks {
                    continue;
                }
                let spared = if wanted.gpus.is_none() {
                    sum(&free.gpus)
                } else {
                    0
                };
                let key = (spared, free.cpus, avoid(at as usize), at);
                if best.is_none_or(|best| key < best)
                    && wanted.parts(&[(site, free, wanted.tasks)]).is_some()
                {
                    best = Some(key);
                }
            }
            if let Some((.., at)) = best {
                let at = at as usize;
                let site = &self.ground.sites[at];
                return wanted.parts(&[(site, free_at(at), wanted.tasks)]);
            }
        }
        if most < 2 {
            return None;
        }
        self.choose_several(ask, &wanted, least.max(2), most, free_at, avoid)
    }

    fn choose_several(
        &self,
        ask: &Ask<'_>,
        wanted: &Wanted<'_>,
        least: usize,
        most: usize,
        free_at: impl Fn(usize) -> Free,
        avoid: impl Fn(usize) -> u32,
    ) -> Option<Parts> {
        let mut by_room: Vec<(u32, u32)> = self
            .candidates(ask, wanted.per_task)
            .map(|at| {
                let free = free_at(at as usize);
                (wanted.capacity(&self.ground.sites[at as usize], &free), at)
            })
            .filter(|(holds, _)| *holds > 0)
            .collect();
        if by_room.len() < least {
            return None;
        }
        let key = |(holds, at): &(u32, u32)| (Reverse(*holds), avoid(*at as usize), *at);
        by_room.sort_by_cached_key(key);
        let found = self.fill(wanted, &by_room, (least, most), &free_at);
        if found.is_some() || !matches!(ask.request.gpus, GpuRequest::Total(_)) {
            return found;
        }
        // Those with most room need not be those with the GPUs.
        let gpus = |at: u32| {
            let site = &self.ground.sites[at as usize];
            wanted.gpus_free(site, &free_at(at as usize))
        };
        let key = |(holds, at): &(u32, u32)| (Reverse(gpus(*at)), Reverse(*holds), *at);
        by_room.sort_by_cached_key(key);
        self.fill(wanted, &by_room, (least, most), &free_at)
    }

    /// The first so many of these nodes that hold all tasks: (room, place) each.
    fn fill(
        &self,
        wanted: &Wanted<'_>,
        by_room: &[(u32, u32)],
        (least, most): (usize, usize),
        free_at: &impl Fn(usize) -> Free,
    ) -> Option<Parts> {
        let mut room: u64 = by_room[..least - 1]
            .iter()
            .map(|(holds, _)| u64::from(*holds))
            .sum();
        for count in least..=most.min(by_room.len()) {
            room += u64::from(by_room[count - 1].0);
            if room < u64::from(wanted.tasks) || count > wanted.tasks as usize {
                continue;
            }
            let mut chosen: Vec<(u32, u32)> = by_room[..count].to_vec();
            chosen.sort_by_key(|(_, at)| *at);
            let mut rest = wanted.tasks - narrow(count);
            let filled: Vec<(&Site, Free, u32)> = chosen
                .into_iter()
                .map(|(holds, at)| {
                    let more = rest.min(holds - 1);
                    rest -= more;
                    let at = at as usize;
                    (&self.ground.sites[at], free_at(at), 1 + more)
                })
                .collect();
            if let Some(parts) = wanted.parts(&filled) {
                return Some(parts);
            }
        }
        None
    }
}

/// Places to look at.
enum Candidates<'p> {
    Loose(std::slice::Iter<'p, u32>, &'p Places),
    All(Box<dyn Iterator<Item = u32> + 'p>),
}

impl Iterator for Candidates<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        match self {
            Candidates::Loose(places, open) => places.find(|at| open.has(**at)).copied(),
            Candidates::All(places) => places.next(),
        }
    }
}

impl Pool for NodePool {
    type Ask<'r> = Ask<'r>;
    type Share = Parts;

    fn find(&self, ask: &Ask<'_>) -> Option<Parts> {
        self.choose(ask, |at| self.free[at], |_| 0)
    }

    fn find_in_all(&self, others: &[&Self], ask: &Ask<'_>) -> Option<Parts> {
        self.choose(ask, |at| self.least_at(others, at), |_| 0)
    }

    fn find_for_later(&self, others: &[&Self], now: &Self, ask: &Ask<'_>) -> Option<Parts> {
        let avoid = |at: usize| now.free[at].cpus;
        self.choose(ask, |at| self.least_at(others, at), avoid)
    }

    fn holds(&self, share: &Parts) -> bool {
        share.iter().all(|part| {
            let Some(at) = self.place(part.node) else {
                return false;
            };
            part.amount.least(self.free[at]) == part.amount
        })
    }

    fn is_local(ask: &Ask<'_>) -> bool {
        node_range(ask.request).1 < 2
    }

    fn fits_at(&self, share: &Parts, ask: &Ask<'_>) -> bool {
        let wanted = Wanted::of(ask.request);
        share.iter().any(|part| {
            let Some(at) = self.place(part.node) else {
                return false;
            };
            let (site, free) = (&self.ground.sites[at], self.free[at]);
            free.cpus >= wanted.per_task
                && wanted.capacity(site, &free) >= wanted.tasks
                && u32::try_from(at).is_ok_and(|at| ask.open.has(at))
        })
    }

    fn take(&mut self, share: &Parts) {
        for part in share {
            let Some(at) = self.place(part.node) else {
                continue;
            };
            let (free, amount) = (&mut self.free[at], part.amount);
            // What a node came back without is missing here too.
            free.cpus = free.cpus.saturating_sub(amount.cpus);
            free.memory_mib = free.memory_mib.saturating_sub(amount.memory_mib);
            for (count, taken) in free.gpus.iter_mut().zip(amount.gpus) {
                *count = count.saturating_sub(taken);
            }
        }
    }

    fn give(&mut self, share: &Parts) {
        self.loose = None;
        for part in share {
            let Some(at) = self.place(part.node) else {
                continue;
            };
            let (free, amount) = (&mut self.free[at], part.amount);
            let all = self.ground.sites[at].all;
            free.cpus = all.cpus.min(free.cpus + amount.cpus);
            free.memory_mib = all.memory_mib.min(free.memory_mib + amount.memory_mib);
            for ((count, given), all) in free.gpus.iter_mut().zip(amount.gpus).zip(all.gpus) {
                *count = all.min(*count + given);
            }
        }
    }
}
