//! What the controller starts from: the hot state, and the ends of the recent past.

use super::columns::collect_unsuccessful;
use super::error::{Fault, row};
use super::record::{
    RecordError, decode_counters, decode_invitation, decode_job, decode_key, decode_node,
    decode_order, decode_outcome, decode_rule, decode_rule_key, decode_spec, decode_usage,
};
use super::tables::{
    CLUSTER, COUNTERS, ELEMENT_ROWS, HISTORY_BY_END, INVITATIONS, JOBS, KEYS, META, NODES, RULES,
    SPECS, STEP_ORDERS, USAGE,
};
use crate::cluster::changes::Counters;
use crate::model::identity::{Invitation, KeyId, KnownKey, TokenHash};
use crate::model::ids::{JobId, NodeId, SlotId, SlotKey, StepId};
use crate::model::index_set::IndexSet;
use crate::model::job::{Commons, ExitStatus, Job, JobState};
use crate::model::node::Node;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::scheduler::priority::Usage;
use crate::scheduler::shares::Member;
use crate::wire::worker::StepOrder;
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// How many of the last ends are kept at hand, for dependencies on jobs that have ended and for waiters.
pub const RECENT_MAX: usize = 10_000;

/// 16 random bytes, drawn when the store was made, that tell clusters apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A job that ended not long ago.
pub type Ended = (JobId, JobState, ExitStatus, Timestamp);

/// What an opened store holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Which cluster this is.
    pub cluster: ClusterId,
    /// The counters.
    pub counters: Counters,
    /// Jobs that have not ended, by number.
    pub jobs: Vec<Arc<Job>>,
    /// Steps that run, as they were ordered, by slot and number.
    pub orders: Vec<(SlotKey, Arc<StepOrder>)>,
    /// Nodes, by number; what is free on them is still to be counted.
    pub nodes: Vec<Arc<Node>>,
    /// Keys that are known.
    pub keys: Vec<(KeyId, Arc<KnownKey>)>,
    /// Invitations.
    pub invitations: Vec<(TokenHash, Arc<Invitation>)>,
    /// Partitions, accounts, users and QOS; `None` = nothing was ever said of any, as in a new store.
    pub rules: Option<Rules>,
    /// Who has used how much.
    pub usage: Vec<(Member, Usage)>,
    /// The last [`RECENT_MAX`] ended jobs, newest first.
    pub recent: Vec<Ended>,
}

/// Reads it.
pub(super) fn load(database: &Database) -> Result<Loaded, Fault> {
    let txn = database.begin_read()?;
    let meta = txn.open_table(META)?;
    let cluster = meta
        .get(CLUSTER)?
        .and_then(|bytes| bytes.value().try_into().ok());
    let cluster = cluster
        .ok_or(RecordError::Empty)
        .map_err(row("meta", CLUSTER))?;
    let counters = match meta.get(COUNTERS)? {
        Some(bytes) => decode_counters(bytes.value()).map_err(row("meta", COUNTERS))?,
        None => Counters::default(),
    };
    Ok(Loaded {
        cluster: ClusterId(cluster),
        counters,
        jobs: jobs(&txn)?,
        orders: orders(&txn)?,
        nodes: nodes(&txn)?,
        keys: keys(&txn)?,
        invitations: invitations(&txn)?,
        rules: rules(&txn)?,
        usage: usage(&txn)?,
        recent: recent(&txn)?,
    })
}

fn jobs(txn: &ReadTransaction) -> Result<Vec<Arc<Job>>, Fault> {
    let table = txn.open_table(JOBS)?;
    let specs = txn.open_table(SPECS)?;
    let rows = txn.open_table(ELEMENT_ROWS)?;
    let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut commons = Commons::default();
    let mut jobs = Vec::new();
    for entry in table.iter()? {
        let (id, bytes) = entry?;
        let id = JobId(id.value());
        let spec = specs
            .get(id.0)?
            .ok_or(RecordError::Empty)
            .map_err(row("specs", id))?;
        let mut spec = decode_spec(spec.value()).map_err(row("specs", id))?;
        spec.share(&mut commons);
        let spec = Arc::new(spec);
        let mut job = decode_job(id, bytes.value(), spec).map_err(row("jobs", id))?;
        // Ten thousand jobs have a handful of owners: one copy of each name.
        match names.get(&job.owner.name) {
            Some(name) => job.owner.name = name.clone(),
            None => drop(names.insert(job.owner.name.clone())),
        }
        if job.spec.array.is_some() && job.ends.unsuccessful > 0 {
            job.unsuccessful = unsuccessful(&rows, id)?.into();
        }
        jobs.push(Arc::new(job));
    }
    Ok(jobs)
}

/// The positions of a job that ended otherwise than COMPLETED.
pub(super) fn unsuccessful(
    rows: &ReadOnlyTable<(u32, u32), &'static [u8]>,
    id: JobId,
) -> Result<IndexSet, Fault> {
    let mut set = IndexSet::default();
    for entry in ReadableTable::range(rows, (id.0, 0)..=(id.0, u32::MAX))? {
        let (key, bytes) = entry?;
        collect_unsuccessful(bytes.value(), &mut set).map_err(row("element_rows", key.value()))?;
    }
    Ok(set)
}

fn orders(txn: &ReadTransaction) -> Result<Vec<(SlotKey, Arc<StepOrder>)>, Fault> {
    let table = txn.open_table(STEP_ORDERS)?;
    let mut orders = Vec::new();
    for entry in table.iter()? {
        let (key, bytes) = entry?;
        let (job, slot, step) = key.value();
        let order =
            decode_order(StepId(step), bytes.value()).map_err(row("step_orders", key.value()))?;
        let key = SlotKey {
            job: JobId(job),
            slot: SlotId(slot),
        };
        orders.push((key, Arc::new(order)));
    }
    Ok(orders)
}

fn nodes(txn: &ReadTransaction) -> Result<Vec<Arc<Node>>, Fault> {
    let table = txn.open_table(NODES)?;
    let mut nodes = Vec::new();
    for entry in table.iter()? {
        let (id, bytes) = entry?;
        let id = NodeId(id.value());
        nodes.push(Arc::new(
            decode_node(id, bytes.value()).map_err(row("nodes", id))?,
        ));
    }
    Ok(nodes)
}

fn keys(txn: &ReadTransaction) -> Result<Vec<(KeyId, Arc<KnownKey>)>, Fault> {
    let table = txn.open_table(KEYS)?;
    let mut keys = Vec::new();
    for entry in table.iter()? {
        let (key, bytes) = entry?;
        let key = KeyId(*key.value());
        let known = decode_key(bytes.value()).map_err(row("keys", key))?;
        keys.push((key, Arc::new(known)));
    }
    Ok(keys)
}

fn invitations(txn: &ReadTransaction) -> Result<Vec<(TokenHash, Arc<Invitation>)>, Fault> {
    let table = txn.open_table(INVITATIONS)?;
    let mut invitations = Vec::new();
    for entry in table.iter()? {
        let (token, bytes) = entry?;
        let invitation = decode_invitation(bytes.value()).map_err(row("invitations", "one"))?;
        invitations.push((TokenHash(*token.value()), Arc::new(invitation)));
    }
    Ok(invitations)
}

fn usage(txn: &ReadTransaction) -> Result<Vec<(Member, Usage)>, Fault> {
    let table = txn.open_table(USAGE)?;
    let mut all = Vec::new();
    for entry in table.iter()? {
        let (key, bytes) = entry?;
        let (account, user) = key.value();
        let used = decode_usage(bytes.value()).map_err(row("usage", (account, user)))?;
        all.push(((account.into(), user.into()), used));
    }
    Ok(all)
}

fn rules(txn: &ReadTransaction) -> Result<Option<Rules>, Fault> {
    let table = txn.open_table(RULES)?;
    let mut said = Vec::new();
    for entry in table.iter()? {
        let (key, bytes) = entry?;
        let key = key.value();
        let malformed = |detail: &dyn fmt::Display| RecordError::malformed("rule", detail);
        let (noun, name) = decode_rule_key(key).map_err(row("rules", key))?;
        let settings = decode_rule(bytes.value()).map_err(row("rules", key))?;
        for (setting, value) in &settings {
            let checked = Rules::check_setting(noun, name, setting, value);
            checked
                .map_err(|why| malformed(&format_args!("{setting}={value}: {why}")))
                .map_err(row("rules", key))?;
        }
        said.push((noun, name.to_owned(), settings));
    }
    if said.is_empty() {
        return Ok(None);
    }
    // What is wrong with all of it together names the row by itself.
    let rules = Rules::from_settings(&said)
        .map_err(|refusal| RecordError::malformed("rule", refusal.what))
        .map_err(row("rules", "of all"))?;
    Ok(Some(rules))
}

fn recent(txn: &ReadTransaction) -> Result<Vec<Ended>, Fault> {
    let table = txn.open_table(HISTORY_BY_END)?;
    let mut recent = Vec::new();
    for entry in table.iter()?.rev().take(RECENT_MAX) {
        let (key, bytes) = entry?;
        let (ended, id) = key.value();
        let (state, exit) =
            decode_outcome(bytes.value()).map_err(row("history_by_end", key.value()))?;
        recent.push((JobId(id), state, exit, Timestamp(ended)));
    }
    Ok(recent)
}
