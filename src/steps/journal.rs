//! The journal of a slot, as bytes: what a shepherd writes so that its death loses no end.
//!
//! A record is a little-endian u32 length, the CRC-32 of its bytes, then that many bytes of postcard. There is
//! no fsync: the journal is for the death of processes, and the page cache outlives those. A torn last record
//! (disk full, killed within a write) is ignored. The agent replays it when it finds the shepherd dead.

use super::vocabulary::Entry;
use crate::model::ids::SlotKey;
use crate::model::index_set::IndexSet;
use crate::model::job::{ElementEnd, ExitStatus, JobState, Owner, Reason, Usage};
use crate::model::time::Timestamp;
use crate::wire::worker::FromSlot;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Longest record; more is a damaged file.
const RECORD_MOST: usize = 64 * 1024 * 1024;

/// The first record: which slot this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Which.
    pub key: SlotKey,
    /// Whose.
    pub owner: Owner,
    /// The machine's boot; after another one nothing of it can be running.
    pub boot_id: String,
    /// The value of `HPC_SLOT` in its processes.
    pub mark: String,
    /// The controller's time and the machine's monotonic milliseconds at the same moment.
    pub epoch: (Timestamp, u64),
    /// Positions given at first.
    pub positions: IndexSet,
    /// (position, restarts), only those above 0.
    pub restarts: Vec<(u32, u32)>,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The first.
    Opened(Box<Opened>),
    /// All others.
    Entry(Entry),
}

/// Appends a record's bytes.
///
/// # Panics
/// Never: our own records serialise.
pub fn encode(record: &Record, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 8]);
    let taken = std::mem::take(bytes);
    *bytes = postcard::to_extend(record, taken).expect("our own records serialise");
    let payload = &bytes[start + 8..];
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let sum = crc32fast::hash(payload);
    bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
    bytes[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// The next whole record and what follows it.
fn decode(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    let sum = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    let payload = bytes
        .get(8..8usize.checked_add(length)?)
        .filter(|_| length <= RECORD_MOST)?;
    let record =
        (crc32fast::hash(payload) == sum).then(|| postcard::from_bytes(payload).ok())??;
    Some((record, &bytes[8 + length..]))
}

/// What a journal tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The slot.
    pub opened: Opened,
    /// Given and not started.
    pub waiting: IndexSet,
    /// Started and not ended.
    pub current: Option<(u32, Timestamp)>,
    /// Ended and not acknowledged, in order.
    pub ends: VecDeque<ElementEnd>,
    /// The last acknowledged report.
    pub report: u64,
    /// The controller has closed the slot.
    pub closed: bool,
    restarts: BTreeMap<u32, u32>,
    ends_acknowledged: u64,
}

impl Replay {
    /// Reads a journal; `None` when not even its first record is whole.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let (first, mut rest) = decode(bytes)?;
        let Record::Opened(opened) = first else {
            return None;
        };
        let mut replay = Replay {
            waiting: opened.positions.clone(),
            restarts: opened.restarts.iter().copied().collect(),
            opened: *opened,
            current: None,
            ends: VecDeque::new(),
            report: 0,
            closed: false,
            ends_acknowledged: 0,
        };
        while let Some((record, after)) = decode(rest) {
            if let Record::Entry(entry) = record {
                replay.apply(entry);
            }
            rest = after;
        }
        Some(replay)
    }

    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Extended {
                positions,
                restarts,
            } => {
                self.waiting.union_with(&positions);
                self.restarts.extend(restarts);
            }
            Entry::Started { position, at } => {
                self.waiting.remove(position);
                self.current = Some((position, at));
            }
            Entry::Ended(end) => {
                self.waiting.remove(end.position);
                if self
                    .current
                    .is_some_and(|(position, _)| position == end.position)
                {
                    self.current = None;
                }
                self.ends.push_back(end);
            }
            Entry::Retracted { positions } => self.waiting.subtract(&positions),
            Entry::Acknowledged { report, ends } => {
                let news = ends.saturating_sub(self.ends_acknowledged);
                self.ends.drain(
                    ..usize::try_from(news)
                        .unwrap_or(usize::MAX)
                        .min(self.ends.len()),
                );
                self.ends_acknowledged = ends;
                self.report = report;
            }
            Entry::Closed => self.closed = true,
        }
    }

    /// The entry that says: everything that has ended is safe, under this report number.
    #[must_use]
    pub fn acknowledge_all(&self, report: u64) -> Entry {
        Entry::Acknowledged {
            report,
            ends: self
                .ends_acknowledged
                .saturating_add(self.ends.len() as u64),
        }
    }

    /// What an agent says for a shepherd that has died: ends that were not acknowledged, then the loss. The
    /// numbers go on where the shepherd's stopped.
    ///
    /// `whole` says whether the journal is known to hold all that was written: after another boot its end may be
    /// missing, and then nothing can be said not to have begun.
    #[must_use]
    pub fn reports(&self, now: Timestamp, whole: bool) -> Vec<FromSlot> {
        let mut reports = Vec::new();
        if !self.ends.is_empty() {
            reports.push(FromSlot::Ended {
                report: self.report.saturating_add(1),
                ends: self.ends.iter().cloned().collect(),
            });
        }
        let ends = self.current.map(|(position, started)| ElementEnd {
            position,
            state: JobState::NodeFail,
            reason: Reason::SystemFailure("the job's shepherd was killed".to_owned()),
            exit: ExitStatus { code: 0, signal: 9 },
            cancelled_by: None,
            started: Some(started),
            ended: now.max(started),
            usage: Usage::default(),
            restarts: self.restarts.get(&position).copied().unwrap_or(0),
        });
        reports.push(FromSlot::Lost {
            positions: if whole {
                self.waiting.clone()
            } else {
                IndexSet::new()
            },
            ends: ends.into_iter().collect(),
            certain: whole,
        });
        reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{JobId, SlotId};

    fn opened() -> Record {
        Record::Opened(Box::new(Opened {
            key: SlotKey {
                job: JobId(7),
                slot: SlotId(1),
            },
            owner: Owner {
                uid: 1000,
                gid: 1000,
                name: "ada".into(),
            },
            boot_id: "boot".into(),
            mark: "x:7.1".into(),
            epoch: (Timestamp(1000), 0),
            positions: IndexSet::from_range(0, 10),
            restarts: vec![(1, 2)],
        }))
    }

    fn end(position: u32) -> ElementEnd {
        super::super::element::never_started(
            position,
            0,
            crate::model::job::KillCause::Requeue,
            Timestamp(5),
        )
    }

    fn bytes(entries: Vec<Entry>) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&opened(), &mut bytes);
        for entry in entries {
            encode(&Record::Entry(entry), &mut bytes);
        }
        bytes
    }

    #[test]
    fn a_journal_tells_what_ran_what_ended_and_what_waits() {
        let at = Timestamp(2000);
        let journal = bytes(vec![
            Entry::Started { position: 0, at },
            Entry::Ended(end(0)),
            Entry::Acknowledged { report: 4, ends: 1 },
            Entry::Retracted {
                positions: IndexSet::from_range(8, 10),
            },
            Entry::Started { position: 1, at },
            Entry::Ended(end(1)),
            Entry::Started { position: 2, at },
            Entry::Extended {
                positions: IndexSet::from_range(20, 21),
                restarts: vec![(2, 3)],
            },
        ]);
        let replay = Replay::of(&journal).unwrap();
        assert_eq!(replay.current, Some((2, at)));
        assert_eq!(replay.waiting.to_string(), "3-7,20");
        assert_eq!(
            replay
                .ends
                .iter()
                .map(|end| end.position)
                .collect::<Vec<_>>(),
            [1]
        );
        let reports = replay.reports(Timestamp(9000), true);
        assert!(matches!(&reports[0], FromSlot::Ended { report: 5, ends } if ends.len() == 1));
        let FromSlot::Lost {
            positions,
            ends,
            certain: true,
        } = &reports[1]
        else {
            panic!("{reports:?}")
        };
        assert_eq!(
            (positions.len(), ends[0].position, ends[0].restarts),
            (6, 2, 3)
        );
        assert_eq!(ends[0].state, JobState::NodeFail);
        let after_power_loss = replay.reports(Timestamp(9000), false);
        assert!(
            matches!(&after_power_loss[1], FromSlot::Lost { positions, ends, certain: false }
                if positions.is_empty() && ends.len() == 1),
            "what its end may have told did not surely never start"
        );
    }

    #[test]
    fn numbers_at_the_end_of_their_range_are_only_numbers() {
        let last = Entry::Acknowledged {
            report: u64::MAX,
            ends: u64::MAX,
        };
        let replay = Replay::of(&bytes(vec![last, Entry::Ended(end(0))])).unwrap();
        let reports = replay.reports(Timestamp(9000), true);
        assert!(matches!(
            &reports[0],
            FromSlot::Ended {
                report: u64::MAX,
                ..
            }
        ));
        let Entry::Acknowledged { ends, .. } = replay.acknowledge_all(1) else {
            panic!("{replay:?}")
        };
        assert_eq!(ends, u64::MAX);
    }

    #[test]
    fn a_torn_or_damaged_tail_is_ignored_wherever_it_is_cut() {
        let whole = bytes(vec![
            Entry::Started {
                position: 0,
                at: Timestamp(1),
            },
            Entry::Closed,
        ]);
        let first = bytes(Vec::new()).len();
        for cut in 0..whole.len() {
            let replay = Replay::of(&whole[..cut]);
            assert_eq!(replay.is_some(), cut >= first, "{cut}");
            assert!(!replay.is_some_and(|replay| replay.closed));
        }
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(!Replay::of(&damaged).unwrap().closed);
        assert!(Replay::of(&whole).unwrap().closed);
    }
}
