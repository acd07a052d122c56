//! Which waiting jobs start now: in order, and in the gaps before those that must wait.
//!
//! A [`Pass`] is given jobs in the order of the policy. A job that does not fit may be kept a place ([`Pass::reserve`]):
//! it will start at its shadow time, when enough of what runs has ended at the latest. From then on others start only if
//! they end before that, or if what they take is not needed by it then. With one place kept this is EASY (Lifka, "The
//! ANL/IBM SP Scheduling System", JSSPP 1995; Mu'alem and Feitelson, IEEE TPDS 12(6), 2001); with a place for every job
//! it comes close to conservative backfill. In what order the others are tried is the caller's choice: shortest first is
//! Tsafrir's SJBF (IEEE TPDS 18(6), 2007).
//!
//! The same functions serve the live controller over nodes and the replay of traces over processors.

use super::pool::Pool;

/// Something that runs, or is booked: its share is back at `ends`.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a, S> {
    /// When it has ended at the latest, or is thought to.
    pub ends: i64,
    /// What it holds.
    pub share: &'a S,
}

/// A place that is kept.
#[derive(Debug, Clone)]
pub struct Kept<P: Pool> {
    /// When the job will start at the latest.
    pub shadow: i64,
    /// When it will have ended at the latest.
    until: i64,
    /// What it will have.
    pub share: P::Share,
    /// What is free at that instant beside it.
    later: P,
}

/// One pass of a policy.
#[derive(Debug, Clone)]
pub struct Pass<P: Pool> {
    now: i64,
    /// What is free now.
    pub free: P,
    kept: Vec<Kept<P>>,
}

impl<P: Pool> Pass<P> {
    /// With so much free at this time.
    pub fn new(now: i64, free: P) -> Self {
        Pass {
            now,
            free,
            kept: Vec::new(),
        }
    }

    /// The same at a later time, nothing having ended meanwhile.
    pub fn goes_on(&mut self, now: i64) {
        self.now = now;
    }

    /// The places that are kept, in the order in which they were.
    pub fn kept(&self) -> &[Kept<P>] {
        &self.kept
    }

    /// Room now for a job that runs for at most `length`, if no kept place is in its way.
    pub fn find(&self, ask: &P::Ask<'_>, length: i64) -> Option<P::Share> {
        let until = self.now.saturating_add(length);
        match self.kept.as_slice() {
            [] => self.free.find(ask),
            // The common case, without a list.
            [one] if until <= one.shadow => self.free.find(ask),
            [one] => self.free.find_in_all(&[&one.later], ask),
            all => {
                let later: Vec<&P> = overlapped(all, until).collect();
                self.free.find_in_all(&later, ask)
            }
        }
    }

    /// Whether just this share is free for so long.
    pub fn holds(&self, share: &P::Share, length: i64) -> bool {
        let until = self.now.saturating_add(length);
        let mut later = overlapped(&self.kept, until);
        self.free.holds(share) && later.all(|pool| pool.holds(share))
    }

    /// Starts what was found.
    pub fn take(&mut self, share: &P::Share, length: i64) {
        self.free.take(share);
        self.take_later(share, self.now.saturating_add(length));
    }

    /// Starts a job, if there is room.
    pub fn start(&mut self, ask: &P::Ask<'_>, length: i64) -> Option<P::Share> {
        let share = self.find(ask, length)?;
        self.take(&share, length);
        Some(share)
    }

    /// Lets something that holds this share, until `ends` at the latest, go on for `length` more, if no kept place is in
    /// the way.
    pub fn extend(&mut self, share: &P::Share, ends: i64, length: i64) -> bool {
        // Who waits for less than this share's end does not count on it.
        self.stands_still(share, share, ends.max(self.now), length, self.now)
    }

    /// Whether [`Pass::stands_still`] would do.
    pub fn may_stand_still(
        &self,
        share: &P::Share,
        left: &P::Share,
        ends: i64,
        longer: i64,
        until: i64,
    ) -> bool {
        let late = ends.saturating_add(longer);
        let mut kept = self.kept.iter();
        kept.all(|kept| {
            let held = if kept.shadow < until { left } else { share };
            kept.shadow < ends || kept.shadow >= late || kept.later.holds(held)
        })
    }

    /// Lets something that holds this share, until `ends` at the latest, end so much later, because it stands still until
    /// then; before `until` others have all of it but `left`. Not if a kept place is in the way.
    pub fn stands_still(
        &mut self,
        share: &P::Share,
        left: &P::Share,
        ends: i64,
        longer: i64,
        until: i64,
    ) -> bool {
        let late = ends.saturating_add(longer);
        let concerned = |kept: &Kept<P>| kept.shadow >= ends && kept.shadow < late;
        let held = |kept: &Kept<P>| if kept.shadow < until { left } else { share };
        if !self.may_stand_still(share, left, ends, longer, until) {
            return false;
        }
        for kept in self.kept.iter_mut().filter(|kept| concerned(kept)) {
            let held = held(kept);
            kept.later.take(held);
        }
        true
    }

    fn take_later(&mut self, share: &P::Share, until: i64) {
        for kept in self.kept.iter_mut().filter(|kept| kept.shadow < until) {
            kept.later.take(share);
        }
    }

    /// Keeps a place from one time to another, come what may. Nothing has been started or kept a place but by this.
    pub fn book<'a>(
        &mut self,
        from: i64,
        until: i64,
        share: &P::Share,
        running: impl IntoIterator<Item = Running<'a, P::Share>>,
    ) where
        P::Share: 'a,
    {
        let mut later = self.free.clone();
        for one in running.into_iter().take_while(|one| one.ends <= from) {
            later.give(one.share);
        }
        for kept in &mut self.kept {
            if kept.shadow <= from && kept.until > from {
                later.take(&kept.share);
            }
            if kept.shadow >= from && kept.shadow < until {
                kept.later.take(share);
            }
        }
        later.take(share);
        self.kept.push(Kept {
            shadow: from,
            until,
            share: share.clone(),
            later,
        });
    }

    /// As if this share, held until `ends` at the latest, were free now.
    pub fn release(&mut self, share: &P::Share, ends: i64) {
        self.free.give(share);
        for kept in self.kept.iter_mut().filter(|kept| kept.shadow < ends) {
            kept.later.give(share);
        }
    }

    /// Takes back [`Pass::release`].
    pub fn hold(&mut self, share: &P::Share, ends: i64) {
        self.free.take(share);
        self.take_later(share, ends);
    }

    /// A share that was held until `ends` at the latest will be free at `sooner`.
    pub fn leaves_at(&mut self, share: &P::Share, ends: i64, sooner: i64) {
        let between = |kept: &&mut Kept<P>| (sooner..ends).contains(&kept.shadow);
        for kept in self.kept.iter_mut().filter(between) {
            kept.later.give(share);
        }
    }

    /// Keeps a place for a job that does not fit now; when it will start. `running` by its end, soonest first, with what
    /// this pass has started. `None` when there is never enough.
    pub fn reserve<'a>(
        &mut self,
        ask: &P::Ask<'_>,
        length: i64,
        running: impl IntoIterator<Item = Running<'a, P::Share>>,
    ) -> Option<i64>
    where
        P::Share: 'a,
    {
        self.keep(Want::Some(ask), length, running)
    }

    /// Keeps just this share, as soon as it is free.
    pub fn reserve_exactly<'a>(
        &mut self,
        share: &P::Share,
        length: i64,
        running: impl IntoIterator<Item = Running<'a, P::Share>>,
    ) -> Option<i64>
    where
        P::Share: 'a,
    {
        self.keep(Want::Just(share), length, running)
    }

    fn keep<'a>(
        &mut self,
        want: Want<'_, '_, P>,
        length: i64,
        running: impl IntoIterator<Item = Running<'a, P::Share>>,
    ) -> Option<i64>
    where
        P::Share: 'a,
    {
        let search = Search {
            want,
            length,
            now: self.now,
            free: &self.free,
            kept: &self.kept,
        };
        let mut running = Ends {
            seen: Vec::new(),
            rest: running.into_iter(),
        };
        let (shadow, share, mut later) = search.earliest(&mut running)?;
        later.take(&share);
        let until = shadow.saturating_add(length);
        for kept in &mut self.kept {
            if kept.shadow >= shadow && kept.shadow < until {
                kept.later.take(&share);
            }
        }
        self.kept.push(Kept {
            shadow,
            until,
            share,
            later,
        });
        Some(shadow)
    }
}

/// Places that something which runs until then would be in the way of.
fn overlapped<P: Pool>(kept: &[Kept<P>], until: i64) -> impl Iterator<Item = &P> {
    kept.iter()
        .filter(move |kept| kept.shadow < until)
        .map(|kept| &kept.later)
}

/// What runs, soonest end first, looked at no further than needed.
struct Ends<'a, S, I> {
    seen: Vec<Running<'a, S>>,
    rest: I,
}

impl<'a, S, I: Iterator<Item = Running<'a, S>>> Ends<'a, S, I> {
    fn get(&mut self, at: usize) -> Option<&Running<'a, S>> {
        while self.seen.len() <= at {
            self.seen.push(self.rest.next()?);
        }
        self.seen.get(at)
    }
}

/// Where a job fits: when, with what, and what is free then.
type Found<P> = (i64, <P as Pool>::Share, P);

/// What a place is looked for.
enum Want<'s, 'r, P: Pool> {
    /// Any share that serves this.
    Some(&'s P::Ask<'r>),
    /// This one.
    Just(&'s P::Share),
}

impl<P: Pool> Want<'_, '_, P> {
    fn is_local(&self) -> bool {
        match self {
            Want::Some(ask) => P::is_local(ask),
            Want::Just(_) => false,
        }
    }

    /// Whether there is room, no place being kept.
    fn fits(&self, pool: &P) -> bool {
        match self {
            Want::Some(ask) => pool.fits(ask),
            Want::Just(share) => pool.holds(share),
        }
    }

    fn fits_at(&self, pool: &P, share: &P::Share) -> bool {
        match self {
            Want::Some(ask) => pool.fits_at(share, ask),
            Want::Just(_) => true,
        }
    }
}

/// The search for the earliest time at which a job fits.
struct Search<'s, 'r, P: Pool> {
    want: Want<'s, 'r, P>,
    length: i64,
    now: i64,
    /// What is free now.
    free: &'s P,
    kept: &'s [Kept<P>],
}

impl<P: Pool> Search<'_, '_, P> {
    fn earliest<'a, I>(&self, running: &mut Ends<'a, P::Share, I>) -> Option<Found<P>>
    where
        I: Iterator<Item = Running<'a, P::Share>>,
        P::Share: 'a,
    {
        if !self.kept.is_empty() {
            self.among_kept(running)
        } else if self.want.is_local() {
            self.walk(running)
        } else {
            self.leap(running)
        }
    }

    /// Step by step: what is free grows with each end and shrinks with each start of those that are kept a place.
    fn among_kept<'a, I>(&self, running: &mut Ends<'a, P::Share, I>) -> Option<Found<P>>
    where
        I: Iterator<Item = Running<'a, P::Share>>,
        P::Share: 'a,
    {
        let mut pool = self.free.clone();
        let mut begins: Vec<(i64, &P::Share)> = self
            .kept
            .iter()
            .map(|kept| (kept.shadow, &kept.share))
            .collect();
        begins.sort_by_key(|(at, _)| *at);
        let mut ends: Vec<(i64, &P::Share)> = self
            .kept
            .iter()
            .map(|kept| (kept.until, &kept.share))
            .collect();
        ends.sort_by_key(|(at, _)| *at);
        let (mut begins, mut ends) = (begins.into_iter().peekable(), ends.into_iter().peekable());
        let mut done = 0;
        let local = self.want.is_local();
        loop {
            let next = [
                running.get(done).map(|one| one.ends),
                begins.peek().map(|(at, _)| *at),
                ends.peek().map(|(at, _)| *at),
            ];
            let at = next.into_iter().flatten().min()?;
            // All that ends at one instant is there together, and those who were promised it come first.
            let mut may_fit = !local;
            let mut given: Vec<&P::Share> = Vec::new();
            while let Some(one) = running.get(done).filter(|one| one.ends <= at) {
                given.push(one.share);
                done += 1;
            }
            while let Some((_, share)) = ends.next_if(|(ends, _)| *ends <= at) {
                given.push(share);
            }
            for share in &given {
                pool.give(share);
            }
            while let Some((_, share)) = begins.next_if(|(begins, _)| *begins <= at) {
                pool.take(share);
            }
            may_fit |= given.iter().any(|share| self.want.fits_at(&pool, share));
            if may_fit && let Some(found) = self.try_at(at.max(self.now), &pool) {
                return Some(found);
            }
        }
    }

    /// Where it is enough to look at what was given back.
    fn walk<'a, I>(&self, running: &mut Ends<'a, P::Share, I>) -> Option<Found<P>>
    where
        I: Iterator<Item = Running<'a, P::Share>>,
        P::Share: 'a,
    {
        let mut pool = self.free.clone();
        let mut done = 0;
        while let Some(at) = running.get(done).map(|one| one.ends) {
            let mut may_fit = false;
            // All that ends at one instant is there together.
            while let Some(one) = running.get(done)
                && one.ends == at
            {
                pool.give(one.share);
                may_fit |= self.want.fits_at(&pool, one.share);
                done += 1;
            }
            if may_fit && let Some(found) = self.try_at(at.max(self.now), &pool) {
                return Some(found);
            }
        }
        None
    }

    /// In leaps that double, and back: each look is at all there is, and what is free only grows.
    fn leap<'a, I>(&self, running: &mut Ends<'a, P::Share, I>) -> Option<Found<P>>
    where
        I: Iterator<Item = Running<'a, P::Share>>,
        P::Share: 'a,
    {
        let mut pool = self.free.clone();
        let (mut done, mut step) = (0, 1);
        while running.get(done).is_some() {
            let before = (done, pool.clone());
            let mut last = i64::MIN;
            // All that ends at one instant is there together.
            while let Some(one) = running.get(done)
                && (done < before.0 + step || one.ends == last)
            {
                last = one.ends;
                pool.give(one.share);
                done += 1;
            }
            step = step.saturating_mul(2);
            if self.want.fits(&pool) {
                return self.narrow(before, &running.seen[..done]);
            }
        }
        None
    }

    /// The first of the instants behind `from.0` at which it fits; it does at the last.
    fn narrow(&self, from: (usize, P), running: &[Running<'_, P::Share>]) -> Option<Found<P>> {
        let (mut low, mut pool) = from;
        let mut high = running.len();
        loop {
            // Instants in between, by the place behind their last end.
            let is_last = |at: &usize| *at == high || running[*at].ends != running[at - 1].ends;
            let ends: Vec<usize> = (low + 1..=high).filter(is_last).collect();
            let middle = *ends.get(ends.len().checked_sub(1)? / 2)?;
            let mut there = pool.clone();
            for one in &running[low..middle] {
                there.give(one.share);
            }
            if ends.len() == 1 {
                let at = running[middle - 1].ends.max(self.now);
                return self.try_at(at, &there);
            }
            if self.want.fits(&there) {
                high = middle;
            } else {
                low = middle;
                pool = there;
            }
        }
    }

    /// Whether it fits at this time, with so much free, beside the places kept for later.
    fn try_at(&self, at: i64, pool: &P) -> Option<Found<P>> {
        let until = at.saturating_add(self.length);
        let later: Vec<&P> = self
            .kept
            .iter()
            .filter(|kept| kept.shadow > at && kept.shadow < until)
            .map(|kept| &kept.later)
            .collect();
        let share = match self.want {
            Want::Some(ask) => pool.find_for_later(&later, self.free, ask)?,
            Want::Just(share) => {
                let free = pool.holds(share) && later.iter().all(|later| later.holds(share));
                free.then(|| share.clone())?
            }
        };
        Some((at, share, pool.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::Processors;
    use super::*;
    use proptest::prelude::*;

    /// The earliest time by looking at each end in turn.
    fn plainly(free: u32, ask: u32, running: &[(i64, u32)]) -> Option<i64> {
        let mut free = free;
        for (at, (ends, share)) in running.iter().enumerate() {
            free += share;
            let last = running.get(at + 1).is_none_or(|next| next.0 > *ends);
            if last && free >= ask {
                return Some(*ends);
            }
        }
        None
    }

    /// Processors that are searched in leaps, as nodes are by those who need several.
    #[derive(Debug, Clone)]
    struct Leaping(Processors);

    impl Pool for Leaping {
        type Ask<'r> = u32;
        type Share = u32;

        fn find(&self, ask: &u32) -> Option<u32> {
            self.0.find(ask)
        }
        fn find_in_all(&self, others: &[&Self], ask: &u32) -> Option<u32> {
            let others: Vec<&Processors> = others.iter().map(|other| &other.0).collect();
            self.0.find_in_all(&others, ask)
        }
        fn holds(&self, share: &u32) -> bool {
            self.0.holds(share)
        }
        fn is_local(_ask: &u32) -> bool {
            false
        }
        fn fits_at(&self, _share: &u32, _ask: &u32) -> bool {
            false
        }
        fn take(&mut self, share: &u32) {
            self.0.take(share);
        }
        fn give(&mut self, share: &u32) {
            self.0.give(share);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn leaps_find_what_small_steps_find(
            free in 0u32..4,
            ask in 5u32..40,
            mut running in proptest::collection::vec((1i64..20, 1u32..5), 0..40),
        ) {
            running.sort();
            let shares: Vec<u32> = running.iter().map(|(_, share)| *share).collect();
            let listed: Vec<Running<'_, u32>> = running
                .iter()
                .zip(&shares)
                .map(|((ends, _), share)| Running { ends: *ends, share })
                .collect();
            let expected = plainly(free, ask, &running);
            let mut pass = Pass::new(0, Processors(free));
            prop_assert_eq!(pass.reserve(&ask, 10, listed.iter().copied()), expected);
            let mut pass = Pass::new(0, Leaping(Processors(free)));
            prop_assert_eq!(pass.reserve(&ask, 10, listed), expected);
        }
    }

    #[test]
    fn a_gap_is_filled_unless_a_kept_place_is_in_the_way() {
        let running = [Running {
            ends: 10,
            share: &3,
        }];
        let mut pass = Pass::new(0, Processors(2));
        assert_eq!(pass.start(&4, 5), None);
        assert_eq!(pass.reserve(&4, 5, running), Some(10));
        // One more is free then, so one long job may run on.
        assert_eq!(pass.start(&2, 11), None);
        assert_eq!(pass.start(&1, 11), Some(1));
        assert_eq!(pass.start(&1, 11), None);
        assert_eq!(pass.start(&1, 10), Some(1));
    }

    #[test]
    fn a_second_place_respects_the_first() {
        // 2 free, 2 back at 10, 4 back at 20.
        let running = [
            Running {
                ends: 10,
                share: &2,
            },
            Running {
                ends: 20,
                share: &4,
            },
        ];
        let mut pass = Pass::new(0, Processors(2));
        assert_eq!(pass.reserve(&4, 100, running), Some(10));
        // Everything is taken from 10 on, so the next begins at 20.
        assert_eq!(pass.reserve(&3, 5, running), Some(20));
        // What ends before 10 is in nobody's way.
        assert_eq!(pass.start(&2, 11), None);
        assert_eq!(pass.start(&2, 10), Some(2));
    }

    #[test]
    fn places_lie_one_behind_another_and_in_gaps() {
        let end = |ends, share| Running { ends, share };
        // Four are back at 10: two jobs of two at once, the third behind them.
        let mut pass = Pass::new(0, Processors(0));
        let running = [end(10, &4)];
        let kept: Vec<_> = (0..3).map(|_| pass.reserve(&2, 10, running)).collect();
        assert_eq!(kept, [Some(10), Some(10), Some(20)]);
        // What was kept a place ends too.
        let running = [end(10, &2), end(100, &2)];
        let mut pass = Pass::new(0, Processors(0));
        assert_eq!(pass.reserve(&4, 10, running), Some(100));
        assert_eq!(pass.reserve(&2, 50, running), Some(10));
        assert_eq!(pass.reserve(&2, 10, running), Some(60));
        // A gap before a place that is kept.
        let running = [end(10, &1), end(20, &1), end(90, &1), end(100, &1)];
        let mut pass = Pass::new(0, Processors(0));
        assert_eq!(pass.reserve(&4, 50, running), Some(100));
        assert_eq!(pass.reserve(&2, 60, running), Some(20));
    }

    #[test]
    fn what_runs_goes_on_unless_somebody_waits_for_its_share() {
        let running = [Running { ends: 0, share: &2 }];
        let mut pass = Pass::new(0, Processors(1));
        assert_eq!(pass.reserve(&3, 5, running), Some(0));
        assert!(!pass.extend(&2, 0, 5), "the head would start at once");
        let mut pass = Pass::new(0, Processors(2));
        assert_eq!(pass.reserve(&3, 5, running), Some(0));
        assert!(!pass.extend(&2, 0, 5));
        assert!(pass.extend(&1, 0, 5), "one processor is left over then");
        assert!(!pass.extend(&1, 0, 5));
    }
}
