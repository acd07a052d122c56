//! Ranks of several steps that meet over PMIx, as a rank's and those that it has asked for do: the job's first node, which
//! keeps names, counts who is in, and keeps what ranks have put for those of other steps, which cannot know where they are.

use super::names::{Answer, Asker};
use crate::wire::pmix::{Blob, MeetMembers, NameEntry, NameFound, Names, Outcome, Purpose, status};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A value of bytes, in PMIx's numbers.
const KIND_BYTES: u16 = 27;
/// Meetings to which not all have come.
const OPEN_MAX: usize = 4_096;
/// Namespaces that have met others.
const NSPACES_MAX: usize = 65_536;
/// Bytes of all that ranks have put; what was brought first goes first.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes around each.
const AROUND: usize = 128;
/// Questions that wait for a rank to bring what it has put.
const WAITING_MAX: usize = 65_536;

/// A rank of a namespace.
type Whose = (String, u32);

/// A meeting: who is in, and who waits for it.
#[derive(Debug, Default)]
struct Open {
    /// Of each namespace, how many are in and how many are to come.
    counts: BTreeMap<String, (u32, u32)>,
    askers: Vec<Asker>,
}

/// All meetings of a slot.
#[derive(Debug, Default)]
pub(super) struct Meets {
    open: BTreeMap<(Purpose, Vec<MeetMembers>), Open>,
    /// Namespaces that have met others or are about to.
    known: BTreeSet<String>,
    brought: BTreeMap<Whose, Outcome>,
    /// Those, the oldest first.
    order: VecDeque<Whose>,
    bytes: usize,
    waiting: BTreeMap<Asker, Whose>,
}

impl Meets {
    /// So many (`counts`: here, and in all) of the namespace `nspace` are in.
    pub(super) fn meet(
        &mut self,
        asker: Asker,
        nspace: &str,
        (purpose, members): (Purpose, Vec<MeetMembers>),
        counts: (u32, u32),
        out: &mut Vec<Answer>,
    ) {
        if !members.iter().any(|one| one.nspace == nspace) {
            return out.push((asker, Err(status::BAD_PARAMETER)));
        }
        for one in &members {
            if self.known.len() < NSPACES_MAX {
                self.known.insert(one.nspace.clone());
            }
        }
        let key = (purpose, members);
        if self.open.len() >= OPEN_MAX && !self.open.contains_key(&key) {
            return out.push((asker, Err(status::OUT_OF_RESOURCE)));
        }
        let open = self.open.entry(key.clone()).or_default();
        let (came, all) = open.counts.entry(nspace.to_owned()).or_default();
        *came = came.saturating_add(counts.0);
        *all = counts.1;
        open.askers.push(asker);
        let counts = &open.counts;
        let is_in = |one: &MeetMembers| {
            let known = counts.get(&one.nspace);
            known.is_some_and(|(came, all)| came >= all)
        };
        if key.1.iter().all(is_in)
            && let Some(met) = self.open.remove(&key)
        {
            let askers = met.askers.into_iter();
            out.extend(askers.map(|asker| (asker, Ok(Names::default()))));
        }
    }

    /// A rank has put this.
    pub(super) fn bring(&mut self, whose: Whose, outcome: Outcome, out: &mut Vec<Answer>) {
        self.forget(&whose);
        self.bytes += weight(&outcome);
        self.order.push_back(whose.clone());
        for (asker, wanted) in std::mem::take(&mut self.waiting) {
            if wanted == whose {
                out.push((asker, answer(&whose, &outcome)));
            } else {
                self.waiting.insert(asker, wanted);
            }
        }
        self.brought.insert(whose, outcome);
        while self.bytes > BYTES_MAX
            && let Some(oldest) = self.order.front().cloned()
        {
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, whose: &Whose) {
        if let Some(outcome) = self.brought.remove(whose) {
            self.bytes -= weight(&outcome);
            self.order.retain(|one| one != whose);
        }
    }

    /// Somebody wants what a rank has put.
    pub(super) fn fetch(&mut self, asker: Asker, whose: Whose, out: &mut Vec<Answer>) {
        match self.brought.get(&whose) {
            Some(outcome) => out.push((asker, answer(&whose, outcome))),
            None if self.known.contains(&whose.0) && self.waiting.len() < WAITING_MAX => {
                self.waiting.insert(asker, whose);
            }
            None => out.push((asker, Err(status::NOT_FOUND))),
        }
    }
}

fn weight(outcome: &Outcome) -> usize {
    outcome.as_ref().map_or(0, |blob| blob.0.len()) + AROUND
}

fn answer((nspace, rank): &Whose, outcome: &Outcome) -> Result<Names, i32> {
    let Blob(bytes) = outcome.as_ref().map_err(|status| *status)?;
    let entry = NameEntry {
        key: String::new(),
        kind: KIND_BYTES,
        value: Blob(bytes.clone()),
    };
    let found = NameFound {
        nspace: nspace.clone(),
        rank: *rank,
        entry,
    };
    Ok(Names { found: vec![found] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::StepId;

    fn asker(ask: u64) -> Asker {
        Asker {
            node: 1,
            step: StepId(0),
            ask,
        }
    }

    fn members() -> Vec<MeetMembers> {
        let one = |nspace: &str, ranks: &[u32]| MeetMembers {
            nspace: nspace.to_owned(),
            ranks: ranks.to_vec(),
        };
        vec![one("a", &[]), one("b", &[0, 2])]
    }

    #[test]
    fn all_are_told_once_the_last_is_in_and_may_meet_again() {
        let mut meets = Meets::default();
        for round in [0, 10] {
            let mut come = |ask, nspace, counts| {
                let mut out = Vec::new();
                let what = (Purpose::Connect, members());
                meets.meet(asker(round + ask), nspace, what, counts, &mut out);
                let told = out.iter().map(|(asker, answer)| {
                    assert!(answer.is_ok());
                    asker.ask - round
                });
                told.collect::<Vec<u64>>()
            };
            assert_eq!(come(1, "a", (2, 3)), [] as [u64; 0]);
            assert_eq!(come(2, "b", (2, 2)), [] as [u64; 0]);
            assert_eq!(come(3, "a", (1, 3)), [1, 2, 3]);
        }
        let mut out = Vec::new();
        let what = (Purpose::Connect, members());
        meets.meet(asker(1), "stranger", what, (1, 1), &mut out);
        assert_eq!(out, [(asker(1), Err(status::BAD_PARAMETER))]);
        assert!(meets.open.is_empty());
    }

    #[test]
    fn what_a_rank_has_put_is_waited_for_only_where_its_namespace_is_met() {
        let mut meets = Meets::default();
        let mut out = Vec::new();
        let whose = || ("b".to_owned(), 2);
        meets.fetch(asker(1), whose(), &mut out);
        assert_eq!(out.pop(), Some((asker(1), Err(status::NOT_FOUND))));
        let what = (Purpose::Connect, members());
        meets.meet(asker(2), "a", what, (1, 3), &mut out);
        meets.fetch(asker(3), whose(), &mut out);
        assert_eq!(out, []);
        meets.bring(("b".to_owned(), 1), Ok(Blob(vec![1])), &mut out);
        assert_eq!(out, []);
        for value in [2, 3] {
            meets.bring(whose(), Ok(Blob(vec![value])), &mut out);
            meets.fetch(asker(4), whose(), &mut out);
            let found = out.pop().unwrap().1.unwrap().found;
            assert_eq!(found[0].entry.value, Blob(vec![value]));
        }
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].0, asker(3));
    }

    #[test]
    fn what_was_brought_first_goes_first() {
        let mut meets = Meets::default();
        let mut out = Vec::new();
        for rank in 0..70 {
            let bytes = Ok(Blob(vec![0; 1024 * 1024]));
            meets.bring(("a".to_owned(), rank), bytes, &mut out);
        }
        assert!(meets.bytes <= BYTES_MAX);
        assert_eq!(meets.order.len(), meets.brought.len());
        assert!(!meets.brought.contains_key(&("a".to_owned(), 0)));
        assert!(meets.brought.contains_key(&("a".to_owned(), 69)));
    }
}
