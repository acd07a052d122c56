//! What the fuzzer starts from: every message, record and grammar at least once, made from the types themselves.
//!
//! `tests/fuzz_corpus.rs` checks that each is still understood and writes them to `corpus/`. The numbers in front
//! are those that `checks.rs` chooses by.

use super::fixtures;
use hpc::cluster::changes::Counters;
use hpc::model::allocation::NodeShare;
use hpc::model::audit::AuditRecord;
use hpc::model::history::{ElementRow, NeverStarted};
use hpc::model::identity::{self, Grant, Identity, Invitation, KnownKey};
use hpc::model::ids::{BlobId, JobId, SlotId, SlotKey, StepId};
use hpc::model::index_set::IndexSet;
use hpc::model::job::{
    ExitStatus, JobSpec, JobState, KillCause, Launch, Owner, Reason, Surroundings, Usage,
};
use hpc::model::join_line::{Fingerprint, JoinLine, Secret};
use hpc::model::limits::{Level, LimitKind};
use hpc::model::node::Inventory;
use hpc::model::refusal::{Code, Refusal};
use hpc::model::resource::{GpuCount, GpuRequest, MemoryRequest};
use hpc::model::rules::{Act, Noun, RuleChange, Setting};
use hpc::model::spawn::{SpawnCommand, SpawnRequest};
use hpc::model::step::{Mpi, StepOption, StepOptions};
use hpc::model::time::Timestamp;
use hpc::model::topology::{Gpu, LogicalCpu, NumaNode, Topology};
use hpc::sim::gpu::{NODES_HEADER, TASKS_HEADER};
use hpc::steps::Entry;
use hpc::steps::journal::{self, Opened, Record};
use hpc::store::bytes as stored;
use hpc::wire::client::{
    Filter, FromClient, JobChange, NodeChange, OutputKind, Request, Selector, StepRequest, ToClient,
};
use hpc::wire::codec;
use hpc::wire::hello::{Hello, HelloReply, Role, VERSION};
use hpc::wire::join::{Credential, JoinReply, JoinRequest, Membership};
use hpc::wire::peer::{Collective, Group, Part, PeerFrame, PeerMessage, StepFailure};
use hpc::wire::pmix::{
    Blob, FromPmix, MeetMembers, NameEntry, NameFound, NameRequest, Names, PmixNode, PmixStart,
    Purpose, ToPmix, Variables,
};
use hpc::wire::shepherd::{Account, Assignment, FromShepherd, Site, ToShepherd};
use hpc::wire::view::{
    ElementsView, GpuView, JobLine, JobView, LimitView, LimitsView, NodeView, PartitionView,
    PlacementView, RuleView, StatusView, StepView, UsageView,
};
use hpc::wire::worker::{
    FromSlot, FromWorker, LogChunk, OpenStream, SignalTarget, SlotLaunch, StepEnd, StepLaunch,
    StepOrder, StreamSource, ToSlot, ToWorker,
};
use serde::Serialize;

const AT: Timestamp = Timestamp(1_790_000_000_000);

/// A seed: the target it is for, and its bytes.
pub(crate) type Seed = (&'static str, Vec<u8>);

/// All of them, always in the same order.
pub(crate) fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |target: &'static str, seed: Vec<u8>| seeds.push((target, seed));
    for (kind, payload) in client() {
        add("client", numbered(kind, &payload));
    }
    for (kind, payload) in worker() {
        add("worker", numbered(kind, &payload));
    }
    frames().into_iter().for_each(|seed| add("frames", seed));
    for text in SCRIPTS {
        add("script", text.as_bytes().to_vec());
    }
    values().into_iter().for_each(|seed| add("values", seed));
    records().into_iter().for_each(|seed| add("records", seed));
    journals().into_iter().for_each(|seed| add("journal", seed));
    for text in CONFIGS {
        add("config", text.as_bytes().to_vec());
    }
    for text in TRACES {
        add("trace", numbered(4, text.as_bytes()));
    }
    for rows in GPU_TRACES {
        add("gpu_trace", gpu_trace(rows));
    }
    pmi().into_iter().for_each(|seed| add("pmi", seed));
    seeds
}

/// Traces for four processors.
const TRACES: [&str; 2] = [
    "; MaxProcs: 4\n1 0 -1 100 1 -1 -1 1 100\n2 10 -1 50 4 -1 -1 -1 80\n3 20.5 -1 5 2 -1 -1 2 60 -1 1 7 1 1 1 1 -1 -1\n",
    "1 0 0 9 2\n2 0 0 9 2\n3 0 0 9 3 0 0 0 0 0 1 5\n4 1 0 2 1 0 0 0 30 0 1 5\n5 2 0 2 1 0 0 0 30 0 1 5\n6 3 0 90 1 0 0 0 99 0 1 5\n",
];

/// Rows of nodes and tasks.
const GPU_TRACES: [(&str, &str); 2] = [
    (
        "n0,32000,262144,0,\nn1,104000,524288,2,T4\nn2,96000,393216,8,G2\n",
        "t0,12000,16384,1,1000,,LS,Running,0,125,0\nt1,6000,12288,1,460,T4|G2,BE,Pending,4,,\n\
         t2,4000,8192,0,0,,LS,Failed,1,2,1\nt3,64000,262144,8,1000,G2,LS,Running,5,6,5\n",
    ),
    (
        "n,0,0,1,\nn,4000,64,3,A\n",
        "t,0,0,1,1,,,,,,\nt,1500,16,1,999,A,,,,,\nt,1,1,2,1000,B|A,,,,,\n",
    ),
];

fn gpu_trace((nodes, tasks): (&str, &str)) -> Vec<u8> {
    format!("{NODES_HEADER}\n{nodes}---\n{TASKS_HEADER}\n{tasks}").into_bytes()
}

/// What two ranks of one node may say: whose it is, and the text; other words than `0` and `1` come from the shell.
const PMI_TALKS: [&[(&str, &str)]; 5] = [
    &[
        (
            "0",
            "cmd=init pmi_version=1 pmi_subversion=1\ncmd=get_maxes\ncmd=get_appnum\n",
        ),
        (
            "1",
            "cmd=init pmi_version=1 pmi_subversion=1\ncmd=get_my_kvsname\n",
        ),
        (
            "1",
            "cmd=get_universe_size\ncmd=get kvsname=k key=PMI_process_mapping\n",
        ),
        ("0", "cmd=put kvsname=k key=a value=b c\ncmd=barrier_in\n"),
        ("1", "cmd=barrier_in\n"),
        ("fenced", "\x01\x03\0ab c\x01\x01\0zy"),
        (
            "1",
            "cmd=get kvsname=k key=z\ncmd=get kvsname=x key=a\ncmd=finalize\n",
        ),
        ("closed 1", ""),
        ("0", "cmd=abort exitcode=3 message=no more\n"),
    ],
    &[
        (
            "0",
            "cmd=init pmi_version=2 pmi_subversion=0\n38    cmd=fullinit;pmirank=0;threaded=FALSE;",
        ),
        (
            "1",
            "cmd=init pmi_version=2 pmi_subversion=0\n    14cmd=job-getid;",
        ),
        ("1", "45    cmd=info-getnodeattr;thrid=7;key=s;wait=TRUE;"),
        ("0", "41    cmd=info-putnodeattr;key=s;value=a;;b\\;c;"),
        ("0", "44    cmd=info-getjobattr;key=PMI_process_mapping;"),
        ("0", "27    cmd=kvs-put;key=a;value=;;;14    cmd=kvs-fence;"),
        ("1", "14    cmd=kvs-fence;"),
        ("fenced", "\x01\x01\0a;"),
        (
            "0",
            "34    cmd=kvs-get;jobid=k;srcid=1;key=a;13    cmd=finalize;",
        ),
        ("1", "31    cmd=abort;isworld=TRUE;msg=x;;;"),
    ],
    &[
        (
            "0",
            "cmd=init pmi_version=1 pmi_subversion=1\ncmd=publish_name service=s port=p q\n",
        ),
        ("found", "ignored"),
        (
            "0",
            "cmd=lookup_name service=s\ncmd=unpublish_name service=s\n",
        ),
        ("not found 1", ""),
        (
            "0",
            "mcmd=spawn\nnprocs=1\ntotspawns=1\nspawnssofar=1\nendcmd\ncmd=getbyidx kvsname=k idx=0\n",
        ),
    ],
    &[
        (
            "0",
            "cmd=init pmi_version=2 pmi_subversion=0\n23    cmd=name-lookup;name=s;",
        ),
        ("found", "tag#0$a;b$"),
        (
            "0",
            "31    cmd=name-publish;name=s;port=p;17    cmd=spawn;argc=0;",
        ),
        ("closed 0", ""),
    ],
    &[
        (
            "1",
            "cmd=init pmi_version=1 pmi_subversion=1\ncmd=barrier_in\n",
        ),
        (
            "0",
            "cmd=init pmi_version=1 pmi_subversion=1\ncmd=finalize\n",
        ),
        (
            "0",
            "cmd=init pmi_version=2 pmi_subversion=0\n14    cmd=kvs-fence;",
        ),
        ("fenced", ""),
        ("1", "cmd=barrier_in\n"),
        ("fenced", "\x02"),
    ],
];

fn pmi() -> Vec<Vec<u8>> {
    let talk = |talk: &&[(&str, &str)]| {
        let mut seed = vec![0, 7];
        for (who, text) in *talk {
            let length = u8::try_from(text.len()).expect("short");
            match *who {
                "0" => seed.extend([0, length]),
                "1" => seed.extend([1, length]),
                "closed 0" => seed.extend([2, length]),
                "closed 1" => seed.extend([3, length]),
                "fenced" => seed.extend([4, length]),
                "not found 1" => seed.extend([6, 1]),
                "found" => seed.extend([8, length]),
                other => panic!("nobody is {other}"),
            }
            seed.extend(text.as_bytes());
        }
        seed
    };
    let mut seeds: Vec<Vec<u8>> = PMI_TALKS.iter().map(talk).collect();
    seeds.push(numbered(1, b"\x01\x01\0kv\x03\x00\x00key"));
    seeds.push(numbered(2, b"cmd=initack pmiid=3\n"));
    seeds
}

fn numbered(kind: u8, rest: &[u8]) -> Vec<u8> {
    [&[kind], rest].concat()
}

fn payload<T: Serialize>(value: &T) -> Vec<u8> {
    codec::encode(value)[4..].to_vec()
}

// ---- messages -----------------------------------------------------------------------------------------------

fn client() -> Vec<(u8, Vec<u8>)> {
    let mut seeds = vec![
        (0, payload(&Hello::new(Role::Client))),
        (0, payload(&Hello::new(Role::Worker))),
        (0, payload(&Hello::new(Role::Renew))),
        (5, payload(&join_request())),
        (6, payload(&JoinReply::Refused(refusal()))),
        (6, payload(&JoinReply::Joined(Box::new(membership())))),
        (7, payload(&credential())),
    ];
    let replies = [
        HelloReply::Welcome {
            version: VERSION,
            server: "0.1.0".to_owned(),
        },
        HelloReply::Refused(refusal()),
    ];
    seeds.extend(replies.iter().map(|reply| (1, payload(reply))));
    seeds.extend(requests().iter().map(|request| (2, payload(request))));
    seeds.extend(
        member_requests()
            .iter()
            .map(|request| (2, payload(request))),
    );
    seeds.extend(from_client().iter().map(|message| (3, payload(message))));
    seeds.extend(to_client().iter().map(|message| (4, payload(message))));
    seeds
}

fn join_request() -> JoinRequest {
    JoinRequest {
        secret: [7; 16],
        name: "ws2".to_owned(),
    }
}

fn membership() -> Membership {
    Membership {
        cluster: "lab".to_owned(),
        identity: known_key().identity,
        certificate: vec![0x30, 0x82, 0x01],
        authority: vec![0x30, 0x82, 0x02],
        addresses: vec!["10.0.0.5:7420".to_owned()],
        now: AT,
        expires: AT,
    }
}

fn credential() -> Credential {
    Credential {
        key: key(),
        proof: [9; 32],
    }
}

fn known_key() -> KnownKey {
    KnownKey {
        identity: Identity::User {
            name: "ada".to_owned(),
            role: identity::Role::Operator,
        },
        joined: AT,
        expires: AT,
        from: "10.0.0.7".to_owned(),
        invited_by: "root".to_owned(),
    }
}

fn invitation() -> Invitation {
    Invitation {
        grant: Grant::Worker,
        by: "root".to_owned(),
        expires: AT,
        uses_left: 3,
    }
}

fn audit_line() -> AuditRecord {
    AuditRecord {
        at: AT,
        who: "ada".to_owned(),
        from: "local".to_owned(),
        what: "cancel 12".to_owned(),
        refused: Some(Code::NotPermitted),
    }
}

fn refusal() -> Refusal {
    Refusal::new(Code::Impossible, "no node has 99 cpus", "ask for less")
}

fn selector() -> Selector {
    Selector {
        job: 12,
        indices: "1-3,7".to_owned().try_into().ok(),
    }
}

fn filter() -> Filter {
    Filter {
        jobs: vec![selector()],
        users: vec!["ada".to_owned()],
        states: vec![JobState::Running],
        partitions: vec!["batch".to_owned()],
        names: vec!["train".to_owned()],
        since: Some(AT),
        until: Some(AT),
        expand_arrays: true,
        limit: 10,
    }
}

/// A job that says something in every field.
fn full_spec() -> JobSpec {
    let mut spec = fixtures::spec("train", Some("0-99:3,200%5"));
    spec.dependency = "afterok:12:13_7,after:14+30"
        .to_owned()
        .try_into()
        .ok()
        .map(Box::new);
    spec.signal = "B:USR1@120".to_owned().try_into().ok();
    spec.begin = Some(AT);
    spec.error = Some("%x.%4t.err".into());
    spec.input = Some("/dev/null".into());
    spec.comment = Some("third try".into());
    let request = std::sync::Arc::make_mut(&mut spec.request);
    request.nodes_max = Some(2);
    request.ntasks = Some(8);
    request.ntasks_per_node = Some(4);
    request.cpus_per_task = Some(2);
    request.memory = MemoryRequest::PerCpu(2048);
    request.gpus = GpuRequest::Total(GpuCount {
        kind: Some("a100".to_owned()),
        count: 2,
    });
    request.nodelist = vec!["n1".to_owned()];
    request.exclude = vec!["n2".to_owned()];
    request.wishes.constraint = Some("avx512".to_owned());
    spec
}

fn surroundings() -> Surroundings {
    Surroundings {
        environment: vec![(b"PATH".to_vec(), b"/bin".to_vec())],
        umask: 0o022,
        limits: vec![(7, 1024)],
    }
}

fn blobs() -> Vec<(BlobId, Vec<u8>)> {
    let blob = |bytes: &[u8]| (BlobId::of(bytes), bytes.to_vec());
    vec![blob(b"#!/bin/sh\n"), blob(&payload(&surroundings()))]
}

fn requests() -> Vec<Request> {
    let submit = |spec: JobSpec, dry_run| Request::Submit {
        spec: Box::new(spec),
        blobs: blobs(),
        dry_run,
    };
    let launched = |launch| JobSpec {
        launch,
        ..fixtures::spec("a", None)
    };
    let arguments = BlobId([1; 32]);
    vec![
        Request::Status,
        submit(full_spec(), false),
        submit(launched(Launch::Command { arguments }), true),
        submit(launched(Launch::Tasks { arguments }), false),
        submit(launched(Launch::Hold), false),
        Request::Cancel { filter: filter() },
        Request::Signal {
            filter: filter(),
            signal: 15,
            to: SignalTarget::All,
        },
        Request::Hold(filter()),
        Request::Release(Filter::default()),
        Request::Requeue {
            filter: filter(),
            hold: true,
        },
        Request::Suspend {
            filter: filter(),
            stop: true,
        },
        Request::Update {
            filter: filter(),
            changes: vec![
                JobChange::TimeLimit(Some(60)),
                JobChange::TimeLimitBy(-60),
                JobChange::Name("a".to_owned()),
                JobChange::Partition("b".to_owned()),
                JobChange::Comment("c".to_owned()),
                JobChange::Nice(-5),
                JobChange::Begin(AT),
                JobChange::Dependency("singleton".to_owned().try_into().ok()),
                JobChange::ArrayThrottle(3),
            ],
        },
        Request::Queue(Filter::default()),
        Request::QueueLines(Filter::default()),
        Request::Job {
            selector: selector(),
        },
        Request::History(filter()),
        Request::Nodes,
        Request::Node {
            name: "n1".to_owned(),
            change: NodeChange::Drain {
                reason: "fan".to_owned(),
            },
        },
        Request::Partitions,
        Request::Wait(vec![selector(), selector()]),
        Request::Output {
            selector: selector(),
            kind: OutputKind::Stderr,
            offset: 4096,
            follow: true,
        },
        Request::Attach {
            job: 12,
            step: StepId(0),
            offset: 0,
            owner: true,
        },
        Request::AttachNodes {
            job: 12,
            step: StepId(1),
            offsets: vec![0, 1 << 33],
            owner: false,
            follow: true,
        },
        Request::HoldAllocation { job: 12 },
        Request::EndAllocation { job: 12, code: 3 },
        Request::StartStep(Box::new(StepRequest {
            raw_job: 12,
            arguments: vec!["hostname".to_owned()],
            environment: surroundings().environment,
            work_dir: "/tmp".to_owned(),
            ntasks: Some(2),
            nodes: Some(1),
            cpus_per_task: Some(1),
        })),
        Request::Backup,
        Request::Shutdown { keep_jobs: true },
        Request::Script { job: 12 },
    ]
}

fn member_requests() -> Vec<Request> {
    vec![
        Request::Links,
        Request::Invite {
            grant: Grant::User {
                name: "ada".to_owned(),
                role: identity::Role::Viewer,
            },
            ttl_s: 3600,
            uses: 1,
        },
        Request::Members,
        Request::RevokeUser {
            name: "ada".to_owned(),
        },
        Request::Audit { limit: 50 },
        Request::Withdraw {
            grant: Grant::Worker,
        },
        Request::ChangeRule(RuleChange {
            noun: Noun::Qos,
            act: Act::Set,
            name: "normal".to_owned(),
            settings: vec![("max-jobs-per-user".to_owned(), "1".to_owned())],
        }),
        Request::Rules {
            noun: Some(Noun::User),
        },
        Request::Limits {
            user: None,
            account: Some("physics".to_owned()),
            partition: None,
            qos: Some("normal".to_owned()),
        },
    ]
}

fn from_client() -> Vec<FromClient> {
    vec![
        FromClient::Taken { offset: 1 << 40 },
        FromClient::Stdin {
            offset: 7,
            bytes: b"input\n".to_vec(),
            end: true,
        },
        FromClient::Signal(2),
        FromClient::Cancel,
        FromClient::NodeTaken {
            node: 3,
            offset: 1 << 33,
        },
    ]
}

fn usage_view() -> UsageView {
    UsageView {
        cpu_s: 1.5,
        max_rss_mib: 20.25,
        energy_j: Some(3.0),
        read_bytes: 1,
        write_bytes: 2,
        wall_s: 0.004,
    }
}

fn job_line() -> JobLine {
    JobLine {
        id: 12,
        array_task: None,
        array_tasks: Some("4-9%2".to_owned()),
        partition: "batch".into(),
        name: "sweep".into(),
        user: "alice".to_owned(),
        state: JobState::Running,
        run_s: 125,
        time_limit_s: Some(3600),
        nodes: 2,
        cpus: 8,
        place: "ws[1-2]".to_owned(),
    }
}

fn job_view() -> JobView {
    let text = |text: &str| Some(text.to_owned());
    JobView {
        id: 12,
        array_task: Some(3),
        array_tasks: text("4-9%2"),
        raw_id: 15,
        name: "train".to_owned(),
        user: "ada".to_owned(),
        uid: 1000,
        gid: 1000,
        account: "default".to_owned(),
        qos: "normal".to_owned(),
        partition: "batch".to_owned(),
        state: "FAILED".to_owned(),
        reason: text("NonZeroExitCode"),
        reason_detail: text("it ended with 3"),
        exit_code: Some(3),
        signal: Some(9),
        cancelled_by: Some(0),
        submit_time: AT,
        start_time: Some(AT),
        end_time: Some(AT),
        expected_start: Some(AT),
        begin_time: Some(AT),
        time_limit_s: Some(60),
        nodes: vec!["n1".to_owned()],
        nodes_requested: 1,
        ntasks: 8,
        cpus: 16,
        cpus_per_task: 2,
        memory_mib: 4096,
        gpus: 2,
        restarts: 1,
        dependency: text("afterok:11"),
        work_dir: "/home/ada".to_owned(),
        stdout_path: text("/home/ada/12.out"),
        stderr_path: text("/home/ada/12.err"),
        command: "train.sh".to_owned(),
        comment: text("third try"),
        priority: -4,
        elements: Some(ElementsView {
            total: 10,
            pending: 4,
            running: 2,
            completed: 3,
            unsuccessful: 1,
        }),
        placement: vec![PlacementView {
            node: "n1".to_owned(),
            cpus: "0-3".to_owned(),
            memory_mib: 4096,
            gpus: vec![0, 1],
            tasks: 8,
        }],
        steps: vec![StepView {
            id: "batch".to_owned(),
            name: "train.sh".to_owned(),
            state: "FAILED".to_owned(),
            exit_code: Some(3),
            signal: None,
            ntasks: 1,
            start_time: Some(AT),
            end_time: Some(AT),
            usage: Some(usage_view()),
        }],
        usage: Some(usage_view()),
    }
}

fn node_view() -> NodeView {
    NodeView {
        name: "n1".to_owned(),
        state: "DRAINING".to_owned(),
        responding: true,
        reason: Some("fan".to_owned()),
        cpus: 16,
        cpus_free: 3,
        memory_mib: 64_000,
        memory_free_mib: 1_000,
        gpus: vec![GpuView {
            index: 0,
            kind: "a100".to_owned(),
            uuid: "GPU-1".to_owned(),
            memory_mib: 40_000,
            free: false,
        }],
        numa_nodes: 2,
        jobs: vec!["12_3".to_owned()],
        version: "0.1.0".to_owned(),
        uid: 0,
        remarks: vec!["no cgroup".to_owned()],
    }
}

fn to_client() -> Vec<ToClient> {
    vec![
        ToClient::Refused(refusal()),
        ToClient::Done {
            count: 2,
            notes: vec!["job 3 has ended".to_owned()],
        },
        ToClient::Submitted { job: 12 },
        ToClient::WouldRun {
            text: "now, on n1".to_owned(),
        },
        ToClient::Status(Box::new(StatusView {
            cluster: "hpc".to_owned(),
            version: "0.1.0".to_owned(),
            pid: 77,
            state_dir: "/var/lib/hpc".to_owned(),
            socket: "/run/hpc/sock".to_owned(),
            started: AT,
            now: AT,
            nodes: (2, 1),
            cpus: (32, 3),
            jobs_pending: 4,
            jobs_running: 2,
            elements_pending: 1_000_000,
            next_job: 13,
        })),
        ToClient::Jobs {
            jobs: vec![job_view()],
            last: true,
        },
        ToClient::Lines {
            lines: vec![job_line()],
            last: true,
        },
        ToClient::Nodes(vec![node_view()]),
        ToClient::Partitions(vec![PartitionView {
            name: "batch".to_owned(),
            default: true,
            state: "UP".to_owned(),
            max_time_s: Some(86_400),
            nodes: vec!["n1".to_owned()],
        }]),
        ToClient::Ended {
            job: 12,
            state: JobState::Timeout,
            code: 143,
        },
        ToClient::Started {
            raw_job: 12,
            environment: vec![("A".to_owned(), "b".to_owned())],
        },
        ToClient::StepStarted { step: StepId(1) },
        ToClient::Data {
            offset: 0,
            bytes: b"output\n".to_vec(),
        },
        ToClient::DataEnd {
            error: Some("no such file".to_owned()),
        },
        ToClient::StdinTaken {
            offset: 6,
            closed: false,
        },
        ToClient::Script(b"#!/bin/sh\n".to_vec()),
        ToClient::NodeData {
            node: 1,
            offset: 1 << 33,
            bytes: b"output\n".to_vec(),
        },
        ToClient::NodeEnd {
            node: 1,
            name: "n2".to_owned(),
            error: Some("no such file".to_owned()),
        },
        ToClient::Why {
            text: "the job's shepherd was killed".to_owned(),
        },
        ToClient::OnNodes { raw_job: 12 },
        ToClient::Rules(vec![RuleView {
            noun: Noun::Account,
            name: "physics".to_owned(),
            settings: vec![("shares".to_owned(), "3".to_owned())],
        }]),
        ToClient::Limits(Box::new(LimitsView {
            user: "ada".to_owned(),
            account: "physics".to_owned(),
            partition: "batch".to_owned(),
            qos: "normal".to_owned(),
            limits: vec![LimitView {
                kind: LimitKind::MaxJobsPerUser,
                value: Some(1),
                level: Some(Level::Qos("normal".to_owned())),
                used: None,
            }],
        })),
    ]
}

fn worker() -> Vec<(u8, Vec<u8>)> {
    let mut seeds = Vec::new();
    seeds.extend(from_worker().iter().map(|message| (0, payload(message))));
    seeds.extend(to_worker().iter().map(|message| (1, payload(message))));
    seeds.extend(from_slot().iter().map(|report| (2, payload(report))));
    seeds.extend(to_slot().iter().map(|order| (3, payload(order))));
    seeds.extend(from_shepherd().iter().map(|message| (4, payload(message))));
    seeds.extend(to_shepherd().iter().map(|message| (5, payload(message))));
    seeds.push((6, payload(&surroundings())));
    seeds.push((7, payload(&vec!["python3".to_owned(), "-c".to_owned()])));
    seeds.extend(from_pmix().iter().map(|message| (8, payload(message))));
    seeds.extend(to_pmix().iter().map(|message| (9, payload(message))));
    seeds
}

fn pmix_name() -> NameEntry {
    NameEntry {
        key: "ocean".to_owned(),
        kind: 3,
        value: Blob(b"3613598099.0:3732544352".to_vec()),
    }
}

fn pmix_meet() -> NameRequest {
    let members = |nspace: &str, ranks: &[u32]| MeetMembers {
        nspace: nspace.to_owned(),
        ranks: ranks.to_vec(),
    };
    NameRequest::Meet {
        purpose: Purpose::Connect,
        members: vec![members("hpc-7.0.1", &[]), members("hpc-7.0.2", &[0, 1])],
        here: 1,
        all: 4,
    }
}

fn from_pmix() -> Vec<FromPmix> {
    let keys = || vec!["ocean".to_owned()];
    let names = [
        NameRequest::Publish {
            entries: vec![pmix_name()],
            range: Some(4),
            persistence: Some(4),
        },
        NameRequest::Lookup {
            keys: keys(),
            range: None,
            wait: true,
            timeout_s: Some(5),
        },
        NameRequest::Unpublish {
            keys: keys(),
            range: None,
        },
        pmix_meet(),
        NameRequest::Bring {
            outcome: Ok(Blob(b"pml.base.2.0".to_vec())),
        },
        NameRequest::Fetch {
            nspace: "hpc-7.0.2".to_owned(),
            rank: 1,
        },
    ];
    let pair = ("PMIX_RANK".to_owned(), "0".to_owned());
    let mut messages = vec![
        FromPmix::Ready {
            version: "OpenPMIx 4.2.2".to_owned(),
            environments: vec![Variables { pairs: vec![pair] }, Variables::default()],
        },
        FromPmix::Failed {
            text: "no usable PMIx library".to_owned(),
        },
        FromPmix::Fence {
            ask: 1,
            purpose: Purpose::Fence,
            everyone: true,
            ranks: Vec::new(),
            bytes: Blob(b"btl.tcp.4.1".to_vec()),
            timeout_s: None,
        },
        FromPmix::Fence {
            ask: 2,
            purpose: Purpose::Disconnect,
            everyone: false,
            ranks: vec![0, 3],
            bytes: Blob::default(),
            timeout_s: Some(60),
        },
        FromPmix::Modex {
            ask: 3,
            rank: 2,
            timeout_s: None,
        },
        FromPmix::ModexFound {
            ask: 9,
            outcome: Ok(Blob(b"pml.base.2.0".to_vec())),
        },
        FromPmix::ModexFound {
            ask: 9,
            outcome: Err(-46),
        },
        FromPmix::Connected { rank: 1 },
        FromPmix::Finalised { rank: 1 },
        FromPmix::Abort {
            rank: 1,
            status: 42,
            text: "N/A".to_owned(),
        },
        FromPmix::Log {
            rank: 0,
            error: true,
            text: "MPI_ABORT was invoked\n".to_owned(),
        },
    ];
    messages.extend(names.map(|request| FromPmix::Name {
        ask: 4,
        rank: 0,
        request,
    }));
    messages.push(FromPmix::Group {
        ask: 5,
        name: "ocean-1.0".to_owned(),
        ends: false,
        everyone: false,
        ranks: vec![0, 3],
        context: Some(4),
        bytes: Blob(b"pmix.grp.lclid".to_vec()),
        timeout_s: None,
    });
    let command = SpawnCommand {
        ranks: 2,
        arguments: vec!["./more".to_owned()],
        directory: Some("/work".to_owned()),
        hosts: vec!["n1".to_owned()],
        environment: vec![("OMPI_PARENT_PORT".to_owned(), "1.0:2".to_owned())],
    };
    messages.push(FromPmix::Spawn {
        ask: 6,
        rank: 0,
        request: Box::new(SpawnRequest {
            commands: vec![command],
            pairs: Vec::new(),
        }),
    });
    messages
}

fn to_pmix() -> Vec<ToPmix> {
    let node = |name: &str, ranks: &[u32]| PmixNode {
        name: name.to_owned(),
        aliases: vec![format!("{name}.lab")],
        ranks: ranks.to_vec(),
    };
    let start = PmixStart {
        nspace: "hpc-7.0.1".to_owned(),
        directory: "/tmp/hpc-7".to_owned(),
        libraries: vec!["/opt/pmix/lib".to_owned()],
        only_these: false,
        node_index: 1,
        nodes: vec![node("n1", &[0, 2]), node("n2", &[1, 3])],
        uid: 1000,
        gid: 1000,
        app_numbers: vec![0, 0, 1, 1],
        universe: 8,
        cpusets: vec![Some("0-3".to_owned()), None],
        visitors: None,
        parent: Some(("hpc-7.0.0".to_owned(), 3)),
    };
    let found = NameFound {
        nspace: "hpc-7.0.1".to_owned(),
        rank: 0,
        entry: pmix_name(),
    };
    vec![
        ToPmix::Start(Box::new(start)),
        ToPmix::Fenced {
            ask: 1,
            outcome: Ok(Blob(b"both".to_vec())),
        },
        ToPmix::ModexWanted { ask: 9, rank: 1 },
        ToPmix::Modexed {
            ask: 3,
            outcome: Err(-24),
        },
        ToPmix::Named {
            ask: 4,
            answer: Ok(Names { found: vec![found] }),
        },
        ToPmix::RankGone { rank: 0 },
        ToPmix::Stop,
        ToPmix::Grouped {
            ask: 5,
            context: Some(4),
            outcome: Ok(Blob(b"both".to_vec())),
        },
        ToPmix::Spawned {
            ask: 6,
            answer: Ok("hpc-7.0.2".to_owned()),
        },
    ]
}

fn key() -> SlotKey {
    SlotKey {
        job: JobId(12),
        slot: SlotId(1),
    }
}

fn owner() -> Owner {
    Owner {
        uid: 1000,
        gid: 1000,
        name: "ada".into(),
    }
}

fn inventory() -> Inventory {
    let cpu = |id| LogicalCpu {
        id,
        core: id / 2,
        package: 0,
        numa: id / 2,
        real: true,
    };
    let numa = |id: u32| NumaNode {
        id,
        cpus: vec![2 * id, 2 * id + 1],
        memory_mib: 32_000,
        distances: vec![10, 21],
    };
    Inventory {
        name: "n1".to_owned(),
        topology: Topology {
            cpus: (0..4).map(cpu).collect(),
            numa_nodes: (0..2).map(numa).collect(),
            memory_mib: 64_000,
            gpus: vec![Gpu {
                index: 0,
                kind: "a100".to_owned(),
                uuid: "GPU-1".to_owned(),
                memory_mib: 40_000,
                numa: Some(1),
                minor: Some(0),
                real: true,
            }],
        },
        boot_id: "0f2d".to_owned(),
        version: "0.1.0".to_owned(),
        uid: 0,
        remarks: vec!["no cgroup".to_owned()],
    }
}

fn launch() -> SlotLaunch {
    SlotLaunch {
        key: key(),
        spec: full_spec().into(),
        owner: owner(),
        cluster: "hpc".to_owned(),
        granted: AT,
        granted_age_ms: 3,
        nodes: vec!["n1".to_owned()],
        shares: vec![NodeShare {
            node: hpc::model::ids::NodeId(1),
            tasks: 8,
            cpus: [0_u16, 1, 2, 3].into_iter().collect(),
            memory_mib: 4096,
            gpus: vec![0],
        }],
        node_index: 0,
        time_limit_s: Some(3600),
        blobs: blobs(),
        positions: IndexSet::from_range(0, 10),
        restarts: vec![(3, 1)],
    }
}

fn step_end() -> StepEnd {
    StepEnd {
        step: StepId::BATCH,
        tasks: vec![(0, ExitStatus { code: 1, signal: 0 })],
        name: "train.sh".to_owned(),
        started: AT,
        ended: AT,
        usage: Usage {
            cpu_ms: 5,
            max_rss_kib: 1500,
            read_bytes: 1,
            write_bytes: 2,
        },
        failure: Some("no such file".to_owned()),
    }
}

fn from_worker() -> Vec<FromWorker> {
    vec![
        FromWorker::Register {
            inventory: inventory(),
            slots: vec![key()],
        },
        FromWorker::Slot {
            key: key(),
            report: FromSlot::Started {
                position: 3,
                at: AT,
            },
        },
        FromWorker::Pong { nonce: 7 },
        FromWorker::StreamData {
            stream: 1,
            offset: 0,
            bytes: b"output\n".to_vec(),
        },
        FromWorker::StreamEnd {
            stream: 1,
            error: Some("gone".to_owned()),
        },
        FromWorker::Introduce {
            inventory: inventory(),
            slots: vec![key()],
            user: Some("ada".to_owned()),
        },
        FromWorker::Leave,
        FromWorker::Beat { number: 3 },
    ]
}

fn to_worker() -> Vec<ToWorker> {
    let open = |source| {
        ToWorker::OpenStream(OpenStream {
            stream: 1,
            key: key(),
            position: 3,
            source,
            offset: 0,
            follow: true,
            owner: owner(),
        })
    };
    vec![
        ToWorker::Registered { slots: vec![key()] },
        ToWorker::Slot {
            key: key(),
            order: ToSlot::Close,
        },
        ToWorker::Ping { nonce: 7 },
        open(StreamSource::File("/home/ada/12.out".to_owned())),
        open(StreamSource::StepLog(StepId(0))),
        ToWorker::StreamTaken {
            stream: 1,
            offset: 9,
        },
        ToWorker::CloseStream { stream: 1 },
        ToWorker::Shutdown { keep_jobs: true },
        ToWorker::Credential(credential()),
        ToWorker::Terms {
            silent_after_ms: 10_000,
            lease_ms: 600_000,
        },
        ToWorker::Heard { number: 3 },
    ]
}

fn from_slot() -> Vec<FromSlot> {
    vec![
        FromSlot::Status {
            key: key(),
            queue: IndexSet::from_range(4, 10),
            current: Some((3, AT)),
        },
        FromSlot::Started {
            position: 3,
            at: AT,
        },
        FromSlot::Ended {
            report: 2,
            ends: vec![fixtures::end(1, true), fixtures::end(2, false)],
        },
        FromSlot::Retracted {
            report: 3,
            positions: IndexSet::from_range(8, 10),
        },
        FromSlot::StepEnded {
            report: 4,
            end: step_end(),
        },
        FromSlot::StdinTaken {
            step: StepId(0),
            offset: 6,
            closed: true,
        },
        FromSlot::Lost {
            positions: IndexSet::from_range(5, 6),
            ends: vec![fixtures::end(4, false)],
            certain: true,
        },
        FromSlot::Leased {
            ends_after_ms: 630_000,
        },
    ]
    .into_iter()
    .chain(peer_frames().map(|frame| FromSlot::Peer { to: 1, frame }))
    .collect()
}

/// What nodes of a job say to each other.
fn peer_frames() -> impl Iterator<Item = PeerFrame> {
    let step = StepId(2);
    let group = |purpose| Group::PmixRanks {
        purpose,
        ranks: vec![0, 3],
    };
    let parts = vec![Part {
        node: 1,
        bytes: b"put".to_vec(),
    }];
    let enter = |group, epoch| PeerMessage::Enter {
        step,
        collective: Collective { group, epoch },
        parts: parts.clone(),
    };
    let messages = vec![
        enter(Group::Pmi, 1),
        enter(group(Purpose::Connect), 2),
        enter(
            Group::PmixGroup {
                name: "ocean-1.0".to_owned(),
                ends: false,
                ranks: vec![0, 3],
            },
            0,
        ),
        PeerMessage::Complete {
            step,
            collective: Collective {
                group: Group::Pmix {
                    purpose: Purpose::Fence,
                },
                epoch: 3,
            },
            parts: parts.clone(),
        },
        PeerMessage::Failed {
            step,
            failure: StepFailure {
                exit: ExitStatus { code: 7, signal: 0 },
                text: "rank 3 on node n2 called MPI_Abort with code 7".to_owned(),
                at_once: true,
                at: AT,
            },
        },
        PeerMessage::Begun { step, at: AT },
        PeerMessage::Silent {
            step,
            rank: 3,
            exit: ExitStatus { code: 0, signal: 9 },
        },
        PeerMessage::Modex {
            step,
            ask: 5,
            rank: 1,
        },
        PeerMessage::ModexFound {
            step,
            ask: 5,
            outcome: Ok(Blob(b"address".to_vec())),
        },
        PeerMessage::Name {
            step,
            ask: 6,
            rank: 0,
            request: NameRequest::Publish {
                entries: vec![pmix_name()],
                range: Some(4),
                persistence: Some(1),
            },
        },
        PeerMessage::Named {
            step,
            ask: 6,
            answer: Err(-46),
        },
        PeerMessage::Name {
            step,
            ask: 7,
            rank: 0,
            request: pmix_meet(),
        },
    ];
    let numbered = messages.into_iter().zip(1..);
    numbered.map(|(message, number)| PeerFrame {
        number,
        taken: 2,
        message: Some(message),
    })
}

fn step_order() -> StepOrder {
    let mut options = StepOptions::default();
    options.say(StepOption::Mpi(Mpi::Pmix));
    options.say(StepOption::KillOnBadExit(true));
    options.say(StepOption::Wait(60));
    StepOrder {
        launch: StepLaunch {
            step: StepId(2),
            arguments: vec!["./solver".to_owned()],
            environment: Vec::new(),
            work_dir: "/work".to_owned(),
            tasks: vec![2, 2],
            cpus_per_task: 1,
        },
        options,
    }
}

fn to_slot() -> Vec<ToSlot> {
    let positions = || IndexSet::from_range(2, 5);
    let kill = |cause| ToSlot::Kill {
        positions: positions(),
        cause,
        at_once: true,
    };
    vec![
        ToSlot::Launch(Box::new(launch())),
        ToSlot::Extend {
            positions: positions(),
            restarts: vec![(2, 1)],
        },
        ToSlot::Retract {
            positions: positions(),
        },
        kill(KillCause::Cancel { by: 1000 }),
        kill(KillCause::Preempt),
        ToSlot::Signal {
            signal: 10,
            to: SignalTarget::Batch,
        },
        ToSlot::Suspend { stop: true },
        ToSlot::Release { code: 3 },
        ToSlot::StartStep(std::sync::Arc::new(StepLaunch {
            step: StepId(1),
            arguments: vec!["hostname".to_owned()],
            environment: surroundings().environment,
            work_dir: "/tmp".to_owned(),
            tasks: vec![2, 0],
            cpus_per_task: 1,
        })),
        ToSlot::Stdin {
            step: StepId(0),
            offset: 0,
            bytes: b"input\n".to_vec(),
            end: false,
        },
        ToSlot::Acknowledge { report: 4 },
        ToSlot::Go,
        ToSlot::Close,
        ToSlot::Lease {
            until_ms: Some(1_234_567),
            lease_ms: 600_000,
        },
        ToSlot::StartStepAs(std::sync::Arc::new(step_order())),
        ToSlot::Peer {
            from: 1,
            frame: PeerFrame {
                number: 0,
                taken: 8,
                message: None,
            },
        },
    ]
}

fn from_shepherd() -> Vec<FromShepherd> {
    vec![
        FromShepherd::Slot(from_slot().remove(0)),
        FromShepherd::Failed("disk full".to_owned()),
    ]
}

fn to_shepherd() -> Vec<ToShepherd> {
    let account = Account {
        name: "ada".to_owned(),
        home: "/home/ada".to_owned(),
        shell: "/bin/bash".to_owned(),
        uid: 1000,
        gid: 1000,
        groups: vec![1000, 27],
    };
    vec![
        ToShepherd::Assign(Box::new(Assignment {
            directory: "/run/hpc/12.1".to_owned(),
            boot_id: "0f2d".to_owned(),
            site: Site {
                node: "n1".to_owned(),
                state_id: "x".to_owned(),
                script: "script".to_owned(),
                account: Some(account),
                variables: vec![("HPC_SOCKET".to_owned(), "s".to_owned())],
                refusal: Some("uid 1000 is unknown".to_owned()),
            },
            become_owner: true,
            launch: launch(),
        })),
        ToShepherd::Slot(ToSlot::Close),
    ]
}

fn frames() -> Vec<Vec<u8>> {
    fn stream<T: Serialize>(kind: u8, values: &[T]) -> Vec<u8> {
        let frames = values.iter().flat_map(codec::encode);
        [kind, 5].into_iter().chain(frames).collect()
    }
    let log = [(0, 1, b"out\n".as_slice()), (3, 2, b"err\n")];
    let log = log.iter().flat_map(|(rank, stream, bytes)| {
        let length = u32::try_from(bytes.len()).expect("short");
        let header = LogChunk {
            rank: *rank,
            stream: *stream,
            length,
        };
        [&header.encode(), *bytes].concat()
    });
    vec![
        stream(0, &[Hello::new(Role::Client)]),
        stream(1, &[Request::Status, Request::Nodes, Request::Backup]),
        stream(2, &from_client()),
        stream(3, &to_client()[1..4]),
        stream(4, &from_worker()[2..]),
        stream(5, &to_worker()),
        stream(6, &from_shepherd()),
        stream(7, &to_shepherd()[1..]),
        [8, 0].into_iter().chain(log).collect(),
        stream(9, &from_pmix()),
    ]
}

// ---- texts --------------------------------------------------------------------------------------------------

const SCRIPTS: &[&str] = &[
    "#!/bin/bash\n#SBATCH --job-name=train -N 1-2 -n 8 -c 2\n#SBATCH --mem=4G --time=1-02:00:00 # why\n\n#HPC -a 0-15:4%2\nrun\n#SBATCH -x n1\n",
    "#!/bin/sh\n#SBATCH -J 'two words' --comment \"a \\\" b\" -o log/%x-%4j.out -e %A_%a.err\n#SBATCH--begin=now+2hours\n",
    "#!/bin/sh\n#SBATCH -p batch -A lab --qos normal -w n[1-3] -C avx512 --exclusive --requeue --nice=10\n",
    "#!/bin/sh\n#SBATCH --gpus=a100:2 --signal=B:USR1@60 --dependency=afterok:12:13_7 --export=ALL,A='x,y'\n",
    "#!/bin/sh\n#SBATCH --mem-per-cpu 2G --ntasks-per-node 4 --open-mode=append -D /tmp -i /dev/null -H --wait\n",
    "#!/bin/sh\n#SBATCH --gres=gpu:1 --mail-type=NONE --parsable --kill-on-invalid-dep=yes -t 5\n",
];

const CONFIGS: &[&str] = &[
    "cluster_name = \"lab-1\"\nnode_silent_after_s = 5\nnode_timeout_s = 60\nlease_s = 60\njobs_max = 1000\narray_index_max = 4000000\nhistory_days = 30\nstore_cache_mib = 64\n",
    "# nothing but a comment\n",
    "[partition.gpu]\nmax-time = \"24h\"\ndefault = true\naccounts = [\"a\", \"b\"]\n[qos.normal]\nmax-jobs-per-user = 1\nusage-factor = 0.5\n[account.a]\ndescription = \"\\\"x\\\" \\\\ y\"\n[user.ann]\naccount = \"a\"\n",
    "\"node_timeout_s\" = 0x1e\njobs_max = 1_000\ncluster_name = '''a.b'''\n",
];

fn values() -> Vec<Vec<u8>> {
    let line = JoinLine {
        addresses: vec!["10.0.0.5:7420".to_owned(), "[fd00::5]:7420".to_owned()],
        prefix: "wkr".to_owned(),
        secret: Secret([7; 16]),
        authority: Fingerprint([9; 16]),
    };
    let line = numbered(14, line.to_string().as_bytes());
    let texts: &[(u8, &[&str])] = &[
        (
            0,
            &[
                "n[1-3,7],rack[1-2]node[01-16]",
                "a,b,,a",
                "n[008-011]x,n9",
                "x[1-2][3-4]y0",
            ],
        ),
        (
            1,
            &["n2,n10,n02,n,a-1,a1b,a01b", "1,01,001,a,-", "n9é,n10é"],
        ),
        (15, &["10.0.0.5:7420", "[::1]:99", "ws1"]),
        (16, &["fast&(a100|h100)", "a,b|c", "((x))|y&z"]),
        (17, &["matlab:2,comsol", "a=3;b"]),
        (
            18,
            &[
                "ws1:cpus=8:memory=1024:gpu.a100=2,ws2:cpus=8:memory=1024",
                "none",
            ],
        ),
        (
            19,
            &[
                "2\x1fgpus\x1ffri\x1f14:00-18:00",
                "ws[1-2]\x1ftomorrow\x1f9:00\x1f3h\x1fweekly\x1ffor\x1fann,bob\x1fas\x1fcourse",
                "2\x1fa100\x1fgpus\x1fnow\x1f1h30m",
                "3\x1fnodes\x1f2026-12-24\x1f0:00\x1f2d\x1fdaily",
            ],
        ),
        (2, &["0-15:4", "1,3,5%2", "0-9,4-20:3,7", "5,3,1-2"]),
        (3, &["0-1000000", "0-4000000:1000%7"]),
        (
            4,
            &[
                "afterok:12:13_7,singleton",
                "afterany:1?afternotok:2",
                "after:12+30:13",
                "aftercorr:9",
            ],
        ),
        (
            5,
            &[
                "gpu:a100:2,shard:3",
                "gres/gpu:4090:1",
                "a100:2",
                "2",
                "none",
            ],
        ),
        (
            6,
            &["B:USR1@60", "RB:SIGRTMIN+3@5", "R:12", "RTMAX-1", "iot@0"],
        ),
        (
            7,
            &[
                "ALL",
                "NONE",
                "nil",
                "ALL,A=1,B='x,''y'",
                "PATH,HOME,C=\"q\"\"\"",
                "'A=b,c',D=",
            ],
        ),
        (
            8,
            &[
                "slurm-%A_%a.out",
                "log/%x-%4j.%t%%",
                "\\%j",
                "%N%n%s%u%r%b%J",
            ],
        ),
        (9, &["12", "12_7", "12_[1-3,7],13,14_[0-8:4]"]),
        (
            10,
            &[
                "2G",
                "204MB",
                "1048576K",
                "1P",
                "1-02:03:04",
                "90",
                "1:30:00",
                "UNLIMITED",
                "2-5",
            ],
        ),
        (13, &["0-3,8", "65535,64-127", ""]),
        (20, &["core/rack1", "2@30", "1@1-12:00:00"]),
    ];
    let mut seeds: Vec<Vec<u8>> = texts
        .iter()
        .flat_map(|(kind, texts)| texts.iter().map(|text| numbered(*kind, text.as_bytes())))
        .collect();
    let times = [
        "16:00",
        "midnight",
        "teatime",
        "01/31/26",
        "2026-01-31T12:00",
        "now+2hours",
        "now-3 days",
        "tomorrow",
        "today 8:00:30",
        "013126",
        "uts1790000000",
        "12/31-23:59:59",
    ];
    let at = |kind: u8, zone: u8, text: &str| {
        [&[kind], &AT.0.to_le_bytes()[..], &[zone], text.as_bytes()].concat()
    };
    let zones = (0..3).cycle();
    seeds.extend(
        times
            .iter()
            .zip(zones)
            .map(|(text, zone)| at(11, zone, text)),
    );
    seeds.push(at(12, 1, "%Y-%m-%dT%H:%M:%S%:z"));
    seeds.push(at(12, 2, "%a %e %b %-j %s %Q %Z %5N"));
    seeds.push(line);
    seeds
}

// ---- what lies on disk --------------------------------------------------------------------------------------

fn records() -> Vec<Vec<u8>> {
    let record = |kind: u8, value: &[u8]| numbered(kind, value);
    let mut buffer = Vec::new();
    let mut seeds = Vec::new();
    let versioned = |payload: Vec<u8>| numbered(1, &payload);
    seeds.push(record(0, &versioned(payload(&full_spec()))));
    seeds.push(record(0, &versioned(payload(&fixtures::spec("a", None)))));
    let mut job = fixtures::started(&fixtures::pending(7, full_spec()), 1);
    job.reason = Reason::JobLaunchFailure("no such directory".to_owned());
    job.restarts = vec![(3, 1)].into();
    job.not_before = Some(AT);
    job.waits_for = vec![5, 6].into();
    job.granted = fixtures::granted();
    stored::encode_job(&mut buffer, &job);
    seeds.push(record(1, &buffer));
    job.slots[0].leases = vec![(hpc::model::ids::NodeId(1), 630_000)];
    stored::encode_job(&mut buffer, &job);
    seeds.push(record(1, &buffer));
    stored::encode_job(&mut buffer, &fixtures::pending(7, full_spec()));
    seeds.push(record(1, &buffer));
    stored::encode_ended(&mut buffer, &fixtures::ended(&job, 5, 2));
    seeds.push(record(2, &buffer));
    let outcome = (JobState::Failed, ExitStatus { code: 3, signal: 0 });
    seeds.push(record(3, &versioned(payload(&outcome))));
    stored::encode_step(&mut buffer, &fixtures::step(7, 0));
    seeds.push(record(4, &buffer));
    stored::encode_order(&mut buffer, &fixtures::order(3));
    seeds.push(record(14, &buffer));
    let mut node = fixtures::node(1);
    node.inventory = inventory().into();
    stored::encode_node(&mut buffer, &node);
    seeds.push(record(5, &buffer));
    let counters = Counters {
        job_next: 8,
        node_next: 2,
    };
    seeds.push(record(6, &versioned(payload(&counters))));
    seeds.push(record(9, &versioned(payload(&known_key()))));
    seeds.push(record(10, &versioned(payload(&invitation()))));
    seeds.push(record(11, &versioned(payload(&audit_line()))));
    for settings in rules() {
        stored::encode_rule(&mut buffer, &settings);
        seeds.push(record(12, &buffer));
    }
    for text in ["short".to_owned(), "A_VARIABLE=its value\n".repeat(20)] {
        stored::encode_blob(&mut buffer, text.as_bytes());
        seeds.push(record(7, &buffer));
    }
    for row in element_rows() {
        stored::encode_element_row(&mut buffer, &row);
        seeds.push(record(8, &buffer));
    }
    seeds
}

/// Settings of each noun.
fn rules() -> Vec<Vec<Setting>> {
    let of = |text: &str| {
        let settings = text.split(' ').filter_map(|one| one.split_once('='));
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        settings.collect()
    };
    vec![
        of(
            "default=yes max-time=2-0 default-time=1h nodes=n[1-3,7] state=down tier=2 preempt-mode=suspend",
        ),
        of("accounts=default,root qos=normal priority=3"),
        of("parent=default shares=3 qos=normal description=light group-memory=2G max-time=24h"),
        of("account=root accounts=default shares=0 default-qos=normal max-jobs-per-user=4"),
        of(
            "priority=10 preempts=normal grace-time=30s exempt-time=5m usage-factor=0.25 group-cpus=none",
        ),
        Vec::new(),
    ]
}

fn element_rows() -> Vec<ElementRow> {
    let mut mixed = fixtures::element_row(2, 0, 8, 3);
    mixed.ends.swap(1, 5);
    mixed.ends[2].reason = Reason::SystemFailure("the shepherd was killed".to_owned());
    mixed.ends[4].started = None;
    mixed.ends[4].cancelled_by = Some(1000);
    let mut never = fixtures::element_row(0, 0, 0, 0);
    never.slot = None;
    never.never_started = Some(NeverStarted {
        positions: IndexSet::from_range(0, 1_000_000),
        state: JobState::Cancelled,
        reason: Reason::None,
        cancelled_by: Some(0),
        at: AT,
    });
    vec![fixtures::element_row(1, 100, 5, 0), mixed, never]
}

fn journals() -> Vec<Vec<u8>> {
    let opened = Record::Opened(Box::new(Opened {
        key: key(),
        owner: owner(),
        boot_id: "0f2d".to_owned(),
        mark: "x:12.1".to_owned(),
        epoch: (AT, 77),
        positions: IndexSet::from_range(0, 10),
        restarts: vec![(2, 1)],
    }));
    let entries = vec![
        Entry::Started {
            position: 0,
            at: AT,
        },
        Entry::Ended(fixtures::end(0, true)),
        Entry::Acknowledged { report: 1, ends: 1 },
        Entry::Extended {
            positions: IndexSet::from_range(20, 22),
            restarts: vec![(20, 1)],
        },
        Entry::Retracted {
            positions: IndexSet::from_range(8, 10),
        },
        Entry::Started {
            position: 1,
            at: AT,
        },
        Entry::Ended(fixtures::end(1, false)),
        Entry::Started {
            position: 2,
            at: AT,
        },
        Entry::Closed,
    ];
    let all: Vec<Record> = std::iter::once(opened)
        .chain(entries.into_iter().map(Record::Entry))
        .collect();
    let file = |records: &[Record]| {
        let mut bytes = vec![0];
        for record in records {
            journal::encode(record, &mut bytes);
        }
        bytes
    };
    let payloads = |records: &[Record]| {
        let payloads = records.iter().flat_map(payload);
        std::iter::once(1).chain(payloads).collect()
    };
    vec![
        file(&all),
        file(&all[..1]),
        payloads(&all),
        payloads(&all[..4]),
    ]
}
