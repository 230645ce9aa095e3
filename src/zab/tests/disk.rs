//! The disk of a simulated server: what is durable, and what is on its way there.

use std::collections::VecDeque;

use crate::base::{Epoch, Rng, Zxid};

use crate::log::EpochFile;

/// A transaction: its number, and its bytes, which nobody else's equal.
pub type Entry = (Zxid, Vec<u8>);

/// Something that is on its way to the log. Operations end in order.
#[derive(Clone, Debug)]
pub enum Op {
    Append(Vec<Entry>),
    Truncate(Zxid),
    Install(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub struct Disk {
    /// Transactions in the snapshot.
    pub snapshot: Vec<Entry>,
    /// Transactions after it.
    pub log: Vec<Entry>,
    pub accepted: Epoch,
    pub current: Epoch,
    pub queue: VecDeque<Op>,
    /// Epochs on their way to their files, in no order with the log.
    pub epochs: VecDeque<(EpochFile, Epoch)>,
}

impl Disk {
    pub fn new() -> Disk {
        Disk {
            snapshot: Vec::new(),
            log: Vec::new(),
            accepted: Epoch(0),
            current: Epoch(0),
            queue: VecDeque::new(),
            epochs: VecDeque::new(),
        }
    }

    /// Everything that is durable, in order.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.snapshot.iter().chain(&self.log)
    }

    pub fn last(&self) -> Zxid {
        self.all().last().map_or(Zxid::ZERO, |entry| entry.0)
    }

    pub fn snapshot_zxid(&self) -> Zxid {
        self.snapshot.last().map_or(Zxid::ZERO, |entry| entry.0)
    }

    /// Performs an operation. False if a truncation is impossible.
    pub fn perform(&mut self, op: &Op) -> bool {
        match op {
            Op::Append(entries) => self.log.extend(entries.iter().cloned()),
            Op::Truncate(zxid) => {
                let is_there = self.all().any(|entry| entry.0 == *zxid) || *zxid == Zxid::ZERO;
                if *zxid < self.snapshot_zxid() || !is_there {
                    return false;
                }
                self.log.retain(|entry| entry.0 <= *zxid);
            }
            Op::Install(entries) => {
                self.snapshot.clone_from(entries);
                self.log.clear();
            }
        }
        true
    }

    pub fn store(&mut self, file: EpochFile, epoch: Epoch) {
        match file {
            EpochFile::Accepted => self.accepted = epoch,
            EpochFile::Current => self.current = epoch,
        }
    }

    /// Whether nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.epochs.is_empty()
    }

    /// The power fails: the first operation may have happened in part, the others have not.
    pub fn crash(&mut self, rng: &mut Rng) {
        if let Some(Op::Append(entries)) = self.queue.pop_front() {
            let kept = rng.below(entries.len() as u64 + 1) as usize;
            self.log.extend(entries.into_iter().take(kept));
        }
        self.queue.clear();
        self.epochs.clear();
        // A history of an epoch proves that what was before it is whole.
        let epoch = self.last().epoch();
        if epoch > self.current && epoch <= self.accepted {
            self.current = epoch;
        }
    }

    /// Old transactions go into the snapshot.
    pub fn snapshot_up_to(&mut self, zxid: Zxid) {
        let count = self.log.iter().take_while(|entry| entry.0 <= zxid).count();
        self.snapshot.extend(self.log.drain(..count));
    }
}
