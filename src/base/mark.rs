//! Marks: rare branches that a simulation has to pass through, or it proves little.
//!
//! Each thread counts its own. Builds without debug assertions, such as a release, have none of it.

#[cfg(debug_assertions)]
use std::cell::Cell;

/// Defines the marks, and how many there are.
macro_rules! marks {
    ($($(#[$text:meta])* $name:ident,)*) => {
        /// A branch, by what happens there.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Mark {
            $($(#[$text])* $name,)*
        }

        impl Mark {
            /// All of them, in their order.
            pub const ALL: [Mark; Mark::COUNT] = [$(Mark::$name),*];
            /// How many there are.
            pub const COUNT: usize = [$(stringify!($name)),*].len();
        }
    };
}

marks! {
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
    /// The leader's log begins too late for a learner, so it gets a snapshot.
    SnapOfShortLog,
    /// A learner gets more than the leader has in memory, from its log.
    ReadsOn,
    /// A leader's memory is full, and the oldest transactions leave it.
    HistoryForgotten,
    /// A learner fell behind what the log has, and begins again.
    FellBehind,
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
    /// A leader that is gone, by its own word or by its silence, is not waited for.
    LeaderGone,
    /// Somebody votes for a server that this one has left, and has not heard of since.
    GoneByHearsay,
    /// A client that stayed at a member has written elsewhere meanwhile.
    SeenElsewhere,
    /// Others have found a better one to lead than this server, which was elected.
    Outvoted,
    /// Before a quorum has come, an elected leader gives up because it was outvoted.
    GivesUpOutvoted,
    /// A voter is told a better vote than its own once more.
    ToldAgain,
    /// While a quorum waits for a better vote, a worse one of a later round begins none.
    LaterRoundPassedOver,
    /// A vote of a voter without a history, or one that comes to such a voter, does not count.
    VoteWithoutHistory,
    /// Others follow the server that this one was before it lost its database.
    VotedForWithoutHistory,
    /// While a quorum waits for a better vote, a report of a worse leader does not count.
    ReportPassedOver,
    /// The election port of another member refuses.
    ElectionPortRefuses,
    /// A member with a smaller id has come, and is dialed back.
    DialedBack,
    /// A connection for votes takes the place of another one.
    ElectionLinkReplaced,
    /// A greeting was reset: who should have dialed back is about to end.
    GreetingReset,
    /// A vote waits until the connection has taken the last one.
    VoteWaits,
    /// A connection for votes has ended, and is made anew at once.
    RedialedAtOnce,
    /// A learner hears that its leader is about to end.
    LeaderLeft,
    /// A lifeline shows a learner that its leader's process has ended.
    LeaderDied,
    /// A learner that was held up itself looks at what came before it leaves its leader.
    HeldUpItself,
    /// A learner's disk has to catch up before it can enter the next epoch of its leader.
    RenewalAwaitsDisk,
    /// A learner that is about to end does not enter the next epoch.
    RenewalWhileLeaving,
    /// A learner enters the next epoch of its leader.
    RenewedByLearner,
    /// A learner that was not sent everything does not enter the next epoch.
    RenewalLeavesOut,
    /// A leader goes on in the next epoch.
    Renewed,
    /// A learner has entered the next epoch before its leader has.
    RenewedLast,
    /// An epoch is spent, and the next one needs an election.
    SpentByElection,
    /// A learner takes nothing more from its leader, as too much waits for its disk.
    TakesNothing,
    /// A learner's disk has taken nothing for so long that it leaves its leader.
    Stalled,
    /// A learner does not catch up, and serves nobody until it has.
    LeavesBehind,
    /// A member that is about to end hears of the commit of what it has passed over.
    CommitWhileLeaving,
    /// A learner that synchronizes with an established leader applies what is committed already.
    CommittedInSync,
    /// Commits wait for the answer to a `sync` of a learner that speaks Apache's protocol.
    CommitsAwaitSync,
    /// A learner's request waits for the next epoch.
    HeldRequest,
    /// A learner's `sync` waits for the next epoch.
    HeldSync,
    /// A session that was brought to a learner waits for the next epoch.
    HeldRevalidation,
    /// Clients are closed that may have been elsewhere in an epoch that this server missed.
    ForsakenClients,
    /// The digests of a leader's tree and a follower's are compared.
    DigestsCompared,
    /// A learner lacks more than the disk of its leader has.
    LogAskedBeyondDisk,
    /// The log does not have a learner's last transaction.
    LogLacksFloor,
    /// What arrives of a database waits for the disk.
    ReceptionAwaitsDisk,
    /// A member has waited long enough for its clients, and ends.
    LeavesInVain,
    /// A member ends while there is no leader.
    LeavesWhileLooking,
    /// A member starts without a database that it can rely on.
    StartsVoid,
    /// A member without a database gets one.
    VoidAdopts,
    /// A request is forwarded to a leader that is about to end.
    ForwardedToLeaving,
    /// A learner claims the session of a client that was seen elsewhere since.
    KeptElsewhere,
    /// A client has seen more than the member that it comes to.
    ClientAhead,
    /// A client brings a session that is not valid.
    SessionRefused,
    /// A client's connection is replaced by one of the same session on the same server.
    SessionReconnected,
    /// A sync that a client had asked the lost leader for is asked of the next one.
    SyncAskedAgain,
    /// Events of a transaction were left for a later turn.
    EventsOwed,
    /// A start finds a damaged snapshot, and uses an older one.
    DamagedSnapshotPassedOver,
    /// A start finds a segment with nothing in it, which keeps its name.
    EmptySegmentKept,
    /// A start finds segments with nothing in them, which go.
    EmptySegmentsRemoved,
    /// A start finds a segment whose name did not become durable.
    SegmentRenamed,
    /// A start finds segments that were made ahead of need.
    SparesFound,
    /// A start has no snapshot to use, and reads the log from its beginning.
    LogFromItsBeginning,
    /// A write of the log was short, and goes on.
    ShortLogWrite,
    /// A change of the log waits for writes under way.
    ChangeAwaitsWrites,
    /// The queue of the replica's loop is full.
    ReplicaQueueFull,
    /// The queue of a front's loop is full.
    FrontQueueFull,
    /// The queue of the log's loop is full.
    LogQueueFull,
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
