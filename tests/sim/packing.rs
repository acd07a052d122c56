//! `hpc sim --gpu-nodes --gpu-tasks`: of GPUs, the rule that looks at fragmentation strands the fewest.

use super::hpc;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const NODES_HEADER: &str = "sn,cpu_milli,memory_mib,gpu,model";
const TASKS_HEADER: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time";

/// Files of nodes and tasks.
struct Files {
    nodes: PathBuf,
    tasks: PathBuf,
}

impl Files {
    fn written(directory: &Path, nodes: &str, tasks: &str) -> Self {
        let files = Files {
            nodes: directory.join("nodes.csv"),
            tasks: directory.join("tasks.csv"),
        };
        std::fs::write(&files.nodes, format!("{NODES_HEADER}\n{nodes}")).unwrap();
        std::fs::write(&files.tasks, format!("{TASKS_HEADER}\n{tasks}")).unwrap();
        files
    }

    fn sim(&self, more: &[&str]) -> std::process::Output {
        let (nodes, tasks) = (self.nodes.to_str().unwrap(), self.tasks.to_str().unwrap());
        let words = [&["sim", "--gpu-nodes", nodes, "--gpu-tasks", tasks], more].concat();
        hpc(&words)
    }

    fn figures(&self, more: &[&str]) -> Value {
        let answer = self.sim(&[more, &["--json"]].concat());
        assert!(answer.status.success(), "{answer:?}");
        serde_json::from_slice(&answer.stdout).unwrap()
    }

    /// Of each rule how much was allocated and stranded when as much had been asked for as there is.
    fn at_full_demand(&self, seed: &str) -> BTreeMap<String, (f64, f64)> {
        let figures = self.figures(&["--seed", seed]);
        let rules = figures["rules"].as_array().unwrap().iter();
        let of = |rule: &Value| {
            let moment = &rule["at_full_demand"];
            let percent = |name: &str| moment[name].as_f64().unwrap();
            assert!((100.0..102.0).contains(&percent("arrived_percent")));
            assert_eq!(rule["points"].as_array().unwrap().len(), 131);
            let name = rule["rule"].as_str().unwrap().to_owned();
            let both = (percent("allocated_percent"), percent("stranded_percent"));
            assert!((both.0 + both.1 - 100.0).abs() < 1e-9, "{rule}");
            (name, both)
        };
        rules.map(of).collect()
    }
}

/// A cluster of three kinds of nodes, and tasks of which many share GPUs, some need many cpus and some insist on a model.
fn made_up(directory: &Path) -> Files {
    let mut nodes = String::new();
    for number in 0..100 {
        let kind = match number % 10 {
            0 => "64000,262144,0,",
            1..=3 => "96000,524288,2,T4",
            _ => "96000,393216,8,A10",
        };
        writeln!(nodes, "n{number},{kind}").unwrap();
    }
    let kinds = [
        (30, "8000,32768,1,1000,"),
        (15, "12000,65536,1,1000,"),
        (14, "6000,16384,1,810,"),
        (10, "4000,8192,1,470,"),
        (8, "11900,32768,1,650,"),
        (6, "3000,8192,1,230,T4|A10"),
        (4, "16000,65536,2,1000,"),
        (2, "64000,262144,8,1000,A10"),
        (11, "4000,16384,0,0,"),
    ];
    let mut tasks = String::new();
    for (times, kind) in kinds {
        for number in 0..times {
            writeln!(tasks, "t{number},{kind},LS,Running,0,1,0").unwrap();
        }
    }
    Files::written(directory, &nodes, &tasks)
}

#[test]
fn the_rule_that_looks_at_fragmentation_strands_least() {
    let directory = tempfile::tempdir().unwrap();
    let files = made_up(directory.path());
    let rules = files.at_full_demand("1");
    assert_eq!(rules.len(), 4);
    let stranded = |rule: &str| rules[rule].1;
    for other in ["first-fit", "best-fit"] {
        assert!(
            stranded("fragmentation") < stranded(other),
            "{other}: {rules:?}"
        );
    }
}

#[test]
fn on_the_trace_of_a_real_cluster_too() {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/traces");
    let files = Files {
        nodes: traces.join("openb_node_list_all_node.csv.gz"),
        tasks: traces.join("openb_pod_list_default.csv.gz"),
    };
    if !files.nodes.exists() || !files.tasks.exists() {
        println!(
            "SKIPPED: on_the_trace_of_a_real_cluster_too: ../shared/traces/openb_*.csv.gz are not here"
        );
        return;
    }
    for seed in ["1", "2", "3"] {
        let rules = files.at_full_demand(seed);
        let stranded = |rule: &str| rules[rule].1;
        assert!(
            stranded("fragmentation") < stranded("first-fit"),
            "{seed}: {rules:?}"
        );
        assert!(
            stranded("fragmentation") + 1.0 < stranded("best-fit"),
            "{seed}: {rules:?}"
        );
        if seed == "1" {
            let known = [
                ("best-fit", 92.95),
                ("dot-product", 91.46),
                ("first-fit", 94.26),
                ("fragmentation", 94.75),
            ];
            for (rule, allocated) in known {
                assert!(
                    (rules[rule].0 - allocated).abs() < 0.006,
                    "{rule}: {rules:?}"
                );
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_one_rule_can_be_chosen() {
    let directory = tempfile::tempdir().unwrap();
    let files = made_up(directory.path());
    let plot = directory.path().join("packing.svg");
    let run = |seed| {
        let words = ["--seed", seed, "--plot", plot.to_str().unwrap()];
        let answer = files.sim(&words);
        assert!(answer.status.success(), "{answer:?}");
        let said = String::from_utf8(answer.stdout).unwrap();
        (said, std::fs::read_to_string(&plot).unwrap())
    };
    let (said, drawn) = run("5");
    assert_eq!(said.lines().count(), 5, "{said}");
    assert!(drawn.starts_with("<svg ") && drawn.contains("fragmentation: "));
    assert_eq!((&said, &drawn), (&run("5").0, &run("5").1));
    assert_ne!(said, run("6").0);
    let one = files.sim(&["--seed", "5", "--placement", "best-fit"]);
    let one = String::from_utf8(one.stdout).unwrap();
    let row = |said: &str| {
        let line = said.lines().find(|line| line.starts_with("best-fit"));
        line.unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(row(&one), row(&said));
    assert_eq!(one.lines().count(), 2, "{one}");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let node = "n,1000,1000,1,A10\n";
    let task = "t,1,1,1,500,,,,,,\n";
    for (nodes, tasks, said) in [
        (
            "n,1000,1000,1\n",
            task,
            "nodes.csv: line 2 is no node: it has 4 fields, not 5",
        ),
        (
            node,
            "t,1,x,1,500,,,,,,\n",
            "tasks.csv: line 2 is no task: memory_mib is `x`",
        ),
        ("n,1000,1000,0,\n", task, "nodes.csv: no node has a GPU"),
        (
            node,
            "t,1,1,0,0,,,,,,\n",
            "tasks.csv: no task asks for a GPU",
        ),
    ] {
        let answer = Files::written(directory.path(), nodes, tasks).sim(&[]);
        let error = String::from_utf8(answer.stderr).unwrap();
        assert_eq!(answer.status.code(), Some(1), "{error}");
        assert!(error.contains(said), "{error}");
    }
    let files = Files::written(directory.path(), node, task);
    let swapped = Files {
        nodes: files.tasks.clone(),
        tasks: files.nodes.clone(),
    };
    let error = String::from_utf8(swapped.sim(&[]).stderr).unwrap();
    assert!(
        error.contains("tasks.csv: its first line is not `sn,cpu_milli"),
        "{error}"
    );
    for words in [
        &["sim"][..],
        &["sim", "--gpu-nodes", "x"],
        &["sim", "--gpu-tasks", "x"],
        &["sim", "--trace", "x", "--placement", "all"],
        &[
            "sim",
            "--trace",
            "x",
            "--gpu-nodes",
            "x",
            "--gpu-tasks",
            "x",
        ],
        &[
            "sim",
            "--gpu-nodes",
            "x",
            "--gpu-tasks",
            "x",
            "--procs",
            "3",
        ],
    ] {
        let answer = hpc(words);
        assert_eq!(answer.status.code(), Some(2), "{words:?}: {answer:?}");
    }
}
