//! Which waiting jobs start now: in order, or in order with others in the gaps.
//!
//! [`in_order`] starts jobs until one does not fit. [`easy`] then keeps a place for that one, the head: it will start at
//! the shadow time, when enough of what runs has ended at the latest; others may start now if they end before that, or
//! if what they take is not needed by the head then (Lifka, "The ANL/IBM SP Scheduling System", JSSPP 1995; Mu'alem and
//! Feitelson, IEEE TPDS 12(6), 2001). In what order the others are tried is the caller's choice: shortest first is
//! Tsafrir's SJBF (IEEE TPDS 18(6), 2007).

use super::pool::Pool;

/// A job that waits.
#[derive(Debug)]
pub struct Waiting<A> {
    /// Its number, for the answer.
    pub id: u32,
    /// What it asks for.
    pub ask: A,
    /// How long it will run at most, or is thought to; seconds.
    pub length: i64,
}

/// Something that runs, or is booked: its share is back at `ends`.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a, S> {
    /// When it has ended at the latest, or is thought to; seconds.
    pub ends: i64,
    /// What it holds.
    pub share: &'a S,
}

/// What starts: whose, and where.
pub type Start<S> = (u32, S);

/// Starts jobs in this order, up to the first that does not fit; how many were started.
pub fn in_order<'a, P: Pool>(
    pool: &mut P,
    queue: impl IntoIterator<Item = &'a Waiting<P::Ask>>,
    starts: &mut Vec<Start<P::Share>>,
) -> usize
where
    P::Ask: 'a,
{
    let before = starts.len();
    for job in queue {
        let Some(share) = pool.find(&job.ask) else {
            break;
        };
        pool.take(&share);
        starts.push((job.id, share));
    }
    starts.len() - before
}

/// When there is room for this at the latest, and what is free at that instant without it. `running` by its end, soonest
/// first. `None` when there is never enough.
pub fn shadow<'a, P: Pool>(
    pool: &P,
    ask: &P::Ask,
    running: impl IntoIterator<Item = Running<'a, P::Share>>,
) -> Option<(i64, P)>
where
    P::Share: 'a,
{
    let mut later = pool.clone();
    let mut found = None;
    for one in running {
        // All that ends at the shadow instant is free then.
        match found {
            Some((at, _)) if one.ends > at => break,
            _ => later.give(one.share),
        }
        if found.is_none()
            && let Some(share) = later.find(ask)
        {
            found = Some((one.ends, share));
        }
    }
    let (at, _) = found?;
    // Placed again, among all that is free then.
    let share = later.find(ask)?;
    later.take(&share);
    Some((at, later))
}

/// EASY: keeps the head's place and fills the gaps. `queue` in order, its first entry the head, which does not fit;
/// `order` names the places in it of those to be tried, first to last.
pub fn fill_gaps<'a, P: Pool>(
    pool: &mut P,
    now: i64,
    queue: &[Waiting<P::Ask>],
    order: impl IntoIterator<Item = usize>,
    running: impl IntoIterator<Item = Running<'a, P::Share>>,
    starts: &mut Vec<Start<P::Share>>,
) where
    P::Share: 'a,
{
    let Some(head) = queue.first() else { return };
    let Some((shadow, mut later)) = shadow(pool, &head.ask, running) else {
        return;
    };
    for at in order {
        let Some(job) = queue.get(at) else { continue };
        let share = if now + job.length <= shadow {
            pool.find(&job.ask)
        } else {
            let share = pool.find_in_both(&later, &job.ask);
            if let Some(share) = &share {
                later.take(share);
            }
            share
        };
        if let Some(share) = share {
            pool.take(&share);
            starts.push((job.id, share));
        }
    }
}
