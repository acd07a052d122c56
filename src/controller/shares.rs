//! What one caller may have of what all of them share: connections, unfinished frames, long answers, logs that are read.
//!
//! Nobody may hold more of a stock than is left for everybody else (`net/stock.rs`).

use crate::model::identity::KeyId;
use crate::net::stock;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::sync::Arc;

pub(super) type Stock = stock::Stock<Holder>;
pub(super) type Share = stock::Share<Holder>;

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
    /// Uids there that have not been looked up yet, together, for that short while.
    Newcomers,
    /// All uids there that are no accounts, together: whoever may map uids has tens of thousands.
    Nameless,
    /// A key on the network: a person, or a machine's own agent.
    Key(KeyId),
    /// The jobs of one owner on the machine of this key: they must not stand in the way of its agent, nor of others'.
    JobsOf(KeyId, Arc<str>),
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
