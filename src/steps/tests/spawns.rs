//! Ranks that ask for steps, and what these and their own step mean for each other.

use super::wires::{Cluster, HELLO};
use super::*;
use crate::model::spawn::{SpawnCommand, SpawnRequest, Spawned};
use crate::model::step::{Mpi, StepOption};
use crate::wire::pmix::{FromPmix, MeetMembers, NameRequest, Purpose, ToPmix, status};
use crate::wire::spawner::FromSpawner;
use std::collections::BTreeSet;

const ASK: &str = "mcmd=spawn\nnprocs=2\nexecname=./more\ntotspawns=1\nspawnssofar=1\nargcnt=0\npreput_num=1\n\
                   preput_key_0=PORT\npreput_val_0=here\ninfo_num=0\nendcmd\n";

fn request() -> SpawnRequest {
    SpawnRequest {
        commands: vec![SpawnCommand {
            ranks: 2,
            arguments: words(&["./more"]),
            ..SpawnCommand::default()
        }],
        pairs: vec![(b"PORT".to_vec(), b"here".to_vec())],
    }
}

/// The order of the step that rank 0 of the first asks for, with so many tasks on each node.
fn order(tasks: &[u32]) -> ToSlot {
    let launch = StepLaunch {
        step: StepId(1),
        arguments: words(&["./more"]),
        environment: Vec::new(),
        work_dir: "/work".into(),
        tasks: tasks.to_vec(),
        cpus_per_task: 1,
    };
    let mut options = StepOptions::default();
    options.say(StepOption::Overlap);
    options.say(StepOption::Mpi(Mpi::Pmi1));
    options.say(StepOption::Spawned(Box::new(Spawned {
        parent: StepId(0),
        rank: 0,
        request: request(),
    })));
    ToSlot::StartStepAs(Arc::new(StepOrder { launch, options }))
}

/// A step of three ranks on two nodes whose first rank asks for another.
fn asked() -> Cluster {
    let mut cluster = Cluster::new(&[2, 1], StepOptions::default());
    for (node, rank) in [(0, 0), (0, 1), (1, 2)] {
        cluster.says(node, rank, std::str::from_utf8(HELLO).unwrap());
        cluster.answer(rank);
    }
    cluster.says(0, 0, ASK);
    cluster.settle();
    assert_eq!(cluster.answer(0), "");
    cluster
}

/// What spawners on a node were told: to begin, or by a signal.
fn spawners(cluster: &Cluster, node: usize) -> Vec<(u64, i32)> {
    let told = cluster.done[node].iter().filter_map(|effect| match effect {
        Effect::Spawner {
            serial,
            asker,
            order,
        } => {
            assert_eq!((asker.step, asker.rank), (StepId(0), 0));
            assert_eq!(order.spawned.request, request());
            Some((*serial, 0))
        }
        Effect::EndSpawner { serial, signal } => Some((*serial, *signal)),
        _ => None,
    });
    told.collect()
}

fn sweeps(cluster: &Cluster, node: usize) -> bool {
    cluster.done[node].contains(&Effect::Sweep)
}

fn says(cluster: &mut Cluster, said: FromSpawner) {
    cluster.when(0, Input::SpawnerSaid { serial: 0, said });
}

fn gone(cluster: &mut Cluster, code: u8) {
    let exit = ExitStatus { code, signal: 0 };
    let text = None;
    cluster.when(
        0,
        Input::SpawnerGone {
            serial: 0,
            exit,
            text,
        },
    );
    cluster.settle();
}

fn all_end(cluster: &mut Cluster) {
    for (node, rank) in [(0, 0), (0, 1), (1, 2)] {
        cluster.says(node, rank, "cmd=finalize\n");
        cluster.exits(node, rank, 0, 0);
    }
    cluster.settle();
}

#[test]
fn a_step_is_over_on_no_node_before_the_steps_that_its_ranks_asked_for() {
    let mut cluster = asked();
    assert_eq!(spawners(&cluster, 0), [(0, 0)]);
    says(&mut cluster, FromSpawner::Started { step: StepId(1) });
    assert_eq!(cluster.answer(0), "cmd=spawn_result rc=0\n");
    all_end(&mut cluster);
    assert!(!sweeps(&cluster, 0) && !sweeps(&cluster, 1));
    gone(&mut cluster, 0);
    assert!(sweeps(&cluster, 0) && sweeps(&cluster, 1));
    assert_eq!(cluster.notes(0), [] as [&str; 0]);
}

#[test]
fn a_step_that_fails_takes_along_the_one_that_asked_for_it() {
    let mut cluster = asked();
    says(&mut cluster, FromSpawner::Started { step: StepId(1) });
    gone(&mut cluster, 7);
    cluster.decides();
    let note = "step 12.0 is ended: step 12.1, which rank 0 spawned, exited with code 7";
    assert_eq!(cluster.notes(0), [note]);
    for node in 0..2 {
        assert_eq!(cluster.signals(node), [SIGTERM, SIGCONT], "node {node}");
    }
}

#[test]
fn who_asks_for_what_cannot_be_is_told_so_and_goes_on() {
    let mut cluster = asked();
    let text = "no such program".to_owned();
    says(&mut cluster, FromSpawner::Refused { text });
    let answer = "cmd=spawn_result rc=-1 msg=no_such_program\n";
    assert_eq!(cluster.answer(0), answer);
    gone(&mut cluster, 1);
    assert_eq!(
        cluster.notes(0),
        ["rank 0 could not spawn further processes: no such program"]
    );
    all_end(&mut cluster);
    assert!(sweeps(&cluster, 0) && sweeps(&cluster, 1));

    // Also where nobody tells why.
    let mut cluster = asked();
    gone(&mut cluster, 1);
    assert!(cluster.answer(0).starts_with("cmd=spawn_result rc=-1 "));
    assert_eq!(cluster.notes(0).len(), 1);
    assert_eq!(cluster.signals(0), [] as [i32; 0]);
}

#[test]
fn a_step_that_is_ended_ends_what_its_ranks_asked_for() {
    let mut cluster = asked();
    says(&mut cluster, FromSpawner::Started { step: StepId(1) });
    cluster.exits(1, 2, 3, 0);
    cluster.decides();
    // None of its ranks are here: its client ends it, or is ended in time.
    assert_eq!(spawners(&cluster, 0), [(0, 0), (0, 2)]);
    cluster.exits(0, 0, 0, 15);
    cluster.exits(0, 1, 0, 15);
    assert!(!sweeps(&cluster, 0));
    cluster.passes(6_000);
    assert_eq!(spawners(&cluster, 0), [(0, 0), (0, 2), (0, 9)]);
    gone(&mut cluster, 9);
    assert!(sweeps(&cluster, 0));
}

#[test]
fn a_spawned_step_on_the_same_nodes_fails_and_ends_with_the_other() {
    let begin = || {
        let mut cluster = asked();
        says(&mut cluster, FromSpawner::Started { step: StepId(1) });
        for node in 0..2 {
            let effects = cluster.nodes[node].order(order(&[1, 1]));
            let plans = spawned(&effects);
            let rank = node.to_string();
            for (name, value) in [
                ("PMI_SPAWNED", "1"),
                ("PMI_SIZE", "2"),
                ("PMI_RANK", rank.as_str()),
                ("OMP_NUM_THREADS", "1"),
            ] {
                assert_eq!(variable(plans[0], name), Some(value), "{name}");
            }
            // They share what the job has.
            assert_eq!(plans[0].cpus.len(), 4);
            cluster.done[node].extend(effects);
        }
        let task = TaskId {
            step: StepId(1),
            rank: 0,
        };
        let get = "cmd=get key=PORT\n";
        let bytes = [HELLO, get.as_bytes()].concat();
        cluster.when(0, Input::PmiSaid { task, bytes });
        let answer = cluster.answer(0);
        assert!(answer.ends_with("value=here\n"), "{answer}");
        (cluster, task)
    };

    let (mut cluster, task) = begin();
    let effects = cluster.nodes[0].exits(task, 5, 0);
    cluster.take(0, effects);
    // First for the one, then for the other.
    cluster.decides();
    cluster.decides();
    let notes = cluster.notes(0);
    let names = |start: &str| notes.iter().any(|note| note.starts_with(start));
    assert!(names("step 12.1 is ended: rank 0 on node n1"), "{notes:?}");
    let start = "step 12.0 is ended: step 12.1, which rank 0 spawned, is ended: rank 0 on node n1";
    assert!(names(start), "{notes:?}");

    let (mut cluster, _) = begin();
    cluster.exits(0, 1, 3, 0);
    cluster.decides();
    cluster.decides();
    let notes = cluster.notes(0);
    let names = |start: &str| notes.iter().any(|note| note.starts_with(start));
    assert!(names("step 12.0 is ended: rank 1 on node n1"), "{notes:?}");
    assert!(
        names("step 12.1 is ended: step 12.0, a rank of which"),
        "{notes:?}"
    );
    assert_eq!(spawners(&cluster, 0), [(0, 0)]);
}

/// A step of three ranks on two nodes, which is served over PMIx.
fn served() -> Cluster {
    let mut cluster = Cluster::on(&[2, 1], StepOptions::default(), |node| node.library = true);
    cluster.knocks(0);
    cluster.knocks(1);
    cluster
}

#[test]
fn what_is_asked_for_over_pmix_is_a_step_of_the_same_kind() {
    for refused in [false, true] {
        let mut cluster = served();
        let message = FromPmix::Spawn {
            ask: 7,
            rank: 0,
            request: Box::new(request()),
        };
        let step = StepId(0);
        cluster.when(0, Input::PmixSaid { step, message });
        cluster.settle();
        assert_eq!(spawners(&cluster, 0), [(0, 0)]);
        let (said, wanted) = if refused {
            let text = "no such program".to_owned();
            (FromSpawner::Refused { text }, Err(status::ERROR))
        } else {
            let name = cluster.nodes[0].core.name_of(StepId(1));
            (FromSpawner::Started { step: StepId(1) }, Ok(name))
        };
        says(&mut cluster, said);
        let told = cluster.done[0].iter().find_map(|effect| match effect {
            Effect::PmixSay {
                message: ToPmix::Spawned { ask: 7, answer },
                ..
            } => Some(answer.clone()),
            _ => None,
        });
        assert_eq!(told, Some(wanted));
    }
}

#[test]
fn open_mpi_tells_all_steps_of_a_slot_apart() {
    let cluster = served();
    let core = &cluster.nodes[0].core;
    let names = (0..1_000).chain([StepId::BATCH.0]).map(|step| {
        let name = core.name_of(StepId(step));
        let (family, number) = name.rsplit_once('@').unwrap();
        (family.to_owned(), number.parse::<u32>().unwrap() & 0xffff)
    });
    let names: Vec<_> = names.collect();
    assert!(names.iter().all(|(family, _)| *family == names[0].0));
    let numbers: BTreeSet<_> = names.iter().map(|(_, number)| number).collect();
    assert_eq!(numbers.len(), names.len());
}

#[test]
fn ranks_of_several_steps_meet_on_the_first_node() {
    let mut cluster = served();
    let step = StepId(0);
    let own = cluster.nodes[0].core.name_of(step);
    let meet = |ask, rank, here| FromPmix::Name {
        ask,
        rank,
        request: NameRequest::Meet {
            purpose: Purpose::Connect,
            members: vec![MeetMembers {
                nspace: own.clone(),
                ranks: Vec::new(),
            }],
            here,
            all: 3,
        },
    };
    let told = |cluster: &Cluster, node: usize| {
        let said = cluster.done[node].iter().filter(|effect| {
            let named = |message: &ToPmix| matches!(message, ToPmix::Named { answer: Ok(_), .. });
            matches!(effect, Effect::PmixSay { message, .. } if named(message))
        });
        said.count()
    };
    let message = meet(1, 2, 1);
    cluster.when(1, Input::PmixSaid { step, message });
    cluster.settle();
    assert_eq!((told(&cluster, 0), told(&cluster, 1)), (0, 0));
    let message = meet(1, 0, 2);
    cluster.when(0, Input::PmixSaid { step, message });
    cluster.settle();
    assert_eq!((told(&cluster, 0), told(&cluster, 1)), (1, 1));
}
