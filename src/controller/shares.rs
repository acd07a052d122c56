//! What one caller may have of what all of them share: connections, unfinished frames, long answers, logs that are read.
//!
//! Nobody may hold more of a [`Stock`] than is left for everybody else. Who is alone has half of it, two that want all
//! have a third each, and whoever comes after them still finds a third: no list of quotas is needed, and a caller that
//! floods the controller stands in its own way alone.
//!
//! What exceeds a share waits ([`Stock::take`]) or is refused in words ([`Stock::try_take`]), as the caller of this chooses.

use crate::model::identity::KeyId;
use crate::model::refusal::{Code, Refusal};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Connections at the local socket.
const CONNECTIONS_MAX: usize = 4096;
/// Streams from elsewhere.
const STREAMS_MAX: usize = 2048;
/// Open files that are no connections: the store, what the runtime needs, a margin.
const OTHER_FILES: u64 = 128;
/// Bytes of frames that are arriving or being answered; those of up to [`SMALL`] are not counted.
const FRAMES_MAX: usize = 128 * 1024 * 1024;
/// A frame that needs no share: every connection may have so much.
pub(super) const SMALL: usize = 64 * 1024;
/// Answers under way that have a thread, or are long: far fewer than there are threads for reading the store.
const LONG_MAX: usize = 64;
/// Logs that are read; each may have a window of bytes on its way.
const LOGS_MAX: usize = 1024;

/// Who is counted as one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// An account at the local socket.
    Account(u32),
    /// A key on the network: a person, or a machine's own agent.
    Key(KeyId),
    /// The jobs of one owner on the machine of this key: they must not stand in the way of its agent, nor of others'.
    JobsOf(KeyId, Arc<str>),
}

/// Something that there is only so much of.
#[derive(Debug)]
pub(super) struct Stock {
    /// What it is, for people.
    what: &'static str,
    held: Mutex<Held>,
    given_back: Notify,
}

#[derive(Debug)]
struct Held {
    free: usize,
    by: BTreeMap<Holder, usize>,
}

/// A part of a stock; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    stock: Arc<Stock>,
    holder: Holder,
    amount: usize,
}

impl Stock {
    fn new(what: &'static str, total: usize) -> Arc<Self> {
        Arc::new(Stock {
            what,
            held: Mutex::new(Held {
                free: total,
                by: BTreeMap::new(),
            }),
            given_back: Notify::new(),
        })
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So much of it, if that leaves as much for others; else a word about it.
    pub(super) fn try_take(
        self: &Arc<Self>,
        holder: &Holder,
        amount: usize,
    ) -> Result<Share, Refusal> {
        let mut held = self.held();
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
    pub(super) async fn take(self: &Arc<Self>, holder: &Holder, amount: usize) -> Share {
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

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.stock.held();
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

/// All stocks.
#[derive(Debug)]
pub(super) struct Shares {
    /// Connections at the local socket.
    pub(super) connections: Arc<Stock>,
    /// Streams from elsewhere.
    pub(super) streams: Arc<Stock>,
    /// Bytes of long frames that are arriving or being answered.
    pub(super) frames: Arc<Stock>,
    /// Answers that are long.
    pub(super) long: Arc<Stock>,
    /// Logs that are read.
    pub(super) logs: Arc<Stock>,
}

impl Shares {
    /// As many as this process may have.
    pub(super) fn new() -> Self {
        let connections = connections_max();
        Shares {
            connections: Stock::new("connections", connections),
            streams: Stock::new("connections", STREAMS_MAX),
            frames: Stock::new("bytes of requests", FRAMES_MAX),
            long: Stock::new("long answers", LONG_MAX),
            logs: Stock::new("outputs", LOGS_MAX),
        }
    }
}

/// How many connections there can be at the local socket, once we may have as many open files as the system gives us.
/// Those over TCP take as many again.
fn connections_max() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let most = 2 * CONNECTIONS_MAX as u64 + OTHER_FILES;
    let wanted = hard.min(most).max(soft);
    let files = match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(_) => soft,
    };
    let each = files.saturating_sub(OTHER_FILES) / 2;
    usize::try_from(each)
        .unwrap_or(CONNECTIONS_MAX)
        .clamp(16, CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_holds_more_than_is_left_for_others() {
        let stock = Stock::new("things", 12);
        let take_all = |uid| {
            let mut shares = Vec::new();
            while let Ok(share) = stock.try_take(&Holder::Account(uid), 1) {
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
        let refusal = stock.try_take(&Holder::Account(1), 7).unwrap_err();
        assert_eq!(
            refusal.what,
            "0 things of yours are open and 12 are left for all others"
        );
        assert!(stock.try_take(&Holder::Account(1), 6).is_ok());
    }

    #[tokio::test]
    async fn who_waits_gets_a_share_once_it_is_given_back() {
        let stock = Stock::new("things", 4);
        let me = Holder::Account(1);
        let held = stock.take(&me, 2).await;
        let waiting = tokio::spawn({
            let (stock, me) = (Arc::clone(&stock), me.clone());
            async move { stock.take(&me, 2).await }
        });
        // Others are served meanwhile.
        drop(stock.take(&Holder::Account(2), 1).await);
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.unwrap();
    }
}
