//! Listings: tables and JSON from hand-made views.

use crate::fake::{Fake, golden};
use hpc::model::job::JobState;
use hpc::model::limits::{Level, LimitKind};
use hpc::model::rules::{Noun, Rules};
use hpc::model::time::Timestamp;
use hpc::wire::client::{Filter, Request, Selector, ToClient};
use hpc::wire::view::{
    ElementsView, GpuView, JobLine, JobView, KeyView, LimitView, LimitsView, LinkView, MembersView,
    NodeView, PartitionView, PlacementView, RuleView, StatusView, StepView, UsageView,
};

/// 2026-01-31T12:00:00Z.
const NOON: i64 = 1_769_860_800_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp(NOON).plus_ms(seconds * 1000)
}

/// A job with nothing special.
pub(crate) fn job(id: u32, name: &str, state: &str) -> JobView {
    JobView {
        id,
        array_task: None,
        array_tasks: None,
        raw_id: id,
        name: name.into(),
        user: "alice".into(),
        uid: 1000,
        gid: 1000,
        account: "default".into(),
        qos: "normal".into(),
        partition: "batch".into(),
        state: state.into(),
        reason: None,
        reason_detail: None,
        exit_code: None,
        signal: None,
        cancelled_by: None,
        submit_time: at(0),
        start_time: None,
        end_time: None,
        expected_start: None,
        begin_time: None,
        time_limit_s: Some(86_400),
        nodes: vec![],
        nodes_requested: 1,
        ntasks: 1,
        cpus: 1,
        cpus_per_task: 1,
        memory_mib: 2048,
        gpus: 0,
        restarts: 0,
        dependency: None,
        work_dir: "/home/alice".into(),
        stdout_path: Some(format!("/home/alice/slurm-{id}.out")),
        stderr_path: Some(format!("/home/alice/slurm-{id}.out")),
        command: format!("/home/alice/{name}"),
        comment: None,
        priority: 0,
        elements: None,
        placement: vec![],
        steps: vec![],
        usage: None,
    }
}

fn usage() -> UsageView {
    UsageView {
        cpu_s: 41.5,
        max_rss_mib: 812.25,
        energy_j: None,
        read_bytes: 4096,
        write_bytes: 65_536,
        wall_s: 42.0,
    }
}

/// One of each kind of row.
fn queue() -> Vec<JobView> {
    let waiting = JobView {
        reason: Some("Resources".into()),
        nodes_requested: 4,
        cpus: 128,
        ..job(13, "big.sh", "PENDING")
    };
    let rest = JobView {
        array_tasks: Some("3-9%2".into()),
        reason: Some("JobArrayTaskLimit".into()),
        elements: Some(ElementsView {
            total: 10,
            pending: 7,
            running: 2,
            completed: 1,
            unsuccessful: 0,
        }),
        ..job(12, "sweep.sh", "PENDING")
    };
    let element = JobView {
        array_task: Some(1),
        raw_id: 13,
        start_time: Some(at(5)),
        // Ended rows do not depend on the present.
        end_time: Some(at(5 + 125)),
        nodes: vec!["ws1".into()],
        ..job(12, "sweep.sh", "COMPLETING")
    };
    let wide = JobView {
        start_time: Some(at(0)),
        end_time: Some(at(93_784)),
        time_limit_s: None,
        nodes: vec!["ws1".into(), "ws2".into(), "ws3".into(), "ws5".into()],
        user: "bob".into(),
        cpus: 64,
        gpus: 8,
        ..job(9, "a rather long name (with blanks)", "RUNNING")
    };
    vec![waiting, rest, element, wide]
}

fn ended() -> JobView {
    JobView {
        start_time: Some(at(1)),
        end_time: Some(at(43)),
        exit_code: Some(0),
        signal: Some(9),
        cancelled_by: Some(1000),
        nodes: vec!["ws1".into()],
        dependency: Some("afterok:5".into()),
        comment: Some("third try".into()),
        restarts: 1,
        stderr_path: Some("/home/alice/err".into()),
        placement: vec![PlacementView {
            node: "ws1".into(),
            cpus: "0-3".into(),
            memory_mib: 2048,
            gpus: vec![0, 1],
            tasks: 1,
        }],
        steps: vec![StepView {
            id: "0".into(),
            name: "solver".into(),
            state: "CANCELLED".into(),
            exit_code: Some(0),
            signal: Some(15),
            ntasks: 4,
            start_time: Some(at(2)),
            end_time: Some(at(40)),
            usage: Some(usage()),
        }],
        usage: Some(usage()),
        ..job(7, "train.sh", "CANCELLED")
    }
}

/// The same for a table.
fn lines() -> Vec<JobLine> {
    let line = |id, name: &str, state, place: &str| JobLine {
        id,
        array_task: None,
        array_tasks: None,
        partition: "batch".into(),
        name: name.into(),
        user: "alice".into(),
        state,
        run_s: 0,
        time_limit_s: Some(86_400),
        nodes: 1,
        cpus: 1,
        place: place.into(),
    };
    let waiting = JobLine {
        nodes: 4,
        cpus: 128,
        ..line(13, "big.sh", JobState::Pending, "(Resources)")
    };
    let rest = JobLine {
        array_tasks: Some("3-9%2".into()),
        ..line(12, "sweep.sh", JobState::Pending, "(JobArrayTaskLimit)")
    };
    let element = JobLine {
        array_task: Some(1),
        run_s: 125,
        ..line(12, "sweep.sh", JobState::Completing, "ws1")
    };
    let wide = JobLine {
        run_s: 93_784,
        time_limit_s: None,
        user: "bob".into(),
        nodes: 4,
        cpus: 64,
        ..line(
            9,
            "a rather long name (with blanks)",
            JobState::Running,
            "ws[1-3,5]",
        )
    };
    vec![waiting, rest, element, wide]
}

fn in_parts(jobs: Vec<JobView>, lines: Vec<JobLine>) -> Fake {
    Fake::new(move |request, talk| {
        if let Request::QueueLines(_) = request {
            let (last, first) = lines.split_last().unwrap();
            talk.say(&ToClient::Lines {
                lines: first.to_vec(),
                last: false,
            });
            talk.say(&ToClient::Lines {
                lines: vec![last.clone()],
                last: true,
            });
            return;
        }
        let (last, first) = jobs.split_last().unwrap();
        talk.say(&ToClient::Jobs {
            jobs: first.to_vec(),
            last: false,
        });
        talk.say(&ToClient::Jobs {
            jobs: vec![last.clone()],
            last: true,
        });
    })
}

#[test]
fn queue_as_table_and_json() {
    let fake = in_parts(queue(), lines());
    golden("queue.txt", &fake.run(&["queue"]).ok());
    let json = fake.run(&["queue", "--json"]).ok();
    golden("queue.json", &json);
    let parsed: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(parsed.len(), 4);
    assert_eq!(parsed[1]["array_tasks"], "3-9%2");
    assert!(parsed[0]["usage"].is_null() && parsed[0]["start_time"].is_null());
}

#[test]
fn nothing_is_an_empty_table_and_an_empty_array() {
    let fake = Fake::answering(ToClient::Lines {
        lines: vec![],
        last: true,
    });
    assert_eq!(fake.run(&["queue"]).ok().lines().count(), 1);
    let fake = Fake::answering(ToClient::Jobs {
        jobs: vec![],
        last: true,
    });
    assert_eq!(fake.run(&["queue", "--json"]).ok(), "[]\n");
}

#[test]
fn filters_reach_the_controller() {
    let fake = Fake::answering(ToClient::Jobs {
        jobs: vec![],
        last: true,
    });
    fake.run(&[
        "queue",
        "-u",
        "alice,bob",
        "-t",
        "pd",
        "-p",
        "batch",
        "-n",
        "x",
        "-r",
        "-j",
        "12,13_4",
        "--json",
    ])
    .ok();
    fake.run(&["history", "-S", "2026-01-31T12:00", "--limit", "5", "7"])
        .ok();
    fake.run(&["history"]).ok();
    let [
        Request::Queue(queue),
        Request::History(named),
        Request::History(open),
    ] = &fake.seen()[..]
    else {
        panic!("{:?}", fake.seen())
    };
    assert_eq!(queue.users, ["alice", "bob"]);
    assert_eq!(queue.states, [JobState::Pending]);
    assert_eq!(
        (
            queue.partitions.len(),
            queue.names.len(),
            queue.jobs.len(),
            queue.expand_arrays
        ),
        (1, 1, 2, true)
    );
    assert_eq!((named.since, named.limit), (Some(at(0)), 5));
    assert_eq!(
        named.jobs,
        [Selector {
            job: 7,
            indices: None
        }]
    );
    assert_eq!(
        *open,
        Filter {
            limit: 51,
            ..Filter::default()
        }
    );
}

#[test]
fn one_job_in_words_and_json() {
    let fake = Fake::answering(ToClient::Jobs {
        jobs: vec![ended()],
        last: true,
    });
    golden("job.txt", &fake.run(&["job", "7"]).ok());
    golden("job.json", &fake.run(&["job", "7", "--json"]).ok());
    golden("history.txt", &fake.run(&["history", "7"]).ok());
}

#[test]
fn a_history_that_is_cut_says_so() {
    let rows = |count: u32| {
        Fake::answering(ToClient::Jobs {
            jobs: (1..=count).map(|id| job(id, "x", "COMPLETED")).collect(),
            last: true,
        })
    };
    let cut = rows(51).run(&["history"]);
    assert_eq!((cut.code, cut.out.lines().count()), (0, 51));
    assert_eq!(
        cut.err,
        "hpc history: 50 rows are shown; --limit 0 shows all\n"
    );
    assert_eq!(rows(50).run(&["history"]).ok().lines().count(), 51);
    assert_eq!(
        rows(60)
            .run(&["history", "--limit", "0"])
            .ok()
            .lines()
            .count(),
        61
    );
}

#[test]
fn what_people_wrote_cannot_steer_the_terminal_or_forge_lines() {
    let hostile = JobView {
        comment: Some("x\nState:        COMPLETED".into()),
        command: "\u{1b}]0;owned\u{7}".into(),
        ..job(7, "\u{1b}[2J\u{9b}1m", "FAILED")
    };
    let fake = Fake::answering(ToClient::Jobs {
        jobs: vec![hostile],
        last: true,
    });
    let shown = fake.run(&["job", "7"]).ok();
    assert!(
        shown.contains("Name:         ?[2J?1m\n")
            && shown.contains("Command:      ?]0;owned?\n")
            && shown.contains("Comment:      x?State:        COMPLETED\n"),
        "{shown}"
    );
}

#[test]
fn a_script_comes_back_byte_for_byte() {
    let fake = Fake::answering(ToClient::Script(b"#!/bin/sh\necho \xc3\xa9\n".to_vec()));
    assert_eq!(
        fake.run(&["job", "7", "--script"]).ok(),
        "#!/bin/sh\necho é\n"
    );
}

#[test]
fn nodes_partitions_and_status() {
    let gpu = |index, free| GpuView {
        index,
        kind: "NVIDIA RTX 4090".into(),
        uuid: format!("GPU-{index}"),
        memory_mib: 24_576,
        free,
    };
    let busy = NodeView {
        name: "ws1".into(),
        state: "MIXED".into(),
        responding: true,
        reason: None,
        cpus: 32,
        cpus_free: 20,
        memory_mib: 131_072,
        memory_free_mib: 100_000,
        gpus: vec![gpu(0, false), gpu(1, true)],
        numa_nodes: 2,
        jobs: vec!["12_1".into(), "9".into()],
        version: "0.1.0".into(),
        uid: 1000,
        remarks: vec!["memory is not enforced: no cgroup was delegated".into()],
    };
    let lost = NodeView {
        name: "ws2".into(),
        state: "DOWN".into(),
        responding: false,
        reason: Some("silent since noon".into()),
        gpus: vec![],
        jobs: vec![],
        remarks: vec![],
        ..busy.clone()
    };
    let declared = NodeView {
        name: "ws3".into(),
        numa_nodes: 1,
        gpus: vec![GpuView {
            kind: "gpu".into(),
            uuid: String::new(),
            memory_mib: 0,
            ..gpu(0, true)
        }],
        ..busy.clone()
    };
    let link = LinkView {
        node: "ws1".into(),
        path: "quic".into(),
        address: Some("10.0.0.7:51234".into()),
        certificate_until: Some(at(86_400)),
    };
    let said = |name: &str, settings: &[(&str, &str)]| RuleView {
        noun: Noun::Node,
        name: name.into(),
        settings: settings
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect(),
    };
    let rules = vec![
        said(
            "ws1",
            &[
                ("features", "fast"),
                ("switch", "core/rack1"),
                ("failures", "1.93"),
            ],
        ),
        said("ws3", &[("features", "none"), ("switch", "none")]),
    ];
    let fake = Fake::new(move |request, talk| match request {
        Request::Links => talk.say(&ToClient::Links(vec![link.clone()])),
        Request::Rules { .. } => talk.say(&ToClient::Rules(rules.clone())),
        _ => talk.say(&ToClient::Nodes(vec![
            busy.clone(),
            lost.clone(),
            declared.clone(),
        ])),
    });
    golden("nodes.txt", &fake.run(&["nodes"]).ok());
    golden("nodes.json", &fake.run(&["nodes", "--json"]).ok());
    golden("node.txt", &fake.run(&["node", "ws1"]).ok());
    let ran = fake.run(&["node", "ws3"]).ok();
    assert!(
        ran.contains("GPU:          0 gpu, free\n") && ran.contains("in 1 NUMA node,"),
        "{ran}"
    );
    let unknown = fake.run(&["node", "ws9"]);
    assert_eq!(unknown.code, 1);
    assert_eq!(
        unknown.err,
        "hpc node: error: there is no node ws9 [HPC-E0011]\n  the nodes are ws[1-3]\n"
    );

    let nodes = vec!["ws1".into(), "ws2".into()];
    let batch = PartitionView {
        name: "batch".into(),
        default: true,
        state: "UP".into(),
        max_time_s: Some(86_400),
        nodes,
    };
    let endless = PartitionView {
        name: "endless".into(),
        default: false,
        max_time_s: None,
        nodes: vec![],
        ..batch.clone()
    };
    let fake = Fake::answering(ToClient::Partitions(vec![batch, endless]));
    golden("partitions.txt", &fake.run(&["partitions"]).ok());
    golden("partitions.json", &fake.run(&["partitions", "--json"]).ok());

    let status = StatusView {
        cluster: "lab".into(),
        version: "0.1.0".into(),
        pid: 4711,
        state_dir: "/srv/lab".into(),
        socket: "/srv/lab/hpc.sock".into(),
        started: at(0),
        now: at(3723),
        nodes: (2, 1),
        cpus: (64, 20),
        jobs_pending: 2,
        jobs_running: 1,
        elements_pending: 7,
        next_job: 14,
    };
    let fake = Fake::answering(ToClient::Status(Box::new(status)));
    golden("status.txt", &fake.run(&["status"]).ok());
    golden("status.json", &fake.run(&["status", "--json"]).ok());
}

fn rule(noun: Noun, name: &str, text: &str) -> RuleView {
    let said = text
        .split_whitespace()
        .filter_map(|one| one.split_once('='));
    let said = said.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut settings = Rules::unsaid(noun, name);
    for (key, value) in said {
        match settings.iter_mut().find(|(known, _)| *known == key) {
            Some(known) => known.1 = value,
            None => settings.push((key, value)),
        }
    }
    RuleView {
        noun,
        name: name.to_owned(),
        settings,
    }
}

#[test]
fn rules_and_limits() {
    let all = [
        rule(Noun::Partition, "batch", "default=yes max-time=1-00:00:00"),
        rule(Noun::Partition, "gpu", "nodes=ws[1-4] state=down tier=2"),
        rule(Noun::Account, "optics", "parent=physics group-gpus=4"),
        rule(Noun::Account, "root", ""),
        rule(Noun::User, "ann", "account=optics shares=2"),
        rule(
            Noun::Qos,
            "normal",
            "max-jobs-per-user=4 group-memory=2048M",
        ),
    ];
    let key = KeyView {
        key: "5f1c".into(),
        role: "user".into(),
        name: "ann".into(),
        joined: at(0),
        from: "10.0.0.7".into(),
        invited_by: "root".into(),
        expires: at(86_400),
    };
    let fake = Fake::new(move |request, talk| match request {
        Request::Rules { noun } => {
            let asked = all.iter().filter(|view| noun == Some(view.noun));
            talk.say(&ToClient::Rules(asked.cloned().collect()));
        }
        _ => talk.say(&ToClient::Members(Box::new(MembersView {
            keys: vec![key.clone()],
            invitations: vec![],
        }))),
    });
    let (mut tables, mut objects) = (String::new(), String::new());
    // Nodes have a command of their own.
    for noun in Noun::ALL.into_iter().filter(|noun| *noun != Noun::Node) {
        for words in [&["list"][..], &["show", "ann"], &["show", "normal"]] {
            let words = [&[noun.command()], words].concat();
            let ran = fake.run(&words);
            if ran.code == 0 {
                tables.push_str(&format!("$ hpc {}\n{}", words.join(" "), ran.ok()));
                let ran = fake.run(&[&words[..], &["--json"]].concat());
                objects.push_str(&ran.ok());
            } else {
                assert_eq!(ran.code, 1);
                assert!(ran.err.contains("there are: "), "{}", ran.err);
            }
        }
    }
    golden("rules.txt", &tables);
    golden("rules.json", &objects);

    let limit = |kind, value, level, used| LimitView {
        kind,
        value: Some(value),
        level: Some(level),
        used,
    };
    let none = LimitView {
        kind: LimitKind::MaxSubmitPerUser,
        value: None,
        level: None,
        used: None,
    };
    let view = |used| LimitsView {
        user: "ann".into(),
        account: "optics".into(),
        partition: "batch".into(),
        qos: "normal".into(),
        limits: vec![
            limit(
                LimitKind::MaxJobsPerUser,
                3,
                Level::Qos("normal".into()),
                used,
            ),
            none.clone(),
            limit(
                LimitKind::GroupMemory,
                2048,
                Level::Account("optics".into()),
                None,
            ),
        ],
    };
    let unused = Fake::answering(ToClient::Limits(Box::new(view(None))));
    let used = Fake::answering(ToClient::Limits(Box::new(view(Some(2)))));
    let (mut tables, mut objects) = (String::new(), String::new());
    for fake in [unused, used] {
        tables.push_str(&fake.run(&["limits", "-A", "optics"]).ok());
        objects.push_str(&fake.run(&["limits", "--json"]).ok());
        assert!(matches!(
            &fake.seen()[0],
            Request::Limits { user: None, account: Some(account), partition: None, qos: None }
                if account == "optics"
        ));
    }
    golden("limits.txt", &tables);
    golden("limits.json", &objects);
}

#[test]
fn a_closed_pipe_is_no_error_message() {
    let line = lines().remove(0);
    let fake = in_parts(vec![], vec![line; 5000]);
    let line = format!(
        "HPC_SOCKET={}/hpc.sock {} queue | head -1",
        fake.dir().display(),
        env!("CARGO_BIN_EXE_hpc")
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &line])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(output.stdout.starts_with(b"JOBID"));
}

#[test]
fn the_past_is_replayed_under_another_policy() {
    let ran = |id, user: &str, cpus, limit_s, (submit, start, end)| JobView {
        user: user.into(),
        submit_time: at(submit),
        start_time: Some(at(start)),
        end_time: Some(at(end)),
        time_limit_s: Some(limit_s),
        nodes: vec!["ws1".into()],
        ntasks: cpus,
        cpus,
        memory_mib: 64,
        ..job(id, "job", "COMPLETED")
    };
    // In strict order the third waited for the second, which waited for the first.
    let rows = vec![
        ran(3, "bob", 1, 600, (20, 700, 1300)),
        ran(2, "ann", 4, 3600, (10, 600, 700)),
        ran(1, "ann", 3, 3600, (0, 0, 600)),
        job(4, "never", "CANCELLED"),
    ];
    let node = NodeView {
        name: "ws1".into(),
        state: "IDLE".into(),
        responding: true,
        reason: None,
        cpus: 4,
        cpus_free: 4,
        memory_mib: 4096,
        memory_free_mib: 4096,
        gpus: vec![],
        numa_nodes: 1,
        jobs: vec![],
        version: "0.1.0".into(),
        uid: 0,
        remarks: vec![],
    };
    let partition = PartitionView {
        name: "batch".into(),
        default: true,
        state: "UP".into(),
        max_time_s: Some(86_400),
        nodes: vec!["ws1".into()],
    };
    let fake = Fake::new(move |request, talk| {
        let answer = match request {
            Request::History(_) => ToClient::Jobs {
                jobs: rows.clone(),
                last: true,
            },
            Request::Nodes => ToClient::Nodes(vec![node.clone()]),
            Request::Partitions => ToClient::Partitions(vec![partition.clone()]),
            other => panic!("{other:?}"),
        };
        talk.say(&answer);
    });
    std::fs::write(fake.dir().join("new.toml"), "[qos.normal]\npriority = 1\n").unwrap();
    let words = [
        "sim",
        "--history",
        "--policy",
        "easy",
        "--qos-file",
        "new.toml",
    ];
    let ran = fake.run(&words);
    assert_eq!(ran.code, 0, "{ran:?}");
    let told = "rows of the history left out: 1, of jobs that never ran or only copied files";
    assert!(ran.err.contains(told), "{}", ran.err);
    let table: Vec<Vec<&str>> = ran
        .out
        .lines()
        .take(4)
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(table[1], ["(all)", "3", "7:03", "3:23", "3:40", "less"]);
    // What fills the gap ends 20 s after the first has, sooner than it might.
    assert_eq!(table[2], ["ann", "2", "4:55", "5:05", "0:10", "more"]);
    assert_eq!(table[3], ["bob", "1", "11:20", "0:00", "11:20", "less"]);
    // And as it was: nobody went before anybody.
    let strict = "[policy]\nrule = \"fcfs\"\nage = 0\nfair-share = 0\npartition = 0\nqos = 0\n";
    std::fs::write(fake.dir().join("new.toml"), strict).unwrap();
    let ran = fake.run(&["sim", "--history", "--rules", "new.toml", "--json"]);
    let figures: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let all = &figures["changes"][0];
    assert_eq!(all["wait_mean_before_s"], all["wait_mean_after_s"]);
}
