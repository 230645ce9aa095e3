//! One simulated server.

use crate::base::{Instant, LinkId, Zxid};

use super::super::{Leading, Learning};
use super::disk::{Disk, Entry};

pub enum Role {
    Down,
    Looking,
    Leading(Box<Leading>),
    Learning { machine: Box<Learning>, link: LinkId, leader: usize },
}

/// A `sync` under way: what was committed by anybody when it came.
pub struct Sync {
    pub committed_before: usize,
    pub ticket: u64,
}

pub struct Node {
    pub disk: Disk,
    pub role: Role,
    pub is_observer: bool,
    pub is_plain: bool,
    /// Known transactions after `applied`, durable or not.
    pub tail: Vec<Entry>,
    /// The state: all transactions that are applied.
    pub applied: Vec<Entry>,
    pub committed: Zxid,
    /// Numbered so far in this epoch.
    pub next: Option<Zxid>,
    pub serves: bool,
    pub syncs: Vec<Sync>,
    /// It stands still until then.
    pub paused_until: Instant,
}

impl Node {
    pub fn new(is_observer: bool, is_plain: bool) -> Node {
        Node {
            disk: Disk::new(),
            role: Role::Down,
            is_observer,
            is_plain,
            tail: Vec::new(),
            applied: Vec::new(),
            committed: Zxid::ZERO,
            next: None,
            serves: false,
            syncs: Vec::new(),
            paused_until: Instant(0),
        }
    }

    /// Starts on what is durable; `committed` is what the log says of commits, which may be old.
    pub fn start(&mut self, committed: Zxid) {
        self.role = Role::Looking;
        self.applied.clone_from(&self.disk.snapshot);
        self.tail.clone_from(&self.disk.log);
        self.committed = self.disk.snapshot_zxid();
        self.commit(committed.min(self.last()));
        self.leave();
    }

    /// Leaves its role.
    pub fn leave(&mut self) {
        (self.serves, self.next) = (false, None);
        self.syncs.clear();
    }

    pub fn last(&self) -> Zxid {
        self.tail.last().or(self.applied.last()).map_or(Zxid::ZERO, |entry| entry.0)
    }

    pub fn commit(&mut self, zxid: Zxid) {
        self.committed = self.committed.max(zxid);
        let count = self.tail.iter().take_while(|entry| entry.0 <= self.committed).count();
        self.applied.extend(self.tail.drain(..count));
    }

    /// All transactions that it knows.
    pub fn known(&self) -> impl Iterator<Item = &Entry> {
        self.applied.iter().chain(&self.tail)
    }
}
