//! Votes: which is better, and which two count for the same leader. Corresponds to `Vote` and to
//! `FastLeaderElection.totalOrderPredicate`.

use crate::base::{Mutation, ServerId, Zxid, is_mutated};
use crate::wire::vote::{Notification, PeerState, Round, VoteEpoch};

/// A candidate with its history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vote {
    /// Who is to lead.
    pub leader: ServerId,
    /// Its last logged transaction; -1 if it does not know its history, and then it counts nowhere.
    pub zxid: Zxid,
    /// The epoch of that history. In a vote of one who follows or leads: the epoch it is in.
    pub epoch: VoteEpoch,
}

impl Vote {
    /// The vote of an observer before it has heard of anybody: every vote is better.
    pub const NOBODY: Vote =
        Vote { leader: ServerId(i64::MIN), zxid: Zxid(i64::MIN), epoch: VoteEpoch(i64::MIN) };

    /// Whether this vote is to win over `other`: by epoch, then zxid, then server id. The order is
    /// total, so that all who know the same votes choose the same leader (ZOOKEEPER-1419).
    pub fn is_better_than(&self, other: &Vote) -> bool {
        if is_mutated(Mutation::ElectById) {
            return self.leader > other.leader;
        }
        let key = |vote: &Vote| (vote.epoch, vote.zxid, vote.leader);
        key(self) > key(other)
    }
}

/// What one server says: its vote, the round it belongs to, and what the server does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ballot {
    /// Of the server that says it.
    pub state: PeerState,
    /// Its candidate, or the leader it has.
    pub vote: Vote,
    /// The election that the vote belongs to.
    pub round: Round,
}

impl Ballot {
    /// The ballot in a message.
    pub fn of(notification: &Notification<'_>) -> Ballot {
        let Notification { state, leader, zxid, round, epoch, version: _, config: _ } =
            *notification;
        Ballot { state, vote: Vote { leader, zxid, epoch }, round }
    }

    /// The message with this ballot. `config` is the text of the committed membership.
    pub fn notification<'a>(&self, config: &'a [u8]) -> Notification<'a> {
        let Ballot { state, vote: Vote { leader, zxid, epoch }, round } = *self;
        let version = Notification::VERSION;
        Notification { state, leader, zxid, round, epoch, version, config: Some(config) }
    }
}

/// A ballot that was heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Heard {
    pub(super) ballot: Ballot,
    /// Whether its message had a version. Servers before 3.4.6 send none, and no epoch to rely on.
    pub(super) has_version: bool,
}

impl Heard {
    /// Whether both count for the same leader. Votes of an election have to be equal. Two servers
    /// that have a leader may have come to it in different rounds, so only leader and epoch count,
    /// and the epoch only if both know it (`Vote.equals`).
    pub(super) fn agrees_with(&self, other: &Heard) -> bool {
        let (a, b) = (self.ballot, other.ballot);
        if a.state == PeerState::Looking || b.state == PeerState::Looking {
            return a.vote == b.vote && a.round == b.round;
        }
        let is_epoch_known = self.has_version == other.has_version;
        a.vote.leader == b.vote.leader && (!is_epoch_known || a.vote.epoch == b.vote.epoch)
    }
}
