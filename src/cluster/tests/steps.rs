//! Steps within a job: when they are over, and what is known of them after a restart.

use super::gangs::{gang_of, three};
use super::*;
use crate::model::ids::StepId;
use crate::model::job::ExitStatus;
use crate::model::step::{BUSY, StepOption, StepOptions};
use crate::wire::client::StepRequest;
use crate::wire::worker::StepEnd;

/// A program that runs once on each node of this slot's job.
fn request(key: SlotKey) -> StepRequest {
    StepRequest {
        raw_job: key.job.0,
        arguments: vec!["true".into()],
        environment: Vec::new(),
        work_dir: "/".into(),
        ntasks: None,
        nodes: None,
        cpus_per_task: None,
    }
}

fn start(request: &StepRequest) -> Command {
    Command::StartStep {
        who: user(1000),
        options: StepOptions::default(),
        request: Box::new(request.clone()),
    }
}

/// The end of a step's task on one node.
fn step_end(key: SlotKey, step: u32, node: u32, code: u8, at: Timestamp) -> Command {
    let end = StepEnd {
        step: StepId(step),
        tasks: vec![(0, ExitStatus { code, signal: 0 })],
        name: "true".into(),
        started: at,
        ended: at,
        usage: Usage::default(),
        failure: None,
    };
    Command::Report {
        node: NodeId(node),
        key,
        report: FromSlot::StepEnded { report: 9, end },
    }
}

#[test]
fn a_step_is_over_when_it_has_ended_on_all_its_nodes() {
    let mut f = three();
    let key = f.begun(gang_of(Launch::Hold, false));
    let request = request(key);
    f.run(start(&request)).unwrap();
    let one = StepRequest {
        nodes: Some(1),
        ..request.clone()
    };
    let refused = f.run(start(&one)).unwrap_err();
    assert_eq!(refused.code, BUSY);
    let mut beside = start(&one);
    if let Command::StartStep { options, .. } = &mut beside {
        options.say(StepOption::Overlap);
    }
    f.run(beside).unwrap();
    let steps = &f.cluster.slot(key).unwrap().steps;
    let nodes: Vec<_> = steps.iter().map(|step| step.nodes.clone()).collect();
    assert_eq!(nodes, [vec![0, 1], vec![0]]);
    let mut ended = |step: u32, node: u32, code: u8| {
        let command = step_end(key, step, node, code, f.now);
        let effects = f.cluster.handle(f.now, command).unwrap().effects;
        effects.into_iter().find_map(|effect| match effect {
            Effect::StepEnded { exit, .. } => Some(exit.code),
            _ => None,
        })
    };
    assert_eq!(ended(0, 1, 3), None, "the other node still runs it");
    assert_eq!(ended(0, 1, 3), None, "said again");
    assert_eq!(ended(1, 1, 0), Some(0));
    assert_eq!(ended(0, 2, 1), Some(3), "the worst of all");
}

#[test]
fn what_a_remote_shell_starts_is_one_task_on_the_node_it_names() {
    let mut f = three();
    let key = f.begun(gang_of(Launch::Hold, false));
    let mut start = |node: &str| {
        let mut options = StepOptions::default();
        options.say(StepOption::RemoteShell(node.to_owned()));
        f.run(Command::StartStep {
            who: user(1000),
            options,
            request: Box::new(StepRequest {
                raw_job: key.job.0,
                arguments: vec!["true".into()],
                environment: Vec::new(),
                work_dir: "/".into(),
                ntasks: None,
                nodes: None,
                // More than any node has: it is given what there is.
                cpus_per_task: Some(99),
            }),
        })
    };
    start("b").unwrap();
    let refusal = start("c").unwrap_err();
    assert!(refusal.what.contains("has no node \"c\""), "{refusal:?}");
    assert!(refusal.hint.contains("its nodes are a,b"), "{refusal:?}");
    let slot = f.cluster.slot(key).unwrap();
    let nodes: Vec<_> = slot.steps.iter().map(|step| step.nodes.clone()).collect();
    assert_eq!(nodes, [vec![1]]);
    assert_eq!(f.cluster.steps[&key][0].launch.tasks, [0, 1]);
}

#[test]
fn a_restart_of_the_controller_forgets_no_step_and_none_of_its_cpus() {
    let mut f = three();
    let key = f.begun(gang_of(Launch::Hold, false));
    f.run(start(&request(key))).unwrap();
    let mut orders = BTreeMap::new();
    let mut store = |cluster: &mut Cluster| {
        for (key, step, order) in cluster.take_changes().orders {
            match order {
                Some(order) => orders.insert((key, step), order),
                None => orders.remove(&(key, step)),
            };
        }
        let orders = orders.iter();
        orders
            .map(|((key, _), order)| (*key, Arc::clone(order)))
            .collect::<Vec<_>>()
    };
    let stored = store(&mut f.cluster);
    let before = std::mem::replace(
        &mut f.cluster,
        Cluster::new(
            Settings::default(),
            Counters::default(),
            vec![],
            vec![],
            vec![],
            f.now,
        ),
    );
    f.cluster = Cluster::new(
        Settings::default(),
        before.counters.clone(),
        before.jobs().cloned().collect(),
        before.nodes.values().cloned().collect(),
        vec![],
        f.now,
    )
    .with_orders(stored);
    let places = |f: &Fixture| step_places::running(&f.cluster.snapshot(), key.job.0).unwrap();
    assert_eq!(
        places(&f),
        step_places::running(&before.snapshot(), key.job.0).unwrap()
    );
    assert_eq!(places(&f).len(), 1);
    assert_eq!(
        f.run(start(&request(key))).unwrap_err().code,
        BUSY,
        "all is held"
    );
    for node in [1, 2] {
        f.run(step_end(key, 0, node, 0, f.now)).unwrap();
    }
    assert_eq!(places(&f), []);
    assert_eq!(store(&mut f.cluster), [], "its order is no longer stored");
    f.run(start(&request(key))).unwrap();
    assert_eq!(store(&mut f.cluster).len(), 1);
    for node in [1, 2] {
        f.part_ended(key, node, 0);
    }
    assert!(f.cluster.job(key.job).is_none());
    assert_eq!(store(&mut f.cluster), [], "its slot was closed");
}
