//! A client's connection: one request after another. Who it is has been found out in `callers.rs`.

use super::run::{Message, Shared, now};
use super::shares::{Holder, SMALL, Share, Shares, Stock};
use super::{ahead, attach, credentials, listing, members, output, queries, rules, step_turns};
use crate::cluster::command::{Gone, GoneElements, Outcome};
use crate::cluster::rule_views::JobOf;
use crate::cluster::{Command, Principal, Reply};
use crate::model::dependency::{Dependency, DependencyKind};
use crate::model::identity::Role;
use crate::model::ids::{BlobId, JobId};
use crate::model::job::{JobSpec, JobState};
use crate::model::refusal::{Code, Refusal};
use crate::model::step::StepOptions;
use crate::wire::client::{Filter, Request, ToClient};
use crate::wire::codec::{self, CodecError};
use crate::wire::join::Credential;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A long frame that has begun must go on within this: it holds a share that others of its sender may wait for.
const STALLED: Duration = Duration::from_secs(30);

/// The reading side of a connection.
pub(super) struct Incoming {
    half: Box<dyn AsyncRead + Send + Sync + Unpin>,
    buffer: codec::FrameBuffer,
    most: usize,
    bytes: Vec<u8>,
    /// The connection has failed once nothing at all came for so long.
    patience: Option<Duration>,
    /// Who pays for long frames, and from what.
    holder: Holder,
    frames: Arc<Stock>,
    /// What the frame that is arriving, or that was given out last, has taken of it.
    share: Option<Share>,
    given_out: bool,
    /// How long the frame was that was given out last.
    length: usize,
}

impl Incoming {
    pub(super) fn new(
        half: Box<dyn AsyncRead + Send + Sync + Unpin>,
        most: usize,
        holder: Holder,
        shares: &Shares,
    ) -> Self {
        Incoming {
            half,
            buffer: codec::FrameBuffer::default(),
            most,
            bytes: vec![0; 64 * 1024],
            patience: None,
            holder,
            frames: Arc::clone(&shares.frames),
            share: None,
            given_out: false,
            length: 0,
        }
    }

    /// From now on the other side has to say something, be it part of a frame, at least this often.
    pub(super) fn expect_within(&mut self, patience: Duration) {
        self.patience = Some(patience);
    }

    /// Frames may be longer from now on.
    pub(super) fn allow(&mut self, most: usize) {
        self.most = most;
    }

    /// Whose connection it is.
    pub(super) fn holder(&self) -> &Holder {
        &self.holder
    }

    /// How long the last frame was.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// It speaks for somebody else from now on.
    pub(super) fn speaks_for(&mut self, holder: Holder) {
        self.holder = holder;
    }

    /// The next frame; `None` at the end. Safe to cancel.
    ///
    /// A long frame takes a share of what may be under way, and keeps it until the next one is asked for: by then it
    /// has been answered. As long as there is none for it, nothing is read.
    pub(super) async fn next<T: serde::de::DeserializeOwned>(
        &mut self,
    ) -> Result<Option<T>, CodecError> {
        if std::mem::take(&mut self.given_out) {
            self.share = None;
        }
        loop {
            let announced = self.buffer.announced(self.most)?;
            if let Some(value) = self.buffer.next(self.most)? {
                self.given_out = true;
                self.length = announced.unwrap_or(0);
                return Ok(Some(value));
            }
            let long = announced.filter(|length| *length > SMALL);
            if let Some(length) = long.filter(|_| self.share.is_none()) {
                self.share = Some(self.frames.take(&self.holder, length).await);
            }
            let patience = match (self.patience, &self.share) {
                (None, Some(_)) => Some(STALLED),
                (patience, _) => patience,
            };
            let read = self.half.read(&mut self.bytes);
            let count = match patience {
                None => read.await?,
                Some(patience) => tokio::time::timeout(patience, read)
                    .await
                    .map_err(std::io::Error::from)??,
            };
            match count {
                0 => return Ok(None),
                count => self.buffer.extend(&self.bytes[..count]),
            }
        }
    }
}

/// The writing side of a connection.
pub(super) struct Outgoing {
    half: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    held: Vec<u8>,
}

impl Outgoing {
    pub(super) fn new(half: Box<dyn AsyncWrite + Send + Sync + Unpin>) -> Self {
        Outgoing {
            half,
            held: Vec::new(),
        }
    }

    /// Writes a frame, with what was held back before it.
    pub(super) async fn send(&mut self, value: &impl serde::Serialize) -> std::io::Result<()> {
        let frame = codec::encode(value);
        if self.held.is_empty() {
            self.half.write_all(&frame).await?;
            return self.half.flush().await;
        }
        self.held.extend_from_slice(&frame);
        self.flush().await
    }

    /// Writes what was held back.
    pub(super) async fn flush(&mut self) -> std::io::Result<()> {
        let bytes = std::mem::take(&mut self.held);
        self.half.write_all(&bytes).await?;
        self.half.flush().await
    }

    /// Sends it together with the next frame: an answer then takes one write.
    pub(super) fn hold(&mut self, value: &impl serde::Serialize) {
        self.held.extend_from_slice(&codec::encode(value));
    }

    /// Writes bytes that are frames already.
    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.half.write_all(bytes).await?;
        self.half.flush().await
    }
}

/// What a job shows to be heard from another machine; it is looked at anew for every request.
pub(super) struct Held {
    pub(super) node: String,
    pub(super) credential: Credential,
}

/// One request after another, until the client goes.
pub(super) async fn clients(
    shared: &Arc<Shared>,
    who: &Principal,
    held: Option<Held>,
    mut incoming: Incoming,
    mut outgoing: Outgoing,
) -> Result<(), CodecError> {
    while let Some(request) = incoming.next::<Request>().await? {
        if may_take_long(&request) {
            // The client is to know that it is heard: it looks after signals only once it is.
            outgoing.flush().await?;
        }
        if let Some(Held { node, credential }) = &held
            && let Err(refusal) = credentials::principal(shared, node, credential)
        {
            return Ok(outgoing.send(&ToClient::Refused(refusal)).await?);
        }
        if who.role < Role::User && changes_something(&request) {
            let what = format!("{} may look only (role {})", who.owner.name, who.role);
            let refusal = Refusal::new(
                Code::NotPermitted,
                what,
                "ask an admin for the role user, or a higher one",
            );
            outgoing.send(&ToClient::Refused(refusal)).await?;
            continue;
        }
        let long = match may_be_long(&request) {
            true => Some(room_for_long(shared, incoming.holder()).await),
            false => None,
        };
        let _room = match long.transpose() {
            Ok(room) => room,
            Err(refusal) => {
                outgoing.send(&ToClient::Refused(refusal)).await?;
                continue;
            }
        };
        match request {
            Request::Queue(filter) => listing::queue(shared, filter, &mut outgoing).await?,
            Request::QueueLines(filter) => {
                listing::queue_lines(shared, filter, &mut outgoing).await?;
            }
            Request::History(filter) => listing::history(shared, filter, &mut outgoing).await?,
            Request::Job { selector } => listing::job(shared, selector, &mut outgoing).await?,
            Request::Wait(selectors) => {
                queries::wait(shared, &selectors, &mut incoming, &mut outgoing).await?
            }
            Request::Output {
                selector,
                kind,
                offset,
                follow,
            } => {
                let wanted = output::Wanted {
                    selector,
                    kind,
                    offset,
                    follow,
                };
                output::serve(shared, who, wanted, &mut incoming, &mut outgoing).await?;
            }
            Request::Attach {
                job,
                step,
                offset,
                owner,
            } => {
                let attach = attach::Attach {
                    job,
                    step,
                    offsets: vec![offset],
                    owner,
                    follow: true,
                    by_node: false,
                };
                attach::serve(shared, who, attach, &mut incoming, &mut outgoing).await?;
            }
            Request::AttachNodes {
                job,
                step,
                offsets,
                owner,
                follow,
            } => {
                let attach = attach::Attach {
                    job,
                    step,
                    offsets,
                    owner,
                    follow,
                    by_node: true,
                };
                attach::serve(shared, who, attach, &mut incoming, &mut outgoing).await?;
            }
            Request::HoldAllocation { job } => {
                attach::hold(shared, who, JobId(job), &mut incoming, &mut outgoing).await?;
            }
            Request::Backup => queries::backup(shared, who, &mut outgoing).await?,
            Request::Shutdown { keep_jobs } => {
                return shut_down(shared, who, keep_jobs, &mut outgoing).await;
            }
            simple => {
                let reply = answer(shared, who, simple)
                    .await
                    .unwrap_or_else(ToClient::Refused);
                outgoing.send(&reply).await?;
            }
        }
    }
    Ok(())
}

/// How long an answer that may be long waits for those of the same caller that nobody reads.
const LONG_PATIENCE: Duration = Duration::from_secs(10);

/// Whether the answer may be long. Such ones are few at a time, as each may wait for its reader with a thread and with
/// what it has made so far.
fn may_be_long(request: &Request) -> bool {
    matches!(
        request,
        Request::Queue(_)
            | Request::QueueLines(_)
            | Request::History(_)
            | Request::Job { .. }
            | Request::Script { .. }
            | Request::Audit { .. }
            | Request::Rules { .. }
            | Request::Backup
    )
}

/// Room for one more answer that may be long.
async fn room_for_long(shared: &Shared, holder: &Holder) -> Result<Share, Refusal> {
    let long = &shared.shares.long;
    match tokio::time::timeout(LONG_PATIENCE, long.take(holder, 1)).await {
        Ok(room) => Ok(room),
        Err(_) => long.try_take(holder, 1),
    }
}

/// Whether the first answer may come only when a job starts or ends.
fn may_take_long(request: &Request) -> bool {
    match request {
        Request::Wait(_)
        | Request::Attach { .. }
        | Request::AttachNodes { .. }
        | Request::HoldAllocation { .. } => true,
        Request::Output { follow, .. } => *follow,
        _ => false,
    }
}

/// What a viewer may not ask.
fn changes_something(request: &Request) -> bool {
    !matches!(
        request,
        Request::Status
            | Request::Submit { dry_run: true, .. }
            | Request::Queue(_)
            | Request::QueueLines(_)
            | Request::Job { .. }
            | Request::History(_)
            | Request::Nodes
            | Request::Links
            | Request::Partitions
            | Request::Rules { .. }
            | Request::Explain { .. }
            | Request::Shares
            | Request::Priority { .. }
            | Request::StepPlaces { .. }
            | Request::Limits { .. }
            | Request::Wait(_)
    )
}

/// Requests with one answer.
async fn answer(
    shared: &Arc<Shared>,
    who: &Principal,
    request: Request,
) -> Result<ToClient, Refusal> {
    let who = who.clone();
    let command = match request {
        Request::Status => return Ok(ToClient::Status(Box::new(queries::status(shared)))),
        Request::Nodes => return Ok(queries::nodes(shared)),
        Request::Partitions => return Ok(queries::partitions(shared)),
        Request::Links => return Ok(queries::links(shared)),
        Request::Rules { noun } => return rules::list(shared, noun),
        Request::Limits {
            user,
            account,
            partition,
            qos,
        } => {
            let of = JobOf {
                user,
                account,
                partition,
                qos,
            };
            return ahead::limits(shared, &who, of).await;
        }
        Request::Explain { job } => return ahead::why(shared, job).await,
        Request::Shares => return Ok(ahead::shares(shared)),
        Request::Priority { job } => return ahead::priority(shared, job).await,
        Request::StepPlaces { job } => return queries::step_places(shared, job),
        Request::ChangeRule(change) => Command::ChangeRule { who, change },
        Request::Members => {
            admin(&who, "see who is known")?;
            return Ok(members::list(shared));
        }
        Request::Audit { limit } => {
            admin(&who, "read the audit")?;
            return queries::audit(shared, limit).await;
        }
        Request::Invite { grant, ttl_s, uses } => {
            return members::invite(shared, who, grant, ttl_s, uses).await;
        }
        Request::Withdraw { grant } => Command::Withdraw { who, grant },
        Request::RevokeUser { name } => Command::RevokeUser { who, name },
        Request::Script { job } => return queries::script(shared, &who, job).await,
        Request::Submit {
            spec,
            blobs,
            dry_run,
        } => return submit(shared, who, spec, blobs, dry_run).await,
        Request::Cancel { filter } => Command::Cancel { who, filter },
        Request::Signal { filter, signal, to } => Command::Signal {
            who,
            filter,
            signal,
            to,
        },
        Request::Hold(filter) => Command::Hold { who, filter },
        Request::Release(filter) => Command::Release { who, filter },
        Request::Requeue { filter, hold } => Command::Requeue { who, filter, hold },
        Request::Suspend { filter, stop } => Command::Suspend { who, filter, stop },
        Request::Update { filter, changes } => {
            let mut ended = Vec::new();
            for change in &changes {
                if let crate::wire::client::JobChange::Dependency(Some(dependency)) = change {
                    ended.extend(ended_targets(shared, dependency).await?);
                }
            }
            Command::Update {
                who,
                filter,
                changes,
                ended,
            }
        }
        Request::Node { name, change } => Command::ChangeNode { who, name, change },
        Request::EndAllocation { job, code } => Command::EndAllocation {
            who,
            job: JobId(job),
            code,
        },
        Request::StartStep(request) => {
            return step_turns::start(shared, who, request, StepOptions::default()).await;
        }
        Request::StartStepAs(wish) => {
            let request = Box::new(wish.request);
            return step_turns::start(shared, who, request, wish.options).await;
        }
        Request::Queue(_)
        | Request::QueueLines(_)
        | Request::History(_)
        | Request::Job { .. }
        | Request::Wait(_)
        | Request::Output { .. }
        | Request::Attach { .. }
        | Request::AttachNodes { .. }
        | Request::HoldAllocation { .. }
        | Request::Backup
        | Request::Shutdown { .. } => {
            return Err(Refusal::new(
                Code::Failed,
                "a request took the wrong way",
                "report this",
            ));
        }
    };
    Ok(match shared.ask(command).await? {
        Reply::Touched { count, notes } => ToClient::Done { count, notes },
        Reply::Submitted(job) => ToClient::Submitted { job: job.0 },
        Reply::WouldRun { text, .. } => ToClient::WouldRun { text },
        Reply::StepStarted { step, .. } => ToClient::StepStarted { step },
        Reply::Done | Reply::Registered(_) | Reply::Invited { .. } | Reply::Joined { .. } => {
            ToClient::Done {
                count: 0,
                notes: Vec::new(),
            }
        }
    })
}

fn admin(who: &Principal, what: &str) -> Result<(), Refusal> {
    if who.is_operator() {
        return Ok(());
    }
    let what = format!("{} may not {what}", who.owner.name);
    Err(Refusal::new(
        Code::NotPermitted,
        what,
        "only an operator may",
    ))
}

/// What the history says of ended jobs that a dependency names.
async fn ended_targets(
    shared: &Arc<Shared>,
    dependency: &Dependency,
) -> Result<Vec<Gone>, Refusal> {
    let snapshot = shared.snapshot.load_full();
    let mut wanted: BTreeMap<JobId, bool> = BTreeMap::new();
    for term in &dependency.terms {
        let Some(target) = term.job else { continue };
        let of_elements = term.kind == DependencyKind::AfterCorr || target.index.is_some();
        *wanted.entry(JobId(target.job)).or_default() |= of_elements;
    }
    // Of what ended lately the cluster knows the outcome itself.
    wanted.retain(|id, of_elements| {
        snapshot.by_raw_id(id.0).is_none() && (*of_elements || !snapshot.recent.contains_key(id))
    });
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    queries::blocking(shared, move |reader| {
        let mut found = Vec::new();
        for (id, of_elements) in wanted {
            let Some(ended) = reader.ended(id)? else {
                continue;
            };
            let elements = if of_elements {
                Some(GoneElements {
                    array: ended.spec.array.as_deref().cloned(),
                    unsuccessful: reader.unsuccessful(id)?,
                })
            } else {
                None
            };
            let outcome = Outcome::from(&ended);
            found.push(Gone {
                id,
                outcome,
                elements,
            });
        }
        Ok(found)
    })
    .await
}

async fn submit(
    shared: &Arc<Shared>,
    who: Principal,
    spec: Box<JobSpec>,
    blobs: Vec<(BlobId, Vec<u8>)>,
    dry_run: bool,
) -> Result<ToClient, Refusal> {
    // Names of blobs are what their bytes hash to, whatever a client says.
    let named = |id: &BlobId| blobs.iter().any(|(known, _)| known == id);
    if blobs.iter().any(|(id, bytes)| *id != BlobId::of(bytes)) || !spec.blobs().iter().all(named) {
        return Err(Refusal::new(
            Code::Invalid,
            "the script or environment did not arrive whole",
            "submit again",
        ));
    }
    let blobs = blobs
        .into_iter()
        .map(|(id, bytes)| (id, Arc::from(bytes)))
        .collect();
    let ended = match &spec.dependency {
        Some(dependency) => ended_targets(shared, dependency).await?,
        None => Vec::new(),
    };
    let attached = spec.launch.is_attached();
    match shared
        .ask_with(
            Command::Submit {
                who,
                spec,
                ended,
                dry_run,
            },
            blobs,
        )
        .await?
    {
        Reply::Submitted(job) => {
            if attached {
                attach::expect_client(shared, job);
            }
            Ok(ToClient::Submitted { job: job.0 })
        }
        Reply::WouldRun { text, job } => Ok(ahead::would_run(shared, text, job).await),
        other => Err(Refusal::new(
            Code::Failed,
            format!("an unexpected answer: {other:?}"),
            "report this",
        )),
    }
}

/// Ends the jobs unless they are to be kept, then the controller.
async fn shut_down(
    shared: &Arc<Shared>,
    who: &Principal,
    keep_jobs: bool,
    outgoing: &mut Outgoing,
) -> Result<(), CodecError> {
    if who.role < Role::Admin {
        let what = format!("{} may not stop this controller", who.owner.name);
        let refusal = Refusal::new(Code::NotPermitted, what, "only an admin may");
        outgoing.send(&ToClient::Refused(refusal)).await?;
        return Ok(());
    }
    let mut count = 0;
    _ = shared.inbox.send(Message::Freeze).await;
    if !keep_jobs {
        if let Ok(Reply::Touched { count: touched, .. }) = shared
            .ask(Command::Cancel {
                who: who.clone(),
                filter: Filter::default(),
            })
            .await
        {
            count = touched;
        }
        wait_until_empty(shared).await;
    }
    // A client that has not waited for the answer has asked all the same: a controller that starts nothing more must go.
    let told = outgoing
        .send(&ToClient::Done {
            count,
            notes: Vec::new(),
        })
        .await;
    _ = shared.inbox.send(Message::Stop).await;
    Ok(told?)
}

/// Until no job holds a slot on a node that answers, or the longest kill wait is over.
async fn wait_until_empty(shared: &Shared) {
    let longest = |snapshot: &crate::cluster::Snapshot| {
        let waits = snapshot
            .jobs
            .values()
            .filter(|job| job.is_running())
            .map(|job| job.spec.kill_wait_s);
        i64::from(waits.max().unwrap_or(0)) * 1000
    };
    let deadline = now().plus_ms(longest(&shared.snapshot.load()) + 10_000);
    let answers = |snapshot: &crate::cluster::Snapshot, job: &crate::model::job::Job| {
        job.slots
            .iter()
            .flat_map(|slot| &slot.allocation.nodes)
            .any(|share| {
                snapshot
                    .nodes
                    .get(&share.node)
                    .is_some_and(|node| node.link == crate::model::node::Link::Up)
            })
    };
    loop {
        let snapshot = shared.snapshot.load_full();
        let busy = snapshot
            .jobs
            .values()
            .any(|job| job.is_running() && answers(&snapshot, job));
        if !busy || now() >= deadline {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a state is worth an exit code of its own.
pub(super) fn code_of(state: JobState, exit: crate::model::job::ExitStatus) -> u8 {
    match state {
        JobState::Completed => 0,
        _ if exit.shell_code() != 0 => exit.shell_code(),
        // Ended by us: as a shell would show the signal that did it.
        JobState::Cancelled | JobState::Timeout | JobState::Preempted => 128 + 15,
        _ => 1,
    }
}
