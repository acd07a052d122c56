//! Trees ranked by hand, and what holds for every tree.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::super::Usage;
use super::*;
use crate::model::time::Timestamp;

fn account(parent: usize, shares: u64, usage: f64) -> Node {
    Node {
        parent: Some(parent),
        shares,
        usage,
        is_user: false,
        parent_shares: false,
    }
}

fn user(parent: usize, shares: u64, usage: f64) -> Node {
    Node {
        is_user: true,
        ..account(parent, shares, usage)
    }
}

fn root(usage: f64) -> Node {
    Node {
        parent: None,
        ..account(0, 1, usage)
    }
}

/// The ranks of the users in the order of the slice: the first of n has n.
fn ranks(nodes: &[Node]) -> Vec<f64> {
    let users = nodes.iter().filter(|node| node.is_user).count() as f64;
    let factors = fair_tree(nodes)
        .into_iter()
        .filter_map(|standing| standing.factor);
    factors.map(|factor| (factor * users).round()).collect()
}

fn level_fair_shares(nodes: &[Node]) -> Vec<f64> {
    let standings = fair_tree(nodes).into_iter();
    standings
        .map(|standing| standing.level_fair_share)
        .collect()
}

// ---- by hand ------------------------------------------------------------------------------------------------

#[test]
fn children_of_equal_accounts_are_ranked_as_one_accounts() {
    let nodes = [
        root(160.0),
        account(0, 1, 50.0), // 1: S = 1/4, U = 5/16, LF = 4/5
        account(0, 2, 60.0), // 2: S = 1/2, U = 3/8, LF = 4/3
        account(0, 1, 50.0), // 3: LF = 4/5
        user(1, 1, 10.0),    // S = 1/2, U = 1/5, LF = 5/2
        user(1, 1, 40.0),    // U = 4/5, LF = 5/8
        user(2, 1, 20.0),    // U = 1/3, LF = 3/2
        user(2, 1, 40.0),    // U = 2/3, LF = 3/4
        user(3, 7, 50.0),    // S = U = LF = 1
    ];
    let expected = [1.0, 0.8, 4.0 / 3.0, 0.8, 2.5, 0.625, 1.5, 0.75, 1.0];
    assert_eq!(level_fair_shares(&nodes), expected);
    // Account 2 first; then users of 1 and 3 in turn.
    assert_eq!(ranks(&nodes), [3.0, 1.0, 5.0, 4.0, 2.0]);
    let standings = fair_tree(&nodes);
    let expected = Standing {
        shares_norm: 0.5,
        usage_norm: 0.2,
        level_fair_share: 2.5,
        factor: Some(0.6),
    };
    assert_eq!(standings[4], expected);
    assert_eq!(
        (standings[1].shares_norm, standings[1].usage_norm),
        (0.25, 0.3125)
    );
    assert_eq!(standings[1].factor, None);
}

#[test]
fn a_user_comes_before_an_equal_account_and_its_first_user_has_the_same_rank() {
    let nodes = [
        root(20.0),
        account(0, 1, 10.0), // LF = 1
        user(1, 1, 7.0),
        user(1, 1, 3.0),
        user(0, 1, 10.0), // LF = 1
    ];
    assert_eq!(ranks(&nodes), [1.0, 3.0, 3.0]);
}

#[test]
fn a_tie_is_inherited_by_the_first_of_the_first() {
    let nodes = [
        root(30.0),
        user(0, 1, 10.0),    // LF = 1
        user(0, 1, 10.0),    // LF = 1
        account(0, 1, 10.0), // 3: LF = 1
        account(3, 3, 4.0),  // 4: S = 3/4, U = 2/5, LF = 15/8
        account(3, 1, 6.0),  // 5: S = 1/4, U = 3/5, LF = 5/12
        user(5, 1, 6.0),
        user(4, 1, 3.0), // LF = 2/3
        user(4, 1, 1.0), // LF = 2
    ];
    assert_eq!(ranks(&nodes), [5.0, 5.0, 1.0, 2.0, 5.0]);
}

#[test]
fn equal_users_share_a_rank_and_the_next_one_counts_them() {
    let nodes = [
        root(9.0),
        user(0, 1, 2.0),
        user(0, 2, 4.0),
        user(0, 1, 3.0),
        user(0, 3, 0.0),
    ];
    assert_eq!(ranks(&nodes), [3.0, 3.0, 1.0, 4.0]);
}

#[test]
fn no_shares_come_last_and_no_usage_first() {
    let nodes = [
        root(10.0),
        user(0, 0, 0.0), // without shares, 0 even where nothing was used
        user(0, 0, 4.0),
        user(0, 1, 6.0),
        user(0, 1, 0.0),
        user(0, 9, 0.0),
    ];
    let inf = f64::INFINITY;
    let sixth = 10.0 / 66.0;
    assert_eq!(level_fair_shares(&nodes), [1.0, 0.0, 0.0, sixth, inf, inf]);
    assert_eq!(ranks(&nodes), [2.0, 2.0, 3.0, 5.0, 5.0]);
}

#[test]
fn before_anything_was_used_all_with_shares_are_equal() {
    let nodes = [
        root(0.0),
        account(0, 5, 0.0),
        account(0, 1, 0.0),
        user(1, 1, 0.0),
        user(2, 3, 0.0),
        user(0, 1, 0.0),
        user(2, 0, 0.0),
    ];
    assert_eq!(ranks(&nodes), [4.0, 4.0, 4.0, 1.0]);
}

#[test]
fn users_with_their_parents_shares_come_first_and_take_no_part() {
    let parent = |node: Node| Node {
        parent_shares: true,
        ..node
    };
    let nodes = [
        root(10.0),
        parent(user(0, 1_000, 8.0)),
        user(0, 1, 2.0), // S = 1: the other's shares do not count
        user(0, 0, 0.0),
        parent(user(0, 1, 0.0)),
    ];
    let inf = f64::INFINITY;
    assert_eq!(level_fair_shares(&nodes), [1.0, inf, 5.0, 0.0, inf]);
    assert_eq!(ranks(&nodes), [4.0, 2.0, 1.0, 4.0]);
}

#[test]
fn an_account_with_its_parents_shares_is_looked_through() {
    let through = |parent| Node {
        parent_shares: true,
        ..account(parent, 7, 6.0)
    };
    let nodes = [
        root(10.0),
        through(0),
        through(1),
        user(2, 1, 6.0), // among the root's: S = 1/4, U = 3/5
        user(0, 3, 4.0), // S = 3/4, U = 2/5
    ];
    let inf = f64::INFINITY;
    let standings = fair_tree(&nodes);
    assert_eq!(
        level_fair_shares(&nodes),
        [1.0, inf, inf, 10.0 / 24.0, 30.0 / 16.0]
    );
    assert_eq!(ranks(&nodes), [1.0, 2.0]);
    assert_eq!(standings[3].shares_norm, 0.25);
    assert_eq!(standings[1].usage_norm, 0.6);
}

#[test]
fn several_at_the_top_are_siblings() {
    let top = |node: Node| Node {
        parent: None,
        ..node
    };
    let nodes = [
        top(account(0, 1, 30.0)),
        top(user(0, 1, 10.0)),
        user(0, 1, 30.0),
    ];
    assert_eq!(level_fair_shares(&nodes), [2.0 / 3.0, 2.0, 1.0]);
    assert_eq!(ranks(&nodes), [2.0, 1.0]);
}

#[test]
fn usage_in_proportion_to_shares_is_equal_however_it_divides() {
    for shares in 1..50_u64 {
        let each = (1..=shares).map(|share| user(0, share, (share * 7) as f64));
        let total = shares * (shares + 1) / 2 * 7;
        let nodes: Vec<Node> = std::iter::once(root(total as f64)).chain(each).collect();
        assert!(ranks(&nodes).iter().all(|rank| *rank == shares as f64));
    }
}

#[test]
fn nobody_to_rank() {
    assert!(fair_tree(&[]).is_empty());
    assert_eq!(ranks(&[root(3.0), account(0, 1, 3.0)]), [0.0; 0]);
}

#[test]
fn however_deep() {
    let depth = 200_000;
    let mut nodes = vec![root(1.0)];
    nodes.extend((0..depth).map(|parent| account(parent, 1, 1.0)));
    nodes.push(user(depth, 1, 1.0));
    assert_eq!(ranks(&nodes), [1.0]);
}

#[test]
#[should_panic(expected = "an account comes before what is below it")]
fn a_node_is_not_its_own_parent() {
    let _ = fair_tree(&[root(0.0), account(1, 1, 0.0)]);
}

#[test]
#[should_panic(expected = "nobody is below a user")]
fn a_user_has_no_children() {
    let _ = fair_tree(&[root(0.0), user(0, 1, 0.0), user(1, 1, 0.0)]);
}

// ---- for every tree -----------------------------------------------------------------------------------------

/// A tree, or several: whoever has nobody below is a user, so that no account is empty. Few different numbers, so that
/// many are equal; accounts have used what those below them have.
fn trees() -> impl Strategy<Value = Vec<Node>> {
    let node = (
        any::<prop::sample::Index>(),
        0_u32..20,
        0_u64..4,
        0_u32..4,
        0_u32..10,
    );
    (prop::collection::vec(node, 1..40), 0.1..2.0).prop_map(|(drawn, unit)| {
        let mut nodes: Vec<Node> = Vec::new();
        for (at, (parent, top, shares, usage, parent_shares)) in drawn.into_iter().enumerate() {
            let parent = (at > 0 && top > 0).then(|| parent.index(at));
            if let Some(parent) = parent {
                nodes[parent].is_user = false;
            }
            nodes.push(Node {
                parent,
                shares,
                usage: f64::from(usage) * unit,
                is_user: true,
                parent_shares: parent_shares == 0,
            });
        }
        for at in (0..nodes.len()).rev() {
            if !nodes[at].is_user {
                let below = nodes.iter().filter(|node| node.parent == Some(at));
                nodes[at].usage = below.map(|node| node.usage).sum();
            }
        }
        nodes
    })
}

fn looked_through(node: &Node) -> bool {
    node.parent_shares && !node.is_user
}

/// A node and the accounts above it, from the top down, without those that are looked through.
fn way(nodes: &[Node], at: usize) -> Vec<usize> {
    let above = std::iter::successors(Some(at), |at| nodes[*at].parent);
    let mut way: Vec<usize> = above.filter(|at| !looked_through(&nodes[*at])).collect();
    way.reverse();
    way
}

fn way_of_shares(nodes: &[Node], standings: &[Standing], at: usize) -> Vec<f64> {
    let way = way(nodes, at).into_iter();
    way.map(|at| standings[at].level_fair_share).collect()
}

/// The same ranks from the definition: users in the order of the level fair shares on their way down, highest first; a
/// way that ends comes before those that go on. Whoever's way begins with the whole way of the one before is its equal.
fn ranks_by_definition(nodes: &[Node], standings: &[Standing]) -> Vec<(usize, usize)> {
    let users = (0..nodes.len()).filter(|at| nodes[*at].is_user);
    let mut ways: Vec<(Vec<f64>, usize)> = users
        .map(|at| (way_of_shares(nodes, standings, at), at))
        .collect();
    ways.sort_by(|(one, _), (other, _)| {
        let differ = one.iter().zip(other).map(|(a, b)| b.total_cmp(a));
        let first = differ.into_iter().find(|order| order.is_ne());
        first.unwrap_or_else(|| one.len().cmp(&other.len()))
    });
    let mut ranks: Vec<(usize, usize)> = Vec::new();
    for (place, (way, at)) in ways.iter().enumerate() {
        let tied = place > 0 && way.starts_with(&ways[place - 1].0);
        let rank = match ranks.last() {
            Some((_, rank)) if tied => *rank,
            _ => ways.len() - place,
        };
        ranks.push((*at, rank));
    }
    ranks
}

/// The same tree with its nodes in another order, parents still first; and where each node went.
fn reordered(nodes: &[Node], keys: &[u32]) -> (Vec<Node>, Vec<usize>) {
    let mut left: Vec<usize> = (0..nodes.len()).collect();
    let mut went: Vec<Option<usize>> = vec![None; nodes.len()];
    let mut new = Vec::new();
    while !left.is_empty() {
        let ready = |at: &usize| {
            nodes[*at]
                .parent
                .is_none_or(|parent| went[parent].is_some())
        };
        let open = left.iter().copied().filter(ready);
        let next = open.min_by_key(|at| keys[*at]).expect("parents come first");
        left.retain(|at| *at != next);
        went[next] = Some(new.len());
        new.push(Node {
            parent: nodes[next].parent.and_then(|parent| went[parent]),
            ..nodes[next]
        });
    }
    (new, went.into_iter().flatten().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_walk_gives_what_the_definition_says(nodes in trees()) {
        let standings = fair_tree(&nodes);
        let ranks = ranks_by_definition(&nodes, &standings);
        for (at, rank) in &ranks {
            let expected = *rank as f64 / ranks.len() as f64;
            prop_assert_eq!(standings[*at].factor, Some(expected), "{}", at);
        }
        for (node, standing) in nodes.iter().zip(&standings) {
            prop_assert_eq!(node.is_user, standing.factor.is_some());
        }
    }

    #[test]
    fn sibling_users_rank_as_their_level_fair_shares(nodes in trees()) {
        let standings = fair_tree(&nodes);
        for (one, a) in nodes.iter().enumerate().filter(|(_, node)| node.is_user) {
            for (other, b) in nodes.iter().enumerate().filter(|(_, node)| node.is_user) {
                if a.parent == b.parent {
                    let by_share = compare(&standings, one, other);
                    let by_factor = standings[one].factor.partial_cmp(&standings[other].factor);
                    prop_assert_eq!(by_factor, Some(by_share));
                }
            }
        }
    }

    /// Fair Tree's promise, wherever two ways part: at accounts, or at an account and a user.
    #[test]
    fn nobody_below_a_better_served_sibling_outranks_anybody_below_a_worse_served_one(nodes in trees()) {
        let standings = fair_tree(&nodes);
        let users: Vec<usize> = (0..nodes.len()).filter(|at| nodes[*at].is_user).collect();
        for one in &users {
            for other in &users {
                let (a, b) = (way(&nodes, *one), way(&nodes, *other));
                let Some((a, b)) = a.into_iter().zip(b).find(|(a, b)| a != b) else { continue };
                if compare(&standings, a, b) == Ordering::Greater {
                    prop_assert!(standings[*one].factor > standings[*other].factor);
                }
            }
        }
    }

    #[test]
    fn the_order_of_the_slice_changes_nothing_not_even_for_equals(
        nodes in trees(), keys in prop::collection::vec(any::<u32>(), 40),
    ) {
        let before = fair_tree(&nodes);
        let (other, went) = reordered(&nodes, &keys);
        let after = fair_tree(&other);
        for (at, standing) in before.iter().enumerate() {
            prop_assert_eq!(*standing, after[went[at]]);
        }
    }

    #[test]
    fn any_numbers_give_the_same_factors_above_zero_twice(
        mut nodes in trees(), shares in prop::collection::vec(any::<u64>(), 40),
        usages in prop::collection::vec(any::<u64>(), 40),
    ) {
        for (node, (shares, usage)) in nodes.iter_mut().zip(shares.into_iter().zip(usages)) {
            node.shares = shares;
            node.usage = f64::from_bits(usage);
        }
        let standings = fair_tree(&nodes);
        prop_assert_eq!(&standings, &fair_tree(&nodes));
        for standing in &standings {
            prop_assert!(standing.level_fair_share >= 0.0 && (0.0..=1.0).contains(&standing.shares_norm));
            prop_assert!(standing.usage_norm >= 0.0 && standing.usage_norm.is_finite());
            prop_assert!(standing.factor.is_none_or(|factor| 0.0 < factor && factor <= 1.0));
        }
        let best = standings.iter().filter_map(|standing| standing.factor).fold(0.0, f64::max);
        prop_assert_eq!(best, 1.0);
    }
}

// ---- users who always have something waiting ----------------------------------------------------------------

/// Runs identical jobs one after the other, always the next of whoever has the higher factor; what each has used by
/// then and how many jobs they have had, after every job.
fn serve(
    shares: [u64; 2],
    jobs: usize,
    amount: f64,
    wait_s: i64,
    half_life_s: u32,
) -> Vec<([f64; 2], [u64; 2])> {
    let mut used = [Usage::default(); 2];
    let mut counts = [0; 2];
    let mut now = Timestamp(0);
    let mut served = Vec::new();
    for _ in 0..jobs {
        let usages = used.map(|used| used.at(now, half_life_s));
        let nodes = [
            root(usages[0] + usages[1]),
            user(0, shares[0], usages[0]),
            user(0, shares[1], usages[1]),
        ];
        let standings = fair_tree(&nodes);
        let next = usize::from(standings[2].factor > standings[1].factor);
        now = now.plus_ms(wait_s * 1000);
        used[next].add(amount, now, half_life_s);
        counts[next] += 1;
        served.push((used.map(|used| used.at(now, half_life_s)), counts));
    }
    served
}

#[test]
fn two_shares_to_one_get_two_jobs_to_one() {
    let served = serve([2, 1], 3000, 77.0, 60, 0);
    let (used, counts) = served[2999];
    assert_eq!(counts, [2000, 1000]);
    assert_eq!(used[0] / used[1], 2.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn equal_users_are_never_more_than_a_job_apart(
        shares in 1_u64..1000, jobs in 1_usize..200, amount in 1_u32..1_000_000, wait_s in 0_i64..100_000,
        half_life_s in any::<u32>(),
    ) {
        let amount = f64::from(amount);
        for (used, counts) in serve([shares, shares], jobs, amount, wait_s, 0) {
            prop_assert!(counts[0].abs_diff(counts[1]) <= 1, "{counts:?}");
            prop_assert!((used[0] - used[1]).abs() <= amount);
        }
        for (used, _) in serve([shares, shares], jobs, amount, wait_s, half_life_s) {
            prop_assert!((used[0] - used[1]).abs() <= amount * (1.0 + 1e-9));
        }
    }

    /// Usage per share is never further apart than one job of whoever has fewer shares: so the ratio of usages tends to
    /// that of the shares, 2 for 2:1, with half-lives as well as without.
    #[test]
    fn usage_follows_shares(
        shares in prop::array::uniform2(1_u64..20), jobs in 1_usize..200, amount in 1_u32..1_000_000,
        wait_s in 0_i64..100_000, half_life_s in prop_oneof![Just(0), any::<u32>()],
    ) {
        let amount = f64::from(amount);
        let weights = shares.map(|shares| shares as f64);
        let most = amount / weights[0].min(weights[1]);
        for (used, _) in serve(shares, jobs, amount, wait_s, half_life_s) {
            let apart = used[0] / weights[0] - used[1] / weights[1];
            prop_assert!(apart.abs() <= most * (1.0 + 1e-9), "{used:?}");
        }
    }

    #[test]
    fn two_to_one_tends_to_two(jobs in 30_usize..600, amount in 1_u32..1_000_000, swap in any::<bool>()) {
        let shares = if swap { [1, 2] } else { [2, 1] };
        let served = serve(shares, jobs, f64::from(amount), 60, 0);
        let Some((mut used, mut counts)) = served.last().copied() else { unreachable!() };
        if swap {
            used.reverse();
            counts.reverse();
        }
        prop_assert!(counts[0].abs_diff(2 * counts[1]) <= 2, "{counts:?}");
        // Within two jobs of the smaller share's usage, however long it goes on.
        prop_assert!((used[0] - 2.0 * used[1]).abs() <= 2.0 * f64::from(amount), "{used:?}");
    }
}
