//! Which nodes and cpus of its job a step gets, and how many of its tasks each node.
//!
//! Steps that run beside each other have cpus of their own: what is held by one is no room for another, unless that one
//! says that it shares. A step that has room in the job, but not now, is refused as busy; its client asks again.

use crate::model::allocation::NodeShare;
use crate::model::cpu_set::CpuSet;
use crate::model::distribution::Distribution;
use crate::model::hostlist;
use crate::model::refusal::{Code, Refusal};
use crate::model::spawn::CROWD_MAX;
use crate::model::step::{BUSY, StepOptions};
use crate::wire::client::StepRequest;
use std::cmp::Reverse;

/// Whether a node is meant by this name: its own, or what that begins with.
pub(super) fn is_called(node: &str, name: &str) -> bool {
    node == name || !name.contains('.') && node.split('.').next() == Some(name)
}

/// What a step is placed in: its job's nodes, in order.
pub(super) struct Room<'a> {
    /// Their parts.
    pub(super) shares: &'a [NodeShare],
    /// Their names.
    pub(super) names: &'a [String],
    /// What other steps hold on each.
    pub(super) held: &'a [CpuSet],
}

/// Where a step goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Tasks on each node.
    pub(super) tasks: Vec<u32>,
    /// Its cpus where they are not all that the job has on a node.
    pub(super) cpus: Vec<(u32, CpuSet)>,
}

/// Places a step.
pub(super) fn place(
    room: &Room<'_>,
    request: &StepRequest,
    options: &StepOptions,
    cpus_per_task: u32,
) -> Result<Place, Refusal> {
    let width = cpus_per_task.max(1);
    let wish = Wish {
        names: room.names,
        own: room.shares.iter().map(|share| share.tasks).collect(),
        cpus: room.shares.iter().map(|share| share.cpus.len()).collect(),
        request,
        options,
        width,
    };
    if options.spawned().is_some() {
        return crowded(room, &wish);
    }
    // The job's own tasks, where no others are asked for, need no look at cpus unless the step's are wider.
    let wider = request.cpus_per_task.is_some();
    let all = room.shares.iter().map(|share| {
        let fits = share.cpus.len() / width;
        if wider { fits } else { fits.max(share.tasks) }
    });
    let all: Vec<u32> = all.collect();
    let free = room.shares.iter().zip(room.held).zip(&all);
    let free = free.map(|((share, held), all)| {
        if share.cpus.is_disjoint(held) {
            return *all;
        }
        share.cpus.subtract(held).len() / width
    });
    let free: Vec<u32> = free.collect();
    let tasks = match wish.tasks(&free) {
        Ok(tasks) => tasks,
        Err(refusal) if free == all => return Err(refusal),
        Err(_) => {
            let tasks = wish.tasks(&all)?;
            if !options.overlaps() {
                let what = "other steps of the job have the cpus now".to_owned();
                return Err(Refusal::new(
                    BUSY,
                    what,
                    "wait for them, or share their cpus by --overlap",
                ));
            }
            tasks
        }
    };
    let cpus = cpus(room, &tasks, width);
    Ok(Place { tasks, cpus })
}

/// Places ranks that a rank of another step has asked for: they share the cpus of the job with it, and where there are
/// more of them than cpus, with each other.
fn crowded(room: &Room<'_>, wish: &Wish<'_>) -> Result<Place, Refusal> {
    let each = room.shares.iter().map(|share| {
        let fits = share.cpus.len() / wish.width;
        fits.max(share.tasks).max(1)
    });
    let each: Vec<u32> = each.collect();
    let mut times = 1;
    loop {
        let all: Vec<u32> = each.iter().map(|each| each.saturating_mul(times)).collect();
        match wish.tasks(&all) {
            Ok(tasks) => {
                let cpus = Vec::new();
                return Ok(Place { tasks, cpus });
            }
            Err(refusal) if times >= CROWD_MAX => return Err(refusal),
            Err(_) => times *= 2,
        }
    }
}

/// So many cpus for the tasks on each node, those first that nobody holds.
fn cpus(room: &Room<'_>, tasks: &[u32], width: u32) -> Vec<(u32, CpuSet)> {
    let nodes = (0_u32..).zip(room.shares).zip(room.held).zip(tasks);
    let chosen = nodes.filter(|(_, tasks)| **tasks > 0);
    let cpus = chosen.filter_map(|(((at, share), held), tasks)| {
        let needed = tasks.saturating_mul(width);
        if needed >= share.cpus.len() {
            return None;
        }
        let free = share.cpus.subtract(held);
        let mine = free.first_n(needed);
        let others = share.cpus.subtract(&mine);
        let shared = others.first_n(needed - mine.len());
        Some((at, mine.union(&shared)))
    });
    cpus.collect()
}

/// What is asked for.
struct Wish<'a> {
    names: &'a [String],
    /// The job's own tasks and cpus on each node.
    own: Vec<u32>,
    cpus: Vec<u32>,
    request: &'a StepRequest,
    options: &'a StepOptions,
    width: u32,
}

fn impossible(what: String, hint: &str) -> Refusal {
    Refusal::new(Code::Impossible, what, hint)
}

impl Wish<'_> {
    /// Tasks on each node, where each has room for so many.
    fn tasks(&self, room: &[u32]) -> Result<Vec<u32>, Refusal> {
        if let Some(list @ Distribution::Arbitrary(_)) = self.options.distribution() {
            return self.as_listed(list, room);
        }
        let nodes = self.nodes(room)?;
        let most = self.options.tasks_per_node().unwrap_or(u32::MAX);
        let room: Vec<u32> = room
            .iter()
            .zip(0_usize..)
            .map(|(room, at)| if nodes.contains(&at) { *room } else { 0 })
            .map(|room| room.min(most))
            .collect();
        let own: Vec<u32> = self
            .own
            .iter()
            .zip(0_usize..)
            .map(|(own, at)| if nodes.contains(&at) { *own } else { 0 })
            .collect();
        let every = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        let distribution = self.options.distribution();
        let wanted = match (self.request.ntasks, self.options.tasks_per_node()) {
            (Some(wanted), _) => wanted,
            (None, Some(each)) => each.saturating_mul(every),
            (None, None) => {
                let fits = own.iter().zip(&room).all(|(own, room)| own <= room);
                if fits && distribution.is_none_or(|one| *one == Distribution::Block) {
                    return Ok(own);
                }
                own.iter().sum()
            }
        };
        let block = Distribution::Block;
        let counts = distribution.unwrap_or(&block).counts(wanted, &room);
        counts
            .filter(|_| wanted > 0)
            .ok_or_else(|| self.too_many(wanted, &nodes))
    }

    fn too_many(&self, wanted: u32, nodes: &[usize]) -> Refusal {
        let cpus: u32 = nodes.iter().filter_map(|at| self.cpus.get(*at)).sum();
        let each = match self.options.tasks_per_node() {
            Some(each) => format!(", at most {each} on each"),
            None => String::new(),
        };
        let what = format!(
            "{wanted} tasks of {} cpus are asked for{each}, the job has {cpus} cpus on {} nodes",
            self.width,
            nodes.len()
        );
        impossible(what, "ask for fewer, or submit the job with more")
    }

    /// As many on each node as a list of hosts names it.
    fn as_listed(&self, list: &Distribution, room: &[u32]) -> Result<Vec<u32>, Refusal> {
        let hint = format!("the job has {}", hostlist::fold(self.names));
        let places = list.deal(&[], self.names);
        let places = places.map_err(|what| impossible(what, &hint))?;
        let mut tasks = vec![0_u32; self.names.len()];
        for at in places {
            if let Some(count) = tasks.get_mut(at as usize) {
                *count += 1;
            }
        }
        let over = tasks
            .iter()
            .zip(room)
            .position(|(tasks, room)| tasks > room);
        if let Some(at) = over {
            let what = format!(
                "{} tasks of {} cpus are listed for node {}, the job has {} cpus there",
                tasks[at], self.width, self.names[at], self.cpus[at]
            );
            return Err(impossible(
                what,
                "list it less often, or submit the job with more",
            ));
        }
        match tasks.iter().sum() {
            0_u32 => Err(impossible("no host is listed".to_owned(), &hint)),
            _ => Ok(tasks),
        }
    }

    /// The nodes that may be used, and those among them that must be.
    fn candidates(&self) -> Result<(Vec<usize>, Vec<usize>), Refusal> {
        let list = hostlist::fold(self.names);
        let is = |name: &String, at: usize| is_called(&self.names[at], name);
        let all = 0..self.names.len();
        let mut must = Vec::new();
        for name in self.options.node_list() {
            let Some(at) = all.clone().find(|at| is(name, *at)) else {
                let what = format!("node {name} is not one of the job's");
                return Err(impossible(what, &format!("the job has {list}")));
            };
            must.push(at);
        }
        must.sort_unstable();
        must.dedup();
        let excluded = self.options.excluded();
        let first = self.options.relative().unwrap_or(0) as usize;
        if first >= self.names.len() {
            let what = format!(
                "nodes from place {first} on are asked for, the job has {} nodes",
                self.names.len()
            );
            return Err(impossible(what, "places count from 0"));
        }
        let may = all.filter(|at| *at >= first && !excluded.iter().any(|name| is(name, *at)));
        let may: Vec<usize> = may.collect();
        if let Some(at) = must.iter().find(|at| !may.contains(at)) {
            let what = format!("node {} is asked for and left out", self.names[*at]);
            return Err(impossible(what, "say one of the two"));
        }
        Ok((may, must))
    }

    /// The nodes of the step, in order.
    fn nodes(&self, room: &[u32]) -> Result<Vec<usize>, Refusal> {
        let (may, must) = self.candidates()?;
        if may.is_empty() {
            let what = "--exclude leaves out every node of the job".to_owned();
            let hint = format!("the job has {}", hostlist::fold(self.names));
            return Err(impossible(what, &hint));
        }
        let usual = if must.is_empty() {
            may.len()
        } else {
            must.len()
        };
        let wanted = self.request.nodes.map_or(usual, |nodes| nodes as usize);
        if wanted == 0 || wanted > may.len() {
            let left = if may.len() == self.names.len() {
                format!("the job has {}", may.len())
            } else {
                format!("{} of the job's are left to choose from", may.len())
            };
            let what = format!("{wanted} nodes are asked for, {left}");
            return Err(impossible(what, "ask for no more nodes than the job has"));
        }
        if must.len() > wanted {
            let what = format!(
                "{wanted} nodes are asked for, and {} are named by --nodelist",
                must.len()
            );
            return Err(impossible(what, "leave out --nodes, or name fewer"));
        }
        let more = wanted - must.len();
        let mut others: Vec<usize> = may.into_iter().filter(|at| !must.contains(at)).collect();
        others.sort_by_key(|at| room[*at] == 0);
        let total = |nodes: &[usize]| -> u64 { nodes.iter().map(|at| u64::from(room[*at])).sum() };
        let tasks = u64::from(self.request.ntasks.unwrap_or(0));
        if total(&must) + total(&others[..more]) < tasks {
            // The first do not do; those with the most room may.
            others.sort_by_key(|at| Reverse(room[*at]));
        }
        others.truncate(more);
        let mut nodes = must;
        nodes.extend(others);
        nodes.sort_unstable();
        Ok(nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::distribution::HostRanks;
    use crate::model::ids::NodeId;
    use crate::model::ids::StepId;
    use crate::model::spawn::{SpawnRequest, Spawned};
    use crate::model::step::StepOption;
    use proptest::prelude::*;

    /// Nodes `n1` and on with so many cpus and own tasks.
    fn shares(cpus: &[u16], tasks: &[u32]) -> (Vec<NodeShare>, Vec<String>) {
        let nodes = (1..).zip(cpus.iter().zip(tasks));
        let shares = nodes.map(|(node, (cpus, tasks))| NodeShare {
            node: NodeId(node),
            tasks: *tasks,
            cpus: (0..*cpus).collect(),
            memory_mib: 0,
            gpus: Vec::new(),
        });
        let names = (1..=cpus.len()).map(|node| format!("n{node}"));
        (shares.collect(), names.collect())
    }

    fn request(ntasks: Option<u32>, nodes: Option<u32>) -> StepRequest {
        StepRequest {
            raw_job: 1,
            arguments: vec!["true".into()],
            environment: Vec::new(),
            work_dir: "/".into(),
            ntasks,
            nodes,
            cpus_per_task: None,
        }
    }

    fn options(said: &[StepOption]) -> StepOptions {
        let mut options = StepOptions::default();
        for option in said {
            options.say(option.clone());
        }
        options
    }

    /// Places a step in a job of 4, 2 and 4 cpus that has as many tasks; other steps hold `held`.
    fn placed(held: [&str; 3], asked: Asked, said: &[StepOption]) -> Result<Place, Refusal> {
        let (shares, names) = shares(&[4, 2, 4], &[4, 2, 4]);
        let held = held.map(|text| CpuSet::parse(text).unwrap_or_default());
        let room = Room {
            shares: &shares,
            names: &names,
            held: &held,
        };
        place(&room, &request(asked.0, asked.1), &options(said), 1)
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Tasks and nodes.
    type Asked = (Option<u32>, Option<u32>);

    const NONE: [&str; 3] = ["", "", ""];

    #[test]
    fn nodes_and_counts_are_as_asked() {
        let on = |list: &[&str]| StepOption::NodeList(names(list));
        let cyclic = StepOption::Distribution(Distribution::Cyclic);
        let hosts = HostRanks::of(&["n3", "n1", "n3"]).unwrap();
        let arbitrary = StepOption::Distribution(Distribution::Arbitrary(hosts));
        let table: Vec<(Asked, Vec<StepOption>, [u32; 3])> = vec![
            ((None, None), vec![], [4, 2, 4]),
            ((Some(6), None), vec![], [4, 1, 1]),
            ((Some(6), None), vec![cyclic.clone()], [2, 2, 2]),
            ((Some(8), None), vec![cyclic.clone()], [3, 2, 3]),
            ((None, Some(2)), vec![], [4, 2, 0]),
            ((Some(1), None), vec![on(&["n2"])], [0, 1, 0]),
            ((None, None), vec![on(&["n3"])], [0, 0, 4]),
            ((Some(3), Some(2)), vec![on(&["n3"])], [2, 0, 1]),
            (
                (None, None),
                vec![StepOption::Exclude(names(&["n1", "other"]))],
                [0, 2, 4],
            ),
            ((Some(2), None), vec![StepOption::Relative(1)], [0, 1, 1]),
            ((None, None), vec![StepOption::TasksPerNode(1)], [1, 1, 1]),
            (
                (Some(5), None),
                vec![StepOption::TasksPerNode(2)],
                [2, 2, 1],
            ),
            ((Some(8), Some(2)), vec![], [4, 0, 4]),
            ((None, None), vec![arbitrary], [1, 0, 2]),
        ];
        for (asked, said, tasks) in table {
            let found = placed(NONE, asked, &said).unwrap();
            assert_eq!(found.tasks, tasks, "{asked:?} {said:?}");
        }
    }

    #[test]
    fn ranks_that_others_ask_for_share_what_there_is() {
        let spawned = StepOption::Spawned(Box::new(Spawned {
            parent: StepId(0),
            rank: 0,
            request: SpawnRequest::default(),
        }));
        let held = ["0-3", "0-1", "0-3"];
        let table: Vec<(u32, Vec<StepOption>, [u32; 3])> = vec![
            (3, vec![], [1, 1, 1]),
            (10, vec![], [4, 2, 4]),
            (11, vec![], [8, 2, 1]),
            (5, vec![StepOption::NodeList(names(&["n2"]))], [0, 5, 0]),
        ];
        for (tasks, mut said, wanted) in table {
            said.extend([StepOption::Overlap, spawned.clone()]);
            let found = placed(held, (Some(tasks), None), &said).unwrap();
            assert_eq!((found.tasks, found.cpus), (wanted.to_vec(), vec![]));
        }
        let most = 10 * CROWD_MAX;
        let said = [StepOption::Overlap, spawned];
        assert!(placed(held, (Some(most), None), &said).is_ok());
        let refusal = placed(held, (Some(most + 1), None), &said).unwrap_err();
        let why = format!("{} tasks of 1 cpus are asked for", most + 1);
        assert!(refusal.to_string().contains(&why), "{refusal}");
    }

    #[test]
    fn what_cannot_be_says_why() {
        let hosts = HostRanks::of(&["n2"; 3]).unwrap();
        let table: Vec<(Asked, StepOption, &str)> = vec![
            (
                (None, None),
                StepOption::NodeList(names(&["n9"])),
                "node n9 is not one of the job's [HPC-E0004]\n  the job has n[1-3]",
            ),
            (
                (Some(11), None),
                StepOption::Relative(0),
                "11 tasks of 1 cpus are asked for, the job has 10 cpus on 3 nodes",
            ),
            (
                (None, Some(4)),
                StepOption::Relative(0),
                "4 nodes are asked for, the job has 3",
            ),
            (
                (None, Some(3)),
                StepOption::Relative(1),
                "3 nodes are asked for, 2 of the job's are left",
            ),
            (
                (None, None),
                StepOption::Relative(3),
                "nodes from place 3 on",
            ),
            (
                (Some(7), None),
                StepOption::TasksPerNode(2),
                "7 tasks of 1 cpus are asked for, at most 2 on each",
            ),
            (
                (None, Some(1)),
                StepOption::NodeList(names(&["n1", "n2"])),
                "2 are named by --nodelist",
            ),
            (
                (None, None),
                StepOption::Distribution(Distribution::Arbitrary(hosts)),
                "3 tasks of 1 cpus are listed for node n2, the job has 2 cpus there",
            ),
        ];
        for (asked, said, words) in table {
            let refused = placed(NONE, asked, &[said]).unwrap_err();
            assert!(refused.to_string().contains(words), "{refused}");
            assert_eq!(refused.code, Code::Impossible);
        }
    }

    #[test]
    fn steps_beside_each_other_have_cpus_of_their_own() {
        let set = |text: &str| CpuSet::parse(text).unwrap();
        let one = placed(NONE, (Some(1), None), &[]).unwrap();
        assert_eq!(one.cpus, [(0, set("0"))]);
        let next = placed(["0", "", ""], (Some(1), None), &[]).unwrap();
        assert_eq!(
            (next.tasks, next.cpus),
            (vec![1, 0, 0], vec![(0, set("1"))])
        );
        // A full node is passed over.
        let other = placed(["0-3", "", ""], (Some(1), Some(1)), &[]).unwrap();
        assert_eq!(
            (other.tasks, other.cpus),
            (vec![0, 1, 0], vec![(1, set("0"))])
        );
        let spread = placed(["0-2", "", "1"], (Some(6), None), &[]).unwrap();
        assert_eq!(spread.tasks, [1, 2, 3]);
        assert_eq!(spread.cpus, [(0, set("3")), (2, set("0,2-3"))]);
    }

    #[test]
    fn what_has_no_room_now_is_busy_unless_it_shares() {
        let busy = placed(["0-3", "0-1", "0-3"], (Some(1), None), &[]).unwrap_err();
        assert_eq!(busy.code, BUSY);
        let all = placed(["0", "", ""], (None, None), &[]).unwrap_err();
        assert_eq!(all.code, BUSY);
        let never = placed(["0", "", ""], (Some(11), None), &[]).unwrap_err();
        assert_eq!(never.code, Code::Impossible);
        let shared = placed(
            ["0-2", "", ""],
            (Some(3), Some(1)),
            &[StepOption::Overlap, StepOption::NodeList(names(&["n1"]))],
        );
        let shared = shared.unwrap();
        assert_eq!(shared.tasks, [3, 0, 0]);
        assert_eq!(shared.cpus, [(0, CpuSet::parse("0-1,3").unwrap())]);
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_there_is(
            nodes in prop::collection::vec((1_u16..6, 0_u16..6), 1..5),
            ntasks in 1_u32..12,
            width in 1_u32..4,
            overlap in any::<bool>(),
        ) {
            let cpus: Vec<u16> = nodes.iter().map(|(cpus, _)| *cpus).collect();
            let (shares, names) = shares(&cpus, &vec![1; cpus.len()]);
            let held: Vec<CpuSet> = nodes.iter().map(|(cpus, held)| (0..*held.min(cpus)).collect()).collect();
            let room = Room { shares: &shares, names: &names, held: &held };
            let options = if overlap { options(&[StepOption::Overlap]) } else { StepOptions::default() };
            let asked = StepRequest { cpus_per_task: Some(width), ..request(Some(ntasks), None) };
            if let Ok(place) = place(&room, &asked, &options, width) {
                prop_assert_eq!(place.tasks.iter().sum::<u32>(), ntasks);
                for (at, cpus) in &place.cpus {
                    let at = *at as usize;
                    prop_assert_eq!(cpus.len(), place.tasks[at] * width);
                    prop_assert!(cpus.is_subset(&shares[at].cpus));
                    prop_assert!(overlap || cpus.is_disjoint(&held[at]));
                }
                for (at, tasks) in place.tasks.iter().enumerate() {
                    prop_assert!(tasks * width <= shares[at].cpus.len());
                    let whole = place.cpus.iter().all(|(place, _)| *place as usize != at);
                    prop_assert!(*tasks == 0 || !whole || overlap || held[at].is_empty());
                }
            }
        }
    }
}
