//! Clients that belong to a job: of `hpc run` (streams both ways) and of `hpc alloc` (presence alone).
//!
//! A client that goes ends its job: at once but for a short grace when its connection closes, after a minute
//! when the controller was restarted and the client did not come back.

use super::act::{Listener, Notice};
use super::allocation;
use super::links::TakenByNode;
use super::queries::{blocking, find_ended};
use super::run::{Message, Shared};
use super::session::{Incoming, Outgoing, code_of};
use super::step_logs::{Inputs, NodeOf, Piece, StepLogs, Subject};
use crate::cluster::{Command, Principal, Snapshot};
use crate::model::ids::{JobId, SlotKey, StepId};
use crate::model::job::{ExitStatus, Job, JobState, Owner, Slot};
use crate::model::refusal::{Code, Refusal};
use crate::wire::client::{Filter, FromClient, Selector, ToClient};
use crate::wire::codec::CodecError;
use crate::wire::worker::{SignalTarget, ToSlot, ToWorker};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long a client may take to come (back) after its submission or its connection's end.
const GRACE: Duration = Duration::from_secs(2);
/// How long a client may take to attach after its submission.
const FIRST: Duration = Duration::from_secs(15);
/// How long clients may take to come back after a restart of the controller.
const AFTER_RESTART: Duration = Duration::from_secs(60);

/// Which jobs have their client.
#[derive(Debug, Default)]
pub(super) struct Attached(Mutex<BTreeMap<JobId, u32>>);

impl Attached {
    fn enter(&self, job: JobId) {
        *self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(job)
            .or_default() += 1;
    }

    fn leave(&self, job: JobId) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&job) {
            *count -= 1;
            if *count == 0 {
                held.remove(&job);
            }
        }
    }

    fn has(&self, job: JobId) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(&job)
    }
}

/// Ends the job unless its client is there by then.
fn end_unless_attached(shared: &Arc<Shared>, job: JobId, within: Duration) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        tokio::time::sleep(within).await;
        if !shared.attached.has(job) {
            shared.tell(Command::ClientGone { job }).await;
        }
    });
}

/// A job was submitted whose client is to attach.
pub(super) fn expect_client(shared: &Arc<Shared>, job: JobId) {
    end_unless_attached(shared, job, FIRST);
}

/// After a restart: clients come back, or their jobs end.
pub(super) async fn end_orphans(shared: Arc<Shared>) {
    let snapshot = shared.snapshot.load_full();
    for job in snapshot
        .jobs
        .values()
        .filter(|job| job.spec.launch.is_attached())
    {
        end_unless_attached(&shared, job.id, AFTER_RESTART);
    }
}

/// Present while it lives.
struct Presence<'a> {
    shared: &'a Arc<Shared>,
    job: JobId,
}

impl<'a> Presence<'a> {
    fn new(shared: &'a Arc<Shared>, job: JobId) -> Self {
        shared.attached.enter(job);
        Presence { shared, job }
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.shared.attached.leave(self.job);
        if self.shared.snapshot.load().jobs.contains_key(&self.job) {
            end_unless_attached(self.shared, self.job, GRACE);
        }
    }
}

/// What a client of `hpc run` asks for.
#[derive(Debug, Clone)]
pub(super) struct Attach {
    pub(super) job: u32,
    pub(super) step: StepId,
    /// First byte wanted of each node's log.
    pub(super) offsets: Vec<u64>,
    pub(super) owner: bool,
    pub(super) follow: bool,
    /// The client tells logs of several nodes apart; one of an earlier build knows of one.
    pub(super) by_node: bool,
}

/// Where a step's logs are.
#[derive(Debug, Clone)]
struct Place {
    key: SlotKey,
    position: u32,
    /// Nodes of the slot, leader first; later those of the step alone.
    nodes: Vec<NodeOf>,
    owner: Owner,
    /// The job is one of `hpc run`.
    tasks: bool,
    /// How it ended, when it has.
    ended: Option<(JobState, ExitStatus)>,
}

fn not_permitted(number: u32, owner: &Owner) -> Refusal {
    Refusal::new(
        Code::NotPermitted,
        format!("job {number} belongs to {}", owner.name),
        "only its owner may attach",
    )
}

/// The slot that runs this position, once it has begun.
fn slot_of(job: &Job, position: u32) -> Option<&Slot> {
    let mut slots = job.slots.iter();
    slots.find(|slot| slot.begun && slot.queue.contains(position))
}

/// The nodes of a slot, leader first.
pub(super) fn nodes_of(snapshot: &Snapshot, slot: &Slot) -> Vec<NodeOf> {
    let shares = slot.allocation.nodes.iter().zip(0..);
    shares
        .map(|(share, place)| NodeOf {
            place,
            name: snapshot.node_name(share.node),
            id: Some(share.node),
        })
        .collect()
}

/// Nodes that were known under these names, leader first.
pub(super) fn nodes_named(snapshot: &Snapshot, names: &[String]) -> Vec<NodeOf> {
    let id = |name: &str| {
        let mut nodes = snapshot.nodes.values();
        nodes.find(|node| node.name() == name).map(|node| node.id)
    };
    let names = names.iter().zip(0..);
    names
        .map(|(name, place)| NodeOf {
            place,
            name: name.clone(),
            id: id(name),
        })
        .collect()
}

/// Where the logs of this job's step are now; `None` while the job waits.
async fn find(
    shared: &Arc<Shared>,
    who: &Principal,
    number: u32,
) -> Result<Option<Place>, Refusal> {
    let snapshot = shared.snapshot.load_full();
    if let Some((job, position)) = snapshot.by_raw_id(number) {
        if !who.is_operator() && !who.owner.is(&job.owner) {
            return Err(not_permitted(number, &job.owner));
        }
        return Ok(slot_of(job, position).map(|slot| Place {
            key: SlotKey {
                job: job.id,
                slot: slot.id,
            },
            position,
            nodes: nodes_of(&snapshot, slot),
            owner: job.owner.clone(),
            tasks: job.spec.launch.is_step(),
            ended: None,
        }));
    }
    let Some(ended) = blocking(shared, move |reader| find_ended(reader, number)).await? else {
        return Err(crate::cluster::select::unknown(number));
    };
    if !who.is_operator() && !who.owner.is(&ended.owner) {
        return Err(not_permitted(number, &ended.owner));
    }
    let nodes = nodes_named(&snapshot, &ended.granted.nodes);
    if nodes.is_empty() {
        let what = format!("job {number} ended {} without running", ended.state);
        return Err(Refusal::new(
            Code::WrongState,
            what,
            "there is nothing to attach to",
        ));
    }
    Ok(Some(Place {
        // What has never started has left no log anywhere.
        nodes: if ended.started.is_some() {
            nodes
        } else {
            Vec::new()
        },
        key: SlotKey {
            job: ended.id,
            slot: ended.slot,
        },
        position: 0,
        owner: ended.owner.clone(),
        tasks: ended.spec.launch.is_step(),
        ended: Some((ended.state, ended.exit)),
    }))
}

/// Serves the client of `hpc run`, or one that looks on.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    who: &Principal,
    attach: Attach,
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
) -> Result<(), CodecError> {
    let (to, notices) = mpsc::unbounded_channel();
    let (id, position, tasks) = match shared.snapshot.load().by_raw_id(attach.job) {
        Some((job, at)) => (job.id, at, job.spec.launch.is_step()),
        None => (JobId(attach.job), 0, false),
    };
    let listener = Listener::Notices {
        to,
        position,
        step: attach.step,
    };
    _ = shared
        .inbox
        .send(Message::Watch { job: id, listener })
        .await;
    // Only the job of `hpc run` itself lives and dies with its client; a step in it does not.
    let presence =
        (attach.owner && tasks && attach.step == StepId(0)).then(|| Presence::new(shared, id));
    let mut client = Client {
        shared,
        who,
        attach,
        incoming,
        outgoing,
        notices,
        stdin: Inputs::default(),
        gone: false,
        holds: false,
    };
    let result = client.run().await;
    drop(presence);
    match result {
        Ok(()) => Ok(()),
        Err(Stop::Connection(error)) => Err(error),
        Err(Stop::Refused(refusal)) => Ok(outgoing.send(&ToClient::Refused(refusal)).await?),
    }
}

enum Stop {
    Connection(CodecError),
    Refused(Refusal),
}

impl From<CodecError> for Stop {
    fn from(error: CodecError) -> Self {
        Stop::Connection(error)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Stop::Connection(error.into())
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

/// How long output is waited for that a silent node has, once its job has ended.
pub(super) const OUTPUT_PATIENCE: Duration = Duration::from_secs(10);
/// The same where the job has ended because a node was waited for long enough: only a link of another may be between two
/// attempts.
const LOST_PATIENCE: Duration = Duration::from_secs(1);

/// What is said when it is waited for no longer.
pub(super) fn out_of_reach() -> String {
    "its node does not answer: the rest of the output stays there".to_owned()
}

fn started(place: &Place) -> ToClient {
    ToClient::Started {
        raw_job: place.key.job.raw(place.position),
        environment: Vec::new(),
    }
}

struct Client<'a> {
    shared: &'a Arc<Shared>,
    who: &'a Principal,
    attach: Attach,
    incoming: &'a mut Incoming,
    outgoing: &'a mut Outgoing,
    notices: mpsc::UnboundedReceiver<Notice>,
    stdin: Inputs,
    gone: bool,
    /// The client of `hpc alloc`: its concern is the job, not a step.
    holds: bool,
}

impl Client<'_> {
    async fn run(&mut self) -> Result<(), Stop> {
        let Some(mut place) = self.wait_for_start().await? else {
            return Ok(());
        };
        let mut ended = place.ended;
        if !self.is_main(&place) {
            ended = self.find_step(&mut place).await?.or(ended);
        }
        if place.nodes.len() > 1 && !self.attach.by_node {
            let what = format!("job {} runs on several nodes", self.attach.job);
            let hint = "use the hpc of the controller's release";
            return Err(Refusal::new(Code::Unsupported, what, hint).into());
        }
        let logs = &self.shared.shares.logs;
        let _room = logs.try_take(self.incoming.holder(), place.nodes.len())?;
        if !place.nodes.is_empty() {
            // The client answers with its input, which nodes take once they have heard of the slot.
            self.shared.links.settle();
            self.outgoing.send(&started(&place)).await?;
        }
        let whole = if self.attach.owner {
            let links = &self.shared.links;
            let (_provides, mut stdin) = links.provide_stdin(place.key, self.attach.step);
            self.relay(&place, &mut ended, &mut stdin).await?
        } else {
            // Looks on: nothing is taken from it, so nobody sends here.
            let (_open, mut stdin) = watch::channel(TakenByNode::new());
            self.relay(&place, &mut ended, &mut stdin).await?
        };
        if self.gone || !self.attach.follow {
            return Ok(());
        }
        let (state, exit) = match ended {
            Some(ended) => ended,
            None => self.wait_for_end(&place).await?,
        };
        let never_ran = place.nodes.is_empty();
        if self.attach.by_node && (state == JobState::NodeFail || never_ran || !whole) {
            self.say_why().await?;
        }
        let code = code_of(state, exit);
        self.outgoing
            .send(&ToClient::Ended {
                job: place.key.job.0,
                state,
                code,
            })
            .await?;
        Ok(())
    }

    /// Why the job ended, where there are words for it.
    async fn say_why(&mut self) -> Result<(), Stop> {
        let number = self.attach.job;
        let ended = blocking(self.shared, move |reader| find_ended(reader, number)).await?;
        let reason = ended.and_then(|ended| ended.reason.detail());
        if let Some(text) = reason {
            self.outgoing.send(&ToClient::Why { text }).await?;
        }
        Ok(())
    }

    /// Whether this is the step that the job consists of.
    fn is_main(&self, place: &Place) -> bool {
        place.tasks && self.attach.step == StepId(0)
    }

    /// Keeps the nodes that the step has tasks on; its end, when it has ended on all of them.
    async fn find_step(
        &self,
        place: &mut Place,
    ) -> Result<Option<(JobState, ExitStatus)>, Refusal> {
        let (job, step) = (place.key.job, self.attach.step);
        // Before the rows: a step that does not run now has left them.
        let snapshot = self.shared.snapshot.load_full();
        let hot = snapshot.jobs.get(&job);
        let slot = hot.and_then(|job| job.slot(place.key.slot));
        if let Some(running) = slot.and_then(|slot| slot.steps.iter().find(|s| s.step == step)) {
            place
                .nodes
                .retain(|node| running.nodes.contains(&node.place));
            return Ok(None);
        }
        let rows = blocking(self.shared, move |reader| reader.steps(job)).await?;
        let rows: Vec<_> = rows.iter().filter(|row| row.step == step).collect();
        let ran_on = |node: &NodeOf| rows.iter().any(|row| Some(row.node) == node.id);
        if place.nodes.iter().any(ran_on) {
            place.nodes.retain(ran_on);
        } else {
            // Nobody knows of it: the leader will say that it has nothing either.
            place.nodes.truncate(1);
        }
        let worst = rows.iter().map(|row| row.exit);
        let worst = worst.max_by_key(|exit| exit.shell_code());
        Ok(worst.map(|exit| (state_of(exit), exit)))
    }

    /// Until it has a slot; `None` when the client has gone.
    async fn wait_for_start(&mut self) -> Result<Option<Place>, Stop> {
        loop {
            if let Some(place) = find(self.shared, self.who, self.attach.job).await? {
                return Ok(Some(place));
            }
            if !self.attach.follow {
                let what = format!("job {} has not started", self.attach.job);
                let hint = "wait for it with `hpc logs -f`";
                return Err(Refusal::new(Code::WrongState, what, hint).into());
            }
            tokio::select! {
                notice = self.notices.recv() => if notice.is_none() {
                    // The loop forgets listeners of a job that ended: look once more, it is in the history.
                    if let Some(place) = find(self.shared, self.who, self.attach.job).await? {
                        return Ok(Some(place));
                    }
                    let refusal = Refusal::new(Code::Failed, "the controller is stopping", "");
                    return Err(refusal.into());
                },
                frame = self.incoming.next::<FromClient>() => match frame? {
                    None => return Ok(None),
                    Some(frame) => self.take_frame(None, frame).await,
                },
            }
        }
    }

    /// What a client says besides its output's window.
    async fn take_frame(&mut self, place: Option<&Place>, frame: FromClient) {
        if !self.attach.owner {
            return;
        }
        let filter = || Filter {
            jobs: vec![Selector {
                job: self.attach.job,
                indices: None,
            }],
            ..Filter::default()
        };
        let who = self.who.clone();
        match (frame, place) {
            (FromClient::Cancel, _) => {
                _ = self
                    .shared
                    .ask(Command::Cancel {
                        who,
                        filter: filter(),
                    })
                    .await
            }
            (FromClient::Signal(signal), Some(_)) => {
                let command = Command::Signal {
                    who,
                    filter: filter(),
                    signal,
                    to: SignalTarget::Step(self.attach.step),
                };
                _ = self.shared.ask(command).await;
            }
            // Nothing runs yet that could take it.
            (FromClient::Signal(_), None) => {
                _ = self
                    .shared
                    .ask(Command::Cancel {
                        who,
                        filter: filter(),
                    })
                    .await
            }
            (FromClient::Stdin { offset, bytes, end }, Some(place)) => {
                let behind = offset.saturating_add(bytes.len() as u64);
                if !self.stdin.has_room(offset, behind) {
                    // Our own clients never do; this one would have us keep it all.
                    self.gone = true;
                    return;
                }
                for node in place.nodes.iter().filter_map(|node| node.id) {
                    if self.stdin.is_closed(node) {
                        continue;
                    }
                    let order = ToSlot::Stdin {
                        step: self.attach.step,
                        offset,
                        bytes: bytes.clone(),
                        end,
                    };
                    let key = place.key;
                    self.shared.links.send(node, ToWorker::Slot { key, order });
                }
            }
            (
                FromClient::Stdin { .. } | FromClient::Taken { .. } | FromClient::NodeTaken { .. },
                _,
            ) => {}
        }
    }

    /// Passes bytes both ways until the logs are complete, the client has gone, or the job is out of reach. Whether
    /// every node had a log.
    async fn relay(
        &mut self,
        place: &Place,
        ended: &mut Option<(JobState, ExitStatus)>,
        stdin: &mut watch::Receiver<TakenByNode>,
    ) -> Result<bool, Stop> {
        let subject = Subject {
            key: place.key,
            position: place.position,
            step: self.attach.step,
            owner: place.owner.clone(),
        };
        let offsets = std::mem::take(&mut self.attach.offsets);
        let mut logs = StepLogs::new(self.shared, subject, &place.nodes, &offsets);
        self.stdin = Inputs::of(&place.nodes);
        let mut links = self.shared.links.changes();
        let (mut first, mut whole) = (true, true);
        // When nodes that do not answer are waited for no longer, once the end is known.
        let mut give_up = None;
        loop {
            let follow = ended.is_none() && self.attach.follow;
            if logs.open(follow) > 0 && !std::mem::replace(&mut first, false) {
                // An agent that was restarted may have had input on its way: the client says again what was not taken.
                self.outgoing.send(&started(place)).await?;
            }
            if logs.are_over() {
                if self.attach.by_node {
                    self.outgoing
                        .send(&ToClient::DataEnd { error: None })
                        .await?;
                }
                return Ok(whole);
            }
            let waits = logs.wait();
            if waits && !follow {
                let lost = matches!(ended, Some((JobState::NodeFail, _)));
                let patience = if lost { LOST_PATIENCE } else { OUTPUT_PATIENCE };
                give_up.get_or_insert_with(|| tokio::time::Instant::now() + patience);
            }
            let over = async {
                match give_up {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                frame = self.incoming.next::<FromClient>() => match frame? {
                    None => { self.gone = true; return Ok(whole); }
                    Some(FromClient::Taken { offset }) => logs.taken(0, offset),
                    Some(FromClient::NodeTaken { node, offset }) => logs.taken(node, offset),
                    Some(frame) => self.take_frame(Some(place), frame).await,
                },
                Some(notice) = self.notices.recv() => {
                    self.note(place, &notice, ended);
                    self.say_failed(place, notice).await?;
                }
                Ok(()) = stdin.changed() => {
                    let nodes = stdin.borrow_and_update().clone();
                    for taken in nodes.into_values() {
                        let told = self.stdin.taken(taken);
                        self.say_taken(told).await?;
                    }
                }
                _ = links.changed(), if waits => {}
                () = over, if waits => for node in logs.give_up() {
                    self.say_log_end(node, Some(out_of_reach())).await?;
                },
                (node, piece) = logs.next() => match piece {
                    Piece::Data { offset, bytes } => self.pass(&node, offset, bytes).await?,
                    Piece::End { error } => {
                        // Nobody is left there to take input: the others must not wait for it.
                        let told = self.stdin.closed(&node);
                        self.say_taken(told).await?;
                        whole &= error.is_none();
                        self.say_log_end(node, error).await?;
                    }
                    Piece::Broken => {}
                },
            }
        }
    }

    async fn pass(&mut self, node: &NodeOf, offset: u64, bytes: Vec<u8>) -> std::io::Result<()> {
        let message = if self.attach.by_node {
            ToClient::NodeData {
                node: node.place,
                offset,
                bytes,
            }
        } else {
            ToClient::Data { offset, bytes }
        };
        self.outgoing.send(&message).await
    }

    async fn say_log_end(&mut self, node: NodeOf, error: Option<String>) -> std::io::Result<()> {
        let message = if self.attach.by_node {
            ToClient::NodeEnd {
                node: node.place,
                name: node.name,
                error,
            }
        } else {
            ToClient::DataEnd { error }
        };
        self.outgoing.send(&message).await
    }

    async fn say_taken(&mut self, told: Option<(u64, bool)>) -> std::io::Result<()> {
        match told {
            Some((offset, closed)) if self.attach.owner => {
                self.outgoing
                    .send(&ToClient::StdinTaken { offset, closed })
                    .await
            }
            _ => Ok(()),
        }
    }

    /// Tells the client of a step why it could not start. What the job consists of says so in its own log.
    async fn say_failed(&mut self, place: &Place, notice: Notice) -> std::io::Result<()> {
        match notice {
            Notice::StepFailed { step, node, text }
                if self.attach.by_node && step == self.attach.step && !self.is_main(place) =>
            {
                let node = self.shared.snapshot.load().node_name(node);
                let text = format!("{node}: {text}");
                self.outgoing.send(&ToClient::Why { text }).await
            }
            _ => Ok(()),
        }
    }

    fn note(&self, place: &Place, notice: &Notice, ended: &mut Option<(JobState, ExitStatus)>) {
        let main = self.is_main(place) || self.holds;
        match *notice {
            Notice::Job { state, exit } if main => *ended = Some((state, exit)),
            Notice::Step { step, exit } if !main && step == self.attach.step => {
                *ended = Some((state_of(exit), exit))
            }
            Notice::Element {
                position,
                state,
                exit,
            } if !main && position == place.position && ended.is_none() => {
                *ended = Some((state, exit));
            }
            _ => {}
        }
    }

    async fn wait_for_end(&mut self, place: &Place) -> Result<(JobState, ExitStatus), Stop> {
        let is_step = !self.is_main(place) && !self.holds;
        let mut ended = None;
        if is_step {
            ended = self.find_step(&mut place.clone()).await?;
        }
        loop {
            if let Some(ended) = ended {
                return Ok(ended);
            }
            tokio::select! {
                notice = self.notices.recv() => match notice {
                    Some(Notice::Watching) if is_step => ended = self.find_step(&mut place.clone()).await?,
                    Some(notice) => {
                        self.note(place, &notice, &mut ended);
                        self.say_failed(place, notice).await?;
                    }
                    None => {
                        ended = find(self.shared, self.who, self.attach.job).await?.and_then(|place| place.ended);
                        if ended.is_none() {
                            return Err(Refusal::new(Code::Failed, "the controller is stopping", "").into());
                        }
                    }
                },
                frame = self.incoming.next::<FromClient>() => match frame? {
                    None => return Err(Stop::Connection(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into())),
                    Some(frame) => self.take_frame(Some(place), frame).await,
                },
            }
        }
    }
}

fn state_of(exit: ExitStatus) -> JobState {
    if exit.is_success() {
        JobState::Completed
    } else {
        JobState::Failed
    }
}

/// Serves the client of `hpc alloc`: says when the allocation is there, and takes its silence for its end.
pub(super) async fn hold(
    shared: &Arc<Shared>,
    who: &Principal,
    job: JobId,
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
) -> Result<(), CodecError> {
    let (to, notices) = mpsc::unbounded_channel();
    let listener = Listener::Notices {
        to,
        position: 0,
        step: StepId(0),
    };
    _ = shared.inbox.send(Message::Watch { job, listener }).await;
    let presence = Presence::new(shared, job);
    let attach = Attach {
        job: job.0,
        step: StepId(0),
        offsets: Vec::new(),
        owner: true,
        follow: true,
        by_node: false,
    };
    let mut client = Client {
        shared,
        who,
        attach,
        incoming,
        outgoing,
        notices,
        stdin: Inputs::default(),
        gone: false,
        holds: true,
    };
    let result = hold_on(&mut client).await;
    drop(presence);
    match result {
        Ok(()) => Ok(()),
        Err(Stop::Connection(error)) => Err(error),
        Err(Stop::Refused(refusal)) => Ok(outgoing.send(&ToClient::Refused(refusal)).await?),
    }
}

async fn hold_on(client: &mut Client<'_>) -> Result<(), Stop> {
    let Some(place) = client.wait_for_start().await? else {
        return Ok(());
    };
    let environment = allocation::environment(&client.shared.snapshot.load(), place.key);
    let raw_job = place.key.job.0;
    client
        .outgoing
        .send(&ToClient::Started {
            raw_job,
            environment,
        })
        .await?;
    let (state, exit) = match place.ended {
        Some(ended) => ended,
        None => match client.wait_for_end(&place).await {
            Ok(ended) => ended,
            // The client closed: it has said so before (EndAllocation), or has gone.
            Err(Stop::Connection(_)) => return Ok(()),
            Err(stop) => return Err(stop),
        },
    };
    let code = code_of(state, exit);
    client
        .outgoing
        .send(&ToClient::Ended {
            job: raw_job,
            state,
            code,
        })
        .await?;
    Ok(())
}
