//! Marks: rare branches that a simulation has to pass through, or it proves little.
//!
//! Each thread counts its own. Builds without debug assertions, such as a release, have none of it.

#[cfg(debug_assertions)]
use std::cell::Cell;

/// A branch, by what happens there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mark {
    /// A better vote of the same round takes the place of this server's.
    BetterVote,
    /// A vote of a later round makes a server begin its search anew.
    LaterRound,
    /// A vote of an earlier round is answered and does not count.
    EarlierRound,
    /// A server joins a leader that others have already.
    JoinsLeader,
    /// Nobody answered for long, and a vote is sent once more.
    VoteRepeated,
    /// A quorum waits for a better vote, as somebody has not voted.
    WaitsForBetterVote,
    /// Nothing better can come, as the others do not run.
    DecidesOnUnreachable,
    /// A voter has promised a later epoch than the leader, which takes one above.
    EpochRaised,
    /// A learner has promised this epoch before, and does not count for it.
    EpochPromisedBefore,
    /// A leader offers an epoch below one that was promised.
    OldEpochOffered,
    /// A voter of an established leader has promised a later epoch.
    LaterPromise,
    /// A learner has a later history than the server that was elected.
    LaterHistory,
    /// A learner connects anew before its old connection has ended.
    SecondConnection,
    /// A learner keeps what it has, and gets what comes after it.
    Diff,
    /// A learner forgets the end of an epoch that the leader has part of.
    TruncInsideEpoch,
    /// A learner forgets an epoch of which the leader has nothing.
    TruncToEarlierEpoch,
    /// A learner that speaks Apache's protocol forgets what is not committed yet.
    TruncForApache,
    /// Where a learner's history ends was found in the leader's log.
    TruncFromLog,
    /// Nothing is known of a learner's history, so it gets a snapshot.
    SnapOfUnknownHistory,
    /// The leader's log begins too late for a learner, so it gets a snapshot.
    SnapOfShortLog,
    /// A learner gets more than the leader has in memory, from its log.
    ReadsOn,
    /// A leader's memory is full, and the oldest transactions leave it.
    HistoryForgotten,
    /// A learner fell behind what the log has, and begins again.
    FellBehind,
    /// A snapshot is followed by transactions that it holds already.
    HistoryOverlaps,
    /// A leader has a tail that was not known to be committed when it was elected.
    DirtyHistory,
    /// NEWLEADER waits for the history to become durable.
    AwaitsDiskToEnter,
    /// NEWLEADER finds proposals of its epoch that are not committed.
    OpenProposals,
    /// A leader commits what its own disk does not have yet.
    CommitBeforeOwnDisk,
    /// A leader finds that no quorum follows it.
    QuorumLost,
    /// No quorum takes part in a new epoch in time.
    NotConfirmed,
    /// A learner finds its leader silent.
    LeaderSilent,
    /// A leader finds a learner silent.
    LearnerSilent,
    /// A member that is about to end passes a proposal over.
    ProposalWhileLeaving,
    /// A leader is asked for a sync by a learner.
    SyncForLearner,
    /// A client of the leader asks for a sync.
    SyncOfOwn,
    /// Four confirmations are on their way, and a sync waits for a later one.
    RoundsFull,
    /// A learner could not reach its leader, and tries again.
    DialFailed,
    /// A learner could not reach its leader, and looks for one again.
    DialGivenUp,
    /// A connection brought more packets than a turn takes.
    PacketsLeftForLater,
    /// Packets wait until a new leader judges requests.
    PacketsBeforeService,
    /// A term has ended, and the next vote waits for the disk.
    SettlesByDisk,
    /// A term ended while a snapshot was arriving.
    ReceptionGivenUp,
    /// A term ended when a received snapshot was durable, and it becomes the database all the same.
    ReceptionStays,
    /// A log could not be truncated, so that only a snapshot helps.
    TruncateRefused,
    /// A learner has left while its snapshot was sent.
    StreamBrokenOff,
    /// A learner has left while the log was read for it.
    LeaseOutlived,
    /// A member ends that was synchronizing.
    LeavesInSync,
    /// A member ends that served, and knows the fate of all that it has.
    LeavesInService,
    /// A leader is lost, and connections with it whose writes have an unknown fate.
    UnknownFate,
    /// A leader is lost, and what a client had asked of it is asked of the next one.
    AskedAgain,
    /// A client stayed while the leader changed.
    KeptClient,
    /// The session of a client that stayed has ended meanwhile.
    KeptClientGone,
    /// A leader has passed over a request that was forwarded to it.
    PassedOver,
    /// A session comes to a member that still has a connection for it.
    SessionTakenOver,
    /// A sync is confirmed before this server has applied what it covers.
    SyncAwaitsApply,
    /// A request is refused, as its session has moved to another member.
    LateRequest,
    /// A request is forwarded for a session that has ended.
    LateSession,
    /// A transaction is replayed on a database whose sender went on while it was sent.
    FuzzyReplay,
    /// A received database replaces the one that clients are connected to.
    AdoptedWithClients,
    /// The log is truncated inside a group commit.
    TruncatedInsideGroup,
    /// The log is truncated, and whole segments go.
    TruncatedSegments,
    /// A start completes a truncation that a crash has interrupted.
    TruncationCompleted,
    /// A start completes the replacement of a log that a crash has interrupted.
    RetirementCompleted,
    /// A start finds transactions of a later epoch than currentEpoch.
    CurrentEpochMended,
    /// A start finds transactions that are not known to be committed.
    TailFound,
    /// A session expires.
    ExpiredSession,
}

impl Mark {
    /// How many there are.
    pub const COUNT: usize = 66;

    /// All of them, in their order.
    pub const ALL: [Mark; Mark::COUNT] = [
        Mark::BetterVote,
        Mark::LaterRound,
        Mark::EarlierRound,
        Mark::JoinsLeader,
        Mark::VoteRepeated,
        Mark::WaitsForBetterVote,
        Mark::DecidesOnUnreachable,
        Mark::EpochRaised,
        Mark::EpochPromisedBefore,
        Mark::OldEpochOffered,
        Mark::LaterPromise,
        Mark::LaterHistory,
        Mark::SecondConnection,
        Mark::Diff,
        Mark::TruncInsideEpoch,
        Mark::TruncToEarlierEpoch,
        Mark::TruncForApache,
        Mark::TruncFromLog,
        Mark::SnapOfUnknownHistory,
        Mark::SnapOfShortLog,
        Mark::ReadsOn,
        Mark::HistoryForgotten,
        Mark::FellBehind,
        Mark::HistoryOverlaps,
        Mark::DirtyHistory,
        Mark::AwaitsDiskToEnter,
        Mark::OpenProposals,
        Mark::CommitBeforeOwnDisk,
        Mark::QuorumLost,
        Mark::NotConfirmed,
        Mark::LeaderSilent,
        Mark::LearnerSilent,
        Mark::ProposalWhileLeaving,
        Mark::SyncForLearner,
        Mark::SyncOfOwn,
        Mark::RoundsFull,
        Mark::DialFailed,
        Mark::DialGivenUp,
        Mark::PacketsLeftForLater,
        Mark::PacketsBeforeService,
        Mark::SettlesByDisk,
        Mark::ReceptionGivenUp,
        Mark::ReceptionStays,
        Mark::TruncateRefused,
        Mark::StreamBrokenOff,
        Mark::LeaseOutlived,
        Mark::LeavesInSync,
        Mark::LeavesInService,
        Mark::UnknownFate,
        Mark::AskedAgain,
        Mark::KeptClient,
        Mark::KeptClientGone,
        Mark::PassedOver,
        Mark::SessionTakenOver,
        Mark::SyncAwaitsApply,
        Mark::LateRequest,
        Mark::LateSession,
        Mark::FuzzyReplay,
        Mark::AdoptedWithClients,
        Mark::TruncatedInsideGroup,
        Mark::TruncatedSegments,
        Mark::TruncationCompleted,
        Mark::RetirementCompleted,
        Mark::CurrentEpochMended,
        Mark::TailFound,
        Mark::ExpiredSession,
    ];
}

#[cfg(debug_assertions)]
thread_local! {
    static HITS: [Cell<u64>; Mark::COUNT] = const { [const { Cell::new(0) }; Mark::COUNT] };
}

/// Counts that this thread has come along here.
#[inline(always)]
pub fn mark(mark: Mark) {
    #[cfg(debug_assertions)]
    HITS.with(|hits| hits[mark as usize].set(hits[mark as usize].get() + 1));
    #[cfg(not(debug_assertions))]
    let _ = mark;
}

/// How often this thread has come along each since the last call.
pub fn take_marks() -> [u64; Mark::COUNT] {
    #[cfg(debug_assertions)]
    return HITS.with(|hits| std::array::from_fn(|index| hits[index].take()));
    #[cfg(not(debug_assertions))]
    [0; Mark::COUNT]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_counts_for_itself() {
        take_marks();
        for (index, one) in Mark::ALL.into_iter().enumerate() {
            assert_eq!(one as usize, index);
            mark(one);
            mark(one);
            assert_eq!(take_marks()[index], 2);
        }
        assert_eq!(take_marks(), [0; Mark::COUNT]);
    }
}
