//! Mistakes that the server's code can be made to make, to prove that the simulator's checkers
//! notice them.
//!
//! A run of the simulator plants at most one, for its own thread. Builds without debug assertions,
//! such as a release, have none of it: [`is_mutated`] is `false` there, and what depends on it is
//! not compiled.

#[cfg(debug_assertions)]
use std::cell::Cell;

/// A mistake, named for what goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mutation {
    /// Transactions count as durable when their write begins.
    AckBeforeSync,
    /// The replica is told a time that has not come.
    ExpireEarly,
    /// What follows from carrying out effects is dropped.
    LoseEffects,
    /// The loop sleeps though somebody waits for nothing but a turn.
    SleepOnWork,
    /// A vote names the last committed transaction instead of the last logged one.
    VoteCommitted,
    /// The candidate with the highest id wins, whatever its history.
    ElectById,
    /// A candidate is elected by less than a quorum.
    ElectAlone,
    /// A learner promises an epoch before `acceptedEpoch` is durable.
    PromiseUnstored,
    /// A learner acknowledges NEWLEADER before `currentEpoch` is durable.
    EnterUnstored,
    /// A learner acknowledges what it has received instead of what is durable.
    AckUnlogged,
    /// A learner serves clients as soon as it has acknowledged NEWLEADER.
    ServeEarly,
    /// A learner takes all that it has for committed when it hears of a commit.
    CommitAhead,
    /// A learner keeps its log when it is told to truncate it.
    KeepTail,
    /// The log is truncated one transaction too late.
    TruncateLate,
    /// The log is truncated one transaction too early.
    TruncateEarly,
    /// A learner never finds that its leader is silent.
    WaitForever,
    /// A leader does without storing the epoch that it offers.
    OfferUnstored,
    /// A leader takes an epoch that a voter has promised already.
    ReuseEpoch,
    /// A leader begins its epoch without a quorum that has its history.
    LeadAlone,
    /// A leader commits what one server has on its disk.
    CommitAlone,
    /// A leader counts itself before its own disk has a transaction.
    CountUnlogged,
    /// A leader answers a `sync` without asking a quorum.
    SyncUnconfirmed,
    /// A learner answers a `sync` before it has applied what that covers.
    SyncUnapplied,
    /// A leader that has lost its quorum goes on.
    LeadOn,
    /// A learner that has more than the leader is told to keep it.
    DiffForTrunc,
    /// What was committed while a snapshot was sent is not sent after it.
    SkipAfterSnapshot,
    /// The log stays when a snapshot of the leader replaces it.
    KeepLog,
    /// A database that was received is not known to be fuzzy.
    ForgetFuzzy,
    /// Transactions that a TRUNC has taken back stay in memory.
    RememberTail,
    /// The log says of all that is in it that it is committed.
    MarkAhead,
    /// A snapshot file is named after what is known instead of what it holds.
    SnapshotAhead,
    /// A learner loses some of the requests that it should forward.
    LoseForwarded,
    /// A learner keeps the connections whose writes have an unknown fate when its leader is lost.
    KeepUnknown,
    /// A learner does not tell the leader which sessions were used.
    TouchNothing,
    /// A new leader takes sessions for used up when it begins.
    ShortTimeouts,
    /// A leader finds every session that is brought along valid.
    RevalidateAll,
    /// A leader finds no session that is brought along valid.
    RevalidateNone,
    /// A session that is brought to another member stays with the one before.
    KeepOwner,
    /// A session ends when its client moves to another member.
    EndMoved,
    /// A learner does not ask about the sessions of clients that stayed.
    AssumeKept,
    /// A member that comes back takes sessions from where their clients were seen since.
    ClaimMoved,
    /// A member that has missed an epoch keeps the clients that it had before.
    ForsakeNobody,
    /// A member keeps a client that has written elsewhere meanwhile.
    KeepMoved,
    /// A member votes before its first snapshot is durable.
    VoteBeforeSnapshot,
    /// A learner says that it has entered the next epoch of its leader before it has.
    RenewUnstored,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Mutation; 45] = [
        Mutation::AckBeforeSync,
        Mutation::ExpireEarly,
        Mutation::LoseEffects,
        Mutation::SleepOnWork,
        Mutation::VoteCommitted,
        Mutation::ElectById,
        Mutation::ElectAlone,
        Mutation::PromiseUnstored,
        Mutation::EnterUnstored,
        Mutation::AckUnlogged,
        Mutation::ServeEarly,
        Mutation::CommitAhead,
        Mutation::KeepTail,
        Mutation::TruncateLate,
        Mutation::TruncateEarly,
        Mutation::WaitForever,
        Mutation::OfferUnstored,
        Mutation::ReuseEpoch,
        Mutation::LeadAlone,
        Mutation::CommitAlone,
        Mutation::CountUnlogged,
        Mutation::SyncUnconfirmed,
        Mutation::SyncUnapplied,
        Mutation::LeadOn,
        Mutation::DiffForTrunc,
        Mutation::SkipAfterSnapshot,
        Mutation::KeepLog,
        Mutation::ForgetFuzzy,
        Mutation::RememberTail,
        Mutation::MarkAhead,
        Mutation::SnapshotAhead,
        Mutation::LoseForwarded,
        Mutation::KeepUnknown,
        Mutation::TouchNothing,
        Mutation::ShortTimeouts,
        Mutation::RevalidateAll,
        Mutation::RevalidateNone,
        Mutation::KeepOwner,
        Mutation::EndMoved,
        Mutation::AssumeKept,
        Mutation::ClaimMoved,
        Mutation::ForsakeNobody,
        Mutation::KeepMoved,
        Mutation::VoteBeforeSnapshot,
        Mutation::RenewUnstored,
    ];
}

#[cfg(debug_assertions)]
thread_local! {
    static PLANTED: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// Makes this thread make a mistake from now on, or none. Does nothing in a release.
pub fn plant(mutation: Option<Mutation>) {
    #[cfg(debug_assertions)]
    PLANTED.set(mutation);
    #[cfg(not(debug_assertions))]
    let _ = mutation;
}

/// Whether to make this mistake.
#[inline(always)]
pub fn is_mutated(mutation: Mutation) -> bool {
    #[cfg(debug_assertions)]
    return PLANTED.get() == Some(mutation);
    #[cfg(not(debug_assertions))]
    {
        let _ = mutation;
        false
    }
}
