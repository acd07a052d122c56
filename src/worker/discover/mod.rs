//! What this machine has that jobs may use: cpus, NUMA nodes, memory and GPUs, as a [`Topology`].
//!
//! - `cpus.rs`: hwloc's view of cpus and NUMA nodes, restricted to the cpus that this process may use
//! - `memory.rs`: the amount of memory, restricted by the cgroup of this process
//! - `gpus.rs`: NVIDIA cards, through the driver's library where there is one
//!
//! hwloc's own variables choose another machine, for tests and trials: `HWLOC_SYNTHETIC` (a description),
//! `HWLOC_XMLFILE` (saved by `lstopo`), `HWLOC_FSROOT` (a recorded tree; with `HWLOC_COMPONENTS=linux,stop`). Limits of
//! this process are then not applied. Amounts that a person declares in place of these are
//! [`Topology::declared`]'s affair. No part here writes anything, and none needs root.

mod cpus;
mod gpus;
mod memory;

use std::path::PathBuf;

use crate::model::topology::Topology;

/// Discovery failed as a whole. A part that this machine does not tell (a distance, a card's memory) is no error.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// hwloc could not describe a machine.
    #[error("hwloc could not {doing}")]
    Hwloc {
        /// What was being done.
        doing: &'static str,
        /// What hwloc said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is a machine, and no cpu of it is ours to use.
    #[error("no cpu of this machine may be used: the process is limited to cpus {allowed}")]
    NoCpus {
        /// The cpus that the process is limited to, as the kernel writes them.
        allowed: String,
    },
}

/// Measures this machine but for its GPUs, whose driver may take seconds to answer.
pub fn discover_cpus_and_memory() -> Result<Topology, DiscoverError> {
    cpus::discover(&cpus::Source::Environment)
}

/// Measures this machine.
pub fn discover() -> Result<Topology, DiscoverError> {
    let root = std::env::var_os("HWLOC_FSROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let mut topology = discover_cpus_and_memory()?;
    topology.gpus = gpus::discover(gpus::NVML, &root.join("sys"), &topology);
    Ok(topology)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    /// Prints what `discover` finds, for the tests below, which run it in a process of its own with another
    /// environment. On its own it looks at the real machine.
    #[test]
    fn real_machine() {
        let began = Instant::now();
        let found = discover().expect("a machine that runs tests has a cpu");
        let took = began.elapsed();
        let text = serde_json::to_string(&found).unwrap();
        println!("\nTOPOLOGY {text}\ntook {took:?}");
        assert!(found.cpu_count() > 0 && found.core_count() > 0);
        assert!(found.memory_mib > 0);
        assert!(found.cpus.is_sorted_by_key(|cpu| cpu.id));
        assert!(found.is_real());
        let mut in_nodes: Vec<u32> = found
            .numa_nodes
            .iter()
            .flat_map(|node| node.cpus.clone())
            .collect();
        in_nodes.sort_unstable();
        assert_eq!(
            in_nodes,
            found.cpus.iter().map(|cpu| cpu.id).collect::<Vec<_>>(),
            "each cpu is in exactly one NUMA node"
        );
    }

    fn discover_with(environment: &[(&str, &str)], before: &[&str]) -> Topology {
        let exe = std::env::current_exe().unwrap();
        let mut words: Vec<&std::ffi::OsStr> = before.iter().map(std::ffi::OsStr::new).collect();
        words.push(exe.as_os_str());
        let output = Command::new(words[0])
            .args(&words[1..])
            .args([
                "--exact",
                "worker::discover::tests::real_machine",
                "--nocapture",
            ])
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("TOPOLOGY "));
        serde_json::from_str(line.unwrap_or_else(|| panic!("no topology in {text}"))).unwrap()
    }

    #[test]
    fn the_environment_can_name_a_synthetic_machine() {
        let found = discover_with(
            &[(
                "HWLOC_SYNTHETIC",
                "pack:2 [numa(memory=8GiB)] l3:4 core:4 pu:2",
            )],
            &[],
        );
        assert_eq!((found.cpu_count(), found.core_count()), (64, 32));
        assert_eq!(found.numa_nodes.len(), 2);
    }

    #[test]
    fn affinity_limits_what_is_found() {
        let all = discover_with(&[], &[]);
        let first = all.cpus[0].id.to_string();
        let one = discover_with(&[], &["taskset", "-c", &first]);
        assert_eq!(
            one.cpus.iter().map(|cpu| cpu.id).collect::<Vec<_>>(),
            [all.cpus[0].id]
        );
        assert_eq!(one.memory_mib, all.memory_mib);
    }

    /// A recorded tree with what upsets simple readers: NUMA nodes 0 and 8, an offline cpu, two threads a core.
    #[test]
    fn a_recorded_tree_with_gaps_and_an_offline_cpu() {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{text}\n")).unwrap();
        };
        write("sys/devices/system/cpu/online", "0-2,4-7");
        write("sys/devices/system/cpu/possible", "0-7");
        write("sys/devices/system/cpu/present", "0-7");
        for cpu in [0u32, 1, 2, 4, 5, 6, 7] {
            let directory = format!("sys/devices/system/cpu/cpu{cpu}/topology");
            let package = cpu / 4;
            let core_mask = 0b11 << (cpu / 2 * 2);
            write(
                &format!("{directory}/physical_package_id"),
                &package.to_string(),
            );
            write(&format!("{directory}/core_id"), &(cpu / 2 % 2).to_string());
            write(
                &format!("{directory}/thread_siblings"),
                &format!("{core_mask:02x}"),
            );
            write(
                &format!("{directory}/core_siblings"),
                if package == 0 { "0f" } else { "f0" },
            );
        }
        write("sys/devices/system/cpu/cpu3/online", "0");
        write("sys/devices/system/node/online", "0,8");
        write("sys/devices/system/node/possible", "0-8");
        for (node, mask, distance) in [(0, "0f", "10 40"), (8, "f0", "40 10")] {
            let directory = format!("sys/devices/system/node/node{node}");
            write(&format!("{directory}/cpumap"), mask);
            write(&format!("{directory}/distance"), distance);
            write(
                &format!("{directory}/meminfo"),
                &format!("Node {node} MemTotal:       4194304 kB"),
            );
        }
        write("proc/cpuinfo", "processor\t: 0");
        write("proc/meminfo", "MemTotal:        8388608 kB");
        let found = discover_with(
            &[
                ("HWLOC_FSROOT", tree.path().to_str().unwrap()),
                ("HWLOC_COMPONENTS", "linux,stop"),
                ("HWLOC_THISSYSTEM", "0"),
            ],
            &[],
        );
        assert_eq!(
            found.cpus.iter().map(|cpu| cpu.id).collect::<Vec<_>>(),
            [0, 1, 2, 4, 5, 6, 7]
        );
        assert_eq!((found.core_count(), found.package_count()), (4, 2));
        assert_eq!(
            found
                .numa_nodes
                .iter()
                .map(|node| (
                    node.id,
                    node.cpus.clone(),
                    node.memory_mib,
                    node.distances.clone()
                ))
                .collect::<Vec<_>>(),
            [
                (0, vec![0, 1, 2], 4096, vec![10, 40]),
                (8, vec![4, 5, 6, 7], 4096, vec![40, 10])
            ]
        );
        assert_eq!(found.memory_mib, 8192);
    }

    #[test]
    fn an_exported_machine() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("machine.xml");
        std::fs::write(
            &file,
            r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" os_index="0" cpuset="0x3" complete_cpuset="0x3" allowed_cpuset="0x3" nodeset="0x4" complete_nodeset="0x4" allowed_nodeset="0x4" gp_index="1">
    <object type="NUMANode" os_index="2" cpuset="0x3" complete_cpuset="0x3" nodeset="0x4" complete_nodeset="0x4" gp_index="2" local_memory="2147483648"/>
    <object type="Core" os_index="5" cpuset="0x1" complete_cpuset="0x1" nodeset="0x4" complete_nodeset="0x4" gp_index="3">
      <object type="PU" os_index="0" cpuset="0x1" complete_cpuset="0x1" nodeset="0x4" complete_nodeset="0x4" gp_index="4"/>
    </object>
    <object type="Core" os_index="9" cpuset="0x2" complete_cpuset="0x2" nodeset="0x4" complete_nodeset="0x4" gp_index="5">
      <object type="PU" os_index="1" cpuset="0x2" complete_cpuset="0x2" nodeset="0x4" complete_nodeset="0x4" gp_index="6"/>
    </object>
  </object>
</topology>
"#,
        )
        .unwrap();
        let found = discover_with(&[("HWLOC_XMLFILE", file.to_str().unwrap())], &[]);
        assert_eq!((found.cpu_count(), found.core_count()), (2, 2));
        assert_eq!(found.numa_nodes[0].id, 2);
        assert_eq!(found.memory_mib, 2048);
        assert_eq!(found.cpus[1].core, 1, "cores are numbered without gaps");
    }
}
