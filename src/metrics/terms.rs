//! What a member notes of elections and synchronizations, from its start on. Times in milliseconds.

use super::Summary;

/// Synchronizations of learners, as the leader counts them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SyncFigures {
    /// Learners that kept their history, or the most part of it.
    pub diffs: u64,
    /// Learners that got the whole database.
    pub snapshots: u64,
    /// How many of the first kind were under way when one began, itself included.
    pub diffs_in_flight: Summary,
    /// The same for the second kind.
    pub snapshots_in_flight: Summary,
}

impl SyncFigures {
    /// Both together.
    pub fn merged(&self, other: &SyncFigures) -> SyncFigures {
        SyncFigures {
            diffs: self.diffs + other.diffs,
            snapshots: self.snapshots + other.snapshots,
            diffs_in_flight: self.diffs_in_flight.merged(&other.diffs_in_flight),
            snapshots_in_flight: self.snapshots_in_flight.merged(&other.snapshots_in_flight),
        }
    }
}

/// See the module's introduction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TermFigures {
    /// How often it began to look for a leader.
    pub searches: u64,
    /// From the beginning of a search until a leader was elected.
    pub election: Summary,
    /// From there until this server was in step with its leader, as one that has a vote.
    pub follower_sync: Summary,
    /// The same without a vote.
    pub observer_sync: Summary,
    /// From the loss of a leader, or the start, until clients were served.
    pub unavailable: Summary,
    /// The same where this server leads afterwards.
    pub leader_unavailable: Summary,
    /// As a leader.
    pub syncs: SyncFigures,
}
