//! Who has used how much, and where everybody stands: the books behind fair share.
//!
//! What runs is charged at the rate at which it runs, whenever the rate changes and whenever standings are looked at, so
//! that long jobs count while they run. The rate of a job on a node is the largest of its parts of the node's cpus,
//! memory and GPUs, in cpus of that node: who takes all GPUs of a node pays for the node.

use super::nodes::{NodePool, Parts};
use super::priority::{Node as TreeNode, Standing, Usage, fair_tree};
use crate::model::ids::SlotKey;
use crate::model::rules::Rules;
use crate::model::shared::Text;
use crate::model::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A person in an account.
pub type Member = (Text, Arc<str>);

/// The books of one member.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Account {
    /// Charged so far; cpu seconds.
    usage: Usage,
    /// What runs now costs so much; thousandths of a cpu.
    rate_milli: u64,
    /// Charged until then.
    since: Timestamp,
}

impl Account {
    fn settle(&mut self, now: Timestamp, half_life_s: u32) {
        let span_ms = now.minus(self.since).max(0);
        if span_ms > 0 && self.rate_milli > 0 {
            #[expect(
                clippy::cast_precision_loss,
                reason = "an amount of usage is a float: it decays"
            )]
            let amount = self.rate_milli as f64 * span_ms as f64 / 1e6;
            self.usage.add(amount, now, half_life_s);
        }
        self.since = self.since.max(now);
    }
}

/// The books.
#[derive(Debug, Clone, Default)]
pub struct Books {
    half_life_s: u32,
    accounts: BTreeMap<Member, Account>,
    running: BTreeMap<SlotKey, (Member, u64)>,
}

/// What these parts cost on their nodes; thousandths of a cpu.
#[must_use]
pub fn rate_milli(parts: &Parts, pool: &NodePool) -> u64 {
    parts
        .iter()
        .filter_map(|part| {
            pool.site(part.node)
                .map(|site| site.cost_milli(&part.amount))
        })
        .fold(0, u64::saturating_add)
}

impl Books {
    /// Usage halves in so many seconds.
    #[must_use]
    pub fn new(half_life_s: u32) -> Self {
        Books {
            half_life_s,
            ..Books::default()
        }
    }

    /// With what was charged before.
    pub fn restore(&mut self, member: Member, usage: Usage) {
        let account = self.accounts.entry(member).or_default();
        account.usage = usage;
        account.since = usage.at;
    }

    /// A slot runs from now on, or since it was last charged, at this rate.
    pub fn begin(&mut self, key: SlotKey, member: Member, rate_milli: u64, now: Timestamp) {
        self.end(key, now);
        let half_life_s = self.half_life_s;
        let account = self.accounts.entry(member.clone()).or_default();
        account.settle(now, half_life_s);
        account.rate_milli += rate_milli;
        self.running.insert(key, (member, rate_milli));
    }

    /// A slot of before a restart goes on: charged from where its member's books end.
    pub fn resume(&mut self, key: SlotKey, member: Member, rate_milli: u64, granted: Timestamp) {
        let account = self.accounts.entry(member.clone()).or_default();
        if account.since == Timestamp::default() {
            account.since = granted;
        }
        account.rate_milli += rate_milli;
        self.running.insert(key, (member, rate_milli));
    }

    /// A slot runs no more; whose it was.
    pub fn end(&mut self, key: SlotKey, now: Timestamp) -> Option<Member> {
        let (member, rate_milli) = self.running.remove(&key)?;
        let half_life_s = self.half_life_s;
        if let Some(account) = self.accounts.get_mut(&member) {
            account.settle(now, half_life_s);
            account.rate_milli = account.rate_milli.saturating_sub(rate_milli);
        }
        Some(member)
    }

    /// Charges everybody until now.
    pub fn settle(&mut self, now: Timestamp) {
        for account in self.accounts.values_mut() {
            account.settle(now, self.half_life_s);
        }
    }

    /// The clock was set: what is charged by it goes on from there.
    pub fn clock_stepped(&mut self, by_ms: i64) {
        for account in self.accounts.values_mut() {
            account.since = account.since.plus_ms(by_ms);
            account.usage.at = account.usage.at.plus_ms(by_ms);
        }
    }

    /// What a member's books say, to be stored.
    #[must_use]
    pub fn usage(&self, member: &Member) -> Option<Usage> {
        self.accounts.get(member).map(|account| account.usage)
    }

    /// Everybody with books.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.accounts.keys()
    }

    /// Those for whom something runs.
    pub fn busy(&self) -> impl Iterator<Item = &Member> {
        let busy = self
            .accounts
            .iter()
            .filter(|(_, account)| account.rate_milli > 0);
        busy.map(|(member, _)| member)
    }

    /// Where everybody stands now, those besides who have no books yet. Charge until now first.
    #[must_use]
    pub fn standings(
        &self,
        rules: &Rules,
        now: Timestamp,
        also: impl IntoIterator<Item = Member>,
    ) -> Standings {
        let mut members: BTreeSet<Member> = self.accounts.keys().cloned().collect();
        members.extend(also);
        for user in rules.users.values() {
            members.insert((user.account.as_str().into(), user.name.as_str().into()));
        }
        members.retain(|(account, _)| rules.accounts.contains_key(account.as_str()));
        let used = |member: &Member| {
            let account = self.accounts.get(member);
            account.map_or(0.0, |account| account.usage.at(now, self.half_life_s))
        };
        Standings::of(rules, &members, used)
    }
}

/// A row of the tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The account.
    pub account: Text,
    /// The person in it; none for the account itself.
    pub user: Option<Arc<str>>,
    /// How many accounts are above it.
    pub depth: u32,
    /// Shares as set.
    pub shares: u32,
    /// Used, decayed until now; cpu seconds.
    pub usage: f64,
    /// Where it stands.
    pub standing: Standing,
}

/// Where everybody stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standings {
    /// The tree, each account before what is in it.
    pub rows: Vec<Row>,
    factors: BTreeMap<Member, f64>,
}

impl Standings {
    fn of(rules: &Rules, members: &BTreeSet<Member>, used: impl Fn(&Member) -> f64) -> Self {
        let mut children: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for account in rules.accounts.values() {
            if let Some(parent) = &account.parent {
                children.entry(parent).or_default().push(&account.name);
            }
        }
        let mut people: BTreeMap<&str, Vec<&Member>> = BTreeMap::new();
        for member in members {
            people.entry(member.0.as_str()).or_default().push(member);
        }
        let mut rows = Vec::new();
        let mut nodes: Vec<TreeNode> = Vec::new();
        // Depth first; an account is in the arena before those below it.
        let mut open: Vec<(&str, Option<usize>, u32)> =
            vec![(crate::model::account::ROOT, None, 0)];
        while let Some((name, parent, depth)) = open.pop() {
            let Some(account) = rules.accounts.get(name) else {
                continue;
            };
            let at = nodes.len();
            nodes.push(TreeNode {
                parent,
                shares: u64::from(account.shares),
                usage: 0.0,
                is_user: false,
                parent_shares: false,
            });
            let account_text: Text = name.into();
            rows.push(Row {
                account: account_text.clone(),
                user: None,
                depth,
                shares: account.shares,
                usage: 0.0,
                standing: Standing::default(),
            });
            for member in people.get(name).into_iter().flatten() {
                let shares = rules.users.get(&*member.1).map_or(1, |user| user.shares);
                nodes.push(TreeNode {
                    parent: Some(at),
                    shares: u64::from(shares),
                    usage: used(member),
                    is_user: true,
                    parent_shares: false,
                });
                rows.push(Row {
                    account: account_text.clone(),
                    user: Some(Arc::clone(&member.1)),
                    depth: depth + 1,
                    shares,
                    usage: 0.0,
                    standing: Standing::default(),
                });
            }
            let below = children.get(name).into_iter().flatten().rev();
            open.extend(below.map(|child| (*child, Some(at), depth + 1)));
        }
        // What is used below an account is used by it.
        for at in (0..nodes.len()).rev() {
            if let Some(parent) = nodes[at].parent {
                nodes[parent].usage += nodes[at].usage;
            }
        }
        let mut factors = BTreeMap::new();
        for ((row, node), standing) in rows.iter_mut().zip(&nodes).zip(fair_tree(&nodes)) {
            row.usage = node.usage;
            row.standing = standing;
            if let (Some(user), Some(factor)) = (&row.user, standing.factor) {
                factors.insert((row.account.clone(), Arc::clone(user)), factor);
            }
        }
        Standings { rows, factors }
    }

    /// A member's rank among all: 1 is first. Who is not known has used nothing.
    #[must_use]
    pub fn factor(&self, member: &Member) -> f64 {
        self.factors.get(member).copied().unwrap_or(1.0)
    }

    /// Whether this member was there when it was drawn up.
    #[must_use]
    pub fn knows(&self, member: &Member) -> bool {
        self.factors.contains_key(member)
    }
}
