//! Jobs that wait, in groups of those that are alike to the planner.
//!
//! All jobs of a group ask for the same, of the same partition, account and QOS, by the same user. So when one of them
//! does not fit, none does; and since all of them age alike, the one that was submitted first is always the first. The
//! planner looks at the first of each group: its work grows with the number of groups, not with that of jobs.
//!
//! Groups lie in a row, with what a pass reads of each; whose they are and what they ask for have numbers, so that a pass
//! works out once for each what depends on it.

use super::bookings::Bookings;
use super::patience::Patience;
use crate::model::ids::JobId;
use crate::model::job::Job;
use crate::model::resource::Request;
use crate::model::shared::Text;
use crate::model::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whose jobs, and under which rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// Partition.
    pub partition: Text,
    /// Account.
    pub account: Text,
    /// QOS.
    pub qos: Text,
    /// Owner's name.
    pub user: Arc<str>,
    /// Owner's uid: a node that serves one uid tells it from others of this name.
    pub uid: u32,
}

impl Class {
    /// Of this job.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        Class {
            partition: job.spec.partition.clone(),
            account: job.spec.account.clone(),
            qos: job.spec.qos.clone(),
            user: Arc::clone(&job.owner.name),
            uid: job.owner.uid,
        }
    }
}

/// What is asked for, and of which partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// The amounts.
    pub request: Arc<Request>,
    /// Partition.
    pub partition: Text,
}

/// What jobs of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// What they ask for.
    pub request: Arc<Request>,
    /// Whose they are.
    pub class: Class,
    /// Their time limit; seconds.
    pub limit_s: Option<u32>,
    /// Their `nice`.
    pub nice: i32,
}

impl GroupKey {
    /// The reservation in which they are to run.
    #[must_use]
    pub fn reservation(&self) -> Option<&str> {
        self.request.wishes.reservation.as_deref()
    }

    /// Of this job.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        GroupKey {
            request: Arc::clone(&job.spec.request),
            class: Class::of(job),
            limit_s: job.spec.time_limit_s,
            nice: job.spec.nice,
        }
    }
}

/// What a pass reads of each group, close together.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// The number of its class; [`VACANT`] = there is no group here.
    pub class: u32,
    /// The number of what it asks for.
    pub shape: u32,
    /// What is taken off its priority.
    pub nice: i32,
    /// Its time limit; seconds.
    pub limit_s: Option<u32>,
    /// It asks for nothing that others could miss.
    pub takes_nothing: bool,
    /// It is to run inside a reservation.
    pub is_reserved: bool,
    /// Its first job.
    pub first: Member,
}

/// In [`Head::class`]: nobody is here.
pub const VACANT: u32 = u32::MAX;

/// A job of a group: its submission, its number, and whether it holds something already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Submission.
    pub submitted: Timestamp,
    /// Number.
    pub id: JobId,
    /// An array some of whose elements run.
    pub runs: bool,
}

/// Jobs of a group, the first first.
type Jobs = BTreeMap<(Timestamp, JobId), bool>;

/// A group.
#[derive(Debug, Clone)]
pub struct Group {
    /// What its jobs have in common.
    pub key: Arc<GroupKey>,
    jobs: Jobs,
    /// Those of them that hold something already.
    running: BTreeSet<(Timestamp, JobId)>,
}

fn member(entry: (&(Timestamp, JobId), &bool)) -> Member {
    let ((submitted, id), runs) = entry;
    Member {
        submitted: *submitted,
        id: *id,
        runs: *runs,
    }
}

impl Group {
    /// Its jobs, the first first.
    pub fn jobs(&self) -> impl Iterator<Item = Member> {
        self.jobs.iter().map(member)
    }

    /// The first behind this that holds something already.
    #[must_use]
    pub fn running_after(&self, one: (Timestamp, JobId)) -> Option<Member> {
        use std::ops::Bound::{Excluded, Unbounded};
        let next = self.running.range((Excluded(one), Unbounded)).next();
        next.map(|entry| member((entry, &true)))
    }

    /// The one behind this.
    #[must_use]
    pub fn after(&self, one: &Member) -> Option<Member> {
        use std::ops::Bound::{Excluded, Unbounded};
        let behind = (Excluded((one.submitted, one.id)), Unbounded);
        self.jobs.range(behind).next().map(member)
    }
}

/// Values and their numbers, for as long as somebody has them.
#[derive(Debug, Clone)]
struct Numbers<T> {
    places: BTreeMap<T, usize>,
    values: Vec<Option<(T, usize)>>,
    vacant: Vec<usize>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Numbers {
            places: BTreeMap::new(),
            values: Vec::new(),
            vacant: Vec::new(),
        }
    }
}

impl<T: Ord + Clone> Numbers<T> {
    fn enter(&mut self, value: &T) -> usize {
        if let Some(at) = self.places.get(value) {
            if let Some((_, count)) = &mut self.values[*at] {
                *count += 1;
            }
            return *at;
        }
        let at = self.vacant.pop().unwrap_or_else(|| {
            self.values.push(None);
            self.values.len() - 1
        });
        self.values[at] = Some((value.clone(), 1));
        self.places.insert(value.clone(), at);
        at
    }

    fn leave(&mut self, at: usize) {
        let Some((value, count)) = &mut self.values[at] else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.places.remove(value);
            self.values[at] = None;
            self.vacant.push(at);
        }
    }

    fn all(&self) -> impl Iterator<Item = Option<&T>> {
        let values = self.values.iter();
        values.map(|value| value.as_ref().map(|(value, _)| value))
    }
}

/// Two of these are the same only as long as nothing has happened to what they are of, in any copy of it.
#[derive(Debug, Clone, Default)]
pub struct Mark(Arc<()>);

impl Mark {
    /// Whether nothing has happened between the two.
    #[must_use]
    pub fn is(&self, other: &Mark) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Something has happened. Whoever has kept the mark keeps it from coming up again.
    fn renew(&mut self) {
        if Arc::get_mut(&mut self.0).is_none() {
            *self = Mark::default();
        }
    }
}

/// Groups that ask for the same.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Their places, in no order that means anything.
    pub groups: Vec<u32>,
    /// None of them has a shorter time limit than this; seconds.
    pub shortest_s: Option<u32>,
    /// Which groups, and their first jobs.
    pub mark: Mark,
}

/// All eligible jobs.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    places: BTreeMap<Arc<GroupKey>, usize>,
    heads: Vec<Head>,
    groups: Vec<Option<Group>>,
    vacant: Vec<usize>,
    classes: Numbers<Class>,
    shapes: Numbers<Shape>,
    /// By shape.
    rows: Vec<Row>,
    jobs: usize,
    patience: Patience,
}

fn narrow(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(VACANT - 1)
}

impl Queue {
    /// Enters a job.
    pub fn enter(&mut self, job: &Job) {
        let entry = ((job.submitted, job.id), job.is_running());
        let key = GroupKey::of(job);
        let at = match self.places.get(&key) {
            Some(at) => *at,
            None => self.open(key, member((&entry.0, &entry.1))),
        };
        let Some(group) = &mut self.groups[at] else {
            return;
        };
        match group.jobs.insert(entry.0, entry.1) {
            None => self.jobs += 1,
            Some(_) => _ = group.running.remove(&entry.0),
        }
        if entry.1 {
            group.running.insert(entry.0);
        }
        if let Some(first) = group.jobs.iter().next().map(member) {
            self.lead(at, first);
        }
        self.patience.enter(job);
    }

    /// This is the first job of a group.
    fn lead(&mut self, at: usize, first: Member) {
        let head = &mut self.heads[at];
        if head.first != first {
            head.first = first;
            self.rows[head.shape as usize].mark.renew();
        }
    }

    /// Who waits for few switches waits from now on.
    pub fn note(&mut self, now: Timestamp, bookings: &Bookings) {
        self.patience.note(now, bookings);
    }

    /// The clock was set.
    pub fn clock_stepped(&mut self, by_ms: i64) {
        self.patience.clock_stepped(by_ms);
    }

    /// Who waits for few switches.
    pub(super) fn patience(&self) -> &Patience {
        &self.patience
    }

    fn open(&mut self, key: GroupKey, first: Member) -> usize {
        let shape = Shape {
            request: Arc::clone(&key.request),
            partition: key.class.partition.clone(),
        };
        let head = Head {
            class: narrow(self.classes.enter(&key.class)),
            shape: narrow(self.shapes.enter(&shape)),
            nice: key.nice,
            limit_s: key.limit_s,
            takes_nothing: key.request.takes_nothing(),
            is_reserved: key.request.wishes.reservation.is_some(),
            first,
        };
        let key = Arc::new(key);
        let group = Group {
            key: Arc::clone(&key),
            jobs: Jobs::new(),
            running: BTreeSet::new(),
        };
        let at = match self.vacant.pop() {
            Some(at) => {
                self.groups[at] = Some(group);
                self.heads[at] = head;
                at
            }
            None => {
                self.groups.push(Some(group));
                self.heads.push(head);
                self.groups.len() - 1
            }
        };
        self.places.insert(key, at);
        let shape = head.shape as usize;
        if self.rows.len() <= shape {
            self.rows.resize_with(shape + 1, Row::default);
        }
        let row = &mut self.rows[shape];
        let known = row.shortest_s.filter(|_| !row.groups.is_empty());
        row.shortest_s = known.into_iter().chain(head.limit_s).min();
        row.groups.push(narrow(at));
        row.mark.renew();
        at
    }

    /// Takes a job out.
    pub fn leave(&mut self, job: &Job) {
        let key = GroupKey::of(job);
        let Some(at) = self.places.get(&key).copied() else {
            return;
        };
        let Some(group) = &mut self.groups[at] else {
            return;
        };
        self.patience.leave(job);
        let entry = (job.submitted, job.id);
        if group.jobs.remove(&entry).is_some() {
            self.jobs -= 1;
            group.running.remove(&entry);
        }
        if let Some(first) = group.jobs.iter().next().map(member) {
            self.lead(at, first);
            return;
        }
        let head = &mut self.heads[at];
        let row = &mut self.rows[head.shape as usize];
        row.groups.retain(|group| *group as usize != at);
        row.mark.renew();
        self.classes.leave(head.class as usize);
        self.shapes.leave(head.shape as usize);
        head.class = VACANT;
        self.groups[at] = None;
        self.vacant.push(at);
        self.places.remove(&key);
    }

    /// Whether this job is there.
    #[must_use]
    pub fn has(&self, job: &Job) -> bool {
        let at = self.places.get(&GroupKey::of(job));
        let group = at.and_then(|at| self.groups[*at].as_ref());
        group.is_some_and(|group| group.jobs.contains_key(&(job.submitted, job.id)))
    }

    /// Where the group of this key stands.
    #[must_use]
    pub fn place(&self, key: &GroupKey) -> Option<usize> {
        self.places.get(key).copied()
    }

    /// The groups and their places, in no order that means anything.
    pub fn groups(&self) -> impl Iterator<Item = (usize, &Group)> {
        let groups = self.groups.iter().enumerate();
        groups.filter_map(|(at, group)| Some((at, group.as_ref()?)))
    }

    /// The group at this place.
    #[must_use]
    pub fn group(&self, at: usize) -> Option<&Group> {
        self.groups.get(at)?.as_ref()
    }

    /// What a pass reads of each group, by its place.
    #[must_use]
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// Classes by number; a number that is not in use has none.
    pub fn classes(&self) -> impl Iterator<Item = Option<&Class>> {
        self.classes.all()
    }

    /// What is asked for, by number; a number that is not in use has none.
    pub fn shapes(&self) -> impl Iterator<Item = Option<&Shape>> {
        self.shapes.all()
    }

    /// By the number of what is asked for: the groups that ask for it.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// How many jobs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs == 0
    }
}
