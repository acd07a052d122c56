//! Fair Tree: users ranked by how far they, and before them their accounts, are below their promised share.
//!
//! Ryan Cox and Levi Morrison's algorithm (Brigham Young University, 2014; Slurm's documentation, "Fair Tree Fairshare
//! Algorithm"). Siblings are ordered by their level fair share, shares against usage among themselves alone, and the
//! tree is walked in that order; a user's factor is the place in that walk. So a coordinator who hands out shares inside
//! one account can neither help nor harm its users against another's: **a user of a better-served account never
//! outranks one of a worse-served account**, where both accounts are siblings.
//!
//! Equals share their place, which takes three rules. Sibling users with the same level fair share get the same rank.
//! The children of sibling accounts with the same level fair share are ranked as if they were one account's. A user who
//! equals a sibling account comes before it, and the first in the account gets the same rank as that user. Therefore the
//! factors do not depend on the order of the slice at all, not even among equals.
//!
//! Usage comes in as plain numbers that hold at the same instant; how it fades is [`usage`](super::usage)'s affair.

use std::cmp::Ordering;

/// The least and the most usage that are told apart. They keep all products and quotients below finite: 2^64 shares are
/// 2e19. Who used less has used nothing.
const USAGE_MIN: f64 = 1e-100;
const USAGE_MAX: f64 = 1e100;

/// An account, or a user in an account: an association, in Slurm's words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Node {
    /// The account it belongs to, as a place in the slice before its own; none is the top.
    pub parent: Option<usize>,
    /// What it was promised, against its siblings' shares.
    pub shares: u64,
    /// What it has used, with everybody below it; any unit, and the same instant for all nodes.
    pub usage: f64,
    /// Whether it is a user, who is ranked and has nobody below.
    pub is_user: bool,
    /// Shares are `parent`: a user has no part in the division and comes first, with an infinite level fair share; an
    /// account is looked through, and what is below it stands among its siblings.
    pub parent_shares: bool,
}

/// Where a node stands among its siblings, and a user among all users.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Standing {
    /// S: its shares, of those of all its siblings together; 0 to 1, and 0 where shares are `parent`.
    pub shares_norm: f64,
    /// U: its usage, of its parent's; 0 where that is 0.
    pub usage_norm: f64,
    /// LF = S / U: above 1 it got less than promised, below 1 more. It is 0 without shares, else infinite without usage.
    pub level_fair_share: f64,
    /// A user's rank, of the number of users: above 0, and 1 for whoever comes first. An account has none.
    pub factor: Option<f64>,
}

/// Ranks all users of a tree, or of several that are then siblings; one standing for each node, in the same order.
/// Costs O(A log A).
///
/// # Panics
///
/// If a node does not come after its parent, or its parent is a user.
#[must_use]
pub fn fair_tree(nodes: &[Node]) -> Vec<Standing> {
    let families = Families::of(nodes);
    let mut standings = families.standings(nodes);
    rank(nodes, &families, &mut standings);
    standings
}

/// Who divides shares with whom: the tree without the accounts that are looked through.
struct Families {
    /// For each node, its parent's place; for the top a place of its own, behind all nodes.
    parents: Vec<usize>,
    /// For each node and the top, those below it, in the order of the slice.
    children: Vec<Vec<usize>>,
}

impl Families {
    fn of(nodes: &[Node]) -> Self {
        let top = nodes.len();
        let mut parents = Vec::with_capacity(top);
        let mut children = vec![Vec::new(); top + 1];
        for (at, node) in nodes.iter().enumerate() {
            let parent = node.parent.map_or(top, |parent| {
                assert!(parent < at, "an account comes before what is below it");
                assert!(!nodes[parent].is_user, "nobody is below a user");
                // Its own parent was looked through before.
                if nodes[parent].parent_shares {
                    parents[parent]
                } else {
                    parent
                }
            });
            parents.push(parent);
            children[parent].push(at);
        }
        Self { parents, children }
    }

    /// What everybody's level fair share is; nobody is ranked yet.
    fn standings(&self, nodes: &[Node]) -> Vec<Standing> {
        let mut usages: Vec<f64> = nodes.iter().map(|node| counted(node.usage)).collect();
        usages.push(self.top_usage(&usages));
        // In integers, so that the sum does not depend on the order.
        let mut shares = vec![0_u128; self.children.len()];
        for (node, parent) in nodes.iter().zip(&self.parents) {
            if !node.parent_shares {
                shares[*parent] += u128::from(node.shares);
            }
        }
        let each = nodes.iter().zip(&self.parents).zip(&usages);
        each.map(|((node, parent), usage)| {
            Level {
                shares: node.shares as f64,
                siblings_shares: shares[*parent] as f64,
                usage: *usage,
                parent_usage: usages[*parent],
            }
            .standing(node.parent_shares)
        })
        .collect()
    }

    /// What was used below the top, added up smallest first, so that the sum does not depend on the order of the slice.
    fn top_usage(&self, usages: &[f64]) -> f64 {
        let top = self.children.last().into_iter().flatten();
        let mut below: Vec<f64> = top.map(|at| usages[*at]).collect();
        below.sort_by(f64::total_cmp);
        below.iter().sum()
    }
}

/// Usage within the bounds, or nothing; what is no number counts as nothing.
fn counted(usage: f64) -> f64 {
    if usage >= USAGE_MIN {
        usage.min(USAGE_MAX)
    } else {
        0.0
    }
}

/// What the level fair share is made of.
struct Level {
    shares: f64,
    siblings_shares: f64,
    usage: f64,
    parent_usage: f64,
}

impl Level {
    fn standing(&self, parent_shares: bool) -> Standing {
        let shares_norm = if parent_shares {
            0.0
        } else {
            part(self.shares, self.siblings_shares)
        };
        let usage_norm = part(self.usage, self.parent_usage);
        let level_fair_share = if parent_shares {
            f64::INFINITY
        } else if self.shares == 0.0 {
            0.0
        } else if usage_norm == 0.0 {
            f64::INFINITY
        } else {
            // S / U, divided once: products of whole numbers are exact below 2^53, so that siblings whose usage is in
            // proportion to their shares are equal, which rounding S and U first would now and then undo.
            (self.shares * self.parent_usage) / (self.siblings_shares * self.usage)
        };
        Standing {
            shares_norm,
            usage_norm,
            level_fair_share,
            factor: None,
        }
    }
}

/// `part` of `whole`, and nothing of nothing.
fn part(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

/// Siblings, or the children of accounts that are equals, while they are walked through in order.
struct Walk {
    siblings: Vec<usize>,
    next: usize,
    /// Whether the first of them equals the user who was ranked last.
    first_is_tied: bool,
}

/// Gives every user a factor. Depth first, with a stack of its own: how deep the accounts are nested is the site's
/// choice.
fn rank(nodes: &[Node], families: &Families, standings: &mut [Standing]) {
    let users = nodes.iter().filter(|node| node.is_user).count();
    // The rank of the user ranked last, and what the next one has who equals nobody.
    let (mut rank, mut rank_untied) = (users, users);
    let mut walks = vec![families.walk(&[nodes.len()], false, nodes, standings)];
    while let Some(walk) = walks.last_mut() {
        let Some(&at) = walk.siblings.get(walk.next) else {
            walks.pop();
            continue;
        };
        let tied = match walk.next.checked_sub(1) {
            None => walk.first_is_tied,
            Some(before) => equal(standings, walk.siblings[before], at),
        };
        if nodes[at].is_user {
            walk.next += 1;
            if !tied {
                rank = rank_untied;
            }
            standings[at].factor = Some(rank as f64 / users as f64);
            rank_untied -= 1;
        } else {
            // Users come before accounts, so all that equal this one and follow it are accounts.
            let rest = &walk.siblings[walk.next..];
            let equals = rest
                .iter()
                .take_while(|other| equal(standings, at, **other));
            let equals: Vec<usize> = equals.copied().collect();
            walk.next += equals.len();
            walks.push(families.walk(&equals, tied, nodes, standings));
        }
    }
}

impl Families {
    /// The children of these accounts as one list: the highest level fair share first, users before accounts.
    fn walk(
        &self,
        accounts: &[usize],
        first_is_tied: bool,
        nodes: &[Node],
        standings: &[Standing],
    ) -> Walk {
        let children = accounts.iter().flat_map(|account| &self.children[*account]);
        let looked_through = |at: &usize| !nodes[*at].is_user && nodes[*at].parent_shares;
        let mut siblings: Vec<usize> = children.copied().filter(|at| !looked_through(at)).collect();
        siblings.sort_unstable_by(|&one, &other| {
            compare(standings, other, one)
                .then(nodes[other].is_user.cmp(&nodes[one].is_user))
                .then(one.cmp(&other))
        });
        Walk {
            siblings,
            next: 0,
            first_is_tied,
        }
    }
}

/// By level fair share; it is never negative nor no number, so that the total order is the usual one.
fn compare(standings: &[Standing], one: usize, other: usize) -> Ordering {
    let of = |at: usize| standings[at].level_fair_share;
    of(one).total_cmp(&of(other))
}

fn equal(standings: &[Standing], one: usize, other: usize) -> bool {
    compare(standings, one, other).is_eq()
}

#[cfg(test)]
mod tests;
