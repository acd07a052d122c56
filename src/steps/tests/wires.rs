//! Ranks that find each other, on one node and on several whose messages may be lost.

use super::*;
use crate::model::step::{Mpi, StepOption, StepOptions};
use crate::wire::peer::{PeerFrame, PeerMessage};
use crate::wire::pmix::{FromPmix, ToPmix};
use std::collections::BTreeMap;

pub(super) const HELLO: &[u8] = b"cmd=init pmi_version=1 pmi_subversion=1\n";

fn task(rank: u32) -> TaskId {
    TaskId {
        step: StepId(0),
        rank,
    }
}

/// Nodes of one job of `hpc run`, with so many tasks each, and what is under way between them.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Fixture>,
    way: Vec<(usize, ToSlot)>,
    /// What every rank was answered, and what was done on each node.
    answers: BTreeMap<u32, String>,
    pub(super) done: Vec<Vec<Effect>>,
    cut: bool,
}

impl Cluster {
    pub(super) fn new(tasks: &[u32], options: StepOptions) -> Self {
        Self::on(tasks, options, |_| {})
    }

    /// The same, on nodes that were changed like this.
    pub(super) fn on(tasks: &[u32], options: StepOptions, change: fn(&mut Fixture)) -> Self {
        let mut launch = command();
        let Launch::Command { arguments } = launch.spec.launch.clone() else {
            unreachable!();
        };
        spec(&mut launch).launch = Launch::Step { arguments, options };
        let share = launch.shares[0].clone();
        launch.shares = tasks
            .iter()
            .map(|tasks| NodeShare {
                tasks: *tasks,
                ..share.clone()
            })
            .collect();
        launch.nodes = (1..=tasks.len()).map(|node| format!("n{node}")).collect();
        let mut cluster = Cluster {
            nodes: Vec::new(),
            way: Vec::new(),
            answers: BTreeMap::new(),
            done: vec![Vec::new(); tasks.len()],
            cut: false,
        };
        for index in 0..tasks.len() {
            let mut launch = launch.clone();
            launch.node_index = u32::try_from(index).unwrap();
            let (node, effects) = Fixture::new(launch);
            cluster.nodes.push(node);
            cluster.take(index, effects);
        }
        for index in 0..tasks.len() {
            change(&mut cluster.nodes[index]);
            let effects = cluster.nodes[index].order(ToSlot::Go);
            cluster.take(index, effects);
        }
        cluster
    }

    pub(super) fn take(&mut self, from: usize, effects: Vec<Effect>) {
        for effect in &effects {
            match effect {
                Effect::Report(FromSlot::Peer { to, frame }) if !self.cut => {
                    let from = u32::try_from(from).unwrap();
                    let frame = frame.clone();
                    self.way.push((*to as usize, ToSlot::Peer { from, frame }));
                }
                Effect::PmiWrite { task, bytes } => {
                    let text = String::from_utf8(bytes.clone()).unwrap();
                    self.answers.entry(task.rank).or_default().push_str(&text);
                }
                _ => {}
            }
        }
        self.done[from].extend(effects);
    }

    pub(super) fn says(&mut self, node: usize, rank: u32, text: &str) {
        let bytes = text.as_bytes().to_vec();
        let said = Input::PmiSaid {
            task: task(rank),
            bytes,
        };
        let effects = self.nodes[node].when(said);
        self.take(node, effects);
    }

    pub(super) fn exits(&mut self, node: usize, rank: u32, code: u8, signal: u8) {
        let effects = self.nodes[node].exits(task(rank), code, signal);
        self.take(node, effects);
    }

    /// Everything that is under way arrives, and what follows from it.
    pub(super) fn settle(&mut self) {
        while !self.way.is_empty() {
            let (to, order) = self.way.remove(0);
            let effects = self.nodes[to].order(order);
            self.take(to, effects);
        }
    }

    /// Every node's next deadline comes, as long as it is near.
    pub(super) fn passes(&mut self, ms: u64) {
        for index in 0..self.nodes.len() {
            self.nodes[index].now += ms;
            let effects = self.nodes[index].when(Input::Timer);
            self.take(index, effects);
        }
    }

    /// It is settled what went wrong first.
    pub(super) fn decides(&mut self) {
        self.settle();
        self.passes(500);
        self.settle();
    }

    /// A node's shell says this.
    pub(super) fn when(&mut self, node: usize, input: Input) {
        let effects = self.nodes[node].when(input);
        self.take(node, effects);
    }

    pub(super) fn knocks(&mut self, node: usize) {
        self.when(node, Input::PmixKnocked { step: StepId(0) });
    }

    /// A node's helper says this.
    fn helper_says(&mut self, node: usize, message: FromPmix) {
        let step = StepId(0);
        self.when(node, Input::PmixSaid { step, message });
    }

    /// Helpers that were started on a node, and what was said to them.
    fn helpers(&self, node: usize) -> (usize, Vec<&ToPmix>) {
        let done = &self.done[node];
        let starts = done
            .iter()
            .filter(|effect| matches!(effect, Effect::PmixStart { .. }));
        let said = done.iter().filter_map(|effect| match effect {
            Effect::PmixSay { message, .. } => Some(message),
            _ => None,
        });
        (starts.count(), said.collect())
    }

    pub(super) fn answer(&mut self, rank: u32) -> String {
        self.answers.remove(&rank).unwrap_or_default()
    }

    pub(super) fn notes(&self, node: usize) -> Vec<&str> {
        let notes = self.done[node].iter().filter_map(|effect| match effect {
            Effect::StepNote { text, .. } => Some(text.as_str()),
            _ => None,
        });
        notes.collect()
    }

    pub(super) fn signals(&self, node: usize) -> Vec<i32> {
        signals(&self.done[node])
            .iter()
            .map(|(signal, _)| *signal)
            .collect()
    }
}

fn with(options: &[StepOption]) -> StepOptions {
    let mut all = StepOptions::default();
    for option in options {
        all.say(option.clone());
    }
    all
}

#[test]
fn ranks_have_what_they_need_to_find_each_other_and_one_alone_has_not() {
    let cluster = Cluster::new(&[2, 1], StepOptions::default());
    let plans = spawned(&cluster.done[0]);
    assert_eq!(plans.len(), 2);
    for (name, value) in [
        ("PMI_RANK", "1"),
        ("PMI_SIZE", "3"),
        ("PMI_FD", "99"),
        ("MPI_LOCALRANKID", "1"),
        ("MPI_LOCALNRANKS", "2"),
        ("MPIR_CVAR_PMI_VERSION", "1"),
        ("OMP_NUM_THREADS", "1"),
    ] {
        assert_eq!(variable(plans[1], name), Some(value), "{name}");
    }
    assert!(plans.iter().all(|plan| plan.pmi));
    let alone = Cluster::new(&[1], StepOptions::default());
    let plans = spawned(&alone.done[0]);
    assert!(!plans[0].pmi && variable(plans[0], "PMI_SIZE").is_none());
    let none = Cluster::new(&[2], with(&[StepOption::Mpi(Mpi::None)]));
    assert!(!spawned(&none.done[0])[0].pmi);
}

#[test]
fn what_a_rank_puts_is_found_on_every_node_whatever_is_lost_between_them() {
    let mut cluster = Cluster::new(&[1, 1, 1], StepOptions::default());
    for (node, rank) in [(0, 0), (1, 1), (2, 2)] {
        cluster.says(node, rank, std::str::from_utf8(HELLO).unwrap());
        cluster.says(node, rank, "cmd=get_my_kvsname\n");
        let name = cluster.answer(rank);
        let name = name.rsplit_once("kvsname=").unwrap().1.trim().to_owned();
        let put = format!("cmd=put kvsname={name} key=k{rank} value=v{rank}\n");
        cluster.says(node, rank, &put);
        // The link of the second node is cut just now.
        cluster.cut = node == 1;
        cluster.says(node, rank, "cmd=barrier_in\n");
        cluster.cut = false;
        cluster.answer(rank);
    }
    cluster.settle();
    assert_eq!(cluster.answer(0), "");
    // A new link, and everything is said again.
    let effects = cluster.nodes[1].when(Input::Relinked);
    cluster.take(1, effects);
    cluster.settle();
    let name = format!("hpc-{:x}-12.0@0", 1_000_000);
    for (node, rank) in [(0, 0), (1, 1), (2, 2)] {
        assert_eq!(cluster.answer(rank), "cmd=barrier_out rc=0\n");
        let get = format!("cmd=get kvsname={name} key=k{}\n", (rank + 1) % 3);
        cluster.says(node, rank, &get);
        let value = format!("value=v{}\n", (rank + 1) % 3);
        assert!(cluster.answer(rank).ends_with(&value));
    }
    // Without a new link it is said again after a while.
    cluster.says(0, 0, "cmd=barrier_in\n");
    cluster.cut = true;
    cluster.says(1, 1, "cmd=barrier_in\n");
    cluster.cut = false;
    cluster.says(2, 2, "cmd=barrier_in\n");
    cluster.settle();
    assert_eq!(cluster.answer(2), "");
    cluster.passes(1_000);
    cluster.settle();
    for rank in 0..3 {
        assert_eq!(cluster.answer(rank), "cmd=barrier_out rc=0\n");
    }
}

#[test]
fn a_rank_that_ends_too_early_ends_the_step_on_every_node_with_its_code() {
    for (code, signal, wanted) in [(7, 0, (7, 0)), (0, 9, (0, 9)), (0, 0, (1, 0))] {
        let mut cluster = Cluster::new(&[2, 1], StepOptions::default());
        for (node, rank) in [(0, 0), (0, 1), (1, 2)] {
            cluster.says(node, rank, std::str::from_utf8(HELLO).unwrap());
        }
        cluster.says(1, 2, "cmd=barrier_in\n");
        cluster.exits(0, 1, code, signal);
        cluster.decides();
        assert_eq!(cluster.notes(0).len(), 1);
        assert!(cluster.notes(0)[0].contains("step 12.0 is ended: rank 1 on node n1"));
        assert_eq!(cluster.notes(1), [] as [&str; 0]);
        for node in 0..2 {
            assert_eq!(cluster.signals(node), [SIGTERM, SIGCONT], "node {node}");
        }
        // One that does not take the hint is killed.
        cluster.passes(2_000);
        assert_eq!(cluster.signals(1), [SIGTERM, SIGCONT, SIGKILL]);
        cluster.exits(1, 2, 0, 9);
        cluster.exits(0, 0, 0, 15);
        for node in 0..2 {
            let effects = cluster.nodes[node].when(Input::Swept);
            let end = ends(&effects)[0].clone();
            assert_eq!(end.state, JobState::Failed);
            assert_eq!((end.exit.code, end.exit.signal), wanted, "node {node}");
        }
    }
}

#[test]
fn one_that_says_goodbye_may_end_as_it_likes() {
    let mut cluster = Cluster::new(&[2], StepOptions::default());
    for rank in 0..2 {
        cluster.says(0, rank, std::str::from_utf8(HELLO).unwrap());
        cluster.says(0, rank, "cmd=finalize\n");
    }
    cluster.exits(0, 1, 9, 0);
    assert_eq!(cluster.notes(0), [] as [&str; 0]);
    cluster.exits(0, 0, 0, 0);
    let effects = cluster.nodes[0].when(Input::Swept);
    assert_eq!(ends(&effects)[0].exit.code, 9);
}

#[test]
fn a_program_that_is_no_mpi_program_ends_task_by_task() {
    let mut cluster = Cluster::new(&[2, 2], StepOptions::default());
    cluster.exits(0, 1, 3, 0);
    cluster.exits(1, 2, 0, 0);
    cluster.settle();
    assert!(cluster.signals(0).is_empty() && cluster.signals(1).is_empty());
    // Once a rank of another node wants to find it, nobody would ever come.
    cluster.says(1, 3, std::str::from_utf8(HELLO).unwrap());
    cluster.decides();
    assert!(cluster.notes(0)[0].contains("rank 1 exited with code 3 without MPI_Init"));
    assert_eq!(cluster.signals(1), [SIGTERM, SIGCONT]);
}

#[test]
fn ranks_that_end_badly_are_named_soon_unless_that_ended_the_step() {
    let named = |cluster: &Cluster, node: usize| -> Vec<String> {
        let done = cluster.done[node].iter();
        let words = done.filter_map(|effect| match effect {
            Effect::OwnWords { text, .. } => Some(text.clone()),
            _ => None,
        });
        words.collect()
    };
    let none: [String; 0] = [];
    let mut cluster = Cluster::new(&[4, 2], StepOptions::default());
    for (node, rank, code, signal) in [(0, 0, 3, 0), (0, 2, 0, 9), (0, 1, 3, 0), (1, 5, 3, 0)] {
        cluster.exits(node, rank, code, signal);
    }
    assert_eq!(named(&cluster, 0), none);
    cluster.passes(200);
    let lines = [
        "hpc run: ranks 0-1 on n1 exited with 3\n",
        "hpc run: rank 2 on n1 was killed by signal 9 (SIGKILL)\n",
    ];
    assert_eq!(named(&cluster, 0), lines);
    assert_eq!(
        named(&cluster, 1),
        ["hpc run: rank 5 on n1 exited with 3\n"]
    );
    // The last one is named before its node is done with the step.
    cluster.exits(1, 4, 2, 0);
    assert_eq!(
        named(&cluster, 1)[1],
        "hpc run: rank 4 on n1 exited with 2\n"
    );
    assert_eq!(cluster.done[1].last(), Some(&Effect::Sweep));
    // What ended the step says so, and those that it was ended with had no choice.
    let mut cluster = Cluster::new(&[3], with(&[StepOption::KillOnBadExit(true)]));
    cluster.exits(0, 1, 3, 0);
    cluster.exits(0, 0, 0, 15);
    cluster.exits(0, 2, 0, 15);
    assert_eq!(
        (named(&cluster, 0), cluster.notes(0).len()),
        (none.to_vec(), 1)
    );
    // Nobody needs to be told which of one task it was.
    let mut cluster = Cluster::new(&[1], with(&[StepOption::Mpi(Mpi::Pmi2)]));
    cluster.exits(0, 0, 3, 0);
    assert_eq!(named(&cluster, 0), none);
}

#[test]
fn a_step_that_is_cancelled_has_the_kill_wait_and_says_so_once() {
    let mut cluster = Cluster::new(&[1, 1], StepOptions::default());
    for node in 0..2 {
        let effects = cluster.nodes[node].order(ToSlot::Signal {
            signal: SIGTERM,
            to: SignalTarget::EndStep(StepId(0)),
        });
        cluster.take(node, effects);
        assert_eq!(cluster.signals(node), [SIGTERM, SIGCONT]);
    }
    assert_eq!(cluster.notes(0), ["step 12.0 is ended: it was cancelled"]);
    assert_eq!(cluster.notes(1), [] as [&str; 0]);
    cluster.passes(29_000);
    assert_eq!(cluster.signals(0), [SIGTERM, SIGCONT]);
    cluster.passes(1_000);
    assert_eq!(cluster.signals(0), [SIGTERM, SIGCONT, SIGKILL]);
    // Whatever it makes of it, it was cancelled.
    cluster.exits(1, 1, 0, 0);
    let effects = cluster.nodes[1].when(Input::Swept);
    assert_eq!(ends(&effects)[0].exit.shell_code(), 128 + 15);
}

#[test]
fn an_abort_ends_all_at_once_with_the_code_that_it_gives() {
    let mut cluster = Cluster::new(&[1, 1], StepOptions::default());
    cluster.says(1, 1, std::str::from_utf8(HELLO).unwrap());
    cluster.says(1, 1, "cmd=abort exitcode=42\n");
    cluster.decides();
    assert_eq!((cluster.signals(0), cluster.signals(1)), (vec![9], vec![9]));
    assert!(cluster.notes(1)[0].contains("MPI_Abort with code 42"));
    cluster.exits(0, 0, 0, 9);
    let effects = cluster.nodes[0].when(Input::Swept);
    assert_eq!(ends(&effects)[0].exit.code, 42);
}

#[test]
fn what_went_wrong_first_counts_also_when_others_hear_of_it_late() {
    let mut cluster = Cluster::new(&[1, 1], StepOptions::default());
    for rank in 0..2 {
        cluster.says(rank as usize, rank, std::str::from_utf8(HELLO).unwrap());
    }
    cluster.says(1, 1, "cmd=abort exitcode=7\n");
    // The other rank loses its peer before its node knows why, and fails in its own way.
    cluster.passes(5);
    cluster.exits(1, 1, 7, 0);
    cluster.says(0, 0, "cmd=abort exitcode=14\n");
    cluster.exits(0, 0, 14, 0);
    assert!(!cluster.done[0].contains(&Effect::Sweep));
    cluster.decides();
    for node in 0..2 {
        assert!(cluster.done[node].contains(&Effect::Sweep));
        let effects = cluster.nodes[node].when(Input::Swept);
        assert_eq!(ends(&effects)[0].exit.code, 7, "node {node}");
    }
    assert_eq!((cluster.notes(0).len(), cluster.notes(1).len()), (0, 1));
}

#[test]
fn a_crash_is_what_went_wrong_whatever_the_clocks_say() {
    let mut cluster = Cluster::new(&[1, 1], StepOptions::default());
    for rank in 0..2 {
        cluster.says(rank as usize, rank, std::str::from_utf8(HELLO).unwrap());
    }
    cluster.says(0, 0, "cmd=abort exitcode=14\n");
    cluster.passes(3);
    cluster.exits(1, 1, 0, 11);
    cluster.decides();
    cluster.exits(0, 0, 14, 0);
    for node in 0..2 {
        let effects = cluster.nodes[node].when(Input::Swept);
        assert_eq!(ends(&effects)[0].exit.signal, 11, "node {node}");
    }
}

#[test]
fn what_the_user_says_of_bad_ends_counts() {
    let kill = |kill| with(&[StepOption::KillOnBadExit(kill)]);
    let mut cluster = Cluster::new(&[2], kill(true));
    cluster.exits(0, 0, 3, 0);
    assert_eq!(cluster.signals(0), [SIGTERM, SIGCONT]);
    let mut cluster = Cluster::new(&[2], kill(false));
    cluster.says(0, 0, std::str::from_utf8(HELLO).unwrap());
    cluster.exits(0, 0, 3, 0);
    assert!(cluster.signals(0).is_empty());
    let mut cluster = Cluster::new(&[2, 1], with(&[StepOption::Wait(5)]));
    cluster.exits(0, 0, 0, 0);
    cluster.settle();
    cluster.passes(4_999);
    assert!(cluster.signals(0).is_empty());
    cluster.passes(1);
    cluster.decides();
    assert!(cluster.notes(0)[0].contains("5 s ago (--wait)"));
    assert_eq!(cluster.signals(1), [SIGTERM, SIGCONT]);
}

#[test]
fn a_rank_that_asks_for_what_is_not_served_does_not_run_alone() {
    // With PMIx wanted and no library, nothing starts.
    let cluster = Cluster::new(&[2], with(&[StepOption::Mpi(Mpi::Pmix)]));
    assert!(spawned(&cluster.done[0]).is_empty());
    assert!(cluster.notes(0)[0].contains("there is no library"));
    assert!(cluster.done[0].contains(&Effect::Sweep));
}

#[test]
fn a_rank_that_asks_for_pmix_where_nobody_serves_it_ends_the_step_with_the_reason() {
    let pmi1 = with(&[StepOption::Mpi(Mpi::Pmi1)]);
    let own = format!("hpc-{:x}-12.0@0", 1_000_000);
    for (options, name, words) in [
        (StepOptions::default(), own.as_str(), "there is no library"),
        (pmi1, "nobody", "leave --mpi out"),
    ] {
        let mut cluster = Cluster::new(&[2], options);
        let plans = spawned(&cluster.done[0]);
        assert_eq!(variable(plans[1], "PMIX_NAMESPACE"), Some(name));
        assert_eq!(variable(plans[1], "PMIX_RANK"), Some("1"));
        cluster.knocks(0);
        cluster.knocks(0);
        assert!(
            cluster.notes(0)[0].contains(words),
            "{:?}",
            cluster.notes(0)
        );
        assert_eq!(cluster.signals(0), [SIGTERM, SIGCONT]);
    }
}

fn ready() -> FromPmix {
    FromPmix::Ready {
        version: "PMIx 5".to_owned(),
        environments: Vec::new(),
    }
}

#[test]
fn ranks_start_before_their_server_which_starts_once_one_of_them_asks_for_it() {
    let served = |node: &mut Fixture| node.library = true;
    let mut cluster = Cluster::on(&[2, 1], StepOptions::default(), served);
    let plans = spawned(&cluster.done[0]);
    assert_eq!(plans.len(), 2);
    let place = format!("hpc-{:x}-12.0@0.server.0;tcp4://127.0.0.1:4711", 1_000_000);
    for (name, value) in [
        ("PMIX_SERVER_URI41", place.as_str()),
        ("PMIX_RANK", "1"),
        ("PMIX_HOSTNAME", "n1"),
        ("MPIR_CVAR_PMI_VERSION", "1"),
    ] {
        assert_eq!(variable(plans[1], name), Some(value), "{name}");
    }
    assert_eq!(cluster.helpers(0), (0, vec![]));
    cluster.knocks(0);
    cluster.knocks(0);
    assert_eq!((cluster.helpers(0).0, cluster.helpers(1).0), (1, 0));
    cluster.helper_says(0, ready());
    assert_eq!(spawned(&cluster.done[0]).len(), 2);
    cluster.helper_says(0, FromPmix::Connected { rank: 0 });
    // A fence waits for a node whose ranks have not come yet.
    let fence = |ask| FromPmix::Fence {
        ask,
        purpose: crate::wire::pmix::Purpose::Fence,
        everyone: true,
        ranks: Vec::new(),
        bytes: Default::default(),
        timeout_s: None,
    };
    cluster.helper_says(0, fence(7));
    cluster.settle();
    assert_eq!(cluster.helpers(1), (0, vec![]));
    cluster.knocks(1);
    cluster.helper_says(1, ready());
    cluster.helper_says(1, fence(9));
    cluster.settle();
    let outcome = Ok(Default::default());
    for (node, ask) in [(0, 7), (1, 9)] {
        let outcome = outcome.clone();
        let fenced = ToPmix::Fenced { ask, outcome };
        assert_eq!(cluster.helpers(node), (1, vec![&fenced]));
    }
    // The server is as much to a step that has called it as to one that has waited for it.
    let step = StepId(0);
    cluster.when(1, Input::PmixGone { step, text: None });
    cluster.decides();
    assert!(cluster.notes(1)[0].contains("on node n1 ended unexpectedly"));
}

#[test]
fn a_node_that_is_asked_what_its_ranks_have_put_calls_its_server_unless_it_has_none() {
    let modex = FromPmix::Modex {
        ask: 5,
        rank: 1,
        timeout_s: None,
    };
    let served = |node: &mut Fixture| node.library = true;
    let mut cluster = Cluster::on(&[1, 1], StepOptions::default(), served);
    cluster.knocks(0);
    cluster.helper_says(0, ready());
    cluster.helper_says(0, modex.clone());
    cluster.settle();
    let wanted = ToPmix::ModexWanted { ask: 1, rank: 1 };
    assert_eq!(cluster.helpers(1), (1, vec![&wanted]));
    cluster.helper_says(1, ready());
    let outcome = Err(crate::wire::pmix::status::TIMEOUT);
    cluster.helper_says(
        1,
        FromPmix::ModexFound {
            ask: 1,
            outcome: outcome.clone(),
        },
    );
    cluster.settle();
    let found = ToPmix::Modexed { ask: 5, outcome };
    assert_eq!(cluster.helpers(0).1, [&found]);
    // The other node has no library.
    let mut cluster = Cluster::new(&[1, 1], StepOptions::default());
    cluster.nodes[0].library = true;
    cluster.knocks(0);
    cluster.helper_says(0, ready());
    cluster.helper_says(0, modex);
    cluster.decides();
    assert!(cluster.notes(1)[0].contains("node n1 cannot serve it: there is no library"));
    assert_eq!(cluster.signals(0), [SIGTERM, SIGCONT]);
}

#[test]
fn where_pmix_is_wanted_or_no_door_can_be_made_or_ranks_are_many_the_server_starts_first() {
    let pmix = with(&[StepOption::Mpi(Mpi::Pmix)]);
    for (tasks, options, change) in [
        (2, pmix, (|node| node.library = true) as fn(&mut Fixture)),
        (23, StepOptions::default(), |node| node.library = true),
        (2, StepOptions::default(), |node| {
            (node.library, node.doorless) = (true, true);
        }),
    ] {
        let mut cluster = Cluster::on(&[tasks, 1], options, change);
        assert!(spawned(&cluster.done[0]).is_empty(), "{tasks}");
        assert_eq!(cluster.helpers(0).0, 1);
        let pairs = vec![("PMIX_VERSION".to_owned(), "5".to_owned())];
        let variables = crate::wire::pmix::Variables { pairs };
        let ready = FromPmix::Ready {
            version: "PMIx 5".to_owned(),
            environments: vec![variables; tasks as usize],
        };
        cluster.helper_says(0, ready);
        let plans = spawned(&cluster.done[0]);
        assert_eq!(plans.len(), tasks as usize);
        assert_eq!(variable(plans[1], "PMIX_VERSION"), Some("5"));
    }
}

#[test]
fn one_that_is_alone_is_served_where_there_is_a_library_and_needs_none() {
    let mut cluster = Cluster::new(&[1], StepOptions::default());
    let is_sought = |effect: &&Effect| {
        let Effect::PmixDoor { sought, .. } = effect else {
            return false;
        };
        sought.is_some()
    };
    assert_eq!(cluster.done[0].iter().filter(is_sought).count(), 1);
    assert!(variable(spawned(&cluster.done[0])[0], "PMIX_NAMESPACE").is_some());
    // Nobody waits for it, however it ends.
    cluster.nodes[0].library = true;
    cluster.knocks(0);
    cluster.helper_says(0, ready());
    cluster.helper_says(0, FromPmix::Connected { rank: 0 });
    cluster.exits(0, 0, 0, 0);
    assert_eq!(cluster.helpers(0).0, 1);
    assert_eq!(cluster.notes(0), [] as [&str; 0]);
    // The library is not there.
    let (mut slot, _) = Fixture::new(command());
    slot.doorless = true;
    let effects = slot.order(ToSlot::StartStep(Arc::new(step(1))));
    let plan = spawned(&effects)[0];
    assert!(variable(plan, "PMIX_NAMESPACE").is_none());
    let starts = |effect: &Effect| matches!(effect, Effect::PmixStart { .. });
    assert!(!effects.iter().any(starts));
}

#[test]
fn a_server_that_was_called_and_does_not_come_ends_the_step() {
    for tasks in [1, 2] {
        let served = |node: &mut Fixture| node.library = true;
        let mut cluster = Cluster::on(&[tasks], StepOptions::default(), served);
        cluster.knocks(0);
        cluster.passes(20_000);
        assert!(
            cluster.notes(0)[0].contains("was not ready within 20 s"),
            "{:?}",
            cluster.notes(0)
        );
        assert_eq!(cluster.signals(0), [SIGTERM, SIGCONT]);
    }
}

#[test]
fn a_rank_that_closes_its_socket_and_goes_on_is_noticed() {
    let mut cluster = Cluster::new(&[2], StepOptions::default());
    cluster.says(0, 0, std::str::from_utf8(HELLO).unwrap());
    let effects = cluster.nodes[0].when(Input::PmiClosed { task: task(0) });
    cluster.take(0, effects);
    assert!(cluster.signals(0).is_empty());
    cluster.passes(1_000);
    assert!(cluster.notes(0)[0].contains("closed its PMI connection"));
}

#[test]
fn nonsense_ends_the_step_and_names_the_rank() {
    let mut cluster = Cluster::new(&[2], StepOptions::default());
    cluster.says(0, 1, &"x".repeat(100_000));
    assert!(cluster.done[0].contains(&Effect::PmiClose(task(1))));
    assert!(cluster.notes(0)[0].contains("rank 1 on node n1 spoke nonsense"));
}

#[test]
fn messages_for_a_step_that_has_not_begun_here_wait_for_it() {
    let (mut slot, _) = Fixture::new(command());
    let frame = PeerFrame {
        number: 1,
        taken: 0,
        message: Some(PeerMessage::Failed {
            step: StepId(1),
            failure: crate::wire::peer::StepFailure {
                exit: ExitStatus { code: 4, signal: 0 },
                text: "elsewhere".into(),
                at_once: true,
                at: Timestamp(0),
            },
        }),
    };
    assert!(slot.order(ToSlot::Peer { from: 1, frame }).is_empty());
    let effects = slot.order(ToSlot::StartStep(Arc::new(step(2))));
    // It has failed elsewhere before its tasks could start here.
    assert!(spawned(&effects).is_empty());
    let end = effects.iter().find_map(|effect| match effect {
        Effect::Report(FromSlot::StepEnded { end, .. }) => Some(end),
        _ => None,
    });
    let codes: Vec<u8> = end
        .unwrap()
        .tasks
        .iter()
        .map(|(_, exit)| exit.code)
        .collect();
    assert_eq!(codes, [4, 4]);
}

#[test]
fn what_a_remote_shell_starts_has_the_whole_share_and_is_no_rank() {
    let (mut slot, _) = Fixture::new(command());
    let mut options = StepOptions::default();
    options.say(StepOption::Mpi(Mpi::None));
    options.say(StepOption::RemoteShell("n1".to_owned()));
    let mut launch = step(1);
    let told = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    // Of the machine where the launcher runs.
    launch.environment = vec![
        told("HYDRA_LAUNCHER_EXEC", "/elsewhere/hpc-remote-shell"),
        told("OMPI_MCA_plm", "rsh"),
        told("SLURM_NTASKS", "4"),
    ];
    let order = StepOrder { launch, options };
    let effects = slot.order(ToSlot::StartStepAs(Arc::new(order)));
    let plan = spawned(&effects)[0];
    assert_eq!(plan.cpus.to_string(), "0-3");
    assert!(!plan.pmi);
    for name in ["PMI_RANK", "OMP_NUM_THREADS", "SLURM_STEP_ID"] {
        assert_eq!(variable(plan, name), None, "{name}");
    }
    assert_eq!(variable(plan, "SLURM_NTASKS"), Some("4"));
    assert_eq!(variable(plan, "OMPI_MCA_plm"), Some("rsh"));
    let shell = variable(plan, "HYDRA_LAUNCHER_EXEC");
    assert_eq!(shell, Some("/spool/hpc-remote-shell"));
}

#[test]
fn ranks_are_spared_the_look_at_devices_where_all_are_near() {
    let hidden = |one_node: bool, gpus: &[u32], said: &[(&str, &str)]| {
        let mut command = command();
        command.shares[0].gpus = gpus.to_vec();
        let (mut slot, _) = Fixture::new(command);
        slot.core.set_machine(Machine {
            cpus: 4,
            is_one_numa_node: one_node,
            has_rdma: false,
        });
        let mut launch = step(2);
        let line =
            |(name, value): &(&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        launch.environment.extend(said.iter().map(line));
        let effects = slot.order(ToSlot::StartStep(Arc::new(launch)));
        let value = |name: &str| variable(spawned(&effects)[0], name).map(str::to_owned);
        (value("HWLOC_COMPONENTS"), value("HWLOC_PLUGINS_PATH"))
    };
    let (components, plugins) = hidden(true, &[], &[]);
    let (components, plugins) = (components.unwrap(), plugins.unwrap());
    assert!(components.starts_with("-linuxio,-pci"), "{components}");
    assert_eq!(
        hidden(false, &[], &[]),
        (None, None),
        "one may be nearer than another"
    );
    assert_eq!(hidden(true, &[0], &[]), (None, None), "GPUs are looked for");
    let own = [("HWLOC_XMLFILE", "mine.xml")];
    assert_eq!(
        hidden(true, &[], &own),
        (None, None),
        "the user has said what hwloc is to do"
    );
    let inherited = [
        ("HWLOC_COMPONENTS", components.as_str()),
        ("HWLOC_PLUGINS_PATH", plugins.as_str()),
    ];
    assert_eq!(
        hidden(true, &[0], &inherited),
        (None, None),
        "said to a rank around this step"
    );
    let own = [("HWLOC_COMPONENTS", "-pci")];
    assert_eq!(hidden(true, &[], &own), (Some("-pci".to_owned()), None));
}

#[test]
fn ranks_on_one_node_alone_tell_each_other_by_memory_where_they_are() {
    let mode = |nodes: &[u32]| {
        let cluster = Cluster::new(nodes, StepOptions::default());
        let plan = spawned(&cluster.done[0])[0];
        variable(plan, "I_MPI_STARTUP_MODE").map(str::to_owned)
    };
    assert_eq!(mode(&[2]), Some("pmi_shm".to_owned()));
    assert_eq!(mode(&[2, 1]), None);
}

#[test]
fn ranks_are_spared_the_watch_over_their_memory_where_no_device_uses_it() {
    let watched = |has_rdma: bool, gpus: &[u32], said: &[(&str, &str)]| {
        let mut command = command();
        command.shares[0].gpus = gpus.to_vec();
        let (mut slot, _) = Fixture::new(command);
        slot.core.set_machine(Machine {
            has_rdma,
            ..Machine::default()
        });
        let mut launch = step(2);
        let line =
            |(name, value): &(&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        launch.environment.extend(said.iter().map(line));
        let effects = slot.order(ToSlot::StartStep(Arc::new(launch)));
        let plan = spawned(&effects)[0];
        let btl = variable(plan, "OMPI_MCA_btl").map(str::to_owned);
        let left_out = btl.as_deref() == Some("^ofi,uct,openib,usnic");
        let mtl = variable(plan, "OMPI_MCA_mtl");
        assert_eq!(mtl == Some("^psm,psm2,ofi,portals4"), !has_rdma, "{mtl:?}");
        let asked = said.iter().find(|(name, _)| *name == "OMPI_MCA_btl");
        match asked {
            Some((_, value)) => assert_eq!(btl.as_deref(), Some(*value)),
            None => assert_eq!(left_out, !has_rdma, "{btl:?}"),
        }
        variable(plan, "UCX_MEM_EVENTS").map(str::to_owned)
    };
    let no = Some("n".to_owned());
    assert_eq!(watched(false, &[], &[("OMPI_MCA_btl", "self,tcp")]), no);
    assert_eq!(watched(false, &[], &[]), no);
    assert_eq!(watched(true, &[], &[]), None, "a device may know of it");
    assert_eq!(watched(false, &[0], &[]), None, "a GPU may");
    let inherited = [("UCX_MEM_EVENTS", "n")];
    assert_eq!(
        watched(true, &[], &inherited),
        None,
        "said to a rank around this step"
    );
    let own = [("UCX_MEM_MMAP_HOOK_MODE", "bistro")];
    assert_eq!(
        watched(false, &[], &own),
        None,
        "the user has said what UCX is to do"
    );
}
