//! Who has a turn in a pass: the first jobs of groups, as far as they can matter.
//!
//! Where there can be no room for what a group asks for, one of each partition is enough: the first, which may be kept a
//! place. Which that is of those that ask for the same is known from earlier passes as long as nothing has happened to them.

use super::nodes::might_fit;
use super::order::Orders;
use super::pool::Pool;
use super::queue;
use super::turns::{Turn, Turns};
use super::{Planner, Rule, length_ms};
use crate::model::job::Reason;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Planner<'_> {
    /// Gives each group its turn. Where there can be no room, one of each partition is enough.
    pub(super) fn line_up(&mut self) {
        let most = self.pass.free.most();
        let shapes = self.view.queue.shapes();
        // Where a limit may be the reason, all are looked at one by one.
        let by_look = !self.has_limits;
        let might = |shape: &queue::Shape| {
            might_fit(&shape.request, &most)
                && !(by_look
                    && self.goes_anywhere(&shape.request, &shape.partition)
                    && !self
                        .pass
                        .free
                        .fits(&self.view.pool.ask_anywhere(&shape.request)))
        };
        self.might = shapes.map(|shape| shape.is_some_and(might)).collect();
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        for class in self.view.queue.classes() {
            let next = known.len();
            let at = class.map_or(0, |class| *known.entry(&class.partition).or_insert(next));
            self.partitions.push(at);
        }
        self.aside = vec![None; known.len().max(1)];
        self.has_head = vec![false; known.len().max(1)];
        let queue = self.view.queue;
        self.turns = Turns::with_rows(queue.rows().len());
        let mut orders = std::mem::take(&mut self.orders);
        // What is held of reservations is told in the order of the groups.
        let mut shapes = queue.shapes().flatten();
        if shapes.any(|shape| shape.request.wishes.reservation.is_some()) {
            for (head, at) in queue.heads().iter().zip(0..) {
                if head.class != queue::VACANT && head.is_reserved && self.belongs(head, at) {
                    self.line_up_one(&mut orders, head, at);
                }
            }
        }
        let all = self.policy.rule == Rule::Conservative;
        let mut classes = 0..self.ranks.len();
        self.some_take = classes.any(|class| self.evictions.may_take(class));
        let mut leading = Vec::new();
        let rows = self.inside.is_none().then(|| queue.rows());
        // What size counts for goes by the size of the cluster too, which nobody keeps here.
        let keeps = !self.ranker.counts_size();
        if !orders.renew_rows(&self.ranks, queue.rows().len()) || !keeps {
            self.find_firsts(&mut orders);
        }
        for (row, shape) in rows.into_iter().flatten().zip(0..) {
            match self.first_of(&mut orders, row, shape) {
                Some(first) if all || self.might[shape] => leading.push((shape, first)),
                Some(first) if !self.some_take => self.put_aside(first),
                _ => {
                    let groups = row.groups.iter().map(|at| *at as usize);
                    for (head, at) in groups.map(|at| (&queue.heads()[at], at)) {
                        if !head.is_reserved {
                            self.line_up_one(&mut orders, head, at);
                        }
                    }
                }
            }
        }
        for turn in self.aside.iter().flatten() {
            self.turns.push(*turn);
        }
        self.turns.begin(leading);
        self.orders = orders;
    }

    /// The next turn, and its row.
    pub(super) fn next_turn(&mut self) -> Option<(Turn, Option<usize>)> {
        if let Some(unseen) = self.turns.unseen() {
            self.look_at([unseen]);
        }
        self.turns.pop()
    }

    /// All turns that are left.
    pub(super) fn all_turns(&mut self) -> impl Iterator<Item = Turn> + use<> {
        let unseen = self.turns.all_unseen();
        self.look_at(unseen);
        self.turns.take()
    }

    /// Lines up groups of rows, but for those that had their turns. What is hopeless stays so.
    fn look_at(&mut self, rows: impl IntoIterator<Item = (usize, usize)>) {
        let queue = self.view.queue;
        let mut orders = std::mem::take(&mut self.orders);
        for (row, except) in rows {
            if self.are_hopeless(row, except) {
                continue;
            }
            let groups = queue.rows()[row].groups.iter().map(|at| *at as usize);
            for at in groups.filter(|at| *at != except) {
                let head = &queue.heads()[at];
                if !self.is_hopeless(at, head.first.id) {
                    let turn = self.turn_at(&mut orders, head, at);
                    self.turns.line_up(row, turn);
                }
            }
        }
        self.orders = orders;
    }

    /// Whether [`Planner::is_hopeless`] says so of all groups of a row like this one; nothing of them runs.
    fn are_hopeless(&self, row: usize, one: usize) -> bool {
        // What is known of a row is known of each of its groups, unless it goes by their times or by how long they have waited.
        let group = self.view.queue.group(one);
        let patient = group.is_none_or(|group| group.key.request.wishes.switches.is_some());
        let by_row = self.everyone && self.by_time.is_none() && !patient;
        if self.some_take || !by_row || !self.skips_hopeless() {
            return false;
        }
        let shortest = length_ms(self.view.queue.rows()[row].shortest_s);
        self.has_head[self.partitions[self.class_of(one)]] && shortest >= self.shapes[row].failed
    }

    fn line_up_one(&mut self, orders: &mut Orders, head: &queue::Head, at: usize) {
        let turn = self.turn_at(orders, head, at);
        let all = self.policy.rule == Rule::Conservative;
        let takes = self.evictions.may_take(head.class as usize);
        if all || takes || head.first.runs || self.might[head.shape as usize] {
            self.turns.line_up(head.shape as usize, turn);
        } else {
            self.put_aside(turn);
        }
    }

    fn put_aside(&mut self, turn: Turn) {
        let Reverse((.., at)) = turn;
        let partition = self.partitions[self.class_of(at)];
        let aside = &mut self.aside[partition];
        if aside.is_none_or(|best| turn > best) {
            *aside = Some(turn);
        }
    }

    /// Finds the first of all rows anew, one group after the other as they lie.
    fn find_firsts(&self, orders: &mut Orders) {
        let rows = self.view.queue.rows();
        let mut firsts: Vec<Option<Turn>> = vec![None; rows.len()];
        let mut mixed = vec![false; rows.len()];
        for (head, at) in self.view.queue.heads().iter().zip(0..) {
            if head.class == queue::VACANT {
                continue;
            }
            let shape = head.shape as usize;
            if head.first.runs || head.is_reserved {
                mixed[shape] = true;
                continue;
            }
            firsts[shape] = firsts[shape].max(Some(self.turn_at(orders, head, at)));
        }
        for ((first, mixed), (row, shape)) in
            firsts.into_iter().zip(mixed).zip(rows.iter().zip(0..))
        {
            match first {
                Some(Reverse((_, order, at))) if !mixed => {
                    orders.keep_first(shape, &row.mark, (order, at))
                }
                _ => orders.forget_first(shape),
            }
        }
    }

    /// The first of all groups that ask for the same, if nothing of them runs or is reserved.
    fn first_of(&self, orders: &mut Orders, row: &queue::Row, shape: usize) -> Option<Turn> {
        if let Some((order, at)) = orders.first_of(shape, &row.mark) {
            return Some(Reverse((0, order, at)));
        }
        let groups = row.groups.iter().map(|at| *at as usize);
        let heads = groups.map(|at| (&self.view.queue.heads()[at], at));
        if heads
            .clone()
            .any(|(head, _)| head.first.runs || head.is_reserved)
        {
            return None;
        }
        let first = heads.map(|(head, at)| self.turn_at(orders, head, at)).max();
        let Reverse((_, order, at)) = first?;
        orders.keep_first(shape, &row.mark, (order, at));
        first
    }

    /// Whether a group is of this reservation, or of none where this is about none.
    fn is_here(&self, head: &queue::Head, at: usize) -> bool {
        let group = self.view.queue.group(at).filter(|_| head.is_reserved);
        let name = group.and_then(|group| group.key.reservation());
        name == self.inside.map(|booking| &*booking.name)
    }

    /// Whether a group is looked at here. One whose reservation is not on is held.
    fn belongs(&mut self, head: &queue::Head, at: usize) -> bool {
        if !head.is_reserved {
            return self.inside.is_none();
        }
        let Some(group) = self.view.queue.group(at) else {
            return false;
        };
        let name = group.key.reservation().unwrap_or_default();
        match self.inside {
            Some(booking) => *booking.name == *name,
            None => {
                let bookings = self.view.bookings;
                if bookings.find_on(name, self.now).is_none() {
                    let why = bookings.why(self.view.rules, &group.key, self.now);
                    let reason = Reason::Reservation(why);
                    self.plan.held.push(((*group.key).clone(), reason));
                }
                false
            }
        }
    }

    fn turn_at(&self, orders: &mut Orders, head: &queue::Head, at: usize) -> Turn {
        let queue = self.view.queue;
        let key = || queue.group(at).map(|group| Arc::clone(&group.key));
        let rank = &self.ranks[head.class as usize];
        let order = self.ranker.head_at(orders, at, rank, head, key);
        Reverse((0, order, at))
    }

    fn turn_of(&self, head: &queue::Head, at: usize) -> Turn {
        let queue = self.view.queue;
        let key = || queue.group(at).map(|group| Arc::clone(&group.key));
        let order = self
            .ranker
            .head(&self.ranks[head.class as usize], head, key);
        Reverse((0, order, at))
    }

    /// The first of a partition for which there is no room waits for something else: another is the first.
    pub(super) fn bring_back(&mut self, class: usize) {
        let partition = self.partitions[class];
        let Some(best) = self.aside[partition].take() else {
            return;
        };
        for (head, at) in self.view.queue.heads().iter().zip(0..) {
            if head.class == queue::VACANT
                || !self.is_here(head, at)
                || self.partitions[head.class as usize] != partition
                || head.first.runs
                || self.might[head.shape as usize]
                || self.evictions.may_take(head.class as usize)
            {
                continue;
            }
            let turn = self.turn_of(head, at);
            if turn != best {
                self.push(turn);
            }
        }
    }

    /// Those that ask for the same as one for which there was no room leave with it.
    pub(super) fn thin(&mut self, row: usize) {
        let mut turns = std::mem::take(&mut self.turns);
        turns.retain(row, |Reverse((_, order, at))| {
            !self.is_hopeless(*at, order.id)
        });
        self.turns = turns;
    }
}
