//! May it ever run here? Asked at submission, against what the nodes have in all.

use super::nodes::{Ask, NodePool, serving};
use super::pool::Pool;
use crate::model::ids::NodeId;
use crate::model::job::Owner;
use crate::model::node::Node;
use crate::model::partition::Partition;
use crate::model::resource::{GpuRequest, MemoryRequest, Request};
use crate::model::rules::Rules;

/// Whether it is plain at a look that this request can run some day; if not, [`never`] tells.
#[must_use]
pub fn surely(request: &Request, partition: Option<&Partition>, emptied: &NodePool) -> bool {
    emptied.serves_everyone()
        && request.nodelist.is_empty()
        && request.exclude.is_empty()
        && request.wishes.is_empty()
        && partition.is_none_or(|partition| partition.nodes.is_empty())
        && emptied.find(&emptied.ask_anywhere(request)).is_some()
}

/// Why this request can never run on these nodes, in one line with the limit; `None` = it can. `emptied` are the same
/// nodes with nothing granted.
#[must_use]
pub fn never(
    request: &Request,
    owner: &Owner,
    (rules, partition): (&Rules, &str),
    nodes: &[&Node],
    emptied: &NodePool,
) -> Option<String> {
    if nodes.is_empty() {
        return None;
    }
    let named = request.nodelist.iter().chain(&request.exclude);
    for name in named {
        if !nodes.iter().any(|node| node.name() == name) {
            return Some(format!("node `{name}` does not exist"));
        }
    }
    if let Some(why) = missing(request, rules, nodes, emptied) {
        return Some(why);
    }
    let serves = serving(request, owner, rules, partition);
    let admitted: Vec<&Node> = nodes.iter().copied().filter(|node| serves(node)).collect();
    // By number, as the pool has them.
    let mut numbers: Vec<NodeId> = admitted.iter().map(|node| node.id).collect();
    numbers.sort_unstable();
    let ask = emptied.ask(request, |id| numbers.binary_search(&id).is_ok());
    match emptied.find(&ask) {
        Some(_) => None,
        None => {
            Some(too_many_switches(&ask, emptied).unwrap_or_else(|| explain(request, &admitted)))
        }
    }
}

/// What fits under more switches only.
fn too_many_switches(ask: &Ask<'_>, emptied: &NodePool) -> Option<String> {
    let wish = ask.request.wishes.switches?;
    let found = |most| emptied.fits(&ask.clone().under_at_most(most));
    let all = u32::try_from(emptied.sites().len()).unwrap_or(u32::MAX);
    let needed = (wish.most..=all).find(|most| found(*most))?;
    Some(format!(
        "nodes under at most {} are asked for, it needs {needed}: write --switches={needed}",
        wish.counted()
    ))
}

/// Licences and features that there are not.
fn missing(
    request: &Request,
    rules: &Rules,
    nodes: &[&Node],
    emptied: &NodePool,
) -> Option<String> {
    for wish in &request.wishes.licenses {
        let known = emptied.licenses().find(|(name, ..)| *name == wish.name);
        let (name, count) = (&wish.name, wish.count);
        match known {
            None => {
                let names: Vec<&str> = emptied.licenses().map(|(name, ..)| name).collect();
                let there = match names.as_slice() {
                    [] => "there are none".to_owned(),
                    names => format!("there are: {}", names.join(", ")),
                };
                return Some(format!("there is no license `{name}`; {there}"));
            }
            Some((.., all)) if all < count => {
                return Some(format!(
                    "{count} of license {name} are asked for, there are {all}"
                ));
            }
            Some(_) => {}
        }
    }
    let features = request.wishes.features()?;
    let met = |node: &&&Node| features.is_met(&|feature| rules.has_feature(node, feature));
    if nodes.iter().any(|node| met(&node)) {
        return None;
    }
    for feature in features.features() {
        if !nodes.iter().any(|node| rules.has_feature(node, feature)) {
            return Some(format!("no node has the feature `{feature}`"));
        }
    }
    Some(format!("no node has the features `{features}`"))
}

/// Why those that may serve it cannot.
fn explain(request: &Request, admitted: &[&Node]) -> String {
    if admitted.is_empty() {
        return "no node serves this user, partition, node list, exclusion and features".to_owned();
    }
    let (least, _) = (request.nodes_min, request.nodes_max);
    if least as usize > admitted.len() {
        return format!("{least} nodes are asked for, there are {}", admitted.len());
    }
    let cpus_most = admitted
        .iter()
        .map(|node| node.cpus_total())
        .max()
        .unwrap_or(0);
    let per_task = request.cpus_per_task_or_default();
    if per_task > cpus_most {
        return format!("{per_task} cpus per task are asked for, the largest node has {cpus_most}");
    }
    let memory_most = admitted
        .iter()
        .map(|node| node.memory_total_mib())
        .max()
        .unwrap_or(0);
    let memory = match request.memory {
        MemoryRequest::PerNode(mib) => mib,
        MemoryRequest::PerCpu(mib) => mib.saturating_mul(u64::from(per_task)),
        MemoryRequest::Default => 0,
    };
    if memory > memory_most {
        return format!(
            "{memory} MiB on a node are asked for, the largest node has {memory_most} MiB"
        );
    }
    if let Some(why) = too_few_gpus(request, admitted) {
        return why;
    }
    let cpus: u64 = admitted
        .iter()
        .map(|node| u64::from(node.cpus_total()))
        .sum();
    if u64::from(request.cpus_total()) > cpus {
        return format!(
            "{} cpus are asked for, there are {cpus}",
            request.cpus_total()
        );
    }
    let memory = match request.memory {
        MemoryRequest::PerCpu(mib) => {
            let all: u64 = admitted.iter().map(|node| node.memory_total_mib()).sum();
            format!(" and {mib} MiB a cpu, of {all} MiB there are,")
        }
        MemoryRequest::PerNode(mib) => format!(" and {mib} MiB on each node"),
        MemoryRequest::Default => String::new(),
    };
    format!(
        "{} tasks of {per_task} cpus{memory} on {least} or more nodes do not fit on the {} nodes there are",
        request.ntasks_or_default(),
        admitted.len()
    )
}

/// Of the kind that is asked for.
fn too_few_gpus(request: &Request, nodes: &[&Node]) -> Option<String> {
    let (GpuRequest::Total(count) | GpuRequest::PerNode(count) | GpuRequest::PerTask(count)) =
        &request.gpus
    else {
        return None;
    };
    let all = || nodes.iter().flat_map(|node| &node.inventory.topology.gpus);
    let meant = |kind: &str| {
        count
            .kind
            .as_deref()
            .is_none_or(|wanted| wanted.eq_ignore_ascii_case(kind))
    };
    let there = all().filter(|gpu| meant(&gpu.kind)).count();
    if request.gpus_total() as usize <= there {
        return None;
    }
    let mut kinds: Vec<&str> = all().map(|gpu| gpu.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    Some(match &count.kind {
        Some(kind) if !kinds.is_empty() => format!(
            "{} GPUs of kind {kind} are asked for, there are {there}; kinds here: {}",
            request.gpus_total(),
            kinds.join(", ")
        ),
        _ => format!(
            "{} GPUs are asked for, there are {there}",
            request.gpus_total()
        ),
    })
}
