//! Names that the programs of a job publish for each other (`MPI_Publish_name`): kept by the job's first node for as long
//! as its slot lives, for all of its steps.

use super::meets::Meets;
use super::pmi::{NameAnswer as PmiAnswer, NameRequest as PmiRequest};
use crate::model::ids::StepId;
use crate::wire::pmix::{Blob, NameEntry, NameFound, NameRequest, Names, status};
use std::collections::BTreeMap;

/// A value that is a text, in PMIx's numbers.
const KIND_TEXT: u16 = 3;
/// Most names at once, and lookups that wait for one.
const NAMES_MAX: usize = 4_096;
/// Bytes of all values together.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Kept until it was read once, in PMIx's numbers.
const UNTIL_READ: u8 = 1;

/// Who asks: a node, a step and the asker's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asker {
    pub(super) node: u32,
    pub(super) step: StepId,
    pub(super) ask: u64,
}

/// An answer, and whose.
pub(super) type Answer = (Asker, Result<Names, i32>);

#[derive(Debug)]
struct Published {
    found: NameFound,
    once: bool,
}

/// All published names of a slot.
#[derive(Debug, Default)]
pub(super) struct NameBook {
    names: BTreeMap<String, Published>,
    bytes: usize,
    /// Lookups that wait until all their names are there.
    waiting: BTreeMap<Asker, Vec<String>>,
    meets: Meets,
}

impl NameBook {
    /// Takes a request of a rank, of the namespace `nspace`; answers to it and to those that waited for it.
    pub(super) fn ask(
        &mut self,
        asker: Asker,
        nspace: &str,
        rank: u32,
        request: NameRequest,
        out: &mut Vec<Answer>,
    ) {
        match request {
            NameRequest::Publish {
                entries,
                persistence,
                ..
            } => {
                let once = persistence == Some(UNTIL_READ);
                let answer = self.publish(nspace, rank, entries, once);
                let published = answer.is_ok();
                out.push((asker, answer));
                if published {
                    self.serve_waiting(out);
                }
            }
            NameRequest::Lookup { keys, wait, .. } => match self.look_up(&keys) {
                Some(names) => out.push((asker, Ok(names))),
                None if wait && self.waiting.len() < NAMES_MAX => {
                    self.waiting.insert(asker, keys);
                }
                None => out.push((asker, Err(status::NOT_FOUND))),
            },
            NameRequest::Unpublish { keys, .. } => {
                let ours = |found: &NameFound| found.nspace == nspace && found.rank == rank;
                let gone: Vec<String> = if keys.is_empty() {
                    let names = self.names.iter().filter(|(_, known)| ours(&known.found));
                    names.map(|(key, _)| key.clone()).collect()
                } else {
                    keys
                };
                let known = gone.iter().filter(|key| self.remove(key)).count();
                let answer = if known > 0 || gone.is_empty() {
                    Ok(Names::default())
                } else {
                    Err(status::NOT_FOUND)
                };
                out.push((asker, answer));
            }
            NameRequest::Meet {
                purpose,
                members,
                here,
                all,
            } => {
                let what = (purpose, members);
                self.meets.meet(asker, nspace, what, (here, all), out);
            }
            NameRequest::Bring { outcome } => {
                self.meets.bring((nspace.to_owned(), rank), outcome, out);
                out.push((asker, Ok(Names::default())));
            }
            NameRequest::Fetch { nspace, rank } => {
                self.meets.fetch(asker, (nspace, rank), out);
            }
        }
    }

    fn publish(
        &mut self,
        nspace: &str,
        rank: u32,
        entries: Vec<NameEntry>,
        once: bool,
    ) -> Result<Names, i32> {
        if entries
            .iter()
            .any(|entry| self.names.contains_key(&entry.key))
        {
            return Err(status::DUPLICATE_KEY);
        }
        let bytes: usize = entries.iter().map(|entry| entry.value.0.len()).sum();
        if self.names.len() + entries.len() > NAMES_MAX || self.bytes + bytes > BYTES_MAX {
            return Err(status::OUT_OF_RESOURCE);
        }
        self.bytes += bytes;
        for entry in entries {
            let key = entry.key.clone();
            let found = NameFound {
                nspace: nspace.to_owned(),
                rank,
                entry,
            };
            self.names.insert(key, Published { found, once });
        }
        Ok(Names::default())
    }

    fn look_up(&mut self, keys: &[String]) -> Option<Names> {
        let found = keys.iter().map(|key| self.names.get(key));
        let found: Option<Vec<NameFound>> = found.map(|known| Some(known?.found.clone())).collect();
        let found = found?;
        for key in keys {
            if self.names.get(key).is_some_and(|known| known.once) {
                self.remove(key);
            }
        }
        Some(Names { found })
    }

    fn remove(&mut self, key: &str) -> bool {
        let known = self.names.remove(key);
        if let Some(known) = &known {
            self.bytes -= known.found.entry.value.0.len();
        }
        known.is_some()
    }

    fn serve_waiting(&mut self, out: &mut Vec<Answer>) {
        let askers: Vec<Asker> = self.waiting.keys().copied().collect();
        for asker in askers {
            let Some(keys) = self.waiting.get(&asker).cloned() else {
                continue;
            };
            if let Some(names) = self.look_up(&keys) {
                self.waiting.remove(&asker);
                out.push((asker, Ok(names)));
            }
        }
    }
}

/// A request of PMI in the words of PMIx, in which names are kept.
pub(super) fn pmix_words(request: PmiRequest) -> NameRequest {
    match request {
        PmiRequest::Publish { service, port } => NameRequest::Publish {
            entries: vec![NameEntry {
                key: service,
                kind: KIND_TEXT,
                value: Blob(port.into_bytes()),
            }],
            range: None,
            persistence: None,
        },
        PmiRequest::Unpublish { service } => NameRequest::Unpublish {
            keys: vec![service],
            range: None,
        },
        PmiRequest::Lookup { service } => NameRequest::Lookup {
            keys: vec![service],
            range: None,
            wait: false,
            timeout_s: None,
        },
    }
}

/// An answer in the words of PMI.
pub(super) fn pmi_words(answer: Result<Names, i32>) -> PmiAnswer {
    match answer {
        Ok(names) => match names.found.into_iter().next() {
            Some(found) => match String::from_utf8(found.entry.value.0) {
                Ok(port) => PmiAnswer::Found(port),
                Err(_) => PmiAnswer::NotFound,
            },
            None => PmiAnswer::Done,
        },
        Err(status::NOT_FOUND) => PmiAnswer::NotFound,
        Err(status::DUPLICATE_KEY) => PmiAnswer::Refused("it is published already".to_owned()),
        Err(number) => PmiAnswer::Refused(format!("refused with status {number}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(ask: u64) -> Asker {
        Asker {
            node: 1,
            step: StepId(0),
            ask,
        }
    }

    fn publish(key: &str, once: bool) -> NameRequest {
        let entry = NameEntry {
            key: key.to_owned(),
            kind: 3,
            value: Blob(b"port".to_vec()),
        };
        NameRequest::Publish {
            entries: vec![entry],
            range: None,
            persistence: once.then_some(UNTIL_READ),
        }
    }

    fn lookup(key: &str, wait: bool) -> NameRequest {
        NameRequest::Lookup {
            keys: vec![key.to_owned()],
            range: None,
            wait,
            timeout_s: None,
        }
    }

    #[test]
    fn a_name_is_found_until_it_is_taken_back() {
        let mut book = NameBook::default();
        let mut out = Vec::new();
        let mut ask = |number, request| {
            book.ask(asker(number), "a", 3, request, &mut out);
            std::mem::take(&mut out)
        };
        assert_eq!(ask(1, lookup("x", false))[0].1, Err(status::NOT_FOUND));
        assert!(ask(2, publish("x", false))[0].1.is_ok());
        assert_eq!(ask(3, publish("x", false))[0].1, Err(status::DUPLICATE_KEY));
        for number in 4..6 {
            let found = ask(number, lookup("x", false))[0].1.clone().unwrap().found;
            assert_eq!((found[0].rank, found[0].nspace.as_str()), (3, "a"));
            assert_eq!(found[0].entry.value, Blob(b"port".to_vec()));
        }
        let all = NameRequest::Unpublish {
            keys: Vec::new(),
            range: None,
        };
        assert!(ask(6, all)[0].1.is_ok());
        assert_eq!(ask(7, lookup("x", false))[0].1, Err(status::NOT_FOUND));
    }

    #[test]
    fn who_waits_is_answered_once_the_name_is_there() {
        let mut book = NameBook::default();
        let mut out = Vec::new();
        book.ask(asker(1), "a", 0, lookup("x", true), &mut out);
        assert!(out.is_empty());
        book.ask(asker(2), "b", 7, publish("x", true), &mut out);
        let askers: Vec<u64> = out.iter().map(|(asker, _)| asker.ask).collect();
        assert_eq!(askers, [2, 1]);
        // It was to be read once.
        out.clear();
        book.ask(asker(3), "a", 0, lookup("x", false), &mut out);
        assert_eq!(out[0].1, Err(status::NOT_FOUND));
        assert_eq!(book.bytes, 0);
    }
}
