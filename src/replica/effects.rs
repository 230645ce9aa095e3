//! What the replica is told and what it wants done.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::{ConnId, SessionId, Xid, Zxid};
use crate::log::{Batch, LogCommand, LogDone, LogTicket};
use crate::wire::OpCode;

/// Something that happened. A handler runs to completion and leaves its wishes in [`Effects`].
#[derive(Debug)]
pub enum Input<'a> {
    /// A client connected. Its first frame will be a ConnectRequest.
    Opened {
        /// The connection.
        conn: ConnId,
        /// The other end.
        peer: SocketAddr,
    },
    /// Whole frames, lengths included, arrived on a connection.
    Frames {
        /// The connection.
        conn: ConnId,
        /// One or more whole frames.
        bytes: &'a [u8],
    },
    /// Input of the connection came, or its peer took output, while nothing of the input was handed
    /// over: its client is alive.
    Heard {
        /// The connection.
        conn: ConnId,
    },
    /// The connection is gone.
    Closed {
        /// The connection.
        conn: ConnId,
    },
    /// What `Effect::AwaitDrain` asked for: all output of the connection has been sent.
    Drained {
        /// The connection.
        conn: ConnId,
    },
    /// Everything up to here is on stable storage of this server.
    Logged {
        /// Last durable transaction.
        zxid: Zxid,
    },
    /// Everything up to here is on stable storage of a quorum, and may be applied.
    Committed {
        /// Last committed transaction.
        zxid: Zxid,
    },
    /// What `Effect::Log` asked for has come to this.
    LogDone {
        /// The ticket of the command.
        ticket: LogTicket,
        /// Its outcome.
        done: LogDone,
    },
    /// A chunk of the snapshot file under way was taken over by the disk; more may follow.
    SnapshotReady,
    /// The snapshot file under way is complete and durable, or was given up.
    SnapshotEnded {
        /// Whether it can be relied on.
        ok: bool,
    },
    /// The disk took a chunk of the database that is being received; more may follow.
    ReceptionReady {
        /// The stream that it belongs to.
        stream: StreamId,
    },
    /// What was received is complete and durable beside the snapshots, or could not be written.
    ReceptionEnded {
        /// The stream that it came in.
        stream: StreamId,
        /// Whether it can be relied on.
        ok: bool,
    },
    /// Somebody wants the whole database, as of now; see [`Effect::StreamBegin`]. The name is not
    /// in use.
    StreamWanted {
        /// How the stream is called from here on.
        stream: StreamId,
    },
    /// The receiver has taken one chunk more.
    StreamReady {
        /// The stream.
        stream: StreamId,
    },
    /// The receiver is gone.
    StreamGone {
        /// The stream.
        stream: StreamId,
    },
    /// Time passed.
    Tick,
}

/// Names a stream of the whole database, from its beginning to its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StreamId(pub u64);

/// How to close a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseHow {
    /// After everything queued before has been sent.
    AfterFlush,
    /// At once.
    Now,
}

/// One wish. Order matters among the wishes of one connection.
#[derive(Debug)]
pub enum Effect {
    /// Send `Effects::bytes[start..end]`.
    Send {
        /// The connection.
        conn: ConnId,
        /// First byte.
        start: usize,
        /// End.
        end: usize,
    },
    /// Close a connection; `Input::Closed` does not follow.
    Close {
        /// The connection.
        conn: ConnId,
        /// How.
        how: CloseHow,
    },
    /// The handshake succeeded; the connection is idle after this long without input.
    Established {
        /// The connection.
        conn: ConnId,
        /// Whose it is now.
        session: SessionId,
        /// Negotiated session timeout in ms.
        timeout_ms: i32,
    },
    /// Stop taking requests from the connection until `Resume`.
    Pause {
        /// The connection.
        conn: ConnId,
    },
    /// Take requests again.
    Resume {
        /// The connection.
        conn: ConnId,
    },
    /// Say `Input::Drained` when everything queued for the connection so far has been sent.
    AwaitDrain {
        /// The connection.
        conn: ConnId,
    },
    /// Make these transactions durable and answer with `Input::Logged`.
    Append(Arc<Batch>),
    /// Carry out a command of the log after what was appended before and answer with
    /// `Input::LogDone`.
    Log {
        /// Comes back with the outcome.
        ticket: LogTicket,
        /// The command.
        command: LogCommand,
    },
    /// Forward a request of a client to the leader: `Effects::bytes[start..ids]` is its record,
    /// `Effects::bytes[ids..end]` what the client has authenticated as. A write comes back as a
    /// transaction; a `sync` is answered by [`super::Replica::sync_done`], in order.
    Forward {
        /// The client's session.
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
    /// Ask the leader whether a session lives that a client brought along; answered by
    /// [`super::Replica::session_answered`].
    AskSession {
        /// The session.
        session: SessionId,
        /// Its timeout in ms.
        timeout_ms: i32,
        /// The client has not come now: its connection is from before this term.
        is_kept: bool,
    },
    /// Ask a quorum whether this server still leads; answered by [`super::Replica::sync_done`], in
    /// order.
    AskSync,
    /// Start a snapshot file named by this zxid.
    SnapshotBegin(Zxid),
    /// More of it.
    SnapshotChunk(Vec<u8>),
    /// That was all; publish it.
    SnapshotFinish,
    /// Remove what was written of the snapshot file; no `Input::SnapshotEnded` is needed.
    SnapshotAbandon,
    /// Start the file of a database that is received, under a name that a start ignores; one that
    /// was begun before is given up.
    ReceptionBegin {
        /// Comes back with what becomes of it.
        stream: StreamId,
        /// Its position.
        zxid: Zxid,
    },
    /// More of it.
    ReceptionChunk(Vec<u8>),
    /// That was all: make it durable and answer with `Input::ReceptionEnded`.
    ReceptionFinish,
    /// Remove it.
    ReceptionAbandon,
    /// The database follows, in the format of SNAP (without the packet itself): what it holds at
    /// this zxid, and effects of transactions after it, which the receiver must be sent as well.
    StreamBegin {
        /// The stream.
        stream: StreamId,
        /// Its position.
        zxid: Zxid,
    },
    /// More of it. While some chunks are not confirmed by `Input::StreamReady`, no more follow.
    StreamChunk {
        /// The stream.
        stream: StreamId,
        /// Bytes that follow the last chunk.
        bytes: Vec<u8>,
    },
    /// That was all.
    StreamEnd {
        /// The stream.
        stream: StreamId,
        /// Otherwise it ends early, since the database was replaced by another.
        is_whole: bool,
    },
    /// Nothing can go on; the process must end with this message.
    Fatal(String),
}

/// Wishes of one or more handler calls, reused between turns.
#[derive(Debug, Default)]
pub struct Effects {
    /// Bytes that `Effect::Send` refers to.
    pub bytes: Vec<u8>,
    /// The wishes in order.
    pub list: Vec<Effect>,
}

impl Effects {
    /// Appends frames for `conn` that `write` encodes.
    pub fn send(&mut self, conn: ConnId, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let end = self.bytes.len();
        if start == end {
            return;
        }
        if let Some(Effect::Send { conn: last, end: last_end, .. }) = self.list.last_mut()
            && *last == conn
            && *last_end == start
        {
            *last_end = end;
            return;
        }
        self.list.push(Effect::Send { conn, start, end });
    }

    /// Asks for a connection to be closed.
    pub fn close(&mut self, conn: ConnId, how: CloseHow) {
        self.list.push(Effect::Close { conn, how });
    }

    /// Forgets everything, keeping the memory, unless it is much: one large reply must not be paid
    /// for ever after, and after it nothing may come for long.
    pub fn clear(&mut self) {
        const KEPT_MAX: usize = 4 << 20;
        if self.bytes.capacity() > KEPT_MAX {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.list.clear();
    }
}
