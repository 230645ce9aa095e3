//! What the machines want done.

use std::fmt;
use std::sync::Arc;

use crate::base::{Epoch, LifelineKey, LinkId, ServerId, SessionId, Xid, Zxid};
use crate::log::{Batch, EpochFile};
use crate::wire::OpCode;
use crate::wire::quorum::Revalidate;

/// Why a learner gives its leader up and looks for another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LearnerEnd {
    /// The connection could not be made, or ended.
    Lost,
    /// The leader's process has ended.
    Died,
    /// The leader has said that it is about to end.
    Left,
    /// Nothing came for this many milliseconds.
    Silent(u64),
    /// This server's own disk has taken nothing for a while.
    Stalled {
        /// Milliseconds.
        ms: u64,
        /// Transactions that wait for it.
        bytes: usize,
    },
    /// The leader proposes an epoch older than one that this member has promised.
    OldEpoch {
        /// The proposed epoch.
        offered: Epoch,
        /// The promised one.
        promised: Epoch,
    },
    /// The leader does not have what this server knows to be committed.
    Forgotten {
        /// What it asks for.
        asks: Rebuild,
        /// The last transaction that would be left.
        zxid: Zxid,
        /// The last one that is committed.
        committed: Zxid,
    },
    /// The leader sent something that it must not send.
    Protocol(String),
}

/// How a learner's history is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rebuild {
    /// TRUNC.
    Truncation,
    /// SNAP.
    Snapshot,
}

impl fmt::Display for Rebuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rebuild::Truncation => "asks to forget what comes after transaction",
            Rebuild::Snapshot => "sends its database as of transaction",
        })
    }
}

impl fmt::Display for LearnerEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LearnerEnd::Lost => write!(f, "the connection to the leader ended"),
            LearnerEnd::Died => write!(f, "its lifeline says that the leader's process has ended"),
            LearnerEnd::Left => write!(f, "the leader is about to end"),
            LearnerEnd::Silent(ms) => write!(f, "nothing came from the leader for {ms} ms"),
            LearnerEnd::Stalled { ms, bytes } => write!(
                f,
                "the disk of this server has taken nothing for {ms} ms, and {bytes} bytes of \
                 transactions wait for it"
            ),
            LearnerEnd::OldEpoch { offered, promised } => write!(
                f,
                "the leader proposes epoch {:x}, but epoch {:x} is promised already",
                offered.0, promised.0
            ),
            LearnerEnd::Forgotten { asks, zxid, committed } => write!(
                f,
                "the leader {asks} 0x{zxid}, but this server knows that a quorum has acknowledged \
                 transactions up to 0x{committed}"
            ),
            LearnerEnd::Protocol(what) => write!(f, "the leader breaks the protocol: {what}"),
        }
    }
}

/// Why a leader stops leading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeadingEnd {
    /// No quorum of voters answered within `initLimit`, in this phase.
    NotConfirmed(&'static str),
    /// Fewer than a quorum of voters is connected, or was heard from within `syncLimit`.
    QuorumLost,
    /// A voter has promised this later epoch to a leader that was never confirmed, and can follow
    /// nobody before there is a later one still.
    LaterPromise(Epoch),
}

impl fmt::Display for LeadingEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeadingEnd::NotConfirmed(what) => {
                write!(f, "no quorum of voters {what} within initLimit")
            }
            LeadingEnd::QuorumLost => {
                write!(f, "no quorum of voters follows any more")
            }
            LeadingEnd::LaterPromise(epoch) => write!(
                f,
                "a voter has promised epoch {:x} already, so that a later epoch has to begin",
                epoch.0
            ),
        }
    }
}

/// One wish. Their order is the order in which they are to be carried out.
#[derive(Debug)]
pub enum Effect {
    /// Send `Effects::bytes[start..end]` on a link.
    Send {
        /// The link.
        link: LinkId,
        /// First byte.
        start: usize,
        /// End.
        end: usize,
    },
    /// Close a link; the other side is told nothing more. `reason` is for the log.
    Close {
        /// The link.
        link: LinkId,
        /// Why, for a message; `None` where it is no news.
        reason: Option<String>,
    },
    /// Close the link of a learner that broke the rules.
    Refuse {
        /// The link.
        link: LinkId,
        /// What it has done, and which learner it is, for a message.
        reason: String,
        /// It has introduced itself. Others may be anybody, and come as often as they like.
        is_known: bool,
    },
    /// Make an epoch durable, and answer with `EpochStored`.
    StoreEpoch(EpochFile, Epoch),
    /// The leader has not answered, or must not be followed any more: look for another one.
    EndLearning(LearnerEnd),
    /// Append to the log and to what is known, and answer with `Logged`.
    Append {
        /// The transactions.
        batch: Arc<Batch>,
        /// Which of them requests of this server have become, in the order in which they were
        /// forwarded. `None` where the leader does not say.
        own: Option<Vec<Zxid>>,
    },
    /// Everything up to here is committed: apply it.
    Committed(Zxid),
    /// Forget all transactions after this one, on disk first; answer with `Truncated`.
    Truncate(Zxid),
    /// The bytes of a snapshot at this zxid follow on the link; answer with `Installed` when they
    /// are durable and have become the database, and the log before them is retired.
    ReceiveSnapshot(Zxid),
    /// The history of this epoch is complete here and confirmed by a quorum: serve clients. From
    /// a leader's own machine: number transactions from counter 1 of this epoch, once everything
    /// committed is applied; again so when an epoch was renewed.
    Serve(Epoch),
    /// The leader goes on in this epoch, and so does this learner.
    Renewed(Epoch),
    /// The oldest `sync` that was forwarded may be answered.
    SyncDone,
    /// The leader asks which sessions were used; answer with `Learning::tell_touched`.
    PingAsked,
    /// The leader is to be told which sessions were used, though it cannot ask.
    TouchesDue,
    /// The digest of the leader's tree after this transaction.
    DigestTold(Zxid, u64),
    /// The leader's word on a session that a client brought along.
    Revalidated {
        /// The session.
        session: SessionId,
        /// Whether it may go on.
        is_valid: bool,
    },
    /// Stop leading.
    EndLeading(LeadingEnd),
    /// This learner leaves a leader of which nothing comes: while this server's loop is held up,
    /// something beside it has to show on the link that the process lives. Until the link ends.
    KeepAlive {
        /// The learner's link.
        link: LinkId,
        /// The learner.
        learner: ServerId,
        /// For a lifeline to it; `None` if it takes none.
        key: Option<LifelineKey>,
    },
    /// Read transactions after `after` from the log for this link; answer with `Read` or
    /// `Unreadable`, and go on after each part while `is_wanted` says so.
    ReadLog {
        /// The learner's link.
        link: LinkId,
        /// The last transaction that it has.
        after: Zxid,
    },
    /// Write a snapshot of the committed state to this link, after what was sent before; answer
    /// with `SnapshotBegun` when its zxid is known, and with `SnapshotSent` when all is written.
    SendSnapshot(LinkId),
    /// A learner forwards a request of one of its clients: `Effects::bytes[start..end]` is its
    /// record, and the identities that the client has proved follow it at `ids`.
    Request {
        /// The learner's link.
        link: LinkId,
        /// The session.
        session: SessionId,
        /// The client's number of the request.
        cxid: Xid,
        /// Its type.
        op: OpCode,
        /// First byte of the record.
        start: usize,
        /// First byte of the encoded identities.
        ids: usize,
        /// End.
        end: usize,
    },
    /// A client of this learner asks for a `sync`, which stands behind the requests that were
    /// forwarded before; answer with `LeadInput::SyncPlaced`.
    SyncAsked(LinkId),
    /// A client of a learner was there.
    Touch {
        /// Its session.
        session: SessionId,
        /// The session's timeout in ms.
        timeout_ms: i32,
    },
    /// A client brought a session along to a learner: is it alive? Answer with
    /// `Leading::revalidated`.
    Revalidate {
        /// The learner's link.
        link: LinkId,
        /// The session, and its timeout.
        asked: Revalidate,
    },
    /// This server's own `sync` number `ticket` may be answered.
    OwnSyncDone(u64),
}

/// Wishes of one or more calls, reused between turns.
#[derive(Debug, Default)]
pub struct Effects {
    /// Bytes that `Effect::Send` and `Effect::Request` refer to.
    pub bytes: Vec<u8>,
    /// The wishes in order.
    pub list: Vec<Effect>,
}

impl Effects {
    /// Appends bytes for `link` that `write` encodes.
    pub fn send(&mut self, link: LinkId, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let end = self.bytes.len();
        if let Some(Effect::Send { link: last, end: last_end, .. }) = self.list.last_mut()
            && *last == link
            && *last_end == start
        {
            *last_end = end;
            return;
        }
        self.list.push(Effect::Send { link, start, end });
    }

    /// Adds a wish.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
    }
}
