//! Nodes as a pool: how much is free where, in numbers, and which nodes a job would get.
//!
//! Cpus of a node are as good as each other here, and so are GPUs of one kind; which of them a job gets is decided once
//! it starts ([`super::place`]). So a pool is a few bytes a node, and a policy can copy it to look ahead.
//!
//! One node where one serves: a job without GPUs first where no GPU is free, then the one with the fewest free cpus that
//! still holds all tasks, so that room stays together for wide jobs. Else as few nodes as hold the tasks, those with most
//! room first; each gets at least one task and the first ones are filled (Slurm's order: 3 + 1, not 2 + 2). Where nodes lie
//! under several switches, those are chosen first, so that a job's nodes are close together ([`switches`]).

mod flaky;
mod site;
mod switches;
mod wanted;

pub use flaky::{chance_percent, patience_ms};
pub use site::{Free, Gpus, KINDS, Part, Parts, Site, Totals, cpus_among, less, plus};
pub use wanted::might_fit;

use super::pool::Pool;
use crate::model::ids::NodeId;
use crate::model::job::{Job, Owner};
use crate::model::license::License;
use crate::model::node::Node;
use crate::model::partition::Partition;
use crate::model::resource::{GpuRequest, Request};
use crate::model::rules::Rules;
use flaky::Care;
use imbl::OrdMap;
use site::{narrow, sum};
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::sync::Arc;
use switches::{Need, Room, Switches};
use wanted::{Wanted, node_range};

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
    /// Licences, by their places, and how many; one that there is not has no place.
    licenses: SmallVec<[(usize, u32); 1]>,
    /// Under at most so many switches.
    switches: Option<u32>,
    /// Where nodes have failed of late.
    care: Option<Care>,
}

impl Ask<'_> {
    /// Whether it accepts few switches only.
    #[must_use]
    pub fn is_for_few_switches(&self) -> bool {
        self.switches.is_some()
    }

    /// The same under at most so many switches.
    #[must_use]
    pub fn under_at_most(self, switches: u32) -> Self {
        Ask {
            switches: Some(switches),
            ..self
        }
    }

    /// The same under any switches.
    #[must_use]
    pub fn under_any_switches(self) -> Self {
        Ask {
            switches: None,
            ..self
        }
    }
}

/// What all nodes have in common that a pool may know.
#[derive(Debug, Clone, Default)]
struct Ground {
    sites: Vec<Site>,
    /// By the number of a node, its place among the sites; `u32::MAX` = it is not there.
    places: Vec<u32>,
    /// Those that accept work.
    accepting: Places,
    serve_everyone: bool,
    /// Whether any has ever failed.
    has_failed: bool,
    all: Free,
    /// Pools of licences, and how many there are.
    licenses: Vec<(Arc<str>, u32)>,
    /// Where their cables go, if that makes a difference.
    switches: Option<Switches>,
}

/// Nodes and what is free on them.
#[derive(Debug, Clone, Default)]
pub struct NodePool {
    ground: Arc<Ground>,
    free: Vec<Free>,
    /// Licences that are free, pool by pool.
    licenses: SmallVec<[u32; 4]>,
    /// The nodes with a free cpu, as long as nothing is given back.
    loose: Option<Arc<[u32]>>,
}

impl PartialEq for NodePool {
    fn eq(&self, other: &Self) -> bool {
        self.ground.sites == other.ground.sites
            && self.free == other.free
            && self.ground.licenses == other.ground.licenses
            && self.ground.switches == other.ground.switches
            && self.licenses == other.licenses
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

/// Which nodes may serve this job at all, free or not: as [`admits`] says, and with the features that it asks for.
pub fn serving<'r>(
    request: &'r Request,
    owner: &'r Owner,
    rules: &'r Rules,
    partition: &str,
) -> impl Fn(&Node) -> bool + use<'r> {
    let partition = rules.partitions.get(partition);
    let features = request.wishes.features();
    move |node| {
        let has = |feature: &str| rules.has_feature(node, feature);
        admits(request, owner, partition, node)
            && features.as_ref().is_none_or(|wanted| wanted.is_met(&has))
    }
}

/// Whether this node may be given this job now, as far as its state goes. Files are carried from drained nodes too.
#[must_use]
pub fn is_open(request: &Request, node: &Node) -> bool {
    node.accepts_work() || (request.takes_nothing() && node.is_up())
}

impl NodePool {
    /// Of these nodes, as they are now, under these rules: with the licences there are, none of them in use.
    #[must_use]
    pub fn under(rules: &Rules, nodes: &OrdMap<NodeId, Arc<Node>>) -> Self {
        let nodes = || nodes.values().map(|node| &**node);
        let pool = NodePool::of(nodes()).with_licenses(rules.licenses.values());
        let has_switches = rules.nodes.values().any(|one| one.switch.is_some());
        let path = |node: &Node| rules.nodes.get(node.name())?.switch.as_deref();
        let switches = has_switches.then(|| Switches::of(nodes().map(path)));
        match switches.flatten() {
            None => pool,
            Some(switches) => {
                let mut ground = Arc::unwrap_or_clone(pool.ground);
                ground.switches = Some(switches);
                NodePool {
                    ground: Arc::new(ground),
                    ..pool
                }
            }
        }
    }

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
            has_failed: sites.iter().any(|site| site.failures.amount > 0.0),
            sites,
            places,
            all,
            licenses: Vec::new(),
            switches: None,
        };
        NodePool {
            ground: Arc::new(ground),
            free,
            licenses: SmallVec::new(),
            loose: None,
        }
    }

    /// The same with these licences, none of them in use.
    #[must_use]
    pub fn with_licenses<'l>(self, licenses: impl Iterator<Item = &'l License>) -> Self {
        let licenses: Vec<(Arc<str>, u32)> = licenses
            .map(|one| (one.name.as_str().into(), one.count))
            .collect();
        if licenses.is_empty() {
            return self;
        }
        let free = licenses.iter().map(|(_, count)| *count).collect();
        let mut ground = Arc::unwrap_or_clone(self.ground);
        ground.licenses = licenses;
        NodePool {
            ground: Arc::new(ground),
            licenses: free,
            ..self
        }
    }

    /// So many of the licences are in use, by the jobs that have them.
    pub fn count_licenses<'p>(&mut self, parts: impl Iterator<Item = &'p Parts>) {
        let mut used = vec![0u32; self.licenses.len()];
        for part in parts.flatten() {
            if let Some(used) = part.license().and_then(|at| used.get_mut(at)) {
                *used = used.saturating_add(part.amount.cpus);
            }
        }
        let all = self.ground.licenses.iter().zip(used);
        self.licenses = all
            .map(|((_, all), used)| all.saturating_sub(used))
            .collect();
    }

    /// The licences that a job holds while it runs, as parts.
    pub fn licenses_of(&self, job: &Job) -> impl Iterator<Item = Part> {
        let wanted = job.spec.request.wishes.licenses.iter();
        wanted.filter_map(|wish| {
            let all = &self.ground.licenses;
            let at = all.iter().position(|(name, _)| **name == *wish.name)?;
            Some(Part::of_license(at, wish.count))
        })
    }

    /// Licences that are free, by name, and how many there are.
    pub fn licenses(&self) -> impl Iterator<Item = (&str, u32, u32)> {
        let all = self.ground.licenses.iter().zip(&self.licenses);
        all.map(|((name, all), free)| (&**name, *free, *all))
    }

    /// Whether only licences are missing for this.
    #[must_use]
    pub fn lacks_licenses(&self, ask: &Ask<'_>) -> bool {
        ask.licenses
            .iter()
            .any(|(at, count)| self.licenses.get(*at).is_none_or(|free| free < count))
    }

    /// An ask without its licences.
    #[must_use]
    pub fn without_licenses<'r>(ask: &Ask<'r>) -> Ask<'r> {
        Ask {
            licenses: SmallVec::new(),
            ..ask.clone()
        }
    }

    fn licenses_asked(&self, request: &Request) -> SmallVec<[(usize, u32); 1]> {
        let wanted = request.wishes.licenses.iter();
        wanted
            .map(|wish| {
                let mut all = self.ground.licenses.iter();
                let at = all.position(|(name, _)| **name == *wish.name);
                (at.unwrap_or(usize::MAX), wish.count)
            })
            .collect()
    }

    /// At most so many switches, where there are several.
    fn switches_asked(&self, request: &Request) -> Option<u32> {
        let wish = request.wishes.switches?;
        self.ground.switches.is_some().then_some(wish.most)
    }

    /// As if nothing were granted.
    #[must_use]
    pub fn emptied(&self) -> Self {
        NodePool {
            ground: Arc::clone(&self.ground),
            free: self.ground.sites.iter().map(|site| site.all).collect(),
            licenses: self.ground.licenses.iter().map(|(_, all)| *all).collect(),
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

    /// With just these parts free, and all licences.
    #[must_use]
    pub fn only(&self, parts: &Parts) -> Self {
        let mut pool = NodePool {
            free: vec![Free::default(); self.free.len()],
            loose: None,
            ..self.clone()
        };
        for part in parts {
            if let Some(at) = pool.place(part.node) {
                pool.free[at] = part.amount;
            }
        }
        pool
    }

    /// What is free on a node.
    #[must_use]
    pub fn free_on(&self, id: NodeId) -> Free {
        self.place(id).map_or(Free::default(), |at| self.free[at])
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
            licenses: self.licenses_asked(request),
            switches: self.switches_asked(request),
            care: None,
        }
    }

    /// An ask for these amounts, on all nodes that accept work.
    #[must_use]
    pub fn ask_anywhere<'r>(&self, request: &'r Request) -> Ask<'r> {
        Ask {
            request,
            open: self.ground.accepting.clone(),
            licenses: self.licenses_asked(request),
            switches: self.switches_asked(request),
            care: None,
        }
    }

    /// Whether any of this lies where it may be asked for.
    #[must_use]
    pub fn touches(&self, parts: &Parts, ask: &Ask<'_>) -> bool {
        parts.iter().any(|part| match part.license() {
            Some(at) => ask.licenses.iter().any(|(asked, _)| *asked == at),
            None => {
                let at = self.place(part.node).and_then(|at| u32::try_from(at).ok());
                at.is_some_and(|at| ask.open.has(at))
            }
        })
    }

    /// Places of nodes that may be asked.
    fn candidates<'p>(&'p self, ask: &'p Ask<'_>, per_task: u32) -> Candidates<'p> {
        match &self.loose {
            Some(loose) if per_task > 0 => Candidates::Loose {
                places: loose.iter(),
                open: &ask.open,
                free: &self.free,
                per_task,
            },
            _ => Candidates::All(Box::new(ask.open.iter())),
        }
    }

    /// The licences that are asked for, if they are free here and there.
    fn licensed(&self, others: &[&Self], ask: &Ask<'_>) -> Option<SmallVec<[Part; 1]>> {
        let free = |pool: &Self, at: usize| pool.licenses.get(at).copied().unwrap_or(0);
        let parts = ask.licenses.iter().map(|(at, count)| {
            let here = others.iter().map(|other| free(other, *at));
            let least = here.fold(free(self, *at), u32::min);
            (*count <= least).then(|| Part::of_license(*at, *count))
        });
        parts.collect()
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
            let mut best: Option<(u32, u32, u32, u32, u32, u32)> = None;
            let care = |at| ask.care.as_ref().map_or((0, 0), |care| care.of_one(at));
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
                let (first, last) = care(at);
                let key = (spared, first, free.cpus, avoid(at as usize), last, at);
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
        let by_room: Vec<Room> = self
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
        let range = (least, most);
        let care = ask.care.as_ref();
        let pack = |rooms| self.pack((wanted, care), rooms, range, &free_at, &avoid);
        let Some(switches) = &self.ground.switches else {
            return pack(by_room);
        };
        let need = Need {
            nodes: range,
            tasks: wanted.tasks,
            switches: ask.switches,
        };
        switches.nearest(&by_room, need, pack)
    }

    /// As few of these nodes as hold all tasks, those with most room first.
    fn pack(
        &self,
        (wanted, care): (&Wanted<'_>, Option<&Care>),
        mut by_room: Vec<Room>,
        range: (usize, usize),
        free_at: &impl Fn(usize) -> Free,
        avoid: &impl Fn(usize) -> u32,
    ) -> Option<Parts> {
        if by_room.len() < range.0 {
            return None;
        }
        let mut steady = None;
        if let Some(care) = care {
            let key = |(holds, at): &Room| {
                let avoid = avoid(*at as usize);
                (care.failures(*at), Reverse(*holds), avoid, *at)
            };
            by_room.sort_by_cached_key(key);
            steady = self.fill(wanted, &by_room, range, free_at);
        }
        let key = |(holds, at): &(u32, u32)| (Reverse(*holds), avoid(*at as usize), *at);
        by_room.sort_by_cached_key(key);
        let found = self.fill(wanted, &by_room, range, free_at);
        // More nodes are no gain.
        let count = |parts: &Option<Parts>| parts.as_ref().map_or(usize::MAX, |parts| parts.len());
        if steady.is_some() && count(&steady) <= count(&found) {
            return steady;
        }
        if found.is_some() || !matches!(wanted.request.gpus, GpuRequest::Total(_)) {
            return found;
        }
        // Those with most room need not be those with the GPUs.
        let gpus = |at: u32| {
            let site = &self.ground.sites[at as usize];
            wanted.gpus_free(site, &free_at(at as usize))
        };
        let key = |(holds, at): &(u32, u32)| (Reverse(gpus(*at)), Reverse(*holds), *at);
        by_room.sort_by_cached_key(key);
        self.fill(wanted, &by_room, range, free_at)
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
    /// Where a task of so many cpus finds them.
    Loose {
        places: std::slice::Iter<'p, u32>,
        open: &'p Places,
        free: &'p [Free],
        per_task: u32,
    },
    All(Box<dyn Iterator<Item = u32> + 'p>),
}

impl Iterator for Candidates<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        match self {
            Candidates::Loose {
                places,
                open,
                free,
                per_task,
            } => {
                let mut places = places.copied();
                places.find(|at| free[*at as usize].cpus >= *per_task && open.has(*at))
            }
            Candidates::All(places) => places.next(),
        }
    }
}

impl Pool for NodePool {
    type Ask<'r> = Ask<'r>;
    type Share = Parts;

    fn find(&self, ask: &Ask<'_>) -> Option<Parts> {
        let licensed = self.licensed(&[], ask)?;
        let mut found = self.choose(ask, |at| self.free[at], |_| 0)?;
        found.extend(licensed);
        Some(found)
    }

    fn fits(&self, ask: &Ask<'_>) -> bool {
        let wanted = Wanted::of(ask.request);
        // How GPUs over the whole job lie on nodes, or nodes under switches, is found out by choosing some.
        if matches!(ask.request.gpus, GpuRequest::Total(_)) || ask.switches.is_some() {
            return self.find(ask).is_some();
        }
        if self.licensed(&[], ask).is_none() {
            return false;
        }
        let (least, most) = node_range(ask.request);
        let most = most.min(wanted.tasks as usize);
        let mut rooms: SmallVec<[u32; 64]> = SmallVec::new();
        let mut sum = 0u64;
        for at in self.candidates(ask, wanted.per_task) {
            let free = self.free[at as usize];
            if free.cpus < wanted.per_task {
                continue;
            }
            let room = wanted.capacity(&self.ground.sites[at as usize], &free);
            if least <= 1 && room >= wanted.tasks {
                return true;
            }
            if room > 0 && most >= 2 {
                sum += u64::from(room);
                rooms.push(room);
                let enough = sum >= u64::from(wanted.tasks);
                if enough && (least.max(2)..=most).contains(&rooms.len()) {
                    return true;
                }
            }
        }
        if most < 2 || rooms.len() < least.max(2) {
            return false;
        }
        // Those with most room.
        if rooms.len() > most {
            rooms.select_nth_unstable_by_key(most - 1, |room| Reverse(*room));
            rooms.truncate(most);
        }
        let sum: u64 = rooms.iter().map(|room| u64::from(*room)).sum();
        most >= least.max(2) && sum >= u64::from(wanted.tasks)
    }

    fn find_in_all(&self, others: &[&Self], ask: &Ask<'_>) -> Option<Parts> {
        let licensed = self.licensed(others, ask)?;
        let mut found = match others {
            // The common case, which is done very often.
            [one] => self.choose(ask, |at| self.free[at].least(one.free[at]), |_| 0)?,
            _ => self.choose(ask, |at| self.least_at(others, at), |_| 0)?,
        };
        found.extend(licensed);
        Some(found)
    }

    fn find_for_later(&self, others: &[&Self], now: &Self, ask: &Ask<'_>) -> Option<Parts> {
        let licensed = self.licensed(others, ask)?;
        let avoid = |at: usize| now.free[at].cpus;
        let mut found = self.choose(ask, |at| self.least_at(others, at), avoid)?;
        found.extend(licensed);
        Some(found)
    }

    fn holds(&self, share: &Parts) -> bool {
        share.iter().all(|part| {
            if let Some(at) = part.license() {
                let free = self.licenses.get(at);
                return free.is_some_and(|free| *free >= part.amount.cpus);
            }
            let Some(at) = self.place(part.node) else {
                return false;
            };
            part.amount.least(self.free[at]) == part.amount
        })
    }

    fn is_local(ask: &Ask<'_>) -> bool {
        node_range(ask.request).1 < 2 && ask.licenses.is_empty()
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
            if let Some(free) = part.license().and_then(|at| self.licenses.get_mut(at)) {
                *free = free.saturating_sub(part.amount.cpus);
                continue;
            }
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
            if let Some(at) = part.license() {
                let all = self.ground.licenses.get(at).map_or(0, |(_, all)| *all);
                if let Some(free) = self.licenses.get_mut(at) {
                    *free = all.min(free.saturating_add(part.amount.cpus));
                }
                continue;
            }
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
