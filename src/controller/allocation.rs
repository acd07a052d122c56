//! What the client of `hpc alloc` is told of its allocation, as variables for the shell it starts.

use crate::cluster::Snapshot;
use crate::model::amounts;
use crate::model::ids::SlotKey;

/// What the client's own shell is to know of its allocation.
pub(super) fn environment(snapshot: &Snapshot, key: SlotKey) -> Vec<(String, String)> {
    let Some(job) = snapshot.jobs.get(&key.job) else {
        return Vec::new();
    };
    let Some(slot) = job.slot(key.slot) else {
        return Vec::new();
    };
    let shares = &slot.allocation.nodes;
    let names: Vec<String> = shares
        .iter()
        .map(|share| snapshot.node_name(share.node))
        .collect();
    let nodes = crate::model::hostlist::fold(&names);
    let counted = |counts: Vec<u32>| folded(&counts);
    let mut values: Vec<(&str, String)> = vec![
        ("JOB_ID", job.id.to_string()),
        ("JOBID", job.id.to_string()),
        ("JOB_NAME", job.spec.name.to_string()),
        ("JOB_NODELIST", nodes.clone()),
        ("NODELIST", nodes),
        ("JOB_NUM_NODES", shares.len().to_string()),
        ("NNODES", shares.len().to_string()),
        ("NTASKS", slot.allocation.tasks().to_string()),
        ("NPROCS", slot.allocation.tasks().to_string()),
        (
            "TASKS_PER_NODE",
            counted(shares.iter().map(|share| share.tasks).collect()),
        ),
        (
            "JOB_CPUS_PER_NODE",
            counted(shares.iter().map(|share| share.cpus.len()).collect()),
        ),
        ("JOB_PARTITION", job.spec.partition.to_string()),
        ("JOB_ACCOUNT", job.spec.account.to_string()),
        ("JOB_QOS", job.spec.qos.to_string()),
        ("CLUSTER_NAME", snapshot.name.clone()),
        ("SUBMIT_DIR", job.spec.work_dir.to_string()),
        ("SUBMIT_HOST", job.spec.submit_host.to_string()),
    ];
    if let Some(cpus) = job.spec.request.cpus_per_task {
        values.push(("CPUS_PER_TASK", cpus.to_string()));
    }
    let both = |(name, value): (&str, String)| {
        [
            (format!("SLURM_{name}"), value.clone()),
            (format!("HPC_{name}"), value),
        ]
    };
    let mut variables: Vec<(String, String)> = values.into_iter().flat_map(both).collect();
    let note = amounts::note(|name| {
        let found = variables.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.clone())
    });
    variables.push((amounts::NOTE.to_owned(), note));
    variables
}

/// Slurm's `2(x3),1`.
fn folded(counts: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for count in counts {
        match parts.last_mut() {
            Some((last, times)) if last == count => *times += 1,
            _ => parts.push((*count, 1)),
        }
    }
    let words: Vec<String> = parts
        .into_iter()
        .map(|(count, times)| {
            if times == 1 {
                count.to_string()
            } else {
                format!("{count}(x{times})")
            }
        })
        .collect();
    words.join(",")
}
