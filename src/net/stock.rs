//! What many share, and of which nobody may hold more than is left for everybody else.
//!
//! Who is alone has half of it, two that want all have a third each, and whoever comes after them still finds a third:
//! no list of quotas is needed, and who floods us stands in their own way alone. What exceeds a share waits
//! ([`Stock::take`]) or is refused in words ([`Stock::try_take`]), as the caller of this chooses.

use crate::model::refusal::{Code, Refusal};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Something that there is only so much of.
#[derive(Debug)]
pub struct Stock<H> {
    /// What it is, for people.
    what: &'static str,
    held: Mutex<Held<H>>,
    given_back: Notify,
}

#[derive(Debug)]
struct Held<H> {
    free: usize,
    by: BTreeMap<H, usize>,
}

/// A part of a stock; given back when dropped.
#[derive(Debug)]
pub struct Share<H: Ord> {
    stock: Arc<Stock<H>>,
    holder: H,
    amount: usize,
}

impl<H: Ord + Clone> Stock<H> {
    /// So much of it.
    #[must_use]
    pub fn new(what: &'static str, total: usize) -> Arc<Self> {
        Arc::new(Stock {
            what,
            held: Mutex::new(Held {
                free: total,
                by: BTreeMap::new(),
            }),
            given_back: Notify::new(),
        })
    }

    /// So much of it, if that leaves as much for others.
    ///
    /// # Errors
    /// Else; with a word about it.
    pub fn try_take(self: &Arc<Self>, holder: &H, amount: usize) -> Result<Share<H>, Refusal> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.by.get(holder).copied().unwrap_or(0);
        let left = held.free.checked_sub(amount);
        if amount > 0 && left.is_none_or(|left| left < own + amount) {
            let what = format!(
                "{own} {} of yours are open and {} are left for all others",
                self.what, held.free
            );
            let hint = "nobody may have more than is left for others: wait for some to end";
            return Err(Refusal::new(Code::TooMuch, what, hint));
        }
        held.free -= amount;
        *held.by.entry(holder.clone()).or_default() += amount;
        Ok(Share {
            stock: Arc::clone(self),
            holder: holder.clone(),
            amount,
        })
    }

    /// So much of it, once that leaves as much for others. Dropped half-way it takes nothing.
    pub async fn take(self: &Arc<Self>, holder: &H, amount: usize) -> Share<H> {
        loop {
            // Made before the look, so that nothing given back in between is missed.
            let given_back = self.given_back.notified();
            if let Ok(share) = self.try_take(holder, amount) {
                return share;
            }
            given_back.await;
        }
    }
}

impl<H: Ord> Drop for Share<H> {
    fn drop(&mut self) {
        let stock = &self.stock;
        let mut held = stock.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.free += self.amount;
        if let Some(own) = held.by.get_mut(&self.holder) {
            *own -= self.amount;
            if *own == 0 {
                held.by.remove(&self.holder);
            }
        }
        drop(held);
        self.stock.given_back.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_holds_more_than_is_left_for_others() {
        let stock = Stock::new("things", 12);
        let take_all = |uid| {
            let mut shares = Vec::new();
            while let Ok(share) = stock.try_take(&uid, 1) {
                shares.push(share);
            }
            shares
        };
        let first = take_all(1);
        assert_eq!(first.len(), 6);
        let second = take_all(2);
        assert_eq!(second.len(), 3);
        assert_eq!(take_all(3).len(), 1, "there is something for everybody");
        drop(first);
        assert_eq!(take_all(3).len(), 4);
        drop(second);
        let refusal = stock.try_take(&1, 7).unwrap_err();
        assert_eq!(
            refusal.what,
            "0 things of yours are open and 12 are left for all others"
        );
        assert!(stock.try_take(&1, 6).is_ok());
    }

    #[tokio::test]
    async fn who_waits_gets_a_share_once_it_is_given_back() {
        let stock = Stock::new("things", 4);
        let held = stock.take(&1, 2).await;
        let waiting = tokio::spawn({
            let stock = Arc::clone(&stock);
            async move { stock.take(&1, 2).await }
        });
        // Others are served meanwhile.
        drop(stock.take(&2, 1).await);
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.unwrap();
    }
}
