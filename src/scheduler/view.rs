//! What the planner sees: the cluster's own ordered maps, borrowed, nothing copied.

use super::bookings::Bookings;
use super::limits::Tally;
use super::nodes::{NodePool, is_open, serving};
use super::occupancy::Occupancy;
use super::order::Ranker;
use super::plan::Promise;
use super::priority::Weights;
use super::queue::Queue;
use super::shares::Standings;
use crate::model::ids::{JobId, NodeId, SlotKey};
use crate::model::job::Job;
use crate::model::node::Node;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use imbl::OrdMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the planner sees.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// All nodes.
    pub nodes: &'a OrdMap<NodeId, Arc<Node>>,
    /// The same as a pool: how much is free on each.
    pub pool: &'a NodePool,
    /// The pool with nothing granted.
    pub emptied: &'a NodePool,
    /// All hot jobs.
    pub jobs: &'a OrdMap<JobId, Arc<Job>>,
    /// Those with positions that could start now if there were room.
    pub queue: &'a Queue,
    /// What runs, by its end.
    pub occupancy: &'a Occupancy,
    /// Slots whose work is done: they are given up unless they get more.
    pub idle: &'a BTreeSet<SlotKey>,
    /// For whom others were told to make room.
    pub promised: &'a [Promise],
    /// What is reserved.
    pub bookings: &'a Bookings,
    /// What an administrator decided.
    pub rules: &'a Rules,
    /// What is in use of limits.
    pub tally: &'a Tally,
    /// Where everybody stands.
    pub standings: &'a Standings,
}

impl<'a> View<'a> {
    /// Which nodes may be given to this job now, as far as its wishes and their state go.
    pub fn open_to<'j>(&'j self, job: &'j Job) -> impl Fn(NodeId) -> bool + use<'j, 'a> {
        let request = &*job.spec.request;
        let serves = serving(request, &job.owner, self.rules, &job.spec.partition);
        move |id| {
            let node = self.nodes.get(&id);
            node.is_some_and(|node| is_open(request, node) && serves(node))
        }
    }

    /// What ranks its jobs.
    #[must_use]
    pub fn ranker(&self, weights: Weights, now: Timestamp) -> Ranker<'a> {
        let totals = self.pool.totals();
        Ranker::new(self.rules, self.standings, totals, weights, now)
    }
}
