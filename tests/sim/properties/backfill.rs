//! A single pass of backfill, over processors and over nodes: what it promised can be kept whatever it starts.

use super::quiet;
use super::views::{NOW, PLAIN, labs};
use hpc::scheduler::backfill::{Pass, Running};
use hpc::scheduler::nodes::NodePool;
use hpc::scheduler::pool::{Pool, Processors};
use proptest::prelude::*;

/// Something that asks for room, for so long.
#[derive(Debug, Clone)]
struct Wish<A> {
    ask: A,
    length: i64,
}

/// Keeps a place for the first wish and starts of the others what the pass allows, over the pool `P`. Then holds what
/// was done against `truth`, the same room in a pool that is known to be right: nothing was taken that was not free, and
/// the first has its room at its shadow time even if everything runs for as long as it may. What was given back in the
/// end is what there was.
fn first_keeps_its_place<'r, P, T>(
    pool: P,
    mut truth: T,
    running: &[(i64, P::Share)],
    wishes: &[Wish<P::Ask<'r>>],
) -> Result<(), String>
where
    P: Pool,
    T: Pool<Ask<'r> = P::Ask<'r>, Share = P::Share>,
{
    let all = format!("{truth:?}");
    let mut pass = Pass::new(0, pool);
    let mut wishes = wishes.iter();
    let mut head = None;
    let mut started: Vec<(i64, P::Share)> = Vec::new();
    for wish in wishes.by_ref() {
        match pass.start(&wish.ask, wish.length) {
            Some(share) => started.push((wish.length, share)),
            None => {
                head = Some(wish);
                break;
            }
        }
    }
    let Some(head) = head else { return Ok(()) };
    let mut busy: Vec<Running<'_, P::Share>> = running
        .iter()
        .chain(&started)
        .map(|(ends, share)| Running { ends: *ends, share })
        .collect();
    busy.sort_by_key(|one| one.ends);
    let Some(shadow) = pass.reserve(&head.ask, head.length, busy) else {
        return Ok(());
    };
    for wish in wishes {
        let share = pass.start(&wish.ask, wish.length);
        started.extend(share.map(|share| (wish.length, share)));
    }
    for (_, share) in &started {
        if !truth.holds(share) {
            return Err(format!("{share:?} is started and not there"));
        }
        truth.take(share);
    }
    let (mut at_shadow, mut in_the_end) = (truth.clone(), truth);
    for (ends, share) in running.iter().chain(&started) {
        if *ends <= shadow {
            at_shadow.give(share);
        }
        in_the_end.give(share);
    }
    let kept = &pass.kept()[0].share;
    if !at_shadow.holds(kept) || at_shadow.find(&head.ask).is_none() {
        return Err(format!("{kept:?} is not free at {shadow}"));
    }
    for (_, share) in running {
        in_the_end.take(share);
    }
    let after = format!("{in_the_end:?}");
    (after == all)
        .then_some(())
        .ok_or(format!("{after} is left of {all}"))
}

/// Processors in use until some time, and wishes for them.
fn busy_machine() -> impl Strategy<Value = (u32, Vec<(i64, u32)>, Vec<Wish<u32>>)> {
    let running = prop::collection::vec((1i64..30, 1u32..6), 0..8);
    let wide = prop_oneof![2 => 1u32..4, 1 => 1u32..20];
    let wish = (wide, 1i64..40).prop_map(|(ask, length)| Wish { ask, length });
    let wishes = prop::collection::vec(wish, 1..10);
    (0u32..6, running, wishes).prop_map(|(free, mut running, wishes)| {
        running.sort_unstable();
        (free, running, wishes)
    })
}

/// Asks the waiting jobs of a random cluster for room, one after the other, in a pool made by `wrap`.
fn on_nodes<'a, P>(
    state: &'a super::views::State,
    wrap: impl Fn(NodePool) -> P,
) -> Result<(), String>
where
    P: Pool<Ask<'a> = hpc::scheduler::nodes::Ask<'a>, Share = hpc::scheduler::nodes::Parts>,
{
    let view = state.view();
    let pool = view.pool;
    let running: Vec<_> = view
        .occupancy
        .iter()
        .map(|(ends, _, parts)| (ends.minus(NOW).max(0), parts.clone()))
        .collect();
    let wishes: Vec<_> = view
        .jobs
        .values()
        .filter(|job| !job.pending.is_empty())
        .map(|job| Wish {
            ask: pool.ask(&job.spec.request, |id| view.nodes[&id].accepts_work()),
            length: job
                .spec
                .time_limit_s
                .map_or(1 << 60, |limit_s| i64::from(limit_s) * 1000),
        })
        .collect();
    first_keeps_its_place(wrap(pool.clone()), pool.clone(), &running, &wishes)
}

/// A pool that finds room now and does not look at what is kept for later.
#[derive(Debug, Clone)]
struct Careless<P>(P);

impl<P: Pool> Pool for Careless<P> {
    type Ask<'r> = P::Ask<'r>;
    type Share = P::Share;

    fn find(&self, ask: &P::Ask<'_>) -> Option<P::Share> {
        self.0.find(ask)
    }

    fn find_in_all(&self, _others: &[&Self], ask: &P::Ask<'_>) -> Option<P::Share> {
        self.0.find(ask)
    }

    fn find_for_later(&self, _others: &[&Self], now: &Self, ask: &P::Ask<'_>) -> Option<P::Share> {
        self.0.find_for_later(&[], &now.0, ask)
    }

    fn holds(&self, share: &P::Share) -> bool {
        self.0.holds(share)
    }

    fn is_local(ask: &P::Ask<'_>) -> bool {
        P::is_local(ask)
    }

    fn fits_at(&self, share: &P::Share, ask: &P::Ask<'_>) -> bool {
        self.0.fits_at(share, ask)
    }

    fn take(&mut self, share: &P::Share) {
        self.0.take(share);
    }

    fn give(&mut self, share: &P::Share) {
        self.0.give(share);
    }
}

/// A pool whose copies forget all that is taken of them but the first share. What is left beside a kept place is such a
/// copy, and the place itself is taken first: so a pass forgets what it starts beyond the shadow time.
#[derive(Debug)]
struct Forgetful<P> {
    pool: P,
    takes_left: u32,
}

impl<P: Pool> Clone for Forgetful<P> {
    fn clone(&self) -> Self {
        Forgetful {
            pool: self.pool.clone(),
            takes_left: 1,
        }
    }
}

impl<P: Pool> Pool for Forgetful<P> {
    type Ask<'r> = P::Ask<'r>;
    type Share = P::Share;

    fn find(&self, ask: &P::Ask<'_>) -> Option<P::Share> {
        self.pool.find(ask)
    }

    fn find_in_all(&self, others: &[&Self], ask: &P::Ask<'_>) -> Option<P::Share> {
        let others: Vec<&P> = others.iter().map(|other| &other.pool).collect();
        self.pool.find_in_all(&others, ask)
    }

    fn find_for_later(&self, others: &[&Self], now: &Self, ask: &P::Ask<'_>) -> Option<P::Share> {
        let others: Vec<&P> = others.iter().map(|other| &other.pool).collect();
        self.pool.find_for_later(&others, &now.pool, ask)
    }

    fn holds(&self, share: &P::Share) -> bool {
        self.pool.holds(share)
    }

    fn is_local(ask: &P::Ask<'_>) -> bool {
        P::is_local(ask)
    }

    fn fits_at(&self, share: &P::Share, ask: &P::Ask<'_>) -> bool {
        self.pool.fits_at(share, ask)
    }

    fn take(&mut self, share: &P::Share) {
        if self.takes_left > 0 {
            self.takes_left -= 1;
            self.pool.take(share);
        }
    }

    fn give(&mut self, share: &P::Share) {
        self.pool.give(share);
    }
}

/// A pool in which places are searched in leaps, whoever asks.
#[derive(Debug, Clone)]
struct Leaping<P>(P);

impl<P: Pool> Pool for Leaping<P> {
    type Ask<'r> = P::Ask<'r>;
    type Share = P::Share;

    fn find(&self, ask: &P::Ask<'_>) -> Option<P::Share> {
        self.0.find(ask)
    }

    fn find_in_all(&self, others: &[&Self], ask: &P::Ask<'_>) -> Option<P::Share> {
        let others: Vec<&P> = others.iter().map(|other| &other.0).collect();
        self.0.find_in_all(&others, ask)
    }

    fn find_for_later(&self, others: &[&Self], now: &Self, ask: &P::Ask<'_>) -> Option<P::Share> {
        let others: Vec<&P> = others.iter().map(|other| &other.0).collect();
        self.0.find_for_later(&others, &now.0, ask)
    }

    fn holds(&self, share: &P::Share) -> bool {
        self.0.holds(share)
    }

    fn is_local(_ask: &P::Ask<'_>) -> bool {
        false
    }

    fn fits_at(&self, share: &P::Share, ask: &P::Ask<'_>) -> bool {
        self.0.fits_at(share, ask)
    }

    fn take(&mut self, share: &P::Share) {
        self.0.take(share);
    }

    fn give(&mut self, share: &P::Share) {
        self.0.give(share);
    }
}

fn forgetful<P>(pool: P) -> Forgetful<P> {
    Forgetful {
        pool,
        takes_left: u32::MAX,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn groups_1_and_3_a_kept_place_is_there_at_its_time_on_processors((free, running, wishes) in busy_machine()) {
        let pool = Processors(free);
        let kept = first_keeps_its_place(pool, pool, &running, &wishes);
        prop_assert!(kept.is_ok(), "{kept:?}");
        let kept = first_keeps_its_place(Leaping(pool), pool, &running, &wishes);
        prop_assert!(kept.is_ok(), "in leaps: {kept:?}");
    }

    #[test]
    fn groups_1_and_3_a_kept_place_is_there_at_its_time_on_nodes(lab in labs(PLAIN)) {
        let kept = on_nodes(&lab.state(NOW), |pool| pool);
        prop_assert!(kept.is_ok(), "{kept:?}");
        let kept = on_nodes(&lab.state(NOW), Leaping);
        prop_assert!(kept.is_ok(), "in leaps: {kept:?}");
    }

    /// Several places: whoever is kept one can be there from its shadow time on, beside all others, and nobody who fits
    /// into the machine is told never.
    #[test]
    fn group_4_all_kept_places_are_there_together(
        free in 0u32..6,
        mut running in prop::collection::vec((1i64..30, 1u32..6), 0..8),
        wishes in prop::collection::vec((1u32..20, 1i64..40), 1..8),
    ) {
        running.sort_unstable();
        let listed: Vec<Running<'_, u32>> =
            running.iter().map(|(ends, share)| Running { ends: *ends, share }).collect();
        let all = free + running.iter().map(|(_, share)| share).sum::<u32>();
        let mut pass = Pass::new(0, Processors(free));
        let mut held: Vec<(i64, i64, u32)> = running.iter().map(|(ends, share)| (0, *ends, *share)).collect();
        for (wide, length) in wishes {
            if wide <= free {
                continue;
            }
            match pass.reserve(&wide, length, listed.iter().copied()) {
                Some(shadow) => held.push((shadow, shadow + length, wide)),
                None => prop_assert!(wide > all, "{wide} of {all} are promised to nobody, {held:?}"),
            }
            for (at, ..) in &held {
                let then = held.iter().filter(|(begin, end, _)| (*begin..*end).contains(at));
                prop_assert!(then.map(|(.., wide)| wide).sum::<u32>() <= all, "at {at} of {all}: {held:?}");
            }
        }
    }
}

/// The checks above are ones that can fail.
#[test]
fn group_3_a_broken_pass_is_caught_on_processors_and_on_nodes() {
    let careless = quiet().run(&busy_machine(), |(free, running, wishes)| {
        let pool = Processors(free);
        first_keeps_its_place(Careless(pool), pool, &running, &wishes).map_err(TestCaseError::fail)
    });
    assert!(careless.is_err());
    let forgets = quiet().run(&busy_machine(), |(free, running, wishes)| {
        let pool = Processors(free);
        first_keeps_its_place(forgetful(pool), pool, &running, &wishes).map_err(TestCaseError::fail)
    });
    assert!(forgets.is_err());
    let careless = quiet().run(&labs(PLAIN), |lab| {
        on_nodes(&lab.state(NOW), Careless).map_err(TestCaseError::fail)
    });
    assert!(careless.is_err());
    let forgets = quiet().run(&labs(PLAIN), |lab| {
        on_nodes(&lab.state(NOW), forgetful).map_err(TestCaseError::fail)
    });
    assert!(forgets.is_err());
}

fn running<const N: usize>(ends: &[(i64, u32); N]) -> [Running<'_, u32>; N] {
    ends.each_ref()
        .map(|(ends, share)| Running { ends: *ends, share })
}

/// Of four processors that are free at 10, two are kept twice: there is nothing left for a third who wants two then.
#[test]
fn group_4_places_that_begin_together_are_not_given_out_again() {
    let running = running(&[(10, 4)]);
    let mut pass = Pass::new(0, Processors(0));
    assert_eq!(pass.reserve(&2, 10, running), Some(10));
    assert_eq!(pass.reserve(&2, 10, running), Some(10));
    let third = pass.reserve(&2, 10, running);
    assert!(third >= Some(20), "{third:?}");
}

/// All four are kept from 100 on, two of them from 10 to 60. A third has room from 60 on, and after 110.
#[test]
fn group_4_a_place_before_another_does_not_hide_all_that_follows() {
    let running = running(&[(10, 2), (100, 2)]);
    let mut pass = Pass::new(0, Processors(0));
    assert_eq!(pass.reserve(&4, 10, running), Some(100));
    assert_eq!(pass.reserve(&2, 50, running), Some(10));
    let third = pass.reserve(&2, 10, running);
    assert!(third >= Some(60), "{third:?}");
}

/// All four are kept from 100 on. Two are free at 20, long enough before; at 90 it is too late for that.
#[test]
fn group_4_a_gap_before_a_kept_place_is_found() {
    let running = running(&[(10, 1), (20, 1), (90, 1), (100, 1)]);
    let mut pass = Pass::new(0, Processors(0));
    assert_eq!(pass.reserve(&4, 50, running), Some(100));
    assert_eq!(pass.reserve(&2, 60, running), Some(20));
}
