//! A disk that fails: it keeps bytes in memory, refuses the `k`-th operation and every later one, and can then show
//! what a machine would find after its process was killed or its power was lost.

#![allow(dead_code, reason = "each user of this page takes a part of it")]

use redb::StorageBackend;
use std::io;
use std::sync::{Arc, Mutex};

/// A disk writes sectors of this size whole or not at all.
const SECTOR: usize = 512;

/// One disk, shared by the backend in use and the test that breaks it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What a read sees.
    now: Vec<u8>,
    /// What the last sync left.
    synced: Vec<u8>,
    /// What came since, in order.
    since: Vec<Operation>,
    /// Operations so far.
    done: u64,
    /// The operation that fails, and all behind it.
    fails_at: Option<u64>,
}

#[derive(Debug)]
enum Operation {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl Disk {
    /// A disk that already holds these bytes.
    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        Disk(Arc::new(Mutex::new(State {
            now: bytes.clone(),
            synced: bytes,
            ..State::default()
        })))
    }

    /// From here on, the operation after `k` more fails, and all behind it.
    pub(crate) fn fail_after(&self, k: u64) {
        let mut state = self.0.lock().unwrap();
        state.fails_at = Some(state.done + k);
    }

    /// Writes, syncs and changes of length so far.
    pub(crate) fn done(&self) -> u64 {
        self.0.lock().unwrap().done
    }

    /// What a new process finds after the old one was killed: the kernel kept every write.
    pub(crate) fn after_kill(&self) -> Vec<u8> {
        self.0.lock().unwrap().now.clone()
    }

    /// What is found after a power loss: all that was synced, and any of the sectors written since.
    pub(crate) fn after_power_loss(&self, random: &mut Random) -> Vec<u8> {
        let state = self.0.lock().unwrap();
        let mut bytes = state.synced.clone();
        // From nothing to nearly everything: a fair coin for each sector would never show either end.
        let odds = random.below(9);
        for operation in &state.since {
            match operation {
                Operation::SetLen(len) if random.below(8) < odds => bytes.resize(index(*len), 0),
                Operation::SetLen(_) => {}
                Operation::Write(offset, data) => {
                    for (place, sector) in sectors(*offset, data) {
                        if random.below(8) < odds {
                            overwrite(&mut bytes, place, sector);
                        }
                    }
                }
            }
        }
        bytes
    }
}

/// The parts of a write that the disk takes as one.
fn sectors(offset: u64, data: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut place = index(offset);
    let mut rest = data;
    std::iter::from_fn(move || {
        let (sector, behind) = rest.split_at(rest.len().min(SECTOR - place % SECTOR));
        let at = place;
        place += sector.len();
        rest = behind;
        (!sector.is_empty()).then_some((at, sector))
    })
}

fn overwrite(bytes: &mut Vec<u8>, place: usize, data: &[u8]) {
    if bytes.len() < place + data.len() {
        bytes.resize(place + data.len(), 0);
    }
    bytes[place..place + data.len()].copy_from_slice(data);
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a disk in memory is small")
}

impl State {
    fn step(&mut self) -> Result<(), io::Error> {
        self.done += 1;
        match self.fails_at {
            Some(fails_at) if self.done > fails_at => Err(io::Error::other("the disk has failed")),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.0.lock().unwrap();
        let found = state.now.get(index(offset)..index(offset) + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut state = self.0.lock().unwrap();
        state.step()?;
        state.now.resize(index(len), 0);
        state.since.push(Operation::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut state = self.0.lock().unwrap();
        state.step()?;
        state.synced = state.now.clone();
        state.since.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut state = self.0.lock().unwrap();
        let outcome = state.step();
        // The first write that fails may still have reached the disk; nothing does behind it.
        if outcome.is_ok()
            || state
                .fails_at
                .is_some_and(|fails_at| state.done == fails_at + 1)
        {
            overwrite(&mut state.now, index(offset), data);
            state.since.push(Operation::Write(offset, data.to_vec()));
        }
        outcome
    }
}

/// Random numbers that a printed seed repeats (xorshift64*).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.below(256).to_le_bytes()[0]
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}
