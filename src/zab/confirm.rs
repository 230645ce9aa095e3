//! A leader makes sure that it still leads, before it answers a `sync`.
//!
//! Apache's leader answers on its own word: one that has been replaced without having noticed lets
//! its clients read what is out of date. Here a `sync` waits until a quorum has answered a PING
//! that was sent after the `sync` came in. Each PING has the number of a round. A member answers
//! PINGs in order, so the n-th answer belongs to the n-th PING, also from a server of Apache's.
//!
//! For example: round 4 is on its way when a `sync` comes, so the `sync` waits for round 5, which
//! begins at the end of this turn. When two of three servers (the leader is one of them) have
//! answered round 5, and everything that was proposed before the `sync` is committed, it is done.

use std::collections::VecDeque;

use crate::base::{LinkId, Mark, Zxid, mark};

/// Who asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    /// A client of the leader.
    Own(u64),
    /// A client of this learner.
    Learner(LinkId),
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    round: u64,
    zxid: Zxid,
    asker: Asker,
}

/// Rounds that may be on their way; later `sync`s wait for the next one together.
const ROUNDS_MAX: u64 = 4;

/// See the module's introduction.
#[derive(Debug, Default)]
pub(super) struct Confirm {
    /// The last round that was begun.
    round: u64,
    /// The last round that a quorum has answered.
    confirmed: u64,
    waiting: VecDeque<Waiting>,
}

impl Confirm {
    /// A `sync` that came after transaction `zxid` was proposed.
    pub fn add(&mut self, asker: Asker, zxid: Zxid) {
        self.waiting.push_back(Waiting { round: self.round + 1, zxid, asker });
    }

    /// Begins a round if somebody waits for it: its number.
    pub fn begin(&mut self) -> Option<u64> {
        let is_wanted = self.waiting.back().is_some_and(|last| last.round > self.round);
        let is_full = self.round >= self.confirmed + ROUNDS_MAX;
        if is_wanted && is_full {
            mark(Mark::RoundsFull);
        }
        if !is_wanted || is_full {
            return None;
        }
        self.round += 1;
        Some(self.round)
    }

    /// The round that members may confirm at best.
    pub fn last(&self) -> u64 {
        self.round
    }

    /// A quorum has answered this round.
    pub fn confirm(&mut self, round: u64) {
        self.confirmed = self.confirmed.max(round);
    }

    /// The next `sync` that may be answered.
    pub fn pop(&mut self, committed: Zxid) -> Option<Asker> {
        let first = self.waiting.front()?;
        if first.round > self.confirmed || first.zxid > committed {
            return None;
        }
        self.waiting.pop_front().map(|waiting| waiting.asker)
    }

    /// Number of `sync`s that are not answered.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The learner is gone, and its clients with it.
    pub fn forget(&mut self, link: LinkId) {
        self.waiting.retain(|waiting| waiting.asker != Asker::Learner(link));
    }
}
