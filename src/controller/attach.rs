//! Clients that belong to a job: of `hpc run` (streams both ways) and of `hpc alloc` (presence alone).
//!
//! A client that goes ends its job: at once but for a short grace when its connection closes, after a minute
//! when the controller was restarted and the client did not come back.

use super::act::Notice;
use super::links::{StdinTaken, StreamEvent};
use super::queries::{blocking, find_ended};
use super::run::{Message, Shared};
use super::session::{Incoming, Outgoing, code_of};
use crate::cluster::{Command, Principal};
use crate::model::ids::{JobId, NodeId, SlotId, SlotKey, StepId};
use crate::model::job::{ExitStatus, Job, JobState, Launch, Owner};
use crate::model::refusal::{Code, Refusal};
use crate::wire::client::{Filter, FromClient, Selector, ToClient};
use crate::wire::codec::CodecError;
use crate::wire::worker::{OpenStream, SignalTarget, StreamSource, ToSlot, ToWorker};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

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
#[derive(Debug, Clone, Copy)]
pub(super) struct Attach {
    pub(super) job: u32,
    pub(super) step: StepId,
    pub(super) offset: u64,
    pub(super) owner: bool,
}

/// Where a step's log is.
#[derive(Debug, Clone)]
struct Place {
    key: SlotKey,
    position: u32,
    node: NodeId,
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

fn slot_of(job: &Job, position: u32) -> Option<(SlotKey, NodeId)> {
    let slot = job
        .slots
        .iter()
        .find(|slot| slot.queue.contains(position))?;
    Some((
        SlotKey {
            job: job.id,
            slot: slot.id,
        },
        slot.allocation.nodes.first()?.node,
    ))
}

/// Where the log of this job's step is now; `None` while the job waits.
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
        return Ok(slot_of(job, position).map(|(key, node)| Place {
            key,
            position,
            node,
            owner: job.owner.clone(),
            tasks: matches!(job.spec.launch, Launch::Tasks { .. }),
            ended: None,
        }));
    }
    let Some(ended) = blocking(shared, move |reader| find_ended(reader, number)).await? else {
        return Err(crate::cluster::select::unknown(number));
    };
    if !who.is_operator() && !who.owner.is(&ended.owner) {
        return Err(not_permitted(number, &ended.owner));
    }
    let node = snapshot.nodes.values().find(|node| {
        ended
            .granted
            .nodes
            .first()
            .is_some_and(|name| name == node.name())
    });
    let Some(node) = node else {
        let what = format!("job {number} ended {} without running", ended.state);
        return Err(Refusal::new(
            Code::WrongState,
            what,
            "there is nothing to attach to",
        ));
    };
    Ok(Some(Place {
        key: SlotKey {
            job: ended.id,
            slot: SlotId(ended.restarts),
        },
        position: 0,
        node: node.id,
        owner: ended.owner.clone(),
        tasks: matches!(ended.spec.launch, Launch::Tasks { .. }),
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
    let (listener, notices) = mpsc::unbounded_channel();
    let (id, tasks) = match shared.snapshot.load().by_raw_id(attach.job) {
        Some((job, _)) => (job.id, matches!(job.spec.launch, Launch::Tasks { .. })),
        None => (JobId(attach.job), false),
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

/// What is said when it is waited for no longer.
pub(super) fn output_out_of_reach() -> ToClient {
    ToClient::DataEnd {
        error: Some("its node does not answer: the rest of the output stays there".to_owned()),
    }
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
    gone: bool,
    /// The client of `hpc alloc`: its concern is the job, not a step.
    holds: bool,
}

impl Client<'_> {
    async fn run(&mut self) -> Result<(), Stop> {
        let Some(place) = self.wait_for_start().await? else {
            return Ok(());
        };
        self.outgoing.send(&started(&place)).await?;
        let mut ended = place.ended;
        if !self.is_main(&place) {
            ended = self.step_ended(place.key.job).await?.or(ended);
        }
        if self.attach.owner {
            let mut stdin = self.shared.links.provide_stdin(place.key, self.attach.step);
            let result = self.relay(&place, &mut ended, &mut stdin).await;
            self.shared.links.forget_stdin(place.key, self.attach.step);
            result?;
        } else {
            // Looks on: nothing is taken from it, so nobody sends here.
            let (_open, mut stdin) = mpsc::channel(1);
            self.relay(&place, &mut ended, &mut stdin).await?;
        }
        if self.gone {
            return Ok(());
        }
        let (state, exit) = match ended {
            Some(ended) => ended,
            None => self.wait_for_end(&place).await?,
        };
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

    /// Whether this is the step that the job consists of.
    fn is_main(&self, place: &Place) -> bool {
        place.tasks && self.attach.step == StepId(0)
    }

    /// The end of this step, if the store has it.
    async fn step_ended(&self, job: JobId) -> Result<Option<(JobState, ExitStatus)>, Refusal> {
        let step = self.attach.step;
        let rows = blocking(self.shared, move |reader| reader.steps(job)).await?;
        let worst = rows
            .iter()
            .filter(|row| row.step == step)
            .map(|row| row.exit)
            .max_by_key(|exit| exit.shell_code());
        Ok(worst.map(|exit| (state_of(exit), exit)))
    }

    /// Until it has a slot; `None` when the client has gone.
    async fn wait_for_start(&mut self) -> Result<Option<Place>, Stop> {
        loop {
            if let Some(place) = find(self.shared, self.who, self.attach.job).await? {
                return Ok(Some(place));
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
    async fn take_frame(&self, place: Option<&Place>, frame: FromClient) {
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
                    to: SignalTarget::Steps,
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
                let order = ToSlot::Stdin {
                    step: self.attach.step,
                    offset,
                    bytes,
                    end,
                };
                for node in self.nodes(place) {
                    self.shared.links.send(
                        node,
                        ToWorker::Slot {
                            key: place.key,
                            order: order.clone(),
                        },
                    );
                }
            }
            (FromClient::Stdin { .. } | FromClient::Taken { .. }, _) => {}
        }
    }

    /// All nodes of the slot, leader first.
    fn nodes(&self, place: &Place) -> Vec<NodeId> {
        let snapshot = self.shared.snapshot.load();
        let slot = snapshot
            .jobs
            .get(&place.key.job)
            .and_then(|job| job.slot(place.key.slot));
        slot.map_or_else(
            || vec![place.node],
            |slot| {
                slot.allocation
                    .nodes
                    .iter()
                    .map(|share| share.node)
                    .collect()
            },
        )
    }

    /// Passes bytes both ways until the log is complete, the client has gone, or the job is out of reach.
    async fn relay(
        &mut self,
        place: &Place,
        ended: &mut Option<(JobState, ExitStatus)>,
        stdin: &mut mpsc::Receiver<StdinTaken>,
    ) -> Result<(), Stop> {
        let mut offset = self.attach.offset;
        let mut links = self.shared.links.changes();
        let mut first = true;
        // When a node that does not answer is waited for no longer, once the end is known.
        let mut give_up = None;
        loop {
            let open = OpenStream {
                stream: 0,
                key: place.key,
                position: place.position,
                source: StreamSource::StepLog(self.attach.step),
                offset,
                follow: ended.is_none(),
                owner: place.owner.clone(),
            };
            let Some((number, mut events)) = self.shared.links.open(place.node, open) else {
                if ended.is_some() {
                    give_up.get_or_insert_with(|| tokio::time::Instant::now() + OUTPUT_PATIENCE);
                }
                let over = async {
                    match give_up {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = links.changed() => {}
                    Some(notice) = self.notices.recv() => self.note(place, &notice, ended),
                    frame = self.incoming.next::<FromClient>() => match frame? {
                        None => { self.gone = true; return Ok(()); }
                        Some(frame) => self.take_frame(Some(place), frame).await,
                    },
                    () = over => {
                        self.outgoing.send(&output_out_of_reach()).await?;
                        return Ok(());
                    }
                }
                continue;
            };
            if !std::mem::replace(&mut first, false) {
                // An agent that was restarted may have had input on its way: the client says again what was not taken.
                self.outgoing.send(&started(place)).await?;
            }
            loop {
                tokio::select! {
                    biased;
                    event = events.recv() => match event {
                        Some(StreamEvent::Data { offset: at, bytes }) => {
                            offset = at + bytes.len() as u64;
                            self.outgoing.send(&ToClient::Data { offset: at, bytes }).await?;
                        }
                        Some(StreamEvent::End { error }) => {
                            self.outgoing.send(&ToClient::DataEnd { error }).await?;
                            return Ok(());
                        }
                        Some(StreamEvent::LinkLost) | None => break,
                    },
                    Some(notice) = self.notices.recv() => self.note(place, &notice, ended),
                    Some(taken) = stdin.recv() => {
                        self.outgoing.send(&ToClient::StdinTaken { offset: taken.offset, closed: taken.closed }).await?;
                    }
                    frame = self.incoming.next::<FromClient>() => match frame? {
                        None => {
                            self.shared.links.close(place.node, number);
                            self.gone = true;
                            return Ok(());
                        }
                        Some(FromClient::Taken { offset }) => {
                            self.shared.links.send(place.node, ToWorker::StreamTaken { stream: number, offset });
                        }
                        Some(frame) => self.take_frame(Some(place), frame).await,
                    },
                }
            }
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
            ended = self.step_ended(place.key.job).await?;
        }
        loop {
            if let Some(ended) = ended {
                return Ok(ended);
            }
            tokio::select! {
                notice = self.notices.recv() => match notice {
                    Some(Notice::Watching) if is_step => ended = self.step_ended(place.key.job).await?,
                    Some(notice) => self.note(place, &notice, &mut ended),
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
    let (listener, notices) = mpsc::unbounded_channel();
    _ = shared.inbox.send(Message::Watch { job, listener }).await;
    let presence = Presence::new(shared, job);
    let attach = Attach {
        job: job.0,
        step: StepId(0),
        offset: 0,
        owner: true,
    };
    let mut client = Client {
        shared,
        who,
        attach,
        incoming,
        outgoing,
        notices,
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
    let environment = allocation_environment(client.shared, &place);
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

/// What the client's own shell is to know of its allocation.
fn allocation_environment(shared: &Shared, place: &Place) -> Vec<(String, String)> {
    let snapshot = shared.snapshot.load();
    let Some(job) = snapshot.jobs.get(&place.key.job) else {
        return Vec::new();
    };
    let Some(slot) = job.slot(place.key.slot) else {
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
    values.into_iter().flat_map(both).collect()
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
